"""Recurrent layers that run whole sequences: as ONNX's LSTM, GRU and RNN, or as a loop where these have no form for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Array, Module, Net, lowers
from converters.readers.torch7.modules.masking import masks_rows, stored_mask, with_mask, zero_rows
from converters.readers.torch7.references import Reference, Tensors

_ORDERS = {"LSTM": "iofc", "GRU": "zrh", "RNN": "h"}
"""ONNX's order of gates."""


@dataclass
class Layer:
    """One layer in one direction. op: ONNX's operator. w, r, b: matrices (H, in), (H, H) and biases (H) by ONNX's names of the gates.

    rb: biases of the recurrent matrices, where there are any. p: peepholes i, o, f. late_reset: a GRU's reset comes after the matrix.
    """

    op: str
    w: Mapping[str, Array]
    r: Mapping[str, Array]
    b: Mapping[str, Array]
    rb: Mapping[str, Array] = field(default_factory=dict)
    p: Mapping[str, Array] | None = None
    late_reset: bool = False
    relu: bool = False

    @property
    def size(self) -> int:
        return int(next(iter(self.r.values())).shape[0])


def run_layers(
    net: Net,
    module: Module,
    x: ir.Value,
    layers: Sequence[Layer],
    *,
    role: str = "l0",
    backward: bool = False,
    first: Sequence[ir.Value | None] = (None, None),
) -> tuple[ir.Value, list[ir.Value]]:
    """(T, N, D) -> (T, N, H of all directions), and the last states; `layers` are the directions of one layer. first: states (D, N, H)."""
    g = net.g
    op, size = layers[0].op, layers[0].size
    if g.rank(x) != 3:
        raise module.error(f"its input must be a sequence of three dimensions, but has shape {g.shape(x)}")
    width = layers[0].w[_ORDERS[op][0]].shape[1]
    if g.fixed(x, 2, 3) != (width,):
        raise module.error(f"it takes {width} features, but its input has shape {g.shape(x)}")
    weights = [_stacked(module, layers, name) for name in ("w", "r")]
    bias = np.stack([np.concatenate([_joined(one, one.b), _joined(one, one.rb)]) for one in layers]).astype(module.dtype)
    values = [
        module.param(f"{name}_{role}", array) for name, array in zip(("weight_ih", "weight_hh", "bias"), [*weights, bias], strict=True)
    ]
    peepholes = None
    if layers[0].p is not None:
        stacked = np.stack([np.concatenate([one.p[gate] for gate in "iof"]) for one in layers if one.p is not None])
        peepholes = module.param(f"peephole_{role}", stacked.astype(module.dtype))
    states = list(first[: 2 if op == "LSTM" else 1])
    results = g.emit_all(
        op,
        x,
        *values,
        None,
        *states,
        *([peepholes] if op == "LSTM" else []),
        outputs=3 if op == "LSTM" else 2,
        hidden_size=size,
        direction="bidirectional" if len(layers) == 2 else "reverse" if backward else None,
        activations=["Relu"] * len(layers) if layers[0].relu else None,
        linear_before_reset=1 if layers[0].late_reset else None,
    )
    if len(layers) == 1:
        return g.emit("Squeeze", results[0], [1]), list(results[1:])
    joined = g.emit("Transpose", results[0], perm=[0, 2, 1, 3])
    return g.reshape(joined, [*g.extents(joined, 0, 2), 2 * size]), list(results[1:])


def _stacked(module: Module, layers: Sequence[Layer], name: str) -> Array:
    made: Array = np.stack([np.concatenate([getattr(one, name)[gate] for gate in _ORDERS[one.op]]) for one in layers])
    return made.astype(module.dtype)


def _joined(layer: Layer, parts: Mapping[str, Array]) -> Array:
    nothing = np.zeros(layer.size, next(iter(layer.r.values())).dtype)
    made: Array = np.concatenate([parts.get(gate, nothing) for gate in _ORDERS[layer.op]])
    return made


# -- one matrix for input and state: rnn's SeqLSTM and SeqGRU, torch-rnn -----------------------------------------------


def _gates(matrix: Array, order: str) -> dict[str, Array]:
    """(in, gates H) -> {gate: (H, in)}; for a vector {gate: (H)}."""
    parts = np.split(matrix, len(order), axis=-1)
    return {gate: np.ascontiguousarray(part.T) for gate, part in zip(order, parts, strict=True)}


