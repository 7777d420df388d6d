"""Shapes, axes and pieces: what became inputs of the operator, and how it is said with attributes."""

from __future__ import annotations

from itertools import pairwise
from string import ascii_letters

import numpy as np
import onnx_ir as ir

from converters.writers.onnx.opsets.site import Answer, Site, newer, older

_END = 2**31 - 1  # "to the end": a size that no axis has


@older("Squeeze", "Unsqueeze", since=13)
def squeeze_before_13(g: Site, node: ir.Node) -> Answer:
    """The axes as an attribute."""
    return g.again(g.x(), axes=None if g.input(1) is None else g.integers(1, "axes"))


@newer("Squeeze", "Unsqueeze", since=13)
def squeeze_from_13(g: Site, node: ir.Node) -> Answer:
    """The axes as an input."""
    axes = g.attribute("axes")
    return g.again(g.x(), None if axes is None else list(axes), axes=None)


@older("Unsqueeze", since=11)
def unsqueeze_before_11(g: Site, node: ir.Node) -> Answer:
    """Axes of the result counted from its front."""
    axes = list(g.attribute("axes"))
    rank = g.rank(g.x()) + len(axes) if min(axes) < 0 else 0
    return g.again(g.x(), axes=sorted(axis + rank if axis < 0 else axis for axis in axes)) if rank else None


