"""What a function that writes one ONNX operator sees: the node's inputs as expressions, its attributes, and the forward so far.

    @writes("Relu")
    def relu(n: Node) -> str:
        \"\"\"F.relu.\"\"\"
        return f"F.relu({n[0]})"

The function returns the expression of the output; or a list of them, one per output; an expression of a node with several outputs
is a tuple that gets unpacked. Opsets from 7 to the newest are written as they stand: where a later opset moved an attribute to an
input, `Node.static` and `Node.axes` look in both places.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import printable
from converters.graph.patterns.algebra import Pattern
from converters.graph.recurrent.modules import RecurrentModule
from converters.registry import Registry
from converters.writers.source.code import Body, Size, number
from converters.writers.source.dtypes import FLOATS, UnwritableError, torch_dtype

Written = str | list[str] | NDArray[Any]


@dataclass(frozen=True)
class Facts:
    """What is known of an operator beside its source.

    unsigned: what it does with uint16, 32 and 64, which PyTorch stores but computes nothing with: "moves" them about; gives in int64
    bits that are right at any width ("wraps"); gives numbers that are right where int64 holds them, so not of uint64 ("fits"); looks at
    nothing but which is greater ("orders"); or, empty, can't be written of them. float8: takes eight-bit floating-point numbers as they
    are. sequences: takes or gives lists of tensors, or what may be missing (None).
    """

    unsigned: Literal["", "moves", "wraps", "fits", "orders"] = ""
    float8: bool = False
    sequences: bool = False


writes: Registry[Callable[[Node], Written], Facts] = Registry("ONNX operator", Facts, "converters.writers.source.operators")
"""The operators that PyTorch source is written for, by ONNX's spelling."""

_WORD = re.compile(r"[A-Za-z0-9_ ,.>-]*")
"""Texts that attributes of operators may have: no quotes, brackets or line ends, so that none can become code."""


class Forward(Protocol):
    """What a node asks of the forward that it becomes part of; converters.writers.source.writer.Writer is one."""

    opset: int
    body: Body
    functions: set[str]

    def tensor(self, value: ir.Value) -> str:
        """The value as an expression of a tensor."""

    def known(self, value: ir.Value) -> NDArray[Any] | None:
        """The value where it is a constant, or (dtype object) integers that the forward has as Python numbers."""

    def is_parameter(self, value: ir.Value) -> bool:
        """Whether the value is an entry of the state_dict."""

    def constant(self, array: NDArray[Any]) -> str:
        """The expression of a constant tensor."""

    def layer(self, build: str, wanted: Mapping[str, ir.Value], buffers: frozenset[str]) -> str | None:
        """The expression of the torch.nn layer that holds exactly these tensors, if there can be one."""

    def plain_layer(self, build: str, name: str) -> str:
        """The expression of a layer without tensors; name: what it is called where its path is empty or taken."""

    def recurrent(self, node: ir.Node) -> RecurrentModule | None:
        """The recurrent module that ends in this node, if torch.nn has one."""

    def pattern(self, node: ir.Node) -> Pattern | None:
        """The layer that ends in this node, if it and those before it are parts of one."""

    def written(self, value: ir.Value, text: str) -> None:
        """The value is this already: what computes it in the graph isn't written."""

    def device(self) -> str:
        """The expression of the device that the model runs on."""

    def function_name(self, base: str) -> str:
        """A free name for a function inside the forward."""

    def branch(self, name: str, graph: ir.Graph) -> list[str]:
        """A subgraph as the lines of a function inside the forward."""

    def inline(self, graph: ir.Graph) -> list[str]:
        """A subgraph without inputs, written where we are; the expressions of its outputs."""


