# ruff: noqa: N803  the attributes are named as MXNet names them
"""Constants, and arrays made like another one. Source: mxnet src/operator/tensor/init_op.cc."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import read_type
from converters.readers.mxnet.signature import lowers


def filled(g: OperatorBuilder, shape: Ints, value: float, dtype: str) -> ir.Value:
    """A constant of one number; sizes of 0, left open in the file, become 1 and are broadcast where they are used."""
    closed = tuple(size or 1 for size in shape)
    if min(closed, default=1) < 0:
        raise g.error(f"attribute shape is {shape}")
    g.check_table(*closed)
    result = g.const(np.full(closed, value, read_type(g, dtype)))
    result = g.identity(result)
    if 0 in shape:
        g.open_values.add(result)
    return result


@lowers("_zeros", "_zeros_without_dtype", "_npi_zeros")
def zeros(g: OperatorBuilder, *, shape: Ints = (), dtype: str = "float32") -> ir.Value:
    """Zeros; a size of 0 is one that the net's other inputs decide. Source: mxnet src/operator/tensor/init_op.h."""
    return filled(g, shape, 0.0, "float32" if dtype == "-1" else dtype)


@lowers("_ones", "_npi_ones")
def ones(g: OperatorBuilder, *, shape: Ints = (), dtype: str = "float32") -> ir.Value:
    """Ones. Source: mxnet src/operator/tensor/init_op.h."""
    return filled(g, shape, 1.0, dtype)


@lowers("_full", "_npi_full")
def full(g: OperatorBuilder, *, shape: Ints = (), value: float, dtype: str = "float32") -> ir.Value:
    """One number everywhere. Source: mxnet src/operator/tensor/init_op.h."""
    return filled(g, shape, value, dtype)


@lowers("_eye", "_npi_eye")
def eye(g: OperatorBuilder, *, N: int, M: int | None = None, k: int = 0, dtype: str = "float32") -> ir.Value:
    """Ones on a diagonal. Source: mxnet src/operator/tensor/init_op.h."""
    return _diagonal_of_ones(g, N, M or N, k, dtype)


def _diagonal_of_ones(g: OperatorBuilder, rows: int, columns: int, k: int, dtype: str) -> ir.Value:
    if rows < 1 or columns < 1:
        raise g.error(f"a matrix of {rows} x {columns} makes no sense")
    g.check_table(rows, columns)
    return g.identity(g.const(np.eye(rows, columns, k, read_type(g, dtype))))


def progression(g: OperatorBuilder, start: float, step: float, count: int, repeat: int, dtype: np.dtype) -> np.ndarray:
    """start, start + step, ... with every number `repeat` times."""
    if repeat < 1:
        raise g.error(f"attribute repeat is {repeat}; it must be at least 1")
    g.check_table(count, repeat)
    return np.repeat(start + step * np.arange(count), repeat).astype(dtype)


@lowers("_arange", "_npi_arange")
def arange(
    g: OperatorBuilder,
    *,
    start: float,
    stop: float | None = None,
    step: float = 1.0,
    repeat: int = 1,
    infer_range: bool = False,
    dtype: str = "float32",
) -> ir.Value:
    """Numbers from start up to stop, each `repeat` times. Source: mxnet src/operator/tensor/init_op.h."""
    if infer_range and stop is None:
        raise g.error("infer_range leaves the end open; give the attribute stop")
    first, last = (start, stop) if stop is not None else (0.0, start)
    if step == 0:
        raise g.error("attribute step is 0")
    return g.identity(
        g.const(progression(g, first, step, max(0, math.ceil((last - first) / step)), repeat, read_type(g, dtype)), role="numbers")
    )


@lowers("_linspace", "_npi_linspace")
def linspace(
    g: OperatorBuilder,
    *,
    start: float,
    stop: float | None = None,
    num: int = 1,
    endpoint: bool = True,
    step: float = 1.0,
    repeat: int = 1,
    infer_range: bool = False,
    dtype: str = "float32",
) -> ir.Value:
    """Evenly spaced numbers from start to stop, which is the last one or, without endpoint, the first behind them.

    Source: mxnet src/operator/tensor/init_op.h.
    """
    if stop is None or num < 1:
        raise g.error(f"stop {stop} and num {num} make no numbers")
    g.check_table(num)
    return g.identity(g.const(np.linspace(start, stop, num, endpoint=endpoint).astype(read_type(g, dtype)), role="numbers"))


