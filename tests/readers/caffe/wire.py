"""Writes caffemodels byte by byte, in all their forms."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def chunk(field: int, payload: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def text(field: int, value: str) -> bytes:
    return chunk(field, value.encode())


def blob(array: np.ndarray, shape: Sequence[int] | None = None) -> bytes:
    """A blob with `shape` and packed floats, as Caffe writes it."""
    dims = b"".join(varint(d) for d in (array.shape if shape is None else shape))
    return chunk(7, chunk(1, dims)) + chunk(5, np.ascontiguousarray(array, "<f4").tobytes())


def legacy_blob(array: np.ndarray, dims: Sequence[int]) -> bytes:
    """num, channels, height, width and packed floats."""
    return b"".join(number(i, d) for i, d in enumerate(dims, 1)) + chunk(5, np.ascontiguousarray(array, "<f4").tobytes())


def unpacked_blob(array: np.ndarray) -> bytes:
    """Every value with a tag of its own."""
    values = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in array.ravel())
    return chunk(7, b"".join(number(1, d) for d in array.shape)) + values


def layer(name: str, kind: str, blobs: Iterable[bytes] = ()) -> bytes:
    """A V2 layer, as a field of the net."""
    return chunk(100, text(1, name) + text(2, kind) + b"".join(chunk(7, b) for b in blobs))


def v1_layer(name: str, kind: int, blobs: Iterable[bytes] = ()) -> bytes:
    return chunk(2, text(2, "data") + text(4, name) + number(5, kind) + b"".join(chunk(6, b) for b in blobs))


def v0_layer(name: str, kind: str, blobs: Iterable[bytes] = ()) -> bytes:
    return chunk(2, chunk(1, text(1, name) + text(2, kind) + b"".join(chunk(50, b) for b in blobs)))


def caffemodel(weights: Mapping[str, Sequence[np.ndarray]]) -> bytes:
    """A V2 caffemodel of whole layers."""
    return text(1, "net") + b"".join(layer(name, "", map(blob, arrays)) for name, arrays in weights.items())
