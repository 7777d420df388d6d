"""Pooling, exactly: windows as the source framework counts them, in ONNX operators.

Caffe, Torch7, MXNet and PyTorch agree on where window i starts (i * stride - pad) and what it covers. They differ in how many
windows there are and in what an average divides by. A reader says both; this module finds the operators:

- the plain MaxPool or AveragePool node, where ONNX's written semantics (those of PyTorch) give just these windows;
- else one with explicit pads behind the image, or behind a Pad node;
- for averages that no attribute describes, the sum of each window over a table of divisors.

Sources: caffe/src/caffe/layers/pooling_layer.cpp; THNN/generic/SpatialAveragePooling.c, SpatialDilatedMaxPooling.c;
mxnet src/operator/nn/pool.h; ONNX MaxPool-12 and AveragePool-19.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import numpy as np
import onnx_ir as ir

from converters.graph import GraphBuilder

Ints = Sequence[int]


def output_sizes(
    sizes: Ints,
    kernel: Ints,
    strides: Ints,
    pads: Ints,
    *,
    ceil: bool,
    clip: Literal["never", "padded", "always"],
    dilations: Ints | None = None,
) -> list[int]:
    """Number of windows along each axis: round((size + 2 pad - extent) / stride) + 1, less a last window that starts too late.

    clip: when a last window that starts at or behind the image's end plus its pad is dropped: "always" (PyTorch, ONNX), "padded"
    (Caffe and Torch7: on every axis as soon as one axis is padded), "never" (MXNet, cuDNN). A result may be < 1: the caller
    reports it.
    """
    drops = clip == "always" or (clip == "padded" and any(pads))
    counts = []
    for size, k, s, p, d in zip(sizes, kernel, strides, pads, dilations or [1] * len(kernel), strict=True):
        room = size + 2 * p - (d * (k - 1) + 1)
        count = (-(-room // s) if ceil else room // s) + 1
        if drops and (count - 1) * s >= size + p:
            count -= 1
        counts.append(count)
    return counts


def pool(
    g: GraphBuilder,
    x: ir.Value,
    mode: Literal["max", "average", "sum"],
    *,
    kernel: Ints,
    strides: Ints,
    pads: Ints,
    out: Ints,
    dilations: Ints | None = None,
    divisor: Literal["padded", "real", "kernel"] = "padded",
) -> ir.Value:
    """Pools x (N, C, *spatial) into (N, C, *out), whatever number of windows `out` asks for.

    pads: before each axis; behind it the image is extended as `out` needs, and that overhang never counts. A window that holds
    no pixel gives the lowest finite number (max), 0 (sum), or 0 over its divisor (average). divisor of an average: "padded" counts
    the pixels and the pads (`pads` on both sides), "real" the pixels alone, "kernel" is always the whole kernel.
    Raises ConversionError for a kernel, stride, pad or output size that makes no sense.
    """
    sizes = _checked(g, x, kernel, strides, pads, out, dilations)
    if mode == "max":
        return cast(ir.Value, _max(g, x, sizes, kernel, strides, pads, out, dilations, indices=False))
    rank = len(sizes)
    ceil_mode = _onnx_mode(sizes, kernel, strides, pads, out, None)
    if mode == "average" and ceil_mode is not None and (divisor != "kernel" or (not any(pads) and not ceil_mode)):
        counted = int(divisor != "real" and any(pads))
        return _emit_pool(g, "AveragePool", x, out, kernel, strides, [*pads, *pads], None, ceil_mode, count_include_pad=counted)
    # The sum of each window: an average over the whole kernel of the image set in zeros, times the kernel's size.
    behind = [(o - 1) * s + k - size - p for o, s, k, size, p in zip(out, strides, kernel, sizes, pads, strict=True)]
    padded = _pad(g, x, pads, behind, 0.0)
    average = _emit_pool(g, "AveragePool", padded, out, kernel, strides, [0] * (2 * rank), None, 0, count_include_pad=0)
    if mode == "average" and divisor == "kernel":
        return average
    factors = np.full((), float(math.prod(kernel)))
    if mode == "average":
        with np.errstate(divide="ignore"):  # an empty window's 0 times infinity is the NaN that the frameworks answer
            factors = factors / divisors(sizes, kernel, strides, pads, out, real=divisor == "real")
    return cast(ir.Value, g.emit("Mul", average, g.const(factors, x.dtype.numpy() if x.dtype else np.float32, role="window_factors")))


def max_pool_with_indices(
    g: GraphBuilder, x: ir.Value, *, kernel: Ints, strides: Ints, pads: Ints, out: Ints, dilations: Ints | None = None
) -> tuple[ir.Value, ir.Value]:
    """Max pooling of x (N, C, *spatial), and for each window the row-major index in its plane (int64, from 0) of its first maximum."""
    sizes = _checked(g, x, kernel, strides, pads, out, dilations)
    return cast("tuple[ir.Value, ir.Value]", _max(g, x, sizes, kernel, strides, pads, out, dilations, indices=True))


def divisors(sizes: Ints, kernel: Ints, strides: Ints, pads: Ints, out: Ints, *, real: bool) -> np.ndarray:
    """What each average divides by, as an array of shape `out`; 0 or negative factors where a window starts behind the end.

    Along an axis it is end - start with start = i * stride - pad and end = min(start + kernel, size + pad); `real` clips both to
    the image afterwards.
    """
    table = np.ones(())
    for size, k, s, p, o in zip(sizes, kernel, strides, pads, out, strict=True):
        start = np.arange(o) * s - p
        end = np.minimum(start + k, size + p)
        if real:
            start, end = np.maximum(start, 0), np.minimum(end, size)
        table = np.multiply.outer(table, (end - start).astype(np.float64))
    return table


def _checked(g: GraphBuilder, x: ir.Value, kernel: Ints, strides: Ints, pads: Ints, out: Ints, dilations: Ints | None) -> tuple[int, ...]:
    """Spatial sizes of x, once everything fits."""
    rank = len(kernel)
    if g.rank(x) != rank + 2:
        raise g.error(f"a pooling over {rank} axes needs an input of {rank + 2} axes (N, C, ...), but it has shape {g.shape(x)}")
    sizes = g.fixed(x, 2)
    what = f"kernel {tuple(kernel)}, stride {tuple(strides)}, pad {tuple(pads)} on {sizes}"
    if min(kernel) < 1 or min(strides) < 1 or min(dilations or [1]) < 1:
        raise g.error(f"kernel, stride and dilation must be at least 1, but this is {what}")
    if min(pads) < 0:
        raise g.error(f"a pad can't be negative: {what}")
    if min(out) < 1:
        raise g.error(f"the output would have size {tuple(out)}: {what}")
    return sizes


def _onnx_mode(sizes: Ints, kernel: Ints, strides: Ints, pads: Ints, out: Ints, dilations: Ints | None) -> int | None:
    """ceil_mode with which ONNX's symmetric pads give exactly `out` windows, each with a pixel; None where neither does."""
    if any(p >= k for p, k in zip(pads, kernel, strict=True)):
        return None
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations or [1] * len(kernel), strict=True)]
    behind = [(o - 1) * s >= size + p for o, s, size, p in zip(out, strides, sizes, pads, strict=True)]
    if any(behind) or any(size + 2 * p < e for size, p, e in zip(sizes, pads, extents, strict=True)):
        return None
    for ceil in (False, True):
        if output_sizes(sizes, kernel, strides, pads, ceil=ceil, clip="never", dilations=dilations) == list(out):
            return int(ceil)
    return None


