"""The files in a .zip or a .tar, compressed or not: unpacked one after the other, within bounds, nothing outside of the folder."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any, cast

from converters.errors import ConversionError, FormatError, printable

MOST_FILES = 100_000
SPARE, FACTOR = 1 << 30, 20
"""An archive's files may take this many bytes, and so many times as many as the archive itself."""
_BLOCK = 1 << 20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError)
_PROBLEMS = (*_DAMAGED, RuntimeError, NotImplementedError, ValueError)


def unpack(archive: str, kind: str, folder: str, wanted: frozenset[str] | None = None) -> list[str]:
    """Writes an archive's plain files, or those wanted, into the folder; what was left out, a line each.

    kind: of recognition.KINDS. Links, devices, encrypted files and names that lead elsewhere are left out. Raises FormatError for a
    damaged archive, ConversionError for one that grows beyond bounds.
    """
    left = SPARE + FACTOR * os.path.getsize(archive)
    notes: list[str] = []
    try:
        with ExitStack() as stack:
            for number, (name, stream) in enumerate(_members(archive, kind, stack, notes)):
                if number >= MOST_FILES:
                    raise ConversionError(f"the archive holds more than {MOST_FILES:,} files", path=archive)
                parts = name.split("/")
                if name.startswith("/") or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
                    notes.append(f"{printable(name)} has a name that leads elsewhere")
                elif wanted is None or name in wanted:
                    left = _write(stream, os.path.join(folder, *parts), left, archive)
    except _PROBLEMS as problem:
        raise FormatError(f"the archive is damaged: {printable(problem, 200)}", path=archive) from problem
    return notes


def _members(archive: str, kind: str, stack: ExitStack, notes: list[str]) -> Iterator[tuple[str, IO[bytes]]]:
    if kind in ("zip", "zip-of-checkpoint"):
        packed = stack.enter_context(zipfile.ZipFile(archive))
        for info in packed.infolist():
            if info.flag_bits & 1:
                notes.append(f"{printable(info.filename)} is encrypted")
            elif not info.is_dir():
                with packed.open(info) as stream:
                    yield info.filename, stream
        return
    opened = _opened(archive, kind, stack)
    tar = _tar(opened)
    if tar is None:
        name, _ = os.path.splitext(os.path.basename(archive))
        yield name, _opened(archive, kind, stack)  # a single file, compressed
        return
    for member in stack.enter_context(tar):
        if member.isreg():
            yield member.name.removeprefix("./"), cast("IO[bytes]", tar.extractfile(member))
        elif not member.isdir():
            notes.append(f"{printable(member.name)} is a link or a device")


def _tar(stream: IO[bytes]) -> tarfile.TarFile | None:
    """The archive in a stream; None where it is something else."""
    try:
        return tarfile.open(fileobj=stream, mode="r|")
    except tarfile.ReadError:
        return None


def _opened(archive: str, kind: str, stack: ExitStack) -> IO[bytes]:
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
    return cast("IO[bytes]", stack.enter_context(openers.get(kind, open)(archive, "rb")))


def _write(stream: IO[bytes], place: str, left: int, archive: str) -> int:
    """Copies a member; what is left of the bytes that are allowed."""
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "xb") as file:  # a second member of one name is damage
        while block := stream.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise ConversionError("the archive grows beyond what an archive of models can", path=archive)
            file.write(block)
    return left
