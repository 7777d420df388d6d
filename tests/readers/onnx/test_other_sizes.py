"""ONNX nets as source at sizes that they weren't converted at: onnxruntime's numbers on the same graph with open axes, or an error."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import onnx_sizes

RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(4, 2, 3, 3)).astype("f4")
TWICE, AHEAD = {"strides": [2, 2]}, {"auto_pad": "SAME_UPPER", "kernel_shape": [3, 3]}

NETS: dict[str, tuple[str, dict, list[np.ndarray | None], str]] = {
    "Conv SAME_UPPER": ("Conv", {"auto_pad": "SAME_UPPER", **TWICE}, [WEIGHT], "right"),
    "Conv SAME_LOWER, stride 3": ("Conv", {"auto_pad": "SAME_LOWER", "strides": [3, 1]}, [WEIGHT], "right"),
    "MaxPool SAME_UPPER": ("MaxPool", {**AHEAD, **TWICE}, [], "right"),
    "AveragePool SAME_UPPER": ("AveragePool", {**AHEAD, **TWICE}, [], "refused here"),
    "LpPool SAME_LOWER": ("LpPool", {"auto_pad": "SAME_LOWER", "kernel_shape": [3, 3], **TWICE}, [], "refused here"),
    "ConvTranspose of an output's shape": (
        "ConvTranspose",
        {"output_shape": [16, 15], **TWICE},
        [WEIGHT.transpose(1, 0, 2, 3)[:, :, :2, :2]],
        "refused here",
    ),
    "MaxPool, pads behind": ("MaxPool", {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [0, 0, 1, 1]}, [], "right"),
    "AveragePool, pads behind": ("AveragePool", {"kernel_shape": [3, 3], "strides": [3, 2], "pads": [0, 0, 1, 1]}, [], "right"),
    "Resize by a fraction": ("Resize", {"mode": "nearest"}, [None, np.array([1, 1, 10 / 7, 1.3], "f4")], "right"),
    "Resize of all axes": ("Resize", {"mode": "linear", "antialias": 1}, [None, None, np.array([2, 2, 4, 5])], "both refuse"),
}
"""An operator on a (2, 2, 8, 7) image, its attributes, the constants behind that image, and a verdict that some trial has to have."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETS)
def test_another_size_is_right_or_refused(name):
    operator, attributes, constants, expected = NETS[name]
    names = ["x", *("" if array is None else f"c{index}" for index, array in enumerate(constants))]
    held = [numpy_helper.from_array(array, f"c{index}") for index, array in enumerate(constants) if array is not None]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2, 8, 7])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node(operator, names, ["y"], **attributes)], "g", [x], [y], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(onnx_sizes.trials((name, model, [RNG.normal(size=(2, 2, 8, 7)).astype("f4")])))
    verdicts = {word for conversion, _, word, _ in found if conversion == "as it is"}
    assert expected in verdicts, found
    assert not verdicts & {"wrong", "unlike"}, found
    assert "Resize" in name or "answered here alone" not in verdicts, found
