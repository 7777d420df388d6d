"""Default boxes of single-shot detectors, of which one name has several kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.graph.builder import Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT

Box = tuple[float, float, float, float]
"""Width and height in pixels, and how far its center is moved right and down."""


@lowers("PriorBox")
def prior_box(g: GraphBuilder, layer: Layer, x: ir.Value, image: ir.Value) -> ir.Value:
    """Default boxes of a feature map and their variances; those of FaceBoxes and TextBoxes where the offsets have their channels.

    x: (N, C, h, w), image: (N, C, H, W); to (1, 2, h * w * boxes * 4).
    Source: prior_box_layer.cpp of SSD, FaceBoxes and TextBoxes.
    """
    p = layer.params.prior_box_param
    if p.width or p.height:
        raise layer.error("width and height are PriorBoxClustered's")
    if layer.meaning == "?":
        raise layer.error(
            "the channels of the location layers fit the prior boxes of no fork that is known (SSD, FaceBoxes, TextBoxes)",
            "register a lowering of your own",
        )
    if layer.meaning == "TextBoxes" and any(p.HasField(name) for name in ("step", "step_h", "step_w", "offset")):
        raise layer.error("TextBoxes' prior boxes have no step and no offset")
    if layer.meaning == "TextBoxes" and max(len(p.min_size), len(p.max_size)) > 1:
        raise layer.error(
            "the location layers have twice SSD's channels, as TextBoxes' have, whose prior boxes have one min_size and max_size"
        )
    return _table(g, layer, x, image, boxes_of(layer, layer.meaning), layer.meaning == "TextBoxes" and not p.HasField("clip"))


@lowers("PriorBoxClustered")
def prior_box_clustered(g: GraphBuilder, layer: Layer, x: ir.Value, image: ir.Value) -> ir.Value:
    """Default boxes of the widths and heights that are listed, and their variances.

    Shapes as of PriorBox. Source: prior_box_clustered_layer.cpp of OpenVINO's training toolbox.
    """
    p = layer.params.prior_box_param
    if not p.width or len(p.width) != len(p.height) or min(*p.width, *p.height) <= 0:
        raise layer.error(f"needs as many widths as heights, all above 0; it has {len(p.width)} and {len(p.height)}")
    return _table(g, layer, x, image, [(w, h, 0.0, 0.0) for w, h in zip(p.width, p.height, strict=True)], False)


def _table(g: GraphBuilder, layer: Layer, x: ir.Value, image: ir.Value, boxes: Sequence[Box], clips: bool) -> ir.Value:
    """The boxes of all cells and their variances, (1, 2, h * w * boxes * 4)."""
    p = layer.params.prior_box_param
    if g.rank(x) != 4 or g.rank(image) != 4:
        raise layer.error("needs bottoms (N, C, H, W)")
    height, width = g.fixed(x, 2)
    for one, others in (("img_size", ("img_h", "img_w")), ("step", ("step_h", "step_w"))):
        if p.HasField(one) and any(p.HasField(name) for name in others):
            raise layer.error(f"{one} beside {' or '.join(others)}; Caffe allows one or the other")
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
    if height * width * len(boxes) * 8 > FILL_LIMIT:
        raise layer.error(f"{len(boxes)} boxes for each of {height} x {width} cells are too many")
    variance = list(p.variance) or [0.1]
    if len(variance) not in (1, 4):
        raise layer.error(f"has {len(variance)} values of variance; it takes 1 or 4")
    edges: list[tuple[ir.Value, ir.Value]] = []
    for axis, size in zip((2, 3), images, strict=True):
        cells: ir.Value | float = steps[axis - 2]
        if 0 in steps:
            cells = g.emit("Div", size if isinstance(size, ir.Value) else np.array(size, np.float32), _length(g, x, axis))
        half = np.array([box[3 - axis] / 2 for box in boxes], np.float32)  # of (width, height)
        moved = np.array([box[5 - axis] for box in boxes], np.float32)
        edges.append(_edges(g, x, axis, cells, p.offset, half, moved, size, in_cells=layer.meaning == "TextBoxes"))
    grid, shape = g.sizes([*g.extents(x, 2), len(boxes), 1]), [height, width, len(boxes), 1]
    parts = [g.emit("Expand", g.emit("Unsqueeze", edges[axis][end], [3]), grid, shape=shape) for end in (0, 1) for axis in (1, 0)]
    found = g.emit("Concat", *parts, axis=3)
    if p.clip or clips:
        found = g.emit("Clip", found, np.array(0, np.float32), np.array(1, np.float32))
    variances = np.array(variance if len(variance) == 4 else variance * 4, np.float32)
    table = g.emit("Expand", variances, g.sizes([*g.extents(x, 2), len(boxes), 4]), shape=[height, width, len(boxes), 4])
    return g.emit("Concat", g.reshape(found, [1, 1, None]), g.reshape(table, [1, 1, None]), axis=1)


def _length(g: GraphBuilder, x: ir.Value, axis: int) -> ir.Value:
    """The length of an axis when the net runs, (1,) in float32."""
    sizes = g.sizes([Extent(x, axis)])
    return g.emit("Cast", sizes if isinstance(sizes, ir.Value) else g.const(np.array(sizes)), to=ir.DataType.FLOAT)


def _edges(
    g: GraphBuilder,
    x: ir.Value,
    axis: int,
    step: ir.Value | float,
    offset: float,
    half: NDArray[np.float32],
    moved: NDArray[np.float32],
    image: ir.Value | float,
    *,
    in_cells: bool,
) -> tuple[ir.Value, ir.Value]:
    """Where the boxes of each cell begin and end along an axis of x, as parts of the image: (h, 1, boxes) or (1, w, boxes).

    half: of their sizes. moved: how far their centers are from the cell's, in pixels or in cells.
    """
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    cells = g.emit("Range", zero, g.emit("Squeeze", g.emit("Shape", x, start=axis, end=axis + 1), [0]), one, shape=[g.shape(x)[axis]])
    centers = g.emit("Add", g.emit("Cast", cells, to=ir.DataType.FLOAT), offset)
    if not in_cells:
        centers = g.emit("Mul", centers, step)
    centers = g.emit("Unsqueeze", centers, [1, 2] if axis == 2 else [0, 2])
    centers = g.emit("Add", centers, moved) if moved.any() else centers
    centers = g.emit("Mul", centers, step) if in_cells else centers
    first, last = (g.emit("Div", g.emit(op_type, centers, half), image) for op_type in ("Sub", "Add"))
    return first, last


def boxes_of(layer: Layer, meaning: str) -> list[Box]:
    """The boxes of a cell, in Caffe's order, by the fork's rule: "" (SSD's), "FaceBoxes" or "TextBoxes"."""
    p = layer.params.prior_box_param
    smallest, largest = list(p.min_size), list(p.max_size)
    if not smallest or min(smallest) <= 0:
        raise layer.error("needs a min_size above 0")
    if largest and (len(largest) != len(smallest) or any(a >= b for a, b in zip(smallest, largest, strict=True))):
        raise layer.error(f"max_size {largest} must be one for each min_size {smallest}, and larger")
    if (len(smallest) + 1) * (len(p.aspect_ratio) + 1) > 10_000:
        raise layer.error(f"{len(smallest)} sizes and {len(p.aspect_ratio)} ratios are too many boxes for a cell")
    ratios = [1.0]
    for ratio in p.aspect_ratio:
        if ratio <= 0:
            raise layer.error(f"aspect_ratio {ratio}; it is above 0")
        if all(abs(ratio - other) >= 1e-6 for other in ratios):
            ratios += [ratio, 1 / ratio] if p.flip else [ratio]
    boxes: list[Box] = []
    for position, size in enumerate(smallest):
        small = float(int(size))  # an int in prior_box_layer.cpp
        if meaning == "FaceBoxes":
            boxes += _dense(small)
        elif p.reduce_boxes:  # chuanqi305's fork
            if len(smallest) > 1 or small % 2:
                raise layer.error("reduce_boxes is known for one even min_size")
            boxes.append((small / 2, small / 2, 0.0, 0.0))
        else:
            boxes.append((small, small, 0.0, 0.0))
        if largest:
            middle = math.sqrt(small * int(largest[position]))
            boxes.append((middle, middle, 0.0, 0.0))
        boxes += [(small * math.sqrt(r), small / math.sqrt(r), 0.0, 0.0) for r in ratios if abs(r - 1) >= 1e-6]
    if meaning == "TextBoxes":  # each again, half a cell lower
        boxes = [(w, h, 0.0, down) for w, h, _, _ in boxes for down in (0.0, 0.5)]
    return boxes


_SHIFTS = {32: (-16.0, -8.0, 0.0, 8.0), 64: (-16.0, 0.0)}
"""Where FaceBoxes puts the centers of its small boxes, along both axes, in pixels."""


def _dense(size: float) -> list[Box]:
    """FaceBoxes' boxes of one size."""
    shifts = _SHIFTS.get(int(size), (0.0,))
    return [(size - 1, size - 1, right, down) for down in shifts for right in shifts]
