"""A second reading: the tensors of a .t7 file as the package torchfile reads them, against those that were converted."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters import packages
from converters.files import StrPath
from converters.readers.torch7 import t7
from converters.runtimes.compare import Array

MOST = 5
"""Places that the report lists by name."""


@dataclass
class SecondReading:
    """What `read_again` found: tensors that are equal, the places of those that differ, and of those that torchfile doesn't have.

    unreadable: why torchfile can't read the file at all, else empty. It knows binary files of 8-byte longs in this machine's byte order, no
    half precision and no tensors of newer kinds; what it can't read proves nothing, and is no fault.
    """

    file: str
    equal: int = 0
    different: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    unreadable: str = ""

    @property
    def ok(self) -> bool:
        """Whether no tensor that torchfile read differs."""
        return not self.different

    def __str__(self) -> str:
        if self.unreadable:
            return f"not read a second time: torchfile can't read {self.file}: {self.unreadable}"
        if self.different:
            return f"NOT EQUAL: torchfile reads {len(self.different)} tensors of {self.file} otherwise: {_listed(self.different)}"
        words = f"read a second time by torchfile: {self.equal} tensors, all equal"
        return words + (f"; {len(self.absent)} that it doesn't have: {_listed(self.absent)}" if self.absent else "")


def _listed(places: list[str]) -> str:
    return ", ".join(places[:MOST]) + (f" and {len(places) - MOST} more" if len(places) > MOST else "")


def read_again(path: StrPath) -> SecondReading:
    """Reads a .t7 with this package's reader and with torchfile, and compares every tensor: shape and each element.

    torchfile runs only after our reader has accepted the file, whose sizes are then known to be right; it executes nothing. Raises
    ConversionError where our reader refuses the file, MissingPackageError without torchfile.
    """
    file = os.path.basename(os.fspath(path))
    ours = t7.read(path)
    packages.require("torchfile")
    import torchfile

    found = SecondReading(file)
    try:
        theirs = torchfile.load(os.fspath(path), use_list_heuristic=False, use_int_heuristic=False)
    except Exception as problem:  # it raises whatever the bytes lead it to: struct.error, NotImplementedError, RecursionError ...
        found.unreadable = f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else 'no reason given'}"
        return found
    _walk(ours, theirs, found)
    return found


def _walk(ours: Any, theirs: Any, found: SecondReading) -> None:
    """Walks both trees side by side; a Torch object or table is entered once, wherever it is met first."""
    seen: set[int] = set()
    waiting: list[tuple[str, Any, Any]] = [("", ours, theirs)]
    while waiting:
        place, one, other = waiting.pop()
        if id(one) in seen:
            continue
        if isinstance(one, t7.Tensor | t7.Storage | t7.TorchObject | t7.Table):
            seen.add(id(one))
        if isinstance(one, t7.Tensor):
            _compare_arrays(place or "tensor", one.array, other, found)
        elif isinstance(one, t7.Storage):
            _compare_arrays(place or "storage", one.array, other, found)
        elif isinstance(one, t7.TorchObject):
            waiting.append((place, one.payload, getattr(other, "__dict__", {}).get("_obj")))
        elif isinstance(one, t7.Table):
            entries = other if isinstance(other, dict) else {}
            waiting += reversed([(_step(place, key), value, _entry(entries, key, one)) for key, value in one.items()])


def _entry(entries: dict[Any, Any], key: Any, table: t7.Table) -> Any:
    """What torchfile has under a key; None where it has nothing, or lost one of two entries: to Python true and 1 are one key."""
    if isinstance(key, str):
        return entries.get(key.encode("utf-8", "surrogateescape"))
    if isinstance(key, bool | float) and key in (0, 1) and bool(key) in table and float(key) in table:
        return None
    return entries.get(key)


def _step(place: str, key: Any) -> str:
    name = f"{key:g}" if isinstance(key, float) else str(key)
    return f"{place}.{name}" if place else name


def _compare_arrays(place: str, array: Array, other: Any, found: SecondReading) -> None:
    if not isinstance(other, np.ndarray):
        found.absent.append(place)
    elif not array.size and not other.size:
        found.equal += 1
    elif not _inside(other):
        found.absent.append(place)
    elif array.shape == other.shape and array.dtype == other.dtype and np.array_equal(array, other, equal_nan=array.dtype.kind == "f"):
        found.equal += 1
    else:
        found.different.append(place)


def _inside(array: np.ndarray[Any, Any]) -> bool:
    """Whether a view stays inside the storage that it looks at: torchfile strides over memory without looking."""
    root: Any = array
    while (base := getattr(root, "base", None)) is not None:
        root = base
    if root is array or not isinstance(root, np.ndarray):
        return root is array
    low, high = np.lib.array_utils.byte_bounds(array)
    first, last = np.lib.array_utils.byte_bounds(root)
    return first <= low and high <= last
