"""Pooling by its definition, one window after the other: the independent reference of the pooling tests."""

from __future__ import annotations

import math

import numpy as np

LOWEST = float(np.finfo(np.float32).min)


def caffe_size(size, kernel, stride, pad, *, floor=False):
    """Windows along (H, W) as caffe/src/caffe/layers/pooling_layer.cpp counts them."""
    rounding = math.floor if floor else math.ceil
    out = [rounding((n + 2 * p - k) / s) + 1 for n, k, s, p in zip(size, kernel, stride, pad, strict=True)]
    if any(pad):
        out = [o - ((o - 1) * s >= n + p) for o, n, s, p in zip(out, size, stride, pad, strict=True)]
    return out


def torch_size(size, kernel, stride, pad, *, ceil):
    """Windows along each axis as aten/src/ATen/native/Pool.h counts them."""
    out = []
    for n, k, s, p in zip(size, kernel, stride, pad, strict=True):
        count = (n + 2 * p - k + (s - 1 if ceil else 0)) // s + 1
        out.append(count - (ceil and (count - 1) * s >= n + p))
    return out


def pool_2d(x, mode, kernel, stride, pad, out, divisor="padded"):
    """x (N, C, H, W) -> (N, C, *out). An empty maximum is the lowest float; an average divides what `divisor` counts, 0/0 being NaN."""
    height, width = x.shape[2:]
    result = np.empty((*x.shape[:2], *out))
    for i in range(out[0]):
        for j in range(out[1]):
            top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
            bottom, right = min(top + kernel[0], height + pad[0]), min(left + kernel[1], width + pad[1])
            padded = (bottom - top) * (right - left)
            top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
            window = x[:, :, top:bottom, left:right].astype(np.float64)
            empty = bottom <= top or right <= left
            if mode == "max":
                result[:, :, i, j] = LOWEST if empty else window.max((2, 3))
                continue
            total = 0.0 if empty else window.sum((2, 3))
            count = {"padded": padded, "real": (bottom - top) * (right - left), "kernel": kernel[0] * kernel[1]}.get(divisor, 1)
            with np.errstate(all="ignore"):
                result[:, :, i, j] = np.divide(total, np.float64(count))
    return result
