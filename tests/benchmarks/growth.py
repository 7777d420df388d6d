"""CPU seconds of every command on nets of growing numbers of layers, and the exponent that they grow with."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.measure import QUIET, load, run
from tests.benchmarks.nets import CELLS, SHAPES, measured

GOAL = 1.1
EXPLANATION = (
    "CPU seconds for nets of so many layers, start-up included; the exponent is the slope from the last but one to the last size, without "
    f"start-up, on axes of logarithms. The goal is {GOAL}. `torch2onnx` isn't measured: PyTorch's own exporter is most of it. "
    "An empty cell: the format has no such net. TensorFlow's many outputs are those of a SavedModel's signature."
)


@dataclass(frozen=True)
class Cell:
    """seconds: by the number of layers."""

    command: str
    shape: str
    seconds: dict[int, float]
    exponent: float
    load: float

    @property
    def is_trusted(self) -> bool:
        return self.load <= QUIET

    def line(self) -> str:
        times = ", ".join(f"{size}: {seconds:.2f}" for size, seconds in self.seconds.items())
        return f"growth: {self.command}, {self.shape}: {times}; exponent {self.exponent:.2f}" + ("" if self.is_trusted else " (busy)")


def measure(folder: Path, sizes: Sequence[int]) -> Iterator[Cell]:
    for command, (_, target) in CELLS.items():
        for shape in SHAPES:
            if not measured(command, shape):
                continue
            before, seconds = load(), {}
            for size in sizes:
                place = folder / f"{size}"
                place.mkdir()
                # in a process of its own: what a child may be said to have used starts with what its parent has
                make = "import sys; from pathlib import Path; from tests.benchmarks.nets import CELLS; "
                make += f"print('\\n'.join(CELLS[{command!r}][0](Path({str(place)!r}), {shape!r}, {size})))"
                words = subprocess.run(
                    [sys.executable, "-c", make], check=True, capture_output=True, text=True, cwd=os.getcwd()
                ).stdout.split("\n")[:-1]
                at = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
                whole = [sys.executable, "-m", "converters", command, *words[:at], target, *words[at:], "--force", "--quiet"]
                seconds[size] = round(run(whole, place, repeats=2 if size < 1000 else 1).cpu, 3)
                shutil.rmtree(place)
            yield Cell(command, shape, seconds, round(exponent(seconds), 2), round(before, 1))


def exponent(seconds: dict[int, float]) -> float:
    """The slope between the two largest nets, start-up (of the smallest) taken off."""
    start, *_, few, many = seconds.items()
    return math.log(max(many[1] - start[1], 1e-3) / max(few[1] - start[1], 1e-3)) / math.log(many[0] / few[0])


def table(cells: Sequence[Cell]) -> list[str]:
    """Markdown: a row for each command and shape."""
    sizes = list(cells[0].seconds)
    heads = ["command", "shape", *(f"{size:,}" for size in sizes), "exponent", "machine"]
    text = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for cell in cells:
        times = [f"{cell.seconds[size]:.2f}" for size in sizes]
        text.append(
            f"| {' | '.join([cell.command, cell.shape, *times, f'{cell.exponent:.2f}', '' if cell.is_trusted else f'busy, {cell.load}'])} |"
        )
    return text
