"""Rows of the table of TensorFlow's operators: a graph of one operator, made here, and a numpy formula of what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from converters.schemas import tensorflow_pb2 as pb

import converters

TYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int8": 6, "int64": 9, "bool": 10, "float16": 19}


def tensor(array: np.ndarray) -> pb.TensorProto:
    """A TensorProto with the array's bytes."""
    proto = pb.TensorProto(dtype=TYPES[array.dtype.name], tensor_content=np.ascontiguousarray(array).tobytes())
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def node(graph: pb.GraphDef, name: str, op: str, *inputs: str, **attributes: Any) -> pb.NodeDef:
    """Adds a node; attributes by their Python types: text, bool, int, float, lists of int or text, shapes as tuples, arrays, types."""
    made = graph.node.add(name=name, op=op, input=inputs)
    for key, value in attributes.items():
        attr = made.attr[key]
        if isinstance(value, np.ndarray):
            attr.tensor.CopyFrom(tensor(value))
        elif isinstance(value, np.dtype):
            attr.type = TYPES[value.name]
        elif isinstance(value, bool):
            attr.b = value
        elif isinstance(value, int):
            attr.i = value
        elif isinstance(value, float):
            attr.f = value
        elif isinstance(value, str):
            attr.s = value.encode()
        elif isinstance(value, tuple):  # a shape
            attr.shape.SetInParent()
            for size in value:
                attr.shape.dim.add(size=-1 if size is None else size)
        elif value and isinstance(value[0], str):
            attr.list.s.extend(text.encode() for text in value)
        else:
            attr.list.i.extend(value)
    return made


@dataclass(frozen=True)
class OperatorCase:
    """A row. inputs: for each operand a shape (an input of the graph, its first axis open) or an array (a constant).

    expect: the formula, which gets everything as TensorFlow has it. attributes: as `node` takes them. outputs: how many there are.
    """

    op: str
    inputs: Sequence[tuple[int, ...] | np.ndarray]
    expect: Callable[..., Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    span: tuple[float, float] = (-2, 2)
    tolerance: float = 1e-5
    name: str = ""
    fixed: bool = False
    dtype: str = "float32"
    grows = False

    @property
    def id(self) -> str:
        words = self.name or ",".join(f"{key}={value}" for key, value in self.attributes.items() if not isinstance(value, np.dtype))
        return f"{self.op}-{words}" if words else self.op

    def __str__(self) -> str:
        return self.id

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Images as the converted net takes them, (N, C, H, W)."""
        given = [shape for shape in self.inputs if isinstance(shape, tuple)]
        return [(shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape for shape in given]

    def graph(self) -> pb.GraphDef:
        graph, names = pb.GraphDef(), []
        for position, operand in enumerate(self.inputs):
            if isinstance(operand, tuple):
                shape = operand if self.fixed else (None, *operand[1:])
                node(graph, f"x{position}", "Placeholder", dtype=np.dtype(self.dtype), shape=shape)
                names.append(f"x{position}")
            else:
                node(graph, f"scope/c{position}", "Const", dtype=operand.dtype, value=np.asarray(operand))
                names.append(f"scope/c{position}")
        node(graph, "y", self.op, *names, **self.attributes)
        return graph

    def load(self, folder: Path) -> ir.Model:
        path = folder / "graph.pb"
        path.write_bytes(self.graph().SerializeToString())
        return converters.load(path, outputs=["y", *(f"y:{i}" for i in range(1, self.outputs))])

    def expected(self, *inputs: np.ndarray) -> list[Any]:
        live = iter(inputs)
        operands = [_nhwc(next(live)).astype(self.dtype) if isinstance(x, tuple) else x for x in self.inputs]
        answer = self.expect(*operands)
        return [_nchw(np.asarray(a)) for a in (answer if isinstance(answer, tuple) else (answer,))]


def _nhwc(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def _nchw(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2) if array.ndim == 4 else array
