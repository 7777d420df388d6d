"""Source of quantisation."""

from __future__ import annotations

import onnx_ir as ir

from converters.writers.source.dtypes import STORED_DTYPES
from converters.writers.source.node import Node, writes

RANGES = {
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT2: (0, 3),
    ir.DataType.INT2: (-2, 1),
}


@writes("QuantizeLinear", unsigned="moves", float8=True)
def quantize_linear(n: Node) -> str:
    """round(x / scale) + zero_point, half to even, saturated; of floats of eight or four bits the nearest."""
    dtype = n.output_dtype()
    if dtype in STORED_DTYPES or dtype == ir.DataType.FLOAT4E2M1:
        if not n.attr("saturate", 1):
            raise n.error("without saturation")
        name, largest = STORED_DTYPES.get(dtype, ("", 0.0))
        scaled = f"{n.function('scaled')}({n[0]}, {n[1]}, {n.get(2)}, {n.attr('axis', 1)}, {n.attr('block_size', 0)})"
        return f"{scaled}.clamp(-{largest}, {largest}).to({name})" if name else f"{n.function('float4')}({scaled})"
    if dtype not in RANGES:
        raise n.error(f"elements of type {dtype.name}")
    low, high = RANGES[dtype]
    zero = n.get(2)
    call = f"{n[0]}, {n[1]}, {zero}, {n.attr('axis', 1)}, {n.attr('block_size', 0)}, {low}, {high}, {n.torch_dtype(dtype)}"
    return f"{n.function('quantize')}({call})"


@writes("DequantizeLinear", unsigned="moves", float8=True)
def dequantize_linear(n: Node) -> str:
    """(x - zero_point) * scale."""
    return f"{n.function('dequantize')}({n[0]}, {n[1]}, {n.get(2)}, {n.attr('axis', 1)}, {n.attr('block_size', 0)})"


@writes("DynamicQuantizeLinear")
def dynamic_quantize_linear(n: Node) -> str:
    """uint8 with the scale and zero point of the data's own range."""
    return f"{n.function('dynamic_quantize')}({n[0]})"


@writes("MatMulInteger")
def matmul_integer(n: Node) -> str:
    """(a - a_zero) @ (b - b_zero) in int32."""
    return f"{n.function('matmul_integer')}({n[0]}, {n[1]}, {n.get(2)}, {n.get(3)})"


@writes("QLinearMatMul")
def qlinear_matmul(n: Node) -> str:
    """A product of quantised matrices, requantised."""
    low, high = RANGES[n.output_dtype()]
    parts = ", ".join(n[i] for i in range(8))
    return f"{n.function('qlinear_matmul')}({parts}, {low}, {high}, {n.torch_dtype(n.output_dtype())})"


@writes("ConvInteger")
def conv_integer(n: Node) -> str:
    """A convolution of integers in int32."""
    call = f"{n[0]}, {n[1]}, {n.get(2)}, {n.get(3)}, {_window(n)}"
    return f"{n.function('conv_integer')}({call}).int()"


@writes("QLinearConv")
def qlinear_conv(n: Node) -> str:
    """A convolution of quantised numbers, requantised."""
    low, high = RANGES[n.output_dtype()]
    parts = ", ".join(n[i] for i in range(8))
    return f"{n.function('qlinear_conv')}({parts}, {n.get(8)}, {_window(n)}, {low}, {high}, {n.torch_dtype(n.output_dtype())})"


def _window(n: Node) -> str:
    """strides, pads, dilations and groups of a convolution."""
    weight = n.shape(3 if n.op_type == "QLinearConv" else 1)
    if weight is None or n.attr("auto_pad", "NOTSET") != "NOTSET":
        raise n.error("auto_pad, or a weight of unknown rank")
    dims = len(weight) - 2
    window = [
        list(n.attr(name, [value] * size)) for name, value, size in (("strides", 1, dims), ("pads", 0, 2 * dims), ("dilations", 1, dims))
    ]
    return f"{', '.join(map(str, window))}, {n.attr('group', 1)}"
