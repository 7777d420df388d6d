"""Passes over the finished graph, one function each: they change it in place and say what they keep."""

from __future__ import annotations

import onnx_ir as ir


def remove_unused(model: ir.Model) -> None:
    """Removes nodes whose results nobody uses, and initializers that no node reads; graph inputs stay."""
    graph = model.graph
    for node in reversed(list(graph)):
        if all(not value.uses() and not value.is_graph_output() for value in node.outputs):
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def order_initializers(model: ir.Model) -> None:
    """Puts initializers, and so the state_dict, in the order in which nodes use them."""
    graph = model.graph
    ordered: dict[str, ir.Value] = {}
    for node in graph.all_nodes():
        for value in node.inputs:
            if value is not None and value.name in graph.initializers:
                ordered.setdefault(value.name, value)
    rest = {name: value for name, value in graph.initializers.items() if name not in ordered}
    graph.initializers.clear()
    for value in [*ordered.values(), *rest.values()]:
        graph.initializers.add(value)
