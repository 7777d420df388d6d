"""The net '3-layer MLP' in PyTorch; linear.pth has its weights.

    model = build("linear.pth")

Inputs: data (N, 8). Outputs: prob (N, 4).
"""

import torch
from torch import nn


class Net3LayerMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(8, 6)
        self.fc2 = nn.Linear(6, 5, bias=False)
        self.project = nn.Module()
        self.project.weight = nn.Parameter(torch.empty(5, 4))

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = self.fc1(data)
        x = self.fc2(x)
        x = x @ self.project.weight  # net.prototxt:30 project (MatMul)
        return x


def build(weights: str | None = None) -> Net3LayerMLP:
    """The model in eval mode. weights: the file of its state_dict, such as "linear.pth"."""
    model = Net3LayerMLP()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
