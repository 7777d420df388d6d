"""Transforms of signals, and patches put back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def dft(x, axis, length, inverse, onesided):
    """x: (..., 1) real or (..., 2) complex."""
    axis = axis % x.dim()
    dtype = x.dtype
    wide = x.float() if dtype in (torch.float16, torch.bfloat16) else x
    if inverse and onesided:  # half of a spectrum, back to a real signal
        return (
            torch.fft.irfft(torch.view_as_complex(wide.contiguous()), length, axis)
            .unsqueeze(-1)
            .to(dtype)
        )
    if x.shape[-1] == 1:
        signal = wide[..., 0]
        if onesided:
            return torch.view_as_real(torch.fft.rfft(signal, length, axis)).to(dtype)
        signal = torch.complex(signal, torch.zeros_like(signal))
    else:
        signal = torch.view_as_complex(wide.contiguous())
    result = (
        torch.fft.ifft(signal, length, axis) if inverse else torch.fft.fft(signal, length, axis)
    )
    result = torch.view_as_real(result)
    if onesided:
        result = result.narrow(axis, 0, result.shape[axis] // 2 + 1)
    return result.to(dtype)


def stft(x, step, window, length, onesided):
    """x: (N, L, 1 or 2) or (N, L)."""
    length = window.shape[0] if length is None else int(length)
    x = x.unsqueeze(-1) if x.dim() == 2 else x
    frames = x.movedim(1, -1).unfold(-1, length, int(step)).movedim(1, -1)
    if window is not None:
        frames = frames * window.view(1, 1, -1, 1)
    return dft(frames, 2, length, False, onesided)


def col2im(x, image, block, dilations, pads, strides):
    """x: (N, C * prod(block), L); overlapping patches are added."""
    dims = len(image)
    dilations, strides = dilations or [1] * dims, strides or [1] * dims
    pads = pads or [0] * 2 * dims
    padded = [size + pads[i] + pads[i + dims] for i, size in enumerate(image)]
    counts = [
        (size - d * (k - 1) - 1) // s + 1
        for size, d, k, s in zip(padded, dilations, block, strides)
    ]
    patches = x.reshape(x.shape[0], x.shape[1] // math.prod(block), math.prod(block), *counts)
    result = x.new_zeros(x.shape[0], patches.shape[1], *padded)
    for number in range(math.prod(block)):
        tap = [number // math.prod(block[axis + 1 :]) % block[axis] for axis in range(dims)]
        place = [
            slice(t * d, t * d + s * (c - 1) + 1, s)
            for t, d, s, c in zip(tap, dilations, strides, counts)
        ]
        result[(slice(None), slice(None), *place)] += patches[:, :, number]
    return result[
        (
            slice(None),
            slice(None),
            *(slice(pads[i], pads[i] + size) for i, size in enumerate(image)),
        )
    ]


def max_unpool(x, indices, kernel, strides, pads, size):
    """indices count through the whole pooled tensor's input, (N, C, ...)."""
    dims = len(kernel)
    inferred = [
        (n - 1) * s + k - pads[i] - pads[i + dims]
        for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel))
    ]
    first = list(x.shape[:2]) + inferred
    flat = x.new_zeros(math.prod(first)).scatter(0, indices.flatten(), x.flatten()).reshape(first)
    if size is None:
        return flat
    result = x.new_zeros(size)
    result[tuple(slice(0, n) for n in first)] = flat
    return result


def deform_conv(
    x, weight, offset, kernel, bias, mask, strides, pads, dilations, groups, offset_groups
):
    """x: (N, C, H, W), offset: (N, 2 * offset_groups * taps, H', W')."""
    n, channels, height, width = x.shape
    rows, columns = offset.shape[2:]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    wanted = [(x.shape[2 + i] + pads[i] + pads[i + 2] - reach[i]) // strides[i] + 1 for i in (0, 1)]
    if list(offset.shape[2:]) != wanted:
        raise ValueError(f"offsets for {rows} x {columns} places; the image has {wanted}")
    taps = kernel[0] * kernel[1]
    offset = offset.reshape(n, offset_groups, taps, 2, rows, columns)
    step_y = torch.arange(rows, device=x.device, dtype=x.dtype).view(-1, 1) * strides[0] - pads[0]
    step_x = torch.arange(columns, device=x.device, dtype=x.dtype) * strides[1] - pads[1]
    patches = []
    for tap in range(taps):
        y = step_y + tap // kernel[1] * dilations[0] + offset[:, :, tap, 0]
        z = step_x + tap % kernel[1] * dilations[1] + offset[:, :, tap, 1]
        grid = torch.stack([(2 * z + 1) / width - 1, (2 * y + 1) / height - 1], -1).flatten(0, 1)
        part = F.grid_sample(
            x.reshape(n * offset_groups, -1, height, width), grid, align_corners=False
        )
        part = part.reshape(n, offset_groups, channels // offset_groups, rows, columns)
        if mask is not None:
            part = part * mask.reshape(n, offset_groups, taps, 1, rows, columns)[:, :, tap]
        patches.append(part.reshape(n, channels, rows, columns))
    columns_of = torch.stack(patches, 2).reshape(n, groups, -1, rows * columns)
    result = weight.reshape(groups, weight.shape[0] // groups, -1) @ columns_of
    result = result.reshape(n, weight.shape[0], rows, columns)
    return result if bias is None else result + bias.view(-1, 1, 1)
