"""formats: what is read, by which command, and every layer, module and operator that is known."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from converters.cli import terminal
from converters.cli.arguments import add_plugin


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    from converters import formats

    command = commands.add_parser("formats", help="list the formats that are read, their files, and all layers that are known")
    names = [row.name for row in formats.FORMATS]
    command.add_argument("formats", nargs="*", metavar="FORMAT", help=f"only these ({', '.join(names)})")
    add_plugin(command)
    command.add_argument("--trust", action="store_true", help="let the plugin run, whose layers are then in the list")
    command.add_argument("--json", action="store_true", help="print the tables as JSON")
    command.set_defaults(run=_formats)


def _formats(asked: argparse.Namespace) -> int:
    from converters import formats, packages
    from converters.cli.arguments import UsageError
    from converters.trust import run_plugin

    known = {row.name: row for row in formats.FORMATS}
    for name in asked.formats:
        if name not in known:
            raise UsageError(f"convert formats: there is no format {name}; there are {', '.join(known)}")
    packages.check(*formats.GRAPH)
    if asked.plugin is not None:
        run_plugin(asked.plugin, trust=asked.trust, notify=terminal.say)
    rows = [
        {
            "format": row.name,
            "title": row.title,
            "files": {role.name: role.help for role in row.files},
            "commands": [f"{row.word}2{kind}" for kind in ("torch", "onnx") if row.word and row.word != kind] or ["strip-to-weights"],
            "noun": row.noun,
            "known": _known(row.registry),
        }
        for name, row in known.items()
        if name in asked.formats or not asked.formats
    ]
    if asked.json:
        terminal.tell_json(rows)
        return 0
    for row in rows:
        _tell(row)
    return 0


def _known(registry: str) -> list[dict[str, str]]:
    """The types that a format's table knows, and the first sentence on each; none for a format that has no table."""
    if not registry:
        return []
    module, _, name = registry.partition(":")
    table = getattr(importlib.import_module(module), name)
    return [{"type": name, "what": table.summary(name)} for name in sorted(table, key=str.lower)]


def _tell(row: dict[str, Any]) -> None:
    terminal.tell(f"{row['title']}: {', '.join(row['commands'])}")
    for name, words in row["files"].items():
        terminal.tell(f"  {name:<12} {words}")
    if row["known"]:
        terminal.tell(f"  {len(row['known'])} {row['noun']}s are known:")
    for entry in row["known"]:
        terminal.tell(f"    {entry['type']:<28} {entry['what']}")
