"""Activation functions. Sources: TensorFlow's core/ops/nn_ops.cc, math_ops.cc; core/kernels/{relu_op,softplus_op,softsign_op}.h."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.values import Array


def by_element(g: TensorBuilder, op_type: str, x: Tensor, **attributes: float) -> Tensor:
    """An ONNX operator on every number of x, whatever the order of its axes."""
    value = x.value if x.value is not None else g.plain(x)
    made = g.emit(op_type, value, name=None, shape=None, **attributes)
    return g.result(made, x.order if x.value is not None else None, rows=x.rows, blocks=x.blocks)


def single(name: str, op_type: str, what: str, fold: Callable[[Array], Array] | None = None) -> None:
    """Registers an operator of one input that ONNX has; fold: what it makes of constants, in numpy."""

    def lower(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
        return by_element(g, op_type, x)

    lower.__doc__ = what
    lower.__name__ = lower.__qualname__ = name.lower()
    lowers(name, fold=None if fold is None else lambda g, node, x: np.asarray(fold(x), x.dtype))(lower)


single("Relu", "Relu", "Rectified linear unit, max(x, 0).")
single("Sigmoid", "Sigmoid", "1 / (1 + exp(-x)).")
single("Tanh", "Tanh", "Hyperbolic tangent.")
single("Softsign", "Softsign", "x / (1 + |x|).")
single("Softplus", "Softplus", "log(1 + exp(x)).")
single("Elu", "Elu", "x, or exp(x) - 1 below 0.")


@lowers("Relu6")
def relu6(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """min(max(x, 0), 6)."""
    kind = x.dtype
    value = x.value if x.value is not None else g.plain(x)
    return g.result(g.emit("Clip", value, np.zeros((), kind), np.full((), 6, kind)), x.order, rows=x.rows, blocks=x.blocks)


@lowers("Selu")
def selu(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """scale * x, or scale * alpha * (exp(x) - 1) below 0, with the two numbers of the paper."""
    return by_element(g, "Selu", x, alpha=1.6732632423543772, gamma=1.0507009873554805)


@lowers("LeakyRelu")
def leaky_relu(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """x, or alpha * x below 0; alpha is 0.2 unless stated."""
    return by_element(g, "LeakyRelu", x, alpha=node.real("alpha", 0.2))


@lowers("Softmax")
def softmax(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Softmax over the last axis."""
    return _over_last(g, "Softmax", x)


@lowers("LogSoftmax")
def log_softmax(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """log(softmax) over the last axis."""
    return _over_last(g, "LogSoftmax", x)


def _over_last(g: TensorBuilder, op_type: str, x: Tensor) -> Tensor:
    if not x.rank:
        raise g.error("its input has no axes")
    value, order = g.lying(x)
    return g.result(g.emit(op_type, value, axis=order.index(x.rank - 1)), order)
