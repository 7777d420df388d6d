"""Reads Torch7's serialization (.t7): torch7/File.lua, DiskFile.c, generic/Tensor.c, generic/Storage.c.

A file is one object: a tag, then what the tag asks for. Tables, Torch objects and functions carry an index; an index seen before is a
reference to the very same object, so that shared storages stay shared and cycles stay cycles. Binary files don't say how long a
C long is nor in which byte order they were written: both are found by reading.

This is plain code and no subclass of torchfile's T7Reader: every method of that one is bound to a file that is read forward and
copied, and calls itself for each level of nesting. Here the file stays mapped, nesting lives on an explicit stack, every size is
checked against what is left of the file before anything is made, and functions are kept as bytes: nothing is ever run.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Generator
from types import GeneratorType
from typing import Any

from converters.errors import FormatError, about, printable, warn
from converters.files import StrPath, map_file
from converters.readers.torch7.encodings import Ascii, Binary, BrokenError, Encoding
from converters.readers.torch7.lua_values import DTYPES, Function, Storage, Table, Tensor, TorchObject, tensor_of

__all__ = ["DTYPES", "Function", "Storage", "Table", "Tensor", "TorchObject", "read", "tensor_of"]

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, LEGACY_RECURSIVE_FUNCTION, RECURSIVE_FUNCTION = range(9)

MAX_DIMENSIONS = 32
"""As many as numpy 1 can view; nothing that nn does has more than 5."""

_GENERATOR_BYTES = 5048
"""sizeof(THGenerator): a random generator's state, written raw."""


# -- objects -----------------------------------------------------------------------------------------------------------

_Composite = Generator[str, Any, Any]


