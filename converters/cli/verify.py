"""verify: two artefacts of one model, compared."""

from __future__ import annotations

import argparse
from typing import Any

from converters.cli import terminal
from converters.cli.arguments import UsageError, add_input, add_plugin, options_of


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    check = commands.add_parser(
        "verify", help="compare two artefacts of a model: run both, compare their weights, name the first layer that differs"
    )
    check.add_argument(
        "files", nargs="+", metavar="FILE", help="two models, each its one or two files: legacy files, .onnx, .pth, .safetensors"
    )
    check.add_argument("--tolerance", type=float, default=1e-4, help="largest difference, relative to the largest number (default 1e-4)")
    check.add_argument(
        "--quick", action="store_true", help="try two or three inputs, instead of several seeds, batches, zeros and negatives"
    )
    check.add_argument("--seed", type=int, default=0, help="of the random inputs (default 0)")
    add_feed_options(check)
    add_input(check, "shape of an input, where neither file has it; repeat it for more")
    check.add_argument("--key", help="where the model or the weights sit in the first file, if it is a checkpoint")
    check.add_argument("--code", metavar="DIR", help="folder of a PyTorch model's own code; runs only with --trust")
    add_plugin(check)
    check.add_argument("--trust", action="store_true", help="let the .py beside a .pth, and code that you name, run")
    check.add_argument("--report", metavar="OUT.html", help="write what was found as one page: layers, differences, weights")
    check.add_argument("--force", action="store_true", help="overwrite the report if it exists")
    check.add_argument("--json", action="store_true", help="print the answer as JSON")
    check.set_defaults(run=_verify)


def add_feed_options(command: argparse.ArgumentParser) -> None:
    """--feed and --expect: the original's own inputs and answers."""
    command.add_argument("--feed", metavar="INPUT.npz", help="run on these arrays, by input name (.npz or .t7), instead of random numbers")
    command.add_argument("--expect", metavar="EXPECTED.npz", help="the original's own answers to --feed, by output name (.npz or .t7)")


def _verify(asked: argparse.Namespace) -> int:
    from converters.verification.artefacts import artefacts_of, compare_artefacts

    if asked.expect is not None and asked.feed is None:
        raise UsageError("convert verify: --expect goes with --feed")
    models = artefacts_of(asked.files)
    if len(models) != 2 and not (len(models) == 1 and asked.expect is not None):
        raise UsageError(f"convert verify: give two models, or one with --feed and --expect; these files are {len(models)}")
    report = compare_artefacts(
        models[0],
        models[1] if len(models) == 2 else None,
        options=options_of(asked),
        level="quick" if asked.quick else "full",
        seed=asked.seed,
        tolerance=asked.tolerance,
        feed=asked.feed,
        expect=asked.expect,
        page=asked.report,
        force=asked.force,
    )
    if asked.json:
        terminal.tell_json(report.as_dict())
    else:
        terminal.tell(str(report), "right" if report.ok else "wrong")
    return 0 if report.ok else 1
