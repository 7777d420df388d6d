"""What reaches the terminal: results on stdout, all else on stderr, and no character that acts on the terminal itself."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

from converters.errors import ConversionError


class OutputError(OSError):
    """Standard output can't be written."""


def prepare() -> None:
    """Makes the streams take any text, whatever the locale; what has no form in it is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def safe(text: str) -> str:
    """The text with all but printable characters, tabs and line ends as an escape: control characters, marks of direction."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def say(text: str) -> None:
    """A line on stderr."""
    if sys.stderr is not None:
        print(safe(text), file=sys.stderr)


_STYLES = {"title": "1", "head": "2", "wrong": "31", "right": "32"}
"""What a line is, and the terminal's code for its look."""


def tell(text: str, style: str = "") -> None:
    """A line on stdout, in the look of a style where that is a terminal. Raises OutputError where stdout is full or closed."""
    if sys.stdout is None:
        raise OutputError("standard output is closed")
    shown = safe(text)
    if style in _STYLES and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        shown = f"\x1b[{_STYLES[style]}m{shown}\x1b[0m"
    try:
        print(shown)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as problem:
        raise OutputError(f"standard output can't be written: {getattr(problem, 'strerror', None) or problem}") from problem


def tell_json(value: Any) -> None:
    """A value as strict JSON on stdout: numbers that JSON has no form for are null."""
    tell(json.dumps(_strict(value), indent=1, allow_nan=False))


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def flush() -> None:
    """Writes what is waiting. Raises OutputError where stdout is full."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as problem:
        raise OutputError(f"standard output can't be written: {getattr(problem, 'strerror', None) or problem}") from problem


def abandon() -> None:
    """Sends what is still waiting nowhere, so that Python's own last flush doesn't complain."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_dict(problem: ConversionError) -> dict[str, Any]:
    """An error as plain data: the keys are the same in every command."""
    return {"error": str(problem), "path": problem.path, "line": problem.line, "layer": problem.layer, "hint": problem.hint}


def fail(problem: ConversionError, as_json: bool, *, status: int = 1) -> int:
    """Says an error: as one object on stdout where JSON is asked for, else as lines on stderr. Returns the status."""
    if as_json:
        tell_json(as_dict(problem))
        flush()
    else:
        say(f"error: {problem}" if status == 1 else str(problem))
    return status
