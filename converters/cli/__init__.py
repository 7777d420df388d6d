"""The `convert` command: the only place that prints, and the only one that exits.

Results go to stdout, progress and warnings to stderr. Exit status: 0 done, 1 the input can't be converted, 2 wrong usage.
"""

from __future__ import annotations

from converters.cli.main import main

__all__ = ["main"]
