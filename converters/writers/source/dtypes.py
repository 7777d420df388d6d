"""ONNX's element types as PyTorch's, and the error of what has no PyTorch source."""

from __future__ import annotations

import functools
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

TORCH_DTYPES = {
    ir.DataType.FLOAT: "torch.float32",
    ir.DataType.DOUBLE: "torch.float64",
    ir.DataType.FLOAT16: "torch.float16",
    ir.DataType.BFLOAT16: "torch.bfloat16",
    ir.DataType.UINT8: "torch.uint8",
    ir.DataType.UINT16: "torch.uint16",
    ir.DataType.UINT32: "torch.uint32",
    ir.DataType.UINT64: "torch.uint64",
    ir.DataType.INT8: "torch.int8",
    ir.DataType.INT16: "torch.int16",
    ir.DataType.INT32: "torch.int32",
    ir.DataType.INT64: "torch.int64",
    ir.DataType.BOOL: "torch.bool",
    ir.DataType.COMPLEX64: "torch.complex64",
    ir.DataType.COMPLEX128: "torch.complex128",
}
"""ONNX element types that PyTorch computes with."""
STORED_DTYPES = {
    ir.DataType.FLOAT8E4M3FN: ("torch.float8_e4m3fn", 448.0),
    ir.DataType.FLOAT8E4M3FNUZ: ("torch.float8_e4m3fnuz", 240.0),
    ir.DataType.FLOAT8E5M2: ("torch.float8_e5m2", 57344.0),
    ir.DataType.FLOAT8E5M2FNUZ: ("torch.float8_e5m2fnuz", 57344.0),
}
"""Types that PyTorch only stores and converts, with their largest number."""
HELD = {
    ir.DataType.INT4: ir.DataType.INT8,
    ir.DataType.UINT4: ir.DataType.UINT8,
    ir.DataType.INT2: ir.DataType.INT8,
    ir.DataType.UINT2: ir.DataType.UINT8,
    ir.DataType.FLOAT4E2M1: ir.DataType.FLOAT,
}
"""Types of less than a byte, and what PyTorch holds their numbers in, one by one."""
FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


class UnwritableError(Exception):
    """This node, as it is, has no PyTorch source; the writer collects these and reports all of them at once."""


def torch_dtype(dtype: ir.DataType) -> str:
    """torch's name of an ONNX element type."""
    dtype = HELD.get(dtype, dtype)
    if dtype not in TORCH_DTYPES:
        raise UnwritableError(f"PyTorch doesn't compute with elements of type {dtype.name}")
    return TORCH_DTYPES[dtype]


def held(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A tensor as PyTorch holds it: itself, unless its numbers have less than a byte."""
    dtype = HELD.get(tensor.dtype)
    if dtype is None:
        return tensor
    return ir.LazyTensor(functools.partial(_widened, tensor), dtype=dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name)


def array_of(tensor: ir.TensorProtocol) -> NDArray[Any]:
    """The numbers of a tensor in a type that PyTorch has."""
    array: NDArray[Any] = tensor.numpy()
    return array.astype(HELD[tensor.dtype].numpy()) if tensor.dtype in HELD else array


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(array_of(tensor))
