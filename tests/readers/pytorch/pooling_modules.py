"""torch.nn pooling modules over the ceil_mode grid: kernel 1-5, stride 1-5, pad up to half the kernel, sizes 3-12."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from converters.tracing.program import export_module
from tests.graph import pooling_grid


def modules(size: int) -> dict[str, nn.Module]:
    """Every module by name that torch accepts for pictures of (size, 15 - size)."""
    found: dict[str, nn.Module] = {}
    for kernel, stride, pad, ceil in itertools.product(range(1, 6), range(1, 6), range(3), (False, True)):
        if pad > kernel // 2 or min(size, 15 - size) + 2 * pad < kernel:
            continue
        name = f"k{kernel}_s{stride}_p{pad}_{'ceil' if ceil else 'floor'}"
        found[f"max_{name}"] = nn.MaxPool2d(kernel, stride, pad, ceil_mode=ceil)
        for include in (False, True):
            found[f"average_{name}_{'all' if include else 'real'}"] = nn.AvgPool2d(kernel, stride, pad, ceil, include)
    return found


class Grid(nn.Module):
    def __init__(self, pools: dict[str, nn.Module]) -> None:
        super().__init__()
        self.pools = nn.ModuleList(pools.values())

    def forward(self, picture: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(pool(picture) for pool in self.pools)


def case(size: int):
    """The exported model, its input and PyTorch's own answers, by output name."""
    x = pooling_grid.picture(size)
    grid = Grid(modules(size)).eval()
    with torch.no_grad():
        answers = grid(torch.from_numpy(x))
    model = export_module(grid, {"picture": x.shape}, "pools.pth")
    return model, x, {value.name: answer.numpy() for value, answer in zip(model.graph.outputs, answers, strict=True)}
