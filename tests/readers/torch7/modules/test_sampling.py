"""Rows of sampling: formulas in numpy, written from the packages' sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

PLACES = np.float32([[-1, 1], [0.1, -0.4], [0.9, 0.9]])


def glimpses(images: np.ndarray, places: np.ndarray) -> np.ndarray:
    """dpnn/SpatialGlimpse.lua with 2 by 3 pixels, 3 depths, scale 2."""
    batch, channels = images.shape[:2]
    out = np.zeros((batch, 3, channels, 2, 3))
    for number in range(batch):
        y, x = (places[number] + 1) / 2
        for depth in range(3):
            over = 2**depth
            high, wide = 2 * over, 3 * over
            pad = (high - 1) // 2, (wide - 1) // 2
            padded = np.pad(images[number], ((0, 0), (pad[0],) * 2, (pad[1],) * 2))
            h, w = padded.shape[1] - high, padded.shape[2] - wide
            top, left = int(np.floor(min(h, max(0, y * h)))), int(np.floor(min(w, max(0, x * w))))
            crop = padded[:, top : top + high, left : left + wide]
            out[number, depth] = crop.reshape(channels, 2, over, 3, over).mean((2, 4))
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
        "AffineTransformMatrixGenerator_scale",
        module("nn.AffineTransformMatrixGenerator", useScale=True, useTranslation=True, useRotation=False),
        (3, 3),
        transform,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
