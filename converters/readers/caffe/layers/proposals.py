"""Region proposals of two-stage detectors, one image at a time."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import printable
from converters.graph.builder import Extent, GraphBuilder
from converters.graph.detection import boxes as box
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers

LOWEST = np.array(-np.inf, np.float32)
RATIOS = [0.5, 1.0, 2.0]
"""Heights of anchors over their widths, where nothing else is said."""
ANCHOR_LIMIT = 4096


@lowers("Python:rpn.proposal_layer.ProposalLayer")
def proposal_layer(g: GraphBuilder, layer: Layer, prob: ir.Value, offsets: ir.Value, info: ir.Value) -> list[ir.Value]:
    """Region proposals of Faster R-CNN, with its numbers of phase TEST: 6000 boxes before and 300 after suppression at 0.7.

    prob: (1, 2 A, h, w), offsets: (1, 4 A, h, w), info: (1, 3) as height, width, scale; to (R, 5), and their scores (R, 1).
    Source: py-faster-rcnn's lib/rpn/proposal_layer.py, generate_anchors.py.
    """
    stride = _stride(layer, "scales", "ratios")
    scales = _parameter(layer, "scales", [8.0, 16.0, 32.0])
    if _parameter(layer, "ratios", RATIOS) != RATIOS:
        raise layer.error("ratios in its param_str aren't read by py-faster-rcnn's layer; register a lowering of the fork that reads them")
    before, after, overlap, least = (
        layer.define(name, default)
        for name, default in (("RPN_PRE_NMS_TOP_N", 6000), ("RPN_POST_NMS_TOP_N", 300), ("RPN_NMS_THRESH", 0.7), ("RPN_MIN_SIZE", 16))
    )
    g.warn(
        f"its numbers stand in py-faster-rcnn's configuration, not in the file: RPN_PRE_NMS_TOP_N={before:g} RPN_POST_NMS_TOP_N={after:g} "
        f"RPN_NMS_THRESH={overlap:g} RPN_MIN_SIZE={least:g}; others with --define NAME=NUMBER"
    )
    anchors = _anchors(layer, RATIOS, scales, 16, np.rint)
    boxes, scores = _of_size(g, layer, prob, offsets, info, anchors, stride, least)
    return _proposed(g, layer, boxes, scores, int(before), int(after), overlap)


@lowers("Python:SSH.layers.proposal_layer.ProposalLayer")
def ssh_proposals(g: GraphBuilder, layer: Layer, prob: ir.Value, offsets: ir.Value, info: ir.Value) -> list[ir.Value]:
    """The best boxes of one of SSH's modules, best first, 1000 by its numbers of phase TEST; they are suppressed behind the net.

    prob: (1, 2 A, h, w), offsets: (1, 4 A, h, w), info: (1, 3) as height, width, scale; to (R, 5), and their scores (R, 1).
    Source: SSH's SSH/layers/proposal_layer.py, configs/default_config.yml.
    """
    stride = _stride(layer, "scales", "ratios", "base_size")
    scales, ratios = _parameter(layer, "scales", [8.0, 16.0, 32.0]), _parameter(layer, "ratios", RATIOS)
    base = int(_parameter(layer, "base_size", [16.0])[0])
    most, least = layer.define("N_DETS_PER_MODULE", 1000), layer.define("ANCHOR_MIN_SIZE", 0)
    g.warn(
        f"its numbers stand in SSH's configuration, not in the file: N_DETS_PER_MODULE={most:g} ANCHOR_MIN_SIZE={least:g}; "
        "others with --define NAME=NUMBER"
    )
    boxes, scores = _of_size(g, layer, prob, offsets, info, _anchors(layer, ratios, scales, base, np.rint), stride, least)
    count = box.at_most(g, int(most) if most > 0 else 2**31 - 1, scores, 1)
    values, places = g.emit_all("TopK", scores, count, outputs=2, axis=1, largest=1, sorted=1)
    large = _of_one_image(g, g.emit("Greater", values, LOWEST))
    found = _of_one_image(g, box.rows_at(g, boxes, places))
    column = g.emit("Transpose", values, perm=[1, 0])
    kept = [g.emit("Compress", value, large, axis=0, shape=[None, width]) for value, width in ((found, 4), (column, 1))]
    nothing = g.emit("Sub", np.array([1], np.int64), g.emit("Min", g.emit("Shape", kept[1], start=0, end=1), np.array([1], np.int64)))
    stand_in = g.emit("Slice", g.const(np.array([[0, 0, 16, 16]], np.float32), role="none"), [0], nothing, [0])
    return [g.emit("Pad", g.emit("Concat", kept[0], stand_in, axis=0), [0, 1, 0, 0], shape=[None, 5]), kept[1]]


@lowers("Proposal")
def proposal(g: GraphBuilder, layer: Layer, prob: ir.Value, offsets: ir.Value, info: ir.Value) -> list[ir.Value]:
    """Region proposals of PVANET; boxes that are too small stay, with score 0.

    prob: (1, 2 A, h, w), offsets: (1, 4 A, h, w), info: (1, 4 or more) as height, width and their scales; to (R, 5), and scores (R).
    Source: PVANET's proposal_layer.cpp.
    """
    p = layer.params.proposal_param
    if not p.ratio or not p.scale:
        raise layer.error("needs ratio and scale; other layers of this name (anchor_scale, max_rois) aren't known")
    if g.fixed(info, 1)[0] < 4:
        raise layer.error(f"its third bottom must have 4 values or more (height, width, their scales), not {g.shape(info)}")
    anchors = _anchors(layer, list(p.ratio), list(p.scale), p.base_size, lambda v: np.floor(v + np.float32(0.5)))
    boxes, scores = _candidates(g, layer, prob, offsets, info, anchors, p.feat_stride)
    limits = g.emit("Mul", g.emit("Slice", info, [2], [4], [1]), float(p.min_size))  # height, width
    least = g.emit("Gather", limits, [1, 0], axis=1)
    scores = g.emit("Where", _large(g, boxes, least), scores, 0.0)
    made = _proposed(g, layer, boxes, scores, p.pre_nms_topn, p.post_nms_topn, p.nms_thresh)
    return [made[0], g.emit("Squeeze", made[1], [1])]


@lowers("Python:layers.text_proposal_layer.ProposalLayer")
def text_proposals(g: GraphBuilder, layer: Layer, prob: ir.Value, offsets: ir.Value, info: ir.Value) -> list[ir.Value]:
    """All boxes of CTPN, 16 pixels wide and of ten heights, and their scores; which stay is decided behind the net.

    prob: (1, 20, h, w), offsets: (1, 20, h, w) as shift and growth, info: (1, 2 or more) as height, width; to (R, 4) and (R, 1).
    Source: CTPN's src/layers/text_proposal_layer.py, anchor.py.
    """
    stride = _stride(layer)
    heights = np.array([11, 16, 23, 33, 48, 68, 97, 139, 198, 283])
    half = heights // 2  # integers of Python 2, and numpy's truncation to them
    rows = [np.trunc(np.array([7.5 - 8, 7.5 - h, 7.5 + 8, 7.5 + h])) for h in half]
    anchors = np.array(rows, np.float32)
    count = len(heights)
    table = _grid(g, layer, prob, offsets, anchors, stride, 2)
    scores = _per_anchor(g, g.emit("Slice", prob, [count], [2 * count], [1]), 1)
    moves = _per_anchor(g, offsets, 2)
    left, top, right, bottom = g.emit_all("Split", table, [1] * 4, outputs=4, axis=2)
    size = g.emit("Add", g.emit("Sub", bottom, top), 1.0)
    shift, growth = g.emit_all("Split", moves, [1, 1], outputs=2, axis=2)
    grown = g.emit("Mul", g.emit("Exp", growth), size)
    center = g.emit("Add", g.emit("Mul", shift, size), g.emit("Mul", g.emit("Add", top, bottom), 0.5))
    start = g.emit("Sub", center, g.emit("Mul", grown, 0.5))
    boxes = _held(g, g.emit("Concat", left, start, right, g.emit("Add", start, grown), axis=2), info)
    return [_of_one_image(g, boxes), _of_one_image(g, scores)]


def _stride(layer: Layer, *others: str) -> int:
    """The layer's feat_stride. Raises ConversionError where that is no whole number, or for a parameter beside it and `others`."""
    strange = set(re.findall(r"(\w+)['\"]?\s*:", layer.params.python_param.param_str)) - {"feat_stride", *others}
    if strange:
        names = ", ".join(printable(name) for name in sorted(strange))
        raise layer.error(f"its param_str says {names}, which the layer doesn't read; register a lowering of the fork that reads it")
    stride = _parameter(layer, "feat_stride", None)
    if len(stride) != 1 or not stride[0].is_integer() or stride[0] < 1:
        raise layer.error(f"feat_stride {stride} in its param_str; it is one whole number above 0")
    return int(stride[0])


