"""Reads ONNX files, opset 7 to the newest, into the common graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

    from converters.files import StrPath

__all__ = ["load"]


def load(paths: Sequence[StrPath], *, inputs: Mapping[str, Sequence[int]] | None = None, key: str | None = None) -> onnx_ir.Model:
    """The model of an ONNX file; its tensors stay views of the mapped file. Raises ConversionError.

    inputs: shapes that replace the file's, by input name. key: not for ONNX files, which hold one model.
    """
    from converters.readers.onnx.reader import read

    return read(paths, inputs=inputs, key=key)
