"""Activations: the softmaxes' axis, Clip's limits, and functions that older sets have to be told in parts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from converters.writers.onnx.opsets.rules.elementwise import larger, smaller
from converters.writers.onnx.opsets.site import Answer, Site, newer, older


@older("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax_before_13(g: Site, node: ir.Node) -> Answer:
    """One axis; before set 13 it and all behind it were flattened, so that it has to be the last."""
    x = g.x()
    rank = g.rank(x)
    axis = g.axis(x, g.attribute("axis", -1))
    if all(size == 1 for size in g.dims(x)[axis + 1 :]):
        return g.again(x, axis=axis)
    order = [i for i in range(rank) if i != axis] + [axis]
    last = g.emit(node.op_type, g.emit("Transpose", x, perm=order), axis=rank - 1)
    return g.emit("Transpose", last, perm=np.argsort(order).tolist())


@newer("Softmax", "LogSoftmax", "Hardmax", since=13)
def softmax_from_13(g: Site, node: ir.Node) -> Answer:
    """All axes from one on, flattened; from set 13 on it is one axis."""
    x = g.x()
    axis = g.attribute("axis", 1)
    axis = g.axis(x, axis) if axis < 0 else axis
    if x.shape is not None and all(size == 1 for size in g.dims(x)[axis + 1 :]):
        return g.again(x, axis=axis)
    flat = g.emit(node.op_type, g.emit("Flatten", x, axis=axis), axis=1)
    return g.emit("Reshape", flat, g.emit("Shape", x))


@older("Clip", since=12)
def clip_before_12(g: Site, node: ir.Node) -> Answer:
    """Set 12 brought integers, and onnxruntime has doubles only since."""
    return None if g.dtype(g.x()) in (ir.DataType.FLOAT, ir.DataType.FLOAT16) else _limited(g)


@older("Clip", since=11)
def clip_before_11(g: Site, node: ir.Node) -> Answer:
    """Both limits as attributes; one alone (the other would be the largest float, no infinity), crossed or computed, by Max and Min."""
    low, high = g.number(g.input(1)), g.number(g.input(2))
    if low is not None and high is not None and g.dtype(g.x()) == ir.DataType.FLOAT and low <= high:
        return g.emit("Clip", g.x(), min=float(low.reshape(())), max=float(high.reshape(())))
    return _limited(g)


def _limited(g: Site) -> ir.Value:
    low, high = g.input(1), g.input(2)
    y = g.x() if low is None else larger(g, g.x(), low)
    return y if high is None else smaller(g, y, high)


@newer("Clip", since=11)
def clip_from_11(g: Site, node: ir.Node) -> Answer:
    """The limits as inputs. Those that aren't stated are the largest floats, which leaves only infinities to tell the difference."""
    x = g.x()
    dtype = g.dtype(x).numpy()
    limits = [g.attribute(name) for name in ("min", "max")]
    return g.emit("Clip", x, *(None if limit is None else np.array(limit, dtype) for limit in limits))


@older("Relu", since=14)
def relu_before_14(g: Site, node: ir.Node) -> Answer:
    """Set 14 brought integers: the larger of it and 0."""
    return None if g.dtype(g.x()).is_floating_point() else larger(g, g.x(), g.constant(0, g.dtype(g.x()).numpy()))


@older("HardSwish", since=14)
def hard_swish(g: Site, node: ir.Node) -> Answer:
    """x * max(0, min(1, x / 6 + 1/2))."""
    return g.emit("Mul", g.x(), g.emit("HardSigmoid", g.x(), alpha=1 / 6, beta=0.5))


@older("Mish", since=18)
def mish(g: Site, node: ir.Node) -> Answer:
    """x * tanh(softplus(x))."""
    return g.emit("Mul", g.x(), g.emit("Tanh", g.emit("Softplus", g.x())))


@older("Swish", since=24)
def swish(g: Site, node: ir.Node) -> Answer:
    """x * sigmoid(alpha * x)."""
    alpha = g.attribute("alpha", 1.0)
    return g.emit("Mul", g.x(), g.emit("Sigmoid", g.x() if alpha == 1 else g.emit("Mul", g.x(), alpha)))


@older("Gelu", since=20)
def gelu(g: Site, node: ir.Node) -> Answer:
    """x / 2 * (1 + erf(x / sqrt 2)), or its approximation by tanh."""
    x = g.x()
    if g.attribute("approximate", "none") == "tanh":
        cube = g.emit("Mul", g.emit("Mul", g.emit("Mul", x, x), x), 0.044715)
        inner = g.emit("Tanh", g.emit("Mul", g.emit("Add", x, cube), math.sqrt(2 / math.pi)))
    else:
        inner = g.emit("Erf", g.emit("Mul", x, math.sqrt(0.5)))
    return g.emit("Mul", g.emit("Mul", x, 0.5), g.emit("Add", inner, 1.0))


@older("Celu", since=12)
def celu(g: Site, node: ir.Node) -> Answer:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    alpha = g.attribute("alpha", 1.0)
    negative = g.emit("Mul", g.emit("Sub", g.emit("Exp", g.emit("Div", g.x(), alpha)), 1.0), alpha)
    return g.emit("Add", g.emit("Relu", g.x()), g.emit("Min", negative, 0.0))


@older("ThresholdedRelu", since=10)
def thresholded_relu(g: Site, node: ir.Node) -> Answer:
    """x where it is greater than alpha, else 0."""
    return g.emit("Where", g.emit("Greater", g.x(), g.attribute("alpha", 1.0)), g.x(), 0.0)


@older("Dropout", since=12)
def dropout_before_12(g: Site, node: ir.Node) -> Answer:
    """The ratio as an attribute; in training it would be random."""
    training = g.number(g.input(2))
    if g.input(2) is not None and (training is None or training.any()):
        raise g.refusal("training mode; only inference is written")
    ratio = g.number(g.input(1))
    y = g.emit("Dropout", g.x(), ratio=None if ratio is None else float(ratio.reshape(())))
    if len(node.outputs) == 1:
        return y
    return [y, g.emit("ConstantOfShape", g.emit("Shape", g.x()), value=ir.AttrTensor("value", ir.tensor(np.array([True]))))]


@newer("Dropout", since=12)
def dropout_from_12(g: Site, node: ir.Node) -> Answer:
    """The ratio as an input."""
    ratio = g.attribute("ratio")
    return g.again(g.x(), None if ratio is None else g.constant(ratio, np.float32), ratio=None)


def _inference_alone(since: int) -> Callable[[Site, ir.Node], Answer]:
    def rule(g: Site, node: ir.Node) -> Answer:
        """is_test, which later sets don't have."""
        if not g.attribute("is_test", 0):
            raise g.refusal("training mode; only inference is written")
        return g.again(*node.inputs, is_test=None)

    return newer("Dropout", "BatchNormalization", since=since)(rule)


_inference_alone(7)
