"""What stands before and behind each layer with weights, in the file and in the class: tells branches that see the same numbers apart.

A layer's color is its weights' shapes; then, round by round, these and the colors of its neighbors, and where in a concatenation it
ends up. Layers whose colors agree over many rounds are likely each other's. Nothing rests on it: it says which choice to try first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch.overrides import TorchFunctionMode

from converters.matching.calling import copied
from converters.matching.fitting import own_tensors, tensors_in
from converters.matching.layers import Layer

_ROUNDS = 10
_CONCATENATIONS = frozenset({"cat", "concat", "concatenate"})
Origins = frozenset[tuple[int, int]]
"""The layers (by number; -1 for an input) whose answers a value is made of, each with the channel where its part begins."""
_START: Origins = frozenset({(-1, 0)})


class Neighbors:
    """The colors of both sides; the user's class is run once, on tensors without numbers, when they are first asked for."""

    def __init__(self, model: ir.Model, layers: Sequence[Layer], shapes: Mapping[str, Sequence[int]], module: torch.nn.Module) -> None:
        self._model, self._layers, self._shapes, self._module = model, layers, shapes, module
        self._found: tuple[dict[Layer, list[int]], dict[str, list[int]]] | None = None

    def alike(self, layer: Layer, name: str, inputs: Sequence[torch.Tensor]) -> int:
        """For how many rounds a layer of the file and a module of the class have the same surroundings."""
        if self._found is None:
            self._found = self._colors(inputs)
        ours, theirs = self._found[0].get(layer, []), self._found[1].get(name, [])
        return sum(a == b for a, b in zip(ours, theirs, strict=False))

    def _colors(self, inputs: Sequence[torch.Tensor]) -> tuple[dict[Layer, list[int]], dict[str, list[int]]]:
        ids: dict[Any, int] = {}
        ours = _refined([_label(array.shape for _, array in layer.arrays.values()) for layer in self._layers], self._edges(), ids)
        try:
            names, labels, edges = _edges_of(self._module, inputs)
        except Exception:  # the user's class may not run without numbers; then the names alone say what to try first
            return {}, {}
        theirs = _refined(labels, edges, ids)
        return dict(zip(self._layers, ours, strict=True)), dict(zip(names, theirs, strict=True))

    def _edges(self) -> list[tuple[int, int, int]]:
        """(layer, layer behind it, channel) of the file's graph; the outputs are behind the last."""
        firsts: dict[int, list[int]] = {}
        lasts: dict[int, int] = {}
        for number, layer in enumerate(self._layers):
            firsts.setdefault(layer.first, []).append(number)
            lasts[layer.last] = number
        origins: dict[ir.Value, Origins] = dict.fromkeys(self._model.graph.inputs, _START)
        edges = []
        for position, node in enumerate(self._model.graph):
            values = [value for value in node.inputs if value is not None]
            for number in firsts.get(position, ()):
                edges += [(origin, number, channel) for origin, channel in origins.get(self._layers[number].given, ())]
            parts = [(origins.get(value, frozenset()), self._channels(value)) for value in values]
            axis = node.attributes.get("axis")
            is_joined = node.op_type == "Concat" and axis is not None and axis.as_int() == 1
            made = _joined(parts) if is_joined else frozenset().union(*(part for part, _ in parts))
            if position in lasts:
                made = frozenset({(lasts[position], 0)})
            origins.update(dict.fromkeys(node.outputs, made))
        for place, value in enumerate(self._model.graph.outputs):
            edges += [(origin, -2 - place, channel) for origin, channel in origins.get(value, ())]
        return edges

    def _channels(self, value: ir.Value) -> int:
        shape = self._shapes.get(str(value.name), ())
        return int(shape[1]) if len(shape) > 1 else 0


def _joined(parts: Sequence[tuple[Origins, int]]) -> Origins:
    """Origins behind one another: each part's begin where the last one ends."""
    begin, found = 0, []
    for origins, channels in parts:
        found += [(origin, channel + begin) for origin, channel in origins]
        begin += channels
    return frozenset(found)


