"""Arithmetic of numpy mode: types are promoted, comparisons answer bool.

Sources: mxnet src/operator/numpy/np_elemwise_*.cc, np_true_divide*.h, np_where_op.cc, np_matrix_op.cc.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.axes import each, first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import (
    BINARY,
    COMPARISONS,
    UNARY,
    WHOLE_ALREADY,
    Binary,
    beside_number,
    clipped,
    read_type,
    truth,
)
from converters.readers.mxnet.signature import lowers

SOURCE = "Source: mxnet src/operator/numpy/np_elemwise_broadcast_op.cc."
UNARY_SOURCE = "Source: mxnet src/operator/numpy/np_elemwise_unary_op_basic.cc."


def common_type(a: np.dtype, b: np.dtype) -> np.dtype:
    """The type that two become: the wider floating point one, the floating point one, the wider integer."""
    if a == b:
        return a
    if "f" in (a.kind, b.kind):
        floats = [kind for kind in (a, b) if kind.kind == "f"]
        return max(floats, key=lambda kind: kind.itemsize)
    wider = np.promote_types(a, b)
    return np.dtype(np.int32) if wider == np.int16 else wider  # int8 and uint8


def alike(g: OperatorBuilder, a: ir.Value, b: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Two values in their common type."""
    kind = common_type(g.dtype(a), g.dtype(b))
    return g.cast(a, kind), g.cast(b, kind)


def with_number(g: OperatorBuilder, data: ir.Value, scalar: float, is_int: bool) -> tuple[ir.Value, float | int]:
    """Data and a number beside it: integers become float64 beside a number that isn't whole by its kind, bool int64 or float64."""
    kind = g.dtype(data)
    if kind.kind == "b":
        return (g.cast(data, np.int64), int(scalar)) if is_int else (g.cast(data, np.float64), scalar)
    return beside_number(g, data, scalar, is_int)


