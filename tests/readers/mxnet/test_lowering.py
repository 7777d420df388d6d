"""From symbol and parameters to the graph: keys, inputs, what is checked, and what is said of nets that don't fit."""

import json

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from converters import ConversionError, ConversionWarning, UnsupportedError, load
from converters.graph.provenance import ORIGINAL_NAME
from converters.readers.mxnet import lowers
from tests.readers.mxnet.wire import listing, node, params, record, symbol

RNG = np.random.RandomState(3)
DATA = node("null", "data")


def draw(*shape):
    return RNG.randn(*shape).astype(np.float32)


def net(tmp_path, nodes, heads, arrays, inputs, **options):
    """The model of a net written for the test."""
    paths = symbol(tmp_path / "net-symbol.json", nodes, heads, **options), params(tmp_path / "net-0000.params", arrays)
    return load(*paths, inputs=inputs)


def run(model, *arrays):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {v.name: a for v, a in zip(session.get_inputs(), arrays, strict=True)})


def dense(name="fc", weight="fc_weight", bias="fc_bias", **attributes):
    """data, weight, bias and a fully connected operator: nodes 0 to 3."""
    inputs = [(0, 0), (1, 0), (2, 0)]
    return [DATA, node("null", weight), node("null", bias), node("FullyConnected", name, inputs, num_hidden=3, **attributes)]


DENSE = {"arg:fc_weight": draw(3, 5), "arg:fc_bias": draw(3)}


def keys(model):
    return {name: value.metadata_props.get(ORIGINAL_NAME) for name, value in model.graph.initializers.items()}


# -- keys ---------------------------------------------------------------------------------------------------------------


def test_parameters_get_the_module_and_torchs_word(tmp_path):
    model = net(tmp_path, dense(), [(3, 0)], DENSE, {"data": (2, 5)})
    assert keys(model) == {"fc.weight": "fc_weight", "fc.bias": "fc_bias"}
    assert [v.name for v in model.graph.outputs] == ["fc_output"]
    assert model.graph.inputs[0].shape == ir.Shape(["N", 5])


def test_gluon_parameters_name_their_module(tmp_path):
    arrays = {"net_dense0_weight": draw(3, 5), "net_dense0_bias": draw(3)}
    model = net(tmp_path, dense("net_dense0_fwd", *arrays), [(3, 0)], arrays, {"data": (2, 5)})
    assert list(keys(model)) == ["net_dense0.weight", "net_dense0.bias"]


def test_names_that_are_no_identifiers_are_mended(tmp_path):
    arrays = {"arg:stage/fc 1_weight": draw(3, 5), "arg:class": draw(3)}
    model = net(tmp_path, dense("stage/fc 1", "stage/fc 1_weight", "class"), [(3, 0)], arrays, {"data": (2, 5)})
    assert keys(model) == {"stage_fc_1.weight": "stage/fc 1_weight", "stage_fc_1.bias": "class"}


def test_operators_of_one_name_keep_their_own_keys(tmp_path):
    nodes = [*dense("fc", "w1", "b1"), node("null", "w2"), node("FullyConnected", "fc", [(3, 0), (4, 0)], num_hidden=2, no_bias=True)]
    arrays = {"w1": draw(3, 5), "b1": draw(3), "w2": draw(2, 3)}
    model = net(tmp_path, nodes, [(5, 0)], arrays, {"data": (2, 5)})
    assert list(keys(model)) == ["fc.weight", "fc.bias", "fc_1.weight"]


def test_a_shared_parameter_is_one(tmp_path):
    nodes = [DATA, node("null", "w"), node("FullyConnected", "a", [(0, 0), (1, 0)], num_hidden=5, no_bias=True)]
    nodes.append(node("FullyConnected", "b", [(2, 0), (1, 0)], num_hidden=5, no_bias=True))
    w = draw(5, 5)
    model = net(tmp_path, nodes, [(3, 0)], {"w": w}, {"data": (2, 5)})
    assert list(keys(model)) == ["a.weight"]
    x = draw(4, 5)
    np.testing.assert_allclose(run(model, x)[0], x @ w.T @ w.T, rtol=1e-4, atol=1e-5)


def test_parameters_of_no_module_stand_alone(tmp_path):
    nodes = [DATA, node("null", "shift"), node("broadcast_add", "sum", [(0, 0), (1, 0)])]
    model = net(tmp_path, nodes, [(2, 0)], {"shift": draw(1, 5)}, {"data": (2, 5)})
    assert keys(model) == {"shift": "shift"}


