"""What is in a .t7 without running it: where the model sits, which modules are inside, and by which paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from converters.errors import ConversionError, FormatError, printable
from converters.readers.torch7 import t7

_NOT_MODELS = ("Criterion", "Tensor", "Storage", "Optim", "Logger", "Node", "Graph", "Edge", "DataLoader")


def is_module(value: Any) -> bool:
    """Whether an object may be a model: an instance of a class that is neither a criterion nor plain data."""
    return (
        isinstance(value, t7.TorchObject)
        and isinstance(value.payload, t7.Table)
        and not value.typename.startswith(("torch.", "tds.", "graph."))
        and not value.typename.endswith(_NOT_MODELS)
    )


def describe(value: Any) -> str:
    """One value for a message."""
    if isinstance(value, t7.TorchObject):
        return f"an object of class {printable(value.typename, 60)}"
    if isinstance(value, t7.Table):
        keys = [str(int(k)) if isinstance(k, float) and k == k // 1 else str(k) for k, _ in value.items() if isinstance(k, str | float)][
            :12
        ]
        return f"a table with {len(value)} entries" + (f": {printable(', '.join(keys), 200)}" if keys else "")
    if isinstance(value, t7.Tensor):
        return f"a {value.typename} of size {'x'.join(map(str, value.size)) or 'empty'}"
    if isinstance(value, t7.Function):
        return "a Lua function (bytecode, which is never run here)"
    return {type(None): "nil", bool: "a boolean", float: "a number", str: "a string"}.get(type(value), "a storage")


_EVERYWHERE = frozenset(("train", "_type", "output", "gradInput"))
"""Fields that every module has."""


def fields_of(made: t7.TorchObject) -> str:
    """An object's fields for a message, the first 20: numbers and texts as they are, of others what they are."""
    if not isinstance(made.payload, t7.Table):
        return describe(made.payload)
    shown = []
    for name, value in made.payload.items():
        if isinstance(name, str) and name not in _EVERYWHERE and not name.startswith(("grad", "_")):
            shown.append(f"{name}{_brief(value)}")
    text = ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
    return printable(text, 600) or "no fields of its own"


def _brief(value: Any) -> str:
    """What a field holds, in a word or two."""
    if isinstance(value, bool | str):
        return f" = {value}"
    if isinstance(value, float):
        return f" = {value:g}"
    if isinstance(value, t7.Tensor):
        return ": " + ("x".join(map(str, value.size)) or "an empty tensor")
    if isinstance(value, t7.Table):
        return f": a table of {len(value)}"
    return f": {value.typename if isinstance(value, t7.TorchObject) else describe(value)}"


def at_key(root: Any, key: str) -> Any:
    """What lies at `key`: names and [positions] joined by dots, "model", "protos.rnn", "model.modules[1]"."""
    value, seen = root, ""
    for name, bracket in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", key):
        step: Any = name
        if bracket or not name:
            step = float(bracket) if re.fullmatch(r"-?\d+(\.\d+)?", bracket) else bracket.strip("'\"")
        table = value.payload if isinstance(value, t7.TorchObject) else value
        if isinstance(table, t7.Table) and step not in table and isinstance(step, str) and step.isdigit():
            step = float(step)
        if not isinstance(table, t7.Table) or step not in table:
            raise ConversionError(
                f"key {printable(key)!r}: {describe(value)}{seen and f' at {printable(seen)!r}'} has no entry {printable(step)!r}"
            )
        value = table[step]
        seen += f"[{bracket}]" if bracket else f".{name}" if seen else name
    return value


