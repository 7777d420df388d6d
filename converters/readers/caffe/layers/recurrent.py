"""Recurrent layers, unrolled over their time steps.

Caffe keeps the state between two runs unless `cont` is 0 at the first step; a graph has no memory, so that it starts from 0
(or from the state that expose_hidden makes an input) every time.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import product
from converters.readers.caffe.registry import lowers

STEP_LIMIT = 1024
"""More time steps than this aren't unrolled."""


class _Sequence:
    """What LSTM and RNN have in common: the inputs step by step, already multiplied by their weights."""

    def __init__(self, g: GraphBuilder, layer: Layer, bottoms: Sequence[ir.Value], gates: int, states: int, others: int) -> None:
        p = layer.params.recurrent_param
        if p.num_output < 1:
            raise layer.error("num_output is 0 or missing")
        x, cont, *more = bottoms
        self.g, self.layer, self.size = g, layer, p.num_output
        exposed = states if p.expose_hidden else 0
        if len(more) not in (exposed, exposed + 1):
            raise layer.error(f"has {len(bottoms)} bottoms; it takes {2 + exposed}, or {3 + exposed} with a static input")
        dims = g.fixed(x)
        if len(dims) < 2 or g.fixed(cont) != dims[:2]:
            raise layer.error(f"its bottoms must be (T, N, ...) and (T, N), but they are {dims} and {g.shape(cont)}")
        self.steps, self.streams = dims[:2]
        if self.steps > STEP_LIMIT:
            raise layer.error(f"{self.steps} time steps; at most {STEP_LIMIT} can be unrolled")
        static = more.pop(0) if len(more) > exposed else None
        layer.weights.expect(2 + others + (static is not None))
        width = gates * self.size
        matrix, length = g.flatten(x, 2), product(dims[2:])
        weight = layer.weights.value(g, 0, "weight_ih", (width, length), p.weight_filler)
        bias = layer.weights.value(g, 1, "bias_ih", (width,), p.bias_filler)
        inputs = g.reshape(g.emit("Gemm", matrix, weight, bias, transB=1), [self.steps, self.streams, width])
        self.next_blob = 2
        if static is not None:
            rest = product(g.fixed(static, 1))
            flat = g.reshape(static, [self.streams, rest])
            known = layer.weights.value(g, 2, "weight_static", (width, rest), p.weight_filler)
            inputs = g.emit("Add", inputs, g.emit("Gemm", flat, known, transB=1))
            self.next_blob = 3
        self.inputs = self._steps(inputs)
        self.cont = self._steps(g.reshape(cont, [self.steps, self.streams, 1]))
        self.state = [g.reshape(value, [self.streams, self.size]) for value in more]

    def _steps(self, value: ir.Value) -> list[ir.Value]:
        """A (T, N, K) value as T values (N, K)."""
        if self.steps == 1:
            return [self.g.emit("Squeeze", value, [0])]
        parts = self.g.emit_all("Split", value, [1] * self.steps, axis=0, outputs=self.steps)
        return [self.g.emit("Squeeze", part, [0]) for part in parts]

    def matrix(self, role: str, rows: int) -> ir.Value:
        position, self.next_blob = self.next_blob, self.next_blob + 1
        return self.layer.weights.value(self.g, position, role, (rows, self.size), self.layer.params.recurrent_param.weight_filler)

    def stack(self, values: Sequence[ir.Value]) -> ir.Value:
        """T values (N, K) as (T, N, K)."""
        apart = [self.g.emit("Unsqueeze", value, [0]) for value in values]
        return apart[0] if len(apart) == 1 else self.g.emit("Concat", *apart, axis=0)


