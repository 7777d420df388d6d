"""Protobuf's wire format by hand: against the protobuf library, and what is no message."""

from __future__ import annotations

import pytest
from converters.schemas import caffe_pb2
from converters.schemas.wire import BYTES, FIXED32, VARINT, CutOffError, fields, header, signed, spans, varint, varints

from converters.errors import FormatError

NET = caffe_pb2.NetParameter(name="n" * 200, layer=[caffe_pb2.LayerParameter(name="a", loss_weight=[0.5], propagate_down=[True])])


def test_fields_are_those_that_protobuf_wrote() -> None:
    view = memoryview(NET.SerializeToString())
    found = {number: (wire, payload) for number, wire, _, payload in fields(view, "a net")}
    assert found[1] == (BYTES, b"n" * 200)
    layer = {number: (wire, value) for number, wire, value, _ in fields(found[100][1], "a layer")}
    assert layer[5] == (FIXED32, 0x3F000000) and layer[11] == (VARINT, 1)
    begins = [(begin, end) for _, _, begin, _, end in spans(view, 0, len(view))]
    assert begins[0][0] == 0 and begins[-1][1] == len(view) and begins[0][1] == begins[1][0]


def test_headers_and_numbers() -> None:
    data = header(7, 300) + bytes(300)
    assert list(fields(memoryview(data), "it")) == [(7, BYTES, 0, bytes(300))]
    minus = caffe_pb2.BlobShape(dim=[-1, 300]).SerializeToString()
    ((_, wire, _, payload),) = fields(memoryview(minus), "a shape")
    assert wire == BYTES and varints(payload, "it").tolist() == [-1, 300]
    assert signed(varint(payload, 0, len(payload))[0]) == -1


@pytest.mark.parametrize(
    "data, error, says",
    {
        "ends inside a key": (b"\x80", CutOffError, "inside a number"),
        "ends inside a number": (b"\x08\xff", CutOffError, "inside a number"),
        "ends inside a payload": (b"\x0a\x05ab", CutOffError, "claims 5 bytes where 2 are left"),
        "ends inside eight bytes": (b"\x09abc", CutOffError, "claims 8 bytes where 3 are left"),
        "a long number": (b"\x08" + b"\xff" * 11, FormatError, "more than 64 bits"),
        "a group": (b"\x0b\x0c", FormatError, "wire type 3"),
        "the number 0": (b"\x02\x00", FormatError, "number 0"),
    }.values(),
)
def test_what_is_no_message(data: bytes, error: type[FormatError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        list(fields(memoryview(data), "it"))
    assert type(caught.value) is error


def test_a_field_that_reaches_behind_the_end_may_be_the_last() -> None:
    assert list(spans(memoryview(b"\x0a\x05ab"), 0, 4, whole=False)) == [(1, BYTES, 0, 2, 7)]
