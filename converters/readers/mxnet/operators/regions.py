"""Pooling of regions. Sources: mxnet src/operator/roi_pooling.cc, contrib/roi_align.cc, psroi_pooling.cc."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import round_half_away
from converters.readers.mxnet.operators.detection import columns, whole_rows
from converters.readers.mxnet.operators.resampling import image_sizes
from converters.readers.mxnet.signature import lowers


@lowers("ROIPooling", "_npx_roi_pooling")
def roi_pooling(g: OperatorBuilder, data: ir.Value, rois: ir.Value, *, pooled_size: Ints, spatial_scale: float) -> ir.Value:
    """Maxima over the bins of regions (image, x1, y1, x2, y2). Source: mxnet src/operator/roi_pooling.cc."""
    if len(pooled_size) != 2 or min(pooled_size) < 1:
        raise g.error(f"attribute pooled_size is {pooled_size}; a height and a width are needed")
    rois = whole_rows(g, rois)
    image, foreign = images_of(g, data, rois)
    held = g.emit("Concat", image, columns(g, rois, 1, 4), axis=1)
    return zeros_for(g, foreign, g.emit("MaxRoiPool", data, held, pooled_shape=list(pooled_size), spatial_scale=spatial_scale))


def images_of(g: OperatorBuilder, data: ir.Value, rois: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The first column of regions, (R, 1), 0 in the place of images that there aren't, as -1; and where those are."""
    image = columns(g, rois, 0)
    zero = np.zeros((), g.dtype(rois))
    outside = g.emit("GreaterOrEqual", image, g.cast(g.length(data, 0), g.dtype(rois)))
    foreign = g.emit("Or", g.emit("Less", image, zero), outside)
    return g.emit("Where", foreign, zero, image), foreign


def zeros_for(g: OperatorBuilder, foreign: ir.Value, pooled: ir.Value) -> ir.Value:
    """What was pooled (R, C, h, w), zeros for regions of no image."""
    return g.emit("Where", g.emit("Unsqueeze", foreign, [2, 3]), np.zeros((), g.dtype(pooled)), pooled, shape=g.shape(pooled))


