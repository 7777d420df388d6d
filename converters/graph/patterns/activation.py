"""Activations as exporters write them: SiLU, GELU by erf and by tanh, Hardswish, Mish."""

from __future__ import annotations

import math

import onnx_ir as ir

from converters.graph.patterns.algebra import Parts, Pattern, close, is_float, number_of


def gated(parts: Parts) -> Pattern | None:
    """`x` times a gate of `x`, wherever the numbers stand in the product."""
    scale, found = parts.factors(parts.last.outputs[0])
    for x, gate in (found, found[::-1]) if len(found) == 2 and is_float(found[0]) else ():
        way = parts.fork()
        kind = _kind(way, scale, x, gate)
        if kind:
            return way.pattern(kind, x=x)
    return None


def _kind(parts: Parts, scale: float, x: ir.Value, gate: ir.Value) -> str:
    one = close(scale, 1.0, x)
    if one and _takes(parts.node(gate, "Sigmoid"), x):
        return "silu"
    if one and _takes(hard := parts.node(gate, "HardSigmoid"), x):
        assert hard is not None
        slope, offset = hard.attributes.get_float("alpha", 0.2), hard.attributes.get_float("beta", 0.5)
        return "hardswish" if close(slope, 1 / 6, None) and offset == 0.5 else ""
    if _is_clipped(parts, scale, x, gate):
        return "hardswish"
    if one and (bent := parts.node(gate, "Tanh")) is not None and _takes(parts.node(bent.inputs[0], "Softplus"), x):
        return "mish"
    if close(scale, 0.5, x):
        inner = parts.plus(gate, 1.0)
        if (erf := parts.node(inner, "Erf")) is not None:
            by, what = parts.scaled(erf.inputs[0])
            return "gelu" if what is x and close(by, math.sqrt(0.5), x) else ""
        if (tanh := parts.node(inner, "Tanh")) is not None and _is_cubic(parts, tanh.inputs[0], x):
            return "gelu_tanh"
    return ""


def _takes(node: ir.Node | None, x: ir.Value) -> bool:
    return node is not None and node.inputs[0] is x


def _is_clipped(parts: Parts, scale: float, x: ir.Value, gate: ir.Value) -> bool:
    """Clip(x + 3, 0, 6) / 6, or Clip(x / 6 + 1 / 2, 0, 1)."""
    node = parts.node(gate, "Clip")
    if node is None:
        return False
    limits = [
        number_of(node.inputs[place], None) if len(node.inputs) > place else node.attributes.get_float(name, None)
        for place, name in ((1, "min"), (2, "max"))
    ]
    if limits == [0.0, 6.0] and close(scale, 1 / 6, x):
        return parts.plus(node.inputs[0], 3.0) is x
    if limits == [0.0, 1.0] and close(scale, 1.0, x):
        by, what = parts.scaled(parts.plus(node.inputs[0], 0.5))
        return what is x and close(by, 1 / 6, x)
    return False


def _is_cubic(parts: Parts, value: ir.Value | None, x: ir.Value) -> bool:
    """sqrt(2 / pi) (x + 0.044715 x^3), or with x taken out."""
    scale, found = parts.factors(value)
    if not close(scale, math.sqrt(2 / math.pi), x) or not 1 <= len(found) <= 2 or (len(found) == 2 and x not in found):
        return False
    inner = next((v for v in found if v is not x), None)
    power = 4 - len(found)
    node = parts.node(inner, "Add")
    for place in (0, 1) if node is not None else ():
        assert node is not None
        first, other = node.inputs[place], node.inputs[1 - place]
        if first is x if power == 3 else close(number_of(first, other), 1.0, x):
            by, cubed = parts.factors(other)
            return cubed == [x] * power and close(by, 0.044715, x)
    return False
