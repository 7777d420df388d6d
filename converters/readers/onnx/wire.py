"""The tensors of an ONNX file as places in it: the protobuf around them is taken apart by hand, so that their bytes are never copied.

Only ModelProto.graph.initializer is looked into; all else goes to the protobuf library as it is. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from converters.errors import FormatError

_GRAPH, _INITIALIZER = 7, 5
_FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA = 4, 9, 10
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
HEAVY = 1024
"""Tensors of fewer bytes are left where they are."""


@dataclass(frozen=True)
class Place:
    """Where the data of one initializer lies in the file. field: raw_data, float_data (packed) or double_data (packed)."""

    field: int
    offset: int
    length: int

    @property
    def is_raw(self) -> bool:
        return self.field == _RAW_DATA

    @property
    def is_float(self) -> bool:
        return self.field == _FLOAT_DATA


def _varint(view: memoryview, at: int, end: int, file: str) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= end:
            raise FormatError(f"{file}: the ONNX file is cut off at byte {at}")
        byte = view[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise FormatError(f"{file}: no ONNX model: byte {at} continues a number that is too long")


def _fields(view: memoryview, at: int, end: int, file: str) -> Iterator[tuple[int, int, int, int, int]]:
    """(field, wire type, start of the whole field, start of its payload, end) for each field of a message."""
    while at < end:
        start = at
        tag, at = _varint(view, at, end, file)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            payload = at
            _, at = _varint(view, at, end, file)
        elif wire == _BYTES:
            length, payload = _varint(view, at, end, file)
            at = payload + length
        elif wire in (_FIXED64, _FIXED32):
            payload = at
            at += 8 if wire == _FIXED64 else 4
        else:
            raise FormatError(f"{file}: no ONNX model: byte {start} starts a field of an unknown kind")
        if at > end:
            raise FormatError(f"{file}: the ONNX file is cut off: a field at byte {start} needs {at - end} more bytes than there are")
        yield field, wire, start, payload, at


def _field(number: int, parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    length = sum(len(part) for part in parts)
    head = bytearray()
    for value in (number << 3 | _BYTES, length):
        while value > 0x7F:
            head.append(value & 0x7F | 0x80)
            value >>= 7
        head.append(value)
    return [bytes(head), *parts]


def split_tensors(view: memoryview, file: str) -> tuple[bytes, list[Place | None]]:
    """The model without the data of its large initializers, and where that data lies, per initializer."""
    places: list[Place | None] = []
    light: list[bytes | memoryview] = []
    for field, wire, start, payload, end in _fields(view, 0, len(view), file):
        if field != _GRAPH or wire != _BYTES:
            light.append(view[start:end])
            continue
        graph: list[bytes | memoryview] = []
        kept = payload
        for inner, inner_wire, inner_start, inner_payload, inner_end in _fields(view, payload, end, file):
            if inner != _INITIALIZER or inner_wire != _BYTES:
                continue
            place, rest = _tensor(view, inner_payload, inner_end, file)
            places.append(place)
            if place is not None:
                graph.append(view[kept:inner_start])
                graph += _field(_INITIALIZER, rest)
                kept = inner_end
        graph.append(view[kept:end])
        light += _field(_GRAPH, graph)
    return b"".join(light), places


def _tensor(view: memoryview, at: int, end: int, file: str) -> tuple[Place | None, list[bytes | memoryview]]:
    if end - at < HEAVY:
        return None, []
    found: list[Place] = []
    rest: list[bytes | memoryview] = []
    for field, wire, start, payload, stop in _fields(view, at, end, file):
        if field in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA) and wire == _BYTES:
            found.append(Place(field, payload, stop - payload))
        else:
            rest.append(view[start:stop])
            if field in (_FLOAT_DATA, _DOUBLE_DATA):  # not packed: left to protobuf
                return None, []
    return (found[0], rest) if len(found) == 1 else (None, [])
