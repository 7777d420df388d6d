"""Verification: the same random input through PyTorch and onnxruntime, output by output, and layer by layer where it fails."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import packages
from converters.errors import ConversionError
from converters.files import StrPath
from converters.graph.provenance import source_of
from converters.runtimes.compare import TOLERANCE, Array, Difference, difference, random_inputs
from converters.runtimes.onnxruntime import run_onnx
from converters.runtimes.torch import run_torch

if TYPE_CHECKING:
    import onnx_ir


@dataclass(frozen=True)
class Report:
    """What `verify` found: `outputs`, one Difference each; `layers`, the first values that differ, filled where an output fails."""

    outputs: list[Difference]
    layers: list[Difference] = field(default_factory=list)
    tolerance: float = TOLERANCE
    what: str = "PyTorch and onnxruntime"

    @property
    def ok(self) -> bool:
        """Whether every output agrees within the tolerance."""
        return all(d.error <= self.tolerance for d in self.outputs)

    @property
    def worst(self) -> float:
        return max((d.error for d in self.outputs), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        rows = {"outputs": self.outputs, "layers": self.layers}
        plain: dict[str, Any] = {"ok": self.ok, "what": self.what, "largest_difference": self.worst, "tolerance": self.tolerance}
        return plain | {name: [vars(difference) for difference in found] for name, found in rows.items()}

    def __str__(self) -> str:
        verdict = "verified" if self.ok else "NOT EQUAL"
        lines = [f"{verdict}: {self.what}, tolerance {self.tolerance:g}", *(f"  {d}" for d in self.outputs)]
        if self.layers:
            lines += ["  the first values that differ:", *(f"    {d}" for d in self.layers)]
        return "\n".join(lines)


def verify(
    model: onnx_ir.Model,
    onnx_path: StrPath | None = None,
    *,
    inputs: Mapping[str, Array] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Report:
    """Runs the model as PyTorch and as ONNX (the file at `onnx_path`, else one written for the purpose) on the same input.

    inputs: arrays by input name, else seeded random ones. Returns a Report; where an output differs by more than `tolerance` of its
    largest number, it names the first values inside the graph that do, with the source layers they come from.
    """
    packages.check("torch", "onnxruntime")
    from converters.writers.onnx.writer import write_onnx

    arrays = dict(inputs) if inputs is not None else random_inputs(model, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        if onnx_path is None:
            onnx_path = Path(folder, "model.onnx")
            write_onnx(model, onnx_path)
        names = [str(v.name) for v in model.graph.outputs]
        pairs = zip(names, run_torch(model, arrays), run_onnx(onnx_path, arrays), strict=True)
        outputs = [difference(name, a, b) for name, a, b in pairs]
        report = Report(outputs, tolerance=tolerance)
        if report.ok:
            return report
        return Report(outputs, _first_layers(model, arrays, Path(folder), tolerance), tolerance)


def _first_layers(model: onnx_ir.Model, arrays: Mapping[str, Array], folder: Path, tolerance: float, most: int = 5) -> list[Difference]:
    """The first values in graph order that differ, found by making every value an output."""
    from converters.writers.onnx.writer import write_onnx

    opened = model.clone()
    values = [v for node in opened.graph if node.op_type != "Constant" for v in node.outputs if v.name]
    sources = [source_of(v.producer()) for v in values]
    opened.graph.outputs.clear()
    opened.graph.outputs.extend(values)
    path = folder / "opened.onnx"
    write_onnx(opened, path)
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
    from converters.formats import format_of, load_weights, recognise
    from converters.options import LoadOptions

    files = [recognise(path) for path in (first, second)]
    rows = [format_of(file) for file in files]
    if all(row is not None and row.name == "onnx" for row in rows):
        return compare_models(*files, seed=seed, tolerance=tolerance)
    weights = load_weights(files[0], LoadOptions(key=key)), load_weights(files[1])
    return compare_weights(*weights, tolerance=tolerance)


def compare_models(first: StrPath, second: StrPath, *, seed: int = 0, tolerance: float = TOLERANCE) -> Report:
    """Runs two ONNX files on the same random input; inputs and outputs are compared in order."""
    from converters.formats import load

    model, other = load([first]), load([second])
    arrays = random_inputs(model, seed=seed)
    if len(other.graph.inputs) != len(arrays):
        counts = (
            f"{len(arrays)} inputs ({', '.join(arrays)})",
            f"{len(other.graph.inputs)} ({', '.join(str(v.name) for v in other.graph.inputs)})",
        )
        raise ConversionError(f"{os.fspath(first)} has {counts[0]}, {os.fspath(second)} {counts[1]}: they can't be compared")
    again = {str(value.name): array for value, array in zip(other.graph.inputs, arrays.values(), strict=True)}
    if set(again) == set(arrays):
        again = arrays
    got, want = run_onnx(first, arrays), run_onnx(second, again)
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
