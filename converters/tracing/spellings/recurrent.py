"""Recurrent layers and sums over places that ONNX has no operator for, in words that it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import linear


def projected_lstm(input: torch.Tensor, hx: Any, params: Any, has_biases: Any, num_layers: Any, dropout: Any = None,
                   train: Any = None, bidirectional: Any = None, batch_first: Any = None) -> Any:  # fmt: skip
    """An LSTM whose hidden state is a projection of it: a scan over the steps. ONNX's LSTM has no projection."""
    if not isinstance(has_biases, bool) or len(hx) != 2 or len(params) == 0:
        return NotImplemented  # packed sequences, whose arguments are others
    directions = 2 if bidirectional else 1
    each = len(params) // (num_layers * directions)
    if each != (5 if has_biases else 3):
        return NotImplemented
    values = input.transpose(0, 1) if batch_first else input
    hidden, cells = [], []
    for layer in range(num_layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            weights = params[place * each : (place + 1) * each]
            steps = values.flip(0) if direction else values
            last, cell, answers = _scan(steps, hx[0][place], hx[1][place], weights)
            outputs.append(answers.flip(0) if direction else answers)
            hidden.append(last)
            cells.append(cell)
        values = torch.cat(outputs, -1) if directions == 2 else outputs[0]
    return values.transpose(0, 1) if batch_first else values, torch.stack(hidden), torch.stack(cells)


def _scan(steps: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, weights: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One direction of one layer: the last states, and the hidden state of every step."""
    from torch._higher_order_ops.scan import scan

    from_input, from_hidden, *biases, projection = weights
    first, second = biases or (None, None)

    def step(states: list[torch.Tensor], x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        before, held = states
        gates = linear(x, from_input, first) + linear(before, from_hidden, second)
        enter, forget, new, leave = gates.chunk(4, -1)
        held = forget.sigmoid() * held + enter.sigmoid() * new.tanh()
        after = linear(leave.sigmoid() * held.tanh(), projection)
        return [after, held], after.clone()

    run: Callable[..., Any] = scan
    (last, kept), answers = run(step, [hidden.contiguous(), cell.contiguous()], steps.contiguous(), dim=0)
    return last, kept, answers


# -- sums, means and the like of numbers that go to one place


_NEUTRAL = {"sum": 0, "mean": 0, "prod": 1}


def scatter_reduce(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, reduce: str, *, include_self: bool = True) -> Any:
    """Without what was there before, and the mean, which ONNX's ScatterElements hasn't."""
    if x.dim() == 0 or reduce not in ("sum", "mean", "prod", "amax", "amin"):
        return NotImplemented
    src = _fitting(src, index)
    if reduce != "mean" and include_self:
        return x.scatter_reduce(dim, index, src, reduce)
    ones = torch.zeros_like(x).scatter_add(dim, index, torch.ones_like(src))
    start = x if include_self else torch.where(ones > 0, _neutral(reduce, x), x)
    if reduce != "mean":
        return start.scatter_reduce(dim, index, src, reduce)
    count = ones + 1 if include_self else ones.clamp(min=1)
    total = start.scatter_add(dim, index, src)
    return total / count if x.is_floating_point() else torch.div(total, count, rounding_mode="floor")


def _fitting(src: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The part of the source that the index speaks of."""
    for axis, size in enumerate(index.shape):
        if isinstance(size, int) and src.shape[axis] != size:
            src = src.narrow(axis, 0, size)
    return src


def _neutral(reduce: str, x: torch.Tensor) -> torch.Tensor:
    """What leaves any number as it is."""
    value: Any = _NEUTRAL.get(reduce)
    if value is None and x.is_floating_point():
        value = float("-inf") if reduce == "amax" else float("inf")
    elif value is None:
        limits = torch.iinfo(x.dtype)
        value = limits.min if reduce == "amax" else limits.max
    return torch.full_like(x, value)


def index_reduce(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True) -> Any:
    """scatter_reduce with one index for a whole slice."""
    shape = [1] * source.dim()
    shape[dim] = -1
    places = index.long().reshape(shape).expand(source.shape)
    return scatter_reduce(x, dim, places, source, reduce, include_self=include_self)


def index_add(x: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, *, alpha: Any = 1) -> Any:
    """scatter_add with one index for a whole slice; torch.onnx loses its dimension."""
    if x.dim() == 0:
        return NotImplemented
    shape = [1] * source.dim()
    shape[dim] = -1
    scaled = source if alpha == 1 else source * alpha
    return x.scatter_add(dim, index.long().reshape(shape).expand(source.shape), scaled)


def segment_reduce(data: torch.Tensor, reduce: str, *, lengths: Any = None, indices: Any = None, offsets: Any = None, axis: int = 0,
                   unsafe: bool = False, initial: Any = None) -> Any:  # fmt: skip
    """Rows by the lengths of their segments; an empty one has what changes nothing, its mean is no number."""
    word = {"max": "amax", "min": "amin"}.get(reduce, reduce)
    if lengths is None or offsets is not None or indices is not None or initial is not None or lengths.dim() != 1 or axis != 0:
        return NotImplemented
    ends = lengths.cumsum(0)
    places = (torch.arange(data.shape[0]).unsqueeze(1) >= ends.unsqueeze(0)).sum(1)
    index = places.reshape([-1] + [1] * (data.dim() - 1)).expand(data.shape)
    start = _neutral(word, torch.zeros((lengths.shape[0], *data.shape[1:]), dtype=data.dtype))
    if word != "mean":
        return start.scatter_reduce(0, index, data, word)
    return start.scatter_add(0, index, data) / torch.zeros_like(start).scatter_add(0, index, torch.ones_like(data))


def scatter(x: torch.Tensor, dim: int, index: torch.Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """Sources of more numbers than are asked for, and the two reductions of old."""
    given = value if src is None else src
    if x.dim() == 0 or given is None or reduce not in (None, "add", "multiply"):
        return NotImplemented
    if not isinstance(given, torch.Tensor):
        if reduce is None:
            return NotImplemented
        given = torch.full_like(index, given, dtype=x.dtype)
    given = _fitting(given, index)
    if reduce is None:
        return x.scatter(dim, index, given)
    return x.scatter_add(dim, index, given) if reduce == "add" else x.scatter_reduce(dim, index, given, "prod")


def scatter_add(x: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> Any:
    return NotImplemented if x.dim() == 0 else x.scatter_add(dim, index, _fitting(src, index))


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a method that changes its tensor."""

    def change(x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        result = function(x, *args, **kwargs)
        return NotImplemented if result is NotImplemented else x.copy_(result)

    return change


_PLACED: dict[str, Callable[..., Any]] = {
    "scatter": scatter,
    "scatter_add": scatter_add,
    "scatter_reduce": scatter_reduce,
    "index_reduce": index_reduce,
    "index_add": index_add,
}
SPELLINGS = {
    "lstm": projected_lstm,
    "segment_reduce": segment_reduce,
    **_PLACED,
    **{f"{name}_": _in_place(function) for name, function in _PLACED.items()},
}
"""What stands for torch's functions of these names while a module is exported."""
