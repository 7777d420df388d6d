"""Operator sets 1 to 5 in the words of set 6, and operators that ONNX once tried out and dropped, in the words of those that stayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray

from converters.errors import UnsupportedError, printable
from converters.graph.contributed import DOMAIN

OLDEST = 6
"""What is written in an older set is brought up to this one."""

Nodes = list[onnx.NodeProto]
Array = NDArray[Any]


class Old:
    """One graph on its way to a newer set. opset: the one that it is written in. scalars: constants of the graph, by name."""

    def __init__(self, graph: onnx.GraphProto, opset: int, file: str) -> None:
        self.graph, self.opset, self.file = graph, opset, file
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._taken = {name for node in graph.node for name in (*node.input, *node.output)} | set(self._constants)

    def name(self, base: str) -> str:
        """A name that no value of the graph has."""
        found = next(name for n in range(len(self._taken) + 1) if (name := f"{base}_{n}") not in self._taken)
        self._taken.add(found)
        return found

    def constant(self, array: Array, base: str) -> onnx.NodeProto:
        """A node that gives an array."""
        name = self.name(base)
        return onnx.helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array, name))

    def known(self, node: onnx.NodeProto, index: int, what: str) -> Array:
        """An input that must be a constant. Raises UnsupportedError for one that isn't."""
        tensor = self._constants.get(node.input[index])
        if tensor is None:
            who = f"{self.file}: node '{printable(node.name)}' ({node.op_type})"
            raise UnsupportedError(f"{who} of opset {self.opset}: {what} must be constant")
        return onnx.numpy_helper.to_array(tensor)


