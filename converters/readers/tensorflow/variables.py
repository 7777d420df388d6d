"""Which of a checkpoint's tensors a graph's variables are: as the saver's own nodes restore them.

Sources: TensorFlow's python/training/saver.py, core/ops/io_ops.cc (Restore, RestoreSlice, RestoreV2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from converters.errors import printable
from converters.readers.tensorflow.graph import Graph, Node
from converters.tensors.tensor import Tensor, Weight

VARIABLES = frozenset({"VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable"})
_RESTORES = frozenset({"RestoreV2", "Restore", "RestoreSlice"})
_ASSIGNS = frozenset({"Assign", "AssignVariableOp"})


class Variables:
    """The numbers of a graph's variables, out of a checkpoint.

    tensors: the checkpoint's, by key; None where there is none. path: its file, for messages.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Weight] | None, path: str) -> None:
        self.tensors, self.path = tensors, path
        self._keys = _restored(graph) if tensors is not None else {}
        if tensors is not None and self._keys and not graph.restore and not any(_kept(name, key) for name, (key, _) in self._keys.items()):
            self._keys = {}  # the file states no saver: those that are left in it speak of another net's names

    def numbers(self, node: Node) -> NDArray[np.generic]:
        """A variable's numbers. Raises ConversionError where the checkpoint doesn't have it, or in another shape."""
        if self.tensors is None:
            raise node.source.error("a variable, whose numbers are in a checkpoint", hint="give the checkpoint behind the graph")
        key, part = self._keys.get(node.name, (_own_key(node), ""))
        if key not in self.tensors:
            raise node.source.error(f"the checkpoint has no '{printable(key)}'", hint="give the checkpoint of this very graph")
        tensor = self.tensors[key]
        array = np.asarray(tensor.numpy() if isinstance(tensor, Tensor) else tensor)
        if part:
            array = array[_slice(node, part, array.shape)]
        shape = node.shape("shape")
        fits = shape is None or (len(shape) == array.ndim and all(a in (None, b) for a, b in zip(shape, array.shape, strict=True)))
        if not fits:
            raise node.source.error(
                f"the graph says that it has the shape {shape}, '{printable(key)}' of the checkpoint has {array.shape}",
                hint="give the checkpoint of this very graph",
            )
        return array


def _kept(name: str, key: str) -> bool:
    """Whether a key is that of the variable itself, or of its moving average."""
    return key == name or key.startswith(f"{name}/")


def _own_key(node: Node) -> str:
    return (node.text("shared_name", "") if node.op == "VarHandleOp" else "") or node.name


def _slice(node: Node, part: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A part as a saver writes it, "10 4 0,5:-": the whole shape, then start and length of each axis."""
    extents = part.split()[-1].split(":")
    found = [re.fullmatch(r"(\d+),(\d+)|-", extent) for extent in extents]
    if len(found) != len(shape) or None in found:
        raise node.source.error(f"a part '{printable(part)}' of a variable of shape {shape}")
    return tuple(slice(None) if m is None or m[1] is None else slice(int(m[1]), int(m[1]) + int(m[2])) for m in found)


def _restored(graph: Graph) -> dict[str, tuple[str, str]]:
    """For each variable, the key in the checkpoint that the saver fills it from, and the part where it takes one."""
    allowed = _assigns_of(graph)
    keys: dict[str, tuple[str, str]] = {}
    for node in graph.nodes.values():
        if node.op not in _ASSIGNS or len(node.inputs) < 2 or (allowed and node.name not in allowed):
            continue
        name, port = node.inputs[1]
        source = graph.nodes.get(name)
        while source is not None and source.op == "Identity" and source.inputs:
            name, port = source.inputs[0]
            source = graph.nodes.get(name)
        if source is not None and source.op in _RESTORES:
            key = _entry(graph, source, 1, port)
            if key:
                keys[node.inputs[0][0]] = key, _entry(graph, source, 2, port)
    return keys


def _assigns_of(graph: Graph) -> set[str]:
    """The assignments that the file's own saver makes; empty where it names none."""
    found: set[str] = set()
    waiting = [graph.restore.partition(":")[0]]
    while waiting:
        name = waiting.pop()
        node = graph.nodes.get(name)
        if node is not None and name not in found:
            found.add(name)
            waiting += node.controls
    return found


def _entry(graph: Graph, restore: Node, position: int, port: int) -> str:
    """One string of a restoring node's lists."""
    if position >= len(restore.inputs):
        return ""
    constant = graph.nodes.get(restore.inputs[position][0])
    if constant is None or constant.op != "Const" or "value" not in constant.attributes:
        return ""
    values = constant.attributes["value"].tensor.string_val
    port = port if restore.op == "RestoreV2" else 0
    return values[min(port, len(values) - 1)].decode("utf-8", "backslashreplace") if values else ""
