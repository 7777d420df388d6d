"""Which submodules the generated class has: the names of the initializers, grouped by module path.

Expressions of modules are references (`ref`) until all modules are known: whether `4.0` is an nn.Sequential, an nn.ModuleList or a
plain module shows in how it is reached, `self.features[4]` or `self.features.block`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from converters.graph.names import Paths, is_name, paths_above
from converters.graph.provenance import is_buffer
from converters.writers.source.code import REF_CLOSE, REF_OPEN
from converters.writers.source.dtypes import FLOATS, torch_dtype

_BUFFERS = frozenset({"running_mean", "running_var", "num_batches_tracked"})
_CONTAINERS_OWN = frozenset("append clear extend insert items keys pop update values".split())
"""Attributes that torch's containers have beyond those of every module."""
_REF = re.compile(f"{REF_OPEN}([0-9]+){REF_CLOSE}")
_DEEPEST = 6
"""How deep constructors lie in one another; deeper containers are filled one by one."""


@dataclass
class Holding:
    """A module path: its tensors by role, and the constructor of the torch.nn layer that holds exactly them, if there is one."""

    tensors: dict[str, ir.Value] = field(default_factory=dict)
    build: str = ""
    is_parent: bool = False


@dataclass
class Part:
    """A module of the tree. kind: layer, sequential, list, dict or module (one with attributes)."""

    children: dict[str, Part] = field(default_factory=dict)
    build: str = ""
    kind: str = "module"


