"""One side of a comparison: what its files are, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import packages
from converters.errors import ConversionError, about, printable
from converters.files import StrPath
from converters.formats import Format, format_of, load, load_weights, recognize
from converters.graph.names import module_name
from converters.graph.provenance import GIVEN
from converters.options import InputSpec, LoadOptions
from converters.recognition import RecognizedFile
from converters.runtimes.compare import Array
from converters.runtimes.onnxruntime import run_onnx
from converters.runtimes.torch import call, load_written, run_torch

if TYPE_CHECKING:
    import onnx_ir

Files = Sequence[StrPath]
Run = Callable[[Mapping[str, Array]], Sequence[Array]]

ALONE = ": its weights alone were compared"
"""How a note ends on a side that could have run."""


@dataclass
class Artefact:
    """One side: its files, what it is run by, and whatever of graph, names, weights it has.

    run: takes arrays by input name and answers the outputs; None for weights alone. model: the graph, where it makes one.
    """

    files: list[RecognizedFile]
    row: Format | None
    run: Run | None = None
    engine: str = ""
    model: onnx_ir.Model | None = None
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] | None = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return " and ".join(printable(file.name) for file in self.files)


def weights_of(path: StrPath) -> StrPath:
    """The .pth of a written .py, which stands for both. Raises ConversionError where that isn't beside it."""
    source = Path(path)
    if source.suffix != ".py" or not source.is_file():
        return path
    found = [file for file in sorted(source.parent.iterdir()) if file.suffix in (".pth", ".pt") and _beside(file) == source]
    if len(found) != 1:
        raise ConversionError("Python source alone has no weights", path=str(path), hint="give the .pth that it was written with")
    return found[0]


def open_artefact(files: Files, options: LoadOptions, shapes: Mapping[str, InputSpec] | None, outputs: Sequence[str] = ()) -> Artefact:
    """shapes, outputs: of the other side's inputs, and what its outputs are called, for a file that doesn't say its own."""
    recognized = [recognize(path) for path in files]
    row = format_of(recognized[0])
    found = Artefact(recognized, row)
    if row is None:
        raise recognized[0].refusal()
    if row.name != "pytorch":
        options = replace(options, code=None, factory=None)
    with about(recognized[0].path):
        is_ours = row.name == "pytorch" and _beside(recognized[0]).is_file()
        if is_ours and (options.code is None or not _is_module(recognized[0], options)):
            return _written(found, options)
        is_model = row.reader and (len(recognized) == len(row.files) or recognized[0].kind.name in row.files[0].kinds)
        if is_model and not (row.name == "pytorch" and options.factory is None and not _is_module(recognized[0], options)):
            return _graph(found, row, options, shapes, outputs)
        found.weights = load_weights(recognized[0], options)
    return found


def _is_module(file: RecognizedFile, options: LoadOptions) -> bool:
    """Whether a checkpoint holds a whole model, not weights alone."""
    from converters.formats import read_weights

    return file.kind.name == "torchscript" or bool(read_weights(file, LoadOptions(key=options.key)).classes)


