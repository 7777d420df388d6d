"""Layers of text recognition: other orders of axes and time, LSTMs over whole sequences, decoding."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import canonical_axis, known
from converters.readers.caffe.registry import lowers

FAR = 2**31 - 1


@lowers("Transpose")
def transpose(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Axes in another order. x: any shape. Source: caffe_ocr's and CTPN's transpose_layer.cpp."""
    order = list(layer.params.transpose_param.dim)
    if sorted(order) != list(range(g.rank(x))):
        raise layer.error(f"dim {order} must name each of the {g.rank(x)} axes of its bottom once")
    return g.emit("Transpose", x, perm=order) if order != sorted(order) else x


@lowers("Reverse")
def reverse(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Turned round along an axis, time by default. x: any shape. Source: caffe_ocr's reverse_layer.cpp."""
    axis = canonical_axis(g, layer, x, layer.params.reverse_param.axis)
    return g.emit("Slice", x, [-1], [-FAR], [axis], [-1], shape=g.shape(x))


@lowers("ReverseTime")
def reverse_time(g: GraphBuilder, layer: Layer, x: ir.Value, lengths: ir.Value) -> ir.Value:
    """Each sequence turned round within its own length, what is behind it copied.

    x: (T, N, ...), lengths: (N). Source: ChWick's reverse_time_layer.cpp.
    """
    p = layer.params.reverse_time_param
    if not p.copy_remaining:
        raise layer.error("without copy_remaining what lies behind a sequence is whatever the memory holds; set copy_remaining: true")
    count = g.emit("Cast", g.reshape(lengths, [None]), to=ir.DataType.INT64)
    return g.emit("ReverseSequence", x, count, time_axis=p.time_axis, batch_axis=p.batch_axis)


@lowers("Lstm", blobs=("weight_ih", "weight_hh", "bias_ih"))
def lstm_of_sequences(g: GraphBuilder, layer: Layer, x: ir.Value, cont: ir.Value | None = None) -> ir.Value:
    """Long short-term memory over whole sequences, gates i, f, o, g, from a state of zeros; each sequence with a state of its own.

    x: (T, N, ...), cont: (T) of one sequence, 0 where the state starts anew; to (T, N, num_output).
    Source: Junhyuk Oh's lstm_layer.cu, as caffe_ocr and CTPN have it.
    """
    p = layer.params.lstm_param
    size = p.num_output
    if size < 1:
        raise layer.error("num_output is 0 or missing")
    if g.rank(x) < 3 or p.batch_size:
        raise layer.error(
            "needs a bottom (T, N, ...) and no batch_size, as CTPN and caffe_ocr have it; the release before them, which takes "
            f"(T * N, ...) and batch_size, isn't known (bottom {g.shape(x)}, batch_size {p.batch_size})"
        )
    goes_on = cont is not None and not _starts_once(cont)
    if goes_on and g.fixed(x, 1, 2) != (1,):
        raise layer.error(f"its second bottom says where sequences begin, which Caffe reads for one sequence alone, not {g.shape(x)[1]}")
    width = int(np.prod(g.fixed(x, 2)))
    flat = g.reshape(x, [Extent(x, 0), Extent(x, 1), width]) if g.rank(x) != 3 else x
    layer.weights.expect(3)
    weight = layer.weights.value(g, 0, "weight_ih", (4 * size, width), p.weight_filler)
    recurrent = layer.weights.value(g, 1, "weight_hh", (4 * size, size), p.weight_filler)
    bias = layer.weights.value(g, 2, "bias_ih", (4 * size,), p.bias_filler)
    if goes_on and cont is not None:
        return _restarted(g, flat, cont, weight, recurrent, bias)
    zeros = np.zeros((1, 4 * size), np.float32)
    both = g.emit("Concat", _onnx_gates(g, bias, size), g.const(zeros, role="bias_hh"), axis=1)
    outputs = g.emit_all("LSTM", flat, _onnx_gates(g, weight, size), _onnx_gates(g, recurrent, size), both, hidden_size=size, outputs=1)
    return g.emit("Squeeze", outputs[0], [1], shape=[*g.shape(x)[:2], size])


def _restarted(g: GraphBuilder, x: ir.Value, cont: ir.Value, weight: ir.Value, recurrent: ir.Value, bias: ir.Value) -> ir.Value:
    """One sequence (T, 1, C) whose state is multiplied by cont, T numbers, before each step."""
    size = g.fixed(recurrent, 1)[0]
    taken = g.emit("Add", g.emit("MatMul", x, g.emit("Transpose", weight, perm=[1, 0])), bias)
    back = g.emit("Transpose", recurrent, perm=[1, 0])
    goes_on = g.reshape(cont, [Extent(x, 0), 1, 1])
    none = g.const(np.zeros((1, size), np.float32), role="state")
    with g.body() as body:
        h, c = (g.body_input(name, none, g.shape(none)) for name in ("h", "c"))
        now, kept = g.body_input("gates", taken, g.shape(taken)[1:]), g.body_input("cont", goes_on, [1, 1])
        gates = g.emit("Add", now, g.emit("Mul", kept, g.emit("MatMul", h, back)))
        i, f, o, new = g.emit_all("Split", gates, [size] * 4, outputs=4, axis=1)
        old = g.emit("Mul", g.emit("Mul", kept, g.emit("Sigmoid", f)), c)
        cell = g.emit("Add", old, g.emit("Mul", g.emit("Sigmoid", i), g.emit("Tanh", new)))
        answer = g.emit("Mul", g.emit("Sigmoid", o), g.emit("Tanh", cell))
    return g.scan(body, [none, none], [taken, goes_on], [answer, cell], [answer])[1][0]


def _onnx_gates(g: GraphBuilder, value: ir.Value, size: int) -> ir.Value:
    """Rows of gates i, f, o, g in ONNX's order, i, o, f, g, with an axis of directions before them."""
    i, f, o, new = g.emit_all("Split", value, [size] * 4, outputs=4, axis=0)
    return g.emit("Unsqueeze", g.emit("Concat", i, o, f, new, axis=0), [0])


def _starts_once(cont: ir.Value) -> bool:
    """Whether a constant (T, N) is 0 in its first row and 1 in all others, as ContinuationIndicator makes it."""
    if cont.const_value is None:
        return False
    rows = cont.const_value.numpy()
    return rows.ndim >= 2 and not rows[0].any() and bool((rows[1:] == 1).all())


@lowers("CTCGreedyDecoder")
def ctc_greedy_decoder(g: GraphBuilder, layer: Layer, x: ir.Value, cont: ir.Value | None = None) -> list[ir.Value]:
    """The best class of each step, repetitions and blanks left out, -1 behind; and minus the sum of the best values.

    x: (T, N, C), cont: (T, N), whose first 0 behind the first step ends a sequence; to (N, T, 1, 1), and (N, 1, 1, 1).
    Source: ChWick's ctc_decoder_layer.cpp.
    """
    p = layer.params.ctc_decoder_param
    if g.rank(x) != 3:
        raise layer.error(f"needs a bottom (T, N, C), not {g.shape(x)}")
    if cont is None and len(layer.tops) > 1:
        raise layer.error("its second top goes with a second bottom, which says where sequences end")
    best = g.emit("Transpose", g.emit("ArgMax", x, axis=2, keepdims=0), perm=[1, 0])  # (N, T)
    blank = p.blank_index if p.blank_index >= 0 else g.fixed(x, 2)[0] - 1
    keep = g.emit("Not", g.emit("Equal", best, np.array(blank, np.int64)))
    if p.ctc_merge_repeated and p.merge_repeated:
        before = g.emit("Slice", g.emit("Pad", best, [0, 1, 0, 0], np.array(-1, np.int64)), [0], [-1], [1])
        keep = g.emit("And", keep, g.emit("Not", g.emit("Equal", best, before)))
    within = None if cont is None else _within(g, layer, x, cont)
    keep = keep if within is None else g.emit("And", keep, within)
    kept = g.emit("Cast", keep, to=ir.DataType.FLOAT)
    length = g.emit("Shape", best, start=1, end=2)
    _, order = g.emit_all("TopK", kept, length, outputs=2, axis=1, largest=1, sorted=1)
    packed = g.emit("GatherElements", g.emit("Cast", best, to=ir.DataType.FLOAT), order, axis=1)
    flags = g.emit("GatherElements", kept, order, axis=1)
    found = g.emit("Where", g.emit("Greater", flags, 0.5), packed, -1.0)
    decoded = g.emit("Unsqueeze", found, [2, 3], shape=[g.shape(x)[1], g.shape(x)[0], 1, 1])
    if within is None or len(layer.tops) < 2:
        return [decoded]
    highest = g.emit("Where", within, g.emit("Transpose", g.emit("ReduceMax", x, [2], keepdims=0), perm=[1, 0]), 0.0)
    score = g.emit("Neg", g.emit("ReduceSum", highest, [1], keepdims=1))
    return [decoded, g.emit("Unsqueeze", score, [2, 3], shape=[g.shape(x)[1], 1, 1, 1])]


def _within(g: GraphBuilder, layer: Layer, x: ir.Value, cont: ir.Value) -> ir.Value:
    """Which steps (N, T) of each sequence come before the first 0 that stands behind its first step."""
    if known(g.shape(cont)[2:]) != [1] * (g.rank(cont) - 2):
        raise layer.error(f"its second bottom must be (T, N), not {g.shape(cont)}")
    flags = g.reshape(cont, [Extent(x, 0), Extent(x, 1)])
    ends = g.emit("Cast", g.emit("Equal", g.emit("Slice", flags, [1], [FAR], [0]), 0.0), to=ir.DataType.FLOAT)
    count = g.emit("CumSum", g.emit("Pad", ends, [1, 0, 0, 0]), np.array(0, np.int64))
    return g.emit("Transpose", g.emit("Equal", count, 0.0), perm=[1, 0])


@lowers("DenseBlock")
def dense_block(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Steps of normalization, ReLU and a convolution of 3 x 3, each joined behind what it takes; with a bottleneck of 1 x 1 (use_BC).

    x: (N, C, H, W) to (N, C + steps * growthRate, H, W). Source: Tongcheng's DenseBlock_layer.cu.
    """
    p = layer.params.denseblock_param
    steps, growth, wide = p.numTransition, p.growthRate, 4 * p.growthRate
    if not 1 <= steps <= 1000 or growth < 1:
        raise layer.error(f"numTransition {steps} and growthRate {growth}; both are at least 1, steps at most 1000")
    if (p.filter_H, p.filter_W, p.pad_h, p.pad_w, p.conv_verticalStride, p.conv_horizentalStride) != (3, 3, 1, 1, 1, 1):
        raise layer.error("only kernels of 3 x 3 with pad 1 and stride 1 are known")
    layer.weights.expect((10 if p.use_BC else 5) * steps + 1)
    factor = float(layer.weights.array((10 if p.use_BC else 5) * steps, "factor", (1,))[0])
    scale = 1 / factor if factor else 0.0
    (channels,) = g.fixed(x, 1, 2)
    for step in range(steps):
        taken = channels + step * growth
        y = _normalized(g, layer, x, step, steps, 1, taken, scale, "norm")
        if p.use_BC:
            y = g.emit("Conv", y, _kernel(g, layer, 5 * steps + step, (wide, taken, 1, 1), f"{step}.bottleneck"))
            y = _normalized(g, layer, y, step, steps, 6, wide, scale, "bottleneck_norm")
        kernel = _kernel(g, layer, step, (growth, wide if p.use_BC else taken, 3, 3), f"{step}.conv")
        y = g.emit("Conv", y, kernel, pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        x = g.emit("Concat", x, y, axis=1)
    return x


def _kernel(g: GraphBuilder, layer: Layer, position: int, shape: tuple[int, ...], role: str) -> ir.Value:
    """A kernel turned round: the layer convolves in the mathematical sense."""
    stored = layer.weights.array(position, f"{role}.weight", shape)
    return g.param(f"{role}.weight", stored[:, :, ::-1, ::-1].copy())


def _normalized(
    g: GraphBuilder, layer: Layer, x: ir.Value, step: int, steps: int, first: int, channels: int, scale: float, role: str
) -> ir.Value:
    """Batch normalization with stored statistics, then ReLU. first: which of the lists of blobs has the scales."""
    values = []
    for index, name in enumerate(("weight", "bias", "running_mean", "running_var")):
        stored = layer.weights.array((first + index) * steps + step, f"{step}.{role}.{name}", (channels,))
        values.append(g.param(f"{step}.{role}.{name}", stored * np.float32(scale) if index > 1 else stored, buffer=index > 1))
    return g.emit("Relu", g.emit("BatchNormalization", x, *values, epsilon=1e-5))
