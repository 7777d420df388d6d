"""Reshaping. Sources: mxnet src/operator/tensor/matrix_op.cc, matrix_op-inl.h.

Sizes may be symbolic: a size is a product of a number and of names, written "12*N".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from converters.graph.builder import Dim, SymbolicDimensionError
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.signature import lowers

Size = tuple[int, tuple[str, ...]]
"""A number and the names that it is multiplied with."""
END = 2**63 - 1


def size_of(g: OperatorBuilder, value: ir.Value, axis: int) -> Size:
    """The size of an axis as a product."""
    dim = g.shape(value)[axis]
    if isinstance(dim, int):
        return dim, ()
    if dim is None:
        return 1, (f"{value.name}.{axis}",)
    factor, names = 1, []
    for part in dim.split("*"):
        if part.isdigit():
            factor *= int(part)
        else:
            names.append(part)
    return factor, tuple(sorted(names))


def times(sizes: Sequence[Size]) -> Size:
    return math.prod(s[0] for s in sizes), tuple(sorted(name for s in sizes for name in s[1]))


def over(g: OperatorBuilder, whole: Size, part: Size) -> Size:
    """whole / part. Raises ConversionError where it doesn't divide."""
    names = list(whole[1])
    for name in part[1]:
        if name not in names:
            raise SymbolicDimensionError(f"{as_dim(whole)} / {as_dim(part)}")
        names.remove(name)
    if part[0] and whole[0] % part[0] and names:
        raise SymbolicDimensionError(f"{as_dim(whole)} / {as_dim(part)}")
    if part[0] == 0 or whole[0] % part[0]:
        raise g.error(f"{as_dim(whole)} elements don't divide into {as_dim(part)}")
    return whole[0] // part[0], tuple(names)


def as_dim(size: Size) -> int | str:
    number, names = size
    if not names:
        return number
    return "*".join([str(number), *names] if number != 1 else names)


def reshape_to(g: OperatorBuilder, data: ir.Value, sizes: Sequence[Size]) -> ir.Value:
    """A Reshape to sizes of which any may be symbolic: 0 copies, -1 infers; the batch gets fixed where that isn't enough."""
    before = [size_of(g, data, i) for i in range(g.rank(data))]
    if times(before) != times(list(sizes)):
        if times(before)[1] != times(list(sizes))[1]:
            raise SymbolicDimensionError(f"{before} to {sizes}")
        raise g.error(f"an input of shape {g.shape(data)} doesn't reshape to ({', '.join(str(as_dim(s)) for s in sizes)})")
    entries = []
    for i, size in enumerate(sizes):
        if not size[1]:
            entries.append(size[0])
        else:
            entries.append(0 if i < len(before) and before[i] == size else -1)
    if entries.count(-1) > 1:
        g.fixed(data)
    shape: list[Dim] = [as_dim(s) for s in sizes]
    result = g.emit("Reshape", data, entries, shape=shape)
    if data in g.open_values:
        g.open_values.add(result)
    return result


def read_codes(g: OperatorBuilder, before: list[Size], codes: Ints) -> list[Size]:
    """MXNet's reshape codes: 0 copies a size, -1 infers one, -2 copies the rest, -3 merges two, -4 splits one in two."""
    result: list[Size] = []
    open_at: int | None = None
    at = i = 0
    while i < len(codes):
        code = codes[i]
        if code == 0 or code == -3:
            count = 1 if code == 0 else 2
            if at + count > len(before):
                raise g.error(f"attribute shape is {codes}, but the input has only {len(before)} axes")
            result.append(times(before[at : at + count]))
            at += count
        elif code == -1:
            if open_at is not None:
                raise g.error(f"attribute shape is {codes}; only one size can be inferred (-1)")
            open_at = len(result)
            result.append((1, ()))
            at += 1
        elif code == -2:
            result += before[at:]
            at = len(before)
        elif code == -4:
            if i + 2 >= len(codes) or at >= len(before):
                raise g.error(f"attribute shape is {codes}: -4 splits one axis into the two sizes that follow it")
            first, second = codes[i + 1], codes[i + 2]
            if (first == -1 and second == -1) or min(first, second) < -1 or 0 in (first, second):
                raise g.error(f"attribute shape is {codes}: -4 needs two sizes, of which one may be -1")
            a: Size = over(g, before[at], (second, ())) if first == -1 else (first, ())
            b: Size = over(g, before[at], a) if second == -1 else (second, ())
            result += [a, b]
            at += 1
            i += 2
        elif code > 0:
            result.append((code, ()))
            at += 1
        else:
            raise g.error(f"attribute shape is {codes}; {code} is no code of MXNet's")
        i += 1
    if open_at is not None:
        rest = times([s for j, s in enumerate(result) if j != open_at])
        result[open_at] = over(g, times(before), rest)
    return result


