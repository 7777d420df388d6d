"""Reductions. Sources: mxnet src/operator/tensor/broadcast_reduce_op*.cc, broadcast_reduce_op.h."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import read_type
from converters.readers.mxnet.signature import lowers

Reduction = Callable[[OperatorBuilder, ir.Value, list[int], int], ir.Value]


def axes_of(g: OperatorBuilder, data: ir.Value, axis: Ints | None, exclude: bool = False) -> list[int]:
    """The axes to reduce: all for None and (), whatever exclude says; all others with exclude."""
    rank = g.rank(data)
    if not axis:
        return list(range(rank))
    chosen = sorted({g.axis(data, a) for a in axis})
    return [a for a in range(rank) if a not in chosen] if exclude else chosen


def reduced(g: OperatorBuilder, function: Reduction, data: ir.Value, axes: list[int], keepdims: bool) -> ir.Value:
    """A reduction whose result has at least one axis: (1,) where all are gone."""
    if not axes:
        return g.identity(data)
    if not keepdims and len(axes) == g.rank(data):
        return g.reshape(function(g, data, axes, 1), [1])
    return function(g, data, axes, int(keepdims))


def plain(op_type: str) -> Reduction:
    def emit(g: OperatorBuilder, data: ir.Value, axes: list[int], keepdims: int) -> ir.Value:
        if op_type in ("ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean"):  # axes are an attribute before opset 18
            return g.emit(op_type, data, axes, keepdims=keepdims)
        return g.emit(op_type, data, axes, keepdims=keepdims)

    return emit


def without_nan(op_type: str, neutral: float) -> Reduction:
    def emit(g: OperatorBuilder, data: ir.Value, axes: list[int], keepdims: int) -> ir.Value:
        held = g.emit("Where", g.emit("IsNaN", data), np.full((), neutral, g.dtype(data)), data)
        return g.emit(op_type, held, axes, keepdims=keepdims)

    return emit


def sum_of_squares(g: OperatorBuilder, data: ir.Value, axes: list[int], keepdims: int) -> ir.Value:
    return g.emit("ReduceSum", g.emit("Mul", data, data), axes, keepdims=keepdims)


SOURCE = "Source: mxnet src/operator/tensor/broadcast_reduce_op.h."

REDUCTIONS: dict[tuple[str, ...], Reduction] = {
    ("sum", "sum_axis"): plain("ReduceSum"),
    ("mean",): plain("ReduceMean"),
    ("max", "max_axis"): plain("ReduceMax"),
    ("min", "min_axis"): plain("ReduceMin"),
    ("prod",): plain("ReduceProd"),
    ("nansum",): without_nan("ReduceSum", 0.0),
    ("nanprod",): without_nan("ReduceProd", 1.0),
    ("_square_sum",): sum_of_squares,
}


def _register(names: tuple[str, ...], function: Reduction) -> None:
    def reduction(
        g: OperatorBuilder, data: ir.Value, *, axis: Ints | None = None, keepdims: bool = False, exclude: bool = False
    ) -> ir.Value:
        return reduced(g, function, data, axes_of(g, data, axis, exclude), keepdims)

    reduction.__doc__ = f"Reduction by {names[0].strip('_').replace('_', ' ')} over some axes or all, or all but some. {SOURCE}"
    lowers(*names)(reduction)


for _names, _function in REDUCTIONS.items():
    _register(_names, _function)


@lowers("norm")
def norm(
    g: OperatorBuilder, data: ir.Value, *, ord: int = 2, axis: Ints | None = None, keepdims: bool = False, out_dtype: str | None = None
) -> ir.Value:
    """L1 or L2 norm over some axes or all. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    if ord not in (1, 2):
        raise g.error(f"attribute ord is {ord}; it must be 1 or 2")

    def length(g: OperatorBuilder, value: ir.Value, axes: list[int], keep: int) -> ir.Value:
        if ord == 1:
            return g.emit("ReduceSum", g.emit("Abs", value), axes, keepdims=keep)
        return g.emit("Sqrt", sum_of_squares(g, value, axes, keep))

    result = reduced(g, length, data, axes_of(g, data, axis), keepdims)
    return g.cast(result, read_type(g, out_dtype)) if out_dtype else result


