"""Modules that move elements without changing them: views, which share their input's storage, and copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.graph.builder import Dim, GraphBuilder, SymbolicDimensionError
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.activation import tensor_input
from converters.readers.torch7.references import Nest, Reference


def reshape(g: GraphBuilder, x: Value, shape: Sequence[Dim]) -> Value:
    """x in another shape, of which one dimension may be symbolic."""
    if tuple(shape) == g.shape(x):
        return x
    if sum(not isinstance(d, int) for d in shape) > 1:
        shape = [d if isinstance(d, int) else 0 for d in g.fixed(x)]
    known = list(shape)
    if len(known) == 2 and not isinstance(known[0], int) and g.shape(x)[0] == known[0] and known[0] is not None:
        return g.emit("Flatten", x, axis=1, shape=known)
    return g.emit("Reshape", x, [d if isinstance(d, int) else -1 for d in known], shape=known)


def reshaped_view(g: GraphBuilder, x: Reference, shape: Sequence[Dim]) -> Reference:
    """A view of x's storage in another shape."""
    return x.view(lambda base: reshape(g, base, shape), lambda base, new: reshape(g, new, g.shape(base)))


def reshaped(g: GraphBuilder, x: Reference, shape: Sequence[Dim]) -> Reference:
    """As reshaped_view, but a copy where x isn't contiguous."""
    return reshaped_view(g, x, shape) if x.contiguous else Reference(reshape(g, x.get(), shape))


def tensor_reference(module: Module, x: Nest) -> Reference:
    if not isinstance(x, Reference):
        raise module.error(f"its input must be a tensor, but it is a table of {len(x)}")
    return x


class BatchOfOneError(SymbolicDimensionError):
    """A module gives a batch of one sample another rank than any other batch."""


def batch_is_one(g: Any, dims: Sequence[Dim]) -> bool:
    """Whether a symbol among these dimensions was given as 1, where Torch7 treats a batch of one differently."""
    return any(getattr(g, "given", {}).get(d) == 1 for d in dims if isinstance(d, str))


def _product(g: GraphBuilder, x: Value, dims: Sequence[Dim]) -> tuple[int, Dim | None]:
    """The product of dimensions as a number and at most one symbol."""
    symbols = [d for d in dims if not isinstance(d, int)]
    if len(symbols) > 1 or None in symbols:
        dims = g.fixed(x)
        symbols = []
    return math.prod(d for d in dims if isinstance(d, int)), symbols[0] if symbols else None


@lowers("nn.View")
@on_tensors
def view(net: Any, module: Module, x: Nest) -> Nest:
    """Its size; what is left over is a batch in front: one sample without numInputDims has none. Source: nn/View.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    shape = g.shape(given.get())
    size = module.sizes("size")
    if sum(n == -1 for n in size) > 1 or any(n < -1 or n == 0 for n in size) or not size:
        raise module.error(f"its size {size} must be positive, with one -1 at most")
    elements = math.prod(n for n in size if n != -1)
    dims = module.integer("numInputDims", None, least=0)
    inner = len(shape) if dims is None else min(dims, len(shape))
    if inner == len(shape) and batch_is_one(g, shape):
        raise BatchOfOneError(module.source.describe("it drops the dimension of a batch of one sample"))
    count, symbol = _product(g, given.get(), shape[len(shape) - inner :])
    if count % elements and symbol is not None:
        shape = g.fixed(given.get())
        count, symbol = math.prod(shape[len(shape) - inner :]), None
    if count % elements:
        raise module.error(f"its input of shape {shape} can't be viewed as {'x'.join(map(str, size))}")
    rest = _dimension(count // elements, symbol)
    lead_count, lead_symbol = _product(g, given.get(), shape[: len(shape) - inner])
    target: list[Dim]
    if -1 in size:  # it takes all that is left of the inner dimensions
        target, batch = [rest if n == -1 else n for n in size], _dimension(lead_count, lead_symbol)
    else:
        target, batch = list(size), _dimension(count // elements * lead_count, symbol or lead_symbol)
    if batch != 1 or (dims is not None and len(shape) > dims):
        target = [batch, *target]
    if sum(not isinstance(d, int) for d in target) > 1:
        g.fixed(given.get())
    return reshaped_view(g, given, target)


def _dimension(count: int, symbol: Dim | None) -> Dim:
    """count * symbol as a dimension; None where that is no plain one."""
    return count if symbol is None else symbol if count == 1 else None


@lowers("nn.Reshape")
@on_tensors
def reshape_module(net: Any, module: Module, x: Nest) -> Nest:
    """Its size, behind the batch unless the whole input has just these elements. Source: nn/Reshape.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    size = module.sizes("size")
    shape = g.shape(given.get())
    elements = math.prod(size)
    mode = module.get("batchMode")
    if mode is None and not isinstance(shape[0], int) and math.prod(g.fixed(given.get(), 1)) != elements:
        shape = g.fixed(given.get())
    if mode is None:
        whole = all(isinstance(d, int) for d in shape) and math.prod(g.fixed(given.get())) == elements and shape[0] != 1
    else:
        whole = mode is False
    if whole:
        fixed = g.fixed(given.get())
        if math.prod(fixed) != elements:
            raise module.error(f"its input of shape {fixed} doesn't have the {elements} elements of {size}")
        return reshaped(g, given, size)
    if math.prod(g.fixed(given.get(), 1)) != elements:
        raise module.error(f"a sample of its input {shape} doesn't have the {elements} elements of {size}")
    return reshaped(g, given, [shape[0], *size])