def _max(
    g: GraphBuilder,
    x: ir.Value,
    sizes: Ints,
    kernel: Ints,
    strides: Ints,
    pads: Ints,
    out: Ints,
    dilations: Ints | None,
    *,
    indices: bool,
) -> ir.Value | tuple[ir.Value, ir.Value]:
    rank = len(sizes)
    outputs = 2 if indices else 1
    ceil_mode = _onnx_mode(sizes, kernel, strides, pads, out, dilations)
    before = [0] * rank
    if ceil_mode is not None:
        result = _emit_pool(g, "MaxPool", x, out, kernel, strides, [*pads, *pads], dilations, ceil_mode, outputs=outputs)
        sizes_seen = list(sizes)
    else:
        extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilations or [1] * rank, strict=True)]
        behind = [(o - 1) * s + e - size - p for o, s, e, size, p in zip(out, strides, extents, sizes, pads, strict=True)]
        lowest = float(np.finfo(x.dtype.numpy() if x.dtype else np.float32).min)
        padded = _pad(g, x, pads, behind, lowest)
        before = list(pads)
        sizes_seen = [size + p + max(0, b) for size, p, b in zip(sizes, pads, behind, strict=True)]
        result = _emit_pool(g, "MaxPool", padded, out, kernel, strides, [0] * (2 * rank), dilations, 0, outputs=outputs)
    if not indices:
        return result
    values, flat = cast(list[ir.Value], result)
    plane = g.emit("Mod", flat, math.prod(sizes_seen))
    if any(before) or sizes_seen != list(sizes):
        plane = _plane_index(g, plane, sizes_seen, sizes, before)
    return values, plane


def _plane_index(g: GraphBuilder, flat: ir.Value, padded: Ints, sizes: Ints, before: Ints) -> ir.Value:
    """Row-major indices of a padded plane as those of the plane inside it."""
    total: ir.Value | None = None
    rest = flat
    for axis in range(len(sizes)):
        inner = math.prod(padded[axis + 1 :])
        coordinate = g.emit("Div", rest, inner)
        rest = g.emit("Mod", rest, inner)
        if before[axis]:
            coordinate = g.emit("Sub", coordinate, before[axis])
        term = g.emit("Mul", coordinate, math.prod(sizes[axis + 1 :]))
        total = term if total is None else g.emit("Add", total, term)
    return cast(ir.Value, total)


def _pad(g: GraphBuilder, x: ir.Value, before: Ints, behind: Ints, value: float) -> ir.Value:
    """x with its spatial axes extended by `value`; a negative `behind` (a last window that ends early) adds nothing."""
    amounts = [0, 0, *before, 0, 0, *(max(0, b) for b in behind)]
    return cast(ir.Value, g.emit("Pad", x, amounts, value)) if any(amounts) else x


def _emit_pool(
    g: GraphBuilder,
    op_type: str,
    x: ir.Value,
    out: Ints,
    kernel: Ints,
    strides: Ints,
    pads: Ints,
    dilations: Ints | None,
    ceil_mode: int,
    outputs: int = 1,
    count_include_pad: int | None = None,
) -> ir.Value:
    return cast(
        ir.Value,
        g.emit(
            op_type,
            x,
            outputs=outputs,
            shape=[*g.shape(x)[:2], *out],
            kernel_shape=list(kernel),
            strides=list(strides),
            pads=list(pads) if any(pads) else None,
            dilations=list(dilations) if dilations is not None and max(dilations) > 1 else None,
            ceil_mode=ceil_mode or None,
            count_include_pad=count_include_pad or None,
        ),
    )
