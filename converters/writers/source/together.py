"""Source of layers that lie in a graph in parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.patterns.algebra import Pattern, made_by
from converters.writers.source.code import number
from converters.writers.source.node import Node, arguments

_FUNCTIONS = {"gelu": "F.gelu", "hardswish": "F.hardswish", "mish": "F.mish", "silu": "F.silu"}


def together(n: Node, found: Pattern) -> str:
    """The expression of a layer whose last part the node is."""
    if found.kind == "attention":
        return _attention(n, found)
    x = n.parameter(found.inputs["x"])
    if found.kind in _FUNCTIONS:
        return f"{_FUNCTIONS[found.kind]}({x})"
    if found.kind == "gelu_tanh":
        return f'F.gelu({x}, approximate="tanh")'
    weight, bias = found.inputs.get("weight"), found.inputs.get("bias")
    if found.kind == "linear":
        return linear(n, x, found.inputs["weight"], bias)
    shape = [int(str(size)) for size in list(found.inputs["x"].shape or ())[-int(found.numbers["axes"]) :]]
    return layer_norm(n, x, shape, weight, bias, number(np.float32(found.numbers["eps"])))


def linear(n: Node, x: str, weight: ir.Value, bias: ir.Value | None) -> str:
    """nn.Linear of a weight (out, in), F.linear where no module holds just it and its bias."""
    shape = None if weight.shape is None else list(weight.shape)
    if shape is not None and all(isinstance(size, int) for size in shape):
        layer = n.layer(f"nn.Linear({arguments(shape[1], shape[0], bias=None if bias else False)}", {"weight": weight, "bias": bias})
        if layer:
            return f"{layer}({x})"
    return f"F.linear({arguments(x, *_held(n, weight, bias))})"


def layer_norm(n: Node, x: str, shape: Sequence[int], weight: ir.Value | None, bias: ir.Value | None, eps: str) -> str:
    """nn.LayerNorm over the last axes, of these sizes; F.layer_norm where no module holds just its weight and bias."""
    given = None if eps == "1e-05" else eps
    build = arguments(shape[0] if len(shape) == 1 else tuple(shape), eps=given, bias=None if bias is not None else False)
    layer = None if weight is None else n.layer(f"nn.LayerNorm({build}", {"weight": weight, "bias": bias})
    if layer:
        return f"{layer}({x})"
    sizes = tuple(shape) if weight is not None else f"{x}.shape[-{len(shape)}:]"  # without a weight any size will do
    return f"F.layer_norm({arguments(x, sizes, *_held(n, weight, bias), eps=given)})"


def _held(n: Node, *values: ir.Value | None) -> list[str]:
    return [n.parameter(value) for value in values if value is not None]


def _attention(n: Node, found: Pattern) -> str:
    """F.scaled_dot_product_attention."""
    inputs = found.inputs
    mask = n.parameter(inputs["mask"]) if "mask" in inputs else None
    scale = number(np.float32(found.numbers["scale"])) if "scale" in found.numbers else None
    q, k, v = n.parameter(inputs["q"]), _turned(n, inputs["keys"]), n.parameter(inputs["v"])
    return f"F.scaled_dot_product_attention({arguments(q, k, v, attn_mask=mask, scale=scale)})"


def _turned(n: Node, keys: ir.Value) -> str:
    """The keys with their last two axes the other way round, which a graph has turned for the product."""
    node = made_by(keys, "Transpose")
    perm = list(node.attributes.get_ints("perm", ()) or ()) if node is not None else []
    before = None if node is None or len(perm) < 2 else node.inputs[0]
    if before is None:
        return f"{n.parameter(keys)}.transpose(-2, -1)"
    perm[-2:] = perm[-2:][::-1]
    moved = [axis for axis, place in enumerate(perm) if axis != place]
    text = n.parameter(before)
    if not moved:
        return text
    if len(moved) == 2:
        return f"{text}.transpose({moved[0]}, {moved[1]})"
    return f"{text}.permute({', '.join(map(str, perm))})"
