"""Regions that turn or move: bilinear samples taken by index.

Sources: mxnet src/operator/contrib/rroi_align.cc, deformable_psroi_pooling.cc.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import round_half_away
from converters.readers.mxnet.operators.detection import columns, whole_rows
from converters.readers.mxnet.operators.regions import images_of, zeros_for
from converters.readers.mxnet.operators.resampling import image_sizes
from converters.readers.mxnet.signature import lowers

ONE, ZERO = np.ones((), np.float32), np.zeros((), np.float32)


def _bilinear(
    g: OperatorBuilder, y: ir.Value, x: ir.Value, size: tuple[int, int], look: Callable[[ir.Value, ir.Value], ir.Value], unfold: list[int]
) -> ir.Value:
    """Samples at places inside an image of a size. look: pixels by int64 row and column. unfold: axes that pixels have besides."""
    height, width = size
    low_y, low_x = g.emit("Floor", y), g.emit("Floor", x)
    rest_y, rest_x = g.emit("Sub", y, low_y), g.emit("Sub", x, low_x)
    rows = [g.cast(low_y, np.int64), g.cast(g.emit("Min", g.emit("Add", low_y, ONE), np.array(height - 1, np.float32)), np.int64)]
    places = [g.cast(low_x, np.int64), g.cast(g.emit("Min", g.emit("Add", low_x, ONE), np.array(width - 1, np.float32)), np.int64)]
    total: ir.Value | None = None
    for row, by_row in zip(rows, (g.emit("Sub", ONE, rest_y), rest_y), strict=True):
        for place, by_column in zip(places, (g.emit("Sub", ONE, rest_x), rest_x), strict=True):
            weight = g.emit("Mul", by_row, by_column)
            weight = g.emit("Unsqueeze", weight, unfold) if unfold else weight
            part = g.emit("Mul", look(row, place), weight)
            total = part if total is None else g.emit("Add", total, part)
    assert total is not None
    return total


def _held(g: OperatorBuilder, value: ir.Value, size: int) -> ir.Value:
    return g.emit("Clip", value, ZERO, np.array(size - 1, np.float32))


def _within(g: OperatorBuilder, value: ir.Value, low: float, high: float) -> ir.Value:
    return g.emit(
        "And", g.emit("GreaterOrEqual", value, np.array(low, np.float32)), g.emit("LessOrEqual", value, np.array(high, np.float32))
    )


@lowers("_contrib_RROIAlign")
def rotated_roi_align(
    g: OperatorBuilder, data: ir.Value, rois: ir.Value, *, pooled_size: Ints, spatial_scale: float, sampling_ratio: int = -1
) -> ir.Value:
    """Means of bilinear samples over the bins of rotated regions (image, cx, cy, w, h, degrees).

    Source: mxnet src/operator/contrib/rroi_align.cc.
    """
    if len(pooled_size) != 2 or min(pooled_size) < 1 or g.shape(rois)[-1] != 6:
        raise g.error(f"pooled_size {pooled_size} and regions of shape {g.shape(rois)}; a height and a width, and (R, 6) are needed")
    height, width = image_sizes(g, data)
    data = g.pin(data, 1)
    g.check_table(*pooled_size, max(sampling_ratio, 1) ** 2)
    rois = whole_rows(g, rois)
    image, foreign = images_of(g, data, rois)
    sizes = g.emit("Mul", columns(g, rois, 1, 4), np.array(spatial_scale, np.float32))
    inner = [2, 3, 4, 5]  # bins and samples down, bins and samples across: (R, h, samples, w, samples)
    center_x, center_y = (g.emit("Squeeze", g.emit("Unsqueeze", columns(g, sizes, i), inner), [1]) for i in (0, 1))
    across, down = (g.emit("Squeeze", g.emit("Unsqueeze", g.emit("Max", columns(g, sizes, i), ONE), inner), [1]) for i in (2, 3))
    angle = g.emit("Mul", columns(g, rois, 5), np.array(np.pi / 180, np.float32))
    cosine, sine = (g.emit("Squeeze", g.emit("Unsqueeze", g.emit(op_type, angle), inner), [1]) for op_type in ("Cos", "Sin"))
    yy, rows, tall = _grid(g, down, pooled_size[0], sampling_ratio, 1)
    xx, places, wide = _grid(g, across, pooled_size[1], sampling_ratio, 3)
    x = g.emit("Add", g.emit("Add", g.emit("Mul", xx, cosine), g.emit("Mul", yy, sine)), center_x)
    y = g.emit("Add", g.emit("Sub", g.emit("Mul", yy, cosine), g.emit("Mul", xx, sine)), center_y)
    inside = g.emit("And", _within(g, y, -1, height), _within(g, x, -1, width))
    for some in (rows, places):
        inside = inside if some is None else g.emit("And", inside, some)
    count = g.fixed(data, 1, 2)[0]
    pixels = g.reshape(g.emit("Transpose", data, perm=[0, 2, 3, 1]), [None, count])
    base = g.emit("Unsqueeze", g.emit("Mul", g.cast(image, np.int64), height * width), [2, 3, 4])

    def look(row: ir.Value, place: ir.Value) -> ir.Value:
        at = g.emit("Add", g.emit("Add", g.emit("Mul", row, width), place), base)
        return g.emit("Gather", pixels, at, axis=0)

    samples = _bilinear(g, _held(g, y, height), _held(g, x, width), (height, width), look, [5])
    samples = g.emit("Mul", samples, g.emit("Unsqueeze", g.cast(inside, np.float32), [5]))
    totals = g.emit("ReduceSum", samples, [2, 4], keepdims=0)  # (R, h, w, C)
    means = g.emit("Div", totals, g.reshape(g.emit("Mul", tall, wide), [None, 1, 1, 1]) if isinstance(tall, ir.Value) else tall * wide)
    return zeros_for(g, foreign, g.emit("Transpose", means, perm=[0, 3, 1, 2]))


def _grid(g: OperatorBuilder, length: ir.Value, bins: int, samples: int, axis: int) -> tuple[ir.Value, ir.Value | None, ir.Value | float]:
    """Where the samples of bins lie beside the middle of a length (R, 1, 1, 1, 1); which of them there are; how many a bin has.

    axis: that of the bins; the samples' is the next one. samples below 1: as many as a bin is long.
    """
    starts = g.const(np.arange(bins, dtype=np.float32).reshape([-1 if i == axis else 1 for i in range(5)]))
    counts: ir.Value | float = float(samples)
    there = None
    if samples > 0:
        own = ((np.arange(samples) + 0.5) / samples).astype(np.float32).reshape([-1 if i == axis + 1 else 1 for i in range(5)])
        share = g.const(own)
    else:
        counts = g.emit("Ceil", g.emit("Div", length, float(bins)))
        most = g.cast(g.emit("ReduceMax", counts, list(range(5)), keepdims=0), np.int64)
        steps = g.cast(g.emit("Range", np.array(0, np.int64), most, np.array(1, np.int64), shape=[None]), np.float32)
        steps = g.along(steps, axis + 1, 5)
        share, there = g.emit("Div", g.emit("Add", steps, 0.5), counts), g.emit("Less", steps, counts)
    place = g.emit("Sub", g.emit("Div", g.emit("Add", starts, share), float(bins)), 0.5)
    return g.emit("Mul", length, place), there, counts


@lowers("_contrib_DeformablePSROIPooling")
def deformable_psroi_pooling(
    g: OperatorBuilder,
    data: ir.Value,
    rois: ir.Value,
    trans: ir.Value | None = None,
    *,
    spatial_scale: float,
    output_dim: int,
    group_size: int,
    pooled_size: int,
    part_size: int = 0,
    sample_per_part: int = 1,
    trans_std: float = 0.0,
    no_trans: bool = False,
) -> ir.Value:
    """Means over the bins of regions, each bin from channels of its own and moved by an offset, of samples from its corner.

    Source: mxnet src/operator/contrib/deformable_psroi_pooling.cc.
    """
    height, width = image_sizes(g, data)
    count = g.fixed(data, 1, 2)[0]
    if min(output_dim, group_size, pooled_size, sample_per_part) < 1 or count != output_dim * group_size**2:
        raise g.error(f"{count} channels aren't output_dim {output_dim} times group_size {group_size} squared")
    data = g.pin(data, 1)
    parts, side = part_size or pooled_size, pooled_size * sample_per_part
    g.check_table(output_dim, side, side)
    rois = whole_rows(g, rois)
    image = g.cast(columns(g, rois, 0), np.int64)
    corners = round_half_away(g, columns(g, rois, 1, 4))
    scale = np.array(spatial_scale, np.float32)
    starts = g.emit("Sub", g.emit("Mul", columns(g, corners, 0, 2), scale), 0.5)  # (R, 2): x, y
    ends = g.emit("Sub", g.emit("Mul", g.emit("Add", columns(g, corners, 2, 2), 1.0), scale), 0.5)
    lengths = g.emit("Max", g.emit("Sub", ends, starts), np.array(0.1, np.float32))
    moves = None if no_trans or trans is None else _moves(g, trans, pooled_size, parts, trans_std, output_dim)
    # steps of the samples in bins of 1 / pooled_size: bin, then sample in the bin
    steps = (np.arange(side) // sample_per_part + np.arange(side) % sample_per_part / sample_per_part) / pooled_size
    y, x = (_places(g, starts, lengths, moves, steps.astype(np.float32), axis, sample_per_part) for axis in (1, 0))
    inside = g.emit("And", _within(g, y, -0.5, height - 0.5), _within(g, x, -0.5, width - 0.5))
    own = np.clip(np.floor(np.arange(side) // sample_per_part * group_size / pooled_size), 0, group_size - 1).astype(np.int64)
    channel = (np.arange(output_dim)[:, None, None] * group_size + own[None, :, None]) * group_size + own[None, None, :]
    plane = g.emit("Add", g.emit("Mul", g.emit("Unsqueeze", image, [2, 3]), count), g.const(channel[None], role="channels"))
    flat = g.reshape(data, [None])

    def look(row: ir.Value, place: ir.Value) -> ir.Value:
        at = g.emit("Add", g.emit("Mul", g.emit("Add", g.emit("Mul", plane, height), row), width), place)
        return g.emit("Gather", flat, at, axis=0)

    samples = _bilinear(g, _held(g, y, height), _held(g, x, width), (height, width), look, [])
    some = g.cast(inside, np.float32)
    shape = [g.shape(rois)[0], output_dim, pooled_size, sample_per_part, pooled_size, sample_per_part]
    total = g.emit("ReduceSum", g.reshape(g.emit("Mul", samples, some), shape), [3, 5], keepdims=0)
    whole = g.emit("Expand", some, g.emit("Shape", samples), shape=g.shape(samples))
    seen = g.emit("ReduceSum", g.reshape(whole, shape), [3, 5], keepdims=0)
    return g.emit("Div", total, g.emit("Max", seen, ONE))


def _moves(g: OperatorBuilder, trans: ir.Value, pooled: int, parts: int, std: float, output_dim: int) -> ir.Value:
    """Offsets (R, classes, 2, pooled, pooled), repeated for the channels of each class: (R, output_dim, 2, pooled, pooled)."""
    classes = g.fixed(trans, 1, 2)[0] // 2
    if classes < 1 or output_dim % classes or g.fixed(trans, 2) != (parts, parts):
        raise g.error(f"offsets of shape {g.shape(trans)} don't fit output_dim {output_dim} and part_size {parts}")
    own = np.floor(np.arange(pooled) / pooled * parts).astype(np.int64)
    trans = g.pin(trans, 1)
    picked = g.emit("Gather", g.emit("Gather", trans, g.const(own), axis=2), g.const(own), axis=3)
    wide = g.reshape(picked, [g.shape(trans)[0], classes, 2, pooled, pooled])
    repeated = np.repeat(np.arange(classes), output_dim // classes)
    return g.emit("Mul", g.emit("Gather", wide, g.const(repeated), axis=1), np.array(std, np.float32))


def _places(
    g: OperatorBuilder, starts: ir.Value, lengths: ir.Value, moves: ir.Value | None, steps: np.ndarray, axis: int, samples: int
) -> ir.Value:
    """Where samples lie along x (axis 0) or y (axis 1): (R, 1 or output_dim, side or 1, 1 or side), all of both where bins move."""
    start, length = (g.emit("Unsqueeze", columns(g, value, axis), [2, 3]) for value in (starts, lengths))
    laid = steps.reshape((1, 1, 1, -1) if axis == 0 else (1, 1, -1, 1))
    place = g.emit("Add", start, g.emit("Mul", length, g.const(laid)))
    if moves is None:
        return place
    own = g.emit("Squeeze", g.emit("Slice", moves, [axis], [axis + 1], [2]), [2])  # (R, output_dim, pooled, pooled)
    bins = np.repeat(np.arange(len(steps) // samples), samples)
    own = g.emit("Gather", g.emit("Gather", own, g.const(bins), axis=2), g.const(bins), axis=3)
    return g.emit("Add", place, g.emit("Mul", own, length))
