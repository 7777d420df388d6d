"""The net 'control' in PyTorch; control.pth has its weights.

    model = build("control.pth")

Inputs: x (N, 3); count (). Outputs: y (N, 3); all (T, N, 3).
"""

import torch
from torch import nn


@torch.fx.wrap
def loop(body, count, condition, states, device, empty=()):
    """body(turn, condition, *states) gives the next condition and states, and what is stacked.

    empty: what is stacked of no turn at all.
    """
    turn, lines = 0, []
    if condition is True:
        condition = torch.tensor(True, device=device)
    while (count is None or turn < count) and condition:
        condition, *results = body(torch.tensor(turn, device=device), condition, *states)
        states = results[: len(states)]
        lines.append(results[len(states) :])
        turn += 1
    stacked = [torch.stack(line) for line in zip(*lines)] if lines else empty
    return (*states, *stacked)


class Control(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("constant", torch.tensor(True, dtype=torch.bool), persistent=False)

    def forward(self, x: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        def body(inner_input0, inner_input1, inner_input2):
            u = torch.tanh(inner_input2)
            v = u.exp()
            return inner_input1, u, v

        # model.onnx y (Loop)
        x, y = loop(
            body,
            count.item(),
            self.constant,
            [x],
            x.device,
            [torch.empty([0, 0, 3], dtype=torch.float32, device=x.device)],
        )
        return x, y


def build(weights: str | None = None) -> Control:
    """The model in eval mode. weights: the file of its state_dict, such as "control.pth"."""
    model = Control()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
