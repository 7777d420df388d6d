"""Follows the values: each module gets, when it is called, the weights of the source layer that was given the same numbers.

The source runs once. The target runs with hooks: a module that owns weights looks for unused layers whose input is its own, takes the
weights that fit, and goes on with the right numbers; weights that a class uses itself are seen where they meet a value. Equal branches are
tried in turn; a choice that leads nowhere is taken back. Then all is done once more with other numbers in the weights (`redrawing`), where
both run on large inputs too.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from converters.errors import ConversionError, printable
from converters.matching.calling import CLASS_ERRORS, answers_of, class_fails, copied
from converters.matching.fitting import Placed
from converters.matching.layers import before_tail
from converters.matching.neighbors import Neighbors
from converters.matching.redrawing import redrawn
from converters.matching.run import PartedError, Run
from converters.matching.source import KINDS, Source
from converters.runtimes.compare import random_inputs
from converters.runtimes.torch import run_values

SECONDS = 30.0
"""Time for trying equal branches, once the first try has run."""
LARGE = 30.0
"""The second input's numbers are as many times larger: what bounds its values (ReLU6) must do so in both."""
_DECIDES = "your class decides by the numbers that it is given: only the ways that drawn inputs take were run"
_OF_TYPES = re.compile(r"your class fails: .*\b(double|float64)\b", re.IGNORECASE)


@dataclass
class Found:
    """placed: by key of the module. computed: keys of weights that the class computes something of before it uses them. decides: whether
    what the class does depends on its inputs' numbers. said: how its inputs and answers aren't the file's own."""

    placed: dict[str, Placed]
    computed: frozenset[str]
    decides: bool
    said: list[str]


def follow(model: ir.Model, module: torch.nn.Module) -> tuple[dict[str, Placed], list[str]]:
    """What each key of the module takes, and what else there is to say. Raises ConversionError, which names where the two part.

    What is found is looked for once more with other numbers in the file's weights, and there on large inputs too. Where these place
    something elsewhere, the file's own numbers say nothing of it, and that place is taken.
    """
    inputs = random_inputs(model, seed=7)
    found, kind = _follow(model, inputs, module)
    again = _with_other_weights(model, inputs, module, found, kind)
    if again is None:
        found, _ = _follow(model, inputs, module, kind, found, large=True)
    elif not _agree(found, again):
        found, _ = _follow(model, inputs, module, kind, again)
        if not _agree(found, again):
            raise ConversionError("the weights fit in several ways that answer alike", hint="no weights were placed")
    return found.placed, found.said + ([_DECIDES] if found.decides else [])


def _follow(
    model: ir.Model,
    inputs: Mapping[str, NDArray[Any]],
    module: torch.nn.Module,
    kind: torch.dtype | None = None,
    before: Found | None = None,
    *,
    large: bool = False,
) -> tuple[Found, torch.dtype]:
    """Also: the type of numbers that both sides take. before: what was found with other numbers. large: both run on large inputs too."""
    source = Source(model, inputs, (kind,) if kind else KINDS)
    try:
        return _search(source, module, before, large), source.kind
    except ConversionError as problem:
        if source.kind is not torch.float64 or not _OF_TYPES.search(str(problem)):
            raise
    source = Source(model, inputs, (torch.float32,))  # a class that makes numbers of float32 takes no others
    return _search(source, module, before, large), torch.float32


def _with_other_weights(
    model: ir.Model, inputs: Mapping[str, NDArray[Any]], module: torch.nn.Module, found: Found, kind: torch.dtype
) -> Found | None:
    """What is found with other numbers in the weights; None where the file's net doesn't take them.

    Weights that the class normalizes or turns round before it uses them may have to be as they are: that is tried last.
    """
    computed = {key for name in found.computed for key in found.placed[name].keys}
    for kept in [frozenset[str](), *([frozenset(computed)] if computed else [])]:
        other = redrawn(model, kept)
        try:
            return _follow(other, inputs, module, kind, found, large=True)[0]
        except (RuntimeError, IndexError):
            return None
        except ConversionError as problem:
            parted = problem
    raise ConversionError(f"with other numbers in the weights, {parted.what}", hint="no weights were placed") from parted


