"""Parameters that flax wrote with to_bytes: dictionaries in msgpack, whose arrays are extensions of its own.

Source: msgpack's spec.md; flax/serialization.py, `_ndarray_to_bytes`.
"""

from __future__ import annotations

import re
import struct
from typing import Any, NoReturn

from converters.errors import FormatError, UnsupportedError, printable
from converters.readers.pytorch.arrays import array_over
from converters.readers.pytorch.pickles.interface import Budget
from converters.readers.pytorch.sizes import counts
from converters.tensors.dtypes import DTYPES
from converters.tensors.storage import Storage

BEGINS = re.compile(rb"([\x81-\x8f]|\xde..|\xdf....)[\xa1-\xbf\xd9]", re.DOTALL)
"""A dictionary whose first key is text."""
_DEPTH = 64
_ARRAY, _SCALAR = 1, 3
_CHUNKED = "__msgpack_chunked_array__"
_NUMBERS = {0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}


def read_msgpack(view: memoryview, budget: Budget) -> dict[Any, Any]:
    """The dictionaries of a file, with arrays as tensors over its bytes. Raises FormatError where it is none of flax's."""
    reader = _Reader(view, budget)
    root = reader.value(0)
    if reader.at != len(view) or not isinstance(root, dict):
        raise FormatError(f"{len(view) - reader.at} bytes after a msgpack dictionary: the file is none of flax's, or broken")
    return root


class _Reader:
    def __init__(self, view: memoryview, budget: Budget) -> None:
        self.view, self.at, self.budget = view, 0, budget

    def take(self, size: int) -> memoryview:
        if size > len(self.view) - self.at:
            self.broken(f"{size} bytes are announced, {len(self.view) - self.at} are left")
        self.at += size
        return self.view[self.at - size : self.at]

    def broken(self, what: str) -> NoReturn:
        raise FormatError(f"byte {self.at}: the msgpack data is broken: {what}")

    def value(self, depth: int) -> Any:
        """The next value."""
        code = self.take(1)[0]
        self.budget.spend(2)
        if code <= 0x7F or code >= 0xE0:
            return code if code <= 0x7F else code - 256
        if code in _PLAIN:
            return _PLAIN[code]
        if code in _NUMBERS:
            return struct.unpack(_NUMBERS[code], self.take(struct.calcsize(_NUMBERS[code])))[0]
        if code <= 0x9F:
            return self.several(code & 15, depth + 1, pairs=code <= 0x8F)
        if 0xD4 <= code <= 0xD8:
            return self.extension(1 << (code - 0xD4), depth)
        length = code & 31 if code <= 0xBF else int.from_bytes(self.take(_LENGTHS.get(code, 0)), "big")
        if code <= 0xBF or 0xD9 <= code <= 0xDB:
            return str(self.take(length), "utf-8", "replace")
        if 0xC4 <= code <= 0xC6:
            return self.take(length)
        if 0xC7 <= code <= 0xC9:
            return self.extension(length, depth)
        if code < 0xDC:
            self.broken(f"0x{code:02x} begins no value")
        return self.several(length, depth + 1, pairs=code >= 0xDE)

    def several(self, length: int, depth: int, *, pairs: bool) -> Any:
        if depth > _DEPTH:
            self.broken("its dictionaries are nested without an end")
        if not pairs:
            return tuple(self.value(depth) for _ in range(length))
        made: dict[Any, Any] = {}
        for _ in range(length):
            key = self.value(depth)
            if not isinstance(key, str | int):
                self.broken(f"a key is a {type(key).__name__}")
            made[key] = self.value(depth)
        if _CHUNKED in made:
            raise UnsupportedError("an array of more than a gigabyte, which flax writes in pieces, isn't joined here")
        return made

    def extension(self, length: int, depth: int) -> Any:
        """An array, as (shape, type, bytes), or a number as such an array; any other extension is nothing that has weights."""
        kind = self.take(1)[0]
        content = self.take(length)
        if kind not in (_ARRAY, _SCALAR):
            return None
        described = _Reader(content, self.budget).value(depth + 1) if depth < _DEPTH else None
        if not isinstance(described, tuple) or len(described) != 3 or not isinstance(described[2], memoryview):
            self.broken("an array isn't described by shape, type and bytes")
        shape, name, raw = described
        if not isinstance(name, str) or name not in DTYPES:
            raise UnsupportedError(f"an array is of the type {printable(name, 40)}, which torch doesn't have")
        return array_over(Storage(raw), DTYPES[name], counts(shape, "an array's shape"), turned=False, fortran=False)
