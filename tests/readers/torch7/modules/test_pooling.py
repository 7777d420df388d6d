"""Rows of pooling: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7 import running
from tests.readers.torch7.formulas import pooled, pooling
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

X = rand(2, 3, 7, 8)

B = rand(4, seed=1)

AVERAGE = {"count_include_pad": True, "divide": True, "ceil_mode": False}


def feature_lp(x: np.ndarray, width: int, stride: int, power: float, axis: int) -> np.ndarray:
    starts = range(0, x.shape[axis] - width + 1, stride)
    windows = [(np.take(x.astype("f8"), range(i, i + width), axis) ** power).sum(axis) ** (1 / power) for i in starts]
    return np.stack(windows, axis)


def adaptive(x: np.ndarray, rows: int, columns: int, reduce: Any) -> np.ndarray:
    h, w = x.shape[-2:]
    out = np.zeros((*x.shape[:-2], rows, columns))
    for i, j in itertools.product(range(rows), range(columns)):
        window = x[..., i * h // rows : math.ceil((i + 1) * h / rows), j * w // columns : math.ceil((j + 1) * w / columns)]
        out[..., i, j] = reduce(window, axis=(-2, -1))
    return out


def stochastic(x: np.ndarray) -> np.ndarray:
    """imagine-nn: sum of squares over sum of each window of 2 by 3, every 2 pixels, sizes rounded up, windows clipped."""
    rows, columns = -(-(x.shape[2] - 2) // 2) + 1, -(-(x.shape[3] - 3) // 2) + 1
    out = np.empty((*x.shape[:2], rows, columns))
    for row in range(rows):
        for column in range(columns):
            window = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 3].astype(np.float64)
            out[:, :, row, column] = (window**2).sum((2, 3)) / window.sum((2, 3))
    return out


CASES = [
    ModuleCase(
        "max_ceil",
        pooling("nn.SpatialMaxPooling", (3, 2), (2, 3), (1, 0), ceil_mode=True),
        (2, 3, 7, 8),
        lambda x: pooled(x, (3, 2), (2, 3), (1, 0), True),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "max_window_outside",
        pooling("nn.SpatialMaxPooling", (1, 2), (3, 3), (0, 0), ceil_mode=True),
        (2, 3, 5, 6),
        lambda x: pooled(x, (1, 2), (3, 3), (0, 0), True),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "max_unpadded_3d",
        pooling("nn.SpatialMaxPooling", (2, 2)),
        X[0],
        lambda x: pooled(x[None], (2, 2), (2, 2), (0, 0))[0],
        tolerance=5e-5,
    ),
    ModuleCase(
        "max_dilated",
        pooling("nn.SpatialDilatedMaxPooling", (2, 3), (2, 1), (1, 1), dilationW=2, dilationH=3, ceil_mode=True),
        (2, 3, 7, 8),
        lambda x: pooled(x, (2, 3), (2, 1), (1, 1), True, dil=(3, 2)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "cudnn_max_ceil",
        pooling("cudnn.SpatialMaxPooling", (3, 3), (2, 2), (1, 1), ceil_mode=True),
        (2, 3, 6, 8),
        lambda x: pooled(x, (3, 3), (2, 2), (1, 1), True, clip=False),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "volumetric_max",
        pooling("nn.VolumetricMaxPooling", (2, 3, 2), (1, 2, 2), (1, 0, 1), ceil_mode=True),
        (2, 3, 4, 5, 6),
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (1, 0, 1), True),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "volumetric_max_v1",
        pooling("nn.VolumetricMaxPooling", (2, 3, 2), (1, 2, 2), None, version=1, ceil_mode=True),
        (2, 3, 4, 5, 6),
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (0, 0, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "average",
        pooling("nn.SpatialAveragePooling", (3, 2), (2, 2), (1, 1), **AVERAGE),
        (2, 3, 7, 8),
        lambda x: pooled(x, (3, 2), (2, 2), (1, 1), kind="include"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "average_ceil",
        pooling("nn.SpatialAveragePooling", (3, 3), (2, 3), (1, 1), **AVERAGE | {"ceil_mode": True}),
        (2, 3, 7, 8),
        lambda x: pooled(x, (3, 3), (2, 3), (1, 1), True, "include"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "average_ceil_exclude",
        pooling("nn.SpatialAveragePooling", (3, 3), (2, 3), (1, 1), ceil_mode=True, count_include_pad=False, divide=True),
        (2, 3, 7, 8),
        lambda x: pooled(x, (3, 3), (2, 3), (1, 1), True, "exclude"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "average_window_outside",
        pooling("nn.SpatialAveragePooling", (1, 2), (3, 3), (0, 0), ceil_mode=True, count_include_pad=True, divide=True),
        (2, 3, 5, 6),
        lambda x: pooled(x, (1, 2), (3, 3), (0, 0), True, "include"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "average_no_divide_field",
        pooling("nn.SpatialAveragePooling", (2, 2), (1, 2), (1, 1)),
        (2, 3, 7, 8),
        lambda x: pooled(x, (2, 2), (1, 2), (0, 0), kind="sum"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "average_no_ceil_field",
        pooling("nn.SpatialAveragePooling", (2, 2), (2, 2), (1, 1), divide=True),
        (2, 3, 7, 8),
        lambda x: pooled(x, (2, 2), (2, 2), (0, 0), kind="include"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "average_undivided_clipped",
        pooling("nn.SpatialAveragePooling", (3, 3), (2, 2), (0, 0), ceil_mode=True, count_include_pad=True, divide=False),
        (2, 3, 7, 8),
        lambda x: pooled(x, (3, 3), (2, 2), (0, 0), True, "include") * 9,
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "cudnn_average_no_ceil_field",
        pooling("cudnn.SpatialAveragePooling", (2, 2), (2, 2), (1, 1)),
        (2, 3, 7, 8),
        lambda x: pooled(x, (2, 2), (2, 2), (0, 0), kind="include"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "cudnn_average_ceil",
        pooling("cudnn.SpatialAveragePooling", (3, 3), (2, 2), (1, 1), ceil_mode=True, count_include_pad=False),
        (2, 3, 7, 8),
        lambda x: pooled(x, (3, 3), (2, 2), (1, 1), True, "kernel", clip=False),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "volumetric_average",
        pooling("nn.VolumetricAveragePooling", (2, 3, 2), (1, 2, 2)),
        (2, 3, 4, 5, 6),
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (0, 0, 0), kind="include"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "sub_sampling",
        module("nn.SpatialSubSampling", nInputPlane=3, kW=2, kH=3, dW=2, dH=1, weight=B[:3].copy(), bias=B[1:].copy()),
        (2, 3, 7, 8),
        lambda x: pooled(x, (3, 2), (1, 2), (0, 0), kind="sum") * B[:3].reshape(3, 1, 1) + B[1:].reshape(3, 1, 1),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "feature_lp",
        module("nn.FeatureLPPooling", width=3, stride=2, power=2, batch_mode=True),
        (2, 8, 3),
        lambda x: feature_lp(x, 3, 2, 2, 1),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "feature_lp_3",
        module("nn.FeatureLPPooling", width=4, stride=1, power=3, batch_mode=False),
        abs(rand(6, 3)),
        lambda x: feature_lp(x, 4, 1, 3, 0),
        tolerance=5e-5,
    ),
    ModuleCase(
        "adaptive_max",
        module("nn.SpatialAdaptiveMaxPooling", W=3, H=4),
        (2, 3, 7, 8),
        lambda x: adaptive(x, 4, 3, np.max),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "adaptive_average_3d",
        module("nn.SpatialAdaptiveAveragePooling", W=5, H=2),
        X[0],
        lambda x: adaptive(x, 2, 5, np.mean),
        tolerance=5e-5,
    ),
    ModuleCase(
        "adaptive_divisible",
        module("nn.SpatialAdaptiveAveragePooling", W=4, H=1),
        (2, 3, 7, 8),
        lambda x: adaptive(x, 1, 4, np.mean),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "VolumetricDilatedMaxPooling",
        pooling("nn.VolumetricDilatedMaxPooling", (2, 2, 2), (1, 2, 1), dilationT=2, dilationH=1, dilationW=3),
        (2, 3, 4, 5, 6),
        lambda x: pooled(x, (2, 2, 2), (1, 2, 1), (0, 0, 0), dil=(2, 1, 3)),
        grows=True,
    ),
    ModuleCase(
        "cudnn.VolumetricMaxPooling",
        pooling("cudnn.VolumetricMaxPooling", (2, 3, 2), (1, 2, 2)),
        (2, 3, 4, 5, 6),
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (0, 0, 0)),
        grows=True,
    ),
    ModuleCase(
        "cudnn.VolumetricAveragePooling",
        pooling("cudnn.VolumetricAveragePooling", (2, 3, 2), (1, 2, 2)),
        (2, 3, 4, 5, 6),
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (0, 0, 0), kind="include"),
        grows=True,
    ),
    ModuleCase(
        "inn.SpatialMaxPooling",
        pooling("inn.SpatialMaxPooling", (3, 2), (2, 2), ceil_mode=False),
        (2, 3, 6, 7),
        lambda x: pooled(x, (3, 2), (2, 2), (0, 0), True),
        grows=True,
    ),
    ModuleCase(
        "inn.SpatialAveragePooling",
        pooling("inn.SpatialAveragePooling", (3, 2), (2, 2), **{**AVERAGE, "ceil_mode": False}),
        (2, 3, 6, 7),
        lambda x: pooled(x, (3, 2), (2, 2), (0, 0), True, kind="include"),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialStochasticPooling", module("inn.SpatialStochasticPooling", kW=3, kH=2, dW=2, dH=2), (2, 2, 7, 8), stochastic, low=0, high=1
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("ceil", [False, True])
def test_max_unpooling_takes_the_indices_of_its_pooling(ceil: bool, tmp_path: Path) -> None:
    x = np.round(rand(2, 3, 6, 7))  # with ties: the first in row-major order wins
    pool = pooling("nn.SpatialMaxPooling", (2, 3), (2, 3), (0, 1), ceil_mode=ceil)
    values = pooled(x, (2, 3), (2, 3), (0, 1), ceil)
    expected = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*values.shape):
        left, right = max(0, j * 3 - 1), min(7, j * 3 + 2)
        window = x[n, c, 2 * i : 2 * i + 2, left:right]
        row, column = np.unravel_index(window.argmax(), window.shape)
        expected[n, c, 2 * i + row, left + column] = values[n, c, i, j] * 2
    made = module("nn.Sequential", pool, module("nn.MulConstant", constant_scalar=2), module("nn.SpatialMaxUnpooling", pooling=pool))
    running.check(tmp_path, made, x, expected)
