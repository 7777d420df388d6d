"""The net 'elementwise' in PyTorch; elementwise.pth has its weights.

    model = build("elementwise.pth")

Inputs: data (N, 4, 6, 6). Outputs: prob (N, 4, 6, 6).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Elementwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Module()
        self.scale.weight = nn.Parameter(torch.empty(4, 1, 1))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        scale = data * self.scale.weight  # net.prototxt:10 scale (Mul)
        x = scale + 0.5  # net.prototxt:20 shift (Add)
        x = x ** 2.0  # net.prototxt:30 power (Pow)
        clip = F.relu6(x)  # net.prototxt:40 clip (Clip)
        x = scale < clip  # net.prototxt:50 less (Less)
        x = torch.where(x, scale, clip)  # net.prototxt:60 where (Where)
        x = torch.maximum(torch.maximum(x, scale), clip)  # net.prototxt:70 largest (Max)
        return x


def build(weights: str | None = None) -> Elementwise:
    """The model in eval mode. weights: the file of its state_dict, such as "elementwise.pth"."""
    model = Elementwise()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
