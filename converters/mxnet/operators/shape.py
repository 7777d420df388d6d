"""Reshaping, slicing, joining and repeating. Sources: mxnet src/operator/tensor/matrix_op.cc, matrix_op-inl.h, crop-inl.h, pad.cc,
slice_channel-inl.h, nn/concat.cc.

Sizes may be symbolic: a size is a product of a number and of names, written "12*N".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.graph import Dim, SymbolicDimensionError
from converters.mxnet.attributes import Ints, IntsOrNone
from converters.mxnet.lowering import Graph, lowers

Size = tuple[int, tuple[str, ...]]
"""A number and the names that it is multiplied with."""
END = 2**63 - 1


def size_of(g: Graph, value: ir.Value, axis: int) -> Size:
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


def over(g: Graph, whole: Size, part: Size) -> Size:
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


def reshape_to(g: Graph, data: ir.Value, sizes: Sequence[Size]) -> ir.Value:
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
    result: ir.Value = g.emit("Reshape", data, entries, shape=shape)
    if data in g.open_values:
        g.open_values.add(result)
    return result


def read_codes(g: Graph, before: list[Size], codes: Ints) -> list[Size]:
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
    g: Graph, data: ir.Value, *, shape: Ints = (), reverse: bool = False, target_shape: Ints = (), keep_highest: bool = False
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
    g: Graph,
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


def _range(g: Graph, begin: int | None, end: int | None, rank: int) -> tuple[int, int]:
    start = 0 if begin is None else begin + rank if begin < 0 else begin
    stop = rank if end is None else end + rank if end < 0 else end
    if not 0 <= start <= stop <= rank:
        raise g.error(f"axes {begin} to {end} don't exist in an input of {rank} axes")
    return start, stop


@lowers("Flatten", "flatten", "_npx_batch_flatten")
def flatten(g: Graph, data: ir.Value) -> ir.Value:
    """(N, ...) to (N, rest)."""
    if g.rank(data) == 2:
        return g.identity(data)
    return g.node("Flatten", data, axis=1)


@lowers("expand_dims", "_npi_expand_dims")
def expand_dims(g: Graph, data: ir.Value, *, axis: int) -> ir.Value:
    """A new axis of size 1."""
    result: ir.Value = g.emit("Unsqueeze", data, [g.axis(data, axis, extra=1)])
    return _still_open(g, result, data)


def _still_open(g: Graph, result: ir.Value, *sources: ir.Value) -> ir.Value:
    if all(source in g.open_values for source in sources):
        g.open_values.add(result)
    return result


@lowers("squeeze")
def squeeze(g: Graph, data: ir.Value, *, axis: Ints | None = None) -> ir.Value:
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
    result: ir.Value = g.emit("Squeeze", data, axes) if axes else g.identity(data)
    return _still_open(g, result, data)


@lowers("transpose")
def transpose(g: Graph, data: ir.Value, *, axes: Ints = ()) -> ir.Value:
    """Axes in another order, backwards by default."""
    rank = g.rank(data)
    order = [g.axis(data, a, attribute="axes") for a in axes] or list(range(rank))[::-1]
    if sorted(order) != list(range(rank)):
        raise g.error(f"attribute axes is {axes}, which doesn't order the axes of an input of shape {g.shape(data)}")
    result: ir.Value = g.emit("Transpose", data, perm=order)
    return _still_open(g, result, data)


@lowers("SwapAxis", "swapaxes", "_npi_swapaxes")
def swap_axes(g: Graph, data: ir.Value, *, dim1: int = 0, dim2: int = 0) -> ir.Value:
    """Two axes exchanged."""
    a, b = g.axis(data, dim1, attribute="dim1"), g.axis(data, dim2, attribute="dim2")
    order = list(range(g.rank(data)))
    order[a], order[b] = order[b], order[a]
    return g.node("Transpose", data, perm=order)


# -- slicing --------------------------------------------------------------------------------------------------------------


def cut(
    g: Graph, data: ir.Value, axes: Sequence[int], begin: Sequence[int], end: Sequence[int], step: Sequence[int] | None = None
) -> ir.Value:
    """A Slice node."""
    result: ir.Value = g.emit(
        "Slice", data, list(begin), list(end), list(axes), *([list(step)] if step and any(s != 1 for s in step) else [])
    )
    if any(d == 0 for d in g.shape(result)):
        raise g.error(f"the slice of an input of shape {g.shape(data)} is empty")
    return result


@lowers("slice", "crop", "_npi_slice", "_npx_slice")
def slice_(g: Graph, data: ir.Value, *, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone = ()) -> ir.Value:
    """A part of each axis, with steps, backwards too."""
    axes, begins, ends, steps = slice_ranges(g, data, begin, end, step)
    return cut(g, data, axes, begins, ends, steps) if axes else g.identity(data)


def slice_ranges(
    g: Graph, data: ir.Value, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Axes, begins, ends and steps of a Slice node, without the axes that stay whole."""
    if len(begin) != len(end) or len(begin) > g.rank(data) or (step and len(step) != len(begin)):
        raise g.error(f"begin {begin}, end {end} and step {step} don't fit together, or not the input of shape {g.shape(data)}")
    axes, begins, ends, steps = [], [], [], []
    for axis, (b, e) in enumerate(zip(begin, end, strict=True)):
        s = (step[axis] if step else None) or 1
        if b is None and e is None and s == 1:
            continue
        axes.append(axis)
        begins.append((0 if s > 0 else END) if b is None else b)
        ends.append((END if s > 0 else -END) if e is None else e)
        steps.append(s)
    return axes, begins, ends, steps


