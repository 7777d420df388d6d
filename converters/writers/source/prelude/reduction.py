"""Reductions of integers and over axes that are computed."""

from __future__ import annotations

import math

import torch


def reduce(
    x: torch.Tensor, axes: list[int], kind: str, keepdim: bool, noop_with_empty_axes: bool
) -> torch.Tensor:
    """kind: the name of ONNX's operator. No axes are all axes, or none where that is asked for."""
    dtype = x.dtype
    if len(axes) == 0 and noop_with_empty_axes:
        if kind == "ReduceL1" or kind == "ReduceL2":
            return x.abs()
        if kind == "ReduceSumSquare":
            return x.square()
        return x.log() if kind == "ReduceLogSum" else x
    if x.dim() == 0:
        x, axes, keepdim = x.reshape(1), [0], False
    rank = x.dim()
    axes = sorted([axis % rank for axis in axes]) if len(axes) > 0 else list(range(rank))
    wide = x if x.is_floating_point() else x.double()
    if kind == "ReduceProd":
        for axis in axes:
            x = x.prod(axis, keepdim=True, dtype=dtype)
    elif (kind == "ReduceMax" or kind == "ReduceMin") and x.numel() == 0:
        sizes = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        if x.is_floating_point():
            x = x.new_full(sizes, -math.inf if kind == "ReduceMax" else math.inf)
        elif dtype == torch.bool:
            x = x.new_full(sizes, kind == "ReduceMin")
        else:
            unsigned = dtype == torch.uint8
            half = (1 << (8 * x.element_size() - 2)) - 1  # half of what a signed number reaches
            highest = 255 if unsigned else 2 * half + 1
            lowest = 0 if unsigned else -highest - 1
            x = x.new_full(sizes, lowest if kind == "ReduceMax" else highest)
    elif kind == "ReduceMax":
        x = x.amax(axes, keepdim=True)
    elif kind == "ReduceMin":
        x = x.amin(axes, keepdim=True)
    elif kind == "ReduceSum":
        x = x.sum(axes, keepdim=True, dtype=dtype)
    elif kind == "ReduceL1":
        x = x.abs().sum(axes, keepdim=True, dtype=dtype)
    elif kind == "ReduceSumSquare":
        x = (x * x).sum(axes, keepdim=True, dtype=dtype)
    elif kind == "ReduceMean" and not x.is_floating_point():
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        x = torch.div(x.sum(axes, keepdim=True), count, rounding_mode="trunc")
    elif kind == "ReduceMean":
        x = wide.mean(axes, keepdim=True)
    elif kind == "ReduceL2":
        x = wide.square().sum(axes, keepdim=True).sqrt()
    elif kind == "ReduceLogSum":
        x = wide.sum(axes, keepdim=True).log()
    else:
        x = wide.logsumexp(axes, keepdim=True)
    x = x.to(dtype)
    return x if keepdim else x.squeeze(axes)


def cumulate_before(x, axis, reverse, cumulate):
    """Sums or products of what comes before each element, which itself isn't part of it."""
    x = x.flip(axis) if reverse else x
    first = x.narrow(axis, 0, 1)
    start = torch.zeros_like(first) if cumulate is torch.cumsum else torch.ones_like(first)
    rest = cumulate(x.narrow(axis, 0, x.shape[axis] - 1), axis, dtype=x.dtype)
    result = torch.cat([start, rest], axis)
    return result.flip(axis) if reverse else result
