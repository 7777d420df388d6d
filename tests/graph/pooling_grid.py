"""The ceil_mode grid: kernel 1-5, stride 1-5, pad 0-4 (below the kernel), sizes 3-12, MAX and AVE, CEIL and FLOOR.

One Caffe net a size (H = size, W = 15 - size) with a pooling layer for every row, and what Caffe's formula gives.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

import converters
from tests.graph.pooling_formula import caffe_size, pool_2d

SIZES = range(3, 13)


def rows(size: int) -> list[tuple[str, int, int, int, str, str, list[int]]]:
    """(name, kernel, stride, pad, pool, round_mode, output size) of every row that Caffe accepts."""
    found = []
    for kernel, stride, pad, mode, rounding in itertools.product(range(1, 6), range(1, 6), range(5), ("MAX", "AVE"), ("CEIL", "FLOOR")):
        out = caffe_size((size, 15 - size), (kernel,) * 2, (stride,) * 2, (pad,) * 2, floor=rounding == "FLOOR")
        if pad < kernel and min(out) >= 1:
            found.append((f"k{kernel}_s{stride}_p{pad}_{mode}_{rounding}", kernel, stride, pad, mode, rounding, out))
    return found


def prototxt(size: int) -> str:
    layers = [f'input: "data" input_shape {{ dim: 2 dim: 2 dim: {size} dim: {15 - size} }}']
    for name, kernel, stride, pad, mode, rounding, _ in rows(size):
        layers.append(
            f'layer {{ name: "{name}" type: "Pooling" bottom: "data" top: "{name}" pooling_param '
            f"{{ pool: {mode} kernel_size: {kernel} stride: {stride} pad: {pad} round_mode: {rounding} }} }}"
        )
    return "\n".join(layers)


def picture(size: int) -> np.ndarray:
    """Numbers of both signs, mostly negative: a maximum over zero padding would show."""
    return (np.random.default_rng(size).standard_normal((2, 2, size, 15 - size)) - 1).astype(np.float32)


def expected(size: int) -> dict[str, np.ndarray]:
    x = picture(size)
    return {
        name: pool_2d(x, "max" if mode == "MAX" else "average", (kernel,) * 2, (stride,) * 2, (pad,) * 2, out)
        for name, kernel, stride, pad, mode, _, out in rows(size)
    }


def load(size: int, folder: Path):
    """The net as a model, read like any other."""
    path = folder / f"pooling_{size}.prototxt"
    path.write_text(prototxt(size))
    return converters.load(path)  # no layer here has weights
