"""Checkpoints of version 2: an index with data files beside it. Source: TensorFlow's core/util/tensor_bundle."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field

from converters.errors import FormatError, printable
from converters.files import map_file
from converters.readers.tensorflow.checkpoints.crc32c import crc32c, masked
from converters.readers.tensorflow.checkpoints.slices import (
    PartsStorage,
    Slice,
    check_cover,
    dtype_of,
    place_of,
    read_shape,
    read_slice,
    shown,
    slice_key,
)
from converters.readers.tensorflow.dtypes import NO_NUMBERS, type_name
from converters.schemas.wire import BYTES, fields, signed
from converters.tensors.dtypes import DTYPES
from converters.tensors.state_dict import LeftOut, StateDict
from converters.tensors.storage import Storage, SwappedStorage
from converters.tensors.tensor import Tensor

_LARGEST_SHARDS = 1 << 16
_VERSION = 1
"""The newest form of an index that is known; its header names the oldest reader that may read it."""


@dataclass
class Entry:
    """What an index says of a variable, or of a part of one."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    slices: list[Slice] = field(default_factory=list)


def _entry(view: memoryview, what: str) -> Entry:
    entry = Entry()
    for number, wire, value, payload in fields(view, what):
        if number == 1:
            entry.dtype = value
        elif number == 2 and wire == BYTES:
            entry.shape = read_shape(payload, what)
        elif number == 3:
            entry.shard = signed(value)
        elif number == 4:
            entry.offset = signed(value)
        elif number == 5:
            entry.size = signed(value)
        elif number == 6:
            entry.checksum = value
        elif number == 7 and wire == BYTES:
            entry.slices.append(read_slice(payload, what))
    return entry


class CheckedStorage(Storage):
    """Bytes whose checksum is verified before the first of them is given out."""

    def __init__(self, view: memoryview, checksum: int, what: str, file: str) -> None:
        super().__init__(view)
        self._checksum: int | None = checksum
        self._what, self._file = what, file

    def view(self) -> memoryview:
        if self._checksum is not None:
            if masked(crc32c(self._view)) != self._checksum:
                raise FormatError(f"{self._what} is damaged (its checksum doesn't fit)", path=self._file, hint="fetch the file again")
            self._checksum = None
        return self._view


class Bundle:
    """A checkpoint of version 2, its data files mapped as they are needed."""

    def __init__(self, place: str, entries: dict[bytes, memoryview]) -> None:
        self.place, self.entries = place, entries
        self.prefix = place.removesuffix(".index")
        header = {n: (value, payload) for n, _, value, payload in fields(entries[b""], "the header")}
        self.shards = header.get(1, (0, None))[0]
        self.swapped = header.get(2, (0, None))[0] == 1
        version = header.get(3, (0, memoryview(b"")))[1]
        oldest = next((value for n, _, value, _ in fields(version, "the header") if n == 2), 0)
        if oldest > _VERSION:
            raise FormatError(f"this checkpoint asks for a reader of version {oldest}; this one knows version {_VERSION}")
        if not 1 <= self.shards <= _LARGEST_SHARDS:
            raise FormatError(f"the header speaks of {self.shards} data files")
        self._data: dict[int, tuple[str, memoryview]] = {}

    def read(self) -> StateDict:
        state = StateDict(form="TensorFlow checkpoint (version 2)")
        for key, value in self.entries.items():
            if not key or key[0] == 0:  # the header, and parts of variables
                continue
            name = key.decode("utf-8", "backslashreplace")
            what = f"variable '{printable(name)}'"
            entry = _entry(value, what)
            if entry.dtype in NO_NUMBERS:
                state.left_out.append(LeftOut(name, NO_NUMBERS[entry.dtype], None, entry.shape))
                continue
            state.tensors[name] = self._parted(key, entry, what) if entry.slices else self._tensor(entry, what)
        return state

    def _tensor(self, entry: Entry, what: str) -> Tensor:
        dtype = DTYPES[type_name(entry.dtype, what)]
        needed = math.prod(entry.shape) * dtype.itemsize
        if entry.size != needed:
            raise FormatError(f"{what} has {entry.size} bytes; its shape {entry.shape} of {dtype.name} needs {needed}")
        if not needed:
            return Tensor(Storage(memoryview(b"")), dtype.name, entry.shape)
        file, data = self._file(entry.shard, what)
        if entry.offset < 0 or entry.offset + needed > len(data):
            place = f"bytes {entry.offset} to {entry.offset + needed}"
            words = f"{what} needs {place} of {printable(os.path.basename(file))}, which has {len(data)}"
            raise FormatError(words, hint="the file is cut off; fetch it again")
        storage: Storage = CheckedStorage(data[entry.offset : entry.offset + needed], entry.checksum, what, file)
        if self.swapped and dtype.itemsize > 1:
            storage = SwappedStorage(storage, dtype.itemsize // 2 if dtype.name.startswith("complex") else dtype.itemsize)
        return Tensor(storage, dtype.name, entry.shape)

    def _parted(self, key: bytes, entry: Entry, what: str) -> Tensor:
        """A variable that a partitioner cut: its parts are entries of their own, under its name and the part's place."""
        dtype = DTYPES[type_name(entry.dtype, what)]
        parts = []
        for part in entry.slices:
            place = place_of(part, entry.shape, what)
            found = self.entries.get(slice_key(key, part))
            if found is None:
                raise FormatError(f"{what}: its part {shown(place)} isn't in the checkpoint")
            stored = _entry(found, what)
            size = tuple(axis.stop - axis.start for axis in place)
            if stored.shape != size or stored.dtype != entry.dtype:
                raise FormatError(f"{what}: its part {shown(place)} has the shape {stored.shape}")
            parts.append((place, self._tensor(stored, what)))
        check_cover([place for place, _ in parts], entry.shape, what)
        return Tensor(PartsStorage(dtype_of(dtype.name), entry.shape, parts), dtype.name, entry.shape)

    def _file(self, shard: int, what: str) -> tuple[str, memoryview]:
        if not 0 <= shard < self.shards:
            raise FormatError(f"{what} lies in data file {shard} of {self.shards}")
        if shard not in self._data:
            file = f"{self.prefix}.data-{shard:05d}-of-{self.shards:05d}"
            if not os.path.isfile(file):
                raise FormatError(
                    f"the data file {printable(os.path.basename(file))} is missing", hint="put it beside the index; the numbers are in it"
                )
            self._data[shard] = file, map_file(file)
        return self._data[shard]
