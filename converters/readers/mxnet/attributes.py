"""Attribute text of MXNet's symbols, read by the type that the operator's signature states; never evaluated.

Source: dmlc-core include/dmlc/parameter.h; mxnet include/mxnet/tuple.h.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union

from converters.errors import printable

Ints = tuple[int, ...]
Floats = tuple[float, ...]
IntsOrNone = tuple[int | None, ...]

_INT = re.compile(r"[+-]?[0-9]{1,20}[lL]?")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?|\.[0-9]+([eE][+-]?[0-9]+)?|inf(inity)?|nan)f?", re.IGNORECASE)
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def parse(text: str, kind: Any) -> Any:
    """The value that `text` spells, `kind` being int, float, bool, str, a Literal, a tuple of them, or one of these or None.

    Raises ValueError with the reason.
    """
    text = text.strip()
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        options = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if text in ("None", "") else parse(text, options[0])
    if origin is Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            raise ValueError(f"is '{printable(text)}'; it must be one of {', '.join(map(str, choices))}")
        return text
    if origin is tuple:
        return _tuple(text, typing.get_args(kind)[0])
    return _SCALARS[kind](text)


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError(f"is '{printable(text)}', which is no integer")
    return int(text.rstrip("lL"))


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise ValueError(f"is '{printable(text)}', which is no number")
    return float(text if text[-1:] not in "fF" or text.lower().endswith("inf") else text[:-1])


def _bool(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"is '{printable(text)}'; it must be True or False")
    return _BOOLEANS[text.lower()]


def _tuple(text: str, kind: Any) -> tuple[Any, ...]:
    if text in ("None", ""):
        return ()
    inside = text
    if text[:1] in "([":
        if text[-1:] != {"(": ")", "[": "]"}[text[0]] or len(text) < 2:
            raise ValueError(f"is '{printable(text)}', whose brackets don't match")
        inside = text[1:-1].strip()
    if not inside:
        return ()
    parts = inside.split(",")
    if not parts[-1].strip():
        parts.pop()
    if len(parts) > 4096:
        raise ValueError(f"has {len(parts)} entries")
    try:
        return tuple(parse(part, kind) if part.strip() else _blank() for part in parts)
    except ValueError as problem:
        raise ValueError(f"is '{printable(text)}', an unreadable tuple: an entry {problem}") from problem


def _blank() -> Any:
    raise ValueError("is empty")


_SCALARS: dict[Any, Callable[[str], Any]] = {int: _int, float: _float, bool: _bool, str: lambda text: text}
