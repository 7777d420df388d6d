"""What goes wrong on purpose: one base class, a few children, one template.

A message names the file as it was given, the place, the layer and its type, then says what is wrong and what to do:
``nets/net.prototxt:112: layer 'pool5' (Pooling): stride 0; a stride is at least 1``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


class ConversionError(Exception):
    """The base of all that this package raises on purpose: an input that can't be converted, and why.

    what: the message without its place. path, line, column: the file as it was given, and where in it. layer: the name of the layer, module
    or operator. hint: what to do about it, a half sentence. str() puts them together: `path:line: what; hint`.
    """

    is_of_a_file = True
    """Whether it is a file's fault: `about` names one."""

    def __init__(
        self,
        what: str,
        *,
        path: str | None = None,
        line: int | None = None,
        column: int | None = None,
        layer: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.counts: tuple[int, int] | None = None
        """Numbers that a sample has where a layer takes another count of them, and that count: another image size may give it."""
        self.images: dict[str, tuple[int, ...]] = {}
        """The shapes of the inputs at which that came out."""
        self.what, self.path, self.line, self.column, self.layer, self.hint = what, path, line, column, layer, hint

    @property
    def place(self) -> str:
        """`path:line: `, as far as it is known."""
        if self.path is None:
            return ""
        return ":".join([printable(self.path, 400), *(str(n) for n in (self.line, self.column) if n is not None)]) + ": "

    def __str__(self) -> str:
        return self.place + self.what + (f"; {self.hint}" if self.hint else "")


def of_another_size(problem: ConversionError, found: int, wanted: int) -> ConversionError:
    """The error, which an image that gives a layer `wanted` numbers for each sample instead of `found` would not have raised."""
    problem.counts = (found, wanted)
    return problem


class FormatError(ConversionError):
    """A file is broken, truncated, hostile or of another kind than expected."""


class UnsupportedError(ConversionError):
    """Layers, modules or operators that no lowering is registered for; all of them are named at once, in `sources`."""

    sources: Sequence[Source] = ()

    def __str__(self) -> str:
        if not self.sources:
            return super().__str__()
        return self.what + (f"\n{self.hint}" if self.hint else "")


class NoNetError(ConversionError):
    """A file holds weights, or nothing of a model, where a net was asked for."""


class OutputExistsError(ConversionError):
    """The target exists already, and overwriting it wasn't asked for."""


class ConversionWarning(UserWarning):
    """Something the user should know of a conversion that goes on; the command line prints it on stderr."""


@contextlib.contextmanager
def about(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors raised inside that don't say which file they are about are about this one.

    >>> with about("net.t7"):
    ...     raise FormatError("ends after 12 bytes")
    Traceback (most recent call last):
    converters.errors.FormatError: net.t7: ends after 12 bytes
    """
    try:
        yield
    except ConversionError as problem:
        if problem.path is None and problem.is_of_a_file:
            problem.path = os.fspath(path)
        raise


_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


_LIBRARIES = frozenset({"contextlib", "google", "ml_dtypes", "numpy", "onnx", "onnx_ir"})
"""What lowerings of this package call: an exception that comes through these alone is no user's."""


def user_code(problem: BaseException) -> str | None:
    """The line, `plugin.py:7`, of code outside this package that an exception came through last, called by this package; None for none."""
    found = None
    trace = problem.__traceback__
    inside = False
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_filename.startswith(_PACKAGE):
            inside = True
        elif inside and str(frame.f_globals.get("__name__", "")).partition(".")[0] not in _LIBRARIES:
            found = f"{printable(frame.f_code.co_filename, 400)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def warn(message: str) -> None:
    """Issues a ConversionWarning that points at the line outside this package that called into it."""
    level, frame = 2, sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ConversionWarning, stacklevel=level)


@dataclass(frozen=True)
class Source:
    """Where a node comes from: ``net.prototxt:112 pool5 (Pooling)``.

    file: the path as it was given. noun is the source framework's word: "layer" (Caffe), "module" (Lua, torch), "operator" (MXNet, ONNX).
    """

    file: str
    noun: str
    name: str
    type: str
    line: int | None = None

    def __str__(self) -> str:
        base = os.path.basename(self.file)
        place = base if self.line is None else f"{base}:{self.line}"
        return f"{place} {printable(self.name)} ({printable(self.type)})"

    def describe(self, message: str) -> str:
        """The error template, filled in."""
        return str(self.error(message))

    def error(self, message: str, hint: str | None = None) -> ConversionError:
        what = f"{self.noun} '{printable(self.name)}' ({printable(self.type)}): {message}"
        return ConversionError(what, path=self.file, line=self.line, layer=self.name, hint=hint)


def printable(text: object, limit: int = 120) -> str:
    """Text from a file made safe for a terminal: no control characters, bounded length."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: limit + 1])
    return shown if len(shown) <= limit else shown[:limit] + "..."


def unsupported(sources: Iterable[Source], reader: str, *more: str) -> UnsupportedError:
    """One error for all layers that nobody knows: a line each (the first 20), what else helps here, then the two ways out.

    reader: the room of converters.readers whose `lowers` registers them.
    """
    found = tuple(sources)
    lines = [source.describe("no lowering is registered for this type") for source in found]
    shown = lines[:20] + ([f"... and {len(lines) - 20} more"] if len(lines) > 20 else [])
    ways = (
        f"write a function for each under @lowers (from converters.readers.{reader} import lowers) and give its file with "
        "--plugin FILE.py --trust; or end the net before them with --output NAME. `convert formats` lists what is known"
    )
    first = found[0]
    hint = "\n".join([*more, ways])
    problem = UnsupportedError("\n".join(shown), path=first.file, line=first.line, layer=first.name, hint=hint)
    problem.sources = found
    return problem
