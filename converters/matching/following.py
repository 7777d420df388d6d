"""Follows the values: each module gets, when it is called, the weights of the source layer that was given the same numbers.

The source runs once. The target runs with hooks: a module that owns weights looks for unused layers whose input is its own, takes the
weights that fit, and goes on with the right numbers; weights that a class uses itself are seen where they meet a value. Equal branches are
tried in turn; a choice that leads nowhere is taken back. At the end both run again on large numbers.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.matching.fitting import Placed
from converters.matching.layers import before_tail
from converters.matching.neighbors import Neighbors
from converters.matching.run import PartedError, Run
from converters.matching.source import Source
from converters.runtimes.compare import random_inputs
from converters.runtimes.torch import call, run_values

SECONDS = 30.0
"""Time for trying equal branches, once the first try has run."""
LARGE = 30.0
"""The second input's numbers are as many times larger: what bounds its values (ReLU6) must do so in both."""
_OF_TYPES = re.compile(r"your class fails: .*\b(double|float64)\b", re.IGNORECASE)


def follow(model: ir.Model, module: torch.nn.Module) -> dict[str, Placed]:
    """What each key of the module takes. Raises ConversionError, which names the first layers where the two part."""
    inputs = random_inputs(model, seed=7)
    source = Source(model, inputs)
    try:
        return _follow(source, module)
    except ConversionError as problem:
        if source.kind is not torch.float64 or not _OF_TYPES.search(str(problem)):
            raise
    return _follow(Source(model, inputs, (torch.float32,)), module)  # a class that makes numbers of float32 takes no others


def _follow(source: Source, module: torch.nn.Module) -> dict[str, Placed]:
    target = copy.deepcopy(module).to(source.kind).eval()
    names = {inner: name for name, inner in target.named_modules()}
    around = Neighbors(source.model, source.layers, {name: value.shape for name, value in source.values.items()}, module)
    best: PartedError | None = None
    end = math.inf
    for order in _orders(source.inputs, module):
        tensors = [source.values[name] for name in order]
        plan: list[int] = []
        while time.monotonic() < end:
            run = Run(source, target, names, plan, around, tensors, end)
            try:
                run.go()
                _prove(source, run, order)
                return run.placed
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
    answers = call(run.target, [values[name] for name in order])
    for answer, output in zip(answers, source.model.graph.outputs, strict=True):
        found = [values[str(value.name)] for value in before_tail(output) if str(value.name) in values]
        if not any(source.equal(answer, value) for value in found):
            again = Run(
                Source(source.model, inputs, (source.kind,)),
                run.target,
                run.names,
                [choice for choice, _ in run.chosen],
                run.around,
                [values[name] for name in order],
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
