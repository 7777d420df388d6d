"""Arithmetic in 8 bits as MXNet's CPU does it: integers with a range of floating point numbers beside them, (1,) each.

Sources: mxnet src/operator/quantization/*.cc, mkldnn/*.cc.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.pooling import pooled
from converters.readers.mxnet.parameter import Exact
from converters.readers.mxnet.signature import lowers

LARGEST = {"int8": 127.5, "uint8": 255.5, "int32": 2147483647.0}
"""What the largest magnitude of a range becomes, in quantize_v2 and dequantize."""
WHOLE = {"int8": 127.0, "uint8": 255.0}
"""The same in quantize, requantize and the ranges of products."""
Range = tuple[ir.Value, ir.Value]
Answer = dict[str, ir.Value]
"""By what MXNet calls them: the integers, and the ends of their range."""


def _ranged(q: ir.Value, low: ir.Value, high: ir.Value) -> Answer:
    return {"output": q, "min_output": low, "max_output": high}


def magnitude(g: OperatorBuilder, low: ir.Value, high: ir.Value) -> ir.Value:
    """The larger magnitude of a range's ends, (1,)."""
    return g.reshape(g.emit("Max", g.emit("Abs", low), g.emit("Abs", high)), [1])


def kind_of(g: OperatorBuilder, value: ir.Value) -> str:
    """int8, uint8 or int32. Raises ConversionError for others."""
    name = g.dtype(value).name
    if name not in LARGEST:
        raise g.error(f"an input of type {name}; int8, uint8 or int32 is needed")
    return name


def rounded(g: OperatorBuilder, value: ir.Value, kind: str) -> ir.Value:
    """Floating point numbers to the nearest integers, halves to the even one, held to the type."""
    limits = np.iinfo(kind)
    held = g.emit("Clip", g.emit("Round", value), np.array(limits.min, np.float32), np.array(limits.max, np.float32))
    return g.cast(held, kind)


def _scaled(g: OperatorBuilder, value: ir.Value, largest: float, limit: ir.Value) -> ir.Value:
    """value * largest / limit."""
    return g.emit("Mul", value, g.emit("Div", g.const(np.array(largest, np.float32)), limit))


def _number(g: OperatorBuilder, value: float) -> ir.Value:
    return g.const(np.array([value], np.float32))


def _range_of(g: OperatorBuilder, data: ir.Value) -> Range:
    """The smallest and the largest number of the data."""
    axes = list(range(g.rank(data)))
    return tuple(g.reshape(g.emit(op, data, axes, keepdims=1), [1]) for op in ("ReduceMin", "ReduceMax"))  # type: ignore[return-value]


def _calibrated(g: OperatorBuilder, data: ir.Value, low: float | None, high: float | None) -> Range:
    if low is None or high is None:
        return _range_of(g, data)
    return _number(g, low), _number(g, high)


def _answer(g: OperatorBuilder, q: ir.Value, kind: str, limit: ir.Value, given: Range) -> list[ir.Value]:
    """Integers and their range: symmetric for int8, as given for uint8."""
    if kind == "uint8":
        return [q, g.identity(given[0]), g.identity(given[1])]
    return [q, g.emit("Neg", limit), g.identity(limit)]


def _chosen(out_type: str, low: float | None) -> str:
    """auto: uint8 where the calibrated smallest number isn't negative."""
    if out_type != "auto":
        return out_type
    return "uint8" if low is not None and low >= 0 else "int8"


@lowers("_contrib_quantize_v2")
def quantize_v2(
    g: OperatorBuilder,
    data: ir.Value,
    *,
    out_type: Literal["auto", "int8", "uint8"] = "int8",
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
) -> list[ir.Value]:
    """Floating point numbers as int8 (127.5 / range) or uint8 (255.5 / range, no zero point); without a range that of the data at hand.

    Source: mxnet src/operator/quantization/quantize_v2-inl.h.
    """
    kind = _chosen(out_type, min_calib_range)
    given = _calibrated(g, data, min_calib_range, max_calib_range)
    limit = magnitude(g, *given)
    return _answer(g, rounded(g, _scaled(g, data, LARGEST[kind], limit), kind), kind, limit, given)


