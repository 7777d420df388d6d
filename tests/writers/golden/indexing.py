"""The net 'embedding' in PyTorch; indexing.pth has its weights.

    model = build("indexing.pth")

Inputs: data (N, 5). Outputs: prob (N, 2, 2).
"""

import torch
from torch import nn


@torch.fx.wrap
def wrapped(index: torch.Tensor, size: int) -> torch.Tensor:
    """Indices below zero count from the end."""
    index = index.long()
    return torch.where(index < 0, index + size, index)


@torch.fx.wrap
def top_k(x: torch.Tensor, k: int, axis: int, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted; of equal values the one with the lower index comes first."""
    # Sorting all of them takes longer than finding k of them, which needs numbers no two of which
    # are equal: the bits of each value, in its order (NaN the largest), and behind them its place.
    if not torch.jit.is_scripting() and x.dtype == torch.float32:  # TorchScript doesn't read bits
        size, behind = x.shape[axis], x.dim() - 1 - axis % x.dim()
        bits = (x + 0.0).contiguous().view(torch.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        bits = bits.masked_fill(x.isnan(), 0x7FFFFFFF)
        places = torch.arange(size, device=x.device)
        places = (size - 1 - places) if largest else places
        keys = (bits.long() << 32) + places.reshape([-1] + [1] * behind)
        indices = keys.topk(k, axis, largest, True)[0] & 0xFFFFFFFF
        indices = (size - 1 - indices) if largest else indices
        return x.gather(axis, indices), indices
    values, indices = x.sort(dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 4)
        self.register_buffer("constant", torch.tensor([0, 3], dtype=torch.int64), persistent=False)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = self.embed(wrapped(data, 20))
        x = x[:, self.constant]  # net.prototxt:10 first (Gather)
        x, _ = top_k(x, 2, 2, True)
        return x


def build(weights: str | None = None) -> Embedding:
    """The model in eval mode. weights: the file of its state_dict, such as "indexing.pth"."""
    model = Embedding()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
