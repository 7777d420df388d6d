"""Which part of a checkpoint is the weights: by what it is, then by its usual names; a question where several would do."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from converters.errors import ConversionError, printable
from converters.readers.pytorch.archives.archive import Checkpoint
from converters.readers.pytorch.modules import children, is_module, key_text, mapping_state, module_state, own_tensors
from converters.readers.pytorch.pickles.stubs import Stub
from converters.readers.pytorch.tensors import TypedStorage, as_weight
from converters.tensors.state_dict import LeftOut, StateDict
from converters.tensors.tensor import Tensor

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


def select(checkpoint: Checkpoint, key: str | None = None) -> StateDict:
    """The weights of a checkpoint, with the key they sit under and what else is in it.

    Raises ConversionError where there are none, where the key isn't there, or where several would do and none was named.
    """
    root = checkpoint.root if key is None else resolve(checkpoint.root, key)
    search = _Search()
    state = _state(root, checkpoint, search)
    if state is not None:
        state.key, beside = key or "", _beside(checkpoint.root, key)
    else:
        state, picked = _choose(root, checkpoint, search, key)
        state.key, beside = picked.key if key is None else f"{key}.{picked.key}", _beside(root, picked.path[0])
    state.left_out = {**beside, **state.left_out}
    state.form = _FORMS.get(checkpoint.form, f"{checkpoint.form} checkpoint")
    state.called, state.sources = checkpoint.called, checkpoint.sources
    return state


_FORMS = {"TorchScript": "TorchScript archive", "torch.package": "torch.package archive", "pickle": "plain pickle"}


def _choose(root: Any, checkpoint: Checkpoint, search: _Search, key: str | None) -> tuple[StateDict, Candidate]:
    """The one set of weights inside an object."""
    candidates = list(search.candidates(root))
    if not candidates:
        raise ConversionError(_nothing(root))
    best = min(candidate.rank for candidate in candidates)
    chosen = [candidate for candidate in candidates if candidate.rank == best]
    shallow = min(len(candidate.path) for candidate in chosen)
    chosen = [candidate for candidate in chosen if len(candidate.path) == shallow]
    if best == 0:  # a usual name doesn't outweigh a second network that stands beside it
        chosen += [other for other in candidates if other.rank == 1 and len(other.path) <= shallow and _is_large(other)]
    states = [_state(candidate.value, checkpoint, search) for candidate in chosen[:_SHOWN]]
    if any(state is None or not _same(state, states[0]) for state in states):
        raise ConversionError(_ambiguous(sorted(candidates, key=lambda candidate: candidate.rank), key))
    if states[0] is None:
        raise ConversionError(_nothing(chosen[0].value))
    return states[0], chosen[0]


def _same(state: StateDict, other: StateDict | None) -> bool:
    """Whether two candidates are the same weights, as a model and its own state_dict are."""
    return other is not None and list(state.tensors) == list(other.tensors) and _places(state) == _places(other)


def _places(state: StateDict) -> list[Any]:
    return [weight.place if isinstance(weight, Tensor) else id(weight) for weight in state.tensors.values()]


def _is_large(candidate: Candidate) -> bool:
    return is_module(candidate.value) or len(_entries(candidate.value)) > 1


def _entries(value: Any) -> dict[Any, Any]:
    """The entries of a dictionary, or of an object of a class derived from it; none for anything else."""
    if isinstance(value, dict):
        return value
    return value.entries or {} if isinstance(value, Stub) and not is_module(value) else {}


def _state(value: Any, checkpoint: Checkpoint, search: _Search) -> StateDict | None:
    """The weights that a value itself is: a module, a dictionary or list of tensors, a tensor."""
    if is_module(value):
        state = module_state(value, checkpoint.script)
        if not state.tensors:
            name = printable(value.class_name)
            raise ConversionError(f"the model ({name}) has no parameters and no buffers: there are no weights to write")
        return state
    weight = as_weight(value)
    if weight is not None:
        return mapping_state({"tensor": value})
    if search.is_weights(_entries(value)):
        return mapping_state(value if isinstance(value, dict) else _entries(value))
    if isinstance(value, list | tuple) and any(as_weight(item) is not None for item in value) and not search.holds_networks(value):
        return mapping_state({str(i): item for i, item in enumerate(value)})
    return None


def _is_wrapped(value: Any) -> bool:
    """A tensor in a form that isn't known: an object made of tensors or storages."""
    return isinstance(value, Stub) and any(isinstance(arg, TypedStorage) or as_weight(arg) is not None for arg in value.args[:16])