@lowers("_contrib_quantize")
def quantize(
    g: OperatorBuilder, data: ir.Value, min_range: Exact, max_range: Exact, *, out_type: Literal["int8", "uint8"] = "uint8"
) -> list[ir.Value]:
    """Floating point numbers as int8 (127 / range) or uint8 (255 / range). Source: mxnet src/operator/quantization/quantize-inl.h."""
    given = g.reshape(min_range, [1]), g.reshape(max_range, [1])
    limit = magnitude(g, *given)
    return _answer(g, rounded(g, _scaled(g, data, WHOLE[out_type], limit), out_type), out_type, limit, given)


@lowers("_contrib_dequantize", ignores="out_type")
def dequantize(g: OperatorBuilder, data: Exact, min_range: Exact, max_range: Exact) -> ir.Value:
    """Integers as floating point numbers. Source: mxnet src/operator/quantization/dequantize-inl.h."""
    limit = magnitude(g, min_range, max_range)
    return g.emit("Mul", g.cast(data, np.float32), g.emit("Div", limit, LARGEST[kind_of(g, data)]))


@lowers("_contrib_requantize")
def requantize(
    g: OperatorBuilder,
    data: ir.Value,
    min_range: Exact,
    max_range: Exact,
    *,
    out_type: Literal["auto", "int8", "uint8"] = "int8",
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
) -> list[ir.Value]:
    """int32 as int8 (127 / range) or uint8 (255 / range); without a calibrated range that of the data at hand.

    Source: mxnet src/operator/quantization/requantize-inl.h.
    """
    if kind_of(g, data) != "int32":
        raise g.error(f"an input of type {kind_of(g, data)}; int32 is needed")
    kind = _chosen(out_type, min_calib_range)
    floats = g.emit("Mul", g.cast(data, np.float32), g.emit("Div", magnitude(g, min_range, max_range), LARGEST["int32"]))
    given = _calibrated(g, floats, min_calib_range, max_calib_range)
    limit = magnitude(g, *given)
    q = rounded(g, _scaled(g, floats, WHOLE[kind], limit), kind)
    return _answer(g, q, kind, limit, (_number(g, 0.0), limit))


@lowers("_contrib_quantized_fully_connected")
def quantized_fully_connected(g: OperatorBuilder, *inputs: Exact, num_hidden: int, no_bias: bool = False, flatten: bool = True) -> Answer:
    """Sums of products as int32, the bias rescaled and cut to an integer. Inputs: data, weight and bias, then the range of each.

    Source: mxnet src/operator/quantization/quantized_fully_connected.cc.
    """
    count = 2 if no_bias else 3
    if len(inputs) != 3 * count:
        raise g.error(f"has {len(inputs)} inputs; {3 * count} are needed")
    data, weight = inputs[0], inputs[1]
    limits = [magnitude(g, inputs[count + 2 * i], inputs[count + 2 * i + 1]) for i in range(count)]
    kind = kind_of(g, data)
    x = g.reshape(data, [g.shape(data)[0], None]) if flatten and g.rank(data) != 2 else data
    if kind_of(g, weight) != "int8" or g.shape(weight) != (num_hidden, g.shape(x)[-1]):
        raise g.error(f"a weight of shape ({num_hidden}, {g.shape(x)[-1]}) in int8 is needed; it has shape {g.shape(weight)}")
    total = g.emit("MatMul", g.cast(x, np.int32), g.emit("Transpose", g.cast(weight, np.int32), perm=[1, 0]))
    if not no_bias:
        scale = g.emit("Mul", g.emit("Div", g.const(np.array(LARGEST[kind], np.float32)), limits[0]), g.emit("Div", limits[2], limits[1]))
        total = g.emit("Add", total, g.cast(g.emit("Mul", g.cast(inputs[2], np.float32), scale), np.int32))
    limit = g.emit("Mul", g.emit("Div", limits[0], WHOLE[kind]), g.emit("Div", limits[1], WHOLE["int8"]))
    limit = g.emit("Mul", limit, LARGEST["int32"])
    return _ranged(total, g.emit("Neg", limit), limit)


def _halves(g: OperatorBuilder, lhs: ir.Value, rhs: ir.Value, ranges: tuple[ir.Value, ...], kinds: tuple[str, ...]) -> tuple[ir.Value, ...]:
    """Two inputs of one kind as floating point numbers, and the magnitudes of their ranges."""
    given = [kind_of(g, value) for value in (lhs, rhs)]
    if given[0] != given[1] or given[0] not in kinds:
        wanted = " or both ".join(kinds)
        raise g.error(f"inputs of types {given[0]} and {given[1]}; both must be {wanted} (MXNet's CPU answers nonsense for others)")
    return g.cast(lhs, np.float32), g.cast(rhs, np.float32), magnitude(g, *ranges[:2]), magnitude(g, *ranges[2:])