@lowers("slice_axis")
def slice_axis(g: Graph, data: ir.Value, *, axis: int, begin: int, end: int | None) -> ir.Value:
    """A part of one axis."""
    return cut(g, data, [g.axis(data, axis)], [begin], [END if end is None else end])


@lowers("slice_like")
def slice_like(g: Graph, data: ir.Value, shape_like: ir.Value, *, axes: Ints = ()) -> ir.Value:
    """The first input cut to the second's sizes, on all axes or some."""
    if not axes and g.rank(data) != g.rank(shape_like):
        raise g.error(f"the inputs have shapes {g.shape(data)} and {g.shape(shape_like)}; name the axes to cut")
    chosen = [g.axis(data, a, attribute="axes") for a in axes] or list(range(g.rank(data)))
    wanted, sizes = g.shape(shape_like), g.shape(data)
    for a in chosen:
        target = wanted[a] if a < len(wanted) else None
        size = sizes[a]
        if isinstance(target, int) and isinstance(size, int) and target > size:
            raise g.error(f"axis {a} has size {size}, which can't be cut to {target}")
    fixed_axes = [a for a in chosen if wanted[a] != sizes[a]]
    if not fixed_axes:
        return g.identity(data)
    ends = [g.fixed(shape_like, a, a + 1)[0] for a in fixed_axes]
    return cut(g, data, fixed_axes, [0] * len(ends), ends)


