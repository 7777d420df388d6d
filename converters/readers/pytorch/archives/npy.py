"""Arrays that numpy saved: a dictionary of them (an object array, which is a pickle), or an archive of such files.

Source: numpy/lib/format.py; numpy/lib/_npyio_impl.py, `savez`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.errors import FormatError, UnsupportedError, printable
from converters.readers.pytorch.archives.zip import ZipArchive, ZipStorage
from converters.readers.pytorch.arrays import ArrayTensor, array_over
from converters.readers.pytorch.pickles.interface import Budget
from converters.readers.pytorch.pickles.machine import Unpickler
from converters.readers.pytorch.sizes import counts
from converters.readers.pytorch.tensors import tensor_rules
from converters.tensors.dtypes import DTYPES
from converters.tensors.storage import Storage

NPY = b"\x93NUMPY"
_HEADER_LIMIT = 10_000  # bytes, as numpy has it
_PREFIX = 12  # bytes of the mark, the version and the header's length, at most
_CODE = re.compile(r"[<>=|]?(\?|b1|[iu][1248]|f[248]|c8|c16)")
_FIELD = re.compile(r"""['"](descr|fortran_order|shape)['"]: *('[^']*'|"[^"]*"|True|False|\([\d, L]*\)) *,? *""")


def read_npy(view: memoryview, budget: Budget) -> Any:
    """The object that an .npy file holds: a dictionary of arrays, mostly. Raises FormatError for an array alone, which nothing names."""
    start, dtype, shape, _fortran = _header(bytes(view[: _HEADER_LIMIT + _PREFIX]))
    if dtype is not None:
        words = f"is a numpy array of {shape} {np.dtype(dtype).name} alone, and no weights by name"
        raise FormatError(words, hint="np.load reads it; a dictionary of arrays that np.save wrote, or an .npz, is read here")
    return _objects(view[start:], budget)


def read_npz(archive: ZipArchive, budget: Budget) -> dict[str, Any]:
    """The arrays of an .npz by name, in the archive's order; packed ones are inflated piece by piece when they are read."""
    found: dict[str, Any] = {}
    for name in archive.entries:
        entry = archive.entry(name)
        storage = ZipStorage(archive, entry, check=True)
        start, dtype, shape, fortran = _header(b"".join(_first(storage, _HEADER_LIMIT + _PREFIX)))
        key = name.removesuffix(".npy")
        if dtype is None:
            found[key] = _objects(archive.read(name)[start:], budget)
        else:
            found[key] = _array(_Behind(storage, start), dtype, shape, fortran)
    return found


class _Behind(Storage):
    """The bytes of another storage behind its first ones, a header's."""

    def __init__(self, inner: Storage, start: int) -> None:
        self.inner, self.start, self.nbytes = inner, start, inner.nbytes - start

    def view(self) -> memoryview:
        return self.inner.view()[self.start :]

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        if start == 0 and stop == self.nbytes:  # from end to end, so that the checksum is looked at
            left = self.start
            for piece in self.inner.chunks(0, self.inner.nbytes):
                if left < len(piece):
                    yield piece[left:]
                left = max(0, left - len(piece))
        else:
            yield from self.inner.chunks(start + self.start, stop + self.start)


def _first(storage: Storage, most: int) -> Iterator[bytes]:
    yield from (bytes(piece) for piece in storage.chunks(0, min(most, storage.nbytes)))


def _header(head: bytes) -> tuple[int, str | None, tuple[int, ...], bool]:
    """Where the data begins, the elements' code (None: objects), the shape, and whether the first axis runs quickest.

    Raises FormatError for a header that numpy wouldn't write.
    """
    if not head.startswith(NPY) or len(head) < _PREFIX or head[6] not in (1, 2, 3):
        raise FormatError("is no array that numpy saved (.npy)")
    width = 2 if head[6] == 1 else 4
    length = int.from_bytes(head[8 : 8 + width], "little")
    start = 8 + width + length
    if length > _HEADER_LIMIT or start > len(head):
        raise FormatError(f"its array's header announces {length} bytes: the file is cut short or broken")
    text = head[8 + width : start].decode("latin-1")
    said = dict(_FIELD.findall(text))
    if said.keys() != {"descr", "fortran_order", "shape"} or _FIELD.sub("", text).strip(" {}\n"):
        raise UnsupportedError(f"its array is of a type that no weight has: {printable(text.strip(), 100)}")
    code = said["descr"].strip("'\"")
    if code in ("|O", "O"):
        return start, None, _sizes(said["shape"]), False
    if not _CODE.fullmatch(code):
        raise UnsupportedError(f"its array is of the type {printable(code, 60)}, which no weight has")
    return start, code, _sizes(said["shape"]), said["fortran_order"] == "True"


def _sizes(text: str) -> tuple[int, ...]:
    return counts(tuple(int(number) for number in re.findall(r"\d{1,20}", text)), "an array's shape")


def _array(storage: Storage, code: str, shape: tuple[int, ...], fortran: bool) -> ArrayTensor:
    name = np.dtype(code).name
    if name not in DTYPES:
        raise UnsupportedError(f"its array is of the type {name}, which torch doesn't have")
    return array_over(storage, DTYPES[name], shape, turned=code.startswith(">"), fortran=fortran)


def _objects(data: memoryview, budget: Budget) -> Any:
    """The object array in a file's pickle; of one without dimensions the object itself."""
    machine = Unpickler(data, tensor_rules(None, lambda machine, raw: raw), budget=budget)
    root = machine.load()
    state = getattr(root, "state", None)
    inside = state[-1] if isinstance(state, tuple) and state else None
    if isinstance(inside, list) and len(inside) == 1 and state is not None and state[-4:-3] == ((),):
        return inside[0]
    return inside if isinstance(inside, list) else root
