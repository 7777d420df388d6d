"""What is in a .t7 without running it: where the model sits, its modules, its parameters by name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.errors import ConversionError, FormatError, printable
from converters.files import StrPath
from converters.options import DEFAULTS, LoadOptions
from converters.readers.torch7 import t7

_CHILDREN = ("module", "network", "pooling", "normalizer", "meanestimator", "stdestimator", "converter")
"""Fields in which modules keep a module, besides the table `modules`."""

_NOT_MODELS = ("Criterion", "Tensor", "Storage", "Optim", "Logger", "Node", "Graph", "Edge", "DataLoader")


def is_module(value: Any) -> bool:
    """Whether an object may be a model: an instance of a class that is neither a criterion nor plain data."""
    return (
        isinstance(value, t7.TorchObject)
        and isinstance(value.payload, t7.Table)
        and not value.typename.startswith(("torch.", "tds.", "graph."))
        and not value.typename.endswith(_NOT_MODELS)
    )


def describe(value: Any) -> str:
    """One value for a message."""
    if isinstance(value, t7.TorchObject):
        return f"an object of class {printable(value.typename, 60)}"
    if isinstance(value, t7.Table):
        keys = [str(int(k)) if isinstance(k, float) and k == k // 1 else str(k) for k, _ in value.items() if isinstance(k, str | float)][
            :12
        ]
        return f"a table with {len(value)} entries" + (f": {printable(', '.join(keys), 200)}" if keys else "")
    if isinstance(value, t7.Tensor):
        return f"a {value.typename} of size {'x'.join(map(str, value.size)) or 'empty'}"
    if isinstance(value, t7.Function):
        return "a Lua function (bytecode, which is never run here)"
    return {type(None): "nil", bool: "a boolean", float: "a number", str: "a string"}.get(type(value), "a storage")


def at_key(root: Any, file: str, key: str) -> Any:
    """What lies at `key`: names and [positions] joined by dots, "model", "protos.rnn", "model.modules[1]"."""
    value, seen = root, ""
    for name, bracket in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", key):
        step: Any = name
        if bracket or not name:
            step = float(bracket) if re.fullmatch(r"-?\d+(\.\d+)?", bracket) else bracket.strip("'\"")
        table = value.payload if isinstance(value, t7.TorchObject) else value
        if isinstance(table, t7.Table) and step not in table and isinstance(step, str) and step.isdigit():
            step = float(step)
        if not isinstance(table, t7.Table) or step not in table:
            raise ConversionError(
                f"{file}: key {printable(key)!r}: {describe(value)}{seen and f' at {printable(seen)!r}'} has no entry {printable(step)!r}"
            )
        value = table[step]
        seen += f"[{bracket}]" if bracket else f".{name}" if seen else name
    return value


def find_model(root: Any, file: str, key: str | None) -> t7.TorchObject:
    """The model of a file: the object itself, the one at `key`, or the only module in a checkpoint table.

    Raises ConversionError that says what is there instead.
    """
    if key:
        found = at_key(root, file, key)
        candidates = _candidates(found)
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        if not is_module(found):
            raise ConversionError(f"{file}: there is no module at key {printable(key)!r}, but {describe(found)}")
        return found  # type: ignore[no-any-return]
    if is_module(root):
        return root  # type: ignore[no-any-return]
    candidates = _candidates(root)
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if candidates:
        shown = ", ".join(f"{name!r} ({printable(made.typename, 40)})" for name, made in list(candidates.items())[:20])
        raise ConversionError(f"{file}: several modules are in this file: {printable(shown, 1000)}; say which with --key (key=)")
    raise FormatError(f"{file}: there is no module in this file: it holds {describe(root)}")


def _candidates(root: Any) -> dict[str, t7.TorchObject]:
    """Modules in a table, or in tables within it (two levels deep), by key; one object is found once."""
    found: dict[str, t7.TorchObject] = {}
    seen: set[int] = set()
    level: list[tuple[str, Any]] = [("", root)]
    for _ in range(3):
        following: list[tuple[str, Any]] = []
        for where, table in level:
            if not isinstance(table, t7.Table) or id(table) in seen:
                continue
            seen.add(id(table))
            for name, value in table.items():
                label = _step(where, name)
                if label is None:
                    continue
                if is_module(value) and id(value) not in seen:
                    seen.add(id(value))
                    found[label] = value
                elif isinstance(value, t7.Table):
                    following.append((label, value))
        if found:
            break
        level = following[:1000]
    return found


def _step(where: str, name: Any) -> str | None:
    if isinstance(name, str):
        return f"{where}.{name}" if where else name
    return f"{where}[{int(name)}]" if isinstance(name, float) and name == name // 1 else None


def children(made: t7.TorchObject) -> list[tuple[str, t7.TorchObject]]:
    """The modules directly inside, with their names: container positions from 0, or the field that holds them."""
    found: list[tuple[str, t7.TorchObject]] = []
    table = made.get("modules")
    if isinstance(table, t7.Table):
        found += [(str(position), value) for position, value in enumerate(table.array()) if isinstance(value, t7.TorchObject)]
    nodes = made.get("forwardnodes") if made.typename == "nn.gModule" else None
    if isinstance(nodes, t7.Table):
        for position, node in enumerate(nodes.array()):
            data = node.get("data") if isinstance(node, t7.TorchObject) else None
            inner = data.get("module") if isinstance(data, t7.Table) else None
            if isinstance(inner, t7.TorchObject):
                found.append((f"node{position}", inner))
    found += [(name, value) for name in _CHILDREN if is_module(value := made.get(name))]
    return found


def inner_modules(root: t7.TorchObject) -> Iterator[tuple[t7.TorchObject, str]]:
    """The module and all inside it, each object once, with its path; in the order of the containers, without recursion."""
    seen: set[int] = set()
    waiting = [(root, "")]
    while waiting:
        made, path = waiting.pop()
        if id(made) in seen:
            continue
        seen.add(id(made))
        yield made, path
        inside = [(value, f"{path}.{name}" if path and len(path) < 1000 else name) for name, value in children(made)]
        waiting += reversed(inside)


_THROUGH = frozenset(
    "nn.ReLU nn.Identity nn.Dropout nn.SpatialDropout nn.Copy nn.Tanh nn.Sigmoid nn.MulConstant nn.AddConstant nn.SpatialZeroPadding "
    "nn.SpatialReflectionPadding nn.SpatialReplicationPadding nn.WhiteNoise cudnn.ReLU cudnn.Tanh cudnn.Sigmoid nn.TotalVariation "
    "nn.SpatialMaxPooling nn.SpatialAveragePooling cudnn.SpatialMaxPooling cudnn.SpatialAveragePooling nn.Contiguous".split()
)
"""Modules that leave the number of features or channels as it is, so that a later module can tell it."""


_ENTERED = frozenset(
    "nn.Sequential nn.ConcatTable nn.Concat nn.DepthConcat nn.DataParallelTable nn.Decorator nn.DontCast nn.Inception".split()
)
_PLANES = frozenset(
    f"{library}.{name}"
    for library in ("nn", "cudnn")
    for name in ("SpatialConvolution", "SpatialConvolutionMM", "SpatialFullConvolution", "SpatialDilatedConvolution")
)
_STATISTICS: dict[str, tuple[str, ...]] = {
    "nn.BatchNormalization": (),
    "cudnn.BatchNormalization": (),
    "nn.SpatialBatchNormalization": ("H", "W"),
    "cudnn.SpatialBatchNormalization": ("H", "W"),
}


def first_shape(root: t7.TorchObject) -> tuple[tuple[int | str, ...] | None, tuple[t7.TorchObject, str] | None]:
    """(N, features) or (N, C, H, W) of a model's input, from the first module with weights; or None, and the module that should tell."""
    waiting = [(root, "")]
    while waiting:
        made, path = waiting.pop()
        name = made.typename
        if name in _THROUGH:
            continue
        if name in _ENTERED or (name == "nn.gModule" and made.get("nInputs") in (None, 0, 1)):
            if len(path) > 1000:
                return None, None
            waiting += reversed([(value, f"{path}.{label}" if path else label) for label, value in children(made)])
            continue
        weight = made.get("weight")
        size = weight.size if isinstance(weight, t7.Tensor) else ()
        planes, mean = made.get("nInputPlane"), made.get("running_mean")
        if name == "nn.Linear":
            return (("N", size[1]), None) if len(size) == 2 else (None, (made, path))
        if name in _PLANES and isinstance(planes, float) and planes == planes // 1 and 0 < planes < 1e9:
            return ("N", int(planes), "H", "W"), None
        if name in _STATISTICS and isinstance(mean, t7.Tensor) and len(mean.size) == 1:
            return ("N", mean.size[0], *_STATISTICS[name]), None
        return None, None
    return None, None


