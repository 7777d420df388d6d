"""Reshaping. Sources: mxnet src/operator/tensor/matrix_op.cc, matrix_op-inl.h.

A new shape is written with the lengths that the input's axes have when the net runs, so that another batch or image gives what MXNet gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from converters.graph.builder import Dim, Extent
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.axes import Axes, integers
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import Size, as_dim, times
from converters.readers.mxnet.symbol import Node

END = 2**63 - 1


@dataclass(frozen=True)
class Entry:
    """An entry of a new shape: its size, and how it is written: a number, the length of an axis, or None for what is left.

    axes: those that it joins, in order.
    """

    size: Size
    dim: Dim | Extent
    axes: tuple[int, ...] = ()


def merged(parts: Sequence[Entry]) -> Entry:
    """Neighboring axes as one."""
    axes = sorted(part.dim.axis for part in parts if isinstance(part.dim, Extent))
    return Entry(times(part.size for part in parts), None, tuple(axes))


def read_codes(g: OperatorBuilder, before: Sequence[Entry], codes: Ints) -> list[Entry]:
    """MXNet's reshape codes: 0 copies a size, -1 infers one, -2 copies the rest, -3 merges two, -4 splits one in two."""
    result: list[Entry] = []
    open_at: int | None = None
    at = i = 0
    while i < len(codes):
        code = codes[i]
        used = 1
        if code in (0, -3):
            used = 1 if code == 0 else 2
            if at + used > len(before):
                raise g.error(f"attribute shape is {codes}, but the input has only {len(before)} axes")
            result.append(before[at] if code == 0 else merged(before[at : at + 2]))
        elif code == -1:
            if open_at is not None:
                raise g.error(f"attribute shape is {codes}; only one size can be inferred (-1)")
            open_at = len(result)
            result.append(Entry((1, ()), None))
        elif code == -2:
            result += before[at:]
            used = len(before) - at
        elif code == -4:
            if i + 2 >= len(codes) or at >= len(before):
                raise g.error(f"attribute shape is {codes}: -4 splits one axis into the two sizes that follow it")
            result += split_entry(g, before[at], codes, codes[i + 1], codes[i + 2])
            i += 2
        elif code > 0:
            result.append(Entry((code, ()), code))
        else:
            raise g.error(f"attribute shape is {codes}; {code} is no code of MXNet's")
        at += used
        i += 1
    if open_at is not None:
        rest = times(entry.size for j, entry in enumerate(result) if j != open_at)
        result[open_at] = Entry(g.divided(times(entry.size for entry in before), rest), None)
    return result


def split_entry(g: OperatorBuilder, whole: Entry, codes: Ints, first: int, second: int) -> list[Entry]:
    """An axis as two, of which one may be -1."""
    if (first == -1 and second == -1) or min(first, second) < -1 or 0 in (first, second):
        raise g.error(f"attribute shape is {codes}: -4 needs two sizes, of which one may be -1")
    known = second if first == -1 else first
    rest = g.divided(whole.size, (known, ()))
    other = Entry(rest, replace(whole.dim, over=known) if isinstance(whole.dim, Extent) else as_dim(rest))
    if first == -1:
        return [other, Entry((second, ()), second)]
    if second == -1:
        return [Entry((first, ()), first), other]
    return [Entry((first, ()), first), Entry((second, ()), second)]


def entries_of(g: OperatorBuilder, value: ir.Value) -> list[Entry]:
    """A value's own shape: the length of each axis, whatever it is when the net runs."""
    return [Entry(size, extent) for size, extent in zip(g.size_list(value), g.extents(value), strict=True)]


def reshaped(g: OperatorBuilder, data: ir.Value, entries: Sequence[Entry]) -> ir.Value:
    """The data in a shape of entries; of several that are left open one stays so.

    The others are multiples of one axis: the axes that they join with it must keep their lengths, which a runtime sees to.
    """
    dims = [entry.dim for entry in entries]
    if dims == [None, None] and any(entry.axes for entry in entries):
        rows = len(entries[0].axes) or g.rank(data) - len(entries[1].axes)
        return g.emit("Flatten", data, axis=rows, shape=[as_dim(entry.size) for entry in entries])
    x = data
    for position, entry in sorted(enumerate(entries), key=lambda item: not item[1].axes):
        if dims[position] is None and dims.count(None) > 1:
            dims[position] = g.multiple(data, entry.size)
            for axis in entry.axes:
                x = g.pin(x, axis, axis + 1) if isinstance(g.shape(data)[axis], int) else x
    return g.reshape(x, [replace(d, value=x) if isinstance(d, Extent) and d.value is data else d for d in dims], absolute=True)


@lowers("Reshape", "reshape")
def reshape(
    g: OperatorBuilder, data: ir.Value, *, shape: Ints = (), reverse: bool = False, target_shape: Ints = (), keep_highest: bool = False
) -> ir.Value:
    """Reshape by MXNet's codes, read from the left or the right; target_shape is the form of early releases.

    Source: mxnet src/operator/tensor/matrix_op-inl.h.
    """
    before = entries_of(g, data)
    if not shape:
        if not target_shape:
            raise g.error("attribute shape is missing")
        return reshaped(g, data, _old_target(g, before, target_shape, keep_highest))
    if reverse:
        return reshaped(g, data, read_codes(g, before[::-1], shape[::-1])[::-1])  # a -4 then stands behind its two sizes
    return reshaped(g, data, read_codes(g, before, shape))


