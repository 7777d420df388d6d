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
        self.instance = nn.InstanceNorm2d(4, affine=True)
        self.layer_norm = nn.LayerNorm(6)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = self.bn(data)
        # net.prototxt:20 norm (LRN)
        x = F.local_response_norm(x, 5, alpha=0.0001, beta=0.75, k=1.0)
        x = self.instance(x)
        x = self.layer_norm(x)
        return x


def build(weights: str | None = None) -> Normalization:
    """The model in eval mode. weights: the file of its state_dict, such as "normalization.pth"."""
    model = Normalization()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
