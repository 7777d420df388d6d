"""Any two artefacts compared: legacy files, ONNX, a written .pth with its .py, or weights alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import packages
from converters.errors import ConversionError, about, printable
from converters.files import StrPath, check_target
from converters.formats import Format, format_of, load, load_weights, recognize
from converters.graph.names import module_name
from converters.graph.provenance import GIVEN
from converters.options import DEFAULTS, InputSpec, LoadOptions
from converters.recognition import RecognizedFile
from converters.runtimes.compare import TOLERANCE, Array, Difference, difference
from converters.runtimes.onnxruntime import run_onnx
from converters.runtimes.torch import call, load_written, run_torch
from converters.verification.report import Report, Trial, gathered
from converters.verification.search import EXACT, first_between
from converters.verification.trials import Level, by_names, compare_outputs, inputs_to_try, read_arrays, saturated, slack_of

if TYPE_CHECKING:
    import onnx_ir

Files = Sequence[StrPath]
FEW = 3
"""As many weights that differ within the tolerance are a change that somebody made, and are looked for in the layers; more are rounding."""


@dataclass
class Artefact:
    """One side: its files, what it is run by, and whatever of graph, names, weights it has.

    run: takes arrays by input name and answers the outputs; None for weights alone. model: the graph, where it makes one.
    """

    files: list[RecognizedFile]
    row: Format | None
    run: Callable[[Mapping[str, Array]], Sequence[Array]] | None = None
    engine: str = ""
    model: onnx_ir.Model | None = None
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] | None = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return " and ".join(printable(file.name) for file in self.files)


def artefacts_of(paths: Sequence[StrPath]) -> list[list[RecognizedFile]]:
    """Files in order as models: a prototxt takes the weights behind it, a symbol its parameters. Raises ConversionError."""
    groups: list[list[RecognizedFile]] = []
    for path in paths:
        file = recognize(path)
        row = format_of(file)
        last = groups[-1] if groups else []
        before = format_of(last[0]) if len(last) == 1 else None
        is_second = before is not None and before is row and len(before.files) == 2 and last[0].kind.name in before.files[0].kinds
        if is_second and before is not None and file.kind.name in (*before.files[1].kinds, *before.files[1].tried):
            last.append(file)
        else:
            groups.append([file])
    return groups


def compare_artefacts(
    first: Files,
    second: Files | None = None,
    *,
    options: LoadOptions = DEFAULTS,
    level: Level = "full",
    seed: int = 0,
    tolerance: float = TOLERANCE,
    feed: StrPath | Mapping[str, Array] | None = None,
    expect: StrPath | None = None,
    page: StrPath | None = None,
    force: bool = False,
) -> Report:
    """Runs both on the same inputs, and compares the weights that both hold under one name; weights alone where one can't run.

    second: None where the first is held against `expect`, the original's own answers to `feed` (.npz, .t7: arrays by name; of `feed` the
    arrays themselves too). options:
    shapes, key, and trust, without which no .py runs. Inputs and outputs are paired by name, else in order, which the Report says.
    page: where the report is written as a page. Raises ConversionError.
    """
    if page is not None:
        check_target(page, force=force, sources=[*first, *(second or ())])
    report, sides, worst, differing = _compare(first, second, options, level, seed, tolerance, feed, expect)
    if page is not None:
        from converters.verification.page import write_page  # it needs onnx, which comparing weights doesn't

        files = [
            (word, file)
            for word, side in zip(("first", "second"), sides, strict=False)
            for file in (*side.files[:-1], *side.files[-1].parts)
        ]
        model = next((side.model for side in sides if side.model is not None), None)
        layers = _layers(sides, differing, worst, [], every=True) if len(sides) == 2 and worst else []
        write_page(page, report, files=files, model=model, layers=layers, force=force)
    return report


def _compare(
    first: Files,
    second: Files | None,
    options: LoadOptions,
    level: Level,
    seed: int,
    tolerance: float,
    feed: StrPath | Mapping[str, Array] | None,
    expect: StrPath | None,
) -> tuple[Report, list[Artefact], dict[str, Array], list[Difference]]:
    """The Report, both sides, the inputs on which they were furthest apart (none where nothing ran), and weights that differ at all."""
    sides = [_open(first, options, None)]
    if second is not None:
        shapes = _shapes(sides[0])
        sides.append(_open(second, replace(options, key=None), shapes))
        if not shapes and sides[0].model is None and (known := _shapes(sides[1])):
            sides[0] = _open(first, options, known)
    notes = [note for side in sides for note in side.notes]
    if any(side.run is None for side in sides):
        if second is None or feed is not None:
            raise ConversionError(f"{next(side.name for side in sides if side.run is None)} holds weights alone, which answer nothing")
        return compare_weights(sides[0].weights, sides[1].weights, tolerance=tolerance, notes=notes), sides, {}, []
    inputs = feed if feed is None or isinstance(feed, Mapping) else read_arrays(feed)
    wanted = None if expect is None else read_arrays(expect)
    trials, worst = _run(sides, inputs, wanted, level, seed, notes)
    report = Report(
        gathered(trials), tolerance=tolerance, what=" and ".join(f"{s.name} in {s.engine}" for s in sides), trials=trials, notes=notes
    )
    differing: list[Difference] = []
    if len(sides) == 2:
        differing, count = _weights_apart(sides[0].weights, sides[1].weights)
        wrong = [found for found in differing if found.error > tolerance]
        report = replace(report, weights=wrong, compared=count)
        slight = [found for found in differing if found.error <= tolerance]
        if not report.ok or 0 < len(slight) <= FEW:
            before = len(notes)
            report = replace(report, layers=_layers(sides, differing, worst, notes))
            if differing and not report.layers and len(notes) == before:
                notes.append(f"the weights differ, yet no layer's answers do by more than {EXACT:g} of the largest: their effect drowns")
        if slight:
            notes.append(_slightly(slight))
    return report, sides, worst, differing


def _layers(
    sides: Sequence[Artefact], wrong: Sequence[Difference], worst: Mapping[str, Array], notes: list[str], *, every: bool = False
) -> list[Difference]:
    """The first values, or every one, in which the two sides' graphs differ; none where a side has no graph. wrong: weights."""
    if (graphs := _graphs(sides, [found.name for found in wrong])) is None:
        return []
    given = [list(by_names(worst, side.inputs, "input", []).values()) for side in sides]
    names = [[str(value.name) for value in graph.graph.inputs if value.name not in graph.graph.initializers] for graph in graphs]
    first, second = (dict(zip(of_graph, arrays, strict=True)) for of_graph, arrays in zip(names, given, strict=True))
    return first_between(*graphs, first, second, notes, every=every)


