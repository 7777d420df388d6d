"""Files in and out: inputs are mapped, never copied; outputs have no name until they are whole."""

from __future__ import annotations

import contextlib
import errno
import functools
import gc
import importlib
import mmap
import os
import stat
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from converters.errors import ConversionError, FormatError, OutputExistsError

StrPath = str | os.PathLike[str]


_PREALLOCATED = 1 << 22  # smaller files aren't worth the call
_mapped: weakref.WeakKeyDictionary[mmap.mmap, tuple[str, os.stat_result]] = weakref.WeakKeyDictionary()
"""Of each mapping that is still looked at, its file and what that was; see `cut_short`."""
_temporaries: set[str] = set()
"""Files under temporary names; see `forget_temporaries`."""
interruptions: list[BaseException] = []
"""What signals of this run raised; the command fills and empties it. With any of it, no file gets its name.

Code of others may swallow such an exception (a destructor, a callback from C) or turn it into an error of its own, behind which something
else is tried: what is computed from there on isn't what was asked for.
"""


class InputFile:
    """A file that somebody gives: its path as it was given, and its bytes, mapped once.

    It is a path itself (os.fspath), so that whatever takes a path takes it, and `map_file` answers its view.
    """

    def __init__(self, path: StrPath) -> None:
        self.path: str = os.fspath(path)
        self.view: memoryview = path.view if isinstance(path, InputFile) else _map(self.path)

    def __fspath__(self) -> str:
        return self.path

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return os.path.basename(self.path)


def map_file(path: StrPath) -> memoryview:
    """A read-only view of the whole file, mapped: bytes are read from disk when they are looked at.

    The mapping lives as long as any view (or numpy array) of it. Raises FormatError for an empty file, ConversionError for
    a file that can't be read or is no regular file (a pipe, a socket or a device is never opened).
    """
    return path.view if isinstance(path, InputFile) else _map(os.fspath(path))


_NO_FILES = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def _map(path: str) -> memoryview:
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            what = next((words for is_kind, words in _NO_FILES if is_kind(mode)), "no regular file")
            raise ConversionError(f"is {what}, which can't be read as a model; give a file", path=path)
        # O_NONBLOCK: what became a pipe since it was looked at still doesn't hang
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            facts = os.fstat(file.fileno())
            if facts.st_size == 0:
                raise FormatError("the file is empty (0 bytes)", path=path)
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            _mapped[mapping] = path, facts
            return memoryview(mapping)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise ConversionError(f"can't be read: {reason}", path=path) from problem


CUT_SHORT = "was cut short by another program while it was read; nothing was written"


def cut_short() -> str | None:
    """The mapped file that is shorter now than it was, as it was given; None where none is. What nobody looks at any more doesn't count."""
    if _shorter() is None:
        return None
    gc.collect()  # mappings that only cycles hold
    return _shorter()


def _shorter() -> str | None:
    for path, facts in list(_mapped.values()):
        with contextlib.suppress(OSError):
            now = os.stat(path)
            if os.path.samestat(now, facts) and now.st_size < facts.st_size:
                return path
    return None


_LONG = 1 << 18
"""Bytes from which on a checksum is worth the import of a package."""


def crc32(data: memoryview, value: int = 0) -> int:
    """The CRC-32 of bytes, going on from `value`: by isal, several times as fast, where that is installed (extra `fast`), else by zlib."""
    return zlib.crc32(data, value) if len(data) < _LONG else _crc32()(data, value)


@functools.cache
def _crc32() -> Callable[[memoryview, int], int]:
    try:
        function: Callable[[memoryview, int], int] = importlib.import_module("isal.isal_zlib").crc32
    except ImportError:
        return zlib.crc32
    return function


def forget_temporaries() -> None:
    """Removes what is half written, for a process that ends at once."""
    for path in list(_temporaries):
        with contextlib.suppress(OSError):
            os.unlink(path)


