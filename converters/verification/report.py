"""What verifying found: the runs that were compared, output by output, the weights, and the first layer where two parted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converters.runtimes.compare import TOLERANCE, Difference

SHOWN = 20
"""Outputs and weights that are shown as text; as data all of them."""


@dataclass(frozen=True)
class Trial:
    """One input that both sides ran on: what it was, how far each output is apart, and how many times the tolerance is allowed."""

    name: str
    outputs: list[Difference]
    slack: float = 1.0

    @property
    def worst(self) -> float:
        return max((d.error for d in self.outputs), default=0.0)

    def __str__(self) -> str:
        more = f" of {self.slack:g} times the tolerance" if self.slack != 1 else ""
        return f"{self.name} ({self.worst:.2g}{more})"


@dataclass(frozen=True)
class Report:
    """What `verify` found: `outputs`, the largest Difference of each over all trials; `layers`, the first values that differ.

    trials: each input that was tried. weights: of parameters that both sides hold under one name, those that differ. compared: how many
    of these there were. notes: how inputs and outputs were paired where their names differ, and what wasn't run. The files run as they
    are written; `optimizer` says what onnxruntime's own optimizer changes of that, which is no fault of a file.
    """

    outputs: list[Difference]
    layers: list[Difference] = field(default_factory=list)
    tolerance: float = TOLERANCE
    what: str = "PyTorch and onnxruntime"
    optimizer: list[Difference] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    weights: list[Difference] = field(default_factory=list)
    compared: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every output and every weight agrees within the tolerance."""
        tried = [d.error <= self.tolerance * trial.slack for trial in self.trials for d in trial.outputs]
        return all(tried or [d.error <= self.tolerance for d in self.outputs]) and all(d.error <= self.tolerance for d in self.weights)

    @property
    def worst(self) -> float:
        return max((d.error for d in (*self.outputs, *self.weights)), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        rows = {"outputs": self.outputs, "layers": self.layers, "weights": self.weights, "optimizer": self.optimizer}
        plain: dict[str, Any] = {"ok": self.ok, "what": self.what, "largest_difference": self.worst, "tolerance": self.tolerance}
        plain |= {name: [vars(difference) for difference in found] for name, found in rows.items()}
        plain["trials"] = [
            {"name": trial.name, "slack": trial.slack, "outputs": [vars(difference) for difference in trial.outputs]}
            for trial in self.trials
        ]
        return plain | {"weights_compared": self.compared, "notes": self.notes}

    @property
    def optimizer_words(self) -> str:
        """How far the optimizer of onnxruntime takes the answers from those of the file; empty where it wasn't asked."""
        if not self.optimizer:
            return ""
        worst = max(self.optimizer, key=lambda d: d.error)
        return f"changes the answers by at most {worst.error:.2g}" if np.isfinite(worst.error) else str(worst)

    def __str__(self) -> str:
        verdict = "NOT EQUAL" if not self.ok else "verified" if self.outputs else "NOT RUN"
        lines = [f"{verdict}: {self.what}, tolerance {self.tolerance:g}", *(f"  {d}" for d in self.outputs[:SHOWN])]
        if len(self.outputs) > SHOWN:
            lines.append(f"  and {len(self.outputs) - SHOWN:,} more")
        if self.trials:
            lines.append(f"  tried: {', '.join(map(str, self.trials))}")
        if self.compared:
            lines.append(f"  weights: {self.compared} tensors of both, {len(self.weights) or 'none'} of which differ")
        lines += [f"    {d}" for d in self.weights[:SHOWN]]
        if self.layers:
            lines += ["  the first values that differ:", *(f"    {d}" for d in self.layers)]
        if self.optimizer:
            lines.append(f"  onnxruntime's optimizer: {self.optimizer_words}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def gathered(trials: list[Trial]) -> list[Difference]:
    """Of each output the largest difference of all trials, against what each is allowed."""
    worst: dict[str, tuple[float, Difference]] = {}
    for trial in trials:
        for found in trial.outputs:
            if found.name not in worst or found.error / trial.slack > worst[found.name][0]:
                worst[found.name] = found.error / trial.slack, found
    return [found for _, found in worst.values()]
