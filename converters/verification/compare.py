"""Verification: the same random input through PyTorch and onnxruntime, output by output, and layer by layer where it fails."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import packages
from converters.errors import ConversionError, printable
from converters.files import StrPath
from converters.graph.provenance import source_of
from converters.runtimes.compare import TOLERANCE, Array, Difference, difference, random_inputs
from converters.runtimes.onnxruntime import run_onnx
from converters.runtimes.torch import run_torch
from converters.verification.memory import check_memory

if TYPE_CHECKING:
    import onnx_ir


@dataclass(frozen=True)
class Report:
    """What `verify` found: `outputs`, one Difference each; `layers`, the first values that differ, filled where an output fails.

    The files run as they are written; `optimizer` says what onnxruntime's own optimizer changes of that, which is no fault of a file.
    """

    outputs: list[Difference]
    layers: list[Difference] = field(default_factory=list)
    tolerance: float = TOLERANCE
    what: str = "PyTorch and onnxruntime"
    optimizer: list[Difference] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every output agrees within the tolerance."""
        return all(d.error <= self.tolerance for d in self.outputs)

    @property
    def worst(self) -> float:
        return max((d.error for d in self.outputs), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        rows = {"outputs": self.outputs, "layers": self.layers, "optimizer": self.optimizer}
        plain: dict[str, Any] = {"ok": self.ok, "what": self.what, "largest_difference": self.worst, "tolerance": self.tolerance}
        return plain | {name: [vars(difference) for difference in found] for name, found in rows.items()}

    @property
    def optimizer_words(self) -> str:
        """How far the optimizer of onnxruntime takes the answers from those of the file; empty where it wasn't asked."""
        if not self.optimizer:
            return ""
        worst = max(self.optimizer, key=lambda d: d.error)
        return f"changes the answers by at most {worst.error:.2g}" if np.isfinite(worst.error) else str(worst)

    def __str__(self) -> str:
        verdict = "verified" if self.ok else "NOT EQUAL"
        lines = [f"{verdict}: {self.what}, tolerance {self.tolerance:g}", *(f"  {d}" for d in self.outputs)]
        if self.layers:
            lines += ["  the first values that differ:", *(f"    {d}" for d in self.layers)]
        if self.optimizer:
            lines.append(f"  onnxruntime's optimizer: {self.optimizer_words}")
        return "\n".join(lines)


def verify(
    model: onnx_ir.Model,
    onnx_path: StrPath | None = None,
    *,
    opset: int | None = None,
    inputs: Mapping[str, Array] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Report:
    """Runs the model as PyTorch and as ONNX (the file at `onnx_path`, else one written for the purpose) on the same input.

    opset: the operator set of a file that is written for the purpose, if it isn't the graph's own. inputs: arrays by input name, else
    seeded random ones. onnxruntime runs the nodes as they are written, its optimizer off. Returns a Report; where an output differs by
    more than `tolerance` of its largest number, it names the first values inside the graph that do, with the source layers they come
    from.
    """
    packages.check("torch", "onnxruntime")
    from converters.writers.onnx.writer import write_onnx

    batch = check_memory(model, shapes={name: array.shape for name, array in (inputs or {}).items()})
    arrays = dict(inputs) if inputs is not None else random_inputs(model, batch=batch, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        if onnx_path is None:
            onnx_path = Path(folder, "model.onnx")
            write_onnx(model, onnx_path, opset=opset)
        names = [str(v.name) for v in model.graph.outputs]
        answers = run_onnx(onnx_path, arrays)
        optimizer = _optimized(names, onnx_path, arrays, answers)
        outputs = [difference(name, a, b) for name, a, b in zip(names, run_torch(model, arrays), answers, strict=True)]
        report = Report(outputs, tolerance=tolerance, optimizer=optimizer)
        if report.ok:
            return report
        return replace(report, layers=_first_layers(model, arrays, Path(folder), tolerance, opset))


class _DifferentError(Exception):
    """Takes a file back that was written, but doesn't answer as PyTorch does."""


def write_verified(model: onnx_ir.Model, path: StrPath, *, opset: int | None = None, force: bool = False) -> Report:
    """Writes the model as ONNX and verifies the very file; it gets its name only if the Report that is answered is ok."""
    from converters.writers.onnx.writer import write_onnx

    reports: list[Report] = []

    def check(written: Path) -> None:
        reports.append(verify(model, written, opset=opset))
        if not reports[0].ok:
            raise _DifferentError

    with contextlib.suppress(_DifferentError):
        write_onnx(model, path, opset=opset, force=force, check=check)
    return reports[0]


def _optimized(names: list[str], path: StrPath, arrays: Mapping[str, Array], answers: list[Array]) -> list[Difference]:
    """What onnxruntime's optimizer makes of a file's answers; where the rewritten graph fails, that."""
    try:
        changed = run_onnx(path, arrays, optimize=True)
    except ConversionError as problem:
        return [Difference(names[0], float("inf"), 0.0, note=f"it fails: {printable(problem)}")]
    return [difference(name, a, b) for name, a, b in zip(names, changed, answers, strict=True)]


def _first_layers(
    model: onnx_ir.Model, arrays: Mapping[str, Array], folder: Path, tolerance: float, opset: int | None, most: int = 5
) -> list[Difference]:
    """The first values in graph order that differ, found by making every value an output."""
    from converters.writers.onnx.writer import write_onnx

    opened = model.clone()
    values = [v for node in opened.graph if node.op_type != "Constant" for v in node.outputs if v.name]
    sources = [source_of(v.producer()) for v in values]
    opened.graph.outputs.clear()
    opened.graph.outputs.extend(values)
    path = folder / "opened.onnx"
    write_onnx(opened, path, opset=opset)
    found = []
    for value, source, a, b in zip(values, sources, run_torch(opened, arrays), run_onnx(path, arrays), strict=True):
        compared = difference(str(value.name), a, b, source)
        if compared.error > tolerance:
            found.append(compared)
            if len(found) == most:
                break
    return found


def compare_files(first: StrPath, second: StrPath, *, key: str | None = None, seed: int = 0, tolerance: float = TOLERANCE) -> Report:
    """Compares two files: two ONNX models by running both, others by their weights. key: where those sit in the first file."""
    from converters.formats import format_of, load_weights, recognize
    from converters.options import LoadOptions

    files = [recognize(path) for path in (first, second)]
    rows = [format_of(file) for file in files]
    if all(row is not None and row.name == "onnx" for row in rows):
        return compare_models(*files, seed=seed, tolerance=tolerance)
    weights = load_weights(files[0], LoadOptions(key=key)), load_weights(files[1])
    return compare_weights(*weights, tolerance=tolerance)


def compare_models(first: StrPath, second: StrPath, *, seed: int = 0, tolerance: float = TOLERANCE) -> Report:
    """Runs two ONNX files on the same random input; inputs and outputs are compared in order."""
    from converters.formats import load

    model, other = load([first]), load([second])
    arrays = random_inputs(model, batch=check_memory(model), seed=seed)
    if len(other.graph.inputs) != len(arrays):
        counts = (
            f"{len(arrays)} inputs ({', '.join(arrays)})",
            f"{len(other.graph.inputs)} ({', '.join(str(v.name) for v in other.graph.inputs)})",
        )
        raise ConversionError(f"{os.fspath(first)} has {counts[0]}, {os.fspath(second)} {counts[1]}: they can't be compared")
    again = {str(value.name): array for value, array in zip(other.graph.inputs, arrays.values(), strict=True)}
    if set(again) == set(arrays):
        again = arrays
    try:
        got, want = run_onnx(first, arrays), run_onnx(second, again)
    except ConversionError as problem:
        tried = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in arrays.items())
        problem.hint = problem.hint or f"the inputs tried are of the shapes {tried}, where open axes got a size that may not fit"
        raise
    if len(got) != len(want):
        raise ConversionError(f"{os.fspath(first)} has {len(got)} outputs, {os.fspath(second)} has {len(want)}")
    pairs = enumerate(zip(got, want, strict=True))
    return Report([difference(f"output {i}", a, b) for i, (a, b) in pairs], tolerance=tolerance, what="both models")


def compare_weights(first: Mapping[str, Any], second: Mapping[str, Any], *, tolerance: float = TOLERANCE) -> Report:
    """Compares two sets of weights name by name; a name that only one of them has is a difference."""
    found = []
    for name in dict.fromkeys([*first, *second]):
        if name not in first or name not in second:
            found.append(Difference(name, float("inf"), 0.0, note=f"only in the {'first' if name in first else 'second'} file"))
        else:
            found.append(difference(name, np.asarray(first[name]), np.asarray(second[name])))
    wrong = [d for d in found if d.error > tolerance]
    worst = max(found, key=lambda d: d.error, default=None)
    shown = wrong or ([worst] if worst else [])
    return Report(shown, tolerance=tolerance, what=f"{len(found)} tensors of both files")
