"""Source of elementwise operators: arithmetic, comparison, logic, casts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from converters.writers.source.dtypes import HELD, STORED_DTYPES
from converters.writers.source.node import Node, writes
from converters.writers.source.together import together


def operands(n: Node) -> tuple[str, str]:
    """Both sides of an arithmetic operator; before opset 7 the right one is lined up with an axis of the left."""
    left, right = n.operand(0, 1), n.operand(1, 0)
    axis = n.attr("axis")
    if n.opset < 7 and n.attr("broadcast", 0) and axis is not None:
        behind = n.known_rank(0) - axis % n.known_rank(0) - n.known_rank(1)
        right += "[" + ", ".join(["..."] + ["None"] * behind) + "]" if behind else ""
    return left, right


def _binary(op_type: str, sign: str, unsigned: str = "") -> None:
    @writes(op_type, unsigned=unsigned)
    def binary(n: Node) -> str:
        left, right = operands(n)
        return f"{left} {sign} {right}"

    binary.__doc__ = f"`x {sign} y`, with broadcasting."


_binary("Sub", "-", "wraps")
_binary("Equal", "==", "wraps")
_binary("Less", "<", "orders")
_binary("LessOrEqual", "<=", "orders")
_binary("Greater", ">", "orders")
_binary("GreaterOrEqual", ">=", "orders")
_binary("And", "&")
_binary("Or", "|")
_binary("Xor", "^")
_binary("BitwiseAnd", "&", "wraps")
_binary("BitwiseOr", "|", "wraps")
_binary("BitwiseXor", "^", "wraps")


@writes("Add", unsigned="wraps")
def add(n: Node) -> str:
    """`a + b`; nn.Linear or nn.LayerNorm where it is the last of their parts."""
    if found := n.pattern():
        return together(n, found)
    left, right = operands(n)
    return f"{left} + {right}"


@writes("Mul", unsigned="wraps")
def mul(n: Node) -> str:
    """`a * b`; F.silu, F.gelu, F.hardswish, F.mish or nn.LayerNorm where it is the last of their parts."""
    if found := n.pattern():
        return together(n, found)
    left, right = operands(n)
    return f"{left} * {right}"


def _unary(op_type: str, template: str, **facts: Any) -> None:
    @writes(op_type, **facts)
    def unary(n: Node) -> str:
        return template.format(n[0])

    unary.__doc__ = f"`{template.format('x')}`."


_unary("Abs", "{}.abs()")
_unary("Neg", "-{}")
_unary("Exp", "{}.exp()")
_unary("Log", "{}.log()")
_unary("Sqrt", "{}.sqrt()")
_unary("Reciprocal", "1 / {}")
_unary("Floor", "{}.floor()")
_unary("Ceil", "{}.ceil()")
_unary("Round", "{}.round()")
_unary("Sign", "{}.sign()", unsigned="fits")
_unary("Sin", "{}.sin()")
_unary("Cos", "{}.cos()")
_unary("Tan", "{}.tan()")
_unary("Asin", "{}.asin()")
_unary("Acos", "{}.acos()")
_unary("Atan", "{}.atan()")
_unary("Sinh", "{}.sinh()")
_unary("Cosh", "{}.cosh()")
_unary("Tanh", "torch.tanh({})")
_unary("Asinh", "{}.asinh()")
_unary("Acosh", "{}.acosh()")
_unary("Atanh", "{}.atanh()")
_unary("Erf", "{}.erf()")
_unary("Not", "~{}")
_unary("BitwiseNot", "~{}", unsigned="wraps")
_unary("IsNaN", "{}.isnan()")
_unary("Sigmoid", "torch.sigmoid({})")
_unary("Identity", "{}", unsigned="moves", float8=True, sequences=True)


@writes("Div", unsigned="fits")
def div(n: Node) -> str:
    """`x / y`; integers are divided towards zero. F.layer_norm, F.hardswish or F.gelu where it is the last of their parts."""
    if found := n.pattern():
        return together(n, found)
    left, right = operands(n)
    if n.is_float():
        return f"{left} / {right}"
    return f'torch.div({left if not _is_literal(left) else n[0]}, {right}, rounding_mode="trunc")'


@writes("Mod", unsigned="fits")
def mod(n: Node) -> str:
    """torch.remainder (sign of the divisor), or torch.fmod (sign of the dividend)."""
    return f"torch.{'fmod' if n.attr('fmod', 0) else 'remainder'}({n[0]}, {n.operand(1, 0)})"


@writes("Pow", unsigned="fits")
def power(n: Node) -> str:
    """`x ** y`, in the base's type."""
    if n.dtype(0) != n.dtype(1):
        exponent = n.static(1)
        if exponent is not None and exponent.ndim == 0 and (n.is_float(0) or n.dtype(1).is_integer()):
            return f"{n[0]} ** {n.operand(1, 0)}"
        if n.is_float(0):
            return f"{n[0]} ** {n[1]}.to({n.torch_dtype(n.dtype(0))})"
        return f"({n[0]} ** {n[1]}).to({n.torch_dtype(n.dtype(0))})"
    left, right = operands(n)
    return f"{n[0] if _is_literal(left) else left} ** {right}"


