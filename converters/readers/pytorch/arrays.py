"""Arrays of numpy and of JAX in a pickle, as tensors over their bytes.

Sources: numpy/_core/multiarray.py, numpy/_core/numeric.py; jax/_src/array.py, flax/core/frozen_dict.py, haiku/_src/data_structures.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.errors import FormatError
from converters.readers.pytorch.pickles.interface import Handler, Machine
from converters.readers.pytorch.pickles.stubs import ByteString, Global, Stub
from converters.readers.pytorch.sizes import counts
from converters.tensors.dtypes import DTYPES, DType
from converters.tensors.storage import Storage, SwappedStorage
from converters.tensors.tensor import Tensor, contiguous_stride


class ArrayTensor(Tensor):
    """A numpy array of the file."""

    __slots__ = ()


ARRAY = Global("numpy", "ndarray")
DTYPE = Global("numpy", "dtype")
NUMPY = ("numpy.core", "numpy._core")


def new_dtype(machine: Machine, args: tuple[Any, ...]) -> Any:
    return Stub(DTYPE, args)


def _element(stub: Any) -> tuple[DType, bool] | None:
    """The type that numpy.dtype('f4', ...) and its BUILD state describe, and whether its bytes are turned round; None for any other."""
    if not isinstance(stub, Stub) or stub.cls != DTYPE or not stub.args:
        return None
    code = stub.args[0]
    turned = isinstance(stub.state, tuple) and len(stub.state) > 1 and stub.state[1] == ">"
    if isinstance(code, Global):  # bfloat16 and the float8 types: JAX's arrays have them
        return (
            (DTYPES[code.name], turned)
            if code.module == "ml_dtypes" and code.name.startswith(("bfloat16", "float8")) and code.name in DTYPES
            else None
        )
    if not isinstance(code, str) or code[:1] not in "biufc?" or len(code) > 4 or not code[1:].isdigit():
        return None
    try:
        name = np.dtype(str(code)).name
    except TypeError:
        return None
    return (DTYPES[name], turned) if name in DTYPES else None


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
    described = _element(dtype)
    data = raw.raw if isinstance(raw, ByteString) else raw
    if described is None or not isinstance(data, bytes | memoryview):
        return None
    element, turned = described
    return array_over(Storage(memoryview(data)), element, counts(shape, "an array's shape"), turned=turned, fortran=order == "F")


def array_over(storage: Storage, element: DType, shape: tuple[int, ...], *, turned: bool, fortran: bool) -> ArrayTensor:
    """The array of these bytes. turned: big-endian ones. Raises FormatError where they are more or fewer than it has."""
    total = 1
    for extent in shape:
        total *= extent
    if total * element.itemsize != storage.nbytes:
        raise FormatError(f"an array of {shape} {element.name} has {storage.nbytes} bytes")
    if turned and element.swapsize > 1:
        storage = SwappedStorage(storage, element.swapsize)
    return ArrayTensor(storage, element.name, shape, tuple(reversed(contiguous_stride(shape[::-1]))) if fortran else None)


# -- JAX's, and the dictionaries of its libraries

JAX_ARRAY = Global("jax", "Array")


def _jax_array(machine: Machine, args: tuple[Any, ...]) -> Any:
    """_reconstruct_array(function, its arguments, state, more): an array that is made as numpy makes its own (jax/_src/array.py)."""
    function, given, state, *_ = args if len(args) >= 3 else (None, None, None)
    if not isinstance(function, Global) or function not in _NUMPY_CALLS or not isinstance(given, tuple):
        return Stub(JAX_ARRAY, args)
    made: Stub = _NUMPY_CALLS[function](machine, given)
    if state is not None:
        build_array(machine, made, state)
    made.cls = JAX_ARRAY
    return made


def _mapping(machine: Machine, args: tuple[Any, ...]) -> Any:
    """FrozenDict(dictionary), FlatMapping(dictionary): the dictionary itself."""
    return args[0] if len(args) == 1 and isinstance(args[0], dict) else Stub(Global("flax", "FrozenDict"), args)


_NUMPY_CALLS: dict[Global, Handler] = {}
for _prefix in NUMPY:
    _NUMPY_CALLS[Global(f"{_prefix}.multiarray", "_reconstruct")] = reconstruct
    _NUMPY_CALLS[Global(f"{_prefix}.numeric", "_frombuffer")] = from_buffer
ARRAY_CALLS: dict[Global, Handler] = {
    **_NUMPY_CALLS,
    DTYPE: new_dtype,
    Global("jax._src.array", "_reconstruct_array"): _jax_array,
    Global("jax._src.device_array", "reconstruct_device_array"): _jax_array,
    Global("jax.interpreters.xla", "reconstruct_device_array"): _jax_array,
    Global("flax.core.frozen_dict", "FrozenDict"): _mapping,
    Global("haiku._src.data_structures", "FlatMapping"): _mapping,
    Global("haiku._src.data_structures", "FlatMap"): _mapping,
    Global("haiku._src.data_structures", "frozendict"): _mapping,
}
"""Arrays and what holds them: numpy's, JAX's, flax's and haiku's."""
