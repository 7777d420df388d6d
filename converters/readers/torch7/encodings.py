"""How a .t7 writes numbers and strings: as the machine that wrote it held them, or as text. Source: torch7/lib/TH/THDiskFile.c."""

from __future__ import annotations

import re
import struct
import warnings
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.errors import printable


class BrokenError(Exception):
    """What is wrong at the current offset; becomes a FormatError that names file, offset and field."""


class Encoding(Protocol):
    offset: int

    def remaining(self) -> int: ...
    def integer(self) -> int: ...
    def long_integer(self) -> int: ...
    def longs(self, count: int) -> tuple[int, ...]: ...
    def double(self) -> float: ...
    def chars(self, count: int) -> bytes: ...
    def numbers(self, dtype: str, count: int) -> NDArray[Any]: ...


class Binary:
    """Numbers as the machine that wrote them held them; order: "<" or ">", long_bytes: 4 or 8."""

    def __init__(self, view: memoryview, order: str, long_bytes: int) -> None:
        self.view, self.order, self.offset = view, order, 0
        self.long_bytes = long_bytes
        self._int = struct.Struct(order + "i")
        self._long = struct.Struct(order + ("q" if long_bytes == 8 else "i"))
        self._double = struct.Struct(order + "d")

    def remaining(self) -> int:
        return len(self.view) - self.offset

    def _take(self, count: int, what: str) -> int:
        start = self.offset
        if count > len(self.view) - start:
            missing = count - (len(self.view) - start)
            raise BrokenError(f"the file ends inside {what}: {missing} of {count} bytes are missing (truncated?)")
        self.offset = start + count
        return start

    def integer(self) -> int:
        return int(self._int.unpack_from(self.view, self._take(4, "an int"))[0])

    def long_integer(self) -> int:
        return int(self._long.unpack_from(self.view, self._take(self.long_bytes, "a long"))[0])

    def longs(self, count: int) -> tuple[int, ...]:
        start = self._take(count * self.long_bytes, f"{count} longs")
        return struct.unpack_from(f"{self.order}{count}{'q' if self.long_bytes == 8 else 'i'}", self.view, start)

    def double(self) -> float:
        return float(self._double.unpack_from(self.view, self._take(8, "a number"))[0])

    def chars(self, count: int) -> bytes:
        start = self._take(count, "a string")
        return bytes(self.view[start : start + count])

    def numbers(self, dtype: str, count: int) -> NDArray[Any]:
        kind = np.dtype(self.order + (f"i{self.long_bytes}" if dtype == "i8" else dtype))
        start = self._take(count * kind.itemsize, f"a storage of {count} elements")
        return np.frombuffer(self.view, dtype=kind, count=count, offset=start)


class Ascii:
    """Numbers as text, one vector a line; strings, and storages of bytes, as they are with a newline behind."""

    _token = re.compile(rb"[ \t\r\n\v\f]*([^ \t\r\n\v\f]+)")

    def __init__(self, view: memoryview) -> None:
        self.view, self.offset = view, 0

    def remaining(self) -> int:
        return len(self.view) - self.offset

    def _word(self, what: str) -> bytes:
        match = self._token.match(self.view, self.offset)
        if match is None:
            raise BrokenError(f"the file ends where {what} is due (truncated?)")
        if match.end() - match.start(1) > 400:
            raise BrokenError(f"{what} is due, not a word of {match.end() - match.start(1)} characters")
        self.offset = match.end()
        return match[1]

    def _integer(self, what: str) -> int:
        word = self._word(what)
        try:
            return int(word) if len(word) < 25 else int(b"x")
        except ValueError:
            raise BrokenError(f"{what} is due, not {printable(word.decode('latin-1'), 40)!r}") from None

    def integer(self) -> int:
        return self._integer("an int")

    def long_integer(self) -> int:
        return self._integer("a long")

    def longs(self, count: int) -> tuple[int, ...]:
        return tuple(self._integer("a long") for _ in range(count))

    def double(self) -> float:
        word = self._word("a number")
        try:
            return float(word)
        except ValueError:
            raise BrokenError(f"a number is due, not {printable(word.decode('latin-1'), 40)!r}") from None

    def chars(self, count: int) -> bytes:
        # the number before was followed by exactly one newline, which no reader has taken yet
        self._newline()
        if count > self.remaining():
            raise BrokenError(f"the file ends inside a string: {count - self.remaining()} of {count} bytes are missing (truncated?)")
        text = bytes(self.view[self.offset : self.offset + count])
        self.offset += count
        return text

    def _newline(self) -> None:
        if bytes(self.view[self.offset : self.offset + 2]) == b"\r\n":
            self.offset += 2
        elif bytes(self.view[self.offset : self.offset + 1]) == b"\n":
            self.offset += 1

    def numbers(self, dtype: str, count: int) -> NDArray[Any]:
        if dtype in ("u1", "i1"):
            return np.frombuffer(self.chars(count), dtype=dtype)
        if 2 * count > self.remaining() + 1:
            raise BrokenError(f"a storage of {count} elements doesn't fit in the {self.remaining()} bytes that are left (truncated?)")
        if (line := self._line(dtype, count)) is not None:
            return line
        words = [self._word(f"a storage of {count} elements") for _ in range(count)]
        try:
            if dtype[0] == "f":
                with np.errstate(over="ignore"):
                    return np.array([float(word) for word in words], dtype=np.float64).astype(dtype)
            return np.array([int(word) for word in words], dtype=dtype)
        except (ValueError, OverflowError):
            raise BrokenError(f"a storage of {count} elements holds a word that is no number of its type") from None

    def _line(self, dtype: str, count: int) -> NDArray[Any] | None:
        """The numbers of one whole line, read at once; None where it doesn't hold just these."""
        end = self.offset
        while end < len(self.view) and self.view[end] in b" \t\r\n":
            end += 1
        start = end
        while end < len(self.view) and (at := bytes(self.view[end : end + 65536]).find(b"\n")) < 0:
            end = min(end + 65536, len(self.view))
        end = end if end == len(self.view) else end + at
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # numpy warns where it stops at something that is no number
                numbers = np.fromstring(bytes(self.view[start:end]), dtype=np.float64 if dtype[0] == "f" else np.int64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
        with np.errstate(over="ignore"):
            made = numbers.astype(dtype)
        if len(made) != count or (dtype[0] == "i" and (made != numbers).any()):
            return None
        self.offset = end
        return made
