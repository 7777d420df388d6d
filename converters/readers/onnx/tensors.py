"""Tensors of an ONNX file as views: of the file itself, or of external data in the model's own folder."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from converters.errors import FormatError, printable
from converters.files import map_file
from converters.readers.onnx.wire import Place, split_tensors

OWN_TENSORS = 1 << 26
"""Bytes of a file above which its tensors are taken to be in it."""


class Folder:
    """External data of one model: only files inside the model's folder, each mapped once."""

    def __init__(self, model: str | os.PathLike[str]) -> None:
        self.file = os.path.basename(model)
        path = Path(os.path.abspath(model))
        # A model that is a link (as download caches make them) may also have its data where it really lies.
        self._allowed = {path.parent.resolve(), path.resolve().parent}
        self._folder = path.parent
        self._views: dict[Path, memoryview] = {}

    def read(self, proto: onnx.TensorProto, needed: int) -> memoryview:
        """The bytes of an external tensor. Raises FormatError for a place outside of the folder or the file."""
        entries = {entry.key: entry.value for entry in proto.external_data}
        who = f"{self.file}: tensor '{printable(proto.name)}'"
        location = entries.get("location", "")
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or os.path.isabs(location) or ".." in parts or ":" in parts[0] or not parts[0]:
            raise FormatError(f"{who}: external data at {printable(location)!r}, which is no place inside the model's folder")
        path = self._folder.joinpath(*parts)
        real = path.resolve()
        if not any(real.is_relative_to(folder) for folder in self._allowed):
            raise FormatError(f"{who}: external data at {printable(location)!r} leads out of the model's folder")
        if real not in self._views:
            if not real.is_file():
                raise FormatError(f"{who}: its external data {printable(location)!r} isn't beside the model; put the file there")
            self._views[real] = map_file(real)
        view = self._views[real]
        try:
            offset = int(entries.get("offset") or 0)
            length = int(entries.get("length") or needed)
        except ValueError:
            raise FormatError(f"{who}: the offset or length of its external data is no number") from None
        if offset < 0 or length != needed or offset + needed > len(view):
            raise FormatError(
                f"{who}: needs {needed} bytes at offset {offset} of {printable(location)!r} "
                f"(its entry says {length}), which has {len(view)}"
            )
        return view[offset : offset + needed]


