"""Pooling. Sources: mxnet src/operator/nn/pooling.cc, pool.h, pooling_v1-inl.h, contrib/adaptive_avg_pooling.cc."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.graph.pooling import adaptive_pool, pool
from converters.graph.windows import output_sizes
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import cube_root
from converters.readers.mxnet.operators.convolution import channels_last, spatial, to_channels_first, to_channels_last
from converters.readers.mxnet.signature import lowers


def pooled(
    g: OperatorBuilder,
    data: ir.Value,
    *,
    kernel: Ints = (),
    pool_type: Literal["max", "avg", "sum", "lp"] = "max",
    global_pool: bool = False,
    pooling_convention: Literal["valid", "full", "same"] = "valid",
    stride: Ints = (),
    pad: Ints = (),
    p_value: int | None = None,
    count_include_pad: bool | None = None,
    layout: str | None = None,
) -> ir.Value:
    """Max, average, sum and Lp pooling of 1 to 3 axes, "valid" or "full"; an Lp sums powers, not powers of magnitudes.

    Source: mxnet src/operator/nn/pool.h.
    """
    last = channels_last(layout)
    x = to_channels_first(g, data) if last else data
    if pool_type == "lp" and p_value not in (1, 2, 3):
        raise g.error(f"attribute p_value is {p_value}; an lp pooling takes 1, 2 or 3")
    if global_pool:
        result = global_pooling(g, x, pool_type, p_value)
    else:
        if not kernel:
            raise g.error("attribute kernel is missing, and global_pool isn't set")
        if pooling_convention == "same":
            raise g.error("pooling_convention 'same' is one that MXNet itself doesn't run; use valid or full")
        strides, pads = spatial(g, "stride", stride, kernel, 1, 1), spatial(g, "pad", pad, kernel, 0, 0)
        sizes = _sizes(g, x, kernel, pads)
        out = output_sizes(sizes, kernel, strides, pads, ceil=pooling_convention == "full", clip="never")
        g.check_table(*(max(1, o) for o in out))
        power = _power(g, x, p_value) if pool_type == "lp" else x
        mode: Literal["max", "average", "sum"] = "max" if pool_type == "max" else "average" if pool_type == "avg" else "sum"
        divisor: Literal["real", "padded"] = "real" if count_include_pad is False else "padded"
        result = _pool(g, power, mode, kernel, strides, pads, out, divisor, pooling_convention == "full")
        result = _root(g, result, p_value) if pool_type == "lp" else result
    return to_channels_last(g, result) if last else result


lowers("Pooling", "_npx_pooling", ignores="cudnn_off")(pooled)


def _pool(
    g: OperatorBuilder,
    x: ir.Value,
    mode: Literal["max", "average", "sum"],
    kernel: Ints,
    strides: list[int],
    pads: list[int],
    out: list[int],
    divisor: Literal["real", "padded", "kernel"],
    full: bool,
) -> ir.Value:
    """A pool whose windows follow the image's size. MXNet keeps a last window that starts in the pads."""
    return pool(g, x, mode, kernel=kernel, strides=strides, pads=pads, out=out, divisor=divisor, ceil=full, clip="never")


def _sizes(g: OperatorBuilder, x: ir.Value, kernel: Ints, pads: list[int]) -> tuple[int, ...]:
    if g.rank(x) != len(kernel) + 2:
        raise g.error(f"a kernel of {len(kernel)} axes needs an input of {len(kernel) + 2} axes (N, C, ...), but it has shape {g.shape(x)}")
    sizes = g.fixed(x, 2)
    if any(k > size + 2 * p for k, size, p in zip(kernel, sizes, pads, strict=True)):
        raise g.error(f"kernel {kernel} is larger than the input of shape {g.shape(x)} with pad {tuple(pads)}")
    return sizes


