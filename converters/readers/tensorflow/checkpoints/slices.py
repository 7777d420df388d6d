"""Shapes, and the parts that a partitioner cut a variable into.

Sources: TensorFlow's core/framework/tensor_slice.proto, tensor_shape.proto, core/lib/strings/ordered_code.cc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from converters.errors import FormatError
from converters.schemas.wire import BYTES, fields, signed
from converters.tensors.storage import Storage
from converters.tensors.tensor import Tensor

Slice = tuple[tuple[int, int], ...]
"""(start, length) of each axis; length -1: the whole axis."""


def read_shape(view: memoryview, what: str) -> tuple[int, ...]:
    """A TensorShapeProto. Raises FormatError for a size below 0."""
    dims = []
    for number, wire, _, payload in fields(view, what):
        if number == 2 and wire == BYTES:
            dims.append(next((signed(value) for n, _, value, _ in fields(payload, what) if n == 1), 0))
    if any(dim < 0 for dim in dims):
        raise FormatError(f"{what} has the shape {tuple(dims)}; a size can't be negative")
    return tuple(dims)


def read_slice(view: memoryview, what: str) -> Slice:
    """A TensorSliceProto: an extent without a length is the whole axis."""
    extents = []
    for number, wire, _, payload in fields(view, what):
        if number == 1 and wire == BYTES:
            found = {n: signed(value) for n, _, value, _ in fields(payload, what)}
            extents.append((found.get(1, 0), found.get(2, -1)))
    return tuple(extents)


def place_of(part: Slice, shape: tuple[int, ...], what: str) -> tuple[slice, ...]:
    """Where in the whole variable a part lies. Raises FormatError where it reaches out of it."""
    if len(part) != len(shape):
        raise FormatError(f"{what} has a part of {len(part)} axes, but the shape {shape}")
    place = []
    for (start, length), size in zip(part, shape, strict=True):
        stop = size if length == -1 else start + length
        if not 0 <= start <= stop <= size:
            raise FormatError(f"{what} has a part {start}..{stop} of an axis of {size}")
        place.append(slice(start, stop))
    return tuple(place)


class PartsStorage(Storage):
    """The bytes of a variable that is stored in parts, put together when they are looked at."""

    def __init__(self, dtype: np.dtype[np.generic], shape: tuple[int, ...], parts: Sequence[tuple[tuple[slice, ...], Tensor]]) -> None:
        self.dtype, self.shape, self.parts = dtype, shape, parts
        self.nbytes = math.prod(shape) * dtype.itemsize

    def view(self) -> memoryview:
        whole = np.empty(self.shape, self.dtype)
        for place, part in self.parts:
            whole[place] = part.numpy()
        return whole.reshape(-1).view(np.uint8).data


def dtype_of(name: str) -> np.dtype[np.generic]:
    """numpy's type by torch's name; bfloat16 as the 16 bits that it is, so that parts can be joined with numpy alone."""
    return np.dtype(np.uint16) if name == "bfloat16" else np.dtype(name)


def shown(place: Sequence[slice]) -> str:
    return "[" + ", ".join(f"{axis.start}:{axis.stop}" for axis in place) + "]"


def check_cover(places: Sequence[tuple[slice, ...]], shape: tuple[int, ...], what: str) -> None:
    """Raises FormatError where parts overlap, or leave something out: together they have as many elements as the whole."""
    total = sum(math.prod(axis.stop - axis.start for axis in place) for place in places)
    if total != math.prod(shape):
        raise FormatError(f"{what}: its parts hold {total} of {math.prod(shape)} numbers")
    for i, one in enumerate(places):
        for other in places[:i]:
            if all(a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True)):
                raise FormatError(f"{what}: its parts {shown(one)} and {shown(other)} overlap")


def slice_key(name: bytes, part: Slice) -> bytes:
    """The key of a part of a variable, as ordered code: sorted as bytes, keys are sorted by name and place."""
    escaped = b"".join({0: b"\x00\xff", 255: b"\xff\x00"}.get(byte, bytes([byte])) for byte in name)
    out = b"\x00" + escaped + b"\x00\x01" + _number(len(part))
    for start, length in part:
        out += _signed_code(start) + _signed_code(length)
    return out


def _number(value: int) -> bytes:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes([len(data)]) + data


def _signed_code(value: int) -> bytes:
    """A signed number: its first bits say in how many bytes it lies, and sort."""
    magnitude = ~value if value < 0 else value
    size = magnitude.bit_length() // 7 + 1  # a sign bit and a bit of header per byte
    if size == 1:
        return bytes([(value & 0xFF) ^ 0x80])
    data = bytearray((value & ((1 << 8 * size) - 1)).to_bytes(size, "big"))
    for bit in range(size):
        data[bit // 8] ^= 0x80 >> bit % 8
    return bytes(data)
