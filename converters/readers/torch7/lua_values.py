"""What a .t7 holds: Lua tables, Torch objects, tensors over storages, functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import printable

_ELEMENTS = {"Byte": "u1", "Char": "i1", "Short": "i2", "Int": "i4", "Long": "i8", "Half": "f2", "Float": "f4", "Double": "f8"}
DTYPES = {f"torch.{cuda}{name}": dtype for name, dtype in _ELEMENTS.items() for cuda in ("", "Cuda")} | {
    "torch.Cuda": "f4",
    "torch.Cl": "f4",
}
"""Element types by class name without its ending Tensor or Storage."""


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


def tensor_of(array: NDArray[np.float32] | NDArray[np.float64]) -> Tensor:
    """A tensor that no file holds, over contiguous elements."""
    kind = "Float" if array.dtype == np.float32 else "Double"
    tensor = Tensor(f"torch.{kind}Tensor")
    tensor.size = array.shape
    tensor.stride = tuple(stride // array.itemsize for stride in array.strides)
    tensor.storage = Storage(f"torch.{kind}Storage")
    tensor.storage.array = array.reshape(-1)
    return tensor


class Function:
    """A serialized Lua function: bytecode that is kept, never run."""

    __slots__ = ("code", "upvalues")

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.upvalues: Any = None
