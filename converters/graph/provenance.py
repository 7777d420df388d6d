"""Where nodes and values of a graph come from: the metadata that the package writes, under names of its own.

Each key is a string in `metadata_props`, which ONNX files keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.errors import Source

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
"""Of a model: what made it of which files; see `Origin`."""
PREPROCESSING = "converters.preprocess"
"""Of a model: what is done to an image before it goes in."""
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
