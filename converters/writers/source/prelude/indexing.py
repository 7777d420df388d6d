"""Picking and placing by index."""

from __future__ import annotations

import math

import torch


def wrapped(index: torch.Tensor, size: int) -> torch.Tensor:
    """Indices below zero count from the end."""
    index = index.long()
    return torch.where(index < 0, index + size, index)


def gather_nd(x: torch.Tensor, indices: torch.Tensor, batch_dims: int) -> torch.Tensor:
    depth = indices.shape[-1]
    batch = x.shape[:batch_dims]
    count = math.prod(batch)
    flat = x.reshape(count, *x.shape[batch_dims:])
    index = indices.long().reshape(count, -1, depth)
    rows = torch.arange(count, device=x.device).unsqueeze(1).expand(index.shape[:2])
    picked = flat[(rows, *index.unbind(-1))]
    return picked.reshape(*indices.shape[:-1], *x.shape[batch_dims + depth :])


def scatter_nd(
    x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor, reduction: str
) -> torch.Tensor:
    depth = indices.shape[-1]
    places = indices.long().reshape(-1, depth)
    flat_index = torch.zeros(places.shape[0], dtype=torch.int64, device=x.device)
    for axis in range(depth):
        flat_index = flat_index * x.shape[axis] + wrapped(places[:, axis], x.shape[axis])
    rows, columns = 1, 1
    for axis, size in enumerate(x.shape):
        rows, columns = (rows * size, columns) if axis < depth else (rows, columns * size)
    flat = x.reshape(rows, columns)
    values = updates.reshape(places.shape[0], columns)
    index = flat_index.unsqueeze(1).expand_as(values)
    if reduction == "none":
        result = flat.scatter(0, index, values)
    else:
        kind = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
        result = flat.scatter_reduce(0, index, values, kind)
    return result.reshape(x.shape)


def one_hot(indices, depth, values, axis):
    """values: (off, on). Indices outside of [-depth, depth) give no on value."""
    classes = torch.arange(int(depth), device=indices.device)
    index = torch.where(indices < 0, indices + int(depth), indices)
    hot = index.unsqueeze(-1) == classes
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


def compress(x: torch.Tensor, condition: torch.Tensor, axis: int) -> torch.Tensor:
    picked = condition.nonzero().flatten()
    return x.index_select(axis, picked)


def top_k(x: torch.Tensor, k: int, axis: int, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted; of equal values the one with the lower index comes first."""
    # Sorting all of them takes longer than finding k of them, which needs numbers no two of which
    # are equal: the bits of each value, in its order (NaN the largest), and behind them its place.
    if not torch.jit.is_scripting() and x.dtype == torch.float32:  # TorchScript doesn't read bits
        size, behind = x.shape[axis], x.dim() - 1 - axis % x.dim()
        bits = (x + 0.0).contiguous().view(torch.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        bits = bits.masked_fill(x.isnan(), 0x7FFFFFFF)
        places = torch.arange(size, device=x.device)
        places = (size - 1 - places) if largest else places
        keys = (bits.long() << 32) + places.reshape([-1] + [1] * behind)
        indices = keys.topk(k, axis, largest, True)[0] & 0xFFFFFFFF
        indices = (size - 1 - indices) if largest else indices
        return x.gather(axis, indices), indices
    values, indices = x.sort(dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


def unique(x, axis, in_order):
    """Values, first positions, inverse and counts; in order of size, or of first appearance."""
    flat = x.reshape(-1, 1) if axis is None else x.movedim(axis, 0)
    rows, inverse, counts = torch.unique(
        flat.reshape(flat.shape[0], -1), dim=0, return_inverse=True, return_counts=True
    )
    positions = torch.arange(flat.shape[0], device=x.device)
    first = torch.full((rows.shape[0],), flat.shape[0], device=x.device).scatter_reduce(
        0, inverse, positions, "amin"
    )
    if not in_order:
        order = first.argsort()
        rank = torch.empty_like(order).scatter(0, order, torch.arange(len(order), device=x.device))
        rows, first, counts, inverse = rows[order], first[order], counts[order], rank[inverse]
    values = rows.reshape(rows.shape[0], *flat.shape[1:])
    return (values.flatten() if axis is None else values.movedim(0, axis)), first, inverse, counts


def tensor_scatter(cache, update, starts, axis, circular):
    axis = axis % cache.dim()
    steps = torch.arange(update.shape[axis], device=cache.device)
    starts = (
        torch.zeros(cache.shape[0], dtype=torch.int64, device=cache.device)
        if starts is None
        else starts
    )
    places = starts.view(-1, 1) + steps
    if circular:
        places = places % cache.shape[axis]
    shape = [1] * cache.dim()
    shape[0], shape[axis] = places.shape
    return cache.scatter(axis, places.reshape(shape).expand(update.shape), update)
