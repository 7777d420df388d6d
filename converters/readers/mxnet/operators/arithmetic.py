"""Arithmetic, comparison and functions of one number. Sources: mxnet src/operator/tensor/elemwise_*.cc, mshadow_op.h."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.axes import each, first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.signature import lowers

Binary = Callable[[OperatorBuilder, ir.Value, "ir.Value | float"], ir.Value]

SOURCE = "Source: mxnet src/operator/tensor/elemwise_*.cc, mshadow_op.h."

COMPARISONS = {
    "equal": "Equal",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
    "lesser": "Less",
    "lesser_equal": "LessOrEqual",
}


def node(op_type: str) -> Binary:
    """A binary operator that is one ONNX node."""

    def emit(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
        return g.emit(op_type, a, b)

    return emit


def comparison(op_type: str, negate: bool = False) -> Binary:
    """A comparison as MXNet answers it: 1 and 0 in the type of its inputs."""

    def emit(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
        found = g.emit(op_type, a, b)
        return g.cast(g.emit("Not", found) if negate else found, g.dtype(a))

    return emit


def logical(op_type: str) -> Binary:
    """And, or, xor of what isn't 0."""

    def emit(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
        other = truth(g, b) if isinstance(b, ir.Value) else np.array(b != 0)
        return g.cast(g.emit(op_type, truth(g, a), other), g.dtype(a))

    return emit


def truth(g: OperatorBuilder, value: ir.Value) -> ir.Value:
    """Whether an element isn't 0."""
    return value if g.dtype(value) == np.bool_ else g.emit("Not", g.emit("Equal", value, 0))


def modulo(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
    """The remainder with the divisor's sign, 0 where the divisor is 0."""
    divisor = b if isinstance(b, ir.Value) else g.const(np.array(b, g.dtype(a)))
    zero = g.emit("Equal", divisor, 0)
    safe = g.emit("Where", zero, g.const(np.array(1, g.dtype(a))), divisor)
    rest = g.emit("Mod", a, safe, fmod=1)
    moved = g.emit(
        "And", g.emit("Not", g.emit("Equal", rest, 0)), g.emit("Less", g.emit("Mul", g.emit("Sign", rest), g.emit("Sign", safe)), 0)
    )
    result = g.emit("Where", moved, g.emit("Add", rest, safe), rest)
    return g.emit("Where", zero, g.const(np.array(0, g.dtype(a))), result)


def hypotenuse(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
    """sqrt(a^2 + b^2); narrow integers are squared as int32, as C does."""
    dtype = g.dtype(a)
    if dtype.kind in "iu" and dtype.itemsize < 4:
        wide = g.cast(b, np.int32) if isinstance(b, ir.Value) else b
        return g.cast(hypotenuse(g, g.cast(a, np.int32), wide), dtype)
    square = g.emit("Mul", b, b) if isinstance(b, ir.Value) else b * b
    return g.emit("Sqrt", g.emit("Add", g.emit("Mul", a, a), square))


def divide(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
    return g.emit("Div", a, b)


BINARY: dict[str, Binary] = {
    "add": node("Add"),
    "sub": node("Sub"),
    "mul": node("Mul"),
    "div": divide,
    "mod": modulo,
    "power": node("Pow"),
    "maximum": node("Max"),
    "minimum": node("Min"),
    "hypot": hypotenuse,
    "not_equal": comparison("Equal", negate=True),
    "logical_and": logical("And"),
    "logical_or": logical("Or"),
    "logical_xor": logical("Xor"),
    **{name: comparison(op_type) for name, op_type in COMPARISONS.items()},
}


def same_shape(g: OperatorBuilder, a: ir.Value, b: ir.Value) -> None:
    """Raises ConversionError where sizes differ: these operators don't broadcast. A number fixes the symbol that stands against it."""
    first, second = g.shape(a), g.shape(b)
    if a in g.open_values or b in g.open_values:
        return
    if len(first) != len(second) or any(isinstance(p, int) and isinstance(q, int) and p != q for p, q in zip(first, second, strict=True)):
        raise g.error(f"the inputs have shapes {first} and {second}, but the operator doesn't broadcast")
    fixed = [p if isinstance(p, str) else q for p, q in zip(first, second, strict=True) if isinstance(p, str) != isinstance(q, str)]
    symbols = [symbol for symbol in fixed if isinstance(symbol, str)]
    if symbols and None not in (*first, *second):
        problem = g.needs_number("takes inputs of equal shapes alone, and one of them has a fixed one", symbols)
        problem.is_exact = True
        raise problem


BROADCAST_TWINS = {"add": ["broadcast_plus"], "sub": ["broadcast_minus"], "maximum": ["_npi_maximum"], "minimum": ["_npi_minimum"]}


def _register_binary(name: str, function: Binary) -> None:
    spoken = name.replace("_", " ")

    def elementwise(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        same_shape(g, lhs, rhs)
        return function(g, lhs, g.cast(rhs, g.dtype(lhs)))

    def broadcast(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        return function(g, lhs, g.cast(rhs, g.dtype(lhs)))

    def with_scalar(g: OperatorBuilder, data: ir.Value, *, scalar: float = 1.0, is_int: bool = True) -> ir.Value:
        x, number = beside_number(g, data, scalar, is_int)
        return function(g, x, number)

    elementwise.__doc__ = f"Element-wise {spoken} of two equal shapes. {SOURCE}"
    broadcast.__doc__ = f"Broadcasting {spoken}. {SOURCE}"
    with_scalar.__doc__ = f"Element-wise {spoken} with a number. {SOURCE}"
    same, scalars = _spellings(name)
    lowers(*same, axes=each)(elementwise)
    lowers(f"broadcast_{name}", *BROADCAST_TWINS.get(name, ()), axes=each)(broadcast)
    lowers(*scalars, axes=first)(with_scalar)


def beside_number(g: OperatorBuilder, data: ir.Value, scalar: float, is_int: bool) -> tuple[ir.Value, float | int]:
    """Data and a number beside it: integers become float64 where the file says that the number is none (which it does since 1.7)."""
    if g.dtype(data).kind in "iu" and not is_int:
        return g.cast(data, np.float64), scalar
    return data, _fitting(g, data, scalar)


def _fitting(g: OperatorBuilder, data: ir.Value, scalar: float) -> float | int:
    """The scalar in the type of the data, into which MXNet converts it: cut to an integer, of which a narrow type keeps the low bits."""
    dtype = g.dtype(data)
    if dtype.kind not in "iu" or not math.isfinite(scalar) or abs(scalar) >= 2**63:
        return scalar
    return int(np.int64(int(scalar)).astype(dtype))


def _spellings(name: str) -> tuple[list[str], list[str]]:
    """The names of the operator of two equal shapes, and of the one with a number, over the releases."""
    word = {"add": "plus", "sub": "minus"}.get(name, name)
    old = "".join(part.capitalize() for part in word.split("_"))
    same = [f"_{word}", "_" + "_".join(part.capitalize() for part in word.split("_"))]
    if name in ("add", "sub", "mul", "div"):
        same += [f"elemwise_{name}"]
    if name in ("add", "sub"):
        same += [f"_{name}"]
    if name == "div":
        same += ["_scatter_elemwise_div"]
    if name == "add":
        same += ["_grad_add"]
    return same, [f"_{word}_scalar", f"_{old}Scalar", *([f"_scatter_{word}_scalar"] if name in ("add", "sub") else [])]


for _name, _function in BINARY.items():
    _register_binary(_name, _function)


def _register_reversed(name: str, function: Binary) -> None:
    word = {"sub": "minus"}.get(name, name)

    def with_scalar(g: OperatorBuilder, data: ir.Value, *, scalar: float = 1.0, is_int: bool = True) -> ir.Value:
        x, number = beside_number(g, data, scalar, is_int)
        return function(g, g.const(np.array(number, g.dtype(x))), x)

    with_scalar.__doc__ = f"Element-wise {word} with the number on the left. {SOURCE}"
    lowers(f"_r{word}_scalar", f"_R{word.capitalize()}Scalar", axes=first)(with_scalar)


for _name in ("sub", "div", "mod", "power"):
    _register_reversed(_name, BINARY[_name])


# -- functions of one number -----------------------------------------------------------------------------------------------

Unary = Callable[[OperatorBuilder, ir.Value], ir.Value]


def single(op_type: str) -> Unary:
    def emit(g: OperatorBuilder, data: ir.Value) -> ir.Value:
        return g.emit(op_type, data)

    return emit


def scaled(op_type: str | None, factor: float) -> Unary:
    def emit(g: OperatorBuilder, data: ir.Value) -> ir.Value:
        kind = g.dtype(data)
        if kind.kind in "iu":  # cut to an integer at the end alone; log10(1000) is 3, though rounding leaves a little less
            wide = g.cast(data, np.float64)
            found = g.emit(op_type, wide) if op_type else wide
            return g.cast(g.emit("Mul", found, np.array(factor * (1 + 1e-12))), kind)
        return g.emit("Mul", g.emit(op_type, data) if op_type else data, factor)

    return emit


def cube_root(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    return g.emit("Mul", g.emit("Sign", data), g.emit("Pow", g.emit("Abs", data), 1 / 3))


def inverse_of(function: Unary) -> Unary:
    def emit(g: OperatorBuilder, data: ir.Value) -> ir.Value:
        return g.emit("Reciprocal", function(g, data))

    return emit


def exponential_minus_one(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """exp(x) - 1, through tanh near 0, where the difference would lose its digits."""
    if g.dtype(data).kind != "f":
        return g.cast(exponential_minus_one(g, g.cast(data, np.float64)), g.dtype(data))
    half = g.emit("Tanh", g.emit("Mul", data, 0.5))
    near = g.emit("Div", g.emit("Mul", half, 2.0), g.emit("Sub", 1.0 * np.ones((), g.dtype(data)), half))
    return g.emit("Where", g.emit("Less", g.emit("Abs", data), 0.5), near, g.emit("Sub", g.emit("Exp", data), 1.0))


def logarithm_of_one_plus(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """log(1 + x), through atanh near 0, where the sum would lose its digits."""
    small = g.emit("Less", g.emit("Abs", data), 0.5)
    held = g.emit("Where", small, data, np.zeros((), g.dtype(data)))
    near = g.emit("Mul", g.emit("Atanh", g.emit("Div", held, g.emit("Add", held, 2.0))), 2.0)
    return g.emit("Where", small, near, g.emit("Log", g.emit("Add", data, 1.0)))


def round_half_away(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """C's round: halves go away from zero."""
    magnitude = g.emit("Abs", data)
    whole = g.emit("Floor", magnitude)
    up = g.cast(g.emit("GreaterOrEqual", g.emit("Sub", magnitude, whole), 0.5), g.dtype(data))
    return g.emit("Mul", g.emit("Sign", data), g.emit("Add", whole, up))


def round_half_down(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """rint: the nearest integer, the lower one of two that are as near."""
    low, high = g.emit("Floor", data), g.emit("Ceil", data)
    nearer = g.emit("LessOrEqual", g.emit("Sub", data, low), g.emit("Sub", high, data))
    return g.emit("Where", nearer, low, high)


def truncate(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """Towards zero."""
    return g.emit("Mul", g.emit("Sign", data), g.emit("Floor", g.emit("Abs", data)))


def logical_not(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    return g.cast(g.emit("Equal", data, 0), g.dtype(data))


_LANCZOS = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)


def log_gamma(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """log |gamma(x)| by Lanczos' approximation in double precision (g = 7), reflected below 1/2."""
    x = g.cast(data, np.float64)
    one = np.ones(())
    below = g.emit("Less", x, 0.5)
    z = g.emit("Sub", g.emit("Where", below, g.emit("Sub", one, x), x), 1.0)
    series: ir.Value = g.const(np.array(_LANCZOS[0]))
    for i, factor in enumerate(_LANCZOS[1:], 1):
        series = g.emit("Add", series, g.emit("Div", np.array(factor), g.emit("Add", z, float(i))))
    t = g.emit("Add", z, 7.5)
    right = g.emit("Add", g.emit("Sub", g.emit("Mul", g.emit("Add", z, 0.5), g.emit("Log", t)), t), g.emit("Log", series))
    right = g.emit("Add", right, 0.5 * math.log(2 * math.pi))
    sine = g.cast(g.emit("Sin", g.cast(_times_pi(g, x), np.float32)), np.float64)
    left = g.emit("Sub", g.emit("Sub", np.array(math.log(math.pi)), g.emit("Log", g.emit("Abs", sine))), right)
    return g.cast(g.emit("Where", below, left, right), g.dtype(data))


def _times_pi(g: OperatorBuilder, x: ir.Value) -> ir.Value:
    """pi times x, less whole turns."""
    turns = g.emit("Floor", g.emit("Mul", x, 0.5))
    return g.emit("Mul", g.emit("Sub", x, g.emit("Mul", turns, 2.0)), math.pi)


def gamma(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """The gamma function, by its logarithm, with the sign that it has below 0."""
    x = g.cast(data, np.float64)
    magnitude = g.emit("Exp", log_gamma(g, x))
    odd = g.emit("Mod", g.emit("Floor", x), np.array(2.0), fmod=1)
    negative = g.emit("And", g.emit("Less", x, 0.0), g.emit("Not", g.emit("Equal", odd, 0.0)))
    return g.cast(g.emit("Where", negative, g.emit("Neg", magnitude), magnitude), g.dtype(data))


_ERFINV_CENTER = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
_ERFINV_TAIL = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
)


def inverse_error_function(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """erfinv by Giles' polynomials, better than 1e-6."""
    x = g.cast(data, np.float64)
    one = np.ones(())
    w = g.emit("Neg", g.emit("Log", g.emit("Mul", g.emit("Sub", one, x), g.emit("Add", x, 1.0))))
    center = _polynomial(g, g.emit("Sub", w, 2.5), _ERFINV_CENTER)
    tail = _polynomial(g, g.emit("Sub", g.emit("Sqrt", w), 3.0), _ERFINV_TAIL)
    return g.cast(g.emit("Mul", g.emit("Where", g.emit("Less", w, 5.0), center, tail), x), g.dtype(data))


def _polynomial(g: OperatorBuilder, x: ir.Value, factors: tuple[float, ...]) -> ir.Value:
    result = g.emit("Add", g.emit("Mul", x, factors[0]), factors[1])
    for factor in factors[2:]:
        result = g.emit("Add", g.emit("Mul", result, x), factor)
    return result


def rectified(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    return g.emit("Relu", data) if g.dtype(data).kind == "f" else g.emit("Max", data, 0)


def square(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    return g.emit("Mul", data, data)


UNARY: dict[str, Unary] = {
    "abs": single("Abs"),
    "arccos": single("Acos"),
    "arccosh": single("Acosh"),
    "arcsin": single("Asin"),
    "arcsinh": single("Asinh"),
    "arctan": single("Atan"),
    "arctanh": single("Atanh"),
    "cbrt": cube_root,
    "ceil": single("Ceil"),
    "cos": single("Cos"),
    "cosh": single("Cosh"),
    "degrees": scaled(None, 180 / math.pi),
    "erf": single("Erf"),
    "erfinv": inverse_error_function,
    "exp": single("Exp"),
    "expm1": exponential_minus_one,
    "fix": truncate,
    "floor": single("Floor"),
    "gamma": gamma,
    "gammaln": log_gamma,
    "log": single("Log"),
    "log10": scaled("Log", 1 / math.log(10)),
    "log1p": logarithm_of_one_plus,
    "log2": scaled("Log", 1 / math.log(2)),
    "logical_not": logical_not,
    "negative": single("Neg"),
    "radians": scaled(None, math.pi / 180),
    "rcbrt": inverse_of(cube_root),
    "reciprocal": single("Reciprocal"),
    "relu": rectified,
    "rint": round_half_down,
    "round": round_half_away,
    "_contrib_round_ste": round_half_away,
    "rsqrt": inverse_of(single("Sqrt")),
    "sigmoid": single("Sigmoid"),
    "sign": single("Sign"),
    "_contrib_sign_ste": single("Sign"),
    "sin": single("Sin"),
    "sinh": single("Sinh"),
    "softsign": single("Softsign"),
    "sqrt": single("Sqrt"),
    "square": square,
    "tan": single("Tan"),
    "tanh": single("Tanh"),
    "trunc": truncate,
}


WHOLE_ALREADY = frozenset("ceil fix floor rint round _contrib_round_ste trunc".split())
"""Functions that leave integers as they are."""
NUMPY_TWINS = {name: (f"_npx_{name}",) for name in ("erf", "erfinv", "gamma", "gammaln")}
"""Names in numpy mode of what is the same operator."""


def _register_unary(name: str, function: Unary) -> None:
    def elementwise(g: OperatorBuilder, data: ir.Value) -> ir.Value:
        whole = name in WHOLE_ALREADY and g.dtype(data).kind != "f"
        return g.identity(data) if whole else function(g, data)

    elementwise.__doc__ = f"Element-wise {name.removeprefix('_contrib_')}. {SOURCE}"
    lowers(name, *NUMPY_TWINS.get(name, ()), axes=first)(elementwise)


for _name, _unary in UNARY.items():
    _register_unary(_name, _unary)


@lowers("hard_sigmoid")
def hard_sigmoid(g: OperatorBuilder, data: ir.Value, *, alpha: float = 0.2, beta: float = 0.5) -> ir.Value:
    """alpha x + beta, held between 0 and 1. Source: mxnet src/operator/tensor/elemwise_unary_op_basic.cc."""
    return g.emit("HardSigmoid", data, alpha=alpha, beta=beta)


def clipped(g: OperatorBuilder, data: ir.Value, low: float, high: float) -> ir.Value:
    """Values held between two numbers, which may be infinite."""
    kind = g.dtype(data)
    bounds = np.iinfo(kind) if kind.kind in "iu" else None
    limits = [v if bounds is None else min(max(v, bounds.min), bounds.max) for v in (low, high)]
    return g.emit("Clip", data, *(np.array(_fitting(g, data, v), kind) for v in limits))


@lowers("clip", axes=first)
def clip(g: OperatorBuilder, data: ir.Value, *, a_min: float, a_max: float) -> ir.Value:
    """Values held between a_min and a_max. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    return clipped(g, data, a_min, a_max)


@lowers("smooth_l1", "_npx_smooth_l1")
def smooth_l1(g: OperatorBuilder, data: ir.Value, *, scalar: float = 1.0) -> ir.Value:
    """(scalar x)^2 / 2 near 0, |x| - 1 / (2 scalar^2) beyond 1 / scalar^2. Source: mxnet src/operator/mshadow_op.h."""
    s = scalar * scalar
    magnitude = g.emit("Abs", data)
    inner = g.emit("Mul", g.emit("Mul", data, data), 0.5 * s)
    outer = g.emit("Sub", magnitude, 0.5 / s)
    return g.emit("Where", g.emit("Greater", magnitude, 1 / s), outer, inner)


@lowers("_contrib_quadratic")
def quadratic(g: OperatorBuilder, data: ir.Value, *, a: float = 0.0, b: float = 0.0, c: float = 0.0) -> ir.Value:
    """a x^2 + b x + c. Source: mxnet src/operator/contrib/quadratic_op-inl.h."""
    curve = g.emit("Mul", g.emit("Add", g.emit("Mul", data, a), b), data)
    return g.emit("Add", curve, c)


@lowers("add_n", "ElementWiseSum", "_sum", axes=each)
def add_n(g: OperatorBuilder, *args: ir.Value) -> ir.Value:
    """Sum of any number of equal shapes. Source: mxnet src/operator/tensor/elemwise_sum.cc."""
    if not args:
        raise g.error("it has no inputs")
    result = args[0]
    for other in args[1:]:
        same_shape(g, result, other)
        result = g.emit("Add", result, other)
    return g.identity(result) if len(args) == 1 else result


@lowers("Cast", "cast", "amp_cast", "_npi_cast", axes=first)
def cast(g: OperatorBuilder, data: ir.Value, *, dtype: str) -> ir.Value:
    """Conversion to another type; towards zero from floating point to integers. Source: mxnet src/operator/tensor/elemwise_unary_op.h."""
    result = g.cast(data, read_type(g, dtype))
    return g.identity(data) if result is data else result


@lowers("amp_multicast")
def multicast(g: OperatorBuilder, *data: ir.Value, num_outputs: int, cast_narrow: bool = False) -> list[ir.Value]:
    """All inputs in the widest of their types, or the narrowest. Source: mxnet src/operator/tensor/amp_cast.cc."""
    kinds = sorted((g.dtype(value) for value in data), key=lambda kind: kind.itemsize)
    wanted = kinds[0] if cast_narrow else kinds[-1]
    return [g.identity(value) if g.dtype(value) == wanted else g.cast(value, wanted) for value in data]


def read_type(g: OperatorBuilder, name: str) -> np.dtype:
    """The numpy type of an attribute's text. Raises ConversionError."""
    from converters.readers.mxnet.params import TYPES, numpy_type

    if name not in TYPES.values():
        raise g.error(f"attribute dtype is '{name}'; it must be one of {', '.join(TYPES.values())}")
    return numpy_type(name).newbyteorder("=")