@older("Split", since=18)
def split_before_18(g: Site, node: ir.Node) -> Answer:
    """Pieces of one size as before; where the last is smaller, all sizes are stated."""
    x, count = g.x(), len(node.outputs)
    size = g.dims(x)[g.axis(x, g.attribute("axis", 0))] if g.input(1) is None and x.shape is not None else None
    if size is None or size % count == 0:
        return g.again(x, g.input(1), num_outputs=None)
    step = -(-size // count)
    return g.again(x, [max(0, min(step, size - i * step)) for i in range(count)], num_outputs=None)


@older("Split", since=13)
def split_before_13(g: Site, node: ir.Node) -> Answer:
    """The sizes as an attribute; pieces cut one by one where they are computed."""
    sizes = g.input(1)
    if sizes is None or g.number(sizes) is not None:
        return g.again(g.x(), split=None if sizes is None else g.integers(1, "sizes"))
    x, rank = g.x(), g.rank(g.x())
    axis, count = g.axis(x, g.attribute("axis", 0)), len(node.outputs)
    each = [g.part(sizes, i, i + 1) for i in range(count)]
    limits = [g.constant([0], np.int64)]
    for size in each[:-1]:
        limits.append(g.emit("Add", limits[-1], size))
    pieces = [g.emit("Slice", x, start, end, [axis]) for start, end in pairwise([*limits, g.constant([_END], np.int64)])]
    # all that is left goes into the last one: other sizes than the axis' are an error, as in Split
    as_said = [each[-1] if i == axis else g.constant([0], np.int64) for i in range(rank)]
    pieces[-1] = g.emit("Reshape", pieces[-1], g.emit("Concat", *as_said, axis=0))
    return pieces


@newer("Split", since=13)
def split_from_13(g: Site, node: ir.Node) -> Answer:
    """The sizes as an input."""
    sizes = g.attribute("split")
    return g.again(g.x(), None if sizes is None else list(sizes), split=None)


@newer("Split", since=18)
def split_from_18(g: Site, node: ir.Node) -> Answer:
    """Pieces of one size by their number."""
    return None if g.input(1) is not None else g.again(g.x(), num_outputs=len(node.outputs))


@older("Constant", since=12)
def constant_before_12(g: Site, node: ir.Node) -> Answer:
    """Numbers and lists of them as tensors."""
    tensor = ir.convenience.get_const_tensor(node.outputs[0])
    if tensor is None:
        raise g.refusal("only whole tensors are constants there")
    return g.emit("Constant", value=ir.AttrTensor("value", tensor))


@older("Shape", since=15)
def shape_before_15(g: Site, node: ir.Node) -> Answer:
    """A part of the shape is cut out of the whole."""
    start, end = g.attribute("start", 0), g.attribute("end")
    whole = g.emit("Shape", g.x())
    return whole if not start and end is None else g.part(whole, start, _END if end is None else end)


@older("Reshape", since=14)
def reshape_before_14(g: Site, node: ir.Node) -> Answer:
    """A 0 that means no elements can't be said: it means the axis as it is."""
    dims = g.number(g.x(1))
    if g.attribute("allowzero", 0) and (dims is None or 0 in dims):
        raise g.refusal("a dimension of 0 (allowzero) isn't there")
    return g.again(*node.inputs, allowzero=None)


@older("Pad", since=19)
def pad_before_19(g: Site, node: ir.Node) -> Answer:
    """All modes but wrap."""
    if g.attribute("mode", "constant") == "wrap":
        raise g.refusal("mode wrap isn't there")
    return None


@older("Pad", since=18)
def pad_before_18(g: Site, node: ir.Node) -> Answer:
    """Amounts for every axis."""
    if g.input(3) is None:
        return None
    rank = g.rank(g.x())
    axes = [axis % rank for axis in g.integers(3, "axes")]
    places = [axes.index(i) + side * len(axes) if i in axes else None for side in (0, 1) for i in range(rank)]
    amounts = g.number(g.x(1))
    if amounts is not None:
        return g.again(g.x(), [0 if i is None else int(amounts[i]) for i in places], g.input(2))
    parts = [g.constant([0], np.int64) if i is None else g.part(g.x(1), i, i + 1) for i in places]
    return g.again(g.x(), g.emit("Concat", *parts, axis=0), g.input(2))


@older("Pad", since=11)
def pad_before_11(g: Site, node: ir.Node) -> Answer:
    """Amounts and value as attributes, of floats."""
    x, dtype = g.x(), g.dtype(g.x())
    value = np.zeros(1) if g.input(2) is None else g.number(g.input(2))
    if value is None:
        raise g.refusal("its value is computed when the net runs, and there it is an attribute")
    wide = x if dtype.is_floating_point() else g.cast(x, ir.DataType.DOUBLE)
    number = float(value.reshape(-1)[0])
    mode = g.attribute("mode", "constant")
    padded = g.emit("Pad", wide, pads=g.integers(1, "amounts"), value=number or None, mode=None if mode == "constant" else mode)
    return g.cast(padded, dtype)


@newer("Pad", since=11)
def pad_from_11(g: Site, node: ir.Node) -> Answer:
    """Amounts and value as inputs."""
    value = g.attribute("value", 0.0)
    filled = g.constant(value, g.dtype(g.x()).numpy()) if value else None
    return g.again(g.x(), list(g.attribute("pads")), filled, pads=None, value=None)


@older("Slice", since=11)
def slice_before_11(g: Site, node: ir.Node) -> Answer:
    """Axes counted from the front."""
    axes = g.number(g.input(3))
    if axes is None or not (axes < 0).any():
        return None
    return g.again(g.x(), g.x(1), g.x(2), [g.axis(g.x(), int(axis)) for axis in axes], g.input(4))


@older("Slice", since=10)
def slice_before_10(g: Site, node: ir.Node) -> Answer:
    """Limits as attributes; steps by indices, where the size is known."""
    x = g.x()
    starts, ends = g.integers(1, "limits"), g.integers(2, "limits")
    axes = list(range(len(starts))) if g.input(3) is None else [g.axis(x, axis) for axis in g.integers(3, "axes")]
    steps = [1] * len(starts) if g.input(4) is None else g.integers(4, "steps")
    plain = [i for i, step in enumerate(steps) if step == 1]
    y = x
    if plain or not starts:
        y = g.emit("Slice", x, starts=[starts[i] for i in plain], ends=[ends[i] for i in plain], axes=[axes[i] for i in plain])
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step == 1:
            continue
        size = g.dims(x)[axis]
        if size is None:
            raise g.refusal("steps over an axis whose size isn't known aren't there")
        y = g.emit("Gather", y, list(range(size))[slice(start, None if step < 0 and end < -size else end, step)], axis=axis)
    return y


@newer("Slice", since=10)
def slice_from_10(g: Site, node: ir.Node) -> Answer:
    """Limits as inputs."""
    axes = g.attribute("axes")
    starts, ends = (list(g.attribute(name)) for name in ("starts", "ends"))
    return g.again(g.x(), starts, ends, None if axes is None else list(axes), starts=None, ends=None, axes=None)


@older("Trilu", since=14)
def trilu(g: Site, node: ir.Node) -> Answer:
    """One of the two triangles, chosen by row and column."""
    x = g.x()
    rows, columns = g.dims(x)[-2:]
    k = np.zeros(1, np.int64) if g.input(1) is None else g.number(g.input(1))
    zero = g.constant(0, g.dtype(x).numpy())
    if rows is not None and columns is not None and k is not None:
        whole = np.ones((rows, columns), bool)
        return g.emit("Where", (np.triu if g.attribute("upper", 1) else np.tril)(whole, int(k.reshape(()))), x, zero)
    shape, rank = g.emit("Shape", x), g.rank(x)
    down, across = (g.emit("Range", 0, g.squeeze(g.part(shape, axis, axis + 1), [0]), 1) for axis in (rank - 2, rank - 1))
    away = g.emit("Sub", g.unsqueeze(across, [0]), g.unsqueeze(down, [1]))  # how far to the right of the diagonal
    limit = g.constant(int(k.reshape(())), np.int64) if k is not None else g.x(1)
    outside = g.emit("Less", away, limit) if g.attribute("upper", 1) else g.emit("Greater", away, limit)
    return g.emit("Where", outside, zero, x)


@older("Range", since=11)
def range_before_11(g: Site, node: ir.Node) -> Answer:
    """A constant, where its limits are."""
    limits = [g.number(g.x(i)) for i in range(3)]
    if any(limit is None for limit in limits):
        raise g.refusal("ONNX has Range from set 11 on; it has another form only where its limits are constants")
    dtype = g.dtype(g.x()).numpy()
    start, limit, step = (number.reshape(())[()] for number in limits if number is not None)
    count = max(0, int(np.ceil((limit - start) / step)))
    return g.constant(start + np.arange(count, dtype=dtype) * step, dtype)


@older("DepthToSpace", since=11)
def depth_to_space_before_11(g: Site, node: ir.Node) -> Answer:
    """The column-row order by Reshape and Transpose, where the sizes are known."""
    if g.attribute("mode", "DCR") == "DCR":
        return g.again(g.x(), mode=None)
    _, channels, *sizes = g.dims(g.x())
    block = g.attribute("blocksize")
    if channels is None or any(size is None for size in sizes):
        raise g.refusal("mode CRD isn't there; it has another form only where the sizes are known")
    height, width = (size or 0 for size in sizes)
    within = channels // block**2
    parts = g.emit("Reshape", g.x(), [0, within, block, block, height, width])
    moved = g.emit("Transpose", parts, perm=[0, 1, 4, 2, 5, 3])
    return g.emit("Reshape", moved, [0, within, height * block, width * block])


@older("Einsum", since=12)
def einsum(g: Site, node: ir.Node) -> Answer:
    """Products of the operands, each with all axes, summed over those that the result doesn't have."""
    terms, right = _spelled_out(g, g.attribute("equation").replace(" ", ""), len(node.inputs))
    singles = [_without_diagonals(g, g.x(i), term) for i, term in enumerate(terms)]
    letters = sorted(set("".join(terms)))
    order = [*right, *(letter for letter in letters if letter not in right)]
    product: ir.Value | None = None
    for value, term in singles:
        moved = g.emit("Transpose", value, perm=[term.index(letter) for letter in order if letter in term])
        absent = [i for i, letter in enumerate(order) if letter not in term]
        wide = g.unsqueeze(moved, absent) if absent else moved
        product = wide if product is None else g.emit("Mul", product, wide)
    assert product is not None
    summed = list(range(len(right), len(order)))
    return g.reduce("ReduceSum", product, summed, keepdims=False) if summed else product


def _spelled_out(g: Site, equation: str, count: int) -> tuple[list[str], str]:
    """The operands' axes and the result's, a letter for each; those of an ellipsis are counted from the last."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    hidden = [g.rank(g.x(i)) - len(term) + 3 if "..." in term else 0 for i, term in enumerate(terms)]
    free = [letter for letter in ascii_letters if letter not in equation][: max(hidden)]
    if len(terms) != count or (arrow and "..." in left and "..." not in right) or len(free) < max(hidden):
        raise g.refusal("ONNX has Einsum from set 12 on; this equation has no other form here")
    spelled = [term.replace("...", "".join(free[len(free) - n :])) for term, n in zip(terms, hidden, strict=True)]
    once = "".join(letter for letter in sorted(set(left) - set(".,")) if left.count(letter) == 1)
    result = right.replace("...", "".join(free)) if arrow else "".join(free) + once
    if not set(result) <= set("".join(spelled)) or len(set(result)) < len(result):
        raise g.refusal("ONNX has Einsum from set 12 on; this equation has no other form here")
    return spelled, result


def _without_diagonals(g: Site, value: ir.Value, term: str) -> tuple[ir.Value, str]:
    """An operand with each letter once: what is off the diagonal of two axes of one letter becomes zero, and one of them is summed."""
    while twice := next((letter for letter in term if term.count(letter) > 1), ""):
        first, second = term.index(twice), term.rindex(twice)
        size = g.dims(value)[first]
        if size is None:
            raise g.refusal("ONNX has Einsum from set 12 on; diagonals have another form only where the size is known")
        mask = np.eye(size, dtype=bool).reshape([size if i in (first, second) else 1 for i in range(len(term))])
        kept = g.emit("Where", mask, value, g.constant(0, g.dtype(value).numpy()))
        value, term = g.reduce("ReduceSum", kept, [second], keepdims=False), term[:second] + term[second + 1 :]
    return value, term
