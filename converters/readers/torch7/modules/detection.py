"""Boxes and regions of images: densecap, multipathnet, imagine-nn."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Array, Module, Net, Steps, lowers
from converters.readers.torch7.references import Tensors, Values


def _columns(g: GraphBuilder, module: Module, x: ir.Value, count: int) -> list[ir.Value]:
    rank = g.rank(x)
    if rank < 1 or g.fixed(x, rank - 1) != (count,):
        raise module.error(f"it takes boxes of {count} numbers, but its input has shape {g.shape(x)}")
    return list(g.emit_all("Split", x, [1] * count, outputs=count, axis=rank - 1))


# -- densecap ----------------------------------------------------------------------------------------------------------


def _anchors(g: GraphBuilder, module: Module, x: ir.Value) -> Array:
    """(k, 4, H, W): center x, y, width and height of the k anchors at each place."""
    if g.rank(x) != 4:
        raise module.error(f"its input must be (N, C, H, W), but has shape {g.shape(x)}")
    height, width = g.fixed(x, 2)
    sizes = module.tensor("anchors", 2, None).astype(np.float64)
    centers = np.meshgrid(
        module.number("x0") + module.number("sx") * np.arange(width), module.number("y0") + module.number("sy") * np.arange(height)
    )
    count = sizes.shape[1]
    boxes = np.empty((count, 4, height, width))
    boxes[:, 0], boxes[:, 1] = centers
    boxes[:, 2:] = sizes.T[:, :, None, None]
    return boxes.astype(module.dtype)


@lowers("nn.MakeAnchors")
def make_anchors(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(N, 4k, H, W): the k anchors at each place of its input, of which only the size counts. Source: densecap/modules/MakeAnchors.lua."""
    boxes = _anchors(g, module, x)
    flat = boxes.reshape(1, -1, *boxes.shape[2:])
    sizes = g.sizes([*g.extents(g.pin(x), 0, 1), *flat.shape[1:]])
    return g.emit("Expand", g.const(flat, role="anchors"), sizes, shape=[g.shape(x)[0], *flat.shape[1:]])