class _Objects:
    """Reads objects without recursion: a composite is a generator that yields the label of each part that it needs next."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.seen: dict[int, Any] = {}
        self.trail: list[str] = []

    def read(self) -> Any:
        stack: list[_Composite] = []
        value = self._begin()
        while True:
            if isinstance(value, GeneratorType):
                stack.append(value)
                self.trail.append("")
                value = None
            elif not stack:
                return value
            try:
                self.trail[-1] = stack[-1].send(value)
                value = self._begin()
            except StopIteration as stop:
                stack.pop()
                self.trail.pop()
                value = stop.value

    def place(self) -> str:
        """Where reading stands: `$.modules[1].weight`, shortened in the middle of a deep nest."""
        trail = self.trail if len(self.trail) <= 24 else [*self.trail[:12], "...", *self.trail[-12:]]
        return printable("$" + "".join(trail), 400)

    def _begin(self) -> Any:
        """The next value, or a generator that makes it."""
        at = self.encoding.offset
        tag = self.encoding.integer()
        if tag == NIL:
            return None
        if tag == NUMBER:
            return self.encoding.double()
        if tag == STRING:
            return self._text()
        if tag == BOOLEAN:
            return self.encoding.integer() != 0
        if tag == FUNCTION:
            return self._function(None)
        if tag not in (TABLE, TORCH, LEGACY_RECURSIVE_FUNCTION, RECURSIVE_FUNCTION):
            self.encoding.offset = at
            raise BrokenError(f"unknown type tag {tag}; Torch7 has 0 to 8")
        index = self.encoding.integer()
        if index in self.seen:
            return self.seen[index]
        if tag == TABLE:
            return self._table(index)
        return self._object(index) if tag == TORCH else self._function(index)

    def _count(self, what: str, count: int, least: int = 1) -> int:
        """A number of things from the file, each of at least `least` bytes."""
        if count < 0:
            raise BrokenError(f"{what} of length {count}")
        if count * least > self.encoding.remaining():
            raise BrokenError(
                f"{what} of length {count} can't be in the {self.encoding.remaining()} bytes that are left of the file (truncated?)"
            )
        return count

    def _text(self) -> str:
        return self.encoding.chars(self._count("a string", self.encoding.integer())).decode("utf-8", "surrogateescape")

    def _function(self, index: int | None) -> _Composite:
        function = Function(self.encoding.chars(self._count("a function", self.encoding.integer())))
        if index is not None:
            self.seen[index] = function
        function.upvalues = yield ".upvalues"
        return function

    def _table(self, index: int) -> _Composite:
        # an entry takes two tags: 8 bytes, or in text 4
        count = self._count("a table", self.encoding.integer(), 4)
        table = Table()
        self.seen[index] = table
        yield from self._fill(table, count)
        return table

    def _fill(self, table: Table, count: int) -> _Composite:
        for _ in range(count):
            key = yield "[key]"
            value = yield _label(key)
            if key is None:
                raise BrokenError("a table has an entry without a key")
            table[key] = value
        return table

    def _object(self, index: int) -> _Composite:
        at = self.encoding.offset
        version, typename = 0.0, self._text()
        if typename.startswith("V "):
            try:
                version = float(typename[2:])
            except ValueError:
                raise BrokenError(f"{printable(typename, 40)!r} is no version") from None
            at, typename = self.encoding.offset, self._text()
        stem = typename.removesuffix("Tensor").removesuffix("Storage")
        if typename in (stem + "Tensor", stem + "Storage") and stem in DTYPES:
            return self._storage(index, typename) if typename.endswith("Storage") else (yield from self._tensor(index, typename))
        if typename.startswith("torch.") and typename.endswith(("Tensor", "Storage")):
            self.encoding.offset = at
            raise BrokenError(
                f"unknown Torch class {printable(typename, 60)!r}: how it lies in the file isn't known, so nothing behind it can be read"
            )
        made = TorchObject(typename, version)
        self.seen[index] = made
        if typename in ("tds.Vec", "tds.Hash"):
            count = self._count(f"a {typename}", self.encoding.long_integer(), 2 if typename == "tds.Vec" else 4)
            made.payload = Table()
            if typename == "tds.Hash":
                yield from self._fill(made.payload, count)
            else:
                for position in range(1, count + 1):
                    made.payload[float(position)] = yield f"[{position}]"
        elif typename == "torch.Generator":
            made.payload = self.encoding.chars(_GENERATOR_BYTES)
        elif typename == "tds.AtomicCounter":
            made.payload = self.encoding.long_integer()
        elif typename == "torch.Timer":  # nothing is written of one: nn/Profile.lua
            made.payload = Table()
        else:
            if typename == "nn.GPU":  # a header {type, device} lies before the fields: nn/GPU.lua
                yield "[header]"
            made.payload = yield ""
        return made

    def _storage(self, index: int, typename: str) -> Storage:
        storage = Storage(typename)
        self.seen[index] = storage
        dtype = DTYPES[typename.removesuffix("Storage")]
        count = self._count("a storage", self.encoding.long_integer(), 0)
        storage.array = self.encoding.numbers(dtype, count)
        return storage

    def _tensor(self, index: int, typename: str) -> _Composite:
        at = self.encoding.offset
        tensor = Tensor(typename)
        self.seen[index] = tensor
        dimensions = self.encoding.integer()
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            self.encoding.offset = at
            raise BrokenError(f"a tensor of {dimensions} dimensions")
        tensor.size = self.encoding.longs(dimensions)
        tensor.stride = self.encoding.longs(dimensions)
        tensor.offset = self.encoding.long_integer() - 1
        storage = yield ".storage"
        self._check_view(tensor, storage)
        tensor.storage = storage
        return tensor

    def _check_view(self, tensor: Tensor, storage: Any) -> None:
        """Refuses a tensor that could look outside its storage."""
        shown = f"a tensor of size {tensor.size}, stride {tensor.stride}, offset {tensor.offset}"
        if storage is not None and not isinstance(storage, Storage):
            raise BrokenError("a tensor's storage is something else")
        if storage is not None and DTYPES[storage.typename.removesuffix("Storage")] != DTYPES[tensor.typename.removesuffix("Tensor")]:
            raise BrokenError(f"a {tensor.typename} over a {storage.typename}")
        # an empty tensor has no sizes at all (THTensor_(resizeNd)): one of 0 is what a file that is cut off gives, read with shorter longs
        if min(tensor.size, default=1) < 1 or min(tensor.stride, default=0) < 0 or tensor.offset < 0:
            raise BrokenError(f"{shown}: sizes of 0, negative sizes, strides or offsets aren't possible")
        if tensor.elements:
            held = len(storage.array) if storage is not None else 0
            last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))
            if last >= held:
                raise BrokenError(f"{shown} reaches element {last} of a storage of {held}")


def _label(key: Any) -> str:
    if isinstance(key, str):
        return f".{key}" if key.isidentifier() else f"[{key!r}]"
    if isinstance(key, float):
        return f"[{key:.17g}]"
    return f"[{'true' if key else 'false'}]" if isinstance(key, bool) else "[object]"


# -- files -------------------------------------------------------------------------------------------------------------


def _encodings(view: memoryview) -> list[Encoding]:
    """The encodings that the first bytes allow, the likeliest first."""
    head = bytes(view[:512])
    if re.match(rb"[ ]*[0-8][ \r]*(\n|$)", head):
        return [Ascii(view)]
    if len(head) < 4:
        raise FormatError(f"offset 0: the file ends inside its first int: it has {len(head)} of 4 bytes (truncated?)")
    for order in "<>":
        if 0 <= struct.unpack_from(order + "i", head)[0] <= RECURSIVE_FUNCTION:
            return [Binary(view, order, 8), Binary(view, order, 4)]
    raise FormatError(f"not a .t7 file: the first int, {struct.unpack('<i', head[:4])[0]}, is no type tag of Torch7 (0 to 8)")


def read(path: StrPath) -> Any:
    """The object in a .t7 file: None, bool, float, str, Table, TorchObject, Tensor, Storage or Function.

    Tensors are views of the mapped file. Strings are UTF-8, other bytes of theirs surrogates. Raises FormatError, with the offset
    and the field, for a file that is broken or isn't Torch7's; warns of bytes behind the object.
    """
    with about(path):
        return _read(map_file(path), os.fspath(path))


def _read(view: memoryview, file: str) -> Any:
    read_first: tuple[Encoding, Any] | None = None
    faults: list[tuple[int, FormatError]] = []
    for position, encoding in enumerate(_encodings(view)):
        objects = _Objects(encoding)
        try:
            value = objects.read()
        except BrokenError as fault:
            error = FormatError(f"offset {encoding.offset} ({objects.place()}): {fault}")
            faults.append((encoding.offset, error))
            continue
        rest = bytes(view[encoding.offset : encoding.offset + 64])
        if not rest or (position == 0 and not rest.strip(b"\n\r \0")):
            return value
        if position == 0:  # an encoding that is tried second has to explain the whole file
            read_first = encoding, value
    if read_first is None:
        raise max(faults, key=lambda fault: fault[0])[1]
    encoding, value = read_first
    warn(f"{file}: {encoding.remaining()} bytes follow the object that ends at offset {encoding.offset}; they aren't read")
    return value
