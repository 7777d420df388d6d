"""Values of a graph that constants alone make: weights that are cut, joined and turned round on their way to a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[Any]
_DEEPEST = 32


def constant_of(value: ir.Value, depth: int = 0) -> tuple[Callable[[], Array], list[ir.Value]] | None:
    """What gives the value's array, and the initializers and constants that it is made of; None where an input plays a part."""
    if value.const_value is not None and value.producer() is None:
        tensor = value.const_value
        graph_inputs = value.graph.inputs if value.graph is not None else ()
        return None if any(v is value for v in graph_inputs) else ((lambda: _array(tensor)), [value])
    node = value.producer()
    if node is None or node.domain not in ("", "ai.onnx") or depth > _DEEPEST:
        return None
    if node.op_type == "Constant":
        constant = node.attributes.get("value")
        if constant is not None and not constant.is_ref():
            held = constant.as_tensor()
            return (lambda: _array(held)), [value]
        numbers = next((a for name, a in node.attributes.items() if name in ("value_ints", "value_int") and not a.is_ref()), None)
        return None if numbers is None else ((lambda: np.asarray(numbers.value, np.int64)), [value])
    if node.op_type not in _MOVES or any(a.is_ref() for a in node.attributes.values()) or len(node.outputs) != 1:
        return None
    parts = [None if v is None else constant_of(v, depth + 1) for v in node.inputs]
    if any(part is None for v, part in zip(node.inputs, parts, strict=True) if v is not None):
        return None
    attributes = {name: a.value for name, a in node.attributes.items()}
    move = _MOVES[node.op_type]

    def compute() -> Array:
        return np.asarray(move(*(None if part is None else part[0]() for part in parts), **attributes))

    return compute, [source for part in parts if part is not None for source in part[1]]


def used_by(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """The nodes that take a constant, behind those that only cut, join and turn round; the graph's own outputs as a node of none."""
    if value.is_graph_output():
        yield ir.Node("converters", "Output", []), 0
    for use in value.uses():
        moves = use.node.op_type in _MOVES and use.node.domain in ("", "ai.onnx")
        if moves and all(constant_of(output) is not None for output in use.node.outputs):
            for output in use.node.outputs:
                yield from used_by(output)
        else:
            yield use.node, use.idx


def weights_alone(graph: ir.Graph, layers: Iterable[ir.Node]) -> set[ir.Node]:
    """The nodes that make nothing but the weights (inputs 1 to 3) of these recurrent layers."""
    taken, found = set(layers), set[ir.Node]()
    for node in reversed(list(graph)) if taken else ():
        uses = [use for value in node.outputs for use in value.uses()]
        of_weights = all(use.node in found or (use.node in taken and use.idx in (1, 2, 3)) for use in uses)
        if uses and of_weights and not any(value.is_graph_output() for value in node.outputs):
            found.add(node)
    return found


def _array(tensor: ir.TensorProtocol) -> Array:
    return np.asarray(tensor.numpy()).reshape(tuple(tensor.shape.numpy()))


def _axes(axes: Any) -> tuple[int, ...]:
    return tuple(int(axis) for axis in np.asarray(axes).reshape(-1))


def _slice(x: Array, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Array:
    begin, stop = _axes(starts), _axes(ends)
    by = [1] * len(begin) if steps is None else _axes(steps)
    where = range(len(begin)) if axes is None else _axes(axes)
    for start, end, axis, step in zip(begin, stop, where, by, strict=True):
        if step < 1:
            raise ValueError("a slice that runs backward")
        x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
    return x


def _reshape(x: Array, shape: Array, allowzero: int = 0) -> Array:
    dims = [x.shape[i] if d == 0 and not allowzero else d for i, d in enumerate(_axes(shape))]
    return x.reshape(dims)


def _squeeze(x: Array, axes: Any = None) -> Array:
    return np.squeeze(x, None if axes is None else _axes(axes))


def _unsqueeze(x: Array, axes: Any) -> Array:
    return np.expand_dims(x, _axes(axes))


def _gather(x: Array, indices: Array, axis: int = 0) -> Array:
    return np.asarray(np.take(x, indices, axis=axis))


def _transpose(x: Array, perm: Any = None) -> Array:
    return np.transpose(x, perm)


def _concat(*parts: Array, axis: int) -> Array:
    return np.concatenate(parts, axis)


_MOVES: dict[str, Callable[..., Array]] = {
    "Concat": _concat,
    "Gather": _gather,
    "Identity": lambda x: x,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