def _agree(a: Found, b: Found) -> bool:
    return {name: (p.keys, p.note) for name, p in a.placed.items()} == {name: (p.keys, p.note) for name, p in b.placed.items()}


def _search(source: Source, module: torch.nn.Module, before: Found | None, large: bool) -> Found:
    """Goes through the ways to place the weights until both sides answer alike."""
    target = copied(module).to(source.kind).eval()
    names = {inner: name for name, inner in target.named_modules()}
    around = Neighbors(source.model, source.layers, {name: value.shape for name, value in source.values.items()}, module)
    best: PartedError | None = None
    end = math.inf
    for order in _orders(source.inputs, module):
        plan: list[int] = []
        while time.monotonic() < end:
            tensors = [source.values[name].clone() for name in order]  # a class may write into what it is given
            run = Run(source, target, names, plan, around, tensors, end, before.placed if before else {})
            try:
                run.go()
                if large:
                    _prove(source, run, order)
                given = [f"your class takes the inputs in this order: {', '.join(map(printable, order))}"]
                return Found(run.placed, run.computed, run.decides, (given if order != tuple(source.inputs) else []) + run.ends)
            except PartedError as problem:
                best = problem if best is None or problem.depth > best.depth else best
            end = min(end, time.monotonic() + SECONDS)
            again = run.next_plan()
            if again is None:
                break
            plan = again
    raise ConversionError(str(best), hint="no weights were placed")


def _prove(source: Source, run: Run, order: tuple[str, ...]) -> None:
    """Runs both on other and larger numbers. Raises PartedError, which names the place that the larger numbers show."""
    inputs = _large(random_inputs(source.model, seed=11))
    ends = {str(value.name): output for output in source.model.graph.outputs for value in before_tail(output) if value.name}
    try:
        values = run_values(source.model, inputs, list(dict.fromkeys(name for name in ends if name not in inputs)), (source.kind,))
    except (RuntimeError, IndexError):
        return  # numbers that the file's own net doesn't take
    try:
        answers = answers_of(run.target, [values[name].clone() for name in order])
    except CLASS_ERRORS as problem:
        raise PartedError(f"on numbers {LARGE:g} times as large {class_fails(problem)}", len(run.used)) from problem
    for answer, output in zip(answers, source.model.graph.outputs, strict=True):
        found = [values[str(value.name)] for value in before_tail(output) if str(value.name) in values]
        if not any(source.equal(answer, value) for value in found):
            again = Run(
                Source(source.model, inputs, (source.kind,)),
                run.target,
                run.names,
                [choice for choice, _ in run.chosen],
                run.around,
                [values[name].clone() for name in order],
                math.inf,
            )
            again.go()
            raise PartedError(f"on numbers {LARGE:g} times as large the answers differ, behind {run.last}", len(run.used))


def _large(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Larger numbers; for integers, which are often places in a table, 0 and 1 in turn."""
    return {
        name: array * array.dtype.type(LARGE)
        if array.dtype.kind == "f"
        else (np.arange(array.size) % 2).reshape(array.shape).astype(array.dtype)
        for name, array in inputs.items()
    }


def _orders(inputs: Mapping[str, NDArray[Any]], module: torch.nn.Module) -> Iterator[tuple[str, ...]]:
    """Orders in which the class may take the file's inputs: by the names of forward's arguments, else all, the file's own first."""
    names = tuple(inputs)
    arguments = [
        p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if set(names) <= set(arguments):
        yield tuple(name for name in arguments if name in names)
        return
    yield from itertools.islice(itertools.permutations(names), 24)
