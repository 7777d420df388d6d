"""nn.gModule: the order of nodes, arguments by mapindex, tables, shared modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.errors import ConversionError
from converters.readers.torch7 import load
from tests.readers.torch7.lua import Object, Pairs, dumps, module
from tests.readers.torch7.module_case import rand
from tests.readers.torch7.running import check, convert


class Graph:
    """Builds the fields of a gModule: a node for each call, arguments in their order."""

    def __init__(self, inputs: int) -> None:
        self.nodes: list[Object] = []
        self.innode = self._node({})
        self.inputs = [self.innode] if inputs == 1 else self.split(self.innode, inputs, "nSplitOutputs")

    def _node(self, data: dict[Any, Any], *parents: Object) -> Object:
        pairs = list({**data, "annotations": {}}.items())
        index = [pair for position, parent in enumerate(parents, 1) for pair in ((position, parent.data), (parent.data, position))]
        table = Pairs([*pairs, ("mapindex", Pairs(index))])
        node = Object("nngraph.Node", {"children": [], "data": table, "id": len(self.nodes) + 1})
        node.data = table
        for parent in parents:
            parent.fields["children"].append(node)
        self.nodes.append(node)
        return node

    def call(self, made: Any, *parents: Object) -> Object:
        return self._node({"module": made} if made is not None else {}, *parents)

    def split(self, node: Object, count: int, mark: str | None = None) -> list[Object]:
        middle = node if mark else self._node({"nSplitOutputs": count}, node)
        return [self._node({"selectindex": k + 1, "input": {}}, middle) for k in range(count)]

    def finish(self, *outputs: Object, **fields: Any) -> Object:
        end = self._node({}, *outputs)
        modules = [dict(n.data.pairs[:-1])["module"] for n in self.nodes if "module" in dict(n.data.pairs[:-1])]
        outnode = Object("nngraph.Node", {"children": list(outputs), "data": end.data, "id": 1})
        fields = {"forwardnodes": self.nodes, "innode": self.innode, "outnode": outnode, "nInputs": len(self.inputs), **fields}
        return module("nn.gModule", *modules, **fields)


A, B = rand(3, 4), rand(3, 4, seed=1)
W, C = rand(4, 4), rand(4)


def linear(x: np.ndarray) -> np.ndarray:
    return x @ W.T + C


def test_arguments_follow_mapindex(tmp_path: Any) -> None:
    graph = Graph(2)
    first, second = graph.inputs
    made = graph.finish(graph.call(module("nn.CSubTable"), second, first))
    check(tmp_path, made, [A, B], B - A)


def test_the_input_shape_of_a_graph(tmp_path: Any) -> None:
    graph = Graph(1)
    hidden = graph.call(module("nn.Linear", weight=W, bias=C), graph.call(module("nn.ReLU"), graph.inputs[0]))
    (tmp_path / "model.t7").write_bytes(dumps(graph.finish(hidden)))
    model = load([tmp_path / "model.t7"])
    assert [(value.name, value.shape[0].value, value.shape[1]) for value in model.graph.inputs] == [("input", "N", 4)]


def test_split_and_pass_through_nodes(tmp_path: Any) -> None:
    graph = Graph(1)
    table = graph.call(module("nn.SplitTable", dimension=2), graph.inputs[0])
    one, _, three, _ = graph.split(table, 4)
    made = graph.finish(graph.call(None, three), one, graph.call(module("nngraph.JustTable"), one), nInputs=None)
    check(tmp_path, made, A, [A[:, 2], A[:, 0], [A[:, 0]]])


def test_a_shared_module_overwrites_its_first_output(tmp_path: Any) -> None:
    shared = module("nn.Linear", weight=W, bias=C)
    graph = Graph(2)
    outputs = [graph.call(shared, given) for given in graph.inputs]
    made = graph.finish(graph.call(module("nn.CAddTable"), *outputs))
    check(tmp_path, made, [A, B], 2 * linear(B))


def test_order_of_forwardnodes_decides_what_an_inplace_module_leaves(tmp_path: Any) -> None:
    graph = Graph(1)
    double = graph.call(module("nn.MulConstant", constant_scalar=2, inplace=True), graph.inputs[0])
    late = graph.call(module("nn.AddConstant", constant_scalar=1), graph.inputs[0])
    check(tmp_path, graph.finish(double, late), A, [2 * A, 2 * A + 1])


def test_nested_graph_with_a_table_input(tmp_path: Any) -> None:
    inner = Graph(2)
    inner_module = inner.finish(inner.call(module("nn.CDivTable"), *inner.inputs))
    graph = Graph(2)
    made = graph.finish(graph.call(inner_module, graph.inputs[1], graph.inputs[0]))
    check(tmp_path, made, [A + 9, B], B / (A + 9))


def test_a_node_without_inputs_gets_an_empty_table(tmp_path: Any) -> None:
    graph = Graph(1)
    constant = graph.call(module("nn.Constant", value=A))
    check(tmp_path, graph.finish(graph.call(module("nn.CAddTable"), graph.inputs[0], constant)), B, A + B)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: f["forwardnodes"].reverse(), "must be a table of 2 or more tensors"),
        (lambda f: f.pop("outnode"), "outnode isn't a node"),
        (lambda f: f.update(forwardnodes=[]), "must be a table of nodes"),
        (lambda f: f.update(nInputs=3), "must be a table of 3 entries"),
    ],
)
def test_broken_graphs(break_it: Any, message: str, tmp_path: Any) -> None:
    graph = Graph(2)
    first, second = graph.inputs
    made = graph.finish(graph.call(module("nn.CSubTable"), second, first))
    break_it(made.fields)
    with pytest.raises(ConversionError, match=message):
        convert(tmp_path / "model.t7", made, [A, B])
