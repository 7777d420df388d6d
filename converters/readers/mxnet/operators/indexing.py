"""Indexing. Sources: mxnet src/operator/tensor/indexing_op.cc, indexing_op.h, control_flow_op.cc, contrib/index_copy.cc."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.axes import each, widened
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import read_type, truth
from converters.readers.mxnet.parameter import Index, Parameter
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import number_of


def indices_within(g: OperatorBuilder, indices: ir.Value, size: ir.Value | int, mode: str) -> ir.Value:
    """Indices as int64, those out of range clipped or wrapped. size: of the axis, a number of the graph or one that is known."""
    whole = g.cast(indices, np.int64)
    if mode == "wrap":
        return g.emit("Mod", whole, size)
    last = np.array(size - 1, np.int64) if isinstance(size, int) else g.emit("Sub", size, 1)
    return g.emit("Clip", whole, np.array(0, np.int64), last)


def _length(g: OperatorBuilder, data: ir.Value, axis: int) -> ir.Value | int:
    """The size of an axis: a number where the data are stored, else what it is when the net runs."""
    return g.fixed(data, axis, axis + 1)[0] if data.is_initializer() else g.length(data, axis)


@lowers("take", "_npi_take")
def take(g: OperatorBuilder, a: ir.Value, indices: Index, *, axis: int = 0, mode: Literal["clip", "wrap", "raise"] = "clip") -> ir.Value:
    """Slices of an axis by index; out of range they are clipped or wrapped, and mode raise trusts them.

    Source: mxnet src/operator/tensor/indexing_op.h.
    """
    axis = g.axis(a, axis)
    chosen = g.cast(indices, np.int64) if mode == "raise" else indices_within(g, indices, _length(g, a, axis), mode)
    return g.emit("Gather", a, chosen, axis=axis)


@lowers("Embedding", "_contrib_SparseEmbedding", "_npx_embedding", ignores="sparse_grad", axes=widened)
def embedding(
    g: OperatorBuilder, data: ir.Value, weight: Parameter, *, input_dim: int, output_dim: int, dtype: str = "float32"
) -> ir.Value:
    """Rows of the weight (input_dim, output_dim) by index, clipped to the range. Source: mxnet src/operator/tensor/indexing_op.h."""
    rows = weight.use((input_dim, output_dim), read_type(g, dtype))
    return g.emit("Gather", rows, indices_within(g, data, input_dim, "clip"), axis=0)


@lowers("one_hot", "_npx_one_hot", axes=widened)
def one_hot(
    g: OperatorBuilder, indices: Index, *, depth: int, on_value: float = 1.0, off_value: float = 0.0, dtype: str = "float32"
) -> ir.Value:
    """A new last axis with on_value at the index; all off_value where the index is out of range.

    Source: mxnet src/operator/tensor/indexing_op.h.
    """
    if depth < 1:
        raise g.error(f"attribute depth is {depth}; it must be at least 1")
    g.check_table(depth)
    kind = read_type(g, dtype)
    wide = g.emit("Unsqueeze", g.cast(indices, np.int64), [g.rank(indices)])
    found = g.emit("Equal", wide, g.const(np.arange(depth, dtype=np.int64), role="positions"))
    return g.emit("Where", found, np.array(on_value, kind), np.array(off_value, kind))


@lowers("pick", "choose_element_0index", "_npx_pick")
def pick(
    g: OperatorBuilder,
    data: ir.Value,
    index: Index,
    *,
    axis: int | None = -1,
    keepdims: bool = False,
    mode: Literal["clip", "wrap"] = "clip",
) -> ir.Value:
    """One element per row of an axis, by index. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    x = data if axis is not None else g.reshape(data, [None])
    where = g.axis(x, axis if axis is not None else 0)
    if x.producer() is None:  # runtimes pick of part of a longer axis
        x = g.pin_known(x, (other for other in range(1, g.rank(x)) if other != where))
    chosen = indices_within(g, index, _length(g, x, where), mode)
    if g.rank(chosen) == g.rank(x) - 1:
        chosen = g.emit("Unsqueeze", chosen, [where])
    elif g.rank(chosen) != g.rank(x):
        raise g.error(f"an index of shape {g.shape(index)} doesn't fit data of shape {g.shape(data)}")
    picked: ir.Value = g.emit("GatherElements", x, chosen, axis=where)
    if keepdims:
        return picked
    if g.rank(x) == 1:
        return picked
    return g.emit("Squeeze", picked, [where])


@lowers("batch_take")
def batch_take(g: OperatorBuilder, a: ir.Value, indices: Index) -> ir.Value:
    """One element per row of a matrix. Source: mxnet src/operator/tensor/indexing_op.h."""
    chosen = g.emit("Unsqueeze", indices_within(g, indices, _length(g, a, 1), "clip"), [1])
    return g.emit("Squeeze", g.emit("GatherElements", a, chosen, axis=1), [1])


def last_axis_first(g: OperatorBuilder, indices: ir.Value) -> ir.Value:
    """Indices (M, ...) as ONNX wants them, (..., M)."""
    rank = g.rank(indices)
    whole = g.cast(indices, np.int64)
    return g.emit("Transpose", whole, perm=[*range(1, rank), 0]) if rank > 1 else whole


