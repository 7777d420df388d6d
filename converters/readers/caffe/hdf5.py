"""Weights from a .caffemodel.h5: /data/LAYER/INDEX, as caffe/src/caffe/net.cpp (ToHDF5) writes them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from converters import packages
from converters.errors import FormatError, Source, printable
from converters.files import StrPath, map_file
from converters.readers.caffe.caffemodel import Blob, StoredLayer

MAGIC = b"\x89HDF\r\n\x1a\n"


def read_hdf5(path: StrPath) -> list[StoredLayer]:
    """The layers of an HDF5 weights file in Caffe's order; contiguous datasets are views of the mapped file.

    Layers whose names hold slashes are groups in groups. Raises FormatError for other or damaged HDF5 files.
    """
    packages.require("h5py")
    import h5py

    file = os.path.basename(path)
    view = map_file(path)
    layers: dict[str, StoredLayer] = {}
    try:
        with h5py.File(path, "r") as archive:
            if "data" not in archive or not isinstance(archive["data"], h5py.Group):
                hint = (
                    "a solverstate"
                    if "history" in archive or "iter" in archive
                    else f"it holds {', '.join(map(printable, list(archive)[:5]))}"
                )
                raise FormatError(f"{file}: this HDF5 file has no group /data, so it holds no weights of Caffe ({hint})")

            def visit(name: str, item: Any) -> None:
                if not isinstance(item, h5py.Dataset):
                    return
                owner, _, index = name.rpartition("/")
                if owner and index.isdecimal():
                    layer = layers.setdefault(owner, StoredLayer(owner, ""))
                    layer.blobs.append(_blob(file, view, owner, int(index), item))

            archive["data"].visititems(visit)
    except (OSError, RuntimeError, KeyError, ValueError, MemoryError) as problem:
        raise FormatError(f"{file}: the HDF5 file is damaged or truncated: {printable(problem, 200)}") from problem
    for layer in layers.values():
        layer.blobs.sort(key=lambda blob: blob.index)
    return list(layers.values())


def _blob(file: str, view: memoryview, owner: str, index: int, dataset: Any) -> Blob:
    whence = Source(file, "layer", owner, "HDF5")
    shape, dtype = tuple(dataset.shape), dataset.dtype
    if dtype.kind != "f":
        raise FormatError(whence.describe(f"dataset {index} holds {dtype}, not floating-point numbers"))
    offset = dataset.id.get_offset()
    if offset is not None and dtype in (np.dtype("<f4"), np.dtype("<f8")):
        if offset + dataset.size * dtype.itemsize > len(view):
            raise FormatError(whence.describe(f"dataset {index} reaches behind the end of the file; it is truncated"))
        return Blob(shape, False, np.frombuffer(view, dtype, dataset.size, offset), whence, index)
    if dataset.size * dtype.itemsize > 1000 * len(view) + (1 << 20):  # compression packs weights by a few per cent
        raise FormatError(whence.describe(f"dataset {index} claims {dataset.size} values, more than the file can hold"))
    return Blob(shape, False, np.asarray(dataset[...]).reshape(-1), whence, index)
