"""Recurrent layers by ONNX's formulas, one stack of weights per direction."""

from __future__ import annotations

import torch
from torch import nn

from converters.writers.source.prelude.quantization import dynamic_quantize


def at_compile_time(function):
    """torch.compile calls the function when it traces, and takes what it answers for a constant."""
    function._dynamo_marked_constant = True
    return function


@at_compile_time
def allow_recurrent() -> None:
    torch._dynamo.config.allow_rnn = True


def follow_recurrent() -> None:
    """Lets torch.compile trace nn.LSTM, nn.GRU and nn.RNN, which it doesn't by itself."""
    if not torch.jit.is_scripting() and torch.compiler.is_dynamo_compiling():
        allow_recurrent()


def reverse_sequence(x, lengths, batch_axis, time_axis):
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    steps = torch.arange(moved.shape[1], device=x.device)
    ends = lengths.long().unsqueeze(1)
    index = torch.where(steps < ends, ends - 1 - steps, steps)
    rows = torch.arange(moved.shape[0], device=x.device).unsqueeze(1)
    return moved[rows, index].movedim((0, 1), (batch_axis, time_axis))


def pack(x, lengths, batch_first: bool = False):
    """Sequences of several lengths for a recurrent layer, one step at least of each."""
    return nn.utils.rnn.pack_padded_sequence(x, lengths.clamp(min=1).cpu(), batch_first, False)


def unpack(y: nn.utils.rnn.PackedSequence, lengths, total: int, batch_first: bool = False):
    """A recurrent layer's output, zeros behind the end of each sequence."""
    x = nn.utils.rnn.pad_packed_sequence(y, batch_first, total_length=total)[0]
    return x.masked_fill((lengths < 1).view((-1, 1, 1) if batch_first else (1, -1, 1)), 0.0)


def last_states(state, lengths):
    """Last states (D, N, H); zeros for a sequence of no steps."""
    return state.masked_fill((lengths < 1).view(1, -1, 1), 0.0)


def run_recurrent(step, x, states, direction, lengths, batch_first):
    """Runs step(direction's number, gates' input, states) through time.

    Answers all outputs (T, D, N, H) and the last states (D, N, H).
    x: one (T, N, G) per direction. states: a list of (D, N, H).
    """
    total, batch = x[0].shape[:2]
    outputs, finals = [], []
    for number, inputs in enumerate(x):
        backward = direction == "reverse" or number == 1
        if lengths is not None and backward:
            inputs = reverse_sequence(inputs, lengths, 1, 0)
        state = [s[number] for s in states]
        line = []
        times = range(total)
        for t in reversed(times) if backward and lengths is None else times:
            after = step(number, inputs[t], state)
            if lengths is None:
                state = after
                line.append(state[0])
            else:
                alive = (t < lengths).unsqueeze(1)
                state = [torch.where(alive, new, old) for new, old in zip(after, state)]
                line.append(torch.where(alive, state[0], torch.zeros_like(state[0])))
        if backward and lengths is None:
            line.reverse()
        output = torch.stack(line) if line else x[0].new_zeros(0, batch, states[0].shape[2])
        outputs.append(
            reverse_sequence(output, lengths, 1, 0) if lengths is not None and backward else output
        )
        finals.append(state)
    result = torch.stack(outputs, 1)
    last = [torch.stack(parts) for parts in zip(*finals)]
    if lengths is not None:
        last = [last_states(state, lengths) for state in last]
    if batch_first:
        return result.permute(2, 0, 1, 3), *[s.transpose(0, 1) for s in last]
    return result, *last


def quantized_weight(weight, scale, zero):
    """(D, in, gates) as floats (D, gates, in); a scale for each direction, or for each gate too."""
    values = weight.float()
    if zero is not None:
        values = values - zero.float().view(len(weight), 1, -1)
    return (values * scale.view(len(weight), 1, -1)).transpose(1, 2)


def requantized(x):
    """What is left of x in eight bits of its own range."""
    quantized, scale, zero = dynamic_quantize(x)
    return (quantized.float() - zero.float()) * scale