@lowers("nn.MakeBoxes")
def make_boxes(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Transforms (N, 4k, H, W) of the anchors -> boxes (N, k H W, 4). Source: densecap/modules/MakeBoxes.lua."""
    boxes = _anchors(g, module, x)
    count, _, height, width = boxes.shape
    if g.fixed(x, 1, 2) != (4 * count,):
        raise module.error(f"it takes {4 * count} channels for {count} anchors, but its input has shape {g.shape(x)}")
    batch = g.shape(x)[0]
    split = g.emit("Transpose", g.reshape(x, [batch, count, 4, height, width], absolute=True), perm=[0, 1, 3, 4, 2])
    trans = g.reshape(split, [batch, count * height * width, 4])
    return _applied(g, module, g.const(boxes.transpose(0, 2, 3, 1).reshape(1, -1, 4), role="anchors"), trans)


def _applied(g: GraphBuilder, module: Module, boxes: ir.Value, trans: ir.Value) -> ir.Value:
    """x = tx w + xa, w = w exp(tw)."""
    axis = g.rank(trans) - 1
    places, sizes = g.emit_all("Split", boxes, [2, 2], outputs=2, axis=g.rank(boxes) - 1)
    moved, grown = g.emit_all("Split", trans, [2, 2], outputs=2, axis=axis)
    out = g.emit("Add", g.emit("Mul", moved, sizes), places), g.emit("Mul", sizes, g.emit("Exp", grown))
    return g.emit("Concat", *out, axis=axis)


def _two(g: GraphBuilder, module: Module, x: Values) -> tuple[ir.Value, ir.Value]:
    first, second = module.tensors(x, 2)
    if g.rank(first) != g.rank(second) or any(g.fixed(one, g.rank(one) - 1) != (4,) for one in (first, second)):
        raise module.error(f"it takes two tables of boxes (..., 4), but its input has shapes {g.shape(first)} and {g.shape(second)}")
    return first, second


@lowers("nn.ApplyBoxTransform", tables=True)
def apply_box_transform(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{boxes, transforms} -> boxes. Source: densecap/modules/ApplyBoxTransform.lua."""
    return _applied(g, module, *_two(g, module, x))


@lowers("nn.InvertBoxTransform", tables=True)
def invert_box_transform(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{anchors, boxes} -> the transforms that make the boxes of the anchors. Source: densecap/modules/InvertBoxTransform.lua."""
    anchors, boxes = _two(g, module, x)
    axis = g.rank(boxes) - 1
    places, sizes = g.emit_all("Split", anchors, [2, 2], outputs=2, axis=axis)
    centers, wanted = g.emit_all("Split", boxes, [2, 2], outputs=2, axis=axis)
    moved = g.emit("Div", g.emit("Sub", centers, places), sizes)
    return g.emit("Concat", moved, g.emit("Log", g.emit("Div", wanted, sizes)), axis=axis)


@lowers("nn.PosSlicer", tables=True)
def pos_slicer(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{features (N, ...), others (P, ...)} -> the first P rows of the features. Source: densecap/modules/PosSlicer.lua."""
    features, others = module.tensors(x, 2)
    (end,) = g.extents(others, 0, 1)
    return g.emit("Slice", features, [0], g.sizes([end]), [0], shape=[g.shape(others)[0], *g.shape(features)[1:]])


@lowers("nn.ReshapeBoxFeatures")
def reshape_box_features(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(N, k D, H, W) -> (N, k H W, D). Source: densecap/modules/ReshapeBoxFeatures.lua."""
    count = module.integer("k", least=1)
    if g.rank(x) != 4 or g.fixed(x, 1, 2)[0] % count:
        raise module.error(f"its input must be (N, {count} D, H, W), but has shape {g.shape(x)}")
    channels, height, width = g.fixed(x, 1)
    batch, size = g.shape(x)[0], channels // count
    split = g.emit("Transpose", g.reshape(x, [batch, count, size, height, width], absolute=True), perm=[0, 1, 3, 4, 2])
    return g.reshape(split, [batch, count * height * width, size])


@lowers("nn.BilinearRoiPooling", on_tensors=True)
def bilinear_roi_pooling(net: Net, module: Module, x: Tensors) -> Steps:
    """Its net for {features (C, H, W), boxes (B, 4)} of an image of the size that setImageSize() has given, else of the last forward's.
    Source: densecap/modules/BilinearRoiPooling.lua.
    """
    boxes = module.get("box_to_affine")
    if isinstance(boxes, t7.TorchObject) and isinstance(boxes.payload, t7.Table):
        for field, size in (("H", "image_height"), ("W", "image_width")):
            if size in module:
                boxes.payload[field] = module.number(size)
    return (yield net.call(module, module.module("net"), x, "net"))


# -- multipathnet ------------------------------------------------------------------------------------------------------


def _grown(g: GraphBuilder, boxes: ir.Value, matrix: Array) -> ir.Value:
    """(id, x1, y1, x2, y2) with the corners times a matrix."""
    number, corners = g.emit_all("Split", boxes, [1, 4], outputs=2, axis=1)
    return g.emit("Concat", number, g.emit("MatMul", corners, matrix), axis=1)


def _check_regions(g: GraphBuilder, module: Module, x: ir.Value) -> None:
    if g.rank(x) != 2 or g.fixed(x, 1) != (5,):
        raise module.error(f"its input must be (N, 5), but has shape {g.shape(x)}")


@lowers("nn.Foveal")
def foveal(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Each box (id, x1, y1, x2, y2) four times: as it is, and 1.5, 2 and 4 times as large. Source: multipathnet/modules/Foveal.lua."""
    _check_regions(g, module, x)
    made = []
    for scale in (1.0, 1.5, 2.0, 4.0):
        a, b = (1 + scale) / 2, (1 - scale) / 2
        matrix = np.array([[a, 0, b, 0], [0, a, 0, b], [b, 0, a, 0], [0, b, 0, a]], module.dtype)
        made.append(g.emit("Unsqueeze", x if scale == 1 else _grown(g, x, matrix), [1]))
    return g.reshape(g.emit("Concat", *made, axis=1), [None, 5])


@lowers("nn.ContextRegion")
def context_region(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Boxes (id, x1, y1, x2, y2) made larger or smaller by a matrix. Source: multipathnet/modules/ContextRegion.lua."""
    _check_regions(g, module, x)
    return _grown(g, x, np.array(module.tensor("tr", 4, 4)))


@lowers("nn.ConvertFrom", tables=True)
def convert_from(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{boxes (id, x1, y1, x2, y2), transforms (N, 4)} -> boxes moved and resized. Source: multipathnet/modules/ConvertFrom.lua."""
    boxes, trans = module.tensors(x, 2)
    _check_regions(g, module, boxes)
    number, first, last = g.emit_all("Split", boxes, [1, 2, 2], outputs=3, axis=1)
    moved, grown = g.emit_all("Split", trans, [2, 2], outputs=2, axis=1)
    size = g.emit("Sub", last, first)
    center = g.emit("Add", g.emit("Mul", g.emit("Add", first, last), 0.5), g.emit("Mul", moved, size))
    half = g.emit("Mul", g.emit("Mul", g.emit("Exp", grown), size), 0.5)
    return g.emit("Concat", number, g.emit("Sub", center, half), g.emit("Add", center, half), axis=1)


@lowers("nn.BBoxNorm", on_tensors=True)
def bbox_norm(net: Net, module: Module, x: Tensors) -> Tensors:
    """(N, 4 classes) times std plus mean, written into its input, as evaluate() has it. Source: multipathnet/modules/BBoxNorm.lua."""
    g = net.g
    given = module.one_reference(x)
    value = given.get()
    if g.rank(value) != 2 or g.fixed(value, 1)[0] % 4:
        raise module.error(f"its input must be (N, 4 classes), but has shape {g.shape(value)}")
    times = g.fixed(value, 1)[0] // 4
    mean, std = (np.tile(module.tensor(field).reshape(-1), times)[None] for field in ("mean", "std"))
    if mean.shape != std.shape or mean.shape[1] != 4 * times:
        raise module.error("fields 'mean' and 'std' must have 4 numbers each")
    given.set(g.emit("Add", g.emit("Mul", value, std), mean))
    return given.alias()


@lowers("fbcoco.ImageTransformer")
def image_transformer(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(3, H, W): channels swapped, times `scale`, minus `mean`, over `std`. Source: multipathnet/modules/ImageTransformer.lua."""
    if g.rank(x) != 3 or g.fixed(x, 0, 1) != (3,):
        raise module.error(f"its input must be (3, H, W), but has shape {g.shape(x)}")
    if "swap" in module:
        order = [n - 1 for n in module.sizes("swap")]
        if sorted(order) != [0, 1, 2]:
            raise module.error(f"field 'swap' must order three channels, but is {[n + 1 for n in order]}")
        x = g.emit("Gather", g.pin(x, 0, 1), order, axis=0)
    scale = module.number("scale", 1.0)
    x = g.emit("Mul", x, scale) if scale != 1 else x
    x = g.emit("Sub", x, _three(module, "mean")) if "mean" in module else x
    return g.emit("Div", x, _three(module, "std")) if "std" in module else x


def _three(module: Module, field: str) -> Array:
    """Three numbers of a Lua table or a tensor, as (3, 1, 1)."""
    value = module.get(field)
    numbers = value.array() if callable(getattr(value, "array", None)) else module.tensor(field).reshape(-1).tolist()
    if len(numbers) != 3 or not all(isinstance(n, float) for n in numbers):
        raise module.error(f"field '{field}' must be three numbers")
    return np.array(numbers, module.dtype).reshape(3, 1, 1)


# -- imagine-nn --------------------------------------------------------------------------------------------------------


@lowers("inn.ROIPooling", tables=True)
def roi_pooling(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{images, regions (image, x1, y1, x2, y2) from 1}: maxima over H by W bins; the first version's bins end at whole pixels beyond, the
    second's at rounded ones. Source: imagine-nn/src/ROIPooling.cu.
    """
    images, regions = module.tensors(x, 2)
    if g.rank(images) != 4 or g.rank(regions) != 2 or g.fixed(regions, 1) != (5,):
        raise module.error(f"its input must be (N, C, H, W) and (R, 5), but has shapes {g.shape(images)} and {g.shape(regions)}")
    size = [module.integer("H", least=1), module.integer("W", least=1)]
    scale = module.number("spatial_scale", 1.0)
    from_zero = g.emit("Sub", regions, 1.0)
    if not module.flag("v2"):
        return g.emit("MaxRoiPool", images, from_zero, pooled_shape=size, spatial_scale=scale)
    number, x1, y1, x2, y2 = _columns(g, module, from_zero, 5)
    own = g.emit("Gather", images, g.emit("Cast", g.emit("Squeeze", number, [1]), to=int(ir.DataType.INT64)), axis=0)
    for axis, (first, last, bins) in ((3, (x1, x2, size[1])), (2, (y1, y2, size[0]))):
        own = _binned(g, own, axis, [_rounded(g, g.emit("Mul", edge, scale)) for edge in (first, last)], bins)
    return g.emit("Where", g.emit("IsInf", own), 0.0, own)


def _rounded(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """To whole numbers, halves away from zero."""
    return g.emit("Mul", g.emit("Sign", x), g.emit("Floor", g.emit("Add", g.emit("Abs", x), 0.5)))


def _binned(g: GraphBuilder, x: ir.Value, axis: int, edges: list[ir.Value], bins: int) -> ir.Value:
    """Maxima along an axis of (R, C, H, W) over bins of [first, last), -inf where one holds nothing."""
    first, last = edges
    length = g.emit("Max", g.emit("Sub", last, first), 1.0)
    one = g.emit("Div", length, float(bins))
    (end,) = g.extents(x, axis, axis + 1)
    all_of_it = g.emit("Range", np.array(0, np.int64), g.emit("Squeeze", g.sizes([end])), np.array(1, np.int64))
    numbers = g.emit("Cast", all_of_it, to=int(x.dtype or 1))
    made = []
    for number in range(bins):
        start = g.emit("Add", first, _rounded(g, g.emit("Mul", one, float(number))))
        stop = g.emit("Add", first, _rounded(g, g.emit("Mul", one, float(number + 1))))
        inside = g.emit("And", g.emit("GreaterOrEqual", numbers, start), g.emit("Less", numbers, stop))
        mask = g.emit("Unsqueeze", inside, [1, 2] if axis == 3 else [1, 3])
        made.append(g.emit("ReduceMax", g.emit("Where", mask, x, -np.inf, shape=g.shape(x)), [axis], keepdims=1))
    return g.emit("Concat", *made, axis=axis) if len(made) > 1 else made[0]
