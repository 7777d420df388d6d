"""Slicing. Sources: mxnet src/operator/tensor/matrix_op.cc, slice_channel-inl.h, crop-inl.h."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.attributes import Ints, IntsOrNone
from converters.readers.mxnet.axes import BATCH, Axes, first, is_set
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.shape import END
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import Size, as_dim, number_of
from converters.readers.mxnet.symbol import Node


def cut(
    g: OperatorBuilder, data: ir.Value, axes: Sequence[int], begin: Sequence[int], end: Sequence[int], step: Sequence[int] | None = None
) -> ir.Value:
    """A Slice node."""
    steps = list(step or [1] * len(axes))
    result = g.emit("Slice", data, list(begin), list(end), list(axes), *([steps] if any(s != 1 for s in steps) else []))
    ones = {axis for axis, *ends in zip(axes, begin, end, steps, strict=True) if _is_one(*ends)}
    result.shape = ir.Shape([1 if axis in ones else size for axis, size in enumerate(g.shape(result))])  # of an open axis too
    if any(d == 0 for d in g.shape(result)):
        raise g.error(f"the slice of an input of shape {g.shape(data)} is empty")
    return result


def _is_one(begin: int, end: int, step: int) -> bool:
    """Whether a slice is one entry of an axis, whatever its size: numpy mode's x[i] is such a one."""
    if step == 1:
        return (end == begin + 1 and begin != -1) or (begin, end) == (-1, END)
    return step == -1 and end == begin - 1 and begin != 0


@lowers("slice", "crop", "_npi_slice", "_npx_slice", axes=first)
def slice_(g: OperatorBuilder, data: ir.Value, *, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone = ()) -> ir.Value:
    """A part of each axis, with steps, backwards too. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    axes, begins, ends, steps = slice_ranges(g, data, begin, end, step)
    return cut(g, data, axes, begins, ends, steps) if axes else g.identity(data)


def slice_ranges(
    g: OperatorBuilder, data: ir.Value, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Axes, begins, ends and steps of a Slice node, without the axes that stay whole."""
    if len(begin) != len(end) or len(begin) > g.rank(data) or (step and len(step) != len(begin)):
        raise g.error(f"begin {begin}, end {end} and step {step} don't fit together, or not the input of shape {g.shape(data)}")
    axes, begins, ends, steps = [], [], [], []
    for axis, (b, e) in enumerate(zip(begin, end, strict=True)):
        s = (step[axis] if step else None) or 1
        if b in (None, 0) and e is None and s == 1:
            continue
        axes.append(axis)
        begins.append((0 if s > 0 else END) if b is None else b)
        ends.append((END if s > 0 else -END) if e is None else e)
        steps.append(s)
    return axes, begins, ends, steps


@lowers("slice_axis", axes=first)
def slice_axis(g: OperatorBuilder, data: ir.Value, *, axis: int, begin: int, end: int | None) -> ir.Value:
    """A part of one axis. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    return cut(g, data, [g.axis(data, axis)], [begin], [END if end is None else end])


@lowers("slice_like")
def slice_like(g: OperatorBuilder, data: ir.Value, shape_like: ir.Value, *, axes: Ints = ()) -> ir.Value:
    """The first input cut to the second's sizes, on all axes or some. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    if not axes and g.rank(data) != g.rank(shape_like):
        raise g.error(f"the inputs have shapes {g.shape(data)} and {g.shape(shape_like)}; name the axes to cut")
    chosen = [g.axis(data, a, attribute="axes") for a in axes] or list(range(g.rank(data)))
    wanted, sizes = g.shape(shape_like), g.shape(data)
    for a in chosen:
        target, size = wanted[a] if a < len(wanted) else None, sizes[a]
        if a >= len(wanted) or (isinstance(target, int) and isinstance(size, int) and target > size):
            raise g.error(f"axis {a} has size {size}, which can't be cut to {target}")
    chosen = [a for a in chosen if isinstance(sizes[a], int) or sizes[a] != wanted[a]]  # one batch is as long as another
    return window(g, data, chosen, [0] * len(chosen), [Extent(shape_like, a) for a in chosen]) if chosen else g.identity(data)


def window(
    g: OperatorBuilder, data: ir.Value, axes: Sequence[int], begin: ir.Value | list[int], lengths: Sequence[int | Extent]
) -> ir.Value:
    """So many elements of some axes, from a beginning on; where the data are shorter when the net runs, an error and no shorter answer."""
    counts = g.sizes(lengths)
    if isinstance(begin, list) and isinstance(counts, list):
        ends: ir.Value | list[int] = [b + c for b, c in zip(begin, counts, strict=True)]
    else:
        ends = counts if isinstance(begin, list) and not any(begin) else g.emit("Add", counts, begin)
    chosen = dict(zip(axes, lengths, strict=True))
    sliced = g.emit("Slice", data, begin, ends, list(axes))
    return g.reshape(sliced, [chosen.get(axis, extent) for axis, extent in enumerate(g.extents(data))], absolute=True)


