"""Rows of linear: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7 import running
from tests.readers.torch7.lua import Storage, Tensor, module
from tests.readers.torch7.module_case import ModuleCase, rand

X2 = rand(3, 7)

W75 = rand(5, 7)

B5 = rand(5, seed=1)

V = rand(5, 7, seed=1)

G = rand(5, 1)

E45 = rand(7, 5)

BW = rand(4, 7, 3)

BB = rand(4)

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


B5 = rand(5, seed=1)

CASES = [
    ModuleCase("Linear", module("nn.Linear", weight=W75, bias=B5), (3, 7), lambda x: x @ W75.T + B5),
    ModuleCase("Linear_1d", module("nn.Linear", weight=W75, bias=B5), X2[0], lambda x: x @ W75.T + B5),
    ModuleCase("Linear_double", module("nn.Linear", weight=W75.astype("f8"), bias=B5.astype("f8")), (3, 7), lambda x: x @ W75.T + B5),
    ModuleCase(
        "LinearWeightNorm_stale",
        module("nn.LinearWeightNorm", weight=np.zeros((5, 7), "f4"), v=V, g=G, bias=B5, eps=1e-16),
        (3, 7),
        lambda x: x @ (V * G / np.linalg.norm(V, axis=1, keepdims=True)).T + B5,
    ),
    ModuleCase(
        "Bilinear", module("nn.Bilinear", weight=BW, bias=BB), [(3, 7), (3, 3)], lambda x: np.einsum("ni,kij,nj->nk", x[0], BW, x[1]) + BB
    ),
    ModuleCase(
        "Bilinear_swapped_sizes",
        module("nn.Bilinear", weight=rand(1, 3, 7) * 0 + 1),
        [(2, 3), (2, 7)],
        lambda x: (x[0].sum(1) * x[1].sum(1))[:, None],
    ),
    ModuleCase(
        "MM_transposed",
        module("nn.MM", transA=True, transB=True),
        [(2, 4, 3), (2, 5, 4)],
        lambda x: np.einsum("bki,bjk->bij", *x),
        grows=True,
    ),
    ModuleCase("MM_2d", module("nn.MM"), [(4, 3), rand(3, 4)], lambda x: x[0] @ x[1]),
    ModuleCase("MV_trans_one", module("nn.MV", trans=True), [(3, 2), (3,)], lambda x: x[0].T @ x[1]),
    ModuleCase("MV_trans", module("nn.MV", trans=True), [(2, 4, 3), (2, 4)], lambda x: np.einsum("bki,bk->bi", *x), grows=True),
    ModuleCase(
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
        (3, 7),
        lambda x: x @ W75[[3, 1]].T + B5[[3, 1]],
    ),
    ModuleCase("SparseLinear", module("nn.SparseLinear", weight=W75, bias=B5), PAIRS[0], lambda x: spread(x) @ W75.T + B5),
    ModuleCase(
        "SparseLinear_batch", module("nn.SparseLinear", weight=W75, bias=B5), PAIRS, lambda x: np.stack([spread(p) for p in x]) @ W75.T + B5
    ),
    ModuleCase(
        "SparseLinear_table",
        module("nn.SparseLinear", weight=W75, bias=B5),
        [PAIRS[0], PAIRS[1, :2]],
        lambda x: np.stack([spread(p) for p in x]) @ W75.T + B5,
    ),
    ModuleCase(
        "IndexLinear",
        module("nn.IndexLinear", weight=E45, bias=B5, offset=-1, normalize=0),
        [np.array([2, 7]), np.float32([0.5, 3])],
        lambda x: x[1] @ E45[x[0] - 1] + B5,
    ),
    ModuleCase(
        "IndexLinear_normalized",
        module("nn.IndexLinear", weight=NORMAL, bias=B5[:2], offset=-1, normalize=4),
        [[np.array([2, 6]), np.array([1])], [np.float32([0.2, -9]), np.float32([0.5])]],
        lambda x: np.stack([index_linear(k, v) for k, v in zip(*x, strict=True)]),
    ),
    ModuleCase(
        "GramMatrix", module("nn.GramMatrix", normalize=True), (2, 3, 5, 6), lambda x: np.einsum("nchw,ndhw->ncd", x, x) / 90, grows=True
    ),
    *[
        ModuleCase(name, module(name, weight=W75), (3, 7), lambda x: x @ W75.T)
        for name in ("nn.LinearNoBias", "nn.LinearNB", "fbnn.LinearNB", "nn.LinearNoBackprop", "fbnn.NormalizedLinearNoBias")
    ],
    ModuleCase("ExpandAs", module("nn.ExpandAs"), [(3, 4), (1, 4)], lambda x: [x[0], np.broadcast_to(x[1], x[0].shape)], fixed=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_expanded_and_strided_weights(tmp_path: Path) -> None:
    """A transposed weight and a bias of stride 0 are what they show, not what lies in the storage."""
    data = rand(7, 5)
    weight = Tensor(Storage(data.reshape(-1)), (5, 7), (1, 5))
    bias = Tensor(Storage(np.float32([9, 0.7])), (5,), (0,), 1)
    running.check(tmp_path, module("nn.Linear", weight=weight, bias=bias), X2, X2 @ data + np.float32(0.7))
