"""Every rule between operator sets: one node, written in one set, run by onnxruntime in another, with the numbers of a formula.

Where no formula stands in a row, onnxruntime's answer in the set that the node was written in is what is expected.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters.errors import UnsupportedError
from converters.writers.onnx.opsets import translation
from converters.writers.onnx.opsets.site import NEWER, OLDER


@dataclass
class K:
    """A constant input."""

    array: Any


@dataclass
class Row:
    """op_type with these inputs (arrays; K: constants; None: left out), written in the first of two operator sets, run in the second."""

    op_type: str
    inputs: list[Any]
    sets: tuple[int, int]
    attributes: dict[str, Any] = field(default_factory=dict)
    expect: Any = None
    outputs: int = 1
    symbolic: bool = False

    def __str__(self) -> str:
        words = "-".join(f"{k}={v}" for k, v in self.attributes.items() if isinstance(v, int | str | float))
        return f"{self.op_type}-{self.sets[0]}to{self.sets[1]}" + (f"-{words}" if words else "")

    def model(self) -> onnx.ModelProto:
        names, inputs, constants = [], [], []
        for i, value in enumerate(self.inputs):
            names.append("" if value is None else f"in{i}")
            array = value.array if isinstance(value, K) else value
            if isinstance(value, K):
                constants.append(numpy_helper.from_array(np.array(array), f"in{i}"))
            elif value is not None:
                dims = [f"d{i}{j}" if self.symbolic else size for j, size in enumerate(array.shape)]
                inputs.append(helper.make_tensor_value_info(f"in{i}", helper.np_dtype_to_tensor_dtype(array.dtype), dims))
        outs = [f"out{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op_type, names, outs, **self.attributes)
        shells = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in outs]
        opset = helper.make_opsetid("", self.sets[0])
        graph = helper.make_graph([node], "g", inputs, shells, constants)
        model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=[opset], ir_version=9))
        for value in model.graph.output:
            if not value.type.tensor_type.elem_type:  # ONNX infers none for GroupNormalization
                value.type.tensor_type.elem_type = model.graph.input[0].type.tensor_type.elem_type
            if not value.type.tensor_type.HasField("shape"):  # nor the sizes of pieces that are computed
                value.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension() for _ in self.inputs[0].shape)
        return model

    def feed(self) -> dict[str, np.ndarray]:
        return {f"in{i}": value for i, value in enumerate(self.inputs) if value is not None and not isinstance(value, K)}


def f(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def whole(*shape: int, low: int = -5, high: int = 6, dtype: Any = np.int64) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(low, high, shape).astype(dtype)


SPECIAL = np.array([0.5, -0.0, 1.5, 2.5, -1.5, 3, -7, np.inf, -np.inf, np.nan], np.float32)


def softmax(x: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def interpolated(x: np.ndarray, at: list[float]) -> np.ndarray:
    """Linear interpolation of the last axis."""
    at = np.clip(at, 0, x.shape[-1] - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, x.shape[-1] - 1)
    return x[..., low] * (1 - (at - low)) + x[..., high] * (at - low)


def sampled(x: np.ndarray, grid: np.ndarray, align: bool) -> np.ndarray:
    """Bilinear sampling, zeros outside, pixel by pixel."""
    n, c, h, w = x.shape
    out = np.zeros((n, c, *grid.shape[1:3]))
    for index in np.ndindex(n, *grid.shape[1:3]):
        u, v = grid[index].astype(float)
        px, py = ((u + 1) / 2 * (w - 1), (v + 1) / 2 * (h - 1)) if align else (((u + 1) * w - 1) / 2, ((v + 1) * h - 1) / 2)
        for iy in (math.floor(py), math.floor(py) + 1):
            for ix in (math.floor(px), math.floor(px) + 1):
                if 0 <= ix < w and 0 <= iy < h:
                    out[(index[0], slice(None), *index[1:])] += x[index[0], :, iy, ix] * (1 - abs(px - ix)) * (1 - abs(py - iy))
    return out


def fourier(x: np.ndarray) -> np.ndarray:
    """Of real numbers (N, length, 1), along the length: (N, length, 2)."""
    transformed = np.fft.fft(x[..., 0], axis=1)
    return np.stack([transformed.real, transformed.imag], -1)


def normalized(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


X4, IMAGE, GRID = f(2, 3, 4, 5), f(2, 3, 5, 6), np.random.default_rng(0).uniform(-1.3, 1.3, (2, 4, 3, 2)).astype(np.float32)
I64, SMALL = whole(3, 4), whole(3, 4, dtype=np.int8)
GROUPS = [X := f(2, 6, 3, 4), f(6), f(6, seed=1)]
INDEX = whole(2, 3, 2, 5, low=0, high=4)
STATISTICS = [f(3, seed=i) if i < 3 else np.abs(f(3, seed=i)) + 0.5 for i in range(4)]
BOX = np.array([[0, 0, 4, 4], [1, 1, 3, 5]], np.float32)
E = np.zeros(0, np.float32)


def resize(opset: int, scales: Any, expect: Any = None, **attributes: Any) -> Row:
    inputs = [IMAGE, None, K(np.array([1, 1, *scales], np.float32))]
    return Row("Resize", inputs, (19, opset), attributes, expect)


ROWS = [
    # activation
    *(Row(op, [X4], (19, to), {"axis": axis}) for op in ("LogSoftmax", "Hardmax") for axis in (0, 2, -1) for to in (11, 12, 9)),
    *(Row("Softmax", [X4], (19, to), {"axis": axis}, lambda x, axis=axis: softmax(x, axis)) for axis in (0, 1, -1) for to in (9, 12)),
    Row("Softmax", [f(2, 3, 1, 1)], (19, 9), {"axis": 1}, lambda x: softmax(x, 1)),
    *(Row(op, [X4], (12, to), {}) for op in ("Softmax", "LogSoftmax", "Hardmax") for to in (13, 19)),
    Row("Softmax", [X4], (11, 13), {"axis": 2}, lambda x: softmax(x, (2, 3))),
    Row("Softmax", [X4], (11, 9), {"axis": -1}, lambda x: softmax(x, 3)),
    *(Row("Clip", [x, K(low), K(high)], (19, to), {}, lambda x, low=low, high=high: np.clip(x, low, high))
      for to in (9, 11) for x, low, high in ((X4, np.float32(-0.5), np.float32(0.25)), (I64, np.int64(-2), np.int64(3)),
                                             (X4.astype(float), 0.1, 0.2), (SMALL, np.int8(-1), np.int8(2)))),
    Row("Clip", [SPECIAL[:9], K(np.float32(0))], (19, 10), {}, lambda x: np.maximum(x, 0)),
    Row("Clip", [SPECIAL[:9], None, K(np.float32(1))], (19, 10), {}, lambda x: np.minimum(x, 1)),
    Row("Clip", [X4, np.array(-0.5, np.float32), np.array(0.5, np.float32)], (19, 9), {}, lambda x, a, b: np.clip(x, a, b)),
    Row("Clip", [X4, K(np.float32(0.5)), K(np.float32(-0.5))], (19, 9), {}, lambda x: np.full_like(x, -0.5)),
    Row("Clip", [X4], (10, 11), {"min": -0.5, "max": 0.5}, lambda x: np.clip(x, -0.5, 0.5)),
    *(Row("Relu", [x], (19, to), {}, lambda x: np.maximum(x, 0)) for x in (I64, SMALL, whole(4, dtype=np.int32)) for to in (13, 11)),
    Row("HardSwish", [X4], (19, 13), {}, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    Row("Mish", [X4 * 9], (19, 17), {}, lambda x: x * np.tanh(np.log1p(np.exp(np.float64(x))))),
    Row("Swish", [X4], (24, 23), {"alpha": 1.5}, lambda x: x / (1 + np.exp(-1.5 * x))),
    Row("Gelu", [X4], (20, 9), {}, lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))),
    Row("Gelu", [X4], (20, 13), {"approximate": "tanh"}, lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    Row("Celu", [X4 * 3], (19, 11), {"alpha": 2.0}, lambda x: np.maximum(0, x) + np.minimum(0, 2 * np.expm1(x / 2))),
    Row("ThresholdedRelu", [X4], (19, 9), {"alpha": 0.5}, lambda x: np.where(x > 0.5, x, 0)),
    Row("Dropout", [X4, K(np.float32(0.5))], (19, 11), {}, lambda x: x),
    Row("Dropout", [X4], (19, 9), {}, lambda x: x),
    Row("Dropout", [X4], (19, 11), {}, lambda x: (x, np.ones(x.shape, bool)), outputs=2),
    Row("Dropout", [X4], (10, 12), {"ratio": 0.25}, lambda x: x),
    Row("Dropout", [X4], (6, 9), {"is_test": 1}, lambda x: x),
    # elementwise
    *(Row(op, [x, y], (19, to), {}, getattr(np, op.lower() + "imum")) for op in ("Max", "Min") for to in (9, 11)
      for x, y in ((I64, I64[:, :1]), (SMALL, SMALL[::-1].copy()), (X4, X4[:1]))),
    Row("Max", [I64, I64[::-1].copy(), I64[:, :1]], (19, 11), {}, lambda a, b, c: np.maximum(np.maximum(a, b), c)),
    *(Row(op, [SPECIAL, SPECIAL[:, None]], (19, to), {}, formula) for to in (9, 11)
      for op, formula in (("GreaterOrEqual", np.greater_equal), ("LessOrEqual", np.less_equal), ("Equal", np.equal))),
    *(Row(op, [I64, I64[:, :1]], (19, 11), {}, formula)
      for op, formula in (("GreaterOrEqual", np.greater_equal), ("LessOrEqual", np.less_equal))),
    Row("Equal", [SMALL, SMALL[:, :1]], (19, 9), {}, np.equal),
    Row("Pow", [whole(4), K(np.array(3))], (19, 11), {}, lambda x: x**3),
    Row("Pow", [np.abs(X4), K(np.array(3))], (19, 9), {}, lambda x: x**3),
    *(Row(op, [SMALL, SMALL[:, :1]], (19, 13), {}, formula)
      for op, formula in (("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply))),
    Row("Mod", [I64, np.array([[3], [-3], [2]])], (19, 9), {}, np.mod),
    Row("Mod", [I64, np.array([[3], [-3], [2]])], (19, 9), {"fmod": 1}, np.fmod),
    Row("Round", [np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999997, 3.2, -3.7, np.inf], np.float32)], (19, 10), {}, np.round),
    *(Row("IsInf", [SPECIAL], (19, 9), {f"detect_{sign}": 0}, lambda x, pick=pick: pick(x))
      for sign, pick in (("positive", np.isneginf), ("negative", np.isposinf))),
    Row("IsInf", [SPECIAL], (19, 9), {}, np.isinf),
    Row("CastLike", [X4, I64], (19, 14), {}, lambda x, y: x.astype(np.int64)),
    Row("Add", [X4, f(3)], (6, 9), {"broadcast": 1, "axis": 1}, lambda x, y: x + y[:, None, None]),
    *(Row(op, [X4, f(4, 5)], (6, 9), {"broadcast": 1}, formula) for op, formula in
      (("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide))),
    *(Row(op, [X4, f(4, 5)], (6, 9), {"broadcast": 1}, formula) for op, formula in (("Greater", np.greater), ("Less", np.less))),
    *(Row(op, [X4 > 0, f(4, 5) > 0], (6, 9), {"broadcast": 1}, formula) for op, formula in
      (("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor))),
    Row("Equal", [I64, I64[0]], (6, 9), {"broadcast": 1}, np.equal),
    Row("Pow", [np.abs(X4), f(5)], (6, 9), {"broadcast": 1}, np.power),
    # reduction
    *(Row(op, [np.abs(X4), K(np.array([1, -1]))], (19, to), {"keepdims": 0}) for to in (9, 11, 13) for op in
      ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")),
    *(Row(op, [np.abs(X4)], (13, 18), {"axes": [1, 2]}) for op in
      ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")),
    *(Row("ReduceSum", [X4, K(np.array([-1]))], (19, to), {}, lambda x: x.sum(-1, keepdims=True)) for to in (9, 12)),
    Row("ReduceSum", [X4], (19, 12), {"noop_with_empty_axes": 1}, lambda x: x),
    Row("ReduceSum", [X4], (12, 13), {"axes": [0, 2]}, lambda x: x.sum((0, 2), keepdims=True)),
    Row("ReduceMax", [SMALL, K(np.array([1]))], (19, 11), {}, lambda x: x.max(1, keepdims=True)),
    Row("ReduceMin", [X4 > 0, K(np.array([1]))], (20, 13), {}, lambda x: x.min(1, keepdims=True)),
    Row("ArgMax", [X4], (11, 9), {"axis": -2}, lambda x: x.argmax(-2)[:, :, None]),
    *(Row("ArgMax", [x], (13, 9), {"axis": 1, "keepdims": keep}, lambda x, keep=keep: np.argmax(x, 1, keepdims=bool(keep)))
      for x in (X4.astype("f8"), I64, np.zeros((2, 3))) for keep in (0, 1)),
    Row("ArgMin", [X4.astype("f8")], (13, 9), {"axis": -1}, lambda x: x.argmin(-1)[..., None]),
    Row("ArgMin", [I64], (11, 9), {"axis": -1}, lambda x: x.argmin(-1)[:, None]),
    *(Row(op, [np.round(X4)], (19, to), {"axis": 2, "keepdims": 0, "select_last_index": 1}, lambda x, g=g: 3 - g(x[:, :, ::-1], 2))
      for op, g in (("ArgMax", np.argmax), ("ArgMin", np.argmin)) for to in (9, 11)),
    *(Row("TopK", [x, K(np.array([2]))], (19, to), {"largest": largest, "axis": 1}, outputs=2)
      for x in (X4, np.argsort(X4, 1)) for largest in (0, 1) for to in (9, 10)),
    Row("TopK", [X4], (9, 11), {"k": 2, "axis": 1}, lambda x: (-np.sort(-x, 1)[:, :2], np.argsort(-x, 1, kind="stable")[:, :2]), outputs=2),
    Row("DFT", [f(1, 8, 1), None, K(np.array(1))], (20, 19), {}, fourier),
    Row("DFT", [f(1, 8, 1)], (19, 20), {"axis": 1}, fourier),
    # shape
    *(Row("Squeeze", [f(2, 1, 3, 1), K(np.array(axes))], (19, to), {}, lambda x, a=axes: x.squeeze(tuple(a)))
      for axes in ([1], [-1, 1]) for to in (9, 12)),
    Row("Squeeze", [f(2, 1, 3, 1)], (12, 13), {"axes": [1]}, lambda x: x[:, 0]),
    Row("Unsqueeze", [X4, K(np.array([-1, 0]))], (19, 9), {}, lambda x: x[None, ..., None]),
    Row("Unsqueeze", [X4], (12, 13), {"axes": [1]}, lambda x: x[:, None]),
    *(Row("Split", [X4], (19, to), {"axis": -1, "num_outputs": 2}, lambda x: (x[..., :3], x[..., 3:]), outputs=2) for to in (9, 17)),
    Row("Split", [X4, K(np.array([1, 3]))], (19, 12), {"axis": 2}, lambda x: (x[:, :, :1], x[:, :, 1:]), outputs=2),
    *(
        Row("Split", [X4, np.array([1, 0, 3])], (19, to), {"axis": -2}, lambda x, _: (x[:, :, :1], x[:, :, 1:1], x[:, :, 1:]), outputs=3)
        for to in (10, 12)
    ),
    Row("Split", [X4], (11, 13), {"axis": 2, "split": [1, 3]}, lambda x: (x[:, :, :1], x[:, :, 1:]), outputs=2),
    Row("Split", [X4], (13, 18), {"axis": 2}, lambda x: (x[:, :, :2], x[:, :, 2:]), outputs=2),
    *(Row("Shape", [X4], (19, to), part, lambda x, part=part: np.array(x.shape)[part.get("start", 0) : part.get("end")], symbolic=True)
      for part in ({"start": 1}, {"start": -3, "end": -1}, {"end": 2}) for to in (9, 13, 14)),
    Row("Reshape", [X4, K(np.array([2, -1]))], (19, 13), {"allowzero": 1}, lambda x: x.reshape(2, -1)),
    *(Row("Pad", [X4, K(np.array([1, 0, 2, 1])), K(np.float32(3)), K(np.array([-1, 1]))], (19, to), {},
          lambda x: np.pad(x, [(0, 0), (0, 1), (0, 0), (1, 2)], constant_values=3)) for to in (9, 17)),
    Row("Pad", [X4, np.array([1, 2]), K(np.float32(3)), K(np.array([2]))], (19, 17), {},
        lambda x, p: np.pad(x, [(0, 0), (0, 0), (1, 2), (0, 0)], constant_values=3)),
    Row("Pad", [X4, K(np.array([0, 0, 1, 1, 0, 0, 1, 1]))], (19, 18), {"mode": "reflect"},
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], mode="reflect")),
    Row("Pad", [I64, K(np.array([1, 0, 0, 1])), K(np.array(-1))], (19, 9), {}, lambda x: np.pad(x, [(1, 0), (0, 1)], constant_values=-1)),
    Row("Pad", [X4], (10, 11), {"pads": [0, 1, 0, 0, 0, 0, 0, 2], "value": 2.0},
        lambda x: np.pad(x, [(0, 0), (1, 0), (0, 0), (0, 2)], constant_values=2)),
    Row("Slice", [X4, K(np.array([1, 0])), K(np.array([3, 9])), K(np.array([-2, 1]))], (19, 9), {}, lambda x: x[:, 0:9, 1:3]),
    Row("Slice", [X4, K(np.array([1])), K(np.array([3])), K(np.array([-2]))], (19, 10), {}, lambda x: x[:, :, 1:3]),
    *(Row("Slice", [X4, K(np.array([s])), K(np.array([e])), K(np.array([3])), K(np.array([step]))], (19, 9), {},
          lambda x, s=s, e=e, step=step: x[..., s:e:step]) for s, e, step in ((-1, 0, -1), (0, 5, 2), (4, 1, -2))),
    Row("Slice", [X4, *(K(np.array([n])) for n in (-1, -(2**31), 3, -1))], (19, 9), {}, lambda x: x[..., ::-1]),
    Row("Slice", [X4], (9, 10), {"starts": [1], "ends": [3], "axes": [2]}, lambda x: x[:, :, 1:3]),
    *(Row("Trilu", [X4, k], (19, to), {"upper": up}, lambda x, k=1, up=up: (np.triu if up else np.tril)(x, k), symbolic=True)
      for up in (0, 1) for k in (K(np.array(1)), np.array(1)) for to in (11, 13)),
    *(Row("Trilu", [X4, K(np.array(k))], (19, to), {"upper": up}, lambda x, k=k, up=up: (np.triu if up else np.tril)(x, k))
      for k in (0, -1, 2) for up in (0, 1) for to in (9, 13)),
    Row("Range", [K(np.array(1)), K(np.array(8)), K(np.array(3))], (19, 10), {}, lambda: np.arange(1, 8, 3)),
    Row("DepthToSpace", [f(1, 8, 2, 3)], (19, 10), {"blocksize": 2, "mode": "CRD"},
        lambda x: x.reshape(1, 2, 2, 2, 2, 3).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 4, 6)),
    Row("DepthToSpace", [f(1, 8, 2, 3)], (19, 10), {"blocksize": 2},
        lambda x: x.reshape(1, 2, 2, 2, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 4, 6)),
    *(Row("Einsum", [f(3, 2, 3, 4), f(3, 1, 4)], (19, to), {"equation": words}, lambda a, b, w=words: np.einsum(w, a, b))
      for words in ("a...j,b...j->...ab", "iji...,ijk->i...k", "...ij,k...j", "aba...,c...->bc...") for to in (9, 11)),
    *(Row("Einsum", [f(3, 3)], (19, 11), {"equation": words}, lambda a, w=words: np.einsum(w, a)) for words in ("ii", "ii->i", "ji")),
    *(Row("Einsum", [f(2, 3, 4), f(2, 4, 5)], (19, to), {"equation": words}, lambda a, b, w=words: np.einsum(w, a, b))
      for words in ("bij,bjk->bik", "bij,bjk->kb", "bij,cjk") for to in (9, 11)),
    Row("Concat", [X4, X4], (11, 9), {"axis": -1}, lambda a, b: np.concatenate([a, b], -1)),
    Row("Gather", [X4, K(np.array([1, 0]))], (11, 9), {"axis": -1}, lambda x: x[..., [1, 0]]),
    Row("Compress", [X4, K(np.array([True, False, True]))], (11, 9), {"axis": -3}, lambda x: x[:, [0, 2]]),
    Row("Flatten", [X4], (11, 9), {"axis": -1}, lambda x: x.reshape(24, 5)),
    Row("Split", [X4], (11, 9), {"axis": -2, "split": [1, 3]}, lambda x: (x[:, :, :1], x[:, :, 1:]), outputs=2),
    Row("Constant", [], (19, 11), {"value_ints": [1, 2]}, lambda: np.array([1, 2])),
    # normalization
    *(Row("BatchNormalization", [X4, *map(K, STATISTICS)], sets, {},
          lambda x: (x - STATISTICS[2][:, None, None]) / np.sqrt(STATISTICS[3] + 1e-5)[:, None, None] * STATISTICS[0][:, None, None]
          + STATISTICS[1][:, None, None]) for sets in ((19, 13), (19, 9), (9, 14), (9, 21))),
    Row("BatchNormalization", [X4, *map(K, STATISTICS)], (6, 9), {"is_test": 1},
        lambda x: (x - STATISTICS[2][:, None, None]) / np.sqrt(STATISTICS[3] + 1e-5)[:, None, None] * STATISTICS[0][:, None, None]
        + STATISTICS[1][:, None, None]),
    *(Row("LayerNormalization", [X4, f(4, 5), f(4, 5, seed=1)], (19, to), {"axis": -2}, lambda x, s, b: normalized(x, (2, 3)) * s + b)
      for to in (9, 16)),
    Row("LayerNormalization", [X4, f(5)], (19, 13), {}, outputs=3),
    Row("RMSNormalization", [X4, f(5)], (23, 22), {}, lambda x, s: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * s),
    *(Row("GroupNormalization", GROUPS, (21, to), {"num_groups": 3},
          lambda x, s, b: normalized(x.reshape(2, 3, -1), (2,)).reshape(x.shape) * s[:, None, None] + b[:, None, None]) for to in (13, 20)),
    *(Row("GroupNormalization", [X, f(3), f(3, seed=1)], (18, to), {"num_groups": 3},
          lambda x, s, b: (normalized(x.reshape(2, 3, -1), (2,)) * s[:, None] + b[:, None]).reshape(x.shape)) for to in (13, 21)),
    *(Row("Gemm", [f(2, 3), f(4, 3)], (19, to), {"transB": 1, "alpha": 0.5}, lambda a, b: 0.5 * a @ b.T) for to in (9, 10)),
    # pooling, regions, sampling
    Row("AveragePool", [X4], (19, 9), {"kernel_shape": [2, 2], "dilations": [1, 1]}),
    Row("MaxPool", [X4], (19, 9), {"kernel_shape": [2, 2], "dilations": [1, 1], "ceil_mode": 0}),
    Row("LpPool", [X4], (19, 17), {"kernel_shape": [2, 2], "ceil_mode": 0, "dilations": [1, 1]}),
    *(Row("RoiAlign", [IMAGE, BOX, K(np.array([0, 1]))], sets, {"output_height": 2, "output_width": 2, **mode})
      for sets, mode in (((19, 15), {"coordinate_transformation_mode": "output_half_pixel"}), ((15, 16), {}))),
    *(Row("GridSample", [IMAGE, GRID], (19, to), {"align_corners": align}, lambda x, g, align=align: sampled(x, g, bool(align)))
      for align in (0, 1) for to in (11, 13, 15, 20)),
    *(Row("GridSample", [IMAGE, GRID], (19, 11), {"padding_mode": padding, "align_corners": align}, symbolic=True)
      for padding in ("zeros", "border", "reflection") for align in (0, 1)),
    Row("GridSample", [np.arange(4099 * 4100, dtype="f4").reshape(1, 1, 4099, 4100), np.float32([[[[0.9999, 0.9999], [1, 1]]]])],
        (19, 11), {"mode": "nearest", "align_corners": 1}),
    *(Row("GridSample", [IMAGE, GRID], (19, 11), {"mode": mode, "padding_mode": padding, "align_corners": align})
      for mode in ("bilinear", "nearest") for padding in ("zeros", "border", "reflection") for align in (0, 1)),
    Row("GridSample", [IMAGE, GRID], (20, 19), {"mode": "linear"}, lambda x, g: sampled(x, g, False)),
    # indexing
    Row("GatherElements", [X4, INDEX], (19, 9), {"axis": 2}, lambda x, i: np.take_along_axis(x, i, 2)),
    Row("GatherElements", [I64, INDEX[0, :, 0, :4] - 4], (19, 10), {"axis": 1}, lambda x, i: np.take_along_axis(x, i, 1)),
    *(Row("ScatterElements", [f(3, 5), K(np.array([[1, 4]])), f(1, 2)], (19, to), {"axis": -1}) for to in (9, 13, 15)),
    Row("Scatter", [f(3, 5), K(np.array([[1, 4]])), f(1, 2)], (9, 11), {"axis": 1}),
    Row("ScatterND", [f(3, 5), K(np.array([[2], [0]])), f(2, 5)], (19, 13), {}),
    Row("ScatterND", [f(3, 5), K(np.array([[2], [-3]])), f(2, 5)], (19, 9), {}),
    Row("ScatterND", [f(3, 4, 2), K(np.array([[[2, 1], [0, -1]]])), f(1, 2, 2)], (19, 10), {}),
    *(Row("CumSum", [X4, K(np.array(axis))], (19, 9), {"exclusive": e, "reverse": r}) for axis in (1, -1) for e in (0, 1) for r in (0, 1)),
    Row("CumSum", [X4, K(np.array(2))], (19, 10), {}, lambda x: x.cumsum(2)),
    Row("QuantizeLinear", [np.float32([-3, -0.05, 0.05, 0.15, 0.25, 0.35, 40]), K(np.float32(0.1)), K(np.uint8(3))], (19, 9)),
    Row("QuantizeLinear", [f(4, 5) * 20, K(np.float32(0.1)), K(np.int8(-2))], (19, 9)),
    Row("QuantizeLinear", [f(4, 5) * 20, K(np.float32(0.1))], (19, 9)),
    Row("DequantizeLinear", [whole(3, 4, low=0, dtype=np.uint8), K(np.float32(0.1)), K(np.uint8(3))], (19, 9), {},
        lambda x: (x.astype(np.float32) - 3) * np.float32(0.1)),
    Row("OneHot", [np.array([0, 2, -1]), K(np.array(4)), K(np.float32([2, 3]))], (19, 9), {}, lambda i: np.eye(4, dtype=np.float32)[i] + 2),
    Row("OneHot", [np.array([0, 2, -1, -5, 4]), K(np.array(4)), K(np.float32([0, 1]))], (19, 9), {},
        lambda i: np.float32([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])),
    Row("QuantizeLinear", [X4, K(np.float32(0.1)), K(np.uint8(3))], (19, 10), {"axis": 0}),
    Row("DequantizeLinear", [whole(3, 4, low=0, dtype=np.uint8), K(np.float32(0.1)), K(np.uint8(3))], (19, 10), {},
        lambda x: (x.astype(np.float32) - 3) * np.float32(0.1)),
    Row("DequantizeLinear", [whole(3, 4, dtype=np.int8), K(np.float32([1, 0.5, 2, 3])), K(np.int8([1, 2, 3, 0]))], (19, 12), {},
        lambda x: (x.astype(np.float32) - [1, 2, 3, 0]) * [1, 0.5, 2, 3]),
    # resampling
    *(resize(to, (2, 3), lambda x: x.repeat(2, 2).repeat(3, 3), mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor") for to in (9, 10, 12, 17, 18)),
    *(resize(to, (2, 2), lambda x: x.repeat(2, 2).repeat(2, 3), mode="nearest") for to in (9, 10)),
    *(resize(to, (1, 0.5), lambda x: interpolated(x, [0.5, 2.5, 4.5]), mode="linear") for to in (9, 10, 12)),
    *(resize(to, (1, 2), mode="linear", coordinate_transformation_mode="asymmetric") for to in (9, 10)),
    *(resize(9, (1.6, 1.5), mode=mode, coordinate_transformation_mode=words, nearest_mode=rounding)
      for mode, rounding in (("nearest", "round_prefer_floor"), ("nearest", "ceil"), ("linear", "floor"), ("cubic", "floor"))
      for words in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")),
    resize(9, (1, 1.5), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
    Row("Resize", [IMAGE, None, None, K(np.array([2, 3, 7, 4]))], (19, 9),
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        lambda x: interpolated(interpolated(x.swapaxes(2, 3), np.arange(7) * 4 / 6).swapaxes(2, 3), np.arange(4) * 5 / 3)),
    Row("Resize", [IMAGE, None, None, K(np.array([7, 4]))], (19, 17), {"axes": [2, 3], "mode": "linear"}),
    Row("Resize", [IMAGE, None, K(np.float32([2]))], (18, 13), {"axes": [3], "mode": "nearest"}, lambda x: x.repeat(2, 3)),
    Row("Upsample", [f(1, 2, 3, 3)], (7, 9), {"scales": [1.0, 1.0, 2.0, 2.0]}, lambda x: x.repeat(2, 2).repeat(2, 3)),
    Row("Upsample", [f(1, 2, 3, 3), K(np.float32([1, 1, 2, 2]))], (9, 10), {}, lambda x: x.repeat(2, 2).repeat(2, 3)),
    Row("Resize", [f(1, 2, 3, 3), K(np.float32([1, 1, 2, 2]))], (10, 13), {}, lambda x: x.repeat(2, 2).repeat(2, 3)),
    Row("Resize", [f(1, 2, 3, 3), K(np.float32([1, 1, 2, 2]))], (10, 19), {"mode": "linear"}),
]  # fmt: skip


LOW = np.array(0.5, np.float32)
REFUSED = [
    (Row("NonMaxSuppression", [f(1, 5, 4), f(1, 2, 5)], (19, 9)), "ONNX has it from set 10 on"),
    (Row("CumSum", [f(1, 3000), K(np.array(1))], (19, 9)), "only for axes of known size"),
    (Row("BitwiseNot", [I64], (19, 17)), "ONNX has it from set 18 on"),
    (Row("Mod", [X4, X4], (19, 9), {"fmod": 1}), "exact remainder"),
    (Row("Dropout", [X4, None, K(np.array(True))], (19, 9)), "training mode"),
    (Row("Dropout", [X4], (6, 9)), "training mode"),
    (Row("BatchNormalization", [X4, *STATISTICS], (19, 13), {"training_mode": 1}, outputs=3), "training mode"),
    (Row("ReduceMean", [X4, np.array([1])], (19, 17)),
     "its axes are computed when the net runs, and there they are an attribute (before set 18)"),
    (Row("ReduceL2", [X4], (19, 17), {"noop_with_empty_axes": 1}), "without axes it reduces nothing"),
    (Row("Split", [X4, np.array([1, 3])], (19, 9), {"axis": 2}, outputs=2), "limits are computed"),
    (Row("Pad", [X4, K(np.array([0, 0, 1, 1, 0, 0, 1, 1]))], (19, 18), {"mode": "wrap"}), "mode wrap isn't there (before set 19)"),
    (Row("Pad", [X4, K(np.array([0, 0, 1, 1, 0, 0, 1, 1])), LOW], (19, 9)), "its value is computed"),
    (Row("Pad", [X4, np.array([0, 0, 1, 1, 0, 0, 1, 1])], (19, 10)), "its amounts are computed"),
    (Row("Slice", [X4, np.array([0]), K(np.array([1]))], (19, 9)), "its limits are computed"),
    (Row("Slice", [X4, *(K(np.array([n])) for n in (4, 0, 3, -2))], (19, 9), symbolic=True), "an axis whose size isn't known"),
    (Row("Reshape", [X4, np.array([0, 5])], (19, 13), {"allowzero": 1}), "a dimension of 0"),
    (Row("Trilu", [X4], (19, 9), symbolic=True), "ONNX has Range from set 11 on"),
    (Row("Range", [np.array(0), np.array(3), np.array(1)], (19, 10)), "only where its limits are constants"),
    (Row("DepthToSpace", [f(1, 8, 2, 3)], (19, 10), {"blocksize": 2, "mode": "CRD"}, symbolic=True), "mode CRD isn't there"),
    (Row("Einsum", [X4, X4], (19, 11), {"equation": "...i,...i->i"}), "this equation has no other form"),
    (Row("Einsum", [f(3, 3)], (19, 11), {"equation": "ii->i"}, symbolic=True), "only where the size is known"),
    (Row("TopK", [X4, np.array([2])], (19, 9), outputs=2), "its counts are computed"),
    (Row("AveragePool", [X4], (19, 18), {"kernel_shape": [2, 2], "dilations": [2, 2]}), "dilations aren't there (before set 19)"),
    (Row("MaxPool", [X4], (19, 9), {"kernel_shape": [2, 2], "ceil_mode": 1}), "ceil_mode isn't there"),
    (Row("MaxPool", [X4], (19, 9), {"kernel_shape": [2, 2], "dilations": [2, 2]}), "dilations aren't there (before set 10)"),
    (Row("RoiAlign", [IMAGE, BOX, K(np.array([0, 1]))], (19, 15)), "half_pixel isn't there"),
    (Row("GridSample", [f(1, 2, 3, 4, 5), f(1, 2, 3, 4, 3)], (20, 19)), "only images"),
    (Row("GridSample", [IMAGE, GRID], (19, 15), {"mode": "bicubic"}), "ONNX has GridSample from set 16 on"),
    (Row("GridSample", [IMAGE, GRID], (19, 9)), "small axes of known size"),
    (Row("GatherElements", [X4, INDEX], (19, 9), {"axis": 2}, symbolic=True), "small axes of known size"),
    (Row("ScatterElements", [f(3, 5), K(np.array([[1, 4]])), f(1, 2)], (19, 17), {"reduction": "max"}), "reduction max isn't there"),
    (Row("ScatterElements", [f(3, 5), K(np.array([[1, 4]])), f(1, 2)], (19, 15), {"reduction": "add"}), "its attribute reduction = add"),
    (Row("QuantizeLinear", [X4, K(np.float32([1, 2, 3])), K(np.uint8([1, 2, 3]))], (19, 12), {"axis": 1}), "one scale per channel"),
    (Row("Equal", [whole(3, low=0, dtype=np.uint64)] * 2, (19, 9)), "it doesn't take uint64 there"),
    (Row("Resize", [IMAGE, None, K(np.float32([1, 1, 0.5, 0.5]))], (19, 17), {"mode": "linear", "antialias": 1}), "antialias isn't there"),
    (Row("Resize", [IMAGE, None, K(np.float32([1, 1, 2, 2]))], (19, 18), {"coordinate_transformation_mode": "half_pixel_symmetric"}),
     "half_pixel_symmetric isn't there"),
    (Row("Resize", [IMAGE, None, K(np.float32([1, 1, 1.5, 2]))], (19, 10), {"mode": "linear"}, symbolic=True),
     "only where the sizes are known"),
    (Row("Resize", [f(1, 2, 4, 4), K(np.float32([1, 1, 0.5, 0.5]))], (10, 13)), "set 10 doesn't say which pixel"),
    (Row("Scan", [None, X4], (8, 9), {"num_scan_inputs": 1, "body": helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])], "body", [helper.make_tensor_value_info("a", 1, [4, 5])],
        [helper.make_tensor_value_info("b", 1, [4, 5])])}), "its inputs mean other things there (from set 9 on)"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "words"), REFUSED, ids=str)
def test_what_a_set_cannot_say_is_refused_by_name(row, words):
    with pytest.raises(
        UnsupportedError, match=rf"node out0: {row.op_type} can't be written in operator set {row.sets[1]}: .*{re.escape(words)}"
    ):
        translated(row)


# Changes of an operator that need no rule, though its attributes or inputs differ: what is new is off where it isn't stated, which
# _fit holds each node to, and what has another name only is the same.
SILENT = {
    "AveragePool-10", "ArgMax-12", "ArgMin-12", "Attention-24", "Attention-25", "Cast-19", "Cast-24", "CastLike-19", "CastLike-24",
    "Constant-11", "DequantizeLinear-21", "DequantizeLinear-23", "GRU-14", "GatherND-12", "GroupNormalization-21", "LSTM-14", "RNN-14",
    "OptionalHasElement-18", "QuantizeLinear-19", "QuantizeLinear-21", "QuantizeLinear-23", "Range-27", "ScatterElements-16",
    "ScatterND-16", "SpaceToDepth-28", "LpPool-18", "MaxPool-10", "AveragePool-19", "Shape-15", "DepthToSpace-11", "Gemm-11", "Pad-18",
    "Reshape-14", "TopK-11", "Constant-12", "Resize-13", "Resize-18", "QuantizeLinear-13", "DequantizeLinear-13",
}  # fmt: skip


@pytest.mark.parametrize(("rules", "older"), [(OLDER, True), (NEWER, False)], ids=["older", "newer"])
def test_every_change_of_a_signature_has_a_rule_or_is_known_to_need_none(rules, older):
    changed = set()
    for name, versions in translation._versions().items():
        for before, since in itertools.pairwise(versions):
            schemas = [onnx.defs.get_schema(name, version) for version in (before, since)]
            attributes = [{key: stated.default_value for key, stated in schema.attributes.items()} for schema in schemas]
            inputs = [[(value.name, value.option) for value in schema.inputs] for schema in schemas]
            differ = attributes[0] != attributes[1] or inputs[0] != inputs[1]
            if since > 9 and differ and not (older and schemas[1].deprecated):
                changed.add(f"{name}-{since}")
    assert sorted(changed - set(rules) - SILENT) == []


def run(proto: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as problem:
        if "under development" in str(problem):
            pytest.skip(f"onnxruntime {onnxruntime.__version__} doesn't have this operator set")
        raise
    return session.run(None, feed)


def translated(row: Row) -> onnx.ModelProto:
    model = ir.from_proto(row.model())
    translation.to_opset(model, row.sets[1])
    proto = ir.to_proto(model)
    assert [entry.version for entry in proto.opset_import] == [row.sets[1]]
    return proto


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_rule(row):
    proto = translated(row)
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.output] == [value.name for value in row.model().graph.output]
    got = run(proto, row.feed())
    wanted = row.expect(*row.feed().values()) if row.expect is not None else run(row.model(), row.feed())
    for ours, theirs in zip(got, wanted if isinstance(wanted, tuple | list) else [wanted], strict=True):
        assert ours.shape == np.shape(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_every_rule_has_a_row(monkeypatch):
    fired = set()
    registered = translation._registered
    monkeypatch.setattr(translation, "_registered", lambda rules, name: (fired.add((rules is OLDER, name)), registered(rules, name))[1])
    for row in ROWS:
        translated(row)
    for row, _ in REFUSED:
        with pytest.raises(UnsupportedError):
            translated(row)
    wanted = {(True, name) for name in OLDER} | {(False, name) for name in NEWER}
    assert sorted(wanted - fired) == []
