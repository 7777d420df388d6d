"""A fresh last layer in place of a net's classifier."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.errors import ConversionError
from converters.graph.changes.layers import layer_name, note, numbers_of, replace_numbers

_BEHIND = frozenset(
    "Add AveragePool Dropout Flatten GlobalAveragePool Identity LogSoftmax Relu Sigmoid Softmax Squeeze Unsqueeze Clip Exp Log".split()
)
"""What may stand behind a classifier and takes any number of classes."""


def replace_classifier(model: ir.Model, classes: int) -> str:
    """Gives the last linear layer (or convolution of 1 x 1) fresh random weights of so many classes. Says what was done.

    The weights are those of a new torch.nn.Linear, from a fixed seed: uniform within 1 / sqrt(features). Keys stay.
    Raises ConversionError where the last layer with weights is none, is used twice, or where what follows takes its classes alone.
    """
    graph = model.graph
    if classes < 1:
        raise ConversionError(f"a classifier of {classes} classes answers nothing", hint="give 1 or more")
    node = _last_linear(graph)
    weight = node.inputs[1]
    assert weight is not None
    axis = 1 if node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attributes.get_int("transB", 0)) else 0
    shape = list(weight.const_value.shape.numpy()) if weight.const_value is not None else []
    before, features = shape[axis], math.prod(size for place, size in enumerate(shape) if place != axis)
    held = [weight, *_biases(node, graph, before)]
    if any(len(value.uses()) != 1 for value in held):
        raise ConversionError(f"{layer_name(node)}: its weights are used elsewhere too; they can't be replaced")
    generator = np.random.default_rng(0)
    for value in held:
        own = numbers_of(value).shape
        place = axis if value is weight else own.index(before)
        sizes = (*own[:place], classes, *own[place + 1 :])
        replace_numbers(value, generator.uniform(-1, 1, sizes) / math.sqrt(features))
    _resize(node, before, classes)
    sentence = f"{layer_name(node)} is a fresh layer of {classes} classes (it had {before}): its weights are random and have to be trained."
    note(model, sentence)
    return sentence


def _last_linear(graph: ir.Graph) -> ir.Node:
    for node in reversed(list(graph)):
        held = [value for value in node.inputs if value is not None and graph.initializers.get(str(value.name)) is value]
        if not held or (node.op_type == "Add" and _is_bias(node)):
            continue
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        is_linear = node.op_type in ("Gemm", "MatMul") or (node.op_type == "Conv" and all(d == 1 for d in numbers_of(held[0]).shape[2:]))
        if weight in held and is_linear and node.attributes.get_int("group", 1) == 1:
            return node
        raise ConversionError(f"the last layer with weights is {layer_name(node)} ({node.op_type}), which is no linear layer")
    raise ConversionError("the net has no linear layer whose classes could be replaced")


def _is_bias(node: ir.Node) -> bool:
    """Whether an Add is the bias of a product before it."""
    producers = [value.producer() for value in node.inputs if value is not None]
    return any(producer is not None and producer.op_type in ("MatMul", "Gemm", "Conv") for producer in producers)


def _biases(node: ir.Node, graph: ir.Graph, classes: int) -> list[ir.Value]:
    found = [value for value in node.inputs[2:] if value is not None]
    for use in node.outputs[0].uses():
        if use.node.op_type == "Add" and _is_bias(use.node):
            found += [value for value in use.node.inputs if value is not None and graph.initializers.get(str(value.name)) is value]
    if any(value.const_value is None or value.const_value.size != classes for value in found):
        raise ConversionError(f"{layer_name(node)}: its bias isn't one number for each class")
    return found


def _resize(node: ir.Node, before: int, classes: int) -> None:
    """The shapes behind the classifier. Raises ConversionError for a layer that takes the old number of classes alone."""
    waiting, seen = [node], set()
    while waiting:
        current = waiting.pop()
        for value in current.outputs:
            if value.shape is not None:
                value.shape = ir.Shape([classes if dim == before else dim for dim in value.shape])
            for use in value.uses():
                if use.node not in seen:
                    seen.add(use.node)
                    if use.node.op_type not in _BEHIND and not (use.node.op_type == "Reshape" and not _names_size(use.node, before)):
                        raise ConversionError(
                            f"{layer_name(use.node)} ({use.node.op_type}) behind the classifier takes its {before} classes"
                        )
                    waiting.append(use.node)


def _names_size(node: ir.Node, size: int) -> bool:
    target = node.inputs[1].const_value if node.inputs[1] is not None else None
    return target is None or size in target.numpy().tolist()
