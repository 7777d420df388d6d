"""inspect: what files are, and what is in them."""

from __future__ import annotations

import argparse
from typing import Any

from converters.cli import terminal
from converters.errors import ConversionError


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    inspect = commands.add_parser("inspect", help="say what a file is, and what is in it")
    inspect.add_argument("files", nargs="+", metavar="FILE")
    inspect.add_argument("--key", help="where the model or the weights sit in a checkpoint")
    inspect.add_argument("--json", action="store_true", help="print the answers, one for each file, as JSON")
    inspect.set_defaults(run=_inspect)


def _inspect(asked: argparse.Namespace) -> int:
    """Answers for every file; status 1 where one of them can't be read."""
    from converters.inspection import inspect

    status = 0
    answers: list[dict[str, Any]] = []
    for path in asked.files:
        try:
            found = inspect(path, asked.key)
        except ConversionError as problem:
            status = 1
            answers.append(terminal.as_dict(problem))
            if not asked.json:
                terminal.say(f"error: {problem}")
            continue
        answers.append(found.as_dict())
        if not asked.json:
            terminal.tell(str(found))
    if asked.json:
        terminal.tell_json(answers)
    return status
