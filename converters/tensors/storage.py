"""The bytes behind tensors: views of the mapped file, turned round or converted as they are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.errors import ConversionError
from converters.tensors.dtypes import DType, numpy_dtype

CHUNK = 1 << 20  # bytes handled at a time: small enough to stay in a processor's cache


class Storage:
    """The bytes of one block of memory that one or more tensors look at, little-endian.

    >>> b"".join(Storage(memoryview(b"abcdef")).chunks(1, 4))
    b'bcd'
    """

    def __init__(self, view: memoryview) -> None:
        self._view = view.cast("B") if view.nbytes else memoryview(b"")
        self.nbytes = view.nbytes

    @property
    def held(self) -> int:
        """The bytes of memory, or of a file, that all its bytes are made of: few where an array repeats its elements."""
        return self.nbytes

    def view(self) -> memoryview:
        """All the bytes at once, without a copy where the file has them as they are."""
        return self._view

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes from start to stop, in pieces."""
        view = self.view()
        for at in range(start, stop, CHUNK):
            yield view[at : min(at + CHUNK, stop)]

    def unchecked(self, start: int, stop: int) -> Iterator[memoryview]:
        """The same pieces, for who computes their CRC-32 anyway: what it is of all the bytes is to be told to `compare`."""
        return self.chunks(start, stop)

    def compare(self, crc: int) -> None:
        """Warns where the file states another CRC-32 of all the bytes than the one that was computed of them."""


class SwappedStorage(Storage):
    """Big-endian bytes of a file, turned round as they are read; `size` bytes turn together."""

    def __init__(self, inner: Storage, size: int) -> None:
        self.inner, self.size, self.nbytes = inner, size, inner.nbytes

    def view(self) -> memoryview:
        return memoryview(b"".join(self.chunks(0, self.nbytes)))

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        first, last = start - start % self.size, stop + -stop % self.size
        if last > self.nbytes:
            raise ConversionError(f"{self.nbytes} bytes of big-endian data aren't a multiple of {self.size}")
        for at in range(first, last, CHUNK):
            until = min(at + CHUNK, last)
            data = b"".join(self.inner.chunks(at, until))
            turned = np.frombuffer(data, np.uint8).reshape(-1, self.size)[:, ::-1].tobytes()
            yield memoryview(turned)[max(start - at, 0) : len(turned) - max(until - stop, 0)]


class ConvertedStorage(Storage):
    """The same elements in another floating-point type, converted as they are read.

    overflowed: how many finite numbers became infinite so far.
    """

    def __init__(self, inner: Storage, source: DType, target: DType) -> None:
        self.inner, self.source, self.target = inner, source, target
        self.overflowed = 0
        self.nbytes = inner.nbytes // source.itemsize * target.itemsize

    @property
    def held(self) -> int:
        return self.inner.held // self.source.itemsize * self.target.itemsize

    def view(self) -> memoryview:
        return memoryview(b"".join(self.chunks(0, self.nbytes)))

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        source, target = self.source, self.target
        first, last = start // target.itemsize, -(-stop // target.itemsize)
        step = CHUNK // 16
        for at in range(first, last, step):
            until = min(at + step, last)
            data = b"".join(self.inner.chunks(at * source.itemsize, until * source.itemsize))
            with np.errstate(over="ignore", invalid="ignore"):
                given = _numbers(data, source.name)
                numbers = given.astype(numpy_dtype(target.name))
                if target.name == "float16" and not np.isfinite(numbers).all():
                    self.overflowed += int(np.count_nonzero(np.isinf(numbers) & np.isfinite(given)))
            raw = memoryview(numbers.tobytes())
            yield raw[max(start - at * target.itemsize, 0) : len(raw) - max(until * target.itemsize - stop, 0)]


def _numbers(data: bytes, name: str) -> npt.NDArray[Any]:
    """Elements of a floating type; bfloat16 as float32, whose upper half it is, so that reading it needs numpy alone."""
    if name == "bfloat16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, numpy_dtype(name))


class ArrayStorage(Storage):
    """The elements of a numpy array in row-major order, copied piece by piece where they don't lie so."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array, self.nbytes = array, array.nbytes
        self._plain = array.flags.c_contiguous and array.dtype.newbyteorder("=") == array.dtype
        self._view = array.reshape(-1).view(np.uint8).data if self._plain and array.size else memoryview(b"")

    @property
    def held(self) -> int:
        if self._plain or not self.array.size:
            return self.nbytes
        first, last = np.lib.array_utils.byte_bounds(self.array)
        return min(self.nbytes, last - first)

    def view(self) -> memoryview:
        return self._view if self._plain else memoryview(b"".join(self.chunks(0, self.nbytes)))

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        if self._plain:
            yield from super().chunks(start, stop)
            return
        position = 0
        for piece in _pieces(self.array):
            little = piece if piece.dtype.itemsize == 1 else piece.astype(piece.dtype.newbyteorder("<"))
            raw = memoryview(little.tobytes())
            low, high = max(start - position, 0), min(stop - position, len(raw))
            if low < high:
                yield raw[low:high]
            position += len(raw)


def _pieces(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Parts of an array, in row-major order, of about CHUNK bytes each."""
    pending = [array]
    while pending:
        part = pending.pop()
        if part.nbytes <= CHUNK or part.ndim == 0:
            yield part
        elif len(part) == 1:
            pending.append(part[0])
        else:
            rows = max(1, len(part) * CHUNK // part.nbytes)
            if rows == 1:
                pending.extend(part[i] for i in range(len(part) - 1, -1, -1))
            else:
                yield from (part[i : i + rows] for i in range(0, len(part), rows))