@lowers("nn.Collapse")
@on_tensors
def collapse(net: Any, module: Module, x: Nest) -> Nest:
    """The last nInputDim dimensions as one. Source: nn/Collapse.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    dims = module.integer("nInputDim", least=1)
    shape = g.shape(given.get())
    if len(shape) > dims:
        return reshaped(g, given, [shape[0], math.prod(g.fixed(given.get(), 1))])
    return reshaped(g, given, [math.prod(g.fixed(given.get()))])


@lowers("nn.Squeeze")
@on_tensors
def squeeze(net: Any, module: Module, x: Nest) -> Nest:
    """Without dimension dim where it has size 1, or without all such. Source: nn/Squeeze.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    shape = g.shape(given.get())
    if batch_is_one(g, shape):
        raise BatchOfOneError(module.source.describe("it drops the dimension of a batch of one sample"))
    dims = module.integer("numInputDims", None)
    batched = dims is not None and len(shape) == dims + 1
    dim = module.integer("dim", None, least=1)
    kept: list[Dim]
    if dim is not None:
        dim += batched
        if dim > len(shape):
            raise module.error(f"it can't drop dimension {dim} of its input of shape {shape}")
        kept = [d for axis, d in enumerate(shape, 1) if axis != dim or d != 1] if len(shape) > 1 else list(shape)
    else:
        kept = [d for axis, d in enumerate(shape) if d != 1 or (batched and axis == 0)] or [1]
    return reshaped_view(g, given, kept)


@lowers("nn.Unsqueeze")
@on_tensors
def unsqueeze(net: Any, module: Module, x: Nest) -> Nest:
    """A dimension of size 1 at `pos`, counted within the last numInputDims. Source: nn/Unsqueeze.lua."""
    given = tensor_reference(module, x)
    rank = net.g.rank(given.get())
    at = module.integer("pos") + rank - module.integer("numInputDims", rank) - 1
    if not 0 <= at <= rank:
        raise module.error(f"pos {module.integer('pos')} doesn't fit its input of shape {net.g.shape(given.get())}")
    return given.view(lambda base: net.g.emit("Unsqueeze", base, [at]), lambda base, new: net.g.emit("Squeeze", new, [at]))


@lowers("nn.Replicate")
@on_tensors
def replicate(net: Any, module: Module, x: Nest) -> Nest:
    """A new dimension in which the input repeats nfeatures times. Source: nn/Replicate.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    rank = g.rank(given.get())
    count, ndim = module.integer("nfeatures", least=1), module.integer("ndim", None)
    at = module.integer("dim", 1, least=1) - 1 + (ndim is not None and rank > ndim)
    if at > rank:
        raise module.error(f"dim {at + 1} doesn't fit its input of shape {g.shape(given.get())}")
    target = [1] * (rank + 1)
    target[at] = count

    def forward(base: Value) -> Value:
        shape = list(g.shape(base))
        return g.emit("Expand", g.emit("Unsqueeze", base, [at]), target, shape=[*shape[:at], count, *shape[at:]])

    def backward(base: Value, new: Value) -> Value:
        return g.emit("Gather", new, g.const(np.array(0, dtype=np.int64)), axis=at)

    return given.view(forward, backward, contiguous=count == 1, replicated=count > 1)


@lowers("nn.SplitTable")
@on_tensors
def split_table(net: Any, module: Module, x: Nest) -> Nest:
    """A table of the slices along `dimension`, each of which shares the input's storage. Source: nn/SplitTable.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    axis = positive_dimension(g, module, given.get())
    (count,) = g.fixed(given.get(), axis, axis + 1)
    if count > 10_000:
        raise module.error(f"it would make a table of {count} tensors")
    return [select(net, given, axis, position) for position in range(count)]


