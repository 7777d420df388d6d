"""Element-wise functions and softmaxes: nn/*.lua with lib/THNN/generic/*.c of the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.references import Nest, Reference

_IDEMPOTENT = frozenset(("nn.ReLU", "cudnn.ReLU", "nn.ReLU6", "cudnn.ClippedReLU", "nn.HardTanh", "nn.Clamp"))


def overwrites(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a lowering (g, module, x) write into its input where the module says `inplace`."""

    def lowering(net: Any, module: Module, x: Nest) -> Nest:
        if not isinstance(x, Reference):
            raise module.error("its input must be a tensor, but it is a table")
        result = function(net.g, module, x.get())
        if not module.flag("inplace"):
            return Reference(result)
        if x.replicated and module.type not in _IDEMPOTENT:
            raise module.error("it overwrites a replicated tensor, whose elements would change once for each place where they show")
        x.set(result)
        return x.alias()

    lowering.__doc__ = function.__doc__
    lowering.__name__ = lowering.__qualname__ = function.__name__
    lowering.__module__ = function.__module__
    return on_tensors(lowering)


def tensor_input(module: Module, x: Any) -> Value:
    """The one tensor that a module takes."""
    if not isinstance(x, ir.Value):
        raise module.error(f"its input must be a tensor, but it is a table of {len(x)}")
    return x


def _threshold(g: GraphBuilder, x: Value, threshold: float, value: float) -> Value:
    if threshold == 0 and value == 0:
        return g.emit("Relu", x)
    return g.emit("Where", g.emit("Greater", x, threshold), x, value_like(g, x, value))


def value_like(g: GraphBuilder, x: Value, number: float) -> Value:
    """A scalar of x's dtype."""
    return g.const(np.array(number, dtype=x.dtype.numpy() if x.dtype else np.float32))


