"""From words to an exit status: the parser of all commands, and what is said where one of them fails."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from converters import packages
from converters.cli import terminal
from converters.cli.arguments import Parser, UsageError, add_completion
from converters.cli.signals import Stopped, answered
from converters.errors import ConversionError, ConversionWarning, printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    terminal.prepare()
    with answered(as_json=as_json) as seen, _rarely_collected(words[0] if words else ""):
        try:
            status = _run(words)
            if seen:  # code of others swallowed it
                raise seen[0]
            terminal.flush()
            return status
        except BaseException as problem:
            if isinstance(problem, Exception) and os.environ.get("CONVERTERS_DEBUG") and not isinstance(problem, ConversionError | OSError):
                raise
            if seen and not isinstance(problem, KeyboardInterrupt | Stopped):  # an import that is interrupted fails in ways of its own
                problem = seen[0]
            try:
                return _answer(problem, words, as_json)
            except OSError:  # nobody can hear it
                terminal.abandon()
                return 1


_RUNS = frozenset(("classify", "extract-features", "evaluate", "benchmark", "migrate", "torch2onnx"))
"""Commands that run models for long: a cycle that holds a tensor is to be found soon."""


@contextlib.contextmanager
def _rarely_collected(command: str) -> Iterator[None]:
    """Lets the collector look for cycles less often: a graph of ten thousand layers is a million objects, of which none is garbage.

    Nor does it go through them once more when the process ends.
    """
    before = gc.get_threshold()
    gc.set_threshold(50_000 if command in _RUNS else 1_000_000, 20, 100)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _run(words: list[str]) -> int:
    whole = parser()
    try:
        asked = _parsed(whole, _with_levels(words))
        asked.parser = whole
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConversionWarning)
        warnings.showwarning = _show_warning
        with terminal.working():
            terminal.doing(words[0])
            if words[0] != "completion":  # which shells run as they start
                _import_numpy()
            status: int = asked.run(asked)
        return status


def _import_numpy() -> None:
    """Imports numpy with one thread of OpenBLAS: starting a thread for each core costs a short command a third of its CPU time.

    What a command multiplies with numpy is small. What comes after it in this process, and its children, are asked nothing: torch brings an
    OpenBLAS of its own on some machines. Without numpy, the command that needs it says so.
    """
    if "OPENBLAS_NUM_THREADS" in os.environ or "numpy" in sys.modules:
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        with contextlib.suppress(ImportError):
            importlib.import_module("numpy")
    finally:
        del os.environ["OPENBLAS_NUM_THREADS"]


def _parsed(whole: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """What the words ask. Files may stand on both sides of an option: argparse takes those behind it for unknown."""
    commands = next(action.choices for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    if words and not words[0].startswith("-") and words[0] not in commands:
        raise UsageError(f"convert: there is no command {_or_like(words[0], commands)}; convert --help lists them")
    asked, rest = whole.parse_known_args(words)
    if not rest:
        return asked
    if words[0] not in commands:
        whole.error(f"unrecognized arguments: {' '.join(rest)}")
    wrong = next((word for word in rest if word.startswith("-")), None)
    if wrong is not None:
        option = _or_like(wrong.partition("=")[0], commands[words[0]]._option_string_actions)
        raise UsageError(f"convert {words[0]}: there is no option {option}; convert {words[0]} --help lists them")
    found: argparse.Namespace = commands[words[0]].parse_intermixed_args(words[1:])
    return found


def _or_like(word: str, known: Iterable[str]) -> str:
    """A word that is misspelt, and the one that was meant."""
    import difflib

    near = difflib.get_close_matches(word, list(known), 1)
    return printable(word, 100) + (f", but there is {near[0]}" if near else "")


def _with_levels(words: Sequence[str]) -> list[str]:
    """`--verify` alone is `--verify=quick`: what follows it is a file, unless it is `full` or `quick`."""
    made: list[str] = []
    for word in words:
        if made and made[-1] == "--verify":
            if word in ("full", "quick"):
                made[-1] = f"--verify={word}"
                continue
            made[-1] = "--verify=quick"
        made.append(word)
    return [*made[:-1], "--verify=quick"] if made and made[-1] == "--verify" else made


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    terminal.say(f"warning: {message}")


def _answer(problem: BaseException, words: Sequence[str], as_json: bool) -> int:
    """Says what went wrong; returns the exit status."""
    if isinstance(problem, ImportError):  # of a file that imports a package at its head
        problem = packages.explain(problem) or problem
    if isinstance(problem, UsageError):
        return terminal.fail(problem, as_json, status=2)
    if isinstance(problem, ConversionError):
        return terminal.fail(problem, as_json)
    if isinstance(problem, KeyboardInterrupt):
        terminal.say("interrupted; nothing was written")
        return 130
    if isinstance(problem, Stopped):
        terminal.say("stopped; nothing was written")
        return 128 + problem.number
    if isinstance(problem, BrokenPipeError):  # nobody reads on; the last flush mustn't complain
        terminal.abandon()
        return 1
    if isinstance(problem, terminal.OutputError):
        terminal.abandon()
        terminal.say(f"error: {problem}")
        return 1
    if isinstance(problem, MemoryError):
        return terminal.fail(ConversionError(f"{_files(words)}: needs more memory than there is"), as_json)
    if not isinstance(problem, Exception):
        raise problem
    # a mistake of ours: still one line, and no half output (see files.writing)
    what = printable(f"{type(problem).__name__}: {problem}", 400)
    internal = f"{_files(words)}: internal error, please report it (CONVERTERS_DEBUG=1 shows where): {what}"
    return terminal.fail(ConversionError(internal), as_json)


def _files(words: Sequence[str]) -> str:
    """The files that a command was given, for a message about none in particular."""
    return ", ".join(word for word in words[1:] if not word.startswith("-") and os.path.exists(word)) or "convert"


def parser() -> Parser:
    """The parser of all commands."""
    from converters import __version__
    from converters.cli import convert, inspect, migrate, strip, use, verify

    whole = Parser(
        prog="convert",
        description="Old checkpoints (Caffe, Lua Torch, MXNet, TensorFlow 1, PyTorch) to PyTorch and ONNX, with the same numbers.",
        epilog="Exit status: 0 done, 1 the input can't be converted, 2 wrong usage. `python -m converters` is the same command.",
    )
    whole.add_argument("--version", action="version", version=f"converters {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for group in (convert, strip, inspect, verify, use, migrate):
        group.add(commands)
    add_completion(commands)
    return whole
