"""Writes MXNet's files byte by byte, apart from the reader: arrays in every record version, lists, symbols."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6, "bool": 7}
CPU, GPU = (1, 0), (2, 3)


def shape_of(dims) -> bytes:
    return struct.pack(f"<i{len(dims)}q", len(dims), *dims)


def record(array: np.ndarray, version: int = 2, context=CPU) -> bytes:
    """A dense array in version 0, 1, 2 or 3."""
    tail = struct.pack("<iii", *context, FLAGS[array.dtype.name]) + array.tobytes()
    if version == 0:
        return struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape) + tail
    magic = struct.pack("<I", 0xF993FAC8 + version - 1)
    return magic + (b"" if version == 1 else struct.pack("<i", 0)) + shape_of(array.shape) + tail


def sparse(kind: int, shape, data: np.ndarray, indices: list[np.ndarray]) -> bytes:
    """A row_sparse (1) or csr (2) array."""
    head = struct.pack("<Ii", 0xF993FAC9, kind) + shape_of(data.shape) + shape_of(shape)
    head += struct.pack("<iii", *CPU, FLAGS[data.dtype.name])
    head += b"".join(struct.pack("<i", FLAGS[i.dtype.name]) + shape_of(i.shape) for i in indices)
    return head + data.tobytes() + b"".join(i.tobytes() for i in indices)


def listing(records: list[bytes], names: list[str | bytes] | None, *, magic: int = 0x112, count: int | None = None) -> bytes:
    """A whole file; names None leaves the name table out."""
    body = struct.pack("<QQQ", magic, 0, len(records) if count is None else count) + b"".join(records)
    if names is None:
        return body
    raw = [n.encode() if isinstance(n, str) else n for n in names]
    return body + struct.pack("<Q", len(raw)) + b"".join(struct.pack("<Q", len(n)) + n for n in raw)


def params(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    path.write_bytes(listing([record(a) for a in arrays.values()], list(arrays)))
    return path


def node(op: str, name: str, inputs=(), **attributes) -> dict:
    return {"op": op, "name": name, "attrs": {k: str(v) for k, v in attributes.items()}, "inputs": [[*i, 0] for i in inputs]}


def symbol(path: Path, nodes: list[dict], heads, version: int | None = 10901) -> Path:
    document: dict = {"nodes": nodes, "arg_nodes": [], "heads": [[*h, 0] for h in heads]}
    if version is not None:
        document["attrs"] = {"mxnet_version": ["int", version]}
    path.write_text(json.dumps(document))
    return path
