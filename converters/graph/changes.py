"""Changes to a finished net that its user asks for: the preprocessing put into it, and a fresh classifier. Both in place."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError, Source, printable
from converters.graph.names import Names
from converters.graph.passes import order_initializers
from converters.graph.provenance import NOTES, note_source, source_of

Array = NDArray[Any]


def note(model: ir.Model, sentence: str) -> None:
    """Writes down what the files that the model is saved as shall say of it."""
    model.metadata_props[NOTES] = json.dumps([*json.loads(model.metadata_props.get(NOTES, "[]")), sentence])


def fold_input(model: ir.Model, scale: Array, shift: Array, order: Sequence[int]) -> str:
    """Makes the net take raw pixels: its channel c becomes scale[c] * pixel[order[c]] + shift[c]. Says what was done.

    It goes into the weights of the first convolution, exactly, where that sees no padding: zeros around the image aren't pixels.
    Else it becomes a convolution of 1 x 1 before. Raises ConversionError for a net of other inputs than one batch of images.
    """
    graph = model.graph
    images = [value for value in graph.inputs if value.name not in graph.initializers]
    x = images[0] if images else None
    if x is None or len(images) != 1 or x.shape is None or len(x.shape) != 4 or x.dtype is None or not x.dtype.is_floating_point():
        raise ConversionError("preprocessing can be folded into nets of one input (N, C, H, W) of floating-point numbers alone")
    if x.shape[1] != len(order):
        raise ConversionError(f"the net takes {x.shape[1]} channels, the preprocessing gives {len(order)}")
    users = list(x.uses())
    first = users[0].node if users else None
    if len(users) == 1 and first is not None and users[0].idx == 0 and (weight := _own_weight(first, graph)) is not None:
        if not _pads(first):
            _into_convolution(graph, first, weight, scale, shift, order)
            order_initializers(model)
            sentence = f"The preprocessing of its pixels is part of the weights of {_layer_name(first)}: it takes RGB from 0 to 255."
            sentence = sentence if len(order) > 1 else sentence.replace("RGB", "gray")
            note(model, sentence)
            return sentence
        why = f"{_layer_name(first)} pads the image with zeros, which are no pixels"
    else:
        why = "its first layer is no convolution of its own weights"
    path = _before(graph, x, scale, shift, order)
    order_initializers(model)
    sentence = f"The preprocessing of its pixels is the layer {path} before the net, as {why}; it takes {_colors(order)} from 0 to 255."
    note(model, sentence)
    return sentence


def _colors(order: Sequence[int]) -> str:
    return "RGB" if len(order) > 1 else "gray"


def _own_weight(node: ir.Node, graph: ir.Graph) -> ir.Value | None:
    """A plain convolution's weight, where no other node reads it or its bias."""
    held = [value for value in node.inputs[1:] if value is not None]
    is_plain = node.op_type == "Conv" and not node.domain and node.attributes.get_int("group", 1) == 1
    own = all(graph.initializers.get(str(value.name)) is value and len(value.uses()) == 1 for value in held)
    return held[0] if is_plain and own and held else None


def _pads(node: ir.Node) -> bool:
    automatic = node.attributes.get_string("auto_pad", "NOTSET")
    return automatic not in ("NOTSET", "VALID") or any(node.attributes.get_ints("pads", ()) or ())


def _layer_name(node: ir.Node) -> str:
    return printable(source_of(node).partition(" ")[2] or str(node.outputs[0].name))


def _into_convolution(graph: ir.Graph, node: ir.Node, weight: ir.Value, scale: Array, shift: Array, order: Sequence[int]) -> None:
    before = _numbers(weight)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    more = np.tensordot(before.sum(axis=tuple(range(2, before.ndim))), np.asarray(shift, np.float64), axes=([1], [0]))
    scaled = before * np.asarray(scale, np.float64).reshape(1, -1, *[1] * (before.ndim - 2))
    after = np.zeros_like(scaled)
    for channel, pixel in enumerate(order):
        after[:, pixel] += scaled[:, channel]
    _set(weight, after)
    if bias is not None:
        _set(bias, _numbers(bias) + more)
        return
    name = f"{str(weight.name).rpartition('.')[0]}.bias".lstrip(".")
    value = _initializer(graph, Names(graph.initializers).free(name), more.astype(weight.dtype.numpy()))  # type: ignore[union-attr]
    node.resize_inputs(3)
    node.replace_input_with(2, value)


