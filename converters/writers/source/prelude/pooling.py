"""Pooling with pads, dilations and counts that torch.nn.functional doesn't take."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def pad_same(
    x, kernel: list[int], strides: list[int], dilations: list[int], upper: bool, value: float
):
    """Pads so that an axis gives size / stride windows; an odd one goes behind, or before it."""
    pads = torch.jit.annotate(list[int], [])
    for i in range(len(kernel)):
        axis = len(kernel) - 1 - i
        size = x.shape[2 + axis]
        step = strides[axis]
        total = max(
            ((size + step - 1) // step - 1) * step
            + (kernel[axis] - 1) * dilations[axis]
            + 1
            - size,
            0,
        )
        small = total // 2
        pads.append(small if upper else total - small)
        pads.append(total - small if upper else small)
    return F.pad(x, pads, value=value)


def of_size(x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """x, whose axes from the third on must have these lengths."""
    if list(x.shape[2:]) != sizes:
        raise ValueError(f"the net is made for sizes of {sizes}, not of {list(x.shape[2:])}")
    return x


def pooled_pads(
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> tuple[list[int], list[int]]:
    """Pads for F.pad with which a pool without padding sees exactly the right windows.

    Also the ends of the padding that counts in an average.
    """
    dims = len(kernel)
    result: list[int] = []
    counted: list[int] = []
    for number in range(dims):
        axis = dims - 1 - number
        begin, end, size = pads[axis], pads[axis + dims], x.shape[2 + axis]
        span = dilation[axis] * (kernel[axis] - 1) + 1
        steps = size + begin + end - span
        count = (-(-steps // stride[axis]) if ceil_mode else steps // stride[axis]) + 1
        if (
            ceil_mode and (count - 1) * stride[axis] >= size + begin
        ):  # it would start behind the data
            count -= 1
        last = (count - 1) * stride[axis] + span - begin - size
        result += [begin, last]
        counted += [begin, min(end, last)]
    return result, counted


def max_pool(
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> torch.Tensor:
    dtype = x.dtype
    if not x.is_floating_point():
        x = x.double()
    around, _ = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    x = F.pad(x, around, value=-float("inf"))
    if len(kernel) == 1:
        return F.max_pool1d(x, kernel, stride, 0, dilation).to(dtype)
    if len(kernel) == 2:
        return F.max_pool2d(x, kernel, stride, 0, dilation).to(dtype)
    return F.max_pool3d(x, kernel, stride, 0, dilation).to(dtype)


def max_pool_with_indices(
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    ceil_mode: bool,
    column_major: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Maxima and their positions in x, counted through the whole tensor."""
    dims, dtype, sizes = len(kernel), x.dtype, list(x.shape)
    if not x.is_floating_point():
        x = x.double()
    around, _ = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    padded = F.pad(x, around, value=-float("inf"))
    if dims == 1:
        values, indices = F.max_pool1d_with_indices(padded, kernel, stride, [0] * dims, dilation)
    elif dims == 2:
        values, indices = F.max_pool2d_with_indices(padded, kernel, stride, [0] * dims, dilation)
    else:
        values, indices = F.max_pool3d_with_indices(padded, kernel, stride, [0] * dims, dilation)
    places: list[torch.Tensor] = []
    for number in range(dims):
        length = padded.shape[dims + 1 - number]
        places.insert(0, indices % length - around[2 * number])
        indices = torch.div(indices, length, rounding_mode="floor")
    position = torch.zeros_like(indices)
    factor = 1
    for number in range(dims):
        axis = number if column_major else dims - 1 - number
        position = position + places[axis] * factor
        factor *= sizes[axis + 2]
    planes = torch.arange(sizes[0] * sizes[1], device=x.device) * factor
    return values.to(dtype), position + planes.view([sizes[0], sizes[1]] + [1] * dims)


def window_sums(
    x: torch.Tensor, kernel: list[int], stride: list[int], dilation: list[int]
) -> torch.Tensor:
    """The sum of each window. x: (N, C, ...)."""
    ones = torch.ones([1, 1] + kernel, dtype=x.dtype, device=x.device)
    planes = x.flatten(0, 1).unsqueeze(1)
    if len(kernel) == 1:
        sums = F.conv1d(planes, ones, None, stride, 0, dilation)
    elif len(kernel) == 2:
        sums = F.conv2d(planes, ones, None, stride, 0, dilation)
    else:
        sums = F.conv3d(planes, ones, None, stride, 0, dilation)
    return sums.squeeze(1).unflatten(0, (x.shape[0], x.shape[1]))


def average_pool(
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> torch.Tensor:
    around, counted = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    ones = torch.ones_like(x[:1, :1])
    if count_include_pad:
        ones = F.pad(ones, counted, value=1.0)
        rest = [a - c for a, c in zip(around, counted)]
        counts = window_sums(F.pad(ones, rest), kernel, stride, dilation)
    else:
        counts = window_sums(F.pad(ones, around), kernel, stride, dilation)
    return window_sums(F.pad(x, around), kernel, stride, dilation) / counts


def lp_pool(
    x: torch.Tensor,
    p: int,
    kernel: list[int],
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> torch.Tensor:
    around, _ = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    return window_sums(F.pad(x.abs().pow(p), around), kernel, stride, dilation).pow(1 / p)
