"""Numbers of a state_dict in another form: floating tensors of another type, every tensor row-major in a storage of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from converters.errors import ConversionError, UnsupportedError, printable
from converters.tensors.dtypes import DTYPES
from converters.tensors.state_dict import StateDict
from converters.tensors.storage import ArrayStorage, ConvertedStorage, Storage
from converters.tensors.tensor import Tensor

FLOATING = ("float16", "bfloat16", "float32", "float64")
_EXPANDED = 1 << 30  # bytes up to which a tensor that repeats its elements is written out in full


def cast(state: StateDict, dtype: str) -> list[ConvertedStorage]:
    """Floating tensors in another type, in place; those that share a storage share it afterwards.

    dtype: one of FLOATING. Answers the new storages, which count the numbers that overflow once they are read. Raises ConversionError.
    """
    if dtype not in FLOATING:
        raise ConversionError(f"dtype '{printable(dtype)}': choose one of {', '.join(FLOATING)}")
    element = DTYPES[dtype]
    storages: dict[tuple[int, str], ConvertedStorage] = {}
    for name, tensor in state.tensors.items():
        if not isinstance(tensor, Tensor) or tensor.torch_dtype not in FLOATING or tensor.element is element:
            continue
        place = (id(tensor.storage), tensor.torch_dtype)
        if place not in storages:
            storages[place] = ConvertedStorage(tensor.storage, tensor.element, element)
        state.tensors[name] = Tensor(
            storages[place], element.name, tensor.shape, tensor.stride, tensor.offset, conj=tensor.conj, neg=tensor.neg
        )
    return list(storages.values())


def make_contiguous(state: StateDict) -> None:
    """Every tensor row-major in a storage of its own, in place; those that are the same tensor stay one.

    Raises UnsupportedError for sparse, nested and quantized tensors, ConversionError for one that repeats few bytes to very many.
    """
    made: dict[Any, Tensor] = {}
    for name, tensor in state.tensors.items():
        if not isinstance(tensor, Tensor) or tensor.quantizer is not None:
            raise UnsupportedError(
                f"{printable(name)}: a sparse, nested or quantized tensor can't be made contiguous; leave out --contiguous"
            )
        start, stop = tensor.span()
        if tensor.nbytes > max(_EXPANDED, 4 * (stop - start)):
            raise ConversionError(f"{printable(name)}: repeats {stop - start} bytes to {tensor.nbytes}; leave out --contiguous")
        if tensor.place not in made:
            made[tensor.place] = Tensor(RowStorage(tensor), tensor.torch_dtype, tensor.shape)
        state.tensors[name] = made[tensor.place]


class RowStorage(Storage):
    """A tensor's elements in row-major order, read when they are asked for."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.nbytes = tensor, tensor.nbytes

    def view(self) -> memoryview:
        return ArrayStorage(self.tensor.numpy()).view()

    def chunks(self, start: int, stop: int) -> Iterator[memoryview]:
        if self.tensor.contiguous and not self.tensor.conj and not self.tensor.neg:
            first, _ = self.tensor.span()
            return self.tensor.storage.chunks(first + start, first + stop)
        return ArrayStorage(self.tensor.numpy()).chunks(start, stop)
