"""Whole-model PyTorch files to the common graph, by torch's own exporter; floor 4, as it needs readers, writers and runtimes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from converters.errors import ConversionError

if TYPE_CHECKING:
    import onnx_ir

    from converters.files import StrPath

__all__ = ["load"]


def load(paths: Sequence[StrPath], *, inputs: Mapping[str, Sequence[int]] | None = None, key: str | None = None) -> onnx_ir.Model:
    """The graph of a whole-model file made of torch.nn classes alone; nothing of the file runs. Raises ConversionError.

    inputs: shapes by the forward's argument names ("" for the only one). A model with classes of its own needs its code, and somebody
    who trusts it: converters.tracing.export.export, or on the command line torch2onnx --code DIR --trust.
    """
    if len(paths) != 1:
        raise ConversionError(f"a PyTorch model is one file, {len(paths)} are given")
    from converters.tracing.export import export

    return export(paths[0], inputs=inputs, key=key)
