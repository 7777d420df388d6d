"""The net 'signal' in PyTorch; signal.pth has its weights.

    model = build("signal.pth")

Inputs: data (N, 16, 1). Outputs: prob (N, 9, 2).
"""

import torch
from torch import nn


@torch.fx.wrap
def dft(x, axis, length, inverse, onesided):
    """x: (..., 1) real or (..., 2) complex."""
    axis = axis % x.dim()
    dtype = x.dtype
    wide = x.float() if dtype in (torch.float16, torch.bfloat16) else x
    if inverse and onesided:  # half of a spectrum, back to a real signal
        return (
            torch.fft.irfft(torch.view_as_complex(wide.contiguous()), length, axis)
            .unsqueeze(-1)
            .to(dtype)
        )
    if x.shape[-1] == 1:
        signal = wide[..., 0]
        if onesided:
            return torch.view_as_real(torch.fft.rfft(signal, length, axis)).to(dtype)
        signal = torch.complex(signal, torch.zeros_like(signal))
    else:
        signal = torch.view_as_complex(wide.contiguous())
    result = (
        torch.fft.ifft(signal, length, axis) if inverse else torch.fft.fft(signal, length, axis)
    )
    result = torch.view_as_real(result)
    if onesided:
        result = result.narrow(axis, 0, result.shape[axis] // 2 + 1)
    return result.to(dtype)


class Signal(nn.Module):
    def forward(self, data: torch.Tensor) -> torch.Tensor:
        x = dft(data, 1, None, False, True)  # net.prototxt:10 spectrum (DFT)
        return x


def build(weights: str | None = None) -> Signal:
    """The model in eval mode. weights: the file of its state_dict, such as "signal.pth"."""
    model = Signal()
    if weights is not None:
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()
