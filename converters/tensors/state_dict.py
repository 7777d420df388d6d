"""Weights in state_dict order with what is known of them, and what one does to their names: rename, unwrap, take a prefix off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from converters.errors import ConversionError, printable, warn
from converters.tensors.tensor import Weight

WRAPPERS = {
    **dict.fromkeys(("DataParallel", "DistributedDataParallel", "DistributedDataParallelCPU"), "module"),
    "OptimizedModule": "_orig_mod",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module",
}
"""Classes of torch's own that hold another module and compute what it computes, and what they call it."""
_WRAPPED = frozenset(WRAPPERS.values())


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


def grouped(left_out: Sequence[LeftOut]) -> list[str]:
    """What was left out in a few words: tensors of one type by the path that all of a top-level entry's have in common.

    TensorFlow's, whose scopes are divided by slashes, by what each is within its scope: `*/Momentum`.
    """
    groups: dict[tuple[str, str], list[list[str]]] = {}
    for entry in left_out:
        parts = entry.path.split(".")
        if "/" in entry.path and entry.shape is not None:
            last = entry.path.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").rpartition("/")[2]
            groups.setdefault((f"*/{last}", "tensor"), []).append([f"*/{last}"])
        elif entry.shape is None:
            groups[entry.path, ""] = []
        else:
            groups.setdefault((parts[0], entry.type), []).append(parts)
    words = []
    for (first, kind), paths in groups.items():
        shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))
        words.append(printable(".".join(parts[0] for parts in shared) or first) + (f": {len(paths)} {kind}s" if len(paths) > 1 else ""))
    return words


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


def unwrap(state: StateDict) -> list[str]:
    """Takes wrappers' levels away, wherever they stand and however often; answers the paths of those levels, in the names they had.

    Where the file has modules their classes tell which are wrappers, else the wrappers' own words do: `module.`, `_orig_mod.`,
    `_fsdp_wrapped_module.`, `_checkpoint_wrapped_module.`. Raises ConversionError where two names would become one.
    """
    levels = _wrapper_levels(state)
    taken: dict[str, None] = {}

    def shorten(name: str) -> str:
        parts = name.split(".")
        kept = []
        for i, part in enumerate(parts):
            path = ".".join(parts[: i + 1])
            if path in levels:
                taken.setdefault(path)
            else:
                kept.append(part)
        return ".".join(kept)

    names = {name: shorten(name) for name in (*state.tensors, *state.spectral_dims)}
    wrappers = {level.rpartition(".")[0] for level in levels}
    paths: dict[str, str | None] = {path: None if path in wrappers else shorten(path) for path in {**state.metadata, **state.classes}}
    if not taken:
        warn("there is no wrapper to take away: no DataParallel, no name with 'module.' or '_orig_mod.' in it")
    rename(state, names, paths)
    return list(taken)


def _wrapper_levels(state: StateDict) -> set[str]:
    """The paths that wrappers give to what they hold: by class where the file has modules, else by their words."""
    if state.classes:
        found = set()
        for path, cls in state.classes.items():
            name = cls.rpartition(".")[2]
            if name in WRAPPERS:
                found.add(f"{path}.{WRAPPERS[name]}" if path else WRAPPERS[name])
        return found
    parents = [name.rpartition(".")[0].split(".") for name in state.tensors]
    return {".".join(parts[: i + 1]) for parts in parents for i, part in enumerate(parts) if part in _WRAPPED}


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
    """Takes a prefix off the names that have it, in place; the dot after a module's whole name is part of it, given or not.

    Raises ConversionError where no name begins with it, or where one would be empty.
    """
    if not prefix.endswith(".") and any(name.startswith(f"{prefix}.") for name in state.tensors):
        prefix = f"{prefix}."
    if not any(name.startswith(prefix) for name in state.tensors):
        first = next(iter(state.tensors), "")
        raise ConversionError(f"no name begins with '{printable(prefix)}'; the first is '{printable(first)}'")
    if prefix in state.tensors:
        raise ConversionError(f"without the prefix '{printable(prefix)}' the tensor of that name would have none")
    paths = _without_prefix(state, prefix) if prefix.endswith(".") else {}
    rename(state, {name: name.removeprefix(prefix) for name in (*state.tensors, *state.spectral_dims)}, paths)


TORCH_WORDS = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
    "running_mean": "running_mean",
    "running_var": "running_var",
    "weight": "weight",
    "bias": "bias",
}
"""The words that other frameworks' names of parameters end in, and torch's for them."""
_GATED = ("i2h", "h2h", "i2r", "h2r")
"""Parts of recurrent layers: what their names have before the word belongs to it."""


def torch_names(state: StateDict) -> None:
    """Gives weights the names that torch's modules would: `bn0_gamma` and `1.gamma` become `bn0.weight` and `1.weight`, in place.

    What ends in none of the words, and the weights of recurrent layers, keep their names. Raises ConversionError where two would have one.
    """
    names: dict[str, str] = {}
    for name in (*state.tensors, *state.spectral_dims):
        path, dot, last = name.rpartition(".")
        word = next((word for word in TORCH_WORDS if last == word or last.endswith(f"_{word}")), None)
        if word is None or last.removesuffix(f"_{word}").endswith(_GATED):
            names[name] = name
        elif last == word:
            names[name] = f"{path}{dot}{TORCH_WORDS[word]}"
        else:
            names[name] = f"{path}{dot}{last.removesuffix('_' + word)}.{TORCH_WORDS[word]}"
    rename(state, names, {})


def prefix_hint(state: StateDict) -> str:
    """What to do about a wrapper's word in the names, or a prefix that all of them have; "" where there is neither."""
    levels = sorted(_wrapper_levels(state), key=len)
    names = list(state.tensors)
    if levels:
        shown = printable(levels[0])
        every = all(name.startswith(f"{levels[0]}.") for name in names)
        return f"{'every name begins' if every else 'names begin'} with '{shown}.', a wrapper's; --unwrap takes it away"
    first = names[0].split(".")[0] + "." if names else ""
    inner = [name[len(first) :] for name in names]
    if len(names) > 1 and all(name.startswith(first) for name in names) and any("." in name for name in inner):
        return f"every name begins with '{printable(first)}'; --strip-prefix {printable(first)} takes it off"
    return ""
