"""Each module against a formula in numpy, written from Torch7's sources; run in PyTorch and in onnxruntime."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.readers.torch7.lua import Object, Storage, Tensor, module, sizes
from tests.readers.torch7.running import check

R = np.random.default_rng(7)


def rand(*shape: int) -> np.ndarray:
    return R.standard_normal(shape).astype(np.float32)


@dataclass
class Case:
    name: str
    made: Any
    x: Any
    expect: Callable[..., Any]
    tolerance: float = 2e-5

    def expected(self) -> Any:
        return self.expect(self.x)


X2, X3, X4 = rand(3, 7), rand(3, 4, 5), rand(2, 3, 5, 6)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def soft(x: np.ndarray, axis: Any) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


ACTIVATIONS = [
    Case("ReLU", module("nn.ReLU", threshold=0, val=0), X2, lambda x: np.maximum(x, 0)),
    Case("Threshold", module("nn.Threshold", threshold=0.5, val=-2, inplace=False), X2, lambda x: np.where(x > 0.5, x, -2)),
    Case("Threshold_equal", module("nn.Threshold", threshold=0.5, val=7), np.float32([[0.5, 0.6]]), lambda x: np.float32([[7, 0.6]])),
    Case("ReLU6", module("nn.ReLU6"), X2 * 5, lambda x: np.clip(x, 0, 6)),
    Case("ClippedReLU", module("cudnn.ClippedReLU", ceiling=0.7), X2, lambda x: np.clip(x, 0, 0.7)),
    Case("Clamp", module("nn.Clamp", min_val=-0.2, max_val=0.9), X2, lambda x: np.clip(x, -0.2, 0.9)),
    Case("HardTanh", module("nn.HardTanh", min_val=-1, max_val=1), X2 * 2, lambda x: np.clip(x, -1, 1)),
    Case("LeakyReLU", module("nn.LeakyReLU", negval=0.3), X2, lambda x: np.where(x > 0, x, 0.3 * x)),
    Case("RReLU", module("nn.RReLU", lower=0.1, upper=0.4, train=True), X2, lambda x: np.where(x >= 0, x, 0.25 * x)),
    Case("ELU", module("nn.ELU", alpha=0.7), X2, lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1))),
    Case("PReLU_one", module("nn.PReLU", nOutputPlane=0, weight=np.float32([0.3])), X4, lambda x: np.where(x > 0, x, 0.3 * x)),
    Case(
        "PReLU_4d",
        module("nn.PReLU", nOutputPlane=3, weight=np.float32([0.1, -0.2, 0.3])),
        X4,
        lambda x: np.where(x > 0, x, np.float32([0.1, -0.2, 0.3]).reshape(3, 1, 1) * x),
    ),
    Case(
        "PReLU_1d",
        module("nn.PReLU", nOutputPlane=4, weight=np.float32([0.1, -0.2, 0.3, 2])),
        rand(4),
        lambda x: np.where(x > 0, x, np.float32([0.1, -0.2, 0.3, 2]) * x),
    ),
    Case("Sigmoid", module("nn.Sigmoid"), X2, sigmoid),
    Case("Tanh", module("nn.Tanh"), X2, np.tanh),
    Case("SoftSign", module("nn.SoftSign"), X2, lambda x: x / (1 + abs(x))),
    Case("Abs", module("nn.Abs"), X2, abs),
    Case("Exp", module("nn.Exp"), X2, np.exp),
    Case("Log", module("nn.Log"), abs(X2) + 0.1, np.log),
    Case("Square", module("nn.Square"), X2, np.square),
    Case("Sqrt_eps", module("nn.Sqrt", eps=0.3), abs(X2), np.sqrt),
    Case("Power_cube", module("nn.Power", pow=3), X2, lambda x: x**3),
    Case("LogSigmoid", module("nn.LogSigmoid"), X2 * 4, lambda x: -np.log(1 + np.exp(-x.astype("f8")))),
    Case("LogSigmoid_large", module("nn.LogSigmoid"), X2 * 200, lambda x: -np.logaddexp(0, -x.astype("f8"))),
    Case(
        "SoftPlus_beta",
        module("nn.SoftPlus", beta=3, threshold=20),
        X2 * 8,
        lambda x: np.where(3 * x > 20, x, np.log1p(np.exp(3 * x.astype("f8"))) / 3),
    ),
    Case("SoftPlus_threshold", module("nn.SoftPlus", beta=1, threshold=1), X2, lambda x: np.where(x > 1, x, np.log1p(np.exp(x)))),
    Case(
        "SoftShrink", module("nn.SoftShrink", **{"lambda": 0.4}), X2, lambda x: np.where(x > 0.4, x - 0.4, np.where(x < -0.4, x + 0.4, 0))
    ),
    Case("SoftShrink_negative", module("nn.SoftShrink", **{"lambda": -0.4}), X2, lambda x: np.where(x > -0.4, x + 0.4, x - 0.4)),
    Case("HardShrink", module("nn.HardShrink", **{"lambda": 0.4}), X2, lambda x: np.where(abs(x) > 0.4, x, 0)),
    Case("TanhShrink", module("nn.TanhShrink"), X2, lambda x: x - np.tanh(x)),
    Case("GatedLinearUnit_4d", module("nn.GatedLinearUnit", dim=4), X4, lambda x: x[..., :3] * sigmoid(x[..., 3:])),
    Case("GatedLinearUnit_default", module("nn.GatedLinearUnit"), rand(3, 4), lambda x: x[:, :2] * sigmoid(x[:, 2:])),
    Case("CReLU_4d", module("nn.CReLU", nInputDims=3), X4, lambda x: np.maximum(np.concatenate([x, -x], 1), 0)),
    Case("CReLU_3d", module("nn.CReLU", nInputDims=3), X4[0], lambda x: np.maximum(np.concatenate([x, -x], 0), 0)),
    Case("SoftMax_1d", module("nn.SoftMax"), X2[0], lambda x: soft(x, 0)),
    Case("SoftMax_2d", module("nn.SoftMax"), X2, lambda x: soft(x, 1)),
    Case("SoftMax_3d", module("nn.SoftMax"), X3, lambda x: soft(x, 0)),
    Case("SoftMax_4d", module("nn.SoftMax"), X4, lambda x: soft(x, 1)),
    Case("LogSoftMax_3d", module("nn.LogSoftMax"), X3, lambda x: np.log(soft(x, 0))),
    Case("SoftMin_3d", module("nn.SoftMin"), X3, lambda x: soft(-x, 0)),
    Case("SpatialSoftMax_3d", module("nn.SpatialSoftMax"), X3, lambda x: soft(x, 0)),
    Case("cudnn.SoftMax_4d", module("cudnn.SoftMax"), X4, lambda x: soft(x.reshape(2, -1), 1).reshape(x.shape)),
    Case("cudnn.SoftMax_3d", module("cudnn.SoftMax"), X3, lambda x: soft(x.reshape(1, -1), 1).reshape(x.shape)),
    Case("cudnn.LogSoftMax_2d", module("cudnn.LogSoftMax"), X2, lambda x: np.log(soft(x, 1))),
    Case("cudnn.SpatialSoftMax_4d", module("cudnn.SpatialSoftMax", mode="CUDNN_SOFTMAX_MODE_CHANNEL"), X4, lambda x: soft(x, 1)),
    Case("Dropout_v1", module("nn.Dropout", p=0.4), X2, lambda x: x * 0.6),
    Case("Dropout_v2", module("nn.Dropout", p=0.4, v2=True), X2, lambda x: x),
    Case("VolumetricDropout", module("nn.VolumetricDropout", p=0.4), X4, lambda x: x * 0.6),
    Case("WhiteNoise", module("nn.WhiteNoise", mean=0.5, std=3), X2, lambda x: x + 0.5),
]

W75, B5 = rand(5, 7), rand(5)
COS = lambda x, w: (x @ w.T) / ((np.linalg.norm(x, axis=-1, keepdims=True) + 1e-12) * (np.linalg.norm(w, axis=1) + 1e-12))  # noqa: E731
V, G = rand(5, 7), rand(5, 1)
E45, D45 = rand(7, 5), rand(7, 5)
BW, BB = rand(4, 7, 3), rand(4)
TABLE = rand(9, 4)


def renormed(table: np.ndarray, limit: float, p: float) -> np.ndarray:
    norm = (abs(table) ** p).sum(1, keepdims=True) ** (1 / p)
    return np.where(norm > limit, table * limit / (norm + 1e-7), table)


LINEAR = [
    Case("Linear", module("nn.Linear", weight=W75, bias=B5), X2, lambda x: x @ W75.T + B5),
    Case("Linear_1d", module("nn.Linear", weight=W75, bias=B5), X2[0], lambda x: x @ W75.T + B5),
    Case("Linear_double", module("nn.Linear", weight=W75.astype("f8"), bias=B5.astype("f8")), X2, lambda x: x @ W75.T + B5),
    Case(
        "LinearWeightNorm_stale",
        module("nn.LinearWeightNorm", weight=np.zeros((5, 7), "f4"), v=V, g=G, bias=B5, eps=1e-16),
        X2,
        lambda x: x @ (V * G / np.linalg.norm(V, axis=1, keepdims=True)).T + B5,
    ),
    Case(
        "WeightNorm_linear",
        module(
            "nn.WeightNorm",
            module("nn.Linear", bias=B5),
            v=V,
            g=G[:, 0],
            outputDim=1,
            viewIn=sizes(5, 7),
            viewOut=sizes(5, 7),
            weightSize=sizes(5, 7),
        ),
        X2,
        lambda x: x @ (V * G / np.sqrt((V * V).sum(1, keepdims=True) + 1e-4)).T + B5,
    ),
    Case(
        "Bilinear", module("nn.Bilinear", weight=BW, bias=BB), [X2, rand(3, 3)], lambda x: np.einsum("ni,kij,nj->nk", x[0], BW, x[1]) + BB
    ),
    Case(
        "Bilinear_swapped_sizes",
        module("nn.Bilinear", weight=rand(1, 3, 7) * 0 + 1),
        [rand(2, 3), rand(2, 7)],
        lambda x: (x[0].sum(1) * x[1].sum(1))[:, None],
    ),
    Case("Cosine", module("nn.Cosine", weight=W75), X2, lambda x: COS(x, W75)),
    Case("Cosine_1d", module("nn.Cosine", weight=W75), X2[0], lambda x: COS(x, W75)),
    Case("Euclidean_1d", module("nn.Euclidean", weight=E45), X2[0], lambda x: np.linalg.norm(x[:, None] - E45, axis=0)),
    Case("Euclidean", module("nn.Euclidean", weight=E45), X2, lambda x: np.linalg.norm(x[:, :, None] - E45, axis=1)),
    Case(
        "WeightedEuclidean",
        module("nn.WeightedEuclidean", weight=E45, diagCov=D45),
        X2,
        lambda x: np.linalg.norm((x[:, :, None] - E45) * D45, axis=1),
    ),
    Case(
        "CosineDistance_1d",
        module("nn.CosineDistance"),
        [X2[0], X2[1]],
        lambda x: np.array([x[0] @ x[1] / math.sqrt((x[0] @ x[0] + 1e-12) * (x[1] @ x[1] + 1e-12))]),
    ),
    Case("DotProduct", module("nn.DotProduct"), [X2, X2[::-1].copy()], lambda x: (x[0] * x[1]).sum(1)),
    Case(
        "PairwiseDistance_3",
        module("nn.PairwiseDistance", norm=3),
        [X2, X2[::-1].copy()],
        lambda x: (abs(x[0] - x[1]) ** 3).sum(1) ** (1 / 3),
    ),
    Case("PairwiseDistance_1d", module("nn.PairwiseDistance", norm=2), [X2[0], X2[1]], lambda x: np.array([np.linalg.norm(x[0] - x[1])])),
    Case(
        "MM_transposed", module("nn.MM", transA=True, transB=True), [rand(2, 4, 3), rand(2, 5, 4)], lambda x: np.einsum("bki,bjk->bij", *x)
    ),
    Case("MM_2d", module("nn.MM"), [rand(4, 3), rand(3, 4)], lambda x: x[0] @ x[1]),
    Case("MV_trans_one", module("nn.MV", trans=True), [rand(3, 2), rand(3)], lambda x: x[0].T @ x[1]),
    Case("MV_trans", module("nn.MV", trans=True), [rand(2, 4, 3), rand(2, 4)], lambda x: np.einsum("bki,bk->bi", *x)),
    Case("LookupTable", module("nn.LookupTable", weight=TABLE, paddingValue=0), np.array([[1, 9], [4, 2]]), lambda x: TABLE[x - 1]),
    Case(
        "LookupTable_maxNorm",
        module("nn.LookupTable", weight=TABLE, maxNorm=1, normType=1),
        np.array([1, 9, 4]),
        lambda x: renormed(TABLE, 1, 1)[x - 1],
    ),
    Case("OneHot", module("nn.OneHot", outputSize=5), np.array([[1, 5], [3, 2]]), lambda x: np.eye(5)[x - 1]),
    Case("Index_2", module("nn.Index", dimension=2), [X3, np.array([4, 1, 1])], lambda x: x[0][:, x[1] - 1]),
    Case("MaskedSelect", module("nn.MaskedSelect"), [X2, (X2 > 0.3).astype("f4")], lambda x: x[0][x[1] != 0]),
    Case(
        "PartialLinear",
        module(
            "nn.PartialLinear",
            network=module(
                "nn.Sequential",
                module("nn.ParallelTable", module("nn.Identity"), module("nn.LookupTable", weight=W75)),
                module("nn.MM", transA=False, transB=True),
            ),
            bias=B5[None],
            partition=np.float32([4, 2]),
        ),
        X2,
        lambda x: x @ W75[[3, 1]].T + B5[[3, 1]],
    ),
    Case("Add_one", module("nn.Add", bias=np.float32([2])), rand(5), lambda x: x + 2),
    Case("Add", module("nn.Add", bias=rand(20) * 0 + np.arange(20, dtype="f4")), X3, lambda x: x + np.arange(20).reshape(4, 5)),
    Case("Add_scalar", module("nn.Add", bias=np.float32([2.5]), scalar=True), X3, lambda x: x + 2.5),
    Case("Mul", module("nn.Mul", weight=np.float32([2.5])), X3, lambda x: x * 2.5),
    Case(
        "CMul_per_sample",
        module("nn.CMul", weight=np.arange(20, dtype="f4"), size=sizes(20)),
        X3,
        lambda x: x * np.arange(20).reshape(4, 5),
    ),
    Case(
        "CMul_same_rank", module("nn.CMul", weight=np.arange(4, dtype="f4").reshape(1, 4, 1)), X3, lambda x: x * np.arange(4).reshape(4, 1)
    ),
    Case("CMul_one", module("nn.CMul", weight=np.float32([3])), X3, lambda x: 3 * x),
    Case("CMul_whole", module("nn.CMul", weight=np.arange(60, dtype="f4")), X3, lambda x: x * np.arange(60).reshape(3, 4, 5)),
    Case("CAdd_batch", module("nn.CAdd", bias=np.arange(3, dtype="f4").reshape(3, 1, 1)), X3, lambda x: x + np.arange(3).reshape(3, 1, 1)),
    Case("AddConstant_vector", module("nn.AddConstant", constant_scalar=np.arange(7, dtype="f4")), X2, lambda x: x + np.arange(7)),
    Case("Constant", module("nn.Constant", value=np.arange(4, dtype="f4"), nInputDim=1), X2, lambda x: np.tile(np.arange(4), (3, 1))),
    Case("Constant_plain", module("nn.Constant", value=np.arange(4, dtype="f4")), X2, lambda x: np.arange(4)),
]

PAIRS = np.float32([[[1, 0.5], [7, -2], [7, 1]], [[3, 1], [2, 2], [1, 0]]])
NORMAL = np.concatenate([abs(rand(6, 1)) + 0.5, rand(6, 3), rand(6, 2)], 1)


def spread(pairs: np.ndarray) -> np.ndarray:
    dense = np.zeros(7)
    for key, value in pairs:
        dense[int(key) - 1] += value
    return dense


def index_linear(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    rows = NORMAL[keys - 1]
    scaled = np.where(abs(values) > rows[:, 0], np.sign(values), values * rows[:, 1]) + rows[:, 3]
    return (scaled[:, None] * rows[:, 4:]).sum(0) + B5[:2]


SPARSE = [
    Case("SparseLinear", module("nn.SparseLinear", weight=W75, bias=B5), PAIRS[0], lambda x: spread(x) @ W75.T + B5),
    Case(
        "SparseLinear_batch", module("nn.SparseLinear", weight=W75, bias=B5), PAIRS, lambda x: np.stack([spread(p) for p in x]) @ W75.T + B5
    ),
    Case(
        "SparseLinear_table",
        module("nn.SparseLinear", weight=W75, bias=B5),
        [PAIRS[0], PAIRS[1, :2]],
        lambda x: np.stack([spread(p) for p in x]) @ W75.T + B5,
    ),
    Case(
        "IndexLinear",
        module("nn.IndexLinear", weight=E45, bias=B5, offset=-1, normalize=0),
        [np.array([2, 7]), np.float32([0.5, 3])],
        lambda x: x[1] @ E45[x[0] - 1] + B5,
    ),
    Case(
        "IndexLinear_normalized",
        module("nn.IndexLinear", weight=NORMAL, bias=B5[:2], offset=-1, normalize=4),
        [[np.array([2, 6]), np.array([1])], [np.float32([0.2, -9]), np.float32([0.5])]],
        lambda x: np.stack([index_linear(k, v) for k, v in zip(*x, strict=True)]),
    ),
]

A34, A26 = rand(3, 4), rand(2, 6)
TABLES = [
    Case("CAddTable_flat", module("nn.CAddTable"), [A26, A34], lambda x: x[0] + x[1].reshape(2, 6)),
    Case("CAddTable_never_broadcasts", module("nn.CSubTable"), [rand(4, 1, 2), rand(1, 4, 2)], lambda x: x[0] - x[1].reshape(4, 1, 2)),
    Case("CMulTable", module("nn.CMulTable"), [A34, A34 + 1, A34 - 1], lambda x: x[0] * x[1] * x[2]),
    Case("CDivTable", module("nn.CDivTable"), [A34, A34 + 9], lambda x: x[0] / x[1]),
    Case("CMaxTable", module("nn.CMaxTable"), [A34, -A34], lambda x: np.maximum(*x)),
    Case("CMinTable", module("nn.CMinTable"), [A34, -A34, A34 * 0 - 0.1], lambda x: np.minimum(np.minimum(x[0], x[1]), x[2])),
    Case("CAddTensorTable", module("nn.CAddTensorTable"), [A34, [A34, -A34]], lambda x: [x[0] + x[1][0], x[0] + x[1][1]]),
    Case("JoinTable_batch", module("nn.JoinTable", dimension=1, nInputDims=1), [A34, rand(3, 2)], lambda x: np.concatenate(x, 1)),
    Case("SplitTable_batch", module("nn.SplitTable", dimension=1, nInputDims=2), X3, lambda x: [x[:, i] for i in range(4)]),
    Case("NarrowTable", module("nn.NarrowTable", offset=2, length=2), [A34, A26, X2], lambda x: x[1:]),
    Case("FlattenTable", module("nn.FlattenTable"), [A34, [A26, [X2]]], lambda x: [x[0], x[1][0], x[1][1][0]]),
    Case("ZipTable", module("nn.ZipTable"), [[A34, A26], [X2, X3]], lambda x: [[x[0][0], x[1][0]], [x[0][1], x[1][1]]]),
    Case("ZipTableOneToMany", module("nn.ZipTableOneToMany"), [A34, [X2, X3]], lambda x: [[x[0], x[1][0]], [x[0], x[1][1]]]),
    Case("MixtureTable_1d", module("nn.MixtureTable"), [rand(2), [rand(4), rand(4)]], lambda x: x[0][0] * x[1][0] + x[0][1] * x[1][1]),
    Case("MixtureTable_tensor", module("nn.MixtureTable", dim=2), [rand(3, 2), rand(3, 2, 4)], lambda x: np.einsum("ne,nef->nf", *x)),
    Case(
        "Parallel",
        module("nn.Parallel", module("nn.Abs"), module("nn.Square"), inputDimension=2, outputDimension=1),
        rand(3, 2),
        lambda x: np.concatenate([abs(x[:, 0]), x[:, 1] ** 2]),
    ),
    Case(
        "Concat_batch",
        module("nn.Concat", module("nn.Abs"), module("nn.Square"), dimension=1),
        A34,
        lambda x: np.concatenate([abs(x), x * x]),
    ),
    Case(
        "DepthConcat",
        module(
            "nn.DepthConcat", module("nn.Identity"), module("nn.SpatialZeroPadding", pad_l=-1, pad_r=-2, pad_t=0, pad_b=-1), dimension=2
        ),
        X4,
        lambda x: np.concatenate([x, np.pad(x[:, :, :-1, 1:-2], [(0, 0), (0, 0), (0, 1), (1, 2)])], 1),
    ),
    Case(
        "JoinTable_ranks",
        module("nn.JoinTable", dimension=2),
        [rand(2, 3, 1), rand(2, 4)],
        lambda x: np.concatenate([x[0], x[1][:, :, None]], 1),
    ),
    Case(
        "MapTable",
        module("nn.MapTable", module("nn.Linear", weight=W75, bias=B5)),
        [X2, X2 * 2, X2 - 1],
        lambda x: [v @ W75.T + B5 for v in x],
    ),
    Case(
        "Bottle_out",
        module("nn.Bottle", module("nn.Linear", weight=W75, bias=B5), nInputDim=2, nOutputDim=2),
        rand(2, 3, 7),
        lambda x: x @ W75.T + B5,
    ),
    Case(
        "Bottle_first_changed",
        module("nn.Bottle", module("nn.View", size=[-1, 10], numElements=10), nInputDim=3, nOutputDim=2),
        rand(2, 3, 4, 5),
        lambda x: x.reshape(2, 6, 10),
    ),
    Case(
        "Bottle_unneeded",
        module("nn.Bottle", module("nn.Linear", weight=W75, bias=B5), nInputDim=2, nOutputDim=2),
        X2,
        lambda x: x @ W75.T + B5,
    ),
    Case("w2nn.LeakyReLU", module("w2nn.LeakyReLU", negative_scale=0.1), X2, lambda x: np.where(x > 0, x, 0.1 * x)),
    Case("w2nn.ScaleTable", module("w2nn.ScaleTable"), [X4, rand(2, 3, 1, 1)], lambda x: x[0] * x[1]),
    Case("w2nn.AuxiliaryLossTable", module("w2nn.AuxiliaryLossTable", i=2, train=True), [X2, X3], lambda x: x[1]),
    Case("GramMatrix", module("nn.GramMatrix", normalize=True), X4, lambda x: np.einsum("nchw,ndhw->ncd", x, x) / 90),
]


def view(size: Any, dims: Any = None) -> Object:
    return module("nn.View", size=sizes(*size), numElements=math.prod(n for n in size if n > 0), numInputDims=dims)


SHAPES = [
    Case("View", view([20]), X3, lambda x: x.reshape(3, 20)),
    Case("View_one_sample", view([20]), X3[:1], lambda x: x.reshape(20)),
    Case("View_one_sample_dims", view([20], 2), X3[:1], lambda x: x.reshape(1, 20)),
    Case("View_all", view([-1]), X3, lambda x: x.reshape(60)),
    Case("View_all_dims", view([-1], 2), X3, lambda x: x.reshape(3, 20)),
    Case("View_merge_batch", view([5]), X3, lambda x: x.reshape(12, 5)),
    Case("View_whole", view([3, 20]), X3, lambda x: x.reshape(3, 20)),
    Case("View_infer_dims", view([2, -1], 2), X3, lambda x: x.reshape(3, 2, 10)),
    Case("View_sample", view([20], 2), X3[0], lambda x: x.reshape(20)),
    Case("View_half_sample", view([10], 2), X3, lambda x: x.reshape(6, 10)),
    Case("View_1_n", view([1, 20], 2), X3, lambda x: x.reshape(3, 1, 20)),
    Case("Reshape", module("nn.Reshape", size=sizes(5, 4), nelement=20), X3, lambda x: x.reshape(3, 5, 4)),
    Case("Reshape_whole", module("nn.Reshape", size=sizes(5, 12), nelement=60), X3, lambda x: x.reshape(5, 12)),
    Case("Reshape_batchMode", module("nn.Reshape", size=sizes(20), batchMode=True), X3[:1], lambda x: x.reshape(1, 20)),
    Case("Reshape_noBatch", module("nn.Reshape", size=sizes(20), batchMode=False), X3[:1], lambda x: x.reshape(20)),
    Case("Collapse", module("nn.Collapse", nInputDim=2), X3, lambda x: x.reshape(3, 20)),
    Case("Collapse_whole", module("nn.Collapse", nInputDim=3), X3, lambda x: x.reshape(60)),
    Case("Squeeze_batch_of_one", module("nn.Squeeze", numInputDims=3), rand(1, 1, 3, 1), lambda x: x.reshape(1, 3)),
    Case("Squeeze_dim", module("nn.Squeeze", dim=2, numInputDims=3), rand(2, 3, 1, 4), lambda x: x.reshape(2, 3, 4)),
    Case("Squeeze_dim_not_one", module("nn.Squeeze", dim=2), X3, lambda x: x),
    Case("Unsqueeze_dims", module("nn.Unsqueeze", pos=1, numInputDims=2), X3, lambda x: x[:, None]),
    Case("Replicate_front", module("nn.Replicate", nfeatures=3, dim=1), A34, lambda x: np.stack([x] * 3)),
    Case("Transpose_chain", module("nn.Transpose", permutations=[[1, 2], [2, 3]]), X3, lambda x: x.transpose(1, 2, 0)),
    Case("Transpose_dims", module("nn.Transpose", permutations=[[1, 2]], numInputDims=2), X3, lambda x: x.transpose(0, 2, 1)),
    Case("Narrow_rest", module("nn.Narrow", dimension=2, index=2, length=-1), X3, lambda x: x[:, 1:]),
    Case("Narrow_shorter_rest", module("nn.Narrow", dimension=3, index=2, length=-2), X3, lambda x: x[:, :, 1:-1]),
    Case("Select_first", module("nn.Select", dimension=2, index=1), X3, lambda x: x[:, 0]),
    Case("Select_batch", module("nn.Select", dimension=1, index=-1), X3, lambda x: x[-1]),
    Case(
        "Padding_before",
        module("nn.Padding", dim=1, pad=-2, nInputDim=2, value=7, index=1),
        X3,
        lambda x: np.pad(x, [(0, 0), (2, 0), (0, 0)], constant_values=7),
    ),
    Case("Padding_behind", module("nn.Padding", dim=2, pad=2, value=0, index=1), X3, lambda x: np.pad(x, [(0, 0), (0, 2), (0, 0)])),
    Case(
        "Padding_inner",
        module("nn.Padding", dim=2, pad=2, value=7, index=2),
        X3,
        lambda x: np.concatenate([x[:, :3], np.full((3, 2, 5), 7), x[:, 3:]], 1),
    ),
    Case(
        "SpatialZeroPadding",
        module("nn.SpatialZeroPadding", pad_l=1, pad_r=-2, pad_t=-1, pad_b=3),
        X4,
        lambda x: np.pad(x[:, :, 1:, :-2], [(0, 0), (0, 0), (0, 3), (1, 0)]),
    ),
    Case(
        "SpatialReflectionPadding",
        module("nn.SpatialReflectionPadding", pad_l=2, pad_r=1, pad_t=3, pad_b=0),
        X4,
        lambda x: np.pad(x, [(0, 0), (0, 0), (3, 0), (2, 1)], mode="reflect"),
    ),
    Case(
        "SpatialReplicationPadding_3d",
        module("nn.SpatialReplicationPadding", pad_l=2, pad_r=1, pad_t=3, pad_b=0),
        X4[0],
        lambda x: np.pad(x, [(0, 0), (3, 0), (2, 1)], mode="edge"),
    ),
    Case(
        "VolumetricReplicationPadding",
        module("nn.VolumetricReplicationPadding", pleft=2, pright=1, ptop=3, pbottom=0, pfront=1, pback=2),
        rand(1, 2, 2, 3, 4),
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 2), (3, 0), (2, 1)], mode="edge"),
    ),
    Case(
        "PixelShuffle",
        module("nn.PixelShuffle", upscaleFactor=2),
        rand(2, 8, 3, 4),
        lambda x: x.reshape(2, 2, 2, 2, 3, 4).transpose(0, 1, 4, 2, 5, 3).reshape(2, 2, 6, 8),
    ),
    Case("ShaveImage", module("nn.ShaveImage", size=1), X4, lambda x: x[:, :, 1:-1, 1:-1]),
    Case("Sum_last", module("nn.Sum", dimension=-1), X3, lambda x: x.sum(2)),
    Case("Sum_batch", module("nn.Sum", dimension=1, nInputDims=2), X3, lambda x: x.sum(1)),
    Case("Mean_1d", module("nn.Mean", dimension=1, sizeAverage=True), X2[0], lambda x: x.mean(keepdims=True)),
    Case("Sum_keep", module("nn.Sum", dimension=2, squeeze=False, sizeAverage=True), X3, lambda x: x.mean(1, keepdims=True)),
    Case("Max", module("nn.Max", dimension=3), X3, lambda x: x.max(2)),
    Case("Min_dims", module("nn.Min", dimension=1, nInputDims=2), X3, lambda x: x.min(1)),
    Case("Convert_bwc", module("nn.Convert", inputShape="bchw", outputShape="bhwc"), X4, lambda x: x.transpose(0, 2, 3, 1)),
    Case("Convert_chwb", module("nn.Convert", inputShape="chwb", outputShape="bf"), X4, lambda x: x.transpose(3, 1, 2, 0).reshape(6, -1)),
    Case("Convert_rest", module("nn.Convert", inputShape="bf", outputShape="fb"), X4, lambda x: x.swapaxes(0, 1)),
    Case("Convert_b", module("nn.Convert", inputShape="bf", outputShape="b"), X2[:, :1], lambda x: x[:, 0]),
]


def bn(
    mean: np.ndarray, var: np.ndarray, weight: Any = None, bias: Any = None, name: str = "nn.SpatialBatchNormalization", **more: Any
) -> Object:
    return module(name, running_mean=mean, running_var=var, weight=weight, bias=bias, version=2, **more)


M3, S3, W3, B3 = rand(3), abs(rand(3)) + 0.1, rand(3), rand(3)


def channels(a: np.ndarray) -> np.ndarray:
    return a.reshape(-1, 1, 1)


def normed(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    return (x - channels(M3)) / np.sqrt(channels(S3) + eps) * channels(W3) + channels(B3)


def lrn(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        low, high = max(0, c - (size - 1) // 2), c + (size - 1) // 2 + 1
        out[:, c] = x[:, c] * (k + alpha / size * (x[:, low:high] ** 2).sum(1)) ** -beta
    return out


LAYER_NORM = module(
    "nn.LayerNormalization",
    module(
        "nn.ConcatTable",
        module("nn.Identity"),
        module(
            "nn.Sequential",
            module("nn.Mean", dimension=1, nInputDims=1, sizeAverage=True),
            module("nn.Replicate", nfeatures=7, dim=1, ndim=1),
        ),
    ),
    module("nn.CSubTable"),
    module("nn.Normalize", p=2, eps=1e-10),
    module("nn.MulConstant", constant_scalar=math.sqrt(7)),
    module("nn.CMul", weight=W75[0]),
    module("nn.Add", bias=W75[1], scalar=False),
)


def layer_norm(x: np.ndarray) -> np.ndarray:
    """A batch of N subtracts mean[k % N] from its element k: the subtraction walks both tensors flat."""
    mean = np.atleast_1d(x.mean(-1))
    rest = (x.reshape(-1) - np.tile(mean, 7)).reshape(x.shape)
    return rest / np.sqrt((rest**2).sum(-1, keepdims=True) + 1e-10) * math.sqrt(7) * W75[0] + W75[1]


NORMALISATION = [
    Case("LayerNormalization_1d", LAYER_NORM, X2[0], layer_norm),
    Case("LayerNormalization_2d", LAYER_NORM, X2, layer_norm),
    Case("SpatialBatchNormalization", bn(M3, S3, W3, B3, eps=1e-3, train=True), X4, lambda x: normed(x, 1e-3)),
    Case("SpatialBatchNormalization_3d", bn(M3, S3, W3, B3, eps=1e-3), X4[0], lambda x: normed(x[None], 1e-3)),
    Case(
        "SpatialBatchNormalization_v1",
        module("nn.SpatialBatchNormalization", running_mean=M3, running_std=(S3 + 1e-5) ** -0.5, weight=W3, bias=B3, eps=1e-5),
        X4,
        normed,
    ),
    Case(
        "BatchNormalization_no_bias",
        bn(M3, S3, W3, None, "nn.BatchNormalization", eps=0.1),
        rand(4, 3),
        lambda x: (x - M3) / np.sqrt(S3 + 0.1) * W3,
    ),
    Case(
        "VolumetricBatchNormalization",
        bn(M3, S3, W3, B3, "nn.VolumetricBatchNormalization", eps=1e-5),
        rand(2, 3, 2, 3, 2),
        lambda x: normed(x.reshape(2, 3, 6, 2)).reshape(x.shape),
    ),
    Case(
        "InstanceNormalization",
        module("nn.InstanceNormalization", weight=W3, bias=B3, eps=1e-5),
        X4,
        lambda x: (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-5) * channels(W3) + channels(B3),
    ),
    Case(
        "SpatialCrossMapLRN",
        module("nn.SpatialCrossMapLRN", size=5, alpha=0.8, beta=0.6, k=2),
        rand(2, 7, 2, 3),
        lambda x: lrn(x, 5, 0.8, 0.6, 2),
    ),
    Case(
        "SpatialCrossMapLRN_3d",
        module("nn.SpatialCrossMapLRN", size=9, alpha=0.8, beta=0.6, k=1),
        rand(4, 2, 3),
        lambda x: lrn(x[None], 9, 0.8, 0.6, 1)[0],
    ),
    Case(
        "cudnn.LRN_K",
        module("cudnn.SpatialCrossMapLRN", size=3, alpha=0.8, beta=0.6, K=2, k=1),
        rand(2, 4, 2, 3),
        lambda x: lrn(x, 3, 0.8, 0.6, 2),
    ),
    Case("Normalize_3", module("nn.Normalize", p=3, eps=0.1), X2, lambda x: x / ((abs(x) ** 3).sum(1, keepdims=True) + 0.1) ** (1 / 3)),
    Case("Normalize_1", module("nn.Normalize", p=1, eps=0.1), X2, lambda x: x / (abs(x).sum(1, keepdims=True) + 0.1)),
    Case("Normalize_4", module("nn.Normalize", p=4, eps=0.1), X2, lambda x: x / ((x**4).sum(1, keepdims=True) + 0.1) ** 0.25),
    Case("Normalize_inf", module("nn.Normalize", p=math.inf, eps=0.1), X2, lambda x: x / (abs(x).max(1, keepdims=True) + 0.1)),
    Case(
        "SpatialFeatNormalization", module("nn.SpatialFeatNormalization", mean=M3, std=S3), X4, lambda x: (x - channels(M3)) / channels(S3)
    ),
]

ALL = ACTIVATIONS + LINEAR + SPARSE + TABLES + SHAPES + NORMALISATION


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_module(case: Case, tmp_path: Any) -> None:
    check(tmp_path, case.made, case.x, case.expected(), tolerance=case.tolerance)


def test_expanded_and_strided_weights(tmp_path: Any) -> None:
    """A transposed weight and a bias of stride 0 are what they show, not what lies in the storage."""
    data = rand(7, 5)
    weight = Tensor(Storage(data.reshape(-1)), (5, 7), (1, 5))
    bias = Tensor(Storage(np.float32([9, 0.7])), (5,), (0,), 1)
    check(tmp_path, module("nn.Linear", weight=weight, bias=bias), X2, X2 @ data + np.float32(0.7))