@lowers("Crop")
def crop(g: Graph, *data: ir.Value, num_args: int = 1, offset: Ints = (0, 0), h_w: Ints = (0, 0), center_crop: bool = False) -> ir.Value:
    """A window of (N, C, H, W): of a given size or of the second input's, at an offset or in the centre."""
    if not 1 <= len(data) <= 2 or len(offset) != 2 or len(h_w) != 2:
        raise g.error("one or two inputs, and two numbers each for offset and h_w are needed")
    target = g.fixed(data[1], 2, 4) if len(data) == 2 else h_w
    sizes = g.fixed(data[0], 2, 4)
    start = [(s - t) // 2 for s, t in zip(sizes, target, strict=True)] if center_crop else list(offset)
    if any(t < 1 or b < 0 or b + t > s for t, b, s in zip(target, start, sizes, strict=True)):
        raise g.error(f"a window of {tuple(target)} at {tuple(start)} doesn't lie in the input of shape {g.shape(data[0])}")
    return cut(g, data[0], [2, 3], start, [b + t for b, t in zip(start, target, strict=True)])


@lowers("SliceChannel", "split")
def slice_channel(g: Graph, data: ir.Value, *, num_outputs: int, axis: int = 1, squeeze_axis: bool = False) -> list[ir.Value]:
    """Equal parts of an axis, which is dropped with squeeze_axis."""
    axis = g.axis(data, axis)
    size = g.fixed(data, axis, axis + 1)[0]
    if num_outputs < 1 or size % num_outputs or (squeeze_axis and size != num_outputs):
        raise g.error(f"axis {axis} of size {size} doesn't divide into {num_outputs} parts" + (" of size 1" if squeeze_axis else ""))
    g.room(num_outputs)
    return _parts(g, data, axis, [size // num_outputs] * num_outputs, squeeze_axis)


def _parts(g: Graph, data: ir.Value, axis: int, sizes: list[int], squeeze_axis: bool) -> list[ir.Value]:
    parts: list[ir.Value]
    if len(sizes) > 1 << 16:
        raise g.error(f"{len(sizes)} parts; at most {1 << 16} are made")
    if len(sizes) == 1:
        parts = [g.identity(data)]
    else:
        parts = g.emit("Split", data, sizes, outputs=len(sizes), axis=axis)
    for part in parts:
        _still_open(g, part, data)
    return [_still_open(g, g.emit("Squeeze", part, [axis]), part) for part in parts] if squeeze_axis else parts


@lowers("_split_v2", "_npi_split")
def split_v2(
    g: Graph, data: ir.Value, *, indices: Ints = (), axis: int = 1, squeeze_axis: bool = False, sections: int = 0
) -> ir.Value | list[ir.Value]:
    """Parts of an axis: as many equal ones as `sections`, or those that begin at the indices."""
    axis = g.axis(data, axis)
    size = g.fixed(data, axis, axis + 1)[0]
    if sections > 0:
        if size % sections:
            raise g.error(f"axis {axis} of size {size} doesn't divide into {sections} parts")
        g.room(sections)
        return _parts(g, data, axis, [size // sections] * sections, squeeze_axis)
    starts = list(indices) if indices and indices[0] == 0 else [0, *indices]
    sizes = [b - a for a, b in zip(starts, [*starts[1:], size], strict=True)]
    if min(sizes) < 1:
        raise g.error(f"attribute indices is {indices}, which doesn't split an axis of size {size} into non-empty parts")
    return _parts(g, data, axis, sizes, squeeze_axis)


# -- joining and repeating ------------------------------------------------------------------------------------------------


@lowers("Concat", "concat", "_rnn_param_concat")
def concat(g: Graph, *data: ir.Value, dim: int = 1) -> ir.Value:
    """Inputs joined along an axis."""
    if not data:
        raise g.error("it has no inputs")
    if len(data) == 1:
        return g.identity(data[0])
    return g.node("Concat", *_closed(g, data), axis=g.axis(data[0], dim, attribute="dim"))


def _closed(g: Graph, data: Sequence[ir.Value]) -> list[ir.Value]:
    """The inputs in one type, those with open sizes grown to their neighbours'."""
    kind = g.dtype(data[0])
    whole = next((value for value in data if value not in g.open_values), None)
    result = []
    for value in data:
        if value in g.open_values and whole is not None:
            value = g.emit("Expand", value, g.emit("Shape", whole), shape=g.shape(whole))
        result.append(g.cast(value, kind))
    return result


@lowers("stack")
def stack(g: Graph, *data: ir.Value, axis: int = 0) -> ir.Value:
    """Inputs joined along a new axis."""
    if not data:
        raise g.error("it has no inputs")
    where = g.axis(data[0], axis, extra=1)
    return g.node("Concat", *(g.emit("Unsqueeze", value, [where]) for value in _closed(g, data)), axis=where)


@lowers("tile", "_npi_tile")
def tile(g: Graph, data: ir.Value, *, reps: Ints) -> ir.Value:
    """The whole array repeated along its axes."""
    if any(r < 1 for r in reps):
        raise g.error(f"attribute reps is {reps}; at least 1 of each makes sense")
    x, rank = data, g.rank(data)
    if len(reps) > rank:
        x = g.emit("Unsqueeze", data, list(range(len(reps) - rank)))
    return g.node("Tile", x, [1] * (g.rank(x) - len(reps)) + list(reps))


@lowers("repeat")
def repeat(g: Graph, data: ir.Value, *, repeats: int, axis: int | None = None) -> ir.Value:
    """Every element repeated along an axis, or all in a row."""
    if repeats < 1:
        raise g.error(f"attribute repeats is {repeats}; at least 1 makes sense")
    x = data if axis is not None else reshape_to(g, data, [times([size_of(g, data, i) for i in range(g.rank(data))])])
    where = g.axis(x, axis if axis is not None else 0)
    sizes = [size_of(g, x, i) for i in range(g.rank(x))]
    wide = g.emit("Unsqueeze", x, [where + 1])
    tiled = g.emit("Tile", wide, [repeats if i == where + 1 else 1 for i in range(len(sizes) + 1)])
    sizes[where] = times([sizes[where], (repeats, ())])
    entries = [0 if i < where else -1 if i == where else as_dim(size) for i, size in enumerate(sizes)]
    if not all(isinstance(entry, int) for entry in entries):
        g.fixed(data)
    return g.node("Reshape", tiled, [int(e) for e in entries], shape=[as_dim(s) for s in sizes])


@lowers("reverse", "flip")
def reverse(g: Graph, data: ir.Value, *, axis: Ints) -> ir.Value:
    """Axes read backwards."""
    axes = [g.axis(data, a) for a in axis]
    return cut(g, data, axes, [END] * len(axes), [-END] * len(axes), [-1] * len(axes))


@lowers("broadcast_axis", "broadcast_axes")
def broadcast_axis(g: Graph, data: ir.Value, *, axis: Ints = (), size: Ints = ()) -> ir.Value:
    """Axes of size 1 repeated to a size."""
    if len(axis) != len(size):
        raise g.error(f"axis {axis} and size {size} must have as many entries")
    sizes = {g.axis(data, a): s for a, s in zip(axis, size, strict=True)}
    dims = g.shape(data)
    if any(isinstance(dims[a], int) and dims[a] != 1 for a in sizes) or any(s < 1 for s in size):
        raise g.error(f"only axes of size 1 can be repeated; the input has shape {dims}, axis is {axis}, size {size}")
    return g.node("Expand", data, [sizes.get(i, 1) for i in range(len(dims))])


@lowers("broadcast_to")
def broadcast_to(g: Graph, data: ir.Value, *, shape: Ints) -> ir.Value:
    """Axes of size 1 repeated to a shape, in which 0 keeps a size."""
    dims = g.shape(data)
    if len(shape) != len(dims) or any(isinstance(d, int) and s not in (0, d) and d != 1 for d, s in zip(dims, shape, strict=False)):
        raise g.error(f"an input of shape {dims} can't be repeated to {shape}")
    return g.node("Expand", data, [1 if s == 0 or s == d else s for d, s in zip(dims, shape, strict=True)])


@lowers("broadcast_like")
def broadcast_like(g: Graph, lhs: ir.Value, rhs: ir.Value, *, lhs_axes: Ints | None = None, rhs_axes: Ints | None = None) -> ir.Value:
    """Axes of size 1 of the first input repeated to the second's sizes, on all axes or some."""
    if lhs_axes is None or rhs_axes is None:
        if g.rank(lhs) != g.rank(rhs):
            raise g.error(f"the inputs have shapes {g.shape(lhs)} and {g.shape(rhs)}; they need as many axes")
        return g.node("Expand", lhs, g.emit("Shape", rhs), shape=g.shape(rhs))
    if len(lhs_axes) != len(rhs_axes):
        raise g.error(f"lhs_axes {lhs_axes} and rhs_axes {rhs_axes} must have as many entries")
    target = [1] * g.rank(lhs)
    for a, b in zip(lhs_axes, rhs_axes, strict=True):
        there = g.axis(rhs, b, attribute="rhs_axes")
        target[g.axis(lhs, a, attribute="lhs_axes")] = g.fixed(rhs, there, there + 1)[0]
    return g.node("Expand", lhs, target)


@lowers("Pad", "pad")
def pad(
    g: Graph, data: ir.Value, *, mode: Literal["constant", "edge", "reflect"], pad_width: Ints, constant_value: float = 0.0
) -> ir.Value:
    """Borders of a constant, of the edge's values, or mirrored without the edge; pad_width holds before and after of each axis."""
    rank = g.rank(data)
    if len(pad_width) != 2 * rank or min(pad_width) < 0:
        raise g.error(f"attribute pad_width is {pad_width}; an input of shape {g.shape(data)} needs {2 * rank} numbers of at least 0")
    pads = [*pad_width[::2], *pad_width[1::2]]
    if mode == "constant":
        value = np.array(constant_value, g.dtype(data))
        return g.node("Pad", data, pads, value, mode=mode)
    if mode == "reflect":
        for axis in range(rank):
            size = g.shape(data)[axis]
            if isinstance(size, int) and max(pad_width[2 * axis], pad_width[2 * axis + 1]) >= size and size > 1:
                raise g.error(f"a mirrored border of {pad_width[2 * axis : 2 * axis + 2]} doesn't fit an axis of size {size}")
    return g.node("Pad", data, pads, mode=mode)


@lowers("depth_to_space")
def depth_to_space(g: Graph, data: ir.Value, *, block_size: int) -> ir.Value:
    """Blocks of channels laid out as pixels."""
    count = g.fixed(data, 1, 2)[0]
    if block_size < 1 or count % (block_size * block_size):
        raise g.error(f"{count} channels don't divide into blocks of {block_size} x {block_size}")
    return g.node("DepthToSpace", data, blocksize=block_size, mode="DCR")


@lowers("space_to_depth")
def space_to_depth(g: Graph, data: ir.Value, *, block_size: int) -> ir.Value:
    """Blocks of pixels laid out as channels."""
    if block_size < 1 or any(isinstance(d, int) and d % block_size for d in g.shape(data)[2:]):
        raise g.error(f"an input of shape {g.shape(data)} doesn't divide into blocks of {block_size} x {block_size}")
    return g.node("SpaceToDepth", data, blocksize=block_size)


@lowers("shape_array", "_npx_shape_array")
def shape_array(g: Graph, data: ir.Value) -> ir.Value:
    """The sizes, as int64."""
    return g.node("Shape", data)


@lowers("size_array")
def size_array(g: Graph, data: ir.Value) -> ir.Value:
    """The number of elements, as int64, shape (1,)."""
    return g.node("Reshape", g.emit("Size", data), [1])


@lowers("_slice_assign", "_crop_assign")
def slice_assign(g: Graph, lhs: ir.Value, rhs: ir.Value, *, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone = ()) -> ir.Value:
    """The first input with a part of it replaced by the second."""
    return _assign(g, lhs, rhs, begin, end, step)


@lowers("_slice_assign_scalar", "_crop_assign_scalar")
def slice_assign_scalar(
    g: Graph, data: ir.Value, *, scalar: float = 0.0, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone = ()
) -> ir.Value:
    """The input with a part of it replaced by a number."""
    return _assign(g, data, g.const(np.array(scalar, g.dtype(data))), begin, end, step)


def _assign(g: Graph, data: ir.Value, part: ir.Value, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone) -> ir.Value:
    sizes = g.fixed(data)
    g.room(*sizes)
    positions = np.arange(math.prod(sizes)).reshape(sizes)
    slices = tuple(slice(b, e, s) for b, e, s in zip(begin, end, step or [None] * len(begin), strict=True))
    chosen = positions[slices]
    if not chosen.size:
        raise g.error(f"the slice of an input of shape {sizes} is empty")
    values = g.emit("Reshape", g.emit("Expand", part, list(chosen.shape)), [-1])
    indices = g.const(chosen.reshape(-1, 1).astype(np.int64), role="positions")
    changed = g.emit("ScatterND", g.emit("Reshape", data, [-1]), indices, values)
    return g.node("Reshape", changed, list(sizes))


@lowers("diag")
def diag(g: Graph, data: ir.Value, *, k: int = 0, axis1: int = 0, axis2: int = 1) -> ir.Value:
    """A vector as a diagonal matrix, or the diagonal of two axes, which becomes the last axis."""
    sizes = g.fixed(data)
    if len(sizes) == 1:
        size = sizes[0] + abs(k)
        g.room(size, size)
        mask = np.eye(size, k=k, dtype=np.bool_)
        padded = g.emit("Pad", data, [max(0, -k), max(0, k)], np.zeros((), g.dtype(data)))
        rows = g.emit("Unsqueeze", padded, [1] if k >= 0 else [0])
        if k >= 0:  # row i holds element i
            rows = g.emit("Unsqueeze", g.emit("Pad", data, [0, k], np.zeros((), g.dtype(data))), [1])
        else:  # column j holds element j
            rows = g.emit("Unsqueeze", g.emit("Pad", data, [0, -k], np.zeros((), g.dtype(data))), [0])
        return g.node("Where", g.const(mask, role="mask"), rows, np.zeros((), g.dtype(data)))
    a, b = g.axis(data, axis1, attribute="axis1"), g.axis(data, axis2, attribute="axis2")
    if a == b:
        raise g.error(f"axis1 and axis2 are the same axis, {a}")
    g.room(sizes[a], sizes[b])
    rest = [i for i in range(len(sizes)) if i not in (a, b)]
    chosen = np.arange(sizes[a] * sizes[b]).reshape(sizes[a], sizes[b]).diagonal(k)
    if not chosen.size:
        raise g.error(f"there is no diagonal {k} in an input of shape {sizes}")
    moved = g.emit("Transpose", data, perm=[*rest, a, b])
    flat = g.emit("Reshape", moved, [*(sizes[i] for i in rest), -1])
    return g.node("Gather", flat, g.const(chosen.astype(np.int64), role="positions"), axis=len(rest))
