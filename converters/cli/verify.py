"""verify: two conversions of one model, compared."""

from __future__ import annotations

import argparse
from typing import Any

from converters.cli import terminal


def add(commands: Any) -> None:
    """Adds the command to the parser."""
    check = commands.add_parser("verify", help="compare two conversions: the weights of two files, or the outputs of two ONNX models")
    check.add_argument("first", metavar="FILE")
    check.add_argument("second", metavar="FILE")
    check.add_argument("--tolerance", type=float, default=1e-4, help="largest difference, relative to the largest number (default 1e-4)")
    check.add_argument("--key", help="where the weights sit in the first file, if it is a checkpoint")
    check.add_argument("--json", action="store_true", help="print the answer as JSON")
    check.set_defaults(run=_verify)


def _verify(asked: argparse.Namespace) -> int:
    from converters.verification.compare import compare_files

    report = compare_files(asked.first, asked.second, key=asked.key, tolerance=asked.tolerance)
    if asked.json:
        terminal.tell_json(report.as_dict())
    else:
        terminal.tell(str(report))
    return 0 if report.ok else 1
