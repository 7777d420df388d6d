"""The last layer of single-shot detectors. Source: SSD's detection_output_layer.cpp, util/bbox_util.cpp; RefineDet's."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.graph.detection import boxes as box
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT
from converters.schemas import caffe_pb2


@lowers("DetectionOutput", in_place=False)
def detection_output(
    g: GraphBuilder,
    layer: Layer,
    loc: ir.Value,
    conf: ir.Value,
    priors: ir.Value,
    arm_conf: ir.Value | None = None,
    arm_loc: ir.Value | None = None,
) -> ir.Value:
    """Detections (image, label, score, corners) of SSD's offsets, scores and prior boxes; RefineDet's with four and five bottoms.

    loc: (N, P * 4), or (N, P * classes * 4), conf: (N, P * classes), priors: (1, 2, P * 4), arm_conf: (N, P * 2), arm_loc: (N, P * 4);
    to (1, 1, K, 7), by image, then label; a row of -1 for each image where there is none in all of them.
    Source: SSD's detection_output_layer.cpp, RefineDet's.
    """
    p = layer.params.detection_output_param
    _check(g, layer, loc, conf, priors, arm_conf, arm_loc)
    if p.HasField("save_output_param"):
        g.warn("save_output_param writes files while Caffe runs; the converted net writes none")
    table = g.reshape(priors, [1, 2, None, 4])
    prior, variance = (g.emit("Squeeze", v, [1]) for v in g.emit_all("Split", table, [1, 1], outputs=2, axis=1))
    scales = None if p.variance_encoded_in_target else variance
    if arm_loc is not None:
        prior = _decoded(g, p, prior, scales, g.reshape(arm_loc, [Extent(arm_loc, 0), None, 4]))
    shared = p.share_location
    if shared:
        offsets = g.reshape(loc, [Extent(loc, 0), None, 4])
    else:
        offsets = g.reshape(loc, [Extent(loc, 0), None, p.num_classes, 4])
        prior = g.emit("Unsqueeze", prior, [2])
        scales = scales if scales is None else g.emit("Unsqueeze", scales, [2])
    found = _decoded(g, p, prior, scales, offsets)
    found = g.emit("Clip", found, 0.0, 1.0) if p.clip else found
    if layer.meaning == "TextBoxes":
        g.warn("boxes are given as SSD gives them; TextBoxes' own release holds those that it gives to the image, 0 to 1")
    scores = _scores(g, p, g.reshape(conf, [Extent(conf, 0), None, p.num_classes]), arm_conf)
    return _best(g, layer, found, scores, conf)


def _check(g: GraphBuilder, layer: Layer, loc: ir.Value, conf: ir.Value, priors: ir.Value, *arms: ir.Value | None) -> None:
    """Raises ConversionError where the bottoms don't have as many boxes as there are prior boxes."""
    p = layer.params.detection_output_param
    if p.num_classes < 1:
        raise layer.error("num_classes is missing")
    if p.share_location and p.background_label_id < 0:
        raise layer.error("share_location with background_label_id -1, which Caffe refuses when it runs")
    eta, overlap = p.nms_param.eta, p.nms_param.nms_threshold
    if not 0 < eta <= 1 or overlap < 0:
        raise layer.error(f"nms_threshold {overlap:g} and eta {eta:g}; the threshold is at least 0, eta above 0 and at most 1")
    if g.rank(priors) != 3 or g.shape(priors)[1] != 2 or (isinstance(g.shape(priors)[0], int) and g.shape(priors)[0] != 1):
        raise layer.error(f"its third bottom must be prior boxes (1, 2, P * 4), not {g.shape(priors)}")
    count = g.fixed(priors, 2)[0] // 4
    each = [4 if p.share_location else 4 * p.num_classes, p.num_classes, 2, 4]
    for name, value, size in zip(("loc", "conf", "arm_conf", "arm_loc"), (loc, conf, *arms), each, strict=True):
        if value is not None and np.prod(g.fixed(value, 1)) != count * size:
            shown = f"{g.shape(value)} ({name})"
            raise layer.error(
                f"{count} prior boxes need {count * size} values of each image, but its bottom has shape {shown}; "
                "are the prior boxes those of the fork that this net was trained with?"
            )
    if count * p.num_classes > FILL_LIMIT:
        raise layer.error(f"{count} boxes of {p.num_classes} classes are too many")


def _decoded(
    g: GraphBuilder, p: caffe_pb2.DetectionOutputParameter, prior: ir.Value, variance: ir.Value | None, offsets: ir.Value
) -> ir.Value:
    """Boxes (N, P, 4) or (N, P, classes, 4) of prior boxes moved by offsets."""
    moves = offsets if variance is None else g.emit("Mul", variance, offsets)
    if p.code_type == caffe_pb2.CORNER:
        return g.emit("Add", prior, moves)
    low, high = box.halves(g, prior)
    size = g.emit("Sub", high, low)
    if p.code_type == caffe_pb2.CORNER_SIZE:
        return g.emit("Add", prior, g.emit("Mul", moves, g.emit("Concat", size, size, axis=g.rank(size) - 1)))
    center = g.emit("Mul", g.emit("Add", low, high), 0.5)
    shift, growth = box.halves(g, moves)
    center = g.emit("Add", g.emit("Mul", shift, size), center)
    return box.around(g, center, g.emit("Mul", g.emit("Exp", growth), size))


