"""Every operator of the TensorFlow reader against a formula of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from converters.readers.tensorflow import lowers
from tests.bench import check, stream
from tests.readers.tensorflow import formulas
from tests.readers.tensorflow.operator_case import OperatorCase as Row

IMAGE, VECTOR = (2, 7, 6, 3), (3, 5)
FLOAT, INT = np.dtype("float32"), np.dtype("int32")


def random(name: str, *shape: int) -> np.ndarray:
    return stream(name).uniform(-1, 1, shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def scalar(number: int) -> np.ndarray:
    return np.array(number, np.int32)


ERF, ERFC = np.vectorize(math.erf), np.vectorize(math.erfc)
W, DW, TW = random("filter", 3, 2, 3, 4), random("depthwise", 3, 3, 3, 2), random("transposed", 3, 3, 4, 3)
GAMMA, BETA, MEAN, VARIANCE = random("gamma", 3) + 2, random("beta", 3), random("mean", 3), random("variance", 3) ** 2 + 0.5


def batch_norm(x, gamma, beta, mean, variance, epsilon=1e-3):
    return (x - mean) / np.sqrt(variance + np.float32(epsilon)) * gamma + beta


SINGLE = {
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Tanh": np.tanh,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Softplus": lambda x: np.log1p(np.exp(x)),
    "Elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "Selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
    "LeakyRelu": lambda x: np.where(x > 0, x, 0.2 * x),
    "Neg": np.negative,
    "Abs": np.abs,
    "Exp": np.exp,
    "Sign": np.sign,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Rint": np.rint,
    "Round": np.rint,
    "Reciprocal": lambda x: 1 / x,
    "Inv": lambda x: 1 / x,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Erf": ERF,
    "Erfc": ERFC,
    "Asinh": np.arcsinh,
    "IsNan": np.isnan,
    "IsInf": np.isinf,
    "IsFinite": np.isfinite,
    "Expm1": np.expm1,
    "Square": np.square,
    "Identity": lambda x: x,
    "StopGradient": lambda x: x,
    "CheckNumerics": lambda x: x,
    "PreventGradient": lambda x: x,
    "Snapshot": lambda x: x,
    "EnsureShape": lambda x: x,
    "ZerosLike": np.zeros_like,
    "OnesLike": np.ones_like,
    "Softmax": formulas.softmax,
    "LogSoftmax": lambda x: np.log(formulas.softmax(x)),
}
POSITIVE = {
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Log1p": np.log1p,
}
BOUNDED = {"Asin": np.arcsin, "Acos": np.arccos, "Atanh": np.arctanh}


def norm(x: np.ndarray, axis, keepdims: bool = False) -> np.ndarray:
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))


PAIRS = {
    "Add": np.add,
    "AddV2": np.add,
    "AddN": np.add,
    "AccumulateNV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.true_divide,
    "Div": np.true_divide,
    "FloorDiv": lambda x, y: np.floor(x / y),
    "FloorMod": lambda x, y: x - y * np.floor(x / y),
    "Mod": np.fmod,
    "TruncateMod": np.fmod,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "SquaredDifference": lambda x, y: np.square(x - y),
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Equal": np.equal,
    "NotEqual": np.not_equal,
}
REDUCTIONS = {"Mean": np.mean, "Sum": np.sum, "Max": np.max, "Min": np.min, "Prod": np.prod, "EuclideanNorm": norm}

ROWS = [
    *(Row(op, [IMAGE], expect) for op, expect in SINGLE.items()),
    *(Row(op, [IMAGE], expect, span=(0.2, 3)) for op, expect in POSITIVE.items()),
    *(Row(op, [IMAGE], expect, span=(-0.9, 0.9)) for op, expect in BOUNDED.items()),
    *(Row(op, [IMAGE, IMAGE], expect) for op, expect in PAIRS.items()),
    Row("Acosh", [IMAGE], np.arccosh, span=(1.1, 3)),
    Row("DivNoNan", [VECTOR, np.float32([2, 0, -1, 0, 3])], lambda x, y: np.where(y == 0, 0, x / np.where(y == 0, 1, y))),
    Row("MulNoNan", [VECTOR, np.float32([2, 0, -1, 0, 3])], np.multiply),
    Row("Pow", [IMAGE, IMAGE], np.power, span=(0.5, 2)),
    # a constant is broadcast from the last axis on, wherever that lies
    Row("Add", [IMAGE, random("channel", 3)], np.add, name="channel"),
    Row("Mul", [IMAGE, random("plane", 7, 6, 1)], np.multiply, name="plane"),
    Row("Sub", [random("row", 6, 3), IMAGE], np.subtract, name="row"),
    Row("LogicalNot", [(2, 3)], np.logical_not, dtype="bool"),
    Row("LogicalAnd", [(2, 3), (2, 3)], np.logical_and, dtype="bool"),
    Row("LogicalOr", [(2, 3), (2, 3)], np.logical_or, dtype="bool"),
    Row("FloorDiv", [VECTOR, ints(3, -3, 2, -2, 5)], lambda x, y: np.floor_divide(x, y), dtype="int32", span=(-9, 9), name="int"),
    Row("FloorMod", [VECTOR, ints(3, -3, 2, -2, 5)], lambda x, y: np.mod(x, y), dtype="int32", span=(-9, 9), name="int"),
    Row("Mod", [VECTOR, ints(3, -3, 2, -2, 5)], lambda x, y: np.fmod(x, y), dtype="int32", span=(-9, 9), name="int"),
    Row("TruncateDiv", [VECTOR, ints(3, -3, 2, -2, 5)], lambda x, y: np.trunc(x / y), dtype="int32", span=(-9, 9)),
    Row("ClipByValue", [VECTOR, np.float32(-0.5), np.float32(0.7)], np.clip),
    Row("Cast", [VECTOR], lambda x: np.trunc(x), {"SrcT": FLOAT, "DstT": INT}),
    Row("Select", [np.array([True, False]), (2, 5), (2, 5)], lambda c, x, y: np.where(c[:, None], x, y), fixed=True),
    Row("SelectV2", [np.array([True, False, True, False, True]), VECTOR, VECTOR], np.where),
    Row("FakeQuantWithMinMaxVars", [VECTOR, np.float32(-1.3), np.float32(1.7)], formulas.fake_quant, tolerance=2e-5),
    Row("FakeQuantWithMinMaxArgs", [VECTOR], lambda x: formulas.fake_quant(x, -1.5, 1.5), {"min": -1.5, "max": 1.5}, tolerance=2e-5),
    Row(
        "FakeQuantWithMinMaxVarsPerChannel",
        [VECTOR, np.float32([-1.3, -1, -2, 0, 0]), np.float32([1.7, 1, 0, 1, 0])],
        lambda x, low, high: np.stack(
            [x[:, i] * 0 if low[i] == high[i] else formulas.fake_quant(x[:, i], low[i], high[i]) for i in range(5)], 1
        ),
        tolerance=2e-5,
    ),
    Row("IdentityN", [VECTOR, VECTOR], lambda x, y: (x, y), outputs=2),
    Row("PlaceholderWithDefault", [VECTOR], lambda x: x),
    Row("BiasAdd", [IMAGE, random("bias", 3)], np.add),
    Row("BiasAddV1", [VECTOR, random("bias", 5)], np.add),
    # convolutions
    Row("Conv2D", [IMAGE, W], formulas.conv, {"strides": [1, 1, 1, 1], "padding": "SAME"}),
    Row("Conv2D", [IMAGE, W], lambda x, w: formulas.conv(x, w, (2, 3)), {"strides": [1, 2, 3, 1], "padding": "SAME"}),
    Row(
        "Conv2D",
        [IMAGE, W],
        lambda x, w: formulas.conv(x, w, padding="VALID", dilations=(2, 3)),
        {"strides": [1, 1, 1, 1], "padding": "VALID", "dilations": [1, 2, 3, 1]},
    ),
    Row("Conv2D", [(2, 5, 6, 6), W], formulas.conv, {"strides": [1, 1, 1, 1], "padding": "SAME"}, name="grouped"),
    Row(
        "Conv3D",
        [(2, 4, 5, 6, 3), random("filter3", 1, 3, 2, 3, 4)],
        lambda x, w: np.stack([formulas.conv(x[:, d], w[0]) for d in range(4)], 1),
        {"strides": [1, 1, 1, 1, 1], "padding": "SAME"},
    ),
    Row("DepthwiseConv2dNative", [IMAGE, DW], formulas.depthwise, {"strides": [1, 1, 1, 1], "padding": "SAME"}),
    Row(
        "DepthwiseConv2dNative",
        [IMAGE, DW],
        lambda x, w: formulas.depthwise(x, w, (2, 2), "VALID"),
        {"strides": [1, 2, 2, 1], "padding": "VALID"},
    ),
    Row(
        "Conv2DBackpropInput",
        [ints(2, 7, 10, 4), TW, (2, 4, 5, 3)],
        lambda n, w, x: formulas.deconv(x, w, (7, 10)),
        {"strides": [1, 2, 2, 1], "padding": "SAME"},
        fixed=True,
    ),
    Row(
        "Conv2DBackpropInput",
        [ints(2, 10, 12, 4), TW, (2, 4, 5, 3)],
        lambda n, w, x: formulas.deconv(x, w, (10, 12), padding="VALID"),
        {"strides": [1, 2, 2, 1], "padding": "VALID"},
        fixed=True,
    ),
    Row(
        "Conv2DBackpropInput",
        [ints(7, 10), TW, (2, 4, 5, 3)],
        lambda n, w, x: formulas.deconv(x, w, (7, 10)),
        {"strides": [1, 2, 2, 1], "padding": "SAME"},
        name="two-sizes",
    ),
    Row(
        "DepthwiseConv2dNativeBackpropInput",
        [ints(2, 7, 10, 3), DW, (2, 4, 5, 6)],
        lambda n, w, x: formulas.depthwise_deconv(x, w, (7, 10)),
        {"strides": [1, 2, 2, 1], "padding": "SAME"},
        fixed=True,
    ),
    Row(
        "_FusedConv2D",
        [IMAGE, W, random("fused", 4)],
        lambda x, w, b: np.maximum(formulas.conv(x, w) + b, 0),
        {"strides": [1, 1, 1, 1], "padding": "SAME", "fused_ops": ["BiasAdd", "Relu"], "num_args": 1},
    ),
    Row(
        "_FusedConv2D",
        [IMAGE, random("filter", 3, 2, 3, 3), GAMMA, BETA, MEAN, VARIANCE],
        lambda x, w, *parts: np.clip(batch_norm(formulas.conv(x, w), *parts), 0, 6),
        {"strides": [1, 1, 1, 1], "padding": "SAME", "fused_ops": ["FusedBatchNorm", "Relu6"], "epsilon": 1e-3, "num_args": 4},
    ),
    Row(
        "_FusedDepthwiseConv2dNative",
        [IMAGE, DW, random("fused", 6)],
        lambda x, w, b: formulas.depthwise(x, w) + b,
        {"strides": [1, 1, 1, 1], "padding": "SAME", "fused_ops": ["BiasAdd"], "num_args": 1},
    ),
    Row(
        "_FusedMatMul",
        [VECTOR, random("dense", 5, 4), random("fused", 4)],
        lambda x, w, b: np.where(x @ w + b > 0, x @ w + b, 0.1 * (x @ w + b)),
        {"fused_ops": ["BiasAdd", "LeakyRelu"], "leakyrelu_alpha": 0.1, "num_args": 1},
    ),
    Row(
        "_FusedBatchNormEx",
        [IMAGE, GAMMA, BETA, MEAN, VARIANCE, IMAGE],
        lambda x, *parts: np.maximum(batch_norm(x, *parts[:4]) + parts[4], 0),
        {"epsilon": 1e-3, "is_training": False, "activation_mode": "Relu", "num_side_inputs": 1},
    ),
    # pools
    Row(
        "MaxPool",
        [(2, 4, 5, 6)],
        lambda x: x.reshape(-1, 4, 5, 2, 3).max(4),
        {"ksize": [1, 1, 1, 3], "strides": [1, 1, 1, 3], "padding": "VALID"},
        name="over-channels",
    ),
    Row("MaxPoolWithArgmax", [IMAGE], formulas.max_pool, {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}),
    Row("MaxPool", [IMAGE], formulas.max_pool, {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}, span=(-3, -1)),
    Row(
        "MaxPool",
        [IMAGE],
        lambda x: formulas.max_pool(x, (2, 3), (1, 2), "VALID"),
        {"ksize": [1, 2, 3, 1], "strides": [1, 1, 2, 1], "padding": "VALID"},
    ),
    Row("MaxPoolV2", [IMAGE, ints(1, 3, 3, 1), ints(1, 2, 2, 1)], lambda x, k, s: formulas.max_pool(x), {"padding": "SAME"}),
    Row(
        "MaxPool3D",
        [(2, 4, 5, 6, 3)],
        lambda x: np.stack([formulas.max_pool(x[:, d]) for d in range(4)], 1),
        {"ksize": [1, 1, 3, 3, 1], "strides": [1, 1, 2, 2, 1], "padding": "SAME"},
    ),
    Row("AvgPool", [IMAGE], formulas.average_pool, {"ksize": [1, 3, 3, 1], "strides": [1, 2, 2, 1], "padding": "SAME"}),
    Row(
        "AvgPool",
        [IMAGE],
        lambda x: formulas.average_pool(x, (2, 2), (1, 1)),
        {"ksize": [1, 2, 2, 1], "strides": [1, 1, 1, 1], "padding": "SAME"},
    ),
    Row(
        "AvgPool3D",
        [(2, 4, 5, 6, 3)],
        lambda x: np.stack([formulas.average_pool(x[:, d]) for d in range(4)], 1),
        {"ksize": [1, 1, 3, 3, 1], "strides": [1, 1, 2, 2, 1], "padding": "SAME"},
    ),
    # products
    Row("MatMul", [VECTOR, random("dense", 5, 4)], np.matmul),
    Row("MatMul", [VECTOR, random("dense", 4, 5)], lambda x, w: x @ w.T, {"transpose_b": True}),
    Row("MatMul", [(4, 3), (4, 5)], lambda a, b: a.T @ b, {"transpose_a": True}, fixed=True),
    *(Row(op, [(2, 3, 4), (2, 4, 5)], np.matmul) for op in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")),
    Row("BatchMatMulV2", [(2, 4, 3), (2, 5, 4)], lambda a, b: a.swapaxes(1, 2) @ b.swapaxes(1, 2), {"adj_x": True, "adj_y": True}),
    Row("Einsum", [(2, 3, 4), random("einsum", 4, 5)], lambda a, b: np.einsum("bij,jk->bik", a, b), {"equation": "bij,jk->bik"}),
    # normalization
    *(
        Row(op, [IMAGE, GAMMA, BETA, MEAN, VARIANCE], batch_norm, {"epsilon": 1e-3, "is_training": False})
        for op in ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
    ),
    Row(
        "FusedBatchNorm",
        [IMAGE, GAMMA, BETA, MEAN, VARIANCE],
        lambda *a: batch_norm(*a, 1e-4),
        {"is_training": False},
        name="epsilon-absent",
    ),
    Row(
        "BatchNormWithGlobalNormalization",
        [IMAGE, MEAN, VARIANCE, BETA, GAMMA],
        lambda x, m, v, b, g: batch_norm(x, g, b, m, v, 0.01),
        {"variance_epsilon": 0.01, "scale_after_normalization": True},
    ),
    Row(
        "BatchNormWithGlobalNormalization",
        [IMAGE, MEAN, VARIANCE, BETA, GAMMA],
        lambda x, m, v, b, g: batch_norm(x, 1, b, m, v, 0.01),
        {"variance_epsilon": 0.01, "scale_after_normalization": False},
    ),
    Row("LRN", [(2, 4, 5, 9)], lambda x: formulas.lrn(x, 2, 0.5, 0.3, 0.75), {"depth_radius": 2, "bias": 0.5, "alpha": 0.3, "beta": 0.75}),
    Row("LRN", [(2, 4, 5, 13)], lambda x: formulas.lrn(x, 5, 1, 1, 0.5), name="defaults"),
    Row("L2Loss", [VECTOR], lambda x: np.sum(np.square(x)) / 2),
    # reductions: axes are those of (N, H, W, C)
    *(Row(op, [IMAGE, ints(1, 2)], lambda x, a, f=f: f(x, (1, 2))) for op, f in REDUCTIONS.items()),
    *(Row(op, [IMAGE, scalar(-1)], lambda x, a, f=f: f(x, 3, keepdims=True), {"keep_dims": True}) for op, f in REDUCTIONS.items()),
    Row("Mean", [IMAGE, ints(2, 3)], lambda x, a: x.mean((2, 3)), name="width-and-channels"),
    Row("Sum", [IMAGE, scalar(1)], lambda x, a: x.sum(1), name="height"),
    Row("Mean", [VECTOR, np.empty(0, np.int32)], lambda x, a: x, name="nothing"),
    Row("All", [(2, 3), scalar(1)], lambda x, a: x.all(1), dtype="bool"),
    Row("Any", [(2, 3), scalar(1)], lambda x, a: x.any(1), dtype="bool"),
    Row("ArgMax", [IMAGE, scalar(3)], lambda x, a: x.argmax(3)),
    Row("ArgMin", [IMAGE, scalar(1)], lambda x, a: x.argmin(1)),
    *(
        Row(op, [(3, 9), scalar(4)], lambda x, k: (-np.sort(-x, 1)[:, :4], np.argsort(-x, 1, kind="stable")[:, :4]), outputs=2)
        for op in ("TopKV2",)
    ),
    Row("TopK", [(3, 9)], lambda x: (-np.sort(-x, 1)[:, :4], np.argsort(-x, 1, kind="stable")[:, :4]), {"k": 4}, outputs=2),
    Row("Cumsum", [VECTOR, scalar(1)], lambda x, a: np.cumsum(x, 1)),
    Row("Cumsum", [VECTOR, scalar(1)], lambda x, a: np.cumsum(x[:, ::-1], 1)[:, ::-1] - x, {"exclusive": True, "reverse": True}),
    # resizing
    Row("ResizeBilinear", [IMAGE, ints(10, 13)], lambda x, s: formulas.bilinear(x, (10, 13))),
    Row("ResizeBilinear", [IMAGE, ints(4, 13)], lambda x, s: formulas.bilinear(x, (4, 13), align=True), {"align_corners": True}),
    Row("ResizeBilinear", [IMAGE, ints(14, 3)], lambda x, s: formulas.bilinear(x, (14, 3), half=True), {"half_pixel_centers": True}),
    Row("ResizeNearestNeighbor", [IMAGE, ints(14, 18)], lambda x, s: formulas.nearest(x, (14, 18))),
    Row("ResizeNearestNeighbor", [IMAGE, ints(5, 11)], lambda x, s: formulas.nearest(x, (5, 11)), name="odd"),
    Row("ResizeBicubic", [IMAGE, ints(9, 4)], lambda x, s: formulas.bicubic(x, (9, 4))),
    # shapes
    Row("Reshape", [IMAGE, ints(-1, 126)], lambda x, s: x.reshape(-1, 126), name="flatten"),
    Row("Reshape", [IMAGE, ints(-1, 7, 18)], lambda x, s: x.reshape(-1, 7, 18), name="width-and-channels"),
    Row("Reshape", [(2, 4, 5, 6), ints(-1, 4, 5, 3, 2)], lambda x, s: x.reshape(-1, 4, 5, 3, 2), name="split-channels"),
    Row("Reshape", [VECTOR, ints(-1, 5, 1)], lambda x, s: x[:, :, None], name="one-more"),
    Row("Transpose", [IMAGE, ints(0, 3, 1, 2)], lambda x, p: x.transpose(0, 3, 1, 2)),
    Row("Transpose", [(2, 3, 4), ints(1, 2, 0)], lambda x, p: x.transpose(1, 2, 0), name="three"),
    Row("Shape", [VECTOR], lambda x: np.array(x.shape)),
    Row("ShapeN", [VECTOR, (3, 2)], lambda x, y: (np.array(x.shape), np.array(y.shape)), outputs=2),
    Row("Size", [VECTOR], np.size),
    Row("Squeeze", [(2, 1, 1, 3)], lambda x: x.reshape(-1, 3), {"squeeze_dims": [1, 2]}),
    Row("ExpandDims", [IMAGE, scalar(1)], lambda x, a: x[:, None]),
    Row("ExpandDims", [VECTOR, scalar(-1)], lambda x, a: x[..., None], name="last"),
    Row("Pad", [IMAGE, np.array([[0, 0], [1, 2], [0, 1], [2, 0]], np.int32)], lambda x, p: np.pad(x, p)),
    Row(
        "PadV2",
        [IMAGE, np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32), np.float32(-1.5)],
        lambda x, p, v: np.pad(x, p, constant_values=v),
    ),
    Row(
        "MirrorPad",
        [IMAGE, np.array([[0, 0], [1, 2], [3, 1], [0, 0]], np.int32)],
        lambda x, p: np.pad(x, p, "reflect"),
        {"mode": "REFLECT"},
    ),
    Row(
        "MirrorPad",
        [IMAGE, np.array([[0, 0], [1, 2], [3, 1], [0, 0]], np.int32)],
        lambda x, p: np.pad(x, p, "symmetric"),
        {"mode": "SYMMETRIC"},
    ),
    Row("DepthToSpace", [(2, 3, 4, 12)], lambda x: formulas.depth_to_space(x, 2), {"block_size": 2}),
    Row("SpaceToDepth", [(2, 4, 6, 3)], lambda x: formulas.space_to_depth(x, 2), {"block_size": 2}),
    # joining and cutting
    Row("ConcatV2", [IMAGE, IMAGE, scalar(3)], lambda x, y, a: np.concatenate([x, y], 3)),
    Row("ConcatV2", [VECTOR, VECTOR, scalar(-1)], lambda x, y, a: np.concatenate([x, y], 1), name="last"),
    Row("Concat", [scalar(1), IMAGE, IMAGE], lambda a, x, y: np.concatenate([x, y], 1)),
    Row("Split", [scalar(3), (2, 3, 4, 6)], lambda a, x: tuple(np.split(x, 3, 3)), {"num_split": 3}, outputs=3),
    Row("SplitV", [(2, 9), ints(2, -1, 3), scalar(1)], lambda x, s, a: tuple(np.split(x, [2, 6], 1)), {"num_split": 3}, outputs=3),
    Row("Pack", [VECTOR, VECTOR], lambda x, y: np.stack([x, y], 1), {"axis": 1}),
    Row("Unpack", [VECTOR], lambda x: tuple(x.T), {"axis": 1, "num": 5}, outputs=5),
    Row("Tile", [VECTOR, ints(1, 3)], lambda x, m: np.tile(x, (1, 3))),
    Row("BroadcastTo", [(1, 5), ints(4, 5)], lambda x, s: np.broadcast_to(x, (4, 5)), fixed=True),
    # picking
    Row(
        "StridedSlice",
        [IMAGE, ints(0, 1, 0, 2), ints(0, 6, 0, -4), ints(1, 2, 1, -1)],
        lambda x, b, e, s: x[:, 1:6:2, :, ::-1],
        {"begin_mask": 5, "end_mask": 13},
    ),
    Row(
        "StridedSlice",
        [VECTOR, ints(0, -1), ints(0, 0), ints(1, 1)],
        lambda x, b, e, s: x[:, -1],
        {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2},
    ),
    Row(
        "StridedSlice",
        [VECTOR, ints(0, 0), ints(0, 0), ints(1, 1)],
        lambda x, b, e, s: x[:, :, None],
        {"ellipsis_mask": 1, "new_axis_mask": 2},
    ),
    Row("Slice", [IMAGE, ints(0, 1, 2, 0), ints(-1, 4, 3, 2)], lambda x, b, s: x[:, 1:5, 2:5, :2]),
    Row("Gather", [random("table", 6, 4), (3,)], lambda t, i: t[i.astype(int)], dtype="int32", span=(0, 6)),
    Row("GatherV2", [IMAGE, ints(2, 0), scalar(3)], lambda x, i, a: x[..., [2, 0]]),
    Row("GatherNd", [VECTOR, np.array([[0, 1], [2, 4]], np.int32)], lambda x, i: x[[0, 2], [1, 4]]),
    Row(
        "OneHot",
        [(4,), scalar(3), np.float32(2), np.float32(-1)],
        lambda i, d, on, off: np.where(i[:, None] == np.arange(3), on, off),
        dtype="int32",
        span=(-1, 5),
    ),
    Row("ReverseV2", [IMAGE, ints(3)], lambda x, a: x[..., ::-1]),
    Row(
        "ExtractImagePatches",
        [(2, 6, 8, 3)],
        lambda x: x.reshape(-1, 3, 2, 4, 2, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 3, 4, 12),
        {"ksizes": [1, 2, 2, 1], "strides": [1, 2, 2, 1], "rates": [1, 1, 1, 1], "padding": "VALID"},
    ),
]

EDGE = {"ksizes": [1, 3, 2, 1], "strides": [1, 2, 3, 1], "rates": [1, 2, 1, 1], "padding": "SAME"}
ROWS += [
    Row(
        "ExtractImagePatches",
        [IMAGE],
        lambda x: formulas.windows(x, (3, 2), (2, 3), "SAME", 0.0, (2, 1)).reshape(-1, 4, 2, 18),
        EDGE,
        name="same-with-gaps",
    ),
]

ELSEWHERE = {
    # constants alone, sizes, random numbers, pairs of operators and variables: tests/readers/tensorflow/test_lowering.py
    "Fill",
    "Range",
    "LinSpace",
    "Dequantize",
    "Bitcast",
    "BroadcastArgs",
    "Rank",
    "SpaceToBatch",
    "BatchToSpace",
    "SpaceToBatchND",
    "BatchToSpaceND",
    "ResourceGather",
    "RandomUniform",
    "RandomStandardNormal",
    "TruncatedNormal",
    "RandomUniformInt",
    "Multinomial",
    "RandomShuffle",
    "StatelessRandomUniform",
    "StatelessRandomUniformV2",
    "StatelessRandomNormal",
    "RandomGamma",
}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_operator(row, tmp_path):
    check(row, tmp_path)


def test_every_operator_has_a_row():
    rows = {row.op for row in ROWS}
    assert {op for op in lowers if lowers.is_built_in(op)} == rows | ELSEWHERE
    assert not rows & ELSEWHERE
    assert len({row.id for row in ROWS}) == len(ROWS)
