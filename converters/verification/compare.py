"""Verification: the same inputs through PyTorch and onnxruntime, output by output, and layer by layer where they part."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converters import packages
from converters.errors import ConversionError, printable
from converters.files import StrPath, apart
from converters.runtimes.compare import TOLERANCE, Array, Difference, difference, random_inputs
from converters.runtimes.onnxruntime import run_each, run_onnx
from converters.runtimes.torch import build_source, call, in_type_of, numbers, run_torch, runner
from converters.verification.limits import check_limits, weight_bytes
from converters.verification.report import Report, Trial, gathered
from converters.verification.search import first_differences
from converters.verification.trials import Level, by_names, compare_outputs, in_types, inputs_to_try, read_arrays, saturated, slack_of
from converters.writers.onnx.writer import write_onnx
from converters.writers.saving import save

if TYPE_CHECKING:
    import onnx_ir
    import torch

__all__ = ["Report", "every_layer", "verify", "write_verified"]

Runner = Callable[[Mapping[str, Array]], Sequence[Array]]


def verify(
    model: onnx_ir.Model,
    onnx_path: StrPath | None = None,
    *,
    opset: int | None = None,
    inputs: Mapping[str, Array] | None = None,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    level: Level = "quick",
    expect: Mapping[str, Array] | None = None,
    torch: Runner | None = None,
) -> Report:
    """Runs the model as PyTorch and as ONNX (the file at `onnx_path`, else one written for the purpose) on the same inputs.

    opset: the operator set of a file that is written for the purpose, if it isn't the graph's own. inputs: arrays by input name, else
    those of trials.inputs_to_try. expect: the original's own answers to them, by output name. torch: what runs instead of the module that
    the model's source makes. onnxruntime runs the nodes as they are written, its optimizer off. Returns a Report; where an output differs
    by more than `tolerance` of its largest number, it names the first values inside the graph that do, with the source layers they come
    from.
    """
    packages.check("torch", "onnxruntime")
    notes: list[str] = []
    names = [str(v.name) for v in model.graph.outputs]
    if inputs is not None:
        check_limits(model, shapes={name: array.shape for name, array in inputs.items()})
        given = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
        arrays = by_names(inputs, [str(value.name) for value in given], "input", notes)
        tried = [("the inputs given", in_types(arrays, model, notes))]
    else:
        tried = list(inputs_to_try(model, level, seed))
    run = torch or _own_module(model)
    with tempfile.TemporaryDirectory() as folder:
        if onnx_path is None:
            onnx_path = Path(folder, "model.onnx")
            write_onnx(model, onnx_path, opset=opset, limit=_MAPPED)
        trials: list[Trial] = []
        # one engine after the other: each has the weights once
        theirs = run_each(onnx_path, [arrays for _, arrays in tried])
        optimizer: list[Difference] = []
        if level == "full" or weight_bytes(model) <= _MAPPED:
            optimizer = _optimized(names, onnx_path, tried[0][1], theirs[0])
        else:
            notes.append("onnxruntime's optimizer, which copies the weights, wasn't tried on a net of this size: `full` does")
        for (name, arrays), answers in zip(tried, theirs, strict=True):
            ours = run(arrays)
            trials.append(Trial(name, compare_outputs(names, ours, answers, large="large" in name), slack_of(name)))
            if expect is not None:
                wanted = list(by_names(expect, names, "output", notes).values())
                for engine, got in (("PyTorch", ours), ("onnxruntime", answers)):
                    trials.append(Trial(f"{engine} against the answers expected", compare_outputs(names, got, wanted)))
        notes += saturated(names, theirs) if inputs is None else []
        report = Report(gathered(trials), tolerance=tolerance, optimizer=optimizer, trials=trials, notes=notes)
        if report.ok:
            return report
        _, arrays = max(
            zip([trial for trial in trials if "expected" not in trial.name], tried, strict=True), key=lambda pair: pair[0].worst
        )[1]
        return replace(report, layers=_layers(model, arrays, Path(folder), tolerance, opset))


class _DifferentError(Exception):
    """Takes files back that were written, but don't answer as they should."""


def write_verified(
    model: onnx_ir.Model,
    path: StrPath,
    *,
    opset: int | None = None,
    force: bool = False,
    level: Level = "quick",
    feed: StrPath | None = None,
    expect: StrPath | None = None,
    dtype: str | None = None,
    io_dtype: str | None = None,
    tolerance: float | None = None,
    blocks: bool = False,
) -> Report:
    """Writes the model and verifies the very files; they get their names only if the Report that is answered is ok.

    An ONNX file runs in onnxruntime against PyTorch; a .py with its .pth, or the weights of a .safetensors, against an ONNX file written
    for the purpose. feed, expect: files of the inputs and of the original's own answers (.npz, .t7). dtype, io_dtype: what to write; what
    is written in another type is held against the net in float32, within TOLERANCES. blocks: as for `save`.
    """
    reports: list[Report] = []
    inputs = None if feed is None else read_arrays(feed)
    wanted = None if expect is None else read_arrays(expect)

    def check(written: list[Path]) -> None:
        onnx_path = written[0] if Path(path).suffix.lower() == ".onnx" else None
        torch = None if onnx_path is not None else _written_module(model, written)
        with apart():
            if dtype not in (None, "float32"):
                reports.append(_verify_narrowed(model, Path(path), written, dtype or "", level, inputs, wanted, tolerance))
                if not reports[0].ok:
                    raise _DifferentError
                return
            found = verify(
                model, onnx_path, opset=opset, inputs=inputs, tolerance=tolerance or TOLERANCE, level=level, expect=wanted, torch=torch
            )
        reports.append(found)
        if not found.ok:
            raise _DifferentError

    try:
        save(model, path, opset=opset, dtype=dtype, io_dtype=io_dtype, force=force, check=check, blocks=blocks)
    except _DifferentError:
        return reports[0]
    return reports[0]


