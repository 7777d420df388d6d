"""What a net is, beside its layers: blobs by name, in-place chains, sharing, fillers, inputs, outputs, keys, hooks, errors."""

import warnings
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import converters
from converters.errors import ConversionError, ConversionWarning, UnsupportedError
from converters.graph.provenance import ORIGINAL_NAME, SOURCE
from converters.readers.caffe import lowers
from tests.readers.caffe import wire
from tests.readers.caffe.test_caffemodel import write_hdf5

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }\n'
RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 3, 4, 4)).astype(np.float32)
W, B = RNG.normal(size=(3, 3, 1, 1)).astype(np.float32), RNG.normal(size=3).astype(np.float32)


def one(kind: str, bottom: str = "data", top: str = "y", name: str = "", more: str = "") -> str:
    bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
    return f'layer {{ name: "{name or top}" type: "{kind}" {bottoms} top: "{top}" {more} }}\n'


def conv(bottom: str = "data", top: str = "y", name: str = "", more: str = "") -> str:
    return one("Convolution", bottom, top, name, "convolution_param { num_output: 3 kernel_size: 1 } " + more)


def load(folder: Path, text: str, weights: dict[str, list[np.ndarray]] | bytes | None = None, **options) -> ir.Model:
    net = folder / "net.prototxt"
    net.write_text(text)
    if weights is None:
        return converters.load(net, **options)
    file = folder / "net.caffemodel"
    file.write_bytes(weights if isinstance(weights, bytes) else wire.caffemodel(weights))
    return converters.load(net, file, **options)


def run(model: ir.Model, *arrays: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)}
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def outputs(model: ir.Model) -> list[str]:
    return [str(v.name) for v in model.graph.outputs]


def by_conv(x: np.ndarray, w: np.ndarray = W, b: np.ndarray = B) -> np.ndarray:
    return np.einsum("oc,nchw->nohw", w[:, :, 0, 0], x) + b[:, None, None]


# -- blobs ---------------------------------------------------------------------------------------------------------------


def test_in_place_chain(tmp_path: Path) -> None:
    text = DATA + conv() + one("ReLU", "y", "y", "r") + one("Power", "y", "y", "p", "power_param { scale: 2 }") + one("AbsVal", "y", "z")
    found = run(load(tmp_path, text, {"y": [W, B]}), X)
    np.testing.assert_allclose(found["z"], 2 * np.maximum(by_conv(X), 0), atol=1e-5)


def test_in_place_on_the_input_gives_an_output_beside_it(tmp_path: Path) -> None:
    model = load(tmp_path, DATA + one("ReLU", "data", "data", "r"))
    assert [v.name for v in model.graph.inputs] == ["data"] and outputs(model) == ["data_"]
    assert model.graph.outputs[0].metadata_props[ORIGINAL_NAME] == "data"


def test_sum_in_place_loses_its_first_bottom(tmp_path: Path) -> None:
    text = DATA + conv(top="c") + one("Eltwise", "c data", "c", "e", "eltwise_param { coeff: 3 coeff: 2 }")
    with pytest.warns(ConversionWarning, match="the first one is lost"):
        model = load(tmp_path, text, {"c": [W, B]})
    np.testing.assert_allclose(run(model, X)["c"], 2 * X, rtol=1e-6)


@pytest.mark.parametrize("view", ["Flatten", "Split", "Concat", "Slice", "Reshape"])
def test_in_place_on_memory_that_another_blob_shares(view: str, tmp_path: Path) -> None:
    shape = "reshape_param { shape { dim: 0 dim: -1 } }" if view == "Reshape" else ""
    text = DATA + conv(top="c") + one(view, "c", "v", more=shape) + one("ReLU", "v", "v", name="r") + one("TanH", "c", "y")
    with pytest.warns(ConversionWarning, match="on memory that 'c' shares"):
        model = load(tmp_path, text, {"c": [W, B]})
    np.testing.assert_allclose(run(model, X)["y"], np.tanh(np.maximum(by_conv(X), 0)), rtol=1e-5, atol=1e-6)


def test_outputs_are_what_nothing_consumes_by_name(tmp_path: Path) -> None:
    text = DATA + one("ReLU", top="z") + one("AbsVal", top="a") + one("TanH", "z", "m") + 'layer { type: "Silence" bottom: "a" }'
    assert outputs(load(tmp_path, text)) == ["m"]
    text = 'input: "im_info" input_shape { dim: 1 dim: 3 }\n' + DATA + one("ReLU", top="z") + one("ReLU", top="a b")
    assert outputs(load(tmp_path, text)) == ["a b", "im_info_", "z"]


