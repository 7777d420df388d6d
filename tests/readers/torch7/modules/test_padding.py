"""Rows of padding: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

X4 = rand(2, 3, 5, 6)

CASES = [
    ModuleCase(
        "Padding_before",
        module("nn.Padding", dim=1, pad=-2, nInputDim=2, value=7, index=1),
        (3, 4, 5),
        lambda x: np.pad(x, [(0, 0), (2, 0), (0, 0)], constant_values=7),
        grows=True,
    ),
    ModuleCase(
        "SpatialPadding_of_planes",
        module("nn.SpatialPadding", pad_l=1, pad_r=2, pad_t=0, pad_b=3, y_dim=2, x_dim=3, val=0),
        (2, 4, 5),
        lambda x: np.pad(x, [(0, 0), (0, 3), (1, 2)]),
    ),
    ModuleCase(
        "SpatialPadding_of_a_batch",
        module("nn.SpatialPadding", pad_l=-1, pad_r=2, pad_t=1, pad_b=-2, y_dim=3, x_dim=4, val=7),
        (2, 3, 5, 6),
        lambda x: np.pad(x[:, :, :3, 1:], [(0, 0), (0, 0), (1, 0), (0, 2)], constant_values=7),
    ),
    ModuleCase(
        "Padding_behind",
        module("nn.Padding", dim=2, pad=2, value=0, index=1),
        (3, 4, 5),
        lambda x: np.pad(x, [(0, 0), (0, 2), (0, 0)]),
        grows=True,
    ),
    ModuleCase(
        "Padding_inner",
        module("nn.Padding", dim=2, pad=2, value=7, index=2),
        (3, 4, 5),
        lambda x: np.concatenate([x[:, :3], np.full((len(x), 2, 5), 7), x[:, 3:]], 1),
    ),
    ModuleCase(
        "SpatialZeroPadding",
        module("nn.SpatialZeroPadding", pad_l=1, pad_r=-2, pad_t=-1, pad_b=3),
        (2, 3, 5, 6),
        lambda x: np.pad(x[:, :, 1:, :-2], [(0, 0), (0, 0), (0, 3), (1, 0)]),
        grows=True,
    ),
    ModuleCase(
        "SpatialReflectionPadding",
        module("nn.SpatialReflectionPadding", pad_l=2, pad_r=1, pad_t=3, pad_b=0),
        (2, 3, 5, 6),
        lambda x: np.pad(x, [(0, 0), (0, 0), (3, 0), (2, 1)], mode="reflect"),
        grows=True,
    ),
    ModuleCase(
        "SpatialReplicationPadding_3d",
        module("nn.SpatialReplicationPadding", pad_l=2, pad_r=1, pad_t=3, pad_b=0),
        X4[0],
        lambda x: np.pad(x, [(0, 0), (3, 0), (2, 1)], mode="edge"),
    ),
    ModuleCase(
        "VolumetricReplicationPadding",
        module("nn.VolumetricReplicationPadding", pleft=2, pright=1, ptop=3, pbottom=0, pfront=1, pback=2),
        (1, 2, 2, 3, 4),
        lambda x: np.pad(x, [(0, 0), (0, 0), (1, 2), (3, 0), (2, 1)], mode="edge"),
        grows=True,
    ),
    ModuleCase("ShaveImage", module("nn.ShaveImage", size=1), (2, 3, 5, 6), lambda x: x[:, :, 1:-1, 1:-1], grows=True),
    ModuleCase(
        "SpatialSymmetricPadding",
        module("nn.SpatialSymmetricPadding", pad_l=1, pad_r=2, pad_t=3, pad_b=-1),
        (2, 3, 5, 6),
        lambda x: np.pad(x[:, :, :-1], [(0, 0), (0, 0), (3, 0), (1, 2)], "symmetric"),
        grows=True,
    ),
    ModuleCase("SpatialUniformCrop", module("nn.SpatialUniformCrop", oheight=4, owidth=3), (2, 2, 8, 8), lambda x: x[:, :, 1:5, 2:5]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