TOLERANCES = {"float16": 2e-2, "bfloat16": 1e-1, "float32": TOLERANCE, "float64": TOLERANCE}
"""What a net that is written in a type may be off the same net in float32, relative to the largest number."""


def _verify_narrowed(
    model: onnx_ir.Model,
    path: Path,
    written: list[Path],
    dtype: str,
    level: Level,
    inputs: Mapping[str, Array] | None,
    expect: Mapping[str, Array] | None,
    tolerance: float | None,
) -> Report:
    """Runs what was written in another type, and holds it against the model in PyTorch and float32."""
    notes: list[str] = []
    names = [str(v.name) for v in model.graph.outputs]
    given = [str(v.name) for v in model.graph.inputs if v.name not in model.graph.initializers]
    tried = [("the inputs given", by_names(inputs, given, "input", notes))] if inputs is not None else list(inputs_to_try(model, level))
    trials: list[Trial] = []
    run = _narrow_onnx(written[0]) if path.suffix.lower() == ".onnx" else _written_module(model, written)
    whole = _own_module(model)
    for name, arrays in tried:
        if "large" in name and dtype != "float64":
            continue  # 16 bits hold no large numbers
        try:
            got = [np.asarray(answer, dtype=np.float64) for answer in run(arrays)]
        except (ConversionError, NotImplementedError) as problem:
            if isinstance(problem, ConversionError) and "onnxruntime refuses" not in problem.what:
                raise
            notes.append(f"it wasn't run, for want of a kernel on this machine: {printable(problem, 200)}")
            break
        trials.append(Trial(name, compare_outputs(names, got, [a.astype(np.float64) for a in whole(arrays)])))
        if expect is not None:
            wanted = list(by_names(expect, names, "output", notes).values())
            trials.append(Trial("against the answers expected", compare_outputs(names, got, wanted)))
    what = f"the written file in {dtype} and the net in float32"
    return Report(gathered(trials), tolerance=tolerance or TOLERANCES[dtype], what=what, trials=trials, notes=notes)


def _narrow_onnx(path: Path) -> Runner:
    """Runs an ONNX file whose inputs may be of another type than the arrays."""

    def run(arrays: Mapping[str, Array]) -> list[Array]:
        return run_onnx(path, arrays, cast=True)

    return run


def _own_module(model: onnx_ir.Model) -> Runner:
    """Runs the module that the model's source makes, which is made when it is first run, the other engine having ended, and kept."""
    packages.require("torch")
    import torch

    run = functools.cache(lambda: runner(model))
    return lambda arrays: [
        numbers(answer) for answer in run()([torch.from_numpy(np.ascontiguousarray(array)) for array in arrays.values()])
    ]


def _written_module(model: onnx_ir.Model, written: list[Path]) -> Runner:
    """Runs what was written: the source builds itself and loads the weights; weights alone are loaded into the model's own source.

    It is built for the first arrays, as `_own_module` is.
    """
    packages.require("torch")
    import torch

    @functools.cache
    def module() -> torch.nn.Module:
        if len(written) == 2:
            return build_source(written[1].read_text("utf-8"), written[0])
        from converters.formats import load_weights
        from converters.writers.source.writer import to_module

        made = to_module(model)
        weights = {name: _tensor(np.array(weight)) for name, weight in load_weights(written[0]).items()}
        made.load_state_dict(weights, strict=True)
        return made

    def run(arrays: Mapping[str, Array]) -> list[Array]:
        tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays.values()]
        return [numbers(answer) for answer in call(module(), [in_type_of(module(), tensor) for tensor in tensors])]

    return run


def _tensor(array: Array) -> torch.Tensor:
    """An array as a tensor; bfloat16, which numpy hasn't, by its bits."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


_MAPPED = 128 << 20
"""Bytes of weights above which they aren't copied: those of a file that is written for the purpose lie beside it, to be mapped."""


def _optimized(names: list[str], path: StrPath, arrays: Mapping[str, Array], answers: list[Array]) -> list[Difference]:
    """What onnxruntime's optimizer makes of a file's answers; where the rewritten graph fails, that."""
    try:
        changed = run_onnx(path, arrays, optimize=True)
    except ConversionError as problem:
        return [Difference(names[0], float("inf"), 0.0, note=f"it fails: {printable(problem)}")]
    return [difference(name, a, b) for name, a, b in zip(names, changed, answers, strict=True)]


def every_layer(model: onnx_ir.Model, opset: int | None = None) -> list[Difference]:
    """How far PyTorch and onnxruntime are apart in each value inside the graph, on one random input."""
    arrays = random_inputs(model, batch=check_limits(model))
    with tempfile.TemporaryDirectory() as folder:
        return _layers(model, arrays, Path(folder), TOLERANCE, opset, every=True)


def _layers(
    model: onnx_ir.Model, arrays: Mapping[str, Array], folder: Path, tolerance: float, opset: int | None, *, every: bool = False
) -> list[Difference]:
    """The first values in graph order that PyTorch and onnxruntime differ in, or every value."""

    def in_onnxruntime(opened: onnx_ir.Model, given: Mapping[str, Array]) -> list[Array]:
        path = folder / "opened.onnx"
        write_onnx(opened, path, opset=opset, force=True)
        return run_onnx(path, given)

    try:
        return first_differences(model, arrays, run_torch, in_onnxruntime, tolerance, every=every)
    except ConversionError as problem:
        return [Difference("(the layers)", float("inf"), 0.0, note=f"they can't be compared: {printable(problem, 200)}")]
