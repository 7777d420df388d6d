"""Caffe: prototxt and caffemodel to the common graph.

`lowers` is the table of layers; a lowering of your own is registered with the same decorator:

    from converters.readers.caffe import lowers

    @lowers("MyLayer")
    def my_layer(g, layer, x):
        "What it does, in one line."
        return g.emit("Mul", x, layer.extra["my_param"]["alpha"])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from converters.files import StrPath
from converters.options import DEFAULTS, LoadOptions
from converters.packages import lazily

if TYPE_CHECKING:
    import onnx_ir

    from converters.readers.caffe.layer import Layer
    from converters.readers.caffe.registry import lowers

__all__ = ["Layer", "load", "load_weights", "lowers"]

__getattr__ = lazily(__name__, {"Layer": "converters.readers.caffe.layer", "lowers": "converters.readers.caffe.registry"})
"""What a lowering of one's own needs."""


def load(files: Sequence[StrPath], options: LoadOptions = DEFAULTS) -> onnx_ir.Model:
    """The graph of a net: files are the prototxt and, where it has weights, a .caffemodel or .caffemodel.h5.

    The options' inputs override the shapes of the file. Raises ConversionError.
    """
    from converters.readers.caffe.lowering import load as lower

    return lower(files, options)


def load_weights(path: StrPath, options: LoadOptions = DEFAULTS) -> dict[str, Any]:
    """A weights file's arrays by the keys that the graph would give, without a prototxt. Raises ConversionError."""
    from converters.readers.caffe.weights import load_weights as read

    options.no_key(path, "a Caffe file")
    return read(path)
