"""The net 'containers' in PyTorch; containers.pth has its weights.

    model = build("containers.pth")

Inputs: data (N, 3, 8, 8). Outputs: prob (N, 5).
"""

import torch
import torch.nn.functional as F
from torch import nn


class Containers(nn.ModuleList):
    def __init__(self) -> None:
        super().__init__(
            [
                nn.Sequential(
                    nn.Conv2d(3, 4, 3, padding=1),
                    nn.BatchNorm2d(4),
                    nn.ReLU(inplace=True),
                    nn.Identity(),
                    nn.MaxPool2d(2, 2),
                ),
                nn.ModuleList(
                    [
                        nn.Sequential(
                            nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.ReLU(inplace=True))
                        )
                    ]
                ),
                nn.Flatten(),
                nn.Linear(64, 5),
            ]
        )

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = self[0](data)
        y = self[1][0](x)
        x = y + x  # net.prototxt:70 1.1 (Add)
        x = F.relu(x, inplace=True)  # net.prototxt:80 1.2 (Relu)
        x = self[2](x)
        x = self[3](x)
        return x


def build(weights: str | None = None) -> Containers:
    """The model in eval mode. weights: the file of its state_dict, such as "containers.pth"."""
    model = Containers()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
