"""A row of the benchmark: what was measured, beside what, the goal, and whether it is met."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.measure import Measured


@dataclass(frozen=True)
class Row:
    """goal: CPU seconds allowed, if there is one. copy: `cp` of the input in the same run. memory: megabytes allowed that no file backs."""

    part: str
    name: str
    measured: Measured
    goal: float | None = None
    said: str = ""
    copy: Measured | None = None
    memory: float | None = None

    @property
    def verdict(self) -> str:
        """met, missed, or busy where the machine was too loaded for a miss to mean anything; - without a goal."""
        if self.goal is None and self.memory is None:
            return "-"
        slow = self.goal is not None and self.measured.cpu > self.goal
        large = self.memory is not None and self.measured.anonymous > self.memory
        if large or (slow and self.measured.is_trusted):
            return "missed"
        return "busy" if slow else "met"

    def cells(self) -> list[str]:
        ratio = "" if self.copy is None else f"{self.measured.cpu / max(self.copy.cpu, 1e-3):.1f}"
        allowed = "" if self.goal is None else _seconds(self.goal) + (f" ({self.said})" if self.said else "")
        memory = "" if self.memory is None else f" (of {self.memory:.0f})"
        busy = "" if self.measured.is_trusted else f"busy, {self.measured.load:.1f}"
        return [
            self.name, _seconds(self.measured.cpu), _seconds(self.measured.wall), f"{self.measured.anonymous:.0f}{memory}",
            f"{self.measured.mapped:.0f}", ratio, allowed, self.verdict, busy,
        ]  # fmt: skip

    def line(self) -> str:
        return f"{self.part}: " + " | ".join(
            f"{head} {cell}" if head else cell for head, cell in zip(_HEADS, self.cells(), strict=True) if cell
        )

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = {"part": self.part, "name": self.name, **vars(self.measured), "goal": self.goal, "verdict": self.verdict}
        return found if self.copy is None else {**found, "cp": vars(self.copy)}


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


_HEADS = ["", "CPU s", "wall s", "MB", "mapped MB", "x cp", "goal", "verdict", "machine"]


def table(rows: Iterable[Row]) -> list[str]:
    """Markdown, a table for each part."""
    text: list[str] = []
    part = None
    for row in rows:
        if row.part != part:
            part = row.part
            heads = ["command", *_HEADS[1:]]
            text += ["", f"## {part}", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        text.append(f"| {' | '.join(row.cells())} |")
    return text[1:]
