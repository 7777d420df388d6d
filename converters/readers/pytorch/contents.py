"""What lies inside a checkpoint's objects, by name: the parts of one, whether weights are below it, the tensors of all of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from converters.errors import ConversionError, FormatError
from converters.readers.pytorch.arrays import JAX_ARRAY, ArrayTensor
from converters.readers.pytorch.modules import children, is_module, own_tensors
from converters.readers.pytorch.pickles.stubs import Stub
from converters.readers.pytorch.storages import TypedStorage, as_weight
from converters.tensors.tensor import RebuiltTensor, Tensor, Weight

DEEP = 64  # levels below which nobody keeps weights
_PATHS = 1 << 26  # characters of all paths together

MAIN, OTHER, AVERAGE, ASIDE = range(4)
"""How near a part is to being the weights: by a usual name; by any other; an average of them; something else that has tensors in it."""

_USUAL = {"state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module"}
_AVERAGES = {"ema", "avg", "average", "averaged", "swa", "shadow", "polyak"}
_ASIDE = re.compile(
    r"opt|sched\w*|lr|scaler|callbacks?|criterion|loss(es)?|rng|amp|hparams?|hyper\w*|config|cfg|args|history|logs?|results?|records?|samples|meta|metrics?|extra|grads?|"
    r"stats|statistics|confusion"
)
_OPTIMIZER = re.compile(r"optim\w*")
_MOMENTS = re.compile(r"(max_)?exp_avg(_sq)?|exp_inf|square_avg|acc_delta|moments?|momentum(_buffers?)?|velocity|velocities")
_FIGURES = {"mean", "std", "var", "mu", "sigma", "step", "steps", "global_step", "epoch", "iter", "iteration", "iterations", "num_updates"}


def rank(name: str) -> int:
    """MAIN, OTHER, AVERAGE or ASIDE, by the name of a part."""
    words = set(re.split(r"[\W_]+", name.lower()))
    if is_optimizer_name(name) or (any(_ASIDE.fullmatch(word) for word in words) and name.lower() != "batch_stats"):
        return ASIDE
    if words & _AVERAGES:
        return AVERAGE
    return MAIN if name.lower() in _USUAL else OTHER


def is_optimizer_name(name: str) -> bool:
    """Whether a part is called as optimizers and their moments are."""
    words = re.split(r"[\W_]+", name.lower())
    return _MOMENTS.fullmatch(name.lower()) is not None or any(_OPTIMIZER.fullmatch(word) for word in words)


def is_figure(name: str, weight: Weight | None) -> bool:
    """Whether a tensor beside a network's dictionary is a counter, a figure or the images' mean, and no weight."""
    return (weight is not None and not weight.shape) or name.lower() in _FIGURES or rank(name) == ASIDE


def moments(weights: dict[str, Weight]) -> list[str]:
    """Names of tensors that are an optimizer's moments of the others: by their name and, where that could be a layer's, their shape."""
    split = {name: name.rpartition(".") for name in weights}
    plain = {(parent, weights[name].shape) for name, (parent, _, last) in split.items() if not _MOMENTS.fullmatch(last)}
    return [
        name
        for name, (parent, _, last) in split.items()
        if _MOMENTS.fullmatch(last) and (last.startswith(("exp_avg", "max_exp_avg")) or (parent, weights[name].shape) in plain)
    ]


def is_optimizer(value: Any) -> bool:
    """Whether a value is an optimizer, or its state_dict."""
    return "param_groups" in (value.attributes if isinstance(value, Stub) else ()) or "param_groups" in entries(value)


def entries(value: Any) -> dict[Any, Any]:
    """The entries of a dictionary, or of an object of a class derived from it; none for anything else."""
    if isinstance(value, dict):
        return value
    return value.entries or {} if isinstance(value, Stub) and not is_module(value) else {}


def is_wrapped(value: Any) -> bool:
    """A tensor in a form that isn't known: an object made of tensors or storages."""
    return isinstance(value, Stub) and any(isinstance(arg, TypedStorage) or as_weight(arg) is not None for arg in value.args[:16])


def parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """What a container or an object holds, by key (text, or whatever a dictionary has) or index."""
    if isinstance(value, Stub):
        module = is_module(value)
        for name, inner in value.attributes.items():
            if module and name in ("_parameters", "_buffers", "_modules") and isinstance(inner, dict):
                yield from inner.items()
            else:
                yield name, inner
        yield from (value.slots or {}).items()
        yield from (value.entries or {}).items()
        yield from enumerate(value.items or ())
        if isinstance(value.state, dict | list | tuple):
            yield from parts(value.state)
        elif isinstance(value.state, Stub):
            yield "state", value.state
        yield from ((i, arg) for i, arg in enumerate(value.args) if isinstance(arg, Stub | dict | list | tuple | Tensor | RebuiltTensor))
        yield from (value.kwargs or {}).items()
        if isinstance(value.data, Stub):
            yield "data", value.data
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)


def is_tree(value: Any, *, arrays_alone: bool) -> bool:
    """Whether a value is arrays alone, in dictionaries in dictionaries, as JAX's libraries keep a net: its parts belong together.

    arrays_alone: the file is numpy's own, whose arrays needn't be JAX's or called as the parameters of JAX's layers are.
    """
    pending, seen = [(value, 0)], {id(value)}
    deep, plain, layers = False, True, True
    while pending:
        node, depth = pending.pop()
        for key, inner in parts(node):
            if isinstance(key, str) and (rank(key) >= AVERAGE and key not in _PARAMETERS):
                return False
            weight = as_weight(inner)
            if isinstance(weight, ArrayTensor):
                deep = deep or depth > 0
                plain = plain and not (isinstance(inner, Stub) and inner.cls == JAX_ARRAY)
                layers = layers and key in _PARAMETERS
            elif weight is None and isinstance(inner, dict | list | tuple) and depth < DEEP and id(inner) not in seen:
                seen.add(id(inner))
                pending.append((inner, depth + 1))
            else:
                return False
    return deep and (arrays_alone or layers or not plain)


_PARAMETERS = frozenset("kernel bias scale embedding embeddings w b offset mean var average hidden counter pos_embedding cls".split())
"""What flax and haiku call the parameters and statistics of their layers."""


class Weighing:
    """Whether there are weights inside objects, and of which rank; each object is looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, int | None] = {}
        self._kept: list[Any] = []  # so that what was weighed keeps its identity

    def __call__(self, value: Any, depth: int = 0) -> int | None:
        """OTHER, AVERAGE or ASIDE for what is the best of the weights inside; None where there are none."""
        if as_weight(value) is not None or (is_wrapped(value) and not is_module(value)):
            return OTHER
        if not isinstance(value, dict | list | tuple | Stub) or depth > DEEP:
            return None
        if id(value) not in self._known:
            self._known[id(value)] = None  # until it is known: what contains itself adds nothing
            self._kept.append(value)
            self._known[id(value)] = self._weigh(value, depth)
        return self._known[id(value)]

    def _weigh(self, value: Any, depth: int) -> int | None:
        if is_module(value):
            return OTHER if _has_tensors(value) else None
        if is_optimizer(value):
            return None
        best: int | None = None
        for key, inner in parts(value):
            if isinstance(inner, str | int | float | None) or (isinstance(key, str) and is_optimizer_name(key.rpartition(".")[2])):
                continue
            found = self(inner, depth + 1)
            if found is not None:
                found = max(found, rank(key) if isinstance(key, str) else OTHER)
                best = found if best is None else min(best, found)
                if best <= OTHER:
                    return OTHER
        return best


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


def tensors_inside(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Weight]]:
    """Every tensor inside an object with its path, in the file's order. seen: objects that were listed before, which aren't again.

    Raises FormatError where the paths have no end.
    """
    pending: list[tuple[str, Any]] = [(path, value)]
    total = 0
    while pending:
        path, value = pending.pop()
        if not isinstance(value, _CONTAINERS) or id(value) in seen:
            continue
        seen.add(id(value))
        weight = as_weight(value)
        if weight is not None:
            yield path, weight
        if weight is None or isinstance(value, Stub):
            found = [(key, inner) for key, inner in parts(value) if isinstance(inner, _CONTAINERS) and inner is not weight]
            inside = [(f"{path}.{text(key)}", inner) for key, inner in found]
            total += sum(len(name) for name, _ in inside)
            if total > _PATHS:
                raise FormatError("its objects are nested so deeply that their names have no end: the file is broken or a bomb")
            pending.extend(reversed(inside))


_CONTAINERS = (dict, list, tuple, Stub, Tensor, RebuiltTensor)


def text(key: Any) -> str:
    """A part's key as --key takes it; of a key that has no text its type."""
    return str(key) if isinstance(key, str | int | float | None) else type(key).__name__
