"""The net 'recurrent' in PyTorch; recurrent.pth has its weights.

    model = build("recurrent.pth")

Inputs: data (N, 5, 3). Outputs: prob (5, 1, N, 4).
"""

import torch
from torch import nn


def reverse_sequence(x, lengths, batch_axis, time_axis):
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    steps = torch.arange(moved.shape[1], device=x.device)
    ends = lengths.long().unsqueeze(1)
    index = torch.where(steps < ends, ends - 1 - steps, steps)
    rows = torch.arange(moved.shape[0], device=x.device).unsqueeze(1)
    return moved[rows, index].movedim((0, 1), (batch_axis, time_axis))


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
    if batch_first:
        return result.permute(2, 0, 1, 3), *[s.transpose(0, 1) for s in last]
    return result, *last


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


@torch.fx.wrap
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
):
    """x: (T, N, in), weight: (D, 4H, in), recurrence: (D, 4H, H).

    Gates: input, output, forget, cell.
    """
    shares, behind, states = recurrent_inputs(
        x, weight, recurrence, bias, 4, batch_first, [initial_h, initial_c]
    )
    functions = activations or [torch.sigmoid, torch.tanh, torch.tanh] * 2
    limit = (lambda v: v) if clip is None else (lambda v: v.clamp(-clip, clip))

    def step(number, share, state):
        f, g, h = functions[3 * number : 3 * number + 3]
        hidden, cell = state
        i, o, forget, c = (share + hidden @ recurrence[number].t() + behind[number]).chunk(4, 1)
        pi, po, pf = (0, 0, 0) if peephole is None else peephole[number].chunk(3)
        i = f(limit(i + pi * cell))
        forget = 1 - i if input_forget else f(limit(forget + pf * cell))
        cell = forget * cell + i * g(limit(c))
        o = f(limit(o + po * cell))
        return [o * h(cell), cell]

    return run_recurrent(step, shares, states, direction, lengths, batch_first)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.Module()
        self.lstm.weight = nn.Parameter(torch.empty(1, 16, 3))
        self.lstm.recurrence = nn.Parameter(torch.empty(1, 16, 4))
        self.lstm.bias = nn.Parameter(torch.empty(1, 32))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = data.permute(1, 0, 2)  # net.prototxt:10 time_first (Transpose)
        # net.prototxt:20 lstm (LSTM)
        x, _, _ = lstm(
            x, self.lstm.weight, self.lstm.recurrence, direction="forward", bias=self.lstm.bias
        )
        return x


def build(weights: str | None = None) -> Recurrent:
    """The model in eval mode. weights: the file of its state_dict, such as "recurrent.pth"."""
    model = Recurrent()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
