"""Rows of distance: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

X2 = rand(3, 7)

W75 = rand(5, 7)

COS = lambda x, w: (x @ w.T) / ((np.linalg.norm(x, axis=-1, keepdims=True) + 1e-12) * (np.linalg.norm(w, axis=1) + 1e-12))  # noqa: E731

E45 = rand(7, 5)

D45 = rand(7, 5, seed=1)

CASES = [
    ModuleCase("Cosine", module("nn.Cosine", weight=W75), (3, 7), lambda x: COS(x, W75)),
    ModuleCase("Cosine_1d", module("nn.Cosine", weight=W75), X2[0], lambda x: COS(x, W75)),
    ModuleCase("Euclidean_1d", module("nn.Euclidean", weight=E45), X2[0], lambda x: np.linalg.norm(x[:, None] - E45, axis=0)),
    ModuleCase("Euclidean", module("nn.Euclidean", weight=E45), (3, 7), lambda x: np.linalg.norm(x[:, :, None] - E45, axis=1)),
    ModuleCase(
        "WeightedEuclidean",
        module("nn.WeightedEuclidean", weight=E45, diagCov=D45),
        (3, 7),
        lambda x: np.linalg.norm((x[:, :, None] - E45) * D45, axis=1),
    ),
    ModuleCase(
        "CosineDistance_1d",
        module("nn.CosineDistance"),
        [X2[0], X2[1]],
        lambda x: np.array([x[0] @ x[1] / math.sqrt((x[0] @ x[0] + 1e-12) * (x[1] @ x[1] + 1e-12))]),
    ),
    ModuleCase("DotProduct", module("nn.DotProduct"), [(3, 7), X2[::-1].copy()], lambda x: (x[0] * x[1]).sum(1)),
    ModuleCase(
        "PairwiseDistance_3",
        module("nn.PairwiseDistance", norm=3),
        [(3, 7), X2[::-1].copy()],
        lambda x: (abs(x[0] - x[1]) ** 3).sum(1) ** (1 / 3),
    ),
    ModuleCase(
        "PairwiseDistance_1d", module("nn.PairwiseDistance", norm=2), [X2[0], X2[1]], lambda x: np.array([np.linalg.norm(x[0] - x[1])])
    ),
    ModuleCase("L2Normalize", module("fbnn.L2Normalize"), (3, 4), lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