def _graph(found: Artefact, row: Format, options: LoadOptions, shapes: Mapping[str, InputSpec] | None, outputs: Sequence[str]) -> Artefact:
    given = options.inputs
    if not given and shapes and row.name not in ("caffe", "onnx", "tensorflow"):
        given = shapes if row.name == "mxnet" and "" not in shapes else {"": next(iter(shapes.values()))} if len(shapes) == 1 else shapes
    try:
        packages.check("torch", *(["onnxruntime"] if row.name == "onnx" else []))
        tries = [replace(options, inputs=given)]
        if row.name == "tensorflow" and not given:
            tries += _by_the_other(options, shapes or {}, outputs)
        model = _first_that_loads(found, row, tries)
    except ConversionError as problem:
        is_fault = given or row.name in ("caffe", "onnx")
        if is_fault and not isinstance(problem, packages.MissingPackageError) and row.name != "pytorch":
            raise
        found.notes.append(f"{found.name} wasn't run: {problem}")
        found.weights = load_weights(found.files[-1], LoadOptions(key=options.key))
        return found
    found.model, found.engine = model, "onnxruntime" if row.name == "onnx" else "PyTorch"
    found.inputs = [str(value.name) for value in model.graph.inputs if value.name not in model.graph.initializers]
    found.outputs = [str(value.name) for value in model.graph.outputs]
    found.weights = {str(name): value.const_value for name, value in model.graph.initializers.items()}
    path = found.files[0]
    if row.name == "onnx":
        found.run = lambda arrays: run_onnx(path, arrays)
    else:
        takes = ", ".join(f"{printable(value.name)} {'x'.join(map(str, value.shape or ()))}" for value in model.graph.inputs)
        found.run = _in_torch(found.name, lambda arrays: run_torch(model, arrays), f"the inputs are {takes}")
    return found


def _by_the_other(options: LoadOptions, shapes: Mapping[str, InputSpec], outputs: Sequence[str]) -> list[LoadOptions]:
    """How a TensorFlow graph without outputs or shapes may be read: with those of the other side, channels last."""
    last = {name: [shape[0], *shape[2:], shape[1]] if len(shape) == 4 else shape for name, shape in shapes.items()}
    named = [replace(options, outputs=tuple(outputs))] if outputs else []
    sized = {"": next(iter(last.values()))} if len(last) == 1 else last
    return named + ([replace(way, inputs=given) for way in (options, *named) for given in (sized, last)] if last else [])


def _first_that_loads(found: Artefact, row: Format, tries: Sequence[LoadOptions]) -> onnx_ir.Model:
    """Raises the first way's ConversionError where none is read."""
    first: ConversionError | None = None
    for options in tries:
        try:
            return load(found.files, options, format=row)
        except ConversionError as problem:
            first = first or problem
    assert first is not None
    raise first


def _beside(file: StrPath) -> Path:
    path = Path(file)
    return path.with_name(f"{module_name(path.stem)}.py")


def _written(found: Artefact, options: LoadOptions) -> Artefact:
    """A .pth with the .py that was written beside it: code, which runs with trust alone."""
    path, source = Path(found.files[0].path), _beside(found.files[0])
    found.weights = load_weights(found.files[0], LoadOptions(key=options.key))
    if not options.trust:
        found.notes.append(f"{printable(source.name)} is Python code, which wasn't run (--trust lets it){ALONE}")
        return found
    import inspect

    module = load_written(path, source)
    import torch

    found.inputs = list(inspect.signature(module.forward).parameters)
    found.engine = "PyTorch"
    found.run = _in_torch(
        found.name,
        lambda arrays: [r.numpy() for r in call(module, [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays.values()])],
    )
    return found


def _in_torch(name: str, run: Run, takes: str = "") -> Run:
    """Runs in PyTorch; what that refuses is a ConversionError."""

    def refusing(arrays: Mapping[str, Array]) -> Sequence[Array]:
        try:
            return run(arrays)
        except ConversionError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as problem:
            sizes = ", ".join(f"{printable(name)} {array.dtype.name} {'x'.join(map(str, array.shape))}" for name, array in arrays.items())
            raise ConversionError(
                f"{name} doesn't run on {sizes}: PyTorch says: {printable(problem, 200)}", hint=takes or None
            ) from problem

    return refusing


def shapes_of(side: Artefact) -> dict[str, InputSpec]:
    """The shapes of a graph's inputs, an open axis being 1."""
    if side.model is None:
        return {}
    given = side.model.meta.get(GIVEN, {})
    found: dict[str, InputSpec] = {}
    for value in side.model.graph.inputs:
        if value.shape is None:
            return {}
        found[str(value.name)] = [d if isinstance(d, int) else int(given.get(str(d.value), 1)) for d in value.shape]
    return found
