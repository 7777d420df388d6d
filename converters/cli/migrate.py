"""migrate: a whole archive at once."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING, Any

from converters.cli import terminal
from converters.cli.arguments import add_plugin, dynamic_axis
from converters.cli.signals import Stopped

if TYPE_CHECKING:
    from converters.migration.progress import Progress

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}
_LINES = 10.0
"""Seconds between two lines of progress where stderr is no terminal."""


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    command = commands.add_parser("migrate", help="find, convert and prove every model of a tree, here or on a Dask cluster")
    command.add_argument("source", metavar="SOURCE", help="a folder, or a URL of fsspec: s3://bucket/prefix")
    command.add_argument("target", metavar="TARGET", help="a folder or a URL; one that an earlier run left is continued")
    command.add_argument(
        "--to", default="onnx,torch", metavar="KINDS", help="of onnx, torch, safetensors and weights (strip-to-weights), with commas"
    )
    where = command.add_mutually_exclusive_group()
    where.add_argument("--workers", type=int, metavar="N", help="processes of this machine (default: as many as cores)")
    where.add_argument("--scheduler", metavar="tcp://HOST:8786", help="a Dask scheduler whose workers do it")
    command.add_argument("--no-verify", action="store_true", help="write without running what is written")
    command.add_argument("--shapes", metavar="FILE.toml", help='shapes of inputs by patterns of paths: "GLOB" = {data = "1x3x224x224"}')
    command.add_argument("--include", action="append", default=[], metavar="GLOB", help="only files like this; repeat it for more")
    command.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="no files like this; repeat it for more")
    command.add_argument("--limit-memory", type=_size, metavar="2GB", help="for one model, without mapped files (default: its share)")
    command.add_argument("--limit-time", type=float, default=600, metavar="SECONDS", help="for one model (default 600)")
    command.add_argument("--archives", action="store_true", help="look into .zip and .tar archives")
    command.add_argument("--epochs", choices=("newest", "all"), default="newest", help="of MXNet's parameters (default newest)")
    command.add_argument("--retry", default="", metavar="STATES", help="of unsupported, failed, different and killed: try these again")
    command.add_argument("--dry-run", action="store_true", help="only look: list what would be converted")
    _add_of_single_commands(command)
    command.add_argument("--force", action="store_true", help="take a target that isn't empty and that no earlier run left")
    command.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")
    command.add_argument("--json", action="store_true", help="print the report, or the error, as JSON")
    command.set_defaults(run=_migrate)


def _add_of_single_commands(command: argparse.ArgumentParser) -> None:
    command.add_argument("--opset", type=int, help="write another operator set than the graph's own")
    command.add_argument("--dtype", choices=("float16", "bfloat16", "float32", "float64"), help="the floating-point type to write")
    command.add_argument(
        "--dynamic", action="append", default=[], type=dynamic_axis, metavar="NAME:AXIS=LABEL", help="leave an axis open besides the first"
    )
    command.add_argument("--key", help="where the model sits in checkpoints (.pth, .t7)")
    command.add_argument("--code", metavar="DIR", help="folder of the PyTorch models' own Python code")
    add_plugin(command)
    command.add_argument("--trust", action="store_true", help="let code that you name, and TorchScript programs, run")


def _size(word: str) -> int:
    """`2GB`, `500MB`, `1.5GiB` or bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", word.strip().upper())
    if match is None or match[2] not in _UNITS or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{word}: write 2GB or 500MB")
    return int(float(match[1]) * _UNITS[match[2]])


def _migrate(asked: argparse.Namespace) -> int:
    import converters

    bar = _Bar(quiet=asked.quiet)
    try:
        report = converters.migrate(
            asked.source,
            asked.target,
            to=tuple(word for word in asked.to.split(",") if word),
            workers=asked.workers,
            scheduler=asked.scheduler,
            verify=not asked.no_verify,
            shapes=asked.shapes,
            include=asked.include,
            exclude=asked.exclude,
            limit_memory=asked.limit_memory,
            limit_time=asked.limit_time,
            archives=asked.archives,
            epochs=asked.epochs,
            retry=tuple(word for word in asked.retry.split(",") if word),
            opset=asked.opset,
            dtype=asked.dtype,
            dynamic=dict(asked.dynamic),
            key=asked.key,
            code=asked.code,
            plugin=asked.plugin,
            trust=asked.trust,
            force=asked.force,
            dry_run=asked.dry_run,
            watch=bar.show,
        )
    except (KeyboardInterrupt, Stopped) as stop:
        bar.end()
        terminal.say("interrupted; what is done is kept: run the same command again to go on")
        return 130 if isinstance(stop, KeyboardInterrupt) else 128 + stop.number
    finally:
        bar.end()
    if asked.json:
        terminal.tell_json(report.as_dict())
    elif not asked.quiet:
        terminal.tell(str(report))
        if asked.dry_run:
            for row in report.models:
                terminal.tell(f"  {row.source}: {row.format}, {row.status}")
        else:
            terminal.tell(f"\nreport: {asked.target.rstrip('/')}/report.html")
    return 0 if report.ok else 1


class _Bar:
    """How far the run is, on stderr: one line that is written over in a terminal, else a line now and then."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._shown, self._width, self._dashboard = 0.0, 0, ""
        terminal.doing("")  # this line says it

    def show(self, progress: Progress) -> None:
        """Called often."""
        if self.quiet:
            return
        if progress.dashboard != self._dashboard:
            self._dashboard = progress.dashboard
            self.end()
            terminal.say(f"dashboard: {progress.dashboard}")
        now = time.monotonic()
        if now - self._shown < (0.2 if self.is_terminal else _LINES):
            return
        self._shown = now
        if progress.stage == "looking" and not progress.seen:
            return
        line = _line(progress)
        if self.is_terminal:
            print(f"\r{line:<{self._width}}", end="", file=sys.stderr, flush=True)
            self._width = len(line)
        else:
            terminal.say(line)

    def end(self) -> None:
        """Leaves the line."""
        if self._width:
            print(file=sys.stderr)
        self._width = 0


def _line(progress: Progress) -> str:
    if progress.stage == "looking":
        return f"looking: {progress.seen:,} files"
    eta = "?" if progress.eta is None else f"{int(progress.eta) // 3600}:{int(progress.eta) // 60 % 60:02}:{int(progress.eta) % 60:02}"
    share = 1 - progress.left / progress.total if progress.total else 1.0
    bar = "#" * int(share * 20)
    counts = f"{progress.done:,} done, {progress.failed:,} failed, {progress.left:,} left"
    return f"[{bar:<20}] {counts}, {progress.rate / 1e6:,.1f} MB/s, ETA {eta}"
