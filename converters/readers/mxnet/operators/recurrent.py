"""The fused RNN operator, whose weights are one flat vector. Sources: mxnet src/operator/rnn-inl.h, rnn_impl.h."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.graph.builder import Extent
from converters.readers.mxnet.axes import SEQUENCE, STATE, Axes
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Index, Parameter
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.symbol import Node

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
ORDERS = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn_tanh": [0], "rnn_relu": [0]}
"""Where ONNX's gates (i o f c; z r h) lie among MXNet's (i f g o; r z n)."""


Part = NDArray[Any] | ir.Value
"""A piece of the weights: an array of the file, or a value that the net computes."""


class _Vector:
    """The flat parameter vector, taken off from the front: a stored array, or a value that the net joins from smaller ones."""

    def __init__(self, g: OperatorBuilder, parameters: Parameter, dtype: Any) -> None:
        self.g, self.dtype, self.at = g, np.dtype(dtype), 0
        array = parameters.array
        self.array = None if array is None else array.reshape(-1)
        self.value = None if array is not None else parameters.use(dtype=dtype)

    def take(self, rows: int, columns: int | None, order: list[int]) -> Part:
        """The next rows x columns (or rows) numbers, their gates in ONNX's order."""
        size = rows * (columns or 1)
        start, self.at = self.at, self.at + size
        shape = (len(order), rows // len(order), *([columns] if columns else []))
        if self.array is not None:
            return self.array[start : self.at].reshape(shape)[order].reshape(1, rows, *shape[2:]).astype(self.dtype, copy=False)
        g = self.g
        part = g.reshape(g.emit("Slice", self.value, [start], [self.at], [0]), shape)
        part = g.emit("Gather", part, order, axis=0) if len(order) > 1 else part
        return g.reshape(part, [1, rows, *shape[2:]])


def _joined(g: OperatorBuilder, parts: list[Part], axis: int, role: str, original: str) -> ir.Value:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return g.param(g.free_role(role), np.concatenate(arrays, axis=axis), original=original)
    result: ir.Value = parts[0] if len(parts) == 1 and isinstance(parts[0], ir.Value) else g.emit("Concat", *parts, axis=axis)
    return result


def _sequences(node: Node) -> dict[int, Axes]:
    """data (T, N, C), the vector of weights, states (layers, N, C)."""
    return {0: SEQUENCE, 2: STATE, 3: STATE}


@lowers("RNN", "_npx_rnn", sequences=_sequences)
def rnn(
    g: OperatorBuilder,
    data: ir.Value,
    parameters: Parameter,
    state: ir.Value | None = None,
    state_cell: ir.Value | None = None,
    sequence_length: Index | None = None,
    *,
    state_size: int,
    num_layers: int,
    mode: Literal["lstm", "gru", "rnn_tanh", "rnn_relu"],
    bidirectional: bool = False,
    state_outputs: bool = False,
    p: float = 0.0,
    projection_size: int | None = None,
    lstm_state_clip_min: float | None = None,
    lstm_state_clip_max: float | None = None,
    lstm_state_clip_nan: bool = False,
    use_sequence_length: bool = False,
) -> ir.Value | Mapping[str, ir.Value]:
    """LSTM, GRU and plain RNN over (T, N, C): layers, two directions, first and last states; dropout is for training.

    Source: mxnet src/operator/rnn-inl.h, rnn_impl.h.
    """
    _check_form(g, projection_size, mode, (lstm_state_clip_min, lstm_state_clip_max))
    if g.rank(data) != 3 or state_size < 1 or not 1 <= num_layers <= 1024:
        raise g.error(f"an input (T, N, C) is needed, but it has shape {g.shape(data)}")
    lengths = _lengths(g, state_cell if mode != "lstm" and sequence_length is None else sequence_length) if use_sequence_length else None
    directions = 2 if bidirectional else 1
    if projection_size is not None:
        if lengths is not None:
            raise g.error("projection_size and use_sequence_length together run on GPUs alone")
        x, last, last_cell = projected_lstm(g, data, parameters, (state, state_cell), (state_size, projection_size), num_layers, directions)
        return {"output": x, "state_output": last, "statecell_output": last_cell} if state_outputs else x
    layers = _weights(g, parameters, mode, g.fixed(data, 2, 3)[0], state_size, num_layers, directions, g.dtype(data))
    firsts = _states(g, data, state, num_layers, directions, state_size)
    cells = _states(g, data, state_cell, num_layers, directions, state_size) if mode == "lstm" else [None] * num_layers
    x = data
    lasts: list[ir.Value] = []
    last_cells: list[ir.Value] = []
    for weights, first, cell in zip(layers, firsts, cells, strict=True):
        results = g.emit_all(
            {"lstm": "LSTM", "gru": "GRU"}.get(mode, "RNN"),
            x,
            *weights,
            lengths,
            first,
            *([cell] if mode == "lstm" else []),
            outputs=3 if mode == "lstm" else 2,
            hidden_size=state_size,
            direction="bidirectional" if bidirectional else None,
            activations=["Relu"] * directions if mode == "rnn_relu" else None,
            linear_before_reset=1 if mode == "gru" else None,
        )
        lasts.append(results[1])
        last_cells += results[2:]
        x = _directions_joined(g, results[0], x, directions * state_size)
    ends = {"state_output": lasts, **({"statecell_output": last_cells} if mode == "lstm" else {})}
    return {"output": x, **{name: _stacked(g, values) for name, values in ends.items()}} if state_outputs else x


def _lengths(g: OperatorBuilder, given: ir.Value | None) -> ir.Value:
    if given is None:
        raise g.error("the input 'sequence_length' is missing, and use_sequence_length is set")
    return g.cast(given, np.int32)


def _check_form(g: OperatorBuilder, projection_size: int | None, mode: str, clips: tuple[float | None, float | None]) -> None:
    """Raises ConversionError for what has no form here."""
    if projection_size is not None and (mode != "lstm" or projection_size < 1):
        raise g.error(f"projection_size {projection_size} of mode {mode}; an lstm takes one, of at least 1")
    if clips != (None, None):
        raise g.error("lstm_state_clip_min and lstm_state_clip_max have no form in ONNX's LSTM (and MXNet runs them on GPU alone)")


def _directions_joined(g: OperatorBuilder, y: ir.Value, x: ir.Value, width: int) -> ir.Value:
    """A layer's answers (T, directions, N, H) as (T, N, directions H). x: its input, (T, N, C)."""
    if g.shape(y)[1] == 1:
        return g.emit("Squeeze", y, [1])
    return g.reshape(g.emit("Transpose", y, perm=[0, 2, 1, 3]), [*g.shape(x)[:2], width])


def _weights(
    g: OperatorBuilder, parameters: Parameter, mode: str, width: int, size: int, layers: int, directions: int, dtype: np.dtype[Any]
) -> list[tuple[ir.Value, ir.Value, ir.Value]]:
    """W, R and B of each layer, the gates in ONNX's order; in the vector stand all W and R, layer by layer, then all biases."""
    order = ORDERS[mode]
    rows = GATES[mode] * size
    deeper = directions * rows * (directions * size + size + 2)
    parameters.check((directions * rows * (width + size + 2) + (layers - 1) * deeper,))
    widths = [width] + [directions * size] * (layers - 1)
    vector = _Vector(g, parameters, dtype)
    weights = [[(vector.take(rows, w, order), vector.take(rows, size, order)) for _ in range(directions)] for w in widths]
    biases = [[(vector.take(rows, None, order), vector.take(rows, None, order)) for _ in range(directions)] for _ in widths]
    name, result = parameters.name, []
    for layer in range(layers):
        w = _joined(g, [pair[0] for pair in weights[layer]], 0, f"weight_ih_l{layer}", name)
        r = _joined(g, [pair[1] for pair in weights[layer]], 0, f"weight_hh_l{layer}", name)
        result.append((w, r, _bias(g, biases[layer], f"bias_l{layer}", name)))
    return result


def _bias(g: OperatorBuilder, pairs: list[tuple[Part, Part]], role: str, name: str) -> ir.Value:
    """ONNX's B, (directions, 2 gates H): the input's bias beside the state's."""
    arrays = [(w, r) for w, r in pairs if isinstance(w, np.ndarray) and isinstance(r, np.ndarray)]
    if len(arrays) == len(pairs):
        stacked = np.concatenate([np.concatenate(pair, axis=1) for pair in arrays], axis=0)
        return g.param(g.free_role(role), stacked, original=name)
    return _joined(g, [g.emit("Concat", *pair, axis=1) for pair in pairs], 0, "", name)


def _stacked(g: OperatorBuilder, states: list[ir.Value]) -> ir.Value:
    result: ir.Value = states[0] if len(states) == 1 else g.emit("Concat", *states, axis=0)
    return result


def _states(g: OperatorBuilder, data: ir.Value, state: ir.Value | None, layers: int, directions: int, size: int) -> list[ir.Value | None]:
    """First states of each layer, (directions, N, H)."""
    if state is None:
        return [None] * layers
    if g.rank(state) != 3 or g.shape(state)[2] != size:
        raise g.error(f"a state ({layers * directions}, N, {size}) is needed, but it has shape {g.shape(state)}")
    first = g.shape(state)[0]
    if isinstance(first, int) and first != layers * directions:
        raise g.error(f"a state ({layers * directions}, N, {size}) is needed, but it has shape {g.shape(state)}")
    batch = g.shape(data)[1]
    if g.shape(state)[1] != batch and (state in g.open_values or g.shape(state)[1] == 1):
        shape = g.emit("Concat", [layers * directions], g.emit("Slice", g.emit("Shape", data), [1], [2]), [size], axis=0)
        state = g.emit("Expand", state, shape, shape=[layers * directions, batch, size])
    if layers == 1:
        return [state]
    return list(g.emit_all("Split", state, [directions] * layers, outputs=layers, axis=0))


# -- LSTM with a projection, a loop over time: ONNX's has none ---------------------------------------------------------------


def projected_lstm(
    g: OperatorBuilder,
    data: ir.Value,
    parameters: Parameter,
    states: tuple[ir.Value | None, ir.Value | None],
    sizes: tuple[int, int],
    layers: int,
    directions: int,
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """LSTM whose output is projected after every step. sizes: of the cell and of the projection. Answers outputs, last states and cells."""
    size, narrow = sizes
    width, rows = g.fixed(data, 2, 3)[0], 4 * size
    widths = [width] + [directions * narrow] * (layers - 1)
    parameters.check((sum(directions * (rows * (w + narrow + 2) + narrow * size) for w in widths),))
    vector = _Vector(g, parameters, g.dtype(data))
    order = ORDERS["lstm"]
    weights = [
        [(vector.take(rows, w, order), vector.take(rows, narrow, order), vector.take(narrow, size, [0])) for _ in range(directions)]
        for w in widths
    ]
    biases = [[(vector.take(rows, None, order), vector.take(rows, None, order)) for _ in range(directions)] for _ in widths]
    firsts = _states(g, data, states[0], layers, directions, narrow)
    cells = _states(g, data, states[1], layers, directions, size)
    x, lasts, last_cells = data, [], []
    for layer in range(layers):
        outs = []
        starts = [_direction_states(g, data, value, directions, n) for value, n in ((firsts[layer], narrow), (cells[layer], size))]
        for d in range(directions):
            named = f"l{layer}" + "_reverse" * d
            parts = [*weights[layer][d], *biases[layer][d]]
            roles = [f"weight_ih_{named}", f"weight_hh_{named}", f"weight_hr_{named}", f"bias_ih_{named}", f"bias_hh_{named}"]
            held = [g.emit("Squeeze", _joined(g, [part], 0, role, parameters.name), [0]) for part, role in zip(parts, roles, strict=True)]
            y, h, c = _projected_steps(g, x, held, starts[0][d], starts[1][d], size, backward=d == 1)
            outs.append(y)
            lasts.append(g.emit("Unsqueeze", h, [0]))
            last_cells.append(g.emit("Unsqueeze", c, [0]))
        x = outs[0] if directions == 1 else g.emit("Concat", *outs, axis=2)
    return x, _stacked(g, lasts), _stacked(g, last_cells)


def _direction_states(g: OperatorBuilder, data: ir.Value, state: ir.Value | None, directions: int, size: int) -> list[ir.Value]:
    """First states of each direction, (N, size); zeros where there are none."""
    if state is None:
        lengths: list[int | Extent] = [Extent(data, 1), size]
        zeros = g.emit("Expand", np.zeros((), g.dtype(data)), g.sizes(lengths), shape=[g.shape(data)[1], size])
        return [zeros] * directions
    if directions == 1:
        return [g.emit("Squeeze", state, [0])]
    return [g.emit("Squeeze", part, [0]) for part in g.emit_all("Split", state, [1, 1], outputs=2, axis=0)]


def _projected_steps(
    g: OperatorBuilder, x: ir.Value, weights: list[ir.Value], first: ir.Value, cell: ir.Value, size: int, *, backward: bool
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """One direction of one layer, gate order i o f c. weights: W, R, the projection and two biases."""
    w, r, narrow, bias, more = weights
    ready = g.emit("Add", g.emit("MatMul", x, g.emit("Transpose", w, perm=[1, 0])), g.emit("Add", bias, more))
    with g.body() as body:
        before, memory = (g.body_input(f"{value.name}_before", value, g.shape(value)) for value in (first, cell))
        step = g.body_input(f"{ready.name}_step", ready, g.shape(ready)[1:])
        gates = g.emit("Add", step, g.emit("MatMul", before, g.emit("Transpose", r, perm=[1, 0])))
        i, o, f, c = g.emit_all("Split", gates, [size] * 4, outputs=4, axis=1)
        kept = g.emit("Mul", g.emit("Sigmoid", f), memory)
        memory = g.emit("Add", kept, g.emit("Mul", g.emit("Sigmoid", i), g.emit("Tanh", c)))
        wide = g.emit("Mul", g.emit("Sigmoid", o), g.emit("Tanh", memory))
        answer = g.emit("MatMul", wide, g.emit("Transpose", narrow, perm=[1, 0]))
    lasts, joined = g.scan(body, [first, cell], [ready], [answer, memory], [answer], backward=backward)
    return joined[0], lasts[0], lasts[1]
