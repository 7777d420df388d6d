"""The net 'recurrent' in PyTorch; recurrent.pth has its weights.

    model = build("recurrent.pth")

Inputs: data (N, 5, 3). Outputs: prob (5, 1, N, 4).
"""

import torch
from torch import nn


def at_compile_time(function):
    """torch.compile calls the function when it traces, and takes what it answers for a constant."""
    function._dynamo_marked_constant = True
    return function


@at_compile_time
def allow_recurrent() -> None:
    torch._dynamo.config.allow_rnn = True


@torch.fx.wrap
def follow_recurrent() -> None:
    """Lets torch.compile trace nn.LSTM, nn.GRU and nn.RNN, which it doesn't by itself."""
    if not torch.jit.is_scripting() and torch.compiler.is_dynamo_compiling():
        allow_recurrent()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        time_first = data.permute(1, 0, 2)  # net.prototxt:10 time_first (Transpose)
        follow_recurrent()
        x, _ = self.lstm(time_first)
        x = x.unsqueeze(1)
        return x


def build(weights: str | None = None) -> Recurrent:
    """The model in eval mode. weights: the file of its state_dict, such as "recurrent.pth"."""
    model = Recurrent()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
