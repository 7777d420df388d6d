"""What MXNet's CPU fused and quantized: a convolution or linear layer of 8 bits with the layers behind it, rounded once.

Weights in float are quantized here as MXNet does when it runs: one scale per output channel. Sources: mxnet
src/operator/subgraph/mkldnn/mkldnn_conv.cc, mkldnn_fc.cc; oneDNN src/cpu/x64/jit_avx512_core_x8s8s32x_conv_kernel.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.convolution import spatial
from converters.readers.mxnet.operators.quantization import LARGEST, kind_of, magnitude, rounded
from converters.readers.mxnet.parameter import Parameter
from converters.readers.mxnet.signature import lowers

Array = NDArray[Any]
Answer = dict[str, ir.Value]
"""By what MXNet calls them: the integers, and the ends of their range."""

_POSITIVE = frozenset({"relu", "clip"})
"""Functions behind which the answer is uint8."""


@lowers(
    "_sg_mkldnn_conv",
    ignores="quantized with_bn with_relu with_act with_sum with_postsum_relu with_postsum_act workspace cudnn_tune cudnn_off momentum "
    "use_global_stats output_mean_var axis lower_bound upper_bound",
)
def fused_convolution(
    g: OperatorBuilder,
    data: ir.Value,
    weight: Parameter,
    *others: Parameter,
    steps: str = "",
    kernel: Ints = (),
    num_filter: int = 0,
    stride: Ints = (),
    dilate: Ints = (),
    pad: Ints = (),
    num_group: int = 1,
    no_bias: bool = False,
    layout: str | None = None,
    eps: float = 1e-3,
    fix_gamma: bool = True,
    slope: float = 0.25,
    a_min: float = 0.0,
    a_max: float = 0.0,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
) -> Answer:
    """A quantized convolution with its batch normalization, sum and function: int8 or uint8, and the calibrated range.

    Source: mxnet src/operator/subgraph/mkldnn/mkldnn_conv.cc.
    """
    words = steps.split()
    if words[:1] != ["Convolution"] or layout not in (None, "None", "NCHW"):
        raise g.error(f"steps '{steps}' with layout {layout} aren't known; convert the float symbol that it was made from")
    if min_calib_range is None or max_calib_range is None:
        raise g.error("it has no calibrated range; convert the float symbol that it was made from")
    weight.check((num_filter, None, *kernel))
    if num_group not in (1, num_filter):
        raise g.error("MXNet's CPU scales the weights of its groups wrongly; convert the float symbol that it was made from")
    normed, summed = words[1:2] == ["BatchNorm"], "elemwise_add" in words
    expected = (not no_bias) + 4 * normed + summed + 2 + 2 * summed
    if len(others) != expected:
        raise g.error(f"has {len(others) + 2} inputs; {expected + 2} are needed")
    count = (not no_bias) + 4 * normed
    matrix, bias = _folded(g, weight, others[: not no_bias], others[not no_bias : count], eps, fix_gamma)
    addend, ranges = others[count].use() if summed else None, others[count + summed :]
    kind = kind_of(g, data)
    given = _scale(g, kind, ranges[0], ranges[1])
    scales = _weight_scales(matrix, bias, given)
    integers = np.clip(np.rint(matrix * scales.reshape(-1, *[1] * (matrix.ndim - 1))), -128, 127).astype(np.int8)
    out = _convolved(g, data, kind, _parameter(g, weight, "weight", integers), kernel, stride, dilate, pad, num_group)
    if bias is not None:
        out = g.emit("Add", out, _shift(g, bias, given, scales, len(kernel)))
    target = "uint8" if words[-1] in _POSITIVE else "int8"
    answer = np.float32(LARGEST[target] / np.float32(max(abs(min_calib_range), abs(max_calib_range))))
    out = g.emit("Mul", out, _factor(g, answer, given, scales, len(kernel)))
    for word in words[1 + normed :]:
        if word == "elemwise_add" and addend is not None:
            out = _sum(g, out, addend, _scale(g, kind_of(g, addend), ranges[2], ranges[3]), answer)
        else:
            out = _function(g, word, out, slope, (a_min, a_max), answer)
    held = target if addend is None else kind_of(g, addend)
    return _answer(g, _read_as(g, rounded(g, out, held), held, target), min_calib_range, max_calib_range)


def _folded(
    g: OperatorBuilder, weight: Parameter, bias: Sequence[Parameter], norm: Sequence[Parameter], eps: float, fix_gamma: bool
) -> tuple[Array, Array | None]:
    """Weight and bias with the batch normalization (gamma, beta, mean, variance) in them."""
    matrix, shift = _stored(g, weight), _stored(g, bias[0]) if bias else None
    if not norm:
        return matrix, shift
    gamma, beta, mean, variance = (_stored(g, parameter) for parameter in norm)
    alpha = ((1 if fix_gamma else gamma) / np.sqrt(variance.astype(np.float64) + eps)).astype(np.float32)
    shift = beta + alpha * ((0 if shift is None else shift) - mean)
    return matrix * alpha.reshape(-1, *[1] * (matrix.ndim - 1)), shift


def _sum(g: OperatorBuilder, out: ir.Value, addend: ir.Value, before: np.float32 | ir.Value, answer: np.float32) -> ir.Value:
    """What is added, in the scale of the answer. oneDNN multiplies and adds in one step, rounded once: in two, halves differ."""
    share = g.emit("Div", g.const(answer), before) if isinstance(before, ir.Value) else g.const(np.float32(answer / before))
    product = g.emit("Mul", g.cast(addend, np.float64), g.cast(share, np.float64))
    return g.cast(g.emit("Add", g.cast(out, np.float64), product), np.float32)


def _read_as(g: OperatorBuilder, q: ir.Value, held: str, target: str) -> ir.Value:
    """oneDNN writes a sum over its addend, in the addend's type; what stands there is then read as the answer's."""
    if held == target:
        return q
    g.warn(f"MXNet's CPU cuts these sums to the {held} of what is added and reads them as {target}; so does the converted net")
    wide = g.cast(q, np.int32)
    if target == "int8":
        wide = g.emit("Where", g.emit("Greater", wide, 127), g.emit("Sub", wide, 256), wide)
    return g.cast(wide, np.dtype(target))


def _stored(g: OperatorBuilder, parameter: Parameter) -> Array:
    if parameter.array is None:
        raise g.error(f"its input '{parameter.name}' isn't stored in the file; convert the float symbol that it was made from")
    return parameter.array.astype(np.float32)


def _parameter(g: OperatorBuilder, parameter: Parameter, role: str, array: Array) -> ir.Value:
    place = parameter.place
    return g.param(g.free_role(role, place.module), array, path=place.module, original=parameter.name)


def _channels(g: OperatorBuilder, numbers: Array, dims: int, role: str) -> ir.Value:
    """Numbers of channels, to go with (N, C, ...)."""
    return g.const(numbers.astype(np.float32).reshape(-1, *[1] * dims), role=role)


def _answer(g: OperatorBuilder, q: ir.Value, low: float, high: float) -> Answer:
    return {"output": q, **{f"output_{end}": g.const(np.array([n], np.float32)) for end, n in (("min", low), ("max", high))}}


def _scale(g: OperatorBuilder, kind: str, low: Parameter, high: Parameter) -> np.float32 | ir.Value:
    """What numbers of a range are multiplied by to become integers: a number where the range was calibrated, else a value (1,)."""
    found = [_known(value.use()) if value.array is None else value.array.astype(np.float32) for value in (low, high)]
    known = [float(np.abs(value).max()) for value in found if value is not None]
    if len(known) == 2:
        return np.float32(np.float32(LARGEST[kind]) / np.float32(max(known)))
    return g.emit("Div", g.const(np.float32(LARGEST[kind])), magnitude(g, low.use(), high.use()))


def _shift(g: OperatorBuilder, bias: Array, given: np.float32 | ir.Value, scales: Array, dims: int) -> ir.Value:
    """The bias as whole numbers, in the scale of the sums of products."""
    if not isinstance(given, ir.Value):
        return _channels(g, np.rint(bias * (given * scales)), dims, "shift")
    scaled = g.emit("Mul", _channels(g, scales, dims, "weight_scale"), given)
    return g.emit("Round", g.emit("Mul", _channels(g, bias, dims, "bias"), scaled))


def _factor(g: OperatorBuilder, answer: np.float32, given: np.float32 | ir.Value, scales: Array, dims: int) -> ir.Value:
    """What the sums are multiplied by to be in the scale of the answer."""
    if not isinstance(given, ir.Value):
        return _channels(g, answer / given / scales, dims, "scale")
    return g.emit("Div", g.emit("Div", g.const(answer), given), _channels(g, scales, dims, "weight_scale"))


def _known(value: ir.Value) -> Array | None:
    """The number that a range's end is, where it was calibrated."""
    if value.const_value is not None:
        array: Array = value.const_value.numpy()
        return array
    node = value.producer()
    if node is None or node.op_type not in ("Identity", "Neg", "Abs", "Max", "Reshape"):
        return None
    operands = [given for given in node.inputs if given is not None]
    inputs = [_known(given) for given in (operands[:1] if node.op_type == "Reshape" else operands)]
    if any(given is None for given in inputs):
        return None
    numbers = [given for given in inputs if given is not None]
    if node.op_type == "Max":
        return np.array(max(float(number.max()) for number in numbers), np.float32)
    if node.op_type == "Neg":
        return -numbers[0]
    return np.abs(numbers[0]) if node.op_type == "Abs" else numbers[0]


