"""Layers of detectors."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT


@lowers("PriorBox")
def prior_box(g: GraphBuilder, layer: Layer, x: ir.Value, image: ir.Value) -> ir.Value:
    """Default boxes of a feature map and their variances.

    x: (N, C, h, w), image: (N, C, H, W), both of these sizes alone; to (1, 2, h * w * boxes * 4). Source: SSD's prior_box_layer.cpp.
    """
    p = layer.params.prior_box_param
    if g.rank(x) != 4 or g.rank(image) != 4:
        raise layer.error("needs bottoms (N, C, H, W)")
    height, width = g.fixed(x, 2)
    image_height, image_width = g.fixed(image, 2)
    if p.HasField("img_size"):
        image_height = image_width = p.img_size
    elif p.HasField("img_h") or p.HasField("img_w"):
        image_height, image_width = p.img_h, p.img_w
    if image_height < 1 or image_width < 1:
        raise layer.error("img_h and img_w must come together, and be above 0")
    step_h, step_w = (p.step, p.step) if p.HasField("step") else (p.step_h, p.step_w)
    if step_h == 0 or step_w == 0:
        step_h, step_w = image_height / height, image_width / width
    sizes = _box_sizes(layer)
    if height * width * len(sizes) * 8 > FILL_LIMIT:
        raise layer.error(f"{len(sizes)} boxes for each of {height} x {width} cells are too many")
    column = (np.arange(width) + p.offset) * step_w
    row = (np.arange(height) + p.offset) * step_h
    half = np.array(sizes) / 2  # (boxes, 2), as width and height
    boxes = np.empty((height, width, len(sizes), 4))
    boxes[..., 0] = (column[None, :, None] - half[:, 0]) / image_width
    boxes[..., 1] = (row[:, None, None] - half[:, 1]) / image_height
    boxes[..., 2] = (column[None, :, None] + half[:, 0]) / image_width
    boxes[..., 3] = (row[:, None, None] + half[:, 1]) / image_height
    if p.clip:
        boxes = boxes.clip(0, 1)
    variance = list(p.variance) or [0.1]
    if len(variance) not in (1, 4):
        raise layer.error(f"has {len(variance)} values of variance; it takes 1 or 4")
    variances = np.broadcast_to(variance if len(variance) == 4 else variance * 4, boxes.shape)
    table = np.stack([boxes.reshape(-1), variances.reshape(-1)])[None].astype(np.float32)
    return _for_these_sizes(g, g.const(table, role="boxes"), x, image)


def _for_these_sizes(g: GraphBuilder, table: ir.Value, *maps: ir.Value) -> ir.Value:
    """A table (1, ...) that holds for the present sizes of these maps alone: for others its row is one that isn't there."""
    here = [size for value in maps for size in g.fixed(value, 2)]
    then = g.sizes([extent for value in maps for extent in g.extents(value, 2)])
    row = g.emit("ReduceSum", g.emit("Abs", g.emit("Sub", then, here)), keepdims=1)
    return g.emit("Gather", table, row, axis=0, shape=g.shape(table))


def _box_sizes(layer: Layer) -> list[tuple[float, float]]:
    """Width and height of each box of a cell, in Caffe's order."""
    p = layer.params.prior_box_param
    smallest, largest = list(p.min_size), list(p.max_size)
    if not smallest or min(smallest) <= 0:
        raise layer.error("needs a min_size above 0")
    if largest and (len(largest) != len(smallest) or any(a >= b for a, b in zip(smallest, largest, strict=True))):
        raise layer.error(f"max_size {largest} must be one for each min_size {smallest}, and larger")
    ratios = [1.0]
    for ratio in p.aspect_ratio:
        if ratio <= 0:
            raise layer.error(f"aspect_ratio {ratio}; it is above 0")
        if all(abs(ratio - other) >= 1e-6 for other in ratios):
            ratios += [ratio, 1 / ratio] if p.flip else [ratio]
    sizes = []
    for position, size in enumerate(smallest):
        small = float(int(size))  # an int in prior_box_layer.cpp
        sizes.append((small, small))
        if largest:
            middle = math.sqrt(small * int(largest[position]))
            sizes.append((middle, middle))
        sizes += [(small * math.sqrt(r), small / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    return sizes


@lowers("ROIPooling")
def roi_pooling(g: GraphBuilder, layer: Layer, x: ir.Value, rois: ir.Value) -> ir.Value:
    """Max pooling of regions into pooled_h by pooled_w bins.

    x: (N, C, H, W), rois: (R, 5) as batch index, x1, y1, x2, y2; to (R, C, pooled_h, pooled_w).
    Source: Fast R-CNN's roi_pooling_layer.cpp.
    """
    p = layer.params.roi_pooling_param
    if p.pooled_h < 1 or p.pooled_w < 1:
        raise layer.error("pooled_h and pooled_w must be above 0")
    if g.rank(rois) == 4 and g.shape(rois)[2:] == (1, 1):
        rois = g.emit("Squeeze", rois, [2, 3])
    return g.emit("MaxRoiPool", x, rois, pooled_shape=[p.pooled_h, p.pooled_w], spatial_scale=p.spatial_scale)
