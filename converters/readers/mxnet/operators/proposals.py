"""Region proposals. Sources: mxnet src/operator/contrib/proposal.cc, proposal-inl.h, multi_proposal.cc."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.attributes import Floats
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.detection import column, columns, in_order, rows_at, survivors
from converters.readers.mxnet.operators.resampling import image_sizes
from converters.readers.mxnet.signature import lowers


def _anchors(stride: int, ratios: Floats, scales: Floats) -> np.ndarray:
    """Base anchors (ratios x scales, 4) of a cell of stride x stride pixels."""
    f = np.float32
    size = f(stride) * f(stride)
    center = f(0.5) * (f(stride) - f(1))
    boxes = []
    for ratio in ratios:
        for scale in scales:
            width = np.floor(np.sqrt(np.floor(size / f(ratio))) + f(0.5)) * f(scale)
            height = np.floor(width / f(scale) * f(ratio) + f(0.5)) * f(scale)
            dx, dy = f(0.5) * (width - f(1)), f(0.5) * (height - f(1))
            boxes.append([center - dx, center - dy, center + dx, center + dy])
    return np.array(boxes, f)


@lowers("_contrib_Proposal", "_contrib_MultiProposal", "MultiProposal")
def proposal(
    g: OperatorBuilder,
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
    """Region proposals (image, x1, y1, x2, y2) of a region proposal network, rpn_post_nms_top_n per image; with scores if asked.

    Source: mxnet src/operator/contrib/proposal.cc, multi_proposal.cc.
    """
    height, width = image_sizes(g, cls_prob)
    number = len(scales) * len(ratios)
    g.check_table(number, height, width, 4)
    g.check_table(rpn_post_nms_top_n)
    if not number or rpn_post_nms_top_n < 1 or g.shape(cls_prob)[1] != 2 * number or g.shape(bbox_pred)[1] != 4 * number:
        raise g.error(
            f"{len(scales)} scales and {len(ratios)} ratios don't fit scores {g.shape(cls_prob)} and offsets {g.shape(bbox_pred)}"
        )
    boxes, score = _candidates(
        g, cls_prob, bbox_pred, im_info, _anchors(feature_stride, ratios, scales), feature_stride, rpn_min_size, iou_loss
    )
    count = number * height * width
    before = min(rpn_pre_nms_top_n, count) if rpn_pre_nms_top_n > 0 else count
    values, order = g.emit_all("TopK", score, [before], outputs=2, axis=1, largest=1, sorted=1)
    boxes = rows_at(g, boxes, order)
    keep = _kept(g, boxes, threshold, before, min(rpn_post_nms_top_n, before), rpn_post_nms_top_n)  # (N, post)
    numbers = g.along(g.cast(g.positions(cls_prob, 0), np.float32), 0, 3)
    image = g.emit("Expand", numbers, [1, rpn_post_nms_top_n, 1])
    regions = g.emit("Concat", image, rows_at(g, boxes, keep), axis=2)
    outputs = {"output": g.reshape(regions, [None, 5])}
    return {**outputs, "score": g.reshape(g.emit("GatherElements", values, keep, axis=1), [None, 1])} if output_score else outputs


def _candidates(
    g: OperatorBuilder,
    cls_prob: ir.Value,
    bbox_pred: ir.Value,
    im_info: ir.Value,
    base: np.ndarray,
    stride: int,
    least_size: int,
    iou_loss: bool,
) -> tuple[ir.Value, ir.Value]:
    """Boxes (N, A, 4) of all anchors of all cells, held to the image, and their scores (N, A): -1 where they are too small or outside."""
    (height, width), number = image_sizes(g, cls_prob), len(base)
    rows, cols = np.arange(height) * stride, np.arange(width) * stride
    shifts = np.stack(np.broadcast_arrays(cols[None, :], rows[:, None], cols[None, :], rows[:, None]), axis=-1)
    anchors = (shifts[:, :, None, :] + base).reshape(1, -1, 4).astype(np.float32)
    batch, count = g.shape(cls_prob)[0], anchors.shape[1]
    score = g.emit("Slice", cls_prob, [number], [2 * number], [1])
    score = g.reshape(g.emit("Transpose", score, perm=[0, 2, 3, 1]), [batch, count], absolute=True)
    deltas = g.reshape(bbox_pred, [g.shape(bbox_pred)[0], number, 4, height, width])
    deltas = g.reshape(g.emit("Transpose", deltas, perm=[0, 3, 4, 1, 2]), [g.shape(bbox_pred)[0], count, 4])
    info = g.emit("Unsqueeze", im_info, [1])  # (N, 1, 3): height, width, scale
    limits = g.emit("Sub", g.emit("Gather", info, [1, 0, 1, 0], axis=2), 1.0)
    boxes = g.emit("Max", g.emit("Min", _moved(g, anchors, deltas, iou_loss), limits), np.zeros((), np.float32))
    cells = np.stack(np.broadcast_arrays(np.arange(height)[:, None, None], np.arange(width)[None, :, None], np.zeros((1, 1, number))), -1)
    cells = cells.reshape(1, count, 3)[..., :2].astype(np.float32)
    inside = g.emit("Floor", g.emit("Div", columns(g, info, 0, 2), float(stride)))
    outside = g.emit("GreaterOrEqual", g.const(cells, role="cells"), inside)
    outside = g.emit("Or", column(g, outside, 0), column(g, outside, 1))
    least = g.emit("Mul", columns(g, info, 2), float(least_size))
    extents = g.emit("Add", g.emit("Sub", columns(g, boxes, 2, 2), columns(g, boxes, 0, 2)), 1.0)
    small = g.emit("Less", extents, least)
    small = g.emit("Or", columns(g, small, 0), columns(g, small, 1))
    half = g.emit("Mul", least, np.array([-0.5, -0.5, 0.5, 0.5], np.float32))
    boxes = g.emit("Where", small, g.emit("Add", boxes, half), boxes)
    none = g.emit("Or", outside, g.emit("Squeeze", small, [2]))
    return boxes, g.emit("Where", none, np.full((), -1, np.float32), score)


def _kept(g: OperatorBuilder, boxes: ir.Value, threshold: float, count: int, most: int, wanted: int) -> ir.Value:
    """For each image which of its boxes (N, count, 4), best first, stay: at most so many, and from the first again up to `wanted`."""
    grown = g.emit("Add", boxes, np.array([0, 0, 1, 1], np.float32))
    ranks = g.const(np.arange(count, 0, -1, dtype=np.float32).reshape(1, 1, -1), role="ranks")
    scores = g.emit("Expand", ranks, g.sizes([Extent(boxes, 0), 1, 1]), shape=[g.shape(boxes)[0], 1, count])
    mask = survivors(g, grown, scores, threshold, most)
    alive = g.cast(g.emit("Squeeze", mask, [1]), np.float32)
    found = g.emit("ReduceSum", g.cast(alive, np.int64), [1], keepdims=1)  # (N, 1)
    cycle = g.emit("Mod", g.const(np.arange(wanted, dtype=np.int64)[None], role="positions"), found)
    return g.emit("GatherElements", in_order(g, alive, count), cycle, axis=1)


def _moved(g: OperatorBuilder, anchors: np.ndarray, deltas: ir.Value, iou_loss: bool) -> ir.Value:
    """Anchors (1, A, 4) moved by offsets (N, A, 4): of the corners, or of the center and the logarithms of the size."""
    if iou_loss:
        return g.emit("Add", deltas, g.const(anchors, role="anchors"))
    size = anchors[..., 2:] - anchors[..., :2] + np.float32(1)
    center = anchors[..., :2] + np.float32(0.5) * (size - np.float32(1))
    moved = g.emit("Add", g.emit("Mul", columns(g, deltas, 0, 2), g.const(size, role="sizes")), g.const(center, role="centers"))
    grown = g.emit("Mul", g.emit("Exp", columns(g, deltas, 2, 2)), g.const(size, role="sizes"))
    half = g.emit("Mul", g.emit("Sub", grown, 1.0), 0.5)
    return g.emit("Concat", g.emit("Sub", moved, half), g.emit("Add", moved, half), axis=2)
