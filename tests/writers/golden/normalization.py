"""The net 'normalization' in PyTorch; normalization.pth has its weights.

    model = build("normalization.pth")

Inputs: data (N, 4, 6, 6). Outputs: prob (N, 4, 6, 6).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Normalization(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(4, eps=0.001)
        self.instance = nn.Module()
        self.instance.weight = nn.Parameter(torch.empty(4))
        self.instance.bias = nn.Parameter(torch.empty(4))
        self.layer_norm = nn.LayerNorm(6)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = self.bn(data)
        # net.prototxt:20 norm (LRN)
        x = F.local_response_norm(x, 5, alpha=0.0001, beta=0.75, k=1.0)
        # net.prototxt:30 instance (InstanceNormalization)
        x = F.instance_norm(x, weight=self.instance.weight, bias=self.instance.bias, eps=1e-05)
        x = self.layer_norm(x)
        return x


def build(weights: str | None = None) -> Normalization:
    """The model in eval mode. weights: the file of its state_dict, such as "normalization.pth"."""
    model = Normalization()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
