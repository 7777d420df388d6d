"""TensorFlow 1: graphs (GraphDef, MetaGraphDef, SavedModel) and checkpoints of both versions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from converters.errors import ConversionError
from converters.files import StrPath
from converters.options import DEFAULTS, LoadOptions
from converters.packages import lazily
from converters.readers.tensorflow.checkpoints.checkpoint import load_weights

if TYPE_CHECKING:
    import onnx_ir

    from converters.readers.tensorflow.builder import TensorBuilder
    from converters.readers.tensorflow.registry import lowers
    from converters.readers.tensorflow.values import Tensor

__all__ = ["Tensor", "TensorBuilder", "load", "load_weights", "lowers"]

__getattr__ = lazily(
    __name__,
    {
        "Tensor": "converters.readers.tensorflow.values",
        "TensorBuilder": "converters.readers.tensorflow.builder",
        "lowers": "converters.readers.tensorflow.registry",
    },
)
"""What a lowering of one's own needs."""


def load(files: Sequence[StrPath], options: LoadOptions = DEFAULTS) -> onnx_ir.Model:
    """The graph of `graph.pb`, `graph.pbtxt checkpoint`, `model.ckpt.meta checkpoint` or a SavedModel's folder. Raises ConversionError.

    The options give outputs by node ("node:1"), where the graph doesn't say them; inputs: shapes as TensorFlow has them (N, H, W, C),
    where the graph doesn't, or of a node that it is cut at; constants: placeholders that are numbers from now on.
    """
    from converters.readers.tensorflow.graph import read_graph
    from converters.readers.tensorflow.lowering import lower_graph
    from converters.readers.tensorflow.variables import VARIABLES, Variables
    from converters.recognition import identify

    if not 1 <= len(files) <= 2:
        raise ConversionError("a TensorFlow model is a graph, and a checkpoint where its variables are in one")
    options.no_key(files[0], "a TensorFlow graph")
    kind = identify(files[0]).name
    graph = read_graph(files[0], kind)
    has_variables = any(node.op in VARIABLES for node in graph.nodes.values())
    checkpoint: StrPath | None = files[1] if len(files) == 2 else None
    if checkpoint is None and kind == "tensorflow-savedmodel" and has_variables:
        checkpoint = os.path.join(os.path.dirname(os.fspath(files[0])), "variables", "variables.index")
    tensors = load_weights(checkpoint).tensors if checkpoint is not None else None
    return lower_graph(graph, Variables(graph, tensors, os.fspath(checkpoint or files[0])), options)
