"""Storages as a pickle refers to them, and tensors over them; every size is checked with Python integers before a tensor is made.

Source: torch/storage.py, torch/_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converters.errors import FormatError, printable
from converters.readers.pytorch.pickles.stubs import Global, Stub
from converters.readers.pytorch.sizes import LIMIT, count, counts
from converters.tensors.dtypes import DTYPES, STORAGES, DType
from converters.tensors.storage import Storage, SwappedStorage
from converters.tensors.tensor import RebuiltTensor, Tensor, Weight


def as_weight(value: Any) -> Weight | None:
    """The tensor that a value is or stands for (a Parameter, a Variable), or None."""
    for _ in range(8):
        if isinstance(value, Tensor | RebuiltTensor):
            return value
        if not isinstance(value, Stub):
            return None
        value = value.data
    return None


@dataclass(eq=False)
class TypedStorage:
    """A storage as a tensor sees it: count elements of one type from start on. untyped: plain bytes, the tensor says the type."""

    storage: Storage
    element: DType
    count: int
    start: int = 0
    untyped: bool = False
    big_endian: bool = False  # of an untyped one, whose bytes can be turned round only when the type is known


def storage_dtype(cls: Any) -> tuple[DType, bool]:
    """The element type of a storage's class, and whether it is an untyped one. Raises FormatError for any other class."""
    if isinstance(cls, Global) and (cls.module == "torch" or cls.module.startswith("torch.")):
        if cls.name in ("UntypedStorage", "_UntypedStorage"):
            return DTYPES["uint8"], True
        if cls.name in STORAGES and cls.module in ("torch", "torch.cuda", "torch.storage", "torch.sparse"):
            return STORAGES[cls.name], False
    shown = printable(cls) if isinstance(cls, Global) else type(cls).__name__
    raise FormatError(f"a storage is of the class {shown}, which isn't one of torch's storages")


def make_tensor(storage: Any, offset: Any, size: Any, stride: Any, *, element: DType | None = None) -> Tensor:
    """A tensor over a storage, once size, stride and offset are known to lie inside it."""
    if not isinstance(storage, TypedStorage):
        raise FormatError(f"a tensor is made of a {type(storage).__name__}, not of a storage")
    shape, strides = counts(size, "a tensor's size"), counts(stride, "a tensor's stride")
    start = count(offset, "a tensor's offset")
    if len(shape) != len(strides):
        raise FormatError(f"a tensor has {len(shape)} sizes and {len(strides)} strides")
    own = storage.element if element is None else element
    total = 1
    for extent in shape:
        total *= extent
    if total * own.itemsize >= LIMIT:
        raise FormatError(f"a tensor of {shape} has more bytes than can be counted")
    available = storage.count * storage.element.itemsize
    if total:
        last = start + sum((extent - 1) * step for extent, step in zip(shape, strides, strict=True))
        if (last + 1) * own.itemsize > available:
            raise FormatError(f"a tensor of {shape} with strides {strides} at {start} lies outside its storage of {available} bytes")
    else:
        start = 0
    bytes_before = storage.start * storage.element.itemsize
    if bytes_before % own.itemsize:
        raise FormatError(f"a tensor of {own.name} begins at byte {bytes_before} of its storage")
    return Tensor(_in_order(storage, own), own.name, shape, strides, start + bytes_before // own.itemsize)


def make_old_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
    """As make_tensor; before 0.4 a tensor without dimensions was an empty one."""
    if isinstance(storage, TypedStorage) and not storage.count and isinstance(size, tuple) and not size:
        return make_tensor(storage, 0, (0,), (1,))
    return make_tensor(storage, offset, size, stride)


def _in_order(storage: TypedStorage, element: DType) -> Storage:
    """The storage's bytes in little-endian order, one object for all tensors that look at it."""
    if storage.big_endian and element.swapsize > 1:
        storage.storage = SwappedStorage(storage.storage, element.swapsize)
        storage.big_endian = False
    return storage.storage
