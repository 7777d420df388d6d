"""The rnn package's steps and what runs them: a sequence is ONNX's LSTM or GRU where its step is one, else a loop over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim
from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import child_path, inner_modules
from converters.readers.torch7.module import Module, Net, Steps, lowers
from converters.readers.torch7.modules.recurrent import STARTS_ANEW, check_kept, remembers, run_layers
from converters.readers.torch7.modules.shape import reshaped_view, slices
from converters.readers.torch7.modules.steps_as_layers import step_as_layer
from converters.readers.torch7.references import Reference, Tensors, first_tensor, mapped
from converters.readers.torch7.steps import copied, leaves_in_order


def sequence(net: Net, owner: Module, made: t7.TorchObject, x: Tensors, name: object, *, backward: bool = False) -> Steps:
    """A step module for each step of x, from its first state: a table of steps, or tensors whose first axis is time."""
    if isinstance(x, Reference):
        return (yield from _over_tensor(net, owner, made, x, name, backward))
    return (yield from _over_table(net, owner, made, list(x), name, backward))


def _over_table(net: Net, owner: Module, made: t7.TorchObject, x: Sequence[Tensors], name: object, backward: bool) -> Steps:
    outputs: list[Tensors] = []
    with net.steps() as memory:
        for item in reversed(x) if backward else x:
            outputs.append(copied((yield net.call(owner, made, item, name))))
    net.end(memory)
    return outputs[::-1] if backward else outputs


def _over_tensor(net: Net, owner: Module, made: t7.TorchObject, x: Reference, name: object, backward: bool) -> Steps:
    g = net.g
    if g.rank(x.get()) < 2:
        raise owner.error(f"its input must have a first axis of time, but has shape {g.shape(x.get())}")
    if any(lowers.facts(inner.typename).first_differs for inner, _ in inner_modules(made)):
        return (yield from _first_apart(net, owner, made, x, name, backward))
    if any(_overwrites(inner) for inner, _ in inner_modules(made)):
        steps = yield from _over_table(net, owner, made, unrolled(net, x), name, backward)
        return Reference(stacked(net, [owner.one_reference(step).get() for step in owner.table(steps)]))
    parts = list(_parts(net, owner, made, name))
    layers = [step_as_layer(net, part) for part, _ in parts]
    if _runs_twice(parts) or (not any(layers) and not all(_is_sample(net, part, x) for part, _ in parts)):
        return (yield from _looped(net, parts, x, backward))
    value: Tensors = x
    waiting: list[tuple[Module, Module]] = []
    for (part, holder), found in zip(parts, layers, strict=True):
        if waiting and (found is not None or lowers.facts(part.type).by_sample):
            value, waiting = (yield from _looped(net, waiting, value, backward)), []
        layer = found if isinstance(value, Reference) and g.rank(value.get()) == 3 else None
        if layer is None and not _is_sample(net, part, value):
            waiting.append((part, holder))
            continue
        if layer is not None and isinstance(value, Reference):
            check_kept(net, part, False)
            sizes = [layer.size] * (2 if layer.op == "LSTM" else 1)
            batch = g.shape(value.get())[1]
            firsts = [net.first_input(part, [batch, size], value.get(), "hc"[n]) for n, size in enumerate(sizes)]
            with g.at(part.source, part.path):
                states = [None if state is None else g.emit("Unsqueeze", state, [0]) for state in firsts]
                y, lasts = run_layers(net, part, value.get(), [layer], first=states, backward=backward)
                for letter, last in zip("hc", lasts, strict=False):
                    net.last_output(part, last, letter, squeeze=True)
            value = Reference(y)
        else:
            value = yield from _as_one_batch(net, part, holder, value)
    if waiting:
        value = yield from _looped(net, waiting, value, backward)
    return value


def _runs_twice(parts: Sequence[tuple[Module, Module]]) -> bool:
    """Whether one recurrent module is in a step twice: its second run goes on from its first one's state."""
    states = [id(inner) for part, _ in parts for inner, _ in inner_modules(part.object) if inner.get("step") is not None]
    return len(set(states)) != len(states)


def _overwrites(made: t7.TorchObject) -> bool:
    """Whether a step may read a state that it has overwritten: evaluate() runs one module for all steps, whose outputs are the states."""
    sizes = made.get("outputSize")
    return made.typename == "nn.Recurrence" and isinstance(sizes, t7.Table) and len(sizes) > 1 and not isinstance(sizes.get(1), float)


def _parts(net: Net, owner: Module, made: t7.TorchObject, name: object) -> Iterator[tuple[Module, Module]]:
    """The modules of a step, one after the other, each with the module that holds it."""
    part = net.module(made, child_path(owner.path, name))
    if made.typename in ("nn.Recursor", "nn.Sequential") and part.modules():
        for position, inner in enumerate(part.modules()):
            yield from _parts(net, part, inner, position)
    else:
        yield part, owner


def _name(part: Module) -> str:
    return part.path.rsplit(".", 1)[-1]


