"""Protobuf's wire format, read by hand: the fields of a message as places in a view, so that what is large is never copied.

Source: protobuf's "Encoding" page. It needs no protobuf, so that files are recognized, and checkpoints read, where there is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from converters.errors import FormatError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Span = tuple[int, int, int, int, int]
"""Number, wire type, where the field begins, where its payload does, where it ends."""
Field = tuple[int, int, int, memoryview]
"""Number, wire type, the number of a varint or a fixed field (else 0), and the payload of the others."""


class CutOffError(FormatError):
    """A message that ends inside one of its fields."""


def varint(view: memoryview, at: int, end: int, what: str = "the message") -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises FormatError where it doesn't end in time; `what` is being read."""
    result = shift = 0
    begin = at
    while True:
        if at >= end:
            raise CutOffError(f"{what} ends inside a number (byte {begin}): it is cut off")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise FormatError(f"{what} holds a number of more than 64 bits (byte {begin})")


def spans(view: memoryview, at: int, end: int, what: str = "the message", *, whole: bool = True) -> Iterator[Span]:
    """The fields of the message between two places of a view. Raises FormatError where it isn't one.

    whole: refuse a field that reaches behind the end; without it that one is the last.
    """
    while at < end:
        begin = at
        key = view[at]
        at += 1
        if key > 0x7F:
            key, at = varint(view, begin, end, what)
        wire = key & 7
        if wire == BYTES:
            length, start = varint(view, at, end, what)
            at = start + length
        elif wire == VARINT:
            start = at
            _, at = varint(view, at, end, what)
        elif wire in (FIXED64, FIXED32):
            start = at
            at += 8 if wire == FIXED64 else 4
        else:
            raise FormatError(f"{what} has a field of wire type {wire}, which no message has (byte {begin})")
        if key < 8:
            raise FormatError(f"{what} has a field of the number 0 (byte {begin})")
        if at > end and whole:
            raise CutOffError(
                f"{what} has a field that claims {at - start} bytes where {end - start} are left (byte {begin}): it is cut off"
            )
        yield key >> 3, wire, begin, start, at


def fields(view: memoryview, what: str) -> Iterator[Field]:
    """The fields of a message that fills a view, with their numbers and payloads. Raises FormatError where it isn't one."""
    for number, wire, _, start, end in spans(view, 0, len(view), what):
        if wire == VARINT:
            yield number, wire, varint(view, start, end)[0], view[:0]
        else:
            payload = view[start:end]
            yield number, wire, int.from_bytes(payload, "little") if wire != BYTES else 0, payload


def signed(number: int) -> int:
    """A varint as the int64 that it stands for."""
    return number - (1 << 64) if number >> 63 else number


def varints(data: memoryview, what: str) -> NDArray[np.int64]:
    """Packed varints as int64. Raises FormatError where the last is cut off or one is too long."""
    import numpy as np

    raw = np.frombuffer(data, np.uint8)
    if not raw.size:
        return np.empty(0, np.int64)
    ends = np.flatnonzero(raw < 0x80)
    if not ends.size or ends[-1] != raw.size - 1:
        raise CutOffError(f"{what} is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise FormatError(f"{what} has a number that is too long")
    result = np.zeros(ends.size, np.uint64)
    for place in range(int(lengths.max())):
        has = lengths > place
        result[has] |= (raw[starts[has] + place].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * place)
    return result.view(np.int64)


def header(number: int, length: int) -> bytes:
    """What a field of so many bytes begins with."""
    out = bytearray()
    for value in (number << 3 | BYTES, length):
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)
