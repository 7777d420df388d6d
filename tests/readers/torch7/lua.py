"""Writes .t7 files as Lua Torch does (torch7/File.lua), to test the reader: any word size, byte order, binary or ASCII."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

CLASSES = {"u1": "Byte", "i1": "Char", "i2": "Short", "i4": "Int", "i8": "Long", "f2": "Half", "f4": "Float", "f8": "Double"}


class Object:
    """A Torch object; `fields` is its payload, mostly a dict."""

    def __init__(self, typename: str, fields: Any = None, version: int | None = 1, **more: Any) -> None:
        self.typename, self.version = typename, version
        self.fields = {**(fields or {}), **more} if fields is None or isinstance(fields, dict) else fields


class Storage:
    def __init__(self, array: Any, cuda: bool = False) -> None:
        self.array = np.asarray(array)
        self.typename = f"torch.{'Cuda' if cuda else ''}{CLASSES[self.array.dtype.str[1:]]}Storage"


class Tensor:
    """A tensor over a storage that others may share; sizes, strides and offset (from 0) in elements."""

    def __init__(self, storage: Storage, size: Any, stride: Any, offset: int = 0) -> None:
        self.storage, self.size, self.stride, self.offset = storage, size, stride, offset


class Function:
    """tag: 6, 7 or 8."""

    def __init__(self, code: bytes, upvalues: Any, tag: int = 8) -> None:
        self.code, self.upvalues, self.tag = code, upvalues, tag


class Pairs:
    """A table with keys that a dict can't hold, as a list of pairs."""

    def __init__(self, pairs: Any) -> None:
        self.pairs = pairs


class Writer:
    def __init__(self, order: str = "<", long_bytes: int = 8, ascii: bool = False) -> None:
        self.order, self.long_bytes, self.ascii = order, long_bytes, ascii
        self.parts: list[bytes] = []
        self.indices: dict[int, int] = {}
        self.kept: list[Any] = []

    def bytes(self) -> bytes:
        return b"".join(self.parts)

    def numbers(self, kind: str, *values: Any) -> None:
        if self.ascii:
            form = "%.17g" if kind == "d" else "%.9g" if kind == "f" else "%d"
            self.parts.append(b" ".join((form % v).encode() for v in values) + b"\n" if values else b"")
        else:
            code = {"l": "q" if self.long_bytes == 8 else "i"}.get(kind, kind)
            self.parts.append(struct.pack(f"{self.order}{len(values)}{code}", *values))

    def raw(self, text: bytes) -> None:
        self.parts.append(text + (b"\n" if self.ascii and text else b""))

    def string(self, text: str | bytes) -> None:
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        self.numbers("i", len(data))
        self.raw(data)

    def _seen(self, value: Any, tag: int) -> bool:
        """Writes tag and index; True where the object is written already."""
        self.numbers("i", tag)
        known = id(value) in self.indices
        index = self.indices.setdefault(id(value), len(self.indices) + 1)
        self.kept.append(value)
        self.numbers("i", index)
        return known

    def write(self, value: Any) -> Writer:
        if value is None:
            self.numbers("i", 0)
        elif isinstance(value, bool | np.bool_):
            self.numbers("i", 5)
            self.numbers("i", int(value))
        elif isinstance(value, int | float | np.integer | np.floating):
            self.numbers("i", 1)
            self.numbers("d", float(value))
        elif isinstance(value, str | bytes):
            self.numbers("i", 2)
            self.string(value)
        elif isinstance(value, Function):
            if value.tag == 6:
                self.numbers("i", 6)
            elif self._seen(value, value.tag):
                return self
            self.string(value.code)
            self.write(value.upvalues)
        elif isinstance(value, dict | list | tuple | Pairs):
            if not self._seen(value, 3):
                pairs = value.pairs if isinstance(value, Pairs) else value.items() if isinstance(value, dict) else enumerate(value, 1)
                pairs = [(k, v) for k, v in pairs if v is not None]
                self.numbers("i", len(pairs))
                for k, v in pairs:
                    self.write(k)
                    self.write(v)
        else:
            self._object(value)
        return self

    def _object(self, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self.kept.append(value)
            if id(value) in self.indices:
                self._seen(value, 4)
                return
            stride = [s // value.itemsize for s in value.strides] if value.flags.c_contiguous else None
            array = np.ascontiguousarray(value)
            stride = stride or [s // array.itemsize for s in array.strides]
            self._seen(value, 4)
            storage = Storage(array.reshape(-1))
            self._tensor(
                Tensor(storage if value.size else None, value.shape if value.size else (), stride if value.size else ()), array.dtype
            )
            return
        if self._seen(value, 4):
            return
        if isinstance(value, Tensor):
            self._tensor(value, value.storage.array.dtype)
        elif isinstance(value, Storage):
            self.string("V 1")
            self.string(value.typename)
            self.numbers("l", len(value.array))
            kind = value.array.dtype.str[1:]
            if self.ascii and kind in ("u1", "i1"):
                self.raw(value.array.tobytes())
            elif self.ascii:
                self.numbers("d" if kind == "f8" else "f" if kind[0] == "f" else "i", *value.array.tolist())
            else:
                kind = f"i{self.long_bytes}" if kind == "i8" else kind
                self.parts.append(value.array.astype(self.order + kind).tobytes())
        else:
            if value.version is not None:
                self.string(f"V {value.version}")
            self.string(value.typename)
            if value.typename == "nn.GPU":  # which writes a header of its own: nn/GPU.lua
                self.write({"_type": "torch.FloatTensor", "_device": 1})
            self.write(value.fields)

    def _tensor(self, value: Tensor, dtype: Any) -> None:
        self.string("V 1")
        name = value.storage.typename if value.storage is not None else Storage(np.empty(0, dtype)).typename
        self.string(name.replace("Storage", "Tensor"))
        self.numbers("i", len(value.size))
        self.numbers("l", *value.size)
        self.numbers("l", *value.stride)
        self.numbers("l", value.offset + 1)
        self.write_storage(value.storage)

    def write_storage(self, storage: Storage | None) -> None:
        if storage is None:
            self.numbers("i", 0)
        else:
            self._object(storage)


def dumps(value: Any, **options: Any) -> bytes:
    """The bytes of a .t7 that holds `value`: dicts and lists as tables, numpy arrays as tensors."""
    return Writer(**options).write(value).bytes()


def sizes(*values: int) -> Storage:
    """A LongStorage."""
    return Storage(np.array(values, dtype=np.int64))


def module(typename: str, *modules: Any, version: int = 1, **fields: Any) -> Object:
    """A module as nn writes it; positional ones are its `modules`."""
    named = {k: v for k, v in fields.items() if v is not None}
    if modules:
        named["modules"] = list(modules)
    return Object(typename, {"_type": "torch.FloatTensor", "train": False, **named}, version)