# -- weights only ------------------------------------------------------------------------------------------------------

_ROLES = ("weight", "bias", "running_mean", "running_var", "running_std", "v", "g", "diagCov", "value", "mean", "std")
"""Fields that hold what a module has learnt or been given; all other tensors are buffers, gradients and outputs."""


def parameters(path: StrPath, options: LoadOptions = DEFAULTS) -> dict[str, np.ndarray[Any, Any]]:
    """The parameters of a .t7 by name, as views of the mapped file in its own types: `4.0.1.weight` for a module in containers.

    A file without a module gives all tensors in its tables, by their keys. A BatchNormalization of version 1 gives the running_var
    that its running_std stands for. Raises ConversionError.
    """
    file = os.path.basename(os.fspath(path))
    root = t7.read(path)
    at = at_key(root, file, options.key) if options.key else root
    if not is_module(at):
        candidates = _candidates(at)
        if not candidates:
            return _tensors(at, file)
        at = find_model(at, file, None)
    found: dict[str, np.ndarray[Any, Any]] = {}
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


def _variance(made: t7.TorchObject, inverse: t7.Tensor) -> np.ndarray[Any, Any]:
    """running_var of the inverse deviation that version 1 stores. Source: nn/BatchNormalization.lua."""
    eps = made.get("eps")
    with np.errstate(divide="ignore"):
        variance: np.ndarray[Any, Any] = inverse.array.astype(np.float64) ** -2 - (eps if isinstance(eps, float) else 1e-5)
    return variance.astype(inverse.dtype)


def _tensors(root: Any, file: str) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors in a table and the tables within it, by their keys."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, t7.Tensor):
            found[where or "tensor"] = value.array
        elif isinstance(value, t7.Table) and id(value) not in seen and len(where) < 1000:
            seen.add(id(value))
            inside = [(label, item) for name, item in value.items() if (label := _step(where, name)) is not None]
            waiting += reversed(inside)
    if not found:
        raise FormatError(f"{file}: there are no tensors in this file: it holds {describe(root)}")
    return found
