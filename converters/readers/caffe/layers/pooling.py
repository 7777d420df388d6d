"""Pooling."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.graph.pooling import max_pool_with_indices, over_ranges, pool
from converters.graph.windows import output_sizes
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.schemas import caffe_pb2

Params = caffe_pb2.PoolingParameter

MOST_SLICES = 64
"""Bins of an axis that are cut out one by one; more are the windows of an ordinary pool, which doesn't follow another image size."""


def _pair(layer: Layer, p: Params, name: str, default: int | None) -> list[int]:
    """kernel_size, stride or pad as (h, w), from `name` or from its _h and _w."""
    stem = "kernel" if name == "kernel_size" else name
    parts = [f"{stem}_h", f"{stem}_w"]
    given = [p.HasField(part) for part in parts]
    if any(given) and not (name == "kernel_size" and p.HasField(name) and not all(given)):  # Caffe lets one stray part be
        if p.HasField(name):
            raise layer.error(f"both {name} and {' or '.join(parts)}; Caffe allows one of them")
        if not all(given) and name != "pad":
            raise layer.error(f"{parts[0]} and {parts[1]} must come together")
        return [getattr(p, part) for part in parts]
    if default is None and not p.HasField(name):
        raise layer.error("has no kernel_size")
    return [getattr(p, name)] * 2


def _rounds_up(layer: Layer, p: Params) -> bool:
    """Whether sizes round up: ceil_mode, where it is given, overrides round_mode; torch_pooling rounds down."""
    if p.torch_pooling:
        if p.HasField("ceil_mode") or p.HasField("round_mode"):
            raise layer.error("torch_pooling beside ceil_mode or round_mode, which no fork has together")
        if p.pool == p.AVE and (p.pad or p.pad_h or p.pad_w):
            raise layer.error("torch_pooling of averages with a pad: whether the pad counts isn't established")
        return False
    return bool(p.ceil_mode) if p.HasField("ceil_mode") else p.round_mode == p.CEIL


