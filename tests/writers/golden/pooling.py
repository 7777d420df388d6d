"""The net 'pooling' in PyTorch; pooling.pth has its weights.

    model = build("pooling.pth")

Inputs: data (N, 4, 15, 15). Outputs: prob (N, 4, 1, 1).
"""

import torch
import torch.nn.functional as F
from torch import nn


def pooled_pads(
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> tuple[list[int], list[int]]:
    """Pads for F.pad with which a pool without padding sees exactly the right windows.

    Also the ends of the padding that counts in an average.
    """
    dims = len(kernel)
    result: list[int] = []
    counted: list[int] = []
    for number in range(dims):
        axis = dims - 1 - number
        begin, end, size = pads[axis], pads[axis + dims], x.shape[2 + axis]
        span = dilation[axis] * (kernel[axis] - 1) + 1
        steps = size + begin + end - span
        count = (-(-steps // stride[axis]) if ceil_mode else steps // stride[axis]) + 1
        if (
            ceil_mode and (count - 1) * stride[axis] >= size + begin
        ):  # it would start behind the data
            count -= 1
        last = (count - 1) * stride[axis] + span - begin - size
        result += [begin, last]
        counted += [begin, min(end, last)]
    return result, counted


@torch.fx.wrap
def max_pool(
    x: torch.Tensor,
    kernel: list[int],
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> torch.Tensor:
    dtype = x.dtype
    if not x.is_floating_point():
        x = x.double()
    around, _ = pooled_pads(x, kernel, stride, pads, dilation, ceil_mode)
    x = F.pad(x, around, value=-float("inf"))
    if len(kernel) == 1:
        return F.max_pool1d(x, kernel, stride, 0, dilation).to(dtype)
    if len(kernel) == 2:
        return F.max_pool2d(x, kernel, stride, 0, dilation).to(dtype)
    return F.max_pool3d(x, kernel, stride, 0, dilation).to(dtype)


class Pooling(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(data, 3, 2, ceil_mode=True)  # net.prototxt:10 pool1 (MaxPool)
        x = F.avg_pool2d(x, 3, 1, padding=1)  # net.prototxt:20 pool2 (AveragePool)
        # net.prototxt:30 pool3 (MaxPool)
        x = max_pool(x, [3, 3], [1, 1], [0, 0, 2, 2], [1, 1], False)
        x = x.mean((2, 3), keepdim=True)  # net.prototxt:40 global (GlobalAveragePool)
        return x


def build(weights: str | None = None) -> Pooling:
    """The model in eval mode. weights: the file of its state_dict, such as "pooling.pth"."""
    model = Pooling()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