def one_matrix(module: Module, op: str, order: str, width: int, size: int) -> Layer:
    """The layer of a weight (in + H, gates H), the input's rows first."""
    count = len(order)
    weight = module.tensor("weight", width + size, count * size)
    bias = module.optional_tensor("bias")
    if bias is not None and bias.shape != (count * size,):
        raise module.error(f"field 'bias' has shape {bias.shape}, expected ({count * size},)")
    return Layer(op, _gates(weight[:width], order), _gates(weight[width:], order), {} if bias is None else _gates(bias, order))


@dataclass
class _Given:
    """What a layer takes: the sequence, time first, and the states that stand before it in a table."""

    x: ir.Value
    states: list[ir.Value]
    table: bool


def _given(net: Net, module: Module, x: Tensors, most: int, batch_first: bool) -> _Given:
    """{h0, x}, {c0, h0, x} or x. The states are answered as h0, c0."""
    items = [x] if isinstance(x, Reference) else module.table(x)
    if len(items) > most + 1:
        raise module.error(f"its input must be a sequence, or a table of at most {most} states and a sequence")
    tensors = [module.one_reference(item).get() for item in items]
    sequence = tensors[-1]
    if net.g.rank(sequence) != 3:
        raise module.error(f"its input must be a sequence of three dimensions, but has shape {net.g.shape(sequence)}")
    if batch_first:
        sequence = net.g.emit("Transpose", sequence, perm=[1, 0, 2])
    return _Given(sequence, tensors[-2::-1] if len(tensors) > 1 else [], not isinstance(x, Reference))


def _as_given(net: Net, y: ir.Value, batch_first: bool) -> Reference:
    return Reference(net.g.emit("Transpose", y, perm=[1, 0, 2]) if batch_first else y)


def _first_states(net: Net, module: Module, x: ir.Value, given: Sequence[ir.Value], sizes: Sequence[int]) -> list[ir.Value | None]:
    """h0 and c0 as (1, N, H): those that are given, or what an option makes inputs of; None for zeros."""
    g = net.g
    batch = g.shape(x)[1]
    states: list[ir.Value | None] = []
    for position, size in enumerate(sizes):
        state = given[position] if position < len(given) else net.first_input(module, [batch, size], x, "hc"[position])
        if state is not None and (g.rank(state) != 2 or g.shape(state)[1] != size):
            raise module.error(f"a first state (N, {size}) is needed, but it has shape {g.shape(state)}")
        states.append(None if state is None else g.emit("Unsqueeze", state, [0]))
    return states


def _last_states(net: Net, module: Module, states: Sequence[ir.Value], given: int) -> None:
    """Hands on the last states, where an option makes outputs of them; of those that are given none."""
    for letter, state in list(zip("hc", states, strict=False))[given:]:
        net.last_output(module, state, letter, squeeze=True)


def _whole(net: Net, module: Module, x: Tensors, layer: Layer, *, batch_first: bool, backward: bool = False) -> Tensors:
    """A layer over the sequence that it is given, with its first states."""
    sizes = [layer.size] * (2 if layer.op == "LSTM" else 1)
    given = _given(net, module, x, len(sizes), batch_first)
    firsts = _first_states(net, module, given.x, given.states, sizes)
    y, lasts = run_layers(net, module, given.x, [layer], first=firsts, backward=backward)
    _last_states(net, module, lasts, len(given.states))
    return _as_given(net, y, batch_first)


def check_kept(net: Net, module: Module, remembers: bool, *fields: str, evaluated: bool = True) -> None:
    """Refuses states that the file holds and the next forward would go on from, unless they are inputs. fields: those that hold them."""
    if net.states_are_inputs:
        return
    applied = [name for name in ("userPrevOutput", "userPrevCell", "startState", "hiddenInput", "cellInput") if _holds(module.get(name))]
    if applied:
        raise module.source.error(f"field '{applied[0]}' holds a first state", "take it out, or make states inputs: --states")
    firsts = [module.get(name) for name in ("h0", "c0") if name in module]
    forgotten = bool(firsts) and not any(_holds(first) for first in firsts)  # as forget() and resetStates() leave it: zeros come next
    evaluated = evaluated and module.get("train") is not False
    if remembers and not forgotten and not evaluated and any(_holds(module.get(name)) for name in fields):
        raise module.source.error(
            f"it was saved with the state of its last forward (field '{fields[0]}'), from which Torch7 would go on",
            "save it after forget(), resetStates() or clearState(), or make states inputs: --states",
        )
    if remembers:
        net.g.warn(STARTS_ANEW)


