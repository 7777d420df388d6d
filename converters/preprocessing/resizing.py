"""Resizes as the original programs compute them, in numpy: OpenCV's, Torch's and scikit-image's; Pillow's is Pillow's own.

All take and give images of shape (H, W, C) and a size (height, width).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError

Image = NDArray[Any]
Size = tuple[int, int]

_FIXED_POINT = 2048  # OpenCV's weights of bytes have 11 bits


def opencv_linear(image: Image, size: Size) -> Image:
    """cv2.resize(..., INTER_LINEAR): half-pixel centers, no antialiasing. Bytes to the bit; other images as float64.

    Source: OpenCV 4 modules/imgproc/src/resize.cpp.
    """
    if image.shape[:2] == size:
        return image
    if image.dtype != np.uint8:
        return _plain_linear(_plain_linear(image.astype(np.float64), size[1], 1), size[0], 0)
    left, fraction = _opencv_positions(image.shape[1], size[1])
    fraction = np.where((left < 0) | (left >= image.shape[1] - 1), np.float32(0), fraction)
    left = left.clip(0, image.shape[1] - 1)
    right = np.minimum(left + 1, image.shape[1] - 1)
    keep, take = _fixed_weights(fraction)
    top, fraction = _opencv_positions(image.shape[0], size[0])
    upper, lower = top.clip(0, image.shape[0] - 1), (top + 1).clip(0, image.shape[0] - 1)
    whole = image.astype(np.int32)  # all numbers below stay under 2 ** 27
    across = np.take(whole, left, axis=1)
    across *= keep[None, :, None]
    second = np.take(whole, right, axis=1)
    second *= take[None, :, None]
    across += second
    across >>= 4
    keep, take = _fixed_weights(fraction)
    first, second = np.take(across, upper, axis=0), np.take(across, lower, axis=0)
    first *= keep[:, None, None]
    first >>= 16
    second *= take[:, None, None]
    second >>= 16
    first += second
    first += 2
    first >>= 2
    result: Image = first.clip(0, 255).astype(np.uint8)
    return result


def _opencv_positions(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where each sample lies: the pixel before it, and the fraction behind that; positions are float32."""
    position = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    before = np.floor(position)
    return before.astype(np.int64), position - before


def _fixed_weights(fraction: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    one = np.float32(1)
    return tuple(np.rint(part * np.float32(_FIXED_POINT)).astype(np.int32) for part in (one - fraction, fraction))


def _plain_linear(image: Image, target: int, axis: int) -> Image:
    source = image.shape[axis]
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    before = np.floor(position).astype(np.int64)
    shape = [1, 1, 1]
    shape[axis] = target
    fraction = (position - before).reshape(shape)
    first, second = (np.take(image, (before + offset).clip(0, source - 1), axis=axis) for offset in (0, 1))
    result: Image = first * (1 - fraction) + second * fraction
    return result


def torch_bicubic(image: Image, size: Size) -> Image:
    """image.scale(..., 'bicubic') of Lua Torch: corners aligned, no antialiasing, not clamped. float32, to the bit.

    Raises ConversionError for a side of one pixel, of which the original leaves samples unwritten. Source: torch/image generic/image.c.
    """
    across = _torch_cubic(image.astype(np.float32), size[1], 1)
    return _torch_cubic(across, size[0], 0)


def _torch_cubic(image: Image, target: int, axis: int) -> Image:
    rows = np.moveaxis(image, axis, 0)
    source = rows.shape[0]
    if source < 2 or target < 2:
        raise ConversionError(
            f"a side of {min(source, target)} pixel: Torch's bicubic resize is undefined there", hint="use another recipe"
        )
    scale = np.float32(source - 1) / np.float32(target - 1)
    position = np.arange(target - 1, dtype=np.float32) * scale
    at = position.astype(np.int64)
    x = (position - at.astype(np.float32)).reshape(-1, *[1] * (rows.ndim - 1))
    before = (2 * rows[0] - rows[1])[None]
    behind = (2 * rows[-1] - rows[-2])[None]
    padded = np.concatenate([before, rows, behind, behind])
    p_1, p0, p1, p2 = (padded[at + offset] for offset in range(4))
    a1 = p1 - p_1
    a2 = 2 * p_1 - 5 * p0 + 4 * p1 - p2
    a3 = 3 * (p0 - p1) + p2 - p_1
    inner = a1 + x * (a2 + x * a3)
    made = (p0 + 0.5 * x.astype(np.float64) * inner).astype(np.float32)
    return np.moveaxis(np.concatenate([made, rows[-1:]]), 0, axis)


def scikit_linear(image: Image, size: Size) -> Image:
    """skimage.transform.resize of scikit-image 0.13: float64, half-pixel centers, zeros outside, clipped to the image's own range.

    Later releases do the same with order=1, mode="constant", anti_aliasing=False. Source: skimage/transform/_warps.py.
    """
    framed = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    for axis, target in ((0, size[0]), (1, size[1])):
        source = framed.shape[axis] - 2
        position = (np.arange(target) + 0.5) * (source / target) - 0.5
        before = np.floor(position).astype(np.int64)
        shape = [1, 1, 1]
        shape[axis] = target
        fraction = (position - before).reshape(shape)
        first, second = (np.take(framed, (before + 1 + offset).clip(0, source + 1), axis=axis) for offset in (0, 1))
        framed = first * (1 - fraction) + second * fraction
    return framed.clip(image.min(), image.max())
