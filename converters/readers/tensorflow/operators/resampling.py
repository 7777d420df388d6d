"""Resizing of images, as TensorFlow's kernels choose pixels and weights.

Sources: TensorFlow's core/kernels/image/{resize_bilinear,resize_nearest_neighbor,resize_bicubic}_op.cc, core/util/image_resizer_state.h.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.values import IMAGE, Array

_TABLE = 1024
"""Steps in which a bicubic kernel's fractions are taken."""


def _scale(node: Node, size: int, out: int) -> np.float32:
    if node.flag("align_corners") and out > 1:
        return np.float32(size - 1) / np.float32(out - 1)
    return np.float32(size) / np.float32(out)


def _places(node: Node, size: int, out: int) -> Array:
    """Where each pixel of the result lies in the image, in float32 as the kernels compute it."""
    scale, i = _scale(node, size, out), np.arange(out, dtype=np.float32)
    return np.asarray((i + np.float32(0.5)) * scale - np.float32(0.5) if node.flag("half_pixel_centers") else i * scale)


def _nearest(node: Node, size: int, out: int) -> Array:
    scale, i = _scale(node, size, out), np.arange(out, dtype=np.float32)
    at = (i + np.float32(0.5)) * scale if node.flag("half_pixel_centers") else i * scale
    chosen = np.floor(at + np.float32(0.5)) if node.flag("align_corners") else np.floor(at)
    return np.asarray(np.clip(chosen.astype(np.int64), 0, size - 1))


def _bicubic(node: Node, size: int, out: int) -> Array:
    half = node.flag("half_pixel_centers")
    a = -0.5 if half else -0.75
    at = _places(node, size, out)
    low = np.floor(at).astype(int)
    x = np.rint((at - low) * _TABLE) / _TABLE

    def near(d: Array) -> Array:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    weights = np.stack([far(x + 1), near(x), near(1 - x), far(2 - x)], axis=1)
    columns = low[:, None] + np.arange(-1, 3)
    if half:  # pixels outside don't count, and the others make up for them
        weights = np.where((columns >= 0) & (columns < size), weights, 0.0)
        weights = weights / weights.sum(axis=1, keepdims=True)
    table = np.zeros((out, size), np.float64)
    np.add.at(table, (np.arange(out)[:, None], np.clip(columns, 0, size - 1)), weights)
    return table


def _goal(g: TensorBuilder, node: Node, wanted: Tensor) -> tuple[int, int] | None:
    """The size that is asked for, where it is known."""
    if node.flag("align_corners") and node.flag("half_pixel_centers"):
        raise g.error("align_corners and half_pixel_centers at once, which TensorFlow refuses")
    entries = g.size_entries(wanted, "size")
    if entries is None or len(entries) != 2 or not all(isinstance(n, int) for n in entries):
        return None
    height, width = (int(n) for n in entries if isinstance(n, int))
    if min(height, width) < 1:
        raise g.error(f"resizes to {height} x {width}")
    return height, width


def _sizes(g: TensorBuilder, x: ir.Value, wanted: Tensor) -> ir.Value:
    return g.emit("Concat", g.emit("Shape", x, end=2), g.cast(g.plain(wanted), np.int64), axis=0)


def _mode(node: Node) -> str:
    return "align_corners" if node.flag("align_corners") else "half_pixel" if node.flag("half_pixel_centers") else "asymmetric"