def _is_sample(net: Net, part: Module, x: Tensors) -> bool:
    """Whether all steps can be one batch of this module: its samples are vectors, or indices."""
    if not isinstance(x, Reference):
        return False
    return lowers.facts(part.type).by_sample and net.g.rank(x.get()) == (2 if part.type.startswith("nn.LookupTable") else 3)


def _as_one_batch(net: Net, part: Module, holder: Module, x: Tensors) -> Steps:
    """(T, N, ...) as (T N, ...), and back behind the module."""
    g = net.g
    given = part.one_reference(x)
    shape = g.shape(given.get())
    joined: Dim = shape[0] * shape[1] if isinstance(shape[0], int) and isinstance(shape[1], int) else f"{shape[0]}*{shape[1]}"
    batch = reshaped_view(g, given, [joined, *g.extents(given.get(), 2)])
    out = part.one_reference((yield net.call(holder, part.object, batch, _name(part))))
    return reshaped_view(g, out, [*g.extents(given.get(), 0, 2), *g.shape(out.get())[1:]])


def _looped(net: Net, parts: Sequence[tuple[Module, Module]], x: Tensors, backward: bool) -> Steps:
    """Modules one after the other as the body of a loop over time."""
    with net.loop(x, backward=backward) as loop:
        value = loop.items
        for part, holder in parts:
            value = yield net.call(holder, part.object, value, _name(part))
        loop.leave(value)
    out = loop.finish()
    net.end(loop)
    return out


def _first_apart(net: Net, owner: Module, made: t7.TorchObject, x: Reference, name: object, backward: bool) -> Steps:
    """The first step, and a loop over the others."""
    g = net.g
    length = g.shape(x.get())[0]
    value = x.get()
    begin, rest = ([-1], ([0], [-1])) if backward else ([0], ([1], [2**62]))
    with net.steps() as memory:
        (at,) = slices(g, x, 0, [0]) if length == 1 else [Reference(g.emit("Gather", value, g.const(begin[0]), axis=0))]
        out = copied((yield net.call(owner, made, at, name)))
    if length == 1:  # `slices` refuses another length: there is no loop that would run the later steps
        return mapped(out, lambda y: Reference(g.emit("Unsqueeze", y.get(), [0])))
    if isinstance(length, str) and g.given.get(length) == 1:
        raise g.needs_number("its first step differs from the others, of which this sequence has none")
    later = g.emit("Slice", value, *rest, [0])
    with net.loop(Reference(later), backward=backward, states={key: copied(state) for key, state in memory.states.items()}) as loop:
        loop.leave((yield net.call(owner, made, loop.items, name)))
    joined = []
    for first, others in zip(leaves_in_order(out), leaves_in_order(loop.finish()), strict=True):
        head = g.emit("Unsqueeze", first.get(), [0])
        pair = [others.get(), head] if backward else [head, others.get()]
        shape: list[Dim] = [length, *g.shape(first.get())]
        joined.append(Reference(g.emit("Concat", *pair, axis=0, shape=shape)))
    return joined[0] if isinstance(out, Reference) else list(joined)


def unrolled(net: Net, x: Reference) -> list[Tensors]:
    """The steps of a sequence of known length."""
    (length,) = net.g.fixed(x.get(), 0, 1)
    return list(slices(net.g, x, 0, range(length)))


def stacked(net: Net, items: Sequence[ir.Value]) -> ir.Value:
    """Steps as a sequence."""
    return net.g.emit("Concat", *[net.g.emit("Unsqueeze", item, [0]) for item in items], axis=0)


def step_module(module: Module) -> t7.TorchObject:
    """The module of a decorator, of whichever version of rnn or dpnn."""
    held = module.modules()
    return held[0] if held else module.module("module")


def check_forgets(net: Net, module: Module, made: t7.TorchObject) -> None:
    """Refuses a sequencer that goes on from the state that the file holds."""
    if net.states_are_inputs or not remembers(module):
        return
    net.g.warn(STARTS_ANEW)
    for inner, path in inner_modules(made) if module.get("train") is False else ():
        step = inner.get("step")
        if isinstance(step, float) and step > 1:
            raise module.source.error(
                f"it was saved with the state of its last forward ('{path or 0}' is at step {step:g}), from which Torch7 would go on",
                "save it after forget(), or make states inputs: --states",
            )


@lowers("nn.Sequencer", on_tensors=True, time_first=True)
def sequencer(net: Net, module: Module, x: Tensors) -> Steps:
    """Its module for each step of a table or of a tensor (T, N, ...). Source: rnn/Sequencer.lua."""
    made = step_module(module)
    check_forgets(net, module, made)
    return (yield from sequence(net, module, made, x, 0))


@lowers("nn.Recursor", on_tensors=True)
def recursor(net: Net, module: Module, x: Tensors) -> Steps:
    """One step of its module. Source: rnn/Recursor.lua."""
    return (yield net.call(module, step_module(module), x, 0))


