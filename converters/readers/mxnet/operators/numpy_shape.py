"""Shapes, joining and splitting of numpy mode. Sources: mxnet src/operator/numpy/np_matrix_op.cc, np_pad_op.cc."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.axes import first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import truth
from converters.readers.mxnet.operators.joining import diagonal, read_backwards
from converters.readers.mxnet.operators.numpy_arithmetic import common_type
from converters.readers.mxnet.operators.shape import END, Entry, dropped, entries_of, merged, reshaped, split_entry, transposed
from converters.readers.mxnet.operators.slicing import parts_of_axis
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import times


def _only_rows_first(g: OperatorBuilder, order: str) -> None:
    if order != "C":
        raise g.error(f"attribute order is {order}; only C, rows first, is known")


@lowers("_np_reshape")
def numpy_reshape(g: OperatorBuilder, a: ir.Value, *, newshape: Ints, order: str = "C") -> ir.Value:
    """Another shape, in which -1 infers one size and others are sizes. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    _only_rows_first(g, order)
    if newshape.count(-1) > 1 or any(size < -1 for size in newshape):
        raise g.error(f"attribute newshape is {newshape}; only one size can be inferred (-1)")
    before = entries_of(g, a)
    entries = [Entry((size, ()), size) if size >= 0 else Entry((1, ()), None) for size in newshape]
    if -1 in newshape:
        at = newshape.index(-1)
        rest = times(entry.size for i, entry in enumerate(entries) if i != at)
        entries[at] = Entry(g.divided(times(entry.size for entry in before), rest), None)
    return reshaped(g, a, entries)


@lowers("_npx_reshape", "_npi_reshape")
def extended_reshape(g: OperatorBuilder, a: ir.Value, *, newshape: Ints, reverse: bool = False, order: str = "C") -> ir.Value:
    """Another shape by codes: -1 infers a size, -2 copies one, -3 drops a 1, -4 copies all that are left, -5 merges two, -6 splits one.

    Source: mxnet src/operator/numpy/np_matrix_op.cc (NumpyXReshapeInferShape).
    """
    _only_rows_first(g, order)
    before = entries_of(g, a)
    if reverse:
        if -6 in newshape:
            raise g.error(f"attribute newshape is {newshape}, which splits an axis, and is read from the right; that isn't known")
        return reshaped(g, a, _read_codes(g, before[::-1], newshape[::-1])[::-1])
    return reshaped(g, a, _read_codes(g, before, newshape))


def _read_codes(g: OperatorBuilder, before: Sequence[Entry], codes: Ints) -> list[Entry]:
    result: list[Entry] = []
    open_at: int | None = None
    at = i = 0
    while i < len(codes):
        code = codes[i]
        left = len(before) - at
        if (code in (-2, -3) and left < 1) or (code == -5 and left < 2):
            raise g.error(f"attribute newshape is {codes}, but the input has only {len(before)} axes")
        if code == -2:
            result.append(before[at])
        elif code == -3 and before[at].size != (1, ()):
            dim = before[at].dim
            known = f"has size {dim}" if isinstance(dim, int) else "may have any size"
            raise g.error(f"attribute newshape is {codes}: -3 drops axis {at}, which {known}")
        elif code == -4:
            result += before[at:]
            at = len(before) - 1
        elif code == -5:
            result.append(merged(before[at : at + 2]))
            at += 1
        elif code == -6:
            if left < 1 or i + 2 >= len(codes):
                raise g.error(f"attribute newshape is {codes}: -6 splits one axis into the two sizes that follow it")
            result += split_entry(g, before[at], codes, codes[i + 1], codes[i + 2])
            i += 2
        elif code == -1:
            if open_at is not None:
                raise g.error(f"attribute newshape is {codes}; only one size can be inferred (-1)")
            open_at = len(result)
            result.append(Entry((1, ()), None))
        elif code >= -1:
            result.append(Entry((code, ()), code))
        elif code != -3:
            raise g.error(f"attribute newshape is {codes}; {code} is no code of MXNet's")
        at += 1
        i += 1
    if open_at is not None:
        rest = times(entry.size for j, entry in enumerate(result) if j != open_at)
        result[open_at] = Entry(g.divided(times(entry.size for entry in before), rest), None)
    return result


