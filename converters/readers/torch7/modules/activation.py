"""Element-wise functions and softmaxes: nn/*.lua with lib/THNN/generic/*.c of the same names."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, Net, lowers
from converters.readers.torch7.references import Tensors


def _threshold(g: GraphBuilder, x: ir.Value, threshold: float, value: float) -> ir.Value:
    if threshold == 0 and value == 0:
        return g.emit("Relu", x)
    return g.emit("Where", g.emit("Greater", x, threshold), x, value_like(g, x, value))


def value_like(g: GraphBuilder, x: ir.Value, number: float) -> ir.Value:
    """A scalar of x's dtype."""
    return g.const(np.array(number, dtype=x.dtype.numpy() if x.dtype else np.float32))


@lowers("nn.ReLU", in_place=True, idempotent=True, keeps_channels=True, by_sample=True)
@lowers("nn.Threshold", in_place=True)
def threshold(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x where x > threshold, else val. Source: THNN/generic/Threshold.c."""
    return _threshold(g, x, module.number("threshold", 0.0), module.number("val", 0.0))


@lowers("cudnn.ReLU", in_place=True, idempotent=True, keeps_channels=True)
def cudnn_relu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Rectified linear unit. Source: cudnn.torch/ReLU.lua."""
    return g.emit("Relu", x)


@lowers("nn.ReLU6", in_place=True, idempotent=True)
def relu6(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """min(max(x, 0), 6). Source: nn/ReLU6.lua."""
    return g.emit("Clip", x, 0.0, 6.0)


@lowers("cudnn.ClippedReLU", in_place=True, idempotent=True)
def clipped_relu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """min(max(x, 0), ceiling). Source: cudnn.torch/ClippedReLU.lua."""
    return g.emit("Clip", x, 0.0, module.number("ceiling"))


@lowers("nn.HardTanh", "nn.Clamp", in_place=True, idempotent=True, by_sample=True)
def hard_tanh(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x limited to min_val .. max_val. Source: THNN/generic/HardTanh.c."""
    return g.emit("Clip", x, module.number("min_val", -1.0), module.number("max_val", 1.0))


@lowers("nn.LeakyReLU", in_place=True)
def leaky_relu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x where x > 0, else negval * x. Source: THNN/generic/LeakyReLU.c."""
    return g.emit("LeakyRelu", x, alpha=module.number("negval", 0.01))


@lowers("nn.RReLU", in_place=True)
def rrelu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Leaky with slope (lower + upper) / 2, as evaluate() has it. Source: THNN/generic/RReLU.c."""
    return g.emit("LeakyRelu", x, alpha=(module.number("lower", 1 / 8) + module.number("upper", 1 / 3)) / 2)


@lowers("nn.ELU", in_place=True, by_sample=True)
def elu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x where x > 0, else alpha * (exp(x) - 1). Source: THNN/generic/ELU.c."""
    return g.emit("Elu", x, alpha=module.number("alpha", 1.0))


@lowers("nn.PReLU", "cudnn.PReLU", "fbnn.LeakyReLU")
def prelu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Leaky with learnt slopes: one, or one for each entry of dimension 2 (of 1 where x has one). Source: THNN/generic/PReLU.c."""
    planes = module.integer("nOutputPlane", 0, least=0)
    rank = g.rank(x)
    weight = module.tensor("weight")
    if weight.size != max(planes, 1):
        raise module.error(f"field 'weight' has {weight.size} slopes for nOutputPlane {planes}")
    weight = weight.reshape(-1)
    if planes and rank > 1:
        _check_channels(g, module, x, 1, planes)
    elif planes:
        _check_channels(g, module, x, 0, planes)
    slope = module.param("weight", weight)
    if planes and rank > 2:
        slope = g.reshape(slope, [planes] + [1] * (rank - 2))
    return g.emit("PRelu", x, slope)


def _check_channels(g: GraphBuilder, module: Module, x: ir.Value, axis: int, count: int) -> None:
    (found,) = g.fixed(x, axis, axis + 1)
    if found != count:
        raise module.error(f"it has {count} channels, but dimension {axis + 1} of its input has {found} (shape {g.shape(x)})")


@lowers("nn.Sigmoid", "cudnn.Sigmoid", in_place=True, keeps_channels=True, by_sample=True)
def sigmoid(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """1 / (1 + exp(-x)). Source: THNN/generic/Sigmoid.c."""
    return g.emit("Sigmoid", x)


@lowers("nn.Tanh", "cudnn.Tanh", in_place=True, keeps_channels=True, by_sample=True)
def tanh(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Hyperbolic tangent. Source: THNN/generic/Tanh.c."""
    return g.emit("Tanh", x)


def _elementwise(name: str, op_type: str, doc: str) -> None:
    """Registers a function of one ONNX operator."""

    @lowers(name)
    def lowering(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
        return g.emit(op_type, x)

    lowering.__doc__ = doc
    lowering.__name__ = lowering.__qualname__ = op_type.lower()


_elementwise("nn.SoftSign", "Softsign", "x / (1 + |x|). Source: nn/SoftSign.lua.")

_elementwise("nn.Abs", "Abs", "|x|. Source: THNN/generic/Abs.c.")

_elementwise("nn.Exp", "Exp", "exp(x). Source: nn/Exp.lua.")

_elementwise("nn.Log", "Log", "Natural logarithm. Source: nn/Log.lua.")


@lowers("nn.Square")
def square(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x * x. Source: THNN/generic/Square.c."""
    return g.emit("Mul", x, x)


@lowers("nn.Sqrt")
def sqrt(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """sqrt(x): `eps` only counts in the gradient. Source: THNN/generic/Sqrt.c."""
    return g.emit("Sqrt", x)


@lowers("nn.Power")
def power(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x to the power pow, with the sign that this has. Source: nn/Power.lua."""
    return g.emit("Pow", x, module.number("pow"))


@lowers("nn.LogSigmoid")
def log_sigmoid(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """-log(1 + exp(-x)), x itself where exp(-x) would overflow. Source: THNN/generic/LogSigmoid.c."""
    return g.emit("Neg", g.emit("Softplus", g.emit("Neg", x)))


@lowers("nn.SoftPlus")
def soft_plus(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """log(1 + exp(beta * x)) / beta, and x where beta * x > threshold (20). Source: THNN/generic/SoftPlus.c."""
    beta, limit = module.number("beta", 1.0), module.number("threshold", 20.0)
    scaled = x if beta == 1 else g.emit("Mul", x, beta)
    result = g.emit("Softplus", scaled)
    if beta != 1:
        result = g.emit("Div", result, beta)
    if limit < 20:  # above 20 the two are the same float
        result = g.emit("Where", g.emit("Greater", scaled, limit), x, result)
    return result


@lowers("nn.SoftShrink")
def soft_shrink(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x drawn towards 0 by lambda. Source: THNN/generic/SoftShrink.c."""
    shrink = module.number("lambda", 0.5)
    if shrink < 0:  # both sides reach across 0, and runtimes differ in which one they ask first
        return g.emit("Where", g.emit("Greater", x, shrink), g.emit("Sub", x, shrink), g.emit("Add", x, shrink))
    return g.emit("Shrink", x, bias=shrink, lambd=shrink)


@lowers("nn.HardShrink")
def hard_shrink(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x where |x| > lambda, else 0. Source: THNN/generic/HardShrink.c."""
    return g.emit("Shrink", x, bias=0.0, lambd=module.number("lambda", 0.5))


@lowers("nn.TanhShrink")
def tanh_shrink(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x - tanh(x). Source: nn/TanhShrink.lua."""
    return g.emit("Sub", x, g.emit("Tanh", x))


@lowers("nn.GatedLinearUnit")
def gated_linear_unit(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The first half along dim times the sigmoid of the second. Source: THNN/generic/GatedLinearUnit.c."""
    default = g.rank(x)
    dim = module.integer("dim", default, least=1)
    if dim > default:
        raise module.error(f"dim is {dim}, but its input has {default} dimensions")
    (size,) = g.fixed(x, dim - 1, dim)
    if size % 2:
        raise module.error(f"dimension {dim} of its input must be even, but has {size}")
    first, second = g.emit_all("Split", x, outputs=2, axis=dim - 1, num_outputs=2)
    return g.emit("Mul", first, g.emit("Sigmoid", second))


@lowers("nn.CReLU")
def crelu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """max(x, 0) and max(-x, 0) side by side, along the first dimension behind the batch. Source: nn/CReLU.lua."""
    axis = int(g.rank(x) == module.integer("nInputDims") + 1)
    return g.emit("Relu", g.emit("Concat", x, g.emit("Neg", x), axis=axis))


# -- softmax -----------------------------------------------------------------------------------------------------------


def _softmax_axis(g: GraphBuilder, module: Module, x: ir.Value) -> int:
    """Dimension 1 of 1-D and 3-D inputs, 2 of 2-D and 4-D. Source: THNN/generic/SoftMax.c."""
    rank = g.rank(x)
    if rank not in (1, 2, 3, 4):
        raise module.error(f"its input must have 1 to 4 dimensions, but has {rank}")
    return (rank + 1) % 2


@lowers("nn.SoftMax", by_sample=True)
@lowers("nn.SpatialSoftMax")
def softmax(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Softmax over dimension 1 (1-D, 3-D) or 2 (2-D, 4-D). Source: THNN/generic/SoftMax.c."""
    return g.emit("Softmax", x, axis=_softmax_axis(g, module, x))


@lowers("nn.LogSoftMax", by_sample=True)
@lowers("nn.SpatialLogSoftMax")
def log_softmax(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Logarithm of the softmax over dimension 1 (1-D, 3-D) or 2 (2-D, 4-D). Source: THNN/generic/LogSoftMax.c."""
    return g.emit("LogSoftmax", x, axis=_softmax_axis(g, module, x))


@lowers("nn.SoftMin")
def softmin(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Softmax of -x. Source: nn/SoftMin.lua."""
    return g.emit("Softmax", g.emit("Neg", x), axis=_softmax_axis(g, module, x))


@lowers(
    "cudnn.SoftMax",
    "cudnn.LogSoftMax",
    "cudnn.SpatialSoftMax",
    "cudnn.SpatialLogSoftMax",
    "cudnn.VolumetricSoftMax",
    "cudnn.VolumetricLogSoftMax",
)
def cudnn_softmax(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Softmax over all but the batch, or (Spatial) over the channels, or its logarithm. Source: cudnn.torch/SpatialSoftMax.lua."""
    rank = g.rank(x)
    spatial = 5 if "Volumetric" in module.type else 4
    if rank not in (1, 2, spatial - 1, spatial):
        raise module.error(f"its input must have 1, 2, {spatial - 1} or {spatial} dimensions, but has {rank}")
    first = 0 if rank in (1, spatial - 1) else 1
    op_type = "LogSoftmax" if "LogSoftMax" in module.type or module.text("algorithm", "") == "CUDNN_SOFTMAX_LOG" else "Softmax"
    whole = module.type in ("cudnn.SoftMax", "cudnn.LogSoftMax") or module.text("mode", "") == "CUDNN_SOFTMAX_MODE_INSTANCE"
    if not whole or rank == first + 1:
        return g.emit(op_type, x, axis=first)
    shape = g.shape(x)
    flat = g.reshape(x, [shape[0], math.prod(g.fixed(x, 1))] if first else [1, math.prod(g.fixed(x))])
    return g.reshape(g.emit(op_type, flat, axis=1), shape)


@lowers("nn.Clip")
def clip(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x limited to minval .. maxval. Source: dpnn/Clip.lua."""
    return g.emit("Clip", x, module.number("minval"), module.number("maxval"))


@lowers("nn.SaturatedLU")
def saturated_lu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """val where x < threshold, then val2 where that is > threshold2. Source: nnx/SaturatedLU.lua."""
    low, high = module.number("threshold", -1.0), module.number("threshold2", 1.0)
    raised = g.emit("Where", g.emit("Less", x, low), value_like(g, x, module.number("val", -1.0)), x)
    return g.emit("Where", g.emit("Greater", raised, high), value_like(g, x, module.number("val2", 1.0)), raised)


@lowers("nn.Minus")
def minus(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """-x. Source: nnx/Minus.lua."""
    return g.emit("Neg", x)


@lowers("w2nn.InplaceClip01", on_tensors=True)
def inplace_clip(net: Net, module: Module, x: Tensors) -> Tensors:
    """x limited to 0 .. 1, written into its input. Source: waifu2x/lib/InplaceClip01.lua."""
    given = module.one_reference(x)
    given.set(net.g.emit("Clip", given.get(), 0.0, 1.0))
    return given.alias()


@lowers("w2nn.LeakyReLU")
def scaled_leaky_relu(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x where x > 0, else negative_scale * x. Source: waifu2x/lib/LeakyReLU.lua."""
    return g.emit("LeakyRelu", x, alpha=module.number("negative_scale", 0.333))
