"""Activations. Sources: mxnet src/operator/nn/activation.cc, leaky_relu-inl.h."""

from __future__ import annotations

import math
from typing import Literal

import onnx_ir as ir

from converters.readers.mxnet.axes import first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Parameter
from converters.readers.mxnet.signature import lowers

SIMPLE = {"relu": "Relu", "sigmoid": "Sigmoid", "softrelu": "Softplus", "softsign": "Softsign", "tanh": "Tanh"}


@lowers("Activation", "_npx_activation", axes=first)
def activation(
    g: OperatorBuilder, data: ir.Value, *, act_type: Literal["relu", "sigmoid", "softrelu", "softsign", "tanh", "log_sigmoid", "mish"]
) -> ir.Value:
    """ReLU, sigmoid, tanh, softplus ("softrelu"), softsign, log-sigmoid and mish. Source: mxnet src/operator/nn/activation.cc."""
    if act_type == "log_sigmoid":
        return g.emit("Neg", g.emit("Softplus", g.emit("Neg", data)))
    if act_type == "mish":
        return g.emit("Mul", data, g.emit("Tanh", g.emit("Softplus", data)))
    return g.emit(SIMPLE[act_type], data)


@lowers("LeakyReLU", "_npx_leaky_relu", axes=first)
def leaky_relu(
    g: OperatorBuilder,
    data: ir.Value,
    gamma: Parameter | None = None,
    *,
    act_type: Literal["elu", "gelu", "leaky", "prelu", "rrelu", "selu"] = "leaky",
    slope: float = 0.25,
    lower_bound: float = 0.125,
    upper_bound: float = 0.334,
) -> ir.Value:
    """Leaky, parametric and randomised ReLU (its mean slope), ELU, SELU and GELU. Source: mxnet src/operator/leaky_relu-inl.h."""
    result: ir.Value
    if act_type == "prelu":
        return _prelu(g, data, gamma)
    if act_type == "elu":
        result = g.emit("Elu", data, alpha=slope)
    elif act_type == "selu":
        result = g.emit("Selu", data)
    elif act_type == "gelu":
        result = gelu(g, data)
    else:
        result = g.emit("LeakyRelu", data, alpha=slope if act_type == "leaky" else (lower_bound + upper_bound) / 2)
    return result


def gelu(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """x / 2 (1 + erf(x / sqrt 2))."""
    half = g.emit("Mul", data, 0.5)
    return g.emit("Mul", half, g.emit("Add", g.emit("Erf", g.emit("Div", data, math.sqrt(2.0))), 1.0))


def _prelu(g: OperatorBuilder, data: ir.Value, gamma: Parameter | None) -> ir.Value:
    if gamma is None:
        raise g.error("the input 'gamma' is missing, the slopes of a prelu")
    rank = g.rank(data)
    if gamma.shape == (1,) or rank < 2:
        slope = gamma.use((1,), g.dtype(data))
    else:
        count = g.shape(data)[1]
        slope = gamma.use((count,), g.dtype(data))
        if rank > 2:
            slope = g.reshape(slope, [count, *[1] * (rank - 2)])
    return g.emit("PRelu", data, slope)
