"""The manifest of a target: a journal of JSON lines for each run, and manifest.parquet of all of them when a run ends.

Nothing is locked: each run has a journal of its own, which no other writes; whoever ends last has read all of them. A line that was cut
off by a crash is no line. In a store whose files can't be added to, a journal is many small files.
"""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from typing import IO, Any

from converters import packages
from converters.errors import ConversionError, FormatError, OutputExistsError, printable
from converters.files import writing
from converters.migration.rows import Row, row_of
from converters.migration.trees.places import Folder, Place

PARQUET, REPORT = "manifest.parquet", "report.html"
_JOURNAL = re.compile(r"manifest-([0-9a-f]{12})(-\d{6})?\.jsonl")
_QUIET = 120.0
"""Seconds after which a journal of another machine that nobody writes is one of a run that is gone."""
_FLUSH = 5.0
"""Seconds of rows that are kept back where a journal is many files."""


def read_manifest(target: Place, *, force: bool = False) -> dict[str, Row]:
    """The rows of a target by source: of manifest.parquet, and of journals, which are newer. An empty target has none.

    Raises OutputExistsError for a target that holds something else, unless forced.
    """
    names = target.names()
    journals = [name for name in names if _JOURNAL.fullmatch(name)]
    if names and not journals and PARQUET not in names and not force:
        raise OutputExistsError("isn't empty and has no manifest; choose another target, or --force", path=target.shown)
    rows: dict[str, Row] = {}
    newer: list[Row] = []
    for name in journals:
        newer += _rows_in(target.read(name) or b"")[0]
    if (data := target.read(PARQUET)) is not None:
        rows = {row.source: row for row in _from_parquet(data, target)}
    for row in sorted(newer, key=lambda row: row.finished):
        if row.source not in rows or rows[row.source].finished <= row.finished:
            rows[row.source] = row
    return rows


def other_runs(target: Place, own: str = "") -> dict[str, dict[str, Any]]:
    """The heads of the journals of runs that are still at work, by run."""
    found = {}
    for name in target.names():
        match = _JOURNAL.fullmatch(name)
        if match is None or match[1] == own:
            continue
        head = _rows_in(target.read(name) or b"")[1]
        is_here = head.get("host") == socket.gethostname()
        if head and not head.get("ended") and (_is_alive(head) if is_here else target.age(name, time.time()) < _QUIET):
            found[match[1]] = head
    return found


def _is_alive(head: Mapping[str, Any]) -> bool:
    """Whether the process of a journal of this machine is still there."""
    import psutil  # os.kill(pid, 0) is Ctrl-C on Windows

    pid = head.get("pid")
    return isinstance(pid, int) and 0 < pid < 1 << 31 and psutil.pid_exists(pid)


class Journal:
    """The journal of one run: rows are on the disk, or on their way to the store, as soon as they are known."""

    def __init__(self, target: Place, options: str) -> None:
        self.target, self.run = target, secrets.token_hex(6)
        self.head = {"run": self.run, "host": socket.gethostname(), "pid": os.getpid(), "begun": time.time(), "options": options}
        self._file: IO[bytes] | None = None
        self._waiting: list[bytes] = []
        self._number, self._flushed, self._rows = 0, time.monotonic(), 0
        if isinstance(target, Folder):
            self._file = open(target.place(f"manifest-{self.run}.jsonl"), "ab", buffering=0)  # noqa: SIM115  for as long as the run
        self._write({"head": self.head})
        self.flush()

    def add(self, row: Row) -> None:
        """Writes a row down."""
        self._rows += 1
        self._write(row.as_dict())
        if time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def _write(self, plain: Mapping[str, Any]) -> None:
        line = json.dumps(plain).encode() + b"\n"
        if self._file is not None:
            self._file.write(line)
        else:
            self._waiting.append(line)

    def flush(self) -> None:
        """Brings what is kept back to the store."""
        self._flushed = time.monotonic()
        if self._waiting:
            name = f"manifest-{self.run}-{self._number:06d}.jsonl"
            _put(self.target, name, b"".join([json.dumps({"head": self.head}).encode() + b"\n", *self._waiting]))
            self._number += 1
            self._waiting.clear()

    def end(self) -> None:
        """Writes manifest.parquet of all runs, where this one has added to it, and takes the journals away that are in it."""
        self.flush()
        before = self._journals()
        others: Mapping[str, Any] = {}
        is_told = not self._rows and self.target.size(PARQUET) is not None and all(self.run in name for name in before)
        for _ in range(0 if is_told else 3):
            before = self._journals()
            others = other_runs(self.target, self.run)
            rows = read_manifest(self.target, force=True)
            _put(self.target, PARQUET, _as_parquet(rows.values()))
            if self._journals() == before:
                break  # else another run wrote meanwhile, perhaps an older manifest
        self._write({"head": self.head | {"ended": True}})
        self.flush()
        self.close()
        if not others and not other_runs(self.target, self.run):
            for name in before:
                self.target.remove(name)
            for name in self._journals():
                if name.startswith(f"manifest-{self.run}"):
                    self.target.remove(name)

    def _journals(self) -> dict[str, int | None]:
        return {name: self.target.size(name) for name in self.target.names() if _JOURNAL.fullmatch(name)}

    def close(self) -> None:
        """Lets the file go; what was written stays."""
        if self._file is not None:
            self._file.close()


