"""Arithmetic, element by element. Sources: TensorFlow's core/ops/math_ops.cc, core/kernels/cwise_ops.h."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from converters.readers.tensorflow.operators.activation import by_element, single
from converters.readers.tensorflow.operators.normalization import put_together
from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.tensors import numpy_type
from converters.readers.tensorflow.values import Array


def together(g: TensorBuilder, op_type: str, *tensors: Tensor, fmod: int | None = None) -> Tensor:
    """An ONNX operator on tensors that are broadcast as TensorFlow does, from the last axis on."""
    kinds = {x.dtype for x in tensors if x.dtype != np.bool_}
    if len(kinds) > 1:
        raise g.error(f"its inputs have the types {', '.join(sorted(kind.name for kind in kinds))}, which have to be one")
    operands, tensor = g.aligned(*tensors)
    return tensor(g.emit(op_type, *operands, fmod=fmod))


def _pair(names: tuple[str, ...], op_type: str, fold: Callable[[Array, Array], Array], what: str, structural: bool = False) -> None:
    """Registers an operator of two inputs that ONNX has."""

    def lower(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
        return together(g, op_type, x, y)

    lower.__doc__ = what
    lower.__name__ = lower.__qualname__ = names[0].lower()
    lowers(*names, fold=lambda g, node, x, y: fold(x, y), structural=structural)(lower)


_pair(("Sub",), "Sub", np.subtract, "x - y.", structural=True)
_pair(("Mul",), "Mul", np.multiply, "x * y.", structural=True)
_pair(("RealDiv",), "Div", np.true_divide, "x / y.")
_pair(("Pow",), "Pow", np.power, "x to the power of y.")
_pair(("Maximum",), "Max", np.maximum, "The larger of two numbers.")
_pair(("Minimum",), "Min", np.minimum, "The smaller of two numbers.")
_pair(("Greater",), "Greater", np.greater, "x > y.")
_pair(("GreaterEqual",), "GreaterOrEqual", np.greater_equal, "x >= y.")
_pair(("Less",), "Less", np.less, "x < y.")
_pair(("LessEqual",), "LessOrEqual", np.less_equal, "x <= y.")
_pair(("Equal",), "Equal", np.equal, "x == y.")
_pair(("LogicalAnd",), "And", np.logical_and, "Both.")
_pair(("LogicalOr",), "Or", np.logical_or, "One of the two, or both.")

single("Neg", "Neg", "-x.", np.negative)
single("Abs", "Abs", "|x|.", np.abs)
single("Exp", "Exp", "exp(x).", np.exp)
single("Log", "Log", "The natural logarithm.", np.log)
single("Sqrt", "Sqrt", "The square root.", np.sqrt)
single("Sign", "Sign", "-1, 0 or 1.", np.sign)
single("Floor", "Floor", "The largest whole number that isn't larger.", np.floor)
single("Ceil", "Ceil", "The smallest whole number that isn't smaller.", np.ceil)
single("Rint", "Round", "The nearest whole number, halves to the even one.", np.rint)
single("Round", "Round", "The nearest whole number, halves to the even one.", np.rint)
single("Reciprocal", "Reciprocal", "1 / x.", np.reciprocal)
single("Inv", "Reciprocal", "1 / x.", np.reciprocal)
single("Sin", "Sin", "Sine.", np.sin)
single("Cos", "Cos", "Cosine.", np.cos)
single("Tan", "Tan", "Tangent.", np.tan)
single("Asin", "Asin", "The angle of a sine.", np.arcsin)
single("Acos", "Acos", "The angle of a cosine.", np.arccos)
single("Atan", "Atan", "The angle of a tangent.", np.arctan)
single("Sinh", "Sinh", "Hyperbolic sine.", np.sinh)
single("Cosh", "Cosh", "Hyperbolic cosine.", np.cosh)
single("Asinh", "Asinh", "The angle of a hyperbolic sine.", np.arcsinh)
single("Acosh", "Acosh", "The angle of a hyperbolic cosine.", np.arccosh)
single("Atanh", "Atanh", "The angle of a hyperbolic tangent.", np.arctanh)
single("LogicalNot", "Not", "The other of true and false.", np.logical_not)


@lowers("Erfc")
def erfc(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """What the Gauss error function leaves of 1."""
    return together(g, "Sub", Tensor(x.dtype, array=np.ones((), x.dtype)), by_element(g, "Erf", x))


@lowers("Erf")
def erf(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """The Gauss error function."""
    return by_element(g, "Erf", x)


@lowers("Add", "AddV2", fold=lambda g, node, x, y: np.add(x, y), structural=True)
def add(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """x + y; a constant behind a convolution or a dense layer is its bias, and a batch norm in parts is put together."""
    whole = put_together(g, node)
    if whole is not None:
        return whole
    for sum_, bias in ((x, y), (y, x)):
        if bias.is_constant and sum_.value is not None and g.reads_alone(node, sum_) and g.absorb(sum_, bias):
            return sum_
    return together(g, "Add", x, y)


@lowers("AddN", "AccumulateNV2")
def add_n(g: TensorBuilder, node: Node, *tensors: Tensor) -> Tensor:
    """The sum of tensors of one shape."""
    if not tensors:
        raise g.error("it has no inputs")
    total = tensors[0]
    for other in tensors[1:]:
        total = together(g, "Add", total, other)
    return total


def _truncated(x: Array, y: Array) -> Array:
    return np.trunc(np.true_divide(x, y)).astype(x.dtype) if x.dtype.kind in "iu" else np.true_divide(x, y)


@lowers("Div", "TruncateDiv", fold=lambda g, node, x, y: _truncated(x, y))
def div(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """x / y; of integers, cut towards 0."""
    return together(g, "Div", x, y)


@lowers("FloorDiv", fold=lambda g, node, x, y: np.floor_divide(x, y), structural=True)
def floor_div(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """The largest whole number that isn't larger than x / y."""
    if x.dtype.kind == "f":
        return by_element(g, "Floor", together(g, "Div", x, y))
    quotient = together(g, "Div", x, y)  # of integers: cut towards 0
    rest = together(g, "Sub", x, together(g, "Mul", quotient, y))
    zero = Tensor(x.dtype, array=np.zeros((), x.dtype))
    apart = together(g, "Xor", together(g, "Less", rest, zero), together(g, "Less", y, zero))
    below = together(g, "And", by_element(g, "Not", together(g, "Equal", rest, zero)), apart)
    return together(g, "Sub", quotient, _cast(g, below, x.dtype))