def batch_norm(tmp_path, gamma, version=10901, count=5, **attributes):
    slots = ["gamma", "beta", "moving_mean", "moving_var"]
    nodes = [DATA, *(node("null", f"bn_{s}") for s in slots[: count - 1])]
    nodes.append(node("BatchNorm", "bn", [(i, 0) for i in range(count)], eps=1e-3, **attributes))
    arrays = {f"bn_{s}": a for s, a in zip(slots, (gamma, draw(4), draw(4), RNG.rand(4).astype("f") + 0.5), strict=True)}
    return net(tmp_path, nodes, [(count, 0)], arrays, {"data": (2, 4, 3, 3)}, version=version), arrays


def test_fix_gamma_is_the_default_and_makes_gamma_one(tmp_path):
    model, arrays = batch_norm(tmp_path, draw(4))
    assert list(keys(model)) == ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    x = draw(2, 4, 3, 3)
    _, beta, mean, variance = (a.reshape(4, 1, 1) for a in arrays.values())
    np.testing.assert_allclose(run(model, x)[0], (x - mean) / np.sqrt(variance + 1e-3) + beta, rtol=1e-4, atol=1e-4)


def test_symbols_before_0_9_leave_the_moving_statistics_out(tmp_path):
    model, _ = batch_norm(tmp_path, draw(4), version=None, count=3, fix_gamma="False")
    assert list(keys(model)) == ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]


# -- inputs, labels, types ------------------------------------------------------------------------------------------------


def test_labels_are_no_inputs(tmp_path):
    nodes = [*dense(), node("null", "softmax_label"), node("SoftmaxOutput", "softmax", [(3, 0), (4, 0)])]
    model = net(tmp_path, nodes, [(5, 0)], DENSE, {"data": (2, 5)})
    assert [v.name for v in model.graph.inputs] == ["data"]


def test_labels_that_the_net_computes_with_are_zeros(tmp_path):
    nodes = [*dense(), node("null", "label"), node("one_hot", "hot", [(4, 0)], depth=3), node("_plus", "sum", [(3, 0), (5, 0)])]
    nodes.append(node("SoftmaxOutput", "softmax", [(6, 0), (4, 0)]))
    with pytest.warns(ConversionWarning, match="'label' .*: this label takes part in the computation"):
        model = net(tmp_path, nodes, [(7, 0), (6, 0)], DENSE, {"data": (2, 5)})
    x = draw(3, 5)
    want = x @ DENSE["arg:fc_weight"].T + DENSE["arg:fc_bias"] + [1, 0, 0]
    np.testing.assert_allclose(run(model, x)[1], want, rtol=1e-4, atol=1e-5)


def test_shapes_may_be_stated_by_the_symbol(tmp_path):
    nodes = dense()
    nodes[0] = node("null", "data", __shape__="(0, 5)")
    model = net(tmp_path, nodes, [(3, 0)], DENSE, None)
    assert model.graph.inputs[0].shape == ir.Shape(["N", 5])


def test_halves_become_the_type_of_the_data(tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in DENSE.items()}
    model = net(tmp_path, dense(), [(3, 0)], arrays, {"data": (2, 5)})
    assert {v.dtype for v in model.graph.initializers.values()} == {ir.DataType.FLOAT}


def test_a_net_of_doubles_stays_so(tmp_path):
    arrays = {name: array.astype(np.float64) for name, array in DENSE.items()}
    model = net(tmp_path, dense(), [(3, 0)], arrays, {"data": (2, 5)})
    assert model.graph.inputs[0].dtype == model.graph.outputs[0].dtype == ir.DataType.DOUBLE


def test_begin_states_of_an_open_batch_grow_with_it(tmp_path):
    nodes = [
        DATA,
        node("_zeros", "begin", shape="(0, 5)"),
        node("_plus", "sum", [(0, 0), (1, 0)]),
        node("Concat", "both", [(2, 0), (1, 0)], dim=1),
    ]
    model = net(tmp_path, nodes, [(3, 0)], {}, {"data": (2, 5)})
    x = draw(3, 5)
    np.testing.assert_array_equal(run(model, x)[0], np.concatenate([x, 0 * x], 1))


def test_dead_parts_of_the_net_may_be_anything(tmp_path):
    nodes = [*dense(), node("Custom", "mystery", [(0, 0)], op_type="x")]
    assert net(tmp_path, nodes, [(3, 0)], DENSE, {"data": (2, 5)})


