"""Linear layers whose weights exporters turned round are given torch's weights again, (out, in), under torch's keys."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from converters.graph.names import Names
from converters.graph.passes import names_of
from converters.graph.patterns.found import Found
from converters.graph.patterns.linear import is_learnt
from converters.graph.provenance import ORIGINAL_NAME


def turn_weights(model: ir.Model, found: Found, keys: frozenset[str]) -> None:
    """Puts the weights of `x @ w + b` into the state_dict as torch.nn.Linear has them, where no name of the file's says what they are.

    keys: names that are keys of a state_dict already, and stay what they are.
    """
    graph = model.graph
    names = names_of(graph)
    tried: set[ir.Value] = set()
    for node in list(graph):
        pattern = found.ends.get(node)
        if pattern is not None and pattern.kind == "product":
            weight, bias = pattern.inputs["weight"], pattern.inputs.get("bias")
            if weight in tried:
                continue
            tried.add(weight)
            stem = str(weight.name).removesuffix("weight")
            same = [found.ends.get(found.end(use.node)) for use in weight.uses()]
            is_layer = stem != weight.name and (bias is None or bias.name == f"{stem}bias")
            if (
                is_layer
                and _is_open(weight, keys)
                and all(other is not None and other.kind == "product" and other.learnt() == pattern.learnt() for other in same)
            ):
                _turn(graph, weight, names)
        elif node.op_type == "Gemm" and node.domain in ("", "ai.onnx") and not node.attributes.get_int("transB", 0):
            value = node.inputs[1]
            if value is not None and is_learnt(value, 2) and len(value.uses()) == 1 and _is_open(value, keys) and _is_plain(node):
                node.replace_input_with(1, _replaced(graph, value))
                node.attributes["transB"] = ir.AttrInt64("transB", 1)


def _is_open(weight: ir.Value, keys: frozenset[str]) -> bool:
    """Whether a weight has its key from here."""
    return weight.is_initializer() and weight.name not in keys and ORIGINAL_NAME in weight.metadata_props


def _turn(graph: ir.Graph, weight: ir.Value, names: Names) -> None:
    """The products take the transpose of what is in the state_dict."""
    products = [use.node for use in weight.uses()]
    turned = ir.Node("", "Transpose", [_replaced(graph, weight)], [ir.AttrInt64s("perm", [1, 0])])
    turned.metadata_props.update(products[0].metadata_props)
    output = turned.outputs[0]
    turned.name = output.name = names.free(f"{weight.name}_turned")
    output.shape, output.type = weight.shape, weight.type
    graph.insert_before(products[0], [turned])
    for product in products:
        product.replace_input_with(1, output)


def _is_plain(gemm: ir.Node) -> bool:
    bias = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    numbers = {gemm.attributes.get_float("alpha", 1.0), gemm.attributes.get_float("beta", 1.0)}
    return numbers == {1.0} and not gemm.attributes.get_int("transA", 0) and (bias is None or is_learnt(bias, 1))


def _replaced(graph: ir.Graph, weight: ir.Value) -> ir.Value:
    """An initializer (out, in) in the place of one (in, out), of the same name."""
    tensor = weight.const_value
    assert tensor is not None
    shape = ir.Shape(tensor.shape.numpy()[::-1])
    made = ir.LazyTensor(functools.partial(_transposed, tensor), dtype=tensor.dtype, shape=shape, name=weight.name)
    value = ir.Value(name=weight.name, shape=shape, type=ir.TensorType(tensor.dtype), const_value=made)
    value.metadata_props.update(weight.metadata_props)
    del graph.initializers[str(weight.name)]
    graph.register_initializer(value)
    return value


def _transposed(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(np.ascontiguousarray(tensor.numpy().T), dtype=tensor.dtype)
