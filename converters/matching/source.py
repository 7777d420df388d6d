"""The file's side of a match: its layers, and every value of one run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from numpy.typing import NDArray

from converters.graph.provenance import source_of
from converters.matching.layers import Layer, find_layers
from converters.runtimes.torch import run_values

TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4}
"""How far equal values may be apart, relative to the largest; both sides compute in this type."""
KINDS = (torch.float64, torch.float32)
"""The types that both sides are tried in."""
_SAMPLE = 1024
"""About as many numbers are compared before all of them are."""


class Source:
    """A graph that ran once. nodes: in order; layers: those with weights, in order; norms: batch norms, by what they are given;
    values: by name; kind: the type that they were computed in."""

    def __init__(self, model: ir.Model, inputs: Mapping[str, NDArray[Any]], kinds: Sequence[torch.dtype] = KINDS) -> None:
        self.model, self.inputs = model, inputs
        self.nodes = list(model.graph)  # by place: the graph itself counts from its beginning each time
        self.layers = find_layers(model)
        self.norms = {layer.given: layer for layer in self.layers if "running_mean" in layer.arrays}
        self.values = run_values(model, inputs, kinds=kinds)
        floats = [value.dtype for value in self.values.values() if value.is_floating_point()]
        given = [self.values[name].dtype for name in inputs if self.values[name].is_floating_point()]
        self.kind = given[0] if given else torch.float64 if torch.float64 in floats else torch.float32
        self._largest: dict[torch.Tensor, float] = {}

    def given(self, layer: Layer) -> torch.Tensor | None:
        """What a layer is given."""
        made = layer.values[0]
        return self.values.get(str(layer.given.name)) if made is None else made

    def answer(self, layer: Layer) -> torch.Tensor | None:
        """What it answers."""
        made = layer.values[1]
        return self.values.get(str(layer.answer.name)) if made is None else made

    def between(self, last: Layer | None, following: Layer | None) -> list[str]:
        """What the file runs behind one layer, up to and with another, by its own names."""
        start = -1 if last is None else last.last
        stop = len(self.model.graph) if following is None else following.last + 1
        names = (source_of(node) for node in itertools.islice(self.model.graph, start + 1, stop) if node.op_type != "Constant")
        found = list(dict.fromkeys(name.partition(" ")[2] or name for name in names if name))
        if last is not None and found and source_of(self.nodes[last.last]).endswith(found[0]):
            found = found[1:]
        return found

    def equal(self, a: torch.Tensor, b: torch.Tensor, *, items: bool = True) -> bool:
        """The same numbers in the same order, whatever axes of size 1 there are. b: the file's. items: of as many items, too."""
        if a.numel() != b.numel() or (items and a.shape[:1] != b.shape[:1] and a.ndim and b.ndim):
            return False
        near = TOLERANCE.get(self.kind, 1e-4) * max(self._size(b), 1e-6)
        a, b = a.detach().reshape(-1), b.reshape(-1)
        step = max(1, a.numel() // _SAMPLE)
        return _near(a[::step], b[::step], near) and (step == 1 or _near(a, b, near))

    def _size(self, value: torch.Tensor) -> float:
        """The largest number of a value, which is asked for again and again."""
        if value not in self._largest:
            largest = _largest(value)
            if not math.isfinite(largest):
                largest = _largest(value[torch.isfinite(value)])
            self._largest[value] = largest
        return self._largest[value]


def _largest(value: torch.Tensor) -> float:
    """The largest of the numbers without their signs, in one pass; NaN where one is among them."""
    if not value.numel():
        return 0.0
    if value.dtype is torch.bool:
        return float(value.any())
    least, most = torch.aminmax(value)
    return float(torch.maximum(-least.to(torch.float64), most.to(torch.float64)))


def _near(a: torch.Tensor, b: torch.Tensor, near: float) -> bool:
    a, b = a.to(torch.float64), b.to(torch.float64)
    apart = _largest(a - b)
    return apart <= near if math.isfinite(apart) else bool(torch.allclose(a, b, rtol=0.0, atol=near, equal_nan=True))
