"""inspect: what files are, and what is in them."""

from __future__ import annotations

import argparse
from typing import Any

from converters.cli import terminal
from converters.cli.arguments import add_input, add_plugin, options_of
from converters.errors import ConversionError


def add(commands: Any) -> None:
    """Adds the command to the parser."""
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