@lowers("_npi_logspace")
def logspace(
    g: OperatorBuilder, *, start: float, stop: float, num: int = 50, endpoint: bool = True, base: float = 10.0, dtype: str = "float32"
) -> ir.Value:
    """Powers of a base whose exponents are evenly spaced. Source: mxnet src/operator/numpy/np_init_op.h."""
    if num < 1:
        raise g.error(f"num {num} makes no numbers")
    g.check_table(num)
    return g.identity(g.const(np.logspace(start, stop, num, endpoint, base).astype(read_type(g, dtype)), role="numbers"))


@lowers("_npi_identity")
def identity(g: OperatorBuilder, *, shape: Ints, dtype: str = "float32") -> ir.Value:
    """Ones on the main diagonal. Source: mxnet src/operator/numpy/np_init_op.cc."""
    if len(shape) != 2:
        raise g.error(f"attribute shape is {shape}")
    return _diagonal_of_ones(g, *shape, 0, dtype)


@lowers("_npi_indices")
def indices(g: OperatorBuilder, *, dimensions: Ints, dtype: str = "int32") -> ir.Value:
    """The index of every element of a shape, along a new first axis. Source: mxnet src/operator/numpy/np_init_op.h."""
    if not dimensions or min(dimensions) < 1:
        raise g.error(f"attribute dimensions is {dimensions}")
    g.check_table(len(dimensions), *dimensions)
    return g.identity(g.const(np.indices(dimensions).astype(read_type(g, dtype)), role="positions"))


def _register_window(name: str, window: Callable[[int], NDArray[np.floating]]) -> None:
    def weights(g: OperatorBuilder, *, M: int | None = None, dtype: str = "float32") -> ir.Value:
        if M is None or M < 1:
            raise g.error(f"attribute M is {M}; it must be at least 1")
        g.check_table(M)
        return g.identity(g.const(window(M).astype(read_type(g, dtype)), role="window"))

    weights.__doc__ = f"The {name.capitalize()} window. Source: mxnet src/operator/numpy/np_window_op.h."
    lowers(f"_npi_{name}")(weights)


for _name, _window in (("hanning", np.hanning), ("hamming", np.hamming), ("blackman", np.blackman)):
    _register_window(_name, _window)


@lowers("_npi_full_like")
def full_like(g: OperatorBuilder, a: ir.Value, *, fill_value: float, dtype: str | None = None) -> ir.Value:
    """One number in the shape of the input. Source: mxnet src/operator/numpy/np_init_op.h."""
    kind = g.dtype(a) if dtype is None else read_type(g, dtype)
    return g.emit("Expand", np.array(fill_value).astype(kind), g.emit("Shape", a), shape=g.shape(a))


@lowers("_contrib_arange_like", "_npx_arange_like")
def arange_like(
    g: OperatorBuilder, data: ir.Value, *, start: float = 0.0, step: float = 1.0, repeat: int = 1, axis: int | None = None
) -> ir.Value:
    """Numbers for every element of an axis, or of the whole array in its shape. Source: mxnet src/operator/tensor/init_op.h."""
    if repeat < 1:
        raise g.error(f"attribute repeat is {repeat}; it must be at least 1")
    where = 0 if axis is None else g.axis(data, axis)
    numbers = g.positions(g.reshape(data, [None]) if axis is None else data, where)
    if repeat > 1:
        numbers = g.emit("Div", numbers, repeat)
    numbers = g.cast(numbers, np.float32)
    numbers = numbers if step == 1.0 else g.emit("Mul", numbers, step)
    numbers = numbers if start == 0.0 else g.emit("Add", numbers, start)
    return numbers if axis is not None else g.reshape(numbers, g.extents(data))


@lowers("zeros_like")
def zeros_like(g: OperatorBuilder, data: ir.Value, *, dtype: str | None = None) -> ir.Value:
    """Zeros in the shape of the input, and in its type whatever dtype says.

    Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc.
    """
    return _filled_like(g, data, 0)


@lowers("ones_like")
def ones_like(g: OperatorBuilder, data: ir.Value, *, dtype: str | None = None) -> ir.Value:
    """Ones in the shape of the input, and in its type whatever dtype says. Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc."""
    return _filled_like(g, data, 1)


def _filled_like(g: OperatorBuilder, data: ir.Value, value: float) -> ir.Value:
    return g.emit("Expand", np.full((), value, g.dtype(data)), g.emit("Shape", data), shape=g.shape(data))
