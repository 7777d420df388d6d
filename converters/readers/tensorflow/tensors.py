"""The numbers of a TensorProto. Source: TensorFlow's core/framework/tensor.proto, core/framework/tensor.cc."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from converters.errors import FormatError
from converters.readers.tensorflow.dtypes import type_name
from converters.schemas import tensorflow_pb2 as pb

Array = NDArray[Any]


@dataclass(frozen=True)
class Stored:
    """The numbers of a constant as they lie in the file: the field that holds them (tensor_content, float_val or double_val)."""

    field: int
    view: memoryview


def numpy_type(number: int, what: str) -> np.dtype[Any]:
    """numpy's type by TensorFlow's number. Raises FormatError for strings, resources and what isn't known."""
    name = type_name(number, what)
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def tensor_shape(proto: pb.TensorProto, what: str) -> tuple[int, ...]:
    """The shape. Raises FormatError for a size below 0."""
    dims = tuple(int(dim.size) for dim in proto.tensor_shape.dim)
    if any(dim < 0 for dim in dims):
        raise FormatError(f"{what} has the shape {dims}; a constant's sizes are known")
    return dims


def read_tensor(proto: pb.TensorProto, stored: Stored | None, what: str) -> Array:
    """The constant as an array: a view of the file where its bytes lie there; fewer values than elements repeat the last, none are zeros.

    What is one value repeated takes the memory of one. Raises FormatError.
    """
    shape = tensor_shape(proto, what)
    dtype = numpy_type(proto.dtype, what)
    count = math.prod(shape)
    content = stored.view if stored is not None and stored.field == 4 else memoryview(proto.tensor_content)
    if len(content):
        if len(content) != count * dtype.itemsize:
            raise FormatError(f"{what} has {len(content)} bytes; its shape {shape} of {dtype.name} needs {count * dtype.itemsize}")
        return np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    values = _values(proto, stored, dtype)
    if len(values) == count:
        return values.reshape(shape)
    if len(values) > count:
        raise FormatError(f"{what} has {len(values)} values; its shape {shape} has room for {count}")
    if len(values) <= 1:
        return np.broadcast_to(values[0] if len(values) else np.zeros((), dtype), shape)
    if count > 1 << 26:
        raise FormatError(f"{what} has {len(values)} values for {count} elements; that many are no net's")
    return np.concatenate([values, np.full(count - len(values), values[-1])]).reshape(shape)


def _values(proto: pb.TensorProto, stored: Stored | None, dtype: np.dtype[Any]) -> Array:
    """The values of the typed fields, in order."""
    if stored is not None:
        return np.frombuffer(stored.view, "<f4" if stored.field == 5 else "<f8").astype(dtype, copy=False)
    if proto.scomplex_val or proto.dcomplex_val:
        parts = np.array(proto.scomplex_val or proto.dcomplex_val, np.float64)
        return (parts[0::2] + 1j * parts[1::2]).astype(dtype)
    if proto.half_val:
        return np.array(proto.half_val, np.int64).astype(np.uint16).view(dtype)
    for values in (proto.float_val, proto.double_val, proto.int_val, proto.int64_val, proto.bool_val, proto.uint32_val, proto.uint64_val):
        if values:
            return np.array(values).astype(dtype)
    return np.empty(0, dtype)
