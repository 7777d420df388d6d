"""YOLO's detections. Source: eric612/MobileNet-YOLO's yolo_detection_output_layer.cpp, yolov3_detection_output_layer.cpp."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.graph.detection import boxes as box
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers


@lowers("YoloDetectionOutput")
def yolo_detection_output(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> ir.Value:
    """Detections (image, label, score, corners) of YOLO 2, of all maps and images together, best first.

    x: (N, num_box * (5 + num_classes), side, side), further maps of other sizes; to (1, 1, K, 7), image 0.
    Source: eric612/MobileNet-YOLO's yolo_detection_output_layer.cpp.
    """
    p = layer.params.yolo_detection_output_param
    if p.coords != 4:
        raise layer.error(f"coords {p.coords}; only 4 is known")
    anchors = _anchors(layer, list(p.biases), range(p.num_box))
    boxes, scores, labels = [], [], []
    for value in (x, *more):
        if len(set(g.fixed(value, 2))) > 1:
            raise layer.error(f"its maps must be square, not {g.shape(value)}")
        parts = _parts(g, layer, value, p.num_box, p.num_classes, square=True)
        boxes.append(_boxes(g, parts, anchors))
        classes = g.emit("Softmax", parts[3], axis=4)
        best = g.emit("ReduceMax", classes, [4], keepdims=1)
        labels.append(g.reshape(g.emit("Cast", g.emit("ArgMax", classes, axis=4, keepdims=1), to=ir.DataType.FLOAT), [1, None]))
        scores.append(g.reshape(g.emit("Mul", g.emit("Sigmoid", parts[2]), best), [1, None]))
    joined = [_joined(g, values, 1) for values in (boxes, scores, labels)]
    enters = g.emit("GreaterOrEqual", joined[1], p.confidence_threshold)
    return _detections(g, joined[0], joined[1], joined[2], enters, p.nms_threshold, x)


@lowers("Yolov3DetectionOutput")
def yolov3_detection_output(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> ir.Value:
    """Detections (image, label, score, corners) of YOLO 3, of all maps and images together, best first.

    x: (N, num_box * (5 + num_classes), h, w), further maps; to (1, 1, K, 7), image 0.
    Source: eric612/MobileNet-YOLO's yolov3_detection_output_layer.cpp.
    """
    p = layer.params.yolov3_detection_output_param
    if p.gaussian_box:
        raise layer.error("gaussian_box has no known results: the layer's own code on the CPU leaves its scores unset")
    maps = (x, *more)
    size = len(p.mask) // max(p.mask_group_num, 1)
    if len(p.anchors_scale) < len(maps) or size < p.num_box or p.mask_group_num < len(maps):
        raise layer.error(f"needs anchors_scale and {p.num_box} of mask for each of {len(maps)} bottoms")
    boxes, scores, labels = [], [], []
    for index, value in enumerate(maps):
        anchors = _anchors(layer, list(p.biases), p.mask[index * size : index * size + p.num_box])
        parts = _parts(g, layer, value, p.num_box, p.num_classes)
        own = _boxes(g, parts, anchors / p.anchors_scale[index])
        boxes.append(g.reshape(g.emit("Tile", g.emit("Unsqueeze", own, [2]), [1, 1, p.num_classes, 1]), [1, None, 4]))
        score = g.emit("Mul", g.emit("Sigmoid", parts[2]), g.emit("Sigmoid", parts[3]))
        scores.append(g.reshape(score, [1, None]))
        numbers = np.arange(p.num_classes, dtype=np.float32)
        labels.append(g.reshape(g.emit("Expand", g.const(numbers), g.emit("Shape", score)), [1, None]))
    joined = [_joined(g, values, 1) for values in (boxes, scores, labels)]
    enters = g.emit("Greater", joined[1], p.confidence_threshold)
    return _detections(g, joined[0], joined[1], joined[2], enters, p.nms_threshold, x)


def _anchors(layer: Layer, biases: list[float], chosen: Sequence[int]) -> np.ndarray:
    """Width and height of each anchor. Raises ConversionError where biases has too few."""
    last = chosen.stop - 1 if isinstance(chosen, range) else max(chosen, default=-1)
    if 2 * last + 1 >= len(biases) or not len(chosen):
        raise layer.error(f"has {len(biases)} biases, two for each box; box {last} has none")
    return np.array([biases[2 * n : 2 * n + 2] for n in chosen], np.float64)


def _parts(g: GraphBuilder, layer: Layer, x: ir.Value, count: int, classes: int, *, square: bool = False) -> list[ir.Value]:
    """Of a map (N, count * (5 + classes), h, w) the shifts, growths, objectness and classes, each (N, count, h, w, ...).

    square: runtimes refuse maps whose h isn't their w.
    """
    if g.rank(x) != 4 or g.fixed(x, 1, 2) != (count * (5 + classes),):
        raise layer.error(f"num_box {count} and num_classes {classes} don't fit a bottom of shape {g.shape(x)}")
    sides = [Extent(x, 2)] * 2 if square else g.extents(x, 2)
    apart = g.reshape(x, [Extent(x, 0), count, 5 + classes, *sides])
    apart = g.emit("Transpose", apart, perm=[0, 1, 3, 4, 2])
    return list(g.emit_all("Split", apart, [2, 2, 1, classes], outputs=4, axis=4))


def _boxes(g: GraphBuilder, parts: list[ir.Value], sizes: np.ndarray) -> ir.Value:
    """Boxes (1, N * count * h * w, 4) of shifts within their cells and growths of the sizes (count, 2), in cells."""
    grid = box.cells(g, parts[0], 2, 3)
    side = g.emit("Cast", g.sizes([Extent(parts[0], 3), Extent(parts[0], 2)]), to=ir.DataType.FLOAT)
    center = g.emit("Div", g.emit("Add", g.emit("Sigmoid", parts[0]), grid), side)
    size = g.emit("Mul", g.emit("Exp", parts[1]), g.const(sizes.astype(np.float32).reshape(1, -1, 1, 1, 2), role="anchors"))
    return g.reshape(box.around(g, center, g.emit("Div", size, side)), [1, None, 4])


def _joined(g: GraphBuilder, values: list[ir.Value], axis: int) -> ir.Value:
    return values[0] if len(values) == 1 else g.emit("Concat", *values, axis=axis)


def _detections(
    g: GraphBuilder, boxes: ir.Value, scores: ir.Value, labels: ir.Value, enters: ir.Value, overlap: float, images: ir.Value
) -> ir.Value:
    """Of boxes (1, B, 4), whatever their labels, those that no better one overlaps by `overlap` or more; all are image 0's."""
    scores = g.emit("Where", enters, scores, np.array(-np.inf, np.float32))
    below = float(np.nextafter(np.float32(overlap), np.float32(-1)))  # NonMaxSuppression drops above its threshold
    count = g.emit("Shape", scores, start=1, end=2)
    places = g.emit("Squeeze", box.part(g, box.chosen(g, boxes, scores, below, count), 2), [1])
    column = g.emit("Unsqueeze", places, [1])
    found = g.emit(
        "Concat",
        g.emit("Mul", g.emit("Cast", column, to=ir.DataType.FLOAT), 0.0),
        g.emit("Add", g.emit("Gather", g.emit("Squeeze", labels, [0]), column, axis=0), 1.0),
        g.emit("Gather", g.emit("Squeeze", scores, [0]), column, axis=0),
        g.emit("Gather", g.emit("Squeeze", boxes, [0]), places, axis=0),
        axis=1,
    )
    return box.with_placeholders(g, found, images)
