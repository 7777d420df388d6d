"""The net 'layout' in PyTorch; layout.pth has its weights.

    model = build("layout.pth")

Inputs: data (N, 4, 6, 6). Outputs: prob (N, 147).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Layout(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = data.permute(0, 2, 3, 1)  # net.prototxt:10 permute (Transpose)
        x = x[:, :, :3]  # net.prototxt:20 left (Slice)
        flat = torch.flatten(x, 1)  # net.prototxt:30 flat (Reshape)
        x = torch.unflatten(flat, 1, (9, 8))  # net.prototxt:40 fold (Reshape)
        x = torch.unflatten(x, 2, (2, 4))  # net.prototxt:50 columns (Reshape)
        x = x.reshape(x.shape[0], -1, 4)  # net.prototxt:60 rows (Reshape)
        x = torch.flatten(x, 1)  # net.prototxt:70 flat_again (Flatten)
        x = torch.cat([flat, x], 1)  # net.prototxt:80 joined (Concat)
        x = F.pad(x, (1, 2))  # net.prototxt:90 padded (Pad)
        return x


def build(weights: str | None = None) -> Layout:
    """The model in eval mode. weights: the file of its state_dict, such as "layout.pth"."""
    model = Layout()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
