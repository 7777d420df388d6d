"""The fused RNN operator, whose weights are one flat vector. Sources: mxnet src/operator/rnn-inl.h, rnn_impl.h."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Index, Parameter
from converters.readers.mxnet.signature import lowers

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
ORDERS = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn_tanh": [0], "rnn_relu": [0]}
"""Where ONNX's gates (i o f c; z r h) lie among MXNet's (i f g o; r z n)."""


class _Vector:
    """The flat parameter vector, taken off from the front: a stored array, or a value that the net joins from smaller ones."""

    def __init__(self, g: OperatorBuilder, parameters: Parameter, dtype: Any) -> None:
        self.g, self.dtype, self.at = g, np.dtype(dtype), 0
        array = parameters.array
        self.array = None if array is None else array.reshape(-1)
        self.value = None if array is not None else parameters.use(dtype=dtype)

    def take(self, rows: int, columns: int | None, order: list[int]) -> NDArray[Any] | ir.Value:
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


def _joined(g: OperatorBuilder, parts: list[NDArray[Any] | ir.Value], axis: int, role: str, original: str) -> ir.Value:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return g.param(g.free_role(role), np.concatenate(arrays, axis=axis), original=original)
    result: ir.Value = parts[0] if len(parts) == 1 and isinstance(parts[0], ir.Value) else g.emit("Concat", *parts, axis=axis)
    return result


@lowers("RNN", "_npx_rnn")
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
    """LSTM, GRU and plain RNN over (T, N, C): layers, two directions, first and last states; dropout is for training."""
    if projection_size is not None:
        raise g.error("projection_size has no form in ONNX's LSTM (and MXNet runs it on GPU alone)")
    if lstm_state_clip_min is not None or lstm_state_clip_max is not None:
        raise g.error("lstm_state_clip_min and lstm_state_clip_max have no form in ONNX's LSTM (and MXNet runs them on GPU alone)")
    if use_sequence_length and mode != "lstm" and sequence_length is None:
        sequence_length, state_cell = state_cell, None
    if g.rank(data) != 3 or state_size < 1 or not 1 <= num_layers <= 1024:
        raise g.error(f"an input (T, N, C) is needed, but it has shape {g.shape(data)}")
    directions = 2 if bidirectional else 1
    width = g.fixed(data, 2, 3)[0]
    gates, order, kind = GATES[mode], ORDERS[mode], g.dtype(data)
    rows = gates * state_size
    deeper = directions * rows * (directions * state_size + state_size + 2)
    parameters.check((directions * rows * (width + state_size + 2) + (num_layers - 1) * deeper,))
    widths = [width] + [directions * state_size] * (num_layers - 1)
    vector = _Vector(g, parameters, kind)
    weights = [[(vector.take(rows, w, order), vector.take(rows, state_size, order)) for _ in range(directions)] for w in widths]
    biases = [[(vector.take(rows, None, order), vector.take(rows, None, order)) for _ in range(directions)] for _ in widths]
    firsts = _states(g, data, state, num_layers, directions, state_size)
    cells = _states(g, data, state_cell, num_layers, directions, state_size) if mode == "lstm" else None
    lengths = g.cast(sequence_length, np.int32) if use_sequence_length and sequence_length is not None else None
    if use_sequence_length and lengths is None:
        raise g.error("the input 'sequence_length' is missing, and use_sequence_length is set")
    op_type = {"lstm": "LSTM", "gru": "GRU"}.get(mode, "RNN")
    x = data
    lasts: list[ir.Value] = []
    last_cells: list[ir.Value] = []
    for layer in range(num_layers):
        name = parameters.name
        w = _joined(g, [pair[0] for pair in weights[layer]], 0, f"weight_ih_l{layer}", name)
        r = _joined(g, [pair[1] for pair in weights[layer]], 0, f"weight_hh_l{layer}", name)
        both = [part for pair in biases[layer] for part in pair]
        if all(isinstance(part, np.ndarray) for part in both):
            stacked = np.concatenate([np.concatenate(pair, axis=1) for pair in biases[layer]], axis=0)  # type: ignore[arg-type]
            b = g.param(g.free_role(f"bias_l{layer}"), stacked, original=name)
        else:
            b = _joined(g, [g.emit("Concat", *pair, axis=1) for pair in biases[layer]], 0, "", name)
        states = [firsts[layer]] + ([cells[layer]] if cells else [])
        results = g.emit_all(
            op_type,
            x,
            w,
            r,
            b,
            lengths,
            *states,
            outputs=1 + len(states),
            hidden_size=state_size,
            direction="bidirectional" if bidirectional else None,
            activations=["Relu"] * directions if mode == "rnn_relu" else None,
            linear_before_reset=1 if mode == "gru" else None,
        )
        lasts.append(results[1])
        last_cells += results[2:]
        y = results[0]  # (T, directions, N, H)
        if directions == 1:
            x = g.emit("Squeeze", y, [1])
        else:
            x = g.reshape(g.emit("Transpose", y, perm=[0, 2, 1, 3]), [*g.shape(x)[:2], directions * state_size])
    if not state_outputs:
        return x
    outputs = {"output": x, "state_output": _stacked(g, lasts)}
    return {**outputs, "statecell_output": _stacked(g, last_cells)} if mode == "lstm" else outputs


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
