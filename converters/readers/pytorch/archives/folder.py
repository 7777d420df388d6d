"""Checkpoints that are folders: an unpacked zip, torch.distributed.checkpoint's, and a file for each rank of a sharded model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import FormatError, UnsupportedError, printable
from converters.files import map_file
from converters.readers.pytorch.contents import tensors_inside
from converters.readers.pytorch.pickles.stubs import Stub
from converters.readers.pytorch.sharded import ShardTensor
from converters.readers.pytorch.sizes import counts
from converters.readers.pytorch.storages import as_weight
from converters.tensors.storage import ArrayStorage
from converters.tensors.tensor import EXPANDED, Tensor, contiguous_stride

_METADATA = "torch.distributed.checkpoint.metadata."
_RANK = re.compile(r"\d+")


class PlainFolder:
    """An unpacked zip checkpoint: its files as the entries of an archive."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.entries = {str(path.relative_to(folder)) for path in _files(folder)}

    def read(self, name: str) -> memoryview:
        """A file's bytes. Raises FormatError for one that isn't there, or leads out of the folder."""
        if name not in self.entries:
            raise FormatError(f"the folder has no '{printable(name)}', which its data.pkl refers to")
        path = self._folder / name
        return map_file(path) if path.stat().st_size else memoryview(b"")


