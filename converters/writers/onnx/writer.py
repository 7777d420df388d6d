"""The ONNX writer: one file, streamed; the graph is serialised without its tensors and the bytes follow from the mapping.

The file is stamped with the graph's own operator set and the oldest file version that holds it, not with what the installed
library could write: runtimes refuse files that are newer than they are. ceil_mode pools are made explicit (passes.explicit_pooling).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx.helper
import onnx_ir as ir

from converters.errors import ConversionError
from converters.files import StrPath, check_target, writing
from converters.graph.passes import explicit_pooling, fold_sizes, remove_dropouts, separate_doubles, separate_pads, separate_products, tidy
from converters.graph.provenance import origin_of, origin_text
from converters.packages import __version__
from converters.schemas.wire import header
from converters.tensors.storage import ArrayStorage
from converters.writers.onnx.opsets.translation import to_opset

PROTOBUF_LIMIT = 2**31 - 2**20
"""Largest file that one protobuf message may be (2 GiB), with a margin; beyond it tensors go to a file beside."""
EXTERNAL_ALIGNMENT = 4096

Check = Callable[[Path], None] | None


def write_onnx(
    model: ir.Model,
    path: StrPath,
    *,
    opset: int | None = None,
    force: bool = False,
    check: Check = None,
    limit: int = PROTOBUF_LIMIT,
) -> None:
    """Writes the model as ONNX. Above `limit` bytes the tensors go to PATH.data beside it (ONNX external data).

    opset: another operator set of the default domain, by the rules in opsets/. Raises ConversionError where the model can't be
    said in it, OutputExistsError. check: is called with the finished file before it gets its name; if it raises, nothing is written.
    """
    target = check_target(path, force=force)
    written = model.clone()
    remove_dropouts(written)
    written.metadata_props.update(origin_text(origin_of(model)))
    fold_sizes(written)
    explicit_pooling(written)
    if opset is not None and opset != written.graph.opset_imports.get("", 0):
        to_opset(written, opset)
    separate_pads(written)
    separate_products(written)
    separate_doubles(written)
    tidy(written)
    shell, tensors = _shell(written)
    bodies = [(tensor.name or "", tensor) for tensor in tensors]
    size = shell.ByteSize() + sum(tensor.nbytes + len(name) + 100 for name, tensor in bodies)
    if size > limit:
        check_target(_beside(target), force=force)
        if check is None:
            _write_external(shell, bodies, target, force)
        else:
            _write_external_checked(shell, bodies, target, check)
    else:
        _write_single(shell, bodies, target, force, check)


def _shell(model: ir.Model) -> tuple[onnx.ModelProto, list[ir.TensorProtocol]]:
    """The model as protobuf without the initializers, and these in order."""
    graph = model.graph
    proto = onnx.ModelProto(
        ir_version=min_ir_version(model.opset_imports, functions=bool(model.functions)),
        producer_name=model.producer_name or "converters",
        producer_version=model.producer_version or __version__,
        opset_import=[onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()],
    )
    proto.functions.extend(ir.to_proto(function) for function in model.functions.values())
    proto.metadata_props.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in model.metadata_props.items())
    proto.graph.name = graph.name or "model"
    proto.graph.input.extend(ir.serde.serialize_value(value) for value in graph.inputs)
    proto.graph.output.extend(ir.serde.serialize_value(value) for value in graph.outputs)
    outputs = {value.name for value in graph.outputs}
    for node in graph:
        proto.graph.node.append(ir.serde.serialize_node(node))
        for value in node.outputs:
            if value.name and value.name not in outputs and value.shape is not None and value.type is not None:
                proto.graph.value_info.append(ir.serde.serialize_value(value))
    tensors = []
    for name, value in graph.initializers.items():
        if value.const_value is None:
            raise ConversionError(f"initializer {name!r} has no value")
        tensors.append(value.const_value)
    return proto, tensors


def min_ir_version(opset_imports: dict[str, int], *, functions: bool = False) -> int:
    """The oldest ONNX file version that can hold these operator sets: that of the first ONNX release with them.

    At least 4, from which on initializers needn't be inputs; 8 with functions.
    """
    version: int = onnx.helper.find_min_ir_version_for(
        [onnx.helper.make_opsetid(d, v) for d, v in opset_imports.items() if d in ("", "ai.onnx")], True
    )
    return max(8 if functions else 4, version)


# -- protobuf by hand: only what surrounds the bytes of a tensor -------------------------------------------------------------------

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9


def _tensor_proto(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    return onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=tensor.shape.numpy())


def _write_single(shell: onnx.ModelProto, tensors: list[tuple[str, ir.TensorProtocol]], target: Path, force: bool, check: Check) -> None:
    """ModelProto = its fields without the graph, then the graph field = its fields without initializers, then each initializer."""
    graph = shell.graph.SerializeToString()
    shell.ClearField("graph")
    rest = shell.SerializeToString()
    parts: list[tuple[bytes, ir.TensorProtocol | None]] = []
    total = len(graph)
    for name, tensor in tensors:
        if tensor.dtype == ir.DataType.STRING:
            whole = ir.to_proto(tensor)
            whole.name = name
            body, data, inside = whole.SerializeToString(), None, 0
        else:
            body, data, inside = _tensor_proto(name, tensor).SerializeToString(), tensor, tensor.nbytes
            body += header(_TENSOR_RAW_DATA, inside)
        head = header(_GRAPH_INITIALIZER, len(body) + inside) + body
        total += len(head) + inside
        parts.append((head, data))
    with writing(target, force=force, size=len(rest) + total) as file:
        file.write(rest + header(_MODEL_GRAPH, total) + graph)
        for head, data in parts:
            file.write(head)
            if data is not None:
                for chunk in tensor_bytes(data):
                    file.write(chunk)
        if check is not None:
            file.flush()
            check(Path(file.name) if isinstance(file.name, str) else Path(f"/proc/self/fd/{file.fileno()}"))


def _beside(target: Path) -> Path:
    return target.with_name(target.name + ".data")


def _write_external_checked(shell: onnx.ModelProto, tensors: list[tuple[str, ir.TensorProtocol]], target: Path, check: Check) -> None:
    """Both files in a folder of their own, from which they are moved when they pass."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:80]}.") as folder:
        inside = Path(folder, target.name)
        _write_external(shell, tensors, inside, False)
        if check is not None:
            check(inside)
        os.replace(_beside(inside), _beside(target))
        os.replace(inside, target)


