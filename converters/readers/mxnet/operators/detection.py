"""Anchors and boxes. Sources: mxnet src/operator/contrib/multibox_prior.cc, multibox_detection.cc, bounding_box-inl.h."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.attributes import Floats
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.resampling import image_sizes
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import times


def columns(g: OperatorBuilder, value: ir.Value, start: int, count: int = 1) -> ir.Value:
    """Part of the last axis."""
    axis = g.rank(value) - 1
    return g.emit("Slice", value, [start], [start + count], [axis])


def whole_rows(g: OperatorBuilder, value: ir.Value) -> ir.Value:
    """Rows that are an input of the net: longer ones, of which only part would be read, are refused when the net runs."""
    return g.pin_known(value, [g.rank(value) - 1]) if value.producer() is None else value


def column(g: OperatorBuilder, value: ir.Value, position: int) -> ir.Value:
    """One entry of the last axis, which goes."""
    return g.emit("Squeeze", columns(g, value, position), [g.rank(value) - 1])


@lowers("_contrib_MultiBoxPrior", "_npx_multibox_prior", "MultiBoxPrior")
def multibox_prior(
    g: OperatorBuilder,
    data: ir.Value,
    *,
    sizes: Floats = (1.0,),
    ratios: Floats = (1.0,),
    clip: bool = False,
    steps: Floats = (-1.0, -1.0),
    offsets: Floats = (0.5, 0.5),
) -> ir.Value:
    """Anchors (1, H W (sizes + ratios - 1), 4) for every pixel: all sizes at the first ratio, then the first size at the others.

    Source: mxnet src/operator/contrib/multibox_prior.cc.
    """
    height, width = image_sizes(g, data)
    if not sizes or not ratios or len(steps) != 2 or len(offsets) != 2 or min(ratios) <= 0:
        raise g.error(f"sizes {sizes}, ratios {ratios}, steps {steps} and offsets {offsets} make no anchors")
    g.check_table(height, width, len(sizes) + len(ratios), 4)
    f = np.float32
    shapes = [(f(s), np.sqrt(f(ratios[0]))) for s in sizes] + [(f(sizes[0]), np.sqrt(f(r))) for r in ratios[1:]]
    lengths = [g.cast(g.emit("Shape", data, start=axis, end=axis + 1), f) for axis in (2, 3)]
    edges: list[list[ir.Value]] = []
    for axis, step in ((2, steps[0]), (3, steps[1])):
        cells = g.emit("Add", g.cast(g.positions(data, axis), f), offsets[axis - 2])
        centers = g.emit("Mul", cells, step) if step > 0 else g.emit("Div", cells, lengths[axis - 2])
        half: ir.Value | np.ndarray = np.array([s / r / f(2) for s, r in shapes], f)
        if axis == 3:
            scaled = g.emit("Div", g.emit("Mul", np.array([s for s, _ in shapes], f), lengths[0]), lengths[1])
            half = g.emit("Div", g.emit("Mul", scaled, np.array([r for _, r in shapes], f)), 2.0)
        centers = g.emit("Unsqueeze", centers, [1, 2] if axis == 2 else [0, 2])
        edges.append([g.emit(op_type, centers, half) for op_type in ("Sub", "Add")])
    grid, shape = g.sizes([*g.extents(data, 2), len(shapes), 1]), [height, width, len(shapes), 1]
    parts = [g.emit("Expand", g.emit("Unsqueeze", edges[axis][end], [3]), grid, shape=shape) for end in (0, 1) for axis in (1, 0)]
    boxes = g.reshape(g.emit("Concat", *parts, axis=3), [1, None, 4])
    boxes = g.emit("Clip", boxes, np.array(0, f), np.array(1, f)) if clip else boxes
    return g.cast(boxes, g.dtype(data))


def strictly_below(threshold: float) -> float:
    """The float32 before a threshold: x > it means x >= threshold."""
    return float(np.nextafter(np.float32(threshold), np.float32(-1)))


def survivors(g: OperatorBuilder, boxes: ir.Value, scores: ir.Value, threshold: float, count: int) -> ir.Value:
    """A mask (N, classes, A) of the boxes (N, A, 4) that no better one of their class overlaps by more than the threshold.

    scores: (N, classes, A); those of 0 and below take no part.
    """
    number: list[np.ndarray] = [np.array([count], np.int64), np.array([threshold], np.float32), np.zeros(1, np.float32)]
    chosen = g.emit("NonMaxSuppression", boxes, scores, *number)
    zeros = g.emit("Expand", np.zeros((), np.float32), g.emit("Shape", scores), shape=g.shape(scores))
    ones = g.emit("Expand", np.ones((), np.float32), g.emit("Slice", g.emit("Shape", chosen), [0], [1]))
    mask = g.emit("ScatterND", zeros, chosen, ones, shape=g.shape(scores))
    return g.emit("Greater", mask, 0.5)


def rows_at(g: OperatorBuilder, data: ir.Value, order: ir.Value) -> ir.Value:
    """Rows of (N, A, K) in the order of int64 indices (N, A)."""
    counts = g.sizes([1, 1, Extent(data, 2)])
    wide = g.emit("Tile", g.emit("Unsqueeze", order, [2]), counts, shape=[*g.shape(order), g.shape(data)[2]])
    return g.emit("GatherElements", data, wide, axis=1)


def in_order(g: OperatorBuilder, keys: ir.Value, count: int) -> ir.Value:
    """Indices that sort (N, A) downwards, equal keys in their order."""
    return g.emit_all("TopK", keys, [count], outputs=2, axis=1, largest=1, sorted=1)[1]


@lowers("_contrib_MultiBoxDetection", "_npx_multibox_detection", "MultiBoxDetection")
def multibox_detection(
    g: OperatorBuilder,
    cls_prob: ir.Value,
    loc_pred: ir.Value,
    anchor: ir.Value,
    *,
    clip: bool = True,
    threshold: float = 0.01,
    background_id: int = 0,
    nms_threshold: float = 0.5,
    force_suppress: bool = False,
    variances: Floats = (0.1, 0.1, 0.2, 0.2),
    nms_topk: int = -1,
) -> ir.Value:
    """Rows (class, score, x1, y1, x2, y2), best first, -1 in the class of those suppressed and everywhere behind the last one.

    Source: mxnet src/operator/contrib/multibox_detection.cc.
    """
    if g.rank(cls_prob) != 3 or g.rank(loc_pred) != 2 or g.rank(anchor) != 3:
        raise g.error(f"scores (N, C, A), offsets (N, 4 A) and anchors (1, A, 4) are needed, not {g.shape(cls_prob)}, {g.shape(loc_pred)}")
    classes, count = g.fixed(cls_prob, 1, 3)
    g.check_table(count)
    if background_id != 0:
        g.warn(f"MXNet ignores background_id {background_id}: class 0 is the background, here too")
    if classes < 2 or len(variances) != 4:
        raise g.error(f"{classes} classes and variances {variances} make no detections")
    foreground = g.emit("Slice", cls_prob, [1], [classes], [1])
    score = g.emit("ReduceMax", foreground, [1], keepdims=0)  # (N, A)
    label = g.cast(g.emit("ArgMax", foreground, axis=1, keepdims=0), np.float32)
    valid = g.emit("GreaterOrEqual", score, np.array(threshold, np.float32))
    boxes = _decoded(g, g.reshape(loc_pred, [g.shape(loc_pred)[0], count, 4]), anchor, variances, clip)
    rows = g.emit("Concat", g.emit("Unsqueeze", label, [2]), g.emit("Unsqueeze", score, [2]), boxes, axis=2)
    minus = np.full((), -1, np.float32)
    compact = rows_at(g, rows, in_order(g, g.cast(valid, np.float32), count))
    total = g.emit("ReduceSum", g.cast(valid, np.int64), [1], keepdims=1)  # (N, 1)
    positions = g.const(np.arange(count, dtype=np.int64)[None], role="positions")
    filled = g.emit("Unsqueeze", g.emit("Less", positions, total), [2])
    if not 0 < nms_threshold <= 1:
        return g.emit("Where", filled, compact, minus)
    lowest = np.full((), -np.inf, np.float32)
    ordered = rows_at(g, rows, in_order(g, g.emit("Where", valid, score, lowest), count))
    active = g.emit("Less", positions, total)
    if 0 < nms_topk < count:
        kept = g.const(np.arange(count)[None] < nms_topk, role="kept")
        active = g.emit("And", active, kept)
        ordered = g.emit("Where", g.emit("Unsqueeze", kept, [2]), ordered, compact)
    ranks = g.emit("Where", active, g.const(np.arange(count, 0, -1, dtype=np.float32)[None], role="ranks"), np.zeros((), np.float32))
    scores = g.emit("Unsqueeze", ranks, [1])
    if not force_suppress and classes > 2:
        own = g.emit("Unsqueeze", column(g, ordered, 0), [1])
        same = g.emit("Equal", own, g.const(np.arange(classes - 1, dtype=np.float32).reshape(1, -1, 1), role="classes"))
        scores = g.emit("Where", same, scores, np.zeros((), np.float32))
    mask = survivors(g, columns(g, ordered, 2, 4), scores, strictly_below(nms_threshold), count)
    alive = g.emit("ReduceMax", g.cast(mask, np.float32), [1], keepdims=0)
    first = g.emit("Where", g.emit("Unsqueeze", g.emit("Greater", alive, 0.5), [2]), columns(g, ordered, 0), minus)
    return g.emit("Where", filled, g.emit("Concat", first, columns(g, ordered, 1, 5), axis=2), minus)


def _decoded(g: OperatorBuilder, offsets: ir.Value, anchor: ir.Value, variances: Floats, clip: bool) -> ir.Value:
    """Corners of anchors moved by offsets (N, A, 4) of their centers and sizes."""
    low, high = columns(g, anchor, 0, 2), columns(g, anchor, 2, 2)
    size, center = g.emit("Sub", high, low), g.emit("Mul", g.emit("Add", low, high), 0.5)
    f = np.float32
    moved = g.emit("Add", g.emit("Mul", g.emit("Mul", columns(g, offsets, 0, 2), np.array(variances[:2], f)), size), center)
    half = g.emit("Mul", g.emit("Mul", g.emit("Exp", g.emit("Mul", columns(g, offsets, 2, 2), np.array(variances[2:], f))), size), 0.5)
    corners: ir.Value = g.emit("Concat", g.emit("Sub", moved, half), g.emit("Add", moved, half), axis=2)
    return g.emit("Clip", corners, np.zeros((), f), np.ones((), f)) if clip else corners


@lowers("_contrib_box_nms", "_contrib_box_non_maximum_suppression")
def box_nms(
    g: OperatorBuilder,
    data: ir.Value,
    *,
    overlap_thresh: float = 0.5,
    valid_thresh: float = 0.0,
    topk: int = -1,
    coord_start: int = 2,
    score_index: int = 1,
    id_index: int = -1,
    background_id: int = -1,
    force_suppress: bool = False,
    in_format: Literal["corner", "center"] = "corner",
    out_format: Literal["corner", "center"] = "corner",
) -> list[ir.Value]:
    """Rows that no better one overlaps, best first; -1 behind them. Source: mxnet src/operator/contrib/bounding_box-inl.h."""
    rank = g.rank(data)
    if rank < 2:
        raise g.error(f"rows of boxes are needed, but the input has shape {g.shape(data)}")
    count, width = g.fixed(data, rank - 2)
    g.check_table(count)
    if not (0 <= score_index < width and 0 <= coord_start <= width - 4 and id_index < width):
        raise g.error(f"score_index {score_index}, coord_start {coord_start} and id_index {id_index} don't fit rows of {width} numbers")
    if topk == 0:
        return [g.identity(data)]
    sizes = [g.size(data, i) for i in range(rank)]
    data = g.pin_known(data, range(1, rank))
    x = data if rank == 3 else g.reshape_to(data, [times(sizes[:-2]) if rank > 2 else (1, ()), *sizes[-2:]])
    score = column(g, x, score_index)
    valid = g.emit("Greater", score, np.array(valid_thresh, np.float32))
    if id_index >= 0:
        valid = g.emit("And", valid, g.emit("Not", g.emit("Equal", column(g, x, id_index), float(background_id))))
    ordered = rows_at(g, x, in_order(g, g.emit("Where", valid, score, np.full((), -np.inf, np.float32)), count))
    total = g.emit("ReduceSum", g.cast(valid, np.int64), [1], keepdims=1)
    if topk > 0:
        total = g.emit("Min", total, np.array(topk, np.int64))
    active = g.emit("Less", g.const(np.arange(count, dtype=np.int64)[None], role="positions"), total)
    ranks = g.emit("Where", active, g.const(np.arange(count, 0, -1, dtype=np.float32)[None], role="ranks"), np.zeros((), np.float32))
    boxes = columns(g, ordered, coord_start, 4)
    corners = boxes if in_format == "corner" else _corners(g, boxes)
    low, high = columns(g, corners, 0, 2), columns(g, corners, 2, 2)
    corners = g.emit("Concat", low, g.emit("Max", low, high), axis=2)  # a box that ends before it begins is empty; ONNX turns it round
    if id_index >= 0 and not force_suppress:
        corners = _apart(g, corners, g.emit("Floor", columns(g, ordered, id_index)))
    mask = survivors(g, corners, g.emit("Unsqueeze", ranks, [1]), overlap_thresh, count)
    alive = g.emit("And", g.emit("Squeeze", mask, [1]), active)
    result = rows_at(g, ordered, in_order(g, g.cast(alive, np.float32), count))
    if in_format != out_format:
        result = _converted(g, result, coord_start, out_format)
    left = g.emit("ReduceSum", g.cast(alive, np.int64), [1], keepdims=1)
    filled = g.emit("Unsqueeze", g.emit("Less", g.const(np.arange(count, dtype=np.int64)[None], role="positions"), left), [2])
    result = g.emit("Where", filled, result, np.full((), -1, np.float32))
    return [result if rank == 3 else g.reshape_to(result, sizes)]


def _corners(g: OperatorBuilder, boxes: ir.Value) -> ir.Value:
    """Center and size to corners."""
    center, half = columns(g, boxes, 0, 2), g.emit("Mul", columns(g, boxes, 2, 2), 0.5)
    return g.emit("Concat", g.emit("Sub", center, half), g.emit("Add", center, half), axis=g.rank(boxes) - 1)


def _centers(g: OperatorBuilder, boxes: ir.Value) -> ir.Value:
    """Corners to center and size."""
    low, high = columns(g, boxes, 0, 2), columns(g, boxes, 2, 2)
    center = g.emit("Mul", g.emit("Add", low, high), 0.5)
    return g.emit("Concat", center, g.emit("Sub", high, low), axis=g.rank(boxes) - 1)


def _converted(g: OperatorBuilder, rows: ir.Value, start: int, wanted: str) -> ir.Value:
    """Rows with their boxes in the other format; MXNet leaves those alone whose first number is negative."""
    width = g.fixed(rows, 2, 3)[0]
    boxes = columns(g, rows, start, 4)
    other = _centers(g, boxes) if wanted == "center" else _corners(g, boxes)
    changed = g.emit("Where", g.emit("Less", columns(g, boxes, 0), 0.0), boxes, other)
    parts = [columns(g, rows, 0, start)] if start else []
    parts.append(changed)
    if start + 4 < width:
        parts.append(columns(g, rows, start + 4, width - start - 4))
    result: ir.Value = parts[0] if len(parts) == 1 else g.emit("Concat", *parts, axis=2)
    return result


def _apart(g: OperatorBuilder, corners: ir.Value, ids: ir.Value) -> ir.Value:
    """Boxes (N, A, 4) moved by their class so far that those of two classes never meet."""
    span = g.emit("Sub", g.emit("ReduceMax", corners, [1, 2], keepdims=1), g.emit("ReduceMin", corners, [1, 2], keepdims=1))
    return g.emit("Add", corners, g.emit("Mul", ids, g.emit("Add", span, 1.0)))


@lowers("_contrib_box_iou")
def box_iou(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, *, format: Literal["corner", "center"] = "corner") -> ir.Value:
    """Intersection over union of every box of the first input with every one of the second.

    Source: mxnet src/operator/contrib/bounding_box-inl.h.
    """
    a, b = (v if format == "corner" else _corners(g, v) for v in (lhs, rhs))
    a, b = (g.pin(v, g.rank(v) - 1) for v in (a, b))
    outer, inner = [g.size(a, i) for i in range(g.rank(a) - 1)], [g.size(b, i) for i in range(g.rank(b) - 1)]
    a = g.emit("Unsqueeze", g.reshape_to(a, [times(outer), (4, ())]), [1])
    b = g.emit("Unsqueeze", g.reshape_to(b, [times(inner), (4, ())]), [0])
    low = g.emit("Max", columns(g, a, 0, 2), columns(g, b, 0, 2))
    high = g.emit("Min", columns(g, a, 2, 2), columns(g, b, 2, 2))
    both = _area(g, g.emit("Sub", high, low))
    areas = g.emit("Add", *(_area(g, g.emit("Sub", columns(g, v, 2, 2), columns(g, v, 0, 2))) for v in (a, b)))
    union = g.emit("Sub", areas, both)
    zero = np.zeros((), g.dtype(lhs))
    some = g.emit("Greater", union, zero)
    iou = g.emit("Where", some, g.emit("Div", both, g.emit("Where", some, union, np.ones((), g.dtype(lhs)))), zero)
    return g.reshape_to(iou, [*outer, *inner])


def _area(g: OperatorBuilder, extents: ir.Value) -> ir.Value:
    """Products of the last axis' two numbers, 0 where one is negative."""
    held = g.emit("Max", extents, np.zeros((), g.dtype(extents)))
    return g.emit("Mul", column(g, held, 0), column(g, held, 1))


