"""The weights of a .t7 by name, without its graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.errors import FormatError, about
from converters.files import StrPath
from converters.options import DEFAULTS, LoadOptions
from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import at_key, candidates_in, child_key, describe, find_model, inner_modules, is_module

Array = np.ndarray[Any, Any]

_ROLES = ("weight", "bias", "running_mean", "running_var", "running_std", "v", "g", "diagCov", "value", "mean", "std")
"""Fields that hold what a module has learnt or been given; all other tensors are buffers, gradients and outputs."""


def parameters(path: StrPath, options: LoadOptions = DEFAULTS) -> dict[str, Array]:
    """The parameters of a .t7 by name, as views of the mapped file in its own types: `4.0.1.weight` for a module in containers.

    A file without a module gives all tensors in its tables, by their keys. A BatchNormalization of version 1 gives the running_var
    that its running_std stands for. Raises ConversionError.
    """
    with about(path):
        root = t7.read(path)
        at = at_key(root, options.key) if options.key else root
        if not is_module(at):
            if not candidates_in(at):
                return _tensors(at)
            at = find_model(at, None)
    found: dict[str, Array] = {}
    for made, where in inner_modules(at):
        for role in _ROLES:
            value = made.get(role)
            if isinstance(value, t7.Tensor) and value.elements:
                name = f"{where}.{role}" if where else role
                if role == "running_std" and made.version < 2:
                    name, array = name.removesuffix("std") + "var", _variance(made, value)
                else:
                    array = value.array
                found[name] = array
    return found


def _variance(made: t7.TorchObject, inverse: t7.Tensor) -> Array:
    """running_var of the inverse deviation that version 1 stores. Source: nn/BatchNormalization.lua."""
    eps = made.get("eps")
    with np.errstate(divide="ignore"):
        variance: Array = inverse.array.astype(np.float64) ** -2 - (eps if isinstance(eps, float) else 1e-5)
    return variance.astype(inverse.dtype)


def _tensors(root: Any) -> dict[str, Array]:
    """All tensors in a table and the tables within it, by their keys."""
    found: dict[str, Array] = {}
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, t7.Tensor):
            found[where or "tensor"] = value.array
        elif isinstance(value, t7.Table) and id(value) not in seen and len(where) < 1000:
            seen.add(id(value))
            inside = [(label, item) for name, item in value.items() if (label := child_key(where, name)) is not None]
            waiting += reversed(inside)
    if not found:
        raise FormatError(f"there are no tensors in this file: it holds {describe(root)}")
    return found
