"""Names of initializers as keys of a state_dict: `features.0.weight` stays, what no module could have for a name is mended.

Exporters that number their tensors (`193`, `onnx::Conv_194`) lose the layers' names; a layer's own tensors then get its node's.
"""

from __future__ import annotations

import re
from collections import Counter

import onnx_ir as ir

from converters.graph.names import Paths, identifier, is_name, paths_above
from converters.graph.patterns.found import Found as Patterns
from converters.graph.provenance import ORIGINAL_NAME
from converters.readers.onnx.operators import OPERATORS

_DEEPEST = 100
"""Modules in modules; what is longer isn't taken for a path."""
_ROLE_ENDING = re.compile(r"[._/:-]*(weights?|kernel|gamma|scale|slope|w)(:0|_?\d+)?$", re.IGNORECASE)


def rename_initializers(model: ir.Model, keys: frozenset[str] = frozenset(), found: Patterns | None = None) -> None:
    """Gives every initializer a key that a state_dict can have, unlike all others; the original is kept in its metadata.

    keys: names that are such keys already, whatever is in them. found: layers that the graph's operators are parts of.
    """
    found = Patterns() if found is None else found
    graph = model.graph
    wanted: dict[ir.Value, str] = {}
    paths: set[str] = set()
    counts: Counter[str] = Counter()
    mended = {value: name if name in keys else _mend(name) for name, value in graph.initializers.items()}
    taken = Paths(mended.values())
    alone: dict[ir.Value, bool] = {}
    for node in graph:
        own = {
            role: value
            for role, value in _learnt(node, found).items()
            if value.name not in keys and graph.initializers.get(str(value.name)) is value
        }
        if not own or any(value in wanted or not _is_alone(value, own, found, alone) for value in own.values()):
            continue
        lost = _beside(own)
        if lost and not any(taken.has(key) for key in lost.values()):
            for role, key in lost.items():
                wanted[own[role]] = key
                taken.add(key)
            continue
        if all(_says_enough(str(value.name), role) and mended[value] == value.name for role, value in own.items()):
            continue  # as a state_dict has it
        path = base = _path(node, own, mended)
        for value in own.values():
            taken.add(mended[value], -1)
        while path in paths or taken.has(path):
            counts[base] += 1
            path = f"{base}_{counts[base]}"
        for value in own.values():
            taken.add(mended[value])
        paths.add(path)
        for role, value in own.items():
            wanted[value] = f"{path}.{role}"
    _apply(model, {value: wanted.get(value, key) for value, key in mended.items()})


def _learnt(node: ir.Node, found: Patterns) -> dict[str, ir.Value]:
    """What a layer has learnt, by torch's names."""
    if node in found.ends:
        return found.ends[node].learnt()
    if node in found.inner or node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
        return {}
    roles = zip(OPERATORS[node.op_type].roles, node.inputs, strict=False)
    return {role: value for role, value in roles if role and value is not None}


def _is_alone(value: ir.Value, own: dict[str, ir.Value], found: Patterns, known: dict[ir.Value, bool]) -> bool:
    """Whether a value is used once, or always with the same others, as those of a layer that runs twice are. known: answers so far."""
    if value not in known:
        users = [found.end(use.node) for use in value.uses()]
        known[value] = len(users) == 1 or all(node in found.ends and _learnt(node, found) == own for node in users)
    return known[value]


def _beside(own: dict[str, ir.Value]) -> dict[str, str]:
    """Keys of what has lost its name beside what still has it, by role: `fc.weight` beside `fc.bias`."""
    named = {
        role: str(value.name) for role, value in own.items() if str(value.name).endswith(role) and _mend(str(value.name)) == value.name
    }
    stems = {name.removesuffix(role) for role, name in named.items()}
    stem = stems.pop() if len(stems) == 1 else ""
    if stem[-1:] not in (".", "_") or "." not in stem:
        return {}
    lost = {role: str(value.name) for role, value in own.items() if role not in named}
    if any(_says_enough(name, role) and not name.startswith(f"{stem}{role}_") for role, name in lost.items()):
        return {}
    return {role: f"{stem}{role}" for role in lost}


def _says_enough(name: str, role: str) -> bool:
    """Whether an initializer's name has a module's path in it, or is a role's at the top (`weight`); numbers say nothing."""
    return name == role or ("." in name and re.fullmatch(r"[\d.]*", name) is None)


def _path(node: ir.Node, own: dict[str, ir.Value], mended: dict[ir.Value, str]) -> str:
    """The layer's path: what is left of its weight's name without the role, or the node's name."""
    first = next(iter(own.values()))
    name = str(first.name)
    stem = _ROLE_ENDING.sub("", name)
    if stem and stem != name and not re.fullmatch(r"[\d_.:]*", stem):
        return _mend(stem)
    if re.fullmatch(r"(onnx::)?\w*?_?\d+", name) and node.name:
        parts = [part for part in node.name.split("/") if part]
        if len(parts) > 1 and re.fullmatch(rf"{node.op_type}(_\d+)?", parts[-1]):
            parts.pop()  # /layer1/layer1.0/conv1/Conv
        kept = [part for part, after in zip(parts, [*parts[1:], ""], strict=True) if not after.startswith(f"{part}.")]
        return _mend(".".join(kept)) if kept else _mend(node.name)
    return mended[first].replace(".", "_") if re.fullmatch(r"[\d.]*", mended[first]) else mended[first] + "_layer"


def _mend(name: str) -> str:
    """Dotted parts that are numbers or names that an attribute may have."""
    parts = [part for part in re.split(r"[./]", re.sub(r":0$", "", name)) if part]
    parts[_DEEPEST:] = ["_".join(parts[_DEEPEST:])] if len(parts) > _DEEPEST else []
    return (
        ".".join(part if re.fullmatch(r"0|[1-9]\d*", part, re.ASCII) or is_name(part) else identifier(part) for part in parts) or "unnamed"
    )


def _apply(model: ir.Model, keys: dict[ir.Value, str]) -> None:
    """Renames, so that no key is taken twice and none is the path of another."""
    graph = model.graph
    taken = {str(value.name) for node in graph for value in node.outputs} | {str(value.name) for value in graph.inputs}
    parents = {path for key in keys.values() for path in paths_above(key)}
    final: dict[ir.Value, str] = {}
    used: set[str] = set()
    counts: Counter[str] = Counter()
    for value, key in sorted(keys.items(), key=lambda item: item[0].name != item[1]):  # names that need no mending keep theirs
        free = key
        while free in used or free in parents or (free in taken and free != value.name):
            counts[key] += 1
            free = f"{key}_{counts[key]}"
        used.add(free)
        final[value] = free
    values = list(graph.initializers.values())
    graph.initializers.clear()
    for value in values:
        if value.name != final[value]:
            value.metadata_props[ORIGINAL_NAME] = str(value.name)
            value.name = final[value]
        if value.const_value is not None:
            value.const_value.name = final[value]
        graph.initializers.add(value)
