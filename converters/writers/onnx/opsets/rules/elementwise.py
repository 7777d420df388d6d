"""Arithmetic and comparisons: types that older sets don't take, and operators that they don't have."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.writers.onnx.opsets.site import Answer, Site, newer, older

_T = ir.DataType
_SMALL = {_T.BOOL: _T.INT32, _T.INT8: _T.INT32, _T.UINT8: _T.INT32, _T.INT16: _T.INT32, _T.UINT16: _T.INT32, _T.UINT32: _T.INT64}


def larger(g: Site, a: ir.Value, b: ir.Value) -> ir.Value:
    """max(a, b), also of types that Max took only later."""
    return _extreme(g, "Max", "Greater", a, b)


def smaller(g: Site, a: ir.Value, b: ir.Value) -> ir.Value:
    """min(a, b), also of types that Min took only later."""
    return _extreme(g, "Min", "Less", a, b)


def _extreme(g: Site, op_type: str, comparison: str, a: ir.Value, b: ir.Value) -> ir.Value:
    dtype = g.dtype(a)
    if dtype.is_floating_point() or (g.opset >= 12 and dtype not in _SMALL):  # onnxruntime before 1.24 has no kernel for the small ones
        return g.emit(op_type, a, b)
    wide = _SMALL.get(dtype, dtype)
    a, b = g.cast(a, wide), g.cast(b, wide)
    return g.cast(g.emit("Where", g.emit(comparison, a, b), a, b), dtype)


@older("Max", "Min", since=12)
def extremes_before_12(g: Site, node: ir.Node) -> Answer:
    """Set 12 brought integers: comparison and choice, pair by pair."""
    operands = [value for value in node.inputs if value is not None]
    if g.dtype(operands[0]).is_floating_point():
        return None
    y = operands[0]
    for operand in operands[1:]:
        y = larger(g, y, operand) if node.op_type == "Max" else smaller(g, y, operand)
    return y


@older("GreaterOrEqual", "LessOrEqual", since=12)
def or_equal(g: Site, node: ir.Node) -> Answer:
    """Greater, or Equal: what isn't less may also be NaN."""
    a, b = g.x(0), g.x(1)
    greater = node.op_type == "GreaterOrEqual"
    if not g.dtype(a).is_floating_point():
        return g.emit("Not", g.emit("Less" if greater else "Greater", a, b))
    return g.emit("Or", g.emit("Greater" if greater else "Less", a, b), g.emit("Equal", a, b))


@older("Equal", since=11)
def equal_before_11(g: Site, node: ir.Node) -> Answer:
    """Set 11 brought floats: neither less nor greater, and the sum is NaN only of infinities that differ, or of NaN."""
    a, b = g.x(0), g.x(1)
    if not g.dtype(a).is_floating_point():
        return None
    differ = g.emit("Or", g.emit("Less", a, b), g.emit("Greater", a, b))
    return g.emit("Not", g.emit("Or", differ, g.emit("IsNaN", g.emit("Add", a, b))))


@older("Pow", since=12)
def pow_before_12(g: Site, node: ir.Node) -> Answer:
    """Set 12 brought integers, and an exponent of another type: both become doubles, which hold integers up to 2**53."""
    x, exponent = g.x(0), g.x(1)
    if g.dtype(x).is_floating_point():
        return None if exponent.dtype == x.dtype else g.emit("Pow", x, g.cast(exponent, g.dtype(x)))
    return g.cast(g.emit("Pow", g.cast(x, _T.DOUBLE), g.cast(exponent, _T.DOUBLE)), g.dtype(x))


@older("Mod", since=10)
def mod_before_10(g: Site, node: ir.Node) -> Answer:
    """a - b * (a / b without its fraction), of integers with the sign of b."""
    a, b = g.x(0), g.x(1)
    dtype = g.dtype(a)
    if dtype.is_floating_point():
        raise g.refusal("ONNX has Mod from set 10 on, and of floats no older operators give its exact remainder")
    wide = _SMALL.get(dtype, dtype)
    a, b = g.cast(a, wide), g.cast(b, wide)
    rest = g.emit("Sub", a, g.emit("Mul", g.emit("Div", a, b), b))
    if not g.attribute("fmod", 0):
        mended = g.emit("Less", g.emit("Mul", g.emit("Sign", rest), g.emit("Sign", b)), 0)
        rest = g.emit("Where", mended, g.emit("Add", rest, b), rest)
    return g.cast(rest, dtype)


@older("Round", since=11)
def round_before_11(g: Site, node: ir.Node) -> Answer:
    """To the nearest integer, halves to the even one."""
    return rounded(g, g.x())


def rounded(g: Site, x: ir.Value) -> ir.Value:
    """Round without its operator."""
    below = g.emit("Floor", x)
    rest = g.emit("Sub", x, below)
    half = g.emit("Floor", g.emit("Mul", below, 0.5))
    odd = g.emit("Sub", below, g.emit("Mul", half, 2.0))
    tie = g.emit("Not", g.emit("Or", g.emit("Greater", rest, 0.5), g.emit("Less", rest, 0.5)))
    up = g.emit("Or", g.emit("Greater", rest, 0.5), g.emit("And", tie, g.emit("Greater", odd, 0.5)))
    return g.emit("Where", up, g.emit("Add", below, 1.0), below)


@older("IsInf", since=10)
def isinf_before_10(g: Site, node: ir.Node) -> Answer:
    """Beyond the largest number of its type."""
    x = g.x()
    largest = float(np.finfo(g.dtype(x).numpy()).max)
    above, under = g.emit("Greater", x, largest), g.emit("Less", x, -largest)
    if not g.attribute("detect_negative", 1):
        return above
    return g.emit("Or", above, under) if g.attribute("detect_positive", 1) else under


@older("CastLike", since=15)
def cast_like(g: Site, node: ir.Node) -> Answer:
    """Cast to the other input's type."""
    return g.cast(g.x(0), g.dtype(g.x(1)))


@newer("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less", since=7)
def broadcast_from_7(g: Site, node: ir.Node) -> Answer:
    """Broadcasting that has to be asked for, from an axis on; from set 7 on it is numpy's."""
    a, b = g.x(0), g.x(1)
    if not g.attribute("broadcast", 0) or "axis" not in node.attributes:
        return g.again(a, b, broadcast=None, axis=None)
    behind = g.rank(a) - g.axis(a, g.attribute("axis")) - g.rank(b)
    if behind > 0:
        b = g.unsqueeze(b, range(g.rank(b), g.rank(b) + behind))
    return g.again(a, b, broadcast=None, axis=None)