@lowers("_contrib_box_decode")
def box_decode(
    g: OperatorBuilder,
    data: ir.Value,
    anchors: ir.Value,
    *,
    std0: float = 1.0,
    std1: float = 1.0,
    std2: float = 1.0,
    std3: float = 1.0,
    clip: float = -1.0,
    format: Literal["corner", "center"] = "center",
) -> ir.Value:
    """Corners of anchors (1, A, 4) moved by offsets (N, A, 4) of their centers and sizes.

    Source: mxnet src/operator/contrib/bounding_box-inl.h.
    """
    data, anchors = whole_rows(g, data), whole_rows(g, anchors)
    centers = anchors if format == "center" else _centers(g, anchors)
    kind = g.dtype(data)
    center, size = columns(g, centers, 0, 2), columns(g, centers, 2, 2)
    moved = g.emit("Add", g.emit("Mul", g.emit("Mul", columns(g, data, 0, 2), np.array([std0, std1], kind)), size), center)
    growth = g.emit("Mul", columns(g, data, 2, 2), np.array([std2, std3], kind))
    if clip > 0:
        growth = g.emit("Min", growth, np.array(clip, kind))
    half = g.emit("Mul", g.emit("Mul", g.emit("Exp", growth), size), 0.5)
    return g.emit("Concat", g.emit("Sub", moved, half), g.emit("Add", moved, half), axis=g.rank(data) - 1)