@lowers("_contrib_quantized_elemwise_add")
def quantized_elemwise_add(
    g: OperatorBuilder,
    lhs: ir.Value,
    rhs: ir.Value,
    lhs_min: Exact,
    lhs_max: Exact,
    rhs_min: Exact,
    rhs_max: Exact,
    *,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
) -> Answer:
    """Sums of int8, or of uint8, rescaled and rounded once; without a calibrated range as int32.

    Source: mxnet src/operator/quantization/mkldnn/mkldnn_quantized_elemwise_add.cc.
    """
    a, b, first, second = _halves(g, lhs, rhs, (lhs_min, lhs_max, rhs_min, rhs_max), ("int8", "uint8"))
    kind = kind_of(g, lhs)
    if min_calib_range is None or max_calib_range is None:
        limit = g.emit("Add", first, second)
        wide = [g.cast(value, np.float64) for value in (a, b, first, second, limit)]
        total = g.emit("Add", g.emit("Mul", wide[0], wide[2]), g.emit("Mul", wide[1], wide[3]))
        q = g.cast(g.emit("Round", g.emit("Mul", total, g.emit("Div", LARGEST["int32"] / LARGEST[kind] * np.ones(1), wide[4]))), np.int32)
        return _ranged(q, g.emit("Neg", limit), limit)
    low, high = _number(g, min_calib_range), _number(g, max_calib_range)
    limit = magnitude(g, low, high)
    total = g.emit("Add", g.emit("Mul", a, g.emit("Div", first, limit)), g.emit("Mul", b, g.emit("Div", second, limit)))
    return _ranged(rounded(g, total, kind), low, high)


@lowers("_contrib_quantized_elemwise_mul")
def quantized_elemwise_mul(
    g: OperatorBuilder,
    lhs: ir.Value,
    rhs: ir.Value,
    lhs_min: Exact,
    lhs_max: Exact,
    rhs_min: Exact,
    rhs_max: Exact,
    *,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
    enable_float_output: bool = False,
) -> ir.Value | Answer:
    """Products of int8: as int32, as floating point numbers, or rescaled to int8, cut to an integer that wraps.

    Source: mxnet src/operator/quantization/quantized_elemwise_mul.cc.
    """
    a, b, first, second = _halves(g, lhs, rhs, (lhs_min, lhs_max, rhs_min, rhs_max), ("int8",))
    if enable_float_output:
        return g.emit("Mul", g.emit("Mul", a, b), g.emit("Div", g.emit("Mul", first, second), LARGEST["int8"] ** 2))
    if min_calib_range is None or max_calib_range is None:
        limit = g.emit("Mul", g.emit("Mul", g.emit("Div", first, 127.0), g.emit("Div", second, 127.0)), LARGEST["int32"])
        return _ranged(g.emit("Mul", g.cast(lhs, np.int32), g.cast(rhs, np.int32)), g.emit("Neg", limit), limit)
    low, high = _number(g, min_calib_range), _number(g, max_calib_range)
    limit = magnitude(g, low, high)
    # in MXNet's own order: what is cut off depends on the last digit
    scale, *parts = (g.emit("Div", g.const(np.array(LARGEST["int8"], np.float32)), value) for value in (limit, first, second))
    for part in parts:
        scale = g.emit("Div", scale, part)
    whole = g.cast(g.emit("Mul", g.emit("Mul", a, b), scale), np.int32)
    wrapped = g.emit("Sub", g.emit("Mod", g.emit("Add", whole, 128), 256), 128)
    return _ranged(g.cast(wrapped, np.int8), low, high)


