"""MXNet's .params files: a list of arrays and their names, mapped and checked before anything is allocated.

The file: uint64 magic 0x112, uint64 reserved, uint64 count, the array records, uint64 count of names, each name a uint64 length
and its bytes. Records come in four versions that may be mixed. Source: mxnet src/ndarray/ndarray.cc (NDArray::Save, Load, LegacyLoad).
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters import packages
from converters.errors import FormatError, about, printable, warn
from converters.files import StrPath, map_file

LIST_MAGIC = 0x112
V1_MAGIC, V2_MAGIC, V3_MAGIC = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
MAX_RANK = 32
MIN_RECORD = 4
"""Bytes of the shortest record, a rank of 0 in the oldest version."""
DENSE_LIMIT = 1 << 30
"""Bytes that a sparse array may always take once it is made dense; above it the file's own size counts."""
TYPES: dict[int, str] = {
    0: "float32",
    1: "float64",
    2: "float16",
    3: "uint8",
    4: "int32",
    5: "int8",
    6: "int64",
    7: "bool",
    8: "int16",
    9: "uint16",
    10: "uint32",
    11: "uint64",
    12: "bfloat16",
}
AUXILIARY_ARRAYS = {-1: 0, 0: 0, 1: 1, 2: 2}
"""Index arrays of each storage type: undefined, dense, row_sparse, csr."""


def numpy_type(name: str) -> np.dtype[Any]:
    """The little-endian numpy dtype of an MXNet type name."""
    if name == "bfloat16":
        packages.require("ml_dtypes")
        import ml_dtypes

        kind: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return kind
    return np.dtype(name).newbyteorder("<")


@dataclass(frozen=True)
class Record:
    """One array of the file: its place, shape and type are known at once, its bytes are looked at when asked for."""

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    dense: memoryview | None
    sparse: tuple[NDArray[Any], list[NDArray[Any]]] | None = None
    limit: int = DENSE_LIMIT

    def array(self) -> NDArray[Any]:
        """A view of the mapped file; a sparse array is made dense. Raises FormatError for indices out of range."""
        if self.dense is not None:
            return np.frombuffer(self.dense, self.dtype).reshape(self.shape)
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > self.limit:
            raise FormatError(f"{self.where}: a sparse array that takes {size} bytes when dense, {self.limit} are allowed; check the file")
        result = np.zeros(self.shape, self.dtype)
        if self.sparse is None:
            return result
        data, indices = self.sparse
        if len(indices) == 1:
            _check_range(self.where, indices[0], self.shape[0])
            result[indices[0]] = data
        else:
            rows, columns = indices
            counts = np.diff(rows)
            if len(rows) != self.shape[0] + 1 or rows[0] != 0 or rows[-1] != len(data) or (counts < 0).any():
                raise FormatError(f"{self.where}: the row offsets of a csr array don't fit its shape {self.shape}; the file is damaged")
            _check_range(self.where, columns, self.shape[1])
            result[np.repeat(np.arange(self.shape[0]), counts), columns] = data
        return result


def _check_range(what: str, indices: NDArray[Any], size: int) -> None:
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise FormatError(
            f"{what}: a sparse array's indices reach {int(indices.max())} where the axis has {size} entries; the file is damaged"
        )


@dataclass
class Params(Mapping[str, NDArray[Any]]):
    """The named arrays of a file, by name without `arg:` and `aux:`, in the order of the file; an array is a view made when asked for.

    Unnamed lists get the names "0", "1", ...; `named` tells.
    """

    path: str
    records: dict[str, Record] = field(default_factory=dict)
    named: bool = True

    def __getitem__(self, name: str) -> NDArray[Any]:
        with about(self.path):
            return self.records[name].array()

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def base(self) -> str:
        """The file's name without folders, as messages show it."""
        return os.path.basename(self.path)


