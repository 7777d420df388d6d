"""Which images there are, and their pixels: folders, list files, and workers that decode them."""

from __future__ import annotations

import itertools
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from converters.errors import ConversionError, FormatError
from converters.evaluation.orders import DEVKIT_TO_SORTED, translated
from converters.files import StrPath
from converters.preprocessing import Preprocess

SUFFIXES = frozenset(".bmp .gif .jpe .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
"""Names of files in a folder that count as images; what they are is told by their content."""
_WORDNET = re.compile(r"n[0-9]{8}")


@dataclass(frozen=True)
class Labeled:
    """An image file and its class, counted from 0."""

    path: str
    label: int


def find_images(paths: Iterable[StrPath]) -> list[str]:
    """Image files: those given, and those in folders that are given, sorted. Raises ConversionError for a folder without any."""
    found: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            found.append(os.fspath(path))
            continue
        inside = sorted(str(file) for file in Path(path).rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not inside:
            raise ConversionError("holds no images", path=os.fspath(path))
        found += inside
    return found


def read_folder(folder: StrPath, classes: Mapping[str, int] | None = None) -> list[Labeled]:
    """Images in ImageNet's layout, FOLDER/CLASS/IMAGE. A subfolder is the class of its name in `classes`, else they are counted in order.

    Raises ConversionError where there are no subfolders, or `classes` has some of their names alone.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ConversionError("holds no folders of images, one for each class", path=os.fspath(folder))
    known = [name for name in names if name in (classes or {})]
    if known and len(known) < len(names):
        strange = next(name for name in names if name not in (classes or {}))
        raise ConversionError(f"the folder '{strange}' is no class of the labels file, others are", path=os.fspath(folder))
    numbers = dict(classes or {}) if known else {name: number for number, name in enumerate(names)}
    return [
        Labeled(str(file), numbers[name])
        for name in names
        for file in sorted(Path(folder, name).rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]


def find_labeled(
    place: StrPath,
    *,
    classes: Mapping[str, int] | None = None,
    root: StrPath | None = None,
    orders: tuple[str, str | None] = ("", None),
    first: int = 0,
) -> list[Labeled]:
    """Images with their classes, as the model counts them: of a folder in ImageNet's layout, or of a list file.

    classes: numbers of folder names. root: where a list's paths lie; first: what it counts from. orders: of the model's classes, and of
    the list's where that isn't the same, "sorted" or "devkit". Folders of ImageNet's ids count in the sorted order.
    Raises ConversionError where the model's order can't be told from the folders that there are.
    """
    model, of_list = orders
    if not os.path.exists(place):
        raise ConversionError("there is no such file or folder", path=os.fspath(place))
    if not os.path.isdir(place):
        labels = read_list(place, root)
        low = next((image for image in labels if image.label < first), None)
        if low is not None:
            raise ConversionError(f"is of class {low.label}, but they count from {first}", path=low.path)
        data = of_list or model
        return [Labeled(image.path, translated(image.label - first, data, model)) for image in labels]
    found = read_folder(place, classes)
    names = {entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith(".")}
    if model != "devkit" or not all(_WORDNET.fullmatch(name) for name in names) or any(name in (classes or {}) for name in names):
        return found
    if len(names) != len(DEVKIT_TO_SORTED):
        words = f"holds {len(names)} of ImageNet's classes; their numbers in the development kit's order follow from all of them"
        raise ConversionError(words, path=os.fspath(place), hint="give the model's classes, one id a line, with --labels")
    return [Labeled(image.path, translated(image.label, "sorted", "devkit")) for image in found]


def read_list(path: StrPath, root: StrPath | None = None) -> list[Labeled]:
    """A list file of lines `path label`, paths below `root` (default: the list's folder) even with a slash in front; they may hold blanks.

    Raises ConversionError for a line without a label, which counts from 0.
    """
    base = Path(path).parent if root is None else Path(root)
    found = []
    try:
        lines = Path(path).read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as problem:
        raise FormatError(f"can't be read as a list of images ({problem})", path=os.fspath(path)) from problem
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name.strip() or not (label.isascii() and label.isdecimal()):
            raise ConversionError("isn't `path label`", path=os.fspath(path), line=number, hint="labels are numbers from 0")
        found.append(Labeled(str(base / name.strip().lstrip("/")), int(label)))
    if not found:
        raise ConversionError("the list holds no images", path=os.fspath(path))
    return found


def decode(preprocess: Preprocess, path: str) -> NDArray[Any] | str:
    """The image as the model's input (crops, C, H, W); what is wrong with one that can't be read."""
    try:
        return preprocess(path)
    except ConversionError as problem:
        return problem.what + (f"; {problem.hint}" if problem.hint else "")


def decoded(preprocess: Preprocess, paths: Sequence[str], *, workers: int = 0, ahead: int = 64) -> Iterator[tuple[int, NDArray[Any] | str]]:
    """Position and pixels (or what is wrong) of each image, in order. workers: threads that decode, 0 for none.

    Threads, not processes: Pillow and numpy let others work while they do, and no pixels are copied from one process to another.
    """
    if workers < 1:
        for position, path in enumerate(paths):
            yield position, decode(preprocess, path)
        return
    left = iter(paths)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = deque(pool.submit(decode, preprocess, path) for path in itertools.islice(left, ahead))
        for position in range(len(paths)):
            yield position, waiting.popleft().result()
            waiting.extend(pool.submit(decode, preprocess, path) for path in itertools.islice(left, 1))
    finally:  # of a run that ends early too
        pool.shutdown(cancel_futures=True)