@lowers("nn.ReLU", "nn.Threshold")
@overwrites
def threshold(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x where x > threshold, else val. Source: THNN/generic/Threshold.c."""
    return _threshold(g, x, module.number("threshold", 0.0), module.number("val", 0.0))


@lowers("cudnn.ReLU")
@overwrites
def cudnn_relu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Rectified linear unit. Source: cudnn.torch/ReLU.lua."""
    return g.emit("Relu", x)


@lowers("nn.ReLU6")
@overwrites
def relu6(g: GraphBuilder, module: Module, x: Value) -> Value:
    """min(max(x, 0), 6). Source: nn/ReLU6.lua."""
    return g.emit("Clip", x, 0.0, 6.0)


@lowers("cudnn.ClippedReLU")
@overwrites
def clipped_relu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """min(max(x, 0), ceiling). Source: cudnn.torch/ClippedReLU.lua."""
    return g.emit("Clip", x, 0.0, module.number("ceiling"))


@lowers("nn.HardTanh", "nn.Clamp")
@overwrites
def hard_tanh(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x limited to min_val .. max_val. Source: THNN/generic/HardTanh.c."""
    return g.emit("Clip", x, module.number("min_val", -1.0), module.number("max_val", 1.0))


@lowers("nn.LeakyReLU")
@overwrites
def leaky_relu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x where x > 0, else negval * x. Source: THNN/generic/LeakyReLU.c."""
    return g.emit("LeakyRelu", x, alpha=module.number("negval", 0.01))


@lowers("nn.RReLU")
@overwrites
def rrelu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Leaky with slope (lower + upper) / 2, as evaluate() has it. Source: THNN/generic/RReLU.c."""
    return g.emit("LeakyRelu", x, alpha=(module.number("lower", 1 / 8) + module.number("upper", 1 / 3)) / 2)


@lowers("nn.ELU")
@overwrites
def elu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x where x > 0, else alpha * (exp(x) - 1). Source: THNN/generic/ELU.c."""
    return g.emit("Elu", x, alpha=module.number("alpha", 1.0))


@lowers("nn.PReLU", "cudnn.PReLU")
def prelu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Leaky with learnt slopes: one, or one for each entry of dimension 2 (of 1 where x has one). Source: THNN/generic/PReLU.c."""
    x = tensor_input(module, x)
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
        slope = g.emit("Reshape", slope, [planes] + [1] * (rank - 2))
    return g.emit("PRelu", x, slope)


def _check_channels(g: GraphBuilder, module: Module, x: Value, axis: int, count: int) -> None:
    (found,) = g.fixed(x, axis, axis + 1)
    if found != count:
        raise module.error(f"it has {count} channels, but dimension {axis + 1} of its input has {found} (shape {g.shape(x)})")


@lowers("nn.Sigmoid", "cudnn.Sigmoid")
@overwrites
def sigmoid(g: GraphBuilder, module: Module, x: Value) -> Value:
    """1 / (1 + exp(-x)). Source: THNN/generic/Sigmoid.c."""
    return g.emit("Sigmoid", x)


@lowers("nn.Tanh", "cudnn.Tanh")
@overwrites
def tanh(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Hyperbolic tangent. Source: THNN/generic/Tanh.c."""
    return g.emit("Tanh", x)


def _elementwise(name: str, op_type: str, doc: str) -> None:
    """Registers a function of one ONNX operator."""

    @lowers(name)
    def lowering(g: GraphBuilder, module: Module, x: Value) -> Value:
        return g.emit(op_type, tensor_input(module, x))

    lowering.__doc__ = doc
    lowering.__name__ = lowering.__qualname__ = op_type.lower()


_elementwise("nn.SoftSign", "Softsign", "x / (1 + |x|). Source: nn/SoftSign.lua.")
_elementwise("nn.Abs", "Abs", "|x|. Source: THNN/generic/Abs.c.")
_elementwise("nn.Exp", "Exp", "exp(x). Source: nn/Exp.lua.")
_elementwise("nn.Log", "Log", "Natural logarithm. Source: nn/Log.lua.")


@lowers("nn.Square")
def square(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x * x. Source: THNN/generic/Square.c."""
    x = tensor_input(module, x)
    return g.emit("Mul", x, x)


@lowers("nn.Sqrt")
def sqrt(g: GraphBuilder, module: Module, x: Value) -> Value:
    """sqrt(x): `eps` only counts in the gradient. Source: THNN/generic/Sqrt.c."""
    return g.emit("Sqrt", tensor_input(module, x))


@lowers("nn.Power")
def power(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x to the power pow, with the sign that this has. Source: nn/Power.lua."""
    return g.emit("Pow", tensor_input(module, x), module.number("pow"))


@lowers("nn.LogSigmoid")
def log_sigmoid(g: GraphBuilder, module: Module, x: Value) -> Value:
    """-log(1 + exp(-x)), x itself where exp(-x) would overflow. Source: THNN/generic/LogSigmoid.c."""
    return g.emit("Neg", g.emit("Softplus", g.emit("Neg", tensor_input(module, x))))


@lowers("nn.SoftPlus")
def soft_plus(g: GraphBuilder, module: Module, x: Value) -> Value:
    """log(1 + exp(beta * x)) / beta, and x where beta * x > threshold (20). Source: THNN/generic/SoftPlus.c."""
    x = tensor_input(module, x)
    beta, limit = module.number("beta", 1.0), module.number("threshold", 20.0)
    scaled = x if beta == 1 else g.emit("Mul", x, beta)
    result = g.emit("Softplus", scaled)
    if beta != 1:
        result = g.emit("Div", result, beta)
    if limit < 20:  # above 20 the two are the same float
        result = g.emit("Where", g.emit("Greater", scaled, limit), x, result)
    return result


@lowers("nn.SoftShrink")
def soft_shrink(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x drawn towards 0 by lambda. Source: THNN/generic/SoftShrink.c."""
    shrink = module.number("lambda", 0.5)
    x = tensor_input(module, x)
    if shrink < 0:  # both sides reach across 0, and runtimes differ in which one they ask first
        return g.emit("Where", g.emit("Greater", x, shrink), g.emit("Sub", x, shrink), g.emit("Add", x, shrink))
    return g.emit("Shrink", x, bias=shrink, lambd=shrink)


@lowers("nn.HardShrink")
def hard_shrink(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x where |x| > lambda, else 0. Source: THNN/generic/HardShrink.c."""
    return g.emit("Shrink", tensor_input(module, x), bias=0.0, lambd=module.number("lambda", 0.5))


@lowers("nn.TanhShrink")
def tanh_shrink(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x - tanh(x). Source: nn/TanhShrink.lua."""
    x = tensor_input(module, x)
    return g.emit("Sub", x, g.emit("Tanh", x))


@lowers("nn.GatedLinearUnit")
def gated_linear_unit(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The first half along dim times the sigmoid of the second. Source: THNN/generic/GatedLinearUnit.c."""
    x = tensor_input(module, x)
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
def crelu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """max(x, 0) and max(-x, 0) side by side, along the first dimension behind the batch. Source: nn/CReLU.lua."""
    axis = int(g.rank(tensor_input(module, x)) == module.integer("nInputDims") + 1)
    return g.emit("Relu", g.emit("Concat", x, g.emit("Neg", x), axis=axis))


# -- softmax -----------------------------------------------------------------------------------------------------------


def _softmax_axis(g: GraphBuilder, module: Module, x: Value) -> int:
    """Dimension 1 of 1-D and 3-D inputs, 2 of 2-D and 4-D. Source: THNN/generic/SoftMax.c."""
    rank = g.rank(tensor_input(module, x))
    if rank not in (1, 2, 3, 4):
        raise module.error(f"its input must have 1 to 4 dimensions, but has {rank}")
    return (rank + 1) % 2


@lowers("nn.SoftMax", "nn.SpatialSoftMax")
def softmax(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Softmax over dimension 1 (1-D, 3-D) or 2 (2-D, 4-D). Source: THNN/generic/SoftMax.c."""
    return g.emit("Softmax", x, axis=_softmax_axis(g, module, x))


@lowers("nn.LogSoftMax", "nn.SpatialLogSoftMax")
def log_softmax(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Logarithm of the softmax over dimension 1 (1-D, 3-D) or 2 (2-D, 4-D). Source: THNN/generic/LogSoftMax.c."""
    return g.emit("LogSoftmax", x, axis=_softmax_axis(g, module, x))


@lowers("nn.SoftMin")
def softmin(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Softmax of -x. Source: nn/SoftMin.lua."""
    return g.emit("Softmax", g.emit("Neg", tensor_input(module, x)), axis=_softmax_axis(g, module, x))


@lowers(
    "cudnn.SoftMax",
    "cudnn.LogSoftMax",
    "cudnn.SpatialSoftMax",
    "cudnn.SpatialLogSoftMax",
    "cudnn.VolumetricSoftMax",
    "cudnn.VolumetricLogSoftMax",
)
def cudnn_softmax(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Softmax over all but the batch, or (Spatial) over the channels, or its logarithm. Source: cudnn.torch/SpatialSoftMax.lua."""
    x = tensor_input(module, x)
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
    flat = g.emit("Flatten", x, axis=first) if first else g.emit("Reshape", x, [1, -1])
    return g.emit("Reshape", g.emit(op_type, flat, axis=1), [-1 if not isinstance(d, int) else d for d in shape], shape=shape)
