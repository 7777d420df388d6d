"""Where the models lie and where the results go: a folder, or anything that fsspec reaches (s3://, gs://, hdfs://, memory://)."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from converters import packages
from converters.errors import ConversionError, printable
from converters.files import StrPath, writing

HEAD, TAIL = 1 << 20, 1 << 20
"""Bytes of a remote file that are read to recognize it: most kinds tell themselves there."""
WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "memory")
"""Stores in which a file appears only when all of it is there; elsewhere it is written under another name and moved."""
_PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "s3": "s3fs", "s3a": "s3fs", "abfs": "adlfs", "az": "adlfs", "hdfs": "pyarrow"}


@dataclass(frozen=True)
class Entry:
    """A file of a tree. path: from the root, with slashes. stamp: what changes when its content does. problem: why it can't be read."""

    path: str
    bytes: int
    stamp: str
    problem: str = ""


class Folder:
    """A folder of this machine, or one that all workers see under the same path."""

    is_local = True
    is_shared = True

    def __init__(self, root: StrPath) -> None:
        self.root = os.path.abspath(root)
        self.shown = os.fspath(root)

    def entries(self, leave_out: str = "") -> Iterator[Entry]:
        """All files below, in order; links to folders aren't followed. leave_out: a folder that is none of the tree."""
        yield from self._entries(self.root, "", leave_out)

    def _entries(self, folder: str, prefix: str, leave_out: str) -> Iterator[Entry]:
        try:
            with os.scandir(folder) as found:
                inside = sorted(found, key=lambda entry: entry.name)
        except OSError as problem:
            yield Entry(prefix.rstrip("/"), 0, "", f"the folder can't be read: {problem.strerror or problem}")
            return
        for entry in inside:
            path = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.path != leave_out:
                    yield from self._entries(entry.path, f"{path}/", leave_out)
                continue
            yield self._entry(entry, path)

    def _entry(self, entry: os.DirEntry[str], path: str) -> Entry:
        try:
            facts = entry.stat()
        except OSError as problem:
            return Entry(path, 0, "", f"can't be read: {problem.strerror or problem}")
        if not stat.S_ISREG(facts.st_mode):
            what = "a link to a folder" if stat.S_ISDIR(facts.st_mode) else "a pipe, a socket or a device"
            return Entry(path, 0, "", f"{what}, which isn't followed")
        return Entry(path, facts.st_size, f"{facts.st_mtime_ns:x}-{facts.st_ctime_ns:x}-{facts.st_ino:x}")

    def place(self, path: str) -> str:
        """Where a file of the tree is on this machine."""
        return os.path.join(self.root, *path.split("/"))

    def peek(self, entry: Entry, cache: str) -> tuple[str, bool]:
        """A local file to recognize it by, and whether that is all of it."""
        return self.place(entry.path), True

    def fetch(self, path: str, cache: str) -> str:
        """The file on this machine."""
        return self.place(path)

    def put(self, file: str, path: str) -> None:
        """Brings a finished file of this machine there."""
        place = self.place(path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(file, "rb") as source, writing(place, force=True, size=os.path.getsize(file)) as target:
            while block := source.read(1 << 20):
                target.write(block)

    def read(self, name: str) -> bytes | None:
        """A small file of the root; None where it isn't there."""
        try:
            with open(self.place(name), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def size(self, path: str) -> int | None:
        """The size of a file; None where there is none."""
        try:
            facts = os.stat(self.place(path))
        except OSError:
            return None
        return facts.st_size if stat.S_ISREG(facts.st_mode) else None

    def names(self) -> list[str]:
        """What lies in the root."""
        try:
            return sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []
        except OSError as problem:
            raise ConversionError(f"can't be read: {problem.strerror or problem}", path=self.shown) from problem

    def age(self, name: str, now: float) -> float:
        """Seconds since a file of the root was written."""
        with contextlib.suppress(OSError):
            return now - os.stat(self.place(name)).st_mtime
        return 0.0

    def remove(self, path: str) -> None:
        """Takes a file away, if it is there."""
        with contextlib.suppress(OSError):
            os.unlink(self.place(path))

    def make(self) -> None:
        """The root itself."""
        try:
            os.makedirs(self.root, exist_ok=True)
        except OSError as problem:
            raise ConversionError(f"the folder can't be made: {problem.strerror or problem}", path=self.shown) from problem


class Bucket:
    """What fsspec reaches by a URL. Its files are read in ranges, or through a local copy for as long as one is worked on."""

    is_local = False

    def __init__(self, url: str) -> None:
        packages.check("fsspec")
        import fsspec

        self.shown = url
        self.protocol = re.split(r"::|://", url, maxsplit=1)[0]
        self.is_shared = self.protocol != "memory"
        try:
            self.fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as problem:
            needed = _PACKAGES.get(self.protocol)
            hint = f"pip install {needed}" if needed else "give a folder, or a URL that fsspec knows"
            raise ConversionError(f"{printable(self.protocol)}:// can't be reached: {problem}", path=url, hint=hint) from problem
        self.root = str(root).rstrip("/")

    def entries(self, leave_out: str = "") -> Iterator[Entry]:
        with self._said():
            found: dict[str, dict[str, Any]] = self.fs.find(self.root, detail=True)
        for full in sorted(found):
            path, facts = self._inside(full), found[full]
            if leave_out and (full == leave_out or full.startswith(f"{leave_out}/")):
                continue
            if any(part in ("", ".", "..") for part in path.split("/")):
                yield Entry(path, 0, "", "has a name that no folder can have")
                continue
            yield Entry(path, int(facts.get("size") or 0), _stamp(facts))

    def _inside(self, full: str) -> str:
        return full[len(self.root) :].removeprefix("/")

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if self.root else path

    @contextlib.contextmanager
    def _said(self, path: str = "") -> Iterator[None]:
        """What the store says against something, as a ConversionError."""
        try:
            yield
        except ConversionError:
            raise
        except Exception as problem:  # each store has errors of its own
            what = printable(f"{type(problem).__name__}: {problem}", 400)
            shown = f"{self.shown.rstrip('/')}/{path}" if path else self.shown
            raise ConversionError(f"the store answers: {what}", path=shown) from problem

    def peek(self, entry: Entry, cache: str) -> tuple[str, bool]:
        place = _beneath(cache, entry.path)
        with self._said(entry.path):
            full = self._full(entry.path)
            if entry.bytes <= HEAD + TAIL:
                self.fs.get_file(full, place)
                return place, True
            with open(place, "wb") as file:  # the middle is a hole
                file.write(self.fs.cat_file(full, start=0, end=HEAD))
                file.seek(entry.bytes - TAIL)
                file.write(self.fs.cat_file(full, start=entry.bytes - TAIL, end=entry.bytes))
        return place, False

    def fetch(self, path: str, cache: str) -> str:
        place = _beneath(cache, path)
        with self._said(path):
            self.fs.get_file(self._full(path), place)
        return place

    def put(self, file: str, path: str) -> None:
        with self._said(path):
            full = self._full(path)
            if self.protocol in WHOLE:
                self.fs.put_file(file, full)
                return
            self.fs.makedirs(os.path.dirname(full), exist_ok=True)
            part = f"{os.path.dirname(full)}/.{secrets.token_hex(8)}.part"
            try:
                self.fs.put_file(file, part)
                self.fs.mv(part, full)
            finally:
                if self.fs.exists(part):
                    self.fs.rm_file(part)

    def put_bytes(self, data: bytes, name: str) -> None:
        """Writes a small file of the root."""
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(data)
        try:
            self.put(file.name, name)
        finally:
            os.unlink(file.name)

    def read(self, name: str) -> bytes | None:
        with self._said(name):
            try:
                data: bytes = self.fs.cat_file(self._full(name))
            except FileNotFoundError:
                return None
            return data

    def size(self, path: str) -> int | None:
        with self._said(path):
            try:
                facts = self.fs.info(self._full(path))
            except FileNotFoundError:
                return None
            return int(facts.get("size") or 0) if facts.get("type") == "file" else None

    def names(self) -> list[str]:
        with self._said():
            self.fs.invalidate_cache()
            try:
                return sorted(self._inside(found).rstrip("/") for found in self.fs.ls(self.root, detail=False) if self._inside(found))
            except FileNotFoundError:
                return []

    def age(self, name: str, now: float) -> float:
        with self._said(name):
            facts = self.fs.info(self._full(name))
        changed = facts.get("LastModified") or facts.get("mtime") or facts.get("created")
        return now - (changed.timestamp() if hasattr(changed, "timestamp") else float(changed or now))

    def remove(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._said(path):
            if self.fs.exists(self._full(path)):
                self.fs.rm_file(self._full(path))

    def make(self) -> None:
        with self._said():
            if self.protocol not in WHOLE or self.protocol == "memory":
                self.fs.makedirs(self.root, exist_ok=True)


Place = Folder | Bucket


def place_at(where: StrPath) -> Place:
    """The place that a path or a URL names. Raises ConversionError for a URL that can't be reached."""
    given = os.fspath(where)
    if given.startswith("file://"):
        return Folder(given.removeprefix("file://"))
    return Bucket(given) if re.match(r"[A-Za-z][\w+.-]*(::|://)", given) else Folder(given)


def _stamp(facts: dict[str, Any]) -> str:
    for name in ("ETag", "etag", "md5Hash", "checksum", "LastModified", "mtime", "created"):
        if facts.get(name):
            return f"{name} {facts[name]}"
    return ""


def _beneath(cache: str, path: str) -> str:
    """A place for the file in the cache, its folder made."""
    place = os.path.join(cache, *path.split("/"))
    os.makedirs(os.path.dirname(place), exist_ok=True)
    return place
