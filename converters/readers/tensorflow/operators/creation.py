"""Tensors out of nothing. Sources: TensorFlow's core/ops/array_ops.cc, math_ops.cc (Range, LinSpace), core/kernels/dequantize_op.cc."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.tensors import numpy_type
from converters.readers.tensorflow.values import Array


def _filled(g: TensorBuilder, shape: Array, value: Array) -> Array:
    wanted = [int(n) for n in shape.reshape(-1)]
    g.check_table(*wanted)
    return np.full(wanted, value.reshape(())[()], value.dtype)


@lowers("Fill", fold=lambda g, node, shape, value: _filled(g, shape, value))
def fill(g: TensorBuilder, node: Node, shape: Tensor, value: Tensor) -> Tensor:
    """A shape filled with one number."""
    entries = g.size_entries(shape, "dims")
    sizes = g.sizes(entries) if entries is not None else g.cast(g.plain(shape), np.int64)
    if isinstance(sizes, list):
        g.check_table(*sizes)
    return g.result(g.emit("Expand", g.plain(value), sizes))


@lowers("ZerosLike", fold=lambda g, node, x: np.zeros_like(x))
def zeros_like(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Zeros in the shape of x."""
    return _like(g, x, 0)


@lowers("OnesLike", fold=lambda g, node, x: np.ones_like(x))
def ones_like(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Ones in the shape of x."""
    return _like(g, x, 1)


def _like(g: TensorBuilder, x: Tensor, number: int) -> Tensor:
    value, order = g.lying(x)
    return g.result(g.emit("Expand", np.asarray(number, x.dtype), g.emit("Shape", value), shape=g.shape(value)), order)


def _ranged(g: TensorBuilder, start: Array, limit: Array, delta: Array) -> Array:
    first, last, step = (part.reshape(()).item() for part in (start, limit, delta))
    if not step:
        raise g.error("counts in steps of 0")
    g.check_table(int(max(0, np.ceil((float(last) - float(first)) / float(step)))))
    return np.asarray(np.arange(first, last, step), start.dtype)


@lowers("Range", fold=lambda g, node, start, limit, delta: _ranged(g, start, limit, delta))
def range_(g: TensorBuilder, node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """start, start + delta, ... below limit."""
    return g.result(g.emit("Range", *(g.emit("Reshape", g.plain(x), np.empty(0, np.int64)) for x in (start, limit, delta))))


def _spaced(g: TensorBuilder, start: Array, stop: Array, count: Array) -> Array:
    g.check_table(int(count.reshape(())))
    return np.linspace(start.reshape(())[()], stop.reshape(())[()], int(count.reshape(())), dtype=start.dtype)


@lowers("LinSpace", fold=lambda g, node, start, stop, count: _spaced(g, start, stop, count))
def linspace(g: TensorBuilder, node: Node, start: Tensor, stop: Tensor, count: Tensor) -> Tensor:
    """Numbers in equal steps from start to stop."""
    raise g.error("its bounds are computed when the net runs; they have to be constants here")


def _dequantized(g: TensorBuilder, node: Node, x: Array, low: Array, high: Array) -> Array:
    """Sources: TensorFlow's core/kernels/dequantize_op.cc, quantization_utils.h."""
    number = node.type_number("T", 12)
    kind = numpy_type(number, "its input")
    info: Any = np.iinfo(kind)
    bottom, top = np.float32(low.reshape(-1)[0]), np.float32(high.reshape(-1)[0])
    mode = node.text("mode", "MIN_COMBINED")
    values = x.astype(np.float32)
    if mode == "MIN_COMBINED":
        half = np.float32(0) if info.min == 0 else np.float32((int(info.max) - int(info.min) + 1) / 2)
        return np.asarray((values + half) * ((top - bottom) / np.float32(int(info.max) - int(info.min))) + bottom)
    if mode == "MIN_FIRST":
        steps = float(int(info.max) - int(info.min))
        if bottom == top:
            return np.full(x.shape, bottom, np.float32)
        scale = (float(top) - float(bottom)) / steps
        offset = np.round(float(bottom) / scale) * scale  # the bottom is moved to a whole step
        return np.asarray((x.astype(np.float64) - int(info.min)) * scale + offset, np.float32)
    if mode == "SCALED":
        least = int(info.min) + int(node.flag("narrow_range"))
        scale = float(top) / info.max
        if info.min:
            scale = max(scale, float(bottom) / least)
        return np.asarray(values * np.float32(scale))
    raise g.error(f"its mode is {mode}, which isn't known here")


@lowers("Dequantize", fold=_dequantized)
def dequantize(g: TensorBuilder, node: Node, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Stored integers as the numbers between two bounds that they stand for."""
    raise g.error("quantized numbers that are computed when the net runs; only constants are read")


@lowers("BroadcastArgs", fold=lambda g, node, a, b: np.array(np.broadcast_shapes(tuple(a), tuple(b)), a.dtype))
def broadcast_args(g: TensorBuilder, node: Node, a: Tensor, b: Tensor) -> Tensor:
    """The shape that tensors of two shapes have together."""
    raise g.error("joins shapes that are known only when the net runs; they have to be constants here")


@lowers("Bitcast", fold=lambda g, node, x: x.view(numpy_type(node.type_number("type"), "its output")))
def bitcast(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """The bits as another type."""
    raise g.error("takes the bits of numbers that are computed when the net runs; only constants can be")
