"""Joining, repeating, bordering and rearranging. Sources: mxnet src/operator/nn/concat.cc, pad.cc, tensor/matrix_op.cc, diag_op.cc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.axes import Axes, each, first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.shape import END
from converters.readers.mxnet.operators.slicing import cut
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.symbol import Node


def _joined(node: Node, axes: Axes) -> dict[int, Axes]:
    """All inputs have the output's axes but the one along which they are joined; counted from the end, which one it is isn't known."""
    at = node.attributes.get("dim", node.attributes.get("axis", "1"))
    return {} if min(axes) < 0 or at in {str(axis) for axis in axes} else each(node, axes)


@lowers("Concat", "concat", "_rnn_param_concat", "_npi_rnn_param_concat", axes=_joined)
def concat(g: OperatorBuilder, *data: ir.Value, dim: int = 1) -> ir.Value:
    """Inputs joined along an axis. Source: mxnet src/operator/nn/concat.cc."""
    if not data:
        raise g.error("it has no inputs")
    if len(data) == 1:
        return g.identity(data[0])
    return g.emit("Concat", *_closed(g, data), axis=g.axis(data[0], dim, attribute="dim"))


def _closed(g: OperatorBuilder, data: Sequence[ir.Value]) -> list[ir.Value]:
    """The inputs in one type, those with open sizes grown to their neighbors'."""
    kind = g.dtype(data[0])
    whole = next((value for value in data if value not in g.open_values), None)
    result = []
    for value in data:
        if value in g.open_values and whole is not None:
            value = g.emit("Expand", value, g.emit("Shape", whole), shape=g.shape(whole))
        result.append(g.cast(value, kind))
    return result


@lowers("stack", "_npi_stack")
def stack(g: OperatorBuilder, *data: ir.Value, axis: int = 0) -> ir.Value:
    """Inputs joined along a new axis. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    if not data:
        raise g.error("it has no inputs")
    where = g.axis(data[0], axis, extra=1)
    return g.emit("Concat", *(g.emit("Unsqueeze", value, [where]) for value in _closed(g, data)), axis=where)


@lowers("tile", "_npi_tile")
def tile(g: OperatorBuilder, data: ir.Value, *, reps: Ints) -> ir.Value:
    """The whole array repeated along its axes. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    if any(r < 1 for r in reps):
        raise g.error(f"attribute reps is {reps}; at least 1 of each makes sense")
    x, rank = data, g.rank(data)
    if len(reps) > rank:
        x = g.emit("Unsqueeze", data, list(range(len(reps) - rank)))
    return g.tile(x, [1] * (g.rank(x) - len(reps)) + list(reps))


@lowers("repeat", "_np_repeat")
def repeat(g: OperatorBuilder, data: ir.Value, *, repeats: int, axis: int | None = None) -> ir.Value:
    """Every element repeated along an axis, or all in a row. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    if repeats < 1:
        raise g.error(f"attribute repeats is {repeats}; at least 1 makes sense")
    x = data if axis is not None else g.reshape(data, [None])
    where = g.axis(x, axis if axis is not None else 0)
    sizes = g.size_list(x)
    wide = g.emit("Unsqueeze", x, [where + 1])
    tiled = g.tile(wide, [repeats if i == where + 1 else 1 for i in range(len(sizes) + 1)])
    return g.reshape(tiled, [None if axis == where else extent for axis, extent in enumerate(g.extents(x))])


def read_backwards(g: OperatorBuilder, data: ir.Value, axes: Sequence[int]) -> ir.Value:
    """The data, some axes from their end to their beginning."""
    return cut(g, data, axes, [END] * len(axes), [-END] * len(axes), [-1] * len(axes))


@lowers("reverse", "flip", axes=first)
def reverse(g: OperatorBuilder, data: ir.Value, *, axis: Ints) -> ir.Value:
    """Axes read backwards. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    return read_backwards(g, data, [g.axis(data, a) for a in axis])


