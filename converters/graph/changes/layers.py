"""What all changes do: name a layer, look at its numbers, replace them, and note what was done."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError, printable
from converters.graph.provenance import NOTES, source_of

Array = NDArray[Any]


def note(model: ir.Model, sentence: str) -> None:
    """Writes down what the files that the model is saved as shall say of it."""
    model.metadata_props[NOTES] = json.dumps([*json.loads(model.metadata_props.get(NOTES, "[]")), sentence])


def layer_name(node: ir.Node) -> str:
    return printable(source_of(node).partition(" ")[2] or str(node.outputs[0].name))


def numbers_of(value: ir.Value) -> NDArray[np.float64]:
    if value.const_value is None:
        raise ConversionError(f"{value.name} has no numbers")
    return value.const_value.numpy().astype(np.float64)


def replace_numbers(value: ir.Value, array: Array) -> None:
    kind = value.dtype.numpy() if value.dtype is not None else array.dtype
    value.const_value = ir.Tensor(np.ascontiguousarray(array, kind), name=value.name)
    value.shape = ir.Shape(array.shape)


def initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """A new parameter of the graph."""
    tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
