"""TensorFlow's tables: sorted keys with values, in checksummed blocks; a checkpoint's index, and the whole of an old checkpoint.

A table ends in a footer of 48 bytes: the places of two blocks, of which the second lists all others, and a magic number.
Source: TensorFlow's core/lib/io/{format,block,table}.cc, which are LevelDB's.
"""

from __future__ import annotations

from collections.abc import Iterator

from converters.errors import FormatError
from converters.readers.tensorflow.checkpoints.crc32c import crc32c, masked
from converters.readers.tensorflow.checkpoints.snappy import unpack
from converters.schemas.wire import varint

MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
_FOOTER = 48
_PLAIN, _SNAPPY = 0, 1


def is_table(view: memoryview) -> bool:
    """Whether a file ends as a table does."""
    return len(view) >= _FOOTER and bytes(view[-8:]) == MAGIC


def read_table(view: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The keys and values, in the file's order; values are views where their block isn't compressed. Raises FormatError."""
    if not is_table(view):
        raise FormatError("no TensorFlow checkpoint: its end isn't that of a table (it may be cut off)")
    footer = view[-_FOOTER:-8]
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    for _, value in _entries(_block(view, index)):
        place, _ = _handle(value, 0)
        yield from _entries(_block(view, place))


def _handle(view: memoryview, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(view, at, len(view), "the place of a block")
    size, at = varint(view, at, len(view), "the place of a block")
    return (offset, size), at


def _block(view: memoryview, place: tuple[int, int]) -> memoryview:
    """A block's bytes, checked and unpacked."""
    offset, size = place
    if offset + size + 5 > len(view) - _FOOTER:
        raise FormatError(f"a block of {size} bytes at {offset} lies outside of the file")
    data, kind = view[offset : offset + size], view[offset + size]
    stored = int.from_bytes(view[offset + size + 1 : offset + size + 5], "little")
    if masked(crc32c(view[offset : offset + size + 1])) != stored:
        raise FormatError(
            f"the block at byte {offset} of this TensorFlow checkpoint is damaged (its checksum doesn't fit)", hint="fetch the file again"
        )
    if kind == _PLAIN:
        return data
    if kind == _SNAPPY:
        return memoryview(unpack(data))
    raise FormatError(f"the block at byte {offset} is compressed in a way that isn't known ({kind})")


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    if len(block) < 4:
        raise FormatError("a block is too short")
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise FormatError(f"a block of {len(block)} bytes claims {restarts} restart points")
    key, at, body = b"", 0, block[:end]
    while at < end:
        shared, at = varint(body, at, len(body), "an entry")
        unshared, at = varint(body, at, len(body), "an entry")
        length, at = varint(body, at, len(body), "an entry")
        if shared > len(key) or at + unshared + length > end:
            raise FormatError("an entry of a block is longer than the block, or shares more than there is")
        key = key[:shared] + bytes(body[at : at + unshared])
        at += unshared
        yield key, body[at : at + length]
        at += length
