"""Finds the models of a tree: every file is recognized by its content, what belongs together is paired, all else is listed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from converters.errors import ConversionError
from converters.formats import recognize
from converters.migration.options import MigrationOptions
from converters.migration.trees.archives import unpack
from converters.migration.trees.models import Found, Listed, Seen
from converters.migration.trees.pairing import ARCHIVES, Pairing
from converters.migration.trees.places import Entry, Folder, Place

AT_ONCE = 16
"""Remote files that are looked at together."""
_UNSURE = ("unknown", "zeros")
"""What a file looks like of which the middle is missing."""


@dataclass(frozen=True)
class Known:
    """What an earlier run found of a file, good for as long as its size and its stamp are what they were."""

    bytes: int
    stamp: str
    kind: str
    words: str
    hint: str


def discover(
    source: Place,
    entries: Sequence[Entry],
    options: MigrationOptions,
    known: Mapping[str, Known],
    tick: Callable[[int], None] = lambda count: None,
) -> tuple[list[Found], list[Listed]]:
    """The models among a place's files and everything else, each by path. tick: told how many files were looked at."""
    cache = tempfile.mkdtemp(prefix="converters-")
    try:
        listed = [Listed(Seen(entry, "", entry.problem), entry.problem) for entry in entries if entry.problem]
        seen = list(_recognize_all(source, [entry for entry in entries if not entry.problem], known, cache, tick))
        fetched: dict[str, str] = {}

        def file_of(path: str) -> str:
            if path not in fetched:
                fetched[path] = source.fetch(path, cache)
            return fetched[path]

        found: list[Found] = []
        if options.archives:
            inside, unread, others = _in_archives(source, seen, file_of, options, cache)
            found += inside
            listed += unread
            seen = others
        more, rest = Pairing(seen, file_of, epochs=options.epochs, weights="weights" in options.to).pair()
        return [*found, *more], [*listed, *rest]
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _recognize_all(
    source: Place, entries: list[Entry], known: Mapping[str, Known], cache: str, tick: Callable[[int], None]
) -> Iterator[Seen]:
    def look(entry: Entry) -> Seen:
        before = known.get(entry.path)
        if before is not None and before.kind and entry.stamp and (before.bytes, before.stamp) == (entry.bytes, entry.stamp):
            return Seen(entry, before.kind, before.words, before.hint)
        return recognized(source, entry, cache)

    def all_of(found: Iterable[Seen]) -> Iterator[Seen]:
        for number, one in enumerate(found, 1):
            if number % 100 == 0:
                tick(number)
            yield one

    if source.is_local:
        yield from all_of(map(look, entries))
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from all_of(pool.map(look, entries))


def recognized(source: Place, entry: Entry, cache: str) -> Seen:
    """What a file is, by its content."""
    if entry.bytes == 0:
        return Seen(entry, "empty", "an empty file (0 bytes)")
    try:
        place, is_whole = source.peek(entry, cache)
        kind = recognize(place).kind
        if not is_whole and kind.name in _UNSURE:
            os.unlink(place)
            place, is_whole = source.fetch(entry.path, cache), True
            kind = recognize(place).kind
        if not source.is_local:
            os.unlink(place)
    except ConversionError as problem:
        return Seen(entry, "", problem.what)
    return Seen(entry, kind.name, kind.words, kind.hint)


def _in_archives(
    source: Place, seen: list[Seen], file_of: Callable[[str], str], options: MigrationOptions, cache: str
) -> tuple[list[Found], list[Listed], list[Seen]]:
    """The models in archives, what else is in them, and the files that are none."""
    found: list[Found] = []
    listed: list[Listed] = []
    others: list[Seen] = []
    for one in seen:
        if one.kind not in ARCHIVES:
            others.append(one)
            continue
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            try:
                notes = unpack(file_of(one.path), one.kind, folder)
            except ConversionError as problem:
                listed.append(Listed(one, problem.what, is_broken=True))
                continue
            inside = Folder(folder)
            files = [recognized(inside, entry, cache) for entry in inside.entries() if options.chosen(f"{one.path}/{entry.path}")]
            pairing = Pairing(files, inside.place, epochs=options.epochs, weights="weights" in options.to)
            models, rest = pairing.pair()
            found += [_moved(model, one) for model in models]
            listed += [replace(other, seen=_within(other.seen, one), archive=one.path) for other in rest]
            listed.append(Listed(one, "; ".join([f"an archive of {len(models)} models and {len(rest)} other files", *notes[:6]])))
    return found, listed, others


def _within(seen: Seen, archive: Seen) -> Seen:
    """A file in an archive: its path begins with the archive's, and it changes when the archive does."""
    return replace(seen, entry=Entry(f"{archive.path}/{seen.path}", seen.entry.bytes, archive.entry.stamp))


def _moved(model: Found, archive: Seen) -> Found:
    start = f"{archive.path}/"
    files = tuple(_within(file, archive) for file in model.files)
    return replace(model, source=start + model.source, paths=tuple(start + path for path in model.paths), files=files, archive=archive)
