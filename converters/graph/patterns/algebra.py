"""What patterns are made of: numbers, products, and values that nobody else looks at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx_ir as ir

from converters.graph.recurrent.constants import constant_of

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_DEEPEST = 16


@dataclass
class Pattern:
    """A layer put together again. kind: its name. inputs: what it takes, by role. numbers: what it is set to.

    inner: the nodes that it is made of besides the last one.
    """

    kind: str
    inputs: dict[str, ir.Value]
    numbers: dict[str, float] = field(default_factory=dict)
    inner: frozenset[ir.Node] = frozenset()

    def learnt(self) -> dict[str, ir.Value]:
        """Its weight and bias, as far as it has them."""
        return {role: self.inputs[role] for role in ("weight", "bias") if role in self.inputs}


class Parts:
    """The nodes that a match goes through on its way back from the last one. opset: what they are written in."""

    def __init__(self, last: ir.Node, opset: int, nodes: Iterable[ir.Node] = ()) -> None:
        self.last, self.opset = last, opset
        self.nodes: set[ir.Node] = set(nodes)

    def fork(self) -> Parts:
        """For one way out of several: what it goes through is forgotten where it leads nowhere."""
        return Parts(self.last, self.opset, self.nodes)

    def pattern(self, kind: str, numbers: dict[str, float] | None = None, **inputs: ir.Value | None) -> Pattern | None:
        """The layer that the parts are, if nobody else takes what they give. Inputs that are None are left out."""
        if not self._are_alone():
            return None
        there = {role: value for role, value in inputs.items() if value is not None}
        return Pattern(kind, there, numbers or {}, frozenset(self.nodes))

    def node(self, value: ir.Value | None, *op_types: str) -> ir.Node | None:
        """The operator that makes a value, if it is one of these; it becomes a part."""
        node = made_by(value, *op_types)
        if node is not None and node is not self.last:
            self.nodes.add(node)
        return node

    def _are_alone(self) -> bool:
        return all(
            not value.is_graph_output() and all(use.node in self.nodes or use.node is self.last for use in value.uses())
            for node in self.nodes
            for value in node.outputs
        )

    def scaled(self, value: ir.Value | None) -> tuple[float, ir.Value | None]:
        """A value as a number times another value, as far as products and quotients say so."""
        scale = 1.0
        for _ in range(_DEEPEST):
            node = None if value is None or _is_shared(value) else made_by(value, "Mul", "Div")
            if node is None:
                break
            left, right = node.inputs
            number = number_of(right, left)
            if number is not None and (node.op_type == "Mul" or number):
                scale, value = scale * number if node.op_type == "Mul" else scale / number, left
            elif node.op_type == "Mul" and (number := number_of(left, right)) is not None:
                scale, value = scale * number, right
            else:
                break
            self.nodes.add(node)
        return scale, value

    def factors(self, value: ir.Value | None, depth: int = 0) -> tuple[float, list[ir.Value]]:
        """A value as a product: its number, and what else is multiplied. What others use too is taken as it is."""
        if value is None:
            return 1.0, []
        node = made_by(value, "Mul", "Div", "Pow") if depth < _DEEPEST else None
        if node is None or (node is not self.last and _is_shared(value)):
            return 1.0, [value]
        left, right = node.inputs
        number = number_of(right, left)
        if node.op_type == "Pow":
            if number not in (2.0, 3.0) or left is None:
                return 1.0, [value]
            self._add(node)
            return 1.0, [left] * int(number)
        if node.op_type == "Div":
            if not number:
                return 1.0, [value]
            self._add(node)
            scale, found = self.factors(left, depth + 1)
            return scale / number, found
        self._add(node)
        if number is None and (number := number_of(left, right)) is not None:
            left = right
        if number is not None:
            scale, found = self.factors(left, depth + 1)
            return scale * number, found
        a, some = self.factors(left, depth + 1)
        b, more = self.factors(right, depth + 1)
        return a * b, some + more

    def _add(self, node: ir.Node) -> None:
        if node is not self.last:
            self.nodes.add(node)

    def plus(self, value: ir.Value | None, number: float) -> ir.Value | None:
        """What a number is added to; None where it isn't that."""
        node = self.node(value, "Add")
        if node is None:
            return None
        left, right = node.inputs
        if close(number_of(right, left), number, left):
            return left
        return right if close(number_of(left, right), number, right) else None


def made_by(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The operator of ONNX that makes a value, if it is one of these."""
    node = None if value is None else value.producer()
    if node is None or node.op_type not in op_types or node.domain not in ("", "ai.onnx"):
        return None
    return None if any(attribute.is_ref() for attribute in node.attributes.values()) else node


def number_of(value: ir.Value | None, beside: ir.Value | None) -> float | None:
    """A constant's only number, where it leaves the shape of what is beside it alone. What was learnt is no constant."""
    if value is None or value.producer() is None:
        return None
    sizes = [] if value.shape is None else list(value.shape)
    known = None if any(isinstance(size, int) and size != 1 for size in sizes) else constant_of(value)
    array = None if known is None or any(source.is_initializer() for source in known[1]) else known[0]()
    if array is None or array.size != 1 or (array.ndim and (beside is None or beside.shape is None or array.ndim > len(beside.shape))):
        return None
    return float(array.reshape(-1)[0])


def close(number: float | None, wanted: float, beside: ir.Value | None) -> bool:
    """Whether a number is the one wanted, written in the type of what is beside it."""
    if number is None:
        return False
    dtype = None if beside is None else beside.dtype
    numpy = np.dtype(np.float32) if dtype not in FLOATS or dtype is None else dtype.numpy()
    limit = 4 * float(ml_dtypes.finfo(numpy).eps)  # type: ignore[no-untyped-call]
    return abs(number - wanted) <= limit * abs(wanted)


def is_float(value: ir.Value | None) -> bool:
    """Whether a value holds floating-point numbers."""
    return value is not None and value.dtype in FLOATS


def _is_shared(value: ir.Value) -> bool:
    """Whether more than one node takes a value, or the graph gives it out."""
    return value.is_graph_output() or len({use.node for use in value.uses()}) > 1
