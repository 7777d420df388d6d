"""What one may ask of a migration, and what of it concerns a single model."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import importlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converters import packages
from converters.errors import ConversionError, printable
from converters.files import StrPath
from converters.formats import Format
from converters.options import InputSpec, read_spec
from converters.packages import __version__

TARGETS = ("onnx", "torch", "safetensors", "weights")
GRAPHS = ("onnx", "torch", "safetensors")
"""Targets that need a net."""
KEYED = ("torch7", "pytorch")
"""Formats whose files may hold several models."""
RETRIED = ("unsupported", "failed", "different", "killed")
"""States of a row that a further run may try again."""

Shapes = Mapping[str, Mapping[str, InputSpec]]


@dataclass(frozen=True)
class MigrationOptions:
    """How a tree is migrated.

    to: what each model becomes, of TARGETS. verify: whether it has to answer alike in PyTorch and onnxruntime to be written. shapes: of
    inputs, by a pattern of paths; the first pattern that fits counts. include, exclude: patterns of paths. limit_memory: bytes of
    anonymous memory for one model, None for the machine's share; limit_time: seconds. archives: look into .zip and .tar. epochs: of
    MXNet's parameters. retry: states that are tried again. force: take a target that isn't empty and has no manifest. The others are
    those of the single commands.
    """

    to: tuple[str, ...] = ("onnx", "torch")
    verify: bool = True
    shapes: Shapes = field(default_factory=lambda: MappingProxyType({}))
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    limit_memory: int | None = None
    limit_time: float = 600.0
    archives: bool = False
    epochs: str = "newest"
    retry: tuple[str, ...] = ()
    force: bool = False
    opset: int | None = None
    dtype: str | None = None
    dynamic: Mapping[tuple[str, int], str] = field(default_factory=lambda: MappingProxyType({}))
    key: str | None = None
    code: StrPath | None = None
    plugin: StrPath | None = None
    trust: bool = False

    def check(self) -> None:
        """Raises ConversionError for what can't be meant."""
        for name, given, known in (("to", self.to, TARGETS), ("retry", self.retry, RETRIED), ("epochs", (self.epochs,), ("newest", "all"))):
            wrong = [word for word in given if word not in known]
            if wrong or not (given or name != "to"):
                raise ConversionError(f"--{name}: there is no '{printable(', '.join(wrong))}'; choose of {', '.join(known)}")
        if self.limit_time <= 0 or (self.limit_memory is not None and self.limit_memory <= 0):
            raise ConversionError("a limit is above 0")

    @property
    def discovery(self) -> str:
        """What decides which files are models."""
        return f"{__version__} {self.epochs}{' archives' if self.archives else ''}{' weights' if 'weights' in self.to else ''}"

    def chosen(self, path: str) -> bool:
        """Whether the tree's file is to be looked at."""
        return (not self.include or _fits(path, self.include)) and not _fits(path, self.exclude)

    def inputs_of(self, paths: Sequence[str]) -> Mapping[str, InputSpec]:
        """The shapes of a model's inputs, by the first pattern that one of its files fits."""
        plain, patterns = self._globs
        names = [name for path in paths for name in (path, path.rpartition("/")[2])]
        first = min((plain[name] for name in names if name in plain), default=len(self.shapes))
        first = next((number for number, glob in patterns if number < first and any(_fits(path, (glob,)) for path in paths)), first)
        return self._values[first] if first < len(self.shapes) else {}

    @functools.cached_property
    def _values(self) -> list[Mapping[str, InputSpec]]:
        return list(self.shapes.values())

    @functools.cached_property
    def _globs(self) -> tuple[dict[str, int], list[tuple[int, str]]]:
        """The places of the shapes' patterns: by name of those that are plain names, and those that aren't."""
        plain = {glob: number for number, glob in enumerate(self.shapes) if not re.search(r"[*?\[]", glob)}
        return plain, [(number, glob) for number, glob in enumerate(self.shapes) if glob not in plain]

    def load_options(self, row: Format, paths: Sequence[str]) -> dict[str, Any]:
        """How a model of a format is read: the fields of LoadOptions that mean something to it."""
        return {
            "inputs": dict(self.inputs_of(paths)),
            "key": self.key if row.name in KEYED else None,
            "dynamic": dict(self.dynamic),
            "code": None if self.code is None or "code" not in row.options else os.path.abspath(self.code),
            "plugin": None if self.plugin is None else os.path.abspath(self.plugin),
            "trust": self.trust,
            "dtype": "float64" if self.dtype == "float64" and "dtype" in row.options else None,
        }

    @property
    def summary(self) -> str:
        """What of the options decides what becomes of models, as text."""
        shapes = {glob: {name: _plain(spec) for name, spec in inputs.items()} for glob, inputs in self.shapes.items()}
        return self.identity(()) + json.dumps(shapes, sort_keys=True)

    def identity(self, paths: Sequence[str]) -> str:
        """What of the options decides what becomes of a model, as text. Whether it is verified doesn't change what is written."""
        said: dict[str, Any] = {"to": sorted(self.to), "inputs": {k: _plain(v) for k, v in sorted(self.inputs_of(paths).items())}}
        said |= {"opset": self.opset, "dtype": self.dtype, "key": self.key, "trust": self.trust}
        said["dynamic"] = sorted([*place, label] for place, label in self.dynamic.items())
        said["code"] = None if self.code is None else fingerprint(self.code)
        said["plugin"] = None if self.plugin is None else fingerprint(self.plugin)
        return json.dumps({name: value for name, value in said.items() if value}, sort_keys=True)