REFUSED = {
    "unknown bottom": (DATA + one("ReLU", "nowhere"), "net.prototxt:2: layer 'y' (ReLU): its bottom 'nowhere' is produced by no layer"),
    "left out": (
        DATA + one("ReLU", more="include { phase: TRAIN }") + one("ReLU", "y", "z"),
        "only by y (ReLU, line 2), which its rules leave out",
    ),
    "cycle": (DATA + one("ReLU", "z") + one("ReLU", "y", "z"), "produced only later, by z (line 3)"),
    "two makers": (DATA + one("ReLU") + one("TanH", name="t"), "its top 'y' is produced by another layer already"),
    "in place on a shared blob": (DATA + one("TanH") + one("AbsVal", "y", "z") + one("ReLU", "y", "y", "r"), "works in place on 'y'"),
    "AbsVal in place": (DATA + one("TanH") + one("AbsVal", "y", "y", "a"), "doesn't allow it to work in place"),
    "number of bottoms": (DATA + one("ReLU", "data data"), "has 2 bottoms; it takes 1"),
    "number of tops": (DATA + 'layer { name: "r" type: "ReLU" bottom: "data" top: "a" top: "b" }', "has 2 tops, but gives 1"),
    "no input shape": ('input: "data" ' + one("ReLU"), "gives no shape for the input 'data'"),
    "negative input": (DATA.replace("dim: 4", "dim: -4", 1) + one("ReLU"), "has a dimension below 1"),
    "gigantic input": (DATA.replace("dim: 4", "dim: 3000000000", 1) + one("ReLU"), "Caffe allows 2147483647"),
    "gigantic map of boxes": (
        DATA.replace("dim: 4", "dim: 4096")
        + one("PriorBox", "data data", more="prior_box_param { min_size: 9 max_size: 20 aspect_ratio: 2 }"),
        "4 boxes for each of 4096 x 4096 cells are too many",
    ),
    "gigantic pyramid": (DATA + one("SPP", more="spp_param { pyramid_height: 2000000 }"), "pyramid_height 2000000; it is 1 to 16"),
    "gigantic image between": (
        DATA
        + one("Interp", more="interp_param { height: 900000 width: 900000 }")
        + one("Interp", "y", "z", more="interp_param { height: 2 width: 2 }"),
        "Caffe allows 2147483647",
    ),
    "gigantic top": (DATA + one("Tile", more="tile_param { tiles: 2000000000 }"), "Caffe allows 2147483647"),
    "typo": (DATA + one("Power", more="power_param { pwoer: 2 }"), "power_param.pwoer: no such field (line 2)"),
    "unknown enum": (
        DATA + one("Pooling", more="pooling_param { pool: MEDIAN kernel_size: 2 }"),
        "'MEDIAN' is none of MAX, AVE, STOCHASTIC",
    ),
    "no output": (DATA + 'layer { type: "Silence" bottom: "data" }', "the net has no output"),
    "Eltwise of other shapes": (
        DATA + one("Pooling", more="pooling_param { kernel_size: 2 }") + one("Eltwise", "data y", "z"),
        "must agree in shape",
    ),
    "stride 0": (DATA + one("Pooling", more="pooling_param { kernel_size: 2 stride: 0 }"), "stride 0; it is at least 1"),
    "pad too large": (DATA + one("Pooling", more="pooling_param { kernel_size: 2 pad: 2 }"), "it must be smaller"),
    "even LRN": (DATA + one("LRN", more="lrn_param { local_size: 4 }"), "local_size 4; it must be odd"),
    "Reshape": (DATA + one("Reshape", more="reshape_param { shape { dim: 0 dim: 7 dim: -1 } }"), "isn't a multiple of 7"),
    "Slice": (DATA + one("Slice", more='slice_param { slice_point: 9 } top: "z"'), "slice_point [9] must rise"),
    "Concat": (
        DATA + one("Pooling", more="pooling_param { kernel_size: 2 }") + one("Concat", "data y", "z"),
        "agree in shape outside axis 1",
    ),
    "axis": (DATA + one("Softmax", more="softmax_param { axis: 4 }"), "axis 4 doesn't exist"),
    "num_output": (DATA + one("InnerProduct"), "num_output is 0 or missing"),
    "kernel": (DATA + one("Convolution", more="convolution_param { num_output: 1 kernel_size: 9 }"), "would give an output of [-4, -4]"),
    "group": (DATA + one("Convolution", more="convolution_param { num_output: 4 kernel_size: 1 group: 2 }"), "group 2 doesn't divide 3"),
    "SegNet's LEARN": (DATA + one("BN"), "no weights for it"),
    "filler": (
        DATA + conv(more="").replace("kernel_size: 1", 'kernel_size: 1 weight_filler { type: "xavier" }'),
        "filler 'xavier' is random",
    ),
    "Python layer": (DATA + one("Python"), "layer 'y' (Python): no lowering is registered"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str, tmp_path: Path) -> None:
    text, words = REFUSED[kind]
    with pytest.raises(ConversionError) as caught:
        load(tmp_path, text)
    assert words in str(caught.value) and "net.prototxt" in str(caught.value)


def test_all_unknown_types_at_once(tmp_path: Path) -> None:
    text = (
        DATA
        + one("MagicReLU", more="magic_param { x: 1 }")
        + one("Unheard", "y", "z")
        + one("Other", "z", "w", more="include { phase: TRAIN }")
    )
    with pytest.raises(UnsupportedError) as caught:
        load(tmp_path, text)
    assert "net.prototxt:2: layer 'y' (MagicReLU)" in str(caught.value) and "net.prototxt:3: layer 'z' (Unheard)" in str(caught.value)
    assert "Other" not in str(caught.value)


def test_a_lowering_of_the_user(tmp_path: Path) -> None:
    @lowers("MagicReLU")
    def magic(g, layer, x):
        """Leaky, by a field of its own."""
        return g.emit("LeakyRelu", x, alpha=layer.extra["magic_param"]["slope"])

    try:
        found = run(load(tmp_path, DATA + one("MagicReLU", more="magic_param { slope: 0.5 }")), X)
    finally:
        lowers.remove("MagicReLU")
    np.testing.assert_allclose(found["y"], np.where(X > 0, X, 0.5 * X))
    with pytest.raises(ValueError, match="'ReLU' is registered already"):
        lowers("ReLU")(magic)


def test_where_nodes_come_from(tmp_path: Path) -> None:
    model = load(tmp_path, DATA + conv(top="conv1/3x3"), {"conv1/3x3": [W, B]})
    node = next(n for n in model.graph if n.op_type == "Conv")
    assert node.metadata_props[SOURCE] == "net.prototxt:2 conv1/3x3 (Convolution)"
    assert list(model.graph.initializers) == ["conv1_3x3.weight", "conv1_3x3.bias"]
    assert model.graph.initializers["conv1_3x3.weight"].metadata_props[ORIGINAL_NAME] == "conv1/3x3/0"


# -- weights -------------------------------------------------------------------------------------------------------------


def test_names_that_collide_when_mended(tmp_path: Path) -> None:
    text = DATA + "".join(conv(top=f"t{i}", name=name) for i, name in enumerate(["a/b", "a.b", "a_b", "class", "größe", "forward", "3x3"]))
    weights = {name: [W * i, B] for i, name in enumerate(["a/b", "a.b", "a_b", "class", "größe", "forward", "3x3"], 1)}
    model = load(tmp_path, text, weights)
    assert len(model.graph.initializers) == 14
    found = run(model, X)
    for i in range(7):
        np.testing.assert_allclose(found[f"t{i}"], by_conv(X, W * (i + 1)), atol=1e-5)


def test_blobs_named_like_parameters(tmp_path: Path) -> None:
    text = DATA.replace('"data"', '"c.weight"') + conv("c.weight", "c.bias", "c")
    found = run(load(tmp_path, text, {"c": [W, B]}), X)
    np.testing.assert_allclose(found["c.bias"], by_conv(X), atol=1e-5)


def test_order_and_strangers_in_the_file_do_not_matter(tmp_path: Path) -> None:
    weights = {"other": [B], "b": [2 * W, B], "a": [W, B]}
    found = run(load(tmp_path, DATA + conv(top="a") + conv("a", "b"), weights), X)
    np.testing.assert_allclose(found["b"], by_conv(by_conv(X), 2 * W), atol=1e-4)


def test_shared_parameters_take_the_last_copy(tmp_path: Path) -> None:
    share = 'param { name: "w" } param { name: "b" }'
    text = DATA + conv(top="a", more=share) + conv("data", "b", more=share)
    for names in (["a", "b"], ["b", "a"]):
        model = load(tmp_path, text, {names[0]: [W, B], names[1]: [3 * W, B]})
        assert list(model.graph.initializers) == ["a.weight", "a.bias"]
        found = run(model, X)
        np.testing.assert_array_equal(found["a"], found["b"])
        np.testing.assert_allclose(found["a"], by_conv(X, 3 * W), atol=1e-5)
    file = tmp_path / "net.caffemodel"
    write_hdf5(file, {"a": [W, B]})  # in HDF5 the sharers have nothing
    np.testing.assert_allclose(run(converters.load(tmp_path / "net.prototxt", file), X)["b"], by_conv(X), atol=1e-5)


CONSTANT = 'weight_filler { type: "constant" value: 2 } bias_filler { type: "constant" }'


def filled(bottom: str = "data", top: str = "y", filler: str = CONSTANT) -> str:
    return one("Convolution", bottom, top, "", f"convolution_param {{ num_output: 3 kernel_size: 1 {filler} }}")


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"net.prototxt:3: net.caffemodel has no weights for b \(weight, bias\), c \(weight, bias\),"):
        load(tmp_path, DATA + conv(top="a") + conv("a", "b") + conv("a", "c"), {"a": [W, B]})
    with pytest.raises(ConversionError, match=r"net.prototxt:2: no weights were given for a \(weight, bias\); give the .caffemodel"):
        load(tmp_path, DATA + filled(top="a"))  # a stated filler is where training begins


