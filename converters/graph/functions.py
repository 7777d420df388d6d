"""Functions written out: nodes that call one become its body, by onnx's own inliner. A model's large tensors aren't copied for that."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable

import onnx
import onnx.defs
import onnx.inliner
import onnx.numpy_helper
import onnx.shape_inference
import onnx_ir as ir

from converters.graph.contributed import DOMAIN, note_types

_MOST_AXES = 64
_COPIED = 1024
"""Bytes up to which a tensor goes through protobuf."""


def rewrite(model: ir.Model, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> ir.Model:
    """The model after a change of its protobuf, shapes inferred anew. Its tensors are kept as they are, under their names."""
    tensors: dict[str, ir.TensorProtocol] = {}
    metadata = {name: dict(value.metadata_props) for name, value in model.graph.initializers.items()}
    light = model.clone()
    for name, value in list(light.graph.initializers.items()):
        const = value.const_value
        if const is not None and const.nbytes > _COPIED:
            tensors[name] = const
            del light.graph.initializers[name]
            light.graph.inputs.append(value)
    made = ir.from_proto(infer_shapes(change(ir.to_proto(light))))
    attach(made, tensors)
    for name, value in made.graph.initializers.items():
        value.metadata_props.update(metadata.get(name, {}))
    return made


def attach(model: ir.Model, tensors: dict[str, ir.TensorProtocol]) -> None:
    """Makes inputs of these names initializers; initializers that are also inputs (as old files have them) are no inputs."""
    graph = model.graph
    for value in list(graph.inputs):
        name = str(value.name)
        if name in tensors:
            graph.inputs.remove(value)
            tensor = tensors[name]
            value.const_value, value.shape, value.type = tensor, ir.Shape(tensor.shape.numpy()), ir.TensorType(tensor.dtype)
            graph.register_initializer(value)
        elif name in graph.initializers:
            graph.inputs.remove(value)


def expand(proto: onnx.ModelProto, known: Iterable[str]) -> onnx.ModelProto:
    """Operators of ONNX that aren't known become the bodies that ONNX defines for them, where it does.

    Raises RuntimeError, ValueError or onnx.checker.ValidationError where onnx can't.
    """
    if "inline_schema_functions" not in inspect.signature(onnx.inliner.inline_selected_functions).parameters:
        return proto  # onnx before 1.20: such operators stay, and are refused by name
    names = frozenset(known)
    opset = next(entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    for _ in range(4):  # a body may call another such operator
        expandable = [("", op_type) for op_type in unknown_operators(proto, names) if has_body(op_type, opset)]
        if not expandable:
            break
        proto = onnx.inliner.inline_selected_functions(infer_shapes(proto), expandable, inline_schema_functions=True)
    return proto


def unknown_operators(proto: onnx.ModelProto, known: frozenset[str]) -> list[str]:
    """ONNX's operators in the graph that aren't among these."""
    return sorted({node.op_type for node in proto.graph.node if node.domain in ("", "ai.onnx")} - known)


def has_body(op_type: str, opset: int) -> bool:
    """Whether ONNX defines the operator by others."""
    try:
        schema = onnx.defs.get_schema(op_type, opset)
    except onnx.defs.SchemaError:
        return False
    return bool(getattr(schema, "has_function", False) or getattr(schema, "has_context_dependent_function", False))


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With ONNX's own shapes; the file's are kept only where inference finds none, and ranks where only these are known."""
    proto = _infer_shapes(proto)
    for _ in range(_RANK_ROUNDS if not _has_contributed(proto) else _LONGEST_CHAIN):
        if not (note_types(proto) | _note_ranks(proto)):
            break
        try:
            proto = onnx.shape_inference.infer_shapes(proto)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            break
    return proto


_RANK_ROUNDS = 6
_LONGEST_CHAIN = 400
"""Rounds at most where each operator of com.microsoft waits for the one before it."""


def _has_contributed(proto: onnx.ModelProto) -> bool:
    return any(node.domain == DOMAIN for node in proto.graph.node)


def _note_ranks(proto: onnx.ModelProto) -> bool:
    """Gives what a computed shape makes (Reshape, Expand, ConstantOfShape) as many open axes as the shape has numbers."""
    values = {value.name: value for value in [*proto.graph.input, *proto.graph.value_info, *proto.graph.output]}
    lengths = {tensor.name: tensor.dims[0] for tensor in proto.graph.initializer if len(tensor.dims) == 1}
    found = False
    for node in proto.graph.node:
        place = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0}.get(node.op_type)
        if place is None or len(node.input) <= place or node.domain not in ("", "ai.onnx"):
            continue
        shape = values.get(node.input[place])
        dims = [] if shape is None or not shape.type.tensor_type.HasField("shape") else list(shape.type.tensor_type.shape.dim)
        rank = dims[0].dim_value if len(dims) == 1 else lengths.get(node.input[place], 0)
        source = values.get(node.input[0])
        if node.op_type == "Expand":  # the input may have more axes than the shape
            mine = None if source is None or not source.type.tensor_type.HasField("shape") else len(source.type.tensor_type.shape.dim)
            rank = 0 if mine is None else max(rank, mine) if rank else 0
        there = values.get(node.output[0])
        if not 0 < rank <= _MOST_AXES or (there is not None and there.type.tensor_type.HasField("shape")):
            continue
        if there is None:
            if source is None or place == 0 or not source.type.tensor_type.elem_type:
                continue
            there = proto.graph.value_info.add(name=node.output[0])
            there.type.tensor_type.elem_type = source.type.tensor_type.elem_type
        there.type.tensor_type.shape.SetInParent()
        for _ in range(rank):
            there.type.tensor_type.shape.dim.add()
        found = True
    return found


def _largest(graph: onnx.GraphProto) -> int:
    """The largest size that inputs have, or that small constants could be; what stands for "to the end" aside."""
    sizes = [dim.dim_value for value in graph.input for dim in value.type.tensor_type.shape.dim]
    values = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute if attribute.HasField("t")]
    for tensor in (*graph.initializer, *values):
        if tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= _MOST_AXES:
            sizes += [abs(size) for size in onnx.numpy_helper.to_array(tensor).reshape(-1).tolist() if abs(size) < 1 << 62]
    return max(sizes, default=0)


def _infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    given = {value.name: value for value in proto.graph.value_info}
    del proto.graph.value_info[:]
    try:
        # following the numbers of shapes costs memory of the order of an axis: not for a file that claims monstrous ones
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=_largest(proto.graph) <= 1 << 22)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        proto.graph.value_info.extend(given.values())
        return proto
    found = {value.name for value in proto.graph.value_info}
    proto.graph.value_info.extend(value for name, value in given.items() if name not in found)
    return proto
