"""Weights from a .caffemodel: the wire format is walked over the mapped file, and the blobs are views of it.

Field numbers above the common ones mean different things in every fork of Caffe, so that nothing else is read: of a layer
its name, type and blobs. Sources: caffe/src/caffe/proto/caffe.proto, caffe/src/caffe/blob.cpp (FromProto),
caffe/src/caffe/net.cpp (CopyTrainedLayersFrom); C3D's and NVIDIA's caffe.proto for their forms of a blob.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import FormatError, Source, about, printable
from converters.files import StrPath, map_file
from converters.readers.caffe.upgrade import V1_TYPES
from converters.schemas import caffe_pb2
from converters.schemas.wire import BYTES, VARINT, Span, signed, spans, varint

Array = NDArray[Any]

_V1_NAMES = {number: V1_TYPES[name] for name, number in caffe_pb2.V1LayerParameter.LayerType.items()}


def damaged(source: Source, message: str) -> FormatError:
    """A FormatError about a layer of a weights file."""
    problem = source.error(message)
    return FormatError(problem.what, path=problem.path, layer=problem.layer)


@dataclass
class Blob:
    """One stored array: its shape as the file says it, and its values as a view.

    legacy: the shape comes from num, channels, height and width, which are four whatever the array is.
    """

    shape: tuple[int, ...]
    legacy: bool
    values: Array
    source: Source
    index: int

    def error(self, message: str) -> FormatError:
        return damaged(self.source, f"blob {self.index} {message}")

    def check(self) -> None:
        """Raises FormatError where the values aren't as many as the shape says."""
        if any(dim < 0 for dim in self.shape):
            raise self.error(f"has a negative dimension: {self.shape}")
        count = math.prod(self.shape)
        if count != self.values.size:
            held = f"holds {self.values.size} values" if self.values.size else "holds no data"
            raise self.error(f"{held}, but its shape {self.shape} needs {count}")
        if math.prod(dim for dim in self.shape if dim) > 1 << 48:  # an empty array of a shape that no array has
            raise self.error(f"has an impossible shape: {self.shape}")

    def array(self) -> Array:
        """The values in their shape, as float32; a view wherever the file holds float32."""
        self.check()
        values = self.values if self.values.dtype == np.dtype("<f4") else self.values.astype("<f4")
        return values.reshape(self.shape)


@dataclass
class StoredLayer:
    """A layer of a weights file: name, type ("" where the file doesn't say), blobs, and the names of what it takes and gives."""

    name: str
    type: str
    blobs: list[Blob] = field(default_factory=list)
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)


class _Message:
    """A span of the mapped file that holds a protobuf message."""

    __slots__ = ("end", "file", "start", "view")

    def __init__(self, file: str, view: memoryview, start: int, end: int) -> None:
        self.file, self.view, self.start, self.end = file, view, start, end

    def error(self, at: int, message: str) -> FormatError:
        return FormatError(f"{message} (byte {at})", path=self.file)

    def fields(self) -> Iterator[Span]:
        return spans(self.view, self.start, self.end, "the file")

    def number(self, at: int) -> int:
        """The number of a varint's field."""
        return varint(self.view, at, self.end)[0]

    def inner(self, start: int, end: int) -> _Message:
        return _Message(self.file, self.view, start, end)

    def text(self, start: int, end: int) -> str:
        return bytes(self.view[start:end]).decode(errors="replace")


def read_caffemodel(path: StrPath) -> list[StoredLayer]:
    """The layers of a binary caffemodel (V2, V1 or V0) in file order. Raises FormatError for anything else."""
    view = map_file(path)
    with about(path):
        try:
            return _read_net(_Message(os.fspath(path), view, 0, len(view)))
        except FormatError as problem:
            problem.hint = problem.hint or "the file is damaged, or no caffemodel"
            raise


def read_blob(path: StrPath) -> Array:
    """The one blob of a file, as Caffe's compute_image_mean writes mean.binaryproto. Raises FormatError for another file."""
    file = os.path.basename(path)
    with about(path):
        view = map_file(path)
        return _blob(_Message(file, view, 0, len(view)), Source(file, "file", "mean", "BlobProto"), 0).array()


def _read_net(whole: _Message) -> list[StoredLayer]:
    layers = []
    for number, wire, _, start, end in whole.fields():
        if number in (2, 100) and wire == BYTES:
            layers.append(_layer(whole.inner(start, end), number == 2))
        elif number in (1, 2, 3, 8, 100) and wire != BYTES:
            raise whole.error(start, f"field {number} isn't that of a net")
    if not layers:
        raise FormatError("holds no layers, so no weights")
    return layers