@pytest.mark.parametrize("kind", ["PReLU", "BatchNorm", "Scale"])
def test_what_a_layer_assumes_itself_is_no_weight(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"net.caffemodel has no weights for z .*the prototxt states no filler"):
        load(tmp_path, DATA + conv() + one(kind, "y", "z"), {"y": [W, B]})


def test_a_stated_filler_stands_for_missing_weights(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match=r"net.caffemodel has no weights for b \(weight, bias\); they get what their fillers say"):
        model = load(tmp_path, DATA + conv(top="a") + filled("a", "b"), {"a": [W, B]})
    np.testing.assert_allclose(run(model, X)["b"], by_conv(by_conv(X), np.full_like(W, 2), 0 * B), atol=1e-4)


def test_fillers_that_are_allowed(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match=r"no weights were given for y \(weight, bias\)"):
        model = load(tmp_path, DATA + filled(), fillers=True)
    np.testing.assert_allclose(run(model, X)["y"], by_conv(X, np.full_like(W, 2), 0 * B), atol=1e-4)
    with pytest.warns(ConversionWarning, match=r"net.caffemodel has no weights for b \(weight, bias\)"):
        model = load(tmp_path, DATA + conv(top="a") + conv("a", "b"), {"a": [W, B]}, fillers=True)
    assert not run(model, X)["b"].any()


