"""Which array of a .params file is whose, where the names don't say it: another prefix, or gluon's names by structure.

`save_parameters` names an array by the attributes and numbers that lead to it (`0.weight`, `head.1.gamma`), a symbol by prefixes
(`net0_conv0_weight`); nothing in either file links the two but kinds, shapes and the order in which blocks were made.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from converters.readers.mxnet.attributes import Ints, parse
from converters.readers.mxnet.parameter import ROLES
from converters.readers.mxnet.params import Params
from converters.readers.mxnet.symbol import Node

_NUMBER = re.compile(r"[0-9]+(?=_|$)")
"""A number at the end of a part of a name, which counts blocks of a kind."""
_KINDS = {"moving_mean": "running_mean", "moving_var": "running_var"}


@dataclass
class _Group:
    """Parameters of one block: their names by kind. key: what they have before the kind's word."""

    key: str
    names: dict[str, str] = field(default_factory=dict)


def other_prefix(variables: Sequence[str], params: Params) -> dict[str, str]:
    """The names in the file of variables whose prefix alone differs (`resnetv10_` and `resnetv11_`); empty where that isn't so."""
    own = {name.partition("_")[0] for name in variables}
    if len(own) != 1 or not variables:
        return {}
    prefix = f"{own.pop()}_"
    if not all(name.startswith(prefix) for name in variables):
        return {}
    fitting = []
    for other in {*(f"{name.partition('_')[0]}_" for name in params), ""}:
        pairs = {name: found for name in variables if (found := _spelled(other + name.removeprefix(prefix), params)) is not None}
        if len(pairs) == len(variables):
            fitting.append(pairs)
    return fitting[0] if len(fitting) == 1 else {}


def _spelled(name: str, params: Params) -> str | None:
    """A name as the file has it, with moving_ or running_."""
    for a, b in (("", ""), ("moving_", "running_"), ("running_", "moving_")):
        if (found := name.replace(a, b) if a else name) in params:
            return found
    return None


def by_structure(variables: Sequence[Node], params: Params) -> dict[str, str]:
    """The names in the file of a symbol's parameters, paired by kinds, shapes and order; empty where they don't fit.

    Groups of parameters (weight and bias of one block) are paired with those of the file that have the same kinds and shapes, in
    order. A block that is stored twice, because two paths lead to it, counts once.
    """
    shapes = {node.name: _stated_shape(node) for node in variables}
    sized = all(shape is not None for shape in shapes.values())
    stored = {name: record.shape for name, record in params.records.items()}
    mine = _in_order_of_making(_groups([node.name for node in variables]))
    theirs = _without_copies(_groups(list(stored)), params)
    for loose in (False, True):
        ours, held = _by_signature(mine, shapes, sized, loose), _by_signature(theirs, stored, sized, loose)
        if {key: len(groups) for key, groups in ours.items()} == {key: len(groups) for key, groups in held.items()}:
            break
    else:
        return {}
    if loose and any(len(groups) > 1 and _kinds(groups) != _kinds(held[key]) for key, groups in ours.items()):
        return {}  # a parameter whose name says nothing, beside others of its shape
    return {
        name: other.names[kind if kind in other.names else next(iter(other.names))]
        for key, groups in ours.items()
        for group, other in zip(groups, held[key], strict=True)
        for kind, name in group.names.items()
    }


def _kinds(groups: Sequence[_Group]) -> list[list[str]]:
    return [sorted(group.names) for group in groups]


def _stated_shape(node: Node) -> tuple[int, ...] | None:
    try:
        shape: tuple[int, ...] = parse(node.attributes["__shape__"], Ints)
    except (KeyError, ValueError):
        return None
    return shape if shape and min(shape) > 0 else None


def _groups(names: Sequence[str]) -> list[_Group]:
    """Names in groups, in order of their first member. A name that ends in no kind's word is alone, of the kind "?"."""
    groups: dict[str, _Group] = {}
    for name in names:
        last = name.rpartition(".")[2]
        word = next((word for word in ROLES if last == word or last.endswith(f"_{word}")), "")
        key = name[: len(name) - len(word)].rstrip("._") if word else name
        groups.setdefault(key, _Group(key)).names[_KINDS.get(word, word) or "?"] = name
    return list(groups.values())


def _in_order_of_making(groups: Sequence[_Group]) -> list[_Group]:
    """Groups in order of use, those that differ in numbers alone (conv0, conv1; a0_b1, a1_b0) by those: gluon counts blocks."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        places[_NUMBER.sub("0", group.key)].append(place)
    result = list(groups)
    for own in places.values():
        ordered = sorted((groups[place] for place in own), key=lambda group: [int(number) for number in _NUMBER.findall(group.key)])
        for place, group in zip(own, ordered, strict=True):
            result[place] = group
    return result


def _without_copies(groups: Sequence[_Group], params: Params) -> list[_Group]:
    """Groups, less those that hold the same numbers as an earlier one; what one that shares a part has besides is the earlier one's."""
    seen: dict[tuple[str, tuple[int, ...], bytes], _Group] = {}
    result = []
    for group in groups:
        content = {kind: (kind, params.records[name].shape, params[name].tobytes()) for kind, name in group.names.items()}
        telling = {kind: key for kind, key in content.items() if len(set(key[2])) > 1}
        first = next((seen[key] for key in telling.values() if key in seen), None)
        if first is None:
            result.append(group)
        else:
            first.names.update({kind: name for kind, name in group.names.items() if kind not in first.names})
        for key in telling.values():
            seen.setdefault(key, first or group)
    return result


def _by_signature(
    groups: Sequence[_Group], shapes: Mapping[str, tuple[int, ...] | None], sized: bool, loose: bool
) -> dict[tuple[tuple[str, tuple[int, ...] | None], ...], list[_Group]]:
    """Groups by their kinds and, where they are known, shapes; loose: an array alone by its shape."""
    found: dict[tuple[tuple[str, tuple[int, ...] | None], ...], list[_Group]] = defaultdict(list)
    for group in groups:
        free = loose and sized and len(group.names) == 1
        found[tuple(("" if free else kind, shapes[name] if sized else None) for kind, name in sorted(group.names.items()))].append(group)
    return found
