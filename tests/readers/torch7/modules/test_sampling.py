"""Rows of sampling: formulas in numpy, written from the packages' sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import converters
from tests.bench import check
from tests.readers.torch7.lua import dumps, module
from tests.readers.torch7.module_case import ModuleCase, rand

PLACES = np.float32([[-1, 1], [0.1, -0.4], [0.9, 0.9]])


def interpolated(crop: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (C, 2, 3), corners to corners."""
    for axis, size in ((1, 2), (2, 3)):
        at = np.linspace(0, crop.shape[axis] - 1, size)
        low = np.minimum(np.floor(at).astype(int), crop.shape[axis] - 2)
        part = (at - low).reshape([-1 if n == axis else 1 for n in range(3)])
        crop = crop.take(low, axis) * (1 - part) + crop.take(low + 1, axis) * part
    return crop


def glimpses(images: np.ndarray, places: np.ndarray, scale: float = 2) -> np.ndarray:
    """dpnn/SpatialGlimpse.lua with 2 by 3 pixels and 3 depths."""
    batch, channels = images.shape[:2]
    out = np.zeros((batch, 3, channels, 2, 3))
    for number in range(batch):
        y, x = (places[number] + 1) / 2
        high, wide = 2, 3
        for depth in range(3):
            if depth:
                high, wide = int(np.floor(high * scale)), int(np.floor(wide * scale))
            pad = (high - 1) // 2, (wide - 1) // 2
            padded = np.pad(images[number], ((0, 0), (pad[0],) * 2, (pad[1],) * 2))
            h, w = padded.shape[1] - high, padded.shape[2] - wide
            top, left = int(np.floor(min(h, max(0, y * h)))), int(np.floor(min(w, max(0, x * w))))
            crop = padded[:, top : top + high, left : left + wide]
            over = 2**depth
            out[number, depth] = crop.reshape(channels, 2, over, 3, over).mean((2, 4)) if scale == 2 else interpolated(crop)
    return out.reshape(batch, 3 * channels, 2, 3)


def transform(x: np.ndarray) -> np.ndarray:
    """A scale and a translation: [s I | s t]."""
    return np.stack([np.float64([[s, 0, s * a], [0, s, s * b]]) for s, a, b in x])


CASES = [
    ModuleCase(
        "SpatialGlimpse",
        module("nn.SpatialGlimpse", height=2, width=3, depth=3, scale=2),
        [rand(3, 2, 9, 10), PLACES],
        lambda x: glimpses(*x),
    ),
    ModuleCase(
        "SpatialGlimpse_interpolated",
        module("nn.SpatialGlimpse", height=2, width=3, depth=3, scale=1.5),
        [rand(3, 2, 9, 10), PLACES],
        lambda x: glimpses(*x, scale=1.5),
    ),
    ModuleCase(
        "AffineTransformMatrixGenerator_scale",
        module("nn.AffineTransformMatrixGenerator", useScale=True, useTranslation=True, useRotation=False),
        (3, 3),
        transform,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_grid_of_other_than_two_numbers_is_an_error(count: int, tmp_path: Path) -> None:
    """Torch7 refuses it; a third number isn't left aside."""
    path = tmp_path / "net.t7"
    path.write_bytes(dumps(module("nn.BilinearSamplerBHWD")))
    images, grids = rand(2, 4, 5, 3), rand(2, 3, 3, 2)
    net = converters.to_module(converters.load(path, inputs={"input_1": images.shape, "input_2": grids.shape}))
    assert net(torch.from_numpy(images), torch.from_numpy(grids)).shape == (2, 3, 3, 3)
    with pytest.raises(RuntimeError, match="split"):
        net(torch.from_numpy(images), torch.from_numpy(rand(2, 3, 3, count)))
