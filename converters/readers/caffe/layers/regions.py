"""Layers on regions of feature maps, (R, 5) as image, x1, y1, x2, y2."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.graph.detection import boxes as box
from converters.graph.detection import regions
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.schemas import caffe_pb2


@lowers("ROIPooling")
def roi_pooling(g: GraphBuilder, layer: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Max pooling of regions into pooled_h by pooled_w bins.

    x: (N, C, H, W), rois: (R, 5); to (R, C, pooled_h, pooled_w). Source: Fast R-CNN's roi_pooling_layer.cpp.
    """
    p = layer.params.roi_pooling_param
    if p.pooled_h < 1 or p.pooled_w < 1:
        raise layer.error("pooled_h and pooled_w must be above 0")
    return g.emit("MaxRoiPool", x, regions.flat_regions(g, rois), pooled_shape=[p.pooled_h, p.pooled_w], spatial_scale=p.spatial_scale)


@lowers("PSROIPooling")
def psroi_pooling(g: GraphBuilder, layer: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Means over group_size by group_size bins of regions, each bin from channels of its own.

    x: (N, output_dim * group_size^2, H, W), rois: (R, 5); to (R, output_dim, group_size, group_size).
    Source: R-FCN's psroi_pooling_layer.cu.
    """
    p = layer.params.psroi_pooling_param
    _check_channels(g, layer, x, p)
    return regions.position_sensitive_means(g, x, _of_images(g, rois), p.output_dim, p.group_size, p.spatial_scale)


def _of_images(g: GraphBuilder, rois: ir.Value) -> ir.Value:
    """Regions (R, 5); one of image -1 or below names none that a runtime has, as in Caffe, where a lookup would count from the end."""
    image, corners = g.emit_all("Split", regions.flat_regions(g, rois), [1, 4], outputs=2, axis=1)
    known = g.emit("Where", g.emit("Greater", image, -1.0), image, float(2**30))
    return g.emit("Concat", known, corners, axis=1)


def _check_channels(g: GraphBuilder, layer: Layer, x: ir.Value, p: caffe_pb2.PSROIPoolingParameter | caffe_pb2.PSROIAlignParameter) -> None:
    """Raises ConversionError where a number is missing, or the channels aren't a bin's own for each output."""
    missing = [name for name in ("spatial_scale", "output_dim", "group_size") if not p.HasField(name)]
    if missing:
        raise layer.error(f"needs {', '.join(missing)}")
    outputs, group = p.output_dim, p.group_size
    (channels,) = g.fixed(x, 1, 2)
    if min(outputs, group) < 1 or channels != outputs * group * group:
        raise layer.error(f"{channels} channels aren't output_dim {outputs} times group_size {group} squared")


@lowers("PSROIAlign")
def psroi_align(g: GraphBuilder, layer: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Means of sample_num^2 bilinear samples in each bin of regions, each bin from channels of its own.

    Shapes as of PSROIPooling. Source: makefile/frcnn's psroi_align_layer.cu.
    """
    p = layer.params.psroi_align_param
    _check_channels(g, layer, x, p)
    group, count = p.group_size, p.sample_num
    if not 1 <= count <= 16:
        raise layer.error(f"sample_num {count}; it is at least 1, and above 16 it takes too many nodes")
    image, corners = g.emit_all("Split", _of_images(g, rois), [1, 4], outputs=2, axis=1)
    start, end = g.emit_all("Split", corners, [2, 2], outputs=2, axis=1)
    start, end = g.emit("Mul", start, p.spatial_scale), g.emit("Mul", g.emit("Add", end, 1.0), p.spatial_scale)
    step = g.emit("Unsqueeze", g.emit("Div", g.emit("Max", g.emit("Sub", end, start), 0.1), float(group)), [2])
    sizes = g.emit("Concat", regions.length(g, x, 3), regions.length(g, x, 2), axis=0)
    limits = g.reshape(g.emit("Sub", sizes, 1.0), [1, 2, 1])
    numbers = np.arange(group, dtype=np.float32)
    lows, highs = (
        g.emit("Min", g.emit("Max", g.emit("Add", g.emit("Mul", step, g.const(n)), g.emit("Unsqueeze", start, [2])), 0.0), limits)
        for n in (numbers, numbers + 1)
    )
    number = g.emit("Unsqueeze", regions.whole(g, image), [2, 3])
    channel = g.const(regions.own_channels(p.output_dim, group, group), role="channels")
    total: ir.Value | None = None
    for down in range(1, count + 1):
        for right in range(1, count + 1):
            (y, x_place), inside = _sample(g, lows, highs, step, limits, down, right, count)
            value = g.emit("Where", inside, regions.bilinear(g, x, number, channel, y, x_place), 0.0)
            total = value if total is None else g.emit("Add", total, value)
    assert total is not None
    return g.emit("Div", total, float(count * count), shape=[g.shape(rois)[0], p.output_dim, group, group])


def _sample(
    g: GraphBuilder, lows: ir.Value, highs: ir.Value, step: ir.Value, limits: ir.Value, down: int, right: int, count: int
) -> tuple[tuple[ir.Value, ir.Value], ir.Value]:
    """Where a sample of each bin lies, y and x, and whether that is before the bin's end."""
    which = np.array([right, down], np.float32).reshape(1, 2, 1) / np.float32(count + 1)
    places = g.emit("Add", lows, g.emit("Mul", step, which))
    inside = g.emit("Cast", g.emit("Less", places, highs), to=ir.DataType.FLOAT)
    rows, columns = regions.rows_and_columns(g, inside)
    y, x = regions.rows_and_columns(g, g.emit("Min", places, limits))
    return (y, x), g.emit("Greater", g.emit("Mul", rows, columns), 0.5)


@lowers("ROIAlign")
def roi_align(g: GraphBuilder, layer: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Bilinear values at the corners of the bins of regions, as cascade-rcnn computes them; other layers of this name are refused.

    x: (N, C, H, W), rois: (R, 5); to (R, C, pooled_h + 1, pooled_w + 1). Source: cascade-rcnn's roi_align_layer.cu.
    """
    p = layer.params.roi_align_param
    if p.pooled_h < 1 or p.pooled_w < 1:
        raise layer.error("pooled_h and pooled_w must be above 0")
    if max(p.pooled_h, p.pooled_w) > 10_000:
        raise layer.error(f"{p.pooled_h} x {p.pooled_w} bins are too many")
    if layer.meaning != "cascade-rcnn":
        raise layer.error(
            "forks gave this name to at least four layers, and nothing here tells which one it is; only cascade-rcnn's is known "
            "(told by pad_ratio, or by a Pooling with kernel 2, stride 1, AVE behind it)",
            "register a lowering of your own with replace=True",
        )
    image, corners = g.emit_all("Split", _of_images(g, rois), [1, 4], outputs=2, axis=1)
    low, high = box.halves(g, corners)
    wide = g.emit("Mul", g.emit("Add", g.emit("Sub", high, low), 1.0), p.pad_ratio)
    start = g.emit("Sub", g.emit("Mul", g.emit("Sub", low, wide), p.spatial_scale), 0.5)
    end = g.emit("Sub", g.emit("Mul", g.emit("Add", high, wide), p.spatial_scale), 0.5)
    size = g.emit("Sub", end, start)
    left, top = g.emit_all("Split", start, [1, 1], outputs=2, axis=1)
    width, height = g.emit_all("Split", size, [1, 1], outputs=2, axis=1)
    y = g.emit("Unsqueeze", _corners(g, top, height, p.pooled_h), [1, 3])
    x_place = g.emit("Unsqueeze", _corners(g, left, width, p.pooled_w), [1, 2])
    none = g.emit("Unsqueeze", g.emit("LessOrEqual", g.emit("Min", width, height), 0.0), [2, 3])
    outside: ir.Value = none
    held = []
    for place, axis in ((y, 2), (x_place, 3)):
        last = g.emit("Sub", regions.length(g, x, axis), 1.0)
        far = g.emit("Or", g.emit("Less", place, -0.5), g.emit("Greater", place, g.emit("Add", last, 0.5)))
        outside = g.emit("Or", outside, far)
        held.append(g.emit("Min", g.emit("Max", place, 0.0), last))
    number = g.emit("Unsqueeze", regions.whole(g, image), [2, 3])
    channel = g.const(np.arange(g.fixed(x, 1, 2)[0], dtype=np.int64).reshape(1, -1, 1, 1), role="channels")
    value = regions.bilinear(g, x, number, channel, *held)
    shape = [g.shape(rois)[0], g.shape(x)[1], p.pooled_h + 1, p.pooled_w + 1]
    return g.emit("Where", outside, 0.0, value, shape=shape)


def _corners(g: GraphBuilder, start: ir.Value, size: ir.Value, count: int) -> ir.Value:
    """The (R, count + 1) ends of count bins."""
    steps = np.arange(count + 1, dtype=np.float32)[None]
    return g.emit("Add", start, g.emit("Mul", g.emit("Div", size, float(count)), g.const(steps)))


@lowers("DecodeBBox")
def decode_bbox(g: GraphBuilder, layer: Layer, offsets: ir.Value, rois: ir.Value) -> ir.Value:
    """Regions moved by the offsets of the second class.

    offsets: (R, 8), rois: (R, 5); to (R, 5, 1, 1). Source: cascade-rcnn's decode_bbox_layer.cpp, phase TEST.
    """
    p = layer.params.bbox_reg_param
    mean, deviation = list(p.bbox_mean) or [0.0] * 4, list(p.bbox_std) or [1.0] * 4
    if len(mean) != 4 or len(deviation) != 4:
        raise layer.error(f"bbox_mean and bbox_std have {len(mean)} and {len(deviation)} values; they take 4")
    flat = g.reshape(offsets, [Extent(offsets, 0), None]) if g.rank(offsets) > 2 else offsets
    if g.fixed(flat, 1) != (8,):
        raise layer.error(f"its first bottom must be offsets (R, 8), not {g.shape(offsets)}")
    moves = g.emit("Mul", box.part(g, flat, 4, 4), g.const(np.array(deviation, np.float32)))
    moves = g.emit("Add", moves, g.const(np.array(mean, np.float32)))
    image, corners = g.emit_all("Split", regions.flat_regions(g, rois), [1, 4], outputs=2, axis=1)
    low, high = box.halves(g, corners)
    size = g.emit("Add", g.emit("Sub", high, low), 1.0)
    shift, growth = box.halves(g, moves)
    center = g.emit("Add", g.emit("Mul", g.emit("Add", low, high), 0.5), g.emit("Mul", shift, size))
    grown = g.emit("Sub", g.emit("Mul", g.emit("Exp", growth), size), 1.0)
    made = g.emit("Concat", image, box.around(g, center, grown), axis=1)
    return g.emit("Unsqueeze", made, [2, 3])
