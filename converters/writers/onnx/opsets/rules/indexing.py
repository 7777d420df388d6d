"""Gathering and scattering, sequences of quantized numbers, and Loop's neighbors: what indices older sets take."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.writers.onnx.opsets.rules.elementwise import rounded
from converters.writers.onnx.opsets.site import Answer, Site, newer, older

_ONE_HOT_LIMIT = 1 << 24
"""Elements of the table that chooses, where there is no operator that gathers; more would take too much memory."""


@older("GatherElements", since=11)
def gather_elements(g: Site, node: ir.Node) -> Answer:
    """The one element per place where a table of all indices says so: for axes of moderate size."""
    x, indices = g.x(0), g.x(1)
    axis = g.axis(x, g.attribute("axis", 0))
    sizes, asked = g.dims(x), g.dims(indices)
    size = sizes[axis]
    alike = all(a == b for i, (a, b) in enumerate(zip(sizes, asked, strict=True)) if i != axis)
    if size is None or not alike or size * int(np.prod([d or 1 for d in asked])) > _ONE_HOT_LIMIT:
        raise g.refusal("ONNX has GatherElements from set 11 on; it has another form only for small axes of known size")
    whole = g.cast(indices, ir.DataType.INT64)
    counted = g.emit("Where", g.emit("Less", whole, 0), g.emit("Add", whole, size), whole)
    places = np.arange(size, dtype=np.int64).reshape([size if i == axis else 1 for i in range(len(sizes) + 1)])
    chosen = g.emit("Equal", g.unsqueeze(counted, [axis]), places)
    dtype = g.dtype(x)
    number = g.cast(x, ir.DataType.FLOAT) if dtype == ir.DataType.BOOL else x
    parts = g.emit("Where", chosen, g.unsqueeze(number, [axis + 1]), g.constant(0, g.dtype(number).numpy()))
    return g.cast(g.reduce("ReduceSum", parts, [axis], keepdims=False), dtype)


@older("ScatterElements", since=11)
def scatter_before_11(g: Site, node: ir.Node) -> Answer:
    """Scatter, its name before set 11."""
    return g.emit("Scatter", *node.inputs, axis=g.axis(g.x(), g.attribute("axis", 0)))


@newer("Scatter", since=11)
def scatter_from_11(g: Site, node: ir.Node) -> Answer:
    """ScatterElements, its name from set 11 on."""
    return g.emit("ScatterElements", *node.inputs, axis=node.attributes.get("axis"))


@older("ScatterElements", "ScatterND", since=18)
def reductions_before_18(g: Site, node: ir.Node) -> Answer:
    """All reductions but the extremes."""
    reduction = g.attribute("reduction", "none")
    if reduction in ("max", "min"):
        raise g.refusal(f"reduction {reduction} isn't there")
    return None


@newer("Scan", since=9)
def scan_from_9(g: Site, node: ir.Node) -> Answer:
    """Another operator of the same name."""
    raise g.refusal("its inputs mean other things there")


@older("OneHot", since=11)
def one_hot_before_11(g: Site, node: ir.Node) -> Answer:
    """Indices counted from the front; negative ones, which set 11 brought, are counted from the end before, and lower ones are none."""
    indices = g.x(0)
    dtype = g.dtype(indices)
    if dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    depth = g.cast(g.x(1), dtype)
    wrapped = g.emit("Where", g.emit("Less", indices, 0), g.emit("Add", indices, depth), indices)
    return g.again(g.emit("Where", g.emit("Less", wrapped, 0), depth, wrapped), g.x(1), g.x(2))  # runtimes would wrap once more


@older("QuantizeLinear", "DequantizeLinear", since=13)
def quantize_before_13(g: Site, node: ir.Node) -> Answer:
    """One scale for the whole tensor; with one per channel, dequantizing is (x - zero point) * scale."""
    x, scale = g.x(0), g.x(1)
    if scale.shape is not None and all(size == 1 for size in scale.shape):
        return g.again(*node.inputs, axis=None)
    if node.op_type == "QuantizeLinear":
        raise g.refusal("one scale per channel isn't there")
    shape = [-1 if i == g.axis(x, g.attribute("axis", 1)) else 1 for i in range(g.rank(x))]
    number = g.cast(x, g.dtype(scale))
    zero = g.input(2)
    if zero is not None:
        number = g.emit("Sub", number, g.cast(g.emit("Reshape", zero, shape), g.dtype(scale)))
    return g.emit("Mul", number, g.emit("Reshape", scale, shape))


@older("QuantizeLinear", since=10)
def quantize_before_10(g: Site, node: ir.Node) -> Answer:
    """round(x / scale) + zero point, within the limits of the type; uint8 where no zero point says otherwise."""
    zero = g.input(2)
    dtype = ir.DataType.UINT8 if zero is None else g.dtype(zero)
    number = rounded(g, g.emit("Div", g.x(0), g.x(1)))
    number = number if zero is None else g.emit("Add", number, g.cast(zero, g.dtype(g.x(0))))
    limits = np.iinfo(dtype.numpy())
    return g.cast(g.emit("Clip", number, min=float(limits.min), max=float(limits.max)), dtype)


@older("DequantizeLinear", since=10)
def dequantize_before_10(g: Site, node: ir.Node) -> Answer:
    """(x - zero point) * scale."""
    scale, zero = g.x(1), g.input(2)
    number = g.cast(g.x(0), g.dtype(scale))
    number = number if zero is None else g.emit("Sub", number, g.cast(zero, g.dtype(scale)))
    return g.emit("Mul", number, scale)


@older("ScatterND", since=11)
def scatter_nd_before_11(g: Site, node: ir.Node) -> Answer:
    """A Scatter of whole rows: x as a matrix of the slices that are written, its rows counted by the indices."""
    x, indices, updates = g.x(0), g.x(1), g.x(2)
    sizes, depth = g.dims(x), g.dims(indices)[-1]
    if depth is None or None in sizes[1:]:
        raise g.refusal("ONNX has ScatterND from set 11 on; it has another form only where all but the first size are known")
    known = [size or 0 for size in sizes]
    steps = np.array([int(np.prod(known[i + 1 : depth])) for i in range(depth)], np.int64)
    width = int(np.prod(known[depth:]))
    shape = g.emit("Shape", x)
    counted = g.emit("Where", g.emit("Less", indices, 0), g.emit("Add", indices, g.part(shape, 0, depth)), indices)
    rows = g.emit("Reshape", g.reduce("ReduceSum", g.emit("Mul", counted, steps), [g.rank(indices) - 1]), [-1, 1])
    wide, new = g.emit("Expand", rows, [1, width]), g.emit("Reshape", updates, [-1, width])
    written = g.emit("Scatter", g.emit("Reshape", x, [-1, width]), wide, new, axis=0)
    return g.emit("Reshape", written, shape)


@older("ArgMax", "ArgMin", since=12)
def last_of_equals(g: Site, node: ir.Node) -> Answer:
    """The last of equal elements is the first of the reversed axis."""
    x = g.x()
    if not g.attribute("select_last_index", 0):
        return g.again(x, select_last_index=None)
    axis = g.axis(x, g.attribute("axis", 0))
    size = g.dims(x)[axis]
    last = g.constant(size - 1, np.int64) if size is not None else g.emit("Sub", g.part(g.emit("Shape", x), axis, axis + 1), 1)
    reversed_ = g.emit("Slice", x, [-1], [-(2**31)], [axis], [-1])
    found = g.emit(node.op_type, reversed_, axis=axis, keepdims=g.attribute("keepdims", 1))
    return g.emit("Sub", last, found)
