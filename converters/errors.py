"""What goes wrong on purpose: one base class, a few children, one template.

A message names the file, the place, the layer and its type, then says what is wrong and what to do:
``net.prototxt:112: layer 'pool5' (Pooling): stride 0; a stride is at least 1``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass


class ConversionError(Exception):
    """The base of all that this package raises on purpose: an input that can't be converted, and why."""


class FormatError(ConversionError):
    """A file is broken, truncated, hostile or of another kind than expected."""


class UnsupportedError(ConversionError):
    """Layers, modules or operators that no lowering is registered for; all of them are named at once."""


class OutputExistsError(ConversionError):
    """The target exists already, and overwriting it wasn't asked for."""


class ConversionWarning(UserWarning):
    """Something the user should know of a conversion that goes on; the command line prints it on stderr."""


@dataclass(frozen=True)
class Source:
    """Where a node comes from: ``net.prototxt:112 pool5 (Pooling)``.

    noun is the source framework's word: "layer" (Caffe), "module" (Lua, torch), "operator" (MXNet, ONNX).
    """

    file: str
    noun: str
    name: str
    type: str
    line: int | None = None

    @property
    def place(self) -> str:
        """File name without folders, with the line where one is known."""
        base = os.path.basename(self.file)
        return base if self.line is None else f"{base}:{self.line}"

    def __str__(self) -> str:
        return f"{self.place} {printable(self.name)} ({printable(self.type)})"

    def describe(self, message: str) -> str:
        """The error template, filled in."""
        return f"{self.place}: {self.noun} '{printable(self.name)}' ({printable(self.type)}): {message}"

    def error(self, message: str) -> ConversionError:
        return ConversionError(self.describe(message))


def printable(text: object, limit: int = 120) -> str:
    """Text from a file made safe for a terminal: no control characters, bounded length."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text)[: limit + 1])
    return shown if len(shown) <= limit else shown[:limit] + "..."


def unsupported(sources: Iterable[Source], advice: str) -> UnsupportedError:
    """One error for all layers that nobody knows: a line each (the first 20), then the advice."""
    lines = [source.describe("no lowering is registered for this type") for source in sources]
    shown = lines[:20] + ([f"... and {len(lines) - 20} more"] if len(lines) > 20 else [])
    return UnsupportedError("\n".join([*shown, advice]))
