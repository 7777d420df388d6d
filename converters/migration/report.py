"""What a migration has come to: the rows, counted by what a person would do about them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from converters.errors import printable
from converters.migration.rows import DONE, LISTED, WRONG, Row

_SHOWN = 20
_NAMED = re.compile(r"'[^']*'|\"[^\"]*\"|\b\d[\w.x,:-]*")


@dataclass
class MigrationReport:
    """All rows of a run, those of earlier runs that still hold among them. seconds: that it took; worked: models that it worked on.

    ok: nothing went wrong. as_dict() is plain data, str() a table.
    """

    source: str
    target: str
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0
    worked: int = 0

    @property
    def ok(self) -> bool:
        """Whether every model was converted."""
        return not any(row.status in WRONG for row in self.rows)

    @property
    def models(self) -> list[Row]:
        """The rows of models, without those of other files."""
        return [row for row in self.rows if row.is_model]

    @property
    def statuses(self) -> dict[str, int]:
        """How many rows have each state."""
        return dict(Counter(row.status for row in self.rows).most_common())

    @property
    def formats(self) -> dict[str, dict[str, int]]:
        """How many models of each format have each state."""
        found: dict[str, dict[str, int]] = {}
        for row in self.models:
            counts = found.setdefault(row.format or "unknown", {})
            counts[row.status] = counts.get(row.status, 0) + 1
        return found

    @property
    def reasons(self) -> dict[str, int]:
        """How many models weren't converted for each reason, without the names and numbers in it."""
        return dict(Counter(plain_reason(row) for row in self.rows if row.status in WRONG).most_common())

    @property
    def layers(self) -> dict[str, int]:
        """The types that nobody can lower, by how many models they hold back."""
        return dict(Counter(f"{row.format}: {name}" for row in self.rows for name in set(row.layers)).most_common())

    @property
    def others(self) -> dict[str, int]:
        """What the files are that are no models, and how many."""
        return dict(Counter(re.sub(r" \('.*", "", row.what or row.reason) for row in self.rows if row.status == LISTED).most_common())

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {
            "source": self.source,
            "target": self.target,
            "ok": self.ok,
            "seconds": round(self.seconds, 2),
            "worked_on": self.worked,
            "by_status": self.statuses,
            "by_format": self.formats,
            "by_reason": self.reasons,
            "unsupported_layers": self.layers,
            "other_files": self.others,
            "rows": [row.as_dict() for row in self.rows],
        }

    def __str__(self) -> str:
        models = self.models
        lines = [f"{printable(self.source, 400)} -> {printable(self.target, 400)}: {_counted(models)}"]
        states = sorted({row.status for row in models}, key=lambda word: (word != DONE, word))
        if states:
            rows = [[name, *(str(counts.get(state, 0) or "") for state in states)] for name, counts in sorted(self.formats.items())]
            lines += _columns([["format", *states], *rows, ["all", *(str(self.statuses.get(state, 0)) for state in states)]])
        lines += _ranked("layers that hold models back", self.layers)
        lines += _ranked("why models weren't converted", self.reasons)
        wrong = [row for row in models if row.status in WRONG]
        if wrong:
            lines += ["", f"not converted ({len(wrong)}):"]
            lines += [f"  {printable(row.source, 200)}: {row.status}: {first_line(row.reason)}" for row in wrong[:_SHOWN]]
            lines += [f"  ... and {len(wrong) - _SHOWN:,} more"] if len(wrong) > _SHOWN else []
        lines += _ranked("other files", self.others)
        return "\n".join(lines)


def _counted(models: Sequence[Row]) -> str:
    size = sum(row.bytes for row in models)
    return f"{len(models):,} models, {size / 1e9:,.2f} GB" if size >= 1e8 else f"{len(models):,} models, {size / 1e6:,.2f} MB"


def _ranked(title: str, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    shown = list(counts.items())[:10]
    more = [f"  ... and {len(counts) - len(shown)} more"] if len(counts) > len(shown) else []
    return ["", f"{title}:", *(f"{count:>7,}  {printable(word, 150)}" for word, count in shown), *more]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        lines.append("  ".join([f"  {first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))]))
    return lines


def first_line(text: str) -> str:
    """What a reason begins with, in one line."""
    return printable(next(iter(text.splitlines()), ""), 200)


def plain_reason(row: Row) -> str:
    """A row's reason without what is this model's alone: places, names, numbers."""
    text = first_line(row.reason)
    for name in _names_of(row):
        text = text.replace(f"{name}: ", "").replace(name, "FILE")
    text = re.sub(r"^[^\s:]+:\d+(:\d+)?: |^(layer|module|operator) '[^']*' ", "", text)
    return _NAMED.sub("...", text)[:160]


def _names_of(row: Row) -> Iterable[str]:
    paths = [file.path for file in row.files]
    return sorted({*paths, *(path.rpartition("/")[2] for path in paths)}, key=len, reverse=True)
