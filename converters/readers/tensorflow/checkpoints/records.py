"""The records of a V1 checkpoint: a list of tensors, and the numbers of each. Source: TensorFlow's core/util/saved_tensor_slice.proto."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from converters.errors import FormatError, about, printable
from converters.files import map_file
from converters.readers.tensorflow.checkpoints.slices import (
    PartsStorage,
    Slice,
    check_cover,
    dtype_of,
    place_of,
    read_shape,
    read_slice,
    shown,
)
from converters.readers.tensorflow.checkpoints.table import read_table
from converters.readers.tensorflow.dtypes import NAMES, NO_NUMBERS, type_name
from converters.schemas.wire import BYTES, FIXED32, FIXED64, Field, fields, signed, varints
from converters.tensors.state_dict import LeftOut, StateDict
from converters.tensors.storage import ArrayStorage
from converters.tensors.tensor import Tensor

_FIXED = {5: ("<f4", 1), 9: ("<f4", 2), 6: ("<f8", 1), 12: ("<f8", 2)}
"""Fields of a TensorProto whose numbers lie in the file as they are: numpy's type, and how many make one element."""


@dataclass
class SavedTensor:
    """What the list says of a tensor; slices: its parts."""

    shape: tuple[int, ...] = ()
    dtype: int = 0
    slices: list[Slice] = field(default_factory=list)


@dataclass
class Values:
    """The numbers of a part, as the fields of a TensorProto that has neither type nor shape."""

    fields: list[Field]

    def numbers(self, dtype: int, what: str) -> NDArray[np.generic]:
        """The numbers in their type: views of the file for floats and doubles; bfloat16 as 16 bits."""
        target = np.dtype(np.uint16 if NAMES[dtype] == "bfloat16" else NAMES[dtype])
        pieces = [self._piece(entry, target, what) for entry in self.fields]
        pieces = [piece for piece in pieces if piece is not None]
        if not pieces:
            return np.empty(0, target)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)  # type: ignore[return-value,arg-type]

    def _piece(self, entry: Field, target: np.dtype[np.generic], what: str) -> NDArray[np.generic] | None:
        number, wire, value, payload = entry
        if number in _FIXED:
            kind, per = _FIXED[number]
            if wire not in (BYTES, FIXED32, FIXED64) or len(payload) % (np.dtype(kind).itemsize * per):
                raise FormatError(f"{what}: its numbers are cut off")
            array = np.frombuffer(payload, kind)
            return array.view(target) if per == 2 else array.astype(target, copy=False)
        if number not in (7, 10, 11, 13, 16, 17):
            return None
        whole = varints(payload, what) if wire == BYTES else np.array([signed(value)], np.int64)
        if number == 13:  # bit patterns
            return whole.astype(np.uint16).view(target)
        return whole.astype(target)


class SavedSlices:
    """The records of all files of a checkpoint."""

    def __init__(self) -> None:
        self.tensors: dict[str, SavedTensor] = {}
        self.data: dict[tuple[str, Slice], Values] = {}

    def add(self, entries: dict[bytes, memoryview], file: str) -> None:
        """Takes in a file's records. Raises FormatError where two files disagree."""
        for key, value in entries.items():
            for number, wire, _, payload in fields(value, "a record"):
                if wire == BYTES and number == (2 if key else 1):
                    if key:
                        self._add_data(payload)
                    else:
                        self._add_list(payload)

    def _add_list(self, view: memoryview) -> None:
        for number, wire, _, payload in fields(view, "the list of tensors"):
            if number != 1 or wire != BYTES:
                continue
            name, tensor = "", SavedTensor()
            for n, w, value, inner in fields(payload, "the list of tensors"):
                if n == 1 and w == BYTES:
                    name = bytes(inner).decode("utf-8", "backslashreplace")
                elif n == 2 and w == BYTES:
                    tensor.shape = read_shape(inner, f"variable '{printable(name)}'")
                elif n == 3:
                    tensor.dtype = value
                elif n == 4 and w == BYTES:
                    tensor.slices.append(read_slice(inner, f"variable '{printable(name)}'"))
            known = self.tensors.setdefault(name, tensor)
            if known is not tensor:
                if (known.shape, known.dtype) != (tensor.shape, tensor.dtype):
                    raise FormatError(f"variable '{printable(name)}' has two shapes or types in the files of this checkpoint")
                known.slices += tensor.slices

    def _add_data(self, view: memoryview) -> None:
        name, values = "", Values([])
        part: Slice = ()
        for number, wire, _, payload in fields(view, "a record"):
            if wire != BYTES:
                continue
            if number == 1:
                name = bytes(payload).decode("utf-8", "backslashreplace")
            elif number == 2:
                part = read_slice(payload, f"variable '{printable(name)}'")
            elif number == 3:
                values = Values(list(fields(payload, f"variable '{printable(name)}'")))
        self.data[name, part] = values


def read_records(place: str, entries: dict[bytes, memoryview]) -> StateDict:
    """The tensors of a V1 checkpoint, of all its files where it has several."""
    slices = SavedSlices()
    slices.add(entries, place)
    shard = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})", place, re.DOTALL)
    if shard is not None:
        count = int(shard[3])
        for number in range(count):
            other = f"{shard[1]}-{number:05d}-of-{count:05d}"
            if number == int(shard[2]):
                continue
            if not os.path.isfile(other):
                raise FormatError(f"file {number} of {count} is missing", path=other)
            with about(other):
                slices.add(dict(read_table(map_file(other))), other)
    state = StateDict(form="TensorFlow checkpoint (version 1)")
    for name, tensor in slices.tensors.items():
        what = f"variable '{printable(name)}'"
        if tensor.dtype in NO_NUMBERS:
            state.left_out.append(LeftOut(name, NO_NUMBERS[tensor.dtype], None, tensor.shape))
            continue
        dtype = type_name(tensor.dtype, what)
        places, parts = [], []
        for part in tensor.slices:
            where = place_of(part, tensor.shape, what)
            found = slices.data.get((name, part))
            if found is None:
                raise FormatError(f"{what}: its part {shown(where)} isn't in the checkpoint")
            size = tuple(axis.stop - axis.start for axis in where)
            places.append(where)
            parts.append((where, _numbers(found.numbers(tensor.dtype, what), dtype, size, what)))
        check_cover(places, tensor.shape, what)
        whole = len(parts) == 1
        state.tensors[name] = parts[0][1] if whole else Tensor(PartsStorage(dtype_of(dtype), tensor.shape, parts), dtype, tensor.shape)
    return state


def _numbers(array: NDArray[np.generic], dtype: str, shape: tuple[int, ...], what: str) -> Tensor:
    if array.size != math.prod(shape):
        raise FormatError(f"{what} has {array.size} numbers; the shape {shape} needs {math.prod(shape)}")
    return Tensor(ArrayStorage(array.reshape(shape)), dtype, shape)
