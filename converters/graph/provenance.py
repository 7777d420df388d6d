"""Where nodes and values of a graph come from: the metadata that the package writes, under names of its own.

Each key is a string in `metadata_props`, which ONNX files keep.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from converters.errors import Source
from converters.files import InputFile, crc32
from converters.packages import __version__

if TYPE_CHECKING:
    import onnx_ir as ir

SOURCE = "converters.source"
"""Of a node: the layer, module or operator that it was made for, "net.prototxt:112 pool5 (Pooling)"."""
PATH = "converters.path"
"""Of a node: its module's path, "conv1" or "4.0.1", the prefix of its parameters' keys."""
ORIGINAL_NAME = "converters.original_name"
"""Of a value: its name in the source file, where that can't be its name here."""
BUFFER = "converters.buffer"
"""Of an initializer: "1" where no gradient belongs to it."""

GIVEN = "converters.given"
"""Key of a model's `meta` (which no file keeps): the numbers that were given for its open axes, by label."""
ORIGIN = "converters.origin"
"""Of a model: what made it of which files, as JSON; see `origin`."""
SAID = "converters.said"
"""Key of a model's `meta` (which no file keeps): the warnings of its conversion, once they are issued."""
SOURCES = "converters.sources"
"""Key of a model's `meta` (which no file keeps): the files that it was read from."""
PREPROCESSING = "converters.preprocess"
"""Of a model: what is done to an image before it goes in."""
NOTES = "converters.notes"
"""Of a model: a JSON list of sentences about what was changed in it on purpose."""
ALSO = "converters.also"
"""Of a node: another name of its first output, that of a layer behind it which does nothing at inference."""
CHANNELS = "converters.channels"
"""Of a Dropout: "1" where it drops whole channels."""


def note_source(node: ir.Node, source: Source | None, path: str = "") -> None:
    """Writes down what a node was made for."""
    if source is not None:
        node.metadata_props[SOURCE] = str(source)
    if path:
        node.metadata_props[PATH] = path


def source_of(node: ir.Node | None) -> str:
    """What a node was made for; empty where that isn't known."""
    return "" if node is None else node.metadata_props.get(SOURCE, "")


def path_of(node: ir.Node) -> str:
    """The path of the module that a node belongs to."""
    return node.metadata_props.get(PATH, "")


def original_name(value: ir.Value) -> str:
    """The value's name in the source file."""
    return value.metadata_props.get(ORIGINAL_NAME) or str(value.name)


def is_buffer(value: ir.Value) -> bool:
    """Whether an initializer is no learnt parameter."""
    return BUFFER in value.metadata_props


def origin(files: Iterable[InputFile]) -> dict[str, Any]:
    """What is written of where a file comes from: the tool, and of each source its base name, size and CRC-32. No paths, no time."""
    sources = [{"name": file.name, "bytes": len(file.view), "crc32": f"{crc32(file.view):08x}"} for file in files]
    return {"tool": f"converters {__version__}", "sources": sources}


def origin_of(model: ir.Model) -> dict[str, Any] | None:
    """The origin of a model that was read from files; None for one that was made otherwise. The files are read once."""
    files = model.meta.get(SOURCES)
    if not files:
        return None
    if ORIGIN not in model.meta:
        model.meta[ORIGIN] = origin(files)
    found: dict[str, Any] = model.meta[ORIGIN]
    return found


def origin_text(found: dict[str, Any] | None) -> dict[str, str]:
    """The entry of a file's metadata."""
    return {} if found is None else {ORIGIN: json.dumps(found, ensure_ascii=False, separators=(",", ":"))}


def origin_sentence(found: Mapping[str, Any]) -> str:
    """An origin as it is said in a docstring."""
    files = [f"{source['name']} ({source['bytes']:,} bytes, CRC-32 {source['crc32']})" for source in found["sources"]]
    return f"Made by {found['tool']} from {' and '.join(files)}."


def origin_said(docstring: str) -> dict[str, Any]:
    """The origin whose sentence ends a docstring; empty where none does."""
    end = " ".join(docstring[-4096:].split())  # hostile ones may be long
    said = re.search(r"Made by (converters \S+) from (.*)\.\Z", end)
    if said is None:
        return {}
    files = re.findall(r"(?:\A| and )(.*?) \(([\d,]+) bytes, CRC-32 ([0-9a-f]{8})\)", said[2])
    sources = [{"name": name, "bytes": int(size.replace(",", "")), "crc32": digest} for name, size, digest in files]
    return {"tool": said[1], "sources": sources}