def _write_external(shell: onnx.ModelProto, tensors: list[tuple[str, ir.TensorProtocol]], target: Path, force: bool) -> None:
    beside = _beside(target)
    offset = 0
    with writing(target, force=force) as file:
        with writing(beside, force=force, size=sum(tensor.nbytes for _, tensor in tensors)) as data:
            for name, tensor in tensors:
                if tensor.dtype == ir.DataType.STRING:
                    proto = ir.to_proto(tensor)
                    proto.name = name
                else:
                    padding = -offset % EXTERNAL_ALIGNMENT
                    data.write(bytes(padding))
                    offset += padding
                    proto = _tensor_proto(name, tensor)
                    proto.data_location = onnx.TensorProto.EXTERNAL
                    for key, value in (("location", beside.name), ("offset", offset), ("length", tensor.nbytes)):
                        proto.external_data.append(onnx.StringStringEntryProto(key=key, value=str(value)))
                    for chunk in tensor_bytes(tensor):
                        data.write(chunk)
                    offset += tensor.nbytes
                shell.graph.initializer.append(proto)
        file.write(shell.SerializeToString())


def tensor_bytes(tensor: ir.TensorProtocol) -> Iterator[bytes | memoryview]:
    """The tensor's little-endian bytes, row-major, in pieces; straight from the mapping where they lie there in order."""
    if tensor.dtype.bitwidth < 8:  # 4-bit types are packed two to a byte
        return iter([tensor.tobytes()])
    array = tensor.numpy()
    return ArrayStorage(array).chunks(0, array.nbytes)


__all__ = ["min_ir_version", "tensor_bytes", "write_onnx"]
