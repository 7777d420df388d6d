"""MXNet's symbol files: the JSON graph of every release since 0.8, checked and put in MXNet's own order.

Sources: nnvm src/pass/saveload_json.cc; mxnet src/nnvm/legacy_json_util.cc (what each release renamed);
src/operator/subgraph/mkldnn (`_sg_mkldnn_conv` and its like, which hold the graph that was fused).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from converters.errors import FormatError, Source, about, printable
from converters.files import StrPath, map_file

OLDEST = 800
"""The version of a file that states none: 0.8.0 as MXNet counts (10000 major + 100 minor + patch)."""
DEEPEST = 8
"""Graphs in graphs, as control flow nests them."""
DENSE_TWINS = frozenset(
    "ElementWiseSum Embedding FullyConnected LinearRegressionOutput LogisticRegressionOutput MAERegressionOutput _contrib_round_ste "
    "_contrib_sign_ste abs add_n arccos arccosh arcsin arcsinh arctan arctanh broadcast_add broadcast_div broadcast_minus broadcast_mul "
    "broadcast_plus broadcast_sub cast_storage cbrt ceil clip concat cos cosh degrees dot elemwise_add elemwise_div elemwise_mul "
    "elemwise_sub exp expm1 fix floor gamma gammaln log log10 log1p log2 make_loss max mean min negative norm radians relu rint round "
    "rsqrt sigmoid sign sin sinh slice sqrt square stop_gradient sum tan tanh trunc where zeros_like".split()
)
"""Operators that files may call `_sparse_...`: they are the same, whatever is stored sparse."""
HIDDEN_KEYS = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")
"""Attributes for the trainer that sit among an operator's own, plain or as a suffix (`weight_lr_mult`)."""


@dataclass(frozen=True)
class Node:
    """A node of the file: a variable (op "null") or an operator. inputs: (node number, output number). subgraphs: graphs that it holds."""

    index: int
    op: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[tuple[int, int], ...]
    source: Source
    subgraphs: tuple[Symbol, ...] = ()

    @property
    def is_variable(self) -> bool:
        return self.op == "null"


@dataclass(frozen=True)
class Symbol:
    """A symbol file: its nodes by number, those that the heads reach in MXNet's order (depth first), and the heads.

    arguments: of a graph that a node holds, the variables that its inputs are.
    """

    path: str
    nodes: tuple[Node, ...]
    order: tuple[Node, ...]
    heads: tuple[tuple[int, int], ...]
    version: int
    arguments: tuple[int, ...] = ()

    @property
    def base(self) -> str:
        return os.path.basename(self.path)


def read_symbol(path: StrPath) -> Symbol:
    """Reads a symbol file. Raises FormatError for text that is no JSON, other JSON, and references that lead nowhere or in a circle."""
    given = os.fspath(path)
    with about(given):
        document = _read_json(path)
        if not isinstance(document, dict) or not isinstance(document.get("nodes"), list):
            raise FormatError("JSON, but not an MXNet symbol (it has no list 'nodes')", hint="give the net's symbol.json")
        if not document["nodes"]:
            raise FormatError("an empty graph: 'nodes' has no entries")
        version = _version(document)
        return _opened(_graph(given, document, version, depth=0))


def _opened(symbol: Symbol) -> Symbol:
    """The graph with what backends fused opened again."""
    nodes, moved = opened(symbol.nodes)
    if not moved and nodes == list(symbol.nodes):
        return symbol
    nodes = [replace(node, inputs=tuple(resolved(entry, moved) for entry in node.inputs)) for node in nodes]
    heads = tuple(resolved(head, moved) for head in symbol.heads)
    return replace(symbol, nodes=tuple(nodes), heads=heads, order=tuple(_depth_first(nodes, heads)))