class _Search:
    """Looks for modules and dictionaries of tensors inside an object; each dictionary is counted once."""

    def __init__(self) -> None:
        self._counted: dict[int, int] = {}
        self._kept: list[Any] = []  # so that what was counted keeps its identity

    def tensors(self, mapping: dict[Any, Any]) -> int:
        known = self._counted.get(id(mapping))
        if known is None:
            known = self._counted[id(mapping)] = sum(as_weight(value) is not None or _is_wrapped(value) for value in mapping.values())
            self._kept.append(mapping)
        return known

    def holds_networks(self, values: Iterable[Any]) -> bool:
        return any(is_module(value) or self.tensors(_entries(value)) > 1 for value in values if isinstance(value, dict | Stub))

    def is_weights(self, mapping: dict[Any, Any]) -> bool:
        """A dictionary with tensors of its own and no networks beside them."""
        return "param_groups" not in mapping and self.tensors(mapping) > 0 and not self.holds_networks(mapping.values())

    def candidates(self, root: Any) -> Iterator[Candidate]:
        """Modules and dictionaries of tensors inside an object, nearest first, each once."""
        pending: deque[tuple[tuple[str, ...], Any]] = deque([((), root)])
        seen = {id(root)}
        looked = 0
        while pending and looked < _LOOKED_AT:
            path, value = pending.popleft()
            looked += 1
            if path and (_has_tensors(value) if is_module(value) else self.is_weights(_entries(value))):
                yield Candidate(path, value, _rank(path))
                continue
            if len(path) >= _DEEP:
                continue
            for name, inner in _inside(value):
                if id(inner) not in seen and isinstance(inner, dict | list | tuple | Stub):
                    seen.add(id(inner))
                    pending.append(((*path, name), inner))


def _has_tensors(module: Stub) -> bool:
    """Whether a module or one of those in it has a tensor; broken ones count, so that they are reported when chosen."""
    pending, seen = [module], {id(module)}
    while pending:
        current = pending.pop()
        try:
            if next(iter(own_tensors(current)), None) is not None:
                return True
            inner = children(current)
        except ConversionError:
            return True
        for child in inner.values():
            if id(child) not in seen:
                seen.add(id(child))
                pending.append(child)
    return False


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Stub):
        if is_module(value) or "param_groups" in value.attributes:
            return
        yield from ((str(name), inner) for name, inner in value.attributes.items() if isinstance(name, str))
        yield from ((str(i), inner) for i, inner in enumerate(value.args[:100]) if isinstance(inner, Stub))
        yield from ((str(i), inner) for i, inner in enumerate((value.items or [])[:1000]))
        yield from ((str(name), inner) for name, inner in (value.slots or {}).items() if isinstance(name, str))
        if isinstance(value.state, dict | list | tuple):
            yield from _inside(value.state)
    if isinstance(value, dict | Stub) and "param_groups" not in _entries(value):
        yield from ((str(name), inner) for name, inner in _entries(value).items() if isinstance(name, str | int))
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


def _beside(root: Any, key: str | None) -> dict[str, LeftOut]:
    """What else a checkpoint holds beside the weights: its entries' names."""
    first = (key or "").split(".")[0]
    entries = _entries(root)
    if key is None or first not in entries:
        return {}
    others = {str(name) if isinstance(name, str | int) else type(name).__name__: entry for name, entry in entries.items() if name != first}
    return {name: LeftOut(type(entry).__name__) for name, entry in others.items()}


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
        for table in (value.attributes, value.attributes.get("_modules"), value.attributes.get("_parameters"), value.entries, value.slots):
            if isinstance(table, dict) and name in table:
                return (table[name],)
        value = value.state if isinstance(value.state, list | tuple) else value.args if value.items is None else value.items
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
    total = _Search().tensors(_entries(value))
    return f"{total} tensor{'s' if total != 1 else ''}"


def _nothing(root: Any) -> str:
    what = root.class_name if isinstance(root, Stub) else type(root).__name__
    names = ", ".join(printable(name, 40) for name in _names(root)[:10])
    return f"there are no weights in it: it holds a {printable(what)}" + (f" with {names}" if names else "")