def _before(graph: ir.Graph, x: ir.Value, scale: Array, shift: Array, order: Sequence[int]) -> str:
    """A 1x1 convolution between the input and those that read it; returns its path."""
    taken = {part for name in graph.initializers for part in (name.partition(".")[0],)}
    values = [str(value.name) for node in graph.all_nodes() for value in node.outputs]
    path = Names([*taken, *values, str(x.name)]).free("preprocess")
    kind = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)
    matrix = np.zeros((len(order), len(order), 1, 1), np.float64)
    for channel, pixel in enumerate(order):
        matrix[channel, pixel, 0, 0] = scale[channel]
    parameters = [
        _initializer(graph, f"{path}.{role}", array.astype(kind)) for role, array in (("weight", matrix), ("bias", np.asarray(shift)))
    ]
    y = ir.Value(name=path, shape=x.shape, type=x.type)
    node = ir.Node("", "Conv", [x, *parameters], [ir.AttrInt64s("kernel_shape", [1, 1])], outputs=[y], name=path)
    note_source(node, Source("preprocessing", "layer", path, "scale, mean and order of channels"), path)
    for user, index in [(use.node, use.idx) for use in x.uses() if use.node is not node]:
        user.replace_input_with(index, y)
    graph.insert_before(graph[0], node)
    return path


def _numbers(value: ir.Value) -> NDArray[np.float64]:
    if value.const_value is None:
        raise ConversionError(f"{value.name} has no numbers")
    return value.const_value.numpy().astype(np.float64)


def _set(value: ir.Value, array: Array) -> None:
    kind = value.dtype.numpy() if value.dtype is not None else array.dtype
    value.const_value = ir.Tensor(np.ascontiguousarray(array, kind), name=value.name)
    value.shape = ir.Shape(array.shape)


def _initializer(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


# -- a fresh classifier ---------------------------------------------------------------------------------------------------

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
        raise ConversionError(f"{_layer_name(node)}: its weights are used elsewhere too; they can't be replaced")
    generator = np.random.default_rng(0)
    for value in held:
        own = _numbers(value).shape
        place = axis if value is weight else own.index(before)
        sizes = (*own[:place], classes, *own[place + 1 :])
        _set(value, generator.uniform(-1, 1, sizes) / math.sqrt(features))
    _resize(node, before, classes)
    sentence = (
        f"{_layer_name(node)} is a fresh layer of {classes} classes (it had {before}): its weights are random and have to be trained."
    )
    note(model, sentence)
    return sentence


def _last_linear(graph: ir.Graph) -> ir.Node:
    for node in reversed(list(graph)):
        held = [value for value in node.inputs if value is not None and graph.initializers.get(str(value.name)) is value]
        if not held or (node.op_type == "Add" and _is_bias(node)):
            continue
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        is_linear = node.op_type in ("Gemm", "MatMul") or (node.op_type == "Conv" and all(d == 1 for d in _numbers(held[0]).shape[2:]))
        if weight in held and is_linear and node.attributes.get_int("group", 1) == 1:
            return node
        raise ConversionError(f"the last layer with weights is {_layer_name(node)} ({node.op_type}), which is no linear layer")
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
        raise ConversionError(f"{_layer_name(node)}: its bias isn't one number for each class")
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
                            f"{_layer_name(use.node)} ({use.node.op_type}) behind the classifier takes its {before} classes"
                        )
                    waiting.append(use.node)


def _names_size(node: ir.Node, size: int) -> bool:
    target = node.inputs[1].const_value if node.inputs[1] is not None else None
    return target is None or size in target.numpy().tolist()