def _graph(path: str, document: Mapping[str, Any], version: int, depth: int) -> Symbol:
    """The graph of a file, or one that a node holds."""
    if depth > DEEPEST:
        raise FormatError(f"graphs in graphs, more than {DEEPEST} deep; no MXNet symbol is")
    nodes = tuple(_node(path, i, entry, version, depth) for i, entry in enumerate(document["nodes"]))
    for node in nodes:
        for number, _ in node.inputs:
            if number == node.index:
                raise FormatError(f"node {node.index} '{printable(node.name)}' is its own input")
            if not 0 <= number < len(nodes):
                raise FormatError(
                    f"node {node.index} '{printable(node.name)}' refers to node {number}, "
                    f"which doesn't exist (there are {len(nodes)} nodes)"
                )
    heads = _heads(document.get("heads"), len(nodes))
    arguments = document.get("arg_nodes", []) if depth else []
    if not isinstance(arguments, list) or not all(isinstance(n, int) and 0 <= n < len(nodes) for n in arguments):
        raise FormatError("'arg_nodes' must hold numbers of nodes")
    return Symbol(path, nodes, tuple(_depth_first(nodes, heads)), heads, version, tuple(arguments))


def _read_json(path: StrPath) -> Any:
    data = map_file(path)
    try:
        return json.loads(bytes(data).decode("utf-8-sig"))
    except json.JSONDecodeError as problem:
        raise FormatError(f"not valid JSON at column {problem.colno}: {problem.msg}", line=problem.lineno) from problem
    except UnicodeDecodeError as problem:
        raise FormatError(f"not JSON text (byte {problem.start} isn't UTF-8); give the net's symbol.json") from problem
    except RecursionError as problem:
        raise FormatError("JSON nested too deeply; no MXNet symbol is") from problem
    except ValueError as problem:
        raise FormatError(f"not valid JSON: {printable(problem)}") from problem


def _version(document: Mapping[str, Any]) -> int:
    attributes = document.get("attrs")
    stated = attributes.get("mxnet_version") if isinstance(attributes, dict) else None
    if isinstance(stated, list) and len(stated) == 2:
        stated = stated[1]
    return stated if isinstance(stated, int) else OLDEST


def _node(path: str, index: int, entry: Any, version: int, depth: int) -> Node:
    if not isinstance(entry, dict):
        raise FormatError(f"node {index} isn't a JSON object")
    op, name = entry.get("op"), entry.get("name", "")
    if not isinstance(op, str) or not isinstance(name, str):
        raise FormatError(f"node {index} has no text 'op' and 'name'")
    attributes: dict[str, str] = {}
    for field in ("param", "attr", "attrs"):
        values = entry.get(field) or {}
        if not isinstance(values, dict):
            raise FormatError(f"node {index} '{printable(name)}': '{field}' isn't a JSON object")
        attributes.update((key, _text(value)) for key, value in values.items())
    attributes = {k: v for k, v in attributes.items() if not _is_hidden(k)}
    inputs = entry.get("inputs") or []
    if not isinstance(inputs, list) or not all(_is_entry(i) for i in inputs):
        raise FormatError(f"node {index} '{printable(name)}': 'inputs' must hold pairs [node, output]")
    if op.removeprefix("_sparse_") in DENSE_TWINS:
        op = op.removeprefix("_sparse_")
    source = Source(path, "operator", name, op)
    held = entry.get("subgraphs") or []
    if not isinstance(held, list) or not all(isinstance(graph, dict) and isinstance(graph.get("nodes"), list) for graph in held):
        raise FormatError(f"node {index} '{printable(name)}': 'subgraphs' must hold graphs")
    graphs = tuple(_graph(path, graph, version, depth + 1) for graph in held)
    return Node(index, op, name, attributes, tuple((i[0], i[1]) for i in inputs), source, graphs)


