"""Pooling, regions and sampling: dilations and rounding that older sets don't have, GridSample in parts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.writers.onnx.opsets.site import Answer, Site, newer, older


@older("AveragePool", since=19)
@older("LpPool", since=18)
@older("MaxPool", "AveragePool", since=10)
def windows_as_before(g: Site, node: ir.Node) -> Answer:
    """Windows without gaps, none over the end: ceil_mode of a known size has become pads before."""
    changes: dict[str, None] = {}
    if node.op_type == "LpPool" or g.opset < 10:
        if g.attribute("ceil_mode", 0):
            raise g.refusal("ceil_mode isn't there; it has another form (pads) only where the input's size is known")
        changes["ceil_mode"] = None
    if any(step > 1 for step in g.attribute("dilations", ())):
        raise g.refusal("dilations aren't there")
    return g.again(g.x(), **changes, dilations=None)


@older("RoiAlign", since=16)
def roi_align_before_16(g: Site, node: ir.Node) -> Answer:
    """Without the shift by half a pixel."""
    if g.attribute("coordinate_transformation_mode", "half_pixel") != "output_half_pixel":
        raise g.refusal("coordinate_transformation_mode half_pixel isn't there, and regions of less than one pixel have no other form")
    return g.again(*node.inputs, coordinate_transformation_mode=None)


@newer("RoiAlign", since=16)
def roi_align_from_16(g: Site, node: ir.Node) -> Answer:
    """Without the shift by half a pixel, which has to be said now."""
    return g.again(*node.inputs, coordinate_transformation_mode="output_half_pixel")


_MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}


@older("GridSample", since=20)
def grid_sample_before_20(g: Site, node: ir.Node) -> Answer:
    """Images, and the modes by their two-dimensional names."""
    if g.rank(g.x()) != 4:
        raise g.refusal("only images (N, C, H, W) are sampled there")
    return g.again(*node.inputs, mode=_MODES[g.attribute("mode", "linear")])


@newer("GridSample", since=20)
def grid_sample_from_20(g: Site, node: ir.Node) -> Answer:
    """The modes by their names for any number of axes."""
    names = {old: new for new, old in _MODES.items()}
    return g.again(*node.inputs, mode=names[g.attribute("mode", "bilinear")])


@older("GridSample", since=16)
def grid_sample(g: Site, node: ir.Node) -> Answer:
    """Pixels gathered by their place in the flattened image, and weighed by their distance."""
    mode, padding = g.attribute("mode", "bilinear"), g.attribute("padding_mode", "zeros")
    x, grid = g.x(0), g.cast(g.x(1), g.dtype(g.x(0)))
    height, width = g.dims(x)[2:]
    if mode == "bicubic" or height is None or width is None:
        raise g.refusal("ONNX has GridSample from set 16 on; bicubic and images of unknown size have no other form here")
    dtype = g.dtype(x).numpy()
    size = np.array([width, height], dtype)
    at = g.emit("Add", grid, 1.0)
    aligned = bool(g.attribute("align_corners", 0))
    at = g.emit("Mul", at, (size - 1) / 2) if aligned else g.emit("Sub", g.emit("Mul", at, size / 2), 0.5)
    if padding == "reflection":
        at = _reflected(g, at, np.zeros(2, dtype) if aligned else np.full(2, -0.5, dtype), size - 1 if aligned else size)
    if padding != "zeros":
        at = _within(g, at, size)
    if mode == "nearest":
        return _pixels(g, g.emit("Round", at), size, padding == "zeros")
    floor = g.emit("Floor", at)
    rest = g.emit("Sub", at, floor)
    total: ir.Value | None = None
    for corner in ((0, 0), (1, 0), (0, 1), (1, 1)):
        shift = np.array(corner, dtype)
        near = g.emit("Abs", g.emit("Sub", rest, 1 - shift))  # how near the pixel is, along each axis
        weight = g.unsqueeze(g.reduce("ReduceProd", near, [3], keepdims=False), [1])
        pixels = _pixels(g, g.emit("Add", floor, shift), size, padding == "zeros")
        part = g.emit("Mul", pixels, weight)
        total = part if total is None else g.emit("Add", total, part)
    assert total is not None
    return total


def _within(g: Site, at: ir.Value, size: np.ndarray) -> ir.Value:
    return g.emit("Min", g.emit("Max", at, 0.0), size - 1)


def _reflected(g: Site, at: ir.Value, low: np.ndarray, span: np.ndarray) -> ir.Value:
    """Mirrored at both ends, as often as it takes."""
    span = np.maximum(span, 1)
    away = g.emit("Abs", g.emit("Sub", at, low))
    turns = g.emit("Floor", g.emit("Div", away, span))
    rest = g.emit("Sub", away, g.emit("Mul", turns, span))
    odd = g.emit("Sub", turns, g.emit("Mul", g.emit("Floor", g.emit("Mul", turns, 0.5)), 2.0))
    return g.emit("Add", g.emit("Where", g.emit("Greater", odd, 0.5), g.emit("Sub", span, rest), rest), low)


def _pixels(g: Site, at: ir.Value, size: np.ndarray, zeros: bool) -> ir.Value:
    """x at whole coordinates (N, h, w, 2): (N, C, h, w), zeros outside."""
    x = g.x()
    channels = g.dims(x)[1]
    if channels is None:
        raise g.refusal("the number of channels isn't known")
    inside = _within(g, at, size)
    place = g.reduce("ReduceSum", g.emit("Mul", inside, np.array([1, size[0]], size.dtype)), [3], keepdims=False)
    index = g.emit("Reshape", g.cast(place, ir.DataType.INT64), [0, 1, -1])
    index = g.emit("Expand", index, [1, channels, 1])
    found = g.emit("GatherElements", g.emit("Reshape", x, [0, 0, -1]), index, axis=2)
    shape = g.emit("Concat", [0, channels], g.part(g.emit("Shape", at), 1, 3), axis=0)
    pixels = g.emit("Reshape", found, shape)
    if not zeros:
        return pixels
    moved = g.reduce("ReduceSum", g.emit("Abs", g.emit("Sub", inside, at)), [3], keepdims=False)
    return g.emit("Where", g.unsqueeze(g.emit("Greater", moved, 0.5), [1]), 0.0, pixels)
