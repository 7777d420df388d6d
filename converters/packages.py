"""This package's own version, and the packages that only some calls need: how to install them.

What runs a model, a reader of an old file, an exporter: each is imported by the function that uses it, right behind `require`, so that
a machine without it can still do all the rest, and hears in one line which extra of setup.cfg brings it.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from converters.errors import ConversionError

__version__ = "0.1.0"
"""Said once: setup.cfg, the command and the files that are written read it here."""
DISTRIBUTION = "checkpoint-converters"

EXTRAS = {
    "torch": "verify",
    "onnxruntime": "verify",
    "torchfile": "verify",
    "onnxscript": "torch2onnx",
    "PIL": "images",
    "distributed": "migrate",
    "fsspec": "migrate",
    "s3fs": "migrate",
    "pyarrow": "migrate",
    "tomli": "migrate",
    "shtab": "completion",
}
"""Import name -> the extra that brings it."""

BASE = ("numpy", "google.protobuf", "onnx", "onnx_ir", "ml_dtypes", "h5py")
"""Import names of what comes with the package itself."""

DISTRIBUTIONS = {"google.protobuf": "protobuf", "onnx_ir": "onnx-ir", "PIL": "Pillow"}
"""Import name -> what the package is called on the index, where that is another word."""


class MissingPackageError(ConversionError):
    """A package that this call needs isn't installed; the message says what installs it."""

    is_of_a_file = False


def check(*packages: str, extra: str | None = None) -> None:
    """Raises MissingPackageError unless all of these packages are installed; imports none of them.

    packages: their import names ("torch", "google.protobuf"). extra: the extra to name, where it isn't that of the first one missing.
    """
    missing = [name for name in packages if not _installed(name)]
    if missing:
        raise _missing(missing, extra or EXTRAS.get(missing[0]))


def require(*packages: str, extra: str | None = None) -> None:
    """As `check`, and imports them, so that the import that follows can't fail. Raises MissingPackageError for a broken one too."""
    check(*packages, extra=extra)
    for name in packages:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as problem:
            first = (str(problem).splitlines() or [type(problem).__name__])[0]
            raise MissingPackageError(f"{name} is installed but can't be imported: {first}; install it again") from problem


def explain(problem: ImportError) -> MissingPackageError | None:
    """The error that `check` would have raised, for an import that failed because one of these packages isn't installed."""
    missing = f"{problem.name}."  # of `google.protobuf` it may be `google` alone
    name = next((known for known in (*EXTRAS, *BASE) if missing.startswith(f"{known}.") or f"{known}.".startswith(missing)), None)
    return None if name is None or _installed(name) else _missing([name], EXTRAS.get(name))


def _missing(packages: list[str], extra: str | None) -> MissingPackageError:
    names = [DISTRIBUTIONS.get(name, name) for name in packages]
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    wanted = f'"{DISTRIBUTION}[{extra}]"' if extra else DISTRIBUTION
    return MissingPackageError(f"{listed} {'are' if len(names) > 1 else 'is'}n't installed, and needed here: pip install {wanted}")


def _installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # the package around it is missing, or half there
        return False


def lazily(module: str, where: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__`, for names that are imported when they are asked for. where: the module that each is in."""

    def find(name: str) -> Any:
        if name in where:
            return getattr(importlib.import_module(where[name]), name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return find


# -- packages that others import and that no conversion uses ---------------------------------------------------------------


class _Lazily:
    """Makes sympy, and the module of onnx_ir that builds formulas with it, wait for their first use when onnx_ir is imported.

    Sizes stay names here ("N"), so that no formula is ever built; sympy alone takes half of a conversion's start-up. What is put in
    place is importlib's own LazyLoader: a module that becomes the real one as soon as something of it is looked at.
    """

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> importlib.machinery.ModuleSpec | None:
        formulas = "onnx_ir._symbolic_shapes"
        if name != formulas and not (name == "sympy" and "onnx_ir" in sys.modules and formulas not in sys.modules):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def import_lazily() -> None:
    """Lets what onnx_ir imports without need wait for its first use; called once, before anything here imports onnx_ir."""
    if not any(isinstance(finder, _Lazily) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Lazily())
