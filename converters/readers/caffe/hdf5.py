"""Weights from a .caffemodel.h5: /data/LAYER/INDEX, as caffe/src/caffe/net.cpp (ToHDF5) writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from converters import packages
from converters.errors import FormatError, Source, about, printable
from converters.files import StrPath, map_file
from converters.readers.caffe.caffemodel import Blob, StoredLayer, damaged

if TYPE_CHECKING:
    import h5py

MAGIC = b"\x89HDF\r\n\x1a\n"
DEPTH_LIMIT = 64
"""Groups in groups: a layer's name has a slash for each."""
COUNT_LIMIT = 1 << 20
"""Groups and datasets, each counted once for every path that leads to it."""
PACKED = 64
"""How many times the file's size its compressed datasets may take in memory; weights are packed by a few per cent."""


def read_hdf5(path: StrPath) -> list[StoredLayer]:
    """The layers of an HDF5 weights file in Caffe's order; contiguous datasets are views of the mapped file.

    Layers whose names hold slashes are groups in groups. Links inside the file are followed. Raises FormatError for other or damaged
    HDF5 files, and for what lies outside the file: external links, external storage, virtual datasets.
    """
    packages.require("h5py")
    import h5py

    view = map_file(path)
    with about(path):
        try:
            with h5py.File(os.fspath(path), "r") as archive:
                layers: dict[str, StoredLayer] = {}
                room = PACKED * len(view) + (16 << 20)
                for name, dataset in _datasets(archive):
                    owner, _, index = name.rpartition("/")
                    if owner and index.isdecimal():
                        layer = layers.setdefault(owner, StoredLayer(owner, ""))
                        blob = _blob(Source(os.fspath(path), "layer", owner, "HDF5"), view, int(index), dataset, room)
                        room -= 0 if dataset.id.get_offset() is not None else blob.values.nbytes
                        layer.blobs.append(blob)
        except UnicodeDecodeError as problem:
            raise FormatError(f"the HDF5 file has a name that isn't UTF-8: {printable(problem.object, 200)}") from problem
        except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as problem:
            raise FormatError(f"the HDF5 file is damaged or truncated: {printable(problem, 200)}") from problem
    for layer in layers.values():
        layer.blobs.sort(key=lambda blob: blob.index)
    return list(layers.values())


def _datasets(archive: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset below /data, by the path that leads to it."""
    import h5py

    link = archive.get("data", getlink=True) if "data" in archive else None
    if isinstance(link, h5py.ExternalLink):
        raise FormatError(f"/data is an external link: it lies in another file, '{printable(link.filename)}', which isn't read")
    if link is None or not _is_group(archive["data"]):
        solver = "history" in archive or "iter" in archive
        hint = "a solverstate" if solver else f"it holds {', '.join(map(printable, list(archive)[:5]))}"
        raise FormatError(f"this HDF5 file has no group /data, so it holds no weights of Caffe ({hint})")
    stack: list[tuple[str, h5py.Group, tuple[int, ...]]] = [("", archive["data"], ())]
    count = 0
    while stack:
        prefix, group, above = stack.pop()
        identity = int(h5py.h5o.get_info(group.id).addr)
        if identity in above:
            raise FormatError(f"the group /data/{printable(prefix)} is a link to a group around it")
        if len(above) > DEPTH_LIMIT:
            raise FormatError(f"groups are nested more than {DEPTH_LIMIT} deep")
        inner: list[tuple[str, h5py.Group, tuple[int, ...]]] = []
        count += len(group)
        if count > COUNT_LIMIT:
            raise FormatError(f"more than {COUNT_LIMIT} groups and datasets")
        for name in group:
            where = f"{prefix}{name}"
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                target = printable(link.filename)
                raise FormatError(f"/data/{printable(where)} is an external link: it lies in another file, '{target}', which isn't read")
            item = group[name]  # what a soft or hard link means, inside the file
            if item.file.id != archive.id and item.file.filename != archive.filename:
                raise FormatError(f"/data/{printable(where)} is a link to another file, which isn't read")
            if _is_group(item):
                inner.append((where + "/", item, (*above, identity)))
            elif isinstance(item, h5py.Dataset):
                yield where, item
            else:
                raise FormatError(f"/data/{printable(where)} is neither a group nor a dataset; the HDF5 file is damaged")
        stack += reversed(inner)


def _is_group(item: object) -> bool:
    import h5py

    return isinstance(item, h5py.Group)


def _blob(source: Source, view: memoryview, index: int, dataset: h5py.Dataset, room: int) -> Blob:
    """One dataset; only its own file's bytes. room: how many bytes a compressed one may take. Raises FormatError for anything else.

    h5py calls a type float32 whatever its exponent's bias: the bytes of another than IEEE's are left to HDF5 to convert.
    """
    import h5py

    if dataset.is_virtual or dataset.external:
        kind = "virtual: its values lie" if dataset.is_virtual else "stored externally: its values lie"
        raise damaged(source, f"dataset {index} is {kind} in another file, which isn't read")
    shape, dtype = tuple(dataset.shape or ()), dataset.dtype
    if dtype.kind != "f":
        raise damaged(source, f"dataset {index} holds {dtype}, not floating-point numbers")
    offset = dataset.id.get_offset()
    count = int(np.prod(shape, dtype=object))
    stored = dataset.id.get_type()
    if offset is not None and (stored.equal(h5py.h5t.IEEE_F32LE) or stored.equal(h5py.h5t.IEEE_F64LE)):
        if offset + count * dtype.itemsize > len(view):
            raise damaged(source, f"dataset {index} reaches behind the end of the file; it is truncated")
        return Blob(shape, False, np.frombuffer(view, dtype, count, offset), source, index)
    if count * dtype.itemsize > room:
        raise damaged(source, f"dataset {index} claims {count} values, more than the file can hold")
    return Blob(shape, False, np.array(dataset[...]).reshape(-1), source, index)
