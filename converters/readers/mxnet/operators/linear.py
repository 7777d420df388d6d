# ruff: noqa: N803  the inputs are named as MXNet names them
"""Fully connected layers and matrix products. Sources: mxnet src/operator/nn/fully_connected.cc, tensor/dot-inl.h, tensor/la_op.cc,
contrib/transformer.cc, contrib/krprod.cc."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.axes import SEQUENCE, Axes, first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Parameter
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import Size, as_dim, times
from converters.readers.mxnet.symbol import Node


def _kept_unless_flat(node: Node, axes: Axes) -> dict[int, Axes]:
    return {0: axes} if node.attributes.get("flatten", "True") in ("False", "0", "false") else {}


@lowers("FullyConnected", "_npx_fully_connected", axes=_kept_unless_flat)
def fully_connected(
    g: OperatorBuilder,
    data: ir.Value,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    num_hidden: int,
    no_bias: bool = False,
    flatten: bool = True,
) -> ir.Value:
    """x W^T + b with W (out, in); the input is flattened to (N, rest), or its last axis is used.

    Source: mxnet src/operator/nn/fully_connected-inl.h.
    """
    kind = g.dtype(data)
    x = data
    if flatten and g.rank(data) != 2:
        x = g.emit("Unsqueeze", data, [1]) if g.rank(data) == 1 else g.reshape(data, [g.shape(data)[0], None])
    if g.rank(x) < 2:
        raise g.error(f"an input of at least two axes is needed, but it has shape {g.shape(data)}")
    width = g.shape(x)[-1]
    w = weight.use((num_hidden, width), kind)
    if not no_bias and bias is None:
        raise g.error("the input 'bias' is missing, and no_bias isn't set")
    b = bias.use((num_hidden,), kind) if bias is not None and not no_bias else None
    if g.rank(x) == 2:
        return g.emit("Gemm", x, w, *([b] if b is not None else []), transB=1)
    result = g.emit("MatMul", x, g.emit("Transpose", w, perm=[1, 0]))
    return result if b is None else g.emit("Add", result, b)


@lowers("dot", ignores="forward_stype")
def dot(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, *, transpose_a: bool = False, transpose_b: bool = False) -> ir.Value:
    """Contraction of the first input's last axis (first, when transposed) with the second's first (last, when transposed).

    Source: mxnet src/operator/tensor/dot-inl.h.
    """
    a = g.size_list(lhs)
    b = g.size_list(rhs)
    result: ir.Value
    if len(a) == 1 and len(b) == 1:
        if a != b:
            raise _unfit(g, lhs, rhs, a[0], b[0])
        return g.emit("ReduceSum", g.emit("Mul", lhs, rhs), [0], keepdims=1)
    inner_a, outer_a = (a[0], a[1:]) if transpose_a else (a[-1], a[:-1])
    inner_b, outer_b = (b[-1], b[:-1]) if transpose_b else (b[0], b[1:])
    if inner_a != inner_b:
        raise _unfit(g, lhs, rhs, inner_a, inner_b)
    x, y = lhs, rhs
    if len(a) > 2 and len(b) == 2 and not transpose_a:  # a product of its own refuses another length of what it sums over
        return g.emit("MatMul", x, swapped(g, y, transpose_b))
    if len(a) > 2 and not inner_a[1]:
        x = g.pin(x, 0, 1) if transpose_a else g.pin(x, len(a) - 1)
    if len(b) > 2 and not inner_b[1]:
        y = g.pin(y, len(b) - 1) if transpose_b else g.pin(y, 0, 1)
    if len(a) != 2:
        x = g.reshape_to(x, [inner_a, times(outer_a)] if transpose_a else [times(outer_a), inner_a])
    if len(b) != 2:
        y = g.reshape_to(y, [times(outer_b), inner_b] if transpose_b else [inner_b, times(outer_b)])
    x = g.emit("Transpose", x, perm=[1, 0]) if transpose_a else x
    y = g.emit("Transpose", y, perm=[1, 0]) if transpose_b else y
    result = g.emit("MatMul", x, y)
    shape: list[Size] = [*outer_a, *outer_b]
    return result if len(a) == 2 and len(b) == 2 else g.reshape_to(result, shape)


def _unfit(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, a: Size, b: Size) -> Exception:
    """What to raise for axes that aren't known to be equal: the batch gets fixed where that may help."""
    if a[1] or b[1]:
        return g.needs_number(f"needs {as_dim(a)} to be {as_dim(b)}", a[1] + b[1])
    return g.error(f"the inputs have shapes {g.shape(lhs)} and {g.shape(rhs)}, whose contracted axes differ")


