"""What a rule of an operator set works with: the registries of rules, and `Site`, which writes nodes in front of the one at hand.

A rule is one function per operator and version: `@older("Softmax", since=13)` says what a Softmax of set 13 or newer is in sets before
13, `@newer("Softmax", since=13)` what one of a set before 13 is in set 13. It answers the value (or values) that stand for the node's
outputs, or None where the node itself, perhaps changed, says it. What it writes is in the set that it leads to; sets further away
are reached by the next rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx.checker
import onnx.shape_inference
import onnx_ir as ir
from numpy.typing import NDArray

from converters.graph.inference import attribute, infer
from converters.registry import NoFacts, Registry

Answer: TypeAlias = "ir.Value | Sequence[ir.Value | None] | None"
Rule: TypeAlias = "Callable[[Site, ir.Node], Answer]"
Operand: TypeAlias = "ir.Value | NDArray[Any] | np.generic | float | Sequence[int] | None"

_TOPICS = "converters.writers.onnx.opsets.rules"
OLDER: Registry[Rule, NoFacts] = Registry("rule for older operator sets", NoFacts, _TOPICS)
NEWER: Registry[Rule, NoFacts] = Registry("rule for newer operator sets", NoFacts, _TOPICS)


def older(*names: str, since: int) -> Callable[[Rule], Rule]:
    """Registers what operators of set `since` or newer are in the sets before it."""
    return OLDER(*(f"{name}-{since}" for name in names))


def newer(*names: str, since: int) -> Callable[[Rule], Rule]:
    """Registers what operators of the sets before `since` are in it."""
    return NEWER(*(f"{name}-{since}" for name in names))


class RefusedError(Exception):
    """An operator set can't say what a node says; the text is the reason alone."""


