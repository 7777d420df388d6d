"""What is found in a tree: files and what they are, models and the files that they are made of."""

from __future__ import annotations

from dataclasses import dataclass

from converters.migration.trees.places import Entry


@dataclass(frozen=True)
class Seen:
    """A file that was recognized. kind: of recognition.KINDS; words: what it is; hint: what to do with it."""

    entry: Entry
    kind: str
    words: str
    hint: str = ""

    @property
    def path(self) -> str:
        return self.entry.path

    @property
    def folder(self) -> str:
        return self.entry.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.entry.path.rpartition("/")[2]


@dataclass(frozen=True)
class Found:
    """A model. source: the file that names it (its weights); format: of formats.FORMATS; paths: what load() is given, in order.

    files: all that belongs to it, with what each is. weights_only: there is no net, so that only its weights can be had. archive: the
    archive that the files are in, whose path is in front of theirs.
    """

    source: str
    format: str
    paths: tuple[str, ...]
    files: tuple[Seen, ...]
    weights_only: bool = False
    archive: Seen | None = None

    @property
    def bytes(self) -> int:
        return sum(file.entry.bytes for file in self.files)


@dataclass(frozen=True)
class Listed:
    """A file that is no model, or none that can be told. reason: why. is_broken: it claims to be a model by its name. archive: it is in."""

    seen: Seen
    reason: str
    is_broken: bool = False
    archive: str = ""
