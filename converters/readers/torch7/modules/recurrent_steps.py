"""The rnn package's recurrent steps, each with its state: LSTM, GRU, Recurrent, Recurrence ..."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from converters.graph.builder import Dim
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Module, Net, Steps, lowers
from converters.readers.torch7.modules.masking import masks_rows, stored_mask, zero_rows
from converters.readers.torch7.modules.recurrent import check_kept, gru_parts, gru_step, lstm_step, torch_rnn_lstm
from converters.readers.torch7.modules.sequencer import step_module
from converters.readers.torch7.references import Reference, Tensors, first_tensor


def _begin(net: Net, module: Module) -> None:
    """Says what one step alone means; refuses the states that the file applies."""
    if net.states_are_inputs:
        return
    check_kept(net, module, False)
    if not net.in_sequence:
        step = module.get("step")
        if isinstance(step, float) and step > 1:  # training or not: only what runs sequences forgets in evaluate()
            raise module.source.error(
                f"it was saved at step {step:g}, from whose state Torch7 would go on", "save it after forget(), or --states"
            )
        net.g.warn("it runs one step for each forward; this is the first one, from zeros (--states makes its state an input)")


def _zeros_like(net: Net, module: Module, x: Tensors, *sizes: int) -> list[list[Dim]]:
    """Shapes of states for a step's input, a vector or a batch of them."""
    first = first_tensor(x).get()
    rank = net.g.rank(first)
    return [[*net.g.shape(first)[: rank - 1], size] for size in sizes]


def _step(net: Net, module: Module, x: Tensors, sizes: Sequence[int]) -> Steps:
    """modules[1]{x, states ...}, whose outputs are the next states; the first one is the step's."""
    _begin(net, module)
    key = id(module.object)
    like = first_tensor(x).get()
    before = module.table(net.memory.zeros(key, _zeros_like(net, module, x, *sizes), like, module.path))
    after = yield net.call(module, step_module(module), [x, *before], 0)
    states = [after] if isinstance(after, Reference) else module.table(after)
    if len(states) != len(sizes):
        raise module.error(f"its step answers {len(states)} tensors, expected {len(sizes)}")
    net.memory.states[key] = [Reference(module.one_reference(state).get()) for state in states]
    return states[0]


def _outputs(module: Module) -> int:
    return module.integer("outputSize" if "outputSize" in module else "outputsize", least=1)


@lowers("nn.LSTM", on_tensors=True)
def lstm(net: Net, module: Module, x: Tensors) -> Tensors | Steps:
    """rnn's LSTM, one step of it, or torch-rnn's over (N, T, D): told by their fields. Source: rnn/LSTM.lua, torch-rnn/LSTM.lua."""
    return torch_rnn_lstm(net, module, x) if "weight" in module else _lstm_of_rnn(net, module, x)


def _lstm_of_rnn(net: Net, module: Module, x: Tensors) -> Steps:
    """One step of rnn's LSTM, with peepholes where its gates have them. Source: rnn/LSTM.lua, rnn/FastLSTM.lua."""
    return (yield from _step(net, module, x, [_outputs(module)] * 2))


@lowers("nn.FastLSTM", on_tensors=True)
def fast_lstm(net: Net, module: Module, x: Tensors) -> Steps:
    """One step of an LSTM whose gates come out of one matrix. Source: rnn/FastLSTM.lua."""
    return (yield from _step(net, module, x, [_outputs(module)] * 2))


@lowers("nn.RecLSTM", on_tensors=True)
def rec_lstm(net: Net, module: Module, x: Tensors) -> Steps:
    """One step of rnn 2.7's LSTM. Source: rnn/RecLSTM.lua."""
    hidden = module.integer("hiddensize", _outputs(module), least=1)
    return (yield from _step(net, module, x, [_outputs(module), hidden]))


@lowers("nn.GRU", "nn.MuFuRu", "nn.RecGRU", on_tensors=True)
def one_state(net: Net, module: Module, x: Tensors) -> Steps:
    """One step of a GRU, or of a unit that mixes operations on its state. Source: rnn/GRU.lua, rnn/MuFuRu.lua, rnn/RecGRU.lua."""
    return (yield from _step(net, module, x, [_outputs(module)]))


