"""Element types by PyTorch's names, and what they are called in numpy, in legacy storages and in safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from converters import packages
from converters.errors import UnsupportedError


@dataclass(frozen=True)
class DType:
    """One element type: torch's name, bytes per element, numpy's name, and the other two worlds' names where they have one.

    numpy: a name np.dtype knows, or ml_dtypes (bfloat16, float8_*). storage: the class a legacy tensor's storage has
    (`torch.FloatStorage`). swap: bytes that turn round together on a big-endian machine.
    """

    name: str
    itemsize: int
    numpy: str | None
    storage: str | None = None
    safetensors: str | None = None
    swap: int | None = None

    @property
    def swapsize(self) -> int:
        return self.itemsize if self.swap is None else self.swap


DTYPES: dict[str, DType] = {
    element.name: element
    for element in (
        DType("float64", 8, "float64", "DoubleStorage", "F64"),
        DType("float32", 4, "float32", "FloatStorage", "F32"),
        DType("float16", 2, "float16", "HalfStorage", "F16"),
        DType("bfloat16", 2, "bfloat16", "BFloat16Storage", "BF16"),
        DType("int64", 8, "int64", "LongStorage", "I64"),
        DType("int32", 4, "int32", "IntStorage", "I32"),
        DType("int16", 2, "int16", "ShortStorage", "I16"),
        DType("int8", 1, "int8", "CharStorage", "I8"),
        DType("uint8", 1, "uint8", "ByteStorage", "U8"),
        DType("bool", 1, "bool", "BoolStorage", "BOOL"),
        DType("complex64", 8, "complex64", "ComplexFloatStorage", "C64", swap=4),
        DType("complex128", 16, "complex128", "ComplexDoubleStorage", swap=8),
        DType("complex32", 4, None, swap=2),
        DType("uint16", 2, "uint16", None, "U16"),
        DType("uint32", 4, "uint32", None, "U32"),
        DType("uint64", 8, "uint64", None, "U64"),
        DType("float8_e4m3fn", 1, "float8_e4m3fn", None, "F8_E4M3"),
        DType("float8_e5m2", 1, "float8_e5m2", None, "F8_E5M2"),
        DType("float8_e4m3fnuz", 1, "float8_e4m3fnuz"),
        DType("float8_e5m2fnuz", 1, "float8_e5m2fnuz"),
        DType("float8_e8m0fnu", 1, "float8_e8m0fnu", None, "F8_E8M0"),
        DType("float4_e2m1fn_x2", 1, None),
        DType("qint8", 1, "int8", "QInt8Storage"),
        DType("quint8", 1, "uint8", "QUInt8Storage"),
        DType("qint32", 4, "int32", "QInt32Storage"),
        DType("quint4x2", 1, "uint8", "QUInt4x2Storage"),
        DType("quint2x4", 1, "uint8", "QUInt2x4Storage"),
        DType("bits8", 1, None),
        DType("bits16", 2, None),
        DType("bits1x8", 1, None),
        DType("bits2x4", 1, None),
        DType("bits4x2", 1, None),
    )
}

ALIASES = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16"}
ALIASES |= {"cdouble": "complex128", "cfloat": "complex64", "chalf": "complex32"}

STORAGES: dict[str, DType] = {element.storage: element for element in DTYPES.values() if element.storage}
SAFETENSORS: dict[str, DType] = {element.safetensors: element for element in DTYPES.values() if element.safetensors}

# What numpy has no number for is shown as its parts: a pair of halves, or raw bytes.
_RAW = {"complex32": np.dtype([("real", "<f2"), ("imag", "<f2")])}


@cache
def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The numpy dtype of a torch type (quantized ones: their integers; complex32: a pair of halves; bits: unsigned integers)."""
    element = DTYPES[name]
    if element.numpy is None:
        return _RAW.get(name) or np.dtype(f"<u{element.itemsize}")
    if modern := element.numpy.startswith(("bfloat16", "float8")):
        packages.require("ml_dtypes")
        import ml_dtypes

        if not hasattr(ml_dtypes, element.numpy):
            raise UnsupportedError(f"{name}: this ml_dtypes ({ml_dtypes.__version__}) doesn't know the type; install a newer one")
    dtype: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, element.numpy) if modern else element.numpy)
    return dtype


def torch_name(dtype: npt.DTypeLike) -> str:
    """The torch type of a numpy (or ml_dtypes) dtype; raises UnsupportedError for one that torch has no tensors of."""
    name = np.dtype(dtype).name
    if name not in DTYPES:
        raise UnsupportedError(f"a tensor of {name}: PyTorch has no such type; convert it to a numeric type first")
    return name
