"""All patterns of a graph, by the node that each ends in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_ir as ir

from converters.graph.patterns.activation import gated
from converters.graph.patterns.algebra import Parts, Pattern
from converters.graph.patterns.attention import attention
from converters.graph.patterns.linear import linear
from converters.graph.patterns.normalization import layer_norm

_ENDS: dict[str, tuple[Callable[[Parts], Pattern | None], ...]] = {
    "Add": (layer_norm, linear),
    "Div": (layer_norm, gated),
    "MatMul": (attention, linear),
    "Mul": (gated, layer_norm),
}


@dataclass(eq=False)
class Found:
    """The patterns of a graph. ends: by their last nodes. inner: the last node by each that comes before it."""

    ends: dict[ir.Node, Pattern] = field(default_factory=dict)
    inner: dict[ir.Node, ir.Node] = field(default_factory=dict)

    def end(self, node: ir.Node) -> ir.Node:
        """The last node of the layer that a node is a part of: itself, where it is none."""
        return self.inner.get(node, node)


def find_patterns(model: ir.Model, *, products: bool = False) -> Found:
    """The layers that a graph's operators are parts of; the largest where one is a part of another.

    products: linear layers too whose weights are (in, out), as they go into the product.
    """
    found = Found()
    opset = int(model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 1)))
    for node in reversed(list(model.graph.all_nodes())):
        if node.op_type not in _ENDS or node.domain not in ("", "ai.onnx") or node in found.inner or len(node.inputs) != 2:
            continue
        for match in _ENDS[node.op_type]:
            pattern = match(Parts(node, opset))
            if pattern is None or (pattern.kind == "product" and not products):
                continue
            if not pattern.inner & found.inner.keys() and not pattern.inner & found.ends.keys():
                found.ends[node] = pattern
                found.inner |= dict.fromkeys(pattern.inner, node)
                break
    return found