@lowers("nn.Recurrent", on_tensors=True, first_differs=True)
def recurrent(net: Net, module: Module, x: Tensors) -> Steps:
    """initialModule at the first step, recurrentModule{x, last output} at the later ones. Source: rnn/Recurrent.lua."""
    if net.states_are_inputs:
        raise module.error("its first step differs from the others, so that its state can't be an input (--states)")
    _begin(net, module)
    key = id(module.object)
    before = net.memory.get(key)
    if before is None:
        out = yield net.call(module, module.module("initialModule"), x, "initialModule")
    else:
        out = yield net.call(module, module.module("recurrentModule"), [x, before], "recurrentModule")
    net.memory.states[key] = out
    return out


@lowers("nn.Recurrence", "nn.LinearRNN", "nn.LookupRNN", on_tensors=True)
def recurrence(net: Net, module: Module, x: Tensors) -> Steps:
    """Its module{x, last output}, of zeros at the first step. Source: rnn/Recurrence.lua, rnn/LinearRNN.lua, rnn/LookupRNN.lua."""
    _begin(net, module)
    key = id(module.object)
    like = first_tensor(x).get()
    dims = module.integer("nInputDim", least=0)
    rank = net.g.rank(like)
    if rank not in (dims, dims + 1):
        raise module.error(f"it takes {dims} dimensions and a batch, but its input has shape {net.g.shape(like)}")
    lead = list(net.g.shape(like)[: rank - dims])
    sizes, is_table = _sizes(module)
    state = net.memory.zeros(key, [[*lead, *size] for size in sizes], like, module.path)
    before = state if is_table else module.table(state)[0]
    out = yield net.call(module, step_module(module), [x, before], 0)
    net.memory.states[key] = out if is_table else [module.one_reference(out)]
    return out


def _sizes(module: Module) -> tuple[list[tuple[int, ...]], bool]:
    """The sizes of the state's tensors, and whether it is a table of them."""
    value = module.get("outputSize", module.get("outputsize"))
    if isinstance(value, float):
        return [(int(value),)], False
    if isinstance(value, t7.Table) and any(isinstance(item, t7.Table | t7.Storage) for item in value.array()):
        entries = [
            [int(n) for n in (item.array() if isinstance(item, t7.Table) else item.array)]
            for item in value.array()
            if isinstance(item, t7.Table | t7.Storage)
        ]
        if len(entries) != len(value.array()):
            raise module.error("field 'outputSize' must be sizes, or a table of sizes")
        return [tuple(entry) for entry in entries], True
    return [module.sizes("outputSize")], False


@lowers("nn.StepLSTM", on_tensors=True)
def step_lstm(net: Net, module: Module, x: Tensors) -> Tensors:
    """{x, h, c} -> {h, c}: one weight (D + H, 4H), gates i, f, o, g; weightO projects h. Source: rnn/StepLSTM.lua."""
    size = module.integer("outputsize", least=1)
    hidden, width = module.integer("hiddensize", size, least=1), module.integer("inputsize", least=1)
    weight = module.param("weight", module.tensor("weight", width + size, 4 * hidden))
    bias = module.param("bias", module.tensor("bias", 4 * hidden))
    output = module.param("weightO", module.tensor("weightO", hidden, size)) if "weightO" in module else None
    return _stepping(net, module, x, 2, lambda x, states: lstm_step(net.g, weight, bias, output, hidden, x, states))


@lowers("nn.StepGRU", on_tensors=True)
def step_gru(net: Net, module: Module, x: Tensors) -> Tensors:
    """{x, h} -> h: one weight (D + H, 3H), gates r, u, n. Source: rnn/StepGRU.lua."""
    width, size = module.integer("inputsize", least=1), module.integer("outputsize", least=1)
    parts = gru_parts(module, width, size)
    return module.table(_stepping(net, module, x, 1, lambda x, states: [gru_step(net.g, parts, size, x, states[0])]))[0]


def _stepping(net: Net, module: Module, x: Tensors, count: int, step: Callable[[ir.Value, Sequence[ir.Value]], list[ir.Value]]) -> Tensors:
    """A step for {x, states ...} of vectors or matrices."""
    g = net.g
    items = [module.one_reference(item).get() for item in module.table(x)]
    if len(items) != count + 1:
        raise module.error(f"its input must be a table of a step and {count} states")
    vector = g.rank(items[0]) == 1
    rows = [g.emit("Unsqueeze", item, [0]) for item in items] if vector else items
    after = step(rows[0], rows[1:])
    if module.flag("maskzero") and masks_rows(module):
        after = [zero_rows(g, rows[0], state) for state in after]
    elif module.flag("maskzero") and stored_mask(module) is not None:
        raise module.source.error("its zeroMask was set by a call for the steps of one batch", "save it after setZeroMask(false)")
    return [Reference(g.emit("Squeeze", state, [0]) if vector else state) for state in after]