def test_operators_of_plugins_and_those_that_mxnet_runs_on_gpus_alone(tmp_path):
    nodes = [DATA, node("WarpCTC", "ctc", [(0, 0)], label_length=4, input_length=3)]
    x = draw(2, 5)
    e = np.exp(x)
    np.testing.assert_allclose(run(net(tmp_path, nodes, [(1, 0)], {}, {"data": (2, 5)}), x)[0], e / e.sum(1, keepdims=True), rtol=1e-5)
    image = draw(4, 6, 3)
    nodes = [DATA, node("_image_flip_top_bottom", "flip", [(0, 0)])]
    np.testing.assert_array_equal(run(net(tmp_path, nodes, [(1, 0)], {}, {"data": (4, 6, 3)}), image)[0], image[::-1])
    nodes = [DATA, node("null", "rows"), node("null", "at"), node("_scatter_set_nd", "set", [(0, 0), (1, 0), (2, 0)], shape="(4, 2)")]
    arrays = {"rows": draw(2, 2), "at": np.array([[3, 0]], "f")}
    x = draw(4, 2)
    want = x.copy()
    want[[3, 0]] = arrays["rows"]
    np.testing.assert_array_equal(run(net(tmp_path, nodes, [(3, 0)], arrays, {"data": (4, 2)}), x)[0], want)


@pytest.mark.parametrize("layout", ["NHWC", None])
def test_channels_may_be_last(tmp_path, layout):
    w, x = draw(2, 3, 3, 4), draw(1, 5, 6, 4)
    nodes = [DATA, node("null", "c_weight"), node("Convolution", "c", [(0, 0), (1, 0)], kernel="(3, 3)", num_filter=2, no_bias=True)]
    nodes[2]["attrs"] |= {"layout": layout} if layout else {}
    stored = w if layout else np.ascontiguousarray(w.transpose(0, 3, 1, 2))
    given = x if layout else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    result = run(net(tmp_path, nodes, [(2, 0)], {"c_weight": stored}, {"data": given.shape}), given)[0]
    want = sum(np.einsum("nhwc,oc->nhwo", x[:, i : i + 3, j : j + 4], w[:, i, j]) for i in range(3) for j in range(3))
    np.testing.assert_allclose(result if layout else result.transpose(0, 2, 3, 1), want, rtol=1e-4, atol=1e-4)


# -- the hook ---------------------------------------------------------------------------------------------------------------


def test_operators_of_ones_own(tmp_path):
    @lowers("TimesTest")
    def times(g, data, *, factor: float = 2.0):
        """Data times a number."""
        return g.emit("Mul", data, factor)

    try:
        nodes = [DATA, node("TimesTest", "t", [(0, 0)], factor="3")]
        assert run(net(tmp_path, nodes, [(1, 0)], {}, {"data": (2,)}), np.ones(2, "f"))[0].tolist() == [3, 3]
        with pytest.raises(ValueError, match="registered already"):
            lowers("TimesTest")(times)
    finally:
        lowers.remove("TimesTest")


# -- what doesn't fit ---------------------------------------------------------------------------------------------------------


def refused(tmp_path, nodes, heads, arrays, inputs, message, kind=ConversionError, **options):
    with pytest.raises(kind, match=message):
        net(tmp_path, nodes, heads, arrays, inputs, **options)


def test_missing_parameters_are_named(tmp_path):
    refused(
        tmp_path,
        dense(),
        [(3, 0)],
        {"other": draw(3)},
        {"data": (2, 5)},
        r"2 of the net's parameters are missing: 'fc_weight' .*it holds other",
    )


def test_lists_without_names_are_no_parameters(tmp_path):
    symbol(tmp_path / "a", dense(), [(3, 0)])
    (tmp_path / "b").write_bytes(listing([record(draw(3, 5)), record(draw(3))], []))
    with pytest.raises(ConversionError, match="holds 2 arrays without names"):
        load(tmp_path / "a", tmp_path / "b", inputs={"data": (2, 5)})


def test_inputs_need_a_shape(tmp_path):
    refused(
        tmp_path, dense(), [(3, 0)], DENSE, None, r"doesn't say the shapes of its inputs: give them for 'data': inputs=.'data': .1, 5.."
    )


def test_inputs_that_dont_exist(tmp_path):
    refused(tmp_path, dense(), [(3, 0)], DENSE, {"data": (2, 5), "image": (1,)}, "there is no input 'image'; the inputs are data")


def test_a_misspelt_input_is_named_beside_the_right_ones(tmp_path):
    refused(tmp_path, dense(), [(3, 0)], DENSE, {"dta": (2, 5)}, "there is no input 'dta'; the inputs are data")