def _weight_scales(matrix: Array, bias: Array | None, given: np.float32 | ir.Value) -> Array:
    """127.5 over the largest magnitude of each channel; less where the bias in int32 would overflow, if the data's range is known."""
    largest = np.abs(matrix.reshape(len(matrix), -1)).max(1)
    with np.errstate(divide="ignore", over="ignore"):
        scales: Array = np.float32(LARGEST["int8"]) / largest
        if bias is not None and not isinstance(given, ir.Value):
            most = np.where(bias > 0, np.float32(2**31 - 1), np.float32(-(2**31))) / 2 / bias / given
            scales = np.where(bias != 0, np.minimum(scales, most), scales)
    return np.where(np.isfinite(scales), scales, 2.0**20).astype(np.float32)


def _unsigned(g: OperatorBuilder, x: ir.Value) -> ir.Value:
    """int8 as uint8 around 128: onnxruntime's convolution takes uint8 alone, of both, up to 1.23 at least."""
    return g.cast(g.emit("Add", g.cast(x, np.int32), 128), np.uint8)


def _convolved(
    g: OperatorBuilder, data: ir.Value, kind: str, weight: ir.Value, kernel: Ints, stride: Ints, dilate: Ints, pad: Ints, groups: int
) -> ir.Value:
    """The sums of products, exact in int32, as floating point numbers."""
    strides, dilations = spatial(g, "stride", stride, kernel, 1, 1), spatial(g, "dilate", dilate, kernel, 1, 1)
    pads = spatial(g, "pad", pad, kernel, 0, 0)
    zero, middle = g.const(np.array(0 if kind == "uint8" else 128, np.uint8)), g.const(np.array(128, np.uint8))
    out = g.emit(
        "ConvInteger",
        data if kind == "uint8" else _unsigned(g, data),
        _unsigned(g, weight),
        zero,
        middle,
        kernel_shape=list(kernel),
        strides=strides,
        dilations=dilations if max(dilations) > 1 else None,
        pads=[*pads, *pads] if any(pads) else None,
        group=groups if groups > 1 else None,
    )
    return g.cast(out, np.float32)


