"""Files in and out: inputs are mapped, never copied; outputs are written beside and renamed."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from converters.errors import ConversionError, FormatError, OutputExistsError

StrPath = str | os.PathLike[str]


_PREALLOCATED = 1 << 22  # smaller files aren't worth the call


def map_file(path: StrPath) -> memoryview:
    """A read-only view of the whole file, mapped: bytes are read from disk when they are looked at.

    The mapping lives as long as any view (or numpy array) of it. Raises FormatError for an empty file, ConversionError for
    a file that can't be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                raise FormatError(f"{os.path.basename(path)}: the file is empty (0 bytes)")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ConversionError(f"{os.fspath(path)}: can't be read: {reason}") from problem


def check_target(path: StrPath, *, force: bool = False) -> Path:
    """The target as a Path; refuses one that exists (unless forced) or whose folder doesn't."""
    target = Path(path)
    if target.is_dir():
        raise OutputExistsError(f"{target}: is a folder, not a file to write")
    if not force and (target.exists() or target.is_symlink()):
        raise OutputExistsError(f"{target}: exists already; choose another name or overwrite it with --force (force=True)")
    if not target.parent.is_dir():
        raise ConversionError(f"{target}: the folder {target.parent} doesn't exist; make it first")
    return target


@contextlib.contextmanager
def writing(path: StrPath, *, force: bool = False, size: int = 0) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends well, and vanishes when it doesn't.

    It is written under a temporary name in the same folder and renamed at the end, so that an interrupted run leaves no half
    file and a source mapped under the same name stays intact. size: bytes that are about to come, where known: the disk's room
    is taken at once, so that a full disk is found first, and large files are written several times as fast.
    Raises OutputExistsError where `path` exists and force is off, ConversionError where it can't be written.
    """
    target = check_target(path, force=force)
    beside = target.with_name(f".{target.name[:80]}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "xb") as file:
            if size > _PREALLOCATED and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            yield file
            file.truncate()
        if force:
            os.replace(beside, target)
        else:
            _rename_new(beside, target)
    except OSError as problem:
        raise ConversionError(f"{target}: can't be written: {problem.strerror or problem}") from problem
    finally:
        beside.unlink(missing_ok=True)


def _rename_new(beside: Path, target: Path) -> None:
    """Renames without overwriting a target that appeared meanwhile."""
    try:
        os.link(beside, target)
    except FileExistsError as problem:
        raise OutputExistsError(f"{target}: exists already; choose another name or overwrite it with --force (force=True)") from problem
    except OSError:  # a file system without hard links
        if target.exists():
            raise OutputExistsError(f"{target}: exists already") from None
        os.rename(beside, target)
