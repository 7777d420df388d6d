"""Boxes as corners (x1, y1, x2, y2): decoded from offsets, and those kept that no better one overlaps."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder

LOWEST = float(np.finfo(np.float32).min)


def part(g: GraphBuilder, value: ir.Value, start: int, count: int = 1) -> ir.Value:
    """Entries of the last axis."""
    return g.emit("Slice", value, [start], [start + count], [g.rank(value) - 1])


def halves(g: GraphBuilder, boxes: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The low and the high corner of boxes (..., 4), each (..., 2)."""
    low, high = g.emit_all("Split", boxes, [2, 2], outputs=2, axis=g.rank(boxes) - 1)
    return low, high


def around(g: GraphBuilder, center: ir.Value, size: ir.Value, half: float = 0.5) -> ir.Value:
    """Boxes (..., 4) of centers and sizes (..., 2)."""
    reach = g.emit("Mul", size, half)
    return g.emit("Concat", g.emit("Sub", center, reach), g.emit("Add", center, reach), axis=g.rank(center) - 1)


def proper(g: GraphBuilder, boxes: ir.Value) -> ir.Value:
    """Boxes (..., 4), those without an area, turned over or not a number as zeros: they overlap none."""
    low, high = halves(g, boxes)
    less = g.emit("Less", low, high)
    return g.emit("Where", g.emit("And", part(g, less, 0), part(g, less, 1)), boxes, np.zeros((), np.float32))


def chosen(
    g: GraphBuilder, boxes: ir.Value, scores: ir.Value, overlap: float, count: int | ir.Value, threshold: float = LOWEST
) -> ir.Value:
    """Rows (set, 0, place), set by set, best first, of the boxes that no better one of their set overlaps by more than `overlap`.

    boxes: (B, K, 4), scores: (B, K), of which those above the threshold take part. count: at most so many of a set.
    """
    most = count if isinstance(count, ir.Value) else np.array([count], np.int64)
    limits = [most, np.array([min(overlap, 1.0)], np.float32), np.array([threshold], np.float32)]
    return g.emit("NonMaxSuppression", proper(g, boxes), g.emit("Unsqueeze", scores, [1]), *limits)


def survivors(g: GraphBuilder, boxes: ir.Value, scores: ir.Value, overlap: float, threshold: float = LOWEST) -> ir.Value:
    """As `chosen`, as a mask (B, K)."""
    count = g.emit("Shape", scores, start=1, end=2)
    places = g.emit("Gather", chosen(g, boxes, scores, overlap, count, threshold), [0, 2], axis=1)
    zeros = g.emit("Expand", np.zeros((), np.float32), g.emit("Shape", scores), shape=g.shape(scores))
    ones = g.emit("Expand", np.ones((), np.float32), g.emit("Slice", g.emit("Shape", places), [0], [1]))
    return g.emit("Greater", g.emit("ScatterND", zeros, places, ones, shape=g.shape(scores)), 0.5)


def survivors_of_shrinking(g: GraphBuilder, boxes: ir.Value, scores: ir.Value, overlap: float, eta: float) -> ir.Value:
    """As `survivors` of boxes in the order of their scores, for an overlap that each kept box multiplies by eta, while it is above 0.5."""
    boxes = proper(g, boxes)
    low, high = halves(g, boxes)
    area = _product(g, g.emit("Sub", high, low))
    enters = g.emit("Greater", scores, np.array(LOWEST, np.float32))
    places = g.emit("Range", np.array(0, np.int64), g.emit("Squeeze", g.emit("Shape", scores, start=1, end=2), [0]), np.array(1, np.int64))
    sets = g.emit("Shape", scores, start=0, end=1)
    limit = g.emit("Expand", np.full((1, 1), overlap, np.float32), g.emit("Concat", sets, [1], axis=0))
    none = g.emit("Expand", np.zeros((1, 1), bool), g.emit("Shape", scores), shape=g.shape(scores))
    with g.body() as body:
        now = g.body_input("limit", limit, g.shape(limit))
        kept = g.body_input("kept", none, g.shape(none))
        step = g.body_input("step", places, [])
        mine = [g.emit("Gather", value, g.emit("Unsqueeze", step, [0]), axis=1) for value in (low, high, area, enters)]
        size = g.emit("Max", g.emit("Sub", g.emit("Min", high, mine[1]), g.emit("Max", low, mine[0])), 0.0)
        shared = _product(g, size)
        union = g.emit("Sub", g.emit("Add", area, mine[2]), shared)
        share = g.emit("Div", shared, g.emit("Where", g.emit("Greater", union, 0.0), union, 1.0))
        hidden = g.emit("Cast", g.emit("And", g.emit("Greater", share, now), kept), to=ir.DataType.FLOAT)
        free = g.emit("And", g.emit("Less", g.emit("ReduceMax", hidden, [1], keepdims=1), 0.5), mine[3])
        shrinks = g.emit("And", free, g.emit("Greater", now, 0.5))
        then = g.emit("Where", shrinks, g.emit("Mul", now, eta), now)
        after = g.emit("Or", kept, g.emit("And", g.emit("Equal", places, step), free))
    return g.scan(body, [limit, none], [places], [then, after], [])[0][1]


