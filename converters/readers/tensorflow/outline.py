"""What a TensorFlow graph says of itself, operator by operator: what leads to its outputs, and which those may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.errors import FormatError
from converters.files import StrPath
from converters.graph.outline import Outline, Port, Row
from converters.options import DEFAULTS, LoadOptions
from converters.recognition import identify

if TYPE_CHECKING:
    from converters.readers.tensorflow.graph import Node

_HOOK = "@lowers(TYPE), from converters.readers.tensorflow import lowers, in a file that --plugin FILE.py --trust names"
_GRAPHS = ("tensorflow-graph", "tensorflow-text", "tensorflow-meta", "tensorflow-savedmodel")
_MOST = 20
"""Ends of a graph that are proposed as outputs."""


def outline(path: StrPath, options: LoadOptions = DEFAULTS) -> Outline:
    """The operators that lead to a graph's outputs: those that are asked for, that a signature names, or that nothing reads.

    A checkpoint has no graph. Raises ConversionError.
    """
    kind = identify(path).name
    if kind not in _GRAPHS:
        return Outline()
    from converters.readers.tensorflow.graph import read_graph  # protobuf, which a checkpoint doesn't need

    graph = read_graph(path, kind)
    found = Outline(hook=_HOOK, graph=True, version=graph.version)
    of_inputs = graph.of_inputs()
    outputs = [name.removesuffix(":0") for name in options.outputs or graph.outputs] or graph.proposed()
    if not options.outputs and not graph.outputs and len(outputs) > 1:
        found.notes.append("the graph doesn't say what its output is: these may be; a conversion's --output chooses")
    found.outputs = {name: Port() for name in outputs[:_MOST]}
    needed = graph.needed(name.partition(":")[0] for name in outputs) & of_inputs
    for node in graph.nodes.values():
        if node.name not in needed:
            continue
        if node.op == "Placeholder":
            found.inputs[node.name] = _port(node)
        else:
            takes = [name for name, _ in node.inputs if name in of_inputs]
            found.rows.append(Row(node.name, node.op, source=str(node.source), takes=takes, gives=[node.name]))
    return found


def _port(node: Node) -> Port:
    from converters.readers.tensorflow.tensors import numpy_type

    try:
        dtype = str(numpy_type(node.type_number("dtype", 1), "this input"))
    except FormatError:  # strings
        dtype = None
    return Port(node.shape("shape"), dtype)