def _function(g: OperatorBuilder, word: str, x: ir.Value, slope: float, ends: tuple[float, float], scale: np.float32) -> ir.Value:
    """A function of numbers that are `scale` times what they stand for."""
    if word == "relu":
        return g.emit("Relu", x)
    if word == "leaky":
        return g.emit("LeakyRelu", x, alpha=slope)
    if word == "clip" and ends[0] == 0:
        return g.emit("Clip", x, 0.0, float(np.float32(ends[1]) * scale))
    raise g.error(f"'{word}' behind a convolution in 8 bits isn't known; convert the float symbol that it was made from")


@lowers("_sg_mkldnn_fully_connected", ignores="quantized with_eltwise lower_bound upper_bound")
def fused_fully_connected(
    g: OperatorBuilder,
    data: ir.Value,
    weight: Parameter,
    *others: Parameter,
    steps: str = "",
    num_hidden: int = 0,
    no_bias: bool = False,
    flatten: bool = True,
    slope: float = 0.25,
    a_min: float = 0.0,
    a_max: float = 0.0,
    channel_wise_quantize: bool = False,
    enable_float_output: bool = False,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
) -> ir.Value | Answer:
    """A quantized linear layer with its function, in the calibrated range, or as floating point numbers.

    Inputs: data, weight, bias, then the ranges of data, weight and bias. Source: mxnet src/operator/subgraph/mkldnn/mkldnn_fc.cc.
    """
    words = steps.split()
    count = 1 if no_bias else 2
    if words[:1] != ["FullyConnected"] or channel_wise_quantize:
        raise g.error(f"steps '{steps}' aren't known; convert the float symbol that it was made from")
    if len(others) != count - 1 + 2 * (count + 1):
        raise g.error(f"has {len(others) + 2} inputs; {count + 1 + 2 * (count + 1)} are needed")
    bias, ranges = (None, others) if no_bias else (others[0], others[1:])
    kind = kind_of(g, data)
    given, weights = _scale(g, kind, ranges[0], ranges[1]), _scale(g, "int8", ranges[2], ranges[3])
    stored = np.float32(1) if bias is None else _scale(g, "int8", ranges[4], ranges[5])
    if isinstance(given, ir.Value) or isinstance(weights, ir.Value) or isinstance(stored, ir.Value):
        raise g.error("its input's range is known only when the net runs; convert the float symbol that it was made from")
    weight.check((num_hidden, None))
    matrix = weight.array
    if matrix is None or matrix.dtype != np.int8:
        raise g.error("its weight isn't stored in int8; convert the float symbol that it was made from")
    x = g.reshape(data, [g.shape(data)[0], None]) if flatten and g.rank(data) != 2 else data
    turned = g.emit("Transpose", _parameter(g, weight, "weight", matrix), perm=[1, 0])
    total = g.cast(g.emit("MatMul", g.cast(x, np.int32), g.cast(turned, np.int32)), np.float32)
    if bias is not None:
        total = g.emit("Add", total, g.const(np.rint(_stored(g, bias) * (given * weights / stored)).astype(np.float32), role="shift"))
    if enable_float_output:
        out = g.emit("Mul", total, float(1 / given / weights))
        for word in words[1:]:
            out = _function(g, word, out, slope, (a_min, a_max), np.float32(1))
        return out
    if min_calib_range is None or max_calib_range is None:
        raise g.error("it has no calibrated range; convert the float symbol that it was made from")
    target = "uint8" if words[-1] in _POSITIVE else "int8"
    answer = np.float32(LARGEST[target] / np.float32(max(abs(min_calib_range), abs(max_calib_range))))
    out = g.emit("Mul", total, float(answer / given / weights))
    for word in words[1:]:
        out = _function(g, word, out, slope, (a_min, a_max), answer)
    return _answer(g, rounded(g, out, target), min_calib_range, max_calib_range)
