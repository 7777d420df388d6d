"""Slices, pads and shapes that are computed at run time, or that torch has no single call for."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def reshape(x: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """0 keeps the size of that axis."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def expand(x: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Broadcast in both directions: a size of 1 keeps x's."""
    rank = max(x.dim(), len(shape))
    sizes = [1] * (rank - len(shape)) + shape
    own = [1] * (rank - x.dim()) + list(x.shape)
    return x.expand([mine if size == 1 else size for mine, size in zip(own, sizes)])


def unsqueeze(x: torch.Tensor, axes: list[int]) -> torch.Tensor:
    rank = x.dim() + len(axes)
    for axis in sorted([axis % rank for axis in axes]):
        x = x.unsqueeze(axis)
    return x


def slices(
    x: torch.Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> torch.Tensor:
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    for start, end, axis, step in zip(starts, ends, axes, steps):
        size = x.shape[axis]
        start, end = start + size if start < 0 else start, end + size if end < 0 else end
        lowest, highest = (0, size) if step > 0 else (-1, size - 1)
        first, last = min(max(start, 0), highest), min(max(end, lowest), highest)
        if (last - first) * step <= 0:
            last = first  # nothing, which arange takes for a mistake
        x = x.index_select(axis, torch.arange(first, last, step, device=x.device))
    return x


def pad(
    x: torch.Tensor, pads: list[int], mode: str, value: float = 0, axes: list[int] | None = None
) -> torch.Tensor:
    """Pads begin with those before each axis; negative ones crop.

    mode: constant, reflect, edge, wrap.
    """
    axes = list(range(x.dim())) if axes is None else axes
    if len(pads) != 2 * len(axes):
        raise ValueError(f"{len(pads)} pads are given for {len(axes)} axes")
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
            x = x.index_select(
                axis, torch.minimum(index, period - index) if size > 1 else index * 0
            )
    return x


def depth_to_space(x: torch.Tensor, block: int) -> torch.Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, block, block, c // (block * block), h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, c // (block * block), h * block, w * block)


def space_to_depth(x: torch.Tensor, block: int) -> torch.Tensor:
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * block * block, h // block, w // block)


def integers(values: torch.Tensor) -> list[int]:
    """The entries as Python's numbers."""
    found: list[int] = values.tolist()  # TorchScript asks for the type
    return found
