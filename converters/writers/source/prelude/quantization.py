"""Quantised numbers, computed in double precision where float32 couldn't hold them exactly."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def spread_scale(scale, x, axis, block):
    """A scale or zero point in a shape that goes with x.

    There is one for all, one per slice of the axis, or one per block.
    """
    if scale.numel() == 1 and not block:
        return scale.reshape(())
    if block:
        return scale.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return scale.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def scaled(x, scale, zero, axis, block):
    """x / scale + zero, not yet rounded."""
    result = x.float() / spread_scale(scale.float(), x, axis, block)
    return result if zero is None else result + spread_scale(zero.float(), x, axis, block)


def float4(x):
    """The nearest of four bits' numbers: 0, 0.5, 1, 1.5, 2, 3, 4 and 6, of either sign."""
    size = x.abs().clamp(max=6.0).nan_to_num(0.0)
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    return torch.copysign((size / step).round() * step, x)


def quantize(x, scale, zero, axis, block, low, high, dtype):
    result = (x / spread_scale(scale, x, axis, block)).round()
    if zero is not None:
        result = result + spread_scale(zero, x, axis, block).to(result.dtype)
    return result.clamp(low, high).to(dtype)


def dequantize(x, scale, zero, axis, block):
    values = x.to(torch.int64) if not x.is_floating_point() else x.to(scale.dtype)
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
        a = a - (
            a_zero.long()
            if a_zero.dim() != 1 or a_zero.numel() == 1
            else a_zero.long().unsqueeze(-1)
        )
    if b_zero is not None:
        b = b - b_zero.long()
    return (a @ b).int()


def qlinear_matmul(a, a_scale, a_zero, b, b_scale, b_zero, scale, zero, low, high, dtype):
    product = dequantized_zero(a, a_zero, -1) @ dequantized_zero(b, b_zero, -2)
    left = a_scale.double().unsqueeze(-1) if a_scale.numel() > 1 else a_scale.double()
    result = (product.double() * left * b_scale.double() / scale.double()).round()
    return (result + zero.double()).clamp(low, high).to(dtype)


def dequantized_zero(x, zero, axis):
    """Integers without their zero point, one for all or one per slice.

    A slice is a row of the left matrix, a column of the right.
    """
    if zero is None:
        return x.long()
    zero = zero.long()
    return x.long() - (
        zero.unsqueeze(axis) if zero.dim() >= 1 and zero.numel() > 1 else zero.reshape(())
    )


def conv_integer(x, weight, x_zero, w_zero, strides, pads, dilations, groups):
    dims = x.dim() - 2
    x = x.double() - (0 if x_zero is None else x_zero.double())
    weight = weight.double() - (
        0 if w_zero is None else w_zero.double().reshape([-1] + [1] * (dims + 1))
    )
    around = [p for axis in reversed(range(dims)) for p in (pads[axis], pads[axis + dims])]
    convolve = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    return convolve(F.pad(x, around), weight, None, strides, 0, dilations, groups)


def qlinear_conv(
    x,
    x_scale,
    x_zero,
    w,
    w_scale,
    w_zero,
    scale,
    zero,
    bias,
    strides,
    pads,
    dilations,
    groups,
    low,
    high,
    dtype,
):
    result = conv_integer(x, w, x_zero, w_zero, strides, pads, dilations, groups)
    per_channel = [-1] + [1] * (x.dim() - 2)
    if bias is not None:
        result = result + bias.double().reshape(per_channel)
    factor = x_scale.double() * w_scale.double() / scale.double()
    result = (result * (factor.reshape(per_channel) if factor.numel() > 1 else factor)).round()
    return (result + zero.double()).clamp(low, high).to(dtype)
