"""The net 'sequences' in PyTorch; sequences.pth has its weights.

    model = build("sequences.pth")

Inputs: x (N, 6). Outputs: y (N, 5).
"""

import torch
from torch import nn


@torch.fx.wrap
def without(sequence, place):
    """The list without one of its tensors."""
    place %= len(sequence)
    return sequence[:place] + sequence[place + 1 :]


class Sequences(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = list(x.split(1, 1))  # model.onnx parts (SplitToSequence)
        x = without(x, 1)  # model.onnx fewer (SequenceErase)
        x = torch.cat(x, 1)  # model.onnx y (ConcatFromSequence)
        return x


def build(weights: str | None = None) -> Sequences:
    """The model in eval mode. weights: the file of its state_dict, such as "sequences.pth"."""
    model = Sequences()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
