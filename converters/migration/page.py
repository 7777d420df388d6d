"""The report of a migration as one self-contained page: counts, what holds models back, and every row, to sort and to search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from converters.migration.report import MigrationReport, first_line
from converters.migration.rows import DONE, LISTED, WRONG, Row
from converters.verification.html import Cell, heads, number, page_of, path_text, table, text, versions

MOST_ROWS = 20_000
"""Rows that a browser can still sort; what went wrong comes first, and manifest.parquet has all."""


def page(report: MigrationReport) -> str:
    """The page's text."""
    models = report.models
    wrong = sum(row.status in WRONG for row in models)
    verdict = f"{len(models) - wrong:,} of {len(models):,} models are converted" if models else "No models"
    parts = [
        f"<p>{text(report.source)} to {text(report.target)}: {len(report.rows):,} files and models, "
        f"{sum(row.bytes for row in models):,} bytes of models; "
        f"this run worked on {report.worked:,} of them for {report.seconds:,.1f} seconds.</p>",
        f"<p class=soft>{text(', '.join(versions()))}</p>",
        "<h2>By format</h2>",
        _by_format(report),
        *_ranking("Layers that hold models back", "layers", "layer, +models", report.layers),
        *_ranking("Why models weren't converted", "reasons", "reason, +models", report.reasons),
    ]
    ordered = sorted(models, key=lambda row: (row.status == DONE, row.source))
    parts += _rows("Models", "models", ordered)
    parts += _ranking("Other files, by what they are", "kinds", "what it is, +files", report.others)
    parts += _others([row for row in report.rows if row.status == LISTED])
    return page_of(f"Migration of {report.source}", verdict, "\n".join(parts), good=report.ok)


def _by_format(report: MigrationReport) -> str:
    states = sorted({row.status for row in report.models}, key=lambda word: (word != DONE, word))
    rows = []
    for name, counts in sorted(report.formats.items()):
        rows.append(("", [(text(name), ""), *(number(counts.get(state, 0)) for state in states), number(sum(counts.values()))]))
    return table("formats", heads(", ".join(["format", *(f"+{state}" for state in states), "+all"])), rows)


def _ranking(title: str, name: str, columns: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return []
    return [f"<h2>{title}</h2>", table(name, heads(columns), [("", [(text(word), ""), number(count)]) for word, count in counts.items()])]


def _search(name: str, words: str) -> str:
    return f'<input placeholder="filter" aria-label="filter {words}" data-table="{name}">'


def _rows(title: str, name: str, rows: Sequence[Row]) -> list[str]:
    head = heads("model, format, state, reason, layers, written, +bytes, +written bytes, +seconds, +MB of memory, +difference, notes")
    lines: list[tuple[str, list[Cell]]] = []
    for row in rows[:MOST_ROWS]:
        words = [row.source, row.format, row.status, first_line(row.reason), ", ".join(row.layers), ", ".join(_names(row))]
        numbers = [number(row.bytes), number(sum(size for _, size in row.outputs)), number(row.seconds, ".2f")]
        numbers += [number(row.memory / 1e6, ",.0f"), number(row.difference, ".1e")]
        cells = [*((path_text(word), "") for word in words), *numbers, (text("; ".join(row.notes)), "")]
        lines.append(("off" if row.status in WRONG else "", cells))
    return [f"<h2>{title}</h2>", _cut(len(rows)), _search(name, "the models"), table(name, head, lines)]


def _names(row: Row) -> list[str]:
    return [path.rpartition("/")[2] for path, _ in row.outputs]


def _others(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    lines = [("", [(path_text(row.source), ""), (text(first_line(row.reason)), ""), number(row.bytes)]) for row in rows[:MOST_ROWS]]
    listing = table("others", heads("file, what it is, +bytes"), lines)
    return ["<h2>Other files</h2>", _cut(len(rows)), _search("others", "the files"), listing]


def _cut(count: int) -> str:
    return f"<p>The first {MOST_ROWS:,} of {count:,}; manifest.parquet has all.</p>" if count > MOST_ROWS else ""
