"""Pooling windows: how many there are, and what an average divides by. Plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = Sequence[int]
Clip = Literal["never", "padded", "always"]


def output_sizes(
    sizes: Ints,
    kernel: Ints,
    strides: Ints,
    pads: Ints,
    *,
    ceil: bool,
    clip: Clip,
    dilations: Ints | None = None,
) -> list[int]:
    """Number of windows along each axis: round((size + 2 pad - extent) / stride) + 1, less a last window that starts too late.

    clip: when a last window that starts at or behind the image's end plus its pad is dropped: "always" (PyTorch, ONNX), "padded"
    (Caffe and Torch7: on every axis as soon as one axis is padded), "never" (MXNet, cuDNN). A result may be < 1: the caller
    reports it.
    """
    drops = clip == "always" or (clip == "padded" and any(pads))
    counts = []
    for size, k, s, p, d in zip(sizes, kernel, strides, pads, dilations or [1] * len(kernel), strict=True):
        room = size + 2 * p - (d * (k - 1) + 1)
        count = (-(-room // s) if ceil else room // s) + 1
        if drops and (count - 1) * s >= size + p:
            count -= 1
        counts.append(count)
    return counts


def divisors(
    sizes: Ints, kernel: Ints, strides: Ints, pads: Ints, out: Ints, *, real: bool, pads_behind: Ints | None = None
) -> NDArray[np.float64]:
    """What each average divides by, as an array of shape `out`; 0 or negative factors where a window starts behind the end.

    Along an axis it is end - start with start = i * stride - pad and end = min(start + kernel, size + pad behind); `real` clips
    both to the image afterwards.
    """
    table = np.ones(())
    for size, k, s, p, o, q in zip(sizes, kernel, strides, pads, out, pads_behind or pads, strict=True):
        start = np.arange(o) * s - p
        end = np.minimum(start + k, size + q)
        if real:
            start, end = np.maximum(start, 0), np.minimum(end, size)
        table = np.multiply.outer(table, (end - start).astype(np.float64))
    return table