@lowers("_contrib_ROIAlign", "_npx_roi_align")
def roi_align(
    g: OperatorBuilder,
    data: ir.Value,
    rois: ir.Value,
    *,
    pooled_size: Ints,
    spatial_scale: float,
    sample_ratio: int = -1,
    position_sensitive: bool = False,
    aligned: bool = False,
) -> ir.Value:
    """Means of bilinear samples over the bins of regions (image, x1, y1, x2, y2). Source: mxnet src/operator/contrib/roi_align.cc."""
    if len(pooled_size) != 2 or min(pooled_size) < 1:
        raise g.error(f"attribute pooled_size is {pooled_size}; a height and a width are needed")
    rois = whole_rows(g, rois)
    wide = g.shape(rois)[1]
    if wide == 5:
        wanted, foreign = images_of(g, data, rois)
        image, boxes = g.cast(g.emit("Squeeze", wanted, [1]), np.int64), columns(g, rois, 1, 4)
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
    if wide == 5:
        pooled = zeros_for(g, foreign, pooled)
    if not position_sensitive:
        return pooled
    count = g.fixed(data, 1, 2)[0]
    cells = height * width
    if count % cells:
        raise g.error(f"{count} channels don't divide into {height} x {width} bins")
    g.check_table(cells)
    flat = g.reshape(pooled, [g.shape(pooled)[0], count // cells, cells * cells])
    own = g.emit("Gather", flat, g.const(np.arange(cells, dtype=np.int64) * (cells + 1), role="positions"), axis=2)
    return g.reshape(own, [g.shape(own)[0], count // cells, height, width])


@lowers("_contrib_PSROIPooling")
def psroi_pooling(
    g: OperatorBuilder, data: ir.Value, rois: ir.Value, *, spatial_scale: float, output_dim: int, pooled_size: int, group_size: int = 0
) -> ir.Value:
    """Means over the bins of regions, each bin from channels of its own; by sums of the image over rectangles from its corner.

    Source: mxnet src/operator/contrib/psroi_pooling.cc.
    """
    image_sizes(g, data)
    group = group_size or pooled_size
    count = g.fixed(data, 1, 2)[0]
    if min(output_dim, pooled_size, group) < 1 or count != output_dim * group * group:
        raise g.error(f"{count} channels aren't output_dim {output_dim} times group_size {group} squared")
    g.check_table(count, pooled_size, pooled_size)
    kind = np.float64
    sums = g.emit("CumSum", g.emit("CumSum", g.cast(data, kind), np.array(2, np.int64)), np.array(3, np.int64))
    flat = g.reshape(g.emit("Pad", sums, [0, 0, 1, 1, 0, 0, 0, 0], np.zeros(())), [None])
    rois = whole_rows(g, rois)
    coordinates = round_half_away(g, columns(g, rois, 1, 4))
    scale = np.array(spatial_scale, np.float32)
    starts = g.emit("Mul", columns(g, coordinates, 0, 2), scale)  # (R, 2): x, y
    ends = g.emit("Mul", g.emit("Add", columns(g, coordinates, 2, 2), 1.0), scale)
    extents = g.emit("Max", g.emit("Sub", ends, starts), np.array(0.1, np.float32))
    bins = g.emit("Unsqueeze", g.emit("Div", extents, float(pooled_size)), [2])
    origin = g.emit("Unsqueeze", starts, [2])
    steps = np.arange(pooled_size, dtype=np.float32)
    across, down = Extent(data, 3), Extent(data, 2)
    limits = g.emit("Unsqueeze", g.cast(g.emit("Concat", g.sizes([across]), g.sizes([down]), axis=0), np.float32), [1])
    zero = np.zeros((), np.float32)
    lows = g.emit("Floor", g.emit("Add", g.emit("Mul", bins, g.const(steps)), origin))
    highs = g.emit("Ceil", g.emit("Add", g.emit("Mul", bins, g.const(steps + 1)), origin))
    lows, highs = (g.cast(g.emit("Min", g.emit("Max", v, zero), limits), np.int64) for v in (lows, highs))  # (R, 2, P)
    own = np.clip(np.floor(np.arange(pooled_size) * group / pooled_size), 0, group - 1).astype(np.int64)
    channel = (np.arange(output_dim)[:, None, None] * group + own[None, :, None]) * group + own[None, None, :]
    image = g.emit("Unsqueeze", g.cast(columns(g, rois, 0), np.int64), [2, 3])  # (R, 1, 1, 1)
    plane = g.emit("Add", g.emit("Mul", image, count), g.const(channel[None].astype(np.int64), role="channels"))
    columns_beside = g.sizes([replace(across, plus=1)])
    plane = g.emit("Mul", plane, g.emit("Mul", g.sizes([replace(down, plus=1)]), columns_beside))

    def bounds(values: ir.Value) -> tuple[ir.Value, ir.Value]:
        x, y = g.emit_all("Split", values, [1, 1], outputs=2, axis=1)
        return g.emit("Unsqueeze", x, [2]), g.emit("Unsqueeze", y, [3])  # (R, 1, 1, P), (R, 1, P, 1)

    (left, top), (right, bottom) = bounds(lows), bounds(highs)

    def corner(y: ir.Value, x: ir.Value) -> ir.Value:
        place = g.emit("Add", g.emit("Add", plane, g.emit("Mul", y, columns_beside)), x)
        return g.emit("Gather", flat, place, axis=0)

    total = g.emit("Sub", corner(bottom, right), corner(top, right))
    total = g.emit("Add", g.emit("Sub", total, corner(bottom, left)), corner(top, left))
    area = g.emit("Mul", g.emit("Sub", bottom, top), g.emit("Sub", right, left))
    some = g.emit("And", g.emit("Greater", bottom, top), g.emit("Greater", right, left))
    divisor = g.cast(g.emit("Where", some, area, np.array(1, np.int64)), kind)
    return g.cast(g.emit("Where", some, g.emit("Div", total, divisor), np.zeros(())), g.dtype(data))
