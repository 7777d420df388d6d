"""The layers of a graph that have weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from converters.graph.provenance import source_of

Array = NDArray[Any]
Piece = tuple[int, Fraction, Fraction]
"""The part of a node's weights from one fraction of their first axis to another: the node's position, begin and end."""
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
_TAIL = frozenset({"Softmax", "LogSoftmax", "Identity", "Flatten", "Reshape", "Squeeze"})
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SIZES = frozenset({"Shape", "Size"})
_ROLES = frozenset({*_BATCH_NORM, "gamma", "beta", "scale", "shift", "slope"})
"""Names that say what a weight is, whatever operator takes it."""


@dataclass(eq=False)
class Layer:
    """A stretch of nodes that share a module path: arrays are (keys, array) by role; given, answer: the values at its ends.

    first, last: positions of its nodes in the graph. transposed: it multiplies by its weight from the right. parts: its nodes, where there
    are several, as layers. For layers that are made of others: note says how, and values are those at the ends where the graph has none.
    """

    path: str
    source: str
    first: int
    last: int
    given: ir.Value
    answer: ir.Value
    transposed: bool = False
    arrays: dict[str, tuple[tuple[str, ...], Array]] = field(default_factory=dict)
    pieces: tuple[Piece, ...] = ()
    parts: tuple[Layer, ...] = ()
    note: str = ""
    values: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)

    def __str__(self) -> str:
        return f"{self.path} ({self.source})" if self.source else self.path


def find_layers(model: ir.Model) -> list[Layer]:
    """The layers with weights, in the order in which they run; one that runs twice is there twice."""
    layers: list[Layer] = []
    for part in _single_nodes(model.graph):
        before = layers[-1] if layers else None
        is_bias = before is not None and _is_bias_of(part, before, model.graph)
        if is_bias:
            part.arrays = {"bias": next(iter(part.arrays.values()))}
        if before is not None and (is_bias or (before.path == part.path and not part.arrays.keys() & before.arrays.keys())):
            layers[-1] = _joined(before, part)
        else:
            layers.append(part)
    return layers


def _single_nodes(graph: ir.Graph) -> list[Layer]:
    """Each node that takes stored arrays, or what is made of these alone (a slope with axes added, a normalized weight), as a layer."""
    found: list[Layer] = []
    stored: dict[ir.Value, tuple[ir.Value, ...]] = {value: (value,) for value in graph.initializers.values()}
    turned: dict[ir.Value, bool] = {}  # whether a matrix is the transpose of what is stored
    fixed: set[ir.Value] = set()  # constants, sizes, and what is made of them
    for position, node in enumerate(graph):
        held = {i: stored[v] for i, v in enumerate(node.inputs) if v in stored}
        given = next((v for v in node.inputs if v is not None and not (v in stored or v in fixed or v.const_value is not None)), None)
        if node.op_type in _SIZES or (given is None and not held):
            fixed.update(node.outputs)
            continue
        if held and given is None:
            made = tuple(dict.fromkeys(value for values in held.values() for value in values))
            first = node.inputs[0]
            is_turned = turned.get(first, False) ^ (node.op_type == "Transpose") if first is not None else False
            stored |= dict.fromkeys(node.outputs, made)
            turned |= dict.fromkeys(node.outputs, is_turned)
        if not held or given is None:
            continue
        name = str(next(iter(held.values()))[0].name)
        is_transposed = _is_transposed(node) ^ turned.get(node.inputs[1], False) if 1 in held and node.inputs[1] is not None else False
        layer = Layer(name.rpartition(".")[0] or name, source_of(node), position, position, given, node.outputs[0], is_transposed)
        layer.pieces = ((position, Fraction(0), Fraction(1)),)
        for place, values in held.items():
            for value in values:
                if value.const_value is not None:
                    role = _role(node, place, str(value.name)) if len(values) == 1 else str(value.name).rpartition(".")[2]
                    layer.arrays[role] = ((str(value.name),), np.asarray(value.const_value.numpy()))
        if node.op_type == "BatchNormalization":  # what is constant there is made, and has no key
            for role, number in zip(_BATCH_NORM, node.inputs[1:5], strict=False):
                if number is not None and number not in stored and number.const_value is not None:
                    layer.arrays[role] = ((), np.asarray(number.const_value.numpy()))
        found.append(layer)
    return found


def _role(node: ir.Node, place: int, name: str) -> str:
    leaf = name.rpartition(".")[2]
    if node.op_type in _PRODUCTS and leaf not in _ROLES and place in (1, 2):
        return ("weight", "bias")[place - 1]
    return leaf


def _is_transposed(node: ir.Node) -> bool:
    turned = node.attributes.get("transB")
    return node.op_type == "MatMul" or (node.op_type == "Gemm" and (turned is None or not turned.as_int()))


def _is_bias_of(part: Layer, before: Layer, graph: ir.Graph) -> bool:
    """Whether a node adds one number for each output of a product that stands right in front, under a name of its own."""
    product, node = graph[before.last], graph[part.last]
    if node.op_type != "Add" or product.op_type not in _PRODUCTS or part.given is not before.answer or list(before.arrays) != ["weight"]:
        return False
    weight, [(_, bias)] = before.arrays["weight"][1], part.arrays.values()
    outputs = weight.shape[-1 if before.transposed else 1 if product.op_type == "ConvTranspose" else 0]
    axis = 1 if product.op_type.startswith("Conv") else -1
    at = [n - bias.ndim for n, size in enumerate(bias.shape) if size != 1]
    return bias.size == outputs and (at == [-1] if axis == -1 else at == [1 - weight.ndim])


def _joined(a: Layer, b: Layer) -> Layer:
    return Layer(
        a.path,
        a.source,
        a.first,
        b.last,
        a.given,
        b.answer,
        a.transposed or b.transposed,
        a.arrays | b.arrays,
        (*a.pieces, *b.pieces),
        (*(a.parts or (a,)), *(b.parts or (b,))),
    )


def is_free(layer: Layer, used: Sequence[Piece]) -> bool:
    """Whether none of the layer's weights is among the pieces that are used."""
    return not any(p == q and begin < end_of and begin_of < end for p, begin, end in layer.pieces for q, begin_of, end_of in used)


def is_used_up(layer: Layer, used: Sequence[Piece]) -> bool:
    """Whether all of the layer's weights are."""
    return all(sum(end - begin for q, begin, end in used if q == position) == 1 for position in {p for p, _, _ in layer.pieces})


def before_tail(value: ir.Value) -> list[ir.Value]:
    """The output, and what stands before a softmax at the end, which classes for training leave out."""
    found = [value]
    while (producer := found[-1].producer()) is not None and producer.op_type in _TAIL and producer.inputs[0] is not None:
        found.append(producer.inputs[0])
    return found
