"""Passes over the finished graph, one function each: they change it in place and say what they keep."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir


def remove_unused(model: ir.Model) -> None:
    """Removes nodes whose results nobody uses, and initializers that no node reads; graph inputs stay."""
    graph = model.graph
    for node in reversed(list(graph)):
        if all(not value.uses() and not value.is_graph_output() for value in node.outputs):
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


def explicit_pooling(model: ir.Model) -> None:
    """Writes ceil_mode pools of known size with explicit pads, so that every runtime counts the same windows.

    onnxruntime 1.16 to 1.20 count windows or divisors of ceil_mode pools otherwise than ONNX's text (and PyTorch). A pad behind
    the image that a floor-mode pool needs to reach the last window is the same thing, and no version gets it wrong. Where the
    average's divisor counts the padding but not the overhang, or the pad is larger than runtimes accept, a Pad node stands first.
    """
    graph = model.graph
    for node in list(graph):
        if node.domain or node.op_type not in ("MaxPool", "AveragePool") or not node.attributes.get_int("ceil_mode"):
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
        behind = []
        for size, k, s, d, begin, end in zip(sizes, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True):
            extent = d * (k - 1) + 1
            count = -(-(size + begin + end - extent) // s) + 1
            count -= (count - 1) * s >= size + begin
            # a last window that ends early needs no pad, and the floor drops what lies behind it
            behind.append(max(0, (count - 1) * s + extent - size - begin))
        pads_now = pads[:rank] + behind
        if node.op_type == "AveragePool" and node.attributes.get_int("count_include_pad") and any(pads):
            _pad_before(graph, node, x, pads, 0.0)
            del node.attributes["count_include_pad"]
            pads_now = [0] * rank + [max(0, b - end) for b, end in zip(behind, pads[rank:], strict=True)]
        elif node.op_type == "MaxPool" and any(p >= k for p, k in zip(pads_now, kernel * 2, strict=True)):
            if len(node.outputs) > 1:
                continue  # the indices would count in the padded plane
            # not the lowest number: onnxruntime would fuse that Pad into the pool, and then refuse the pads
            _pad_before(graph, node, x, pads_now, -math.inf)
            pads_now = [0] * 2 * rank
        del node.attributes["ceil_mode"]
        node.attributes["pads"] = ir.AttrInt64s("pads", pads_now)


def _pad_before(graph: ir.Graph, node: ir.Node, x: ir.Value, pads: list[int], fill: float) -> None:
    """Puts a Pad node of the spatial axes between `node` and its input `x`."""
    if x.shape is None or x.dtype is None:
        raise ValueError(f"{x.name} has no known type")
    rank = len(pads) // 2
    amounts = [0, 0, *pads[:rank], 0, 0, *pads[rank:]]
    name = f"{node.outputs[0].name}_padded"
    made: list[ir.Node] = []
    constants = []
    for what, array in (("amounts", np.array(amounts, np.int64)), ("fill", np.array(fill, x.dtype.numpy()))):
        tensor = ir.Tensor(array, name=f"{name}_{what}")
        value = ir.Value(name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        made.append(ir.Node("", "Constant", [], [ir.AttrTensor("value", tensor)], outputs=[value], name=value.name))
        constants.append(value)
    dims = [d + amounts[i] + amounts[i + rank + 2] if isinstance(d, int) else d for i, d in enumerate(x.shape)]
    padded = ir.Value(name=name, shape=ir.Shape(dims), type=x.type)
    made.append(ir.Node("", "Pad", [x, *constants], outputs=[padded], name=name, metadata_props=dict(node.metadata_props)))
    graph.insert_before(node, made)
    node.replace_input_with(0, padded)