STARTS_ANEW = "it goes on where its last forward ended; converted, each sequence starts from zeros (--states makes its state an input)"


def _holds(value: object) -> bool:
    if isinstance(value, t7.Tensor):
        return bool(value.elements)
    return isinstance(value, t7.Table) and any(_holds(item) for _, item in value.items())


def remembers(module: Module) -> bool:
    """Whether rnn's module goes on where the last forward ended, in evaluate()."""
    return module.get("_remember") in ("both", "eval")


def _size(module: Module, *names: str) -> int:
    """The first of the fields that is there."""
    for name in names[:-1]:
        if name in module:
            return module.integer(name, least=1)
    return module.integer(names[-1], least=1)


@lowers("nn.SeqLSTM", "nn.SeqLSTMP", on_tensors=True, time_first=True)
def seq_lstm(net: Net, module: Module, x: Tensors) -> Tensors:
    """LSTM over (T, N, D), or (N, T, D) with batchfirst: one weight (D + H, 4H), gates i, f, o, g; weightO projects the output.

    Source: rnn/SeqLSTM.lua, rnn/SeqLSTMP.lua.
    """
    width, hidden, size = _size(module, "inputsize"), _size(module, "hiddensize", "outputsize"), _size(module, "outputsize")
    check_kept(net, module, remembers(module), "cell")
    projects = "weightO" in module
    if not projects and hidden != size:
        raise module.error(f"hiddensize {hidden} and outputsize {size} differ, but there is no weightO")
    batch_first = module.flag("batchfirst")
    if not projects and not _is_masked(module):
        return _whole(net, module, x, one_matrix(module, "LSTM", "ifoc", width, size), batch_first=batch_first)
    weight = module.tensor("weight", width + size, 4 * hidden)
    matrix = module.param("weight", weight)
    bias = module.param("bias", module.tensor("bias", 4 * hidden))
    output = module.param("weightO", module.tensor("weightO", hidden, size)) if projects else None
    return _stepped(net, module, x, [size, hidden], lambda x, states: lstm_step(net.g, matrix, bias, output, hidden, x, states))


def lstm_step(
    g: GraphBuilder, weight: ir.Value, bias: ir.Value | None, output: ir.Value | None, hidden: int, x: ir.Value, states: Sequence[ir.Value]
) -> list[ir.Value]:
    """One step of an LSTM whose weight (D + H, 4H) has the gates i, f, o, g. states, and what is answered: h and c, (N, H)."""
    given = g.emit("MatMul", g.emit("Concat", x, states[0], axis=1), weight)
    given = given if bias is None else g.emit("Add", given, bias)
    i, f, o, c = g.emit_all("Split", given, [hidden] * 4, outputs=4, axis=1)
    kept = g.emit("Mul", g.emit("Sigmoid", f), states[1])
    cell = g.emit("Add", kept, g.emit("Mul", g.emit("Sigmoid", i), g.emit("Tanh", c)))
    h = g.emit("Mul", g.emit("Sigmoid", o), g.emit("Tanh", cell))
    return [h if output is None else g.emit("MatMul", h, output), cell]


def gru_parts(module: Module, width: int, size: int) -> list[ir.Value]:
    """Parameters of a weight (D + H, 3H), r, u, n: that of the input, those of the state's gates and of its new value, and the bias."""
    weight = module.tensor("weight", width + size, 3 * size)
    pieces = {"weight_ih": weight[:width], "weight_gates": weight[width:, : 2 * size], "weight_new": weight[width:, 2 * size :]}
    return [module.param(name, piece) for name, piece in (*pieces.items(), ("bias", module.tensor("bias", 3 * size)))]


def gru_step(g: GraphBuilder, parts: Sequence[ir.Value], size: int, x: ir.Value, h: ir.Value) -> ir.Value:
    """One step of a GRU whose reset comes before the matrix, with its `gru_parts`."""
    input_weight, gates, new, bias = parts
    given = g.emit("Add", g.emit("MatMul", x, input_weight), bias)
    early, late = g.emit_all("Split", given, [2 * size, size], outputs=2, axis=1)
    r, u = g.emit_all("Split", g.emit("Sigmoid", g.emit("Add", early, g.emit("MatMul", h, gates))), [size] * 2, outputs=2, axis=1)
    n = g.emit("Tanh", g.emit("Add", late, g.emit("MatMul", g.emit("Mul", r, h), new)))
    return g.emit("Add", n, g.emit("Mul", u, g.emit("Sub", h, n)))