# -- outputs -----------------------------------------------------------------------------------------------------------


def check_target(path: StrPath, *, force: bool = False, sources: Sequence[StrPath] = ()) -> Path:
    """The target as a Path; refuses one that exists (unless forced), that is no regular file or a source, or whose folder is missing."""
    target = Path(path)
    shown = os.fspath(path)
    try:
        facts = os.stat(target)
    except FileNotFoundError:
        facts = None
    except (OSError, ValueError) as problem:
        raise ConversionError(f"can't be written: {getattr(problem, 'strerror', None) or problem}", path=shown) from problem
    if facts is not None and stat.S_ISDIR(facts.st_mode):
        raise OutputExistsError("is a folder, not a file to write", path=shown)
    if facts is not None and not stat.S_ISREG(facts.st_mode):
        raise OutputExistsError("is a pipe or a device, not a file to write", path=shown)
    if facts is not None:
        for source in sources:
            with contextlib.suppress(OSError):
                if os.path.samestat(facts, os.stat(source)):
                    raise OutputExistsError(f"is the source itself ({os.fspath(source)}); choose another name", path=shown)
    if not force and (facts is not None or target.is_symlink()):
        raise _exists(shown)
    if not Path(os.path.realpath(target)).parent.is_dir():
        raise ConversionError(f"the folder {target.parent} doesn't exist; make it first", path=shown)
    return target


def _exists(path: StrPath) -> OutputExistsError:
    return OutputExistsError("exists already; choose another name or overwrite it with --force (force=True)", path=os.fspath(path))


class _Output:
    """A file that is being written, without a name where the system can do that (O_TMPFILE), else under a temporary one."""

    def __init__(self, target: Path, force: bool) -> None:
        self.target, self.force = target, force
        self.place = Path(os.path.realpath(target)) if force else target
        """Where it will be: with --force, a link's goal."""
        self._name: str | None = None
        self.file = self._open()

    def _open(self) -> BinaryIO:
        folder = self.place.parent
        if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):  # by which it gets its name
            try:
                return open(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666), "w+b")
            except OSError as problem:  # a file system that has no files without names
                if problem.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                    raise
        self._name = self._temporary()
        return open(os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), "w+b")

    def _temporary(self) -> str:
        name = str(self.place.with_name(f".{os.urandom(8).hex()}.part"))
        _temporaries.add(name)
        return name

    def finish(self, *, sync: bool) -> None:
        """The bytes are all there: cuts what was reserved for more, and with `sync` waits until the disk has them.

        Raises FormatError where an input was cut short meanwhile: the rest of its last page reads as zeros.
        """
        if (path := cut_short()) is not None:
            raise FormatError(CUT_SHORT, path=path)
        self.file.truncate()
        self.file.flush()
        if sync:
            os.fsync(self.file.fileno())

    @property
    def readable(self) -> Path:
        """Where it can be read before it has its name."""
        return Path(self._name if self._name is not None else f"/proc/self/fd/{self.file.fileno()}")

    def publish(self) -> None:
        """Gives the file its name. Raises OutputExistsError where that was taken meanwhile and force is off, and what a signal raised."""
        if interruptions:
            raise interruptions[0]
        if self.force:
            self._take_over()
        if (self._name is None and not self.force) or (self._name is None and not self.place.exists()):
            self._link(os.fspath(self.place))
        else:
            if self._name is None:  # over a file that exists goes only what has a name: for a short moment
                self._name = self._temporary()
                self._link(self._name)
            self._rename(self._name)

    def _link(self, name: str) -> None:
        folder = os.open(self.place.parent, os.O_RDONLY)
        try:  # with a folder's descriptor Python calls linkat, which follows the link to the nameless file
            os.link(f"/proc/self/fd/{self.file.fileno()}", name, src_dir_fd=folder, follow_symlinks=True)
        except FileExistsError as problem:
            raise _exists(self.target) from problem
        finally:
            os.close(folder)

    def _rename(self, name: str) -> None:
        if os.name == "nt":
            self.file.close()
        if self.force:
            os.replace(name, self.place)
            return
        try:
            os.link(name, self.place)
        except FileExistsError as problem:
            raise _exists(self.target) from problem
        except OSError:  # a file system without hard links
            if self.place.exists():
                raise _exists(self.target) from None
            os.rename(name, self.place)

    def _take_over(self) -> None:
        """The mode and owner of the file that is overwritten."""
        if not hasattr(os, "fchmod"):
            return
        try:
            old = os.stat(self.place)
        except OSError:
            return
        new = os.fstat(self.file.fileno())
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            for owner, group in ((old.st_uid, old.st_gid), (-1, old.st_gid)):  # the owner is root's to give, a group of one's own isn't
                with contextlib.suppress(OSError):
                    os.fchown(self.file.fileno(), owner, group)
                    break
        os.fchmod(self.file.fileno(), stat.S_IMODE(old.st_mode))

    def withdraw(self) -> None:
        """Takes the name away again, where another file of the same writing failed; what was overwritten is lost."""
        with contextlib.suppress(OSError):
            os.unlink(self.place)

    def close(self) -> None:
        self.file.close()
        if self._name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name)
            _temporaries.discard(self._name)


