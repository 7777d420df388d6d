"""Rows of tables: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase

CASES = [
    ModuleCase("JoinTable_batch", module("nn.JoinTable", dimension=1, nInputDims=1), [(3, 4), (3, 2)], lambda x: np.concatenate(x, 1)),
    ModuleCase("NarrowTable", module("nn.NarrowTable", offset=2, length=2), [(3, 4), (2, 6), (3, 7)], lambda x: x[1:]),
    ModuleCase("FlattenTable", module("nn.FlattenTable"), [(3, 4), [(2, 6), [(3, 7)]]], lambda x: [x[0], x[1][0], x[1][1][0]]),
    ModuleCase(
        "ZipTable",
        module("nn.ZipTable"),
        [[(3, 4), (2, 6)], [(3, 7), (3, 4, 5)]],
        lambda x: [[x[0][0], x[1][0]], [x[0][1], x[1][1]]],
        grows=True,
    ),
    ModuleCase(
        "ZipTableOneToMany",
        module("nn.ZipTableOneToMany"),
        [(3, 4), [(3, 7), (3, 4, 5)]],
        lambda x: [[x[0], x[1][0]], [x[0], x[1][1]]],
        grows=True,
    ),
    ModuleCase(
        "MixtureTable_1d", module("nn.MixtureTable"), [(2,), [(4,), (4,)]], lambda x: x[0][0] * x[1][0] + x[0][1] * x[1][1], fixed=True
    ),
    ModuleCase(
        "MixtureTable_tensor", module("nn.MixtureTable", dim=2), [(3, 2), (3, 2, 4)], lambda x: np.einsum("ne,nef->nf", *x), grows=True
    ),
    ModuleCase(
        "JoinTable_ranks",
        module("nn.JoinTable", dimension=2),
        [(2, 3, 1), (2, 4)],
        lambda x: np.concatenate([x[0], x[1][:, :, None]], 1),
        grows=True,
    ),
    ModuleCase(
        "w2nn.AuxiliaryLossTable", module("w2nn.AuxiliaryLossTable", i=2, train=True), [(3, 7), (3, 4, 5)], lambda x: x[1], grows=True
    ),
    ModuleCase("SelectTable_last", module("nn.SelectTable", index=-1), [(3, 7), (3, 4)], lambda x: x[1]),
    ModuleCase("ReverseTable", module("nn.ReverseTable"), [(3, 7), (3, 4)], lambda x: x[::-1]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