def _is_masked(module: Module) -> bool:
    """Whether some rows have to be zeroed."""
    return module.flag("maskzero") and (masks_rows(module) or stored_mask(module) is not None)


def _stepped(
    net: Net, module: Module, x: Tensors, sizes: Sequence[int], step: Callable[[ir.Value, Sequence[ir.Value]], list[ir.Value]]
) -> Tensors:
    """A layer that runs step by step; a row of zeros in x zeroes the states where the module says `maskzero`."""
    g = net.g
    batch_first = module.flag("batchfirst")
    given = _given(net, module, x, len(sizes), batch_first)
    batch = g.shape(given.x)[1]
    firsts: list[Tensors] = []
    for position, size in enumerate(sizes):
        state = given.states[position] if position < len(given.states) else net.first_input(module, [batch, size], given.x, "hc"[position])
        firsts.append(Reference(g.zeros([batch, size], given.x) if state is None else state))
    key = id(module.object)
    sequences: list[Tensors] = [Reference(given.x)]
    mask = stored_mask(module) if module.flag("maskzero") and not masks_rows(module) else None
    if mask is not None:
        if g.fixed(given.x, 0, 2) != mask.shape:
            raise module.error(f"its zeroMask of shape {mask.shape} was set for another sequence than {g.shape(given.x)}")
        sequences.append(Reference(g.const(mask, role="zero_mask")))
    with net.loop(sequences, states={key: firsts}) as loop:
        item, *marks = (module.one_reference(entry).get() for entry in module.table(loop.items))
        before = [module.one_reference(held).get() for held in module.table(loop.states[key])]
        after = step(item, before)
        if marks:
            after = [with_mask(g, marks[0], state) for state in after]
        elif module.flag("maskzero") and masks_rows(module):
            after = [zero_rows(g, item, state) for state in after]
        loop.states[key] = [Reference(state) for state in after]
        loop.leave(Reference(after[0]))
    y = loop.finish()
    for letter, last in list(zip("hc", module.table(loop.states[key]), strict=False))[len(given.states) :]:
        net.last_output(module, module.one_reference(last).get(), letter)
    return _as_given(net, module.one_reference(y).get(), batch_first)


@lowers("nn.SeqGRU", on_tensors=True, time_first=True)
def seq_gru(net: Net, module: Module, x: Tensors) -> Tensors:
    """GRU over (T, N, D), or (N, T, D) with batchfirst: one weight (D + H, 3H), gates r, u, n. Source: rnn/SeqGRU.lua."""
    width, size = _size(module, "inputSize", "inputsize"), _size(module, "outputSize", "outputsize")
    check_kept(net, module, remembers(module), "_output", "output", "h0")
    if not _is_masked(module):
        return _whole(net, module, x, one_matrix(module, "GRU", "rzh", width, size), batch_first=module.flag("batchfirst"))
    parts = gru_parts(module, width, size)
    return _stepped(net, module, x, [size], lambda x, states: [gru_step(net.g, parts, size, x, states[0])])


def torch_rnn_lstm(net: Net, module: Module, x: Tensors) -> Tensors:
    """torch-rnn's LSTM over (N, T, D): one weight (D + H, 4H), gates i, f, o, g. Source: torch-rnn/LSTM.lua."""
    check_kept(net, module, module.flag("remember_states"), "cell", evaluated=False)
    layer = one_matrix(module, "LSTM", "ifoc", module.integer("input_dim", least=1), module.integer("hidden_dim", least=1))
    return _whole(net, module, x, layer, batch_first=True)


@lowers("nn.VanillaRNN", on_tensors=True)
def vanilla_rnn(net: Net, module: Module, x: Tensors) -> Tensors:
    """h = tanh(x Wx + h Wh + b) over (N, T, D), weight (D + H, H). Source: torch-rnn/VanillaRNN.lua."""
    check_kept(net, module, module.flag("remember_states"), "output", evaluated=False)
    layer = one_matrix(module, "RNN", "h", module.integer("input_dim", least=1), module.integer("hidden_dim", least=1))
    return _whole(net, module, x, layer, batch_first=True)


# -- cudnn -------------------------------------------------------------------------------------------------------------

