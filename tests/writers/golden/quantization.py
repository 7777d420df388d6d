"""The net 'quantization' in PyTorch; quantization.pth has its weights.

    model = build("quantization.pth")

Inputs: data (N, 4). Outputs: prob (N, 4).
"""

import torch
from torch import nn


def spread_scale(scale, x, axis, block):
    """A scale or zero point in a shape that goes with x.

    There is one for all, one per slice of the axis, or one per block.
    """
    if scale.numel() == 1 and not block:
        return scale.reshape(())
    if block:
        return scale.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    return scale.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


@torch.fx.wrap
def quantize(x, scale, zero, axis, block, low, high, dtype):
    result = (x / spread_scale(scale, x, axis, block)).round()
    if zero is not None:
        result = result + spread_scale(zero, x, axis, block).to(result.dtype)
    return result.clamp(low, high).to(dtype)


@torch.fx.wrap
def dequantize(x, scale, zero, axis, block):
    values = x.to(torch.int64) if not x.is_floating_point() else x.to(scale.dtype)
    if zero is not None:
        values = values - spread_scale(zero, x, axis, block).to(values.dtype)
    return values.to(scale.dtype) * spread_scale(scale, x, axis, block)


class Quantization(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("constant", torch.tensor(128, dtype=torch.uint8), persistent=False)
        self.register_buffer("constant1", torch.tensor(0.1, dtype=torch.float32), persistent=False)

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        # net.prototxt:10 quantize (QuantizeLinear)
        x = quantize(data, self.constant1, self.constant, 1, 0, 0, 255, torch.uint8)
        # net.prototxt:20 dequantize (DequantizeLinear)
        x = dequantize(x, self.constant1, self.constant, 1, 0)
        return x


def build(weights: str | None = None) -> Quantization:
    """The model in eval mode. weights: the file of its state_dict, such as "quantization.pth"."""
    model = Quantization()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
