"""The lazy name -> tensor mapping: tensors that are views of the mapped file until somebody looks at their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.errors import ConversionError, UnsupportedError
from converters.tensors.dtypes import DTYPES, DType, numpy_dtype, torch_name
from converters.tensors.storage import ArrayStorage, Storage


@dataclass(frozen=True, eq=False)
class Quantizer:
    """How a quantized tensor's integers become numbers: (q - zero_point) * scale, for the whole tensor or along an axis.

    scheme: torch's name, `per_tensor_affine` or `per_channel_affine`...; scale and zero_point: numbers, or Tensors along `axis`.
    """

    scheme: str
    scale: float | Tensor
    zero_point: int | Tensor
    axis: int | None = None


class Tensor:
    """A strided tensor over a Storage; numpy-compatible, and lazy: its numbers are read when they are asked for.

    shape and stride are counted in elements, as torch counts them; offset is the first element's place. conj and neg are
    torch's lazy conjugation and negation bits. `torch_dtype` is torch's name of the type, `dtype` numpy's (quantized tensors:
    their integers). np.asarray(tensor) is a read-only view of the file wherever the file holds the numbers as they are.
    """

    __slots__ = ("conj", "neg", "offset", "quantizer", "requires_grad", "shape", "storage", "stride", "torch_dtype")

    def __init__(
        self,
        storage: Storage,
        torch_dtype: str,
        shape: tuple[int, ...],
        stride: tuple[int, ...] | None = None,
        offset: int = 0,
        *,
        conj: bool = False,
        neg: bool = False,
        quantizer: Quantizer | None = None,
        requires_grad: bool = False,
    ) -> None:
        self.storage, self.torch_dtype, self.shape = storage, torch_dtype, shape
        self.stride = contiguous_stride(shape) if stride is None else stride
        self.offset, self.conj, self.neg, self.quantizer, self.requires_grad = offset, conj, neg, quantizer, requires_grad

    @property
    def element(self) -> DType:
        return DTYPES[self.torch_dtype]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return numpy_dtype(self.torch_dtype)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def nbytes(self) -> int:
        return self.size * self.element.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        plain = contiguous_stride(self.shape)
        return self.size == 0 or all(n == 1 or have == want for n, have, want in zip(self.shape, self.stride, plain, strict=True))

    @property
    def place(self) -> tuple[object, ...]:
        """What tells two tensors of one file apart: equal where they look at the same elements in the same way."""
        return (id(self.storage), self.torch_dtype, self.offset, self.shape, self.stride, self.conj, self.neg)

    def span(self) -> tuple[int, int]:
        """First and last-plus-one byte of the storage that the tensor looks at."""
        if self.size == 0:
            return 0, 0
        last = self.offset + sum((extent - 1) * stride for extent, stride in zip(self.shape, self.stride, strict=True))
        return self.offset * self.element.itemsize, (last + 1) * self.element.itemsize

    def numpy(self) -> npt.NDArray[Any]:
        """The numbers as a numpy array of the tensor's shape: a read-only view of the file where that is possible."""
        if self.size == 0:
            return np.empty(self.shape, self.dtype)
        start, stop = self.span()
        strides = tuple(step * self.element.itemsize for step in self.stride)
        array: npt.NDArray[Any] = np.ndarray(self.shape, self.dtype, self.storage.view()[start:stop], strides=strides)
        array.flags.writeable = False
        if self.conj and self.torch_dtype != "complex32":
            array = np.conjugate(array)
        return np.negative(array) if self.neg else array

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        array = self.numpy()
        if dtype is not None and np.dtype(dtype) != array.dtype:
            return array.astype(dtype)
        return array.copy() if copy else array

    def __getitem__(self, index: Any) -> Any:
        return self.numpy()[index]

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Tensor({self.torch_dtype}, shape={self.shape})"


@dataclass(frozen=True, eq=False)
class RebuiltTensor:
    """A tensor that isn't strided (sparse, nested, meta): the torch function that rebuilds it, with its arguments.

    The arguments hold Tensors, numbers, strings, tuples and Names; numpy has no form for it.
    """

    function: str
    arguments: tuple[Any, ...]
    layout: str
    torch_dtype: str
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return numpy_dtype(self.torch_dtype)

    @property
    def nbytes(self) -> int:
        return sum(piece.nbytes for piece in self.pieces())

    def pieces(self) -> Iterator[Tensor]:
        """The plain tensors among its arguments."""
        return _tensors_in(self.arguments)

    def numpy(self) -> npt.NDArray[Any]:
        raise UnsupportedError(f"a {self.layout} tensor has no plain array; write it as .pth, which keeps it as it is")

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self.numpy()


def _tensors_in(arguments: tuple[Any, ...]) -> Iterator[Tensor]:
    for argument in arguments:
        if isinstance(argument, Tensor):
            yield argument
        elif isinstance(argument, tuple):
            yield from _tensors_in(argument)


