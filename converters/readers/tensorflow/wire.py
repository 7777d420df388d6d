"""Protobuf's wire format, as far as checkpoints need it: fields as views of the mapped file. Source: protobuf's "Encoding" page."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from converters.errors import FormatError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int, memoryview]
"""Number, wire type, the number of a varint or a fixed field (else 0), and the payload of the others."""


def varint(view: memoryview, at: int, what: str = "a number") -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises FormatError where it runs out of the view or is too long."""
    result = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise FormatError(f"{what} is cut off or too long")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def fields(view: memoryview, what: str) -> Iterator[Field]:
    """The fields of a message. Raises FormatError where it isn't one."""
    for number, wire, value, payload, _ in spans(view, what):
        yield number, wire, value, payload


def spans(view: memoryview, what: str) -> Iterator[tuple[int, int, int, memoryview, memoryview]]:
    """As `fields`, each with the bytes of the whole field too."""
    at = 0
    while at < len(view):
        start = at
        tag, at = varint(view, at, what)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, at = varint(view, at, what)
            yield number, wire, value, view[:0], view[start:at]
            continue
        if wire == BYTES:
            length, at = varint(view, at, what)
        elif wire in (FIXED64, FIXED32):
            length = 8 if wire == FIXED64 else 4
        else:
            raise FormatError(f"{what} has a field of an unknown kind")
        if at + length > len(view):
            raise FormatError(f"{what} is cut off")
        payload = view[at : at + length]
        at += length
        yield number, wire, int.from_bytes(payload, "little") if wire != BYTES else 0, payload, view[start:at]


def signed(number: int) -> int:
    """A varint as the int64 that it stands for."""
    return number - (1 << 64) if number >> 63 else number


def varints(data: memoryview, what: str) -> NDArray[np.int64]:
    """Packed varints as int64. Raises FormatError where the last is cut off or one is too long."""
    raw = np.frombuffer(data, np.uint8)
    if not raw.size:
        return np.empty(0, np.int64)
    ends = np.flatnonzero(raw < 0x80)
    if not ends.size or ends[-1] != raw.size - 1:
        raise FormatError(f"{what} is cut off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise FormatError(f"{what} has a number that is too long")
    result = np.zeros(ends.size, np.uint64)
    for place in range(int(lengths.max())):
        has = lengths > place
        result[has] |= (raw[starts[has] + place].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * place)
    return result.view(np.int64)
