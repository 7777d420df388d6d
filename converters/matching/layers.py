"""The layers of a graph that have weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.graph.provenance import source_of

Array = NDArray[Any]
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
_TAIL = frozenset({"Softmax", "LogSoftmax", "Identity", "Flatten", "Reshape", "Squeeze"})


@dataclass(eq=False)
class Layer:
    """A stretch of nodes that share a module path: arrays are (key, array) by role; given, answer: the values at its ends.

    first, last: positions of its nodes in the graph. transposed: it multiplies by its weight from the right.
    """

    path: str
    source: str
    first: int
    last: int
    given: ir.Value
    answer: ir.Value
    transposed: bool = False
    arrays: dict[str, tuple[str, Array]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.path} ({self.source})" if self.source else self.path


def find_layers(model: ir.Model) -> list[Layer]:
    """The layers with weights, in the order in which they run; one that runs twice is there twice."""
    graph = model.graph
    layers: list[Layer] = []
    stored = {value: value for value in graph.initializers.values()}  # and what is made of one of them alone: a slope with axes added
    for position, node in enumerate(graph):
        held = {i: stored[v] for i, v in enumerate(node.inputs) if v in stored}
        given = next((v for v in node.inputs if v is not None and v not in stored and v.const_value is None), None)
        if len(held) == 1 and given is None:
            stored |= dict.fromkeys(node.outputs, next(iter(held.values())))
        if not held or given is None:
            continue
        path = str(next(iter(held.values())).name).rpartition(".")[0] or str(next(iter(held.values())).name)
        roles = {str(v.name).rpartition(".")[2]: v for v in held.values()}
        open_layer = layers[-1] if layers and layers[-1].path == path and not roles.keys() & layers[-1].arrays.keys() else None
        if open_layer is None:
            open_layer = Layer(path, source_of(node), position, position, given, node.outputs[0])
            layers.append(open_layer)
        open_layer.last, open_layer.answer = position, node.outputs[0]
        open_layer.transposed |= node.op_type == "MatMul" and 1 in held and held[1] is node.inputs[1]
        for role, value in roles.items():
            if value.const_value is not None:
                open_layer.arrays[role] = (str(value.name), np.asarray(value.const_value.numpy()))
        if node.op_type == "BatchNormalization":  # what is constant there is made, and has no key
            for role, fixed in zip(_BATCH_NORM, node.inputs[1:5], strict=False):
                if fixed is not None and fixed not in stored and fixed.const_value is not None:
                    open_layer.arrays[role] = ("", np.asarray(fixed.const_value.numpy()))
    return layers


def before_tail(value: ir.Value) -> list[ir.Value]:
    """The output, and what stands before a softmax at the end, which classes for training leave out."""
    found = [value]
    while (producer := found[-1].producer()) is not None and producer.op_type in _TAIL and producer.inputs[0] is not None:
        found.append(producer.inputs[0])
    return found
