"""Resampling by tables of weights, one for the rows and one for the columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT


def filtered(g: GraphBuilder, x: ir.Value, tables: Sequence[np.ndarray]) -> ir.Value:
    """x (N, C, H, W), whose rows and columns are sums of the given ones: tables (rows, H) and (columns, W)."""
    rows, columns = (table.astype(np.float32) for table in tables)
    y = g.emit("MatMul", x, g.const(np.ascontiguousarray(columns.T), role="columns"))
    return g.emit("MatMul", g.const(rows, role="rows"), y)


def _check(layer: Layer, sizes: Sequence[int], out: Sequence[int]) -> None:
    if min(out) < 1:
        raise layer.error(f"the output size {list(out)} must be at least 1")
    if any(n * o > FILL_LIMIT for n, o in zip(sizes, out, strict=True)):
        raise layer.error(f"from {list(sizes)} to {list(out)} is too large")


def _like(g: GraphBuilder, y: ir.Value, like: ir.Value | None) -> ir.Value:
    """y, which must be as large as another map when the net runs."""
    return y if like is None else g.reshape(y, [*g.extents(y, 0, 2), *g.extents(like, 2)], absolute=True)


@lowers("Resample")
def resample(g: GraphBuilder, layer: Layer, x: ir.Value, like: ir.Value | None = None) -> ir.Value:
    """Another size: nearest, linear or cubic, smoothed where it gets smaller.

    x: (N, C, H, W) to width and height, or to the size of a second bottom. Source: FlowNet2's resample_layer.cu.
    """
    p = layer.params.resample_param
    if p.type == p.AREA:
        raise layer.error("AREA isn't computed by the layer; use LINEAR, CUBIC or NEAREST")
    sizes = g.fixed(x, 2)
    out = g.fixed(like, 2) if like is not None else (p.height, p.width)
    _check(layer, sizes, out)
    factors = [np.float32(n) / np.float32(o) for n, o in zip(sizes, out, strict=True)]
    smooth = p.antialias and max(factors) > 1
    tables = []
    for size, count, factor, other in zip(sizes, out, factors, reversed(factors), strict=True):
        places = np.arange(count, dtype=np.float32) * factor + other / np.float32(2) - np.float32(0.5)
        nearest = (np.sign(places) * np.floor(np.abs(places) + np.float32(0.5))).astype(int)
        if p.type == p.NEAREST:
            table = np.zeros((count, size), np.float32)
            table[np.arange(count), nearest.clip(0, size - 1)] = 1
        else:
            kernel, width = (_cubic, 4) if p.type == p.CUBIC else (_triangle, 2)
            scale = 1 / float(factor) if smooth else 1.0
            taps = 2 if factor < 1 else math.ceil(width / scale)
            table = _weights(places, nearest, size, taps, kernel, scale)
        tables.append(table)
    return _like(g, filtered(g, x, tables), like)


@lowers("Downsample")
def downsample(g: GraphBuilder, layer: Layer, x: ir.Value, like: ir.Value | None = None) -> ir.Value:
    """A smaller size with aligned corners, smoothed by a triangle.

    x: (N, C, H, W) to top_height and top_width, or to the size of a second bottom. Source: FlowNet2's downsample_layer.cu.
    """
    p = layer.params.downsample_param
    sizes = g.fixed(x, 2)
    out = g.fixed(like, 2) if like is not None else (p.top_height, p.top_width)
    _check(layer, sizes, out)
    if tuple(sizes) == tuple(out):
        return _like(g, x, like) if like is not None else g.pin(x)
    if min(out) < 2 or any(o > n for n, o in zip(sizes, out, strict=True)):
        raise layer.error(f"from {list(sizes)} to {list(out)}: it makes maps smaller, and not below 2")
    tables = []
    for size, count in zip(sizes, out, strict=True):
        step = np.float32(size - 1) / np.float32(count - 1)
        places = np.arange(count, dtype=np.float32) * step
        nearest = np.floor(places + np.float32(0.5)).astype(int)
        tables.append(_weights(places, nearest, size, math.ceil(step), _triangle, 1 / float(step)))
    return _like(g, filtered(g, x, tables), like)


def _weights(
    places: np.ndarray, nearest: np.ndarray, size: int, taps: int, kernel: Callable[[np.ndarray], np.ndarray], scale: float
) -> np.ndarray:
    """Weights (places, size) of the pixels around each place, 1 in all: a kernel of the distance times scale."""
    pixels = np.arange(size)
    near = np.abs(pixels[None] - nearest[:, None]) <= taps
    weights = np.where(near, kernel(scale * (places[:, None].astype(np.float64) - pixels[None])), 0)
    total = weights.sum(1, keepdims=True)
    found: np.ndarray = np.divide(weights, total, out=np.zeros_like(weights), where=total != 0)
    return found


def _triangle(d: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(0, 1 - np.abs(d))
    return found


def _cubic(d: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    d = np.abs(d)
    found: np.ndarray = np.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))
    return found


@lowers("Accum")
def accum(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> ir.Value:
    """Maps brought to the size of the largest, with aligned corners, and joined.

    x: (N, C, H, W) each; with have_reference the last one gives its size alone. Source: FlowNet2's accum_layer.cpp.
    """
    p = layer.params.accum_param
    maps = [x, *more]
    if p.have_reference and len(maps) < 2:
        raise layer.error("have_reference needs two bottoms")
    out: list[int | Extent] = []
    if p.have_reference:
        out = [*g.extents(maps.pop(), 2)]
    else:
        found = [_longest(g, maps, axis) for axis in (2, 3)]
        out = [Extent(value, axis) for value, axis in zip(found, (2, 3), strict=True)]
        largest = [g.fixed(value, axis, axis + 1)[0] for value, axis in zip(found, (2, 3), strict=True)]
        wanted = [p.top_height, p.top_width]
        if all(w > n for w, n in zip(wanted, largest, strict=True)):
            maps, out, largest = [g.pin(value) for value in maps], [*wanted], wanted
        if p.size_divisible_by and any(n % p.size_divisible_by for n in largest):
            maps = [g.pin(value) for value in maps]
            out = [-(-n // p.size_divisible_by) * p.size_divisible_by for n in largest]
    same = [value if [*g.extents(value, 2)] == out else _aligned(g, value, out) for value in maps]
    return g.emit("Concat", *same, axis=1) if len(same) > 1 else same[0]


def _longest(g: GraphBuilder, maps: Sequence[ir.Value], axis: int) -> ir.Value:
    return max(maps, key=lambda value: g.fixed(value, axis, axis + 1))


def _aligned(g: GraphBuilder, x: ir.Value, out: list[int | Extent]) -> ir.Value:
    numbers = [size if isinstance(size, int) else g.fixed(size.value, size.axis, size.axis + 1)[0] for size in out]
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    return g.emit("Resize", x, None, None, g.sizes([*g.extents(x, 0, 2), *out]), shape=[*g.shape(x)[:2], *numbers], **attributes)
