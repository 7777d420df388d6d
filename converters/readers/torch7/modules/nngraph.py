"""nngraph's gModule: a graph of modules in the order in which Torch7 runs them. Source: nngraph/gmodule.lua, nngraph/node.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from converters.readers.torch7 import t7
from converters.readers.torch7.module import Module, Net, Steps, lowers
from converters.readers.torch7.references import Tensors


class _Node:
    """A node of the graph. Node objects are made anew for each direction of the graph; their data table is the node's identity."""

    def __init__(self, module: Module, value: Any, what: str) -> None:
        data = value.get("data") if isinstance(value, t7.TorchObject) else None
        if not isinstance(data, t7.Table):
            raise module.error(f"{what} isn't a node of nngraph")
        self.data: t7.Table = data
        children = value.get("children")
        self.children: list[Any] = children.array() if isinstance(children, t7.Table) else []


@lowers("nn.gModule", on_tensors=True, enters=True)
def g_module(net: Net, module: Module, x: Tensors) -> Steps:
    """The nodes in the order of forwardnodes; each takes its inputs in the order of its mapindex. Source: nngraph/gmodule.lua."""
    table = module.get("forwardnodes")
    if not isinstance(table, t7.Table) or not len(table):
        raise module.error("field 'forwardnodes' must be a table of nodes")
    start, end = _Node(module, module.get("innode"), "innode"), _Node(module, module.get("outnode"), "outnode")
    held = module.modules() if "modules" in module else _modules_of(table)
    positions = {id(made): position for position, made in reversed(list(enumerate(held)))}
    inputs: dict[int, dict[int, Tensors]] = {id(start.data): {}}
    count = module.integer("nInputs", len(start.children), least=0)
    if count <= 1:
        inputs[id(start.data)][1] = x
    else:
        if not isinstance(x, Sequence) or len(x) != count:
            raise module.error(
                f"its input must be a table of {count} entries, but is {f'one of {len(x)}' if isinstance(x, Sequence) else 'a tensor'}"
            )
        inputs[id(start.data)] = dict(enumerate(x, 1))
    nodes = table.array()
    if len(nodes) != len(table):
        raise module.error("table 'forwardnodes' has a hole")
    for number, value in enumerate(nodes, 1):
        node = _Node(module, value, f"forwardnodes[{number}]")
        given = _arguments(module, inputs.get(id(node.data)), number)
        out = yield from _evaluate(net, module, node, given, number, positions)
        for child_value in node.children:
            child = _Node(module, child_value, f"a child of forwardnodes[{number}]")
            position = _position(module, child, node, number)
            slots = inputs.setdefault(id(child.data), {})
            if position in slots:
                raise module.error(f"input {position} of a child of forwardnodes[{number}] has two sources")
            slots[position] = out
    results = _arguments(module, inputs.get(id(end.data)), len(nodes))
    if not results:
        raise module.error("nothing reaches its output node")
    return results[0] if len(results) == 1 else results


def _modules_of(nodes: t7.Table) -> list[Any]:
    """The modules of a graph that doesn't list them, as nngraph does when it reads an old file."""
    tables = [node.get("data") for node in nodes.array() if isinstance(node, t7.TorchObject)]
    return [made for data in tables if isinstance(data, t7.Table) and (made := data.get("module")) is not None]


def _arguments(module: Module, slots: dict[int, Tensors] | None, number: int) -> list[Tensors]:
    if not slots:
        return []
    if sorted(slots) != list(range(1, len(slots) + 1)):
        raise module.error(f"forwardnodes[{number}] runs before all of its inputs are there")
    return [slots[position] for position in range(1, len(slots) + 1)]


def _position(module: Module, child: _Node, node: _Node, number: int) -> int:
    """At which input of the child the node's output goes: mapindex holds the parents' data as keys."""
    index = child.data.get("mapindex")
    position = index.get(node.data) if isinstance(index, t7.Table) else None
    if not isinstance(position, float) or position != position // 1 or not 1 <= position <= 100_000:
        raise module.error(f"a child of forwardnodes[{number}] doesn't say in its mapindex which input that is")
    return int(position)


def _evaluate(net: Net, module: Module, node: _Node, given: list[Tensors], number: int, positions: dict[int, int]) -> Steps:
    made, chosen = node.data.get("module"), node.data.get("selectindex")
    if chosen is not None:
        table: Tensors | None = given[0] if len(given) == 1 else None
        if not isinstance(table, Sequence) or not isinstance(chosen, float) or chosen not in range(1, len(table) + 1):
            raise module.error(f"forwardnodes[{number}] can't select entry {chosen} of its input")
        return table[int(chosen) - 1]
    value = given[0] if len(given) == 1 else given
    if made is None:
        return value
    if not isinstance(made, t7.TorchObject):
        raise module.error(f"the module of forwardnodes[{number}] isn't one")
    return (yield net.call(module, made, value, positions.get(id(made), f"node{number}")))
