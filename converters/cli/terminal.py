"""What reaches the terminal: results on stdout, all else on stderr, and no character that acts on the terminal itself."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from converters.errors import ConversionError, printable


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
    clear()
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
    clear()
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


# -- a line that says what is being done, for work over a second; none where stderr is no terminal ------------------------

AFTER = 1.0
"""Seconds until the line shows."""
_EVERY = 0.2
_WIDTH = 24


class _Line:
    """The line itself: words, how much of it is done where that is known, and the time; drawn again five times a second."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._begun = time.monotonic()
        self._words, self._done, self._total = "", 0, 0
        self._shown = False
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def say(self, words: str, done: int, total: int) -> None:
        """What is done from now on; done of total, if total is not 0."""
        with self._lock:
            if not (total and self._total):
                self._begun = time.monotonic()
            self._words, self._done, self._total = printable(words, 200), done, total

    def clear(self) -> None:
        """Takes the line away until it is drawn again, so that other words can stand there."""
        with self._lock:
            self._clear()

    def end(self) -> None:
        """Takes the line away for good."""
        self._ended.set()
        self._thread.join()
        self.clear()

    def _clear(self) -> None:
        if self._shown:
            self._write("\r\x1b[K")
            self._shown = False

    def _draw(self) -> None:
        while not self._ended.wait(_EVERY):
            with self._lock:
                if self._words and time.monotonic() - self._begun > AFTER:
                    self._write(f"\r\x1b[K{self.text()[: shutil.get_terminal_size().columns - 1]}")
                    self._shown = True

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone: nobody looks at it
            self._stream.write(text)
            self._stream.flush()

    def text(self) -> str:
        """The line as it stands."""
        seconds = time.monotonic() - self._begun
        if not self._total:
            return f"{self._words} ... {seconds:.0f} s"
        filled = _WIDTH * min(self._done, self._total) // self._total
        left = seconds / self._done * (self._total - self._done) if self._done else 0.0
        speed = self._done / max(seconds, 1e-9)
        return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._words}, {speed:,.0f}/s, {left:.0f} s left"


_line: _Line | None = None


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Shows a line while the block runs, where stderr is a terminal."""
    global _line
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    _line = _Line(sys.stderr)
    try:
        yield
    finally:
        line, _line = _line, None
        line.end()


def doing(words: str, done: int = 0, total: int = 0) -> None:
    """Says what is being done; done of total, if that is known."""
    if _line is not None:
        _line.say(words, done, total)


def clear() -> None:
    """Takes the line away, for a line of something else."""
    if _line is not None:
        _line.clear()
