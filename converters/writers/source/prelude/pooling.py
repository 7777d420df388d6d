"""Pooling with pads, dilations and counts that torch.nn.functional doesn't take."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, disable-error-code="var-annotated"
# ruff: noqa: B905

from __future__ import annotations

import torch
import torch.nn.functional as F


def pooled_pads(x, kernel, stride, pads, dilation, ceil_mode):
    """Pads for F.pad with which a pool without padding sees exactly the right windows, and the ends of the counted padding."""
    dims = len(kernel)
    result, counted = [], []
    for axis in reversed(range(dims)):
        begin, end, size = pads[axis], pads[axis + dims], x.shape[axis - dims]
        span = dilation[axis] * (kernel[axis] - 1) + 1
        steps = size + begin + end - span
        count = (-(-steps // stride[axis]) if ceil_mode else steps // stride[axis]) + 1
        if ceil_mode and (count - 1) * stride[axis] >= size + begin:  # a window that starts behind the data
            count -= 1
        last = (count - 1) * stride[axis] + span - begin - size
        result += [begin, last]
        counted += [begin, min(end, last)]
    return result, counted


def max_pool(x, kernel, stride, pads, dilation, ceil_mode):
    dims, dtype = len(kernel), x.dtype
    if not x.is_floating_point():
        x = x.double()
    around, _ = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]
    return pool(F.pad(x, around, value=-float("inf")), kernel, stride, 0, dilation).to(dtype)


def max_pool_with_indices(x, kernel, stride, pads, dilation, ceil_mode, column_major):
    """Maxima and their positions in x, counted through the whole tensor."""
    dims, dtype, sizes = len(kernel), x.dtype, x.shape[2:]
    if not x.is_floating_point():
        x = x.double()
    around, _ = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    padded = F.pad(x, around, value=-float("inf"))
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[dims - 1]
    values, indices = pool(padded, kernel, stride, 0, dilation, return_indices=True)
    position = torch.zeros_like(indices)
    factor = 1
    places = []
    for axis in reversed(range(dims)):
        length = padded.shape[axis + 2]
        places.insert(0, indices % length - around[2 * (dims - 1 - axis)])
        indices = indices // length
    for axis in range(dims) if column_major else reversed(range(dims)):
        position += places[axis] * factor
        factor *= sizes[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device) * factor
    return values.to(dtype), position + planes.view(x.shape[:2] + (1,) * dims)


def window_sums(x, kernel, stride, dilation):
    """The sum of each window. x: (N, C, ...)."""
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(kernel) - 1]
    sums = convolve(x.flatten(0, 1).unsqueeze(1), x.new_ones([1, 1, *kernel]), None, stride, 0, dilation)
    return sums.squeeze(1).unflatten(0, x.shape[:2])


def average_pool(x, kernel, stride, pads, dilation, ceil_mode, count_include_pad):
    around, counted = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    ones = torch.ones_like(x[:1, :1])
    if count_include_pad:
        ones = F.pad(ones, counted, value=1.0)
        rest = [a - c for a, c in zip(around, counted)]
        counts = window_sums(F.pad(ones, rest), kernel, stride, dilation)
    else:
        counts = window_sums(F.pad(ones, around), kernel, stride, dilation)
    return window_sums(F.pad(x, around), kernel, stride, dilation) / counts


def lp_pool(x, p, kernel, stride, pads, dilation, ceil_mode):
    around, _ = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    return window_sums(F.pad(x.abs().pow(p), around), kernel, stride, dilation).pow(1 / p)
