"""Arithmetic of several bottoms, reductions, ArgMax."""

from __future__ import annotations

import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import canonical_axis, check_same_shape, flat_from
from converters.readers.caffe.registry import lowers


@lowers("Eltwise", in_place=True, keeps_count=True)
def eltwise(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> ir.Value:
    """Product, weighted sum or maximum of bottoms of one shape; one alone, as FlowNet2's forks have it, goes through.

    x: any shape. Source: caffe/layers/eltwise_layer.cpp, FlowNet2's.
    """
    p = layer.params.eltwise_param
    bottoms = [x, *more]
    if not more and layer.tops[:1] == layer.bottoms[:1]:
        raise layer.error("has 1 bottom, in place; give its top a name of its own")
    check_same_shape(g, layer, bottoms)
    coefficients = list(p.coeff)
    if coefficients and (p.operation == p.PROD or len(coefficients) != len(bottoms)):
        raise layer.error(f"has {len(coefficients)} coeff for {len(bottoms)} bottoms; they go with SUM, one for each bottom")
    in_place = layer.tops[:1] == layer.bottoms[:1]
    if p.operation == p.MAX:
        if in_place:
            g.warn("in place, where Caffe's CPU code loses the first bottom and its GPU code doesn't; converted as by the latter")
        return g.emit("Max", *bottoms) if more else x
    if p.operation == p.SUM and in_place:
        g.warn("in place, where Caffe sets its top to 0 before it adds its bottoms, so that the first one is lost; converted so")
        if len(set(layer.bottoms)) < len(layer.bottoms):
            raise layer.error("adds a blob to itself in place; give its top a name of its own")
        bottoms, coefficients = bottoms[1:], coefficients[1:]
    if coefficients:
        bottoms = [g.emit("Mul", b, c) if c != 1 else b for b, c in zip(bottoms, coefficients, strict=True)]
    y = bottoms[0]
    for b in bottoms[1:]:
        y = g.emit("Mul" if p.operation == p.PROD else "Add", y, b)
    return y


@lowers("Axpy", in_place=True)
def axpy(g: GraphBuilder, layer: Layer, a: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """a * x + y with one factor per channel (SENet). a: (N, C) or (N, C, 1, 1), x and y: (N, C, H, W).

    Source: axpy_layer.cpp of SENet's fork.
    """
    check_same_shape(g, layer, [x, y])
    rank, dims = g.rank(x), g.shape(a)
    if len(dims) > rank or any(d != 1 for d in dims[2:]) or dims[:2] != g.shape(x)[:2]:
        raise layer.error(f"its first bottom {dims} must have one factor for each channel of the second, {g.shape(x)}")
    factor = g.reshape(a, [*g.extents(a, 0, 2), *[1] * (rank - 2)])
    return g.emit("Add", g.emit("Mul", x, factor), y)


@lowers("Reduction")
def reduction(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Sum, sum of absolute values or of squares, or mean, over all axes from `axis` on; times coeff.

    x: any shape, to its axes before `axis`. Source: caffe/layers/reduction_layer.cpp.
    """
    p = layer.params.reduction_param
    axes = list(range(canonical_axis(g, layer, x, p.axis), g.rank(x)))
    if p.operation == p.MEAN:
        y = g.emit("ReduceMean", x, axes, keepdims=0)
    else:
        terms = g.emit("Abs", x) if p.operation == p.ASUM else g.emit("Mul", x, x) if p.operation == p.SUMSQ else x
        y = g.emit("ReduceSum", terms, axes, keepdims=0)
    return g.emit("Mul", y, p.coeff) if p.coeff != 1 else y


@lowers("ArgMax")
def arg_max(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Indices (as floats) or values of the top_k largest, along `axis` or over all but the batch; of equals the last comes first.

    x: any shape; over all but the batch to (N, 1, top_k), or (N, 2, top_k) with values. Source: caffe/layers/argmax_layer.cpp.
    """
    p = layer.params.argmax_param
    if p.HasField("axis"):
        axis = canonical_axis(g, layer, x, p.axis)
        values, indices = _largest(g, layer, x, axis, p.top_k)
        return values if p.out_max_val else indices
    rank = g.rank(x)
    matrix, _ = flat_from(g, x, 1)
    values, indices = _largest(g, layer, matrix, 1, p.top_k)
    trailing = [1] * (max(rank, 3) - 3)
    if not p.out_max_val:
        return g.reshape(indices, [Extent(indices, 0), 1, p.top_k, *trailing])
    both = g.emit("Concat", *(g.reshape(v, [Extent(v, 0), 1, p.top_k]) for v in (indices, values)), axis=1)
    return g.reshape(both, [Extent(both, 0), 2, p.top_k, *trailing])


def _largest(g: GraphBuilder, layer: Layer, x: ir.Value, axis: int, count: int) -> tuple[ir.Value, ir.Value]:
    """The `count` largest along an axis and their indices, both float32."""
    length = g.fixed(x, axis, axis + 1)[0]
    if not 1 <= count <= length:
        raise layer.error(f"top_k {count}; it must be 1 to {length}, the length of the axis")
    if count == 1:
        values = g.emit("ReduceMax", x, [axis], keepdims=1)
        indices = g.emit("ArgMax", x, axis=axis, keepdims=1, select_last_index=1)
        return values, g.emit("Cast", indices, to=ir.DataType.FLOAT)
    # TopK gives the first of equals first: look from behind.
    behind = g.emit("Slice", x, [-1], [-(2**31)], [axis], [-1])
    values, found = g.emit_all("TopK", behind, [count], outputs=2, axis=axis, largest=1, sorted=1)
    last = g.emit("Cast", g.sizes([Extent(x, axis, plus=-1)]), to=ir.DataType.FLOAT)
    return values, g.emit("Sub", last, g.emit("Cast", found, to=ir.DataType.FLOAT))
