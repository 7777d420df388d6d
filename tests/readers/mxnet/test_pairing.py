"""Parameters whose names the symbol doesn't have: gluon's structural names, another prefix, torch's words."""

import numpy as np
import pytest

from converters import ConversionError, ConversionWarning, load, load_weights, strip_to_weights
from tests.readers.mxnet.wire import node, params, symbol

RNG = np.random.RandomState(8)


def draw(*shape):
    return RNG.randn(*shape).astype(np.float32)


def two_layers(tmp_path, arrays, first="net0_dense0", second="net0_dense1"):
    """A net that uses the second layer before the first one."""
    nodes = [node("null", "data")]
    for name in (second, first):
        at = len(nodes)
        nodes += [node("null", f"{name}_weight", __shape__="(4, 4)"), node("null", f"{name}_bias", __shape__="(4,)")]
        nodes.append(node("FullyConnected", f"{name}_fwd", [(0 if at == 1 else 3, 0), (at, 0), (at + 1, 0)], num_hidden=4))
    return symbol(tmp_path / "net-symbol.json", nodes, [(6, 0)]), params(tmp_path / "net.params", arrays)


def weights(model):
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


def test_structural_names_follow_the_order_in_which_blocks_were_made(tmp_path):
    arrays = {"body.0.weight": draw(4, 4), "body.0.bias": draw(4), "body.1.weight": draw(4, 4), "body.1.bias": draw(4)}
    with pytest.warns(ConversionWarning, match=r"names by structure.*'net0_dense1_weight' is 'body\.1\.weight'; compare the answers"):
        model = load(*two_layers(tmp_path, arrays), inputs={"data": (2, 4)})
    assert all(np.array_equal(weights(model)[f"net0_dense{i}.weight"], arrays[f"body.{i}.weight"]) for i in (0, 1))


def test_a_block_that_two_paths_lead_to_counts_once(tmp_path):
    arrays = {"a.weight": draw(4, 4), "a.bias": draw(4), "b.weight": draw(4, 4), "b.bias": draw(4)}
    arrays |= {"tied.weight": arrays["a.weight"], "tied.bias": arrays["a.bias"]}
    with pytest.warns(ConversionWarning):
        assert np.array_equal(weights(load(*two_layers(tmp_path, arrays), inputs={"data": (2, 4)}))["net0_dense1.bias"], arrays["b.bias"])


def test_another_prefix(tmp_path):
    arrays = {f"net7_dense{i}_{word}": draw(4, 4) if word == "weight" else draw(4) for i in (0, 1) for word in ("weight", "bias")}
    with pytest.warns(ConversionWarning, match="another prefix: 'net0_dense1_weight' is 'net7_dense1_weight'"):
        model = load(*two_layers(tmp_path, arrays), inputs={"data": (2, 4)})
    assert np.array_equal(weights(model)["net0_dense0.bias"], arrays["net7_dense0_bias"])


@pytest.mark.parametrize("shape", [(5, 4), (4,)])
def test_shapes_that_dont_fit_are_refused(tmp_path, shape):
    arrays = {"0.weight": draw(4, 4), "0.bias": draw(4), "1.weight": draw(*shape), "1.bias": draw(4)}
    with pytest.raises(ConversionError, match="4 of the net's parameters are missing"):
        load(*two_layers(tmp_path, arrays), inputs={"data": (2, 4)})


def test_torch_names(tmp_path):
    arrays = {name: draw(2) for name in ("1.gamma", "bn0_beta", "bn0_moving_var", "fc_weight", "scale", "l.l0_i2h_weight")}
    report = strip_to_weights(params(tmp_path / "net.params", arrays), tmp_path / "out.safetensors", torch_names=True)
    assert list(load_weights(report.path)) == ["1.weight", "bn0.bias", "bn0.running_var", "fc.weight", "scale", "l.l0_i2h_weight"]


def test_two_that_would_have_one_name_are_refused(tmp_path):
    path = params(tmp_path / "net.params", {"bn_gamma": draw(2), "bn_weight": draw(2)})
    with pytest.raises(ConversionError, match=r"would both be called 'bn\.weight'"):
        strip_to_weights(path, tmp_path / "out.pth", torch_names=True)
