"""Shapes and the order of elements. Sources: TensorFlow's core/ops/array_ops.cc, core/kernels/{reshape,transpose,pad,spacetobatch}_op*."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim, Extent, Operand
from converters.readers.tensorflow.bounds import Bound, bounds, operand
from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.tensors import numpy_type
from converters.readers.tensorflow.values import IMAGE, Array, identity, moved, sizes


def _reshaped(g: TensorBuilder, x: Array, shape: Array) -> Array:
    wanted = [int(n) for n in shape.reshape(-1)]
    g.check_table(*(n for n in wanted if n > 0))
    return x.reshape(wanted)


@lowers("Reshape", fold=lambda g, node, x, shape: _reshaped(g, x, shape), structural=True)
def reshape(g: TensorBuilder, node: Node, x: Tensor, shape: Tensor) -> Tensor:
    """Another shape, the elements in TensorFlow's order: a flattened image is (H, W, C).

    What only splits or joins axes that lie together stays as it lies; a flattened image keeps its own order until somebody needs another.
    """
    entries = g.size_entries(shape, "shape")
    if entries is None:
        return g.result(g.emit("Reshape", g.plain(x), g.cast(g.plain(shape), np.int64)))
    if entries.count(-1) > 1:
        raise g.error(f"reshapes to {_words(entries)}; one size at most can be left open")
    dims = [None if n == -1 else n for n in entries]
    return reshaped(g, x, dims, _is_multiplied(g, node))


def _is_multiplied(g: TensorBuilder, node: Node) -> bool:
    """Whether all that reads the node's rows are products, which take rows of one length alone."""
    readers = g.readers.get(node.name, ())
    return bool(readers) and all(r.op == "MatMul" or (r.op in _ALIKE and _is_multiplied(g, r)) for r in readers)


_ALIKE = ("Identity", "Relu", "Relu6", "Elu", "Tanh", "Sigmoid", "Dropout")
"""What treats each element alike, between an image's rows and a product."""


def reshaped(g: TensorBuilder, x: Tensor, dims: Sequence[int | Extent | None], is_multiplied: bool = False) -> Tensor:
    """x in a shape of TensorFlow's order; None: what is left. is_multiplied: what comes of it goes into products alone."""
    x = g.settled(x) if x.rows is None and x.value is not None else g.result(g.plain(x))
    assert x.value is not None
    before, after = _tokens(g, x), _wanted(g, x, dims)
    groups = _groups(before, after) if None not in after else None
    is_sized = g.has_sizes(x)
    if groups is None:
        g.is_sized |= is_sized
        return g.result(g.reshape(g.plain(x), [d if d is not None else None for d in dims]))
    flat = _flattened(g, x, dims, groups)
    if flat is not None:
        g.is_sized |= is_sized and isinstance(dims[1], int) and not is_multiplied
        return flat
    g.is_sized |= is_sized
    lying = sorted(groups, key=lambda group: min((x.axis(axis) for axis in group[0]), default=-1))
    wanted = [axis for inner, _ in lying for axis in inner]
    large = [axis for axis in x.order if before[axis] != 1]
    if large == [axis for axis in wanted if before[axis] != 1]:
        value = x.value  # axes of one element may stand anywhere
    else:
        value = g.ordered(x, wanted)
    order = [axis for _, outer in lying for axis in outer]
    made = g.reshape(value, [_entry(g, x, value, dims[axis], after[axis]) for axis in order])
    return g.result(made, order)


def _entry(g: TensorBuilder, x: Tensor, value: object, dim: int | Extent | None, token: object) -> Dim | Extent:
    """A size in the layout at hand: a number, what is left, or an axis that stays."""
    if isinstance(dim, Extent) and dim.value is x.value and value is not x.value:
        return None if not isinstance(token, str) else token
    if dim is None:
        return token if isinstance(token, int | str) else None
    return dim


def _tokens(g: TensorBuilder, x: Tensor) -> list[int | str]:
    """The sizes of x, an open one as a word of its own."""
    return [size if isinstance(size, int) else (size or f"?{axis}") for axis, size in enumerate(g.dims(x))]


