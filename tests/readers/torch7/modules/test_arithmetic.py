"""Rows of arithmetic: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module, sizes
from tests.readers.torch7.module_case import ModuleCase, rand

A34 = rand(3, 4)

CASES = [
    ModuleCase("Add_one", module("nn.Add", bias=np.float32([2])), (5,), lambda x: x + 2),
    ModuleCase(
        "Add",
        module("nn.Add", bias=rand(20) * 0 + np.arange(20, dtype="f4")),
        (3, 4, 5),
        lambda x: x + np.arange(20).reshape(4, 5),
        grows=True,
    ),
    ModuleCase("Add_vector", module("nn.Add", bias=np.arange(5, dtype="f4")), (5,), lambda x: x + np.arange(5), fixed=True),
    ModuleCase(
        "Add_matrix_without_batch",
        module("nn.Add", bias=np.arange(20, dtype="f4").reshape(4, 5)),
        (4, 5),
        lambda x: x + np.arange(20).reshape(4, 5),
        fixed=True,
    ),
    ModuleCase("Add_scalar", module("nn.Add", bias=np.float32([2.5]), scalar=True), (3, 4, 5), lambda x: x + 2.5, grows=True),
    ModuleCase("Mul", module("nn.Mul", weight=np.float32([2.5])), (3, 4, 5), lambda x: x * 2.5, grows=True),
    ModuleCase(
        "CMul_per_sample",
        module("nn.CMul", weight=np.arange(20, dtype="f4"), size=sizes(20)),
        (3, 4, 5),
        lambda x: x * np.arange(20).reshape(4, 5),
        grows=True,
    ),
    ModuleCase(
        "CMul_same_rank",
        module("nn.CMul", weight=np.arange(4, dtype="f4").reshape(1, 4, 1)),
        (3, 4, 5),
        lambda x: x * np.arange(4).reshape(4, 1),
        grows=True,
    ),
    ModuleCase("CMul_one", module("nn.CMul", weight=np.float32([3])), (3, 4, 5), lambda x: 3 * x, grows=True),
    ModuleCase(
        "CMul_whole",
        module("nn.CMul", weight=np.arange(60, dtype="f4")),
        (3, 4, 5),
        lambda x: x * np.arange(60).reshape(3, 4, 5),
        fixed=True,
    ),
    ModuleCase(
        "CAdd_batch",
        module("nn.CAdd", bias=np.arange(3, dtype="f4").reshape(3, 1, 1)),
        (3, 4, 5),
        lambda x: x + np.arange(3).reshape(3, 1, 1),
        fixed=True,
    ),
    ModuleCase(
        "AddConstant_vector", module("nn.AddConstant", constant_scalar=np.arange(7, dtype="f4")), (3, 7), lambda x: x + np.arange(7)
    ),
    ModuleCase(
        "Constant", module("nn.Constant", value=np.arange(4, dtype="f4"), nInputDim=1), (3, 7), lambda x: np.tile(np.arange(4), (len(x), 1))
    ),
    ModuleCase("Constant_plain", module("nn.Constant", value=np.arange(4, dtype="f4")), (3, 7), lambda x: np.arange(4)),
    ModuleCase("CAddTable_flat", module("nn.CAddTable"), [(2, 6), (3, 4)], lambda x: x[0] + x[1].reshape(2, 6), fixed=True),
    ModuleCase(
        "CAddTable_never_broadcasts", module("nn.CSubTable"), [(4, 1, 2), (1, 4, 2)], lambda x: x[0] - x[1].reshape(4, 1, 2), fixed=True
    ),
    ModuleCase("CMulTable", module("nn.CMulTable"), [(3, 4), A34 + 1, A34 - 1], lambda x: x[0] * x[1] * x[2]),
    ModuleCase("CDivTable", module("nn.CDivTable"), [(3, 4), A34 + 9], lambda x: x[0] / x[1]),
    ModuleCase("CMaxTable", module("nn.CMaxTable"), [(3, 4), -A34], lambda x: np.maximum(*x)),
    ModuleCase("CMinTable", module("nn.CMinTable"), [(3, 4), -A34, A34 * 0 - 0.1], lambda x: np.minimum(np.minimum(x[0], x[1]), x[2])),
    ModuleCase("CAddTensorTable", module("nn.CAddTensorTable"), [(3, 4), [(3, 4), -A34]], lambda x: [x[0] + x[1][0], x[0] + x[1][1]]),
    ModuleCase("w2nn.ScaleTable", module("w2nn.ScaleTable"), [(2, 3, 5, 6), (2, 3, 1, 1)], lambda x: x[0] * x[1], grows=True),
    ModuleCase("inn.ConstAffine", module("inn.ConstAffine", a=rand(3), b=rand(3, seed=1)), (2, 3), lambda x: x * rand(3) + rand(3, seed=1)),
    ModuleCase(
        "SpatialConstDiagonal",
        module("nn.SpatialConstDiagonal", a=rand(3), b=rand(3, seed=1), inplace=True),
        (2, 3, 5, 6),
        lambda x: x * rand(3).reshape(3, 1, 1) + rand(3, seed=1).reshape(3, 1, 1),
        grows=True,
    ),
    ModuleCase(
        "SpatialConstDiagonal_of_images",
        module("nn.SpatialConstDiagonal", a=rand(1, 3, 1, 1), b=rand(1, 3, 1, 1, seed=1), inplace=True),
        (2, 3, 5, 6),
        lambda x: x * rand(1, 3, 1, 1) + rand(1, 3, 1, 1, seed=1),
        grows=True,
    ),
    ModuleCase("inn.MeanSubtraction", module("inn.MeanSubtraction", mean=rand(3, 5, 6)), (2, 3, 5, 6), lambda x: x - rand(3, 5, 6)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
