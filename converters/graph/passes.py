"""Passes over the finished graph, one function each: they change it in place and say what they keep."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx.defs
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.graph.inference import drop_defaults
from converters.graph.names import Names
from converters.graph.provenance import ALSO
from converters.graph.windows import divisors


def remove_unused(model: ir.Model) -> None:
    """Removes nodes whose results nobody uses, and initializers that no node reads; graph inputs stay."""
    graph = model.graph
    for node in reversed(list(graph)):
        if all(not value.uses() and not value.is_graph_output() for value in node.outputs):
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.GRAPH:  # its body goes with it, and uses nothing any more
                    for inner in attribute.as_graph().all_nodes():
                        for index in range(len(inner.inputs)):
                            inner.replace_input_with(index, None)
            graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]


def order_initializers(model: ir.Model) -> None:
    """Puts initializers, and so the state_dict, in the order in which nodes use them."""
    graph = model.graph
    ordered: dict[str, ir.Value] = {}
    for node in graph.all_nodes():
        for value in node.inputs:
            if value is not None and value.name is not None and value.name in graph.initializers:
                ordered.setdefault(value.name, value)
    rest = {name: value for name, value in graph.initializers.items() if name not in ordered}
    graph.initializers.clear()
    for value in [*ordered.values(), *rest.values()]:
        graph.initializers.add(value)


def tidy(model: ir.Model) -> None:
    """Writes what other readers of ONNX stumble over in its plain form, in subgraphs too.

    No empty inputs at the end, no attribute that says what its absence says, every constant a whole tensor.
    """
    opset = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))
    for node in model.graph.all_nodes():
        if node.domain not in ("", "ai.onnx"):
            continue
        count = len(node.inputs)
        while count and node.inputs[count - 1] is None:
            count -= 1
        if count < len(node.inputs):
            node.resize_inputs(count)
        if node.op_type == "Constant" and "value" not in node.attributes and len(node.attributes) == 1:
            tensor = ir.convenience.get_const_tensor(node.outputs[0])
            if tensor is not None:
                node.attributes.clear()
                node.attributes["value"] = ir.AttrTensor("value", tensor)
        elif node.attributes and not node.domain and onnx.defs.has(node.op_type, opset, ""):
            drop_defaults(node, opset)


def remove_dropouts(model: ir.Model) -> None:
    """Takes away each Dropout, which is its input at inference; one that trains by its own words, or whose mask is used, stays.

    The name stays findable: a layer in place has the name of both, of others it is noted at the value that is left.
    """
    for node in list(model.graph):
        if node.domain not in ("", "ai.onnx") or node.op_type != "Dropout" or len(node.inputs) > 2 or not node.inputs:
            continue
        x, y = node.inputs[0], node.outputs[0]
        if x is None or any(mask.uses() or mask.is_graph_output() for mask in node.outputs[1:]):
            continue
        producer = x.producer()
        if y.is_graph_output() and (producer is None or x.is_graph_output()):  # what leads from an input to an output must be a node
            y.name = f"{y.name}_dropped"
            same = ir.Value(name=str(y.name).removesuffix("_dropped"), shape=y.shape, type=y.type)
            model.graph.insert_before(node, ir.Node("", "Identity", [x], outputs=[same], metadata_props=dict(node.metadata_props)))
            y.replace_all_uses_with(same, replace_graph_outputs=True)
            model.graph.remove(node, safe=True)
            continue
        name = str(y.name)
        in_place = re.fullmatch(rf"{re.escape(name)}_\w+", str(x.name)) is not None
        if y.is_graph_output() or (in_place and producer is not None):
            y.name, x.name = f"{name}_dropped", name
        elif producer is not None and producer.outputs[0] is x:
            producer.metadata_props.setdefault(ALSO, name)
        y.replace_all_uses_with(x, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
    remove_unused(model)


def explicit_pooling(model: ir.Model) -> None:
    """Writes ceil_mode pools of known size with explicit pads, so that every runtime counts the same windows.

    onnxruntime 1.16 to 1.20 count windows or divisors of ceil_mode pools otherwise than ONNX's text (and PyTorch). A pad behind
    the image that a floor-mode pool needs to reach the last window is the same thing, and no version gets it wrong. Where an
    average's divisor counts the padding but not the overhang, the pool averages the real pixels and a table of factors mends the
    divisor: a Pad node before the pool would do in theory, but onnxruntime 1.20 fuses the two and counts the overhang again. The same is
    done for averages that count padding of another width at each side, which onnxruntime 1.23 divides by too little.
    """
    graph = model.graph
    names = names_of(graph)
    for node in list(graph):
        is_ceil = node.op_type in ("MaxPool", "AveragePool") and node.attributes.get_int("ceil_mode")
        if node.domain or not (is_ceil or counts_uneven_pads(node)):
            continue
        x = node.inputs[0]
        if x is None or x.shape is None or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            continue
        sizes = [d for d in x.shape[2:] if isinstance(d, int)]
        kernel = list(node.attributes["kernel_shape"].as_ints())
        rank = len(kernel)
        if len(sizes) != rank:
            continue  # the written ceil_mode stays: the size isn't known before the net runs
        strides = list(node.attributes.get_ints("strides", [1] * rank) or [])
        dilations = list(node.attributes.get_ints("dilations", [1] * rank) or [])
        pads = list(node.attributes.get_ints("pads", [0] * 2 * rank) or [])
        behind, counts, floors = [], [], []
        for size, k, s, d, begin, end in zip(sizes, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True):
            extent = d * (k - 1) + 1
            count = -(-(size + begin + end - extent) // s) + 1
            count -= (count - 1) * s >= size + begin
            counts.append(count)
            floors.append((size + begin + end - extent) // s + 1)
            # a last window that ends early needs no pad, and the floor drops what lies behind it
            behind.append(max(0, (count - 1) * s + extent - size - begin))
        if not is_ceil:
            counts, behind = floors, pads[rank:]
        elif counts == floors and not counts_uneven_pads(node):  # nothing reaches over the end at this size
            del node.attributes["ceil_mode"]
            if not any(pads) and "count_include_pad" in node.attributes:
                del node.attributes["count_include_pad"]
            continue
        pads_now = pads[:rank] + behind
        if node.op_type == "AveragePool" and node.attributes.get_int("count_include_pad") and any(pads):
            if any(d > 1 for d in dilations):
                continue  # no runtime that gets ceil_mode wrong knows dilated averages
            window = (sizes, kernel, strides, pads[:rank], counts)
            factors = divisors(*window, real=True) / divisors(*window, real=False, pads_behind=pads[rank:])
            del node.attributes["count_include_pad"]
            _multiply_after(graph, node, factors, names)
        elif node.op_type == "MaxPool" and any(p >= k for p, k in zip(pads_now, kernel * 2, strict=True)):
            if len(node.outputs) > 1:
                continue  # the indices would count in the padded plane
            # not the lowest number: onnxruntime would fuse that Pad into the pool, and then refuse the pads
            _pad_before(graph, node, x, pads_now, -math.inf, names)
            pads_now = [0] * 2 * rank
        if not any(pads) and "count_include_pad" in node.attributes:
            del node.attributes["count_include_pad"]  # there was no padding to count, and the overhang never counts
        node.attributes.pop("ceil_mode", None)
        node.attributes["pads"] = ir.AttrInt64s("pads", pads_now)


def counts_uneven_pads(node: ir.Node) -> bool:
    """Whether an average's divisor counts padding that isn't the same at all sides."""
    pads = node.attributes.get_ints("pads", ()) or ()
    return node.op_type == "AveragePool" and bool(node.attributes.get_int("count_include_pad")) and len(set(pads)) > 1


def fold_sizes(model: ir.Model) -> None:
    """Computes what follows from shapes that are known, and takes away Splits into one part of just that size.

    A graph asks for sizes so that written source follows another image; a file states its sizes, and refuses others.
    """
    graph = model.graph
    folded: dict[ir.Value, NDArray[Any]] = {}
    for node in list(graph):
        if node.domain or node.outputs[0].is_graph_output():
            continue
        x = node.inputs[0] if node.inputs else None
        if node.op_type == "Split" and len(node.outputs) == 1 and x is not None and x.shape is not None:
            if isinstance(x.shape[node.attributes.get_int("axis", 0) or 0], int):
                node.outputs[0].replace_all_uses_with(x)
        elif node.op_type == "Shape" and x is not None and x.shape is not None:
            dims = list(x.shape)[node.attributes.get_int("start", 0) : node.attributes.get_int("end", None)]
            if all(isinstance(d, int) for d in dims):
                folded[node.outputs[0]] = np.array(dims, np.int64)
        elif node.op_type in _OF_SIZES and any(value in folded for value in node.inputs):
            arrays = [folded[v] if v in folded else _small(v) for v in node.inputs if v is not None]
            if not any(array is None for array in arrays):
                result = np.asarray(_OF_SIZES[node.op_type](node, *arrays))
                if result.size <= _FOLDED_LIMIT:
                    folded[node.outputs[0]] = result
    for value, array in folded.items():
        producer = value.producer()
        if producer is not None and any(user.outputs[0] not in folded for user, _ in value.uses()):
            constant, replaced = _constant(f"{value.name}_known", array)
            graph.insert_before(producer, [constant])
            value.replace_all_uses_with(replaced)
    remove_unused(model)


_FOLDED_LIMIT = 1 << 22
"""Elements of a table that is worked out: the boxes of a large image's cells."""


