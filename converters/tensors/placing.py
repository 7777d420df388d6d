"""Weights under other keys: patterns that rename, and a map of keys that is written, reviewed and used again."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, FormatError, printable
from converters.files import StrPath, map_file, writing

HOWS = ("copy", "reshape", "transpose", "fill", "computed")
"""What is done to a source's array: nothing, another shape, its axes the other way round, none of it but one number, or more than that."""
_LONGEST = 64 << 20


@dataclass(frozen=True)
class Entry:
    """Where one key's value comes from. sources: source keys; how: one of HOWS; shape: of the value; value: of "fill"."""

    sources: tuple[str, ...]
    how: str
    shape: tuple[int, ...]
    value: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        plain: dict[str, Any] = {"from": list(self.sources), "how": self.how, "shape": list(self.shape)}
        return plain | ({"value": self.value} if self.how == "fill" else {})


@dataclass
class KeyMap:
    """target key -> where its value comes from. proven: both sides were run and answered alike."""

    entries: dict[str, Entry]
    proven: bool = False
    left: list[str] = field(default_factory=list)

    def save(self, path: StrPath, *, force: bool = False) -> None:
        """Writes the map as JSON, an entry a line, to be read by people too."""
        rows = [f"  {json.dumps(key)}: {json.dumps(entry.as_dict())}" for key, entry in self.entries.items()]
        text = f'{{"proven": {json.dumps(self.proven)}, "keys": {{\n' + ",\n".join(rows) + "\n}}\n"
        with writing(path, force=force) as file:
            file.write(text.encode())

    def apply(self, weights: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The values under the map's keys. Raises ConversionError for a key that the weights don't have, and for "computed" entries."""
        computed = [key for key, entry in self.entries.items() if entry.how == "computed"]
        if computed:
            raise ConversionError(
                f"{len(computed)} of the map's values are computed from several or changed numbers ({', '.join(computed[:5])})",
                hint="match the class again (--like), which computes them",
            )
        missing = [source for entry in self.entries.values() for source in entry.sources if source not in weights]
        if missing:
            raise ConversionError(f"the map asks for {', '.join(map(printable, missing[:5]))}, which the weights don't have")
        return {key: _made(key, entry, weights) for key, entry in self.entries.items()}


def read_map(path: StrPath) -> KeyMap:
    """A map that `save` wrote, or one by hand: {"keys": {target: source}}. Raises FormatError."""
    view = map_file(path)
    shown = os.fspath(path)
    try:
        document = json.loads(bytes(view[:_LONGEST]))
        keys = document["keys"] if isinstance(document, dict) and isinstance(document.get("keys"), dict) else document
        entries = {key: _entry(entry) for key, entry in keys.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise FormatError(
            f"is no map of keys: {printable(problem, 200)}", path=shown, hint='write {"keys": {"TARGET": "SOURCE"}}'
        ) from problem
    return KeyMap(entries, isinstance(document, dict) and document.get("proven") is True)


def _entry(stated: Any) -> Entry:
    if isinstance(stated, str):
        return Entry((stated,), "copy", ())
    how, sources = stated["how"], stated["from"]
    shape = tuple(int(size) for size in stated.get("shape", ()))
    if how not in HOWS or not isinstance(sources, list) or not all(isinstance(name, str) for name in sources) or min(shape, default=0) < 0:
        raise ValueError(f"an entry says {stated}")
    if (how == "fill") == bool(sources) or (how != "fill" and len(sources) != 1 and how != "computed"):
        raise ValueError(f"an entry says {stated}")
    return Entry(tuple(sources), how, shape, float(stated.get("value", 0.0)))


def _made(key: str, entry: Entry, weights: Mapping[str, Any]) -> NDArray[Any]:
    if entry.how == "fill":
        if np.prod(entry.shape, dtype=object) > 1 << 28:
            raise ConversionError(f"the map fills '{printable(key)}' with more numbers than any weight has")
        return np.full(entry.shape, entry.value, np.float32)
    array: NDArray[Any] = np.asarray(weights[entry.sources[0]])
    if entry.how == "transpose":
        return np.ascontiguousarray(array.T)
    if entry.how == "reshape":
        try:
            return array.reshape(entry.shape)
        except ValueError:
            raise ConversionError(f"'{printable(key)}' is of shape {entry.shape} in the map; the weights' is {array.shape}") from None
    return array


def how_made(array: NDArray[Any], sources: Sequence[str], weights: Mapping[str, Any]) -> Entry:
    """How a value comes from its source keys, found out by comparing."""
    shape = tuple(array.shape)
    if not sources:
        value = float(array.flat[0]) if array.size else 0.0
        return Entry((), "fill" if array.size and (array == array.flat[0]).all() else "computed", shape, value)
    before = np.asarray(weights[sources[0]]) if len(sources) == 1 and sources[0] in weights else None
    if before is not None and before.size == array.size:
        if before.shape == shape and np.array_equal(before, array, equal_nan=True):
            return Entry(tuple(sources), "copy", shape)
        if np.array_equal(before.reshape(shape), array, equal_nan=True):
            return Entry(tuple(sources), "reshape", shape)
        if before.ndim == 2 and before.shape[::-1] == shape and np.array_equal(before.T, array, equal_nan=True):
            return Entry(tuple(sources), "transpose", shape)
    return Entry(tuple(sources), "computed", shape)


# -- patterns --------------------------------------------------------------------------------------------------------------


def renamed(names: Iterable[str], patterns: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Old names -> new ones, by the first pattern that fits each. OLD is a whole name, or a module's path in front of a dot; a `*` in it
    stands for anything, and what it stood for goes into the `*` of NEW. An empty NEW takes a module's level away.

    Raises ConversionError for a pattern that fits nothing, and where two names would become one.
    """
    rules = [(_expression(old, new), new, old) for old, new in patterns]
    used: set[str] = set()
    made: dict[str, str] = {}
    for name in names:
        made[name] = name
        for expression, new, old in rules:
            match = expression.fullmatch(name)
            if match is not None:
                used.add(old)
                *stars, rest = match.groups()
                for star in stars:
                    new = new.replace("*", star, 1)
                made[name] = (new + rest).removeprefix(".") if new else rest.removeprefix(".")
                break
    if unused := [old for _, _, old in rules if old not in used]:
        first = next(iter(made), "")
        raise ConversionError(f"no name is like '{printable(unused[0])}'; the first is '{printable(first)}'")
    taken: dict[str, str] = {}
    for name, new in made.items():
        if new in taken or not new:
            raise ConversionError(f"'{printable(taken.get(new, name))}' and '{printable(name)}' would both be called '{printable(new)}'")
        taken[new] = name
    return made


def _expression(old: str, new: str) -> re.Pattern[str]:
    if old.count("*") < new.count("*"):
        raise ConversionError(f"--rename {printable(old)}={printable(new)}: NEW has more * than OLD")
    return re.compile("(.*?)".join(map(re.escape, old.split("*"))) + r"((?:\..*)?)", re.DOTALL)
