"""Whether the arrays of a source layer fill the parameters and buffers that a module owns itself, and how."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]
UNTOUCHED = "num_batches_tracked"
"""A counter that old frameworks don't have, and that inference doesn't read."""
SYNONYMS = {"gamma": "weight", "scale": "weight", "slope": "weight", "alpha": "weight", "beta": "bias", "shift": "bias", "offset": "bias"}
"""Words of users' own classes for the roles of weights."""


@dataclass(frozen=True)
class Placed:
    """The array that a module's key gets: the source keys that it comes from (none for a value that is made), and what was done to it."""

    array: Array
    keys: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class Fit:
    """A layer's arrays on a module's own names; left: roles of the layer that the module has no place for."""

    placed: dict[str, Placed]
    left: frozenset[str]


def own_tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and persistent buffers that belong to the module itself, not to one inside it."""
    found: dict[str, torch.Tensor] = dict(module.named_parameters(recurse=False))
    kept = module._non_persistent_buffers_set
    found |= {name: buffer for name, buffer in module.named_buffers(recurse=False) if name not in kept and name != UNTOUCHED}
    return found


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of an argument or an answer."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def is_torchs_own(module: torch.nn.Module) -> bool:
    """Whether what the module's names mean, and what it computes, is known."""
    return type(module).__module__.startswith("torch.nn.modules.")


def fits(
    arrays: Mapping[str, tuple[tuple[str, ...], Array]],
    wanted: Mapping[str, torch.Tensor],
    *,
    transposed: bool,
    loose: bool = False,
    constants: Set[str] = frozenset(),
) -> list[Fit] | str:
    """The ways to place a layer's arrays, (keys, array) by role; or why it can't be.

    transposed: the layer multiplies by its weight from the right, so that a matrix is the transpose of torch's. loose: for classes of the
    user's own, whose names say little: a role may be known by its shape alone, and a square matrix may be either way round. constants:
    names that keep what they have where the layer has nothing for them.
    """
    first = _fit(arrays, wanted, transposed, loose, constants)
    square = [array for _, array in arrays.values() if array.ndim == 2 and array.shape[0] == array.shape[1]]
    if isinstance(first, str) or not loose or not square:
        return first if isinstance(first, str) else [first]
    second = _fit(arrays, wanted, not transposed, loose, constants, turned=True)
    return [first] if isinstance(second, str) else [first, second]


def _fit(
    arrays: Mapping[str, tuple[tuple[str, ...], Array]],
    wanted: Mapping[str, torch.Tensor],
    transposed: bool,
    loose: bool,
    constants: Set[str],
    *,
    turned: bool = False,
) -> Fit | str:
    placed: dict[str, Placed] = {}
    left = set(arrays)
    for name, tensor in wanted.items():
        shape = tuple(tensor.shape)
        role = _role_of(name, shape, arrays, left, wanted, loose)
        if role is None:
            if name in constants:
                continue
            neutral = {"bias": 0.0, "weight": 1.0}.get(SYNONYMS.get(name, name)) if name != "weight" or "running_mean" in arrays else None
            if neutral is None:
                return f"it has no {name}"
            placed[name] = Placed(np.full(shape, neutral, np.float32), (), f"filled with {neutral:g}; the file has none")
            continue
        keys, array = arrays[role]
        shaped = _shaped(array, shape, transposed)
        if shaped is None:
            return f"its {role} has shape {tuple(array.shape)}, not {shape}"
        left.discard(role)
        note = "" if shaped.shape == array.shape else f"{'x'.join(map(str, array.shape))} as {'x'.join(map(str, shape))}"
        placed[name] = Placed(shaped, keys, note or ("the other way round" if turned and array.ndim == 2 else ""))
    return Fit(placed, frozenset(role for role in left if not _neutral(role, arrays[role][1])))


def _role_of(
    name: str, shape: tuple[int, ...], arrays: Mapping[str, Any], left: Set[str], wanted: Mapping[str, torch.Tensor], loose: bool
) -> str | None:
    """The layer's word for a module's own."""
    for role in (name, SYNONYMS.get(name, name), *(other for other in left if _names_once(other, name))):
        if role in arrays:
            return role
    if not loose:
        return None
    taken = {SYNONYMS.get(other, other) for other in wanted}
    alike = [role for role in left - taken if _shaped(arrays[role][1], shape, False) is not None or arrays[role][1].shape[::-1] == shape]
    return alike[0] if len(alike) == 1 else None


def _names_once(role: str, name: str) -> bool:
    """torch's recurrent cells and layers: `weight_ih` and `weight_ih_l0`."""
    return name.startswith(f"{role}_l0") or role.startswith(f"{name}_l0")


def _neutral(role: str, array: Array) -> bool:
    """Whether a role that a module lacks changes nothing: a bias of zeros."""
    return role == "bias" and not np.any(array)


def _shaped(array: Array, shape: tuple[int, ...], transposed: bool) -> Array | None:
    if transposed and array.ndim == 2 and (found := _reshaped(np.ascontiguousarray(array.T), shape)) is not None:
        return found
    return _reshaped(array, shape)


def _reshaped(array: Array, shape: tuple[int, ...]) -> Array | None:
    if array.shape == shape:
        return array
    if array.size != math.prod(shape):
        return None
    same = [n for n in array.shape if n != 1] == [n for n in shape if n != 1]
    flat = bool(shape) and array.ndim > 0 and array.shape[0] == shape[0] and 2 in (array.ndim, len(shape))
    return array.reshape(shape) if same or flat else None
