"""Which part of a checkpoint is the weights: by what it is, then by its usual names; a question where several would do."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError, printable
from converters.pytorch.archive import Checkpoint
from converters.pytorch.modules import StateDict, holds_tensors, is_module, key_text, mapping_state, module_state, own_tensors
from converters.pytorch.tensors import as_weight
from converters.pytorch.unpickle import Stub

_LOOKED_AT = 20_000  # objects of a checkpoint that are searched for weights
_DEEP = 5
_SHOWN = 20

_USUAL = {"state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module"}
_AVERAGED = {"ema", "avg", "average", "averaged", "swa", "shadow"}
_OTHER = re.compile(
    r"optim\w*|sched\w*|lr|scaler|callbacks?|criterion|loss(es)?|rng|amp|hparams?|hyper\w*|config|cfg|args|history|meta|metrics?|extra|grads?|"
    r"momentum|stats|statistics|confusion"
)


@dataclass(frozen=True)
class Candidate:
    """A place in a checkpoint where weights are: its path, as --key takes it."""

    path: tuple[str, ...]
    value: Any
    rank: int

    @property
    def key(self) -> str:
        return ".".join(self.path)


def select(checkpoint: Checkpoint, key: str | None = None) -> tuple[StateDict, str, list[str]]:
    """The weights of a checkpoint, the key they sit under, and the names of what else is in it.

    Raises ConversionError where there are none, where the key isn't there, or where several would do and none was named.
    """
    root = checkpoint.root if key is None else resolve(checkpoint.root, key)
    state = _state(root, checkpoint)
    if state is not None:
        return state, key or "", _beside(checkpoint.root, key)
    candidates = list(_candidates(root))
    if not candidates:
        raise ConversionError(_nothing(root))
    best = min(candidate.rank for candidate in candidates)
    chosen = [candidate for candidate in candidates if candidate.rank == best]
    shallow = min(len(candidate.path) for candidate in chosen)
    chosen = [candidate for candidate in chosen if len(candidate.path) == shallow]
    # A usual name doesn't outweigh a second network that stands beside it.
    rivals = [
        candidate
        for candidate in candidates
        if candidate.rank == 1 and len(candidate.path) <= shallow and best == 0 and _is_large(candidate)
    ]
    if len({id(candidate.value) for candidate in [*chosen, *rivals]}) > 1:
        listed = sorted({candidate.key: candidate for candidate in candidates}.values(), key=lambda candidate: candidate.rank)
        raise ConversionError(_ambiguous(listed, key))
    picked = chosen[0]
    state = _state(picked.value, checkpoint)
    if state is None:
        raise ConversionError(_nothing(picked.value))
    full = picked.key if key is None else f"{key}.{picked.key}"
    return state, full, _beside(root, picked.path[0])


def _is_large(candidate: Candidate) -> bool:
    return is_module(candidate.value) or len(candidate.value) > 1


def _state(value: Any, checkpoint: Checkpoint) -> StateDict | None:
    """The weights that a value itself is: a module, a dictionary or list of tensors, a tensor."""
    if is_module(value):
        state = module_state(value, checkpoint.script)
        if not state.tensors:
            raise ConversionError(
                f"the model ({printable(value.class_name)}) has no parameters and no buffers: there are no weights to write"
            )
        return state
    weight = as_weight(value)
    if weight is not None:
        return mapping_state({"tensor": value})
    if isinstance(value, dict):
        return mapping_state(value) if _is_weights(value) else None
    if isinstance(value, list | tuple) and any(as_weight(item) is not None for item in value) and not _holds_networks(value):
        return mapping_state({str(i): item for i, item in enumerate(value)})
    return None


def _is_weights(mapping: dict[Any, Any]) -> bool:
    """A dictionary with tensors of its own and no networks beside them."""
    if _is_optimizer(mapping) or not any(as_weight(value) is not None or _is_wrapped(value) for value in mapping.values()):
        return False
    return not _holds_networks(list(mapping.values()))


def _is_wrapped(value: Any) -> bool:
    return isinstance(value, Stub) and not is_module(value) and bool(value.args) and not value.attributes and holds_tensors(value.args)


def _holds_networks(values: list[Any] | tuple[Any, ...]) -> bool:
    return any(is_module(value) or (isinstance(value, dict) and _tensors(value) > 1) for value in values)


def _tensors(mapping: dict[Any, Any]) -> int:
    return sum(as_weight(value) is not None for value in mapping.values())


def _is_optimizer(mapping: dict[Any, Any]) -> bool:
    return "param_groups" in mapping


def _candidates(root: Any) -> Iterator[Candidate]:
    """Modules and dictionaries of tensors inside an object, nearest first, each once."""
    pending: deque[tuple[tuple[str, ...], Any]] = deque([((), root)])
    seen = {id(root)}
    looked = 0
    while pending and looked < _LOOKED_AT:
        path, value = pending.popleft()
        looked += 1
        if path and _counts(value):
            yield Candidate(path, value, _rank(path))
            continue
        if len(path) >= _DEEP:
            continue
        for name, inner in _inside(value):
            if id(inner) not in seen and isinstance(inner, dict | list | tuple | Stub):
                seen.add(id(inner))
                pending.append(((*path, name), inner))


def _counts(value: Any) -> bool:
    """Whether a value is a set of weights that could be meant."""
    if is_module(value):
        return _has_tensors(value)
    return isinstance(value, dict) and _is_weights(value)


def _has_tensors(module: Stub) -> bool:
    """Whether a module or one of those in it has a tensor; broken ones count, so that they are reported when chosen."""
    pending, seen = [module], {id(module)}
    while pending:
        current = pending.pop()
        try:
            if next(iter(own_tensors(current)), None) is not None:
                return True
        except ConversionError:
            return True
        tables = (current.attributes.get("_modules"), current.attributes)
        for child in (child for table in tables if isinstance(table, dict) for child in table.values()):
            if is_module(child) and id(child) not in seen:
                seen.add(id(child))
                pending.append(child)
    return False


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Stub):
        if is_module(value) or "param_groups" in value.attributes:
            return
        yield from ((str(name), inner) for name, inner in value.attributes.items() if isinstance(name, str))
        yield from ((str(i), inner) for i, inner in enumerate(value.args) if isinstance(inner, Stub))
        if value.entries:
            yield from _inside(value.entries)
    elif isinstance(value, dict):
        if not _is_optimizer(value):
            yield from ((str(name), inner) for name, inner in value.items() if isinstance(name, str | int))
    elif isinstance(value, list | tuple):
        yield from ((str(i), inner) for i, inner in enumerate(value[:1000]))


def _rank(path: tuple[str, ...]) -> int:
    """0: a usual name for the weights; 1: any other; 2: an average of them; 3: something that only has tensors in it."""
    words = {word for name in path for word in re.split(r"[\W_]+", name.lower())}
    if any(_OTHER.fullmatch(word) for word in words):
        return 3
    if words & _AVERAGED:
        return 2
    return 0 if path[-1].lower() in _USUAL else 1


def _beside(root: Any, key: str | None) -> list[str]:
    """What else a checkpoint holds beside the weights: its entries' names."""
    first = (key or "").split(".")[0]
    if key is None or not isinstance(root, dict) or first not in root:
        return []
    return [printable(name, 60) for name in root if name != first][:50]