def _rows_in(data: bytes) -> tuple[list[Row], dict[str, Any]]:
    """The rows of a journal, and its newest head."""
    rows: list[Row] = []
    head: dict[str, Any] = {}
    for line in data.splitlines():
        try:
            plain = json.loads(line)
            if "head" in plain:
                head = plain["head"]
            else:
                rows.append(row_of(plain))
        except (ValueError, TypeError, KeyError):
            continue  # cut off by a crash
    return rows, head


def _put(target: Place, name: str, data: bytes) -> None:
    if isinstance(target, Folder):
        with writing(target.place(name), force=True) as file:
            file.write(data)
        return
    target.put_bytes(data, name)


def write_text(target: Place, name: str, text: str) -> None:
    """Writes a small file of the target's root, as a whole."""
    _put(target, name, text.encode("utf-8", "backslashreplace"))


# -- Parquet ---------------------------------------------------------------------------------------------------------------


def _schema() -> Any:
    packages.require("pyarrow")
    import pyarrow as pa

    text, number = pa.string(), pa.int64()
    file = pa.struct([("path", text), ("bytes", number), *((name, text) for name in ("stamp", "sha256", "kind", "words", "hint"))])
    words = pa.list_(text)
    return pa.schema(
        [
            ("source", text),
            ("status", text),
            ("format", text),
            ("what", text),
            ("reason", text),
            ("layers", words),
            ("files", pa.list_(file)),
            ("paths", words),
            ("archive", text),
            ("weights_only", pa.bool_()),
            ("outputs", pa.list_(pa.struct([("path", text), ("bytes", number)]))),
            ("key", text),
            ("options", text),
            ("proven", pa.bool_()),
            ("verified", pa.bool_()),
            ("difference", pa.float64()),
            ("notes", words),
            ("seconds", pa.float64()),
            ("memory", number),
            ("version", text),
            ("finished", text),
            ("looked", text),
        ]
    )


def _as_parquet(rows: Iterable[Row]) -> bytes:
    schema = _schema()
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = [row.as_dict() for row in sorted(rows, key=lambda row: row.source)]
    try:
        table = pa.Table.from_pylist(plain, schema=schema)
    except UnicodeEncodeError:  # names that are no UTF-8
        table = pa.Table.from_pylist([_escaped(one) for one in plain], schema=schema)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


_MARK = "\x00"
"""In front of text that UTF-8 has no form for, and that stands as JSON."""


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return _MARK + json.dumps(value) if any("\ud800" <= c <= "\udfff" for c in value) else value
    if isinstance(value, dict):
        return {name: _escaped(item) for name, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _plain_again(value: Any) -> Any:
    if isinstance(value, str):
        return json.loads(value[1:]) if value.startswith(_MARK) else value
    if isinstance(value, dict):
        return {name: _plain_again(item) for name, item in value.items()}
    return [_plain_again(item) for item in value] if isinstance(value, list) else value


def _from_parquet(data: bytes, target: Place) -> list[Row]:
    packages.require("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [row_of(_plain_again(plain)) for plain in pq.read_table(io.BytesIO(data)).to_pylist()]
    except (pa.ArrowException, ValueError, TypeError, KeyError) as problem:
        shown = f"{target.shown.rstrip('/')}/{PARQUET}"
        raise FormatError(f"the manifest can't be read: {printable(problem, 200)}", path=shown, hint="move it away") from problem


def refuse_others(target: Place, options: str) -> None:
    """Raises ConversionError where a run with other options is at work on the target: each would undo what the other does."""
    for head in other_runs(target).values():
        if head.get("options") != options:
            who = f"process {head.get('pid')} on {printable(head.get('host'))}"
            raise ConversionError(f"another migration with other options is at work here ({who})", path=target.shown, hint="wait for it")
