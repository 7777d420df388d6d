"""Blocks compressed with raw snappy, as in checkpoints of TensorFlow 0.x and 1.x. Source: google/snappy format_description.txt."""

from __future__ import annotations

from converters.errors import FormatError
from converters.schemas.wire import varint

LARGEST = 1 << 28
"""Bytes of the largest block that is unpacked; TensorFlow's have one variable each, of at most 2^28 numbers in pieces."""


def unpack(data: memoryview) -> bytes:
    """The bytes of a compressed block. Raises FormatError for what isn't one, or says that it is larger than its data can be."""
    size, at = varint(data, 0, len(data), "the length of a compressed block")
    if size > LARGEST or size > 64 * len(data) + 64:  # a tag of 3 bytes gives 64 at most
        raise FormatError(f"a compressed block of {len(data)} bytes claims to hold {size}")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind, length = tag & 3, (tag >> 2) + 1
        if kind == 0:
            if length > 60:
                more = length - 60
                length = int.from_bytes(data[at : at + more], "little") + 1
                at += more
            if at + length > len(data):
                break
            out += data[at : at + length]
            at += length
            continue
        if kind == 1:
            length = (tag >> 2 & 7) + 4
            offset = (tag >> 5) << 8 | (data[at] if at < len(data) else 0)
            at += 1
        else:
            width = 2 if kind == 2 else 4
            offset = int.from_bytes(data[at : at + width], "little")
            at += width
        if not 0 < offset <= len(out) or len(out) + length > size:
            raise FormatError("a compressed block refers to bytes that it doesn't have")
        start = len(out) - offset
        piece = bytes(out[start : start + length])
        out += (piece * (length // len(piece) + 1))[:length]  # a copy may overlap what it writes
    if len(out) != size:
        raise FormatError(f"a compressed block gives {len(out)} bytes instead of {size}")
    return bytes(out)
