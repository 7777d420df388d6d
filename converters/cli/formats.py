"""formats: what is read, by which command, and what else is recognized."""

from __future__ import annotations

import argparse
from typing import Any

from converters.cli import terminal


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    command = commands.add_parser("formats", help="list the formats that are read, and their files")
    command.add_argument("--json", action="store_true", help="print the table as JSON")
    command.set_defaults(run=_formats)


def _formats(asked: argparse.Namespace) -> int:
    from converters import formats

    rows = [
        {
            "format": row.name,
            "title": row.title,
            "files": {role.name: role.help for role in row.files},
            "commands": [f"{row.word}2{kind}" for kind in ("torch", "onnx") if row.word and row.word != kind] or ["strip-to-weights"],
        }
        for row in formats.FORMATS
    ]
    if asked.json:
        terminal.tell_json(rows)
        return 0
    for row in rows:
        terminal.tell(f"{row['title']}: {', '.join(row['commands'])}")
        for name, words in row["files"].items():  # type: ignore[attr-defined]
            terminal.tell(f"  {name:<12} {words}")
    return 0
