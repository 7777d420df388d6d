"""Operators whose form hangs on sizes and ranks that are open: onnxruntime's numbers at several sizes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from converters.errors import ConversionError
from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import to_module, write_source


def net(nodes, inputs, constants=(), opset=13, outputs=("y",)):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def check(proto, *feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    module = to_module(model)
    for feed in feeds:
        with torch.no_grad():
            found = module(*(torch.from_numpy(array) for array in feed.values()))
        np.testing.assert_allclose(found.numpy(), session.run(None, feed)[0], rtol=1e-4, atol=1e-5)
    return write_source(model), module


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op_type", ["Conv", "MaxPool"])
@pytest.mark.parametrize("stride", [2, 3])
def test_same_padding_with_a_stride_at_any_size(mode, op_type, stride):
    attributes = {"auto_pad": mode, "strides": [stride, 2], "kernel_shape": [3, 2]}
    given = ["x", "w"] if op_type == "Conv" else ["x"]
    constants = [("w", floats(4, 3, 3, 2))] if op_type == "Conv" else []
    proto = net([helper.make_node(op_type, given, ["y"], **attributes)], {"x": ["N", 3, "H", "W"]}, constants)
    _, module = check(proto, {"x": floats(2, 3, 7, 8)}, {"x": floats(1, 3, 10, 5)})
    torch.jit.script(module)


def test_a_computed_shape_says_how_many_axes_there_are():
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "two"], ["lead"]),
        helper.make_node("Concat", ["lead", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"]),
        helper.make_node("Softmax", ["t"], ["y"], axis=1),
    ]
    constants = [("zero", np.array([0])), ("two", np.array([2])), ("rest", np.array([-1]))]
    check(net(nodes, {"x": ["N", 3, "H", "W"]}, constants), {"x": floats(2, 3, 4, 5)}, {"x": floats(1, 3, 2, 2)})


def test_statistics_of_every_position():
    x = floats(2, 3, 4)
    numbers = {"scale": floats(3, 4), "b": floats(3, 4), "mean": floats(3, 4), "var": floats(3, 4) ** 2}
    node = helper.make_node("BatchNormalization", ["x", *numbers], ["y"], spatial=0, epsilon=0.01)
    model = from_proto(net([node], {"x": ["N", 3, 4]}, list(numbers.items()), opset=7))
    wanted = (x - numbers["mean"]) / np.sqrt(numbers["var"] + 0.01) * numbers["scale"] + numbers["b"]
    np.testing.assert_allclose(to_module(model)(torch.from_numpy(x)).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_what_is_multiplied_by_its_own_sigmoid_is_silu():
    nodes = [helper.make_node("Sigmoid", ["x"], ["g"]), helper.make_node("Mul", ["x", "g"], ["y"])]
    source, _ = check(net(nodes, {"x": ["N", 4]}), {"x": 30 * floats(2, 4)})
    assert "F.silu(x)" in source and "sigmoid" not in source


def test_what_is_multiplied_by_another_sigmoid_is_not():
    nodes = [helper.make_node("Sigmoid", ["x"], ["g"]), helper.make_node("Mul", ["z", "g"], ["y"])]
    source, _ = check(net(nodes, {"x": ["N", 4], "z": ["N", 4]}), {"x": floats(2, 4), "z": floats(2, 4) + 1})
    assert "silu" not in source


def test_slopes_of_one_axis_are_one_per_channel_or_refused():
    node = helper.make_node("PRelu", ["x", "slope"], ["y"])
    slope, x = np.array([0.1, 0.2, 0.3], np.float32), floats(2, 3, 4, 5)
    model = from_proto(net([node], {"x": ["N", 3, 4, 5]}, [("slope", slope)]))
    wanted = np.where(x > 0, x, x * slope[:, None, None])
    np.testing.assert_allclose(to_module(model)(torch.from_numpy(x)).detach().numpy(), wanted, rtol=1e-6)
    with pytest.raises(ConversionError, match="don't broadcast"):
        to_module(from_proto(net([node], {"x": ["N", 4, 4, 5]}, [("slope", slope)])))


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        ([0], [1, 3, 4], "x.reshape(x.shape[1:])"),
        ([1], ["N", "C", 4], "x.reshape(x.shape[0], x.shape[2])"),
        ([1], ["N", 1, 4], "x.squeeze(1)"),
    ],
    ids=["batch", "open", "known"],
)
def test_an_axis_of_another_size_is_not_left_where_it_is(axes, shape, words):
    """torch's squeeze leaves an axis that isn't 1; ONNX stops, and so does what is written, where an input may bring one."""
    proto = net([helper.make_node("Squeeze", ["x", "axes"], ["y"])], {"x": shape}, [("axes", np.array(axes))])
    whole = [size if isinstance(size, int) else 1 for size in shape]
    source, module = check(proto, {"x": floats(*whole)})
    assert words in source
    torch.jit.script(module)
    if "squeeze" not in words:
        whole[axes[0]] = 2
        with pytest.raises(RuntimeError, match="shape"):
            module(torch.zeros(whole))
