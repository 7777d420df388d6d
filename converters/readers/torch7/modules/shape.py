"""Modules that move elements without changing them: views, which share their input's storage, and copies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import onnx_ir as ir

from converters.errors import of_another_size
from converters.graph.builder import Dim, Extent, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Module, Net, lowers
from converters.readers.torch7.references import Reference, Tensors


def reshaped_view(g: GraphBuilder, x: Reference, shape: Sequence[Dim | Extent]) -> Reference:
    """A view of x's storage in another shape, whose numbers hold for any size of x."""
    return x.view(lambda base: g.reshape(base, shape, absolute=True), lambda base, new: g.reshape(new, g.extents(base)))


def reshaped(g: GraphBuilder, x: Reference, shape: Sequence[Dim | Extent]) -> Reference:
    """As reshaped_view, but a copy where x isn't contiguous."""
    return reshaped_view(g, x, shape) if x.contiguous else Reference(g.reshape(x.get(), shape, absolute=True))


def _refuse_batch_of_one(g: GraphBuilder, dims: Sequence[Dim]) -> None:
    """Closes the batch where one of one sample was given, which Torch7 gives another rank than any other."""
    if any(g.given.get(d) == 1 for d in dims if isinstance(d, str)):
        raise g.needs_number("drops the dimension of a batch of one sample, as Torch7 does (a first size of 2 or more keeps it)")


def _product(g: GraphBuilder, x: ir.Value, dims: Sequence[Dim]) -> tuple[int, Dim | None]:
    """The product of dimensions as a number and at most one symbol."""
    symbols = [d for d in dims if not isinstance(d, int)]
    if len(symbols) > 1 or None in symbols:
        dims = g.fixed(x)
        symbols = []
    return math.prod(d for d in dims if isinstance(d, int)), symbols[0] if symbols else None


