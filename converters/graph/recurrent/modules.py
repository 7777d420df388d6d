"""Recurrent layers of a graph as torch.nn has them: gates in torch's order, keys `weight_ih_l0`, layers upon layers as one module.

ONNX's LSTM keeps its gates as i, o, f, c and torch as i, f, g, o; ONNX's GRU as z, r, h and torch as r, z, n. What torch's classes
have no form for (other activations, peepholes, clip, a GRU that resets before the product) is left as it is.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.graph.names import Paths
from converters.graph.recurrent.constants import constant_of, used_by

Array = NDArray[Any]

_ORDERS = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Where torch's gates lie among ONNX's."""
_FUNCTIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_ROLES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True, eq=False)
class RecurrentModule:
    """One nn.LSTM, nn.GRU or nn.RNN. path: where it is. kind: its class. tensors: by role (`weight_ih_l0`), as torch has them.

    stack: its layers, first to last; more than one node may be the same module (`calls`). inner: what joins them, written with it.
    """

    path: str
    kind: str
    stacks: tuple[tuple[ir.Node, ...], ...]
    inner: frozenset[ir.Node]
    tensors: Mapping[str, ir.Value]
    input_size: int
    hidden_size: int
    is_relu: bool


@dataclass(eq=False)
class Found:
    """What a graph's state_dict holds where torch's classes hold the recurrent weights. modules: by the last node of each stack."""

    initializers: dict[str, ir.Value]
    modules: dict[ir.Node, RecurrentModule] = field(default_factory=dict)


def recurrent_modules(model: ir.Model) -> Found:
    """The recurrent layers that torch.nn has, and the initializers with their weights in the place of ONNX's."""
    graph = model.graph
    found = Found(dict(graph.initializers))
    groups: dict[tuple[int, ...], list[ir.Node]] = {}
    for node in graph:
        if _is_plain(node):
            groups.setdefault(tuple(id(value) for value in _weights(node)), []).append(node)
    ready = [_Layer(nodes) for nodes in groups.values()]
    layers = [layer for layer in ready if layer.is_alone()]
    replaced = {source for layer in layers for source in layer.sources if graph.initializers.get(str(source.name)) is source}
    places = {name: number for number, name in enumerate(found.initializers)}
    kept = {name: value for name, value in found.initializers.items() if value not in replaced}
    ordered: list[tuple[float, str, ir.Value]] = [(places[name], name, value) for name, value in kept.items()]
    taken = Paths(kept)
    counts: Counter[str] = Counter()
    for stack in _stacks(layers):
        module = _module(stack, _free_path(_path(stack.layers), taken, counts))
        for role in module.tensors:
            taken.add(f"{module.path}.{role}")
        position = min((places[str(s.name)] for layer in stack for s in layer.sources if s.name in places), default=-1)
        ordered += [(position, str(value.name), value) for value in module.tensors.values()]
        found.modules.update((nodes[-1], module) for nodes in module.stacks)
    found.initializers = {name: value for _, name, value in sorted(ordered, key=lambda entry: entry[0])}
    return found


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else attribute.value


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _weights(node: ir.Node) -> list[ir.Value | None]:
    return [_input(node, index) for index in (1, 2, 3)]


def directions_of(node: ir.Node) -> int:
    """How many directions a recurrent node runs in."""
    return 2 if _attribute(node, "direction", "forward") == "bidirectional" else 1


def is_reverse(node: ir.Node) -> bool:
    """Whether a recurrent node runs from the end to the start alone."""
    return bool(_attribute(node, "direction", "forward") == "reverse")


def is_batch_first(node: ir.Node) -> bool:
    """Whether a recurrent node takes (N, T, C)."""
    return bool(_attribute(node, "layout", 0))