def modernise(proto: onnx.ModelProto, opset: int, file: str) -> int:
    """Changes the model to set 6 where it is older, and rids it of operators that were experiments. The set that it is in now."""
    for graph in graphs_of(proto.graph):
        old = Old(graph, opset, file)
        nodes: Nodes = []
        for node in graph.node:
            nodes += _modern(old, node) if node.domain in ("", "ai.onnx") else [node]
        if nodes != list(graph.node):
            copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)
    named = {entry.domain for entry in proto.opset_import}
    if DOMAIN not in named and any(node.domain == DOMAIN for graph in graphs_of(proto.graph) for node in graph.node):
        proto.opset_import.add(domain=DOMAIN, version=1)
    if opset >= OLDEST:
        return opset
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OLDEST
    return OLDEST


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all inside it."""
    waiting = [graph]
    while waiting:
        found = waiting.pop()
        yield found
        for node in found.node:
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _modern(old: Old, node: onnx.NodeProto) -> Nodes:
    if node.op_type in _EXPERIMENTS:
        return _EXPERIMENTS[node.op_type](old, node)
    if old.opset >= OLDEST:
        return [node]
    _drop(node, "consumed_inputs")
    change = _CHANGES.get(node.op_type)
    return [node] if change is None else change(old, node)


# -- what changed up to set 6 --------------------------------------------------------------------------------------------


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    return default if found is None else onnx.helper.get_attribute_value(found)


def _drop(node: onnx.NodeProto, name: str) -> None:
    kept = [a for a in node.attribute if a.name != name]
    if len(kept) != len(node.attribute):
        copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
        del node.attribute[:]
        node.attribute.extend(copies)


def _set(node: onnx.NodeProto, name: str, value: Any) -> None:
    _drop(node, name)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _reshape(old: Old, node: onnx.NodeProto) -> Nodes:
    """The shape was an attribute up to set 4."""
    shape = _attribute(node, "shape")
    if shape is None:
        return [node]
    _drop(node, "shape")
    constant = old.constant(np.array(shape, np.int64), f"{node.output[0]}_shape")
    node.input.append(constant.output[0])
    return [constant, node]


def _cast(old: Old, node: onnx.NodeProto) -> Nodes:
    """The type was named by a word."""
    to = _attribute(node, "to")
    if isinstance(to, bytes):
        kinds = onnx.TensorProto.DataType
        word = to.decode("utf-8", "replace").upper()
        if word not in kinds.keys():  # noqa: SIM118 - an enumeration of protobuf's, no dictionary
            raise UnsupportedError(f"{old.file}: node '{printable(node.name)}' (Cast): no type is called {printable(word)}")
        _set(node, "to", int(kinds.Value(word)))
    return [node]


def _concat(old: Old, node: onnx.NodeProto) -> Nodes:
    """The channels, unless another axis was said, up to set 3."""
    if old.opset < 4 and _attribute(node, "axis") is None:
        _set(node, "axis", 1)
    return [node]


def _pad(old: Old, node: onnx.NodeProto) -> Nodes:
    paddings = _attribute(node, "paddings")
    if paddings is not None:
        _drop(node, "paddings")
        _set(node, "pads", list(paddings))
    return [node]


def _split(old: Old, node: onnx.NodeProto) -> Nodes:
    """Set 1 took the lengths as an input, and split the first axis only where that was said."""
    if old.opset < 2 and len(node.input) > 1:
        lengths = old.known(node, 1, "the lengths of the parts").reshape(-1)
        del node.input[1:]
        _set(node, "split", [int(n) for n in lengths])
    return [node]


def _tile(old: Old, node: onnx.NodeProto) -> Nodes:
    """Up to set 5: so many times along one axis."""
    if len(node.input) != 3:
        return [node]
    tiles, axis = (int(old.known(node, index, "the count and the axis").reshape(-1)[0]) for index in (1, 2))
    if not 0 < tiles <= 4096:
        raise UnsupportedError(f"{old.file}: node '{printable(node.name)}' (Tile) of opset {old.opset}: {tiles} times")
    return [onnx.helper.make_node("Concat", [node.input[0]] * tiles, list(node.output), name=node.name, axis=axis)]


def _norm(old: Old, node: onnx.NodeProto) -> Nodes:
    """The exponent was a float in set 1."""
    p = _attribute(node, "p")
    if isinstance(p, float):
        if p != int(p):
            raise UnsupportedError(f"{old.file}: node '{printable(node.name)}' ({node.op_type}): the norm's exponent is {p}")
        _set(node, "p", int(p))
    return [node]


_CHANGES: dict[str, Callable[[Old, onnx.NodeProto], Nodes]] = {
    "Cast": _cast,
    "Concat": _concat,
    "GlobalLpPool": _norm,
    "LpPool": _norm,
    "Pad": _pad,
    "Reshape": _reshape,
    "Split": _split,
    "Tile": _tile,
}


# -- experiments ---------------------------------------------------------------------------------------------------------


def _per_channel(old: Old, op_type: str, x: str, numbers: Array, out: str) -> Nodes:
    """x with one number per channel of (N, C, H, W), in any set."""
    if old.opset < 7:
        constant = old.constant(numbers.astype(np.float32), f"{out}_numbers")
        return [constant, onnx.helper.make_node(op_type, [x, constant.output[0]], [out], broadcast=1, axis=1 if numbers.size > 1 else 0)]
    constant = old.constant(numbers.astype(np.float32).reshape(-1, 1, 1), f"{out}_numbers")
    return [constant, onnx.helper.make_node(op_type, [x, constant.output[0]], [out])]


def _scalar(old: Old, op_type: str, x: str, number: float, out: str) -> Nodes:
    constant = old.constant(np.array(number, np.float32), f"{out}_number")
    options: dict[str, Any] = {"broadcast": 1} if old.opset < 7 else {}
    return [constant, onnx.helper.make_node(op_type, [x, constant.output[0]], [out], **options)]


def _image_scaler(old: Old, node: onnx.NodeProto) -> Nodes:
    """scale * x + bias of the channel."""
    scaled = old.name(f"{node.output[0]}_scaled")
    bias = np.array(_attribute(node, "bias", [0.0]), np.float32)
    return [
        *_scalar(old, "Mul", node.input[0], _attribute(node, "scale", 1.0), scaled),
        *_per_channel(old, "Add", scaled, bias, node.output[0]),
    ]


def _affine(old: Old, node: onnx.NodeProto) -> Nodes:
    """alpha * x + beta."""
    scaled = old.name(f"{node.output[0]}_scaled")
    return [
        *_scalar(old, "Mul", node.input[0], _attribute(node, "alpha", 1.0), scaled),
        *_scalar(old, "Add", scaled, _attribute(node, "beta", 0.0), node.output[0]),
    ]


def _scale(old: Old, node: onnx.NodeProto) -> Nodes:
    """scale * x."""
    return _scalar(old, "Mul", node.input[0], _attribute(node, "scale", 1.0), node.output[0])


def _around(function: str, outer: float, inner: float) -> Callable[[Old, onnx.NodeProto], Nodes]:
    """alpha * function(beta * x)."""

    def change(old: Old, node: onnx.NodeProto) -> Nodes:
        alpha, beta = _attribute(node, "alpha", outer), _attribute(node, "beta", inner)
        scaled, bent = old.name(f"{node.output[0]}_scaled"), old.name(f"{node.output[0]}_bent")
        return [
            *_scalar(old, "Mul", node.input[0], beta, scaled),
            onnx.helper.make_node(function, [scaled], [bent]),
            *_scalar(old, "Mul", bent, alpha, node.output[0]),
        ]

    return change


def _crop(old: Old, node: onnx.NodeProto) -> Nodes:
    """Without the borders left, top, right, bottom; with a scale: so many rows and columns from the corner."""
    left, top, right, bottom = _attribute(node, "border", [0, 0, 0, 0])
    scale = _attribute(node, "scale")
    most = np.iinfo(np.int64).max
    ends = [top + scale[0], left + scale[1]] if scale else [-bottom or most, -right or most]
    if old.opset < 10:
        window: dict[str, Any] = {"axes": [2, 3], "starts": [top, left], "ends": ends}
        return [onnx.helper.make_node("Slice", [node.input[0]], list(node.output), name=node.name, **window)]
    parts = [old.constant(np.array(values, np.int64), f"{node.output[0]}_{word}")
             for word, values in (("starts", [top, left]), ("ends", ends), ("axes", [2, 3]))]  # fmt: skip
    return [*parts, onnx.helper.make_node("Slice", [node.input[0], *(part.output[0] for part in parts)], list(node.output), name=node.name)]


def _contributed(old: Old, node: onnx.NodeProto) -> Nodes:
    """onnxruntime writes it into ONNX's own domain, which has never had it."""
    node.domain = DOMAIN
    return [node]


_EXPERIMENTS: dict[str, Callable[[Old, onnx.NodeProto], Nodes]] = {
    "Affine": _affine,
    "Crop": _crop,
    "ImageScaler": _image_scaler,
    "ParametricSoftplus": _around("Softplus", 1.0, 1.0),
    "Scale": _scale,
    "ScaledTanh": _around("Tanh", 1.0, 1.0),
    "SimplifiedLayerNormalization": _contributed,
}