@lowers("Reshape", "reshape")
def reshape(
    g: OperatorBuilder, data: ir.Value, *, shape: Ints = (), reverse: bool = False, target_shape: Ints = (), keep_highest: bool = False
) -> ir.Value:
    """Reshape by MXNet's codes, read from the left or the right; target_shape is the form of early releases."""
    before = [size_of(g, data, i) for i in range(g.rank(data))]
    if not shape:
        if not target_shape:
            raise g.error("attribute shape is missing")
        sizes: list[Size] = [(size, ()) for size in target_shape]
        if keep_highest:
            sizes[0] = before[0]
        blanks = [i for i, size in enumerate(sizes) if size == (0, ())]
        if len(blanks) > 1:
            raise g.error(f"attribute target_shape is {target_shape}; only one size can be inferred (0)")
        for i in blanks:
            sizes[i] = over(g, times(before), times([s for j, s in enumerate(sizes) if j != i]))
    elif reverse:
        sizes = read_codes(g, before[::-1], shape[::-1])[::-1]  # a -4 then stands behind its two sizes
    else:
        sizes = read_codes(g, before, shape)
    return reshape_to(g, data, sizes)


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
    """The first input in the shape of the second, or some of its axes in those of some of the second's."""
    mine, theirs = ([size_of(g, value, i) for i in range(g.rank(value))] for value in (lhs, rhs))
    start, end = _range(g, lhs_begin, lhs_end, len(mine))
    first, last = _range(g, rhs_begin, rhs_end, len(theirs))
    return reshape_to(g, lhs, [*mine[:start], *theirs[first:last], *mine[end:]])


def _range(g: OperatorBuilder, begin: int | None, end: int | None, rank: int) -> tuple[int, int]:
    start = 0 if begin is None else begin + rank if begin < 0 else begin
    stop = rank if end is None else end + rank if end < 0 else end
    if not 0 <= start <= stop <= rank:
        raise g.error(f"axes {begin} to {end} don't exist in an input of {rank} axes")
    return start, stop


@lowers("Flatten", "flatten", "_npx_batch_flatten")
def flatten(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """(N, ...) to (N, rest)."""
    if g.rank(data) == 2:
        return g.identity(data)
    return g.emit("Flatten", data, axis=1)


@lowers("expand_dims", "_npi_expand_dims")
def expand_dims(g: OperatorBuilder, data: ir.Value, *, axis: int) -> ir.Value:
    """A new axis of size 1."""
    result = g.emit("Unsqueeze", data, [g.axis(data, axis, extra=1)])
    return still_open(g, result, data)


def still_open(g: OperatorBuilder, result: ir.Value, *sources: ir.Value) -> ir.Value:
    """Marks a result whose sizes are as open as those of all it is made of."""
    if all(source in g.open_values for source in sources):
        g.open_values.add(result)
    return result


@lowers("squeeze")
def squeeze(g: OperatorBuilder, data: ir.Value, *, axis: Ints | None = None) -> ir.Value:
    """Axes of size 1 dropped: all, or those named; one axis always stays."""
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
    result = g.emit("Squeeze", data, axes) if axes else g.identity(data)
    return still_open(g, result, data)


@lowers("transpose")
def transpose(g: OperatorBuilder, data: ir.Value, *, axes: Ints = ()) -> ir.Value:
    """Axes in another order, backwards by default."""
    rank = g.rank(data)
    order = [g.axis(data, a, attribute="axes") for a in axes] or list(range(rank))[::-1]
    if sorted(order) != list(range(rank)):
        raise g.error(f"attribute axes is {axes}, which doesn't order the axes of an input of shape {g.shape(data)}")
    result = g.emit("Transpose", data, perm=order)
    return still_open(g, result, data)


@lowers("SwapAxis", "swapaxes", "_npi_swapaxes")
def swap_axes(g: OperatorBuilder, data: ir.Value, *, dim1: int = 0, dim2: int = 0) -> ir.Value:
    """Two axes exchanged."""
    a, b = g.axis(data, dim1, attribute="dim1"), g.axis(data, dim2, attribute="dim2")
    order = list(range(g.rank(data)))
    order[a], order[b] = order[b], order[a]
    return g.emit("Transpose", data, perm=order)


@lowers("shape_array", "_npx_shape_array")
def shape_array(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """The sizes, as int64."""
    return g.emit("Shape", data)


@lowers("size_array")
def size_array(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """The number of elements, as int64, shape (1,)."""
    return g.emit("Reshape", g.emit("Size", data), [1])
