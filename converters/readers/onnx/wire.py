"""The tensors of an ONNX file as places in it: the protobuf around them is taken apart by hand, so that their bytes are never copied.

Only ModelProto.graph.initializer is looked into; all else goes to the protobuf library as it is. Field numbers are those of onnx.proto.
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.schemas.wire import BYTES, header, spans

_GRAPH, _INITIALIZER = 7, 5
_FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA = 4, 9, 10
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


def _field(number: int, parts: list[bytes | memoryview]) -> list[bytes | memoryview]:
    return [header(number, sum(len(part) for part in parts)), *parts]


def split_tensors(view: memoryview, file: str) -> tuple[bytes, list[Place | None]]:
    """The model without the data of its large initializers, and where that data lies, per initializer."""
    what = f"{file}: the ONNX file"
    places: list[Place | None] = []
    light: list[bytes | memoryview] = []
    for field, wire, start, payload, end in spans(view, 0, len(view), what):
        if field != _GRAPH or wire != BYTES:
            light.append(view[start:end])
            continue
        graph: list[bytes | memoryview] = []
        kept = payload
        for inner, inner_wire, inner_start, inner_payload, inner_end in spans(view, payload, end, what):
            if inner != _INITIALIZER or inner_wire != BYTES:
                continue
            place, rest = _tensor(view, inner_payload, inner_end, what)
            places.append(place)
            if place is not None:
                graph.append(view[kept:inner_start])
                graph += _field(_INITIALIZER, rest)
                kept = inner_end
        graph.append(view[kept:end])
        light += _field(_GRAPH, graph)
    return b"".join(light), places


def _tensor(view: memoryview, at: int, end: int, what: str) -> tuple[Place | None, list[bytes | memoryview]]:
    if end - at < HEAVY:
        return None, []
    found: list[Place] = []
    rest: list[bytes | memoryview] = []
    for field, wire, start, payload, stop in spans(view, at, end, what):
        if field in (_RAW_DATA, _FLOAT_DATA, _DOUBLE_DATA) and wire == BYTES:
            found.append(Place(field, payload, stop - payload))
        else:
            rest.append(view[start:stop])
            if field in (_FLOAT_DATA, _DOUBLE_DATA):  # not packed: left to protobuf
                return None, []
    return (found[0], rest) if len(found) == 1 else (None, [])
