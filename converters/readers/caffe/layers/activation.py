"""Neurons: functions of each element."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.caffe.layer import Layer, is_in_training
from converters.readers.caffe.layers.axes import spread
from converters.readers.caffe.registry import lowers


def leaky(g: GraphBuilder, x: ir.Value, slope: float) -> ir.Value:
    """max(x, 0) + slope * min(x, 0)."""
    return g.emit("LeakyRelu", x, alpha=slope) if slope else g.emit("Relu", x)


@lowers("ReLU", in_place=True, keeps_count=True)
def relu(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Rectified linear unit, leaky with negative_slope. x: any shape. Source: caffe/layers/relu_layer.cpp."""
    return leaky(g, x, layer.params.relu_param.negative_slope)


@lowers("ReLU6", in_place=True)
def relu6(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """min(max(x, 0), 6), leaky with negative_slope (forks). x: any shape. Source: relu6_layer.cpp of MobileNet-SSD's fork."""
    p = layer.params.relu6_param
    slope = p.negative_slope or layer.params.relu_param.negative_slope
    if slope:
        return g.emit("Min", leaky(g, x, slope), p.threshold)
    return g.emit("Clip", x, 0.0, p.threshold)


@lowers("PReLU", in_place=True, keeps_count=True)
def prelu(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Leaky rectified linear unit with learned slopes. x: (N, C, ...). Source: caffe/layers/prelu_layer.cpp."""
    p = layer.params.prelu_param
    layer.weights.expect(1)
    rank = g.rank(x)
    if rank < 2:
        raise layer.error(f"needs a bottom of at least 2 axes, not {rank}")
    shape = (1,) if p.channel_shared else g.fixed(x, 1, 2)
    view = shape if p.channel_shared else (*shape, *[1] * (rank - 2))
    filler = p.filler if p.HasField("filler") else 0.25
    return g.emit("PRelu", x, layer.weights.value(g, 0, "weight", shape, filler, view=view))


@lowers("ELU", in_place=True)
def elu(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Exponential linear unit: alpha * (exp(x) - 1) below 0. x: any shape. Source: caffe/layers/elu_layer.cpp."""
    return g.emit("Elu", x, alpha=layer.params.elu_param.alpha)


@lowers("Sigmoid", in_place=True, keeps_count=True)
def sigmoid(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """1 / (1 + exp(-x)). x: any shape. Source: caffe/layers/sigmoid_layer.cpp."""
    return g.emit("Sigmoid", x)


@lowers("TanH", in_place=True)
def tanh(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent. x: any shape. Source: caffe/layers/tanh_layer.cpp."""
    return g.emit("Tanh", x)


@lowers("AbsVal", in_place=False)
def abs_val(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Absolute value. x: any shape. Source: caffe/layers/absval_layer.cpp."""
    return g.emit("Abs", x)


@lowers("BNLL", in_place=True)
def bnll(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Binomial normal log likelihood: log(1 + exp(x)). x: any shape. Source: caffe/layers/bnll_layer.cpp."""
    return g.emit("Softplus", x)


@lowers("Power", in_place=True, keeps_count=True)
def power(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """(shift + scale * x) ^ power; the constant shift ^ power where scale * power is 0.

    x: any shape. Source: caffe/layers/power_layer.cpp.
    """
    p = layer.params.power_param
    if p.power * p.scale == 0:
        with np.errstate(all="ignore"):
            return spread(g, 1.0 if p.power == 0 else float(np.power(np.float32(p.shift), np.float32(p.power))), x)
    y = x
    if p.scale != 1:
        y = g.emit("Mul", y, p.scale)
    if p.shift != 0:
        y = g.emit("Add", y, p.shift)
    return g.emit("Pow", y, p.power) if p.power != 1 else y


@lowers("Exp", in_place=True)
def exp(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """base ^ (shift + scale * x); base -1 means e. x: any shape. Source: caffe/layers/exp_layer.cpp."""
    p = layer.params.exp_param
    log_base = _log_base(layer, p.base)
    inner = log_base * p.scale
    y = g.emit("Exp", g.emit("Mul", x, inner) if inner != 1 else x)
    outer = math.exp(log_base * p.shift)
    return g.emit("Mul", y, outer) if outer != 1 else y


@lowers("ExpMax")
def exp_max(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """As Exp of x less its largest channel; that of the first image is taken from all.

    x: (N, C, H, W). Source: LiteFlowNet's exp_max_layer.cpp.
    """
    p = layer.params.exp_param
    log_base = _log_base(layer, p.base)
    inner, outer = log_base * p.scale, math.exp(log_base * p.shift)
    largest = g.emit("ReduceMax", g.emit("Slice", x, [0], [1], [0]), [1], keepdims=1)
    y = g.emit("Sub", x, largest)
    y = g.emit("Exp", g.emit("Mul", y, inner) if inner != 1 else y)
    return g.emit("Mul", y, outer) if outer != 1 else y


@lowers("NegReLU", in_place=True)
def neg_relu(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """min(x, 0) + negative_slope * max(x, 0). x: any shape. Source: FlowNet2's neg_relu_layer.cpp."""
    return g.emit("Neg", leaky(g, g.emit("Neg", x), layer.params.relu_param.negative_slope))


@lowers("NegSquare", in_place=True)
def neg_square(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """-x^2. x: any shape. Source: LiteFlowNet's neg_square_layer.cpp."""
    return g.emit("Neg", g.emit("Mul", x, x))


@lowers("Insanity", in_place=True)
def insanity(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """In phase TEST: below 0 divided by the mean of the divisors that training draws, between lb and ub.

    x: any shape. Source: happynear's insanity_layer.cpp.
    """
    p = layer.params.insanity_param
    if not p.lb * p.ub > 0 or p.lb == p.ub:
        raise layer.error(f"lb {p.lb:g} and ub {p.ub:g}: they differ, and lie on one side of 0")
    return leaky(g, x, (math.log(abs(p.ub)) - math.log(abs(p.lb))) / (p.ub - p.lb))


@lowers("Log", in_place=True)
def log(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Logarithm of shift + scale * x to a base; base -1 means e. x: any shape. Source: caffe/layers/log_layer.cpp."""
    p = layer.params.log_param
    y = g.emit("Mul", x, p.scale) if p.scale != 1 else x
    y = g.emit("Log", g.emit("Add", y, p.shift) if p.shift != 0 else y)
    log_base = _log_base(layer, p.base)
    if log_base == 0:
        raise layer.error("there is no logarithm to base 1")
    return g.emit("Mul", y, 1 / log_base) if log_base != 1 else y


def _log_base(layer: Layer, base: float) -> float:
    if base == -1:
        return 1.0
    if not base > 0:
        raise layer.error(f"base {base}; a base is above 0, or -1 for e")
    return math.log(base)


@lowers("Threshold", in_place=True)
def threshold(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """1 above the threshold, else 0. x: any shape. Source: caffe/layers/threshold_layer.cpp."""
    return g.emit("Cast", g.emit("Greater", x, layer.params.threshold_param.threshold), to=ir.DataType.FLOAT)


@lowers("Clip", in_place=True)
def clip(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """max(min, min(max, x)). x: any shape. Source: caffe/layers/clip_layer.cpp."""
    p = layer.params.clip_param
    if not (p.HasField("min") and p.HasField("max")):
        raise layer.error("clip_param needs both min and max")
    if p.min > p.max:  # everything is min then, and with ONNX's Clip max
        return g.emit("Max", g.emit("Min", x, p.max), p.min)
    return g.emit("Clip", x, p.min, p.max)


@lowers("Swish", in_place=True)
def swish(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """x * sigmoid(beta * x). x: any shape. Source: caffe/layers/swish_layer.cpp."""
    beta = layer.params.swish_param.beta
    return g.emit("Mul", x, g.emit("Sigmoid", g.emit("Mul", x, beta) if beta != 1 else x))


@lowers("Mish", in_place=True)
def mish(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """x * tanh(log(1 + exp(x))) (forks). x: any shape. Source: mish_layer.cpp of YOLO v4's forks."""
    return g.emit("Mul", x, g.emit("Tanh", g.emit("Softplus", x)))


@lowers("SpatialDropout", "Python:spatial_dropout.SpatialDropoutLayer", in_place=True)
def spatial_dropout(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Nothing in phase TEST. x: any shape. Source: Intel's and ENet's spatial_dropout layers."""
    return x


@lowers("Dropout", in_place=True, keeps_count=True)
def dropout(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Nothing in phase TEST; with scale_train: false (forks) the factor 1 - dropout_ratio. SpatialDropout drops whole channels.

    x: any shape. Source: caffe/layers/dropout_layer.cpp.
    """
    p = layer.params.dropout_param
    if p.sample_weights_test:
        raise layer.error("sample_weights_test draws random numbers in phase TEST; remove it to get the mean")
    if is_in_training(layer):
        g.warn("`phase: TRAIN` in the layer makes Caffe drop at random; converted as in phase TEST")
    y = x if p.scale_train else g.emit("Mul", x, 1 - p.dropout_ratio)
    return g.dropout(y, p.dropout_ratio, channels=layer.type == "SpatialDropout")
