"""Regions and boxes. Sources: mxnet src/operator/roi_pooling.cc, contrib/multibox_prior.cc, multibox_detection.cc, bounding_box-inl.h,
roi_align.cc, psroi_pooling.cc, proposal.cc, multi_proposal.cc."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.mxnet.attributes import Floats, Ints
from converters.mxnet.lowering import Graph, lowers
from converters.mxnet.operators.elementwise import round_half_away
from converters.mxnet.operators.sampling import image_sizes
from converters.mxnet.operators.shape import reshape_to, size_of, times


def columns(g: Graph, value: ir.Value, start: int, count: int = 1) -> ir.Value:
    """Part of the last axis."""
    axis = g.rank(value) - 1
    return g.node("Slice", value, [start], [start + count], [axis])


def column(g: Graph, value: ir.Value, position: int) -> ir.Value:
    """One entry of the last axis, which goes."""
    return g.node("Squeeze", columns(g, value, position), [g.rank(value) - 1])


# -- pooling of regions ---------------------------------------------------------------------------------------------------


@lowers("ROIPooling", "_npx_roi_pooling")
def roi_pooling(g: Graph, data: ir.Value, rois: ir.Value, *, pooled_size: Ints, spatial_scale: float) -> ir.Value:
    """Maxima over the bins of regions (image, x1, y1, x2, y2)."""
    if len(pooled_size) != 2 or min(pooled_size) < 1:
        raise g.error(f"attribute pooled_size is {pooled_size}; a height and a width are needed")
    return g.node("MaxRoiPool", data, rois, pooled_shape=list(pooled_size), spatial_scale=spatial_scale)


@lowers("_contrib_ROIAlign", "_npx_roi_align")
def roi_align(
    g: Graph,
    data: ir.Value,
    rois: ir.Value,
    *,
    pooled_size: Ints,
    spatial_scale: float,
    sample_ratio: int = -1,
    position_sensitive: bool = False,
    aligned: bool = False,
) -> ir.Value:
    """Means of bilinear samples over the bins of regions (image, x1, y1, x2, y2)."""
    if len(pooled_size) != 2 or min(pooled_size) < 1:
        raise g.error(f"attribute pooled_size is {pooled_size}; a height and a width are needed")
    wide = g.shape(rois)[1]
    if wide == 5:
        image, boxes = g.cast(column(g, rois, 0), np.int64), columns(g, rois, 1, 4)
    else:
        boxes = rois
        image = g.emit("Expand", np.zeros((), np.int64), g.emit("Slice", g.emit("Shape", rois), [0], [1]), shape=[g.shape(rois)[0]])
    height, width = pooled_size
    pooled: ir.Value = g.emit(
        "RoiAlign",
        data,
        boxes,
        image,
        output_height=height,
        output_width=width,
        sampling_ratio=max(sample_ratio, 0),
        spatial_scale=spatial_scale,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )
    if not position_sensitive:
        return pooled
    count = g.fixed(data, 1, 2)[0]
    cells = height * width
    if count % cells:
        raise g.error(f"{count} channels don't divide into {height} x {width} bins")
    g.room(cells)
    flat = g.emit("Reshape", pooled, [-1, count // cells, cells * cells])
    own = g.emit("Gather", flat, g.const(np.arange(cells, dtype=np.int64) * (cells + 1), role="positions"), axis=2)
    return g.node("Reshape", own, [-1, count // cells, height, width], shape=[g.shape(rois)[0], count // cells, height, width])


@lowers("_contrib_PSROIPooling")
def psroi_pooling(
    g: Graph, data: ir.Value, rois: ir.Value, *, spatial_scale: float, output_dim: int, pooled_size: int, group_size: int = 0
) -> ir.Value:
    """Means over the bins of regions, each bin from channels of its own; by sums of the image over rectangles from its corner."""
    height, width = image_sizes(g, data)
    group = group_size or pooled_size
    count = g.fixed(data, 1, 2)[0]
    if min(output_dim, pooled_size, group) < 1 or count != output_dim * group * group:
        raise g.error(f"{count} channels aren't output_dim {output_dim} times group_size {group} squared")
    g.room(count, pooled_size, pooled_size)
    kind = np.float64
    sums = g.emit("CumSum", g.emit("CumSum", g.cast(data, kind), np.array(2, np.int64)), np.array(3, np.int64))
    flat = g.emit("Reshape", g.emit("Pad", sums, [0, 0, 1, 1, 0, 0, 0, 0], np.zeros(())), [-1])
    coordinates = round_half_away(g, columns(g, rois, 1, 4))
    scale = np.array(spatial_scale, np.float32)
    starts = g.emit("Mul", columns(g, coordinates, 0, 2), scale)  # (R, 2): x, y
    ends = g.emit("Mul", g.emit("Add", columns(g, coordinates, 2, 2), 1.0), scale)
    extents = g.emit("Max", g.emit("Sub", ends, starts), np.array(0.1, np.float32))
    bins = g.emit("Unsqueeze", g.emit("Div", extents, float(pooled_size)), [2])
    origin = g.emit("Unsqueeze", starts, [2])
    steps = np.arange(pooled_size, dtype=np.float32)
    limits = np.array([width, height], np.float32).reshape(1, 2, 1)
    zero = np.zeros((), np.float32)
    lows = g.emit("Floor", g.emit("Add", g.emit("Mul", bins, g.const(steps)), origin))
    highs = g.emit("Ceil", g.emit("Add", g.emit("Mul", bins, g.const(steps + 1)), origin))
    lows, highs = (g.cast(g.emit("Min", g.emit("Max", v, zero), limits), np.int64) for v in (lows, highs))  # (R, 2, P)
    own = np.clip(np.floor(np.arange(pooled_size) * group / pooled_size), 0, group - 1).astype(np.int64)
    channel = (np.arange(output_dim)[:, None, None] * group + own[None, :, None]) * group + own[None, None, :]
    image = g.emit("Unsqueeze", g.cast(columns(g, rois, 0), np.int64), [2, 3])  # (R, 1, 1, 1)
    plane = g.emit("Add", g.emit("Mul", image, count), g.const(channel[None].astype(np.int64), role="channels"))
    plane = g.emit("Mul", plane, (height + 1) * (width + 1))

    def bounds(values: ir.Value) -> tuple[ir.Value, ir.Value]:
        x, y = g.emit("Split", values, [1, 1], outputs=2, axis=1)
        return g.node("Unsqueeze", x, [2]), g.emit("Unsqueeze", y, [3])  # (R, 1, 1, P), (R, 1, P, 1)

    (left, top), (right, bottom) = bounds(lows), bounds(highs)

    def corner(y: ir.Value, x: ir.Value) -> ir.Value:
        place = g.emit("Add", g.emit("Add", plane, g.emit("Mul", y, width + 1)), x)
        return g.node("Gather", flat, place, axis=0)

    total = g.emit("Sub", corner(bottom, right), corner(top, right))
    total = g.emit("Add", g.emit("Sub", total, corner(bottom, left)), corner(top, left))
    area = g.emit("Mul", g.emit("Sub", bottom, top), g.emit("Sub", right, left))
    some = g.emit("And", g.emit("Greater", bottom, top), g.emit("Greater", right, left))
    divisor = g.cast(g.emit("Where", some, area, np.array(1, np.int64)), kind)
    return g.cast(g.emit("Where", some, g.emit("Div", total, divisor), np.zeros(())), g.dtype(data))


# -- anchors and boxes ----------------------------------------------------------------------------------------------------


@lowers("_contrib_MultiBoxPrior", "_npx_multibox_prior", "MultiBoxPrior")
def multibox_prior(
    g: Graph,
    data: ir.Value,
    *,
    sizes: Floats = (1.0,),
    ratios: Floats = (1.0,),
    clip: bool = False,
    steps: Floats = (-1.0, -1.0),
    offsets: Floats = (0.5, 0.5),
) -> ir.Value:
    """Anchors (1, H W (sizes + ratios - 1), 4) for every pixel: all sizes at the first ratio, then the first size at the others."""
    height, width = image_sizes(g, data)
    if not sizes or not ratios or len(steps) != 2 or len(offsets) != 2 or min(ratios) <= 0:
        raise g.error(f"sizes {sizes}, ratios {ratios}, steps {steps} and offsets {offsets} make no anchors")
    g.room(height, width, len(sizes) + len(ratios), 4)
    f = np.float32
    step_y = f(steps[0]) if steps[0] > 0 else f(1) / f(height)
    step_x = f(steps[1]) if steps[1] > 0 else f(1) / f(width)
    shapes = [(s, np.sqrt(f(ratios[0]))) for s in sizes] + [(sizes[0], np.sqrt(f(r))) for r in ratios[1:]]
    halves = np.array([(f(s) * f(height) / f(width) * r / f(2), f(s) / r / f(2)) for s, r in shapes], f)
    y = ((np.arange(height, dtype=f) + f(offsets[0])) * step_y)[:, None, None]
    x = ((np.arange(width, dtype=f) + f(offsets[1])) * step_x)[None, :, None]
    parts = np.broadcast_arrays(x - halves[:, 0], y - halves[:, 1], x + halves[:, 0], y + halves[:, 1])
    boxes = np.stack(parts, axis=-1).reshape(1, -1, 4)
    return g.identity(g.const((boxes.clip(0, 1) if clip else boxes).astype(g.dtype(data)), role="anchors"))


def strictly_below(threshold: float) -> float:
    """The float32 before a threshold: x > it means x >= threshold."""
    return float(np.nextafter(np.float32(threshold), np.float32(-1)))


def survivors(g: Graph, boxes: ir.Value, scores: ir.Value, threshold: float, count: int) -> ir.Value:
    """A mask (N, classes, A) of the boxes (N, A, 4) that no better one of their class overlaps by more than the threshold.

    scores: (N, classes, A); those of 0 and below take no part.
    """
    number: list[np.ndarray] = [np.array([count], np.int64), np.array([threshold], np.float32), np.zeros(1, np.float32)]
    chosen = g.emit("NonMaxSuppression", boxes, scores, *number)
    zeros = g.emit("Expand", np.zeros((), np.float32), g.emit("Shape", scores), shape=g.shape(scores))
    ones = g.emit("Expand", np.ones((), np.float32), g.emit("Slice", g.emit("Shape", chosen), [0], [1]))
    mask = g.emit("ScatterND", zeros, chosen, ones, shape=g.shape(scores))
    return g.node("Greater", mask, 0.5)


def rows_at(g: Graph, data: ir.Value, order: ir.Value) -> ir.Value:
    """Rows of (N, A, K) in the order of int64 indices (N, A)."""
    wide = g.emit("Tile", g.emit("Unsqueeze", order, [2]), [1, 1, g.fixed(data, 2, 3)[0]])
    return g.node("GatherElements", data, wide, axis=1)


def in_order(g: Graph, keys: ir.Value, count: int) -> ir.Value:
    """Indices that sort (N, A) downwards, equal keys in their order."""
    result: ir.Value = g.emit("TopK", keys, [count], outputs=2, axis=1, largest=1, sorted=1)[1]
    return result


@lowers("_contrib_MultiBoxDetection", "_npx_multibox_detection", "MultiBoxDetection")
def multibox_detection(
    g: Graph,
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
    """Rows (class, score, x1, y1, x2, y2), best first, -1 in the class of those suppressed and everywhere behind the last one."""
    if g.rank(cls_prob) != 3 or g.rank(loc_pred) != 2 or g.rank(anchor) != 3:
        raise g.error(f"scores (N, C, A), offsets (N, 4 A) and anchors (1, A, 4) are needed, not {g.shape(cls_prob)}, {g.shape(loc_pred)}")
    classes, count = g.fixed(cls_prob, 1, 3)
    g.room(count)
    if background_id != 0:
        raise g.error(f"background_id {background_id} is ignored by MXNet, which takes class 0; use 0")
    if classes < 2 or len(variances) != 4:
        raise g.error(f"{classes} classes and variances {variances} make no detections")
    foreground = g.emit("Slice", cls_prob, [1], [classes], [1])
    score = g.emit("ReduceMax", foreground, [1], keepdims=0)  # (N, A)
    label = g.cast(g.emit("ArgMax", foreground, axis=1, keepdims=0), np.float32)
    valid = g.emit("GreaterOrEqual", score, np.array(threshold, np.float32))
    boxes = _decoded(g, g.emit("Reshape", loc_pred, [0, count, 4]), anchor, variances, clip)
    rows = g.emit("Concat", g.emit("Unsqueeze", label, [2]), g.emit("Unsqueeze", score, [2]), boxes, axis=2)
    minus = np.full((), -1, np.float32)
    compact = rows_at(g, rows, in_order(g, g.cast(valid, np.float32), count))
    total = g.emit("ReduceSum", g.cast(valid, np.int64), [1], keepdims=1)  # (N, 1)
    positions = g.const(np.arange(count, dtype=np.int64)[None], role="positions")
    filled = g.emit("Unsqueeze", g.emit("Less", positions, total), [2])
    if not 0 < nms_threshold <= 1:
        return g.node("Where", filled, compact, minus)
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
    return g.node("Where", filled, g.emit("Concat", first, columns(g, ordered, 1, 5), axis=2), minus)


def _decoded(g: Graph, offsets: ir.Value, anchor: ir.Value, variances: Floats, clip: bool) -> ir.Value:
    """Corners of anchors moved by offsets (N, A, 4) of their centres and sizes."""
    low, high = columns(g, anchor, 0, 2), columns(g, anchor, 2, 2)
    size, centre = g.emit("Sub", high, low), g.emit("Mul", g.emit("Add", low, high), 0.5)
    f = np.float32
    moved = g.emit("Add", g.emit("Mul", g.emit("Mul", columns(g, offsets, 0, 2), np.array(variances[:2], f)), size), centre)
    half = g.emit("Mul", g.emit("Mul", g.emit("Exp", g.emit("Mul", columns(g, offsets, 2, 2), np.array(variances[2:], f))), size), 0.5)
    corners: ir.Value = g.emit("Concat", g.emit("Sub", moved, half), g.emit("Add", moved, half), axis=2)
    return g.node("Clip", corners, np.zeros((), f), np.ones((), f)) if clip else corners


@lowers("_contrib_box_nms", "_contrib_box_non_maximum_suppression")
def box_nms(
    g: Graph,
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
    """Rows that no better one overlaps, best first; -1 behind them."""
    rank = g.rank(data)
    if rank < 2:
        raise g.error(f"rows of boxes are needed, but the input has shape {g.shape(data)}")
    count, width = g.fixed(data, rank - 2)
    g.room(count)
    if not (0 <= score_index < width and 0 <= coord_start <= width - 4 and id_index < width):
        raise g.error(f"score_index {score_index}, coord_start {coord_start} and id_index {id_index} don't fit rows of {width} numbers")
    if topk == 0:
        return [g.identity(data)]
    sizes = [size_of(g, data, i) for i in range(rank)]
    x = data if rank == 3 else reshape_to(g, data, [times(sizes[:-2]) if rank > 2 else (1, ()), *sizes[-2:]])
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
    return [result if rank == 3 else reshape_to(g, result, sizes)]


def _corners(g: Graph, boxes: ir.Value) -> ir.Value:
    """Centre and size to corners."""
    centre, half = columns(g, boxes, 0, 2), g.emit("Mul", columns(g, boxes, 2, 2), 0.5)
    return g.node("Concat", g.emit("Sub", centre, half), g.emit("Add", centre, half), axis=g.rank(boxes) - 1)


def _centres(g: Graph, boxes: ir.Value) -> ir.Value:
    """Corners to centre and size."""
    low, high = columns(g, boxes, 0, 2), columns(g, boxes, 2, 2)
    centre = g.emit("Mul", g.emit("Add", low, high), 0.5)
    return g.node("Concat", centre, g.emit("Sub", high, low), axis=g.rank(boxes) - 1)


def _converted(g: Graph, rows: ir.Value, start: int, wanted: str) -> ir.Value:
    """Rows with their boxes in the other format; MXNet leaves those alone whose first number is negative."""
    width = g.fixed(rows, 2, 3)[0]
    boxes = columns(g, rows, start, 4)
    other = _centres(g, boxes) if wanted == "center" else _corners(g, boxes)
    changed = g.emit("Where", g.emit("Less", columns(g, boxes, 0), 0.0), boxes, other)
    parts = [columns(g, rows, 0, start)] if start else []
    parts.append(changed)
    if start + 4 < width:
        parts.append(columns(g, rows, start + 4, width - start - 4))
    result: ir.Value = parts[0] if len(parts) == 1 else g.emit("Concat", *parts, axis=2)
    return result


def _apart(g: Graph, corners: ir.Value, ids: ir.Value) -> ir.Value:
    """Boxes (N, A, 4) moved by their class so far that those of two classes never meet."""
    span = g.emit("Sub", g.emit("ReduceMax", corners, [1, 2], keepdims=1), g.emit("ReduceMin", corners, [1, 2], keepdims=1))
    return g.node("Add", corners, g.emit("Mul", ids, g.emit("Add", span, 1.0)))


@lowers("_contrib_box_iou")
def box_iou(g: Graph, lhs: ir.Value, rhs: ir.Value, *, format: Literal["corner", "center"] = "corner") -> ir.Value:
    """Intersection over union of every box of the first input with every one of the second."""
    a, b = (v if format == "corner" else _corners(g, v) for v in (lhs, rhs))
    outer, inner = [size_of(g, a, i) for i in range(g.rank(a) - 1)], [size_of(g, b, i) for i in range(g.rank(b) - 1)]
    a = g.emit("Unsqueeze", reshape_to(g, a, [times(outer), (4, ())]), [1])
    b = g.emit("Unsqueeze", reshape_to(g, b, [times(inner), (4, ())]), [0])
    low = g.emit("Max", columns(g, a, 0, 2), columns(g, b, 0, 2))
    high = g.emit("Min", columns(g, a, 2, 2), columns(g, b, 2, 2))
    both = _area(g, g.emit("Sub", high, low))
    areas = g.emit("Add", *(_area(g, g.emit("Sub", columns(g, v, 2, 2), columns(g, v, 0, 2))) for v in (a, b)))
    union = g.emit("Sub", areas, both)
    zero = np.zeros((), g.dtype(lhs))
    some = g.emit("Greater", union, zero)
    iou = g.emit("Where", some, g.emit("Div", both, g.emit("Where", some, union, np.ones((), g.dtype(lhs)))), zero)
    return reshape_to(g, iou, [*outer, *inner])


def _area(g: Graph, extents: ir.Value) -> ir.Value:
    """Products of the last axis' two numbers, 0 where one is negative."""
    held = g.emit("Max", extents, np.zeros((), g.dtype(extents)))
    return g.node("Mul", column(g, held, 0), column(g, held, 1))


