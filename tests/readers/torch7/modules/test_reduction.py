"""Rows of reduction: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

X2 = rand(3, 7)

CASES = [
    ModuleCase("Sum_last", module("nn.Sum", dimension=-1), (3, 4, 5), lambda x: x.sum(2), grows=True),
    ModuleCase("Sum_batch", module("nn.Sum", dimension=1, nInputDims=2), (3, 4, 5), lambda x: x.sum(1), grows=True),
    ModuleCase("Mean_1d", module("nn.Mean", dimension=1, sizeAverage=True), X2[0], lambda x: x.mean(keepdims=True)),
    ModuleCase(
        "Sum_keep",
        module("nn.Sum", dimension=2, squeeze=False, sizeAverage=True),
        (3, 4, 5),
        lambda x: x.mean(1, keepdims=True),
        grows=True,
    ),
    ModuleCase("Max", module("nn.Max", dimension=3), (3, 4, 5), lambda x: x.max(2), grows=True),
    ModuleCase("Min_dims", module("nn.Min", dimension=1, nInputDims=2), (3, 4, 5), lambda x: x.min(1), grows=True),
    ModuleCase(
        "Normalize_3", module("nn.Normalize", p=3, eps=0.1), (3, 7), lambda x: x / ((abs(x) ** 3).sum(1, keepdims=True) + 0.1) ** (1 / 3)
    ),
    ModuleCase("Normalize_1", module("nn.Normalize", p=1, eps=0.1), (3, 7), lambda x: x / (abs(x).sum(1, keepdims=True) + 0.1)),
    ModuleCase("Normalize_4", module("nn.Normalize", p=4, eps=0.1), (3, 7), lambda x: x / ((x**4).sum(1, keepdims=True) + 0.1) ** 0.25),
    ModuleCase("Normalize_inf", module("nn.Normalize", p=math.inf, eps=0.1), (3, 7), lambda x: x / (abs(x).max(1, keepdims=True) + 0.1)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
