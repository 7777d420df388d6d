"""Layers of detectors."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.graph.builder import Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT


@lowers("PriorBox")
def prior_box(g: GraphBuilder, layer: Layer, x: ir.Value, image: ir.Value) -> ir.Value:
    """Default boxes of a feature map and their variances.

    x: (N, C, h, w), image: (N, C, H, W); to (1, 2, h * w * boxes * 4). Source: SSD's prior_box_layer.cpp.
    """
    p = layer.params.prior_box_param
    if g.rank(x) != 4 or g.rank(image) != 4:
        raise layer.error("needs bottoms (N, C, H, W)")
    height, width = g.fixed(x, 2)
    images: list[ir.Value | float]
    if p.HasField("img_size"):
        images = [float(p.img_size)] * 2
    elif p.HasField("img_h") or p.HasField("img_w"):
        images = [float(p.img_h), float(p.img_w)]
    else:
        images = [_length(g, image, axis) for axis in (2, 3)]
    if any(size == 0 for size in images if isinstance(size, float)):
        raise layer.error("img_h and img_w must come together, and be above 0")
    steps = [p.step, p.step] if p.HasField("step") else [p.step_h, p.step_w]
    sizes = _box_sizes(layer)
    if height * width * len(sizes) * 8 > FILL_LIMIT:
        raise layer.error(f"{len(sizes)} boxes for each of {height} x {width} cells are too many")
    variance = list(p.variance) or [0.1]
    if len(variance) not in (1, 4):
        raise layer.error(f"has {len(variance)} values of variance; it takes 1 or 4")
    edges: list[tuple[ir.Value, ir.Value]] = []
    for axis, size in zip((2, 3), images, strict=True):
        cells: ir.Value | float = steps[axis - 2]
        if 0 in steps:
            cells = g.emit("Div", size if isinstance(size, ir.Value) else np.array(size, np.float32), _length(g, x, axis))
        half = np.array([box[3 - axis] / 2 for box in sizes], np.float32)  # of (width, height)
        edges.append(_edges(g, x, axis, cells, p.offset, half, size))
    grid, shape = g.sizes([*g.extents(x, 2), len(sizes), 1]), [height, width, len(sizes), 1]
    parts = [g.emit("Expand", g.emit("Unsqueeze", edges[axis][end], [3]), grid, shape=shape) for end in (0, 1) for axis in (1, 0)]
    boxes = g.emit("Concat", *parts, axis=3)
    if p.clip:
        boxes = g.emit("Clip", boxes, np.array(0, np.float32), np.array(1, np.float32))
    variances = np.array(variance if len(variance) == 4 else variance * 4, np.float32)
    table = g.emit("Expand", variances, g.sizes([*g.extents(x, 2), len(sizes), 4]), shape=[height, width, len(sizes), 4])
    return g.emit("Concat", g.reshape(boxes, [1, 1, None]), g.reshape(table, [1, 1, None]), axis=1)


def _length(g: GraphBuilder, x: ir.Value, axis: int) -> ir.Value:
    """The length of an axis when the net runs, (1,) in float32."""
    sizes = g.sizes([Extent(x, axis)])
    return g.emit("Cast", sizes if isinstance(sizes, ir.Value) else g.const(np.array(sizes)), to=ir.DataType.FLOAT)


def _edges(
    g: GraphBuilder, x: ir.Value, axis: int, step: ir.Value | float, offset: float, half: NDArray[np.float32], image: ir.Value | float
) -> tuple[ir.Value, ir.Value]:
    """Where the boxes of each cell begin and end along an axis of x, as parts of the image: (h, 1, boxes) or (1, w, boxes)."""
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    cells = g.emit("Range", zero, g.emit("Squeeze", g.emit("Shape", x, start=axis, end=axis + 1), [0]), one, shape=[g.shape(x)[axis]])
    centers = g.emit("Mul", g.emit("Add", g.emit("Cast", cells, to=ir.DataType.FLOAT), offset), step)
    centers = g.emit("Unsqueeze", centers, [1, 2] if axis == 2 else [0, 2])
    first, last = (g.emit("Div", g.emit(op_type, centers, half), image) for op_type in ("Sub", "Add"))
    return first, last


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