def _scores(g: GraphBuilder, p: caffe_pb2.DetectionOutputParameter, conf: ir.Value, arm_conf: ir.Value | None) -> ir.Value:
    """Scores (N, classes, P); where RefineDet's first stage sees no object, all are the background's."""
    if arm_conf is not None:
        first = g.reshape(arm_conf, [Extent(arm_conf, 0), None, 2])
        nothing = g.emit("Less", box.part(g, first, 1), p.objectness_score)
        background = np.zeros(p.num_classes, np.float32)
        background[0] = 1
        conf = g.emit("Where", nothing, g.const(background.reshape(1, 1, -1), role="background"), conf)
    return g.emit("Transpose", conf, perm=[0, 2, 1])


def _best(g: GraphBuilder, layer: Layer, boxes: ir.Value, scores: ir.Value, images: ir.Value) -> ir.Value:
    """The detections: of each label the candidates, of which none overlaps a better one, of each image the keep_top_k best of those."""
    p = layer.params.detection_output_param
    nms = p.nms_param
    labels = [label for label in range(p.num_classes) if label != p.background_label_id]
    (count,) = g.fixed(scores, 2)
    wanted = nms.top_k if nms.HasField("top_k") and nms.top_k >= 0 else 2**31 - 1
    most = min(wanted, count)
    lowest = np.array(-np.inf, np.float32)
    if not labels or most < 1 or p.keep_top_k == 0:
        labels, wanted, most, p_threshold = [0], 1, 1, np.inf  # nothing is kept
    else:
        p_threshold = p.confidence_threshold if p.HasField("confidence_threshold") else box.LOWEST
    scores = _of_labels(g, scores, labels, 1)
    scores = g.emit("Where", g.emit("Greater", scores, np.array(p_threshold, np.float32)), scores, lowest)
    candidates = box.at_most(g, wanted, scores, 2)
    shape = [g.shape(scores)[0], len(labels), most]
    scores, places = g.emit_all("TopK", scores, candidates, outputs=2, axis=2, largest=1, sorted=1, shape=shape)
    if p.share_location:
        found = box.rows_at(g, boxes, g.reshape(places, [Extent(places, 0), None]))
    else:
        own = g.emit("Transpose", _of_labels(g, boxes, labels, 2), perm=[0, 2, 1, 3])  # (N, labels, P, 4)
        wide = g.emit("Tile", g.emit("Unsqueeze", places, [3]), [1, 1, 1, 4])
        found = g.reshape(g.emit("GatherElements", own, wide, axis=2), [Extent(places, 0), None, 4])
    sets, set_scores = g.reshape(found, [None, Extent(scores, 2), 4]), g.reshape(scores, [None, Extent(scores, 2)])
    if nms.eta < 1 and nms.nms_threshold > 0.5:
        keep = box.survivors_of_shrinking(g, sets, set_scores, nms.nms_threshold, nms.eta)
    else:
        keep = box.survivors(g, sets, set_scores, nms.nms_threshold)
    flat = g.reshape(scores, [Extent(scores, 0), None])
    keep = g.emit("Reshape", keep, g.emit("Shape", flat), shape=g.shape(flat))
    if p.keep_top_k > 0:
        keep = _best_of_image(g, flat, keep, p.keep_top_k)
    names = g.const(np.array(labels, np.float32)[:, None], role="labels")
    names = g.reshape(g.emit("Expand", names, g.sizes([len(labels), Extent(scores, 2)])), [None])
    return box.detections(g, keep, names, flat, found, images)


def _of_labels(g: GraphBuilder, value: ir.Value, labels: list[int], axis: int) -> ir.Value:
    """The labels that aren't the background's."""
    if labels == list(range(g.fixed(value, axis, axis + 1)[0])):
        return value
    if labels == list(range(labels[0], labels[-1] + 1)):
        return g.emit("Slice", value, [labels[0]], [labels[-1] + 1], [axis])
    return g.emit("Gather", value, g.const(np.array(labels, np.int64), role="labels"), axis=axis)


def _best_of_image(g: GraphBuilder, scores: ir.Value, keep: ir.Value, most: int) -> ir.Value:
    """The mask (N, B) with at most so many of each image: the best ones."""
    best = g.emit("Where", keep, scores, np.array(-np.inf, np.float32))
    _, places = g.emit_all("TopK", best, box.at_most(g, most, best, 1), outputs=2, axis=1, largest=1, sorted=1)
    ones = g.emit("Expand", np.ones((), np.float32), g.emit("Shape", places))
    zeros = g.emit("Expand", np.zeros((), np.float32), g.emit("Shape", scores), shape=g.shape(scores))
    first = g.emit("Greater", g.emit("ScatterElements", zeros, places, ones, axis=1, shape=g.shape(scores)), 0.5)
    return g.emit("And", first, keep)
