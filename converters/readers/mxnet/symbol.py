"""MXNet's symbol files: the JSON graph of every release since 0.8, checked and put in MXNet's own order.

Sources: nnvm src/pass/saveload_json.cc; mxnet src/nnvm/legacy_json_util.cc (what each release renamed).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.errors import FormatError, Source, about, printable
from converters.files import StrPath, map_file

OLDEST = 800
"""The version of a file that states none: 0.8.0 as MXNet counts (10000 major + 100 minor + patch)."""
HIDDEN_KEYS = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")
"""Attributes for the trainer that sit among an operator's own, plain or as a suffix (`weight_lr_mult`)."""


@dataclass(frozen=True)
class Node:
    """A node of the file: a variable (op "null") or an operator. inputs: (node number, output number)."""

    index: int
    op: str
    name: str
    attributes: Mapping[str, str]
    inputs: tuple[tuple[int, int], ...]
    source: Source

    @property
    def is_variable(self) -> bool:
        return self.op == "null"


@dataclass(frozen=True)
class Symbol:
    """A symbol file: its nodes by number, those that the heads reach in MXNet's order (depth first), and the heads."""

    path: str
    nodes: tuple[Node, ...]
    order: tuple[Node, ...]
    heads: tuple[tuple[int, int], ...]
    version: int

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
        nodes = tuple(_node(given, i, entry) for i, entry in enumerate(document["nodes"]))
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
        return Symbol(given, nodes, tuple(_depth_first(nodes, heads)), heads, version)


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


def _node(path: str, index: int, entry: Any) -> Node:
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
    source = Source(path, "operator", name, op)
    return Node(index, op, name, attributes, tuple((i[0], i[1]) for i in inputs), source)


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