def _layer(message: _Message, old: bool) -> StoredLayer:
    name_field, blobs_field = (4, 6) if old else (1, 7)
    bottom_field, top_field = (2, 3) if old else (3, 4)
    layer = StoredLayer("", "")
    found: list[_Message] = []
    for number, wire, _, start, end in message.fields():
        if wire == BYTES:
            if number == name_field:
                layer.name = message.text(start, end)
            elif number == blobs_field:
                found.append(message.inner(start, end))
            elif number == bottom_field:
                layer.bottoms.append(message.text(start, end))
            elif number == top_field:
                layer.tops.append(message.text(start, end))
            elif old and number == 1:
                for inner, kind, _, first, last in message.inner(start, end).fields():  # V0: the layer is within the layer
                    if kind == BYTES and inner == 1:
                        layer.name = message.text(first, last)
                    elif kind == BYTES and inner == 2:
                        layer.type = message.text(first, last)
                    elif kind == BYTES and inner == 50:
                        found.append(message.inner(first, last))
            elif not old and number == 2:
                layer.type = message.text(start, end)
        elif old and number == 5 and wire == VARINT:
            kind = message.number(start)
            layer.type = _V1_NAMES.get(kind, f"V1 type {kind}")
    source = Source(message.file, "layer", layer.name, layer.type)
    layer.blobs = [_blob(blob, source, index) for index, blob in enumerate(found)]
    return layer


def _blob(message: _Message, source: Source, index: int) -> Blob:
    legacy: dict[int, int] = {}
    shape: list[int] = []
    data: dict[int, list[tuple[int, int, int]]] = {}
    raw_type = 0  # NVIDIA: DOUBLE, FLOAT, FLOAT16
    for number, wire, _, start, end in message.fields():
        if wire == VARINT:
            if number <= 5:
                legacy[number] = signed(message.number(start))
            elif number == 10:
                raw_type = message.number(start)
        elif number == 7 and wire == BYTES and 5 not in legacy:
            shape = _dims(message.inner(start, end))
        else:
            data.setdefault(number, []).append((wire, start, end))
    if 5 in legacy:  # C3D: num, channels, length, height, width; data is 6
        return Blob(tuple(legacy.get(i, 0) for i in range(1, 6)), False, _values(message, data.get(6, []), "<f4"), source, index)
    if 12 in data:
        if raw_type > 2:
            raise damaged(source, f"blob {index} holds raw data of type {raw_type}, which isn't floating-point")
        values = _values(message, data[12], ("<f8", "<f4", "<f2")[raw_type])
    elif 8 in data:
        values = _values(message, data[8], "<f8")
    else:
        values = _values(message, data.get(5, []), "<f4")
    if legacy:
        return Blob(tuple(legacy.get(i, 0) for i in range(1, 5)), True, values, source, index)
    return Blob(tuple(shape), False, values, source, index)


def _dims(message: _Message) -> list[int]:
    dims = []
    for number, wire, _, start, end in message.fields():
        if number == 1 and wire == VARINT:
            dims.append(signed(message.number(start)))
        elif number == 1 and wire == BYTES:
            while start < end:
                value, start = varint(message.view, start, end)
                dims.append(signed(value))
        if len(dims) > 32:
            raise message.error(start, "a shape of more than 32 dimensions")
    return dims


def _values(message: _Message, spans: list[tuple[int, int, int]], dtype: str) -> Array:
    """The numbers of a repeated field: one view where the field is packed in one piece, as all known writers do."""
    size = np.dtype(dtype).itemsize
    pieces = []
    singles: list[int] = []
    for wire, start, end in spans:
        if (end - start) % size:
            raise message.error(start, f"{end - start} bytes are no whole number of {size}-byte values")
        if wire == BYTES:
            pieces.append(np.frombuffer(message.view, dtype, (end - start) // size, start))
        else:
            singles.append(start)
    if singles:
        whole = np.frombuffer(message.view, np.uint8)
        picked = whole[np.asarray(singles)[:, None] + np.arange(size)]
        pieces.append(np.ascontiguousarray(picked).view(dtype).reshape(-1))
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty(0, dtype)


def describe(layers: list[StoredLayer]) -> str:
    """'5 layers with weights: conv1, conv2 ...' for messages."""
    names = [layer.name for layer in layers if layer.blobs]
    shown = ", ".join(printable(name, 40) for name in names[:5])
    return f"{len(names)} layers with weights" + (f": {shown}{' ...' if len(names) > 5 else ''}" if names else "")