class Modules:
    """The tree of submodules that gives exactly the keys of the initializers."""

    def __init__(self, initializers: Mapping[str, ir.Value]) -> None:
        self._paths: dict[str, Holding] = {}
        for key, value in initializers.items():
            path, _, role = key.rpartition(".")
            self._paths.setdefault(path, Holding()).tensors[role] = value
        for above in {above for path in self._paths for above in paths_above(path) if above}:
            if above in self._paths:
                self._paths[above].is_parent = True
        self._taken = Paths(path for path in self._paths if path)
        self.used: dict[str, ir.Value] = {}
        self.sequences: dict[str, dict[str, str]] = {}
        """Paths that are nn.Sequential, each with the constructors of its layers by path; see converters.writers.source.sequential."""
        self.others: dict[str, str] = {}
        """Constructors of further layers without parameters, by path."""
        self.moved: dict[str, str] = {}
        """New keys of tensors that lie in blocks, by what they were; see converters.writers.source.blocks."""
        self._nested: dict[str, str] = {}
        self._blocks: dict[str, str] = {}
        self._refs: dict[str, int] = {}
        self._referred: list[str] = []
        """The paths of the references, by number."""
        self._root: Part | None = None
        self.top_names = {path.partition(".")[0] for path in self._paths if path} | set(self._paths.get("", Holding()).tensors)
        """Names that the model's own attributes have."""
        self._counts: Counter[str] = Counter()

    def ref(self, path: str) -> str:
        """The expression of a module, to be resolved at the end."""
        if path not in self._refs:
            self._refs[path] = len(self._referred)
            self._referred.append(path)
        return f"{REF_OPEN}{self._refs[path]}{REF_CLOSE}"

    def layer_of(self, ref: str) -> tuple[str, str]:
        """The path and constructor of the layer that a reference stands for; an empty constructor where it is none."""
        path = self._referred[int(ref[1:-1])]
        return path, self.build_of(path)

    def build_of(self, path: str) -> str:
        """The constructor of the layer at a path; empty where there is none."""
        return self._paths[path].build if path in self._paths else self.others.get(path, "")

    def names_without(self, nested: set[str]) -> set[str]:
        """Names that the model's own attributes have, when these layers lie in blocks."""
        return {path.split(".")[0] for path in (*self._paths, *self.others) if path and path not in nested} | set(
            self._paths.get("", Holding()).tensors
        )

    def nest(self, paths: Mapping[str, str], container: str, build: str) -> None:
        """Layers become part of a block or a row of blocks, which `build` makes. paths: where they are, to where they will be."""
        for path, target in paths.items():
            self._nested[path] = container
            self.others.pop(path, None)
            for role in self._paths[path].tensors if path in self._paths else ():
                self.moved[f"{path}.{role}"] = f"{target}.{role}"
        self._blocks[container] = build

    def resolve(self, text: str) -> str:
        """A text with expressions for references."""
        return _REF.sub(lambda match: self._access(self._referred[int(match[1])]), text)

    def tensor(self, key: str) -> str:
        """The expression of a parameter or buffer."""
        path, _, role = key.rpartition(".")
        holding = self._paths[path]
        self.used.setdefault(key, holding.tensors[role])
        if is_name(role):
            return f"{self.ref(path)}.{role}"
        return f"{self.ref(path)}._{'buffers' if self._is_buffer(role, holding.tensors[role]) else 'parameters'}[{role!a}]"

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
        return self.ref(path)

    def plain_layer(self, build: str, path: str, name: str) -> str:
        """The expression of a layer without tensors at `path`; at a free one called `name` where that is none, or another's."""
        if not path or not self._is_open(path, build):
            while not self._is_open(path := f"{name}{self._counts[name] or ''}", ""):
                self._counts[name] += 1
        if path not in self.others:
            self._taken.add(path)
        self.others[path] = build
        self.top_names.add(path.partition(".")[0])
        return self.ref(path)

    def _is_open(self, path: str, build: str) -> bool:
        """Whether a layer without tensors may be at the path: nothing is there, below or around it, or just such a layer."""
        parts = path.split(".")
        if not all(is_index(part) or is_name(part) for part in parts) or parts[0] in self._paths.get("", Holding()).tensors:
            return False
        return self.others[path] == build if path in self.others else self._taken.is_free(path)

    # -- what the class is -------------------------------------------------------------------------------------------

    def base(self) -> str:
        """The class that the model's derives from."""
        return {"module": "nn.Module", "sequential": "nn.Sequential", "list": "nn.ModuleList", "dict": "nn.ModuleDict"}[self._tree().kind]

    def lines(self) -> list[str]:
        """The body of __init__."""
        root = self._tree()
        later: list[str] = []
        if root.kind == "module":
            self._fill("", root, 0, later)
            return ["super().__init__()", *later]
        held = self._held("")
        return [f"super().__init__({self._arguments('', root, 0, later)})", *held, *later]

    def _tree(self) -> Part:
        if self._root is None:
            self._root = Part()
            builds = dict(self._placed(path) for path in dict.fromkeys(key.rpartition(".")[0] for key in self.used))
            builds |= self._blocks  # those of layers without tensors
            for layers in self.sequences.values():
                builds.update(layers)
            builds.update(self.others)
            for path, build in builds.items():
                part = self._root
                for name in path.split(".") if path else ():
                    part = part.children.setdefault(name, Part())
                part.build = build
            self._classify("", self._root, False)
        return self._root

    def _placed(self, path: str) -> tuple[str, str]:
        """Where a layer is made, and how: in its block, if it is in one."""
        container = self._nested.get(path, "")
        return (container, self._blocks[container]) if container else (path, self._paths[path].build)

    def _classify(self, path: str, part: Part, is_inside: bool) -> None:
        """Says what each part is; an nn.Sequential gets a layer that does nothing where the source has one without effect."""
        is_sequential = is_inside or path in self.sequences
        names = list(part.children)
        roles = self._paths[path].tensors.keys() if path in self._paths else ()
        if part.build:
            part.kind = "layer"
        elif is_sequential:
            part.kind = "sequential"
            numbers = range(max(int(name) for name in names) + 1)
            part.children = {str(n): part.children.get(str(n)) or Part(build="nn.Identity()") for n in numbers}
        elif names and all(map(is_index, names)) and not _CONTAINERS_OWN & set(roles):
            part.children = {name: part.children[name] for name in sorted(names, key=int)}
            part.kind = "list" if list(part.children) == [str(n) for n in range(len(names))] else "dict"
        for name, child in part.children.items():
            self._classify(f"{path}.{name}" if path else name, child, is_sequential)

    def _construct(self, path: str, part: Part, depth: int, later: list[str]) -> str:
        """The expression that makes the part; what can't be in it comes later."""
        if part.kind == "layer":
            return part.build
        if part.kind == "module":
            self._fill(path, part, depth, later)
            return "nn.Module()"
        later += self._held(path)
        name = {"sequential": "nn.Sequential", "list": "nn.ModuleList", "dict": "nn.ModuleDict"}[part.kind]
        if depth < _DEEPEST:
            return f"{name}({self._arguments(path, part, depth, later)})"
        for child_name, child in part.children.items():
            afterwards: list[str] = []
            made = self._construct(f"{path}.{child_name}", child, depth + 1, afterwards)
            owner = self._access(path)
            later.append(f'{owner}["{child_name}"] = {made}' if part.kind == "dict" else f"{owner}.append({made})")
            later += afterwards
        return f"{name}()"

    def _arguments(self, path: str, part: Part, depth: int, later: list[str]) -> str:
        made = {name: self._construct(f"{path}.{name}" if path else name, child, depth + 1, later) for name, child in part.children.items()}
        if part.kind == "dict":
            return "{" + ", ".join(f'"{name}": {child}' for name, child in made.items()) + "}"
        return ", ".join(made.values()) if part.kind == "sequential" else f"[{', '.join(made.values())}]"

    def _fill(self, path: str, part: Part, depth: int, later: list[str]) -> None:
        """The lines that give a plain module its attributes."""
        later += self._held(path)
        owner = self._access(path)
        for name, child in part.children.items():
            afterwards: list[str] = []
            made = self._construct(f"{path}.{name}" if path else name, child, 0 if not path else depth + 1, afterwards)
            if is_name(name):
                later.append(f"{owner}.{name} = {made}")
            elif _is_free(name):
                later.append(f"{owner}.add_module({name!a}, {made})")
            else:
                later.append(f"{owner}._modules[{name!a}] = {made}")
            later += afterwards

    def _held(self, path: str) -> list[str]:
        """The lines that make the tensors that a module holds itself."""
        tensors = self._paths[path].tensors if path in self._paths else {}
        return [self._hold(path, role, value) for role, value in tensors.items() if f"{path}.{role}".lstrip(".") in self.used]

    def _hold(self, path: str, role: str, value: ir.Value) -> str:
        owner = self._access(path)
        assert value.shape is not None and value.dtype is not None
        dims = ", ".join(str(d) for d in value.shape.numpy())
        dtype = "" if value.dtype == ir.DataType.FLOAT else f", dtype={torch_dtype(value.dtype)}"
        empty = f"torch.empty({dims or '()'}{dtype})"
        is_buffer = self._is_buffer(role, value)
        if is_name(role):
            return f'{owner}.register_buffer("{role}", {empty})' if is_buffer else f"{owner}.{role} = nn.Parameter({empty})"
        # a name that nn.Module itself has, or that is none: past the checks of register_parameter
        return f"{owner}._buffers[{role!a}] = {empty}" if is_buffer else f"{owner}._parameters[{role!a}] = nn.Parameter({empty})"

    def _is_buffer(self, role: str, value: ir.Value) -> bool:
        return role in _BUFFERS or value.dtype not in FLOATS or is_buffer(value)

    def _access(self, path: str) -> str:
        text, part = "self", self._tree()
        for name in path.split(".") if path else ():
            if part.kind in ("sequential", "list"):
                text += f"[{name}]"
            elif part.kind == "dict":
                text += f'["{name}"]'
            elif is_name(name):
                text += f".{name}"
            else:
                text = f"getattr({text}, {name!a})" if _is_free(name) else f"{text}._modules[{name!a}]"
            part = part.children[name]
        return text


def is_index(name: str) -> bool:
    """Whether a part of a path counts layers, as `4` does and `04` doesn't."""
    return re.fullmatch(r"0|[1-9][0-9]{0,8}", name, re.ASCII) is not None


def _is_free(name: str) -> bool:
    """Whether nn.Module.add_module takes the name: it can't be that of an attribute."""
    return bool(name) and not name.isidentifier()