def _graphs(sides: Sequence[Artefact], wrong: Sequence[str]) -> tuple[onnx_ir.Model, onnx_ir.Model] | None:
    """The graph of each side. A written module's is the other's with the module's weights, where what differs are weights of that graph."""
    import onnx_ir

    known = [side.model for side in sides]
    if (model := next((model for model in known if model is not None), None)) is None:
        return None
    if None in known:
        if not wrong or any(name not in model.graph.initializers for name in wrong):
            return None
        changed, weights = model.clone(), sides[known.index(None)].weights
        for name in wrong:
            changed.graph.initializers[name].const_value = onnx_ir.tensor(np.asarray(weights[name]), name=name)
        known[known.index(None)] = changed
    first, second = known
    assert first is not None and second is not None
    return first, second


def _run(
    sides: list[Artefact],
    inputs: Mapping[str, Array] | None,
    wanted: Mapping[str, Array] | None,
    level: Level,
    seed: int,
    notes: list[str],
) -> tuple[list[Trial], dict[str, Array]]:
    """The trials, and the inputs of the one where the two were furthest apart."""
    first = sides[0]
    known = next((side for side in sides if side.model is not None), None)
    if inputs is not None:
        tried = [("the inputs given", by_names(inputs, first.inputs, "input", notes))]
    elif known is not None and known.model is not None:
        model = _of_fixed_sizes(known.model, [side.model for side in sides if side.model is not None])
        tried = [(name, by_names(arrays, first.inputs, "input", notes)) for name, arrays in inputs_to_try(model, level, seed)]
    else:
        raise ConversionError("nothing says what shapes the inputs have", hint="give them: --feed input.npz, or --input")
    trials: list[Trial] = []
    far, worst, seen = -1.0, tried[0][1], []
    for name, arrays in tried:
        with _of_sizes(arrays, guessed=inputs is None):
            answers = [list((side.run or run_nothing)(by_names(arrays, side.inputs, "input", notes))) for side in sides]
        names = first.outputs or [f"output {number}" for number in range(len(answers[0]))]
        seen.append(answers[0])
        made = []
        if len(sides) == 2:
            others = _in_order(sides, answers, names, notes)
            made.append(Trial(name, compare_outputs(names, answers[0], others, large="large" in name), slack_of(name)))
        if wanted is not None:
            right = list(by_names(wanted, names, "output", notes).values())
            for side, got in zip(sides, answers, strict=True):
                made.append(Trial(f"{side.name} against the answers expected", compare_outputs(names, got, right)))
        trials += made
        if made and (apart := max(trial.worst for trial in made)) > far:
            far, worst = apart, arrays
    if not trials:
        raise ConversionError("there is nothing to compare with", hint="give a second model, or --expect with the original's answers")
    notes += saturated(names, seen)
    return trials, worst