def _old_target(g: OperatorBuilder, before: Sequence[Entry], target: Ints, keep_highest: bool) -> list[Entry]:
    """The form of early releases: 0 infers one size, keep_highest keeps the first."""
    entries = [Entry((size, ()), size or None) for size in target]
    if keep_highest:
        entries[0] = before[0]
    blanks = [i for i, entry in enumerate(entries) if entry.dim is None]
    if len(blanks) > 1:
        raise g.error(f"attribute target_shape is {target}; only one size can be inferred (0)")
    for i in blanks:
        rest = times(entry.size for j, entry in enumerate(entries) if j != i)
        entries[i] = Entry(g.divided(times(entry.size for entry in before), rest), None)
    return entries


@lowers("reshape_like", "_npx_reshape_like")
def reshape_like(
    g: OperatorBuilder,
    lhs: ir.Value,
    rhs: ir.Value,
    *,
    lhs_begin: int | None = None,
    lhs_end: int | None = None,
    rhs_begin: int | None = None,
    rhs_end: int | None = None,
) -> ir.Value:
    """The first input in the shape of the second, or some of its axes in those of some of the second's.

    Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc.
    """
    mine, theirs = entries_of(g, lhs), entries_of(g, rhs)
    start, end = _range(g, lhs_begin, lhs_end, len(mine))
    first, last = _range(g, rhs_begin, rhs_end, len(theirs))
    return reshaped(g, lhs, [*mine[:start], *theirs[first:last], *mine[end:]])


def _range(g: OperatorBuilder, begin: int | None, end: int | None, rank: int) -> tuple[int, int]:
    start = 0 if begin is None else begin + rank if begin < 0 else begin
    stop = rank if end is None else end + rank if end < 0 else end
    if not 0 <= start <= stop <= rank:
        raise g.error(f"axes {begin} to {end} don't exist in an input of {rank} axes")
    return start, stop


@lowers("Flatten", "flatten", "_npx_batch_flatten")
def flatten(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """(N, ...) to (N, rest). Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    if g.rank(data) == 2:
        return g.identity(data)
    return g.reshape(data, [g.shape(data)[0], 1 if g.rank(data) == 1 else None])


@lowers("expand_dims", "_npi_expand_dims")
def expand_dims(g: OperatorBuilder, data: ir.Value, *, axis: int) -> ir.Value:
    """A new axis of size 1. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    return g.emit("Unsqueeze", data, [g.axis(data, axis, extra=1)])


@lowers("squeeze")
def squeeze(g: OperatorBuilder, data: ir.Value, *, axis: Ints | None = None) -> ir.Value:
    """Axes of size 1 dropped: all, or those named; one axis always stays. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    dims = g.shape(data)
    if axis is None:
        if not all(isinstance(d, int) for d in dims):
            g.fixed(data)
        axes = [i for i, d in enumerate(dims) if d == 1]
    else:
        axes = sorted({g.axis(data, a) for a in axis})
        for a in axes:
            if isinstance(dims[a], int) and dims[a] != 1:
                raise g.error(f"axis {a} has size {dims[a]} and can't be dropped")
    if len(axes) == len(dims):
        axes = axes[1:]
    return dropped(g, data, axes, first=1)


def dropped(g: OperatorBuilder, data: ir.Value, axes: Sequence[int], first: int = 0) -> ir.Value:
    """The data without these axes; those from `first` on are refused where they are longer when the net runs."""
    producer = data.producer()
    if producer is None or producer.op_type in ("Conv", "MaxPool", "AveragePool"):
        for a in (a for a in axes if a >= first):  # PyTorch leaves an axis of another length as it is
            data = g.emit("Split", data, [1], axis=a)
    return g.emit("Squeeze", data, axes) if axes else g.identity(data)


def transposed(node: Node, axes: Axes) -> dict[int, Axes]:
    """Where the input has the axes that the output has in the order of the attribute."""
    order = integers(node, "axes")
    if not order:  # all axes in reverse order, of which there are as many as the input will have
        return {0: {-axis - 1: label for axis, label in axes.items()}}
    if any(not -len(order) <= axis < len(order) for axis in axes):
        return {}
    return {0: {order[axis]: label for axis, label in axes.items()}}


@lowers("transpose", axes=transposed)
def transpose(g: OperatorBuilder, data: ir.Value, *, axes: Ints = ()) -> ir.Value:
    """Axes in another order, backwards by default. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    rank = g.rank(data)
    order = [g.axis(data, a, attribute="axes") for a in axes] or list(range(rank))[::-1]
    if sorted(order) != list(range(rank)):
        raise g.error(f"attribute axes is {axes}, which doesn't order the axes of an input of shape {g.shape(data)}")
    return g.emit("Transpose", data, perm=order)


def _swapped(node: Node, axes: Axes) -> dict[int, Axes]:
    try:
        first, second = (int(node.attributes.get(name, "0")) for name in ("dim1", "dim2"))
    except ValueError:
        return {}
    if min(first, second, *axes) < 0:
        return {}
    there = {first: second, second: first}
    return {0: {there.get(axis, axis): label for axis, label in axes.items()}}


@lowers("SwapAxis", "swapaxes", "_npi_swapaxes", axes=_swapped)
def swap_axes(g: OperatorBuilder, data: ir.Value, *, dim1: int = 0, dim2: int = 0) -> ir.Value:
    """Two axes exchanged. Source: mxnet src/operator/swapaxis-inl.h."""
    a, b = g.axis(data, dim1, attribute="dim1"), g.axis(data, dim2, attribute="dim2")
    order = list(range(g.rank(data)))
    order[a], order[b] = order[b], order[a]
    return g.emit("Transpose", data, perm=order)


@lowers("shape_array", "_npx_shape_array")
def shape_array(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """The sizes, as int64. Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc."""
    return g.emit("Shape", data)


@lowers("size_array")
def size_array(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """The number of elements, as int64, shape (1,). Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc."""
    return g.reshape(g.emit("Size", data), [1])