def recurrent_inputs(x, weight, recurrence, bias, gates, batch_first, states):
    """What the steps start from.

    The input's share of the gates (with its bias) per direction, time first; the recurrence's bias;
    the initial states.
    """
    if batch_first:
        x = x.transpose(0, 1)
        states = [None if s is None else s.transpose(0, 1) for s in states]
    directions, hidden = recurrence.shape[0], recurrence.shape[2]
    if bias is None:
        bias = x.new_zeros(directions, 2 * gates * hidden)
    ahead, behind = bias.split(gates * hidden, 1)
    shares = [x @ weight[d].t() + ahead[d] for d in range(directions)]
    states = [x.new_zeros(directions, x.shape[1], hidden) if s is None else s for s in states]
    return shares, behind, states


def lstm(
    x,
    weight,
    recurrence,
    direction="forward",
    activations=None,
    bias=None,
    lengths=None,
    initial_h=None,
    initial_c=None,
    peephole=None,
    clip=None,
    batch_first=False,
    input_forget=False,
    quantized=False,
):
    """x: (T, N, in), weight: (D, 4H, in), recurrence: (D, 4H, H).

    Gates: input, output, forget, cell. quantized: what is multiplied has eight bits.
    """
    x = requantized(x) if quantized else x
    shares, behind, states = recurrent_inputs(
        x, weight, recurrence, bias, 4, batch_first, [initial_h, initial_c]
    )
    functions = activations or [torch.sigmoid, torch.tanh, torch.tanh] * 2
    limit = (lambda v: v) if clip is None else (lambda v: v.clamp(-clip, clip))

    def step(number, share, state):
        f, g, h = functions[3 * number : 3 * number + 3]
        hidden, cell = state
        if quantized:
            hidden = requantized(hidden)
        i, o, forget, c = (share + hidden @ recurrence[number].t() + behind[number]).chunk(4, 1)
        pi, po, pf = (0, 0, 0) if peephole is None else peephole[number].chunk(3)
        i = f(limit(i + pi * cell))
        forget = 1 - i if input_forget else f(limit(forget + pf * cell))
        cell = forget * cell + i * g(limit(c))
        o = f(limit(o + po * cell))
        return [o * h(cell), cell]

    return run_recurrent(step, shares, states, direction, lengths, batch_first)


def gru(
    x,
    weight,
    recurrence,
    direction="forward",
    activations=None,
    bias=None,
    lengths=None,
    initial_h=None,
    clip=None,
    batch_first=False,
    linear_before_reset=False,
):
    """x: (T, N, in), weight: (D, 3H, in), recurrence: (D, 3H, H), gates update, reset, hidden."""
    shares, behind, states = recurrent_inputs(
        x, weight, recurrence, bias, 3, batch_first, [initial_h]
    )
    functions = activations or [torch.sigmoid, torch.tanh] * 2
    limit = (lambda v: v) if clip is None else (lambda v: v.clamp(-clip, clip))

    def step(number, share, state):
        f, g = functions[2 * number : 2 * number + 2]
        (hidden,) = state
        rz, rr, rh = recurrence[number].chunk(3)
        bz, br, bh = behind[number].chunk(3)
        z, r, h = share.chunk(3, 1)
        z = f(limit(z + hidden @ rz.t() + bz))
        r = f(limit(r + hidden @ rr.t() + br))
        if linear_before_reset:
            h = g(limit(h + r * (hidden @ rh.t() + bh)))
        else:
            h = g(limit(h + (r * hidden) @ rh.t() + bh))
        return [(1 - z) * h + z * hidden]

    return run_recurrent(step, shares, states, direction, lengths, batch_first)


def rnn(
    x,
    weight,
    recurrence,
    direction="forward",
    activations=None,
    bias=None,
    lengths=None,
    initial_h=None,
    clip=None,
    batch_first=False,
):
    """x: (T, N, in), weight: (D, H, in), recurrence: (D, H, H)."""
    shares, behind, states = recurrent_inputs(
        x, weight, recurrence, bias, 1, batch_first, [initial_h]
    )
    functions = activations or [torch.tanh] * 2
    limit = (lambda v: v) if clip is None else (lambda v: v.clamp(-clip, clip))

    def step(number, share, state):
        return [
            functions[number](limit(share + state[0] @ recurrence[number].t() + behind[number]))
        ]

    return run_recurrent(step, shares, states, direction, lengths, batch_first)