class Site:
    """The place in front of one node, where a rule writes others in operator set `opset`."""

    def __init__(self, node: ir.Node, opset: int, unique: Callable[[str], str]) -> None:
        self.node = node
        self.opset = opset
        self.emitted: list[ir.Node] = []
        self._unique = unique

    # -- writing -----------------------------------------------------------------------------------------------------

    def emit(self, op_type: str, *operands: Operand, **attributes: Any) -> ir.Value:
        """One node with one output; operands as in GraphBuilder.emit, attributes as Python values or ir.Attr (None: left out)."""
        return self.emit_all(op_type, *operands, outputs=1, **attributes)[0]

    def emit_all(self, op_type: str, *operands: Operand, outputs: int, **attributes: Any) -> list[ir.Value]:
        """One node with several outputs."""
        first = next((o for o in operands if isinstance(o, ir.Value) and o.dtype not in (None, ir.DataType.BOOL)), None)
        inputs = [self._operand(operand, first) for operand in operands]
        while inputs and inputs[-1] is None:
            inputs.pop()
        base = f"{self.node.outputs[0].name}_{op_type}"
        values = [ir.Value(name=self._unique(base)) for _ in range(outputs)]
        given = [v if isinstance(v, ir.Attr) else attribute(k, v) for k, v in attributes.items() if v is not None]
        node = ir.Node("", op_type, inputs, given, outputs=values, name=values[0].name, metadata_props=dict(self.node.metadata_props))
        try:
            # the type of what another domain's operator makes may be unknown, and then so is that of what is made of it
            if all(value is None or value.dtype is not None for value in inputs):
                infer(node, self.opset)
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as problem:
            raise self.refusal(f"ONNX's inference of {op_type} fails: {str(problem).strip()[:200]}") from problem
        self._insert(node)
        return values

    def again(self, *operands: Operand, **changes: Any) -> list[ir.Value]:
        """The node at hand once more, with these inputs and these attributes changed (None: left out)."""
        attributes = {**self.node.attributes, **changes}
        values = self.emit_all(self.node.op_type, *operands, outputs=len(self.node.outputs), **attributes)
        for value, before in zip(values, self.node.outputs, strict=True):
            value.shape, value.type = before.shape or value.shape, before.type or value.type
        return values

    def constant(self, array: Any, dtype: Any = None) -> ir.Value:
        """A Constant node."""
        data = np.array(array, dtype=dtype)
        tensor = ir.Tensor(data, name=self._unique(f"{self.node.outputs[0].name}_constant"))
        value = ir.Value(name=tensor.name, shape=ir.Shape(data.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self._insert(ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[value], name=tensor.name))
        return value

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        return value if value.dtype == dtype else self.emit("Cast", value, to=int(dtype))

    def squeeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        return self.emit("Squeeze", value, list(axes)) if self.opset >= 13 else self.emit("Squeeze", value, axes=list(axes))

    def unsqueeze(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        return self.emit("Unsqueeze", value, list(axes)) if self.opset >= 13 else self.emit("Unsqueeze", value, axes=list(axes))

    def reduce(self, op_type: str, value: ir.Value, axes: Sequence[int], *, keepdims: bool = True) -> ir.Value:
        """Any of ONNX's reductions over these axes."""
        if self.opset >= (13 if op_type == "ReduceSum" else 18):
            return self.emit(op_type, value, list(axes), keepdims=int(keepdims))
        return self.emit(op_type, value, axes=list(axes), keepdims=int(keepdims))

    def part(self, value: ir.Value, start: int, end: int, axis: int = 0) -> ir.Value:
        """value[start:end] along an axis."""
        if self.opset >= 10:
            return self.emit("Slice", value, [start], [end], [axis])
        return self.emit("Slice", value, starts=[start], ends=[end], axes=[axis])

    def _operand(self, operand: Operand, first: ir.Value | None) -> ir.Value | None:
        if operand is None or isinstance(operand, ir.Value):
            return operand
        if isinstance(operand, np.ndarray | np.generic):
            return self.constant(operand)
        if isinstance(operand, int | float):
            return self.constant(operand, first.dtype.numpy() if first is not None and first.dtype is not None else np.float32)
        return self.constant(list(operand), np.int64)

    def _insert(self, node: ir.Node) -> None:
        self.emitted.append(node)
        self.node.prepend(node)

    # -- asking ------------------------------------------------------------------------------------------------------

    def input(self, index: int) -> ir.Value | None:
        """The node's input, None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def x(self, index: int = 0) -> ir.Value:
        """An input that every such node has."""
        value = self.input(index)
        if value is None:
            raise self.refusal(f"input {index} is left out")
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value (text as str), or the default."""
        found = self.node.attributes.get(name)
        return default if found is None else found.value

    def number(self, value: ir.Value | None) -> NDArray[Any] | None:
        """The elements of an initializer or a constant; None for anything that is computed."""
        if value is None:
            return None
        tensor = value.const_value
        producer = value.producer()
        if tensor is None and producer is not None and producer.op_type == "Constant":
            tensor = ir.convenience.get_const_tensor(value)
        return None if tensor is None else tensor.numpy()

    def integers(self, index: int, what: str) -> list[int]:
        """An input's elements, which an older operator wants as an attribute. Refuses what is computed."""
        array = self.number(self.x(index))
        if array is None:
            raise self.refusal(f"its {what} are computed when the net runs, and there they are an attribute")
        return [int(number) for number in array.reshape(-1)]

    def rank(self, value: ir.Value) -> int:
        if value.shape is None:
            raise self.refusal(f"the rank of {value.name} isn't known")
        return len(value.shape)

    def dims(self, value: ir.Value) -> list[int | None]:
        """The dimensions, None where they are known only when the net runs."""
        self.rank(value)
        return [d if isinstance(d, int) else None for d in value.shape or ()]

    def axis(self, value: ir.Value, axis: int) -> int:
        """The axis counted from the front."""
        return axis + self.rank(value) if axis < 0 else axis

    def dtype(self, value: ir.Value) -> ir.DataType:
        if value.dtype is None:
            raise self.refusal(f"the type of {value.name} isn't known")
        return value.dtype

    def refusal(self, reason: str) -> RefusedError:
        """What a rule raises where the set that it leads to can't say the same; the reason speaks of "older sets" or "newer sets"."""
        return RefusedError(reason)