def _of_fixed_sizes(model: onnx_ir.Model, models: Sequence[onnx_ir.Model]) -> onnx_ir.Model:
    """The model with the sizes that inputs of the others, in their order, have for its open axes."""
    import onnx_ir

    shapes = []
    for position, value in enumerate(model.graph.inputs):
        dims = list(value.shape or ())
        for other in models:
            theirs = other.graph.inputs[position].shape if position < len(other.graph.inputs) else None
            if theirs is not None and len(theirs) == len(dims):
                dims = [
                    size if isinstance(size, int) or not isinstance(fixed, int) else fixed for size, fixed in zip(dims, theirs, strict=True)
                ]
        shapes.append(dims)
    if all(value.shape is None or list(value.shape) == dims for value, dims in zip(model.graph.inputs, shapes, strict=True)):
        return model
    sized = model.clone()
    for value, dims in zip(sized.graph.inputs, shapes, strict=True):
        value.shape = None if value.shape is None else onnx_ir.Shape(dims)
    return sized


@contextlib.contextmanager
def _of_sizes(arrays: Mapping[str, Array], *, guessed: bool) -> Iterator[None]:
    """What a run that fails says of sizes that nobody gave."""
    try:
        yield
    except ConversionError as problem:
        if guessed and problem.hint is None:
            sizes = ", ".join(f"{printable(name)} {'x'.join(map(str, array.shape))}" for name, array in arrays.items())
            problem.hint = f"it ran on {sizes}; where it takes other sizes, give them with --input"
        raise


def run_nothing(arrays: Mapping[str, Array]) -> list[Array]:
    """What weights alone answer."""
    raise ConversionError("weights alone answer nothing")


def _in_order(sides: list[Artefact], answers: list[list[Array]], names: list[str], notes: list[str]) -> list[Array]:
    """The second side's answers in the order of the first's."""
    if len(answers[0]) != len(answers[1]):
        raise ConversionError(f"{sides[0].name} has {len(answers[0])} outputs, {sides[1].name} has {len(answers[1])}")
    theirs = sides[1].outputs
    if theirs is None or sides[0].outputs is None:
        return answers[1]
    again: list[str] = []
    found = by_names(dict(zip(theirs, answers[1], strict=True)), names, "output", again)
    notes += [note for note in again if note not in notes]
    return list(found.values())


# -- what each side is -----------------------------------------------------------------------------------------------------


def _open(files: Files, options: LoadOptions, shapes: Mapping[str, InputSpec] | None) -> Artefact:
    """shapes: of the other side's inputs, for a file that doesn't say its own."""
    recognized = [recognize(path) for path in files]
    row = format_of(recognized[0])
    found = Artefact(recognized, row)
    if row is None:
        raise recognized[0].refusal()
    with about(recognized[0].path):
        if row.name == "pytorch" and options.code is None and _beside(recognized[0]).is_file():
            return _written(found, options)
        is_model = row.reader and (len(recognized) == len(row.files) or recognized[0].kind.name in row.files[0].kinds)
        if is_model and not (row.name == "pytorch" and options.factory is None and not _is_module(recognized[0], options)):
            return _graph(found, row, options, shapes)
        found.weights = load_weights(recognized[0], options)
    return found


