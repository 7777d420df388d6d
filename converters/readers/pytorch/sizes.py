"""Sizes, strides and offsets of a file: Python integers, checked before anything is made of them."""

from __future__ import annotations

from typing import Any

from converters.errors import FormatError
from converters.tensors.tensor import TorchName

LIMIT = 1 << 63  # what torch counts with is signed and has 64 bits
_DIMENSIONS = 64


def count(value: Any, what: str) -> int:
    """A size or an offset: an integer from 0 to 2**63 - 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(f"{what} is a {type(value).__name__}, not an integer")
    if not 0 <= value < LIMIT:
        raise FormatError(f"{what} is {value if abs(value) < 10**30 else 'a huge number'}; it must be from 0 to 2**63 - 1")
    return value


def counts(values: Any, what: str) -> tuple[int, ...]:
    values = _size(values)
    if not isinstance(values, tuple | list):
        raise FormatError(f"{what} is a {type(values).__name__}, not a tuple of integers")
    if len(values) > _DIMENSIONS:
        raise FormatError(f"{what} has {len(values)} dimensions; {_DIMENSIONS} are the most torch has")
    return tuple(count(value, what) for value in values)


def _size(value: Any) -> Any:
    """torch.Size((2, 3)) as its tuple."""
    if isinstance(value, TorchName) and value.name == "Size" and value.arguments:
        return value.arguments[0]
    return value