def _is_plain(node: ir.Node) -> bool:
    """Whether torch's class computes the same, whatever the weights are."""
    if node.op_type not in _ORDERS or node.domain not in ("", "ai.onnx"):
        return False
    if any(attribute.is_ref() for attribute in node.attributes.values()):
        return False
    names = [str(f).lower() for f in _attribute(node, "activations", ()) or ()]
    usual = [*_FUNCTIONS[node.op_type]] * directions_of(node)
    if names not in ([], usual) and not (node.op_type == "RNN" and names == ["relu"] * directions_of(node)):
        return False
    if _attribute(node, "direction", "forward") not in ("forward", "reverse", "bidirectional"):
        return False
    if node.op_type == "GRU" and not _attribute(node, "linear_before_reset", 0):
        return False
    if "clip" in node.attributes or _attribute(node, "input_forget", 0) or "output_sequence" in node.attributes:
        return False
    peepholes = _input(node, 7)
    if peepholes is not None:
        known = constant_of(peepholes)
        return known is not None and not known[0]().any()
    return True


def _is_relu(node: ir.Node) -> bool:
    return node.op_type == "RNN" and "relu" in [str(f).lower() for f in _attribute(node, "activations", ()) or ()]


class _Layer:
    """The nodes that share one set of weights, and these weights as torch has them."""

    def __init__(self, nodes: Sequence[ir.Node]) -> None:
        self.nodes = nodes
        first = nodes[0]
        self.kind, self.directions = first.op_type, directions_of(first)
        self.known = [None if value is None else constant_of(value) for value in _weights(first)]
        self.sources: list[ir.Value] = list(dict.fromkeys(s for known in self.known if known is not None for s in known[1]))
        shapes = [
            None if value is None or value.shape is None or not value.shape.is_static() else value.shape.numpy()
            for value in _weights(first)
        ]
        gates = len(_ORDERS[self.kind])
        weight, recurrence, bias = shapes
        self.hidden_size = self.input_size = 0
        self.is_whole = False
        if weight is not None and recurrence is not None and len(weight) == len(recurrence) == 3:
            self.hidden_size, self.input_size = int(recurrence[2]), int(weight[2])
            rows = gates * self.hidden_size
            self.is_whole = (
                self.hidden_size > 0
                and self.input_size > 0
                and tuple(weight) == (self.directions, rows, self.input_size)
                and tuple(recurrence) == (self.directions, rows, self.hidden_size)
                and (_input(first, 3) is None or bias == (self.directions, 2 * rows))
            )
        self.dtype = None if _input(first, 1) is None else _weights(first)[0].dtype  # type: ignore[union-attr]

    def form(self) -> tuple[Any, ...]:
        """What two layers must have in common to be one module."""
        node = self.nodes[0]
        return (
            self.kind, self.hidden_size, _attribute(node, "direction", "forward"), is_batch_first(node), _is_relu(node), self.dtype,
            _input(node, 3) is None, _input(node, 4),
        )  # fmt: skip

    def is_alone(self) -> bool:
        """Whether the weights are constants of one type that nothing else uses, and all calls are alike."""
        values = [value for value in _weights(self.nodes[0]) if value is not None]
        if not self.is_whole or any(known is None for value, known in zip(_weights(self.nodes[0]), self.known, strict=True) if value):
            return False
        if self.dtype not in _FLOATS or any(value.dtype != self.dtype for value in values):
            return False
        if len({(directions_of(n), is_reverse(n), is_batch_first(n), _is_relu(n)) for n in self.nodes}) != 1:
            return False
        mine = set(self.nodes)
        return all(user in mine and index in (1, 2, 3) for source in self.sources for user, index in used_by(source))

    def tensors(self, number: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """By role: what gives the array, and its shape."""
        result: dict[str, tuple[Any, tuple[int, ...]]] = {}
        rows = len(_ORDERS[self.kind]) * self.hidden_size
        for direction in range(self.directions):
            suffix = f"_l{number}" + ("_reverse" if direction else "")
            for role, width in (("weight_ih", self.input_size), ("weight_hh", self.hidden_size)):
                make = functools.partial(self._part, role, direction)
                result[role + suffix] = (make, (rows, width))
            if self.known[2] is not None:
                for role in ("bias_ih", "bias_hh"):
                    result[role + suffix] = (functools.partial(self._part, role, direction), (rows,))
        return result

    def _part(self, role: str, direction: int) -> Array:
        position = min(_ROLES.index(role), 2)
        known = self.known[position]
        assert known is not None
        array = known[0]()[direction]
        if position == 2:
            array = np.split(array, 2)[_ROLES.index(role) - 2]
        order = _ORDERS[self.kind]
        return np.ascontiguousarray(np.concatenate([np.split(array, len(order))[gate] for gate in order]))


# -- layers upon layers --------------------------------------------------------------------------------------------------


@dataclass
class _Stack:
    layers: list[_Layer]
    inner: set[ir.Node]

    def __iter__(self) -> Any:
        return iter(self.layers)


def _stacks(layers: Sequence[_Layer]) -> list[_Stack]:
    """Layers that feed one another alone, joined."""
    by_node = {layer.nodes[0]: layer for layer in layers if len(layer.nodes) == 1}
    following: dict[int, tuple[_Layer, set[ir.Node]]] = {}
    for layer in layers:
        if len(layer.nodes) == 1:
            after = _next(layer, by_node)
            if after is not None:
                following[id(layer)] = after
    later = {id(layer) for layer, _ in following.values()}
    result = []
    for layer in layers:
        if id(layer) in later:
            continue
        stack = _Stack([layer], set())
        while id(stack.layers[-1]) in following:
            layer_after, between = following[id(stack.layers[-1])]
            stack.layers.append(layer_after)
            stack.inner |= between
        result += _with_states_joined(stack)
    return result


def _next(layer: _Layer, by_node: Mapping[ir.Node, _Layer]) -> tuple[_Layer, set[ir.Node]] | None:
    """The layer that takes all of this one's output and nothing else does, and the nodes between the two."""
    node = layer.nodes[0]
    if is_batch_first(node) or is_reverse(node) or node.outputs[0].is_graph_output():
        return None
    sequences = sequences_of(node)
    if len(sequences) != 1:
        return None
    value, between = sequences[0]
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or uses[0].idx != 0:
        return None
    after = by_node.get(uses[0].node)
    if after is None or after.form() != layer.form() or after.input_size != layer.directions * layer.hidden_size:
        return None
    return (after, set(between)) if not _others(node, between) else None


def _others(node: ir.Node, between: Iterable[ir.Node]) -> bool:
    """Whether more than these nodes take a layer's output."""
    inside = set(between)
    values = [node.outputs[0], *(value for n in inside for value in n.outputs)]
    last = {value for n in inside for value in n.outputs if not any(use.node in inside for use in value.uses())}
    return any(use.node not in inside for value in values if value not in last for use in value.uses())


def _with_states_joined(stack: _Stack) -> list[_Stack]:
    """The stack, if the states below its last layer are unused or all together in one Concat; else each layer by itself."""
    if len(stack.layers) == 1:
        return [stack]
    nodes = [layer.nodes[0] for layer in stack.layers]
    if all(joined_states(nodes, index) is not None for index in range(1, 3 if nodes[0].op_type == "LSTM" else 2)):
        return [stack]
    return [_Stack([layer], set()) for layer in stack.layers]


def joined_states(nodes: Sequence[ir.Node], index: int) -> list[ir.Value] | None:
    """The values that are all last states of a stack, one upon another; None where a state below the last layer is used by itself."""
    values = [node.outputs[index] if index < len(node.outputs) else None for node in nodes]
    joined: list[ir.Value] = []
    for value in values:
        for use in () if value is None else value.uses():
            if use.node.op_type == "Concat" and list(use.node.inputs) == values and _attribute(use.node, "axis", 0) == 0:
                joined.append(use.node.outputs[0])
            elif value is not values[-1]:
                return None
        if value is not None and value is not values[-1] and value.is_graph_output():
            return None
    return list(dict.fromkeys(joined))


def sequences_of(node: ir.Node) -> list[tuple[ir.Value, tuple[ir.Node, ...]]]:
    """The values that are a recurrent node's output as torch gives it, (T, N, directions H), and the nodes that make them so."""
    directions, width = directions_of(node), 0
    y = node.outputs[0]
    recurrence = _input(node, 2)
    if recurrence is not None and recurrence.shape is not None and isinstance(recurrence.shape[2], int):
        width = directions * int(recurrence.shape[2])
    result: list[tuple[ir.Value, tuple[ir.Node, ...]]] = []
    axis = 2 if is_batch_first(node) else 1
    for use in y.uses():
        user = use.node
        if directions == 1 and user.op_type == "Squeeze" and use.idx == 0:
            if _squeezed(user) == axis:
                result.append((user.outputs[0], (user,)))
        elif directions == 2 and is_batch_first(node) and user.op_type == "Reshape" and use.idx == 0:
            if _joins_the_last_two(user, width):
                result.append((user.outputs[0], (user,)))
        elif user.op_type == "Transpose" and list(_attribute(user, "perm", ())) == [0, 2, 1, 3] and not is_batch_first(node):
            middle = user.outputs[0]
            shapers = [u.node for u in middle.uses() if u.node.op_type == "Reshape" and u.idx == 0]
            if shapers and len(shapers) == len(list(middle.uses())) and not middle.is_graph_output():
                result += [(s.outputs[0], (user, s)) for s in shapers if _joins_the_last_two(s, width)]
    return result


def _squeezed(node: ir.Node) -> int | None:
    """The one axis that a Squeeze takes away of four."""
    axes = _attribute(node, "axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        known = constant_of(node.inputs[1])
        axes = None if known is None else known[0]().reshape(-1).tolist()
    return int(axes[0]) % 4 if axes is not None and len(axes) == 1 else None


def _joins_the_last_two(node: ir.Node, width: int) -> bool:
    """Whether a Reshape makes (A, B, width) of (A, B, directions, H), whatever A and B are."""
    source, target = node.inputs[0], node.outputs[0]
    shape = _input(node, 1)
    known = None if shape is None else constant_of(shape)
    if known is not None and not _attribute(node, "allowzero", 0):
        dims = known[0]().reshape(-1).tolist()
        if len(dims) == 3 and dims[2] in (width, -1) and (dims[:2] in ([0, 0], [0, -1], [-1, 0]) and dims.count(-1) < 2):
            return True
    if source is None or source.shape is None or target.shape is None or len(target.shape) != 3 or target.shape[2] != width:
        return False
    before, after = list(source.shape)[:2], list(target.shape)[:2]
    return all(a == b and (isinstance(a, int) or a.value is not None) for a, b in zip(before, after, strict=True))


# -- names -----------------------------------------------------------------------------------------------------------------


def _module(stack: _Stack, path: str) -> RecurrentModule:
    first = stack.layers[0]
    tensors = {}
    for number, layer in enumerate(stack.layers):
        for role, (make, shape) in layer.tensors(number).items():
            assert layer.dtype is not None
            data = ir.LazyTensor(functools.partial(_tensor, make), dtype=layer.dtype, shape=ir.Shape(shape), name=f"{path}.{role}")
            tensors[role] = ir.Value(name=f"{path}.{role}", shape=ir.Shape(shape), type=ir.TensorType(layer.dtype), const_value=data)
    calls = tuple((node,) for node in first.nodes) if len(stack.layers) == 1 else (tuple(layer.nodes[0] for layer in stack.layers),)
    states = {
        value.producer()
        for nodes in calls if len(nodes) > 1
        for index in (1, 2)
        for value in joined_states(nodes, index) or ()
    }  # fmt: skip
    inner = stack.inner | {node for nodes in calls for node in nodes[:-1]} | {node for node in states if node is not None}
    return RecurrentModule(
        path, first.kind, calls, frozenset(inner), tensors, first.input_size, first.hidden_size, _is_relu(first.nodes[0])
    )  # fmt: skip


def _tensor(make: Any) -> ir.TensorProtocol:
    return ir.tensor(make())


def _path(layers: Sequence[_Layer]) -> str:
    """What the names of the weights have in common, else what the first is called; of one layer of several its number too."""
    names = [str(source.name) for layer in layers for source in layer.sources]
    parents = {name.rpartition(".")[0] for name in names}
    if len(parents) == 1 and "" not in parents:
        return parents.pop()
    stem = (names[0].rpartition(".")[0] or names[0]) if names else ""
    return stem or layers[0].kind.lower()


def _free_path(wanted: str, taken: Paths, counts: Counter[str]) -> str:
    """The path, or one behind it that nothing else lies at, above or below. counts: how many of them are known to be taken."""
    path = wanted
    while not taken.is_free(path):
        counts[wanted] += 1
        path = f"{wanted}_{counts[wanted]}"
    return path
