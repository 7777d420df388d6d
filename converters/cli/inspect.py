"""inspect and formats: what files are and hold; what is read, by which command, and every layer, module and operator that is known."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from converters.cli import terminal
from converters.cli.arguments import UsageError, add_input, add_plugin, options_of
from converters.errors import ConversionError


def add(commands: Any) -> None:
    """Adds the commands to the parser."""
    inspect = commands.add_parser("inspect", help="say what a file is: its layers, shapes, parameters, FLOPs, what can't be converted")
    inspect.add_argument("files", nargs="+", metavar="FILE")
    add_input(inspect, "shape of an input, where the file doesn't have it; shapes and FLOPs follow; repeat it for more")
    inspect.add_argument("--key", help="where the model or the weights sit in a checkpoint")
    inspect.add_argument("--tensors", action="store_true", help="list every tensor, with its type and shape")
    inspect.add_argument("--code", metavar="DIR", help="folder of a PyTorch model's own code, for its shapes; runs only with --trust")
    add_plugin(inspect)
    inspect.add_argument("--trust", action="store_true", help="let code that you name, and TorchScript programs, run")
    inspect.add_argument("--json", action="store_true", help="print the answers, one for each file, as JSON")
    inspect.set_defaults(run=_inspect)

    from converters import formats

    command = commands.add_parser("formats", help="list the formats that are read, their files, and all layers that are known")
    names = [row.name for row in formats.FORMATS]
    command.add_argument("formats", nargs="*", metavar="FORMAT", help=f"only these ({', '.join(names)})")
    add_plugin(command)
    command.add_argument("--trust", action="store_true", help="let the plugin run, whose layers are then in the list")
    command.add_argument("--json", action="store_true", help="print the tables as JSON")
    command.set_defaults(run=_formats)


def _inspect(asked: argparse.Namespace) -> int:
    """Answers for every file; status 1 where one of them can't be read."""
    from converters.inspection import inspect
    from converters.inspection.result import lines

    options = options_of(asked)
    status = 0
    answers: list[dict[str, Any]] = []
    for path in asked.files:
        try:
            found = inspect(path, options=options)
        except ConversionError as problem:
            status = 1
            answers.append(terminal.as_dict(problem))
            if not asked.json:
                terminal.say(f"error: {problem}")
            continue
        answers.append(found.as_dict())
        if not asked.json:
            for style, line in lines(found, tensors=asked.tensors):
                terminal.tell(line, style)
    if asked.json:
        terminal.tell_json(answers)
    return status


def _formats(asked: argparse.Namespace) -> int:
    from converters import formats, packages
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
