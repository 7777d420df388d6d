"""Which function lowers which source layer: a closed table that refuses double entries and documents itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


class Registry(Generic[Function]):
    """Maps a source type's exact spelling to the function that handles it.

    >>> lowers = Registry("Caffe layer")
    >>> @lowers("ReLU")
    ... def relu(g, layer, x):
    ...     "Rectified linear unit."
    >>> "ReLU" in lowers, lowers["ReLU"] is relu
    (True, True)

    Users register lowerings of their own with the same decorator; `replace=True` overrides one that is built in.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._functions: dict[str, Function] = {}

    def __call__(self, *names: str, replace: bool = False) -> Callable[[Function], Function]:
        """Decorator: registers a function under one or more exact source names. Raises ValueError for a name that is taken."""

        def register(function: Function) -> Function:
            for name in names:
                if name in self._functions and not replace:
                    holder = self._functions[name].__qualname__
                    raise ValueError(f"{self.what} {name!r} is registered already, by {holder}; pass replace=True to override it")
                self._functions[name] = function
            return function

        return register

    def __contains__(self, name: object) -> bool:
        return name in self._functions

    def __getitem__(self, name: str) -> Function:
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def remove(self, name: str) -> None:
        """Takes an entry out again (for tests and notebooks that register twice)."""
        del self._functions[name]

    def summary(self, name: str) -> str:
        """First sentence of the function's docstring, for the support table."""
        paragraph = " ".join((inspect.getdoc(self._functions[name]) or "").split("\n\n", 1)[0].split())
        return re.split(r"(?<=[.!]) (?=[A-Z])", paragraph, maxsplit=1)[0]


def import_topics(package: str) -> None:
    """Imports every module of a package of topic files, so that their decorators fill the registry; a new file is found by itself."""
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
        importlib.import_module(found.name)
