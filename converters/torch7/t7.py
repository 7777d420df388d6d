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
import warnings
from collections.abc import Generator, Iterator
from types import GeneratorType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionWarning, FormatError, printable
from converters.files import StrPath, map_file

NIL, NUMBER, STRING, TABLE, TORCH, BOOLEAN, FUNCTION, LEGACY_RECURSIVE_FUNCTION, RECURSIVE_FUNCTION = range(9)

MAX_DIMENSIONS = 32
"""As many as numpy 1 can view; nothing that nn does has more than 5."""

_ELEMENTS = {"Byte": "u1", "Char": "i1", "Short": "i2", "Int": "i4", "Long": "i8", "Half": "f2", "Float": "f4", "Double": "f8"}
DTYPES = {f"torch.{cuda}{name}": dtype for name, dtype in _ELEMENTS.items() for cuda in ("", "Cuda")} | {
    "torch.Cuda": "f4",
    "torch.Cl": "f4",
}
"""Element types by class name without its ending Tensor or Storage."""

_GENERATOR_BYTES = 5048
"""sizeof(THGenerator): a random generator's state, written raw."""


class Table:
    """A Lua table. Numbers are floats (1 and 1.0 find the same entry, True another), objects as keys are told apart by identity.

    >>> table = Table()
    >>> table[1.0], table[True], table["x"] = "one", "yes", "text"
    >>> table[1], table.get(True), table.get("y"), len(table)
    ('one', 'yes', None, 3)
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[Any, Any] = {}

    @staticmethod
    def _key(key: Any) -> Any:
        return (key,) if isinstance(key, bool) else key

    def __setitem__(self, key: Any, value: Any) -> None:
        self._entries[self._key(key)] = value

    def __getitem__(self, key: Any) -> Any:
        return self._entries[self._key(key)]

    def get(self, key: Any, default: Any = None) -> Any:
        return self._entries.get(self._key(key), default)

    def __contains__(self, key: Any) -> bool:
        return self._key(key) in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def items(self) -> Iterator[tuple[Any, Any]]:
        """All entries in the order of the file."""
        return ((key[0] if isinstance(key, tuple) else key, value) for key, value in self._entries.items())

    def array(self) -> list[Any]:
        """The values at 1, 2, 3 ... up to the first hole, as Lua's ipairs walks them."""
        values: list[Any] = []
        while (value := self._entries.get(len(values) + 1)) is not None:
            values.append(value)
        return values

    def __repr__(self) -> str:
        return f"<Table of {len(self)} entries>"


class TorchObject:
    """An instance of a class: its name, version and payload, mostly a Table of its fields."""

    __slots__ = ("payload", "typename", "version")

    def __init__(self, typename: str, version: float) -> None:
        self.typename = typename
        self.version = version
        self.payload: Any = None

    def get(self, field: str, default: Any = None) -> Any:
        return self.payload.get(field, default) if isinstance(self.payload, Table) else default

    def __repr__(self) -> str:
        return f"<{printable(self.typename)}>"


class Storage:
    """The elements that tensors look at, a view of the mapped file."""

    __slots__ = ("array", "typename")

    def __init__(self, typename: str) -> None:
        self.typename = typename
        self.array: NDArray[Any] = np.empty(0)


class Tensor:
    """A view of a storage: sizes, strides and the offset of its first element, in elements. Without a storage it is empty."""

    __slots__ = ("offset", "size", "storage", "stride", "typename")

    def __init__(self, typename: str) -> None:
        self.typename = typename
        self.size: tuple[int, ...] = ()
        self.stride: tuple[int, ...] = ()
        self.offset = 0
        self.storage: Storage | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.storage.array.dtype if self.storage is not None else np.dtype(DTYPES[self.typename.removesuffix("Tensor")])

    @property
    def elements(self) -> int:
        """Number of elements; a tensor without dimensions is empty in Torch7, never a scalar."""
        count = int(bool(self.size))
        for size in self.size:
            count *= size
        return count

    @property
    def array(self) -> NDArray[Any]:
        """The elements as a read-only numpy view; nothing is copied. The reader has checked that it stays inside the storage."""
        if self.storage is None or not self.elements:
            return np.empty(0, dtype=self.dtype)
        data = self.storage.array
        # the stride along a dimension of size 1 leads nowhere, and may be any number
        strides = [stride * data.itemsize if size > 1 else 0 for size, stride in zip(self.size, self.stride, strict=True)]
        return np.lib.stride_tricks.as_strided(data[self.offset :], shape=self.size, strides=strides, writeable=False)

    def __repr__(self) -> str:
        return f"<{printable(self.typename)} {'x'.join(map(str, self.size)) or 'empty'}>"


