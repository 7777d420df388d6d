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


def test_space_to_batch_alone_takes_the_image_apart(tmp_path):
    net = Net((None, 4, 6, 3))
    net.add("y", "SpaceToBatchND", "x", net.const("rates", np.array([2, 2])), net.const("pads", np.array([[0, 0], [0, 0]])))
    x = image(shape=(2, 4, 6, 3))
    wanted = np.concatenate([x[:, i::2, j::2] for i in range(2) for j in range(2)])
    np.testing.assert_array_equal(answer(net.load(tmp_path), nchw(x)), nchw(wanted))


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