def select(net: Any, given: Reference, axis: int, position: int) -> Reference:
    """The slice at a position along an axis, without that axis, as a view."""
    g: GraphBuilder = net.g

    def forward(base: Value) -> Value:
        return g.emit("Gather", base, g.const(np.array(position, dtype=np.int64)), axis=axis)

    def backward(base: Value, new: Value) -> Value:
        (size,) = g.fixed(base, axis, axis + 1)
        parts = [g.emit("Slice", base, [0], [position], [axis])] if position else []
        parts.append(g.emit("Unsqueeze", new, [axis]))
        if position + 1 < size:
            parts.append(g.emit("Slice", base, [position + 1], [size], [axis]))
        return g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]

    return given.view(forward, backward, contiguous=all(d == 1 for d in g.shape(given.get())[:axis]))


def positive_dimension(g: GraphBuilder, module: Module, x: Value, count: str = "nInputDims") -> int:
    """The axis, from 0, of the field `dimension`: negative ones count from the end, others are shifted behind a batch."""
    rank = g.rank(x)
    dimension = module.integer("dimension", 1)
    dims = module.integer(count, None)
    if dimension < 0:
        dimension += rank + 1
    elif dims is not None and rank == dims + 1:
        dimension += 1
    if not 1 <= dimension <= rank:
        raise module.error(f"dimension {dimension} doesn't fit its input of shape {g.shape(x)}")
    return dimension - 1


# -- copies ------------------------------------------------------------------------------------------------------------


