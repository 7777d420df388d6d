"""Weights in state_dict order with what is known of them, and what one does to their names: rename, unwrap, take a prefix off."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.errors import ConversionError, ConversionWarning, printable
from converters.tensors.tensor import Weight

WRAPPERS = ("DataParallel", "DistributedDataParallel", "DistributedDataParallelCPU", "OptimizedModule")
"""Classes of torch's own that hold another module and compute what it computes."""


@dataclass(frozen=True)
class ClassSource:
    """The source text of a class as a file carries it, for reading; it never runs."""

    cls: str
    file: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """Something that a file holds and that isn't among the weights: its path in the file, its type; for a tensor also dtype and shape."""

    path: str
    type: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass
class StateDict:
    """Weights in state_dict order, with what is known of where they come from.

    form: what the file is, in words ("zip checkpoint"). key: where in the file the weights sit. metadata: state_dict._metadata.
    classes: each module's path and class (empty where the file holds a bare dictionary). spectral_dims: the axis of a weight under
    torch's old spectral_norm, where the file says it. left_out: what else the file holds. unknown: what only the classes' code could
    say. suspicious: harmful calls that the file asks for; nothing of it ran. sources: the classes' source text.
    """

    tensors: dict[str, Weight] = field(default_factory=dict)
    form: str = ""
    key: str = ""
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    spectral_dims: dict[str, int] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    sources: list[ClassSource] = field(default_factory=list)


def rename(state: StateDict, names: Mapping[str, str], paths: Mapping[str, str | None]) -> None:
    """Gives tensors (names) and modules (paths; None: the level vanishes) new names, in place.

    Raises ConversionError where two would become one.
    """
    new: dict[str, str] = {}
    for name in state.tensors:
        goal = names.get(name, name)
        if goal in new:
            raise ConversionError(f"'{printable(new[goal])}' and '{printable(name)}' would both be called '{printable(goal)}'")
        new[goal] = name
    state.tensors = {names.get(name, name): tensor for name, tensor in state.tensors.items()}
    state.spectral_dims = {names.get(name, name): dim for name, dim in state.spectral_dims.items()}
    state.metadata = {new: state.metadata[path] for path, new in _moved(state.metadata, paths)}
    state.classes = {new: state.classes[path] for path, new in _moved(state.classes, paths)}


def _moved(known: Iterable[str], paths: Mapping[str, str | None]) -> list[tuple[str, str]]:
    pairs = [(path, paths.get(path, path)) for path in known]
    return [(path, new) for path, new in pairs if new is not None]


def unwrap(state: StateDict) -> None:
    """Takes wrappers' level away: by the wrapper's node where the file has modules, else by a leading `module.`."""
    if state.classes:
        wrappers = {}
        for path, name in state.classes.items():
            inner = "_orig_mod" if name.endswith(".OptimizedModule") else "module"
            if name.rpartition(".")[2] in WRAPPERS:
                wrappers[path] = f"{path}.{inner}" if path else inner
        if not wrappers:
            warnings.warn("there is no DataParallel or other wrapper to take away", ConversionWarning, stacklevel=3)
        names = {name: _shorten(name, wrappers) for name in (*state.tensors, *state.spectral_dims)}
        paths: dict[str, str | None] = {path: None if path in wrappers else _shorten(path, wrappers) for path in state.classes}
    else:
        names = {name: name.removeprefix("module.") for name in state.tensors}
        if all(name == goal for name, goal in names.items()):
            warnings.warn("no name begins with 'module.', so that there is no wrapper to take away", ConversionWarning, stacklevel=3)
            return
        paths = _without_prefix(state, "module.")
    rename(state, names, paths)


def _shorten(name: str, wrappers: Mapping[str, str]) -> str:
    """The name without the level below each wrapper, the innermost first."""
    for path, inner in sorted(wrappers.items(), key=lambda item: -len(item[0])):
        if name == inner:
            name = path
        elif name.startswith(inner + "."):
            name = f"{path}.{name[len(inner) + 1 :]}" if path else name[len(inner) + 1 :]
    return name


def _without_prefix(state: StateDict, prefix: str) -> dict[str, str | None]:
    """New paths of modules: those above the prefix vanish."""
    paths: dict[str, str | None] = {}
    for path in {**state.metadata, **state.classes}:
        if f"{path}.".startswith(prefix):
            paths[path] = f"{path}."[len(prefix) :].removesuffix(".")
        elif prefix.startswith(f"{path}.") or not path:
            paths[path] = None
    return paths


def strip_prefix(state: StateDict, prefix: str) -> None:
    """Takes a prefix off the names that have it, in place. Raises ConversionError where none has."""
    if not any(name.startswith(prefix) for name in state.tensors):
        first = next(iter(state.tensors), "")
        raise ConversionError(f"no name begins with '{printable(prefix)}'; the first is '{printable(first)}'")
    paths = _without_prefix(state, prefix) if prefix.endswith(".") else {}
    rename(state, {name: name.removeprefix(prefix) for name in (*state.tensors, *state.spectral_dims)}, paths)
