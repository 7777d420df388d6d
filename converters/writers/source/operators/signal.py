"""Source of windows, transforms and patches."""

from __future__ import annotations

import onnx_ir as ir

from converters.writers.source.dtypes import torch_dtype
from converters.writers.source.node import Node, writes


def _window(op_type: str, name: str) -> None:
    @writes(op_type)
    def window(n: Node) -> str:
        dtype = torch_dtype(ir.DataType(n.attr("output_datatype", 1)))
        exact = f"torch.{name}({n.scalar(0)}, periodic={bool(n.attr('periodic', 1))}, dtype=torch.float64, device={n.device}"
        exact += ", alpha=25 / 46, beta=21 / 46)" if name == "hamming_window" else ")"
        return f"{exact}.to({dtype})"

    window.__doc__ = f"torch.{name}."


_window("HannWindow", "hann_window")
_window("HammingWindow", "hamming_window")


@writes("BlackmanWindow")
def blackman_window(n: Node) -> str:
    """torch.blackman_window."""
    dtype = torch_dtype(ir.DataType(n.attr("output_datatype", 1)))
    return (
        f"torch.blackman_window({n.scalar(0)}, periodic={bool(n.attr('periodic', 1))}, dtype=torch.float64, device={n.device}).to({dtype})"
    )


@writes("DFT")
def dft(n: Node) -> str:
    """torch.fft; the last axis holds real and imaginary parts."""
    axis = n.scalar(2) if n.has(2) else n.attr("axis", -2 if n.opset >= 20 else 1)
    length = n.scalar(1) if n.has(1) else "None"
    flags = f"{bool(n.attr('inverse', 0))}, {bool(n.attr('onesided', 0))}"
    return f"{n.function('dft')}({n[0]}, {axis}, {length}, {flags})"


@writes("STFT")
def stft(n: Node) -> str:
    """Frames of the signal, windowed and transformed."""
    step = n.scalar(1)
    window = n.get(2)
    length = n.scalar(3) if n.has(3) else "None"
    return f"{n.function('stft')}({n[0]}, {step}, {window}, {length}, {bool(n.attr('onesided', 1))})"


@writes("Col2Im")
def col2im(n: Node) -> str:
    """F.fold for images; other ranks piece by piece."""
    image, block = n.sizes(1), n.sizes(2)
    if image is None or block is None:
        return f"{n.function('col2im')}({n[0]}, {n.size_list(1)}, {n.size_list(2)}, {_spacing(n)})"
    return f"{n.function('col2im')}({n[0]}, {n.size_list(1)}, {[int(b) for b in block]}, {_spacing(n)})"


def _spacing(n: Node) -> str:
    options = [list(n.attr(name)) if n.attr(name) is not None else None for name in ("dilations", "pads", "strides")]
    return ", ".join(str(option) for option in options)


@writes("MaxUnpool")
def max_unpool(n: Node) -> str:
    """Maxima put back at their places, zero elsewhere."""
    kernel = list(n.attr("kernel_shape"))
    strides = list(n.attr("strides", [1] * len(kernel)))
    pads = list(n.attr("pads", [0] * 2 * len(kernel)))
    size = n.size_list(2) if n.has(2) else "None"
    return f"{n.function('max_unpool')}({n[0]}, {n[1]}, {kernel}, {strides}, {pads}, {size})"


@writes("DeformConv")
def deform_conv(n: Node) -> str:
    """Convolution whose taps are moved by learnt offsets."""
    weight = n.shape(1)
    if weight is None or len(weight) != 4:
        raise n.error("only images are convolved here")
    kernel = [int(k) for k in n.attr("kernel_shape", None) or [k or 0 for k in weight[2:]]]
    options = [
        n.get(3),
        n.get(4),
        str(list(n.attr("strides", [1, 1]))),
        str(list(n.attr("pads", [0, 0, 0, 0]))),
        str(list(n.attr("dilations", [1, 1]))),
        str(n.attr("group", 1)),
        str(n.attr("offset_group", 1)),
    ]
    return f"{n.function('deform_conv')}({n[0]}, {n[1]}, {n[2]}, {kernel}, {', '.join(options)})"
