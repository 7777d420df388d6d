"""Pooling into a fixed number of windows, whose edges follow from the size that the image has when the net runs.

Sources: THNN/generic/SpatialAdaptiveAveragePooling.c; mxnet src/operator/contrib/adaptive_avg_pooling-inl.h; caffe/layers/spp_layer.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.graph.windows import Ints

Range = tuple[ir.Value, ir.Value]
"""Where a window starts and where it ends, each an int64 value of shape (1,)."""


def adaptive_pool(g: GraphBuilder, x: ir.Value, mode: Literal["max", "average"], out: Ints) -> ir.Value:
    """Pools x (N, C, *spatial) into (N, C, *out): window i of an axis from floor(i n / count) to ceil((i + 1) n / count)."""
    for axis, count in enumerate(out, 2):
        length = g.sizes([Extent(x, axis)])
        ranges = []
        for i in range(count):
            start, end = (g.emit("Mul", length, number) if number != 1 else length for number in (i, i + 1))
            ranges.append((g.emit("Div", start, count), g.emit("Div", g.emit("Add", end, count - 1), count)))
        x = over_ranges(g, x, axis, "ReduceMax" if mode == "max" else "ReduceMean", ranges)
    return x


def over_ranges(g: GraphBuilder, x: ir.Value, axis: int, op_type: str, ranges: Iterable[Range]) -> ir.Value:
    """x with an axis reduced over each of the ranges, side by side."""
    shape = [None if i == axis else dim for i, dim in enumerate(g.shape(x))]
    parts = [g.emit(op_type, g.emit("Slice", x, start, end, [axis], shape=shape), [axis], keepdims=1) for start, end in ranges]
    return g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]
