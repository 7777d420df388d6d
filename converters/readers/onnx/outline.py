"""What an ONNX file says of its net, operator by operator, with the shapes that it states or ONNX infers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

import google.protobuf.message
import onnx
import onnx.helper
import onnx.shape_inference

from converters.errors import FormatError, Source, printable
from converters.files import StrPath, map_file
from converters.graph.outline import Dims, Outline, Port, Row
from converters.graph.provenance import ORIGIN, PREPROCESSING
from converters.options import DEFAULTS, LoadOptions
from converters.readers.onnx.wire import split_tensors

_STATISTICS = ("BatchNormalization", "SpatialBN")


def outline(path: StrPath, options: LoadOptions = DEFAULTS) -> Outline:
    """The operators of an ONNX file in its order. Raises ConversionError."""
    file = os.path.basename(path)
    light, _ = split_tensors(map_file(path), file)
    try:
        proto = onnx.ModelProto.FromString(light)
    except (google.protobuf.message.DecodeError, RuntimeError) as problem:
        raise FormatError(f"{file}: no ONNX model: {printable(problem)}") from problem
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    notes = {entry.key: entry.value for entry in proto.metadata_props}
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in proto.graph.initializer}
    found = Outline(
        name=proto.graph.name,
        version=f"file format {proto.ir_version}",
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        opset=opsets.get("", opsets.get("ai.onnx")),
        inputs={value.name: _port(value) for value in proto.graph.input if value.name not in sizes},
        outputs={value.name: _port(value) for value in proto.graph.output},
        tensors={tensor.name: Port(tuple(tensor.dims), _dtype(tensor.data_type)) for tensor in proto.graph.initializer},
        provenance=notes.get(ORIGIN, ""),
        graph=True,
    )
    if PREPROCESSING in notes:
        found.preprocessing = {"stated": notes[PREPROCESSING]}
    others = {domain: version for domain, version in opsets.items() if domain not in ("", "ai.onnx")}
    found.notes += [f"operators of the domain '{printable(domain)}', version {version}" for domain, version in others.items()]
    shapes = _shapes(proto)
    counted: set[str] = set()
    for number, node in enumerate(proto.graph.node):
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            found.rows.append(_row(node, number, path, shapes, sizes, counted))
    return found


def _row(node: onnx.NodeProto, number: int, path: StrPath, shapes: Mapping[str, Dims], sizes: Mapping[str, int], counted: set[str]) -> Row:
    name = node.name or next((output for output in node.output if output), "") or str(number)
    source = Source(os.fspath(path), "operator", name, node.op_type)
    row = Row(name, node.op_type, source=str(source), takes=[x for x in node.input if x and x not in sizes], gives=list(node.output))
    row.outputs = [shapes.get(output) for output in node.output if output]
    row.parameters = row.buffers = 0
    for position, value in enumerate(node.input):
        if value in sizes and value not in counted:
            counted.add(value)
            if node.op_type in _STATISTICS and position > 2:
                row.buffers += sizes[value]
            else:
                row.parameters += sizes[value]
    return row


def _shapes(proto: onnx.ModelProto) -> dict[str, Dims]:
    """Every value's shape, as far as the file states it, else as ONNX infers it."""
    graph = proto.graph
    stated = [*graph.value_info, *graph.output, *graph.input]
    if len(graph.value_info) < len(graph.node) // 2:
        known = {value.name for value in graph.input}
        light = onnx.ModelProto()
        light.CopyFrom(proto)
        del light.graph.initializer[:]
        kept = [tensor for tensor in graph.initializer if tensor.HasField("raw_data") or tensor.int64_data or tensor.float_data]
        light.graph.initializer.extend(kept)
        heavy = [tensor for tensor in graph.initializer if tensor.name not in known | {small.name for small in kept}]
        light.graph.input.extend(onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in heavy)
        try:
            made = onnx.shape_inference.infer_shapes(light, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            made = proto
        stated += [*made.graph.value_info, *made.graph.output]
    found: dict[str, Dims] = {}
    for value in stated:
        dims = _port(value).shape
        if dims is not None:
            found.setdefault(value.name, dims)
    return found


def _port(value: onnx.ValueInfoProto) -> Port:
    if not value.type.HasField("tensor_type"):
        return Port(None, value.type.WhichOneof("value"))
    kind = value.type.tensor_type
    dims = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim)
    return Port(dims if kind.HasField("shape") else None, _dtype(kind.elem_type))


def _dtype(number: int) -> str | None:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(number)) if number else None
    except (KeyError, TypeError):
        return None