_MODES = {"CUDNN_LSTM": ("LSTM", "ifco"), "CUDNN_GRU": ("GRU", "rzh"), "CUDNN_RNN_TANH": ("RNN", "h"), "CUDNN_RNN_RELU": ("RNN", "h")}


@lowers(
    "cudnn.RNN", "cudnn.LSTM", "cudnn.GRU", "cudnn.RNNReLU", "cudnn.RNNTanh", "cudnn.BLSTM", "cudnn.BGRU", on_tensors=True, time_first=True
)
def cudnn_rnn(net: Net, module: Module, x: Tensors) -> Tensors:
    """Layers of LSTM, GRU or RNN over (T, N, D), or (N, T, D) with batchFirst; one flat weight. Source: cudnn.torch/RNN.lua."""
    g = net.g
    check_kept(net, module, module.flag("rememberStates"), "hiddenOutput", "cellOutput", evaluated=False)
    mode = module.text("mode", "CUDNN_LSTM")
    if mode not in _MODES:
        raise module.error(f"mode {mode!r}; {', '.join(_MODES)} are known")
    if module.flag("inputPacked"):
        raise module.error("inputPacked: its sequences of several lengths lie in one tensor whose sizes only a call gives")
    batch_first = module.flag("batchFirst")
    given = _given(net, module, x, 0, batch_first)
    layers = _flat_layers(module, mode, g.fixed(given.x, 2, 3)[0])
    value = given.x
    for number, directions in enumerate(layers):
        sizes = [directions[0].size] * (2 if mode == "CUDNN_LSTM" else 1)
        firsts = _cudnn_states(net, module, value, len(directions), sizes, number)
        value, lasts = run_layers(net, module, value, directions, role=f"l{number}", first=firsts)
        for letter, state in zip("hc", lasts, strict=False):
            net.last_output(module, state, f"{letter}{number + 1}")
    return _as_given(net, value, batch_first)


def _cudnn_states(net: Net, module: Module, x: ir.Value, directions: int, sizes: Sequence[int], number: int) -> list[ir.Value | None]:
    """(directions, N, H) for each state of a layer, where an option makes inputs of them."""
    batch = net.g.shape(x)[1]
    return [net.first_input(module, [directions, batch, size], x, f"{'hc'[n]}{number + 1}") for n, size in enumerate(sizes)]


def _flat_layers(module: Module, mode: str, width: int) -> list[list[Layer]]:
    """The layers and their directions out of the flat weight: all matrices of layer 1 forward, backward, layer 2 ..., then all biases."""
    op, order = _MODES[mode]
    size, count = module.integer("hiddenSize", least=1), module.integer("numLayers", 1, least=1)
    directions = 2 if module.get("bidirectional") == "CUDNN_BIDIRECTIONAL" or module.get("numDirections") == 2.0 else 1
    skips = module.get("inputMode") == "CUDNN_SKIP_INPUT"
    gates = len(order)
    if skips and width != size:
        raise module.error(f"inputMode CUDNN_SKIP_INPUT adds {width} features to {size} units")
    weight = module.tensor("weight").reshape(-1)
    widths = [width] + [directions * size] * (count - 1)
    matrices = sum(gates * size * (size + (0 if skips and n == 0 else w)) for n, w in enumerate(widths)) * directions
    biases = 2 * gates * size * directions * count
    short = biases - (gates * size * directions if skips else 0)
    if weight.size not in {matrices + biases, matrices + short}:
        raise module.error(f"field 'weight' has {weight.size} elements; {matrices} of matrices and {biases} of biases are due")
    has_input_bias = weight.size == matrices + biases
    at = 0

    def take(*shape: int) -> Array:
        nonlocal at
        start, at = at, at + int(np.prod(shape))
        return weight[start:at].reshape(shape)

    made: list[list[Layer]] = []
    for number, wide in enumerate(widths):
        made.append([])
        for _ in range(directions):
            first = skips and number == 0
            w = {gate: np.eye(size, dtype=weight.dtype) for gate in order} if first else {gate: take(size, wide) for gate in order}
            made[-1].append(
                Layer(op, w, {gate: take(size, size) for gate in order}, {}, late_reset=op == "GRU", relu=mode.endswith("RELU"))
            )
    for number, layer in enumerate(made):
        for one in layer:
            one.b = {gate: take(size) for gate in order} if has_input_bias or number or not skips else {}
            one.rb = {gate: take(size) for gate in order}
    return made
