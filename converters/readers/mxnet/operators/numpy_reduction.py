"""Reductions of numpy mode: all axes give shape (), types follow numpy. Sources: mxnet src/operator/numpy/np_broadcast_reduce_op_value.cc,
np_broadcast_reduce_op_index.cc, np_broadcast_reduce_op_boolean.cc, np_percentile_op.cc, np_diff.cc."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import read_type, truth
from converters.readers.mxnet.operators.numpy_arithmetic import as_floats
from converters.readers.mxnet.operators.sorting import ranked
from converters.readers.mxnet.signature import lowers

SOURCE = "Source: mxnet src/operator/numpy/np_broadcast_reduce_op_value.cc."


def axes_of(g: OperatorBuilder, data: ir.Value, axis: Ints | None) -> list[int]:
    """The axes to reduce: all for None."""
    return list(range(g.rank(data))) if axis is None else sorted({g.axis(data, a) for a in axis})


def reduced(g: OperatorBuilder, op_type: str, data: ir.Value, axes: list[int], keepdims: bool) -> ir.Value:
    """A reduction over some axes; over none it is the data themselves."""
    return g.emit(op_type, data, axes, keepdims=int(keepdims)) if axes else g.identity(data)


def _first_type(g: OperatorBuilder, data: ir.Value, dtype: str | None) -> ir.Value:
    """The data in the type of the sum: that which is asked for; int64 for bool."""
    if dtype is not None:
        return g.cast(data, read_type(g, dtype))
    return g.cast(data, np.int64) if g.dtype(data).kind == "b" else data


def _register(names: tuple[str, ...], op_type: str, join: str, typed: bool) -> None:
    spoken = names[0].removeprefix("_np_")

    def plain(
        g: OperatorBuilder, a: ir.Value, *, axis: Ints | None = None, keepdims: bool = False, initial: float | None = None
    ) -> ir.Value:
        result = reduced(g, op_type, a, axes_of(g, a, axis), keepdims)
        return result if initial is None else g.emit(join, result, np.array(initial, g.dtype(result)))

    def with_type(
        g: OperatorBuilder,
        a: ir.Value,
        *,
        axis: Ints | None = None,
        dtype: str | None = None,
        keepdims: bool = False,
        initial: float | None = None,
    ) -> ir.Value:
        return plain(g, _first_type(g, a, dtype), axis=axis, keepdims=keepdims, initial=initial)

    function: Callable[..., ir.Value] = with_type if typed else plain
    function.__doc__ = f"Reduction by {spoken} over some axes or all. {SOURCE}"
    lowers(*names)(function)


_register(("_np_sum",), "ReduceSum", "Add", typed=True)
_register(("_np_prod", "_np_product"), "ReduceProd", "Mul", typed=True)
_register(("_np_max", "_np_amax"), "ReduceMax", "Max", typed=False)
_register(("_np_min", "_np_amin"), "ReduceMin", "Min", typed=False)


@lowers("_npi_mean", ignores="initial")
def mean(g: OperatorBuilder, a: ir.Value, *, axis: Ints | None = None, dtype: str | None = None, keepdims: bool = False) -> ir.Value:
    """Means over some axes or all; of integers as float32. Source: mxnet src/operator/numpy/np_broadcast_reduce_op_value.cc."""
    x = g.cast(a, read_type(g, dtype)) if dtype else as_floats(g, a)
    return reduced(g, "ReduceMean", x, axes_of(g, a, axis), keepdims)


def _variance(g: OperatorBuilder, a: ir.Value, axis: Ints | None, dtype: str | None, ddof: int, keepdims: bool) -> ir.Value:
    wide = np.dtype(np.float64) if g.dtype(a).kind != "f" else g.dtype(a)
    x = g.cast(a, read_type(g, dtype) if dtype else wide)
    axes = axes_of(g, a, axis)
    if not axes:
        raise g.error("a variance over no axes makes no sense")
    mean = g.emit("ReduceMean", x, axes, keepdims=1)
    if dtype is None and g.dtype(a).kind != "f":  # MXNet's mean of integers is one
        mean = g.cast(g.cast(mean, np.int64), wide)
    centered = g.emit("Sub", x, mean)
    squares = g.emit("Mul", centered, centered)
    if ddof == 0:
        return g.emit("ReduceMean", squares, axes, keepdims=int(keepdims))
    count = g.emit("Sub", g.emit("ReduceProd", g.sizes([Extent(a, axis) for axis in axes]), keepdims=0), ddof)
    return g.emit("Div", g.emit("ReduceSum", squares, axes, keepdims=int(keepdims)), g.cast(count, g.dtype(x)))


def _as_given(g: OperatorBuilder, a: ir.Value, dtype: str | None, result: ir.Value) -> ir.Value:
    """Of integers an integer, what is behind the point cut off, unless another type is asked for."""
    return result if dtype or g.dtype(a).kind == "f" else g.cast(result, g.dtype(a))


@lowers("_npi_var")
def var(
    g: OperatorBuilder, a: ir.Value, *, axis: Ints | None = None, dtype: str | None = None, ddof: int = 0, keepdims: bool = False
) -> ir.Value:
    """Variances, divided by the count less ddof; of integers whole. Source: mxnet src/operator/numpy/np_broadcast_reduce_op_value.cc."""
    return _as_given(g, a, dtype, _variance(g, a, axis, dtype, ddof, keepdims))


@lowers("_npi_std")
def std(
    g: OperatorBuilder, a: ir.Value, *, axis: Ints | None = None, dtype: str | None = None, ddof: int = 0, keepdims: bool = False
) -> ir.Value:
    """Standard deviations; of integers an integer. Source: mxnet src/operator/numpy/np_broadcast_reduce_op_value.cc."""
    return _as_given(g, a, dtype, g.emit("Sqrt", _variance(g, a, axis, dtype, ddof, keepdims)))


@lowers("_npi_average")
def average(
    g: OperatorBuilder,
    a: ir.Value,
    weights: ir.Value | None = None,
    *,
    axis: Ints | None = None,
    returned: bool = False,
    weighted: bool = True,
) -> ir.Value | list[ir.Value]:
    """Weighted means, and with `returned` the sums of the weights. Source: mxnet src/operator/numpy/np_broadcast_reduce_op_value.cc."""
    axes, x = axes_of(g, a, axis), as_floats(g, a)
    whole = not weighted or weights is None
    if weights is None or not weighted:
        weights = g.emit("Expand", np.ones((), g.dtype(x)), g.emit("Shape", x), shape=g.shape(x))
    w = g.cast(weights, g.dtype(x))
    alone = w if g.rank(w) == 1 and g.rank(x) > 1 else None
    if alone is not None:
        if len(axes) != 1:
            raise g.error(f"weights of one axis beside data of shape {g.shape(a)} need one axis")
        w = g.emit("Expand", g.along(w, axes[0], g.rank(x)), g.emit("Shape", x), shape=g.shape(x))
    total = reduced(g, "ReduceSum", w, axes, False)
    result = g.emit("Div", reduced(g, "ReduceSum", g.emit("Mul", x, w), axes, False), total)
    if returned and whole:  # how many numbers each mean is of, one number for all
        total = g.cast(g.emit("ReduceProd", g.sizes([Extent(a, axis) for axis in axes]), keepdims=0), g.dtype(x))
    if returned and alone is not None:
        total = g.emit("ReduceSum", alone, [0], keepdims=0)
    answers = [g.cast(value, g.dtype(a)) if g.dtype(a).kind in "iu" else value for value in (result, total)]  # cut to integers
    return answers if returned else answers[0]


def _register_truth(names: tuple[str, ...], op_type: str, spoken: str) -> None:
    def found(g: OperatorBuilder, data: ir.Value, *, axis: Ints | None = None, keepdims: bool = False) -> ir.Value:
        axes = axes_of(g, data, axis)
        if not axes:
            return g.identity(truth(g, data))
        return g.cast(g.emit(op_type, g.cast(truth(g, data), np.int32), axes, keepdims=int(keepdims)), np.bool_)

    found.__doc__ = f"Whether {spoken} over some axes or all isn't 0. Source: mxnet src/operator/numpy/np_broadcast_reduce_op_boolean.cc."
    lowers(*names)(found)


_register_truth(("_np_all",), "ReduceMin", "every element")
_register_truth(("_np_any", "_np_sometrue"), "ReduceMax", "some element")


def _register_index(name: str, op_type: str) -> None:
    def index(g: OperatorBuilder, data: ir.Value, *, axis: int | None = None, keepdims: bool = False) -> ir.Value:
        x = g.cast(data, np.int32) if g.dtype(data).kind == "b" else data
        if axis is not None:
            return g.emit(op_type, x, axis=g.axis(data, axis), keepdims=int(keepdims))
        flat = g.emit(op_type, g.reshape(x, [None]), axis=0, keepdims=0)
        return g.reshape(flat, [1] * g.rank(data)) if keepdims else flat

    index.__doc__ = f"Index of the first {name[-3:]}imum, as int64. Source: mxnet src/operator/numpy/np_broadcast_reduce_op_index.cc."
    lowers(name)(index)


_register_index("_npi_argmax", "ArgMax")
_register_index("_npi_argmin", "ArgMin")


@lowers("_npi_norm")
def norm(
    g: OperatorBuilder, data: ir.Value, *, axis: Ints | None = None, keepdims: bool = False, ord: float = 2.0, flag: int = -2
) -> ir.Value:
    """Norms over all axes, one or two: Frobenius', those of vectors of any order, and the largest or smallest sum of rows or columns.

    flag: what MXNet's front end made of the order: -2 over all, 1 Frobenius', -1 by its number.

    Source: mxnet src/operator/numpy/linalg/np_norm-inl.h.
    """
    axes = axes_of(g, data, axis)
    if flag in (-2, 1) or (flag == -1 and len(axes) == 1 and ord == 2):
        return g.emit("Sqrt", g.emit("ReduceSum", g.emit("Mul", data, data), axes, keepdims=int(keepdims)))
    magnitude = g.emit("Abs", data)
    if flag == -1 and len(axes) == 1 and math.isfinite(ord):
        if ord == 0:
            some = g.cast(g.emit("Not", g.emit("Equal", data, 0)), g.dtype(data))
            return g.emit("ReduceSum", some, axes, keepdims=int(keepdims))
        if ord == 1:
            return g.emit("ReduceSum", magnitude, axes, keepdims=int(keepdims))
        total = g.emit("ReduceSum", g.emit("Pow", magnitude, ord), axes, keepdims=int(keepdims))
        return g.emit("Pow", total, 1 / ord)
    if flag == -1 and axis is not None and len(axes) == 2 and abs(ord) in (1, math.inf):
        row, column = (g.axis(data, a) for a in axis)
        along, over = (row, column) if abs(ord) == 1 else (column, row)
        total = g.emit("ReduceSum", magnitude, [along], keepdims=1)
        found = g.emit("ReduceMax" if ord > 0 else "ReduceMin", total, [over], keepdims=1)
        return found if keepdims else g.emit("Squeeze", found, axes)
    raise g.error(f"a norm of order {ord:g} over {len(axes)} axes (flag {flag}) isn't known; it takes singular values, or isn't MXNet's")


@lowers("_npi_percentile")
def percentile(
    g: OperatorBuilder,
    a: ir.Value,
    q: ir.Value | None = None,
    *,
    axis: Ints | None = None,
    interpolation: Literal["linear", "lower", "higher", "midpoint", "nearest"] = "linear",
    keepdims: bool = False,
    q_scalar: float | None = None,
) -> ir.Value:
    """Percentiles over some axes or all, as float32; several of them along a new first axis.

    Source: mxnet src/operator/numpy/np_percentile_op-inl.h.
    """
    axes, x = axes_of(g, a, axis), as_floats(g, a)
    rest = [i for i in range(g.rank(a)) if i not in axes]
    rows = g.emit("Transpose", x, perm=[*rest, *axes]) if [*rest, *axes] != list(range(g.rank(a))) else x
    rows = g.reshape(rows, [*g.extents(rows, 0, len(rest)), None]) if len(axes) > 1 or not axes else rows
    in_order = ranked(g, rows, None, len(rest), True)[0]
    wanted = q if q is not None else g.const(np.array(q_scalar if q_scalar is not None else 50.0, np.float32))
    last = g.cast(g.emit("Sub", g.length(rows, len(rest)), 1), np.float32)
    place = g.emit("Mul", g.emit("Div", g.cast(wanted, np.float32), 100.0), last)
    low, high = (g.emit("Gather", in_order, g.cast(g.emit(op, place), np.int64), axis=len(rest)) for op in ("Floor", "Ceil"))
    share: ir.Value | float = g.emit("Sub", place, g.emit("Floor", place))
    if interpolation == "nearest":
        share = g.emit("Sub", g.emit("Round", place), g.emit("Floor", place))
    elif interpolation != "linear":
        share = {"lower": 0.0, "higher": 1.0, "midpoint": 0.5}[interpolation]
    result = g.emit("Add", low, g.emit("Mul", g.emit("Sub", high, low), share))
    several = g.rank(wanted) == 1
    if several and rest:
        result = g.emit("Transpose", result, perm=[len(rest), *range(len(rest))])
    return g.emit("Unsqueeze", result, [i + several for i in axes]) if keepdims else result


def _differences(g: OperatorBuilder, x: ir.Value, axis: int) -> ir.Value:
    later = g.emit("Slice", x, [1], [2**63 - 1], [axis])
    return g.emit("Sub", later, g.emit("Slice", x, [0], [-1], [axis]))


@lowers("_npi_diff")
def diff(g: OperatorBuilder, a: ir.Value, *, n: int = 1, axis: int = -1) -> ir.Value:
    """Differences of neighbors along an axis, n times. Source: mxnet src/operator/numpy/np_diff-inl.h."""
    result, where = a, g.axis(a, axis)
    for _ in range(n):
        result = _differences(g, result, where)
    return g.identity(a) if n < 1 else result


@lowers("_npi_ediff1d", ignores="to_begin_arr_given to_end_arr_given")
def ediff1d(g: OperatorBuilder, *inputs: ir.Value, to_begin_scalar: float | None = None, to_end_scalar: float | None = None) -> ir.Value:
    """Differences of neighbors in the flat array, between numbers or arrays that are put before and behind.

    Source: mxnet src/operator/numpy/np_ediff1d_op-inl.h.
    """
    if len(inputs) == 2:
        raise g.error("which end its second input is put at isn't converted; give numbers, or both")
    flat = g.reshape(inputs[0], [None])
    middle = _differences(g, flat, 0)
    kind = g.dtype(flat)
    parts = [g.const(np.array([to_begin_scalar], kind))] if to_begin_scalar is not None else []
    parts += [g.reshape(inputs[1], [None])] if len(inputs) == 3 else []
    parts += [middle]
    parts += [g.const(np.array([to_end_scalar], kind))] if to_end_scalar is not None else []
    parts += [g.reshape(inputs[2], [None])] if len(inputs) == 3 else []
    return g.emit("Concat", *(g.cast(part, kind) for part in parts), axis=0) if len(parts) > 1 else middle