def _keeps_dims(node: ir.Node) -> bool:
    return bool(node.attributes.get_int("keepdims", 1))


def _quotient(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return (abs(a) // abs(b)) * np.sign(a) * np.sign(b) if a.dtype.kind == "i" else a / b  # type: ignore[no-any-return]


def _reshaped(node: ir.Node, a: NDArray[Any], dims: NDArray[Any]) -> NDArray[Any]:
    return a.reshape([a.shape[i] if d == 0 and not node.attributes.get_int("allowzero", 0) else int(d) for i, d in enumerate(dims)])


# What is reckoned from sizes: shapes themselves, and the tables of numbers that follow from them.
_OF_SIZES: dict[str, Callable[..., Any]] = {
    "Concat": lambda node, *parts: np.concatenate(parts, node.attributes["axis"].as_int()),
    "Add": lambda node, a, b: a + b,
    "Sub": lambda node, a, b: a - b,
    "Mul": lambda node, a, b: a * b,
    "Div": lambda node, a, b: _quotient(a, b),
    "Abs": lambda node, a: abs(a),
    "Min": lambda node, *parts: functools.reduce(np.minimum, parts),
    "Max": lambda node, *parts: functools.reduce(np.maximum, parts),
    "Clip": lambda node, a, low, high: a.clip(low, high),
    "Range": lambda node, start, limit, delta: np.arange(int(start), int(limit), int(delta), dtype=start.dtype),
    "Cast": lambda node, a: a.astype(ir.DataType(node.attributes["to"].as_int()).numpy()),
    "Gather": lambda node, a, places: np.take(a, places, node.attributes.get_int("axis", 0) or 0),
    "Squeeze": lambda node, a, axes=None: a.squeeze(None if axes is None else tuple(map(int, axes))),
    "Unsqueeze": lambda node, a, axes: np.expand_dims(a, tuple(map(int, axes))),
    "Expand": lambda node, a, dims: np.broadcast_to(a, np.broadcast_shapes(a.shape, tuple(map(int, dims)))),
    "Reshape": _reshaped,
    "ReduceSum": lambda node, a: a.sum(keepdims=_keeps_dims(node)),
    "ReduceProd": lambda node, a: a.prod(keepdims=_keeps_dims(node)),
}


def _small(value: ir.Value) -> NDArray[Any] | None:
    """A constant's numbers, where they are few."""
    tensor = value.const_value
    return tensor.numpy() if tensor is not None and tensor.size <= 64 and value.producer() is not None else None


def separate_pads(model: ir.Model) -> None:
    """Keeps onnxruntime from fusing Pad nodes of zeros into the pools behind them.

    Versions 1.17 to 1.31 at least make pads of the pool out of such a Pad: a MaxPool then ignores zeros that are greater than the
    image, and pads that reach the kernel's size are refused. They leave a Pad that names its axes alone; operator sets before 18
    have no such input, and get a Max of one tensor in between.
    """
    graph = model.graph
    names = names_of(graph)
    opset = graph.opset_imports.get("", 0)
    for node in list(graph):
        x = node.inputs[0] if node.inputs else None
        if node.domain or node.op_type != "Pad" or len(node.inputs) > 3 or x is None or x.shape is None:
            continue
        if node.attributes.get_string("mode", "constant") != "constant":
            continue
        pools = [user for user, _ in node.outputs[0].uses() if not user.domain and user.op_type in ("MaxPool", "AveragePool")]
        if not pools:
            continue
        name = str(node.outputs[0].name)
        if opset >= 18:
            axes_node, axes = _constant(names.free(f"{name}_axes"), np.arange(len(x.shape), dtype=np.int64))
            graph.insert_before(node, [axes_node])
            node.resize_inputs(4)
            node.replace_input_with(3, axes)
            continue
        _keep_apart(graph, node, pools, names)


def separate_products(model: ir.Model) -> None:
    """Keeps onnxruntime from folding a BatchNormalization into a MatMul whose columns aren't its channels.

    Versions 1.17 to 1.31 at least look for the MatMul through Reshape and Transpose nodes, and scale its columns; of a MatMul of other
    than two axes they make a Gemm, which some of them then refuse.
    """
    graph = model.graph
    names = names_of(graph)
    for node in list(graph):
        if node.domain or node.op_type != "BatchNormalization":
            continue
        user, value = node, node.inputs[0]
        producer = value.producer() if value is not None else None
        while producer is not None and producer.op_type in ("Reshape", "Transpose") and not producer.domain:
            user, value = producer, producer.inputs[0]
            producer = value.producer() if value is not None else None
        flat = value is not None and value.shape is not None and len(value.shape) == 2
        if producer is not None and producer.op_type == "MatMul" and not producer.domain and not (user is node and flat):
            _keep_apart(graph, producer, [user], names)


_BEHIND_GEMM = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "HardSigmoid", "Softplus", "Softsign", "ThresholdedRelu")


def separate_doubles(model: ir.Model) -> None:
    """Keeps onnxruntime from fusing nodes of doubles into what it has no doubles for.

    Versions 1.16 to 1.20 make a FusedMatMul of a Transpose, or the Cast of one, before a MatMul, and 1.16 a FusedGemm of a Gemm before an
    activation; they have neither for doubles, and refuse the file.
    """
    names = names_of(model.graph)
    for node in list(model.graph.all_nodes()):
        graph = node.graph
        if node.domain or not isinstance(graph, ir.Graph) or node.outputs[0].dtype != ir.DataType.DOUBLE:
            continue
        if node.op_type == "MatMul":
            for value in dict.fromkeys(node.inputs):
                producer = value.producer() if value is not None else None
                source = producer.inputs[0] if producer is not None and producer.op_type == "Cast" else value
                first = source.producer() if source is not None else None
                if producer is not None and first is not None and first.op_type == "Transpose" and producer.graph is graph:
                    _keep_apart(graph, producer, [node], names)
        elif node.op_type == "Gemm":
            users = [user for user, _ in node.outputs[0].uses() if user.op_type in _BEHIND_GEMM and user.graph is graph]
            if users:
                _keep_apart(graph, node, users, names)


def names_of(graph: ir.Graph) -> Names:
    """All names that a graph's values have."""
    values = [*graph.inputs, *(value for node in graph.all_nodes() for value in node.outputs)]
    return Names([*graph.initializers, *(str(value.name) for value in values)])


def _keep_apart(graph: ir.Graph, node: ir.Node, users: list[ir.Node], names: Names) -> None:
    """Puts a Max of one tensor, which no version takes away, between a node and those that read its output."""
    name = names.free(f"{node.outputs[0].name}_kept")
    kept = ir.Value(name=name, shape=node.outputs[0].shape, type=node.outputs[0].type)
    graph.insert_after(node, ir.Node("", "Max", [node.outputs[0]], outputs=[kept], name=name, metadata_props=dict(node.metadata_props)))
    for user in users:
        for index, value in enumerate(user.inputs):
            if value is node.outputs[0]:
                user.replace_input_with(index, kept)


def _constant(name: str, array: NDArray[Any]) -> tuple[ir.Node, ir.Value]:
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    return ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[value], name=name), value


