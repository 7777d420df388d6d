"""What inner layers of a model answer for images, saved as .npz, .safetensors or Lua Torch's .t7."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.evaluation.images import decoded, find_images
from converters.evaluation.model import RunningModel
from converters.files import StrPath, writing
from converters.preprocessing import Preprocess

Progress = Callable[[int, int], None] | None
SUFFIXES = (".npz", ".safetensors", ".t7")


@dataclass
class Features:
    """arrays: by layer name, (images, ...), a row for each image that could be read. paths: their files. broken: the others, and why."""

    arrays: dict[str, NDArray[Any]]
    paths: list[str]
    broken: dict[str, str] = field(default_factory=dict)

    def save(self, path: StrPath, *, force: bool = False) -> None:
        """Writes the arrays by suffix, with the paths beside them. Raises ConversionError for another suffix, OutputExistsError."""
        suffix = Path(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise ConversionError(f"the suffix says what to write: {', '.join(SUFFIXES)}", path=str(path))
        if suffix == ".safetensors":
            from converters.writers.safetensors import write_safetensors

            write_safetensors(path, self.arrays, force=force)
            return
        with writing(path, force=force) as file:
            if suffix == ".npz":
                _write_npz(file, {**self.arrays, "paths": np.array(self.paths)})
            else:
                _write_t7(file, self.arrays, self.paths)


def extract_features(
    model: RunningModel,
    layers: Sequence[str],
    images: Sequence[StrPath],
    preprocess: Preprocess,
    *,
    batch: int = 32,
    progress: Progress = None,
) -> Features:
    """What the layers answer for each image; folders stand for the images in them. model: opened with `layers`.

    Rows of several crops are averaged. progress is told how many images are done, of how many.
    Raises ConversionError where the model doesn't take the images, or none can be read.
    """
    paths = find_images(images)
    kept: list[str] = []
    broken: dict[str, str] = {}
    parts: list[list[NDArray[Any]]] = []
    pending: list[NDArray[Any]] = []

    def run() -> None:
        answers = model(np.concatenate(pending))
        crops = len(pending[0])
        rows = [answer.reshape(len(pending), crops, *answer.shape[1:]) for answer in answers]
        parts.append([row[:, 0] if crops == 1 else row.mean(axis=1) for row in rows])
        pending.clear()

    for position, pixels in decoded(preprocess, paths):
        if progress is not None:
            progress(position, len(paths))
        if isinstance(pixels, str):
            broken[paths[position]] = pixels
            continue
        kept.append(paths[position])
        pending.append(pixels)
        if len(pending) == batch:
            run()
    if pending:
        run()
    if not parts:
        raise ConversionError(f"none of {len(paths)} images can be read: {next(iter(broken.values()), '')}")
    arrays = {name: np.concatenate(rows) for name, rows in zip(layers, zip(*parts, strict=True), strict=True)}
    return Features(arrays, kept, broken)


def _write_npz(file: BinaryIO, arrays: dict[str, NDArray[Any]]) -> None:
    """As np.savez, for any names: a layer may be called `file`."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


# -- Lua Torch's binary form: torch7 File.lua (writeObject), generic/Tensor.c (write) -----------------------------------

_NUMBER, _STRING, _TABLE, _TORCH = 1, 2, 3, 4


def _write_t7(file: BinaryIO, arrays: dict[str, NDArray[Any]], paths: Sequence[str]) -> None:
    """A table of FloatTensors by layer name, and `paths`, a list of strings."""
    index = iter(range(1, 1 << 31))

    def text(value: str) -> bytes:
        raw = value.encode()
        return struct.pack("<i", len(raw)) + raw

    def string(value: str) -> bytes:
        return struct.pack("<i", _STRING) + text(value)

    def tensor(array: NDArray[Any]) -> bytes:
        data = np.ascontiguousarray(array, np.float32)
        strides = [stride // 4 for stride in data.strides]
        head = struct.pack("<ii", _TORCH, next(index)) + text("V 1") + text("torch.FloatTensor")
        sizes = struct.pack(f"<i{2 * data.ndim}qq", data.ndim, *data.shape, *strides, 1)
        storage = struct.pack("<ii", _TORCH, next(index)) + text("V 1") + text("torch.FloatStorage") + struct.pack("<q", data.size)
        return head + sizes + storage + data.tobytes()

    file.write(struct.pack("<iii", _TABLE, next(index), len(arrays) + 1))
    for name, array in arrays.items():
        file.write(string(name) + tensor(array))
    file.write(string("paths") + struct.pack("<iii", _TABLE, next(index), len(paths)))
    for position, path in enumerate(paths, 1):
        file.write(struct.pack("<id", _NUMBER, position) + string(path))
