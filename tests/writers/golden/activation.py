"""The net 'activations' in PyTorch; activation.pth has its weights.

    model = build("activation.pth")

Inputs: data (N, 4, 6, 6). Outputs: prob (N, 4, 6, 6).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Activations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prelu = nn.Module()
        self.prelu.weight = nn.Parameter(torch.empty(4, 1, 1))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = F.relu(data)  # net.prototxt:10 relu (Relu)
        x = F.leaky_relu(x, 0.1)  # net.prototxt:20 leaky (LeakyRelu)
        x = F.elu(x, 1.0)  # net.prototxt:30 elu (Elu)
        x = F.prelu(x, self.prelu.weight.flatten())  # net.prototxt:40 prelu (PRelu)
        x = torch.sigmoid(x)  # net.prototxt:50 sigmoid (Sigmoid)
        x = torch.tanh(x)  # net.prototxt:60 tanh (Tanh)
        x = (0.2 * x + 0.5).clamp(0, 1)  # net.prototxt:70 hard (HardSigmoid)
        x = torch.logaddexp(x, torch.zeros_like(x))  # net.prototxt:80 softplus (Softplus)
        x = F.softmax(x, 1)  # net.prototxt:90 softmax (Softmax)
        return x


def build(weights: str | None = None) -> Activations:
    """The model in eval mode. weights: the file of its state_dict, such as "activation.pth"."""
    model = Activations()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
