"""Verification: the same random input through PyTorch and onnxruntime, output by output, and layer by layer where it fails."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.files import StrPath

if TYPE_CHECKING:
    import onnx_ir

Array = NDArray[Any]
TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest finite number of the output."""


@dataclass(frozen=True)
class Difference:
    """How far two results of one name are apart.

    error: max|a - b| / max(1e-6, max|b|); infinite where shapes, NaN or infinities differ. scale: max|b|.
    """

    name: str
    error: float
    scale: float
    source: str = ""
    note: str = ""

    def __str__(self) -> str:
        what = self.note or f"largest difference {self.error:.2g} of {self.scale:.3g}"
        return f"{self.name}: {what}" + (f" (from {self.source})" if self.source else "")


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

    def __str__(self) -> str:
        verdict = "verified" if self.ok else "NOT EQUAL"
        lines = [f"{verdict}: {self.what}, tolerance {self.tolerance:g}", *(f"  {d}" for d in self.outputs)]
        if self.layers:
            lines += ["  the first values that differ:", *(f"    {d}" for d in self.layers)]
        return "\n".join(lines)


def difference(name: str, got: Array, want: Array, source: str = "") -> Difference:
    """Compares two results. NaN must be NaN, infinity infinity of the same sign, and numbers beyond 1e37 likewise."""
    if got.shape != want.shape:
        return Difference(name, float("inf"), 0.0, source, f"shape {got.shape} against {want.shape}")
    a, b = got.astype(np.float64).ravel(), want.astype(np.float64).ravel()
    huge = ~np.isfinite(b) | (np.abs(b) > 1e37)
    same = (np.isnan(a) == np.isnan(b)) & (np.isnan(b) | ((np.sign(a) == np.sign(b)) & (np.abs(a) > 1e37)))
    if not same[huge].all() or not np.isfinite(a[~huge]).all():
        return Difference(name, float("inf"), 0.0, source, "NaN or infinity at other places")
    a, b = a[~huge], b[~huge]
    scale = float(np.abs(b).max(initial=0.0))
    error = float(np.abs(a - b).max(initial=0.0)) / max(scale, 1e-6)
    return Difference(name, error, scale, source)


def random_inputs(model: onnx_ir.Model, *, batch: int = 2, seed: int = 0) -> dict[str, Array]:
    """One seeded random array for each graph input: normal numbers for floats, 1 for integers; symbolic axes get `batch`."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for value in model.graph.inputs:
        if value.shape is None or value.dtype is None or value.name is None:
            raise ConversionError(f"input {value.name!r} has no known shape; give one with inputs={{name: shape}}")
        shape = [d if isinstance(d, int) else batch for d in value.shape]
        dtype = value.dtype.numpy()
        floating = np.issubdtype(dtype, np.floating)
        arrays[value.name] = (generator.standard_normal(shape) if floating else np.ones(shape)).astype(dtype)
    return arrays


def run_torch(model: onnx_ir.Model, arrays: Mapping[str, Array]) -> list[Array]:
    """The outputs of the generated PyTorch module, in output order."""
    import torch

    from converters.writers.source import to_module

    module = to_module(model)
    with torch.no_grad():
        result = module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays.values()))
    results: Sequence[Any] = result if isinstance(result, tuple | list) else [result]
    return [r.detach().cpu().numpy() for r in results]


def run_onnx(path: StrPath, arrays: Mapping[str, Array]) -> list[Array]:
    """The outputs of an ONNX file in onnxruntime on the CPU, in output order."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return [np.asarray(r) for r in session.run(None, {name: arrays[name] for name in names})]


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
    from converters.writers.onnx import write_onnx

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
    from converters.writers.onnx import write_onnx

    opened = model.clone()
    values = [v for node in opened.graph if node.op_type != "Constant" for v in node.outputs if v.name]
    sources = [(v.producer().metadata_props.get("source", "")) if v.producer() else "" for v in values]  # type: ignore[union-attr]
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


def compare_models(first: StrPath, second: StrPath, *, seed: int = 0, tolerance: float = TOLERANCE) -> Report:
    """Runs two ONNX files on the same random input; outputs are compared in order."""
    from converters import detect

    arrays = random_inputs(detect.load([first], family="onnx"), seed=seed)
    got, want = run_onnx(first, arrays), run_onnx(second, arrays)
    if len(got) != len(want):
        raise ConversionError(f"{first} has {len(got)} outputs, {second} has {len(want)}")
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