def _fold(n: Node, join: Callable[[str, str], str]) -> str:
    result = n[0]
    for index in range(1, len(n)):
        result = join(result, n[index])
    return result


@writes("Sum", unsigned="fits")
def sums(n: Node) -> str:
    """`a + b + c`."""
    return _fold(n, lambda a, b: f"{a} + {b}")


@writes("Mean")
def mean(n: Node) -> str:
    """`(a + b + c) / 3`."""
    return f"({_fold(n, lambda a, b: f'{a} + {b}')}) / {len(n)}"


@writes("Max", unsigned="orders")
def maximum(n: Node) -> str:
    """torch.maximum."""
    return _fold(n, lambda a, b: f"torch.maximum({a}, {b})")


@writes("Min", unsigned="orders")
def minimum(n: Node) -> str:
    """torch.minimum."""
    return _fold(n, lambda a, b: f"torch.minimum({a}, {b})")


@writes("Where", unsigned="wraps")
def where(n: Node) -> str:
    """torch.where."""
    if n.static(1) is not None and n.static(2) is not None:  # two Python numbers would lose the type
        return f"torch.where({n[0]}, {n[1]}, {n[2]})"
    return f"torch.where({n[0]}, {n.operand(1, 2)}, {n.operand(2, 1)})"


@writes("Cast", unsigned="moves", float8=True)
def cast(n: Node) -> str:
    """x.to(dtype); numbers with a fraction are cut towards zero."""
    if n.attr("to") is None:
        raise n.error("it doesn't say what to cast to")
    return _cast(n, ir.DataType(n.attr("to")))


_BITS = {ir.DataType.INT4: 4, ir.DataType.UINT4: 4, ir.DataType.INT2: 2, ir.DataType.UINT2: 2}


def _cast(n: Node, dtype: ir.DataType) -> str:
    if dtype in _BITS:
        bits, sign = (1 << _BITS[dtype]) - 1, 1 << _BITS[dtype] - 1
        low = f"{n[0]}.long() & {bits}"
        return f"({f'({low} ^ {sign}) - {sign}' if dtype.is_signed() else low}).to({n.torch_dtype(dtype)})"
    if dtype == ir.DataType.FLOAT4E2M1:
        return f"{n.function('float4')}({n[0]}.float())"
    if dtype in STORED_DTYPES:
        name, largest = STORED_DTYPES[dtype]
        x = n[0] if n.is_float() else f"{n[0]}.float()"
        if dtype == ir.DataType.FLOAT8E4M3FN and not n.attr("saturate", 1):  # which PyTorch always saturates
            return f'{x}.masked_fill({x}.abs() > 464.0, float("nan")).to({name})'
        return f"{x}.clamp(-{largest}, {largest}).to({name})" if n.attr("saturate", 1) else f"{x}.to({name})"
    if n.dtype() in STORED_DTYPES and dtype != ir.DataType.FLOAT:
        return f"{n[0]}.float().to({n.torch_dtype(dtype)})"
    return f"{n[0]}.to({n.torch_dtype(dtype)})"


@writes("BitCast", unsigned="moves")
def bit_cast(n: Node) -> str:
    """x.view(dtype): the same bits as another type."""
    if {n.dtype(), ir.DataType(n.attr("to"))} & HELD.keys():
        raise n.error("of elements of less than a byte")
    return f"{n[0]}.view({n.torch_dtype(ir.DataType(n.attr('to')))})"


@writes("CastLike", unsigned="moves", float8=True)
def cast_like(n: Node) -> str:
    """x.to(y.dtype)."""
    return _cast(n, n.dtype(1))


@writes("Clip", unsigned="fits")
def clip(n: Node) -> str:
    """torch.clamp; F.relu6 of what it is."""
    low = n.scalar(1) if n.has(1) else n.attr("min")
    high = n.scalar(2) if n.has(2) else n.attr("max")
    if low is None and high is None:
        return n[0]
    if (str(low), str(high)) == ("0.0", "6.0"):
        return f"F.relu6({n[0]})"
    limits = ", ".join(f"{k}={v}" for k, v in (("min", low), ("max", high)) if v is not None)
    return f"{n[0]}.clamp({limits})"


@writes("IsInf")
def is_inf(n: Node) -> str:
    """x.isinf(), or one sign of it."""
    positive, negative = n.attr("detect_positive", 1), n.attr("detect_negative", 1)
    if positive and negative:
        return f"{n[0]}.isinf()"
    if positive:
        return f"{n[0]}.isposinf()"
    return f"{n[0]}.isneginf()" if negative else f"torch.zeros_like({n[0]}, dtype=torch.bool)"


@writes("BitShift", unsigned="fits")
def bit_shift(n: Node) -> str:
    """`x << y` or `x >> y`."""
    return f"{n[0]} {'<<' if n.attr('direction') == 'LEFT' else '>>'} {n[1]}"


def _is_literal(text: str) -> bool:
    return text[:1] in "-0123456789"