@lowers("Mod", "TruncateMod", fold=lambda g, node, x, y: np.fmod(x, y))
def truncate_mod(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """What is left of x / y, with the sign of x, as in C."""
    return together(g, "Mod", x, y, fmod=1)


@lowers("FloorMod", fold=lambda g, node, x, y: np.mod(x, y))
def floor_mod(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """What is left of x / y, with the sign of y."""
    if x.dtype.kind != "f":
        return together(g, "Mod", x, y)
    floor = by_element(g, "Floor", together(g, "Div", x, y))
    return together(g, "Sub", x, together(g, "Mul", floor, y))


@lowers("DivNoNan", fold=lambda g, node, x, y: np.where(y == 0, np.zeros((), x.dtype), np.true_divide(x, y)))
def div_no_nan(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """x / y, and 0 where y is."""
    zero = Tensor(x.dtype, array=np.zeros((), x.dtype))
    return together(g, "Where", together(g, "Equal", y, zero), zero, together(g, "Div", x, y))


@lowers("MulNoNan", fold=lambda g, node, x, y: np.where(y == 0, np.zeros((), x.dtype), np.multiply(x, y)))
def mul_no_nan(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """x * y, and 0 where y is, even where x is infinite or no number."""
    zero = Tensor(x.dtype, array=np.zeros((), x.dtype))
    return together(g, "Where", together(g, "Equal", y, zero), zero, together(g, "Mul", x, y))


@lowers("IsNan", fold=lambda g, node, x: np.isnan(x))
def is_nan(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Whether it is no number."""
    return by_element(g, "IsNaN", x)


@lowers("IsInf", fold=lambda g, node, x: np.isinf(x))
def is_inf(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Whether it is infinite."""
    return by_element(g, "IsInf", x)


@lowers("IsFinite", fold=lambda g, node, x: np.isfinite(x))
def is_finite(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Whether it is a number that isn't infinite."""
    return by_element(g, "Not", together(g, "Or", by_element(g, "IsNaN", x), by_element(g, "IsInf", x)))


@lowers("NotEqual", fold=lambda g, node, x, y: np.not_equal(x, y))
def not_equal(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """x != y."""
    return by_element(g, "Not", together(g, "Equal", x, y))


@lowers("SquaredDifference", fold=lambda g, node, x, y: np.square(x - y))
def squared_difference(g: TensorBuilder, node: Node, x: Tensor, y: Tensor) -> Tensor:
    """(x - y)^2."""
    difference = together(g, "Sub", x, y)
    return together(g, "Mul", difference, difference)


@lowers("Square", fold=lambda g, node, x: np.square(x))
def square(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """x * x."""
    return together(g, "Mul", x, x)


@lowers("Rsqrt", fold=lambda g, node, x: np.asarray(1 / np.sqrt(x), x.dtype))
def rsqrt(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """1 / sqrt(x)."""
    return by_element(g, "Reciprocal", by_element(g, "Sqrt", x))


@lowers("Log1p", fold=lambda g, node, x: np.log1p(x))
def log1p(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """log(1 + x)."""
    return by_element(g, "Log", together(g, "Add", x, Tensor(x.dtype, array=np.ones((), x.dtype))))


@lowers("Expm1", fold=lambda g, node, x: np.expm1(x))
def expm1(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """exp(x) - 1."""
    return together(g, "Sub", by_element(g, "Exp", x), Tensor(x.dtype, array=np.ones((), x.dtype)))


@lowers("ClipByValue")
def clip_by_value(g: TensorBuilder, node: Node, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """min(max(x, low), high)."""
    return together(g, "Min", together(g, "Max", x, low), high)


def _cast_array(node: Node, x: Array) -> Array:
    if x.dtype == object:
        raise TypeError("sizes keep their type until the operator is lowered")
    return x.astype(numpy_type(node.type_number("DstT"), "it"))


@lowers("Cast", fold=lambda g, node, x: _cast_array(node, x), structural=True)
def cast(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """Another type; floats become integers by cutting towards 0."""
    dtype = numpy_type(node.type_number("DstT"), "its output")
    return replace(x, dtype=dtype) if x.sizes is not None and dtype.kind in "iu" else _cast(g, x, dtype)


def _cast(g: TensorBuilder, x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    value = x.value if x.value is not None else g.plain(x)
    return g.result(g.cast(value, dtype), x.order if x.value is not None else None, rows=x.rows, blocks=x.blocks)


@lowers("Select", fold=lambda g, node, c, x, y: np.where(c.reshape(c.shape + (1,) * (x.ndim - c.ndim)), x, y))
def select(g: TensorBuilder, node: Node, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds, else y; a condition of one axis picks rows."""
    if condition.rank == 1 and x.rank > 1:
        value = g.emit("Unsqueeze", g.plain(condition), list(range(1, x.rank)))
        condition = g.result(value)
    return together(g, "Where", condition, x, y)


@lowers("SelectV2", fold=lambda g, node, c, x, y: np.where(c, x, y))
def select_v2(g: TensorBuilder, node: Node, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition holds, else y, broadcast."""
    return together(g, "Where", condition, x, y)


@lowers("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVarsPerChannel")
def fake_quant(g: TensorBuilder, node: Node, x: Tensor, *bounds: Tensor) -> Tensor:
    """x rounded to one of 2^num_bits steps between two bounds (of each channel), which are moved so that 0 is one.

    Source: TensorFlow's core/kernels/fake_quant_ops_functor.h (Nudge).
    """
    given = [g.array(bound, "bound") for bound in bounds] or [np.asarray(node.real("min", -6.0)), np.asarray(node.real("max", 6.0))]
    low, high = (bound.astype(np.float32) for bound in given)
    least = np.float32(1 if node.flag("narrow_range") else 0)
    most = np.float32(2 ** node.integer("num_bits", 8) - 1)
    nothing = (low == 0) & (high == 0)  # gives 0
    scale = np.where(nothing, np.float32(1), (high - low) / (most - least))
    zero = least - low / scale
    nudged = np.clip(np.floor(np.clip(zero, least, most) + np.float32(0.5)), least, most)
    bottom, top = np.where(nothing, 0, (least - nudged) * scale), np.where(nothing, 0, (most - nudged) * scale)
    one = [Tensor(x.dtype, array=np.asarray(number, x.dtype)) for number in (bottom, top, 1 / scale, scale, 0.5)]
    clamped = together(g, "Sub", together(g, "Min", together(g, "Max", x, one[0]), one[1]), one[0])
    steps = by_element(g, "Floor", together(g, "Add", together(g, "Mul", clamped, one[2]), one[4]))
    return together(g, "Add", together(g, "Mul", steps, one[3]), one[0])


@lowers(
    "Identity",
    "StopGradient",
    "CheckNumerics",
    "PreventGradient",
    "Snapshot",
    "PlaceholderWithDefault",
    "EnsureShape",
    fold=lambda g, node, x, *_: x,
    structural=True,
)
def identity(g: TensorBuilder, node: Node, x: Tensor, *ignored: Tensor) -> Tensor:
    """What comes in."""
    return x


@lowers("IdentityN")
def identity_n(g: TensorBuilder, node: Node, *tensors: Tensor) -> tuple[Tensor, ...]:
    """What comes in, each."""
    return tensors


@lowers(
    "RandomUniform",
    "RandomStandardNormal",
    "TruncatedNormal",
    "RandomUniformInt",
    "Multinomial",
    "RandomShuffle",
    "StatelessRandomUniform",
    "StatelessRandomUniformV2",
    "StatelessRandomNormal",
    "RandomGamma",
    random=True,
)
def random(g: TensorBuilder, node: Node, *tensors: Tensor) -> Tensor:
    """Random numbers: left out as the mask of a dropout, else refused."""
    raise g.error("draws random numbers")


@lowers("BiasAdd", "BiasAddV1")
def bias_add(g: TensorBuilder, node: Node, x: Tensor, bias: Tensor) -> Tensor:
    """A number added to each channel: those of the last axis, in NCHW of the second."""
    if bias.rank != 1 or x.rank < 2:
        raise g.error(f"adds a bias of {bias.rank} axes to an input of {x.rank}")
    if node.text("data_format", "NHWC") == "NCHW" and x.rank > 2:
        g.is_nchw = True
        if g.reads_alone(node, x) and g.absorb(x, bias, axis=1):
            return x
        rest = [1] * (x.rank - 2)
        spread = (
            Tensor(bias.dtype, array=bias.array.reshape(-1, *rest), origin=bias.origin)
            if bias.array is not None
            else g.result(g.reshape(g.plain(bias), [*g.extents(g.plain(bias)), *rest]))
        )
        return together(g, "Add", x, spread)
    return x if g.reads_alone(node, x) and g.absorb(x, bias) else together(g, "Add", x, bias)
