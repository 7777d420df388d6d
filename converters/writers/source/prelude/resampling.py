"""Resizing by ONNX's formula, axis by axis."""

from __future__ import annotations

import math

import torch


def resize(
    x: torch.Tensor,
    scales: list[float] | None = None,
    sizes: list[int] | None = None,
    mode: str = "nearest",
    transform: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
    axes: list[int] | None = None,
    cubic: float = -0.75,
    antialias: bool = False,
    exclude_outside: bool = False,
    policy: str = "stretch",
    roi: list[float] | None = None,
    outside: float = 0.0,
) -> torch.Tensor:
    """Each axis is a matrix of weights; an axis that keeps its size and place is left alone."""
    axes = list(range(x.dim())) if axes is None else axes
    dtype = x.dtype
    is_floating = x.is_floating_point()
    if sizes is not None:
        if mode != "nearest" and x.dim() > 3 and axes[0] == 0 and sizes[0] != x.shape[0]:
            raise ValueError(f"the net resizes batches of {sizes[0]}, not of {x.shape[0]}")
        factors = [size / x.shape[axis] for size, axis in zip(sizes, axes)]
        wanted = sizes
        if policy != "stretch":
            factor = min(factors) if policy == "not_larger" else max(factors)
            factors = [factor for _ in axes]
            wanted = [int(math.floor(x.shape[axis] * factor + 0.5)) for axis in axes]
    else:
        assert scales is not None
        factors = scales
        products = [x.shape[axis] * factor for factor, axis in zip(factors, axes)]
        # ONNX multiplies in float32: to the nearest of 24 bits
        wanted = [int(math.floor(p * 536870913.0 - (p * 536870913.0 - p))) for p in products]
    empty = torch.zeros([1] * x.dim(), dtype=torch.bool, device=x.device)
    for position, axis in enumerate(axes):
        length, size, scale = x.shape[axis], wanted[position], factors[position]
        start, end = 0.0, 1.0
        if roi is not None:
            start, end = roi[position], roi[position + len(axes)]
        elif size == length and scale == 1:
            continue
        place = resize_places(length, size, scale, transform, start, end, x.device)
        if roi is not None:
            missing = (place < 0) | (place > length - 1)
            empty = empty | missing.view([-1 if i == axis else 1 for i in range(x.dim())])
        if mode == "nearest":
            x = x.index_select(axis, resize_indices(place, length, nearest_mode))
        else:
            weights = resize_weights(place, length, scale, mode, cubic, antialias, exclude_outside)
            x = (x.movedim(axis, -1).double() @ weights.t()).movedim(-1, axis)
    if roi is not None:
        x = torch.where(empty, torch.tensor(outside, dtype=x.dtype, device=x.device), x)
    return x.to(dtype) if is_floating or not x.is_floating_point() else x.round().to(dtype)


def resize_places(
    length: int,
    size: int,
    scale: float,
    transform: str,
    start: float,
    end: float,
    device: torch.device,
) -> torch.Tensor:
    """Where each output element lies in the input."""
    out = torch.arange(size, dtype=torch.float64, device=device)
    if transform == "align_corners":
        return out * ((length - 1) / (size - 1)) if size > 1 else out * 0
    if transform == "asymmetric":
        return out / scale
    if transform == "tf_half_pixel_for_nn":
        return (out + 0.5) / scale
    if transform == "tf_crop_and_resize":
        if size > 1:
            return start * (length - 1) + out * ((end - start) * (length - 1) / (size - 1))
        return out * 0 + 0.5 * (start + end) * (length - 1)
    if transform == "pytorch_half_pixel" and size == 1:
        return out * 0
    if transform == "half_pixel_symmetric":
        adjustment = size / (scale * length)
        center = length / 2
        return center * (1 - adjustment) + (out + 0.5) / scale - 0.5
    return (out + 0.5) / scale - 0.5


def resize_indices(place: torch.Tensor, length: int, nearest_mode: str) -> torch.Tensor:
    """The nearest input elements."""
    if nearest_mode == "round_prefer_floor":
        index = (place - 0.5).ceil()
    elif nearest_mode == "round_prefer_ceil":
        index = (place + 0.5).floor()
    else:
        index = place.floor() if nearest_mode == "floor" else place.ceil()
    return index.clamp(0, length - 1).long()


def resize_weights(
    place: torch.Tensor,
    length: int,
    scale: float,
    mode: str,
    cubic: float,
    antialias: bool,
    exclude_outside: bool,
) -> torch.Tensor:
    """An (out, in) matrix of weights."""
    stretch = min(scale, 1.0) if antialias else 1.0
    reach = int(math.ceil((2.0 if mode == "cubic" else 1.0) / stretch))
    taps = torch.arange(-reach, reach + 1, device=place.device)
    index = place.floor().long().unsqueeze(1) + taps
    distance = ((index - place.unsqueeze(1)) * stretch).abs()
    if mode == "linear":
        weight = (1 - distance).clamp(min=0)
    else:
        near = ((cubic + 2) * distance - (cubic + 3)) * distance**2 + 1
        far = ((cubic * distance - 5 * cubic) * distance + 8 * cubic) * distance - 4 * cubic
        weight = torch.where(
            distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far))
        )
    if exclude_outside or antialias:
        weight = (
            torch.where((index < 0) | (index >= length), torch.zeros_like(weight), weight)
            if exclude_outside
            else weight
        )
        weight = weight / weight.sum(1, keepdim=True)
    matrix = torch.zeros([place.shape[0], length], dtype=torch.float64, device=place.device)
    return matrix.scatter_add_(1, index.clamp(0, length - 1), weight)
