"""Operators that TensorFlow's own optimizer puts together. Source: TensorFlow's core/kernels/{conv_ops_fused_impl,matmul_op_fused}."""

from __future__ import annotations

from collections.abc import Sequence

from converters.readers.tensorflow.operators.activation import by_element
from converters.readers.tensorflow.operators.arithmetic import together
from converters.readers.tensorflow.operators.convolution import conv, depthwise_conv
from converters.readers.tensorflow.operators.linear import matmul
from converters.readers.tensorflow.operators.normalization import batch_norm
from converters.readers.tensorflow.registry import Node, Results, Tensor, TensorBuilder, lowers

_ACTIVATIONS = {"Relu": "Relu", "Elu": "Elu", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "_FusedHardSwish": "HardSwish"}


@lowers("_FusedConv2D")
def fused_conv(g: TensorBuilder, node: Node, x: Tensor, filter: Tensor, *args: Tensor) -> Tensor:
    """A convolution with what follows it: a bias or a batch norm, an activation function."""
    return _followed(g, node, conv(g, node, x, filter), args)


@lowers("_FusedDepthwiseConv2dNative")
def fused_depthwise_conv(g: TensorBuilder, node: Node, x: Tensor, filter: Tensor, *args: Tensor) -> Tensor:
    """A depthwise convolution with what follows it."""
    return _followed(g, node, depthwise_conv(g, node, x, filter), args)


@lowers("_FusedMatMul")
def fused_matmul(g: TensorBuilder, node: Node, a: Tensor, b: Tensor, *args: Tensor) -> Tensor:
    """A product of matrices with what follows it."""
    return _followed(g, node, matmul(g, node, a, b), args)


@lowers("_FusedBatchNormEx")
def fused_batch_norm(
    g: TensorBuilder, node: Node, x: Tensor, scale: Tensor, offset: Tensor, mean: Tensor, variance: Tensor, *side: Tensor
) -> Tensor:
    """A batch norm with what follows it: a sum with another input, an activation function."""
    if node.flag("is_training", True):
        raise g.error("normalizes with the statistics of the batch, as in training")
    y = batch_norm(g, x, scale, offset, mean, variance, node.real("epsilon", 1e-4), node.text("data_format", "NHWC"))
    if side:
        y = together(g, "Add", y, side[0])
    name = node.text("activation_mode", "Identity")
    return y if name == "Identity" else _activated(g, node, y, name)


def _followed(g: TensorBuilder, node: Node, y: Results, args: Sequence[Tensor]) -> Tensor:
    """What a list of operators makes of a result; each takes its own of the arguments."""
    assert isinstance(y, Tensor)
    left = list(args)
    channels = 1 if node.text("data_format", "NHWC") == "NCHW" else y.rank - 1
    for name in node.texts("fused_ops"):
        count = {"BiasAdd": 1, "FusedBatchNorm": 4, "Add": 1}.get(name, 0)
        taken, left = left[:count], left[count:]
        if len(taken) != count:
            raise g.error(f"has too few inputs for {name}")
        if name == "BiasAdd" and channels == y.rank - 1:
            y = y if g.absorb(y, taken[0], axis=channels) else together(g, "Add", y, taken[0])
        elif name == "BiasAdd" and g.absorb(y, taken[0], axis=channels):
            continue
        elif name == "FusedBatchNorm":
            scale, offset, mean, variance = taken
            y = batch_norm(g, y, scale, offset, mean, variance, node.real("epsilon", 1e-4), node.text("data_format", "NHWC"))
        elif name == "Add":
            y = together(g, "Add", y, taken[0])
        else:
            y = _activated(g, node, y, name)
    return y


def _activated(g: TensorBuilder, node: Node, y: Tensor, name: str) -> Tensor:
    if name == "Relu6":
        return lowers["Relu6"](g, node, y)  # type: ignore[return-value]
    if name == "LeakyRelu":
        return by_element(g, "LeakyRelu", y, alpha=node.real("leakyrelu_alpha", 0.2))
    if name not in _ACTIVATIONS:
        raise g.error(f"is followed by {name}, which isn't known here")
    return by_element(g, _ACTIVATIONS[name], y)