# -- --key


def resolve(root: Any, key: str) -> Any:
    """The value at a dotted path: dictionary keys (which may hold dots), list indices, attributes, submodules.

    Raises ConversionError that lists what there is.
    """
    parts = key.split(".")
    value, at = root, 0
    while at < len(parts):
        for end in range(len(parts), at, -1):
            found = _step(value, ".".join(parts[at:end]))
            if found is not None:
                value, at = found[0], end
                break
        else:
            there = ", ".join(printable(name, 60) for name in _names(value)[:_SHOWN]) or "nothing that has a name"
            where = f" in '{printable('.'.join(parts[:at]))}'" if at else ""
            raise ConversionError(f"there is no '{printable('.'.join(parts[at:]))}'{where}; there is: {there}")
    return value


def _step(value: Any, name: str) -> tuple[Any] | None:
    if isinstance(value, Stub):
        for table in (value.attributes, value.attributes.get("_modules"), value.attributes.get("_parameters"), value.entries):
            if isinstance(table, dict) and name in table:
                return (table[name],)
        value = value.args if value.items is None else value.items
    if isinstance(value, dict):
        if name in value:
            return (value[name],)
        if name.isdecimal() and len(name) < 18 and int(name) in value:
            return (value[int(name)],)
    if isinstance(value, list | tuple) and name.isdecimal() and len(name) < 18 and int(name) < len(value):
        return (value[int(name)],)
    return None


def _names(value: Any) -> list[str]:
    if isinstance(value, Stub):
        modules = value.attributes.get("_modules")
        return [str(name) for name in (modules if isinstance(modules, dict) and modules else value.attributes)]
    if isinstance(value, dict):
        return [key_text(name) for name in value if isinstance(name, str | int)]
    if isinstance(value, list | tuple):
        return [str(i) for i in range(len(value))]
    return []


# -- messages


def _ambiguous(candidates: list[Candidate], key: str | None) -> str:
    prefix = f"{key}." if key else ""
    lines = [f"  --key {printable(prefix + candidate.key)}   ({_words(candidate.value)})" for candidate in candidates[:_SHOWN]]
    if len(candidates) > _SHOWN:
        lines.append(f"  ... and {len(candidates) - _SHOWN} more")
    return "holds several sets of weights; choose one:\n" + "\n".join(lines)


def _words(value: Any) -> str:
    if is_module(value):
        return printable(value.class_name)
    total = _tensors(value)
    return f"{total} tensor{'s' if total != 1 else ''}"


def _nothing(root: Any) -> str:
    what = root.class_name if isinstance(root, Stub) else type(root).__name__
    names = ", ".join(printable(name, 40) for name in _names(root)[:10])
    return f"there are no weights in it: it holds a {printable(what)}" + (f" with {names}" if names else "")