@lowers("gather_nd", "_npi_gather_nd", "_npx_gather_nd")
def gather_nd(g: OperatorBuilder, data: ir.Value, indices: Index) -> ir.Value:
    """Slices by index tuples, which lie along the first axis of the indices; out of range they count from the end.

    Source: mxnet src/operator/tensor/indexing_op.h.
    """
    count = number_of(g.size(indices, 0), g.given)  # the length of a tuple, which is the same whatever axis of an input it is
    if count is None or count > g.rank(data):
        raise g.error(f"index tuples of shape {g.shape(indices)} don't fit data of shape {g.shape(data)}")
    return g.emit("GatherND", data, last_axis_first(g, indices), shape=[*g.shape(indices)[1:], *g.shape(data)[count:]])


@lowers("scatter_nd")
def scatter_nd(g: OperatorBuilder, data: ir.Value, indices: Index, *, shape: Ints) -> ir.Value:
    """Zeros of a shape, with the data put where index tuples say. Source: mxnet src/operator/tensor/indexing_op.h."""
    if not shape or min(shape) < 1 or math.prod(shape) > 1 << 28:
        raise g.error(f"attribute shape is {shape}")
    zeros = g.emit("Expand", np.zeros((), g.dtype(data)), list(shape))
    return g.emit("ScatterND", zeros, last_axis_first(g, indices), data)


@lowers("_scatter_set_nd", "_npi_scatter_set_nd")
def scatter_set_nd(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, indices: Index, *, shape: Ints = ()) -> ir.Value:
    """The first input with the second put where index tuples say. Source: mxnet src/operator/tensor/indexing_op.h."""
    return g.emit("ScatterND", lhs, last_axis_first(g, indices), rhs)


@lowers("where", axes=each)
def where(g: OperatorBuilder, condition: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """x where the condition isn't 0, y elsewhere; a vector chooses whole rows. Source: mxnet src/operator/tensor/control_flow_op.h."""
    chosen = truth(g, condition)
    rank = g.rank(x)
    if g.rank(condition) == 1 and rank > 1:
        chosen = g.emit("Unsqueeze", chosen, list(range(1, rank)))
    return g.emit("Where", chosen, x, g.cast(y, g.dtype(x)))


@lowers("_contrib_index_copy")
def index_copy(g: OperatorBuilder, old_tensor: ir.Value, index_vector: Index, new_tensor: ir.Value) -> ir.Value:
    """The first input with rows replaced. Source: mxnet src/operator/contrib/index_copy.cc."""
    rows = g.emit("Unsqueeze", g.cast(index_vector, np.int64), [1])
    return g.emit("ScatterND", old_tensor, rows, new_tensor)


@lowers("_contrib_index_array")
def index_array(g: OperatorBuilder, data: ir.Value, *, axes: Ints | None = None) -> ir.Value:
    """The index tuple of every element, as int64 along a new last axis. Source: mxnet src/operator/contrib/index_array.cc."""
    rank = g.rank(data)
    chosen = [g.axis(data, a, attribute="axes") for a in axes] if axes is not None else list(range(rank))
    shape = g.emit("Shape", data)
    parts = [g.emit("Expand", g.along(g.positions(data, a), a, rank), shape, shape=g.shape(data)) for a in chosen]
    return g.emit("Concat", *(g.emit("Unsqueeze", part, [rank]) for part in parts), axis=rank)


@lowers("_ravel_multi_index", "ravel_multi_index")
def ravel_multi_index(g: OperatorBuilder, data: ir.Value, *, shape: Ints) -> ir.Value:
    """Index tuples (M, ...) to flat indices. Source: mxnet src/operator/tensor/ravel.cc."""
    factors = np.array([math.prod(shape[i + 1 :]) for i in range(len(shape))], g.dtype(data))
    if g.fixed(data, 0, 1)[0] != len(shape):
        raise g.error(f"index tuples of shape {g.shape(data)} don't fit shape {shape}")
    spread = g.const(factors.reshape([-1] + [1] * (g.rank(data) - 1)))
    return g.emit("ReduceSum", g.emit("Mul", data, spread), [0], keepdims=0)


@lowers("_unravel_index", "unravel_index")
def unravel_index(g: OperatorBuilder, data: ir.Value, *, shape: Ints) -> ir.Value:
    """Flat indices to index tuples, along a new first axis; in the type of the input. Source: mxnet src/operator/tensor/ravel.cc."""
    rest, parts = g.cast(data, np.int64), []
    for i, size in enumerate(shape):
        inner = math.prod(shape[i + 1 :])
        part = g.emit("Div", rest, inner)
        parts.append(g.emit("Unsqueeze", g.emit("Mod", part, size) if i else part, [0]))
        rest = g.emit("Mod", rest, inner)
    return g.cast(g.emit("Concat", *parts, axis=0), g.dtype(data))


@lowers("_contrib_boolean_mask", "_npi_boolean_mask")
def boolean_mask(g: OperatorBuilder, data: ir.Value, index: Index, *, axis: int = 0) -> ir.Value:
    """Refused: how many rows are left depends on the values, and the graph's sizes would be open from there on.

    Source: mxnet src/operator/contrib/boolean_mask.cc.
    """
    raise g.error("the size of its result depends on the values of the mask; cut the net before it")
