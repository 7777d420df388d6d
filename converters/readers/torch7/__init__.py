"""Lua Torch .t7: `load` reads a model into the common graph, `lowers` is the registry of module classes.

@converters.readers.torch7.lowers("nn.MyLayer")
def my_layer(g, module, x):
    "One sentence on what it computes."
    return g.emit("Mul", x, module.number("scale", 1.0))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from converters.options import DEFAULTS, LoadOptions
from converters.packages import lazily

if TYPE_CHECKING:
    import onnx_ir

    from converters.files import StrPath
    from converters.readers.torch7.module import Module, lowers
    from converters.readers.torch7.weights import parameters

__all__ = ["Module", "load", "lowers", "parameters"]

__getattr__ = lazily(
    __name__,
    {
        "Module": "converters.readers.torch7.module",
        "lowers": "converters.readers.torch7.module",
        "parameters": "converters.readers.torch7.weights",
    },
)
"""What a lowering of one's own needs."""


def load(files: Sequence[StrPath], options: LoadOptions = DEFAULTS) -> onnx_ir.Model:
    """Reads the model of a .t7 file into the common graph, with the numbers of Torch7's evaluate() mode.

    The options give inputs, shapes by name: `input`, or for Lua tables `input_1`, `input_2_1` (positions from 1); without them they are
    inferred where the first module allows. key: where the model sits in a checkpoint: "model", "model.modules[1]". Raises ConversionError.
    """
    from converters.readers.torch7.lowering import load_network

    return load_network(files, options)
