"""Zip archives as torch writes them, read from a mapped view: nothing is unpacked, every size and place is checked.

Format: PKWARE's APPNOTE.TXT; torch/serialization.py; caffe2/serialize/inline_container.cc.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from converters.errors import FormatError, printable, warn
from converters.files import crc32
from converters.tensors.storage import CHUNK, Storage

_LOCAL, _END = b"PK\3\4", b"PK\5\6"
_LARGE = 0xFFFFFFFF
_INDEX_LIMIT = 1 << 26  # bytes of an inflated index; a storage may be larger, as it is inflated piece by piece


@dataclass(frozen=True)
class Entry:
    """One member: its data lies at `start`, `packed` bytes long; `size` bytes once it is inflated."""

    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    start: int


class ZipStorage(Storage):
    """The data of one entry, whose CRC is checked when it is read from end to end."""

    def __init__(self, archive: ZipArchive, entry: Entry, *, check: bool) -> None:
        super().__init__(archive.raw(entry) if entry.method == 0 else memoryview(b""))
        self.archive, self.entry, self.check, self.nbytes = archive, entry, check, entry.size

    def view(self) -> memoryview:
        return self._view if self.entry.method == 0 else memoryview(b"".join(self.archive.inflate(self.entry)))

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        crc = 0
        is_whole = self.check and start == 0 and stop == self.nbytes
        for piece in self.unchecked(start, stop):
            if is_whole:
                crc = crc32(piece, crc)
            yield piece
        if is_whole:
            self.compare(crc)

    def unchecked(self, start: int, stop: int) -> Iterator[memoryview]:
        if self.entry.method == 0:
            yield from super().chunks(start, stop)
            return
        at = 0
        for piece in self.archive.inflate(self.entry):
            low, high = max(start - at, 0), min(stop - at, len(piece))
            at += len(piece)
            if low < high:
                yield piece[low:high]

    def compare(self, crc: int) -> None:
        if self.check and crc != self.entry.crc:
            self.archive.note_damage(self.entry)


class ZipArchive:
    """The members of a zip file by name. Raises FormatError for an archive that contradicts itself."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.entries: dict[str, Entry] = {}
        self.first = ""
        self.doubled: set[str] = set()
        self.damaged: set[str] = set()
        start, size, count = self._directory()
        self._read_directory(start, size, count)

    def _directory(self) -> tuple[int, int, int]:
        """Where the central directory is: the end record that fits, from the end of the file backwards."""
        view, length = self.view, len(self.view)
        low = max(0, length - 0x10000 - 22 - 0x10000)
        tail = bytes(view[low:])
        found = tail.rfind(_END)
        while found >= 0:
            at = low + found
            if at + 22 <= length:
                disk, first_disk, here, count, size, start = struct.unpack_from("<4H2I", view, at + 4)
                until, large = at, self._large_end(at)
                if large is not None:  # torch writes the 64-bit end record whether it is needed or not
                    until = large[0]
                    if _LARGE in (size, start) or count == 0xFFFF:
                        here = count = large[1]
                        size, start = large[2:]
                if not disk and not first_disk and here == count and start + size == until and self._begins(start, count):
                    if _LOCAL in bytes(view[at + 22 :]):
                        raise FormatError("holds several zip archives one after the other, and programs differ on which one counts")
                    return start, size, count
            found = tail.rfind(_END, 0, found)
        raise FormatError("the zip archive's directory isn't where its end says: the file is cut short or broken")

    def _large_end(self, at: int) -> tuple[int, int, int, int] | None:
        view = self.view
        if at < 20 or bytes(view[at - 20 : at - 16]) != b"PK\6\7":
            return None
        place = int.from_bytes(view[at - 12 : at - 4], "little")
        if place + 56 > at - 20 or bytes(view[place : place + 4]) != b"PK\6\6":
            return None
        here, count, size, start = struct.unpack_from("<4Q", view, place + 24)
        return (place, count, size, start) if here == count else None

    def _begins(self, start: int, count: int) -> bool:
        return count == 0 or bytes(self.view[start : start + 4]) == b"PK\1\2"

    def _read_directory(self, start: int, size: int, count: int) -> None:
        view, at, end = self.view, start, start + size
        spans: list[tuple[int, int]] = []
        for number in range(count):
            if at + 46 > end or bytes(view[at : at + 4]) != b"PK\1\2":
                raise FormatError(f"the zip archive announces {count} entries; its directory holds {number}")
            flags, method = struct.unpack_from("<2H", view, at + 8)
            crc, packed, full, name_size, extra_size, comment_size = struct.unpack_from("<3I3H", view, at + 16)
            (offset,) = struct.unpack_from("<I", view, at + 42)
            raw = bytes(view[at + 46 : at + 46 + name_size])
            extra = bytes(view[at + 46 + name_size : at + 46 + name_size + extra_size])
            at += 46 + name_size + extra_size + comment_size
            full, packed, offset = _wide(extra, full, packed, offset)
            data = self._local(raw, method, offset, start)
            if method == 0 and packed != full:
                raise FormatError(f"{_name(raw)}: is stored as {packed} bytes and announced as {full}")
            if packed > start - data:
                raise FormatError(f"{_name(raw)}: its {packed} bytes reach beyond the archive's data")
            spans.append((offset, data + packed))
            name = raw.decode("utf-8", "surrogateescape")
            if name in self.entries:
                self.doubled.add(name)
            self.first = self.first or name
            self.entries[name] = Entry(name, method, flags, crc, packed, full, data)
        if at != end:
            raise FormatError("the zip archive's directory is longer than its entries")
        spans.sort()
        if spans and spans[0][0] and bytes(view[:4]) == _LOCAL:
            raise FormatError("the zip archive begins with an entry that its directory doesn't list: there may be another archive in front")
        for (_, stop), (begin, _) in pairwise(spans):
            if begin < stop:
                raise FormatError("two entries of the zip archive overlap: the file is broken or a bomb")

    def _local(self, raw: bytes, method: int, offset: int, limit: int) -> int:
        """Where an entry's data begins, once its own header has agreed with the directory."""
        view = self.view
        if offset + 30 > limit or bytes(view[offset : offset + 4]) != b"PK\3\4":
            raise FormatError(f"{_name(raw)}: the zip archive has no entry at byte {offset}")
        (own_method,) = struct.unpack_from("<H", view, offset + 8)
        name_size, extra_size = struct.unpack_from("<2H", view, offset + 26)
        if bytes(view[offset + 30 : offset + 30 + name_size]) != raw or own_method != method:
            raise FormatError(f"{_name(raw)}: the zip archive's directory and the entry itself disagree")
        data = offset + 30 + name_size + extra_size
        if data > limit:
            raise FormatError(f"{_name(raw)}: its header reaches beyond the archive's data")
        return int(data)

    # -- contents

    def entry(self, name: str) -> Entry:
        entry = self.entries.get(name)
        if entry is None:
            raise FormatError(f"the archive has no '{printable(name)}', which its index refers to")
        if name in self.doubled:
            raise FormatError(f"the archive has '{printable(name)}' twice, and programs differ on which one counts")
        if entry.flags & 1:
            raise FormatError(f"{printable(name)}: is encrypted")
        if entry.method not in (0, 8):
            raise FormatError(f"{printable(name)}: is compressed by method {entry.method}; only stored and deflated entries can be read")
        return entry

    def raw(self, entry: Entry) -> memoryview:
        return self.view[entry.start : entry.start + entry.packed]

    def inflate(self, entry: Entry) -> Iterator[memoryview]:
        """A deflated entry piece by piece; raises FormatError where it isn't as long as announced."""
        source, done = self.raw(entry), 0
        engine = zlib.decompressobj(-15)
        at, pending = 0, b""
        try:
            while not engine.eof and (pending or at < len(source)):
                data = pending or bytes(source[at : at + CHUNK])
                at += 0 if pending else len(data)
                piece = engine.decompress(data, CHUNK)
                pending = engine.unconsumed_tail
                done += len(piece)
                if done > entry.size:
                    raise FormatError(f"{printable(entry.name)}: inflates to more than the {entry.size} bytes it announces")
                yield memoryview(piece)
        except zlib.error as problem:
            raise FormatError(f"{printable(entry.name)}: its compressed data is broken") from problem
        if done != entry.size or not engine.eof:
            raise FormatError(f"{printable(entry.name)}: inflates to {done} bytes; {entry.size} are announced")

    def read(self, name: str) -> memoryview:
        """A whole entry: an index, a version, source text."""
        entry = self.entry(name)
        if entry.method == 0:
            return self.raw(entry)
        if entry.size > _INDEX_LIMIT:
            raise FormatError(f"{printable(name)}: announces {entry.size} bytes; no index is that long")
        return memoryview(b"".join(self.inflate(entry)))

    def note_damage(self, entry: Entry) -> None:
        """Warns of an entry whose checksum is wrong; the first three are named."""
        if entry.name in self.damaged or len(self.damaged) > 3:
            return
        self.damaged.add(entry.name)
        words = "its checksum doesn't match: these weights may not be what was saved"
        if len(self.damaged) > 3:
            words = "and perhaps others have checksums that don't match, too"
        warn(f"{printable(entry.name)}: {words}")

    def checked(self, name: str) -> bool:
        """Whether an entry's CRC is that of its content."""
        return crc32(memoryview(self.read(name))) == self.entry(name).crc


def _wide(extra: bytes, full: int, packed: int, offset: int) -> tuple[int, int, int]:
    """The 64-bit values of the extra field 1, for those that don't fit."""
    values = [full, packed, offset]
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            place = at + 4
            for i, value in enumerate(values):
                if value == _LARGE and place + 8 <= min(at + 4 + size, len(extra)):
                    (values[i],) = struct.unpack_from("<Q", extra, place)
                    place += 8
        at += 4 + size
    return values[0], values[1], values[2]


def _name(raw: bytes) -> str:
    return printable(raw.decode("utf-8", "replace"))
