"""The first layers where two runs part: stretches of the graph become outputs, as many at a time as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from converters.errors import ConversionError
from converters.graph.provenance import source_of
from converters.runtimes.compare import Array, Difference, difference
from converters.runtimes.torch import run_values
from converters.verification.limits import value_bytes

if TYPE_CHECKING:
    import onnx_ir

LIMIT = 256 << 20
"""Bytes of values that are kept at one time."""
EXACT = 1e-6
"""What two graphs may be apart that both compute in float64, relative to the largest number; they are the same but for that."""
Run = Callable[["onnx_ir.Model", Mapping[str, Array]], Sequence[Array]]
"""(a graph whose outputs are the values that are asked for, the inputs) -> these values."""


def first_differences(
    model: onnx_ir.Model, arrays: Mapping[str, Array], one: Run, other: Run, tolerance: float, most: int = 5, *, every: bool = False
) -> list[Difference]:
    """The first values in graph order that two ways of running one graph differ in by more than the tolerance; `every`: all values."""
    from converters.graph.changes.outputs import ending_in  # which imports onnx_ir: comparing weights needs none

    found: list[Difference] = []
    for names in _stretches(
        model, arrays, [str(v.name) for node in model.graph if node.op_type != "Constant" for v in node.outputs if v.name]
    ):
        opened = ending_in(model, names)
        sources = [source_of(value.producer()) for value in opened.graph.outputs]
        for name, source, a, b in zip(names, sources, one(opened, arrays), other(opened, arrays), strict=True):
            compared = difference(name, np.asarray(a), np.asarray(b), source)
            if every or compared.error > tolerance:
                found.append(compared)
        if found and not every:
            break
    return found if every else found[:most]


def first_between(
    first: onnx_ir.Model,
    second: onnx_ir.Model,
    arrays: Mapping[str, Array],
    again: Mapping[str, Array],
    notes: list[str],
    most: int = 5,
    *,
    every: bool = False,
) -> list[Difference]:
    """The first values that two graphs differ in, both computed in PyTorch, in float64 where they allow it.

    arrays, again: the inputs of each. Values are each other's by their names, else in order where both graphs have the same operators;
    notes says which. Empty where neither tells. every: all values, not the first that differ.
    """
    pairs = _pairs(first, second, notes)
    sources = {str(value.name): source_of(node) for node in first.graph for value in node.outputs}
    found: list[Difference] = []
    for names in _stretches(first, arrays, list(pairs)):
        try:
            one = run_values(first, arrays, names)
            two = run_values(second, again, [pairs[name] for name in names])
        except (ConversionError, RuntimeError, TypeError) as problem:
            notes.append(f"the layers weren't compared: {(str(problem).splitlines() or [''])[0]}")
            return []
        for name in names:
            compared = difference(name, one[name].detach().numpy(), two[pairs[name]].detach().numpy(), sources.get(name, ""))
            if every or compared.error > EXACT:
                found.append(compared)
        if found and not every:
            break
    return found if every else found[:most]


def _pairs(first: onnx_ir.Model, second: onnx_ir.Model, notes: list[str]) -> dict[str, str]:
    """Values of the first graph, in its order, with those of the second."""
    nodes = [[node for node in model.graph if node.op_type != "Constant"] for model in (first, second)]
    names = [[str(value.name) for node in side for value in node.outputs if value.name] for side in nodes]
    common = [name for name in names[0] if name in set(names[1])]
    if len(common) * 2 >= min(len(names[0]), len(names[1])):
        return {name: name for name in common}
    if [node.op_type for node in nodes[0]] == [node.op_type for node in nodes[1]] and len(names[0]) == len(names[1]):
        notes.append("layers are paired in order")
        return dict(zip(*names, strict=True))
    notes.append("the two graphs are built of other operators, so that layers can't be paired")
    return {}


def _stretches(model: onnx_ir.Model, arrays: Mapping[str, Array], names: Sequence[str]) -> Iterator[list[str]]:
    """The names in order, in pieces whose values together take no more than LIMIT."""
    sizes = value_bytes(model, {name: array.shape for name, array in arrays.items()})
    piece: list[str] = []
    taken = 0
    for name in names:
        size = sizes.get(name, 0)
        if piece and taken + size > LIMIT:
            yield piece
            piece, taken = [], 0
        piece.append(name)
        taken += size
    if piece:
        yield piece