@lowers("nn.Transpose")
def transpose(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Swaps of two dimensions, one after the other. Source: nn/Transpose.lua."""
    rank = g.rank(tensor_input(module, x))
    offset = rank - module.integer("numInputDims", rank)
    order = list(range(rank))
    swaps = module.get("permutations")
    for swap in swaps.array() if isinstance(swaps, t7.Table) else []:
        entries = swap.array() if isinstance(swap, t7.Table) else []
        if len(entries) != 2 or any(not isinstance(n, float) or n != n // 1 or not 1 <= n + offset <= rank for n in entries):
            raise module.error(f"a swap of its permutations doesn't fit its input of shape {g.shape(x)}")
        first, second = (int(n) + offset - 1 for n in entries)
        order[first], order[second] = order[second], order[first]
    return g.emit("Transpose", x, perm=order)


def _axis(module: Module, field: str, rank: int) -> int:
    dimension = module.integer(field)
    dimension += rank + 1 if dimension < 0 else 0
    if not 1 <= dimension <= rank:
        raise module.error(f"{field} {module.integer(field)} doesn't fit an input of {rank} dimensions")
    return dimension - 1


@lowers("nn.Narrow")
def narrow(g: GraphBuilder, module: Module, x: Value) -> Value:
    """`length` entries from the 1-based `index` on; negative ones count from the end. Source: nn/Narrow.lua."""
    axis = _axis(module, "dimension", g.rank(tensor_input(module, x)))
    (size,) = g.fixed(x, axis, axis + 1)
    index, length = module.integer("index"), module.integer("length", 1)
    if length < 0:
        length = size - index + length + 2
    if index < 0:
        index, length = 1, size - length
    if index < 1 or length < 1 or index + length - 1 > size:
        raise module.error(
            f"index {module.integer('index')} and length {module.integer('length', 1)} don't fit its input of shape {g.shape(x)}"
        )
    return g.emit("Slice", x, [index - 1], [index - 1 + length], [axis])


@lowers("nn.Select")
def select_module(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The slice at a 1-based index, without its dimension; negative ones count from the end. Source: nn/Select.lua."""
    axis = _axis(module, "dimension", g.rank(tensor_input(module, x)))
    index = module.integer("index")
    size = g.shape(x)[axis]
    if index == 0 or (isinstance(size, int) and abs(index) > size):
        raise module.error(f"index {index} doesn't fit its input of shape {g.shape(x)}")
    if not isinstance(size, int) and index not in (1, -1):
        g.fixed(x)
    if g.rank(x) == 1:
        raise module.error("it can't select a number of a vector: the result would be no tensor")
    return g.emit("Gather", x, g.const(np.array(index - 1 if index > 0 else index, dtype=np.int64)), axis=axis)


@lowers("nn.Padding")
def padding(g: GraphBuilder, module: Module, x: Value) -> Value:
    """|pad| cells of `value` along dim: at the front where pad < 0, at the end where pad > 0. Source: nn/Padding.lua."""
    rank = g.rank(tensor_input(module, x))
    dims = module.integer("nInputDim", None)
    dim = module.integer("dim", least=1) + (dims is not None and rank != dims)
    if dim > rank:
        raise module.error(f"dim {dim} doesn't fit its input of shape {g.shape(x)}")
    axis = dim - 1
    pad, value, index = module.integer("pad"), module.number("value", 0.0), module.integer("index", 1)
    amounts = [0] * (2 * rank)
    if index == 1:
        amounts[axis if pad < 0 else rank + axis] = abs(pad)
        return g.emit("Pad", x, amounts, value) if pad else x
    (size,) = g.fixed(x, axis, axis + 1)
    at = size - index + 2 if pad > 0 else index
    if not 1 <= at <= size + 1:
        raise module.error(f"index {index} doesn't fit its input of shape {g.shape(x)}")
    amounts[axis if at == 1 else rank + axis] = abs(pad)
    if at in (1, size + 1):
        return g.emit("Pad", x, amounts, value)
    first = g.emit("Slice", x, [0], [at - 1], [axis])
    second = g.emit("Slice", x, [at - 1], [size], [axis])
    return g.emit("Concat", g.emit("Pad", first, amounts, value), second, axis=axis)


@lowers("nn.SpatialZeroPadding")
def spatial_zero_padding(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Zeros around (or negative: crops of) the last two dimensions. Source: nn/SpatialZeroPadding.lua."""
    return _pad_space(g, module, x, ("pad_t", "pad_l"), ("pad_b", "pad_r"), "constant", (3, 4))


@lowers("nn.SpatialReflectionPadding")
def spatial_reflection_padding(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The image mirrored at its edges, which don't repeat. Source: THNN/generic/SpatialReflectionPadding.c."""
    return _pad_space(g, module, x, ("pad_t", "pad_l"), ("pad_b", "pad_r"), "reflect", (3, 4))


@lowers("nn.SpatialReplicationPadding")
def spatial_replication_padding(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The image with its edges repeated. Source: THNN/generic/SpatialReplicationPadding.c."""
    return _pad_space(g, module, x, ("pad_t", "pad_l"), ("pad_b", "pad_r"), "edge", (3, 4))


@lowers("nn.VolumetricReplicationPadding")
def volumetric_replication_padding(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The volume with its faces repeated. Source: THNN/generic/VolumetricReplicationPadding.c."""
    return _pad_space(g, module, x, ("pfront", "ptop", "pleft"), ("pback", "pbottom", "pright"), "edge", (4, 5))


def _pad_space(
    g: GraphBuilder, module: Module, x: Value, before: Sequence[str], behind: Sequence[str], mode: str, ranks: tuple[int, int]
) -> Value:
    rank = g.rank(tensor_input(module, x))
    if rank not in ranks:
        raise module.error(f"its input must have {ranks[0]} or {ranks[1]} dimensions, but has shape {g.shape(x)}")
    first, last = [module.integer(field, 0) for field in before], [module.integer(field, 0) for field in behind]
    axes = list(range(rank - len(first), rank))
    # crops first: a mirrored or repeated edge is that of the cropped image, and so it is for every runtime
    if min(first + last) < 0:
        sizes = g.fixed(x, axes[0])
        starts = [max(0, -n) for n in first]
        ends = [size + min(0, n) for size, n in zip(sizes, last, strict=True)]
        if any(end <= start for start, end in zip(starts, ends, strict=True)):
            raise module.error(f"pads {first} and {last} leave nothing of its input of shape {g.shape(x)}")
        x = g.emit("Slice", x, starts, ends, axes)
    first, last = [max(0, n) for n in first], [max(0, n) for n in last]
    if mode == "reflect":
        sizes = g.fixed(x, axes[0])
        if any(max(a, b) >= size for a, b, size in zip(first, last, sizes, strict=True)):
            raise module.error(f"pads {first} and {last} are too large to mirror an image of {sizes}")
    if not any(first + last):
        return x
    still = [0] * (rank - len(first))
    return g.emit("Pad", x, [*still, *first, *still, *last], mode=None if mode == "constant" else mode)


@lowers("nn.PixelShuffle")
def pixel_shuffle(g: GraphBuilder, module: Module, x: Value) -> Value:
    """(N, C r^2, H, W) -> (N, C, H r, W r). Source: nn/PixelShuffle.lua."""
    factor = module.integer("upscaleFactor", least=1)
    rank = g.rank(tensor_input(module, x))
    if rank not in (3, 4) or g.fixed(x, rank - 3, rank - 2)[0] % factor**2:
        raise module.error(f"its input {g.shape(x)} must be (N, C, H, W) or (C, H, W) with a multiple of {factor**2} channels")
    batch = g.emit("Unsqueeze", x, [0]) if rank == 3 else x
    out = g.emit("DepthToSpace", batch, blocksize=factor, mode="CRD")
    return g.emit("Squeeze", out, [0]) if rank == 3 else out