def find_model(root: Any, key: str | None) -> t7.TorchObject:
    """The model of a file: the object itself, the one at `key`, or the only module in a checkpoint table.

    Raises ConversionError that says what is there instead.
    """
    if key:
        found = at_key(root, key)
        candidates = candidates_in(found)
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        if not is_module(found):
            raise ConversionError(f"there is no module at key {printable(key)!r}, but {describe(found)}")
        return found  # type: ignore[no-any-return]
    if is_module(root):
        return root  # type: ignore[no-any-return]
    candidates = candidates_in(root)
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if candidates:
        shown = ", ".join(f"{name!r} ({printable(made.typename, 40)})" for name, made in list(candidates.items())[:20])
        raise ConversionError(f"several modules are in this file: {printable(shown, 1000)}; say which with --key (key=)")
    raise FormatError(f"there is no module in this file: it holds {describe(root)}")


def candidates_in(root: Any) -> dict[str, t7.TorchObject]:
    """Modules in a table, or in tables within it (two levels deep), by key; one object is found once."""
    found: dict[str, t7.TorchObject] = {}
    seen: set[int] = set()
    level: list[tuple[str, Any]] = [("", root)]
    for _ in range(3):
        following: list[tuple[str, Any]] = []
        for where, table in level:
            if not isinstance(table, t7.Table) or id(table) in seen:
                continue
            seen.add(id(table))
            for name, value in table.items():
                label = child_key(where, name)
                if label is None:
                    continue
                if is_module(value) and id(value) not in seen:
                    seen.add(id(value))
                    found[label] = value
                elif isinstance(value, t7.Table):
                    following.append((label, value))
        if found:
            break
        level = following[:1000]
    return found


def child_key(where: str, name: Any) -> str | None:
    """The key of an entry of a table: `protos.rnn`, `model.modules[1]`; None where its name is neither text nor a whole number."""
    if isinstance(name, str):
        return f"{where}.{name}" if where else name
    return f"{where}[{int(name)}]" if isinstance(name, float) and name == name // 1 else None


def children(made: t7.TorchObject, *, fields: bool = True) -> list[tuple[str, t7.TorchObject]]:
    """The modules directly inside, with their names: container positions from 0; nodes of a graph; fields that hold a module."""
    found: list[tuple[str, t7.TorchObject]] = []
    table = made.get("modules")
    if isinstance(table, t7.Table):
        found += [(str(position), value) for position, value in enumerate(table.array()) if isinstance(value, t7.TorchObject)]
    nodes = made.get("forwardnodes") if made.typename == "nn.gModule" else None
    if isinstance(nodes, t7.Table):
        for position, node in enumerate(nodes.array(), 1):
            data = node.get("data") if isinstance(node, t7.TorchObject) else None
            inner = data.get("module") if isinstance(data, t7.Table) else None
            if isinstance(inner, t7.TorchObject):
                found.append((f"node{position}", inner))
    if not fields or not isinstance(made.payload, t7.Table):
        return found
    for name, value in made.payload.items():
        if is_module(value):
            found.append((str(name), value))
        elif isinstance(value, t7.Table) and table is None and isinstance(name, str):  # a class of its own that keeps tables of modules
            found += [(f"{name}.{position}", inner) for position, inner in enumerate(value.array()) if is_module(inner)]
    return found


MAX_PARTS = 100
"""Parts of a path. Torch's modules can't be nested as deep as Lua's: what lies deeper has one long name."""


def child_path(path: str, name: object) -> str:
    """The path of a module inside another: `4.0` and 1 give `4.0.1`."""
    if not path:
        return str(name)
    parts = path.count(".") + 1
    return f"{path}.{name}" if parts < MAX_PARTS - 1 else f"{path}.inner_{name}" if parts < MAX_PARTS else f"{path}_{name}"


def inner_modules(root: t7.TorchObject, *, fields: bool = True) -> Iterator[tuple[t7.TorchObject, str]]:
    """The module and all inside it, each object once, with its path; in the order of the containers, without recursion."""
    seen: set[int] = set()
    waiting = [(root, "")]
    while waiting:
        made, path = waiting.pop()
        if id(made) in seen:
            continue
        seen.add(id(made))
        yield made, path
        waiting += reversed([(value, child_path(path, name)) for name, value in children(made, fields=fields)])
