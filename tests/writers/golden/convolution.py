"""The net 'convolutions' in PyTorch; convolution.pth has its weights.

    model = build("convolution.pth")

Inputs: data (N, 3, 9, 9). Outputs: prob (N, 2, 10, 10).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.add_module("conv2/dw", nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, bias=False))
        self.conv3 = nn.Conv2d(4, 4, 2, bias=False)
        self.up = nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = self.conv1(data)
        x = getattr(self, "conv2/dw")(x)
        x = F.pad(x, (0, 1, 0, 1))  # net.prototxt:30 conv3 (Conv)
        x = self.conv3(x)
        x = self.up(x)
        return x


def build(weights: str | None = None) -> Convolutions:
    """The model in eval mode. weights: the file of its state_dict, such as "convolution.pth"."""
    model = Convolutions()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