def tensor_of(array: NDArray[np.float32]) -> Tensor:
    """A tensor that no file holds, over contiguous elements."""
    tensor = Tensor("torch.FloatTensor")
    tensor.size = array.shape
    tensor.stride = tuple(stride // array.itemsize for stride in array.strides)
    tensor.storage = Storage("torch.FloatStorage")
    tensor.storage.array = array.reshape(-1)
    return tensor


class Function:
    """A serialized Lua function: bytecode that is kept, never run."""

    __slots__ = ("code", "upvalues")

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.upvalues: Any = None


class _BrokenError(Exception):
    """What is wrong at the current offset; becomes a FormatError that names file, offset and field."""


# -- the two encodings -------------------------------------------------------------------------------------------------


class _Encoding(Protocol):
    offset: int

    def remaining(self) -> int: ...
    def integer(self) -> int: ...
    def long_integer(self) -> int: ...
    def longs(self, count: int) -> tuple[int, ...]: ...
    def double(self) -> float: ...
    def chars(self, count: int) -> bytes: ...
    def numbers(self, dtype: str, count: int) -> NDArray[Any]: ...


class _Binary:
    """Numbers as the machine that wrote them held them; order: "<" or ">", long_bytes: 4 or 8."""

    def __init__(self, view: memoryview, order: str, long_bytes: int) -> None:
        self.view, self.order, self.offset = view, order, 0
        self.long_bytes = long_bytes
        self._int = struct.Struct(order + "i")
        self._long = struct.Struct(order + ("q" if long_bytes == 8 else "i"))
        self._double = struct.Struct(order + "d")

    def remaining(self) -> int:
        return len(self.view) - self.offset

    def _take(self, count: int, what: str) -> int:
        start = self.offset
        if count > len(self.view) - start:
            missing = count - (len(self.view) - start)
            raise _BrokenError(f"the file ends inside {what}: {missing} of {count} bytes are missing (truncated?)")
        self.offset = start + count
        return start

    def integer(self) -> int:
        return int(self._int.unpack_from(self.view, self._take(4, "an int"))[0])

    def long_integer(self) -> int:
        return int(self._long.unpack_from(self.view, self._take(self.long_bytes, "a long"))[0])

    def longs(self, count: int) -> tuple[int, ...]:
        start = self._take(count * self.long_bytes, f"{count} longs")
        return struct.unpack_from(f"{self.order}{count}{'q' if self.long_bytes == 8 else 'i'}", self.view, start)

    def double(self) -> float:
        return float(self._double.unpack_from(self.view, self._take(8, "a number"))[0])

    def chars(self, count: int) -> bytes:
        start = self._take(count, "a string")
        return bytes(self.view[start : start + count])

    def numbers(self, dtype: str, count: int) -> NDArray[Any]:
        kind = np.dtype(self.order + (f"i{self.long_bytes}" if dtype == "i8" else dtype))
        start = self._take(count * kind.itemsize, f"a storage of {count} elements")
        return np.frombuffer(self.view, dtype=kind, count=count, offset=start)


class _Ascii:
    """Numbers as text, one vector a line; strings, and storages of bytes, as they are with a newline behind."""

    _token = re.compile(rb"[ \t\r\n\v\f]*([^ \t\r\n\v\f]+)")

    def __init__(self, view: memoryview) -> None:
        self.view, self.offset = view, 0

    def remaining(self) -> int:
        return len(self.view) - self.offset

    def _word(self, what: str) -> bytes:
        match = self._token.match(self.view, self.offset)
        if match is None:
            raise _BrokenError(f"the file ends where {what} is due (truncated?)")
        if match.end() - match.start(1) > 400:
            raise _BrokenError(f"{what} is due, not a word of {match.end() - match.start(1)} characters")
        self.offset = match.end()
        return match[1]

    def _integer(self, what: str) -> int:
        word = self._word(what)
        try:
            return int(word) if len(word) < 25 else int(b"x")
        except ValueError:
            raise _BrokenError(f"{what} is due, not {printable(word.decode('latin-1'), 40)!r}") from None

    def integer(self) -> int:
        return self._integer("an int")

    def long_integer(self) -> int:
        return self._integer("a long")

    def longs(self, count: int) -> tuple[int, ...]:
        return tuple(self._integer("a long") for _ in range(count))

    def double(self) -> float:
        word = self._word("a number")
        try:
            return float(word)
        except ValueError:
            raise _BrokenError(f"a number is due, not {printable(word.decode('latin-1'), 40)!r}") from None

    def chars(self, count: int) -> bytes:
        # the number before was followed by exactly one newline, which no reader has taken yet
        self._newline()
        if count > self.remaining():
            raise _BrokenError(f"the file ends inside a string: {count - self.remaining()} of {count} bytes are missing (truncated?)")
        text = bytes(self.view[self.offset : self.offset + count])
        self.offset += count
        return text

    def _newline(self) -> None:
        if bytes(self.view[self.offset : self.offset + 2]) == b"\r\n":
            self.offset += 2
        elif bytes(self.view[self.offset : self.offset + 1]) == b"\n":
            self.offset += 1

    def numbers(self, dtype: str, count: int) -> NDArray[Any]:
        if dtype in ("u1", "i1"):
            return np.frombuffer(self.chars(count), dtype=dtype)
        if 2 * count > self.remaining() + 1:
            raise _BrokenError(f"a storage of {count} elements doesn't fit in the {self.remaining()} bytes that are left (truncated?)")
        if (line := self._line(dtype, count)) is not None:
            return line
        words = [self._word(f"a storage of {count} elements") for _ in range(count)]
        try:
            if dtype[0] == "f":
                with np.errstate(over="ignore"):
                    return np.array([float(word) for word in words], dtype=np.float64).astype(dtype)
            return np.array([int(word) for word in words], dtype=dtype)
        except (ValueError, OverflowError):
            raise _BrokenError(f"a storage of {count} elements holds a word that is no number of its type") from None

    def _line(self, dtype: str, count: int) -> NDArray[Any] | None:
        """The numbers of one whole line, read at once; None where it doesn't hold just these."""
        end = self.offset
        while end < len(self.view) and self.view[end] in b" \t\r\n":
            end += 1
        start = end
        while end < len(self.view) and (at := bytes(self.view[end : end + 65536]).find(b"\n")) < 0:
            end = min(end + 65536, len(self.view))
        end = end if end == len(self.view) else end + at
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # numpy warns where it stops at something that is no number
                numbers = np.fromstring(bytes(self.view[start:end]), dtype=np.float64 if dtype[0] == "f" else np.int64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None
        with np.errstate(over="ignore"):
            made = numbers.astype(dtype)
        if len(made) != count or (dtype[0] == "i" and (made != numbers).any()):
            return None
        self.offset = end
        return made


# -- objects -----------------------------------------------------------------------------------------------------------

_Composite = Generator[str, Any, Any]


class _Objects:
    """Reads objects without recursion: a composite is a generator that yields the label of each part that it needs next."""

    def __init__(self, encoding: _Encoding) -> None:
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
            raise _BrokenError(f"unknown type tag {tag}; Torch7 has 0 to 8")
        index = self.encoding.integer()
        if index in self.seen:
            return self.seen[index]
        if tag == TABLE:
            return self._table(index)
        return self._object(index) if tag == TORCH else self._function(index)

    def _count(self, what: str, count: int, least: int = 1) -> int:
        """A number of things from the file, each of at least `least` bytes."""
        if count < 0:
            raise _BrokenError(f"{what} of length {count}")
        if count * least > self.encoding.remaining():
            raise _BrokenError(
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
                raise _BrokenError("a table has an entry without a key")
            table[key] = value
        return table

    def _object(self, index: int) -> _Composite:
        at = self.encoding.offset
        version, typename = 0.0, self._text()
        if typename.startswith("V "):
            try:
                version = float(typename[2:])
            except ValueError:
                raise _BrokenError(f"{printable(typename, 40)!r} is no version") from None
            at, typename = self.encoding.offset, self._text()
        stem = typename.removesuffix("Tensor").removesuffix("Storage")
        if typename in (stem + "Tensor", stem + "Storage") and stem in DTYPES:
            return self._storage(index, typename) if typename.endswith("Storage") else (yield from self._tensor(index, typename))
        if typename.startswith("torch.") and typename.endswith(("Tensor", "Storage")):
            self.encoding.offset = at
            raise _BrokenError(
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
            raise _BrokenError(f"a tensor of {dimensions} dimensions")
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
            raise _BrokenError("a tensor's storage is something else")
        if storage is not None and DTYPES[storage.typename.removesuffix("Storage")] != DTYPES[tensor.typename.removesuffix("Tensor")]:
            raise _BrokenError(f"a {tensor.typename} over a {storage.typename}")
        if min(tensor.size, default=0) < 0 or min(tensor.stride, default=0) < 0 or tensor.offset < 0:
            raise _BrokenError(f"{shown}: negative sizes, strides or offsets aren't possible")
        if tensor.elements:
            held = len(storage.array) if storage is not None else 0
            last = tensor.offset + sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride, strict=True))
            if last >= held:
                raise _BrokenError(f"{shown} reaches element {last} of a storage of {held}")


def _label(key: Any) -> str:
    if isinstance(key, str):
        return f".{key}" if key.isidentifier() else f"[{key!r}]"
    if isinstance(key, float):
        return f"[{key:.17g}]"
    return f"[{'true' if key else 'false'}]" if isinstance(key, bool) else "[object]"


# -- files -------------------------------------------------------------------------------------------------------------

_OTHERS = (
    (rb"\s*<(!|html|\?xml|head|body)", "an HTML or XML page, perhaps a download's warning page; download the file again"),
    (rb"\x1f\x8b", "compressed by gzip; decompress it first (gunzip)"),
    (rb"BZh", "compressed by bzip2; decompress it first (bunzip2)"),
    (rb"\xfd7zXZ", "compressed by xz; decompress it first (unxz)"),
    (rb"PK\x03\x04", "a zip archive, as PyTorch writes its .pth; it isn't a Lua Torch file"),
    (rb"\x80[\x02-\x05]", "a Python pickle (of PyTorch?), which isn't a Lua Torch file and isn't run here"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"ustar", "a tar archive"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself; fetch it with git lfs pull"),
    (rb"[\x09\x0a\x0d\x20-\x7e]{16}", "plain text"),
)


def _encodings(view: memoryview, file: str) -> list[_Encoding]:
    """The encodings that the first bytes allow, the likeliest first."""
    head = bytes(view[:512])
    if re.match(rb"[ ]*[0-8][ \r]*(\n|$)", head):
        return [_Ascii(view)]
    if len(head) < 4:
        raise FormatError(f"{file}: offset 0: the file ends inside its first int: it has {len(head)} of 4 bytes (truncated?)")
    for order in "<>":
        if 0 <= struct.unpack_from(order + "i", head)[0] <= RECURSIVE_FUNCTION:
            return [_Binary(view, order, 8), _Binary(view, order, 4)]
    for pattern, what in _OTHERS:
        if re.match(pattern, head):
            raise FormatError(f"{file}: not a .t7 file: it is {what}")
    raise FormatError(f"{file}: not a .t7 file: the first int, {struct.unpack('<i', head[:4])[0]}, is no type tag of Torch7 (0 to 8)")


def read(path: StrPath) -> Any:
    """The object in a .t7 file: None, bool, float, str, Table, TorchObject, Tensor, Storage or Function.

    Tensors are views of the mapped file. Strings are UTF-8, other bytes of theirs surrogates. Raises FormatError, with the offset
    and the field, for a file that is broken or isn't Torch7's; warns of bytes behind the object.
    """
    view = map_file(path)
    file = os.path.basename(os.fspath(path))
    read_first: tuple[_Encoding, Any] | None = None
    faults: list[tuple[int, FormatError]] = []
    for position, encoding in enumerate(_encodings(view, file)):
        objects = _Objects(encoding)
        try:
            value = objects.read()
        except _BrokenError as fault:
            error = FormatError(f"{file}: offset {encoding.offset} ({objects.place()}): {fault}")
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
    warnings.warn(
        f"{file}: {encoding.remaining()} bytes follow the object that ends at offset {encoding.offset}; they aren't read",
        ConversionWarning,
        stacklevel=2,
    )
    return value
