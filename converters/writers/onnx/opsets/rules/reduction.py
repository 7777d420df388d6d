"""Reductions and searches along axes: the axes as attribute or input, counted from the front before set 11."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.writers.onnx.opsets.site import Answer, Site, newer, older

_CUMSUM_LIMIT = 2048
"""The size of an axis up to which a matrix of ones may take CumSum's place."""
_NORMS = ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare")
_OTHERS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd")
_ALL = (*_NORMS, *_OTHERS, "ReduceSum")


@older(*_NORMS, *_OTHERS, since=18)
@older("ReduceSum", since=13)
def axes_as_attribute(g: Site, node: ir.Node) -> Answer:
    """The axes as an attribute; without any it is all of them, or nothing where the node says so."""
    x = g.x()
    axes = None if g.input(1) is None else g.integers(1, "axes")
    if not axes and g.attribute("noop_with_empty_axes", 0):
        if node.op_type in _NORMS:
            raise g.refusal("without axes it reduces nothing, which can't be said there")
        return x
    return g.again(x, axes=axes or None, noop_with_empty_axes=None)


@newer(*_NORMS, *_OTHERS, since=18)
@newer("ReduceSum", since=13)
def axes_as_input(g: Site, node: ir.Node) -> Answer:
    """The axes as an input."""
    axes = g.attribute("axes")
    return g.again(g.x(), None if axes is None else list(axes), axes=None)


@older("CumSum", since=11)
def cumsum_before_11(g: Site, node: ir.Node) -> Answer:
    """A product with a matrix of ones on one side of its diagonal, for an axis of known size."""
    x = g.x(0)
    (axis,) = (g.axis(x, position) for position in g.integers(1, "axis"))
    size = g.dims(x)[axis]
    if size is None or size > _CUMSUM_LIMIT:
        raise g.refusal(f"ONNX has CumSum from set 11 on; it has another form only for axes of known size, up to {_CUMSUM_LIMIT}")
    ones = np.triu(np.ones((size, size), g.dtype(x).numpy()), 1 if g.attribute("exclusive", 0) else 0)
    ones = ones.T if g.attribute("reverse", 0) else ones
    last = g.rank(x) - 1
    order = [last if i == axis else axis if i == last else i for i in range(last + 1)]
    turned = x if axis == last else g.emit("Transpose", x, perm=order)
    y = g.emit("MatMul", turned, ones)
    return y if axis == last else g.emit("Transpose", y, perm=order)


@older(*_ALL, "Squeeze", since=11)
def axes_from_the_front(g: Site, node: ir.Node) -> Answer:
    """Negative axes, which set 11 brought."""
    axes = g.attribute("axes")
    if axes is None or min(axes, default=0) >= 0:
        return None
    return g.again(g.x(), axes=sorted(g.axis(g.x(), axis) for axis in axes))


@older("ArgMax", "ArgMin", since=11)
def best_place_before_11(g: Site, node: ir.Node) -> Answer:
    """The axis from the front; of doubles and long integers, which old onnxruntimes don't take there, the first place of the best."""
    x, largest = g.x(), node.op_type == "ArgMax"
    axis = g.axis(x, g.attribute("axis", 0))
    size = g.dims(x)[axis]
    if size is None or g.dtype(x) not in (ir.DataType.DOUBLE, ir.DataType.INT64):
        return g.again(x, axis=axis)
    worse = g.emit("Less" if largest else "Greater", x, g.reduce("ReduceMax" if largest else "ReduceMin", x, [axis]))
    places = np.arange(size).reshape([size if i == axis else 1 for i in range(g.rank(x))])
    return g.reduce(
        "ReduceMin", g.emit("Where", worse, g.constant(size, np.int64), places), [axis], keepdims=bool(g.attribute("keepdims", 1))
    )


@older("Concat", "Gather", "Compress", "Flatten", "Split", "Hardmax", "Softmax", "LogSoftmax", since=11)
def axis_from_the_front(g: Site, node: ir.Node) -> Answer:
    """A negative axis, which set 11 brought."""
    axis = g.attribute("axis")
    if axis is None or axis >= 0:
        return None
    return g.again(*node.inputs, axis=g.axis(g.x(), axis))


@older("TopK", since=11)
def topk_before_11(g: Site, node: ir.Node) -> Answer:
    """The greatest, of floats, in order; the smallest are the greatest of the negated."""
    x = g.x()
    dtype = g.dtype(x)
    if dtype == ir.DataType.UINT64:
        raise g.refusal("it doesn't take uint64 there")
    floating = x if dtype.is_floating_point() else g.cast(x, ir.DataType.DOUBLE)
    axis = g.axis(x, g.attribute("axis", -1))
    largest = g.attribute("largest", 1)
    if dtype.is_floating_point() and largest and axis == g.attribute("axis"):
        return g.again(*node.inputs, largest=None, sorted=None)
    given = floating if largest else g.emit("Neg", floating)
    values, indices = g.emit_all("TopK", given, g.x(1), outputs=2, axis=axis)
    return [g.cast(values if largest else g.emit("Neg", values), dtype), indices]


@older("TopK", since=10)
def topk_before_10(g: Site, node: ir.Node) -> Answer:
    """How many, as an attribute."""
    return g.again(g.x(), k=g.integers(1, "counts")[0])


@newer("TopK", since=10)
def topk_from_10(g: Site, node: ir.Node) -> Answer:
    """How many, as an input."""
    return g.again(g.x(), [g.attribute("k")], k=None)


@older("DFT", since=20)
def dft_before_20(g: Site, node: ir.Node) -> Answer:
    """The axis as an attribute."""
    axis = g.integers(2, "axis")[0] if g.input(2) is not None else -2
    return g.again(g.x(), g.input(1), axis=g.axis(g.x(), axis))


@newer("DFT", since=20)
def dft_from_20(g: Site, node: ir.Node) -> Answer:
    """The axis as an input."""
    return g.again(g.x(), g.input(1), g.constant(g.attribute("axis", 1), np.int64), axis=None)
