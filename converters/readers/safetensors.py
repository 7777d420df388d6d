"""Reads safetensors files: a length, a JSON header, then the tensors' bytes, as views of the mapped file.

Format: https://github.com/huggingface/safetensors (README, "Format").
"""

from __future__ import annotations

import json
from typing import Any

from converters.errors import FormatError, UnsupportedError, about, printable
from converters.files import StrPath, map_file
from converters.graph.outline import Outline
from converters.graph.provenance import ORIGIN, PREPROCESSING
from converters.options import DEFAULTS, LoadOptions
from converters.tensors.dtypes import SAFETENSORS
from converters.tensors.storage import Storage
from converters.tensors.tensor import Tensor

_LONGEST = 100_000_000  # bytes; the most that the format allows


def load(path: StrPath, options: LoadOptions = DEFAULTS) -> dict[str, Tensor]:
    """The tensors of a file by name, in the header's order; views of the mapped file. Raises ConversionError."""
    options.no_key(path, "a safetensors file")
    with about(path):
        return read_safetensors(map_file(path))


def outline(path: StrPath, options: LoadOptions = DEFAULTS) -> Outline:
    """What the header says besides the tensors: where they come from. Raises ConversionError."""
    with about(path):
        header = _header(map_file(path))
    notes = header.get("__metadata__")
    notes = notes if isinstance(notes, dict) else {}
    found = Outline(provenance=str(notes.get(ORIGIN, "")))
    if isinstance(notes.get(PREPROCESSING), str):
        found.preprocessing = {"stated": notes[PREPROCESSING]}
    others = {name: value for name, value in notes.items() if name not in (ORIGIN, PREPROCESSING, "tied", "format")}
    found.notes += [f"{printable(name)}: {printable(value)}" for name, value in others.items()]
    return found


def read_safetensors(view: memoryview) -> dict[str, Tensor]:
    """The tensors by name, in the header's order. Raises FormatError for a header that doesn't fit the file."""
    header = _header(view)
    data = view[8 + int.from_bytes(view[:8], "little") :]
    header.pop("__metadata__", None)
    tensors = {name: _tensor(name, entry, data) for name, entry in header.items()}
    spans = sorted((entry["data_offsets"][0], entry["data_offsets"][1], name) for name, entry in header.items())
    end = 0
    for start, stop, name in spans:
        if start < end:
            raise FormatError(f"'{printable(name)}' overlaps another tensor")
        end = max(end, stop)
    return tensors


def _header(view: memoryview) -> dict[str, Any]:
    length = int.from_bytes(view[:8], "little")
    if length > min(_LONGEST, len(view) - 8):
        raise FormatError(f"is a safetensors file whose header of {length} bytes doesn't fit")
    try:
        header = json.loads(bytes(view[8 : 8 + length]), object_pairs_hook=_once)
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"is a safetensors file with a broken header ({printable(problem, 80)})") from problem
    if not isinstance(header, dict):
        raise FormatError("is a safetensors file whose header is no object")
    return header


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _tensor(name: str, entry: Any, data: memoryview) -> Tensor:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise FormatError(f"'{printable(name)}' isn't described by dtype, shape and data_offsets")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _counts(shape) or not _counts(offsets) or len(offsets) != 2:
        raise FormatError(f"'{printable(name)}' has a shape or offsets that are no counts")
    element = SAFETENSORS.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if element is None:
        raise UnsupportedError(f"'{printable(name)}' is of the type {printable(entry['dtype'], 40)}, which isn't known here")
    size = element.itemsize
    for extent in shape:
        size *= extent
    start, stop = offsets
    if not start <= stop <= len(data) or stop - start != size:
        raise FormatError(f"'{printable(name)}' needs {size} bytes; the header gives it {start} to {stop} of {len(data)}")
    return Tensor(Storage(data[start:stop]), element.name, tuple(shape))


def _counts(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 64 and all(type(value) is int and 0 <= value < 1 << 63 for value in values)