@lowers("broadcast_axis", "broadcast_axes")
def broadcast_axis(g: OperatorBuilder, data: ir.Value, *, axis: Ints = (), size: Ints = ()) -> ir.Value:
    """Axes of size 1 repeated to a size. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    if len(axis) != len(size):
        raise g.error(f"axis {axis} and size {size} must have as many entries")
    sizes = {g.axis(data, a): s for a, s in zip(axis, size, strict=True)}
    dims = g.shape(data)
    if any(isinstance(dims[a], int) and dims[a] != 1 for a in sizes) or any(s < 1 for s in size):
        raise g.error(f"only axes of size 1 can be repeated; the input has shape {dims}, axis is {axis}, size {size}")
    for a in sizes:
        if not isinstance(dims[a], int):  # a batch of more than one is refused, not repeated
            data = g.emit("Split", data, [1], axis=a)
    return g.emit("Expand", data, [sizes.get(i, 1) for i in range(len(dims))])


@lowers("broadcast_to")
def broadcast_to(g: OperatorBuilder, data: ir.Value, *, shape: Ints) -> ir.Value:
    """Axes of size 1 repeated to a shape, in which 0 keeps a size. Source: mxnet src/operator/tensor/broadcast_reduce_op.h."""
    dims = g.shape(data)
    if len(shape) != len(dims) or any(isinstance(d, int) and s not in (0, d) and d != 1 for d, s in zip(dims, shape, strict=False)):
        raise g.error(f"an input of shape {dims} can't be repeated to {shape}")
    return g.emit("Expand", data, [1 if s == 0 or s == d else s for d, s in zip(dims, shape, strict=True)])


@lowers("broadcast_like")
def broadcast_like(
    g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, *, lhs_axes: Ints | None = None, rhs_axes: Ints | None = None
) -> ir.Value:
    """Axes of size 1 of the first input repeated to the second's sizes, on all axes or some.

    Source: mxnet src/operator/tensor/broadcast_reduce_op.h.
    """
    if lhs_axes is None or rhs_axes is None:
        if g.rank(lhs) != g.rank(rhs):
            raise g.error(f"the inputs have shapes {g.shape(lhs)} and {g.shape(rhs)}; they need as many axes")
        return g.emit("Expand", lhs, g.emit("Shape", rhs), shape=g.shape(rhs))
    if len(lhs_axes) != len(rhs_axes):
        raise g.error(f"lhs_axes {lhs_axes} and rhs_axes {rhs_axes} must have as many entries")
    target: list[int | Extent] = [1] * g.rank(lhs)
    shape = list(g.shape(lhs))
    for a, b in zip(lhs_axes, rhs_axes, strict=True):
        mine, theirs = g.axis(lhs, a, attribute="lhs_axes"), g.axis(rhs, b, attribute="rhs_axes")
        target[mine], shape[mine] = Extent(rhs, theirs), g.shape(rhs)[theirs]
    return g.emit("Expand", lhs, g.sizes(target), shape=shape)


@lowers("Pad", "pad")
def pad(
    g: OperatorBuilder, data: ir.Value, *, mode: Literal["constant", "edge", "reflect"], pad_width: Ints, constant_value: float = 0.0
) -> ir.Value:
    """Borders of a constant, of the edge's values, or mirrored without the edge; pad_width holds before and after of each axis.

    Source: mxnet src/operator/pad.cc.
    """
    rank = g.rank(data)
    if len(pad_width) != 2 * rank or min(pad_width) < 0:
        raise g.error(f"attribute pad_width is {pad_width}; an input of shape {g.shape(data)} needs {2 * rank} numbers of at least 0")
    pads = [*pad_width[::2], *pad_width[1::2]]
    if mode == "constant":
        value = np.array(constant_value, g.dtype(data))
        return g.emit("Pad", data, pads, value, mode=mode)
    if mode == "reflect":
        for axis in range(rank):
            size = g.shape(data)[axis]
            if isinstance(size, int) and max(pad_width[2 * axis], pad_width[2 * axis + 1]) >= size and size > 1:
                raise g.error(f"a mirrored border of {pad_width[2 * axis : 2 * axis + 2]} doesn't fit an axis of size {size}")
    return g.emit("Pad", data, pads, mode=mode)


@lowers("depth_to_space")
def depth_to_space(g: OperatorBuilder, data: ir.Value, *, block_size: int) -> ir.Value:
    """Blocks of channels laid out as pixels. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    count = g.fixed(data, 1, 2)[0]
    if block_size < 1 or count % (block_size * block_size):
        raise g.error(f"{count} channels don't divide into blocks of {block_size} x {block_size}")
    return g.emit("DepthToSpace", data, blocksize=block_size, mode="DCR")