@lowers("_np_transpose", axes=transposed)
def transpose(g: OperatorBuilder, a: ir.Value, *, axes: Ints | None = None) -> ir.Value:
    """Axes in another order, backwards by default. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    order = [g.axis(a, axis, attribute="axes") for axis in axes or ()] or list(range(g.rank(a)))[::-1]
    if sorted(order) != list(range(g.rank(a))):
        raise g.error(f"attribute axes is {axes}, which doesn't order the axes of an input of shape {g.shape(a)}")
    return g.emit("Transpose", a, perm=order)


@lowers("_np_moveaxis")
def moveaxis(g: OperatorBuilder, a: ir.Value, *, source: Ints, destination: Ints) -> ir.Value:
    """Axes put at other places, the others in their order. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    taken = [g.axis(a, axis, attribute="source") for axis in source]
    places = [g.axis(a, axis, attribute="destination") for axis in destination]
    order = [axis for axis in range(g.rank(a)) if axis not in taken]
    for place, axis in sorted(zip(places, taken, strict=True)):
        order.insert(place, axis)
    return g.emit("Transpose", a, perm=order)


@lowers("_np_squeeze")
def squeeze(g: OperatorBuilder, a: ir.Value, *, axis: Ints | None = None) -> ir.Value:
    """Axes of size 1 dropped: all, or those named. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    dims = g.shape(a) if axis is not None else g.fixed(a)
    axes = [i for i, d in enumerate(dims) if d == 1] if axis is None else sorted({g.axis(a, i) for i in axis})
    if any(isinstance(dims[i], int) and dims[i] != 1 for i in axes):
        raise g.error(f"axes {axes} of an input of shape {g.shape(a)} can't be dropped: they aren't of size 1")
    return dropped(g, a, axes)


@lowers("_np_roll")
def roll(g: OperatorBuilder, data: ir.Value, *, shift: Ints, axis: Ints | None = None) -> ir.Value:
    """Elements moved along axes, those at the end to the beginning. Source: mxnet src/operator/numpy/np_matrix_op-inl.h."""
    if axis is None:
        flat = g.reshape(data, [None])
        return g.reshape(_rolled(g, flat, sum(shift), 0), g.extents(data))
    shifts = shift * len(axis) if len(shift) == 1 else shift
    result = data
    for step, where in zip(shifts, axis, strict=True):
        result = _rolled(g, result, step, g.axis(data, where))
    return result


def _rolled(g: OperatorBuilder, x: ir.Value, shift: int, axis: int) -> ir.Value:
    """x moved by `shift` along an axis, whatever its length when the net runs."""
    if shift == 0:
        return g.identity(x)
    length = g.length(x, axis)
    start = g.emit("Unsqueeze", g.emit("Mod", g.emit("Neg", g.const(np.array(shift, np.int64))), length), [0])
    parts = g.emit("Slice", x, start, [END], [axis]), g.emit("Slice", x, [0], start, [axis])
    return g.emit("Concat", *parts, axis=axis, shape=g.shape(x))


@lowers("_npi_flip", axes=first)
def flip(g: OperatorBuilder, data: ir.Value, *, axis: Ints | None = None) -> ir.Value:
    """Axes read backwards, all by default. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    return read_backwards(g, data, [g.axis(data, a) for a in axis] if axis is not None else list(range(g.rank(data))))


@lowers("_npi_rot90")
def rot90(g: OperatorBuilder, data: ir.Value, *, k: int = 1, axes: Ints = (0, 1)) -> ir.Value:
    """Two axes turned by right angles. Source: mxnet src/operator/numpy/np_matrix_op-inl.h."""
    if len(axes) != 2:
        raise g.error(f"attribute axes is {axes}; two are needed")
    first, second = (g.axis(data, axis, attribute="axes") for axis in axes)
    order = list(range(g.rank(data)))
    order[first], order[second] = second, first

    turns = k % 4
    if turns == 0:
        return g.identity(data)
    if turns == 2:
        return read_backwards(g, data, [first, second])
    if turns == 1:
        return g.emit("Transpose", read_backwards(g, data, [second]), perm=order)
    return read_backwards(g, g.emit("Transpose", data, perm=order), [second])


def _register_at_least(count: int) -> None:
    def at_least(g: OperatorBuilder, *arys: ir.Value) -> list[ir.Value]:
        return [_with_axes(g, value, count) for value in arys]

    at_least.__doc__ = f"Inputs with at least {count} axes. Source: mxnet src/operator/numpy/np_init_op.cc."
    lowers(f"_np_atleast_{count}d")(at_least)


def _with_axes(g: OperatorBuilder, value: ir.Value, count: int) -> ir.Value:
    """numpy's atleast_1d, 2d, 3d: of three axes, the first is new for vectors, and the last for matrices too."""
    rank = g.rank(value)
    if rank >= count:
        return g.identity(value)
    new = {1: [0], 2: [0, 1] if rank == 0 else [0], 3: [[0, 1, 2], [0, 2], [2]][rank] if rank < 3 else []}[count]
    return g.emit("Unsqueeze", value, new)


for _count in (1, 2, 3):
    _register_at_least(_count)