def as_floats(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """Integers as float32, into which division turns them."""
    return data if g.dtype(data).kind == "f" else g.cast(data, np.float32)


def four_quadrants(g: OperatorBuilder, y: ir.Value, x: ir.Value | float) -> ir.Value:
    """The angle of (x, y), between -pi and pi."""
    kind = g.dtype(y)
    x = x if isinstance(x, ir.Value) else g.const(np.array(x, kind))
    zero, pi = np.zeros((), kind), np.array(math.pi, kind)
    level = g.emit("Equal", x, zero)
    angle = g.emit("Atan", g.emit("Div", y, g.emit("Where", level, np.ones((), kind), x)))
    turned = g.emit("Where", g.emit("Less", y, zero), g.emit("Sub", angle, pi), g.emit("Add", angle, pi))
    angle = g.emit("Where", g.emit("Less", x, zero), turned, angle)
    return g.emit("Where", level, g.emit("Mul", g.emit("Sign", y), np.array(math.pi / 2, kind)), angle)


def with_sign_of(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
    magnitude = g.emit("Abs", a)
    if not isinstance(b, ir.Value):
        return magnitude if math.copysign(1.0, b) > 0 else g.emit("Neg", magnitude)
    return g.emit("Where", g.emit("Less", b, 0), g.emit("Neg", magnitude), magnitude)


def times_power_of_two(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
    two = g.const(np.array(2, g.dtype(a)))
    return g.emit("Mul", a, g.emit("Pow", two, b) if isinstance(b, ir.Value) else g.const(np.array(2.0**b, g.dtype(a))))


def quotient(g: OperatorBuilder, a: ir.Value, b: ir.Value | float) -> ir.Value:
    return g.emit("Div", a, b)


NUMPY_BINARY: dict[str, Binary] = {
    "add": BINARY["add"],
    "subtract": BINARY["sub"],
    "multiply": BINARY["mul"],
    "true_divide": quotient,
    "mod": BINARY["mod"],
    "power": BINARY["power"],
    "hypot": BINARY["hypot"],
    "arctan2": four_quadrants,
    "copysign": with_sign_of,
    "ldexp": times_power_of_two,
}
REVERSED = ("subtract", "true_divide", "mod", "power", "arctan2", "copysign", "ldexp")
SCALAR_ALONE = {"maximum": BINARY["maximum"], "minimum": BINARY["minimum"]}
"""Those of two arrays are the classic operators."""


def _register(name: str, function: Binary, of_two: bool = True) -> None:
    spoken = name.replace("_", " ")
    divides = name == "true_divide"

    def broadcast(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        a, b = alike(g, lhs, rhs)
        return function(g, as_floats(g, a), as_floats(g, b)) if divides else function(g, a, b)

    def with_scalar(g: OperatorBuilder, data: ir.Value, *, scalar: float = 1.0, is_int: bool = True) -> ir.Value:
        x, number = (as_floats(g, data), scalar) if divides else with_number(g, data, scalar, is_int)
        return function(g, x, number)

    def behind_scalar(g: OperatorBuilder, data: ir.Value, *, scalar: float = 1.0, is_int: bool = True) -> ir.Value:
        x, number = (as_floats(g, data), scalar) if divides else with_number(g, data, scalar, is_int)
        return function(g, g.const(np.array(number, g.dtype(x))), x)

    broadcast.__doc__ = f"Broadcasting {spoken} in the wider of two types. {SOURCE}"
    with_scalar.__doc__ = f"Element-wise {spoken} with a number. {SOURCE}"
    behind_scalar.__doc__ = f"Element-wise {spoken} with the number on the left. {SOURCE}"
    if of_two:
        lowers(f"_npi_{name}", axes=each)(broadcast)
    lowers(f"_npi_{name}_scalar", axes=first)(with_scalar)
    if name in REVERSED:
        lowers(f"_npi_r{name}_scalar", axes=first)(behind_scalar)


for _name, _function in NUMPY_BINARY.items():
    _register(_name, _function)
for _name, _function in SCALAR_ALONE.items():
    _register(_name, _function, of_two=False)


# -- comparisons and bits ---------------------------------------------------------------------------------------------------

NUMPY_COMPARISONS = {
    "equal": "Equal",
    "not_equal": "Equal",
    **{{"lesser": "less", "lesser_equal": "less_equal"}.get(name, name): op_type for name, op_type in COMPARISONS.items()},
}


def _register_comparison(name: str, op_type: str) -> None:
    def answer(g: OperatorBuilder, found: ir.Value) -> ir.Value:
        return g.emit("Not", found) if name == "not_equal" else found

    def broadcast(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        return answer(g, g.emit(op_type, *alike(g, lhs, rhs)))

    def with_scalar(g: OperatorBuilder, data: ir.Value, *, scalar: float = 1.0, is_int: bool = True) -> ir.Value:
        x, number = with_number(g, data, scalar, is_int)
        return answer(g, g.emit(op_type, x, number))

    broadcast.__doc__ = f"Whether {name.replace('_', ' ')}, as bool. {SOURCE}"
    with_scalar.__doc__ = f"Whether {name.replace('_', ' ')} with a number, as bool. {SOURCE}"
    lowers(f"_npi_{name}", axes=each)(broadcast)
    lowers(f"_npi_{name}_scalar", axes=first)(with_scalar)


for _name, _op_type in NUMPY_COMPARISONS.items():
    _register_comparison(_name, _op_type)


def _register_bits(name: str, op_type: str, of_bool: str) -> None:
    def broadcast(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value) -> ir.Value:
        a, b = alike(g, lhs, rhs)
        return g.emit(of_bool if g.dtype(a).kind == "b" else op_type, a, b)

    def with_scalar(g: OperatorBuilder, data: ir.Value, *, scalar: float = 0.0, is_int: bool = True) -> ir.Value:
        number = g.const(np.array(int(scalar), g.dtype(data)))
        return broadcast(g, data, number)

    broadcast.__doc__ = f"Bit-wise {name} of integers. {SOURCE}"
    with_scalar.__doc__ = f"Bit-wise {name} of integers with a number. {SOURCE}"
    lowers(f"_npi_bitwise_{name}", axes=each)(broadcast)
    lowers(f"_npi_bitwise_{name}_scalar", axes=first)(with_scalar)


for _name, _op_type, _of_bool in (("and", "BitwiseAnd", "And"), ("or", "BitwiseOr", "Or"), ("xor", "BitwiseXor", "Xor")):
    _register_bits(_name, _op_type, _of_bool)


@lowers("_npi_bitwise_not")
def bitwise_not(g: OperatorBuilder, x: ir.Value) -> ir.Value:
    """All bits inverted. Source: mxnet src/operator/numpy/np_elemwise_unary_op_basic.cc."""
    return g.emit("Not" if g.dtype(x).kind == "b" else "BitwiseNot", x)


# -- functions of one number --------------------------------------------------------------------------------------------------

CLASSIC = (
    "arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh degrees exp expm1 fix floor log log10 log1p log2 negative radians "
    "reciprocal rint sign sin sinh sqrt square tan tanh trunc"
).split()


def _register_unary(name: str, *spellings: str) -> None:
    function = UNARY[name]

    def elementwise(g: OperatorBuilder, x: ir.Value) -> ir.Value:
        if g.dtype(x).kind != "f" and name in WHOLE_ALREADY:
            return g.identity(x)
        return function(g, x)

    elementwise.__doc__ = f"Element-wise {name}. {UNARY_SOURCE}"
    lowers(*spellings, axes=first)(elementwise)


for _name in CLASSIC:
    _register_unary(_name, f"_npi_{_name}")
_register_unary("abs", "_npi_absolute", "_npi_abs")
_register_unary("relu", "_npx_relu")
_register_unary("sigmoid", "_npx_sigmoid")


@lowers("_npi_logical_not")
def logical_not(g: OperatorBuilder, x: ir.Value) -> ir.Value:
    """Whether an element is 0, as bool. Source: mxnet src/operator/numpy/np_elemwise_unary_op_basic.cc."""
    return g.emit("Not", truth(g, x))


@lowers("_npi_around")
def around(g: OperatorBuilder, x: ir.Value, *, decimals: int = 0) -> ir.Value:
    """The nearest number of so many decimals, halves to the even one. Source: mxnet src/operator/numpy/np_elemwise_unary_op_basic.cc."""
    if g.dtype(x).kind != "f":
        step = 10 ** max(0, -decimals)  # MXNet cuts integers off
        return g.identity(x) if step == 1 else g.emit("Mul", g.emit("Div", x, step), step)
    if decimals == 0:
        return g.emit("Round", x)
    factor = 10.0**decimals
    return g.emit("Div", g.emit("Round", g.emit("Mul", x, factor)), factor)


@lowers("_npi_isnan")
def isnan(g: OperatorBuilder, x: ir.Value) -> ir.Value:
    """Whether an element is no number. Source: mxnet src/operator/numpy/np_elemwise_unary_op_basic.cc."""
    return g.emit("IsNaN", as_floats(g, x))


def _register_infinite(name: str, spoken: str, positive: bool = True, negative: bool = True) -> None:
    def infinite(g: OperatorBuilder, x: ir.Value) -> ir.Value:
        return g.emit("IsInf", as_floats(g, x), detect_positive=int(positive), detect_negative=int(negative))

    infinite.__doc__ = f"Whether an element is {spoken}. {UNARY_SOURCE}"
    lowers(name)(infinite)


_register_infinite("_npi_isinf", "infinite")
_register_infinite("_npi_isposinf", "infinity", negative=False)
_register_infinite("_npi_isneginf", "minus infinity", positive=False)


@lowers("_npi_isfinite")
def isfinite(g: OperatorBuilder, x: ir.Value) -> ir.Value:
    """Whether an element is a finite number. Source: mxnet src/operator/numpy/np_elemwise_unary_op_basic.cc."""
    value = as_floats(g, x)
    return g.emit("Not", g.emit("Or", g.emit("IsNaN", value), g.emit("IsInf", value)))


@lowers("_npi_nan_to_num", ignores="copy")
def nan_to_num(
    g: OperatorBuilder, data: ir.Value, *, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> ir.Value:
    """Numbers in the place of NaN and infinities. Source: mxnet src/operator/numpy/np_matrix_op-inl.h."""
    kind = g.dtype(data)
    if kind.kind != "f":
        return g.identity(data)
    most, least = np.finfo(kind).max, np.finfo(kind).min
    result = g.emit("Where", g.emit("IsNaN", data), np.array(nan, kind), data)
    high, low = (np.array(limit if given is None else given, kind) for limit, given in ((most, posinf), (least, neginf)))
    result = g.emit("Where", g.emit("IsInf", data, detect_negative=0), high, result)
    return g.emit("Where", g.emit("IsInf", data, detect_positive=0), low, result)


@lowers("_npi_clip")
def numpy_clip(g: OperatorBuilder, data: ir.Value, *, a_min: float | None = None, a_max: float | None = None) -> ir.Value:
    """Values held between two numbers, or on one side alone. Source: mxnet src/operator/tensor/matrix_op-inl.h."""
    return clipped(g, data, -math.inf if a_min is None else a_min, math.inf if a_max is None else a_max)


# -- choices ---------------------------------------------------------------------------------------------------------------


@lowers("_npi_where")
def where(g: OperatorBuilder, condition: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """x where the condition isn't 0, y elsewhere; all three broadcast. Source: mxnet src/operator/numpy/np_where_op.cc."""
    return g.emit("Where", truth(g, condition), *alike(g, x, y))


@lowers("_npi_where_lscalar")
def where_number_left(g: OperatorBuilder, condition: ir.Value, x: ir.Value, *, scalar: float = 0.0) -> ir.Value:
    """A number where the condition isn't 0, the array elsewhere. Source: mxnet src/operator/numpy/np_where_op.cc."""
    return g.emit("Where", truth(g, condition), np.array(scalar).astype(g.dtype(x)), x)


@lowers("_npi_where_rscalar")
def where_number_right(g: OperatorBuilder, condition: ir.Value, x: ir.Value, *, scalar: float = 0.0) -> ir.Value:
    """The array where the condition isn't 0, a number elsewhere. Source: mxnet src/operator/numpy/np_where_op.cc."""
    return g.emit("Where", truth(g, condition), x, np.array(scalar).astype(g.dtype(x)))


@lowers("_npi_where_scalar2")
def where_numbers(g: OperatorBuilder, condition: ir.Value, *, x: float = 0.0, y: float = 0.0) -> ir.Value:
    """One number where the condition isn't 0, another one elsewhere, as float32. Source: mxnet src/operator/numpy/np_where_op.cc."""
    return g.emit("Where", truth(g, condition), np.array(x, np.float32), np.array(y, np.float32))


@lowers("_npx_cast")
def cast(g: OperatorBuilder, data: ir.Value, *, dtype: str) -> ir.Value:
    """Conversion to another type; what isn't 0 is true. Source: mxnet src/operator/tensor/elemwise_unary_op.h."""
    kind = read_type(g, dtype)
    return g.identity(data) if g.dtype(data) == kind else g.cast(data, kind)