class _Cursor:
    """Reads little-endian numbers and blocks of a mapped file, each checked against what is left of it."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.at = view, 0

    def take(self, size: int, what: str) -> memoryview:
        left = len(self.view) - self.at
        if size > left:
            raise FormatError(
                f"truncated or damaged: {what} at byte {self.at} needs {size} bytes, but {left} are left; fetch the file again"
            )
        self.at += size
        return self.view[self.at - size : self.at]

    def number(self, layout: str, what: str) -> int:
        return int(struct.unpack("<" + layout, self.take(struct.calcsize(layout), what))[0])

    def dims(self, rank: int, layout: str, what: str) -> tuple[int, ...]:
        if not 0 <= rank <= MAX_RANK:
            raise FormatError(f"{what} at byte {self.at}: {rank} axes (at most {MAX_RANK} make sense); the file is damaged")
        values = struct.unpack(f"<{rank}{layout}", self.take(rank * struct.calcsize(layout), f"the shape of {what}"))
        if any(v < 0 for v in values):
            raise FormatError(f"{what}: shape {values} has a negative size; the file is damaged")
        if 0 in values and math.prod(v for v in values if v) > 1 << 48:  # others are checked against the file
            raise FormatError(f"{what}: an empty array of shape {values}; the file is damaged")
        return values


def read_params(path: StrPath) -> Params:
    """Reads a .params file of any version. Raises FormatError for a file that is no such list, truncated, inconsistent or hostile."""
    given = os.fspath(path)
    with about(given):
        view = map_file(path)
        cursor = _Cursor(view)
        header = "the header of an MXNet params file (24 bytes)"
        magic = cursor.number("Q", header)
        if magic != LIST_MAGIC:
            raise FormatError(f"not an MXNet params file: it starts with {magic:#x}, expected {LIST_MAGIC:#x}")
        cursor.number("Q", header)
        count = cursor.number("Q", header)
        if count * MIN_RECORD > len(view) - cursor.at:
            raise FormatError(f"claims {count} arrays, more than its {len(view)} bytes can hold; the file is damaged or hostile")
        records = [_read_record(cursor, f"array {i}") for i in range(count)]
        names = _read_names(cursor, count)
        if cursor.at < len(view):
            warn(f"{given}: {len(view) - cursor.at} bytes follow the name table and are ignored")
        return Params(given, _by_name(names, records), named=bool(names) or not records)


def _read_record(cursor: _Cursor, what: str) -> Record | None:
    """One array in any of the four record versions; None for an array that was never initialized."""
    magic = cursor.number("I", what)
    storage, stored_shape = 0, None
    if magic in (V2_MAGIC, V3_MAGIC):
        storage = cursor.number("i", f"the storage type of {what}")
        if storage not in AUXILIARY_ARRAYS:
            raise FormatError(f"{what} has storage type {storage}; known are 0 (dense), 1 (row_sparse) and 2 (csr)")
        if storage > 0:
            stored_shape = cursor.dims(cursor.number("i", what), "q", what)
    if magic in (V1_MAGIC, V2_MAGIC, V3_MAGIC):
        rank = cursor.number("i", f"the rank of {what}")
        if rank == -1 or (rank == 0 and magic != V3_MAGIC) or storage == -1:
            return None
        shape = cursor.dims(rank, "q", what)
    elif magic == 0:
        return None
    elif magic <= MAX_RANK:
        shape = cursor.dims(magic, "I", what)
    else:
        raise FormatError(f"{what} at byte {cursor.at - 4} starts with {magic:#x}, which is no array record; the file is damaged")
    cursor.take(8, f"the context of {what}")
    dtype = _read_type(cursor, what)
    auxiliary = [(_read_type(cursor, what), cursor.dims(cursor.number("i", what), "q", what)) for _ in range(AUXILIARY_ARRAYS[storage])]
    data = cursor.take(_bytes_of(stored_shape if stored_shape is not None else shape, dtype), f"the data of {what}, shape {shape},")
    if stored_shape is None:
        return Record(what, shape, dtype, data)
    indices = []
    for index_type, index_shape in auxiliary:
        if len(index_shape) != 1 or index_type.kind not in "iu":
            raise FormatError(f"{what}: an index array of shape {index_shape} and type {index_type}; the file is damaged")
        indices.append(np.frombuffer(cursor.take(_bytes_of(index_shape, index_type), f"the indices of {what}"), index_type))
    rows_fit = storage == 1 and len(shape) >= 1 and stored_shape == (len(indices[0]), *shape[1:])
    values_fit = storage == 2 and len(shape) == 2 and stored_shape == (len(indices[1]),)
    if math.prod(stored_shape) == 0:  # MXNet writes any shape for the empty data of an all-zero array
        return Record(what, shape, dtype, None, None)
    if not rows_fit and not values_fit:
        raise FormatError(f"{what}: sparse data of shape {stored_shape} doesn't fit its indices and the shape {shape}; the file is damaged")
    values = np.frombuffer(data, dtype).reshape(stored_shape)
    return Record(what, shape, dtype, None, (values, indices), max(DENSE_LIMIT, 64 * len(cursor.view)))


def _bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def _read_type(cursor: _Cursor, what: str) -> np.dtype[Any]:
    flag = cursor.number("i", f"the type of {what}")
    if flag not in TYPES:
        raise FormatError(f"{what} has type {flag}, which MXNet doesn't define; the file is damaged")
    return numpy_type(TYPES[flag])


def _read_names(cursor: _Cursor, count: int) -> list[str]:
    total = cursor.number("Q", "the name table")
    if total not in (0, count):
        raise FormatError(f"inconsistent: {count} arrays, but {total} names; the file is damaged")
    names = []
    for i in range(total):
        raw = bytes(cursor.take(cursor.number("Q", f"the length of name {i}"), f"name {i}"))
        try:
            names.append(raw.decode())
        except UnicodeDecodeError as problem:
            raise FormatError(f"name {i} isn't UTF-8 text: {printable(repr(raw))}; the file is damaged") from problem
    return names


def _by_name(names: list[str], records: list[Record | None]) -> dict[str, Record]:
    result: dict[str, Record] = {}
    seen: dict[str, int] = {}
    for i, record in enumerate(records):
        full = names[i] if names else str(i)
        name = full[4:] if full[:4] in ("arg:", "aux:") else full
        if record is None:
            continue
        if name in result:
            if not _same(result[name], record):
                raise FormatError(
                    f"'{printable(name)}' is there twice with different values (arrays {seen[name]} and {i}); "
                    "which one is meant can't be told"
                )
            continue
        result[name] = Record(f"array {i} '{printable(name)}'", *_fields(record))
        seen[name] = i
    return result


def _fields(record: Record) -> tuple[Any, ...]:
    return record.shape, record.dtype, record.dense, record.sparse, record.limit


def _same(a: Record, b: Record) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.dense is not None and b.dense is not None and a.dense == b.dense