@lowers("moments")
def moments(g: OperatorBuilder, data: ir.Value, *, axes: Ints | None = None, keepdims: bool = False) -> list[ir.Value]:
    """Mean and variance over some axes or all. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    chosen = axes_of(g, data, axes)
    centered = g.emit("Sub", data, g.emit("ReduceMean", data, chosen, keepdims=1))
    mean = reduced(g, plain("ReduceMean"), data, chosen, keepdims)
    return [mean, reduced(g, plain("ReduceMean"), g.emit("Mul", centered, centered), chosen, keepdims)]


def _extreme(g: OperatorBuilder, op_type: str, data: ir.Value, axis: int | None, keepdims: bool) -> ir.Value:
    x = data
    if g.dtype(x).kind not in "f":
        x = g.cast(x, np.float32)
    if axis is None:
        flat = g.emit(op_type, g.reshape(x, [None]), axis=0, keepdims=1)
        shape = [1] * (g.rank(data) if keepdims else 1)
        return g.cast(flat if len(shape) == 1 else g.reshape(flat, shape), np.float32)
    where = g.axis(data, axis)
    keep = keepdims or g.rank(data) == 1
    return g.cast(g.emit(op_type, x, axis=where, keepdims=int(keep)), np.float32)


def _legacy_axis(g: OperatorBuilder, axis: int | None) -> int | None:
    """Before 0.9.5 an axis of -1 meant none."""
    return None if axis == -1 and g.version < 905 else axis


@lowers("argmax")
def argmax(g: OperatorBuilder, data: ir.Value, *, axis: int | None = None, keepdims: bool = False) -> ir.Value:
    """Index of the first largest element, as float32. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    return _extreme(g, "ArgMax", data, _legacy_axis(g, axis), keepdims)


@lowers("argmin")
def argmin(g: OperatorBuilder, data: ir.Value, *, axis: int | None = None, keepdims: bool = False) -> ir.Value:
    """Index of the first smallest element, as float32. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    return _extreme(g, "ArgMin", data, _legacy_axis(g, axis), keepdims)


@lowers("argmax_channel")
def argmax_channel(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """Index of the first largest element along the last axis, as float32. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    return _extreme(g, "ArgMax", data, g.rank(data) - 1, False)


@lowers("_np_cumsum", "cumsum")
def cumsum(g: OperatorBuilder, a: ir.Value, *, axis: int | None = None, dtype: str | None = None) -> ir.Value:
    """Running sums along an axis, or over all elements in a row. Source: mxnet src/operator/numpy/np_cumsum-inl.h."""
    x = a if axis is not None else g.reshape(a, [None])
    x = g.cast(x, read_type(g, dtype)) if dtype else g.cast(x, np.int64) if g.dtype(x).kind == "b" else x
    where = g.axis(x, axis if axis is not None else 0)
    return g.emit("CumSum", x, np.array(where, np.int64))


@lowers("_contrib_allclose")
def allclose(g: OperatorBuilder, a: ir.Value, b: ir.Value, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = True) -> ir.Value:
    """1 where all elements are as near as rtol |b| + atol, else 0; of shape (). Source: mxnet src/operator/contrib/allclose_op-inl.h."""
    near = g.emit("LessOrEqual", g.emit("Abs", g.emit("Sub", a, b)), g.emit("Add", g.emit("Mul", g.emit("Abs", b), rtol), atol))
    near = g.emit("Or", near, g.emit("Equal", a, b))  # infinities
    if equal_nan:
        near = g.emit("Or", near, g.emit("And", g.emit("IsNaN", a), g.emit("IsNaN", b)))
    return g.cast(g.emit("ReduceMin", g.cast(near, np.int32), list(range(g.rank(a))), keepdims=0), np.uint8)