@lowers("nn.View", on_tensors=True)
def view(net: Net, module: Module, x: Tensors) -> Tensors:
    """Its size; what is left over is a batch in front: one sample without numInputDims has none. Source: nn/View.lua."""
    g = net.g
    given = module.one_reference(x)
    shape = g.shape(given.get())
    size = module.sizes("size")
    if sum(n == -1 for n in size) > 1 or any(n < -1 or n == 0 for n in size) or not size:
        raise module.error(f"its size {size} must be positive, with one -1 at most")
    elements = math.prod(n for n in size if n != -1)
    dims = module.integer("numInputDims", None, least=0)
    inner = len(shape) if dims is None else min(dims, len(shape))
    if inner == len(shape):
        _refuse_batch_of_one(g, shape)
    count, symbol = _product(g, given.get(), shape[len(shape) - inner :])
    if count % elements and symbol is not None:
        shape = g.fixed(given.get())
        count, symbol = math.prod(shape[len(shape) - inner :]), None
    if count % elements:
        problem = module.error(f"its input of shape {shape} can't be viewed as {'x'.join(map(str, size))}")
        samples = shape[0] if inner == len(shape) and isinstance(shape[0], int) else 1
        raise of_another_size(problem, count // samples, elements)
    rest = _dimension(count // elements, symbol)
    lead_count, lead_symbol = _product(g, given.get(), shape[: len(shape) - inner])
    target: list[Dim]
    if -1 in size:  # it takes all that is left of the inner dimensions
        batch = _dimension(lead_count, lead_symbol)
        target = [n if n != -1 else rest if batch is None else None for n in size]
    else:
        target, batch = list(size), _dimension(count // elements * lead_count, symbol or lead_symbol)
    if batch != 1 or (dims is not None and len(shape) > dims):
        target = [batch, *target]
    return reshaped_view(g, given, target)


def _dimension(count: int, symbol: Dim | None) -> Dim:
    """count * symbol as a dimension; None where that is no plain one."""
    return count if symbol is None else symbol if count == 1 else None


@lowers("nn.Reshape", on_tensors=True)
def reshape_module(net: Net, module: Module, x: Tensors) -> Tensors:
    """Its size, behind the batch unless the whole input has just these elements. Source: nn/Reshape.lua."""
    g = net.g
    given = module.one_reference(x)
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
            problem = module.error(f"its input of shape {fixed} doesn't have the {elements} elements of {size}")
            raise of_another_size(problem, math.prod(fixed), elements)
        return reshaped(g, given, size)
    if math.prod(g.fixed(given.get(), 1)) != elements:
        problem = module.error(f"a sample of its input {shape} doesn't have the {elements} elements of {size}")
        raise of_another_size(problem, math.prod(g.fixed(given.get(), 1)), elements)
    return reshaped(g, given, [shape[0], *size])


@lowers("nn.Collapse", on_tensors=True)
def collapse(net: Net, module: Module, x: Tensors) -> Tensors:
    """The last nInputDim dimensions as one. Source: nn/Collapse.lua."""
    g = net.g
    given = module.one_reference(x)
    dims = module.integer("nInputDim", least=1)
    shape = g.shape(given.get())
    if len(shape) > dims:
        return reshaped(g, given, [shape[0], None])
    return reshaped(g, given, [math.prod(g.fixed(given.get()))])


@lowers("nn.Squeeze", on_tensors=True)
def squeeze(net: Net, module: Module, x: Tensors) -> Tensors:
    """Without dimension dim where it has size 1, or without all such. Source: nn/Squeeze.lua."""
    g = net.g
    given = module.one_reference(x)
    shape = g.shape(given.get())
    _refuse_batch_of_one(g, shape)
    dims = module.integer("numInputDims", None)
    batched = dims is not None and len(shape) == dims + 1
    dim = module.integer("dim", None, least=1)
    if dim is not None:
        dim += batched
        if dim > len(shape):
            raise module.error(f"it can't drop dimension {dim} of its input of shape {shape}")
        dropped = [dim - 1] if shape[dim - 1] == 1 and len(shape) > 1 else []
    else:
        dropped = [axis for axis, d in enumerate(shape) if d == 1 and not (batched and axis == 0)]
        dropped = dropped if len(dropped) < len(shape) else dropped[1:]  # of nothing but ones, one stays
    if not dropped:
        return given.alias()
    return given.view(lambda base: g.emit("Squeeze", base, dropped), lambda base, new: g.emit("Unsqueeze", new, dropped))


@lowers("nn.Unsqueeze", on_tensors=True)
def unsqueeze(net: Net, module: Module, x: Tensors) -> Tensors:
    """A dimension of size 1 at `pos`, counted within the last numInputDims. Source: nn/Unsqueeze.lua."""
    given = module.one_reference(x)
    rank = net.g.rank(given.get())
    at = module.integer("pos") + rank - module.integer("numInputDims", rank) - 1
    if not 0 <= at <= rank:
        raise module.error(f"pos {module.integer('pos')} doesn't fit its input of shape {net.g.shape(given.get())}")
    return given.view(lambda base: net.g.emit("Unsqueeze", base, [at]), lambda base, new: net.g.emit("Squeeze", new, [at]))


@lowers("nn.Replicate", on_tensors=True)
def replicate(net: Net, module: Module, x: Tensors) -> Tensors:
    """A new dimension in which the input repeats nfeatures times. Source: nn/Replicate.lua."""
    g = net.g
    given = module.one_reference(x)
    rank = g.rank(given.get())
    count, ndim = module.integer("nfeatures", least=1), module.integer("ndim", None)
    at = module.integer("dim", 1, least=1) - 1 + (ndim is not None and rank > ndim)
    if at > rank:
        raise module.error(f"dim {at + 1} doesn't fit its input of shape {g.shape(given.get())}")
    target = [1] * (rank + 1)
    target[at] = count

    def forward(base: ir.Value) -> ir.Value:
        shape = list(g.shape(base))
        return g.emit("Expand", g.emit("Unsqueeze", base, [at]), target, shape=[*shape[:at], count, *shape[at:]])

    def backward(base: ir.Value, new: ir.Value) -> ir.Value:
        return g.emit("Gather", new, g.const(np.array(0, dtype=np.int64)), axis=at)

    return given.view(forward, backward, contiguous=count == 1, replicated=count > 1)


@lowers("nn.SplitTable", on_tensors=True)
def split_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """A table of the slices along `dimension`, each of which shares the input's storage. Source: nn/SplitTable.lua."""
    g = net.g
    given = module.one_reference(x)
    axis = positive_dimension(g, module, given.get())
    (count,) = g.fixed(given.get(), axis, axis + 1)
    if count > 10_000:
        raise module.error(f"it would make a table of {count} tensors")
    return slices(g, given, axis, range(count))


def slices(g: GraphBuilder, given: Reference, axis: int, positions: Iterable[int]) -> list[Reference]:
    """The slices at these positions along an axis of just this length, as views: another length is refused when the net runs."""
    checked: dict[ir.Value, ir.Value] = {}
    (size,) = g.fixed(given.get(), axis, axis + 1)

    def whole(base: ir.Value) -> ir.Value:
        if base not in checked:
            checked[base] = g.emit("Split", base, [size], axis=axis)
        return checked[base]

    return [_select(g, given, axis, position, whole) for position in positions]


def _select(g: GraphBuilder, given: Reference, axis: int, position: int, whole: Callable[[ir.Value], ir.Value]) -> Reference:
    """The slice at a position along an axis, without that axis, as a view."""

    def forward(base: ir.Value) -> ir.Value:
        return g.emit("Gather", whole(base), g.const(np.array(position, dtype=np.int64)), axis=axis)

    def backward(base: ir.Value, new: ir.Value) -> ir.Value:
        (size,) = g.fixed(base, axis, axis + 1)
        parts = [g.emit("Slice", base, [0], [position], [axis])] if position else []
        parts.append(g.emit("Unsqueeze", new, [axis]))
        if position + 1 < size:
            parts.append(g.emit("Slice", base, [position + 1], [size], [axis]))
        return g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]

    return given.view(forward, backward, contiguous=all(d == 1 for d in g.shape(given.get())[:axis]))


def positive_dimension(g: GraphBuilder, module: Module, x: ir.Value, count: str = "nInputDims") -> int:
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
def transpose(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Swaps of two dimensions, one after the other. Source: nn/Transpose.lua."""
    rank = g.rank(x)
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


@lowers("nn.PixelShuffle")
def pixel_shuffle(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(N, C r^2, H, W) -> (N, C, H r, W r). Source: nn/PixelShuffle.lua."""
    factor = module.integer("upscaleFactor", least=1)
    rank = g.rank(x)
    if rank not in (3, 4) or g.fixed(x, rank - 3, rank - 2)[0] % factor**2:
        raise module.error(f"its input {g.shape(x)} must be (N, C, H, W) or (C, H, W) with a multiple of {factor**2} channels")
    batch = g.emit("Unsqueeze", x, [0]) if rank == 3 else x
    out = g.emit("DepthToSpace", batch, blocksize=factor, mode="CRD")
    return g.emit("Squeeze", out, [0]) if rank == 3 else out


@lowers("nn.Convert", on_tensors=True)
def convert(net: Net, module: Module, x: Tensors) -> Tensors:
    """From inputShape to outputShape (letters b, c, h, w, f): a transposition, or b... to bf, bf to b. Source: nn/Convert.lua."""
    given = module.one_reference(x)
    source = module.text("inputShape")
    if source == module.text("outputShape") and (source == "b*" or net.g.rank(given.get()) >= len(source)):
        return given  # through nn.Identity: the same tensor
    return Reference(_converted(net.g, module, given.get()))


def _converted(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    source, target = module.text("inputShape"), module.text("outputShape")
    rank = g.rank(x)
    single = rank == len(source) - 1
    at = source.find("b")
    if rank < len(source) - 1 or at < 0 or len(set(source)) != len(source):
        raise module.error(f"its input of shape {g.shape(x)} isn't a {source!r}")
    batch = g.emit("Unsqueeze", x, [at]) if single else x
    behind = range(len(source), rank)  # dimensions that the letters don't name stay where they are
    if sorted(source) == sorted(target):
        out = g.emit("Transpose", batch, perm=[*(source.index(letter) for letter in target), *behind]) if source != target else batch
        return g.emit("Squeeze", out, [target.index("b")]) if single else out
    if target == "b" and sorted(source) in (["b", "f"], ["b", "t"]):
        if "f" in source and g.fixed(batch, 1 - at, 2 - at) != (1,):
            raise module.error(f"its input of shape {g.shape(x)} has more than one feature")
        return g.emit("Gather", batch, g.const(np.array(0, dtype=np.int64)), axis=1 - at)
    if target == "bf":
        swapped = list(range(g.rank(batch)))
        swapped[0], swapped[at] = swapped[at], swapped[0]
        first = g.emit("Transpose", batch, perm=swapped) if at else batch
        out = g.reshape(first, [g.shape(first)[0], math.prod(g.fixed(first, 1))])
        return g.emit("Squeeze", out, [0]) if single else out
    raise module.error(f"the conversion of {source!r} to {target!r} isn't known; transpositions, those to 'bf' and from it to 'b' are")