@lowers("Crop")
def crop(
    g: OperatorBuilder, *data: ir.Value, num_args: int = 1, offset: Ints = (0, 0), h_w: Ints = (0, 0), center_crop: bool = False
) -> ir.Value:
    """A window of (N, C, H, W): of a given size or of the second input's, at an offset or in the center.

    Source: mxnet src/operator/crop-inl.h.
    """
    if not 1 <= len(data) <= 2 or len(offset) != 2 or len(h_w) != 2:
        raise g.error("one or two inputs, and two numbers each for offset and h_w are needed")
    whole = g.extents(data[0], 2, 4)
    target: list[int | Extent] = list(g.extents(data[1], 2, 4)) if len(data) == 2 else list(h_w)
    sizes, wanted = g.fixed(data[0], 2, 4), g.fixed(data[1], 2, 4) if len(data) == 2 else h_w
    start = [(s - t) // 2 for s, t in zip(sizes, wanted, strict=True)] if center_crop else list(offset)
    if any(t < 1 or b < 0 or b + t > s for t, b, s in zip(wanted, start, sizes, strict=True)):
        raise g.error(f"a window of {tuple(wanted)} at {tuple(start)} doesn't lie in the input of shape {g.shape(data[0])}")
    begin: ir.Value | list[int] = start
    if center_crop:
        begin = g.emit("Div", g.emit("Sub", g.sizes(whole), g.sizes(target)), 2)
    return window(g, data[0], [2, 3], begin, target)


def _steps(node: Node) -> dict[int, Axes]:
    """A sequence that is taken apart into its steps, as cells that are unrolled over (T, N, C) do, has its batch on axis 1."""
    return {0: {1: BATCH}} if node.attributes.get("axis") == "0" and is_set(node, "squeeze_axis") else {}


@lowers("SliceChannel", "split", sequences=_steps)
def slice_channel(g: OperatorBuilder, data: ir.Value, *, num_outputs: int, axis: int = 1, squeeze_axis: bool = False) -> list[ir.Value]:
    """Equal parts of an axis, which is dropped with squeeze_axis. Source: mxnet src/operator/slice_channel-inl.h."""
    axis = g.axis(data, axis)
    size = _counted(g, data, axis, num_outputs, squeeze_axis)
    if num_outputs < 1 or (not size[1] and (size[0] % num_outputs or (squeeze_axis and size[0] != num_outputs))):
        parts = f"{num_outputs} parts" + (" of size 1" if squeeze_axis else "")
        raise g.error(f"axis {axis} of size {as_dim(size)} doesn't divide into {parts}")
    g.check_table(num_outputs)
    return _parts(g, data, axis, _equal(g, data, axis, num_outputs), squeeze_axis)


def _counted(g: OperatorBuilder, data: ir.Value, axis: int, count: int, squeeze_axis: bool) -> Size:
    """The size of an axis that is cut; a number where its parts are single entries, as of a loop that is written out."""
    size = g.size(data, axis)
    if size[1] and (squeeze_axis or number_of(size, g.given) == count):
        return g.fixed(data, axis, axis + 1)[0], ()
    return size


def _equal(g: OperatorBuilder, data: ir.Value, axis: int, count: int) -> list[int | Extent]:
    """The sizes of equal parts of an axis; where its length is open, a length that doesn't divide is the runtime's error."""
    size = g.size(data, axis)
    if not size[1]:
        return [size[0] // count] * count
    g.divided(size, (count, ()))
    return [Extent(data, axis, over=count)] * count


def _parts(g: OperatorBuilder, data: ir.Value, axis: int, sizes: Sequence[int | Extent], squeeze_axis: bool) -> list[ir.Value]:
    parts: list[ir.Value]
    if len(sizes) > 1 << 16:
        raise g.error(f"{len(sizes)} parts; at most {1 << 16} are made")
    if len(sizes) == 1:
        parts = [g.identity(data)]
    else:
        parts = list(g.emit_all("Split", data, g.sizes(sizes), outputs=len(sizes), axis=axis))
        for part, size in zip(parts, sizes, strict=True):
            dims = list(g.shape(part))
            if isinstance(size, Extent) and size.over > 1:
                dims[axis] = as_dim(g.divided(g.size(data, axis), (size.over, ())))
                part.shape = ir.Shape(dims)
    return [g.emit("Squeeze", part, [axis]) for part in parts] if squeeze_axis else parts


@lowers("_split_v2", "_npi_split")
def split_v2(
    g: OperatorBuilder, data: ir.Value, *, indices: Ints = (), axis: int = 1, squeeze_axis: bool = False, sections: int = 0
) -> ir.Value | list[ir.Value]:
    """Parts of an axis: as many equal ones as `sections`, or those that begin at the indices.

    Source: mxnet src/operator/tensor/matrix_op-inl.h.
    """
    return parts_of_axis(g, data, g.axis(data, axis), indices, sections, squeeze_axis)


def parts_of_axis(
    g: OperatorBuilder, data: ir.Value, axis: int, indices: Ints, sections: int, squeeze_axis: bool
) -> ir.Value | list[ir.Value]:
    """As many equal parts as `sections`, or those that begin at the indices."""
    size = _counted(g, data, axis, sections, squeeze_axis)
    if sections > 0:
        g.check_table(sections)
        length = number_of(size, g.given)
        if size[1] and length is not None and length % sections:  # which elements are whose depends on the length
            size = g.fixed(data, axis, axis + 1)[0], ()
        if size[1]:
            return _parts(g, data, axis, _equal(g, data, axis, sections), squeeze_axis)
        some, more = divmod(size[0], sections)
        if some < 1:
            raise g.error(f"axis {axis} of size {size[0]} doesn't divide into {sections} parts")
        return _parts(g, data, axis, [some + 1] * more + [some] * (sections - more), squeeze_axis)
    starts = list(indices) if indices and indices[0] == 0 else [0, *indices]
    sizes: list[int | Extent] = [b - a for a, b in pairwise(starts)]
    last = number_of(size, g.given) or starts[-1] + 1
    if min([last - starts[-1], *(b - a for a, b in pairwise(starts))]) < 1:
        raise g.error(f"attribute indices is {indices}, which doesn't split an axis of size {last} into non-empty parts")
    sizes.append(Extent(data, axis, plus=-starts[-1]) if size[1] else size[0] - starts[-1])
    return _parts(g, data, axis, sizes, squeeze_axis)


@lowers("_slice_assign", "_crop_assign", "_npi_slice_assign")
def slice_assign(
    g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, *, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone = ()
) -> ir.Value:
    """The first input with a part of it replaced by the second. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    return _assign(g, lhs, rhs, begin, end, step)


@lowers("_slice_assign_scalar", "_crop_assign_scalar", "_npi_slice_assign_scalar", axes=first)
def slice_assign_scalar(
    g: OperatorBuilder, data: ir.Value, *, scalar: float = 0.0, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone = ()
) -> ir.Value:
    """The input with a part of it replaced by a number. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    return _assign(g, data, g.const(np.array(scalar, g.dtype(data))), begin, end, step)


def _assign(g: OperatorBuilder, data: ir.Value, part: ir.Value, begin: IntsOrNone, end: IntsOrNone, step: IntsOrNone) -> ir.Value:
    axes, _, _, _ = slice_ranges(g, data, begin, end, step)
    if not axes:
        return g.emit("Expand", part, g.emit("Shape", data), shape=g.shape(data))
    steps = step or (None,) * len(begin)
    places = []
    for a in axes:
        row, always = _chosen(g, data, a, begin[a], end[a], steps[a])
        places.append(row)
        data = data if always else g.pin(data, a, a + 1)
    g.check_table(*(len(row) for row in places), len(axes))
    if not all(len(row) for row in places):
        raise g.error(f"the slice of an input of shape {g.shape(data)} is empty")
    rank = g.rank(data)
    rest = [axis for axis in range(rank) if axis not in axes]
    order = [*axes, *rest]
    lengths: list[int | Extent] = [len(places[axes.index(a)]) if a in axes else Extent(data, a) for a in range(rank)]
    values = g.emit("Transpose", g.emit("Expand", part, g.sizes(lengths)), perm=order)
    indices = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1).astype(np.int64)
    changed = g.emit("ScatterND", g.emit("Transpose", data, perm=order), g.const(indices, role="positions"), values)
    return g.emit("Transpose", changed, perm=[order.index(axis) for axis in range(rank)], shape=g.shape(data))


def _chosen(g: OperatorBuilder, data: ir.Value, axis: int, begin: int | None, end: int | None, step: int | None) -> tuple[np.ndarray, bool]:
    """Which positions of an axis a slice takes, and whether they are the same at any length, as those counted from the front are."""
    size = g.size(data, axis)
    from_front = (begin or 0) >= 0 and (step or 1) > 0 and end is not None and end >= 0 and (bool(size[1]) or end <= size[0])
    length = end if from_front and end is not None else g.fixed(data, axis, axis + 1)[0]
    return np.arange(length)[slice(begin, end, step)], from_front