def _is_module(file: RecognizedFile, options: LoadOptions) -> bool:
    """Whether a checkpoint holds a whole model, not weights alone."""
    from converters.formats import read_weights

    return file.kind.name == "torchscript" or bool(read_weights(file, LoadOptions(key=options.key)).classes)


def _graph(found: Artefact, row: Format, options: LoadOptions, shapes: Mapping[str, InputSpec] | None) -> Artefact:
    given = options.inputs
    if not given and shapes and row.name not in ("caffe", "onnx"):
        given = shapes if row.name == "mxnet" else {"": next(iter(shapes.values()))} if len(shapes) == 1 else shapes
    try:
        packages.check("torch", *(["onnxruntime"] if row.name == "onnx" else []))
        model = load(found.files, replace(options, inputs=given), format=row)
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
    found.run = (lambda arrays: run_onnx(path, arrays)) if row.name == "onnx" else (lambda arrays: run_torch(model, arrays))
    return found


def _beside(file: RecognizedFile) -> Path:
    path = Path(file.path)
    return path.with_name(f"{module_name(path.stem)}.py")


def _written(found: Artefact, options: LoadOptions) -> Artefact:
    """A .pth with the .py that was written beside it: code, which runs with trust alone."""
    path, source = Path(found.files[0].path), _beside(found.files[0])
    found.weights = load_weights(found.files[0], LoadOptions(key=options.key))
    if not options.trust:
        found.notes.append(f"{printable(source.name)} is Python code, which wasn't run (--trust lets it): its weights alone were compared")
        return found
    import inspect

    module = load_written(path, source)
    import torch

    found.inputs = list(inspect.signature(module.forward).parameters)
    found.engine = "PyTorch"
    found.run = lambda arrays: [r.numpy() for r in call(module, [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays.values()])]
    return found


def _shapes(side: Artefact) -> dict[str, InputSpec]:
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


# -- weights ---------------------------------------------------------------------------------------------------------------


def compare_weights(
    first: Mapping[str, Any], second: Mapping[str, Any], *, tolerance: float = TOLERANCE, notes: Sequence[str] = ()
) -> Report:
    """Compares two sets of weights name by name; a name that only one of them has is a difference."""
    found = []
    for name in dict.fromkeys([*first, *second]):
        if name not in first or name not in second:
            found.append(Difference(name, float("inf"), 0.0, note=f"only in the {'first' if name in first else 'second'} file"))
        else:
            found.append(_apart(name, first[name], second[name]))
    wrong = [d for d in found if d.error > tolerance]
    worst = max(found, key=lambda d: d.error, default=None)
    shown = wrong or ([worst] if worst else [])
    return Report(shown, tolerance=tolerance, what=f"{len(found)} tensors of both files", notes=list(notes))


def _weights_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[Difference], int]:
    """Of the weights that both hold under one name and in one shape, those that differ at all, and how many there are."""
    both = [name for name in first if name in second and tuple(first[name].shape) == tuple(second[name].shape)]
    found = [_apart(name, first[name], second[name]) for name in both]
    return [d for d in found if d.error > 0], len(both)


def _slightly(found: Sequence[Difference]) -> str:
    """What is said of weights that differ by no more than the tolerance."""
    shown = sorted(found, key=lambda d: -d.absolute)[:FEW]
    more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return f"weights differ within the tolerance: {', '.join(map(str, shown))}{more}"


def _apart(name: str, one: Any, other: Any) -> Difference:
    """How far two tensors are apart, and in how many of their numbers."""
    a, b = np.asarray(one), np.asarray(other)
    found = difference(name, a, b)
    if not found.error or a.shape != b.shape or not np.isfinite(found.error):
        return found
    changed = int((a != b).sum())
    return replace(
        found, note=f"largest difference {found.absolute:.2g} in {changed:,} of {a.size:,} numbers, the largest {found.scale:.3g}"
    )
