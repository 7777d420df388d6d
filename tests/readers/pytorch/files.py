"""Checkpoints made byte by byte: pickles from opcodes, zips, streams and tars of every age."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAGIC = 0x1950A86A20F9469CFC6C


def text(value: str) -> bytes:
    """BINUNICODE."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"\x8a" + bytes([9]) + value.to_bytes(9, "little", signed=True)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def storage(key: str, count: int, kind: str = "torch FloatStorage", more: bytes = b"") -> bytes:
    """A persistent id and its opcode."""
    module, name = kind.split()
    return b"(" + text("storage") + f"c{module}\n{name}\n".encode() + text(key) + text("cpu") + number(count) + more + b"tQ"


def tensor(
    key: str, count: int, shape: tuple[int, ...], stride: tuple[int, ...], *, offset: int = 0, kind: str = "torch FloatStorage"
) -> bytes:
    """_rebuild_tensor_v2 of a storage."""
    head = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return head + storage(key, count, kind) + number(offset) + numbers(shape) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtR"


def dictionary(entries: Mapping[str, bytes]) -> bytes:
    """A pickle of a dictionary whose values are given in opcodes."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in entries.items()) + b"u."


HONEST = {"w": tensor("0", 6, (2, 3), (3, 1)), "b": tensor("1", 3, (3,), (1,))}
DATA = {"0": struct.pack("<6f", *range(6)), "1": struct.pack("<3f", 10, 11, 12)}


def zipped(
    path: Path,
    index: bytes,
    data: Mapping[str, bytes] = DATA,
    *,
    root: str = "archive/",
    method: int = zipfile.ZIP_STORED,
    order: str | None = "little",
    more: Mapping[str, bytes] | None = None,
    folder: str = "data",
) -> Path:
    """A zip checkpoint."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(root + "data.pkl", index)
        if order:
            archive.writestr(root + "byteorder", order)
        for key, content in data.items():
            archive.writestr(f"{root}{folder}/{key}", content)
        archive.writestr(root + "version", "3\n")
        for name, content in (more or {}).items():
            archive.writestr(root + name, content)
    return path


def stream(
    path: Path,
    index: bytes,
    data: Mapping[str, bytes] = DATA,
    *,
    keys: bytes | None = None,
    magic: bytes | None = None,
    system: bytes | None = None,
    itemsize: int = 4,
) -> Path:
    """A checkpoint of 0.4 to 1.5: five pickles, then the storages."""
    content = magic or pickle.dumps(MAGIC, 2)
    content += pickle.dumps(1001, 2) + (system or pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2)) + index
    content += keys if keys is not None else pickle.dumps(sorted(data), 2)
    for key in sorted(data):
        content += struct.pack("<q", len(data[key]) // itemsize) + data[key]
    path.write_bytes(content)
    return path


def old_index(value: bytes) -> bytes:
    """The same index with the six fields that a stream's storages have."""
    return value.replace(b"tQ", b"NtQ")


def tarred(
    path: Path, index: bytes, tensors: list[Any], storages: list[Any], views: list[Any], *, file_format: int = tarfile.PAX_FORMAT
) -> Path:
    """A checkpoint of 0.1 to 0.3. storages: (key, class, bytes, itemsize); tensors: (key, storage, shape, stride, offset)."""
    stored = pickle.dumps(len(storages), 2)
    for key, kind, content, itemsize in storages:
        module, name = kind.split()
        stored += b"\x80\x02(" + text(key) + text("cpu") + f"c{module}\n{name}\n".encode() + b"t."
        stored += struct.pack("<q", len(content) // itemsize) + content
    stored += pickle.dumps(views, 2)
    listed = pickle.dumps(len(tensors), 2)
    for key, storage_key, shape, stride, offset in tensors:
        listed += b"\x80\x02(" + text(key) + text(storage_key) + b"ctorch\nFloatTensor\nt."
        listed += struct.pack("<ii", len(shape), 0) + struct.pack(f"<{2 * len(shape) + 1}q", *shape, *stride, offset)
    with tarfile.open(path, "w", format=file_format) as archive:
        for name, content in (("sys_info", pickle.dumps({}, 2)), ("pickle", index), ("tensors", listed), ("storages", stored)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
