"""Slices, pads and shapes that are computed at run time, or that torch has no single call for."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, disable-error-code="var-annotated"
# ruff: noqa: B905

from __future__ import annotations

import torch
import torch.nn.functional as F


def reshape(x, shape):
    """0 keeps the size of that axis."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def expand(x, shape):
    """Broadcast in both directions: a size of 1 keeps x's."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def unsqueeze(x, axes):
    for axis in sorted(axis % (x.dim() + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def slices(x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps):
        size = x.shape[axis]
        start, end = (v + size if v < 0 else v for v in (start, end))
        lowest, highest = (0, size) if step > 0 else (-1, size - 1)
        picked = range(min(max(start, 0), highest), min(max(end, lowest), highest), step)
        x = x.index_select(axis, torch.tensor(list(picked), dtype=torch.int64, device=x.device))
    return x


def pad(x, pads, mode, value=0, axes=None):
    """Pads begin with those before each axis; negative ones crop. mode: constant, reflect, edge, wrap."""
    axes = range(x.dim()) if axes is None else axes
    for position, axis in enumerate(axes):
        before, after = pads[position], pads[position + len(axes)]
        size = x.shape[axis]
        index = torch.arange(-before, size + after, device=x.device)
        if mode == "constant":
            around = [0, 0] * (x.dim() - 1 - axis % x.dim()) + [before, after]
            x = F.pad(x, around, value=value)
        elif mode == "edge":
            x = x.index_select(axis, index.clamp(0, size - 1))
        elif mode == "wrap":
            x = x.index_select(axis, index % size)
        else:
            period = max(2 * (size - 1), 1)
            index = index % period
            x = x.index_select(axis, torch.minimum(index, period - index) if size > 1 else index * 0)
    return x


def depth_to_space(x, block):
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // block**2, h * block, w * block)


def space_to_depth(x, block):
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * block**2, h // block, w // block)
