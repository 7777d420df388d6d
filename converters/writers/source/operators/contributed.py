"""Source of com.microsoft's operators: what onnxruntime's optimizers and quantizers write into files."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.writers.source.code import number
from converters.writers.source.node import Node, arguments, writes
from converters.writers.source.operators.convolution import conv
from converters.writers.source.operators.pooling import average_pool
from converters.writers.source.operators.quantization import RANGES

_DOMAIN = "com.microsoft::"


def _float(n: Node, name: str, default: float) -> str:
    return number(np.float32(n.attr(name, default)))


# -- activations ---------------------------------------------------------------------------------------------------------


@writes(f"{_DOMAIN}Gelu")
def gelu(n: Node) -> str:
    """F.gelu."""
    return f"F.gelu({n[0]})"


@writes(f"{_DOMAIN}BiasGelu")
def bias_gelu(n: Node) -> str:
    """F.gelu(x + bias)."""
    return f"F.gelu({n[0]} + {n[1]})"


@writes(f"{_DOMAIN}FastGelu")
def fast_gelu(n: Node) -> str:
    """F.gelu by tanh, of the sum with a bias where there is one."""
    return f"""F.gelu({n[0]}{f" + {n[1]}" if n.has(1) else ""}, approximate="tanh")"""


@writes(f"{_DOMAIN}QuickGelu")
def quick_gelu(n: Node) -> str:
    """x * sigmoid(alpha x)."""
    return f"{n[0]} * ({_float(n, 'alpha', 1.702)} * {n[0]}).sigmoid()"


def _activated(n: Node, text: str) -> str:
    """A result with the activation that a fused operator states."""
    name = n.attr("activation", "")
    numbers = [number(np.float32(v)) for v in n.attr("activation_params", ())]
    for given in ("activation_alpha", "activation_beta"):
        if n.attr(given) is not None:
            numbers.append(number(np.float32(n.attr(given))))
    if name in ("", "Identity"):
        return text
    plain = {"Relu": "F.relu", "Sigmoid": "torch.sigmoid", "Tanh": "torch.tanh", "Softplus": "F.softplus", "Softsign": "F.softsign"}
    if name in plain:
        return f"{plain[name]}({text})"
    if name == "LeakyRelu":
        return f"F.leaky_relu({text}, {numbers[0] if numbers else 0.01})"
    if name == "Clip" and len(numbers) == 2:
        return f"({text}).clamp({numbers[0]}, {numbers[1]})"
    if name == "HardSigmoid":
        alpha, beta = numbers if len(numbers) == 2 else ("0.2", "0.5")
        return f"({alpha} * ({text}) + {beta}).clamp(0, 1)"
    if name == "Elu":
        return f"F.elu({text}, {numbers[0] if numbers else 1.0})"
    raise n.error(f"activation {name!r}")


# -- products ------------------------------------------------------------------------------------------------------------


@writes(f"{_DOMAIN}FusedMatMul", f"{_DOMAIN}TransposeMatMul")
def fused_matmul(n: Node) -> str:
    """`alpha * a @ b`, either of them transposed."""
    if n.attr("transBatchA", 0) or n.attr("transBatchB", 0):
        raise n.error("transposed batches")
    turned = [
        f"{n[index]}.transpose(-2, -1)" if n.attr(name, 0) and n.known_rank(index) > 1 else n[index]
        for index, name in enumerate(("transA", "transB"))
    ]
    alpha = _float(n, "alpha", 1.0)
    product = f"{turned[0]} @ {turned[1]}"
    return product if alpha == "1.0" else f"{alpha} * ({product})"


@writes(f"{_DOMAIN}FusedGemm")
def fused_gemm(n: Node) -> str:
    """A linear layer and its activation."""
    alpha, beta = _float(n, "alpha", 1.0), _float(n, "beta", 1.0)
    left = f"{n[0]}.t()" if n.attr("transA", 0) else n[0]
    right = f"{n[1]}.t()" if n.attr("transB", 0) else n[1]
    text = f"{left} @ {right}"
    text = text if alpha == "1.0" else f"{alpha} * ({text})"
    if n.has(2):
        text += f" + {n[2]}" if beta == "1.0" else f" + {beta} * {n[2]}"
    return _activated(n, text)


@writes(f"{_DOMAIN}FusedConv")
def fused_conv(n: Node) -> str:
    """A convolution, what is added to it, and an activation."""
    result = str(conv(n))
    return _activated(n, f"{result} + {n[3]}" if n.has(3) else result)


# -- normalization -------------------------------------------------------------------------------------------------------


def _normalized(n: Node, text: str, weight: str, bias: str | None, eps: str) -> str:
    return f"F.layer_norm({arguments(text, f'{text}.shape[-1:]', weight, *([bias] if bias else []), eps=eps)})"


@writes(f"{_DOMAIN}SkipLayerNormalization")
def skip_layer_normalization(n: Node) -> list[str]:
    """F.layer_norm of a sum; the sum too."""
    if n.wants(1) or n.wants(2):
        raise n.error("the mean or the deviation as an output")
    total = n.assign(f"{n[0]} + {n[1]}" + (f" + {n[4]}" if n.has(4) else ""))
    result = _normalized(n, total, n[2], n[3] if n.has(3) else None, _float(n, "epsilon", 1e-12))
    return [result, total, total, total][: n.outputs]


@writes(f"{_DOMAIN}SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(n: Node) -> list[str]:
    """A sum divided by its root mean square; the sum too."""
    if n.wants(1) or n.wants(2):
        raise n.error("the mean or the deviation as an output")
    total = n.assign(f"{n[0]} + {n[1]}" + (f" + {n[3]}" if n.has(3) else ""))
    result = f"F.rms_norm({total}, {total}.shape[-1:], {n[2]}, {_float(n, 'epsilon', 1e-5)})"
    return [result, total, total, total][: n.outputs]


@writes(f"{_DOMAIN}SimplifiedLayerNormalization")
def simplified_layer_normalization(n: Node) -> list[str]:
    """F.rms_norm over the last axis."""
    if n.wants(1) or n.attr("axis", -1) not in (-1, (n.rank() or 0) - 1):
        raise n.error("over more than the last axis")
    return [f"F.rms_norm({n[0]}, {n[0]}.shape[-1:], {n[1]}, {_float(n, 'epsilon', 1e-5)})"]


@writes(f"{_DOMAIN}EmbedLayerNormalization")
def embed_layer_normalization(n: Node) -> list[str]:
    """Embeddings of words, places and segments, added up and normalized."""
    if n.attr("mask_index_type", 0):
        raise n.error("a mask index of type 1")
    places = n[8] if n.has(8) else f"torch.arange({n[0]}.shape[1], device={n.device})"
    total = f"F.embedding({n[0]}, {n[2]}) + F.embedding({places}, {n[3]})"
    if n.has(1) and n.has(4):
        total += f" + F.embedding({n[1]}, {n[4]})"
    total = n.assign(total)
    mask = f"{n[7]}.sum(1).int()" if n.has(7) else f"torch.zeros({n[0]}.shape[0], dtype=torch.int32, device={n.device})"
    return [_normalized(n, total, n[5], n[6], _float(n, "epsilon", 1e-12)), mask, total][: n.outputs]


# -- attention -----------------------------------------------------------------------------------------------------------


@writes(f"{_DOMAIN}Attention")
def attention(n: Node) -> list[str]:
    """Self-attention with one matrix for queries, keys and values."""
    if n.has(4) or n.has(6) or n.wants(1) or n.attr("do_rotary", 0) or n.attr("past_present_share_buffer", 0):
        raise n.error("with states of before, or rotated")
    sizes = list(n.attr("qkv_hidden_sizes", ()))
    joined = n.assign(f"{n[0]} @ {n[1]}" + (f" + {n[2]}" if n.has(2) else ""))
    q, k, v = n.unpack(f"{joined}.split({sizes}, -1)" if sizes else f"{joined}.chunk(3, -1)", 3)
    return [_attended(n, q, k, v, mask=3, bias=5)]


@writes(f"{_DOMAIN}MultiHeadAttention")
def multi_head_attention(n: Node) -> list[str]:
    """Attention of queries to keys and values."""
    if any(n.has(index) for index in range(6, len(n))) or n.wants(1) or n.wants(2) or [n.rank(i) for i in (0, 1, 2)] != [3, 3, 3]:
        raise n.error("with states of before, or with packed keys")
    parts = [n[0], n[1], n[2]]
    if n.has(3):
        width = n.assign(f"{n[0]}.shape[2]", hint="width")
        biases = [f"{n[3]}[:{width}]", f"{n[3]}[{width} : 2 * {width}]", f"{n[3]}[2 * {width} :]"]
        parts = [n.assign(f"{part} + {bias}") for part, bias in zip(parts, biases, strict=True)]
    return [_attended(n, parts[0], parts[1], parts[2], mask=4, bias=5)]


def _attended(n: Node, q: str, k: str, v: str, mask: int, bias: int) -> str:
    options = []
    if n.has(mask):
        if n.rank(mask) not in (1, 2, 3) or (n.rank(mask) == 1 and n.shape(mask) != [(n.shape(0) or [None])[0]]):
            raise n.error("a mask of that shape")
        options.append(f"mask={n[mask]}")
    options += [f"bias={n[bias]}"] if n.has(bias) else []
    options += ["causal=True"] if n.attr("unidirectional", 0) else []
    options += [f"scale={_float(n, 'scale', 0.0)}"] if n.attr("scale", 0.0) else []
    options += [f"fill={_float(n, 'mask_filter_value', -10000.0)}"] if n.attr("mask_filter_value") is not None else []
    return f"{n.function('attend')}({', '.join([q, k, v, str(n.attr('num_heads')), *options])})"


# -- quantised numbers ---------------------------------------------------------------------------------------------------


def _opened(n: Node, index: int) -> str:
    """A quantised input as floats: the number, its scale and its zero point are three inputs on end."""
    return f"{n.function('dequantize')}({n[index]}, {n[index + 1]}, {n.get(index + 2)}, 1, 0)"


def _closed(n: Node, text: str, index: int) -> str:
    """Floats as a quantised output, whose scale and zero point are inputs."""
    dtype = n.dtype(index + 1) if n.has(index + 1) else ir.DataType.UINT8
    if dtype not in RANGES:
        raise n.error(f"elements of type {dtype.name}")
    low, high = RANGES[dtype]
    return f"{n.function('quantize')}({text}, {n[index]}, {n.get(index + 1)}, 1, 0, {low}, {high}, {n.torch_dtype(dtype)})"


@writes(f"{_DOMAIN}QLinearAdd")
def qlinear_add(n: Node) -> str:
    """A sum of quantised numbers."""
    return _closed(n, f"{_opened(n, 0)} + {_opened(n, 3)}", 6)


@writes(f"{_DOMAIN}QLinearMul")
def qlinear_mul(n: Node) -> str:
    """A product of quantised numbers."""
    return _closed(n, f"{_opened(n, 0)} * {_opened(n, 3)}", 6)


@writes(f"{_DOMAIN}QLinearSigmoid")
def qlinear_sigmoid(n: Node) -> str:
    """torch.sigmoid of quantised numbers."""
    return _closed(n, f"torch.sigmoid({_opened(n, 0)})", 3)


@writes(f"{_DOMAIN}QLinearLeakyRelu")
def qlinear_leaky_relu(n: Node) -> str:
    """F.leaky_relu of quantised numbers."""
    return _closed(n, f"F.leaky_relu({_opened(n, 0)}, {_float(n, 'alpha', 0.01)})", 3)


@writes(f"{_DOMAIN}QLinearSoftmax")
def qlinear_softmax(n: Node) -> str:
    """F.softmax of quantised numbers."""
    axis = n.attr("axis", -1)
    if n.attr("opset", 13) < 13 and axis not in (-1, n.known_rank() - 1):
        raise n.error("over more than the last axis")
    return _closed(n, f"F.softmax({_opened(n, 0)}, {axis})", 3)


@writes(f"{_DOMAIN}QLinearGlobalAveragePool")
def qlinear_global_average_pool(n: Node) -> str:
    """The mean of quantised images."""
    axes = range(1, n.known_rank() - 1) if n.attr("channels_last", 0) else range(2, n.known_rank())
    return _closed(n, f"{_opened(n, 0)}.mean({tuple(axes)}, keepdim=True)", 3)


@writes(f"{_DOMAIN}QLinearAveragePool")
def qlinear_average_pool(n: Node) -> str:
    """Averages of quantised images."""
    if n.attr("channels_last", 0):
        raise n.error("channels last")
    opened = n.assign(_opened(n, 0))
    return _closed(n, str(average_pool(n.instead(0, opened))), 3)


@writes(f"{_DOMAIN}QLinearConcat")
def qlinear_concat(n: Node) -> str:
    """torch.cat of quantised numbers."""
    parts = ", ".join(_opened(n, index) for index in range(2, len(n), 3))
    return _closed(n, f"torch.cat([{parts}], {n.attr('axis')})", 0)


@writes(f"{_DOMAIN}QGemm")
def qgemm(n: Node) -> str:
    """A linear layer of quantised numbers; in floats where no scale of the result is given."""
    left, right = (f"{n[i]}.t()" if n.attr(name, 0) else n[i] for i, name in ((0, "transA"), (3, "transB")))
    text = f"{n.function('matmul_integer')}({left}, {right}, {n.get(2)}, {n.get(5)})"
    text = f"({text}{f' + {n[6]}' if n.has(6) else ''}).float() * ({n[1]} * {n[4]})"
    if n.attr("alpha", 1.0) != 1:
        text = f"{_float(n, 'alpha', 1.0)} * {text}"
    return _closed(n, text, 7) if n.has(7) else text


@writes(f"{_DOMAIN}QuantizeLinear")
def quantize_linear(n: Node) -> str:
    """round(x / scale) + zero_point, half to even, saturated."""
    dtype = n.dtype(2) if n.has(2) else ir.DataType.UINT8
    if dtype not in RANGES:
        raise n.error(f"elements of type {dtype.name}")
    low, high = RANGES[dtype]
    call = f"{n[0]}, {n[1]}, {n.get(2)}, {n.attr('axis', 1)}, {n.attr('block_size', 0)}, {low}, {high}, {n.torch_dtype(dtype)}"
    return f"{n.function('quantize')}({call})"


@writes(f"{_DOMAIN}DequantizeLinear")
def dequantize_linear(n: Node) -> str:
    """(x - zero_point) * scale."""
    return f"{n.function('dequantize')}({n[0]}, {n[1]}, {n.get(2)}, {n.attr('axis', 1)}, {n.attr('block_size', 0)})"


@writes(f"{_DOMAIN}DynamicQuantizeMatMul")
def dynamic_quantize_matmul(n: Node) -> str:
    """A product with a quantised matrix, for which the left one is quantised by its own range."""
    quantized, scale, zero = n.unpack(f"{n.function('dynamic_quantize')}({n[0]})", 3)
    product = f"{n.function('matmul_integer')}({quantized}, {n[1]}, {zero}, {n.get(3)}).float() * ({scale} * {n[2]})"
    return f"{product} + {n[4]}" if n.has(4) else product


@writes(f"{_DOMAIN}MatMulIntegerToFloat")
def matmul_integer_to_float(n: Node) -> str:
    """A product of quantised matrices, in floats."""
    product = f"{n.function('matmul_integer')}({n[0]}, {n[1]}, {n.get(4)}, {n.get(5)}).float() * ({n[2]} * {n[3]})"
    return f"{product} + {n[6]}" if n.has(6) else product


# -- others --------------------------------------------------------------------------------------------------------------


@writes(f"{_DOMAIN}Inverse")
def inverse(n: Node) -> str:
    """torch.linalg.inv."""
    return f"torch.linalg.inv({n[0]})"


@writes(f"{_DOMAIN}Trilu")
def trilu(n: Node) -> str:
    """torch.triu or torch.tril."""
    return f"torch.{'triu' if n.attr('upper', 1) else 'tril'}({n[0]}, {n.scalar(1) if n.has(1) else 0})"


@writes(f"{_DOMAIN}BiasSoftmax")
def bias_softmax(n: Node) -> str:
    """F.softmax(x + bias) over the last axis."""
    if n.attr("axis", 1) not in (-1, n.known_rank() - 1) or not n.attr("is_inner_broadcast", 1):
        raise n.error("over more than the last axis, or with a bias of other axes")
    return f"F.softmax({n[0]} + {n[1]}, -1)"
