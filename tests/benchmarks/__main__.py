"""Start-up, growth, memory and speed of every command, each row with its goal and whether that is met.

    python -m tests.benchmarks                        everything; its inputs are made for the run
    python -m tests.benchmarks --only growth          one part: start-up, large, peers, modules, growth
    python -m tests.benchmarks --zoo FOLDER           besides: every net below a folder
    python -m tests.benchmarks --json FILE --page FILE.md

CPU seconds of the whole process, the least of several runs; memory is what no file backs. `cp` is measured in the same run. Rows that were
measured while other work ran are marked: their figures aren't to be trusted, ratios a little more than seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import growth, parts
from tests.benchmarks.measure import QUIET, load
from tests.benchmarks.rows import Row, table


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=[*parts.PARTS, "growth"], help="one part; repeat it for more")
    parser.add_argument("--megabytes", type=int, default=400, help="of the large files (400)")
    parser.add_argument("--sizes", default="1,10,100,1000,10000", help="layers of the nets that grow (1,10,100,1000,10000)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each command (3)")
    parser.add_argument("--zoo", metavar="FOLDER", help="a folder of nets to be converted too")
    parser.add_argument("--folder", metavar="FOLDER", help="where inputs are made, on a disk with room for four large files")
    parser.add_argument("--json", metavar="FILE", help="the rows as JSON")
    parser.add_argument("--page", metavar="FILE.md", help="the rows as a page of the documentation")
    asked = parser.parse_args()
    wanted = asked.only or [*parts.PARTS, "growth"]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        for row in _rows(wanted, asked, Path(scratch)):
            rows.append(row)
            print(row.line(), flush=True)
    cells = []
    if "growth" in wanted:
        with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
            for cell in growth.measure(Path(scratch), [int(size) for size in asked.sizes.split(",")]):
                cells.append(cell)
                print(cell.line(), flush=True)
    if asked.json:
        facts = {"machine": machine(), "rows": [row.facts() for row in rows], "growth": [dataclasses.asdict(cell) for cell in cells]}
        Path(asked.json).write_text(json.dumps(facts, indent=1) + "\n")
    if asked.page:
        Path(asked.page).write_text(page(rows, cells))
    sys.exit(0 if all(row.verdict != "missed" for row in rows) else 1)


def _rows(wanted: list[str], asked: argparse.Namespace, folder: Path) -> Iterator[Row]:
    for name in wanted:
        if name in parts.PARTS:
            yield from parts.PARTS[name](folder, asked.megabytes, asked.repeats)
    if asked.zoo:
        yield from parts.zoo(Path(asked.zoo), folder, asked.repeats)


def machine() -> str:
    return f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}, load {load():.1f} for each processor"


def page(rows: list[Row], cells: list[growth.Cell]) -> str:
    """The last run as a page."""
    busy = sum(not row.measured.is_trusted for row in rows) + sum(not cell.is_trusted for cell in cells)
    text = [
        "# Speed, memory and growth",
        "",
        "`python -m tests.benchmarks` measures every command on inputs that it makes itself; `--help` says how.",
        "Goals are those of a quiet machine.",
        "",
        f"The last run: {machine()}."
        + (f" {busy} of {len(rows) + len(cells)} rows were measured while other work ran (load above {QUIET}), and are marked *busy*: "
           "their seconds are too many, and a goal that they miss says nothing." if busy else ""),
        "",
        *table(rows),
    ]  # fmt: skip
    if cells:
        text += ["", "## Growth", "", growth.EXPLANATION, "", *growth.table(cells)]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