class Node:
    """One ONNX node on its way into the forward."""

    def __init__(self, forward: Forward, node: ir.Node) -> None:
        self._forward = forward
        self.ir = node
        self._instead: dict[int, str] = {}

    # -- what the node is --------------------------------------------------------------------------------------------

    @property
    def op_type(self) -> str:
        return self.ir.op_type

    @property
    def opset(self) -> int:
        return self._forward.opset

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's plain value: int, float, str, tuple of them, numpy array; or the default."""
        attribute = self.ir.attributes.get(name)
        if attribute is None:
            return default
        if attribute.is_ref():
            raise UnwritableError(f"attribute {name!r} refers to a function's parameter")
        value = attribute.value
        if attribute.type == ir.AttributeType.TENSOR:
            return value.numpy()
        for text in (value,) if isinstance(value, str | bytes) else value if attribute.type == ir.AttributeType.STRINGS else ():
            if not isinstance(text, str) or _WORD.fullmatch(text) is None:
                raise UnwritableError(f"attribute {name!r} is {printable(text)!r}, which is no word")
        return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value

    def error(self, message: str) -> UnwritableError:
        """To be raised: the reason why this node can't be written."""
        return UnwritableError(message)

    # -- inputs ------------------------------------------------------------------------------------------------------

    def value(self, index: int) -> ir.Value | None:
        return self.ir.inputs[index] if index < len(self.ir.inputs) else None

    def has(self, index: int) -> bool:
        return self.value(index) is not None

    def __len__(self) -> int:
        """How many inputs the node lists, left-out ones in the middle included."""
        return len(self.ir.inputs)

    def __getitem__(self, index: int) -> str:
        """Input `index` as an expression of a tensor."""
        if index in self._instead:
            return self._instead[index]
        value = self.value(index)
        if value is None:
            raise UnwritableError(f"input {index} is missing")
        return self._forward.tensor(value)

    def instead(self, index: int, text: str) -> Node:
        """The same node with another expression for an input."""
        other = Node(self._forward, self.ir)
        other._instead = {**self._instead, index: text}
        return other

    def get(self, index: int, default: str = "None") -> str:
        return self[index] if self.has(index) else default

    def static(self, index: int, attribute: str | None = None) -> NDArray[Any] | None:
        """Input `index` as an array where it is known now, or (older opsets) the attribute of that name; None if neither."""
        value = self.value(index)
        if value is not None:
            known = self._forward.known(value)
            return None if known is None or known.dtype == object else known
        given = self.attr(attribute) if attribute else None
        return None if given is None else np.asarray(given)

    def fixed(self, index: int) -> NDArray[Any] | None:
        """Input `index` as an array where it is a constant, which no parameter is."""
        value = self.value(index)
        return None if value is None or self._forward.is_parameter(value) else self.static(index)

    def needed(self, index: int, what: str, attribute: str | None = None) -> NDArray[Any]:
        """As `static`, for what must be known when the source is written."""
        found = self.static(index, attribute)
        if found is None:
            raise UnwritableError(f"{what} must be a constant")
        return found

    def sizes(self, index: int) -> list[Any] | None:
        """A 1-D integer input as Python ints and Sizes, where that is known; else None."""
        value = self.value(index)
        known = None if value is None else self._forward.known(value)
        return None if known is None else [part if isinstance(part, Size) else int(part) for part in known.reshape(-1)]

    def size_list(self, index: int) -> str:
        """A 1-D integer input as the expression of a list of Python ints."""
        sizes = self.sizes(index)
        return f"{self.function('integers')}({self[index]})" if sizes is None else f"[{', '.join(str(size) for size in sizes)}]"

    def axes(self, index: int = 1, attribute: str = "axes") -> list[int] | None:
        """Axes as an input (newer opsets) or attribute; None where there are none."""
        if not self.has(index) and self.attr(attribute) is None:
            return None
        return [int(axis) for axis in self.needed(index, "axes", attribute).reshape(-1)]

    def scalar(self, index: int) -> str:
        """A one-element input as a Python number: a literal, or `x.item()`."""
        value = self.value(index)
        known = None if value is None else self._forward.known(value)
        if known is not None and known.size == 1:
            return number(known.reshape(-1)[0])
        return f"{self[index]}.item()"

    def operand(self, index: int, other: int) -> str:
        """An input of an elementwise operator: a Python number where it is a constant that leaves the other's shape alone."""
        value = self.value(index)
        known = None if value is None or self._forward.is_parameter(value) else self._forward.known(value)
        if known is not None and known.size == 1 and known.dtype != object and known.dtype.kind in "fiub":
            rank = self.rank(other)
            beside = self.value(other)
            if (
                (known.ndim == 0 or (rank is not None and known.ndim <= rank))
                and beside is not None
                and self._forward.known(beside) is None
            ):
                return number(known.reshape(-1)[0])
        return self[index]

    def dtype(self, index: int = 0) -> ir.DataType:
        value = self.value(index)
        if value is None or value.dtype is None:
            raise UnwritableError(f"the element type of input {index} is unknown")
        return value.dtype

    def is_float(self, index: int = 0) -> bool:
        return self.dtype(index) in FLOATS

    def rank(self, index: int = 0) -> int | None:
        value = self.value(index)
        return None if value is None or value.shape is None else len(value.shape)

    def known_rank(self, index: int = 0) -> int:
        rank = self.rank(index)
        if rank is None:
            raise UnwritableError(f"the rank of input {index} is unknown")
        return rank

    def shape(self, index: int = 0) -> list[int | None] | None:
        """Dimensions of an input, None for those that aren't fixed; None where even the rank is unknown."""
        value = self.value(index)
        if value is None or value.shape is None:
            return None
        return [d if isinstance(d, int) else None for d in value.shape]

    def symbols(self, index: int = 0) -> list[str] | None:
        """Names of the symbolic dimensions of an input, "" for the others; None where the rank is unknown."""
        return _symbols(self.value(index))

    def output_symbols(self, index: int = 0) -> list[str] | None:
        """As `symbols`, of an output."""
        return _symbols(self.ir.outputs[index])

    def output_dtype(self, index: int = 0) -> ir.DataType:
        dtype = self.ir.outputs[index].dtype
        if dtype is None:
            raise UnwritableError(f"the element type of output {index} is unknown")
        return dtype

    @property
    def outputs(self) -> int:
        """How many outputs the node lists."""
        return len(self.ir.outputs)

    def is_optional(self, index: int = 0) -> bool:
        """Whether an input may be None."""
        value = self.value(index)
        return value is not None and isinstance(value.type, ir.OptionalType)

    def branch_outputs(self, attribute: str) -> Sequence[ir.Value]:
        """What a subgraph gives."""
        return list(self.ir.attributes[attribute].as_graph().outputs)

    def wants(self, index: int) -> bool:
        """Whether anybody uses output `index`."""
        if index >= len(self.ir.outputs):
            return False
        value = self.ir.outputs[index]
        return bool(value.name) and (bool(value.uses()) or value.is_graph_output())

    # -- the forward -------------------------------------------------------------------------------------------------

    def recurrent(self) -> RecurrentModule | None:
        """The recurrent module of torch.nn that this node is, if there is one."""
        return self._forward.recurrent(self.ir)

    def pattern(self) -> Pattern | None:
        """The layer that the node is the last part of, if there is one."""
        return self._forward.pattern(self.ir)

    def module(self, build: str, tensors: Mapping[str, ir.Value]) -> str:
        """The expression of a layer that holds these tensors of the state_dict."""
        layer = self._forward.layer(build, tensors, frozenset())
        if layer is None:
            raise UnwritableError("its weights are also another layer's")
        return layer

    def input_of(self, node: ir.Node, index: int) -> str | None:
        """Another node's input as an expression; None where it is left out, or zeros alone."""
        value = node.inputs[index] if index < len(node.inputs) else None
        known = None if value is None else self._forward.known(value)
        if value is None or (known is not None and known.dtype != object and not known.any()):
            return None
        return self.tensor_of(node, index)

    def tensor_of(self, node: ir.Node, index: int) -> str:
        """Another node's input as an expression."""
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None:
            raise UnwritableError(f"input {index} is missing")
        return self._forward.tensor(value)

    def written(self, value: ir.Value, text: str) -> None:
        """The value is this already: what computes it in the graph isn't written."""
        self._forward.written(value, text)

    def once(self, text: str) -> None:
        """Writes a statement without a result, if the forward hasn't got it yet."""
        self._forward.body.once(text)

    def assign(self, text: str, hint: str = "") -> str:
        """Writes a statement of its own before the result's; returns its variable."""
        return self._forward.body.assign(text, hint=hint)

    def unpack(self, text: str, count: int) -> list[str]:
        """Writes `a, b = text`; returns the variables."""
        return self._forward.body.unpack(text, [""] * count)

    def size(self, text: str, hint: str = "size") -> Size:
        """Writes `size = text`, a Python int >= 0."""
        return Size(self._forward.body.assign(text, hint=hint, kind="int"))

    def function(self, name: str) -> str:
        """Puts a function of converters/writers/source/prelude into the file; returns its name."""
        self._forward.functions.add(name)
        return name

    @property
    def device(self) -> str:
        """An expression of the device that the model runs on."""
        return self._forward.device()

    def torch_dtype(self, dtype: ir.DataType) -> str:
        return torch_dtype(dtype)

    def tensor(self, array: NDArray[Any]) -> str:
        """A constant tensor."""
        return self._forward.constant(array)

    def branch(self, name: str, attribute: str) -> tuple[str, list[str]]:
        """A subgraph as a function inside the forward: its name and its lines."""
        graph = self.ir.attributes[attribute].as_graph()
        unique = self._forward.function_name(name)
        return unique, self._forward.branch(unique, graph)

    def inline(self, attribute: str) -> list[str]:
        """A subgraph without inputs, written where we are; the expressions of its outputs."""
        return self._forward.inline(self.ir.attributes[attribute].as_graph())

    def call(self, before: Sequence[str], text: str) -> list[str]:
        """Writes the lines of inner functions, then the call of them; returns the outputs' variables."""
        return self._forward.body.call(before, text, self.outputs)

    def parameter(self, value: ir.Value | None) -> str:
        """The expression of a value that isn't the node's own input."""
        if value is None:
            raise UnwritableError("an input is missing")
        return self._forward.tensor(value)

    def layer(self, build: str, roles: Mapping[str, int | ir.Value | None], buffers: Sequence[str] = ()) -> str | None:
        """`self.conv1`, made by `build`, if the inputs are exactly the tensors of one module of the state_dict; else None.

        build: the constructor's call without the closing parenthesis. roles: the module's tensors and the inputs (or values)
        that they come from, None for one that is absent. buffers: which of them the module holds as buffers.
        """
        wanted = {}
        for role, index in roles.items():
            if index is None:
                continue
            value = index if isinstance(index, ir.Value) else self.value(index)
            if value is None or not self._forward.is_parameter(value):
                return None
            wanted[role] = value
        return self._forward.layer(build, wanted, frozenset(buffers))

    def plain_layer(self, build: str, name: str) -> str:
        """A torch.nn layer without tensors, at the node's own path where that is free; name: what it is called elsewhere."""
        return self._forward.plain_layer(build, name)


def _symbols(value: ir.Value | None) -> list[str] | None:
    if value is None or value.shape is None:
        return None
    return ["" if isinstance(d, int) else str(d.value or "") for d in value.shape]


def arguments(*positional: Any, **named: Any) -> str:
    """`3, 64, 7, stride=2`: what is None is left out."""
    return ", ".join([str(p) for p in positional] + [f"{key}={value}" for key, value in named.items() if value is not None])


def pair(values: Sequence[int]) -> str:
    """One number where all are the same, as one would write it; else a tuple."""
    return str(int(values[0])) if len(set(values)) == 1 else str(tuple(int(v) for v in values))