def global_pooling(g: OperatorBuilder, x: ir.Value, pool_type: str, p_value: int | None) -> ir.Value:
    """One number per channel, the spatial axes kept as size 1."""
    if g.rank(x) < 3:
        raise g.error(f"a global pooling needs an input (N, C, ...), but it has shape {g.shape(x)}")
    if pool_type in ("max", "avg"):
        return g.emit("GlobalMaxPool" if pool_type == "max" else "GlobalAveragePool", x)
    axes = list(range(2, g.rank(x)))
    power = _power(g, x, p_value) if pool_type == "lp" else x
    result = g.emit("ReduceSum", power, axes, keepdims=1)
    return _root(g, result, p_value) if pool_type == "lp" else result


def _power(g: OperatorBuilder, x: ir.Value, p: int | None) -> ir.Value:
    result = x
    for _ in range((p or 1) - 1):
        result = g.emit("Mul", result, x)
    return result


def _root(g: OperatorBuilder, x: ir.Value, p: int | None) -> ir.Value:
    if p == 1:
        return x
    return g.emit("Sqrt", x) if p == 2 else cube_root(g, x)


@lowers("Pooling_v1", ignores="cudnn_off")
def pooling_v1(
    g: OperatorBuilder,
    data: ir.Value,
    *,
    kernel: Ints = (),
    pool_type: Literal["max", "avg", "sum"] = "max",
    global_pool: bool = False,
    pooling_convention: Literal["valid", "full"] = "valid",
    stride: Ints = (),
    pad: Ints = (),
) -> ir.Value:
    """The pooling of early releases: pads are zeros for a maximum too, and an average divides by the whole kernel.

    Source: mxnet src/operator/pooling_v1-inl.h.
    """
    if global_pool:
        return global_pooling(g, data, pool_type, None)
    strides, pads = spatial(g, "stride", stride, kernel, 1, 1), spatial(g, "pad", pad, kernel, 0, 0)
    sizes = _sizes(g, data, kernel, pads)
    out = output_sizes(sizes, kernel, strides, pads, ceil=pooling_convention == "full", clip="never")
    g.check_table(*(max(1, o) for o in out))
    full = pooling_convention == "full"
    if pool_type != "max":
        return _pool(g, data, "average" if pool_type == "avg" else "sum", kernel, strides, pads, out, "kernel", full)
    pads_seen, nothing = _touching(sizes, kernel, strides, pads, out)
    result = _pool(g, g.pin(data) if any(pads) else data, "max", kernel, strides, pads, out, "kernel", full)
    if any(pads):
        result = g.emit("Max", result, g.const(pads_seen.astype(g.dtype(data)), role="pads"))
    return g.emit("Where", g.const(nothing), np.full((), -np.inf, g.dtype(data)), result) if nothing.any() else result


def _touching(sizes: Ints, kernel: Ints, strides: list[int], pads: list[int], out: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """0 for the windows that hold some of the pads, the lowest number for the others; and which windows hold nothing at all."""
    touches, empty = np.zeros(out, np.bool_), np.zeros(out, np.bool_)
    for axis, (size, k, s, p, o) in enumerate(zip(sizes, kernel, strides, pads, out, strict=True)):
        start = np.arange(o) * s - p
        shape = [-1 if i == axis else 1 for i in range(len(out))]
        touches |= ((start < 0) | (np.minimum(start + k, size + p) > size)).reshape(shape)
        empty |= (start >= size + p).reshape(shape)
    return np.where(touches & ~empty, 0.0, float(np.finfo(np.float32).min)), empty


@lowers("_contrib_AdaptiveAvgPooling2D")
def adaptive_average_pooling(g: OperatorBuilder, data: ir.Value, *, output_size: Ints = ()) -> ir.Value:
    """Averages over windows from floor(i H / h) to ceil((i + 1) H / h), for an output of h x w (default 1 x 1).

    Source: mxnet src/operator/contrib/adaptive_avg_pooling-inl.h.
    """
    if g.rank(data) != 4:
        raise g.error(f"an input (N, C, H, W) is needed, but it has shape {g.shape(data)}")
    out = list(output_size or (1,)) * (2 if len(output_size) < 2 else 1)
    if len(out) != 2 or min(out) < 1:
        raise g.error(f"attribute output_size is {output_size}; one or two sizes of at least 1 make sense")
    if out == [1, 1]:
        return g.emit("GlobalAveragePool", data)
    return adaptive_pool(g, data, "average", out)