@lowers("_contrib_box_decode")
def box_decode(
    g: Graph,
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
    """Corners of anchors (1, A, 4) moved by offsets (N, A, 4) of their centres and sizes."""
    centres = anchors if format == "center" else _centres(g, anchors)
    kind = g.dtype(data)
    centre, size = columns(g, centres, 0, 2), columns(g, centres, 2, 2)
    moved = g.emit("Add", g.emit("Mul", g.emit("Mul", columns(g, data, 0, 2), np.array([std0, std1], kind)), size), centre)
    growth = g.emit("Mul", columns(g, data, 2, 2), np.array([std2, std3], kind))
    if clip > 0:
        growth = g.emit("Min", growth, np.array(clip, kind))
    half = g.emit("Mul", g.emit("Mul", g.emit("Exp", growth), size), 0.5)
    return g.node("Concat", g.emit("Sub", moved, half), g.emit("Add", moved, half), axis=g.rank(data) - 1)


# -- region proposals -----------------------------------------------------------------------------------------------------


def _anchors(stride: int, ratios: Floats, scales: Floats) -> np.ndarray:
    """Base anchors (ratios x scales, 4) of a cell of stride x stride pixels."""
    f = np.float32
    size = f(stride) * f(stride)
    centre = f(0.5) * (f(stride) - f(1))
    boxes = []
    for ratio in ratios:
        for scale in scales:
            width = np.floor(np.sqrt(np.floor(size / f(ratio))) + f(0.5)) * f(scale)
            height = np.floor(width / f(scale) * f(ratio) + f(0.5)) * f(scale)
            dx, dy = f(0.5) * (width - f(1)), f(0.5) * (height - f(1))
            boxes.append([centre - dx, centre - dy, centre + dx, centre + dy])
    return np.array(boxes, f)


@lowers("_contrib_Proposal", "_contrib_MultiProposal", "MultiProposal")
def proposal(
    g: Graph,
    cls_prob: ir.Value,
    bbox_pred: ir.Value,
    im_info: ir.Value,
    *,
    rpn_pre_nms_top_n: int = 6000,
    rpn_post_nms_top_n: int = 300,
    threshold: float = 0.7,
    rpn_min_size: int = 16,
    scales: Floats = (4.0, 8.0, 16.0, 32.0),
    ratios: Floats = (0.5, 1.0, 2.0),
    feature_stride: int = 16,
    output_score: bool = False,
    iou_loss: bool = False,
) -> ir.Value | dict[str, ir.Value]:
    """Region proposals (image, x1, y1, x2, y2) of a region proposal network, rpn_post_nms_top_n per image; with scores if asked."""
    batch = g.fixed(cls_prob, 0, 1)[0]
    height, width = image_sizes(g, cls_prob)
    g.room(len(scales) * len(ratios), height, width, 4)
    g.room(rpn_post_nms_top_n)
    if batch > 4096 or g.shape(cls_prob)[1] != 2 * len(scales) * len(ratios) or rpn_post_nms_top_n < 1:
        raise g.error(f"{len(scales)} scales and {len(ratios)} ratios don't fit scores {g.shape(cls_prob)}")
    base = _anchors(feature_stride, ratios, scales)
    number = len(base)
    if g.shape(cls_prob)[1] != 2 * number or g.shape(bbox_pred)[1] != 4 * number:
        raise g.error(f"{number} anchors don't fit scores {g.shape(cls_prob)} and offsets {g.shape(bbox_pred)}")
    rows, cols = np.arange(height) * feature_stride, np.arange(width) * feature_stride
    shifts = np.stack(np.broadcast_arrays(cols[None, :], rows[:, None], cols[None, :], rows[:, None]), axis=-1)
    anchors = (shifts[:, :, None, :] + base).reshape(1, -1, 4).astype(np.float32)
    count = anchors.shape[1]
    before = min(rpn_pre_nms_top_n, count) if rpn_pre_nms_top_n > 0 else count
    after = min(rpn_post_nms_top_n, before)
    score = g.emit("Slice", cls_prob, [number], [2 * number], [1])
    score = g.emit("Reshape", g.emit("Transpose", score, perm=[0, 2, 3, 1]), [batch, count])
    deltas = g.emit("Transpose", g.emit("Reshape", bbox_pred, [batch, number, 4, height, width]), perm=[0, 3, 4, 1, 2])
    deltas = g.emit("Reshape", deltas, [batch, count, 4])
    info = g.emit("Unsqueeze", im_info, [1])  # (N, 1, 3): height, width, scale
    limits = g.emit("Sub", g.emit("Gather", info, [1, 0, 1, 0], axis=2), 1.0)
    boxes = _moved(g, anchors, deltas, iou_loss)
    boxes = g.emit("Max", g.emit("Min", boxes, limits), np.zeros((), np.float32))
    cells = np.stack(np.broadcast_arrays(np.arange(height)[:, None, None], np.arange(width)[None, :, None], np.zeros((1, 1, number))), -1)
    cells = cells.reshape(1, count, 3)[..., :2].astype(np.float32)
    real = g.emit("Floor", g.emit("Div", columns(g, info, 0, 2), float(feature_stride)))
    outside = g.emit("GreaterOrEqual", g.const(cells, role="cells"), real)
    outside = g.emit("Or", column(g, outside, 0), column(g, outside, 1))
    least = g.emit("Mul", columns(g, info, 2), float(rpn_min_size))
    extents = g.emit("Add", g.emit("Sub", columns(g, boxes, 2, 2), columns(g, boxes, 0, 2)), 1.0)
    small = g.emit("Less", extents, least)
    small = g.emit("Or", columns(g, small, 0), columns(g, small, 1))
    half = g.emit("Mul", least, np.array([-0.5, -0.5, 0.5, 0.5], np.float32))
    boxes = g.emit("Where", small, g.emit("Add", boxes, half), boxes)
    score = g.emit("Where", g.emit("Or", outside, g.emit("Squeeze", small, [2])), np.full((), -1, np.float32), score)
    values, order = g.emit("TopK", score, [before], outputs=2, axis=1, largest=1, sorted=1)
    boxes = rows_at(g, boxes, order)
    grown = g.emit("Add", boxes, np.array([0, 0, 1, 1], np.float32))
    ranks = g.const(np.arange(before, 0, -1, dtype=np.float32).reshape(1, 1, -1), role="ranks")
    out, scores = [], []
    for image in range(batch):
        part = g.emit("Slice", grown, [image], [image + 1], [0])
        limit: list[np.ndarray] = [np.array([after], np.int64), np.array([threshold], np.float32), np.zeros(1, np.float32)]
        chosen = g.emit("NonMaxSuppression", part, ranks, *limit)
        found = g.emit("Slice", g.emit("Shape", chosen), [0], [1])
        cycle = g.emit("Mod", g.const(np.arange(rpn_post_nms_top_n, dtype=np.int64), role="positions"), found)
        keep = g.emit("Gather", g.emit("Squeeze", columns(g, chosen, 2), [1]), cycle, axis=0)
        mine = g.emit("Squeeze", g.emit("Slice", boxes, [image], [image + 1], [0]), [0])
        number_column = np.full((rpn_post_nms_top_n, 1), image, np.float32)
        out.append(g.emit("Concat", g.const(number_column, role="image"), g.emit("Gather", mine, keep, axis=0), axis=1))
        one = g.emit("Squeeze", g.emit("Slice", values, [image], [image + 1], [0]), [0])
        scores.append(g.emit("Unsqueeze", g.emit("Gather", one, keep, axis=0), [1]))
    regions = out[0] if batch == 1 else g.emit("Concat", *out, axis=0)
    if not output_score:
        return {"output": regions}
    return {"output": regions, "score": scores[0] if batch == 1 else g.emit("Concat", *scores, axis=0)}


def _moved(g: Graph, anchors: np.ndarray, deltas: ir.Value, iou_loss: bool) -> ir.Value:
    """Anchors (1, A, 4) moved by offsets (N, A, 4): of the corners, or of the centre and the logarithms of the size."""
    if iou_loss:
        return g.node("Add", deltas, g.const(anchors, role="anchors"))
    size = anchors[..., 2:] - anchors[..., :2] + np.float32(1)
    centre = anchors[..., :2] + np.float32(0.5) * (size - np.float32(1))
    moved = g.emit("Add", g.emit("Mul", columns(g, deltas, 0, 2), g.const(size, role="sizes")), g.const(centre, role="centres"))
    grown = g.emit("Mul", g.emit("Exp", columns(g, deltas, 2, 2)), g.const(size, role="sizes"))
    half = g.emit("Mul", g.emit("Sub", grown, 1.0), 0.5)
    return g.node("Concat", g.emit("Sub", moved, half), g.emit("Add", moved, half), axis=2)
