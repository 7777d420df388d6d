"""A graph in another floating-point type: weights, constants and values alike, with casts where an operator or the user wants another."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx.defs
import onnx_ir as ir

from converters.errors import ConversionError, printable
from converters.graph.provenance import PATH, SOURCE, source_of

TYPES = {
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
}
_FLOATS = frozenset(TYPES.values())
_NAMES = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16", ir.DataType.FLOAT: "float", ir.DataType.DOUBLE: "double"}


def in_precision(model: ir.Model, dtype: str, io_dtype: str | None = None, *, onnx: bool = True) -> tuple[ir.Model, int]:
    """A copy of the model that computes in `dtype`, and how many of its numbers became infinite.

    dtype: one of TYPES. io_dtype: of inputs and outputs, where they are to stay in another. onnx: what ONNX doesn't define in that type is
    computed in float32 between casts; PyTorch computes all in it. Raises ConversionError for an unknown type and for a net with loops or
    branches.
    """
    for name in (dtype, io_dtype):
        if name is not None and name not in TYPES:
            raise ConversionError(f"there is no floating-point type '{printable(name)}' to write", hint=f"use {', '.join(TYPES)}")
    made = model.clone()
    converter = _Converter(made, TYPES[dtype], onnx)
    converter.convert(None if io_dtype is None else TYPES[io_dtype])
    return made, converter.overflowed


class _Converter:
    def __init__(self, model: ir.Model, wanted: ir.DataType, onnx: bool) -> None:
        self.model, self.graph, self.wanted, self.onnx = model, model.graph, wanted, onnx
        self.opset = int(self.graph.opset_imports.get("", 1))
        self.overflowed = 0
        self.kept: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.names = {str(value.name) for node in self.graph for value in node.outputs} | set(self.graph.initializers)

    def convert(self, io_dtype: ir.DataType | None) -> None:
        """Converts in place."""
        for node in self.graph:
            if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
                where = source_of(node) or node.op_type
                raise ConversionError(f"{printable(where)}: a net with a loop or a branch isn't written in another type")
        ends = [(value, value.dtype) for value in self.graph.outputs]
        given = [value for value in self.graph.inputs if value.dtype in _FLOATS and value.name not in self.graph.initializers]
        nodes = list(self.graph)
        self._numbers(nodes)
        for node in nodes:
            self._node(node)
        for value in given:
            if io_dtype is None or io_dtype == self.wanted:
                value.type = ir.TensorType(self.wanted)
            else:
                value.type = ir.TensorType(io_dtype)
                self._cast_input(value)
        if io_dtype is not None and io_dtype != self.wanted:
            for position, (value, before) in enumerate(ends):
                if before in _FLOATS:
                    self._cast_output(position, value, io_dtype)

    def _numbers(self, nodes: Iterable[ir.Node]) -> None:
        """Initializers and constants that some operator takes in the wanted type; settings stay as they are."""
        settings = {value for node in nodes for i, value in enumerate(node.inputs) if value is not None and self._is_setting(node, i)}
        for name, value in self.graph.initializers.items():
            if value.dtype in _FLOATS and value.const_value is not None and value not in settings:
                self._set_constant(value, self._converted(value.const_value, name))
        for node in nodes:
            if node.op_type == "Constant" and node.outputs[0].dtype in _FLOATS and node.outputs[0] not in settings:
                constant = node.outputs[0].const_value
                if constant is not None:
                    tensor = self._converted(constant, node.name or "value")
                    node.attributes.clear()
                    node.attributes["value"] = ir.AttrTensor("value", tensor)
                    self._set_constant(node.outputs[0], tensor)

    def _converted(self, tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
        before = tensor.numpy()
        with np.errstate(over="ignore"):
            after = np.ascontiguousarray(before).astype(self.wanted.numpy()).reshape(before.shape)
        self.overflowed += int((~np.isfinite(after.astype(np.float64))).sum() - (~np.isfinite(before.astype(np.float64))).sum())
        return ir.Tensor(after, dtype=self.wanted, name=name)

    def _set_constant(self, value: ir.Value, tensor: ir.TensorProtocol) -> None:
        value.const_value, value.type = tensor, ir.TensorType(self.wanted)

    # -- operators ---------------------------------------------------------------------------------------------------

    def _is_setting(self, node: ir.Node, position: int) -> bool:
        """Whether an input's type is float32 by the operator's definition, whatever the others are."""
        schema = self._schema(node)
        if schema is None or not schema.inputs:
            return False
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        return set(formal.types) == {"tensor(float)"}

    def _schema(self, node: ir.Node) -> onnx.defs.OpSchema | None:
        try:
            return onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        except onnx.defs.SchemaError:
            return None

    def _node(self, node: ir.Node) -> None:
        if node.op_type == "Constant":
            return
        for name in ("to", "dtype"):
            if (stated := node.attributes.get(name)) is not None and stated.type == ir.AttributeType.INT and stated.as_int() in _FLOATS:
                node.attributes[name] = ir.AttrInt64(name, int(self.wanted))
        if node.op_type == "ConstantOfShape" and "value" in node.attributes and node.outputs[0].dtype in _FLOATS:
            tensor = node.attributes["value"].as_tensor()
            node.attributes["value"] = ir.AttrTensor("value", self._converted(tensor, "value"))
        is_known = not self.onnx or self._allows(node)
        for position, value in enumerate(node.inputs):
            if value is not None and value.dtype in _FLOATS and not is_known and not self._is_setting(node, position):
                node.replace_input_with(position, self._cast(node, value, ir.DataType.FLOAT))
        for value in node.outputs:
            if value.dtype in _FLOATS:
                if is_known:
                    value.type = ir.TensorType(self.wanted)
                else:
                    self._cast_back(node, value)

    def _allows(self, node: ir.Node) -> bool:
        """Whether ONNX defines the operator in the wanted type."""
        schema = self._schema(node)
        if schema is None:
            return True
        name = f"tensor({_NAMES[self.wanted]})"
        formals = [(value, schema.inputs[min(i, len(schema.inputs) - 1)]) for i, value in enumerate(node.inputs) if schema.inputs]
        formals += [(value, schema.outputs[min(i, len(schema.outputs) - 1)]) for i, value in enumerate(node.outputs) if schema.outputs]
        return all(
            name in formal.types or set(formal.types) == {"tensor(float)"}
            for value, formal in formals
            if value is not None and value.dtype in _FLOATS
        )

    # -- casts -------------------------------------------------------------------------------------------------------

    def _new(self, like: ir.Node | None, value: ir.Value, dtype: ir.DataType, out: ir.Value | None = None) -> ir.Node:
        name = f"{value.name}_{_NAMES[dtype]}"
        while name in self.names:
            name += "_"
        self.names.add(name)
        made = out or ir.Value(name=name, shape=value.shape)
        made.type = ir.TensorType(dtype)
        node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))], outputs=[made], name=name)
        if like is not None:
            node.metadata_props.update({key: like.metadata_props[key] for key in (SOURCE, PATH) if key in like.metadata_props})
        return node

    def _cast(self, node: ir.Node, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The value in another type, cast once; it has the wanted one when the net runs."""
        if (value, dtype) not in self.kept:
            made = self._new(node, value, dtype)
            self.graph.insert_before(node, made)
            self.kept[value, dtype] = made.outputs[0]
        return self.kept[value, dtype]

    def _cast_back(self, node: ir.Node, value: ir.Value) -> None:
        """An output that is float32: what used it takes it in the wanted type; a graph output keeps its name."""
        inner = ir.Value(name=f"{value.name}_full", shape=value.shape, type=ir.TensorType(ir.DataType.FLOAT))
        uses = list(value.uses())
        made = self._new(node, inner, self.wanted, ir.Value(name="", shape=value.shape))
        after = made.outputs[0]
        for user, position in uses:
            user.replace_input_with(position, after)
        self.graph.insert_after(node, made)
        for position, end in enumerate(self.graph.outputs):
            if end is value:
                self.graph.outputs[position] = after
        name, value.name = value.name, inner.name
        value.type = inner.type
        made.replace_input_with(0, value)
        after.name = name

    def _cast_input(self, value: ir.Value) -> None:
        uses = list(value.uses())
        made = self._new(None, value, self.wanted)
        first = next((node for node in self.graph), None)
        for user, position in uses:
            user.replace_input_with(position, made.outputs[0])
        if first is not None:
            self.graph.insert_before(first, made)

    def _cast_output(self, position: int, value: ir.Value, dtype: ir.DataType) -> None:
        end = self.graph.outputs[position]
        name = end.name
        end.name = f"{name}_{_NAMES[self.wanted]}"
        made = self._new(None, end, dtype, ir.Value(name=name, shape=end.shape))
        self.graph.append(made)
        self.graph.outputs[position] = made.outputs[0]