def _parameter(layer: Layer, name: str, default: list[float] | None) -> list[float]:
    """A number, or a list of them, of a Python layer's param_str, which is YAML."""
    text = layer.params.python_param.param_str
    found = re.search(rf"\b{name}['\"]?\s*:\s*(?:!!\S+\s*)?(\[[^\]]*\]|\([^)]*\)|[-+.\w]+)", text)
    if found is None:
        if default is None:
            raise layer.error(f"its param_str doesn't say {name}")
        return default
    try:
        return [float(part) for part in re.split(r"[\s,]+", found[1].strip("[]() ")) if part]
    except ValueError:
        raise layer.error(f"{name} in its param_str isn't a number or a list of them") from None


def _anchors(
    layer: Layer, ratios: list[float], scales: list[float], base: int, rounded: Callable[[np.floating], np.floating]
) -> NDArray[np.float32]:
    """Boxes (ratios x scales, 4) of the first cell."""
    if len(ratios) * len(scales) > ANCHOR_LIMIT:
        raise layer.error(f"{len(ratios)} ratios and {len(scales)} scales are too many boxes for a cell")
    f = np.float32
    center = f(0.5) * f(base - 1)
    found = []
    for ratio in ratios:
        width = rounded(np.sqrt(f(base * base) / f(ratio)))
        height = rounded(width * f(ratio))
        for scale in scales:
            half_w, half_h = f(0.5) * (width * f(scale) - f(1)), f(0.5) * (height * f(scale) - f(1))
            found.append([center - half_w, center - half_h, center + half_w, center + half_h])
    return np.array(found, np.float32)