@lowers("_npi_broadcast_to")
def broadcast_to(g: OperatorBuilder, array: ir.Value, *, shape: Ints) -> ir.Value:
    """An array repeated to a shape, whose first axes may be new. Source: mxnet src/operator/numpy/np_broadcast_reduce_op_value.cc."""
    dims = g.shape(array)
    ends = shape[len(shape) - len(dims) :]
    if len(shape) < len(dims) or any(isinstance(d, int) and d not in (1, s) and s != -2 for d, s in zip(dims, ends, strict=True)):
        raise g.error(f"an input of shape {dims} can't be repeated to {shape}")
    return g.emit("Expand", array, [1 if size == -2 else size for size in shape])


# -- joining and splitting ------------------------------------------------------------------------------------------------------


def _in_one_type(g: OperatorBuilder, values: Sequence[ir.Value]) -> list[ir.Value]:
    if not values:
        raise g.error("it has no inputs")
    kind = g.dtype(values[0])
    for value in values[1:]:
        kind = common_type(kind, g.dtype(value))
    return [g.cast(value, kind) for value in values]


def _joined(g: OperatorBuilder, values: Sequence[ir.Value], axis: int) -> ir.Value:
    alike = _in_one_type(g, values)
    return g.emit("Concat", *alike, axis=axis) if len(alike) > 1 else g.identity(alike[0])


@lowers("_npi_concatenate")
def concatenate(g: OperatorBuilder, *data: ir.Value, axis: int | None = 0, dim: int | None = None) -> ir.Value:
    """Inputs joined along an axis, or one behind the other. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    where = axis if dim is None else dim
    if where is None:
        return _joined(g, [g.reshape(value, [None]) for value in data], 0)
    return _joined(g, data, g.axis(data[0], where) if data else 0)


@lowers("_npi_vstack")
def vstack(g: OperatorBuilder, *data: ir.Value) -> ir.Value:
    """Inputs of at least two axes joined along the first. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    return _joined(g, [_with_axes(g, value, 2) for value in data], 0)


@lowers("_npi_hstack", ignores="dim")
def hstack(g: OperatorBuilder, *data: ir.Value) -> ir.Value:
    """Inputs joined along the second axis, vectors along their first. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    values = [_with_axes(g, value, 1) for value in data]
    return _joined(g, values, 0 if values and g.rank(values[0]) == 1 else 1)


@lowers("_npi_dstack", ignores="dim")
def dstack(g: OperatorBuilder, *data: ir.Value) -> ir.Value:
    """Inputs of at least three axes joined along the third. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    return _joined(g, [_with_axes(g, value, 3) for value in data], 2)


@lowers("_npi_column_stack")
def column_stack(g: OperatorBuilder, *data: ir.Value) -> ir.Value:
    """Inputs joined along the second axis, vectors as columns. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    columns = [g.reshape(_with_axes(g, value, 1), [None, 1]) if g.rank(value) < 2 else value for value in data]
    return _joined(g, columns, 1)


def _register_split(name: str, axis: int) -> None:
    def split(
        g: OperatorBuilder, data: ir.Value, *, indices: Ints = (), squeeze_axis: bool = False, sections: int = 0
    ) -> ir.Value | list[ir.Value]:
        where = 0 if g.rank(data) == 1 else axis
        return parts_of_axis(g, data, where, indices, sections, squeeze_axis)

    split.__doc__ = f"Parts of axis {axis}. Source: mxnet src/operator/numpy/np_matrix_op.cc."
    lowers(name, ignores="axis")(split)


_register_split("_npi_hsplit", 1)
_register_split("_npi_dsplit", 2)


@lowers("_npi_pad", ignores="reflect_type")
def pad(
    g: OperatorBuilder,
    data: ir.Value,
    *,
    pad_width: str,
    mode: Literal["constant", "edge", "reflect", "symmetric", "maximum", "minimum"] = "constant",
    constant_value: float = 0.0,
) -> ir.Value:
    """Borders of a constant, of the edge, mirrored without or with it, or of an axis' extremes.

    Source: mxnet src/operator/numpy/np_pad_op.cc.
    """
    numbers = [int(text) for text in re.findall(r"-?[0-9]{1,9}", pad_width)]
    rank = g.rank(data)
    if len(numbers) != 2 * rank or min(numbers, default=0) < 0:
        raise g.error(f"attribute pad_width is '{pad_width[:80]}'; an input of shape {g.shape(data)} needs {rank} pairs of at least 0")
    if mode in ("constant", "edge", "reflect"):
        value = np.array(constant_value, g.dtype(data)) if mode == "constant" else None
        return g.emit("Pad", data, [*numbers[::2], *numbers[1::2]], value, mode=mode)
    result = data
    for axis in range(rank):
        before, after = numbers[2 * axis : 2 * axis + 2]
        parts = [_border(g, result, axis, before, mode, first=True), result, _border(g, result, axis, after, mode, first=False)]
        present = [part for part in parts if part is not None]
        result = g.emit("Concat", *present, axis=axis) if len(present) > 1 else result
    return g.identity(result) if result is data else result


def _border(g: OperatorBuilder, x: ir.Value, axis: int, width: int, mode: str, first: bool) -> ir.Value | None:
    """`width` slices before or behind an axis."""
    if width == 0:
        return None
    if mode != "symmetric":
        extreme = g.emit("ReduceMax" if mode == "maximum" else "ReduceMin", x, [axis], keepdims=1)
        return g.tile(extreme, [width if i == axis else 1 for i in range(g.rank(x))])
    size = g.shape(x)[axis]
    if isinstance(size, int) and width > size:
        raise g.error(f"a mirrored border of {width} doesn't fit an axis of size {size}")
    if first:
        return g.emit("Slice", x, [width - 1], [-END], [axis], [-1])
    return g.emit("Slice", x, [-1], [-width - 1], [axis], [-1])


# -- diagonals and triangles ------------------------------------------------------------------------------------------------------


@lowers("_np_diag")
def numpy_diag(g: OperatorBuilder, data: ir.Value, *, k: int = 0) -> ir.Value:
    """A vector as a diagonal matrix, or a matrix's diagonal. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    return diagonal(g, data, k)