def _product(g: GraphBuilder, sizes: ir.Value) -> ir.Value:
    """Areas (...) of sizes (..., 2)."""
    return g.emit("ReduceProd", sizes, [g.rank(sizes) - 1], keepdims=0)


def rows_at(g: GraphBuilder, data: ir.Value, places: ir.Value) -> ir.Value:
    """Rows of (N, A, D) in the order of int64 places (N, K)."""
    wide = g.emit("Tile", g.emit("Unsqueeze", places, [2]), [1, 1, g.fixed(data, 2)[0]])
    return g.emit("GatherElements", data, wide, axis=1)


def at_most(g: GraphBuilder, count: int, value: ir.Value, axis: int) -> ir.Value:
    """A count, or the length of an axis where that is less, (1,)."""
    return g.emit("Min", g.emit("Shape", value, start=axis, end=axis + 1), np.array([count], np.int64))


def counted(g: GraphBuilder, value: ir.Value, axis: int) -> ir.Value:
    """0, 1 ... along an axis, as floats (n,)."""
    count = g.emit("Squeeze", g.emit("Shape", value, start=axis, end=axis + 1), [0])
    numbers = g.emit("Range", np.array(0, np.int64), count, np.array(1, np.int64), shape=[g.shape(value)[axis]])
    return g.emit("Cast", numbers, to=ir.DataType.FLOAT)


def cells(g: GraphBuilder, value: ir.Value, rows: int, columns: int) -> ir.Value:
    """Column and row of each cell, (h, w, 2), h and w being the lengths of two axes of a value."""
    sizes = g.sizes([Extent(value, rows), Extent(value, columns)])
    x = g.emit("Expand", counted(g, value, columns), sizes)
    y = g.emit("Expand", g.emit("Unsqueeze", counted(g, value, rows), [1]), sizes)
    return g.emit("Concat", g.emit("Unsqueeze", x, [2]), g.emit("Unsqueeze", y, [2]), axis=2)


def detections(g: GraphBuilder, keep: ir.Value, labels: ir.Value, scores: ir.Value, boxes: ir.Value, images: ir.Value) -> ir.Value:
    """Rows (1, 1, K, 7): image, label, score, corners of the boxes kept; where there is none at all, a row (image, -1 ...) for each image.

    keep: a mask (N, B), scores (N, B), boxes (N, B, 4), labels: a float for each of B. images: what has the images as its first axis.
    """
    where = g.emit("Transpose", g.emit("NonZero", keep), perm=[1, 0])
    image, place = g.emit_all("Split", where, [1, 1], outputs=2, axis=1)
    columns = [
        g.emit("Cast", image, to=ir.DataType.FLOAT),
        g.emit("Gather", labels, place, axis=0),
        g.emit("Unsqueeze", g.emit("GatherND", scores, where), [1]),
        g.emit("GatherND", boxes, where),
    ]
    found = g.emit("Concat", *columns, axis=1)
    return with_placeholders(g, found, images)


def with_placeholders(g: GraphBuilder, found: ir.Value, images: ir.Value) -> ir.Value:
    """Rows (K, 7) as (1, 1, K, 7); where there are none, a row (image, -1 ...) for each image."""
    return g.emit("Unsqueeze", g.emit("Concat", found, _placeholders(g, found, images), axis=0), [0, 1], shape=[1, 1, None, 7])


def _placeholders(g: GraphBuilder, found: ir.Value, images: ir.Value) -> ir.Value:
    """A row (image, -1 ...) for each image where nothing was found; else none."""
    count = g.emit("Slice", g.emit("Shape", images), [0], [1])
    numbers = g.emit("Range", np.array(0, np.int64), g.emit("Squeeze", count, [0]), np.array(1, np.int64))
    numbers = g.emit("Unsqueeze", g.emit("Cast", numbers, to=ir.DataType.FLOAT), [1])
    rest = g.emit("Expand", np.full((1, 6), -1, np.float32), g.emit("Concat", count, [6], axis=0))
    nothing = g.emit("Equal", g.emit("Slice", g.emit("Shape", found), [0], [1]), np.array([0], np.int64))
    end = g.emit("Where", nothing, count, np.array([0], np.int64))
    return g.emit("Slice", g.emit("Concat", numbers, rest, axis=1), [0], end, [0])
