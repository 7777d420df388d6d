"""Picking elements. Sources: TensorFlow's core/util/strided_slice_op.cc, core/kernels/{gather,one_hot,slice}_op.cc."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.tensorflow.bounds import Bound, bounds, operand, plus
from converters.readers.tensorflow.operators.shape import padded_by, reshaped
from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.values import Array, Length, identity, moved
from converters.readers.tensorflow.windows import paddings, spatial

_END = np.iinfo(np.int64).max


def _index(g: TensorBuilder, node: Node, rank: int, begin: Sequence[Bound], end: Sequence[Bound], strides: Sequence[int]) -> list[Any]:
    """The entries as Python would write them: slices, bounds, None for a new axis; an ellipsis is spelled out."""

    def bit(name: str, i: int) -> bool:
        return bool(node.integer(name, 0) >> i & 1)

    entries: list[Any] = []
    for i, (b, e, s) in enumerate(zip(begin, end, strides, strict=True)):
        if bit("ellipsis_mask", i):
            entries.append(Ellipsis)
        elif bit("new_axis_mask", i):
            entries.append(None)
        elif bit("shrink_axis_mask", i):
            entries.append(b)
        else:
            entries.append(slice(None if bit("begin_mask", i) else b, None if bit("end_mask", i) else e, s))
    taken = sum(entry is not None and entry is not Ellipsis for entry in entries)
    if Ellipsis not in entries:
        entries.append(Ellipsis)
    if entries.count(Ellipsis) > 1 or taken > rank:
        raise g.error(f"slices {taken} axes of {rank}")
    at = entries.index(Ellipsis)
    return [*entries[:at], *[slice(None)] * (rank - taken), *entries[at + 1 :]]


def _sliced(g: TensorBuilder, node: Node, x: Array, begin: Array, end: Array, strides: Array) -> Array:
    lists = [[int(n) for n in part.reshape(-1)] for part in (begin, end, strides)]
    return np.asarray(x[tuple(_index(g, node, x.ndim, *lists))])


@lowers("StridedSlice", fold=_sliced, structural=True)
def strided_slice(g: TensorBuilder, node: Node, x: Tensor, begin: Tensor, end: Tensor, strides: Tensor) -> Tensor:
    """x[begin:end:stride, ...] as Python slices, with its new axes, left-out axes and ellipsis in bit masks."""
    index = _index(g, node, x.rank, bounds(g, begin, "begin"), bounds(g, end, "end"), g.integers(strides, "strides"))
    value, order = g.lying(x)
    places: list[tuple[int, Bound, Bound, int]] = []
    shrunk, new = [], []
    axis = position = 0
    for entry in index:
        if entry is None:
            new.append(position)
            position += 1
            continue
        if isinstance(entry, slice):
            step = entry.step if entry.step is not None else 1
            if step == 0:
                raise g.error("a slice with steps of 0")
            start = entry.start if entry.start is not None else (0 if step > 0 else _END)
            stop = entry.stop if entry.stop is not None else (_END if step > 0 else -_END)
            if entry != slice(None) and (start, stop, step) != (0, _END, 1):
                places.append((order.index(axis), start, stop, step))
            position += 1
        else:
            last = isinstance(entry, int) and entry == -1
            places.append((order.index(axis), entry, _END if last else plus(g, entry, 1), 1))
            shrunk.append(axis)
        axis += 1
    value = _between(g, value, places)
    if shrunk:
        value = g.emit("Squeeze", value, sorted(order.index(axis) for axis in shrunk))
        order = moved(order, shrunk)
    if new:
        value = g.emit("Unsqueeze", g.ordered(g.result(value, order), identity(len(order))), new)
        order = identity(len(order) + len(new))
    return g.result(value, order)


def _between(g: TensorBuilder, value: ir.Value, places: Sequence[tuple[int, Bound, Bound, int]]) -> ir.Value:
    """What lies between two bounds of some axes, (axis, start, stop, step): first by numbers, then by what is known when the net runs."""
    fixed = [place for place in places if isinstance(place[1], int) and isinstance(place[2], int)]
    for chosen in (fixed, [place for place in places if place not in fixed]):
        if not chosen:
            continue
        axes, starts, stops, steps = (list(column) for column in zip(*chosen, strict=True))
        shape = None if chosen is fixed else [None if axis in axes else size for axis, size in enumerate(g.shape(value))]
        value = g.emit("Slice", value, operand(g, starts), operand(g, stops), axes, steps, shape=shape)
    return value


def _part(g: TensorBuilder, node: Node, x: Array, begin: Array, size: Array) -> Array:
    pairs = zip(begin.reshape(-1), size.reshape(-1), strict=True)
    return np.asarray(x[tuple(slice(int(b), None if n == -1 else int(b) + int(n)) for b, n in pairs)])


@lowers("Slice", fold=_part, structural=True)
def slice_(g: TensorBuilder, node: Node, x: Tensor, begin: Tensor, size: Tensor) -> Tensor:
    """A part of x by begin and size of each axis; a size of -1 is all that is left."""
    starts, counts = bounds(g, begin, "begin"), bounds(g, size, "size")
    x = g.settled(x)
    value, order = g.lying(x)
    if len(starts) != x.rank or len(counts) != x.rank or any(isinstance(start, int) and start < 0 for start in starts):
        raise g.error(f"cuts at {starts} with sizes {counts}, but the input has {x.rank} axes")
    whole = [entry.extent if isinstance(entry, Length) else entry for entry in g.lengths(x)]
    places: list[tuple[int, Bound, Bound, int]] = []
    for axis, (start, count) in enumerate(zip(starts, counts, strict=True)):
        rest = isinstance(count, int) and count == -1
        if isinstance(start, int) and not start and (rest or (isinstance(count, Extent) and count == whole[axis])):
            continue
        places.append((order.index(axis), start, _END if rest else plus(g, start, count), 1))
    return g.result(_between(g, value, places), order)


def _taken(x: Array, at: Array, *axis: Array) -> Array:
    return np.take(x, at.astype(np.int64), int(axis[0].reshape(())) if axis else 0)


@lowers(
    "Gather",
    "GatherV2",
    "ResourceGather",
    fold=lambda g, node, x, at, *axis: _taken(x, at, *axis),
    structural=True,
)
def gather(g: TensorBuilder, node: Node, x: Tensor, indices: Tensor, *axis: Tensor) -> Tensor:
    """The entries at some places of an axis (the first, unless stated)."""
    if node.integer("batch_dims", 0):
        raise g.error(f"batch_dims {node.integer('batch_dims', 0)}, which isn't known here")
    x = g.settled(x)
    chosen = g.axis_of(int(g.array(axis[0], "axis").reshape(())), x.rank) if axis else 0
    places = g.plain(indices)
    if indices.rank <= 1 and x.value is not None:
        made = g.emit("Gather", x.value, places, axis=x.axis(chosen))
        return g.result(made, x.order if indices.rank else moved(x.order, [chosen]))
    return g.result(g.emit("Gather", g.plain(x), places, axis=chosen))


@lowers("GatherNd")
def gather_nd(g: TensorBuilder, node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """The entries at places that the last axis of the indices states."""
    return g.result(g.emit("GatherND", g.plain(x), g.cast(g.plain(indices), np.int64)))


@lowers("OneHot")
def one_hot(g: TensorBuilder, node: Node, indices: Tensor, depth: Tensor, on: Tensor, off: Tensor) -> Tensor:
    """A new axis with `on` at the place that a number states, and `off` elsewhere; a number outside gives `off` everywhere."""
    count = int(g.array(depth, "depth").reshape(()))
    g.check_table(count)
    axis = node.integer("axis", -1)
    places = g.cast(g.plain(indices), np.int64)
    inside = g.emit("And", g.emit("GreaterOrEqual", places, 0), g.emit("Less", places, count))
    valid = g.emit("Where", inside, places, count)  # ONNX counts numbers below 0 from the end; one more class takes what is outside
    values = np.array([g.array(off, "off").reshape(())[()], g.array(on, "on").reshape(())[()]])
    made = g.emit("OneHot", valid, np.array(count + 1, np.int64), values, axis=axis)
    at = g.axis_of(axis, indices.rank + 1)
    return g.result(g.emit("Slice", made, [0], [count], [at]))


@lowers("ReverseV2", fold=lambda g, node, x, axes: np.flip(x, tuple(int(n) for n in axes.reshape(-1))))
def reverse(g: TensorBuilder, node: Node, x: Tensor, axes: Tensor) -> Tensor:
    """The elements of some axes from the last to the first."""
    value, order = g.lying(x)
    places = [order.index(g.axis_of(axis, x.rank)) for axis in g.integers(axes, "axis")]
    if not places:
        return x
    count = len(places)
    return g.result(g.emit("Slice", value, [_END] * count, [-_END] * count, places, [-1] * count), order)


@lowers("ExtractImagePatches")
def extract_patches(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Each window's pixels as channels: (N, rows, columns, h * w * C), in the order (y, x, channel); SAME pads with zeros."""
    kernel, strides, rates = (spatial(g, node, name, x.rank) for name in ("ksizes", "strides", "rates"))
    if x.rank != 4:
        raise g.error(f"takes images of 4 axes, but its input has {x.rank}")
    x = g.settled(x)
    _, height, width, _ = g.dims(x)
    if not isinstance(height, int) or not isinstance(width, int):
        raise g.needs_number("needs the size of the image")
    g.is_sized = True
    before, behind = paddings(g, node, [height, width], kernel, strides, rates) or ([0, 0], [0, 0])
    amounts = np.array([[0, 0], [before[0], behind[0]], [before[1], behind[1]], [0, 0]])
    value = g.plain(padded_by(g, x, Tensor(np.dtype(np.int64), array=amounts), None, "constant"))
    rows, columns = (
        (np.arange((n + b + a - (k - 1) * r - 1) // s + 1) * s)[:, None] + np.arange(k) * r
        for n, b, a, k, s, r in zip((height, width), before, behind, kernel, strides, rates, strict=True)
    )
    if not rows.size or not columns.size:
        raise g.error(f"windows {kernel} on an image of {height} x {width}")
    value = g.emit("Gather", value, rows.astype(np.int64), axis=1)  # (N, R, h, W, C)
    value = g.emit("Gather", value, columns.astype(np.int64), axis=3)  # (N, R, h, S, w, C)
    turned = g.result(g.emit("Transpose", value, perm=[0, 1, 3, 2, 4, 5]))
    channels = g.dims(x)[3]
    last = kernel[0] * kernel[1] * channels if isinstance(channels, int) else None
    assert turned.value is not None
    return reshaped(g, turned, [g.extents(turned.value)[0], len(rows), len(columns), last])
