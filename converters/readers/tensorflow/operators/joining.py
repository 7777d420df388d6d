"""Joining and cutting. Sources: TensorFlow's core/ops/array_ops.cc, core/kernels/{concat,split,pack,unpack}_op.cc."""

from __future__ import annotations

import numpy as np

from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.values import Array, identity, moved


def _concatenated(axis: Array, parts: tuple[Array, ...]) -> Array:
    return np.concatenate([np.asarray(p) for p in parts], int(axis.reshape(())))


@lowers("ConcatV2", fold=lambda g, node, *args: _concatenated(args[-1], args[:-1]), structural=True)
def concat_v2(g: TensorBuilder, node: Node, *args: Tensor) -> Tensor:
    """Tensors one behind the other along an axis, which is the last input."""
    return _joined(g, args[:-1], args[-1])


@lowers("Concat", fold=lambda g, node, *args: _concatenated(args[0], args[1:]), structural=True)
def concat(g: TensorBuilder, node: Node, *args: Tensor) -> Tensor:
    """Tensors one behind the other along an axis, which is the first input."""
    return _joined(g, args[1:], args[0])


def _joined(g: TensorBuilder, parts: tuple[Tensor, ...], axis: Tensor) -> Tensor:
    if not parts or len({x.rank for x in parts}) != 1:
        raise g.error(f"joins tensors of {', '.join(str(x.rank) for x in parts) or 'no'} axes")
    if len({x.dtype for x in parts}) != 1:
        raise g.error(f"joins tensors of the types {', '.join(sorted({x.dtype.name for x in parts}))}")
    chosen = g.axis_of(int(g.array(axis, "axis").reshape(())), parts[0].rank)
    values, order = g.same_order(parts)
    return g.result(values[0] if len(values) == 1 else g.emit("Concat", *values, axis=order.index(chosen)), order)


@lowers("Split", fold=lambda g, node, axis, x: tuple(np.split(x, node.integer("num_split", 1), int(axis.reshape(())))), structural=True)
def split(g: TensorBuilder, node: Node, axis: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Equal parts along an axis, which is the first input."""
    count = node.integer("num_split", 1)
    x = g.settled(x)
    chosen = g.axis_of(int(g.array(axis, "axis").reshape(())), x.rank)
    size = g.dims(x)[chosen]
    if not isinstance(size, int) or count < 1 or size % count:
        raise g.error(f"cuts {size} elements into {count} equal parts")
    return _cut(g, x, chosen, [size // count] * count)


@lowers("SplitV")
def split_v(g: TensorBuilder, node: Node, x: Tensor, sizes: Tensor, axis: Tensor) -> tuple[Tensor, ...]:
    """Parts of stated sizes along an axis, -1 for what is left."""
    x = g.settled(x)
    chosen = g.axis_of(int(g.array(axis, "axis").reshape(())), x.rank)
    listed, size = g.integers(sizes, "sizes"), g.dims(x)[chosen]
    if listed.count(-1) == 1 and isinstance(size, int):
        listed[listed.index(-1)] = size - sum(n for n in listed if n >= 0)
    if min(listed) < 0 or (isinstance(size, int) and sum(listed) != size):
        raise g.error(f"cuts {size} elements into parts of {listed}")
    return _cut(g, x, chosen, listed)


def _cut(g: TensorBuilder, x: Tensor, axis: int, parts: list[int]) -> tuple[Tensor, ...]:
    value, order = g.lying(x)
    if len(parts) == 1:
        return (g.result(value, order),)
    made = g.emit_all("Split", value, parts, outputs=len(parts), axis=order.index(axis))
    return tuple(g.result(part, order) for part in made)


@lowers("Pack", fold=lambda g, node, *parts: np.stack([np.asarray(p) for p in parts], node.integer("axis", 0)), structural=True)
def pack(g: TensorBuilder, node: Node, *parts: Tensor) -> Tensor:
    """Tensors of one shape along a new axis."""
    values, order = g.same_order(parts)
    if order != identity(parts[0].rank):
        values = [g.plain(x) for x in parts]
    axis = g.axis_of(node.integer("axis", 0), parts[0].rank + 1)
    return g.result(g.emit("Concat", *(g.emit("Unsqueeze", value, [axis]) for value in values), axis=axis))


@lowers("Unpack", fold=lambda g, node, x: tuple(np.moveaxis(x, node.integer("axis", 0), 0)), structural=True)
def unpack(g: TensorBuilder, node: Node, x: Tensor) -> tuple[Tensor, ...]:
    """The tensors along an axis, which goes."""
    x = g.settled(x)
    axis = g.axis_of(node.integer("axis", 0), x.rank)
    size = g.dims(x)[axis]
    if not isinstance(size, int) or size > 4096:
        raise g.error(f"takes {size} elements apart, a number that isn't known or makes no sense")
    parts = _cut(g, x, axis, [1] * size)
    found = []
    for part in parts:
        assert part.value is not None
        found.append(g.result(g.emit("Squeeze", part.value, [part.axis(axis)]), moved(part.order, [axis])))
    return tuple(found)


def _tiled(g: TensorBuilder, x: Array, counts: Array) -> Array:
    g.check_table(*(n * int(c) for n, c in zip(x.shape, counts.reshape(-1), strict=True)))
    return np.tile(x, [int(c) for c in counts.reshape(-1)])


@lowers("Tile", fold=lambda g, node, x, counts: _tiled(g, x, counts))
def tile(g: TensorBuilder, node: Node, x: Tensor, counts: Tensor) -> Tensor:
    """x repeated along each axis."""
    value, order = g.lying(x)
    entries = g.size_entries(counts, "multiples")
    if entries is None:
        return g.result(g.emit("Tile", g.plain(x), g.cast(g.plain(counts), np.int64)))
    if len(entries) != x.rank:
        raise g.error(f"repeats {len(entries)} axes of {x.rank}")
    times, shape = [entries[axis] for axis in order], g.shape(value)
    known = [n * t if isinstance(n, int) and isinstance(t, int) else n if t == 1 else None for n, t in zip(shape, times, strict=True)]
    return g.result(g.emit("Tile", value, g.sizes(times), shape=known), order)


@lowers("BroadcastTo")
def broadcast_to(g: TensorBuilder, node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """x in a larger shape, from the last axis on."""
    entries = g.size_entries(shape, "shape")
    if entries is None:
        return g.result(g.emit("Expand", g.plain(x), g.cast(g.plain(shape), np.int64)))
    return g.result(g.emit("Expand", g.plain(x), g.sizes(entries)))