def test_a_shape_for_a_parameter_is_said_to_be_one(tmp_path):
    refused(tmp_path, dense(), [(3, 0)], DENSE, {"fc_weight": (3, 5)}, "'fc_weight' is a parameter, .*; the inputs are data")


def test_a_shape_without_a_name_is_the_only_inputs(tmp_path):
    assert net(tmp_path, dense(), [(3, 0)], DENSE, {"": (2, 5)}).graph.inputs[0].shape == ir.Shape(["N", 5])
    nodes = [DATA, node("null", "other"), node("_plus", "sum", [(0, 0), (1, 0)])]
    refused(tmp_path, nodes, [(2, 0)], {}, {"": (2, 5)}, "a shape without a name .*; say which it is for; the inputs are data, other")


def test_running_statistics_are_the_moving_ones(tmp_path):
    slots = ["gamma", "beta", "moving_mean", "moving_var"]
    nodes = [DATA, *(node("null", f"bn_{s}") for s in slots), node("BatchNorm", "bn", [(i, 0) for i in range(5)], fix_gamma=False)]
    arrays = {name: RNG.rand(4).astype("f") + 0.5 for name in ("bn_gamma", "bn_beta", "bn_running_mean", "bn_running_var")}
    model = net(tmp_path, nodes, [(5, 0)], arrays, {"data": (2, 4, 3, 3)})
    assert keys(model)["bn.running_var"] == "bn_running_var"
    x = draw(2, 4, 3, 3)
    gamma, beta, mean, variance = (a.reshape(4, 1, 1) for a in arrays.values())
    np.testing.assert_allclose(run(model, x)[0], gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta, rtol=1e-4, atol=1e-4)


def test_parameters_that_only_their_marks_tell_are_missing_too(tmp_path):
    nodes = [DATA, node("null", "shift", __shape__="(1, 5)", __lr_mult__="1.0"), node("broadcast_add", "sum", [(0, 0), (1, 0)])]
    refused(tmp_path, nodes, [(2, 0)], {}, {"data": (2, 5)}, "1 of the net's parameters are missing: 'shift'")


def test_shapes_that_are_none(tmp_path):
    refused(tmp_path, dense(), [(3, 0)], DENSE, {"data": (0, 5)}, "isn't a shape")


def test_wrong_shapes_name_both(tmp_path):
    arrays = {**DENSE, "arg:fc_weight": draw(5, 3)}
    refused(tmp_path, dense(), [(3, 0)], arrays, {"data": (2, 5)}, r"'fc_weight' in net-0000.params has shape \(5, 3\), .* needs \(3, 5\)")


def test_all_unknown_operators_at_once(tmp_path):
    nodes = [DATA, node("Alpha", "a", [(0, 0)]), node("Beta", "b", [(1, 0)])]
    refused(tmp_path, nodes, [(2, 0)], {}, {"data": (2,)}, r"(?s)'a' \(Alpha\).*'b' \(Beta\).*lowers", UnsupportedError)


def test_nan_and_infinity_are_told(tmp_path):
    arrays = {**DENSE, "arg:fc_bias": np.array([1, np.nan, np.inf], "f")}
    with pytest.warns(ConversionWarning, match="'fc_bias' in net-0000.params holds 2 values that are NaN or infinite"):
        net(tmp_path, dense(), [(3, 0)], arrays, {"data": (2, 5)})


def test_numbers_whose_sum_overflows_are_fine(tmp_path):
    net(tmp_path, dense(), [(3, 0)], {**DENSE, "arg:fc_bias": np.full(3, 3e38, "f")}, {"data": (2, 5)})


def test_attributes_that_mxnet_doesnt_know_are_told(tmp_path):
    with pytest.warns(ConversionWarning, match="'fc' .* ignored: color"):
        net(tmp_path, dense(color="red"), [(3, 0)], DENSE, {"data": (2, 5)})


def one(op, *inputs, **attributes):
    """A net of one operator on `data` and on stored arrays a, b, ..."""
    names = "abcd"[: len(inputs)]
    nodes = [DATA, *(node("null", name) for name in names)]
    nodes.append(node(op, "x", [(i, 0) for i in range(len(nodes))], **attributes))
    return nodes, dict(zip(names, inputs, strict=True))


