"""Operators with random settings: the written PyTorch gives onnxruntime's numbers, or refuses."""

from __future__ import annotations

import functools
import random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from converters.errors import ConversionError
from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import to_module

OPSET = 21
COUNT = 40


class Case:
    """Random numbers for one operator; the inputs named in `constant` become initializers."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.inputs: dict[str, np.ndarray] = {}
        self.constant: set[str] = set()
        self.attributes: dict = {}
        self.outputs = 1

    def floats(self, *shape):
        return self.numbers.standard_normal(shape).astype(np.float32)

    def some(self, low, high, count):
        return [self.random.randint(low, high) for _ in range(count)]

    def weight(self, name, array):
        self.inputs[name] = array
        self.constant.add(name)

    def padding(self, kernel, limit=None):
        """pads, or auto_pad."""
        mode = self.random.choice(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
        if mode == "NOTSET":
            self.attributes["pads"] = [self.random.randint(0, (k if limit is None else limit + 1) - 1) for k in kernel * 2]
        else:
            self.attributes["auto_pad"] = mode
        return mode


def conv(c: Case, transposed: bool = False):
    dims, group = c.random.choice([1, 2, 2, 3]), c.random.choice([1, 1, 2])
    kernel = c.some(1, 3, dims)
    c.attributes.update(kernel_shape=kernel, strides=c.some(1, 3, dims), dilations=c.some(1, 2, dims), group=group)
    if c.padding(kernel, 1 if transposed else 2).startswith("SAME"):
        c.attributes["dilations"] = [1] * dims
    c.inputs["x"] = c.floats(2, 2 * group, *c.some(5, 8, dims))
    c.weight("w", c.floats(*((2 * group, 3) if transposed else (3 * group, 2)), *kernel))
    if c.random.random() < 0.5:
        c.weight("b", c.floats(3 * group))
    if transposed and "pads" in c.attributes:
        c.attributes["output_padding"] = [c.random.randint(0, s - 1) for s in c.attributes["strides"]]
    return "ConvTranspose" if transposed else "Conv"


def pool(c: Case, op_type: str):
    dims = c.random.choice([1, 2, 2, 3])
    kernel = c.some(1, 3, dims)
    c.attributes.update(kernel_shape=kernel, strides=c.some(1, 3, dims))
    mode = c.padding(kernel)
    if mode == "NOTSET" and op_type != "LpPool":
        c.attributes["ceil_mode"] = c.random.randint(0, 1)
    if op_type == "MaxPool" and not mode.startswith("SAME"):
        c.attributes["dilations"] = c.some(1, 2, dims)
    if op_type == "AveragePool":
        c.attributes["count_include_pad"] = c.random.randint(0, 1)
    c.inputs["x"] = c.floats(2, 3, *c.some(5, 9, dims))
    return op_type


def resize(c: Case):
    mode = c.random.choice(["nearest", "linear", "cubic"])
    transforms = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]
    c.attributes.update(mode=mode, coordinate_transformation_mode=c.random.choice(transforms))
    if mode == "nearest":
        c.attributes["nearest_mode"] = c.random.choice(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic":
        c.attributes.update(cubic_coeff_a=c.random.choice([-0.75, -0.5]), exclude_outside=c.random.randint(0, 1))
    c.inputs["x"] = c.floats(1, 2, *c.some(3, 6, 2))
    c.inputs[""] = np.zeros(0)
    if c.random.random() < 0.5:
        c.weight("scales", np.array([1, 1, *(c.random.choice([0.5, 0.6, 0.8, 1.5, 2, 3]) for _ in range(2))], np.float32))
    else:
        c.inputs[" "] = np.zeros(0)
        c.weight("sizes", np.array([1, 2, *c.some(1, 12, 2)], np.int64))
    return "Resize"


def pad(c: Case):
    rank = c.random.randint(1, 4)
    c.attributes["mode"] = c.random.choice(["constant", "reflect", "edge", "wrap"])
    c.inputs["x"] = c.floats(*c.some(3, 6, rank))
    pads = np.array(c.some(-1 if c.attributes["mode"] == "constant" else 0, 2, 2 * rank), np.int64)
    c.inputs["pads"] = pads
    if c.random.random() < 0.7:
        c.constant.add("pads")
    return "Pad"


def slices(c: Case):
    rank = c.random.randint(1, 4)
    axes = c.random.sample(range(-rank, 0), c.random.randint(1, rank))
    c.inputs["x"] = c.floats(*c.some(2, 7, rank))
    for name, choices in {"starts": [*range(-8, 9), 100, -100], "ends": [*range(-8, 9), 100, -100]}.items():
        c.inputs[name] = np.array([c.random.choice(choices) for _ in axes], np.int64)
    c.inputs["axes"] = np.array(axes, np.int64)
    c.inputs["steps"] = np.array([c.random.choice([1, 1, 2, -1, -2, 3]) for _ in axes], np.int64)
    if c.random.random() < 0.7:
        c.constant |= {"starts", "ends", "axes", "steps"}
    return "Slice"


def reduce(c: Case):
    rank = c.random.randint(1, 4)
    c.inputs["x"] = c.floats(*c.some(1, 4, rank))
    c.inputs["axes"] = np.array(c.random.sample(range(-rank, 0), c.random.randint(0, rank)), np.int64)
    if c.random.random() < 0.7:
        c.constant.add("axes")
    c.attributes["keepdims"] = c.random.randint(0, 1)
    return "Reduce" + c.random.choice("Sum Mean Max Min Prod L1 L2 SumSquare LogSumExp".split())


def gather(c: Case):
    c.inputs["x"] = c.floats(*c.some(2, 5, c.random.randint(1, 4)))
    axis = c.random.randrange(-c.inputs["x"].ndim, c.inputs["x"].ndim)
    size = c.inputs["x"].shape[axis]
    c.inputs["i"] = c.numbers.integers(-size, size, c.some(1, 3, c.random.randint(0, 3)))
    c.attributes["axis"] = axis
    if c.random.random() < 0.5:
        c.constant.add("i")
    return "Gather"


def recurrent(c: Case, op_type: str):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]
    both, batch, hidden, steps = c.random.randint(1, 2), c.random.randint(1, 3), 4, c.random.randint(1, 4)
    c.attributes.update(hidden_size=hidden, direction="bidirectional" if both == 2 else c.random.choice(["forward", "reverse"]))
    c.inputs["x"] = c.floats(steps, batch, 3)
    c.weight("w", c.floats(both, gates * hidden, 3))
    c.weight("r", c.floats(both, gates * hidden, hidden))
    if c.random.random() < 0.7:
        c.weight("b", c.floats(both, 2 * gates * hidden))
        if c.random.random() < 0.6:
            c.inputs["lengths"] = c.numbers.integers(1, steps + 1, batch).astype(np.int32)
            c.inputs["h"] = c.floats(both, batch, hidden)
    if op_type == "GRU":
        c.attributes["linear_before_reset"] = c.random.randint(0, 1)
    c.outputs = 3 if op_type == "LSTM" else 2
    return op_type


def grid_sample(c: Case):
    c.inputs.update(x=c.floats(1, 2, 4, 5), grid=c.floats(1, 3, 3, 2))
    c.attributes.update(mode=c.random.choice(["linear", "nearest", "cubic"]), align_corners=c.random.randint(0, 1))
    c.attributes["padding_mode"] = c.random.choice(["zeros", "border", "reflection"])
    return "GridSample"


def roi_align(c: Case):
    c.inputs["x"] = c.floats(2, 3, 6, 6)
    c.inputs["rois"] = np.array([[0, 0, 4, 4], [1.2, 0.5, 5, 5.7], [3, 3, 3.2, 3.1], [-2, -1, 9, 9]], np.float32)
    c.inputs["batch"] = np.array([0, 1, 0, 1])
    c.attributes.update(output_height=c.random.randint(1, 3), output_width=c.random.randint(1, 3), sampling_ratio=c.random.randint(0, 2))
    c.attributes["coordinate_transformation_mode"] = c.random.choice(["half_pixel", "output_half_pixel"])
    return "RoiAlign"


def max_roi_pool(c: Case):
    c.inputs["x"] = c.floats(2, 2, 8, 9)
    c.inputs["rois"] = np.array([[0, 0, 0, 4, 4], [1, 1.2, 2.6, 7.4, 7.9], [0, 5, 5, 5, 5], [1, -3, 2, 20, 3]], np.float32)
    c.attributes.update(pooled_shape=c.some(1, 3, 2), spatial_scale=c.random.choice([1.0, 0.5, 0.7]))
    return "MaxRoiPool"


OPERATORS = {
    "Conv": conv,
    "ConvTranspose": functools.partial(conv, transposed=True),
    **{name: functools.partial(pool, op_type=name) for name in ("MaxPool", "AveragePool", "LpPool")},
    "Resize": resize,
    "Pad": pad,
    "Slice": slices,
    "Reduce": reduce,
    "Gather": gather,
    **{name: functools.partial(recurrent, op_type=name) for name in ("LSTM", "GRU", "RNN")},
    "GridSample": grid_sample,
    "RoiAlign": roi_align,
    "MaxRoiPool": max_roi_pool,
}


def model_of(case: Case, op_type: str):
    node = helper.make_node(op_type, [name.strip() for name in case.inputs], [f"y{i}" for i in range(case.outputs)], **case.attributes)
    named = {name: array for name, array in case.inputs.items() if name.strip()}
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in named.items()
            if name not in case.constant
        ],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output],
        [numpy_helper.from_array(array, name) for name, array in named.items() if name in case.constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return model, {name: array for name, array in named.items() if name not in case.constant}


def answer(model, feed):
    """onnxruntime's outputs; None where it doesn't take the model."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feed)
    except Exception:  # its errors have no common class
        return None


DIVIDES_WRONGLY = onnxruntime.__version__.startswith("1.23.")
"""This version, the newest for Python 3.10, divides averages that count uneven padding by too little; see graph.passes.explicit_pooling."""


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name):
    compared = 0
    for seed in range(COUNT):
        case = Case(seed)
        model, feed = model_of(case, OPERATORS[name](case))
        if DIVIDES_WRONGLY and name == "AveragePool" and case.attributes.get("count_include_pad"):
            continue
        want = answer(model, feed)
        if want is None or ("Pool" in name and any(0 in array.shape for array in want)):  # torch refuses to pool nothing
            continue
        try:
            module = to_module(from_proto(model))
        except ConversionError:
            continue
        with torch.no_grad():
            got = module(*(torch.from_numpy(np.array(array)) for array in feed.values()))
        for ours, theirs in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-4, atol=2e-5, err_msg=f"seed {seed}: {case.attributes}")
        compared += 1
    assert compared >= COUNT // 3
