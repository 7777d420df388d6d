"""What takes more than one operator: constants, sizes, phases, dropout, batch norms in parts, atrous convolutions, layouts, commands."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from converters.schemas import tensorflow_pb2 as pb

import converters
from converters.cli import main
from tests.bench import stream
from tests.readers.tensorflow import formulas
from tests.readers.tensorflow.operator_case import node

FLOAT, INT, BOOL = np.dtype("float32"), np.dtype("int32"), np.dtype("bool")


class Net:
    """A graph being written: `x` is an image (?, 7, 6, 3)."""

    def __init__(self, shape: tuple[int | None, ...] = (None, 7, 6, 3)) -> None:
        self.graph = pb.GraphDef()
        node(self.graph, "x", "Placeholder", dtype=FLOAT, shape=shape)

    def const(self, name: str, array) -> str:
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype == np.float64 else array.astype(np.int32) if array.dtype == np.int64 else array
        node(self.graph, name, "Const", dtype=array.dtype, value=array)
        return name

    def add(self, name: str, op: str, *inputs: str, **attributes) -> str:
        node(self.graph, name, op, *inputs, **attributes)
        return name

    def load(self, folder, output: str = "y", **options) -> ir.Model:
        (folder / "graph.pb").write_bytes(self.graph.SerializeToString())
        return converters.load(folder / "graph.pb", outputs=[output], **options)


def batch_of(net: Net) -> str:
    """Adds the number of images as a number, `batch`."""
    bounds = [net.const(f"bound{number}", np.array([number])) for number in (0, 1)]
    return net.add("batch", "StridedSlice", net.add("shape", "Shape", "x"), *bounds, bounds[1], shrink_axis_mask=1)


def answer(model: ir.Model, *inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return converters.to_module(model)(*(torch.from_numpy(np.ascontiguousarray(x)) for x in inputs)).numpy()


def image(name: str = "image", shape: tuple[int, ...] = (2, 7, 6, 3)) -> np.ndarray:
    return stream(name).uniform(-1, 1, shape).astype(np.float32)


def nchw(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2)


def kinds(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph if n.op_type != "Constant"]


def test_constants_are_worked_out_before_the_net_runs(tmp_path):
    net = Net((None, 3))
    net.add("filled", "Fill", net.const("dims", np.array([3])), net.const("two", np.float32(2)))
    net.add("range", "Range", *(net.const(f"r{n}", np.float32(n)) for n in (0, 3, 1)))
    net.add("space", "LinSpace", net.const("low", np.float32(0)), net.const("high", np.float32(1)), net.const("count", np.array(3)))
    net.add("sum", "AddN", "filled", "range", "space")
    net.add("y", "Mul", "x", "sum")
    assert answer(net.load(tmp_path), np.ones((1, 3), np.float32)).tolist() == [[2, 3.5, 5]]


def test_bits_of_constants_as_another_type(tmp_path):
    net = Net((None, 1))
    net.add("bits", "Bitcast", net.const("one", np.array([0x3FC00000])), T=INT, type=FLOAT)
    net.add("y", "Mul", "x", "bits")
    assert answer(net.load(tmp_path), np.ones((1, 1), np.float32)).item() == 1.5


def test_what_is_filled_has_a_limit(tmp_path):
    net = Net((None, 3))
    net.add("filled", "Fill", net.const("dims", np.array([1000000, 1000000])), net.const("two", np.float32(2)))
    net.add("y", "Sum", "filled", net.const("axes", np.array([0, 1])))
    with pytest.raises(converters.ConversionError, match="1000000 x 1000000"):
        net.load(tmp_path)


def test_sizes_follow_the_batch(tmp_path):
    net = Net()
    net.add("shape", "Shape", "x")
    net.add(
        "n",
        "StridedSlice",
        "shape",
        net.const("b", np.array([0])),
        net.const("e", np.array([1])),
        net.const("s", np.array([1])),
        shrink_axis_mask=1,
    )
    net.add("rank", "Rank", "x")
    net.add("wanted", "Pack", "n", net.const("rest", np.array(-1)))
    net.add("flat", "Reshape", "x", "wanted")
    net.add("y", "Softmax", "flat")
    x = image(shape=(5, 7, 6, 3))
    np.testing.assert_allclose(answer(net.load(tmp_path), nchw(x)), formulas.softmax(x.reshape(5, -1)), rtol=1e-5)


@pytest.mark.parametrize("taken", [False, True])
def test_a_switch_is_set_by_constants(tmp_path, taken):
    net = Net((None, 3))
    net.add("phase", "Placeholder", dtype=BOOL, shape=())
    net.add("switch", "Switch", "x", "phase")
    net.add("no", "Neg", "switch:0")
    net.add("yes", "Unheard", "switch:1") if not taken else net.add("yes", "Exp", "switch:1")
    net.add("y", "Merge", "no", "yes")
    x = image(shape=(2, 3))
    np.testing.assert_allclose(answer(net.load(tmp_path, constants={"phase": taken}), x), np.exp(x) if taken else -x, rtol=1e-6)
    with pytest.raises(converters.ConversionError, match="--constant phase=false"):
        net.load(tmp_path)


def test_every_output_of_a_branch_that_is_not_taken_is_dead(tmp_path):
    net = Net((None, 24))
    net.add("phase", "Placeholder", dtype=BOOL, shape=())
    net.add("switch", "Switch", "x", "phase")
    net.add("parts", "Split", net.const("axis", np.array(1)), "switch:1", num_split=12)
    first_two = [net.const("from", np.array([0, 0])), net.const("to", np.array([0, 2])), net.const("by", np.array([1, 1]))]
    net.add("no", "Neg", net.add("pair", "StridedSlice", "switch:0", *first_two, begin_mask=1, end_mask=1))
    net.add("y", "Merge", "no", "parts:11")
    x = image(shape=(2, 24))
    np.testing.assert_allclose(answer(net.load(tmp_path, constants={"phase": False}), x), -x[:, :2], rtol=1e-6)
    np.testing.assert_allclose(answer(net.load(tmp_path, constants={"phase": True}), x), x[:, 22:], rtol=1e-6)


def test_an_unknown_operator_is_refused_only_where_it_is_needed(tmp_path):
    net = Net((None, 3))
    net.add("a", "Unheard", "x")
    net.add("b", "Unseen", "x")
    net.add("y", "Add", "a", "b")
    net.add("z", "Neg", "x")
    assert kinds(net.load(tmp_path, "z")) == ["Neg"]
    with pytest.raises(converters.ConversionError, match=r"2 types of operators: Unheard, Unseen") as caught:
        net.load(tmp_path)
    assert {source.type for source in caught.value.sources} == {"Unheard", "Unseen"}


def dropped(net: Net, *, keep: float = 0.5, scale: float = 2.0, mask: str = "floor") -> None:
    net.add("u", "RandomUniform", net.const("shape", np.array([2, 3])), dtype=FLOAT, T=INT)
    net.add("scaled", "Mul", "x", net.const("scale", np.float32(scale)))
    if mask == "floor":
        net.add("mask", "Floor", net.add("sum", "Add", net.const("keep", np.float32(keep)), "u"))
    else:
        net.add("mask", "Cast", net.add("above", "GreaterEqual", "u", net.const("rate", np.float32(1 - keep))), SrcT=BOOL, DstT=FLOAT)
    net.add("y", "Mul", "scaled", "mask")


@pytest.mark.parametrize("mask", ["floor", "compare"])
def test_dropout_that_is_switched_on_is_left_out_and_said(tmp_path, mask):
    net = Net((None, 3))
    dropped(net, mask=mask)
    net.add("z", "Relu", "y")
    with pytest.warns(converters.ConversionWarning, match="dropout"):
        model = net.load(tmp_path, "z")
    x = image(shape=(2, 3))
    np.testing.assert_array_equal(answer(model, x), np.maximum(x, 0))


@pytest.mark.parametrize("wrong", [{"scale": 3.0}, {"keep": 0.25}])
def test_other_uses_of_random_numbers_are_refused(tmp_path, wrong):
    net = Net((None, 3))
    dropped(net, **wrong)
    with pytest.raises(converters.ConversionError, match="random numbers"):
        net.load(tmp_path)


@pytest.mark.parametrize("has_gamma", [True, False])
def test_a_batch_norm_in_parts_is_one(tmp_path, has_gamma):
    rng = stream("parts")
    gamma, beta, mean, variance = (rng.uniform(0.5, 2, 3).astype(np.float32) for _ in range(4))
    net = Net()
    net.add("inverse", "Rsqrt", net.add("sum", "Add", net.const("bn/moving_variance", variance), net.const("eps", np.float32(1e-3))))
    inverse = net.add("scaled", "Mul", "inverse", net.const("bn/gamma", gamma)) if has_gamma else "inverse"
    net.add("times", "Mul", "x", inverse)
    net.add("shift", "Sub", net.const("bn/beta", beta), net.add("moved", "Mul", net.const("bn/moving_mean", mean), inverse))
    net.add("y", "Add", "times", "shift")
    model, x = net.load(tmp_path), image()
    assert kinds(model) == ["BatchNormalization"]
    assert set(model.graph.initializers) >= {"bn.bias", "bn.running_mean", "bn.running_var"}
    wanted = (x - mean) / np.sqrt(variance + 1e-3) * (gamma if has_gamma else 1) + beta
    np.testing.assert_allclose(answer(model, nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


def test_an_atrous_convolution_is_a_dilated_one(tmp_path):
    net, weights = Net((None, 8, 6, 3)), image("w", (3, 3, 3, 4))
    net.add("apart", "SpaceToBatchND", "x", net.const("rates", np.array([2, 2])), net.const("pads", np.array([[2, 2], [2, 2]])))
    net.add("conv", "Conv2D", "apart", net.const("c/weights", weights), strides=[1, 1, 1, 1], padding="VALID")
    net.add("relu", "Relu", "conv")
    net.add("y", "BatchToSpaceND", "relu", "rates", net.const("crops", np.array([[0, 0], [0, 0]])))
    model, x = net.load(tmp_path), image(shape=(2, 8, 6, 3))
    assert "Transpose" not in kinds(model)
    wanted = np.maximum(formulas.conv(x, weights, dilations=(2, 2)), 0)
    np.testing.assert_allclose(answer(model, nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


PIECES = {
    "batch norm": lambda x, gamma, beta: (x - 0.1) / np.sqrt(0.5 + 1e-3) * gamma + beta,
    "unfused": lambda x, gamma, beta: (x - 0.1) / np.sqrt(0.5 + 1e-3) * gamma + beta,
    "max pool": lambda x, gamma, beta: formulas.windows(x, (3, 3), (1, 1), "VALID", 0.0, (2, 2)).max((3, 4)),
}


@pytest.mark.parametrize("inner", PIECES)
@pytest.mark.parametrize("old", [False, True])
def test_what_lies_between_an_atrous_convolution_and_its_whole(tmp_path, inner, old):
    net, weights = Net((None, 12, 14, 3)), image("w", (3, 3, 3, 4))
    gamma, beta = image("gamma", (4,)) + 2, image("beta", (4,))
    pads, crops = net.const("pads", np.array([[2, 2], [2, 2]])), net.const("crops", np.array([[0, 0], [0, 0]]))
    rates = net.const("rates", np.array([2, 2]))
    net.add("apart", "SpaceToBatch", "x", pads, block_size=2) if old else net.add("apart", "SpaceToBatchND", "x", rates, pads)
    net.add("conv", "Conv2D", "apart", net.const("c/weights", weights), strides=[1, 1, 1, 1], padding="VALID")
    parts = [net.const(f"c/{name}", array) for name, array in (("gamma", gamma), ("beta", beta))]
    parts += [net.const("c/mean", np.full(4, 0.1)), net.const("c/variance", np.full(4, 0.5))]
    if inner == "batch norm":
        net.add("inner", "FusedBatchNormV3", "conv", *parts, epsilon=1e-3, is_training=False)
    elif inner == "max pool":
        net.add("inner", "MaxPool", "conv", ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1], padding="VALID")
    else:
        root = net.add("root", "Rsqrt", net.add("sum", "AddV2", parts[3], net.const("epsilon", np.float32(1e-3))))
        scale = net.add("scale", "Mul", root, parts[0])
        shift = net.add("shift", "Sub", parts[1], net.add("moved", "Mul", parts[2], scale))
        net.add("inner", "AddV2", net.add("times", "Mul", "conv", scale), shift)
    net.add("y", "BatchToSpace", "inner", crops, block_size=2) if old else net.add("y", "BatchToSpaceND", "inner", rates, crops)
    model, x = net.load(tmp_path), image(shape=(2, 12, 14, 3))
    assert "Transpose" not in kinds(model)
    wanted = PIECES[inner](formulas.conv(x, weights, dilations=(2, 2)), gamma, beta)
    np.testing.assert_allclose(answer(model, nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


def test_numbers_that_differ_from_pixel_to_pixel_take_an_image_apart(tmp_path):
    net, shift = Net((None, 8, 6, 3)), image("shift", (4, 3, 1))
    rates, crops = net.const("rates", np.array([2, 2])), net.const("crops", np.array([[0, 0], [0, 0]]))
    net.add("sum", "AddV2", net.add("apart", "SpaceToBatchND", "x", rates, crops), net.const("shift", shift))
    net.add("y", "BatchToSpaceND", "sum", rates, crops)
    x = image(shape=(2, 8, 6, 3))
    wanted = x + np.repeat(np.repeat(shift, 2, 0), 2, 1)
    np.testing.assert_allclose(answer(net.load(tmp_path), nchw(x)), nchw(wanted), rtol=1e-6)


def test_an_atrous_convolution_of_a_sequence(tmp_path):
    net, weights = Net((None, 9, 3)), image("w", (1, 3, 3, 4))
    rates, axis = net.const("rates", np.array([2])), net.const("axis", np.array(1))
    net.add("apart", "SpaceToBatchND", "x", rates, net.const("pads", np.array([[4, 1]])))
    net.add("tall", "ExpandDims", "apart", axis)
    net.add("conv", "Conv2D", "tall", net.const("c/weights", weights), strides=[1, 1, 1, 1], padding="VALID")
    net.add("flat", "Squeeze", "conv", squeeze_dims=[1])
    net.add("y", "BatchToSpaceND", "flat", rates, net.const("crops", np.array([[0, 1]])))
    x = image(shape=(2, 9, 3))
    wanted = formulas.conv(np.pad(x, [(0, 0), (4, 0), (0, 0)])[:, None], weights, padding="VALID", dilations=(1, 2))[:, 0]
    np.testing.assert_allclose(answer(net.load(tmp_path), x), wanted, rtol=1e-4, atol=1e-5)


def test_an_atrous_convolution_whose_padding_follows_the_size(tmp_path):
    net, weights = Net((None, None, None, 3)), image("w", (3, 3, 3, 4))
    entry = dict.fromkeys(("begin_mask", "end_mask", "shrink_axis_mask"), 0)
    net.add("shape", "Shape", "x")
    one, rates = net.const("one", np.array([1])), net.const("rates", np.array([2, 2]))
    net.add("size", "StridedSlice", "shape", one, net.const("three", np.array([3])), one, **entry)
    net.add("rest", "FloorMod", net.add("minus", "Sub", net.const("zero", np.array([0, 0])), "size"), rates)
    two = net.const("two", np.array([2, 2]))
    net.add("pads", "Pack", two, net.add("behind", "AddV2", two, "rest"), axis=1)
    net.add("crops", "Pack", "zero", "rest", axis=1)
    net.add("apart", "SpaceToBatchND", "x", rates, "pads")
    net.add("conv", "Conv2D", "apart", net.const("c/weights", weights), strides=[1, 1, 1, 1], padding="VALID")
    net.add("y", "BatchToSpaceND", "conv", rates, "crops")
    model = net.load(tmp_path)
    for shape in ((2, 7, 6, 3), (1, 8, 9, 3)):
        x = image(shape=shape)
        wanted = formulas.conv(x, weights, dilations=(2, 2))
        np.testing.assert_allclose(answer(model, nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


def test_pieces_alone_are_put_together(tmp_path):
    net = Net((4, 3, 5, 2))
    net.add("y", "BatchToSpaceND", "x", net.const("rates", np.array([2, 2])), net.const("crops", np.array([[0, 1], [2, 0]])))
    x = image(shape=(4, 3, 5, 2))
    wanted = x.reshape(2, 2, 1, 3, 5, 2).transpose(2, 3, 0, 4, 1, 5).reshape(1, 6, 10, 2)[:, :5, 2:]
    np.testing.assert_array_equal(answer(net.load(tmp_path), nchw(x)), nchw(wanted))


def test_a_bias_stays_outside_where_others_read_the_convolution(tmp_path):
    net, weights, bias = Net(), image("w", (3, 3, 3, 4)), image("b", (4,))
    net.add("conv", "Conv2D", "x", net.const("c/weights", weights), strides=[1, 1, 1, 1], padding="SAME")
    net.add("relu", "Relu", net.add("sum", "AddV2", net.add("same", "Identity", "conv"), net.const("c/biases", bias)))
    net.add("y", "AddV2", "relu", "conv")
    x = image()
    plain = formulas.conv(x, weights)
    wanted = np.maximum(plain + bias, 0) + plain
    np.testing.assert_allclose(answer(net.load(tmp_path), nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


def test_a_bias_of_another_axis_is_none_of_the_convolutions(tmp_path):
    net, weights, column = Net((None, 4, 4, 3)), image("w", (3, 3, 3, 4)), image("b", (4, 1))
    net.add("conv", "Conv2D", "x", net.const("c/weights", weights), strides=[1, 1, 1, 1], padding="SAME")
    net.add("y", "AddV2", "conv", net.const("column", column))
    x = image(shape=(2, 4, 4, 3))
    wanted = formulas.conv(x, weights) + column
    np.testing.assert_allclose(answer(net.load(tmp_path), nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("kernel", [2, 3])
def test_a_transposed_convolution_of_the_size_of_another_image(tmp_path, padding, kernel):
    net, down, up = Net((None, None, None, 3)), image("down", (kernel, kernel, 3, 4)), image("up", (kernel, kernel, 3, 4))
    net.add("conv", "Conv2D", "x", net.const("c/weights", down), strides=[1, 2, 2, 1], padding=padding)
    net.add(
        "y",
        "Conv2DBackpropInput",
        net.add("shape", "Shape", "x"),
        net.const("d/weights", up),
        "conv",
        strides=[1, 2, 2, 1],
        padding=padding,
    )
    model = net.load(tmp_path)
    for shape in ((2, 7, 6, 3), (1, 8, 9, 3)):
        x = image(shape=shape)
        wanted = formulas.deconv(formulas.conv(x, down, (2, 2), padding), up, shape[1:3], padding=padding)
        np.testing.assert_allclose(answer(model, nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


def test_shapes_are_broadcast_before_the_net_runs(tmp_path):
    net = Net((None, 3))
    shape = net.add("shape", "BroadcastArgs", net.const("a", np.array([2, 1])), net.const("b", np.array([3])))
    net.add(
        "y",
        "AddV2",
        net.add("sum", "Sum", net.add("filled", "Fill", shape, net.const("one", np.float32(1))), net.const("axis", np.array(0))),
        "x",
    )
    assert answer(net.load(tmp_path), np.ones((3,), np.float32)[None])[0].tolist() == [3, 3, 3]


def test_space_to_batch_alone_takes_the_image_apart(tmp_path):
    net = Net((None, 4, 6, 3))
    net.add("y", "SpaceToBatchND", "x", net.const("rates", np.array([2, 2])), net.const("pads", np.array([[0, 0], [0, 0]])))
    x = image(shape=(2, 4, 6, 3))
    wanted = np.concatenate([x[:, i::2, j::2] for i in range(2) for j in range(2)])
    np.testing.assert_array_equal(answer(net.load(tmp_path), nchw(x)), nchw(wanted))


SEEN = {  # what looks at the pieces of an image: their sizes, or axes that the pieces have
    "shape": (lambda net: net.add("y", "Shape", "apart"), lambda p: np.array(p.shape)),
    "size": (lambda net: net.add("y", "Size", "apart"), lambda p: np.array(p.size)),
    "reshape": (lambda net: net.add("y", "Reshape", "apart", net.const("to", np.array([-1, 6, 3]))), lambda p: p.reshape(-1, 6, 3)),
    "transpose": (lambda net: net.add("y", "Transpose", "apart", net.const("perm", np.array([0, 2, 1, 3]))), lambda p: p.swapaxes(1, 2)),
    "gather": (
        lambda net: net.add("y", "GatherV2", "apart", net.const("at", np.array([1, 0])), net.const("axis", np.array(1))),
        lambda p: p[:, [1, 0]],
    ),
    "split": (lambda net: net.add("y", "Split", net.const("axis", np.array(2)), "apart", num_split=3), lambda p: p[:, :, :1]),
    "splitv": (
        lambda net: net.add("y", "SplitV", "apart", net.const("sizes", np.array([2, 1])), net.const("axis", np.array(2)), num_split=2),
        lambda p: p[:, :, :2],
    ),
    "unpack": (lambda net: net.add("y", "Unpack", "apart", axis=1, num=2), lambda p: p[:, 0]),
    "mirror": (
        lambda net: net.add("y", "MirrorPad", "apart", net.const("by", np.array([[0, 0], [1, 1], [0, 2], [0, 0]])), mode="SYMMETRIC"),
        lambda p: np.pad(p, [(0, 0), (1, 1), (0, 2), (0, 0)], "symmetric"),
    ),
    "patches": (
        lambda net: net.add(
            "y", "ExtractImagePatches", "apart", ksizes=[1, 2, 1, 1], strides=[1, 1, 1, 1], rates=[1, 1, 1, 1], padding="VALID"
        ),
        lambda p: np.concatenate([p[:, :1], p[:, 1:]], 3),
    ),
}


@pytest.mark.parametrize("seen", SEEN)
def test_the_pieces_of_an_image_are_seen_as_such(tmp_path, seen):
    net, (look, formula) = Net((2, 4, 6, 3)), SEEN[seen]
    net.add("apart", "SpaceToBatchND", "x", net.const("rates", np.array([2, 2])), net.const("pads", np.array([[0, 0], [0, 0]])))
    look(net)
    if seen in ("shape", "size"):  # numbers alone would depend on no input
        net.add("counted", "Cast", "y", DstT=FLOAT)
        net.add("z", "Mul", "counted", net.add("total", "Sum", "x", net.const("axes", np.arange(4))))
    x = image(shape=(2, 4, 6, 3))
    wanted = formula(np.concatenate([x[:, i::2, j::2] for i in range(2) for j in range(2)]))
    if seen in ("shape", "size"):
        np.testing.assert_allclose(answer(net.load(tmp_path, "z"), nchw(x)), wanted * x.sum(), rtol=1e-4)
    else:
        np.testing.assert_array_equal(answer(net.load(tmp_path), nchw(x)), nchw(wanted) if wanted.ndim == 4 else wanted)


@pytest.mark.parametrize("doubled", [False, True])
def test_parts_of_a_variable_and_what_follows_from_it_are_numbers_of_their_own(tmp_path, doubled):
    net, kernel = Net((None, 3)), image("kernel", (3, 8))
    net.const("cell/kernel", kernel)
    if doubled:
        net.add("second", "Mul", "cell/kernel", net.const("two", np.float32(2)))
        first, second = kernel, 2 * kernel
        net.add("first", "Identity", "cell/kernel")
    else:
        points = {
            name: net.const(name, np.array(at))
            for name, at in {"a0": [0, 0], "a1": [3, 4], "b0": [0, 4], "b1": [3, 8], "by": [1, 1]}.items()
        }
        net.add("first", "StridedSlice", "cell/kernel", points["a0"], points["a1"], points["by"])
        net.add("second", "StridedSlice", "cell/kernel", points["b0"], points["b1"], points["by"])
        first, second = kernel[:, :4], kernel[:, 4:]
    net.add("y", "Sub", net.add("a", "MatMul", "x", "first"), net.add("b", "MatMul", "x", "second"))
    x = image(shape=(2, 3))
    np.testing.assert_allclose(answer(net.load(tmp_path), x), x @ first - x @ second, rtol=1e-4, atol=1e-5)


def test_a_variable_that_two_layers_use_is_stored_once(tmp_path):
    net = Net((None, 3))
    net.const("dense/kernel", image("kernel", (3, 3)))
    net.add("y", "MatMul", net.add("a", "MatMul", "x", "dense/kernel"), "dense/kernel")
    assert list(net.load(tmp_path).graph.initializers) == ["dense.weight"]


@pytest.mark.parametrize(("number", "part"), [(1, "mean"), (2, "variance"), (3, "mean"), (4, "variance")])
def test_a_batch_norm_of_inference_gives_the_statistics_that_it_was_given(tmp_path, number, part):
    net = Net()
    parts = {name: image(name, (3,)) ** 2 + 0.5 for name in ("gamma", "beta", "mean", "variance")}
    net.add("norm", "FusedBatchNormV3", "x", *(net.const(f"n/{name}", array) for name, array in parts.items()), is_training=False)
    net.add("y", "Mul", f"norm:{number}", net.add("total", "Sum", "x", net.const("axes", np.arange(4))))
    x = image()
    np.testing.assert_allclose(answer(net.load(tmp_path), nchw(x)), parts[part] * x.sum(), rtol=1e-4)


def test_sizes_become_numbers_of_the_type_that_they_are_cast_to(tmp_path):
    net = Net((None, None, None, 3))
    net.add("sizes", "Cast", net.add("shape", "Shape", "x"), DstT=FLOAT)
    net.add("y", "Mul", "sizes", net.add("total", "Sum", "x", net.const("axes", np.arange(4))))
    x = image()
    np.testing.assert_allclose(answer(net.load(tmp_path), nchw(x)), np.array(x.shape) * x.sum(), rtol=1e-4)


def test_a_row_of_coordinates_is_repeated_for_every_image(tmp_path):
    net, row, weights = Net((None, 2, 4, 3)), np.linspace(-1, 1, 4).astype(np.float32), image("w", (1, 1, 4, 2))
    batch_of(net)
    net.add("times", "Pack", "batch", net.const("two", np.int32(2)), net.const("one", np.int32(1)), "one", N=4, axis=0)
    net.add("rows", "Tile", net.const("row", row.reshape(1, 1, 4, 1)), "times")
    net.add("joined", "ConcatV2", "x", "rows", net.const("axis", np.int32(3)))
    net.add("y", "Conv2D", "joined", net.const("c/weights", weights), strides=[1, 1, 1, 1], padding="VALID")
    x = image(shape=(3, 2, 4, 3))
    joined = np.concatenate([x, np.broadcast_to(row.reshape(1, 1, 4, 1), (3, 2, 4, 1))], 3)
    np.testing.assert_allclose(answer(net.load(tmp_path), nchw(x)), nchw(formulas.conv(joined, weights)), rtol=1e-4, atol=1e-5)


def test_a_part_that_keeps_the_batch_takes_every_batch(tmp_path):
    net = Net((None, 5, 6, 3))
    batch_of(net)
    net.add("size", "Pack", "batch", net.const("h", np.int32(2)), net.const("w", np.int32(3)), net.const("c", np.int32(3)), N=4, axis=0)
    net.add("y", "Slice", "x", net.const("begin", np.array([0, 1, 2, 0])), "size")
    x = image(shape=(4, 5, 6, 3))
    np.testing.assert_array_equal(answer(net.load(tmp_path), nchw(x)), nchw(x[:, 1:3, 2:5]))


def test_a_flattened_image_needs_no_transpose(tmp_path):
    net, weights = Net(), image("dense", (7 * 6 * 3, 5))
    net.add("flat", "Reshape", "x", net.const("shape", np.array([-1, 126])))
    net.add("product", "MatMul", net.add("relu", "Relu", "flat"), net.const("fc/weights", weights))
    net.add("y", "BiasAdd", "product", net.const("fc/biases", np.arange(5.0)))
    model, x = net.load(tmp_path), image()
    assert kinds(model) == ["Flatten", "Relu", "Gemm"]
    np.testing.assert_allclose(answer(model, nchw(x)), np.maximum(x, 0).reshape(2, -1) @ weights + np.arange(5), rtol=1e-4, atol=1e-5)


def test_same_padding_of_an_open_size_follows_it(tmp_path):
    net, weights = Net((None, None, None, 3)), image("w", (3, 3, 3, 4))
    net.add("conv", "Conv2D", "x", net.const("c/weights", weights), strides=[1, 2, 2, 1], padding="SAME")
    net.add("pool", "MaxPool", "conv", ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME")
    net.add("y", "AvgPool", "pool", ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="SAME")
    model = net.load(tmp_path)
    for size in ((9, 12), (10, 11), (16, 7)):
        x = image(shape=(2, *size, 3))
        wanted = formulas.average_pool(formulas.max_pool(formulas.conv(x, weights, (2, 2))), (2, 2))
        np.testing.assert_allclose(answer(model, nchw(x)), nchw(wanted), rtol=1e-4, atol=1e-5)


def test_a_loop_is_refused(tmp_path):
    net = Net((None, 3))
    net.add("merge", "Merge", "x", "next")
    net.add("next", "NextIteration", "merge")
    net.add("y", "Neg", "merge")
    with pytest.raises(converters.ConversionError, match="loop"):
        net.load(tmp_path)


def test_a_call_of_a_function_is_refused_by_what_it_is(tmp_path):
    net = Net()
    net.add("kernel", "VarHandleOp", dtype=FLOAT, shape=(3, 3))
    net.add("y", "StatefulPartitionedCall", "x", "kernel")
    with pytest.raises(converters.ConversionError, match="calls a function of the graph's library"):
        net.load(tmp_path)


def test_a_graph_deeper_than_pythons_stack(tmp_path):
    net, last = Net((None, 3)), "x"
    for i in range(3000):
        last = net.add(f"n{i}", "Identity", last)
    net.add("y", "Neg", last)
    assert kinds(net.load(tmp_path)) == ["Neg"]


def test_the_one_end_is_the_output_and_several_are_listed(tmp_path, capsys):
    net = Net((None, 3))
    net.add("y", "Neg", "x")
    (tmp_path / "graph.pb").write_bytes(net.graph.SerializeToString())
    assert main(["tf2onnx", str(tmp_path / "graph.pb"), str(tmp_path / "out.onnx"), "--quiet"]) == 0
    net.add("z", "Exp", "x")
    (tmp_path / "graph.pb").write_bytes(net.graph.SerializeToString())
    assert main(["tf2onnx", str(tmp_path / "graph.pb"), str(tmp_path / "out.onnx"), "--quiet", "--force"]) == 1
    assert "(y, z)" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["phase", "phase=perhaps", "=1"])
def test_constants_on_the_command_line(word, capsys):
    assert main(["tf2onnx", "graph.pb", "out.onnx", "--constant", word]) == 2
    assert "--constant" in capsys.readouterr().err
