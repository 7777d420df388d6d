"""Which submodules the generated class has: the names of the initializers, grouped by module path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from converters.graph.names import is_name
from converters.graph.provenance import is_buffer
from converters.writers.source.dtypes import FLOATS, torch_dtype

_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked"})


@dataclass
class Holding:
    """A module path: its tensors by role, and the constructor of the torch.nn layer that holds exactly them, if there is one."""

    tensors: dict[str, ir.Value] = field(default_factory=dict)
    build: str = ""
    claimed: frozenset[str] = frozenset()
    is_parent: bool = False


class Modules:
    """The tree of submodules that gives exactly the keys of the initializers."""

    def __init__(self, initializers: Mapping[str, ir.Value]) -> None:
        self._paths: dict[str, Holding] = {}
        for key, value in initializers.items():
            path, _, role = key.rpartition(".")
            self._paths.setdefault(path, Holding()).tensors[role] = value
        parents = {".".join(path.split(".")[:n]) for path in self._paths for n in range(1, path.count(".") + 1)}
        for path in parents:
            if path in self._paths:
                self._paths[path].is_parent = True
        self._indexed = any(not is_name(part) for path in self._paths if path for part in path.split("."))
        self.used: dict[str, ir.Value] = {}

    @property
    def top_names(self) -> set[str]:
        """Names that the model's own attributes have."""
        return {path.split(".")[0] for path in self._paths if path} | set(self._paths.get("", Holding()).tensors)

    def tensor(self, key: str) -> str:
        """The expression of a parameter or buffer."""
        path, _, role = key.rpartition(".")
        holding = self._paths[path]
        self.used.setdefault(key, holding.tensors[role])
        owner = self._access(path)
        if is_name(role):
            return f"{owner}.{role}"
        return f"{owner}._{'buffers' if self._is_buffer(role, holding.tensors[role]) else 'parameters'}[{role!r}]"

    def layer(self, build: str, wanted: Mapping[str, ir.Value], buffers: frozenset[str]) -> str | None:
        """The expression of the layer if the tensors wanted are all that one path has, at the same roles; else None."""
        paths = {str(value.name).rpartition(".")[0] for value in wanted.values()}
        if len(paths) != 1:
            return None
        path = paths.pop()
        holding = self._paths.get(path)
        if not path or holding is None or holding.is_parent or holding.tensors.keys() != wanted.keys():
            return None
        if any(holding.tensors[role] is not value for role, value in wanted.items()):
            return None
        if any((role in buffers) != self._is_buffer(role, value) for role, value in wanted.items()):
            return None
        dtypes = {value.dtype for value in wanted.values()}
        dtype = dtypes.pop()
        if dtypes or dtype not in FLOATS:
            return None
        build += ")" if dtype == ir.DataType.FLOAT else f", dtype={torch_dtype(dtype)})"
        if holding.build and holding.build != build:
            return None
        holding.build = build
        for role, value in holding.tensors.items():
            self.used.setdefault(f"{path}.{role}", value)
        return self._access(path)

    def lines(self) -> list[str]:
        """The body of __init__."""
        result: list[str] = []
        made: set[str] = {""}
        used_paths = list(dict.fromkeys(key.rpartition(".")[0] for key in self.used))
        for path in used_paths:
            holding = self._paths[path]
            parts = path.split(".")
            for n in range(1, len(parts) + (0 if holding.build else 1)):
                parent = ".".join(parts[:n])
                if parent not in made:
                    made.add(parent)
                    result.append(f"{self._access(parent)} = {'Block' if self._indexed else 'nn.Module'}()")
            if holding.build:
                made.add(path)
                result.append(f"{self._access(path)} = {holding.build}")
                continue
            for role, value in holding.tensors.items():
                if f"{path}.{role}".lstrip(".") in self.used:
                    result.append(self._hold(path, role, value))
        return result

    @property
    def indexed(self) -> bool:
        """Whether module names are numbers, so that the file needs the class Block."""
        return self._indexed

    def _hold(self, path: str, role: str, value: ir.Value) -> str:
        owner = self._access(path)
        assert value.shape is not None and value.dtype is not None
        dims = ", ".join(str(d) for d in value.shape.numpy())
        dtype = "" if value.dtype == ir.DataType.FLOAT else f", dtype={torch_dtype(value.dtype)}"
        empty = f"torch.empty({dims or '()'}{dtype})"
        is_buffer = self._is_buffer(role, value)
        if is_name(role):
            return f"{owner}.register_buffer({role!r}, {empty})" if is_buffer else f"{owner}.{role} = nn.Parameter({empty})"
        # a name that nn.Module itself has, or that is none: past the checks of register_parameter
        return f"{owner}._buffers[{role!r}] = {empty}" if is_buffer else f"{owner}._parameters[{role!r}] = nn.Parameter({empty})"

    def _is_buffer(self, role: str, value: ir.Value) -> bool:
        return role in _BUFFERS or value.dtype not in FLOATS or is_buffer(value)

    def _access(self, path: str) -> str:
        text = "self"
        for part in path.split(".") if path else ():
            if is_name(part):
                text += f".{part}"
            elif re.fullmatch(r"0|[1-9][0-9]*", part, re.ASCII):
                text += f"[{part}]"
            else:
                text += f"[{part!r}]"
        return text