def _grid(
    g: GraphBuilder, layer: Layer, prob: ir.Value, offsets: ir.Value, anchors: NDArray[np.float32], stride: int, each: int
) -> ir.Value:
    """Anchors (1, h * w * A, 4) of all cells. Raises ConversionError where the bottoms have other channels."""
    height, width = g.fixed(prob, 2)
    count = len(anchors)
    if g.shape(prob)[1] != 2 * count or g.shape(offsets)[1] != each * count or g.shape(prob)[2:] != g.shape(offsets)[2:]:
        raise layer.error(f"{count} boxes in each cell don't fit scores {g.shape(prob)} and offsets {g.shape(offsets)}")
    if height * width * count > 1 << 22:
        raise layer.error(f"{count} boxes for each of {height} x {width} cells are too many")
    corner = g.emit("Mul", box.cells(g, prob, 2, 3), float(stride))
    shifts = g.emit("Unsqueeze", g.emit("Concat", corner, corner, axis=2), [2])  # (h, w, 1, 4)
    return g.reshape(g.emit("Add", shifts, g.const(anchors, role="anchors")), [1, None, 4])


def _per_anchor(g: GraphBuilder, value: ir.Value, each: int) -> ir.Value:
    """(1, A * each, h, w) as (1, h * w * A, each)."""
    moved = g.emit("Transpose", value, perm=[0, 2, 3, 1])
    return g.reshape(moved, [Extent(value, 0), None, each])


