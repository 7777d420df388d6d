"""The net 'resampling' in PyTorch; resampling.pth has its weights.

    model = build("resampling.pth")

Inputs: data (N, 4, 6, 6). Outputs: prob (?, 4, 24, 24).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Resampling(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        # net.prototxt:10 nearest (Resize)
        x = F.interpolate(data, scale_factor=2.0, mode="nearest")
        # net.prototxt:20 bilinear (Resize)
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return x


def build(weights: str | None = None) -> Resampling:
    """The model in eval mode. weights: the file of its state_dict, such as "resampling.pth"."""
    model = Resampling()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