@lowers("_contrib_quantized_concat")
def quantized_concat(g: OperatorBuilder, *data: Exact, dim: int = 1) -> Answer:
    """Inputs joined in the union of their ranges, each rescaled and rounded. Inputs: all data, then the range of each.

    Source: mxnet src/operator/quantization/quantized_concat.cc.
    """
    count = len(data) // 3
    if count < 1 or len(data) != 3 * count:
        raise g.error(f"has {len(data)} inputs; as many data as ranges of two are needed")
    parts, lows, highs = data[:count], data[count::2], data[count + 1 :: 2]
    kinds = [kind_of(g, part) for part in parts]
    kind = "uint8" if set(kinds) == {"uint8"} else "int8"
    low = g.reshape(g.emit("Min", *lows), [1]) if count > 1 else lows[0]
    high = g.reshape(g.emit("Max", *highs), [1]) if count > 1 else highs[0]
    limit = magnitude(g, low, high)
    rescaled = []
    for part, own, smallest, largest in zip(parts, kinds, lows, highs, strict=True):
        factor = g.emit("Mul", g.emit("Div", magnitude(g, smallest, largest), limit), LARGEST[kind] / LARGEST[own])
        rescaled.append(rounded(g, g.emit("Mul", g.cast(part, np.float32), factor), kind))
    joined = g.emit("Concat", *rescaled, axis=g.axis(parts[0], dim, attribute="dim")) if count > 1 else rescaled[0]
    return _ranged(joined, g.identity(low), g.identity(high))


@lowers("_contrib_quantized_act")
def quantized_act(g: OperatorBuilder, data: ir.Value, min_data: Exact, max_data: Exact, *, act_type: str) -> Answer:
    """Negative integers as 0, in the same range; other functions are refused.

    Source: mxnet src/operator/quantization/quantized_activation.cc.
    """
    if act_type != "relu":
        raise g.error(f"act_type '{act_type}' isn't known in 8 bits; relu is")
    if kind_of(g, data) != "int8":
        raise g.error(f"an input of type {kind_of(g, data)}; int8 is needed (MXNet's CPU reads uint8's answer as int8)")
    return _ranged(g.emit("Max", data, 0), g.identity(min_data), g.identity(max_data))


@lowers("_contrib_quantized_flatten")
def quantized_flatten(g: OperatorBuilder, data: ir.Value, min_data: Exact, max_data: Exact) -> Answer:
    """(N, ...) to (N, rest), in the same range. Source: mxnet src/operator/quantization/quantized_flatten-inl.h."""
    flat = g.identity(data) if g.rank(data) == 2 else g.reshape(data, [g.shape(data)[0], None])
    return _ranged(flat, g.identity(min_data), g.identity(max_data))


@lowers("_contrib_quantized_pooling", ignores="cudnn_off")
def quantized_pooling(
    g: OperatorBuilder,
    data: ir.Value,
    min_data: Exact,
    max_data: Exact,
    *,
    kernel: Ints = (),
    pool_type: Literal["max", "avg"] = "max",
    global_pool: bool = False,
    pooling_convention: Literal["valid", "full"] = "valid",
    stride: Ints = (),
    pad: Ints = (),
    count_include_pad: bool | None = None,
) -> Answer:
    """Largest integers of windows, or their means rounded to even, in the same range.

    Source: mxnet src/operator/quantization/quantized_pooling.cc.
    """
    kind = kind_of(g, data)
    # oneDNN divides by the whole window where it counts pads, behind the image's end too
    whole = pool_type == "avg" and not global_pool and pooling_convention == "full" and count_include_pad is not False
    found = pooled(
        g,
        g.cast(data, np.float32),
        kernel=kernel,
        pool_type="sum" if whole else pool_type,
        global_pool=global_pool,
        pooling_convention=pooling_convention,
        stride=stride,
        pad=pad,
        count_include_pad=count_include_pad,
    )
    found = g.emit("Div", found, float(math.prod(kernel))) if whole else found
    return _ranged(rounded(g, found, kind), g.identity(min_data), g.identity(max_data))


@lowers("_contrib_quantized_embedding", ignores="dtype sparse_grad")
def quantized_embedding(
    g: OperatorBuilder, data: ir.Value, weight: Exact, min_weight: Exact, max_weight: Exact, *, input_dim: int, output_dim: int
) -> Answer:
    """Rows of an int8 weight by index, in its range. Source: mxnet src/operator/quantization/quantized_indexing_op.cc."""
    held = g.emit("Clip", g.cast(data, np.int64), np.array(0, np.int64), np.array(input_dim - 1, np.int64))
    return _ranged(g.emit("Gather", weight, held, axis=0), g.identity(min_weight), g.identity(max_weight))
