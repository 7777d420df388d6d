"""Which function lowers which source layer: a closed table that refuses double entries, fills itself and documents itself."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
Facts = TypeVar("Facts")


@dataclass(frozen=True)
class NoFacts:
    """For registries whose entries have no properties."""


class Registry(Generic[Function, Facts]):
    """Maps a source type's exact spelling to the function that handles it, and to what else is known of that type.

    facts: a frozen dataclass whose fields are the properties that an entry may state at its decorator. topics: the package whose
    modules register the built-in entries; they are imported when the table is first looked at, each file found by itself.

    >>> @dataclass(frozen=True)
    ... class LayerFacts:
    ...     in_place: bool = False
    >>> lowers = Registry("Caffe layer", LayerFacts)
    >>> @lowers("ReLU", in_place=True)
    ... def relu(g, layer, x):
    ...     "Rectified linear unit."
    >>> "ReLU" in lowers, lowers["ReLU"] is relu, lowers.facts("ReLU").in_place
    (True, True, True)

    Users register lowerings of their own with the same decorator; `replace=True` overrides one that is built in.
    """

    def __init__(self, what: str, facts: Callable[..., Facts], topics: str | None = None) -> None:
        self.what = what
        self._facts_class = facts
        self.topics = topics
        self.is_filled = topics is None
        self._entries: dict[str, tuple[Function, Facts]] = {}

    def __call__(self, *names: str, replace: bool = False, **facts: Any) -> Callable[[Function], Function]:
        """Decorator: registers a function under one or more exact source names, with the facts that hold for all of them.

        Raises ValueError for a name that is taken, TypeError for a fact that entries of this registry don't have.
        """
        known = self._facts_class(**facts)

        def register(function: Function) -> Function:
            if not self._is_own(function):
                self._fill()  # so that a name that is taken is found out at once
            for name in names:
                if name in self._entries and not replace:
                    holder = self._entries[name][0].__qualname__
                    raise ValueError(f"{self.what} {name!r} is registered already, by {holder}; pass replace=True to override it")
                self._entries[name] = function, known
            return function

        return register

    def _fill(self) -> None:
        """Imports the topic files once, so that their decorators run."""
        if not self.is_filled and self.topics is not None:
            self.is_filled = True
            for found in pkgutil.iter_modules(importlib.import_module(self.topics).__path__, f"{self.topics}."):
                importlib.import_module(found.name)

    def _is_own(self, function: Function) -> bool:
        return self.topics is not None and function.__module__.startswith(f"{self.topics}.")

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._entries

    def __getitem__(self, name: str) -> Function:
        self._fill()
        return self._entries[name][0]

    def facts(self, name: str) -> Facts:
        """What is known of a type that is registered; the defaults for one that isn't."""
        self._fill()
        return self._entries[name][1] if name in self._entries else self._facts_class()

    def is_built_in(self, name: str) -> bool:
        """Whether the entry is this package's own, not a user's."""
        return name in self and self._is_own(self._entries[name][0])

    def built_in(self, name: str) -> Facts | None:
        """What is known of a built-in entry; None for any other. Imports nothing: where no topic file is loaded yet, they are read."""
        if self.is_filled or name in self._entries:
            return self.facts(name) if self.is_built_in(name) else None
        stated = stated_facts(self.topics or "").get(name)
        return None if stated is None else self._facts_class(**stated)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(self._entries)

    def __len__(self) -> int:
        self._fill()
        return len(self._entries)

    def remove(self, name: str) -> None:
        """Takes an entry out again (for tests and notebooks that register twice)."""
        del self._entries[name]

    def summary(self, name: str) -> str:
        """First sentence of the function's docstring, for the support table."""
        paragraph = " ".join((inspect.getdoc(self[name]) or "").split("\n\n", 1)[0].split())
        return re.split(r"(?<=[.!]) (?=[A-Z])", paragraph, maxsplit=1)[0]


@functools.cache
def stated_facts(topics: str) -> dict[str, dict[str, Any]]:
    """The names that the topic files register and the facts that their decorators state as literals, from the files' text.

    Lowerings import what a graph needs; a look into a file of weights needs no graph, and has no second to spare.
    """
    spec = importlib.util.find_spec(topics)
    found: dict[str, dict[str, Any]] = {}
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        for file in sorted(Path(folder).glob("*.py")):
            for item in ast.parse(file.read_text(encoding="utf-8")).body:
                calls = item.decorator_list if isinstance(item, ast.FunctionDef) else [item.value] if isinstance(item, ast.Expr) else []
                for call in calls:
                    if isinstance(call, ast.Call):
                        names = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
                        facts = {word.arg: _literal(word.value) for word in call.keywords if word.arg not in (None, "replace")}
                        found |= {name: {k: v for k, v in facts.items() if v is not None} for name in names if isinstance(name, str)}
    return found


def _literal(node: ast.expr) -> Any:
    """The value of a literal; None for what only running would tell."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