def _plain(spec: InputSpec) -> list[Any]:
    return [list(item) if isinstance(item, Sequence) and not isinstance(item, str) else item for item in spec]


def _fits(path: str, globs: Sequence[str]) -> bool:
    """Whether a path, or its last part, is of one of the patterns."""
    return any(fnmatch.fnmatchcase(path, glob) or fnmatch.fnmatchcase(path.rpartition("/")[2], glob) for glob in globs)


_known: dict[str, str] = {}


def fingerprint(path: StrPath) -> str:
    """A digest of a Python file, or of all that lie in a folder; once in a process."""
    given = os.fspath(path)
    if given not in _known:
        files = sorted(Path(given).rglob("*.py")) if os.path.isdir(given) else [Path(given)]
        digest = hashlib.sha256()
        try:
            for file in files:
                digest.update(file.read_bytes())
        except OSError as problem:
            raise ConversionError(f"can't be read: {problem.strerror or problem}", path=given) from problem
        _known[given] = digest.hexdigest()
    return _known[given]


def read_shapes(path: StrPath | None) -> Shapes:
    """The shapes of inputs in a TOML file: "GLOB" = "1x3x224x224", or {data = "1x3x224x224", im_info = "1x3"}. Raises ConversionError."""
    if path is None:
        return {}
    module = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    if module == "tomli":
        packages.check(module)
    toml = importlib.import_module(module)
    shown = os.fspath(path)
    try:
        with open(path, "rb") as file:
            said = toml.load(file)
    except OSError as problem:
        raise ConversionError(f"can't be read: {problem.strerror or problem}", path=shown) from problem
    except ValueError as problem:
        raise ConversionError(f"is no TOML: {printable(problem, 200)}", path=shown) from problem
    found: dict[str, dict[str, InputSpec]] = {}
    for glob, given in said.items():
        inputs = {"": given} if isinstance(given, str) else given
        if not isinstance(inputs, dict) or not all(isinstance(shape, str) for shape in inputs.values()):
            raise ConversionError(f"'{printable(glob)}' has no shapes", path=shown, hint='write "GLOB" = {data = "1x3x224x224"}')
        try:
            found[glob] = {name: read_spec(shape) for name, shape in inputs.items()}
        except ValueError as problem:
            raise ConversionError(f"'{printable(glob)}': {problem}", path=shown) from problem
    return found
