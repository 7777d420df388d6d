"""Weights without a graph: by names, order and shapes, where these leave one answer; else what is ambiguous is said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from converters.errors import ConversionError, UnsupportedError
from converters.matching.fitting import UNTOUCHED, Placed
from converters.tensors.tensor import Tensor, Weight

_NORMED = re.compile(r"parametrizations\.(\w+)\.original([01])")
_OWN = {"0": "g", "1": "v"}


def match_names(weights: Mapping[str, Weight], module: torch.nn.Module) -> dict[str, Placed]:
    """What each key of the module takes. Raises ConversionError for a class of other layers, UnsupportedError for what is ambiguous."""
    own = {name: t for name, t in module.state_dict(keep_vars=True).items() if isinstance(t, torch.Tensor) and not name.endswith(UNTOUCHED)}
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items()}
    given = {name: tuple(weight.shape) for name, weight in weights.items() if not name.endswith(UNTOUCHED)}
    short = _without_prefix(given)
    if set(short) == {_plain(name) for name in wanted} and all(given[short[_plain(name)]] == shape for name, shape in wanted.items()):
        pairs = {name: short[_plain(name)] for name in wanted}
    else:
        pairs = _by_modules(wanted, given)
    placed = {name: Placed(_array(weights[key]), (key,)) for name, key in pairs.items()}
    firsts: dict[int, str] = {}
    for name, tensor in own.items():
        first = firsts.setdefault(id(tensor), name)
        if not np.array_equal(placed[first].array, placed[name].array, equal_nan=True):
            raise ConversionError(f"{first} and {name} are one tensor in your class, and two of different numbers in the file")
    return placed


def _array(weight: Weight) -> Any:
    if not isinstance(weight, Tensor):
        raise UnsupportedError("a sparse or nested tensor has no place in a module that is matched")
    return weight.numpy()


def _without_prefix(given: Mapping[str, Any]) -> dict[str, str]:
    """Keys without DataParallel's `module.`, in plain names, to the keys themselves."""
    prefix = "module." if given and all(name.startswith("module.") for name in given) else ""
    return {_plain(name.removeprefix(prefix)): name for name in given}


def _plain(name: str) -> str:
    """torch's parametrized names as the old ones: `parametrizations.weight.original0` is `weight_g`."""
    return _NORMED.sub(lambda found: f"{found[1]}_{_OWN[found[2]]}", name)


def _modules(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, tuple[str, tuple[int, ...]]]]:
    """Module path -> role -> (key, shape); a recurrent layer's roles are those of its cell."""
    found: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for name, shape in shapes.items():
        path, _, role = _plain(name).rpartition(".")
        found.setdefault(path, {})[role.removesuffix("_l0")] = (name, shape)
    return found


def _by_modules(wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Modules whose roles and shapes exist once on both sides are each other's."""
    ours, theirs = _modules(wanted), _modules(given)
    pairs: dict[str, str] = {}
    for path, roles in ours.items():
        signature = {role: shape for role, (_, shape) in roles.items()}
        same = [other for other in theirs if {r: shape for r, (_, shape) in theirs[other].items()} == signature]
        rivals = [other for other in ours if {r: shape for r, (_, shape) in ours[other].items()} == signature]
        if not same:
            has = ", ".join(f"{role} {'x'.join(map(str, shape))}" for role, shape in signature.items())
            raise ConversionError(f"'{path}' of your class ({has}) is like no layer of the file, which has {', '.join(list(theirs)[:8])}")
        if len(same) > 1 or len(rivals) > 1:
            raise UnsupportedError(
                f"{', '.join(rivals[:8])} of your class and {', '.join(same[:8])} of the file have the same shapes: "
                "without a graph nothing says which is which",
                hint="give the model itself, or rename the keys",
            )
        pairs |= {roles[role][0]: theirs[same[0]][role][0] for role in roles}
    if left := [name for name in given if name not in pairs.values()]:
        raise ConversionError(f"your class has no place for {', '.join(left[:8])}")
    return pairs
