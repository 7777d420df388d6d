"""The net 'reduction' in PyTorch; reduction.pth has its weights.

    model = build("reduction.pth")

Inputs: data (N, 4, 6, 6). Outputs: prob (N, 1, 1, 1).
"""

import torch
from torch import nn


class Reduction(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = data.mean((2, 3), keepdim=True)  # net.prototxt:10 mean (ReduceMean)
        x = x.square().sum(1, keepdim=True).sqrt()  # net.prototxt:20 norm (ReduceL2)
        x = x.cumsum(1, dtype=torch.float32)  # net.prototxt:30 total (CumSum)
        x = x.argmax(1, keepdim=True)  # net.prototxt:40 best (ArgMax)
        return x


def build(weights: str | None = None) -> Reduction:
    """The model in eval mode. weights: the file of its state_dict, such as "reduction.pth"."""
    model = Reduction()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