def _files(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it that are no links."""
    for where, _, names in os.walk(folder):
        yield from (path for name in names if (path := Path(where, name)).is_file() and path.resolve().is_relative_to(folder.resolve()))


# -- torch.distributed.checkpoint


def read_distributed(metadata: Any, folder: Path, read: Callable[[memoryview, str], Any]) -> dict[str, Any]:
    """The tree of a torch.distributed.checkpoint folder, its tensors put together of their chunks.

    metadata: the object in `.metadata`. read: what reads one saved tensor out of its bytes. Raises FormatError.
    """
    said = metadata.attributes if isinstance(metadata, Stub) and metadata.class_name == f"{_METADATA}Metadata" else {}
    tensors, places = said.get("state_dict_metadata"), said.get("storage_data")
    if not isinstance(tensors, dict) or not isinstance(places, dict):
        raise FormatError(".metadata is none of torch.distributed.checkpoint's")
    chunks: dict[str, dict[tuple[int, ...], Stub]] = {}
    for index, info in places.items():
        if not isinstance(index, Stub) or not isinstance(info, Stub) or not isinstance(index.attributes.get("fqn"), str):
            raise FormatError(".metadata says where something lies in a form that isn't torch's")
        offset = index.attributes.get("offset")
        at = () if offset is None else counts(offset, "a chunk's offset")
        chunks.setdefault(str(index.attributes["fqn"]), {})[at] = info
    paths = said.get("planner_data")
    tree: dict[str, Any] = {}
    for name, about in tensors.items():
        if not isinstance(name, str) or not isinstance(about, Stub):
            raise FormatError(".metadata describes a tensor in a form that isn't torch's")
        if about.class_name == f"{_METADATA}TensorStorageMetadata":
            path = paths.get(name, (name,)) if isinstance(paths, dict) else (name,)
            _put(
                tree,
                path if isinstance(path, tuple | list) and path else (name,),
                _assembled(name, about, chunks.get(name, {}), folder, read),
            )
    return tree


def _put(tree: dict[str, Any], path: Sequence[Any], value: Any) -> None:
    for step in path[:-1]:
        inside = tree.setdefault(str(step), {})
        if not isinstance(inside, dict):
            raise FormatError(f"'{printable(step)}' is a tensor and holds others")
        tree = inside
    if str(path[-1]) in tree:
        raise FormatError(f"'{printable(path[-1])}' is there twice")
    tree[str(path[-1])] = value


def _assembled(name: str, about: Stub, places: dict[tuple[int, ...], Stub], folder: Path, read: Callable[[memoryview, str], Any]) -> Tensor:
    """One tensor of all its chunks."""
    shape = counts(about.attributes.get("size", ()), "a tensor's size")
    parts = []
    for chunk in about.attributes.get("chunks") or ():
        said = chunk.attributes if isinstance(chunk, Stub) else {}
        at, sizes = counts(said.get("offsets", ()), "a chunk's offsets"), counts(said.get("sizes", ()), "a chunk's sizes")
        place = places.get(at)
        if place is None or len(at) != len(shape) or len(sizes) != len(shape):
            raise FormatError(f"'{printable(name)}': .metadata doesn't say where its part at {at} lies")
        tensor = as_weight(read(_piece(name, place, folder), name))
        if not isinstance(tensor, Tensor) or tensor.shape != sizes:
            raise FormatError(f"'{printable(name)}': its part at {at} isn't the tensor of {sizes} that .metadata speaks of")
        parts.append((at, tensor))
    if len(parts) == 1 and parts[0][1].shape == shape:
        return parts[0][1]
    return _joined(name, shape, parts)


def _piece(name: str, place: Stub, folder: Path) -> memoryview:
    said = place.attributes
    file, start, length = said.get("relative_path"), said.get("offset"), said.get("length")
    if not isinstance(file, str) or not isinstance(start, int) or not isinstance(length, int) or said.get("transform_descriptors"):
        raise UnsupportedError(f"'{printable(name)}' lies in a form that isn't read here (compressed, or not torch's)")
    if os.path.basename(file) != file or not (folder / file).is_file():
        raise FormatError(f"'{printable(name)}': its file {printable(file)} isn't in the folder")
    view = map_file(folder / file)
    if start < 0 or length < 0 or start + length > len(view):
        raise FormatError(f"'{printable(name)}': {length} bytes at {start} of {printable(file)}, which has {len(view)}")
    return view[start : start + length]


def _joined(name: str, shape: tuple[int, ...], parts: Sequence[tuple[tuple[int, ...], Tensor]]) -> Tensor:
    """Parts at their places. Raises FormatError where they don't fill the whole exactly once."""
    if not parts or len({part.torch_dtype for _, part in parts}) != 1 or any(part.quantizer or part.conj or part.neg for _, part in parts):
        raise FormatError(f"'{printable(name)}': its parts are of several types, or there are none")
    covered = sum(part.size for _, part in parts)
    total = 1
    for extent in shape:
        total *= extent
    if covered != total:
        raise FormatError(f"'{printable(name)}': its parts have {covered} of {total} elements")
    itemsize = parts[0][1].element.itemsize
    held: dict[int, int] = {}  # bytes by where they lie: parts may repeat their elements, or be one part many times
    for _, part in parts:
        start, stop = part.span()
        place = part.numpy().ctypes.data
        held[place] = max(held.get(place, 0), stop - start)
    if total * itemsize > max(EXPANDED, 4 * sum(held.values())):
        raise FormatError(f"'{printable(name)}': its parts repeat {sum(held.values())} bytes to {total * itemsize}, which are not joined")
    whole, seen = np.zeros((*shape, itemsize), np.uint8), np.zeros(shape, bool)
    for at, part in parts:
        window = tuple(slice(start, start + extent) for start, extent in zip(at, part.shape, strict=True))
        if any(start + extent > size for start, extent, size in zip(at, part.shape, shape, strict=True)) or seen[window].any():
            raise FormatError(f"'{printable(name)}': its part at {at} lies over another, or beyond the end")
        seen[window] = True
        whole[window] = np.frombuffer(np.ascontiguousarray(part.numpy()).tobytes(), np.uint8).reshape(*part.shape, itemsize)
    return Tensor(ArrayStorage(whole), parts[0][1].torch_dtype, shape)


# -- a file for each rank


def join_ranks(trees: Sequence[tuple[str, Any]]) -> Any:
    """The first rank's tree, whose shards become whole with those of the others. trees: each with the name of its file.

    Raises FormatError where a rank's part is missing, or where nothing in the files is a shard.
    """
    ordered = sorted(trees, key=lambda tree: [int(number) for number in _RANK.findall(tree[0])])
    found = [dict(tensors_inside(root, "", set())) for _, root in ordered]
    shards = {path: weight for path, weight in found[0].items() if isinstance(weight, ShardTensor)}
    if not shards:
        names = ", ".join(printable(name, 60) for name, _ in ordered[:8])
        raise FormatError(f"the folder holds several checkpoints, and none is a part of another: {names}", hint="give one of them")
    for path, shard in shards.items():
        parts: list[tuple[tuple[int, ...], Tensor]] = []
        start = 0
        for (name, _), tensors in zip(ordered, found, strict=True):
            part = tensors.get(path)
            if not isinstance(part, ShardTensor) or (part.whole, part.axis) != (shard.whole, shard.axis):
                raise FormatError(f"{printable(name)} has no part of '{printable(path.lstrip('.'))}' that goes with the other files'")
            start = start if part.start is None else part.start
            if part.size:
                parts.append((tuple(start if axis == shard.axis else 0 for axis in range(len(shard.whole))), part))
            start += part.shape[shard.axis]
        whole = _joined(path.lstrip("."), shard.whole, parts)
        shard.storage, shard.shape, shard.offset, shard.stride = whole.storage, whole.shape, 0, contiguous_stride(whole.shape)
    return ordered[0][1]