@dataclass(frozen=True)
class TorchName:
    """A name of torch's own in a rebuilding argument: `torch.sparse_coo`, `torch.float32`. It is only ever written, never called."""

    module: str
    name: str
    arguments: tuple[Any, ...] | None = None


Weight = Tensor | RebuiltTensor


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements.

    >>> contiguous_stride((2, 3, 4))
    (12, 4, 1)
    """
    stride, step = [], 1
    for extent in reversed(shape):
        stride.append(step)
        step *= max(extent, 1)
    return tuple(reversed(stride))


def ties(tensors: Mapping[str, Weight]) -> list[list[str]]:
    """Groups of names whose tensors are the very same elements: tied weights, not parts of one buffer or views that overlap."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor) and tensor.size:
            groups.setdefault((id(tensor.storage), tensor.span(), tensor.size), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def overlaps(tensors: Mapping[str, Weight]) -> list[list[str]]:
    """Groups of names whose tensors share some elements of a storage, but not the very same: views that overlap."""
    places: dict[int, list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor) and tensor.size:
            places.setdefault(id(tensor.storage), []).append((*tensor.span(), name))
    groups = []
    for spans in places.values():
        group: list[tuple[int, int, str]] = []
        for start, stop, name in [*sorted(spans), (1 << 62, 1 << 62, "")]:
            if group and start >= max(end for _, end, _ in group):
                if len({span[:2] for span in group}) > 1:
                    groups.append([member for _, _, member in group])
                group = []
            group.append((start, stop, name))
    return groups


EXPANDED = 1 << 30
"""Bytes up to which few bytes that are repeated are written out in full."""


def check_repeated(name: str, tensor: Tensor, size: int, target: str) -> None:
    """Raises ConversionError where a file would hold `size` bytes of a tensor that repeats very few; before any room is taken for them."""
    start, stop = tensor.span()
    held = min(stop - start, tensor.storage.held)
    if size > max(EXPANDED, 4 * held):
        raise ConversionError(f"{name}: repeats {held} bytes to {size}; {target}")


def as_tensors(tensors: Mapping[str, Any]) -> dict[str, Weight]:
    """Anything array-like as Tensors, in order: lazy tensors as they are, numpy arrays, memoryviews, onnx_ir tensors.

    Arrays that share memory share a Storage afterwards. Raises ConversionError for a name that isn't text or a value that isn't
    a tensor.
    """
    found: dict[str, Weight] = {}
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in tensors.items():
        if not isinstance(name, str):
            raise ConversionError(f"a tensor is named {name!r}; names are text")
        if isinstance(value, Tensor | RebuiltTensor):
            found[name] = value
        else:
            arrays[name] = _as_array(name, value)
    found |= _share(arrays)
    return {name: found[name] for name in tensors}


def _as_array(name: str, value: Any) -> npt.NDArray[Any]:
    if not isinstance(value, np.ndarray):
        if hasattr(value, "detach"):
            value = value.detach().cpu()
        value = value.numpy() if hasattr(value, "numpy") else np.asarray(value)
    array: npt.NDArray[Any] = np.asarray(value)
    if array.dtype.hasobject or (array.dtype.kind in "SUVMm" and array.dtype.name not in DTYPES):
        raise ConversionError(f"{name}: is of {array.dtype}, which is no tensor")
    return array


def _share(arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Weight]:
    """Numpy arrays as Tensors, where an array that lies within another's memory becomes a view of its Storage."""
    spans = {}
    result: dict[str, Weight] = {}
    for name, array in arrays.items():
        dtype = array.dtype.newbyteorder("=")
        element = DTYPES[torch_name(dtype)]
        order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        packed = array.transpose(order)
        if array.size == 0 or not packed.flags.c_contiguous or dtype != array.dtype:
            result[name] = Tensor(ArrayStorage(array), element.name, array.shape)
            continue
        start = int(array.__array_interface__["data"][0])
        spans[name] = (start, start + array.nbytes, element, packed)
    owner: tuple[int, int, DType, Storage] | None = None
    for name, (start, stop, element, packed) in sorted(spans.items(), key=lambda item: (item[1][0], -item[1][1])):
        if owner is None or stop > owner[1] or element is not owner[2] or (start - owner[0]) % element.itemsize:
            owner = (start, stop, element, ArrayStorage(packed))
        array = arrays[name]
        # An axis of extent 1 may carry any stride; torch compares them, so it gets the plain one.
        plain = contiguous_stride(array.shape)
        stride = tuple(plain[i] if array.shape[i] == 1 else array.strides[i] // element.itemsize for i in range(array.ndim))
        result[name] = Tensor(owner[3], element.name, array.shape, stride, (start - owner[0]) // element.itemsize)
    return result