def _held(g: GraphBuilder, boxes: ir.Value, info: ir.Value) -> ir.Value:
    """Boxes (1, B, 4) held to the image."""
    sizes = g.emit("Slice", info, [0], [2], [1])
    last = g.emit("Unsqueeze", g.emit("Sub", g.emit("Gather", sizes, [1, 0, 1, 0], axis=1), 1.0), [1])
    return g.emit("Max", g.emit("Min", boxes, last), 0.0)


def _candidates(
    g: GraphBuilder, layer: Layer, prob: ir.Value, offsets: ir.Value, info: ir.Value, anchors: NDArray[np.float32], stride: int
) -> tuple[ir.Value, ir.Value]:
    """Boxes (1, B, 4) of all anchors of all cells, moved and held to the image, and their scores (1, B)."""
    count = len(anchors)
    table = _grid(g, layer, prob, offsets, anchors, stride, 4)
    scores = _per_anchor(g, g.emit("Slice", prob, [count], [2 * count], [1]), 1)
    moves = _per_anchor(g, offsets, 4)
    low, high = box.halves(g, table)
    size = g.emit("Add", g.emit("Sub", high, low), 1.0)
    shift, growth = box.halves(g, moves)
    center = g.emit("Add", g.emit("Mul", shift, size), g.emit("Add", low, g.emit("Mul", size, 0.5)))
    grown = g.emit("Mul", g.emit("Exp", growth), size)
    return _held(g, box.around(g, center, grown), info), g.emit("Squeeze", scores, [2])


def _of_size(
    g: GraphBuilder,
    layer: Layer,
    prob: ir.Value,
    offsets: ir.Value,
    info: ir.Value,
    anchors: NDArray[np.float32],
    stride: int,
    least: float,
) -> tuple[ir.Value, ir.Value]:
    """As `_candidates`; a box with a side below `least` times the image's scale has the lowest of all scores."""
    boxes, scores = _candidates(g, layer, prob, offsets, info, anchors, stride)
    limit = g.emit("Mul", g.emit("Slice", info, [2], [3], [1]), float(least))
    large = _large(g, boxes, g.emit("Concat", limit, limit, axis=1))
    return boxes, g.emit("Where", large, scores, LOWEST)


def _of_one_image(g: GraphBuilder, value: ir.Value) -> ir.Value:
    """(1, B, ...) as (B, ...), which stops where there are more images; PyTorch's squeeze would go on."""
    return g.reshape(value, g.extents(value, 1))


def _large(g: GraphBuilder, boxes: ir.Value, least: ir.Value) -> ir.Value:
    """A mask (1, B) of boxes at least as wide and as high as (1, 2) says."""
    low, high = box.halves(g, boxes)
    size = g.emit("Add", g.emit("Sub", high, low), 1.0)
    fits = g.emit("Cast", g.emit("GreaterOrEqual", size, g.emit("Unsqueeze", least, [1])), to=ir.DataType.FLOAT)
    return g.emit("Greater", g.emit("ReduceProd", fits, [2], keepdims=0), 0.5)


def _proposed(g: GraphBuilder, layer: Layer, boxes: ir.Value, scores: ir.Value, before: int, after: int, overlap: float) -> list[ir.Value]:
    """The best boxes that no better one overlaps, (R, 5), and their scores (R, 1)."""
    most = box.at_most(g, before if before > 0 else 2**31 - 1, scores, 1)
    if after < 1 or overlap < 0:
        raise layer.error(f"{after} boxes after suppression at {overlap:g} can't be had")
    values, places = g.emit_all("TopK", scores, most, outputs=2, axis=1, largest=1, sorted=1)
    ordered = box.rows_at(g, boxes, places)
    grown = g.emit("Add", ordered, g.const(np.array([0, 0, 1, 1], np.float32)))  # areas with + 1
    kept = g.emit("Squeeze", box.part(g, box.chosen(g, grown, values, overlap, after), 2), [1])
    found = g.emit("Gather", _of_one_image(g, ordered), kept, axis=0)
    rois = g.emit("Pad", found, [0, 1, 0, 0])
    score = g.emit("Unsqueeze", g.emit("Gather", _of_one_image(g, values), kept, axis=0), [1])
    return [rois, score]
