"""Reductions of integers and over axes that are computed."""

from __future__ import annotations

import math

import torch


def reduce(x, axes, kind, keepdim, noop_with_empty_axes):
    dtype = x.dtype
    if not axes and noop_with_empty_axes:
        simple = {
            "ReduceL1": x.abs,
            "ReduceL2": x.abs,
            "ReduceSumSquare": x.square,
            "ReduceLogSum": x.log,
        }
        return simple[kind]() if kind in simple else x
    axes = sorted(axis % x.dim() for axis in axes) or list(range(x.dim()))
    if not axes:
        return reduce(x.reshape(1), [0], kind, False, False)
    if kind == "ReduceProd":
        for axis in axes:
            x = x.prod(axis, keepdim=True, dtype=dtype)
    elif kind in ("ReduceMax", "ReduceMin") and x.numel() == 0:
        sizes = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        if dtype.is_floating_point:
            lowest, highest = -math.inf, math.inf
        else:
            lowest, highest = (
                (False, True)
                if dtype == torch.bool
                else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
            )
        x = x.new_full(sizes, lowest if kind == "ReduceMax" else highest)
    elif kind in ("ReduceMax", "ReduceMin"):
        x = x.amax(axes, keepdim=True) if kind == "ReduceMax" else x.amin(axes, keepdim=True)
    elif kind in ("ReduceSum", "ReduceL1", "ReduceSumSquare"):
        x = {"ReduceSum": x, "ReduceL1": x.abs(), "ReduceSumSquare": x * x}[kind].sum(
            axes, keepdim=True, dtype=dtype
        )
    elif kind == "ReduceMean" and not x.is_floating_point():
        count = math.prod(x.shape[axis] for axis in axes)
        x = torch.div(x.sum(axes, keepdim=True), count, rounding_mode="trunc")
    else:
        wide = x if x.is_floating_point() else x.double()
        if kind == "ReduceMean":
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