@lowers("_np_diagflat")
def diagflat(g: OperatorBuilder, data: ir.Value, *, k: int = 0) -> ir.Value:
    """All elements as the diagonal of a matrix. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    return diagonal(g, g.reshape(data, [None]), k)


@lowers("_np_diagonal")
def diagonal_last(g: OperatorBuilder, data: ir.Value, *, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ir.Value:
    """The diagonal of two axes, which becomes the last axis. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    return diagonal(g, data, offset, axis1, axis2)


@lowers("_np_trace")
def trace(g: OperatorBuilder, data: ir.Value, *, offset: int = 0, axis1: int = 0, axis2: int = 1) -> ir.Value:
    """The sum of a diagonal of two axes. Source: mxnet src/operator/numpy/np_trace_op-inl.h."""
    line = diagonal(g, data, offset, axis1, axis2)
    return g.emit("ReduceSum", line, [g.rank(line) - 1], keepdims=0)


@lowers("_npi_tril")
def tril(g: OperatorBuilder, data: ir.Value, *, k: int = 0) -> ir.Value:
    """Matrices with zeros above a diagonal; a vector is a row that is repeated. Source: mxnet src/operator/numpy/np_tril_op-inl.h."""
    x = data
    if g.rank(data) == 1:
        size = g.sizes([*g.extents(data), *g.extents(data)])
        x = g.emit("Expand", data, size, shape=[g.shape(data)[0]] * 2)
    return g.emit("Trilu", x, np.array(k, np.int64), upper=0)


@lowers("_npi_diag_indices_from")
def diagonal_indices(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """The index tuples of the main diagonal, (axes, n) int64. Source: mxnet src/operator/numpy/np_matrix_op.cc."""
    row = g.emit("Unsqueeze", g.positions(data, 0), [0])
    return g.tile(row, [g.rank(data), 1])


# -- parts that are taken out, put in or replaced ---------------------------------------------------------------------------------


@lowers("_npi_boolean_mask_assign_scalar", axes=first)
def assign_number(g: OperatorBuilder, data: ir.Value, mask: ir.Value, *, value: float = 0.0, start_axis: int = 0) -> ir.Value:
    """A number where a mask over some axes is true. Source: mxnet src/operator/numpy/np_boolean_mask_assign.cc."""
    return _assign(g, data, mask, g.const(np.array(value).astype(g.dtype(data))), start_axis)


@lowers("_npi_boolean_mask_assign_tensor")
def assign_array(g: OperatorBuilder, data: ir.Value, mask: ir.Value, value: ir.Value, *, start_axis: int = 0) -> ir.Value:
    """One number of the net where a mask over some axes is true; as many as are true are refused.

    Source: mxnet src/operator/numpy/np_boolean_mask_assign.cc.
    """
    if g.rank(value) > 0 and g.fixed(value) != (1,) * g.rank(value):
        raise g.error("how many values it takes depends on the mask; cut the net before it")
    return _assign(g, data, mask, g.cast(g.reshape(value, [1]), g.dtype(data)), start_axis)


def _assign(g: OperatorBuilder, data: ir.Value, mask: ir.Value, value: ir.Value, start: int) -> ir.Value:
    behind = list(range(g.rank(mask), g.rank(data) - start))
    found = truth(g, mask)
    return g.emit("Where", g.emit("Unsqueeze", found, behind) if behind else found, value, data)