def test_a_layer_called_input_has_its_weights(tmp_path: Path) -> None:
    text = 'input: "data" input_shape { dim: 2 dim: 3 dim: 4 dim: 4 }\n' + conv(name="input")
    np.testing.assert_allclose(run(load(tmp_path, text, {"input": [W, B]}), X)["y"], by_conv(X), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (4, [0.25, 0.75, 0.75, 0.25]),
        (3, [0.5, 1, 0.5]),
        (2, [0.5, 0.5]),
        (5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        (7, [0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]),
    ],
)
def test_bilinear_filler(size: int, line: list[float], tmp_path: Path) -> None:
    deconvolution = (
        f"convolution_param {{ num_output: 3 group: 3 kernel_size: {size} bias_term: false weight_filler {{ type: 'bilinear' }} }}"
    )
    with pytest.warns(ConversionWarning, match="no weights"):
        model = load(tmp_path, DATA + one("Deconvolution", more=deconvolution), fillers=True)
    kernel = model.graph.initializers["y.weight"].const_value
    assert kernel is not None
    np.testing.assert_allclose(kernel.numpy(), np.broadcast_to(np.outer(line, line), (3, 1, size, size)), atol=1e-6)


def test_the_second_of_two_layers_of_one_name_gets_its_fillers(tmp_path: Path) -> None:
    text = DATA + conv(top="a", name="c") + conv(top="b", name="c")
    with pytest.warns(ConversionWarning, match=r"no weights for c \(weight, bias\)"):
        found = run(load(tmp_path, text, {"c": [W, B]}, fillers=True), X)
    np.testing.assert_allclose(found["a"], by_conv(X), atol=1e-5)
    assert not found["b"].any()


