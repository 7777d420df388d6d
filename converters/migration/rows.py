"""A row for every model and every other file: what it is, what became of it, and whether that still holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from converters.migration.trees.models import Found, Listed, Seen
from converters.migration.trees.places import Entry
from converters.packages import __version__

DONE, LISTED, SAME = "done", "listed", "same"
WRONG = ("unsupported", "different", "failed", "killed", "lost")
"""States of models that weren't converted. unsupported: layers, or code, that aren't known or trusted; different: two runtimes don't agree
on it; failed: broken, or a question is open; killed: beyond a limit, or it ended its process; lost: the store or the cluster failed."""
STATES = (DONE, *WRONG, LISTED)


@dataclass(frozen=True)
class FileRow:
    """A file of a row: its path, bytes, what changes with it, its SHA-256 once it was read, and what it is."""

    path: str
    bytes: int
    stamp: str
    sha256: str = ""
    kind: str = ""
    words: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Row:
    """What became of a model, or what a file is.

    source: the file that names it. status: of STATES. reason: why it isn't done, or what the file is. layers: types that nobody can
    lower. outputs: paths and bytes below the target. key: a digest of the inputs and of the options; options: as text. difference: the
    largest of verification, None where it didn't run. memory: the most anonymous bytes that its process had. version: of this package.
    proven: whether it was asked to verify; verified: whether that could run. looked: with which options the tree was looked through.
    """

    source: str
    status: str
    format: str = ""
    what: str = ""
    reason: str = ""
    layers: list[str] = field(default_factory=list)
    files: list[FileRow] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    archive: str = ""
    weights_only: bool = False
    outputs: list[tuple[str, int]] = field(default_factory=list)
    key: str = ""
    options: str = ""
    proven: bool = False
    verified: bool = False
    difference: float | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0
    version: str = ""
    finished: str = ""
    looked: str = ""

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    @property
    def is_model(self) -> bool:
        return self.status != LISTED

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data, for JSON and Parquet."""
        plain = dict(vars(self))
        plain["files"] = [dict(vars(file)) for file in self.files]
        plain["outputs"] = [{"path": path, "bytes": size} for path, size in self.outputs]
        return plain


_NAMES = {one.name for one in fields(Row)}


def row_of(plain: Mapping[str, Any]) -> Row:
    """A row from plain data. Raises KeyError, TypeError or ValueError for what is none."""
    known = {name: value for name, value in plain.items() if name in _NAMES}
    known["files"] = [FileRow(**file) for file in plain["files"]]
    known["outputs"] = [(str(output["path"]), int(output["bytes"])) for output in plain["outputs"]]
    return Row(**known)


def files_of(seen: Iterable[Seen], digests: Mapping[str, str] | None = None) -> list[FileRow]:
    """The files as rows have them."""
    return [
        FileRow(one.path, one.entry.bytes, one.entry.stamp, (digests or {}).get(one.path, ""), one.kind, one.words, one.hint)
        for one in seen
    ]


def refreshed(before: Row, row: Row) -> Row:
    """The earlier row of a model whose files have other stamps but the same bytes."""
    return replace(before, files=row.files, paths=row.paths, archive=row.archive, finished=row.finished)


def listed_row(listed: Listed) -> Row:
    """The row of a file that is no model."""
    seen = listed.seen
    status = "failed" if listed.is_broken else LISTED
    files = files_of([seen])
    return Row(seen.path, status, what=seen.words, reason=listed.reason, files=files, archive=listed.archive, version=__version__)


def seen_of(file: FileRow) -> Seen:
    """What an earlier run saw."""
    return Seen(Entry(file.path, file.bytes, file.stamp), file.kind, file.words, file.hint)


def found_of(row: Row, archives: Mapping[str, Seen]) -> Found:
    """The model of an earlier run's row."""
    files = tuple(seen_of(file) for file in row.files)
    return Found(row.source, row.format, tuple(row.paths), files, row.weights_only, archives.get(row.archive))