@lowers("nn.Repeater", on_tensors=True)
def repeater(net: Net, module: Module, x: Tensors) -> Steps:
    """Its module `rho` times for the same input, a table of outputs. Source: rnn/Repeater.lua."""
    made = step_module(module)
    check_forgets(net, module, made)
    count = next((module.integer(field, least=1) for field in ("rho", "seqlen") if field in module), None)  # rnn 2.1 and 2.7
    count = module.integer("nStep", least=1) if count is None else count
    return (yield from _over_table(net, module, made, [x] * count, 0, False))


@lowers("nn.RecurrentAttention", on_tensors=True)
def recurrent_attention(net: Net, module: Module, x: Tensors) -> Steps:
    """nStep times: action(last output), of zeros at first, then rnn{x, action}. A table of nStep outputs; those that one module has
    made are one tensor, which holds the last of them. Source: rnn/RecurrentAttention.lua.
    """
    g = net.g
    action, rnn = module.module("action"), module.module("rnn")
    sizes = module.sizes("hiddenSize")
    first = first_tensor(x).get()
    given: Tensors = Reference(g.zeros([g.shape(first)[0], *sizes], first))
    if module.flag("forwardActions"):
        raise module.error("with forwardActions its action takes a table at every step but the first, which no module does")
    outputs: list[Tensors] = []
    with net.steps():
        for _ in range(module.integer("nStep", least=1)):
            where = copied((yield net.call(module, action, given, "action")))
            given = copied((yield net.call(module, rnn, [x, where], "rnn")))
            outputs.append(given)
    kept = int(_last_inside(net, module, rnn, "rnn").type == "nn.Recurrent")  # whose first step runs another module
    if len(outputs) > kept + 1:
        net.g.warn("evaluate() runs one module for all its steps and copies no output: the last one stands for all that the module made")
    return [*outputs[:kept], *(outputs[-1] for _ in outputs[kept:])]


def _last_inside(net: Net, owner: Module, made: t7.TorchObject, name: object) -> Module:
    """The module that makes the output of a step."""
    part = net.module(made, child_path(owner.path, name))
    while part.type in ("nn.Recursor", "nn.Sequential") and (inner := part.modules()):
        part = net.module(inner[-1], child_path(part.path, len(inner) - 1))
    return part


# -- two directions ----------------------------------------------------------------------------------------------------


@lowers("nn.BiSequencerLM", on_tensors=True)
def bi_sequencer_lm(net: Net, module: Module, x: Tensors) -> Steps:
    """Forwards on the steps 1 to T-1, backwards on 2 to T; step t merges what comes before and behind it. Source: rnn/BiSequencerLM.lua."""
    steps, parts = module.table(x), module.modules()
    if len(steps) < 2 or len(parts) != 3:
        raise module.error("it takes a table of two steps or more, and holds three modules")
    ahead = module.table((yield net.call(module, parts[0], steps[:-1], 0)))
    behind = module.table((yield net.call(module, parts[1], steps[1:], 1)))
    first, last = (mapped(one, lambda y: Reference(net.g.emit("Mul", y.get(), 0.0))) for one in (ahead[0], behind[-1]))
    return (yield net.call(module, parts[2], [[first, *ahead], [*behind, last]], 2))


@lowers("nn.BiSequencer", "nn.SeqBRNN", "nn.SeqBLSTM", "nn.SeqBGRU", on_tensors=True, time_first=True)
def two_directions(net: Net, module: Module, x: Tensors) -> Steps:
    """Its network of two directions, which it keeps as one module. Source: rnn/BiSequencer.lua, rnn/SeqBRNN.lua, rnn/SeqBLSTM.lua."""
    return (yield net.call(module, step_module(module), x, 0))


@lowers("nn.VariableLength", on_tensors=True)
def variable_length(net: Net, module: Module, x: Tensors) -> Steps:
    """Its module over each sequence (t, D) of a table by itself: a table of (t, H), or the last steps (N, H).
    Source: rnn/VariableLength.lua.
    """
    g = net.g
    inner = step_module(module)
    for part, _ in _parts(net, module, inner, 0):
        facts = lowers.facts(part.type)
        if not facts.by_sample and (not facts.time_first or "Reverse" in part.type):
            raise part.error("inside nn.VariableLength it isn't known to run each sequence by itself")
    for made, _ in inner_modules(inner):  # each forward sets masks, which none of a sequence's own steps is in
        if isinstance(made.payload, t7.Table) and made.get("maskzero") is True:
            made.payload["zeroMask"] = False
    outputs: list[Tensors] = []
    for item in module.table(x):
        one = g.emit("Unsqueeze", module.one_reference(item).get(), [1])
        with net.as_clones():
            out = module.one_reference((yield net.call(module, inner, Reference(one), 0))).get()
        if module.flag("lastOnly"):
            outputs.append(Reference(g.emit("Gather", out, g.const(np.array(-1, np.int64)), axis=0)))
        else:
            outputs.append(Reference(g.emit("Squeeze", out, [1])))
    if not module.flag("lastOnly"):
        return outputs
    return Reference(g.emit("Concat", *[module.one_reference(y).get() for y in outputs], axis=0))