def _label(shapes: Any) -> tuple[Any, ...]:
    return tuple(sorted(tuple(int(size) for size in shape if size != 1) for shape in shapes))


def _refined(labels: Sequence[Any], edges: Sequence[tuple[int, int, int]], ids: dict[Any, int]) -> list[list[int]]:
    """Each layer's color in each round. ids: numbers of colors, the same for both sides."""
    before: list[list[tuple[int, int]]] = [[] for _ in labels]
    behind: list[list[tuple[int, int]]] = [[] for _ in labels]
    for origin, target, channel in edges:
        if target >= 0:
            before[target].append((origin, channel))
        if origin >= 0:
            behind[origin].append((target, channel))
    colors = [ids.setdefault(label, len(ids)) for label in labels]
    rounds = [[color] for color in colors]
    for _ in range(_ROUNDS):
        seen = [
            tuple(tuple(sorted((colors[n] if n >= 0 else n, channel) for n, channel in side[number])) for side in (before, behind))
            for number in range(len(labels))
        ]
        colors = [ids.setdefault((color, *around), len(ids)) for color, around in zip(colors, seen, strict=True)]
        for number, color in enumerate(colors):
            rounds[number].append(color)
    return rounds


class _Tracing(TorchFunctionMode):
    """Keeps at each tensor of which layers' answers it is made."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        parts = [(origins_of(tensor), _width(tensor)) for tensor in tensors_in((args, kwargs or {}))]
        dim = (kwargs or {}).get("dim", args[1] if len(args) > 1 else 0) if getattr(function, "__name__", "") in _CONCATENATIONS else None
        made = _joined(parts) if dim in (1, -3) else frozenset().union(*(part for part, _ in parts))
        if made:
            for tensor in tensors_in(answer):
                _keep(tensor, made)
        return answer


def origins_of(tensor: torch.Tensor) -> Origins:
    """What `_Tracing` kept at a tensor."""
    found: Origins = tensor.__dict__.get("made_of", frozenset())
    return found


def _keep(tensor: torch.Tensor, origins: Origins) -> None:
    tensor.__dict__["made_of"] = origins


def _width(tensor: torch.Tensor) -> int:
    with torch._C.DisableTorchFunction():
        return int(tensor.shape[1]) if tensor.ndim > 1 else 0


def _edges_of(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[list[str], list[Any], list[tuple[int, int, int]]]:
    """Names, labels and edges of the modules with weights, in the order in which they first run."""
    kind = next((tensor.dtype for tensor in inputs if tensor.is_floating_point()), torch.float32)
    empty = copied(module).to("meta", kind).eval()
    names: list[str] = []
    labels: list[Any] = []
    edges: list[tuple[int, int, int]] = []

    def watch(name: str, inner: torch.nn.Module) -> None:
        def begin(_: torch.nn.Module, arguments: Any) -> None:
            if name not in names:
                names.append(name)
                labels.append(_label(tensor.shape for tensor in own_tensors(inner).values()))
            first = next(tensors_in(arguments), None)
            edges.extend((origin, names.index(name), channel) for origin, channel in (origins_of(first) if first is not None else ()))

        def end(_: torch.nn.Module, __: Any, answer: Any) -> None:
            for tensor in tensors_in(answer):
                _keep(tensor, frozenset({(names.index(name), 0)}))

        inner.register_forward_pre_hook(begin)
        inner.register_forward_hook(end)

    for name, inner in empty.named_modules():
        if own_tensors(inner):
            watch(name, inner)
    given = [tensor.to("meta") for tensor in inputs]
    for tensor in given:
        _keep(tensor, _START)
    with _Tracing(), torch.no_grad():
        answers = empty(*given)
    for place, tensor in enumerate(tensors_in(answers)):
        edges += [(origin, -2 - place, channel) for origin, channel in origins_of(tensor)]
    return names, labels, edges