def swapped(g: OperatorBuilder, value: ir.Value, when: bool = True) -> ir.Value:
    """The last two axes exchanged."""
    if not when:
        return value
    rank = g.rank(value)
    if rank < 2:
        raise g.error(f"a matrix is needed, but the input has shape {g.shape(value)}")
    return g.emit("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


@lowers("batch_dot", "_npx_batch_dot", ignores="forward_stype")
def batch_dot(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, *, transpose_a: bool = False, transpose_b: bool = False) -> ir.Value:
    """A matrix product per sample. Source: mxnet src/operator/tensor/dot-inl.h."""
    return g.emit("MatMul", swapped(g, lhs, transpose_a), swapped(g, rhs, transpose_b))


@lowers("_linalg_gemm2", "linalg_gemm2")
def gemm2(
    g: OperatorBuilder,
    A: ir.Value,
    B: ir.Value,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    axis: int = -2,
) -> ir.Value:
    """alpha A B, over the last two axes or over `axis` and the last. Source: mxnet src/operator/tensor/la_op.h."""
    return _product(g, A, B, transpose_a, transpose_b, alpha, axis)


@lowers("_linalg_gemm", "linalg_gemm")
def gemm(
    g: OperatorBuilder,
    A: ir.Value,
    B: ir.Value,
    C: ir.Value,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    alpha: float = 1.0,
    beta: float = 1.0,
    axis: int = -2,
) -> ir.Value:
    """alpha A B + beta C. Source: mxnet src/operator/tensor/la_op.h."""
    return g.emit("Add", _product(g, A, B, transpose_a, transpose_b, alpha, axis), _scaled(g, C, beta))


def _product(g: OperatorBuilder, a: ir.Value, b: ir.Value, transpose_a: bool, transpose_b: bool, alpha: float, axis: int) -> ir.Value:
    a, b = _rows_last_but_one(g, a, axis), _rows_last_but_one(g, b, axis)
    product = g.emit("MatMul", swapped(g, a, transpose_a), swapped(g, b, transpose_b))
    return _rows_back(g, _scaled(g, product, alpha), axis)


def _scaled(g: OperatorBuilder, value: ir.Value, factor: float) -> ir.Value:
    return value if factor == 1.0 else g.emit("Mul", value, factor)


def _rows_last_but_one(g: OperatorBuilder, value: ir.Value, axis: int) -> ir.Value:
    rank = g.rank(value)
    where = g.axis(value, axis)
    if where == rank - 2:
        return value
    order = [i for i in range(rank - 1) if i != where] + [where, rank - 1]
    return g.emit("Transpose", value, perm=order)


def _rows_back(g: OperatorBuilder, value: ir.Value, axis: int) -> ir.Value:
    rank = g.rank(value)
    where = g.axis(value, axis)
    if where == rank - 2:
        return value
    order = [i for i in range(rank - 1) if i != where] + [where, rank - 1]
    return g.emit("Transpose", value, perm=[order.index(i) for i in range(rank)])


@lowers("_linalg_syrk", "linalg_syrk")
def syrk(g: OperatorBuilder, A: ir.Value, *, transpose: bool = False, alpha: float = 1.0) -> ir.Value:
    """alpha A A^T, or alpha A^T A. Source: mxnet src/operator/tensor/la_op.h."""
    other = swapped(g, A)
    return _scaled(g, g.emit("MatMul", other, A) if transpose else g.emit("MatMul", A, other), alpha)


@lowers("_linalg_trmm", "linalg_trmm")
def trmm(
    g: OperatorBuilder,
    A: ir.Value,
    B: ir.Value,
    *,
    transpose: bool = False,
    rightside: bool = False,
    lower: bool = True,
    alpha: float = 1.0,
) -> ir.Value:
    """alpha A B with the triangle of A alone; A on the right with rightside. Source: mxnet src/operator/tensor/la_op.h."""
    triangle = swapped(g, g.emit("Trilu", A, upper=int(not lower)), transpose)
    return _scaled(g, g.emit("MatMul", B, triangle) if rightside else g.emit("MatMul", triangle, B), alpha)


@lowers("_linalg_det", "linalg_det", "_npi_det")
def det(g: OperatorBuilder, A: ir.Value) -> ir.Value:
    """Determinants. Source: mxnet src/operator/tensor/la_op.h."""
    return _determinants(g, A)


def _determinants(g: OperatorBuilder, matrices: ir.Value) -> ir.Value:
    return g.emit("Det", g.emit("Unsqueeze", matrices, [0]) if g.rank(matrices) == 2 else matrices)


@lowers("_linalg_slogdet", "linalg_slogdet", "_npi_slogdet")
def slogdet(g: OperatorBuilder, A: ir.Value) -> list[ir.Value]:
    """Signs of determinants, and the logarithms of their magnitudes. Source: mxnet src/operator/tensor/la_op.h."""
    value = _determinants(g, A)
    return [g.emit("Sign", value), g.emit("Log", g.emit("Abs", value))]


@lowers("_linalg_sumlogdiag", "linalg_sumlogdiag")
def sumlogdiag(g: OperatorBuilder, A: ir.Value) -> ir.Value:
    """Sums of the logarithms of the diagonals. Source: mxnet src/operator/tensor/la_op.h."""
    logarithms = g.emit("Log", _diagonals(g, A, 0))
    if g.rank(A) == 2:
        return g.emit("ReduceSum", logarithms, [0], keepdims=1)
    return g.emit("ReduceSum", logarithms, [g.rank(A) - 2], keepdims=0)


@lowers("_linalg_extractdiag", "linalg_extractdiag")
def extract_diagonal(g: OperatorBuilder, A: ir.Value, *, offset: int = 0) -> ir.Value:
    """The diagonals of square matrices. Source: mxnet src/operator/tensor/la_op.h."""
    return _diagonals(g, A, offset)


def _diagonals(g: OperatorBuilder, matrices: ir.Value, offset: int) -> ir.Value:
    size = g.fixed(matrices, -2)[0]
    g.check_table(size, size)
    return _pick_entries(g, matrices, np.arange(size * size).reshape(size, size).diagonal(offset))


@lowers("_linalg_extracttrian", "linalg_extracttrian")
def extract_triangle(g: OperatorBuilder, A: ir.Value, *, offset: int = 0, lower: bool = True) -> ir.Value:
    """The triangles of square matrices: the lower one row by row, the upper one column by column.

    Source: mxnet src/operator/tensor/la_op.h.
    """
    size = g.fixed(A, -2)[0]
    g.check_table(size, size)
    below = lower if offset == 0 else offset < 0
    rows, columns = _triangle(size, offset, below)
    return _pick_entries(g, A, rows * size + columns)


def _triangle(size: int, offset: int, below: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a triangle's entries: the lower one row by row, the upper one column by column."""
    if below:
        return np.tril_indices(size, offset)
    columns, rows = np.tril_indices(size, -offset)
    return rows, columns


def _pick_entries(g: OperatorBuilder, A: ir.Value, positions: np.ndarray) -> ir.Value:
    if not positions.size:
        raise g.error(f"nothing is left of matrices of shape {g.shape(A)} at that offset")
    rank = g.rank(A)
    sizes = [g.size(A, i) for i in range(rank)]
    flat = g.reshape_to(A, [*sizes[:-2], times(sizes[-2:])])
    return g.emit("Gather", flat, g.const(positions.astype(np.int64), role="positions"), axis=rank - 2)


@lowers("_linalg_makediag", "linalg_makediag")
def make_diagonal(g: OperatorBuilder, A: ir.Value, *, offset: int = 0) -> ir.Value:
    """Matrices with the rows of the input on a diagonal. Source: mxnet src/operator/tensor/la_op.h."""
    size = g.fixed(A, -1)[0] + abs(offset)
    g.check_table(size, size)
    rows, columns = np.eye(size, k=offset).nonzero()
    return _spread(g, A, size, rows * size + columns)


@lowers("_linalg_maketrian", "linalg_maketrian")
def make_triangle(g: OperatorBuilder, A: ir.Value, *, offset: int = 0, lower: bool = True) -> ir.Value:
    """Matrices with the rows of the input in a triangle: a lower one row by row, an upper one column by column.

    Source: mxnet src/operator/tensor/la_op.h.
    """
    count = g.fixed(A, -1)[0]
    below = lower if offset == 0 else offset < 0
    side = (math.isqrt(1 + 8 * count) - 1) // 2
    size = side + abs(offset)
    g.check_table(size, size)
    rows, columns = _triangle(size, offset, below)
    if len(rows) != count:
        raise g.error(f"{count} numbers don't fill a triangle with offset {offset}")
    return _spread(g, A, size, rows * size + columns)


def _spread(g: OperatorBuilder, A: ir.Value, size: int, positions: np.ndarray) -> ir.Value:
    """The last axis set into size x size zeros at flat positions."""
    source = np.full(size * size, len(positions), np.int64)
    source[positions] = np.arange(len(positions))
    rank = g.rank(A)
    padded = g.emit("Pad", g.pin(A, rank - 1), [0] * (2 * rank - 1) + [1], np.zeros((), g.dtype(A)))
    sizes = [g.size(A, i) for i in range(rank)]
    picked = g.emit("Gather", padded, g.const(source, role="positions"), axis=rank - 1)
    return g.reshape_to(picked, [*sizes[:-1], (size, ()), (size, ())])


@lowers("khatri_rao")
def khatri_rao(g: OperatorBuilder, *args: ir.Value) -> ir.Value:
    """Column-wise Kronecker product of matrices with as many columns. Source: mxnet src/operator/contrib/krprod.h."""
    if not args:
        raise g.error("it has no inputs")
    result = args[0]
    for other in args[1:]:
        product = g.emit("Mul", g.emit("Unsqueeze", result, [1]), g.emit("Unsqueeze", other, [0]))
        rows, columns = times([g.size(result, 0), g.size(other, 0)]), g.size(other, 1)
        result = g.reshape_to(product, [rows, columns])
    return g.identity(result) if len(args) == 1 else result


@lowers("_contrib_div_sqrt_dim", axes=first)
def div_sqrt_dim(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """x / sqrt(size of the last axis). Source: mxnet src/operator/contrib/transformer.cc."""
    length = g.cast(g.length(data, g.rank(data) - 1), np.float32)
    return g.emit("Div", data, g.cast(g.emit("Sqrt", length), g.dtype(data)))


def _heads(g: OperatorBuilder, projections: ir.Value, heads: int, parts: int) -> list[ir.Value]:
    """(L, N, heads parts d) cut into `parts` arrays (N heads, L, d)."""
    length, batch, width = (g.size(projections, i) for i in range(3))
    if width[1] or heads < 1 or width[0] % (heads * parts):
        raise g.error(f"an input of shape {g.shape(projections)} doesn't divide into {heads} heads of {parts} parts")
    size: Size = (width[0] // (heads * parts), ())
    projections = g.pin(projections, 2)
    split = g.reshape_to(projections, [length, times([batch, (heads, ())]), (parts, ()), size])
    moved = g.emit("Transpose", split, perm=[2, 1, 0, 3])
    if parts == 1:
        return [g.emit("Squeeze", moved, [0])]
    return [g.emit("Squeeze", part, [0]) for part in g.emit_all("Split", moved, [1] * parts, outputs=parts, axis=0)]


def _merge_heads(g: OperatorBuilder, value: ir.Value, heads: int) -> ir.Value:
    """(N heads, L, d) to (L, N, heads d)."""
    both, length, size = (g.size(value, i) for i in range(3))
    moved = g.emit("Transpose", value, perm=[1, 0, 2])
    batch: Size = (both[0] // heads, both[1])
    return g.reshape_to(moved, [length, batch, times([(heads, ()), size])])


def _scores(g: OperatorBuilder, queries: ir.Value, keys: ir.Value) -> ir.Value:
    size = g.fixed(queries, 2, 3)[0]
    return g.emit("MatMul", g.emit("Mul", queries, 1 / math.sqrt(size)), swapped(g, keys))


def _of_one_sequence(node: Node) -> dict[int, Axes]:
    return {0: SEQUENCE}


def _of_two_sequences(node: Node) -> dict[int, Axes]:
    return {0: SEQUENCE, 1: SEQUENCE}


@lowers("_contrib_interleaved_matmul_selfatt_qk", sequences=_of_one_sequence)
def selfattention_scores(g: OperatorBuilder, queries_keys_values: ir.Value, *, heads: int) -> ir.Value:
    """Scaled products of queries and keys, interleaved head by head in (L, N, 3 C). Source: mxnet src/operator/contrib/transformer.cc."""
    queries, keys, _ = _heads(g, queries_keys_values, heads, 3)
    return _scores(g, queries, keys)


@lowers("_contrib_interleaved_matmul_selfatt_valatt", sequences=_of_one_sequence)
def selfattention_values(g: OperatorBuilder, queries_keys_values: ir.Value, attention: ir.Value, *, heads: int) -> ir.Value:
    """Values weighted by an attention (N heads, L, L). Source: mxnet src/operator/contrib/transformer.cc."""
    values = _heads(g, queries_keys_values, heads, 3)[2]
    return _merge_heads(g, g.emit("MatMul", attention, values), heads)


@lowers("_contrib_interleaved_matmul_encdec_qk", sequences=_of_two_sequences)
def attention_scores(g: OperatorBuilder, queries: ir.Value, keys_values: ir.Value, *, heads: int) -> ir.Value:
    """Scaled products of queries (L, N, C) and keys, interleaved with values in (M, N, 2 C).

    Source: mxnet src/operator/contrib/transformer.cc.
    """
    return _scores(g, _heads(g, queries, heads, 1)[0], _heads(g, keys_values, heads, 2)[0])


@lowers("_contrib_interleaved_matmul_encdec_valatt", sequences=_of_one_sequence)
def attention_values(g: OperatorBuilder, keys_values: ir.Value, attention: ir.Value, *, heads: int) -> ir.Value:
    """Values weighted by an attention (N heads, L, M). Source: mxnet src/operator/contrib/transformer.cc."""
    return _merge_heads(g, g.emit("MatMul", attention, _heads(g, keys_values, heads, 2)[1]), heads)
