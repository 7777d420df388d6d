"""Numpy arrays in a pickle, as tensors over their bytes. Sources: numpy/_core/multiarray.py, numpy/_core/numeric.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.errors import FormatError
from converters.readers.pytorch.pickles.interface import Machine
from converters.readers.pytorch.pickles.stubs import ByteString, Global, Stub
from converters.readers.pytorch.sizes import counts
from converters.tensors.dtypes import DTYPES, torch_name
from converters.tensors.storage import Storage, SwappedStorage
from converters.tensors.tensor import Tensor


class ArrayTensor(Tensor):
    """A numpy array of the file."""

    __slots__ = ()


ARRAY = Global("numpy", "ndarray")
DTYPE = Global("numpy", "dtype")
NUMPY = ("numpy.core", "numpy._core")


def new_dtype(machine: Machine, args: tuple[Any, ...]) -> Any:
    return Stub(DTYPE, args)


def _numpy_dtype(stub: Any) -> np.dtype[Any] | None:
    """The dtype that numpy.dtype('f4', ...) and its BUILD state describe; None for objects, records and the like."""
    if not isinstance(stub, Stub) or stub.cls != DTYPE or not stub.args or not isinstance(stub.args[0], str):
        return None
    code = str(stub.args[0])
    if code[:1] not in "biufc?" or len(code) > 4 or not code[1:].isdigit():
        return None
    order = stub.state[1] if isinstance(stub.state, tuple) and len(stub.state) > 1 else "="
    try:
        dtype = np.dtype(code)
    except TypeError:
        return None
    return dtype.newbyteorder(">") if order == ">" else dtype


def reconstruct(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_reconstruct(ndarray, (0,), b'b'): an empty array, which BUILD fills."""
    return Stub(ARRAY, args)


def build_array(machine: Machine, stub: Stub, state: Any) -> None:
    """(version, shape, dtype, is_fortran, raw bytes), or the last four."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        stub.state = state
        return
    shape, dtype, fortran, raw = state[-4:]
    stub.data = _array(shape, dtype, "F" if fortran is True else "C", raw)
    if stub.data is None:
        stub.state = state


def from_buffer(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_frombuffer(bytes, dtype, shape, order): protocol 5"""
    if len(args) != 4:
        return Stub(ARRAY, args)
    raw, dtype, shape, order = args
    made = Stub(ARRAY, args)
    made.data = _array(shape, dtype, order, raw)
    return made


def _array(shape: Any, dtype: Any, order: Any, raw: Any) -> ArrayTensor | None:
    """The array as a tensor over its bytes; None where its type is none of a tensor's."""
    array_dtype = _numpy_dtype(dtype)
    data = raw.raw if isinstance(raw, ByteString) else raw
    if array_dtype is None or not isinstance(data, bytes | memoryview):
        return None
    name = np.dtype(array_dtype.newbyteorder("=")).name
    if name not in DTYPES:
        return None
    element = DTYPES[torch_name(name)]
    extents = counts(shape, "an array's shape")
    total = 1
    for extent in extents:
        total *= extent
    if total * element.itemsize != len(data):
        raise FormatError(f"an array of {extents} {name} has {len(data)} bytes")
    storage = Storage(memoryview(data))
    if array_dtype.newbyteorder("=") != array_dtype and element.swapsize > 1:
        storage = SwappedStorage(storage, element.swapsize)
    array = ArrayTensor(storage, element.name, extents)
    if order == "F":
        array = ArrayTensor(storage, element.name, extents, tuple(reversed(ArrayTensor(storage, element.name, extents[::-1]).stride)))
    return array
