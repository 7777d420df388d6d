"""The net 'contributed' in PyTorch; contributed.pth has its weights.

    model = build("contributed.pth")

Inputs: x (N, 3, 4). Outputs: y (N, 3, 4).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Contributed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.empty(4))
        self.g = nn.Parameter(torch.empty(4))
        self.c = nn.Parameter(torch.empty(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.gelu(x + self.b)  # model.onnx a (BiasGelu)
        x = y + x  # model.onnx y (SkipLayerNormalization)
        x = F.layer_norm(x, x.shape[-1:], self.g, self.c, eps=1e-05)
        return x


def build(weights: str | None = None) -> Contributed:
    """The model in eval mode. weights: the file of its state_dict, such as "contributed.pth"."""
    model = Contributed()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
