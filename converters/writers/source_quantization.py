"""Source of quantisation."""

from __future__ import annotations

import onnx_ir as ir

from converters.writers.source_node import Node, writes

_RANGES = {
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT16: (-32768, 32767),
}


@writes("QuantizeLinear")
def quantize_linear(n: Node) -> str:
    """round(x / scale) + zero_point, half to even, saturated."""
    dtype = n.output_dtype()
    if dtype not in _RANGES:
        raise n.error(f"elements of type {dtype.name}")
    low, high = _RANGES[dtype]
    zero = n.get(2)
    call = f"{n[0]}, {n[1]}, {zero}, {n.attr('axis', 1)}, {n.attr('block_size', 0)}, {low}, {high}, {n.torch_dtype(dtype)}"
    return f"{n.function('quantize')}({call})"


@writes("DequantizeLinear")
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
