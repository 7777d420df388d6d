"""Element types by PyTorch's names, and what they are called in numpy, in legacy storages and in safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from converters import packages
from converters.errors import UnsupportedError


@dataclass(frozen=True)
class Kind:
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


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("float64", 8, "float64", "DoubleStorage", "F64"),
        Kind("float32", 4, "float32", "FloatStorage", "F32"),
        Kind("float16", 2, "float16", "HalfStorage", "F16"),
        Kind("bfloat16", 2, "bfloat16", "BFloat16Storage", "BF16"),
        Kind("int64", 8, "int64", "LongStorage", "I64"),
        Kind("int32", 4, "int32", "IntStorage", "I32"),
        Kind("int16", 2, "int16", "ShortStorage", "I16"),
        Kind("int8", 1, "int8", "CharStorage", "I8"),
        Kind("uint8", 1, "uint8", "ByteStorage", "U8"),
        Kind("bool", 1, "bool", "BoolStorage", "BOOL"),
        Kind("complex64", 8, "complex64", "ComplexFloatStorage", "C64", swap=4),
        Kind("complex128", 16, "complex128", "ComplexDoubleStorage", swap=8),
        Kind("complex32", 4, None, swap=2),
        Kind("uint16", 2, "uint16", None, "U16"),
        Kind("uint32", 4, "uint32", None, "U32"),
        Kind("uint64", 8, "uint64", None, "U64"),
        Kind("float8_e4m3fn", 1, "float8_e4m3fn", None, "F8_E4M3"),
        Kind("float8_e5m2", 1, "float8_e5m2", None, "F8_E5M2"),
        Kind("float8_e4m3fnuz", 1, "float8_e4m3fnuz"),
        Kind("float8_e5m2fnuz", 1, "float8_e5m2fnuz"),
        Kind("float8_e8m0fnu", 1, "float8_e8m0fnu", None, "F8_E8M0"),
        Kind("float4_e2m1fn_x2", 1, None),
        Kind("qint8", 1, "int8", "QInt8Storage"),
        Kind("quint8", 1, "uint8", "QUInt8Storage"),
        Kind("qint32", 4, "int32", "QInt32Storage"),
        Kind("quint4x2", 1, "uint8", "QUInt4x2Storage"),
        Kind("quint2x4", 1, "uint8", "QUInt2x4Storage"),
        Kind("bits8", 1, None),
        Kind("bits16", 2, None),
        Kind("bits1x8", 1, None),
        Kind("bits2x4", 1, None),
        Kind("bits4x2", 1, None),
    )
}

ALIASES = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16"}
ALIASES |= {"cdouble": "complex128", "cfloat": "complex64", "chalf": "complex32"}

STORAGES: dict[str, Kind] = {kind.storage: kind for kind in KINDS.values() if kind.storage}
SAFETENSORS: dict[str, Kind] = {kind.safetensors: kind for kind in KINDS.values() if kind.safetensors}

# What numpy has no number for is shown as its parts: a pair of halves, or raw bytes.
_RAW = {"complex32": np.dtype([("real", "<f2"), ("imag", "<f2")])}


@cache
def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The numpy dtype of a torch type (quantized ones: their integers; complex32: a pair of halves; bits: unsigned integers)."""
    kind = KINDS[name]
    if kind.numpy is None:
        return _RAW.get(name) or np.dtype(f"<u{kind.itemsize}")
    if modern := kind.numpy.startswith(("bfloat16", "float8")):
        packages.require("ml_dtypes")
        import ml_dtypes

        if not hasattr(ml_dtypes, kind.numpy):
            raise UnsupportedError(f"{name}: this ml_dtypes ({ml_dtypes.__version__}) doesn't know the type; install a newer one")
    dtype: np.dtype[np.generic] = np.dtype(getattr(ml_dtypes, kind.numpy) if modern else kind.numpy)
    return dtype


def torch_name(dtype: npt.DTypeLike) -> str:
    """The torch type of a numpy (or ml_dtypes) dtype; raises UnsupportedError for one that torch has no tensors of."""
    name = np.dtype(dtype).name
    if name not in KINDS:
        raise UnsupportedError(f"a tensor of {name}: PyTorch has no such type; convert it to a numeric type first")
    return name
