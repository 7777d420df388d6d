"""A product with a matrix that was learnt, and the bias behind it: a linear layer of inputs of any rank."""

from __future__ import annotations

import onnx_ir as ir

from converters.graph.patterns.algebra import Parts, Pattern, is_float, made_by


def linear(parts: Parts) -> Pattern | None:
    """`x @ w + b`. The weight is (out, in) in "linear", where it is turned round before the product; (in, out) in "product"."""
    last = parts.last
    if last.op_type == "MatMul":
        return _linear(parts, last, None)
    for place in (0, 1):
        way = parts.fork()
        node, bias = way.node(last.inputs[1 - place], "MatMul"), last.inputs[place]
        if node is not None and bias is not None and is_learnt(bias, 1):
            return _linear(way, node, bias)
    return None


def is_learnt(value: ir.Value, rank: int) -> bool:
    """Whether a value is a floating-point initializer of so many axes."""
    return value.is_initializer() and value.const_value is not None and is_float(value) and len(value.const_value.shape) == rank


def _linear(parts: Parts, node: ir.Node, bias: ir.Value | None) -> Pattern | None:
    x, weight = node.inputs
    if x is None or weight is None or x.shape is None or len(x.shape) < 2 or x.is_initializer():
        return None
    turned = made_by(weight, "Transpose")
    kind = "product" if turned is None else "linear"
    if turned is not None:
        weight = turned.inputs[0] if list(turned.attributes.get_ints("perm", (1, 0)) or ()) == [1, 0] else None
    if weight is None or not is_learnt(weight, 2) or weight.const_value is None:
        return None
    width = weight.const_value.shape.numpy()[0 if kind == "linear" else 1]
    if bias is not None and (bias.const_value is None or tuple(bias.const_value.shape.numpy()) != (width,)):
        return None
    return parts.pattern(kind, x=x, weight=weight, bias=bias)
