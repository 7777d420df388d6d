"""Pooling, regions and sampling: dilations and rounding that older sets don't have, GridSample in parts."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.writers.onnx.opsets.site import Answer, Site, newer, older

Size: TypeAlias = "NDArray[Any] | ir.Value"


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
    if mode == "bicubic":
        raise g.refusal("ONNX has GridSample from set 16 on; bicubic has no other form here")
    dtype = g.dtype(x).numpy()
    size = _width_and_height(g, x)
    last = _worked_out(g, "Sub", size, 1.0)
    at = g.emit("Add", grid, 1.0)
    aligned = bool(g.attribute("align_corners", 0))
    half = _worked_out(g, "Mul", last if aligned else size, 0.5)
    at = g.emit("Mul", at, half) if aligned else g.emit("Sub", g.emit("Mul", at, half), 0.5)
    if padding == "reflection":
        at = _reflected(g, at, np.zeros(2, dtype) if aligned else np.full(2, -0.5, dtype), last if aligned else size)
    if padding != "zeros":
        at = _within(g, at, last)
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


def _width_and_height(g: Site, x: ir.Value) -> Size:
    """The size of images (N, C, H, W) in their own type: an array where it is known, else computed when the net runs."""
    height, width = g.dims(x)[2:]
    if height is not None and width is not None:
        return np.array([width, height], g.dtype(x).numpy())
    shape = g.emit("Shape", x)
    return g.cast(g.emit("Concat", g.part(shape, 3, 4), g.part(shape, 2, 3), axis=0), g.dtype(x))


_WORKED_OUT = {"Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum}


def _worked_out(g: Site, op_type: str, size: Size, number: float) -> Size:
    """An operator of a size and a number, now or when the net runs."""
    return g.emit(op_type, size, number) if isinstance(size, ir.Value) else _WORKED_OUT[op_type](size, size.dtype.type(number))


def _within(g: Site, at: ir.Value, last: Size) -> ir.Value:
    return g.emit("Min", g.emit("Max", at, 0.0), last)


def _reflected(g: Site, at: ir.Value, low: np.ndarray, span: Size) -> ir.Value:
    """Mirrored at both ends, as often as it takes."""
    span = _worked_out(g, "Max", span, 1.0)
    away = g.emit("Abs", g.emit("Sub", at, low))
    turns = g.emit("Floor", g.emit("Div", away, span))
    rest = g.emit("Sub", away, g.emit("Mul", turns, span))
    odd = g.emit("Sub", turns, g.emit("Mul", g.emit("Floor", g.emit("Mul", turns, 0.5)), 2.0))
    return g.emit("Add", g.emit("Where", g.emit("Greater", odd, 0.5), g.emit("Sub", span, rest), rest), low)


def _pixels(g: Site, at: ir.Value, size: Size, zeros: bool) -> ir.Value:
    """x at whole coordinates (N, h, w, 2): (N, C, h, w), zeros outside."""
    x = g.x()
    known = g.dims(x)[1]
    one, channels = g.constant([1], np.int64), g.constant([known], np.int64) if known is not None else g.part(g.emit("Shape", x), 1, 2)
    inside = _within(g, at, _worked_out(g, "Sub", size, 1.0))
    width = g.cast(g.part(size, 0, 1), ir.DataType.INT64) if isinstance(size, ir.Value) else g.constant(size[:1], np.int64)
    row = g.emit("Concat", one, width, axis=0)  # in whole numbers: floats don't count the pixels of a large image
    place = g.reduce("ReduceSum", g.emit("Mul", g.cast(inside, ir.DataType.INT64), row), [3], keepdims=False)
    index = g.emit("Reshape", place, [0, 1, -1])
    index = g.emit("Expand", index, g.emit("Concat", one, channels, one, axis=0))
    found = g.emit("GatherElements", g.emit("Reshape", x, [0, 0, -1]), index, axis=2)
    shape = g.emit("Concat", g.constant([0], np.int64), channels, g.part(g.emit("Shape", at), 1, 3), axis=0)
    pixels = g.emit("Reshape", found, shape)
    if not zeros:
        return pixels
    moved = g.reduce("ReduceSum", g.emit("Abs", g.emit("Sub", inside, at)), [3], keepdims=False)
    return g.emit("Where", g.unsqueeze(g.emit("Greater", moved, 0.5), [1]), 0.0, pixels)
