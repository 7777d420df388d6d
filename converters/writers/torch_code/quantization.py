"""Quantised numbers, computed in double precision where float32 couldn't hold them exactly."""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, disable-error-code="var-annotated"

from __future__ import annotations

import torch


def spread_scale(scale, x, axis, block):
    """A scale or zero point in a shape that goes with x: one for all, one per slice of the axis, or one per block."""
    if scale.numel() == 1 and not block:
        return scale.reshape(())
    if block:
        return scale.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return scale.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def quantize(x, scale, zero, axis, block, low, high, dtype):
    result = (x / spread_scale(scale, x, axis, block)).round()
    if zero is not None:
        result = result + spread_scale(zero, x, axis, block).to(result.dtype)
    return result.clamp(low, high).to(dtype)


def dequantize(x, scale, zero, axis, block):
    values = x.to(torch.int64) if not x.is_floating_point() else x
    if zero is not None:
        values = values - spread_scale(zero, x, axis, block).to(values.dtype)
    return values.to(scale.dtype) * spread_scale(scale, x, axis, block)


def dynamic_quantize(x):
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero = (-low / scale).round().clamp(0, 255)
    zero = torch.where(scale == 0, torch.zeros_like(zero), zero)
    quantized = torch.where(scale == 0, torch.zeros_like(x), (x / scale).round() + zero)
    return quantized.clamp(0, 255).to(torch.uint8), scale, zero.to(torch.uint8)


def matmul_integer(a, b, a_zero, b_zero):
    a, b = a.long(), b.long()
    if a_zero is not None:
        a = a - (a_zero.long() if a_zero.dim() != 1 or a_zero.numel() == 1 else a_zero.long().unsqueeze(-1))
    if b_zero is not None:
        b = b - b_zero.long()
    return (a @ b).int()
