"""Types and shapes of one node's outputs, by ONNX's own inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.helper
import onnx.shape_inference
import onnx_ir as ir


def data_type(dtype: Any) -> ir.DataType:
    return dtype if isinstance(dtype, ir.DataType) else ir.DataType.from_numpy(np.dtype(dtype))


def attribute(name: str, value: Any) -> ir.Attr:
    """An attribute from a Python value; the plain types by hand, because onnx_ir asks protocols first, which is slow before Python 3.12."""
    if isinstance(value, int):
        return ir.AttrInt64(name, int(value))
    if isinstance(value, float):
        return ir.AttrFloat32(name, value)
    if isinstance(value, str):
        return ir.AttrString(name, value)
    if isinstance(value, list | tuple) and value and all(type(item) is int for item in value):
        return ir.AttrInt64s(name, list(value))
    return ir.convenience.convert_attribute(name, value)


def type_proto(value: ir.Value) -> onnx.TypeProto:
    dims = None if value.shape is None else [d if isinstance(d, int) else d.value for d in value.shape]
    return onnx.helper.make_tensor_type_proto(int(value.dtype or 0), dims)


def check_channels(node: ir.Node) -> None:
    """What ONNX's inference doesn't look at: the channels of convolutions and batch norms. Raises ValueError."""
    shapes = [() if v is None or v.shape is None else tuple(v.shape) for v in node.inputs]
    if node.op_type not in ("Conv", "ConvTranspose", "BatchNormalization") or len(shapes[0]) < 2 or not isinstance(shapes[0][1], int):
        return
    channels = shapes[0][1]
    expected: dict[int, tuple[int | ir.SymbolicDim, ...]] = {}
    if node.op_type == "BatchNormalization":
        expected = dict.fromkeys(range(1, 5), (channels,))
    else:
        group = node.attributes.get_int("group", 1)
        weight = shapes[1]
        if len(weight) != len(shapes[0]) or any(not isinstance(d, int) for d in weight[:2]):
            return
        transposed = node.op_type == "ConvTranspose"
        outputs = weight[1] * group if transposed else weight[0]
        if weight[0 if transposed else 1] * (1 if transposed else group) != channels or weight[0] % group:
            raise ValueError(f"a weight of shape {weight} in {group} group(s) doesn't take {channels} channels")
        if len(shapes) > 2 and node.inputs[2] is not None:
            expected = {2: (outputs,)}
    for index, shape in expected.items():
        if shapes[index] != shape:
            raise ValueError(f"input {index} ({node.inputs[index].name}) has shape {shapes[index]}, expected {shape}")  # type: ignore[union-attr]


def drop_defaults(node: ir.Node, opset: int) -> None:
    """Removes attributes that say what ONNX assumes without them. Raises ValueError for one that the operator doesn't have."""
    known = onnx.defs.get_schema(node.op_type, opset, node.domain).attributes
    for name, given in list(node.attributes.items()):
        if name not in known:
            raise ValueError(f"the operator has no attribute {name!r}; it has {', '.join(sorted(known)) or 'none'}")
        default = known[name].default_value
        if default.type and given.type == ir.AttributeType(default.type) and _is(given.value, onnx.helper.get_attribute_value(default)):
            del node.attributes[name]


def _is(given: Any, default: Any) -> bool:
    if isinstance(default, bytes):
        return bool(given == default.decode())
    if isinstance(default, float):
        return bool(np.float32(given) == np.float32(default))
    return bool(given == default)


def infer(node: ir.Node, opset: int) -> None:
    """Sets dtype and shape of a node's outputs by ONNX's inference for its operator (onnx.defs), given constant inputs.

    Raises onnx.shape_inference.InferenceError where the inputs don't fit.
    """
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for value in node.inputs:
        if value is None or value.name is None:
            continue
        types[value.name] = type_proto(value)
        constant = value.const_value
        if constant is not None and constant.size <= 1024 and constant.dtype in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT):
            data[value.name] = onnx.helper.make_tensor(
                value.name, int(constant.dtype), constant.shape.numpy(), constant.tobytes(), raw=True
            )
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, name=node.name or "")
    proto.input.extend("" if v is None else str(v.name) for v in node.inputs)
    proto.output.extend(str(v.name) for v in node.outputs)
    proto.attribute.extend(ir.serde.serialize_attribute(a) for a in node.attributes.values())
    found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=[onnx.helper.make_opsetid("", opset)])
    for value in node.outputs:
        answer = found.get(str(value.name))
        if answer is None:
            continue
        tensor = answer.tensor_type
        value.type = ir.TensorType(ir.DataType(tensor.elem_type))
        if tensor.HasField("shape"):
            value.shape = ir.Shape([d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim])
