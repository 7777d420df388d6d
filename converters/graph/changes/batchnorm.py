"""Batch normalizations put into the layers before them, for nets that only answer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.errors import ConversionError
from converters.graph.changes.layers import Array, initializer, note, numbers_of, replace_numbers
from converters.graph.names import Names
from converters.graph.passes import order_initializers, remove_unused


def fold_batchnorm(model: ir.Model) -> str:
    """Makes each batch normalization part of the convolution or linear layer whose output it alone reads. Says what was done.

    Weight and bias are worked out in float64; the value keeps the normalization's name. One behind anything else, behind weights that
    layers share, or one whose layer's own output somebody reads, stays. Raises ConversionError where there is none to fold.
    """
    graph = model.graph
    names = Names(graph.initializers)
    folded, left = 0, 0
    for node in list(graph):
        if node.domain or node.op_type != "BatchNormalization" or node.attributes.get_int("training_mode"):
            continue
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        axis = None if before is None else _axis_of_outputs(graph, before)
        if before is None or axis is None or len(node.outputs) > 1 or any(_own(graph, value) is None for value in node.inputs[1:5]):
            left += 1
            continue
        _fold(graph, before, node, axis, names)
        folded += 1
    if not folded:
        raise ConversionError("there is no batch normalization to fold: none is behind a convolution or a linear layer of its own weights")
    remove_unused(model)
    order_initializers(model)
    rest = f"; {left} {'is' if left == 1 else 'are'} behind other layers, and stay" if left else ""
    sentence = f"{folded} batch normalizations are part of the weights before them{rest}."
    note(model, sentence)
    return sentence


def _own(graph: ir.Graph, value: ir.Value | None) -> Array | None:
    """An initializer's numbers."""
    if value is None or graph.initializers.get(str(value.name)) is not value or value.const_value is None:
        return None
    return numbers_of(value)


def _axis_of_outputs(graph: ir.Graph, node: ir.Node) -> int | None:
    """The axis of a layer's weight that its outputs are in; None where a normalization behind it can't become part of it."""
    y, held = node.outputs[0], [value for value in node.inputs[1:] if value is not None]
    if node.domain or len(y.uses()) != 1 or y.is_graph_output() or not held:
        return None
    if any(_own(graph, value) is None or len(value.uses()) != 1 or value in graph.inputs for value in held):
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose" and node.attributes.get_int("group", 1) == 1:
        return 1
    is_linear = node.op_type == "Gemm" and node.attributes.get_float("alpha", 1.0) == 1 == node.attributes.get_float("beta", 1.0)
    if not is_linear or (len(held) == 2 and len(held[1].shape or ()) != 1):
        return None
    return 0 if node.attributes.get_int("transB", 0) else 1


def _fold(graph: ir.Graph, node: ir.Node, normalization: ir.Node, axis: int, names: Names) -> None:
    scale, shift, mean, variance = (numbers_of(value) for value in normalization.inputs[1:5] if value is not None)
    factor = scale / np.sqrt(variance + (normalization.attributes.get_float("epsilon", 1e-5) or 0.0))
    weight = node.inputs[1]
    assert weight is not None
    numbers = numbers_of(weight)
    replace_numbers(weight, numbers * factor.reshape([-1 if at == axis else 1 for at in range(numbers.ndim)]))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    moved = ((0.0 if bias is None else numbers_of(bias)) - mean) * factor + shift
    if bias is not None:
        replace_numbers(bias, moved)
    else:
        kind = weight.dtype.numpy() if weight.dtype is not None else np.dtype(np.float32)
        name = names.free(f"{str(weight.name).rpartition('.')[0]}.bias".lstrip("."))
        node.resize_inputs(3)
        node.replace_input_with(2, initializer(graph, name, moved.astype(kind)))
    old, new = normalization.outputs[0], node.outputs[0]
    name = str(old.name)
    old.name = f"{name}_folded"
    new.name = name
    new.shape, new.type = old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(normalization, safe=True)
