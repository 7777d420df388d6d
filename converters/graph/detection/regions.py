"""Pooling of regions of maps: what several frameworks share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder


def round_half_up(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """Rounded, halves away from 0."""
    return g.emit("Mul", g.emit("Sign", x), g.emit("Floor", g.emit("Add", g.emit("Abs", x), 0.5)))


def whole(g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.emit("Cast", x, to=ir.DataType.INT64)


def length(g: GraphBuilder, x: ir.Value, axis: int, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
    """The length of an axis as it is when the net runs, of shape (1,)."""
    return g.emit("Cast", g.emit("Shape", x, start=axis, end=axis + 1), to=dtype)


def looked_up(g: GraphBuilder, maps: ir.Value, image: ir.Value, channel: ir.Value, y: ir.Value, x: ir.Value) -> ir.Value:
    """Pixels of maps (N, C, H, W) at int64 places, which broadcast against each other."""
    parts = [image, channel, y, x]
    shape = g.emit("Shape", g.emit("Add", g.emit("Add", image, channel), g.emit("Add", y, x)))
    wide = [g.emit("Unsqueeze", g.emit("Expand", part, shape), [4]) for part in parts]
    return g.emit("GatherND", maps, g.emit("Concat", *wide, axis=4))


def bilinear(g: GraphBuilder, maps: ir.Value, image: ir.Value, channel: ir.Value, y: ir.Value, x: ir.Value) -> ir.Value:
    """Maps (N, C, H, W) between four pixels, at float places that lie within; right and lower neighbors are held to the map."""
    lows, parts, highs = [], [], []
    for place, axis in ((y, 2), (x, 3)):
        low = g.emit("Floor", place)
        lows.append(whole(g, low))
        parts.append(g.emit("Sub", place, low))
        last = g.emit("Sub", length(g, maps, axis, ir.DataType.INT64), np.array([1], np.int64))
        highs.append(g.emit("Min", g.emit("Add", lows[-1], np.array([1], np.int64)), last))
    (down, right) = parts

    def row(at: ir.Value) -> ir.Value:
        left, other = (looked_up(g, maps, image, channel, at, place) for place in (lows[1], highs[1]))
        return g.emit("Add", left, g.emit("Mul", g.emit("Sub", other, left), right))

    top = row(lows[0])
    return g.emit("Add", top, g.emit("Mul", g.emit("Sub", row(highs[0]), top), down))


def own_channels(outputs: int, group: int, pooled: int) -> np.ndarray:
    """The channel (1, outputs, pooled, pooled) that each bin of each output reads: (output * group + row) * group + column."""
    own = np.clip(np.floor(np.arange(pooled) * group / pooled), 0, group - 1).astype(np.int64)
    channel: np.ndarray = (np.arange(outputs)[:, None, None] * group + own[None, :, None]) * group + own[None, None, :]
    return channel[None]


def rows_and_columns(g: GraphBuilder, values: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Of (R, 2, P), x before y: y as (R, 1, P, 1), x as (R, 1, 1, P)."""
    x, y = g.emit_all("Split", values, [1, 1], outputs=2, axis=1)
    return g.emit("Unsqueeze", y, [3]), g.emit("Unsqueeze", x, [2])


def position_sensitive_means(g: GraphBuilder, maps: ir.Value, rois: ir.Value, outputs: int, group: int, scale: float) -> ir.Value:
    """Means over the bins of regions (R, 5), each bin from a channel of its own, by sums over rectangles from the corner of the map."""
    sums = g.emit("Cast", maps, to=ir.DataType.DOUBLE)
    for axis in (2, 3):
        sums = g.emit("CumSum", sums, np.array(axis, np.int64))
    sums = g.emit("Pad", sums, [0, 0, 1, 1, 0, 0, 0, 0], np.zeros(()))
    image, corners = g.emit_all("Split", rois, [1, 4], outputs=2, axis=1)
    start, end = g.emit_all("Split", round_half_up(g, corners), [2, 2], outputs=2, axis=1)
    start, end = g.emit("Mul", start, scale), g.emit("Mul", g.emit("Add", end, 1.0), scale)
    step = g.emit("Div", g.emit("Max", g.emit("Sub", end, start), 0.1), float(group))
    sizes = g.emit("Concat", length(g, maps, 3), length(g, maps, 2), axis=0)
    limits = g.reshape(sizes, [1, 2, 1])
    steps = np.arange(group, dtype=np.float32)
    places = []
    for op_type, numbers in (("Floor", steps), ("Ceil", steps + 1)):
        bins = g.emit("Add", g.emit("Mul", g.emit("Unsqueeze", step, [2]), g.const(numbers)), g.emit("Unsqueeze", start, [2]))
        places.append(whole(g, g.emit("Min", g.emit("Max", g.emit(op_type, bins), 0.0), limits)))
    (top, left), (bottom, right) = (rows_and_columns(g, value) for value in places)
    channel = g.const(own_channels(outputs, group, group), role="channels")
    number = g.emit("Unsqueeze", whole(g, image), [2, 3])

    def corner(y: ir.Value, x: ir.Value) -> ir.Value:
        return looked_up(g, sums, number, channel, y, x)

    total = g.emit("Sub", g.emit("Sub", corner(bottom, right), corner(top, right)), g.emit("Sub", corner(bottom, left), corner(top, left)))
    some = g.emit("And", g.emit("Greater", bottom, top), g.emit("Greater", right, left))
    area = g.emit("Mul", g.emit("Sub", bottom, top), g.emit("Sub", right, left))
    divisor = g.emit("Cast", g.emit("Where", some, area, np.array(1, np.int64)), to=ir.DataType.DOUBLE)
    mean = g.emit("Where", some, g.emit("Div", total, divisor), np.zeros(()))
    return g.emit("Cast", mean, to=ir.DataType.FLOAT, shape=[g.shape(rois)[0], outputs, group, group])


def flat_regions(g: GraphBuilder, rois: ir.Value) -> ir.Value:
    """Regions (R, 5), which may be (R, 5, 1, 1)."""
    return g.reshape(rois, [Extent(rois, 0), 5]) if g.rank(rois) > 2 else rois