def test_a_net_that_phase_test_leaves_nothing_of(tmp_path: Path) -> None:
    with pytest.raises(
        ConversionError, match=r"net\.caffemodel: the layers that it has weights for are left out in phase TEST .*\(y \.\.\.\)"
    ):
        load(tmp_path, DATA + conv(top="y", more="include { phase: TRAIN }"), {"y": [W, B]})


WRONG = {
    "one blob": ({"y": [W]}, "net.caffemodel holds 1 blobs for it, but it needs 2"),
    "three blobs": ({"y": [W, B, B]}, "holds 3 blobs for it, but it needs 2"),
    "shape": ({"y": [W[:2], B]}, "its weight has shape (2, 3, 1, 1) in net.caffemodel, but the prototxt asks for (3, 3, 1, 1)"),
    "names": ({"x": [W, B]}, "net.caffemodel: none of its layers' names occurs in the prototxt (1 layers with weights: x)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_weights(kind: str, tmp_path: Path) -> None:
    weights, words = WRONG[kind]
    with pytest.raises(ConversionError) as caught:
        load(tmp_path, DATA + conv(), weights)
    assert words in str(caught.value)


def test_not_finite_weights_are_said(tmp_path: Path) -> None:
    broken = W.copy()
    broken[0, 0, 0, 0] = np.nan
    with pytest.warns(ConversionWarning, match="weight: 1 of 9 values are NaN"):
        load(tmp_path, DATA + conv(), {"y": [broken, B]})


def test_legacy_blobs_align_from_the_right(tmp_path: Path) -> None:
    data = wire.layer("y", "Convolution", [wire.legacy_blob(W, W.shape), wire.legacy_blob(B, (1, 1, 1, 3))])
    np.testing.assert_allclose(run(load(tmp_path, DATA + conv(), data), X)["y"], by_conv(X), atol=1e-5)


# -- BatchNorm and Scale ---------------------------------------------------------------------------------------------------

NORM = {"n": [B, np.abs(B), np.ones(1, np.float32)], "s": [B, 2 * B]}
SCALE = "scale_param { bias_term: true }"


def by_norm(x: np.ndarray) -> np.ndarray:
    return (x - B[:, None, None]) / np.sqrt(np.abs(B) + 1e-5)[:, None, None]


@pytest.mark.parametrize(
    ("text", "merged"),
    [
        (one("BatchNorm", top="n") + one("Scale", "n", "s", more=SCALE), True),
        (one("BatchNorm", top="n") + one("Scale", "n", "n", "s", SCALE) + one("Power", "n", "s", "p"), True),
        (one("BatchNorm", top="n") + one("Scale", "n", "n", "s", SCALE) + one("Split", "n", "s", "p") + one("ReLU", "n", "r"), True),
        (one("BatchNorm", top="n") + one("ReLU", "n", "r") + one("Scale", "n", "s", more=SCALE), False),
        (one("BatchNorm", top="n") + one("ReLU", "n", "n", "r") + one("Scale", "n", "s", more=SCALE), False),
    ],
)
def test_batch_norm_takes_in_its_scale(text: str, merged: bool, tmp_path: Path) -> None:
    model = load(tmp_path, DATA + text, NORM)
    assert sum(n.op_type in ("Mul", "Add") for n in model.graph) == (0 if merged else 2)
    normal = by_norm(X)
    if 'bottom: "n" top: "n" ' in text and not merged:
        normal = np.maximum(normal, 0)
    np.testing.assert_allclose(run(model, X)["s"], normal * B[:, None, None] + 2 * B[:, None, None], rtol=1e-4, atol=1e-4)


# -- inputs --------------------------------------------------------------------------------------------------------------

TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 4 } data_param { batch_size: 5 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "msra" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "label" top: "loss" }
layer { name: "acc" type: "Accuracy" bottom: "c" bottom: "label" top: "acc" include { phase: TEST } }
"""


def test_train_val(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match=r"left out, they need labels: loss \(SoftmaxWithLoss\), acc \(Accuracy\)"):
        model = load(tmp_path, TRAIN_VAL, {"c": [W, B]})
    assert [(v.name, str(v.shape)) for v in model.graph.inputs] == [("data", "[N,3,4,4]")]
    np.testing.assert_allclose(run(model, X)["c"], by_conv(X), atol=1e-5)


def test_the_transformation_of_a_data_layer_is_mentioned(tmp_path: Path) -> None:
    text = TRAIN_VAL.replace("crop_size: 4", "crop_size: 4 scale: 0.5 mean_value: 100")
    with pytest.warns(ConversionWarning, match="left out"), pytest.warns(ConversionWarning, match=r"apply it to what goes into 'data'"):
        load(tmp_path, text, {"c": [W, B]})


def test_shape_of_a_data_layer_has_to_be_given(tmp_path: Path) -> None:
    text = TRAIN_VAL.replace("crop_size: 4", "")
    with pytest.raises(
        ConversionError, match=r"layer 'data' \(Data\): the shape of its top 'data' depends on the data; give it with --input"
    ):
        load(tmp_path, text, {"c": [W, B]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        model = load(tmp_path, text, {"c": [W, B]}, inputs={"data": (1, 3, 6, 6)})
    assert str(model.graph.inputs[0].shape) == "[N,3,6,6]"


@pytest.mark.parametrize(("means", "channels"), [(1, None), (3, 3)])
def test_means_of_a_data_layer_tell_its_channels(means: int, channels: int | None, tmp_path: Path) -> None:
    transform = "crop_size: 4 " + "mean_value: 100 " * means
    text = f'layer {{ name: "d" type: "Data" top: "data" transform_param {{ {transform} }} }}\n' + one("ReLU")
    if channels is None:  # one mean is for all channels
        with pytest.raises(ConversionError, match="the shape of its top 'data' depends on the data"):
            load(tmp_path, text)
    else:
        with pytest.warns(ConversionWarning, match="apply it to what goes into 'data'"):
            assert str(load(tmp_path, text).graph.inputs[0].shape) == "[N,3,4,4]"


def test_a_layer_of_an_unknown_type_that_takes_nothing_may_be_a_data_layer(tmp_path: Path) -> None:
    text = 'layer { name: "d" type: "MyData" top: "data" top: "label" }\n' + one("ReLU")
    with pytest.raises(UnsupportedError, match="if 'd' is a data layer, say what it gives with --input data="):
        load(tmp_path, text)
    model = load(tmp_path, text, inputs={"data": (2, 3, 4, 4)})
    np.testing.assert_array_equal(run(model, X)["y"], np.maximum(X, 0))


def test_a_shape_without_a_name_is_the_only_inputs(tmp_path: Path) -> None:
    model = load(tmp_path, 'input: "image" ' + one("ReLU", "image"), inputs={"": (1, 3, 9, 9)})
    assert [(v.name, str(v.shape)) for v in model.graph.inputs] == [("image", "[N,3,9,9]")]
    with pytest.raises(ConversionError, match="without a name, but there are 2 inputs: a, b; write --input NAME="):
        load(tmp_path, 'input: "a" input: "b" ' + one("Eltwise", "a b"), inputs={"": (1, 3, 9, 9)})


def test_a_key_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="the key 'model' chooses nothing"):
        load(tmp_path, DATA + one("ReLU"), key="model")


def test_given_shapes(tmp_path: Path) -> None:
    model = load(tmp_path, DATA + one("ReLU"), inputs={"data": (1, 3, 9, 9)})
    assert str(model.graph.inputs[0].shape) == "[N,3,9,9]"
    with pytest.raises(ConversionError, match="a shape is given for 'image', but the inputs are data"):
        load(tmp_path, DATA + one("ReLU"), inputs={"image": (1, 3, 9, 9)})


def test_what_needs_the_batch_size_fixes_it(tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match=r"layer 'y' \(Reshape\): needs the size of data, .* first size \(2\) alone"):
        model = load(tmp_path, DATA + one("Reshape", more="reshape_param { shape { dim: 4 dim: -1 } }"))
    assert str(model.graph.inputs[0].shape) == "[2,3,4,4]"


def test_one_file_alone(tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_bytes(wire.caffemodel({"a": [W]}))
    with pytest.raises(ConversionError, match="where the prototxt is due; give PROTOTXT CAFFEMODEL"):
        converters.load(tmp_path / "net.caffemodel")
