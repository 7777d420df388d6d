"""Reads ONNX files, opset 1 to the newest, into the common graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from converters.options import DEFAULTS, LoadOptions

if TYPE_CHECKING:
    import onnx_ir

    from converters.files import StrPath

__all__ = ["load", "load_weights"]


def load(files: Sequence[StrPath], options: LoadOptions = DEFAULTS) -> onnx_ir.Model:
    """The model of an ONNX file; its tensors stay views of the mapped file. Raises ConversionError.

    The options' inputs replace the file's shapes.
    """
    from converters.readers.onnx.reader import read

    return read(files, options)


def load_weights(path: StrPath, options: LoadOptions = DEFAULTS) -> dict[str, Any]:
    """The initializers of an ONNX file under the keys that onnx2torch gives them. Raises ConversionError."""
    from converters.graph.recurrent.modules import recurrent_modules

    return {name: value.const_value for name, value in recurrent_modules(load([path], options)).initializers.items()}
