"""MXNet: symbol files of all ages and their .params."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from converters.errors import ConversionError
from converters.files import StrPath
from converters.options import DEFAULTS, LoadOptions
from converters.packages import lazily

if TYPE_CHECKING:
    import onnx_ir

    from converters.readers.mxnet.builder import OperatorBuilder
    from converters.readers.mxnet.parameter import Parameter
    from converters.readers.mxnet.params import Params
    from converters.readers.mxnet.signature import lowers

__all__ = ["OperatorBuilder", "Parameter", "load", "load_params", "lowers"]

__getattr__ = lazily(
    __name__,
    {
        "OperatorBuilder": "converters.readers.mxnet.builder",
        "Parameter": "converters.readers.mxnet.parameter",
        "lowers": "converters.readers.mxnet.signature",
    },
)
"""What a lowering of one's own needs."""


def load(files: Sequence[StrPath], options: LoadOptions = DEFAULTS) -> onnx_ir.Model:
    """The graph of `symbol.json, .params`. The options give inputs: shapes by name, which a symbol doesn't say. Raises ConversionError."""
    from converters.readers.mxnet.lowering import lower_symbol
    from converters.readers.mxnet.params import Params, read_params
    from converters.readers.mxnet.symbol import read_symbol

    if not 1 <= len(files) <= 2:
        raise ConversionError("an MXNet model is a symbol.json and a .params file")
    options.no_key(files[0], "an MXNet symbol")
    symbol = read_symbol(files[0])
    params = read_params(files[1]) if len(files) == 2 else Params("(no .params file)")
    return lower_symbol(symbol, params, options)


def load_params(path: StrPath, options: LoadOptions = DEFAULTS) -> Params:
    """The arrays of a .params file by name, each a view of the mapped file. Raises FormatError."""
    from converters.readers.mxnet.params import read_params

    options.no_key(path, "an MXNet file")
    return read_params(path)
