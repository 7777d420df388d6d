# ruff: noqa: N803  the inputs are named as MXNet names them
"""Factors, inverses and solutions of small matrices, column by column: ONNX has no operators for them.

Sources: mxnet src/operator/tensor/la_op.cc, numpy/linalg/np_potrf.cc, np_solve.cc.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.linear import swapped
from converters.readers.mxnet.signature import lowers

LARGEST = 64
"""Rows of the largest matrix that is written out column by column."""


def _side(g: OperatorBuilder, A: ir.Value) -> int:
    """Rows of square matrices. Raises ConversionError for others and for large ones."""
    rows, columns = g.fixed(A, -2)
    if rows != columns:
        raise g.error(f"square matrices are needed, but the input has shape {g.shape(A)}")
    if rows > LARGEST:
        raise g.error(f"matrices of {rows} x {rows}; they are written out column by column, up to {LARGEST} x {LARGEST}")
    return rows


def _part(g: OperatorBuilder, x: ir.Value, axis: int, start: int, count: int = 1) -> ir.Value:
    return g.emit("Slice", x, [start], [start + count], [g.rank(x) + axis])


def _unit(size: int, at: int, column: bool) -> np.ndarray:
    row = np.zeros(size)
    row[at] = 1
    return row[:, None] if column else row[None, :]


def cholesky(g: OperatorBuilder, A: ir.Value) -> ir.Value:
    """The lower factor L of L L^T, zeros above."""
    size, x = _side(g, A), g.cast(g.pin(A, g.rank(A) - 2), np.float64)
    columns = []
    rest = x
    for k in range(size):
        column = _part(g, rest, -1, k)
        below = g.const((np.arange(size) >= k).astype(np.float64)[:, None])
        column = g.emit("Div", g.emit("Mul", column, below), g.emit("Sqrt", _part(g, column, -2, k)))
        columns.append(column)
        if k + 1 < size:
            rest = g.emit("Sub", rest, g.emit("MatMul", column, swapped(g, column)))
    joined = g.emit("Concat", *columns, axis=g.rank(x) - 1) if size > 1 else columns[0]
    return g.cast(joined, g.dtype(A))


def eliminated(g: OperatorBuilder, A: ir.Value, B: ir.Value) -> ir.Value:
    """X of A X = B, by Gauss and Jordan with the largest pivots."""
    size = _side(g, A)
    square = g.pin(A, g.rank(A) - 2)
    whole = g.emit("Concat", g.cast(square, np.float64), g.cast(B, np.float64), axis=g.rank(A) - 1)
    rank = g.rank(whole)
    for k in range(size):
        column = _part(g, whole, -1, k)
        candidates = g.emit("Where", g.const((np.arange(size) >= k)[:, None]), g.emit("Abs", column), np.array(-1.0))
        best = g.emit("ArgMax", candidates, axis=rank - 2, keepdims=1)
        steps = g.const(np.arange(size, dtype=np.int64)[:, None])
        pivot = g.cast(g.emit("Equal", steps, best), np.float64)
        row = g.emit("ReduceSum", g.emit("Mul", whole, pivot), [rank - 2], keepdims=1)
        unit = g.const(_unit(size, k, column=True))
        # rows k and pivot change places: nothing happens where they are one
        change = g.emit("Mul", g.emit("Sub", unit, pivot), g.emit("Sub", row, _part(g, whole, -2, k)))
        whole = g.emit("Add", whole, change)
        row = g.emit("Div", row, _part(g, row, -1, k))
        whole = g.emit("Sub", whole, g.emit("Mul", g.emit("Sub", _part(g, whole, -1, k), unit), row))
    width = g.shape(B)[-1]
    result = g.emit("Slice", whole, [size], [2**63 - 1], [rank - 1], shape=[*g.shape(whole)[:-1], width])
    return g.cast(result, g.dtype(A))


def _identity_like(g: OperatorBuilder, A: ir.Value) -> ir.Value:
    """Unit matrices beside A."""
    unit = np.eye(_side(g, A)).astype(g.dtype(A))
    return g.emit("Expand", unit, g.emit("Shape", A), shape=g.shape(A))


@lowers("_linalg_potrf", "linalg_potrf", "_npi_cholesky")
def potrf(g: OperatorBuilder, A: ir.Value, *, lower: bool = True) -> ir.Value:
    """The lower or upper factor of Cholesky, with zeros beside it, up to 64 x 64. Source: mxnet src/operator/tensor/la_op.h."""
    return swapped(g, cholesky(g, A), not lower)


@lowers("_linalg_potri", "linalg_potri")
def potri(g: OperatorBuilder, A: ir.Value, *, lower: bool = True) -> ir.Value:
    """The inverse of L L^T, given the factor L, or its transpose. Source: mxnet src/operator/tensor/la_op.h."""
    factor = swapped(g, g.emit("Trilu", A, upper=int(not lower)), not lower)
    product = g.emit("MatMul", factor, swapped(g, factor))
    return eliminated(g, product, _identity_like(g, A))


@lowers("_linalg_inverse", "linalg_inverse", "_npi_inv")
def inverse(g: OperatorBuilder, A: ir.Value) -> ir.Value:
    """Inverses of square matrices, up to 64 x 64. Source: mxnet src/operator/tensor/la_op.h."""
    return eliminated(g, A, _identity_like(g, A))


@lowers("_npi_solve")
def solve(g: OperatorBuilder, A: ir.Value, B: ir.Value) -> ir.Value:
    """X of A X = B; B may be vectors. Source: mxnet src/operator/numpy/linalg/np_solve-inl.h."""
    if g.rank(B) == g.rank(A) - 1:
        return g.emit("Squeeze", eliminated(g, A, g.emit("Unsqueeze", B, [g.rank(B)])), [g.rank(B)])
    return eliminated(g, A, B)


@lowers("_linalg_trsm", "linalg_trsm")
def trsm(
    g: OperatorBuilder,
    A: ir.Value,
    B: ir.Value,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> ir.Value:
    """X of op(A) X = alpha B, or of X op(A) = alpha B with rightside, A triangular. Source: mxnet src/operator/tensor/la_op.h."""
    triangle = swapped(g, g.emit("Trilu", A, upper=int(not lower)), transpose != rightside)
    right = swapped(g, B, rightside)
    scaled = right if alpha == 1.0 else g.emit("Mul", right, alpha)
    return swapped(g, eliminated(g, triangle, scaled), rightside)


@lowers("_linalg_gelqf", "linalg_gelqf")
def gelqf(g: OperatorBuilder, A: ir.Value) -> list[ir.Value]:
    """Refused: Q and L of A = L Q have signs that differ from one LAPACK to the next. Source: mxnet src/operator/tensor/la_op.h."""
    raise g.error("the signs of its factors are free, and differ from one library to the next; cut the net before it")