def _wanted(g: TensorBuilder, x: Tensor, dims: Sequence[int | Extent | None]) -> list[int | str | None]:
    """The sizes wanted, in the same words; None for what can't be told."""
    before = _tokens(g, x)
    found: list[int | str | None] = []
    for dim in dims:
        if isinstance(dim, Extent):
            length = g.shape(dim.value)[dim.axis]
            plain = dim == Extent(dim.value, dim.axis)
            if isinstance(length, int):
                found.append(dim.of(length))
            elif isinstance(length, str) and plain and length in before:
                found.append(length)
            else:
                found.append(None)
        else:
            found.append(dim)
    if found.count(None) == 1 and dims[found.index(None)] is None:
        symbols = [token for token in before if isinstance(token, str)]
        for token in found:
            if isinstance(token, str) and token in symbols:
                symbols.remove(token)
        total = math.prod(token for token in before if isinstance(token, int))
        part = math.prod(token for token in found if isinstance(token, int))
        if not symbols and part and total % part == 0:
            found[found.index(None)] = total // part
        elif len(symbols) == 1 and total == part:
            found[found.index(None)] = symbols[0]
    return found


def _groups(before: Sequence[int | str], after: Sequence[int | str | None]) -> list[tuple[list[int], list[int]]] | None:
    """Runs of axes before and after that hold the same elements, as short as can be; None where the two don't fit together."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        inner: list[int] = []
        outer: list[int] = []
        left = right = 1
        if i < len(before) and j < len(after) and before[i] == after[j]:
            groups.append(([i], [j]))
            i, j = i + 1, j + 1
            continue
        if i < len(before) and before[i] == 1:
            groups.append(([i], []))
            i += 1
            continue
        if j < len(after) and after[j] == 1:
            groups.append(([], [j]))
            j += 1
            continue
        while not inner or not outer or left != right:
            if left <= right and i < len(before) and isinstance(before[i], int):
                left *= int(before[i])
                inner.append(i)
                i += 1
            elif j < len(after) and isinstance(after[j], int):
                right *= int(after[j] or 0)
                outer.append(j)
                j += 1
            else:
                return None
        groups.append((inner, outer))
    return groups


def _flattened(
    g: TensorBuilder, x: Tensor, dims: Sequence[int | Extent | None], groups: Sequence[tuple[list[int], list[int]]]
) -> Tensor | None:
    """An image flattened to (N, H * W * C): it stays in its own order, which is noted."""
    if x.order != IMAGE or len(dims) != 2 or x.value is None:
        return None
    height, width, channels = g.dims(x)[1:]
    if not (isinstance(height, int) and isinstance(width, int) and isinstance(channels, int)) or height * width == 1 or channels == 1:
        return None
    if not any(outer == [1] and {1, 2, 3} - set(inner) <= {axis for axis in (1, 2, 3) if g.dims(x)[axis] == 1} for inner, outer in groups):
        return None
    return g.result(g.flatten(x.value, 1), rows=(height, width, channels))


def _words(entries: Sequence[int | Extent]) -> str:
    return "(" + ", ".join(str(n) if isinstance(n, int) else "?" for n in entries) + ")"


@lowers("Transpose", fold=lambda g, node, x, *perm: np.transpose(x, [int(n) for n in perm[0]] if perm else None), structural=True)
def transpose(g: TensorBuilder, node: Node, x: Tensor, perm: Tensor) -> Tensor:
    """The axes in another order, which is only noted: the value stays as it lies."""
    x = g.settled(x) if x.rows is None and x.value is not None else g.result(g.plain(x))
    listed = g.integers(perm, "perm")
    if sorted(listed) != list(range(x.rank)):
        raise g.error(f"its perm is {listed}, but the input has {x.rank} axes")
    assert x.value is not None
    return g.result(x.value, [listed.index(axis) for axis in x.order])


@lowers("Shape", asks_sizes=True)
def shape(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """The sizes of all axes, int32 unless stated."""
    return _shape(g, node, x)


def _shape(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    return sizes(g.lengths(g.settled(x)), numpy_type(node.type_number("out_type", 3), "its output"))


@lowers("ShapeN", asks_sizes=True)
def shape_n(g: TensorBuilder, node: Node, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The sizes of each input."""
    return tuple(_shape(g, node, x) for x in tensors)