@lowers("Pooling")
def pooling(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value | tuple[ir.Value, ir.Value]:
    """Max (with indices as a second top), average and stochastic pooling, global too.

    x: (N, C, H, W) to (N, C, windows). Source: caffe/layers/pooling_layer.cpp; pooling_layer.cu (STOCHASTIC); Intel's avg_include_pad;
    Facebook's torch_pooling.
    """
    p = layer.params.pooling_param
    layer.refuse("pooling_param", ("kernel_depth", "temporal_stride"), "Pooling3D")
    if g.rank(x) != 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    if len(layer.tops) > 1 and p.pool != p.MAX:
        raise layer.error("only MAX pooling has a second top")
    strides, pads = _pair(layer, p, "stride", 1), _pair(layer, p, "pad", 0)
    if min(strides) < 1:
        raise layer.error("stride 0; it is at least 1")
    if p.global_pooling:
        if any(p.HasField(name) for name in ("kernel_size", "kernel_h", "kernel_w")):
            raise layer.error("global_pooling with a kernel size; Caffe allows one of them")
        if any(pads) or max(strides) > 1:
            raise layer.error("global_pooling allows only pad 0 and stride 1")
        return _global_pooling(g, layer, x)
    kernel = _pair(layer, p, "kernel_size", None)
    if min(kernel) < 1:
        raise layer.error("kernel size 0; it is at least 1")
    if any(pads) and p.pool == p.STOCHASTIC:
        raise layer.error("STOCHASTIC pooling takes no pad")
    if any(pad >= k for pad, k in zip(pads, kernel, strict=True)):
        raise layer.error(f"pad {pads} reaches the kernel's size {kernel}; it must be smaller")
    ceil, sizes = _rounds_up(layer, p), g.fixed(x, 2)
    out = output_sizes(sizes, kernel, strides, pads, ceil=ceil, clip="padded")
    if min(out) < 1:
        raise layer.error(f"kernel {kernel} on {list(sizes)} would give an output of {out}")
    if p.pool == p.MAX and len(layer.tops) > 1:
        values, indices = max_pool_with_indices(g, x, kernel=kernel, strides=strides, pads=pads, out=out, ceil=ceil)
        return values, g.emit("Cast", indices, to=ir.DataType.FLOAT)
    if p.pool == p.MAX:
        return pool(g, x, "max", kernel=kernel, strides=strides, pads=pads, out=out, ceil=ceil)
    if p.pool == p.AVE:
        divisor = p.avg_include_pad
        return pool(g, x, "average", kernel=kernel, strides=strides, pads=pads, out=out, divisor="padded" if divisor else "real", ceil=ceil)
    # averages do where a sum is divided by another of the same window
    of_both = (pool(g, y, "average", kernel=kernel, strides=strides, pads=pads, out=out, ceil=ceil) for y in (x, g.emit("Mul", x, x)))
    return _expected(g, *of_both)


def _global_pooling(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value | tuple[ir.Value, ir.Value]:
    """One window over the whole plane, of any size."""
    p = layer.params.pooling_param
    if p.pool == p.STOCHASTIC:
        return _expected(g, g.emit("GlobalAveragePool", x), g.emit("GlobalAveragePool", g.emit("Mul", x, x)))
    if len(layer.tops) < 2:
        return g.emit("GlobalMaxPool" if p.pool == p.MAX else "GlobalAveragePool", x)
    plane = g.reshape(x, [*g.extents(x, 0, 2), None])
    indices = g.emit("Cast", g.emit("ArgMax", plane, axis=2, keepdims=1), to=ir.DataType.FLOAT)
    return g.emit("GlobalMaxPool", x), g.reshape(indices, [*g.extents(indices), 1])


def _expected(g: GraphBuilder, total: ir.Value, squares: ir.Value) -> ir.Value:
    """The expected value of a pixel drawn with its own size as the probability; 0 where the window's sum isn't positive."""
    positive = g.emit("Greater", total, 0.0)
    nothing, one = g.const(np.float32(0)), g.const(np.float32(1))
    return g.emit("Where", positive, g.emit("Div", squares, g.emit("Where", positive, total, one)), nothing)


@lowers("SPP")
def spp(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Spatial pyramid pooling: 1, 4, 16 ... bins, flattened and joined; one level alone stays 4-D.

    x: (N, C, H, W) to (N, C * bins); more than 7 levels are for this H and W alone. Source: caffe/layers/spp_layer.cpp.
    """
    p = layer.params.spp_param
    if g.rank(x) != 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    if not 1 <= p.pyramid_height <= 16:
        raise layer.error(f"pyramid_height {p.pyramid_height}; it is 1 to 16")
    if p.pool == p.STOCHASTIC:
        raise layer.error("stochastic pyramids draw random numbers in Caffe; use MAX or AVE")
    sizes = g.fixed(x, 2)
    levels = []
    for level in range(p.pyramid_height):
        bins = 2**level
        kernel = [math.ceil(size / bins) for size in sizes]
        pads = [(k * bins - size + 1) // 2 for k, size in zip(kernel, sizes, strict=True)]
        if any(pad >= k for pad, k in zip(pads, kernel, strict=True)):
            raise layer.error(f"pyramid_height {p.pyramid_height} is too high for {list(sizes)}: pad {pads} reaches the kernel {kernel}")
        if bins > MOST_SLICES:
            out = output_sizes(sizes, kernel, kernel, pads, ceil=True, clip="padded")
            levels.append(pool(g, g.pin(x), "max" if p.pool == p.MAX else "average", kernel=kernel, strides=kernel, pads=pads, out=out))
            continue
        rows = _bins(g, x, 2, bins, p.pool == p.MAX)
        levels.append(_bins(g, rows, 3, bins, p.pool == p.MAX))
    if len(levels) == 1:
        return levels[0]
    return g.emit("Concat", *(g.reshape(y, [Extent(y, 0), None]) for y in levels), axis=1)


def _bins(g: GraphBuilder, x: ir.Value, axis: int, bins: int, largest: bool) -> ir.Value:
    """An axis of x pooled into as many windows as a level has bins, their kernel and pad those of the size that comes."""
    if bins == 1:
        return g.emit("ReduceMax" if largest else "ReduceMean", x, [axis], keepdims=1)
    length = g.sizes([Extent(x, axis)])
    kernel = g.sizes([Extent(x, axis, bins - 1, bins)])
    pad = g.emit("Div", g.emit("Add", g.emit("Sub", g.emit("Mul", kernel, bins), length), 1), 2)
    # Caffe refuses a pad that reaches the kernel: a number behind the only one there is does it when the net runs
    unfit = g.emit("Max", g.emit("Add", g.emit("Sub", pad, kernel), 1), [0])
    pad = g.emit("Add", pad, g.emit("Gather", [0], unfit))
    ranges, divisors = [], []
    for i in range(bins):
        start = g.emit("Sub", g.emit("Mul", kernel, i), pad)
        end = g.emit("Add", start, kernel)
        divisors.append(g.emit("Sub", g.emit("Min", end, g.emit("Add", length, pad)), start))
        ranges.append((g.emit("Max", start, [0]), g.emit("Min", end, length)))
    if largest:
        return over_ranges(g, x, axis, "ReduceMax", ranges)
    divisor = g.emit("Cast", g.emit("Concat", *divisors, axis=0), to=ir.DataType.FLOAT)
    return g.emit("Div", over_ranges(g, x, axis, "ReduceSum", ranges), divisor if axis == 3 else g.emit("Unsqueeze", divisor, [1]))
