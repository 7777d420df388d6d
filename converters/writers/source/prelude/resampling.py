"""Resizing by ONNX's formula, axis by axis."""

from __future__ import annotations

import math

import torch


def resize(
    x,
    scales=None,
    sizes=None,
    mode="nearest",
    transform="half_pixel",
    nearest_mode="round_prefer_floor",
    axes=None,
    cubic=-0.75,
    antialias=False,
    exclude_outside=False,
    policy="stretch",
    roi=None,
    outside=0.0,
):
    """Each axis is a matrix of weights; an axis that keeps its size and place is left alone."""
    axes = list(range(x.dim())) if axes is None else axes
    dtype = x.dtype
    if sizes is not None:
        scales = [size / x.shape[axis] for size, axis in zip(sizes, axes)]
        if policy != "stretch":
            scale = min(scales) if policy == "not_larger" else max(scales)
            scales = [scale] * len(axes)
            sizes = [int(math.floor(x.shape[axis] * scale + 0.5)) for axis in axes]
    else:
        sizes = [int(math.floor(x.shape[axis] * scale)) for scale, axis in zip(scales, axes)]
    empty = torch.zeros((), dtype=torch.bool, device=x.device)
    for position, (axis, size, scale) in enumerate(zip(axes, sizes, scales)):
        length = x.shape[axis]
        region = (0.0, 1.0) if roi is None else (roi[position], roi[position + len(axes)])
        if size == length and scale == 1 and roi is None:
            continue
        place = resize_places(length, size, scale, transform, region, x.device)
        if roi is not None:
            missing = (place < 0) | (place > length - 1)
            empty = empty | missing.view([-1 if i == axis else 1 for i in range(x.dim())])
        weights = resize_weights(
            place, length, scale, mode, nearest_mode, cubic, antialias, exclude_outside
        )
        if mode == "nearest":
            x = x.index_select(axis, weights)
        else:
            moved = x.movedim(axis, -1).double() @ weights.t()
            x = moved.movedim(-1, axis)
    if roi is not None:
        x = torch.where(empty, outside, x)
    return (
        x.to(dtype)
        if dtype.is_floating_point
        else x.round().to(dtype)
        if x.is_floating_point()
        else x
    )


def resize_places(length, size, scale, transform, region, device):
    """Where each output element lies in the input."""
    out = torch.arange(size, dtype=torch.float64, device=device)
    if transform == "align_corners":
        return out * ((length - 1) / (size - 1)) if size > 1 else out * 0
    if transform == "asymmetric":
        return out / scale
    if transform == "tf_crop_and_resize":
        start, end = region
        if size > 1:
            return start * (length - 1) + out * ((end - start) * (length - 1) / (size - 1))
        return out * 0 + 0.5 * (start + end) * (length - 1)
    if transform == "pytorch_half_pixel" and size == 1:
        return out * 0
    if transform == "half_pixel_symmetric":
        adjustment = size / (scale * length)
        centre = length / 2
        return centre * (1 - adjustment) + (out + 0.5) / scale - 0.5
    return (out + 0.5) / scale - 0.5


def resize_weights(place, length, scale, mode, nearest_mode, cubic, antialias, exclude_outside):
    """(out, in) weights; for mode nearest the indices themselves."""
    if mode == "nearest":
        if nearest_mode == "round_prefer_floor":
            index = (place - 0.5).ceil()
        elif nearest_mode == "round_prefer_ceil":
            index = (place + 0.5).floor()
        else:
            index = place.floor() if nearest_mode == "floor" else place.ceil()
        return index.clamp(0, length - 1).long()
    stretch = min(scale, 1.0) if antialias else 1.0
    reach = int(math.ceil((2 if mode == "cubic" else 1) / stretch))
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
    matrix = torch.zeros(len(place), length, dtype=torch.float64, device=place.device)
    return matrix.scatter_add_(1, index.clamp(0, length - 1), weight)
