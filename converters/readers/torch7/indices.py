"""Lua's indices, which count from 1, as ONNX's, which count from 0."""

from __future__ import annotations

import onnx_ir as ir

from converters.graph.builder import GraphBuilder

_MOVES = frozenset(("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Flatten", "Expand"))


class IntegerInputError(Exception):
    """An input of the net holds indices: it has to be int64."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def from_one(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """Indices that count from 1, of whatever dtype, as int64 that count from 0."""
    if x.dtype != ir.DataType.INT64:
        origin = x
        while (node := origin.producer()) is not None and node.op_type in _MOVES and node.inputs[0] is not None:
            origin = node.inputs[0]
        if origin.is_graph_input() and origin.dtype == ir.DataType.FLOAT and getattr(g, "integer_inputs", False):
            raise IntegerInputError(str(origin.name))
        x = g.emit("Cast", x, to=int(ir.DataType.INT64))
    return g.emit("Sub", x, 1)
