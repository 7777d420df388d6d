"""The preprocessing put into a net, which takes pixels from then on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.errors import ConversionError, Source
from converters.graph.changes.layers import Array, initializer, layer_name, note, numbers_of, replace_numbers
from converters.graph.names import Names
from converters.graph.passes import order_initializers
from converters.graph.provenance import note_source


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
    users = _readers(x)
    while len(users) == 1 and users[0][0].op_type == "Split" and len(users[0][0].outputs) == 1:  # it sees to the input's size alone
        users = _readers(users[0][0].outputs[0])
    first = users[0][0] if users else None
    if len(users) == 1 and first is not None and users[0][1] == 0 and (weight := _own_weight(first, graph)) is not None:
        if not _pads(first):
            _into_convolution(graph, first, weight, scale, shift, order)
            order_initializers(model)
            sentence = f"The preprocessing of its pixels is part of the weights of {layer_name(first)}: it takes RGB from 0 to 255."
            sentence = sentence if len(order) > 1 else sentence.replace("RGB", "gray")
            note(model, sentence)
            return sentence
        why = f"{layer_name(first)} pads the image with zeros, which are no pixels"
    else:
        why = "its first layer is no convolution of its own weights"
    path = _before(graph, x, scale, shift, order)
    order_initializers(model)
    sentence = f"The preprocessing of its pixels is the layer {path} before the net, as {why}; it takes {_colors(order)} from 0 to 255."
    note(model, sentence)
    return sentence


def _readers(x: ir.Value) -> list[tuple[ir.Node, int]]:
    """What reads a value's numbers, not its sizes alone, and as which input."""
    return [(use.node, use.idx) for use in x.uses() if use.node.op_type != "Shape"]


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


def _into_convolution(graph: ir.Graph, node: ir.Node, weight: ir.Value, scale: Array, shift: Array, order: Sequence[int]) -> None:
    before = numbers_of(weight)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    more = np.tensordot(before.sum(axis=tuple(range(2, before.ndim))), np.asarray(shift, np.float64), axes=([1], [0]))
    scaled = before * np.asarray(scale, np.float64).reshape(1, -1, *[1] * (before.ndim - 2))
    after = np.zeros_like(scaled)
    for channel, pixel in enumerate(order):
        after[:, pixel] += scaled[:, channel]
    replace_numbers(weight, after)
    if bias is not None:
        replace_numbers(bias, numbers_of(bias) + more)
        return
    name = f"{str(weight.name).rpartition('.')[0]}.bias".lstrip(".")
    value = initializer(graph, Names(graph.initializers).free(name), more.astype(weight.dtype.numpy()))  # type: ignore[union-attr]
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
        initializer(graph, f"{path}.{role}", array.astype(kind)) for role, array in (("weight", matrix), ("bias", np.asarray(shift)))
    ]
    y = ir.Value(name=path, shape=x.shape, type=x.type)
    node = ir.Node("", "Conv", [x, *parameters], [ir.AttrInt64s("kernel_shape", [1, 1])], outputs=[y], name=path)
    note_source(node, Source("preprocessing", "layer", path, "scale, mean and order of channels"), path)
    for user, index in [(use.node, use.idx) for use in x.uses() if use.node is not node]:
        user.replace_input_with(index, y)
    graph.insert_before(graph[0], node)
    return path
