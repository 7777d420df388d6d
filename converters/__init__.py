"""Old checkpoints, alive again: Caffe, Lua Torch, MXNet and whole-model PyTorch files to PyTorch and ONNX, with the same numbers.

The public API. Heavy libraries are imported when a call needs them, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from converters.errors import ConversionError, ConversionWarning, FormatError, OutputExistsError, UnsupportedError

if TYPE_CHECKING:
    import onnx_ir

    from converters.files import StrPath

__version__ = "0.1.0"

__all__ = [
    # conversion through the graph
    "load",
    "save",
    "to_module",
    "verify",
    # weights only
    "load_weights",
    "strip_to_weights",
    # errors
    "ConversionError",
    "ConversionWarning",
    "FormatError",
    "OutputExistsError",
    "UnsupportedError",
]


def load(*paths: StrPath, inputs: Mapping[str, Sequence[int]] | None = None, key: str | None = None) -> onnx_ir.Model:
    """Reads a model of any supported format, told by its content, into the common graph.

    paths: Caffe `deploy.prototxt, model.caffemodel`; Lua Torch `model.t7`; MXNet `net-symbol.json, net-0000.params`; `model.onnx`.
    inputs: shapes by input name, where the file doesn't have them. key: where the model sits in a checkpoint ("model").
    Raises ConversionError.
    """
    from converters import detect

    return detect.load(paths, inputs=inputs, key=key)