def _dtype(value: ir.Value) -> np.dtype[Any]:
    if value.dtype is None:
        raise ConversionError(f"the type of {value.name} is unknown")
    return value.dtype.numpy()


def _pad_before(graph: ir.Graph, node: ir.Node, x: ir.Value, pads: list[int], fill: float, names: Names) -> None:
    """Puts a Pad node of the spatial axes between `node` and its input `x`."""
    rank = len(pads) // 2
    amounts = [0, 0, *pads[:rank], 0, 0, *pads[rank:]]
    name = names.free(f"{node.outputs[0].name}_padded")
    amounts_node, amounts_value = _constant(names.free(f"{name}_amounts"), np.array(amounts, np.int64))
    fill_node, fill_value = _constant(names.free(f"{name}_fill"), np.array(fill, _dtype(x)))
    dims = [d + amounts[i] + amounts[i + rank + 2] if isinstance(d, int) else d for i, d in enumerate(x.shape or [])]
    padded = ir.Value(name=name, shape=ir.Shape(dims), type=x.type)
    pad = ir.Node("", "Pad", [x, amounts_value, fill_value], outputs=[padded], name=name, metadata_props=dict(node.metadata_props))
    graph.insert_before(node, [amounts_node, fill_node, pad])
    node.replace_input_with(0, padded)


def _multiply_after(graph: ir.Graph, node: ir.Node, factors: NDArray[np.float64], names: Names) -> None:
    """Multiplies the node's output, which keeps its name."""
    old = node.outputs[0]
    name = str(old.name)
    constant, value = _constant(names.free(f"{name}_factors"), factors.astype(_dtype(old)))
    product = ir.Value(name=name, shape=old.shape, type=old.type)
    multiply = ir.Node(
        "", "Mul", [old, value], outputs=[product], name=names.free(f"{name}_divisor"), metadata_props=dict(node.metadata_props)
    )
    old.replace_all_uses_with(product, replace_graph_outputs=True)
    multiply.replace_input_with(0, old)
    old.name = names.free(f"{name}_average")
    graph.insert_after(node, [constant, multiply])
