"""MXNet: symbol files of all ages and their .params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError
from converters.files import StrPath

if TYPE_CHECKING:
    import onnx_ir

    from converters.readers.mxnet.params import Params
    from converters.readers.mxnet.signature import lowers as lowers

__all__ = ["load", "load_params", "lowers"]


def load(paths: Sequence[StrPath], *, inputs: Mapping[str, Sequence[int]] | None = None, key: str | None = None) -> onnx_ir.Model:
    """The graph of `symbol.json, .params`. inputs: shapes by name, which a symbol doesn't say. Raises ConversionError."""
    from converters.readers.mxnet.lowering import lower_symbol
    from converters.readers.mxnet.params import Params, read_params
    from converters.readers.mxnet.symbol import read_symbol

    if key is not None:
        raise ConversionError("MXNet files have no parts to choose from; leave the key out")
    if not 1 <= len(paths) <= 2:
        raise ConversionError("an MXNet model is a symbol.json and a .params file")
    symbol = read_symbol(paths[0])
    params = read_params(paths[1]) if len(paths) == 2 else Params("(no .params file)")
    return lower_symbol(symbol, params, inputs)


def load_params(path: StrPath) -> Params:
    """The arrays of a .params file by name, each a view of the mapped file. Raises FormatError."""
    from converters.readers.mxnet.params import read_params

    return read_params(path)


def __getattr__(name: str) -> Any:
    if name == "lowers":  # with the built-in operators, so that a second registration is noticed at once
        from converters.readers.mxnet.signature import lowers

        return lowers
    raise AttributeError(name)