@lowers("space_to_depth")
def space_to_depth(g: OperatorBuilder, data: ir.Value, *, block_size: int) -> ir.Value:
    """Blocks of pixels laid out as channels. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    if block_size < 1 or any(isinstance(d, int) and d % block_size for d in g.shape(data)[2:]):
        raise g.error(f"an input of shape {g.shape(data)} doesn't divide into blocks of {block_size} x {block_size}")
    return g.emit("SpaceToDepth", data, blocksize=block_size)


@lowers("diag")
def diag(g: OperatorBuilder, data: ir.Value, *, k: int = 0, axis1: int = 0, axis2: int = 1) -> ir.Value:
    """A vector as a diagonal matrix, or the diagonal of two axes, which becomes the last axis.

    Source: mxnet src/operator/tensor/diag_op-inl.h.
    """
    return diagonal(g, data, k, axis1, axis2)


def diagonal(g: OperatorBuilder, data: ir.Value, k: int = 0, axis1: int = 0, axis2: int = 1) -> ir.Value:
    """A vector as a diagonal matrix, or the diagonal of two axes, which becomes the last axis."""
    if g.rank(data) == 1:
        return _diagonal_matrix(g, data, k)
    a, b = g.axis(data, axis1, attribute="axis1"), g.axis(data, axis2, attribute="axis2")
    if a == b:
        raise g.error(f"axis1 and axis2 are the same axis, {a}")
    rest = [i for i in range(g.rank(data)) if i not in (a, b)]
    rows, columns = (g.emit("Sub", g.length(data, axis), max(0, skip)) for axis, skip in ((a, -k), (b, k)))
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    sizes = [g.shape(data)[axis] for axis in (a, b)]
    count = min(sizes[0] - max(0, -k), sizes[1] - max(0, k)) if isinstance(sizes[0], int) and isinstance(sizes[1], int) else None
    if count is not None and count < 1:
        raise g.error(f"there is no diagonal {k} in an input of shape {g.shape(data)}")
    steps = g.emit("Unsqueeze", g.emit("Range", zero, g.emit("Min", rows, columns), one, shape=[count]), [1])
    places = g.emit("Concat", g.emit("Add", steps, max(0, -k)), g.emit("Add", steps, max(0, k)), axis=1)
    moved = g.emit("Transpose", data, perm=[a, b, *rest])
    found = g.emit("GatherND", moved, places)
    return g.emit("Transpose", found, perm=[*range(1, len(rest) + 1), 0]) if rest else found


def _diagonal_matrix(g: OperatorBuilder, data: ir.Value, k: int) -> ir.Value:
    """A matrix with a vector on its diagonal k, zeros elsewhere."""
    zero = np.zeros((), g.dtype(data))
    padded = g.emit("Pad", data, [0, abs(k)], zero)
    steps = g.positions(padded, 0)
    rows, columns = g.along(steps, 0, 2), g.along(steps, 1, 2)
    values = g.along(padded, 0 if k >= 0 else 1, 2)  # row i holds element i, or column j element j
    return g.emit("Where", g.emit("Equal", g.emit("Add", rows, k), columns), values, zero)
