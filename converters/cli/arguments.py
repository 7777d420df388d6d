"""What commands have in common on the command line: parsers that fail in one way, and words that become values."""

from __future__ import annotations

import argparse
import functools
import re
import shutil
from typing import Any, NoReturn

from converters import packages
from converters.cli import terminal
from converters.errors import ConversionError
from converters.options import InputSpec, LoadOptions, read_spec


class UsageError(ConversionError):
    """Wrong usage: exit status 2."""


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError where argparse would print and exit. Options aren't abbreviated: a new one would change them."""

    def __init__(self, **options: Any) -> None:
        # argparse makes a formatter for every argument that is added, and asks each time how wide the terminal is
        formatter = functools.partial(argparse.HelpFormatter, width=shutil.get_terminal_size().columns - 2)
        super().__init__(**{"allow_abbrev": False, "formatter_class": formatter, **options})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.format_usage().rstrip()}\n{self.prog}: {message}")


def input_spec(word: str) -> tuple[str, InputSpec]:
    """`NAME=1x3x224x224`, `NAME=1x12:int64`, or without the name (then "", the only input) -> name, shape or (shape, dtype)."""
    name, _, rest = word.rpartition("=")
    try:
        return name, read_spec(rest)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{word}: {problem}") from None


def dynamic_axis(word: str) -> tuple[tuple[str, int], str]:
    """`NAME:AXIS=LABEL`, or `AXIS=LABEL` for the only input -> (name, axis), label."""
    match = re.fullmatch(r"(?:(.*):)?([0-9]{1,3})=([A-Za-z_]\w*)", word)
    if match is None:
        raise argparse.ArgumentTypeError(f"{word}: write NAME:AXIS=LABEL, data:2=height")
    return (match[1] or "", int(match[2])), match[3]


def definition(word: str) -> tuple[str, str]:
    """`NAME=VALUE` -> name, value."""
    match = re.fullmatch(r"([A-Za-z_]\w*)=([\w.+-]+)", word)
    if match is None:
        raise argparse.ArgumentTypeError(f"{word}: write NAME=VALUE, TARGET_WIDTH=512")
    return match[1], match[2]


def add_input(command: argparse.ArgumentParser, what: str) -> None:
    """--input, of all commands that read a graph; what: what the shape is for."""
    command.add_argument("--input", action="append", default=[], type=input_spec, metavar="NAME=1x3x224x224[:DTYPE]", help=what)


def add_plugin(command: argparse.ArgumentParser) -> None:
    """--plugin, of all commands that read a graph."""
    command.add_argument("--plugin", metavar="FILE.py", help="Python code that registers layers of your own; runs only with --trust")


def constant(word: str) -> tuple[str, object]:
    """`NAME=false`, `NAME=1.0` or `NAME=3` -> name, value."""
    name, _, text = word.rpartition("=")
    if not name:
        raise argparse.ArgumentTypeError(f"{word}: write NAME=VALUE, is_training=false")
    if text.lower() in ("true", "false"):
        return name, text.lower() == "true"
    try:
        return name, int(text)
    except ValueError:
        pass
    try:
        return name, float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word}: {text} is no number, true or false") from None


def add_output_options(command: argparse.ArgumentParser, result: str) -> None:
    """--force, --quiet and --json, of all commands that write a file."""
    command.add_argument("--force", action="store_true", help="overwrite the target if it exists")
    command.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    command.add_argument("--json", action="store_true", help=f"print the {result}, or the error, as JSON")


def options_of(asked: argparse.Namespace) -> LoadOptions:
    """How the model is to be read, of commands that look at one, run it or compare it."""
    output = getattr(asked, "output", None)
    return LoadOptions(
        inputs=dict(asked.input),
        key=asked.key,
        outputs=() if output is None else (output,),
        code=asked.code,
        factory=getattr(asked, "model", None),
        plugin=asked.plugin,
        trust=asked.trust,
        notify=terminal.say,
    )


# -- what a shell completes --------------------------------------------------------------------------------------------


def add_completion(commands: Any) -> None:
    """Adds the command to the parser."""
    command = commands.add_parser("completion", help="print the script that completes commands, options and files in a shell")
    command.add_argument("shell", choices=("bash", "zsh"), help="which shell")
    command.set_defaults(run=_completion)


def _completion(asked: argparse.Namespace) -> int:
    packages.require("shtab")
    import shtab

    _say_what_files_are(asked.parser, shtab.FILE, shtab.DIRECTORY)
    terminal.tell(shtab.complete(asked.parser, shell=asked.shell))
    return 0


def _say_what_files_are(whole: argparse.ArgumentParser, file: Any, folder: Any) -> None:
    """Arguments without choices are files; options are what their metavar says: a FILE, a name with a suffix, a DIR."""
    for action in whole._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _say_what_files_are(command, file, folder)
        elif action.choices is None and action.nargs != 0:
            word = str(action.metavar or "")
            if word == "DIR":
                action.complete = folder  # type: ignore[attr-defined]
            elif not action.option_strings or word.startswith("FILE") or ("." in word and ":" not in word):
                action.complete = file  # type: ignore[attr-defined]