def _known(g: TensorBuilder, x: ir.Value) -> tuple[int, int] | None:
    height, width = g.shape(x)[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        return None
    g.is_sized = True
    return height, width


def _open_places(g: TensorBuilder, node: Node, value: ir.Value, wanted: Tensor, axis: int) -> tuple[ir.Value, ir.Value]:
    """Where each pixel of the result lies along an axis whose length is known when the net runs, by `_places`' rule, nearest's without the
    half that is taken off; and the number of the last pixel, (1,).
    """
    one = np.ones(1, np.float32)
    size = g.cast(g.emit("Shape", value, start=axis, end=axis + 1), np.float32)
    count = g.emit("Slice", g.cast(g.plain(wanted), np.int64), [axis - 2], [axis - 1], [0])
    out, last = g.cast(count, np.float32), g.emit("Sub", size, one)
    scale = g.emit("Div", size, out)
    if node.flag("align_corners"):
        others = g.emit("Sub", out, one)
        scale = g.emit("Where", g.emit("Greater", others, 0.0), g.emit("Div", last, g.emit("Max", others, one)), scale)
    start, step = (g.const(np.array(n, np.int64)) for n in (0, 1))
    i = g.cast(g.emit("Range", start, g.emit("Squeeze", count, [0]), step), np.float32)
    at = g.emit("Mul", g.emit("Add", i, 0.5) if node.flag("half_pixel_centers") else i, scale)
    return at, last


def _picked(g: TensorBuilder, value: ir.Value, places: ir.Value, last: ir.Value, axis: int) -> ir.Value:
    """The pixels at whole places along an axis, those outside at the edge."""
    held = g.emit("Max", g.emit("Min", places, last), np.zeros(1, np.float32))
    return g.emit("Gather", value, g.cast(held, np.int64), axis=axis)


def _open_bicubic(g: TensorBuilder, node: Node, value: ir.Value, wanted: Tensor, axis: int) -> ir.Value:
    """`_bicubic` along an axis whose length is known when the net runs: four pixels, each times its weights."""
    half = node.flag("half_pixel_centers")
    a = -0.5 if half else -0.75
    at, last = _open_places(g, node, value, wanted, axis)
    at = g.emit("Sub", at, 0.5) if half else at
    low = g.emit("Floor", at)
    x = g.emit("Div", g.emit("Round", g.emit("Mul", g.emit("Sub", at, low), float(_TABLE))), float(_TABLE))

    def polynomial(d: ir.Value, *factors: float) -> ir.Value:
        total = g.emit("Mul", d, factors[0])
        for factor in factors[1:-1]:
            total = g.emit("Mul", g.emit("Add", total, factor), d) if factor else g.emit("Mul", total, d)
        return g.emit("Add", total, factors[-1])

    near, far = (a + 2, -(a + 3), 0, 1), (a, -5 * a, 8 * a, -4 * a)
    other = g.emit("Sub", np.ones(1, np.float32), x)
    weights = [
        *(polynomial(g.emit("Add", x, 1.0), *far), polynomial(x, *near)),
        *(polynomial(other, *near), polynomial(g.emit("Add", other, 1.0), *far)),
    ]
    columns = [g.emit("Add", low, float(n)) for n in (-1, 0, 1, 2)]
    if half:  # pixels outside don't count, and the others make up for them
        inside = [g.emit("And", g.emit("GreaterOrEqual", column, 0.0), g.emit("LessOrEqual", column, last)) for column in columns]
        weights = [g.emit("Mul", weight, g.cast(there, np.float32)) for weight, there in zip(weights, inside, strict=True)]
        total = g.emit("Sum", *weights)
        weights = [g.emit("Div", weight, total) for weight in weights]
    parts = []
    for weight, column in zip(weights, columns, strict=True):
        spread = g.emit("Unsqueeze", weight, [1]) if axis == 2 else weight
        parts.append(g.emit("Mul", _picked(g, value, column, last, axis), spread))
    return g.emit("Sum", *parts)


@lowers("ResizeNearestNeighbor")
def resize_nearest(g: TensorBuilder, node: Node, x: Tensor, size: Tensor) -> Tensor:
    """The nearest pixel: floor(i * scale), or its neighbours by the two attributes."""
    value, goal = g.ordered(x, IMAGE), _goal(g, node, size)
    known = _known(g, value)
    if goal is None or known is None:
        if _mode(node) != "asymmetric":
            for axis in (2, 3):
                at, last = _open_places(g, node, value, size, axis)
                chosen = g.emit("Floor", g.emit("Add", at, 0.5) if node.flag("align_corners") else at)
                value = _picked(g, value, chosen, last, axis)
            return g.result(value, IMAGE)
        made = g.emit(
            "Resize",
            value,
            None,
            None,
            _sizes(g, value, size),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
        return g.result(made, IMAGE)
    if all(out % n == 0 for out, n in zip(goal, known, strict=True)) and _mode(node) == "asymmetric":
        scales = np.array([1, 1, goal[0] // known[0], goal[1] // known[1]], np.float32)
        made = g.emit("Resize", value, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        return g.result(made, IMAGE)
    for axis, (n, out) in enumerate(zip(known, goal, strict=True), 2):
        g.check_table(out)
        value = g.emit("Gather", value, _nearest(node, n, out), axis=axis)
    return g.result(value, IMAGE)


@lowers("ResizeBilinear")
def resize_bilinear(g: TensorBuilder, node: Node, x: Tensor, size: Tensor) -> Tensor:
    """The four nearest pixels, weighted; never smoothed where the image becomes smaller. The result is float32."""
    value, goal = g.cast(g.ordered(x, IMAGE), np.float32), _goal(g, node, size)
    known = _known(g, value)
    if known is not None and goal == known:
        return g.result(value, IMAGE)
    wanted = _sizes(g, value, size) if goal is None else g.emit("Concat", g.emit("Shape", value, end=2), np.array(goal, np.int64), axis=0)
    shape = [*g.shape(value)[:2], *(goal or (None, None))]
    made = g.emit("Resize", value, None, None, wanted, mode="linear", coordinate_transformation_mode=_mode(node), shape=shape)
    return g.result(made, IMAGE)


@lowers("ResizeBicubic")
def resize_bicubic(g: TensorBuilder, node: Node, x: Tensor, size: Tensor) -> Tensor:
    """Sixteen pixels, weighted by a cubic kernel in steps of 1/1024; as two products with the weights. The result is float32."""
    value, goal = g.cast(g.ordered(x, IMAGE), np.float32), _goal(g, node, size)
    known = _known(g, value)
    if goal is None or known is None:
        for axis in (2, 3):
            value = _open_bicubic(g, node, value, size, axis)
        return g.result(value, IMAGE)
    g.check_table(goal[0], known[0])
    g.check_table(goal[1], known[1])
    rows = g.const(_bicubic(node, known[0], goal[0]).astype(np.float32), role="rows")
    columns = g.const(_bicubic(node, known[1], goal[1]).T.astype(np.float32), role="columns")
    return g.result(g.emit("MatMul", g.emit("MatMul", rows, value), columns), IMAGE)