def _text(value: Any) -> str:
    """Attribute values are text; hand-made files have numbers and lists, written here as MXNet writes them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "(" + ", ".join(_text(v) for v in value[:1000]) + ")"
    return str(value)


def _is_hidden(key: str) -> bool:
    return any(key == hidden or key.endswith("_" + hidden) for hidden in HIDDEN_KEYS)


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) in (2, 3) and all(isinstance(n, int) and not isinstance(n, bool) for n in entry)


def _heads(heads: Any, count: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(heads, list) or not heads or not all(_is_entry(h) for h in heads):
        raise FormatError("'heads' must name the net's outputs as pairs [node, output]")
    for number, _, *_ in heads:
        if not 0 <= number < count:
            raise FormatError(f"'heads' refers to node {number}, which doesn't exist (there are {count} nodes)")
    return tuple((h[0], h[1]) for h in heads)


def _depth_first(nodes: Sequence[Node], heads: Sequence[tuple[int, int]]) -> list[Node]:
    """The nodes that the heads reach, inputs before users, in the order of MXNet's list_arguments(). Raises FormatError for a circle."""
    order: list[Node] = []
    state = [0] * len(nodes)  # 1: on the way, 2: done
    for head, _ in heads:
        stack = [(head, 0)] if not state[head] else []
        while stack:
            number, position = stack.pop()
            state[number] = 1
            inputs = nodes[number].inputs
            if position < len(inputs):
                stack.append((number, position + 1))
                wanted = inputs[position][0]
                if state[wanted] == 1:
                    raise FormatError(
                        f"node {wanted} '{printable(nodes[wanted].name)}' depends on itself, through '{printable(nodes[number].name)}'"
                    )
                if state[wanted] == 0:
                    stack.append((wanted, 0))
            else:
                state[number] = 2
                order.append(nodes[number])
    return order


# -- what backends fused ---------------------------------------------------------------------------------------------------

FUSED = "_sg_mkldnn_"
"""What the names of fused operators begin with."""


def opened(nodes: Sequence[Node]) -> tuple[list[Node], Mapping[tuple[int, int], tuple[int, int]]]:
    """The nodes, those of fused operators in float behind them, and what takes the place of the fused operators' outputs.

    An operator that was quantized too stays one, since its numbers are its library's: its attributes are joined by those it holds.
    """
    result = list(nodes)
    moved: dict[tuple[int, int], tuple[int, int]] = {}
    at = 0
    while at < len(result):
        node = result[at]
        if node.op.startswith(FUSED) and node.subgraphs:
            if node.attributes.get("quantized", "false").lower() in ("true", "1"):
                result[at] = replace(node, attributes=_joined(node, node.subgraphs[0]), subgraphs=())
            else:
                _open(node, node.subgraphs[0], result, moved)
        at += 1
    return result, moved


def _joined(node: Node, graph: Symbol) -> dict[str, str]:
    """A fused operator's own attributes and those of what it holds; `steps` says what that is, in order: `Convolution BatchNorm relu`."""
    found = dict(node.attributes)
    steps = []
    for inner in graph.order:
        if inner.is_variable:
            continue
        kind = inner.attributes.get("act_type", "leaky" if inner.op == "LeakyReLU" else "")
        steps.append(kind if inner.op in ("Activation", "LeakyReLU") else inner.op)
        if inner.op not in ("Activation", "elemwise_add"):
            found.update((name, text) for name, text in inner.attributes.items() if name != "act_type")
    return {**found, "steps": " ".join(steps)}


def _open(node: Node, graph: Symbol, result: list[Node], moved: dict[tuple[int, int], tuple[int, int]]) -> None:
    """Appends a fused operator's own nodes; its k-th argument is the operator's k-th input."""
    base = len(result)
    outer: dict[int, tuple[int, int]] = {}
    for position, number in enumerate(graph.arguments):
        if position >= len(node.inputs):
            raise node.source.error(f"its graph takes {len(graph.arguments)} inputs, but it has {len(node.inputs)}")
        outer[number] = node.inputs[position]

    def place(entry: tuple[int, int]) -> tuple[int, int]:
        return outer.get(entry[0], (base + entry[0], entry[1]))

    for inner in graph.nodes:
        if inner.is_variable and inner.index not in outer:
            raise node.source.error(f"its graph has a variable '{printable(inner.name)}' that is no input of it")
        result.append(replace(inner, index=base + inner.index, inputs=tuple(place(entry) for entry in inner.inputs)))
    for position, head in enumerate(graph.heads):
        moved[node.index, position] = place(head)


def resolved(entry: tuple[int, int], moved: Mapping[tuple[int, int], tuple[int, int]]) -> tuple[int, int]:
    """What an entry refers to once fused operators are opened, one in another too."""
    while entry in moved:
        entry = moved[entry]
    return entry
