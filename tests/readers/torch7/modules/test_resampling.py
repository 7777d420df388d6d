"""Rows of resampling: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import converters
from tests.bench import check
from tests.readers.torch7.lua import dumps, module
from tests.readers.torch7.module_case import ModuleCase, rand

X = rand(2, 3, 7, 8)


def corners(x: np.ndarray, sizes: Any) -> np.ndarray:
    """(Tri)linear interpolation with aligned corners, axis by axis."""
    for axis, size in enumerate(sizes, x.ndim - len(sizes)):
        n = x.shape[axis]
        place = np.arange(size) * ((n - 1) / (size - 1) if size > 1 else 0)
        low = np.minimum(place.astype(int), n - 1)
        rest = (place - low).reshape(-1, *[1] * (x.ndim - axis - 1))
        x = np.take(x, low, axis) * (1 - rest) + np.take(x, np.minimum(low + 1, n - 1), axis) * rest
    return x


CASES = [
    ModuleCase(
        "nearest_3d", module("nn.SpatialUpSamplingNearest", scale_factor=3), X[0], lambda x: x.repeat(3, 1).repeat(3, 2), tolerance=5e-5
    ),
    ModuleCase(
        "bilinear", module("nn.SpatialUpSamplingBilinear", scale_factor=3), (2, 3, 7, 8), lambda x: corners(x, (21, 24)), tolerance=5e-5
    ),
    ModuleCase(
        "bilinear_size",
        module("nn.SpatialUpSamplingBilinear", oheight=5, owidth=13),
        (2, 3, 7, 8),
        lambda x: corners(x, (5, 13)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "bilinear_one",
        module("nn.SpatialUpSamplingBilinear", oheight=1, owidth=3),
        (2, 3, 7, 8),
        lambda x: corners(x, (1, 3)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "UpSampling_nearest_5d",
        module("nn.UpSampling", scale_factor=2, mode="nearest"),
        (2, 3, 4, 5, 6),
        lambda x: x.repeat(2, 2).repeat(2, 3).repeat(2, 4),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "UpSampling_linear_4d",
        module("nn.UpSampling", scale_factor=2, mode="linear"),
        (2, 3, 7, 8),
        lambda x: corners(x, (14, 16)),
        tolerance=5e-5,
    ),
    ModuleCase(
        "UpSampling_linear_5d",
        module("nn.UpSampling", odepth=7, oheight=5, owidth=8, mode="linear"),
        (2, 3, 4, 5, 6),
        lambda x: corners(x, (7, 5, 8)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase("Upsample", module("nn.Upsample", factor=3), (2, 3, 4, 5), lambda x: x.repeat(3, 2).repeat(3, 3), grows=True),
    ModuleCase(
        "SpatialReSamplingEx_average",
        module("nn.SpatialReSamplingEx", owidth=2, oheight=2, yDim=3, xDim=4, mode="average"),
        (2, 3, 5, 7),
        lambda x: x[:, :, :4, :6].reshape(len(x), 3, 2, 2, 2, 3).mean((3, 5)),
    ),
    ModuleCase(
        "SpatialReSamplingEx_bilinear_first_axes",
        module("nn.SpatialReSamplingEx", owidth=6, oheight=8, yDim=1, xDim=2, mode="bilinear"),
        (4, 3, 2),
        lambda x: corners(x.transpose(2, 0, 1)[None], (8, 6))[0].transpose(1, 2, 0),
        fixed=True,
    ),
    ModuleCase(
        "SpatialReSampling_after_a_forward",
        module("nn.SpatialReSampling", rwidth=1.5, rheight=0.5, owidth=10.5, oheight=3.5),
        (2, 3, 7, 6),
        lambda x: corners(x, (3, 10)),
    ),
    ModuleCase(
        "SpatialDownSampling",
        module("nn.SpatialDownSampling", rW=3, rH=2),
        (2, 5, 7),
        lambda x: x[:, :4, :6].reshape(len(x), 2, 2, 2, 3).mean((2, 4)),
    ),
    ModuleCase(
        "SpatialReSamplingEx_simple_up",
        module("nn.SpatialReSamplingEx", owidth=5, oheight=7, yDim=2, xDim=3, mode="simple"),
        (2, 3, 3, 4),
        lambda x: x[:, np.arange(7) // 3][:, :, np.arange(5) // 2],
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_down_sampling_of_a_batch(tmp_path: Path) -> None:
    """Torch7 takes the rows of a batch for columns."""
    path = tmp_path / "model.t7"
    path.write_bytes(dumps(module("nn.SpatialDownSampling", rW=2, rH=2)))
    with pytest.raises(converters.ConversionError, match=r"must be \(C, H, W\)"):
        converters.load(path, inputs={"input": (2, 3, 4, 4)})