@lowers("LSTM", blobs=("weight_ih", "bias_ih", "weight_static?", "weight_hh"))
def lstm(g: GraphBuilder, layer: Layer, x: ir.Value, cont: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Long short-term memory with gates i, f, o, g.

    x: (T, N, ...), cont: (T, N), a static input (N, ...), the state (1, N, D) where expose_hidden makes it an input; to (T, N, D).
    Source: caffe/layers/recurrent_layer.cpp, lstm_layer.cpp, lstm_unit_layer.cpp.
    """
    run = _Sequence(g, layer, [x, cont, *more], gates=4, states=2, others=1)
    recurrent = run.matrix("weight_hh", 4 * run.size)
    h, c = run.state or (None, None)
    outputs = []
    for step in range(run.steps):
        gates = run.inputs[step]
        if h is not None:
            gates = g.emit("Add", g.emit("Gemm", g.emit("Mul", h, run.cont[step]), recurrent, transB=1), gates)
        i, f, o, new = g.emit_all("Split", gates, [run.size] * 4, axis=1, outputs=4)
        cell = g.emit("Mul", g.emit("Sigmoid", i), g.emit("Tanh", new))
        if c is not None:
            cell = g.emit("Add", g.emit("Mul", g.emit("Mul", g.emit("Sigmoid", f), run.cont[step]), c), cell)
        c = cell
        h = g.emit("Mul", g.emit("Sigmoid", o), g.emit("Tanh", c))
        outputs.append(h)
    exposed = [run.stack([state]) for state in (h, c) if state is not None] if len(layer.tops) > 1 else []
    return [run.stack(outputs), *exposed]


@lowers("RNN", blobs=("weight_ih", "bias_ih", "weight_static?", "weight_hh", "weight_ho", "bias_ho"))
def rnn(g: GraphBuilder, layer: Layer, x: ir.Value, cont: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Simple recurrent network: h = tanh(W_hh h + W_xh x + b), o = tanh(W_ho h + b_o).

    Shapes as for LSTM. Source: caffe/layers/recurrent_layer.cpp, rnn_layer.cpp.
    """
    run = _Sequence(g, layer, [x, cont, *more], gates=1, states=1, others=3)
    recurrent = run.matrix("weight_hh", run.size)
    outward = run.matrix("weight_ho", run.size)
    bias = layer.weights.value(g, run.next_blob, "bias_ho", (run.size,), layer.params.recurrent_param.bias_filler)
    h = run.state[0] if run.state else None
    outputs = []
    for step in range(run.steps):
        total = run.inputs[step]
        if h is not None:
            total = g.emit("Add", g.emit("Gemm", g.emit("Mul", h, run.cont[step]), recurrent, transB=1), total)
        h = g.emit("Tanh", total)
        outputs.append(g.emit("Tanh", g.emit("Gemm", h, outward, bias, transB=1)))
    exposed = [run.stack([h])] if len(layer.tops) > 1 and h is not None else []
    return [run.stack(outputs), *exposed]


@lowers("LSTMUnit")
def lstm_unit(g: GraphBuilder, layer: Layer, c: ir.Value, gates: ir.Value, cont: ir.Value) -> list[ir.Value]:
    """One step of an LSTM: its state and output from the state before and gates i, f, o, g.

    c: (1, N, D), gates: (1, N, 4 D), cont: (1, N); to two of (1, N, D). Source: caffe/layers/lstm_unit_layer.cpp.
    """
    _, streams, size = g.fixed(c) if g.rank(c) == 3 else (0, 0, 0)
    if g.fixed(c)[:1] != (1,) or g.fixed(gates) != (1, streams, 4 * size) or g.fixed(cont) != (1, streams):
        raise layer.error(f"its bottoms must be (1, N, D), (1, N, 4 D) and (1, N), not {g.shape(c)}, {g.shape(gates)}, {g.shape(cont)}")
    i, f, o, new = g.emit_all("Split", gates, [size] * 4, axis=2, outputs=4)
    kept = g.emit("Mul", g.emit("Mul", g.emit("Sigmoid", f), g.reshape(cont, [1, streams, 1])), c)
    state = g.emit("Add", kept, g.emit("Mul", g.emit("Sigmoid", i), g.emit("Tanh", new)))
    return [state, g.emit("Mul", g.emit("Sigmoid", o), g.emit("Tanh", state))]
