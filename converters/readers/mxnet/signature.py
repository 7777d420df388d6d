"""A lowering is a function whose signature is the operator's.

Positional arguments are the inputs (an `ir.Value`; a `Parameter` where MXNet expects a weight; an `Index`, whose integers stay integers;
or a `Label`, which inference has no use for), keyword arguments are the attributes with MXNet's defaults.

    @lowers("clip")
    def clip(g: OperatorBuilder, data: ir.Value, *, a_min: float, a_max: float) -> ir.Value:
        "Values held between a_min and a_max. Source: src/operator/tensor/matrix_op.cc."

It returns a Value, a list of them (output0, output1, ...), or a dict that names them as MXNet's list_outputs() does.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, overload

import onnx_ir as ir

from converters.errors import printable
from converters.readers.mxnet.attributes import parse
from converters.readers.mxnet.axes import Moves, Tells
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Label, OwnType, Parameter
from converters.readers.mxnet.symbol import Node
from converters.registry import Registry

Body = Callable[[Mapping[int, Parameter | ir.Value]], list[ir.Value]]
"""A graph that a node holds: lowered for what its arguments are, by their numbers, it answers its outputs."""
Results = ir.Value | Sequence[ir.Value] | Mapping[str, ir.Value]
"""What a lowering returns: one output, several, or several by name."""
Lowering = Callable[..., Results]


@dataclass(frozen=True)
class OperatorFacts:
    """What is known of an operator besides its lowering.

    ignores: attributes, parted by blanks, that change nothing at inference. sequences: which axes of its inputs are time and batch, where
    it takes sequences. axes: where its inputs have the axes of its output, if they have them (both: axes.py). graphs: for each graph that
    it holds, the attributes that say which inputs the graph's arguments are.
    """

    ignores: str = ""
    sequences: Tells | None = None
    axes: Moves | None = None
    graphs: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Subgraphs(Sequence[Body]):
    """The annotation of the graphs that a node holds, and what a lowering gets for it."""

    bodies: tuple[Body, ...] = ()

    @overload
    def __getitem__(self, index: int) -> Body: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Body]: ...
    def __getitem__(self, index: int | slice) -> Body | Sequence[Body]:
        return self.bodies[index]

    def __len__(self) -> int:
        return len(self.bodies)


lowers: Registry[Lowering, OperatorFacts] = Registry("MXNet operator", OperatorFacts, "converters.readers.mxnet.operators")
"""Decorator that registers a lowering under the operator's names; the hook for operators of one's own."""

# Attributes that files put on operators of any kind: the device, and names that tools leave there. The file format's, no operator's own.
ANYWHERE = frozenset({"ctx", "name", "layer_name"})


@dataclass(frozen=True)
class Slot:
    """An input of an operator: its name, whether it is a Parameter, a Label or an ordinary value, and which kinds of numbers stay such."""

    name: str
    role: type
    required: bool
    keeps: str = ""


@dataclass(frozen=True)
class Signature:
    slots: tuple[Slot, ...]
    variadic: Slot | None
    attributes: Mapping[str, tuple[Any, Any]]
    keeps_all: bool
    holds_graphs: bool

    def slot(self, position: int) -> Slot | None:
        return self.slots[position] if position < len(self.slots) else self.variadic


_signatures: dict[Lowering, Signature] = {}


def signature(op: str) -> Signature:
    """What the signature of an operator's lowering says of it."""
    function = lowers[op]
    if function not in _signatures:
        _signatures[function] = _read_signature(function)
    return _signatures[function]


def _read_signature(function: Lowering) -> Signature:
    slots: list[Slot] = []
    variadic, attributes, keeps_all, holds_graphs = None, {}, False, False
    for parameter in list(inspect.signature(function, eval_str=True).parameters.values())[1:]:
        if parameter.annotation is Subgraphs:
            holds_graphs = True
        elif parameter.kind is parameter.KEYWORD_ONLY:
            attributes[parameter.name] = (parameter.annotation, parameter.default)
        elif parameter.kind is parameter.VAR_KEYWORD:
            keeps_all = True
        else:
            parts = tuple(_parts(parameter.annotation))
            role = next((part for part in parts if part in (Parameter, Label)), ir.Value)
            own = next((part for part in parts if isinstance(part, OwnType)), None)
            keeps = "" if own is None else "iufb" if own.floats else "iu"
            slot = Slot(parameter.name, role, parameter.default is parameter.empty, keeps)
            if parameter.kind is parameter.VAR_POSITIONAL:
                variadic = slot
            else:
                slots.append(slot)
    return Signature(tuple(slots), variadic, attributes, keeps_all, holds_graphs)


def _parts(annotation: Any) -> typing.Iterator[Any]:
    """The types of a union and what they are annotated with."""
    if typing.get_origin(annotation) is None:
        yield annotation
    for part in annotation.__metadata__ if typing.get_origin(annotation) is Annotated else typing.get_args(annotation):
        yield from _parts(part)


def read_attributes(g: OperatorBuilder, node: Node) -> dict[str, Any]:
    """The node's attributes by the types of the signature. Raises ConversionError for one that is unreadable or missing."""
    described = signature(node.op)
    result: dict[str, Any] = {}
    for name, (wanted, default) in described.attributes.items():
        if name in node.attributes:
            try:
                result[name] = parse(node.attributes[name], wanted)
            except ValueError as problem:
                raise g.error(f"attribute {name} {problem}") from problem
        elif default is inspect.Parameter.empty:
            raise g.error(f"attribute {name} is missing")
    ignored = ANYWHERE.union(lowers.facts(node.op).ignores.split(), ["num_args"] if described.variadic else [])
    unknown = [k for k in node.attributes if k not in described.attributes and k not in ignored and not k.startswith("__")]
    if described.keeps_all:
        result.update((k, node.attributes[k]) for k in unknown)
    elif unknown:
        names = ", ".join(printable(k, 40) for k in unknown[:10])
        g.warn(f"attributes that MXNet doesn't know here are ignored: {names}")
    return result