REFUSED = {
    "enum": (one("Pooling", kernel="(2, 2)", pool_type="median"), (1, 2, 4, 4), "attribute pool_type is 'median'; it must be one of max"),
    "text": (one("Pooling", kernel="(3,"), (1, 2, 4, 4), "'x' .Pooling.: attribute kernel is .* brackets"),
    "missing attribute": (one("Convolution", draw(2, 2, 3, 3), no_bias=True, num_filter=2), (1, 2, 4, 4), "attribute kernel is missing"),
    "missing input": (one("Convolution", kernel="(3, 3)", num_filter=2), (1, 2, 4, 4), "the input 'weight' is missing"),
    "missing bias": (one("FullyConnected", draw(3, 5), num_hidden=3), (2, 5), "the input 'bias' is missing"),
    "too many inputs": (one("Flatten", draw(2)), (2, 5), "has 2 inputs, but the operator takes at most 1"),
    "kernel": (one("Pooling", kernel="(9, 9)"), (1, 2, 4, 4), "larger than the input"),
    "same": (one("Pooling", kernel="(2, 2)", pooling_convention="same"), (1, 2, 4, 4), "pooling_convention 'same'"),
    "shapes": (one("_plus", draw(2, 4)), (2, 5), "doesn't broadcast"),
    "axis": (one("softmax", axis=3), (2, 5), "attribute axis is 3"),
    "reshape": (one("Reshape", shape="(7, -1)"), (2, 5), "don't divide"),
    "reshape code": (one("Reshape", shape="(-7, 2)"), (2, 5), "no code"),
    "dropout": (one("Dropout", mode="always"), (2, 5), "at random"),
    "mask": (one("_contrib_boolean_mask", draw(2)), (2, 5), "depends on the values"),
    "giant constant": (one("_zeros_like_test", shape="(99999999, 99999999)"), (2, 5), "no lowering"),
    "giant depth": (one("one_hot", depth=10**12), (2, 5), "a table of 1000000000000 numbers"),
    "giant grid": (one("GridGenerator", transform_type="affine", target_shape="(1000000, 1000000)"), (2, 6), "a table of"),
    "giant layers": (one("RNN", draw(9), state_size=4, num_layers=10**9, mode="gru"), (2, 2, 6), "an input \\(T, N, C\\) is needed"),
    "rnn vector": (
        one("RNN", draw(9), draw(1, 2, 4), state_size=4, num_layers=1, mode="gru"),
        (3, 2, 6),
        "has shape \\(9,\\), .* needs \\(144,\\)",
    ),
    "projection": (one("RNN", draw(9), state_size=4, num_layers=1, mode="gru", projection_size=2), (2, 2, 6), "projection_size"),
    "type": (one("Cast", dtype="complex64"), (2, 5), "attribute dtype is 'complex64'"),
}


@pytest.mark.parametrize("built, shape, message", REFUSED.values(), ids=REFUSED)
def test_nets_that_dont_fit(tmp_path, built, shape, message):
    nodes, arrays = built
    refused(tmp_path, nodes, [(len(nodes) - 1, 0)], arrays, {"data": shape}, message)


def test_outputs_that_dont_exist(tmp_path):
    nodes = [DATA, node("Activation", "r", [(0, 0)], act_type="relu"), node("Flatten", "f", [(1, 5)])]
    refused(tmp_path, nodes, [(2, 0)], {}, {"data": (2, 5)}, "refers to output 5 of operator 'r' .*which has 1 output")
    refused(tmp_path, nodes, [(1, 4)], {}, {"data": (2, 5)}, "'heads' refers to output 4")


def test_softmax_of_images_says_which_axes(tmp_path):
    model = net(tmp_path, [DATA, node("SoftmaxOutput", "s", [(0, 0)])], [(1, 0)], {}, {"data": (2, 3, 2, 2)})
    assert run(model, draw(2, 3, 2, 2))[0].sum((1, 2, 3)) == pytest.approx([1, 1], abs=1e-5)
    with pytest.warns(ConversionWarning, match="the last one"):
        net(tmp_path, [DATA, node("SoftmaxActivation", "s", [(0, 0)])], [(1, 0)], {}, {"data": (2, 3, 2, 2)})


def test_a_key_is_no_part_of_mxnets_files(tmp_path):
    paths = symbol(tmp_path / "net-symbol.json", dense(), [(3, 0)]), params(tmp_path / "net-0000.params", DENSE)
    with pytest.raises(ConversionError, match="leave the key out"):
        load(*paths, inputs={"data": (2, 5)}, key="model")
    assert json.loads(paths[0].read_text())["heads"] == [[3, 0, 0]]
