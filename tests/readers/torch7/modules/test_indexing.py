"""Rows of indexing: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

X2 = rand(3, 7)

TABLE = rand(9, 4)


def renormed(table: np.ndarray, limit: float, p: float) -> np.ndarray:
    norm = (abs(table) ** p).sum(1, keepdims=True) ** (1 / p)
    return np.where(norm > limit, table * limit / (norm + 1e-7), table)


CASES = [
    ModuleCase("LookupTable", module("nn.LookupTable", weight=TABLE, paddingValue=0), np.array([[1, 9], [4, 2]]), lambda x: TABLE[x - 1]),
    ModuleCase(
        "LookupTable_maxNorm",
        module("nn.LookupTable", weight=TABLE, maxNorm=1, normType=1),
        np.array([1, 9, 4]),
        lambda x: renormed(TABLE, 1, 1)[x - 1],
    ),
    ModuleCase("OneHot", module("nn.OneHot", outputSize=5), np.array([[1, 5], [3, 2]]), lambda x: np.eye(5)[x - 1]),
    ModuleCase("Index_2", module("nn.Index", dimension=2), [(3, 4, 5), np.array([4, 1, 1])], lambda x: x[0][:, x[1] - 1], grows=True),
    ModuleCase("MaskedSelect", module("nn.MaskedSelect"), [(3, 7), (X2 > 0.3).astype("f4")], lambda x: x[0][x[1] != 0]),
    ModuleCase("Narrow_rest", module("nn.Narrow", dimension=2, index=2, length=-1), (3, 4, 5), lambda x: x[:, 1:], grows=True),
    ModuleCase("Narrow_shorter_rest", module("nn.Narrow", dimension=3, index=2, length=-2), (3, 4, 5), lambda x: x[:, :, 1:-1], grows=True),
    ModuleCase("Select_first", module("nn.Select", dimension=2, index=1), (3, 4, 5), lambda x: x[:, 0], grows=True),
    ModuleCase("Select_batch", module("nn.Select", dimension=1, index=-1), (3, 4, 5), lambda x: x[-1], grows=True),
    ModuleCase("ArgMax", module("nn.ArgMax", dim=1, nInputDim=1, asLong=False), (3, 7), lambda x: x.argmax(1) + 1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