_group: ContextVar[list[_Output] | None] = ContextVar("files written together", default=None)


@contextlib.contextmanager
def together() -> Iterator[Callable[[Path], Path]]:
    """Files that are written inside get their names at the end of the block, one right after the other, when all are on the disk.

    The block is given a function: a target's path -> where the finished file can be read until then.
    """
    outputs: list[_Output] = []
    token = _group.set(outputs)
    try:
        yield lambda path: next(output.readable for output in outputs if output.target == path)
        published: list[_Output] = []
        for output in reversed(outputs):  # the last first: it says what it belongs to
            try:
                with _said(output.target):
                    output.publish()
            except BaseException:
                for other in published:
                    if not other.force:
                        other.withdraw()
                raise
            published.append(output)
    finally:
        _group.reset(token)
        for output in outputs:
            output.close()


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Files that are written inside are no part of a writing together around the block: they get their names at once."""
    token = _group.set(None)
    try:
        yield
    finally:
        _group.reset(token)


@contextlib.contextmanager
def writing(path: StrPath, *, force: bool = False, size: int = 0) -> Iterator[BinaryIO]:
    """A binary file that becomes `path` when the block ends well, and vanishes when it doesn't.

    It has no name (or, where a system can't do that, a temporary one in the same folder) until it is whole, so that an interrupted run
    leaves no half file and a source mapped under the same name stays intact. With force, a file that is overwritten hands on its mode
    and owner, and a link stays one. size: bytes that are about to come, where known: the disk's room is taken at once, so that a
    full disk is found first, and large files are written several times as fast. Raises OutputExistsError where `path` exists
    and force is off, ConversionError where it can't be written.
    """
    target = check_target(path, force=force)
    group = _group.get()
    output: _Output | None = None
    with _said(target):
        try:
            output = _Output(target, force)
            if size > _PREALLOCATED and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(output.file.fileno(), 0, size)
            yield output.file
            output.finish(sync=group is not None)
            if group is None:
                output.publish()
            else:
                group.append(output)
        finally:
            if output is not None and (group is None or output not in group):
                output.close()


@contextlib.contextmanager
def _said(target: Path) -> Iterator[None]:
    """What the system says against writing a file, as a ConversionError."""
    try:
        yield
    except OSError as problem:
        if problem.errno == errno.EFAULT:  # the bytes to write aren't there any more: where a mapped file ends earlier now
            raise FormatError(CUT_SHORT, path=cut_short()) from problem
        raise ConversionError(f"can't be written: {problem.strerror or problem}", path=os.fspath(target)) from problem