@lowers("Size", asks_sizes=True)
def size(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """How many elements there are."""
    x = g.settled(x)
    dims = g.dims(x)
    if all(isinstance(n, int) for n in dims):
        return sizes(
            np.asarray(math.prod(n for n in dims if isinstance(n, int)), object), numpy_type(node.type_number("out_type", 3), "it")
        )
    return g.result(g.cast(g.emit("Size", g.plain(x)), numpy_type(node.type_number("out_type", 3), "its output")))


@lowers("Rank", asks_sizes=True)
def rank(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """How many axes there are."""
    return sizes(np.asarray(x.rank, object), np.dtype(np.int32))


def _squeezed(node: Node, x: Array) -> Array:
    axes = node.ints("squeeze_dims", []) or node.ints("axis", [])
    return np.squeeze(x, tuple(axes) if axes else None)


@lowers("Squeeze", fold=lambda g, node, x: _squeezed(node, x), structural=True)
def squeeze(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Without axes of one element: those stated, or all."""
    listed = node.ints("squeeze_dims", []) or node.ints("axis", [])
    dims = g.dims(x)
    if not listed and not all(isinstance(n, int) for n in dims[1:]):
        raise g.needs_number("needs to know which axes have one element")
    axes = sorted({g.axis_of(axis, x.rank) for axis in listed} if listed else {axis for axis, n in enumerate(dims) if n == 1})
    wrong = [axis for axis in axes if isinstance(dims[axis], int) and dims[axis] != 1]
    if wrong:
        raise g.error(f"axis {wrong[0]} has {dims[wrong[0]]} elements, not 1")
    if not axes:
        return x
    blocks = _blocks_without(x, axes)
    if blocks is None:
        x = g.settled(x)
    value, order = (x.value, x.order) if x.value is not None else g.lying(x)
    made = g.emit("Squeeze", value, sorted(order.index(axis) for axis in axes))
    return g.result(made, moved(order, axes), blocks=blocks)


def _blocks_without(x: Tensor, axes: Sequence[int]) -> tuple[int, ...] | None:
    """The rates of an image in pieces once some of its axes, that weren't cut, are gone; None where one of them was."""
    if x.blocks is None or not all(0 < axis <= len(x.blocks) and x.blocks[axis - 1] == 1 for axis in axes):
        return None
    return tuple(block for axis, block in enumerate(x.blocks, 1) if axis not in axes)


@lowers("ExpandDims", fold=lambda g, node, x, axis: np.expand_dims(x, int(axis.reshape(()))), structural=True)
def expand_dims(g: TensorBuilder, node: Node, x: Tensor, axis: Tensor) -> Tensor:
    """One more axis, of one element."""
    new = g.axis_of(int(g.array(axis, "axis").reshape(())), x.rank + 1)
    if x.blocks is not None and 0 < new < x.rank:
        blocks: tuple[int, ...] | None = (*x.blocks[: new - 1], 1, *x.blocks[new - 1 :])
    else:
        x, blocks = g.settled(x), None
    value, order = (x.value, x.order) if x.value is not None else g.lying(x)
    shifted = [old + (old >= new) for old in order]
    place = order.index(new - 1) + 1 if new else 0
    shifted.insert(place, new)
    return g.result(g.emit("Unsqueeze", value, [place]), shifted, blocks=blocks)


def _padded(g: TensorBuilder, x: Array, amounts: Array, value: Array | None = None) -> Array:
    pairs = [(int(a), int(b)) for a, b in amounts]
    g.check_table(*(n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)))
    return np.pad(x, pairs, constant_values=0 if value is None else value.reshape(())[()])


@lowers("Pad", fold=lambda g, node, x, amounts: _padded(g, x, amounts))
def pad(g: TensorBuilder, node: Node, x: Tensor, amounts: Tensor) -> Tensor:
    """Zeros before and behind each axis."""
    return padded_by(g, x, amounts, None, "constant", node=node)


@lowers("PadV2", fold=lambda g, node, x, amounts, value: _padded(g, x, amounts, value))
def pad_v2(g: TensorBuilder, node: Node, x: Tensor, amounts: Tensor, value: Tensor) -> Tensor:
    """A number before and behind each axis."""
    return padded_by(g, x, amounts, value, "constant", node=node)


@lowers("MirrorPad")
def mirror_pad(g: TensorBuilder, node: Node, x: Tensor, amounts: Tensor) -> Tensor:
    """The image mirrored before and behind each axis: REFLECT without its edge, SYMMETRIC with it."""
    mode = node.text("mode", "")
    if mode == "REFLECT":
        return padded_by(g, x, amounts, None, "reflect")
    if mode != "SYMMETRIC":
        raise g.error(f"its mode is '{mode}'; it is REFLECT or SYMMETRIC")
    pairs = g.array(amounts, "paddings").reshape(-1, 2)
    x = g.settled(x)
    value, order = g.lying(x)
    dims = g.dims(x)
    for axis, (before, behind) in enumerate(pairs):
        size = dims[axis]
        if not before and not behind:
            continue
        at = order.index(axis)
        if not isinstance(size, int):
            value = _mirrored(g, value, at, int(before), int(behind))
            continue
        if max(before, behind) > size:
            raise g.error(f"mirrors {max(before, behind)} of {size} elements")
        places = np.concatenate([np.arange(before)[::-1], np.arange(size), np.arange(size - behind, size)[::-1]])
        value = g.emit("Gather", value, places.astype(np.int64), axis=at)
    return g.result(value, order)


def _mirrored(g: TensorBuilder, value: ir.Value, axis: int, before: int, behind: int) -> ir.Value:
    """A value mirrored with its edges along an axis of a length that is known when the net runs; one that is too short is refused then."""
    front = [g.emit("Gather", value, np.arange(before)[::-1].astype(np.int64), axis=axis)] if before else []
    turned = g.emit("Slice", value, [-1], [np.iinfo(np.int64).min], [axis], [-1]) if behind else value
    back = [g.emit("Gather", turned, np.arange(behind), axis=axis)] if behind else []
    return g.emit("Concat", *front, value, *back, axis=axis)


def padded_by(g: TensorBuilder, x: Tensor, amounts: Tensor, value: Tensor | None, mode: str, *, node: Node | None = None) -> Tensor:
    """ONNX's Pad with amounts (axes, 2) of TensorFlow's order."""
    y, order = g.lying(x)
    rows = _rows(g, node, x.rank) if node is not None and amounts.array is None and mode == "constant" else None
    if rows is not None:
        places = [rows[axis][0] for axis in order] + [rows[axis][1] for axis in order]
        kept = [size if rows[axis] == [0, 0] else None for axis, size in zip(order, g.shape(y), strict=True)]
        return g.result(g.emit("Pad", y, operand(g, places), _fill(g, x, value), shape=kept), order)
    pairs = g.array(amounts, "paddings").reshape(-1, 2)
    if len(pairs) != x.rank or (pairs.size and pairs.min() < 0):
        raise g.error(f"its paddings are {pairs.tolist()}, for an input of {x.rank} axes")
    if not pairs.any():
        return x
    listed = [int(pairs[axis][0]) for axis in order] + [int(pairs[axis][1]) for axis in order]
    return g.result(g.emit("Pad", y, listed, _fill(g, x, value), mode=mode if mode != "constant" else None), order)


def _fill(g: TensorBuilder, x: Tensor, value: Tensor | None) -> Operand:
    """The number that is padded with, zeros where it is None."""
    if value is None:
        return None
    return np.asarray(value.array.reshape(()), x.dtype) if value.array is not None else g.emit("Reshape", g.plain(value), [])


def _rows(g: TensorBuilder, node: Node, rank: int) -> list[list[Bound]] | None:
    """Before and behind each axis, where amounts that are known when the net runs are packed together axis by axis."""
    packed = g.nodes.get(node.inputs[1][0])
    if packed is None or packed.op != "Pack" or packed.integer("axis", 0) or len(packed.inputs) != rank:
        return None
    rows = [flow for flow in map(g.flows.get, packed.inputs) if isinstance(flow, Tensor) and flow.rank == 1]
    listed = [bounds(g, row, "paddings") for row in rows]
    return listed if len(listed) == rank and all(len(row) == 2 for row in listed) else None


@lowers("DepthToSpace")
def depth_to_space(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Blocks of pixels out of channels: channel (dy * block + dx) * C + c."""
    return _blocks(g, node, x, "DepthToSpace")


@lowers("SpaceToDepth")
def space_to_depth(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Blocks of pixels into channels: channel (dy * block + dx) * C + c."""
    return _blocks(g, node, x, "SpaceToDepth")


def _blocks(g: TensorBuilder, node: Node, x: Tensor, op_type: str) -> Tensor:
    layout, block = node.text("data_format", "NHWC"), node.integer("block_size", 0)
    if layout not in ("NHWC", "NCHW") or block < 2 or x.rank != 4:
        raise g.error(f"data_format {layout}, block_size {block}, {x.rank} axes")
    g.is_nchw |= layout == "NCHW"
    order = IMAGE if layout == "NHWC" else identity(4)
    return g.result(g.emit(op_type, g.ordered(x, order), blocksize=block), order)
