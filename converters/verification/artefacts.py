"""Any two artefacts compared: legacy files, ONNX, a written .pth with its .py, or weights alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from converters.errors import ConversionError, printable
from converters.files import StrPath, check_target
from converters.formats import format_of, recognize
from converters.options import DEFAULTS, LoadOptions
from converters.recognition import RecognizedFile
from converters.runtimes.compare import TOLERANCE, Array, Difference
from converters.verification.report import Report, Trial, gathered
from converters.verification.search import EXACT, first_between
from converters.verification.side import ALONE, Artefact, Files, open_artefact, shapes_of, weights_of
from converters.verification.trials import (
    Level,
    by_names,
    compare_outputs,
    in_types,
    inputs_of_shapes,
    inputs_to_try,
    read_arrays,
    saturated,
    slack_of,
)
from converters.verification.weights import FEW, compare_weights, slightly, weights_apart

if TYPE_CHECKING:
    import onnx_ir


def artefacts_of(paths: Sequence[StrPath]) -> list[list[RecognizedFile]]:
    """Files in order as models: a prototxt takes the weights behind it, a symbol its parameters. Raises ConversionError."""
    groups: list[list[RecognizedFile]] = []
    for path in paths:
        file = recognize(weights_of(path))
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
    inputs = feed if feed is None or isinstance(feed, Mapping) else read_arrays(feed)
    fed = {} if inputs is None or options.inputs else {name if len(inputs) > 1 else "": array.shape for name, array in inputs.items()}
    sides = [open_artefact(first, options, fed)]
    if second is not None:
        shapes = shapes_of(sides[0]) or fed
        sides.append(open_artefact(second, replace(options, key=None), shapes, sides[0].outputs or ()))
        if not shapes and sides[0].model is None and (known := shapes_of(sides[1])):
            sides[0] = open_artefact(first, options, known, sides[1].outputs or ())
    notes = [note for side in sides for note in side.notes]
    if any(side.run is None for side in sides):
        if second is None or feed is not None:
            idle = next(side for side in sides if side.run is None)
            raise ConversionError(
                "; ".join(note.removesuffix(ALONE) for note in idle.notes) or f"{idle.name} holds weights alone, which answer nothing"
            )
        return compare_weights(sides[0].weights, sides[1].weights, tolerance=tolerance, notes=notes), sides, {}, []
    wanted = None if expect is None else read_arrays(expect)
    trials, worst = _run(sides, inputs, wanted, level, seed, notes, options)
    report = Report(
        gathered(trials), tolerance=tolerance, what=" and ".join(f"{s.name} in {s.engine}" for s in sides), trials=trials, notes=notes
    )
    differing: list[Difference] = []
    if len(sides) == 2:
        differing, count = weights_apart(sides[0].weights, sides[1].weights)
        wrong = [found for found in differing if found.error > tolerance]
        report = replace(report, weights=wrong, compared=count)
        slight = [found for found in differing if found.error <= tolerance]
        if not report.ok or 0 < len(slight) <= FEW:
            before = len(notes)
            report = replace(report, layers=_layers(sides, differing, worst, notes))
            if differing and not report.layers and len(notes) == before:
                notes.append(f"the weights differ, yet no layer's answers do by more than {EXACT:g} of the largest: their effect drowns")
        if slight:
            notes.append(slightly(slight))
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
    options: LoadOptions,
) -> tuple[list[Trial], dict[str, Array]]:
    """The trials, and the inputs of the one where the two were furthest apart."""
    first = sides[0]
    known = next((side for side in sides if side.model is not None), None)
    if inputs is not None:
        arrays = by_names(inputs, first.inputs, "input", notes)
        model = None if known is None else known.model
        tried = [("the inputs given", arrays if model is None else in_types(arrays, model, notes))]
    elif known is not None and known.model is not None:
        model = _of_fixed_sizes(known.model, [side.model for side in sides if side.model is not None])
        tried = [(name, by_names(arrays, first.inputs, "input", notes)) for name, arrays in inputs_to_try(model, level, seed)]
    elif options.inputs:
        made_up = inputs_of_shapes(options.shapes, options.dtypes, seed)
        tried = [(name, by_names(arrays, first.inputs, "input", notes)) for name, arrays in made_up]
    else:
        words = " ".join(f"--input {name}=..." for name in first.inputs)
        raise ConversionError("nothing says what shapes the inputs have", hint=f"give them: {words}, or arrays with --feed input.npz")
    trials: list[Trial] = []
    far, worst, seen = -1.0, tried[0][1], []
    for name, arrays in tried:
        with _of_sizes(arrays, sides, guessed=inputs is None):
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
    notes += saturated(names, seen) if inputs is None else []
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
def _of_sizes(arrays: Mapping[str, Array], sides: Sequence[Artefact], *, guessed: bool) -> Iterator[None]:
    """What a run that fails says of sizes that nobody gave."""
    try:
        yield
    except ConversionError as problem:
        if guessed and problem.hint is None:
            sizes = ", ".join(f"{printable(name)} {'x'.join(map(str, array.shape))}" for name, array in arrays.items())
            problem.hint = f"it ran on {sizes}; " + (_no_common_sizes(sides) or "where it takes other sizes, give them with --input")
        raise


def _no_common_sizes(sides: Sequence[Artefact]) -> str:
    """What the two sides take, where sizes that both fix aren't the same; else empty."""
    known = [(side.name, side.model.graph.inputs) for side in sides if side.model is not None]
    if len(known) < 2:
        return ""
    for one, other in zip(known[0][1], known[1][1], strict=False):
        pairs = zip(one.shape or (), other.shape or (), strict=False)
        if any(isinstance(a, int) and isinstance(b, int) and a != b for a, b in pairs):
            words = " and ".join(
                f"{name} takes {'x'.join(map(str, value.shape or ()))}" for (name, _), value in zip(known, (one, other), strict=True)
            )
            return f"{words}: convert one of them again with the sizes of the other, or with open ones"
    return ""


def run_nothing(arrays: Mapping[str, Array]) -> list[Array]:
    """What weights alone answer."""
    raise ConversionError("weights alone answer nothing")


def _in_order(sides: list[Artefact], answers: list[list[Array]], names: list[str], notes: list[str]) -> list[Array]:
    """The second side's answers in the order of the first's."""
    if len(answers[0]) != len(answers[1]):
        counts = f"{sides[0].name} has {len(answers[0])} outputs, {sides[1].name} has {len(answers[1])}"
        raise ConversionError(counts, hint="convert both to the same ones (--output NAME, for each)")
    theirs = sides[1].outputs
    if theirs is None or sides[0].outputs is None:
        return answers[1]
    again: list[str] = []
    found = by_names(dict(zip(theirs, answers[1], strict=True)), names, "output", again)
    notes += [note for note in again if note not in notes]
    return list(found.values())