def read_tensor(proto: onnx.TensorProto, place: Place | None, file: memoryview, folder: Folder) -> ir.TensorProtocol:
    """An initializer with its data; `place` says where in the file that is, where it was left out of the protobuf."""
    who = f"{folder.file}: tensor '{printable(proto.name)}'"
    try:
        dtype = ir.DataType(proto.data_type)
    except ValueError:
        raise FormatError(f"{who}: element type {proto.data_type} isn't one of ONNX's") from None
    dims = [int(d) for d in proto.dims]
    if any(d < 0 for d in dims):
        raise FormatError(f"{who}: shape {dims} has a negative size")
    count = math.prod(dims)
    external = proto.data_location == onnx.TensorProto.EXTERNAL
    if dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        if dtype == ir.DataType.STRING and not external and place is None and len(proto.string_data) == count:
            return ir.serde.deserialize_tensor(proto)
        raise FormatError(f"{who}: {len(proto.string_data)} strings (element type {dtype.name}) for shape {dims}")
    needed = -(-count * dtype.bitwidth // 8)
    if external:
        data = folder.read(proto, needed) if needed else memoryview(b"")
    elif place is not None:
        data = file[place.offset : place.offset + place.length]
        fits = place.is_raw or dtype == (ir.DataType.FLOAT if place.is_float else ir.DataType.DOUBLE)
        if len(data) != needed or not fits:
            raise FormatError(f"{who}: {len(data)} bytes of data for shape {dims} of {dtype.name}, which needs {needed}")
    else:
        return _small(proto, dtype, count, needed, who)
    array = np.frombuffer(data, np.uint8 if dtype.bitwidth < 8 else dtype.numpy())
    if dtype.bitwidth < 8:
        return ir.PackedTensor(array, dtype, shape=ir.Shape(dims), name=proto.name)
    return ir.Tensor(array.reshape(dims), dtype=dtype, name=proto.name)


def _small(proto: onnx.TensorProto, dtype: ir.DataType, count: int, needed: int, who: str) -> ir.TensorProtocol:
    """A tensor whose data is in the protobuf."""
    if proto.HasField("raw_data"):
        if len(proto.raw_data) != needed:
            raise FormatError(f"{who}: {len(proto.raw_data)} bytes of data for {count} elements of {dtype.name}, which need {needed}")
        return ir.serde.deserialize_tensor(proto)
    fields: tuple[Any, ...] = (proto.float_data, proto.int32_data, proto.int64_data, proto.double_data, proto.uint64_data)
    held = max(len(field) for field in fields)
    per_element = {ir.DataType.COMPLEX64: 2, ir.DataType.COMPLEX128: 2}.get(dtype, 1)
    wanted = -(-count * dtype.bitwidth // 8) if dtype.bitwidth < 8 else count * per_element
    if held != wanted:
        raise FormatError(f"{who}: {held} numbers of data for {count} elements of {dtype.name}")
    return ir.serde.deserialize_tensor(proto)


def settle_tensor(proto: onnx.TensorProto, folder: Folder) -> None:
    """Checks a tensor inside an attribute, which onnx_ir reads later; what lies in another file comes in. Raises FormatError."""
    found = read_tensor(proto, None, memoryview(b""), folder)
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        del proto.external_data[:]
        proto.ClearField("data_location")
        proto.raw_data = found.tobytes()


def dense(proto: onnx.SparseTensorProto, folder: Folder) -> onnx.TensorProto:
    """A sparse tensor with its zeros. Raises FormatError for one that doesn't fit together."""
    who = f"{folder.file}: sparse tensor '{printable(proto.values.name)}'"
    dims = [int(d) for d in proto.dims]
    values = read_tensor(proto.values, None, memoryview(b""), folder)
    if values.dtype.bitwidth < 8 or values.dtype == ir.DataType.STRING:
        raise FormatError(f"{who}: elements of type {values.dtype.name}")
    numbers = values.numpy().reshape(-1)
    places = read_tensor(proto.indices, None, memoryview(b""), folder).numpy()
    if any(d < 0 for d in dims) or math.prod(dims) > _DENSE_LIMIT:
        raise FormatError(f"{who}: shape {dims}, which isn't spread out here")
    if places.ndim == 2 and places.shape == (numbers.size, len(dims)):
        inside = bool(((places >= 0) & (places < np.array(dims))).all())
        at = np.ravel_multi_index(tuple(places.T), tuple(dims)) if inside and numbers.size else places.sum(1)
    else:
        at, inside = places.reshape(-1), bool(((places >= 0) & (places < math.prod(dims))).all())
    if not inside or at.size != numbers.size:
        raise FormatError(f"{who}: {at.size} places of {numbers.size} numbers don't fit the shape {dims}")
    array = np.zeros(math.prod(dims), numbers.dtype)
    array[at] = numbers
    made = onnx.TensorProto(name=proto.values.name, data_type=proto.values.data_type, dims=dims)
    made.raw_data = array.tobytes()
    return made


def attribute_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors that aren't the graph's own initializers: attributes', subgraphs'."""
    waiting: list[Iterable[onnx.NodeProto]] = [proto.graph.node, *(function.node for function in proto.functions)]
    while waiting:
        for node in waiting.pop():
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                graphs = [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
                for graph in graphs:
                    waiting.append(graph.node)
                    yield from graph.initializer


def external_files(view: memoryview, file: str) -> list[str]:
    """The files beside a model that hold its tensors, as it names them; none for a large file, which holds them itself.

    Raises FormatError where it is no ONNX model.
    """
    if len(view) > OWN_TENSORS:
        return []
    try:
        proto = onnx.ModelProto.FromString(split_tensors(view, file)[0])
    except DecodeError as problem:
        raise FormatError(f"{file}: no ONNX model: {printable(problem)}") from problem
    tensors = [*proto.graph.initializer, *attribute_tensors(proto)]
    places = [entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
    return list(dict.fromkeys(place.replace("\\", "/") for place in places))


_DENSE_LIMIT = 1 << 26
"""Elements: a few bytes of a sparse tensor could ask for any number of zeros."""
