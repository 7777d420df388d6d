"""The weights of a program that torch.export saved (.pt2): the archive of 2.8 and later, and the plain zip of 2.1 to 2.7.

Source: torch/export/pt2_archive/_package.py; torch/_export/serde/schema.py, whose numbers of types and layouts are those here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from converters.errors import FormatError, UnsupportedError, printable
from converters.readers.pytorch.archives.zip import ZipArchive, ZipStorage
from converters.readers.pytorch.sizes import count
from converters.readers.pytorch.storages import TypedStorage, as_weight, make_tensor
from converters.tensors.dtypes import DTYPES
from converters.tensors.tensor import Tensor

_TYPES = dict(enumerate("uint8 int8 int16 int32 int64 float16 float32 float64 complex32 complex64 complex128 bool bfloat16".split(), 1))
_TYPES |= {28: "uint16", 34: "uint32", 35: "uint64"}
_TYPES |= dict(enumerate("float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu".split(), 29))
_STRIDED = 7
_WEIGHTS = "data/weights/"
_CONFIG = "_weights_config.json"

Read = Callable[[memoryview, str], Any]
"""What reads a checkpoint inside the archive."""


def is_exported(names: list[str], root: str) -> bool:
    """Whether an archive of these entries is torch.export's."""
    return f"{root}archive_format" in names or "serialized_exported_program.json" in names


def read_exported(archive: ZipArchive, root: str, read: Read) -> Any:
    """The state_dict of the program; where the archive holds several, a dictionary of theirs by name. Raises FormatError."""
    if f"{root}archive_format" not in archive.entries:
        return _read_plain(archive, read)
    if f"{root}byteorder" in archive.entries and bytes(archive.read(f"{root}byteorder")) != b"little":
        raise UnsupportedError("a program of torch.export from a machine of another byte order, which torch itself can't load elsewhere")
    inside = f"{root}{_WEIGHTS}"
    found: dict[str, Any] = {}
    for entry in archive.entries:
        name = entry.removeprefix(inside)
        if entry.startswith(inside) and name.endswith(_CONFIG):
            found[name.removesuffix(_CONFIG)] = _Weights(archive, inside, read).state(entry)
        elif entry.startswith(inside) and name.endswith(".pt"):
            found[name.removesuffix(".pt")] = read(archive.read(entry), entry)
    if not found:
        raise FormatError("a program of torch.export without weights: it holds none of its own, or they were compiled into it")
    return found if len(found) > 1 else next(iter(found.values()))


def _read_plain(archive: ZipArchive, read: Read) -> Any:
    """The files of 2.1 to 2.7: the state_dict is a checkpoint of its own."""
    for name in ("serialized_state_dict.pt", "serialized_state_dict.json"):
        if name in archive.entries:
            return read(archive.read(name), name)
    raise FormatError("a program of torch.export without its serialized_state_dict")


class _Weights:
    """One program's tensors over the archive's entries, each of which may serve several."""

    def __init__(self, archive: ZipArchive, folder: str, read: Read) -> None:
        self._archive, self._folder, self._read = archive, folder, read
        self._storages: dict[str, TypedStorage] = {}

    def state(self, config: str) -> dict[str, Any]:
        try:
            said = json.loads(bytes(self._archive.read(config)))
        except (ValueError, RecursionError) as problem:
            raise FormatError(f"{printable(config)}: is broken ({printable(problem, 80)})") from problem
        entries = said.get("config") if isinstance(said, dict) else None
        if not isinstance(entries, dict):
            raise FormatError(f"{printable(config)}: doesn't say where the weights are")
        return {str(name): self._tensor(str(name), entry) for name, entry in entries.items()}

    def _tensor(self, name: str, entry: Any) -> Any:
        place = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(place, str):
            raise FormatError(f"'{printable(name)}': the archive doesn't say where it is")
        if entry.get("use_pickle"):
            pickled = self._read(self._archive.read(self._folder + place), place)
            if as_weight(pickled) is None:
                raise UnsupportedError(f"'{printable(name)}' is pickled in a form that only its own code can read")
            return pickled
        meta = entry.get("tensor_meta")
        element = DTYPES.get(_TYPES.get(count(meta.get("dtype"), "a tensor's type"), "")) if isinstance(meta, dict) else None
        if element is None or meta.get("layout", _STRIDED) != _STRIDED:
            raise UnsupportedError(f"'{printable(name)}' is of a type or a layout that isn't known here")
        shape, stride = ([_number(value) for value in _list(meta, key)] for key in ("sizes", "strides"))
        if place not in self._storages:
            member = self._archive.entry(self._folder + place)
            storage = ZipStorage(self._archive, member, check=True)
            self._storages[place] = TypedStorage(storage, element, member.size // element.itemsize)
        offset = _number(meta.get("storage_offset"))
        return _with_gradient(make_tensor(self._storages[place], offset, shape, stride, element=element), meta)


def _with_gradient(tensor: Tensor, meta: dict[str, Any]) -> Tensor:
    tensor.requires_grad = meta.get("requires_grad") is True
    return tensor


def _list(meta: dict[str, Any], key: str) -> list[Any]:
    values = meta.get(key)
    if not isinstance(values, list):
        raise FormatError(f"a tensor's {key} are no list")
    return values


def _number(value: Any) -> int:
    """{"as_int": 3}: a size that is no symbol."""
    return count(value.get("as_int") if isinstance(value, dict) else value, "a tensor's size")
