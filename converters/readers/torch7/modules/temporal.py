"""Layers over time: inputs are (N, T, C) or (T, C)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.graph.pooling import pool
from converters.graph.windows import output_sizes
from converters.readers.torch7.module import Module, lowers
from converters.readers.torch7.modules.convolution import bias_of


def _channels_first(g: GraphBuilder, module: Module, x: ir.Value, channels: int | None, *, swap: bool = True) -> tuple[ir.Value, bool]:
    """(N, T, C) or (T, C) as (N, C, T), and whether there was no batch."""
    rank = g.rank(x)
    if rank not in (2, 3):
        raise module.error(f"its input must have 2 or 3 dimensions, but has shape {g.shape(x)}")
    axis = rank - 1 if swap else rank - 2
    if channels is not None and g.fixed(x, axis, axis + 1) != (channels,):
        raise module.error(f"it takes {channels} features, but its input has shape {g.shape(x)}")
    batch = g.emit("Unsqueeze", x, [0]) if rank == 2 else x
    return g.emit("Transpose", batch, perm=[0, 2, 1]) if swap else batch, rank == 2


def _back(g: GraphBuilder, x: ir.Value, single: bool, *, swap: bool = True) -> ir.Value:
    out = g.emit("Transpose", x, perm=[0, 2, 1]) if swap else x
    return g.emit("Squeeze", out, [0]) if single else out


@lowers("nn.TemporalConvolution", "cudnn.TemporalConvolution", "nn.UnfoldedTemporalConvolution")
def temporal_convolution(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution over time; weight (out, kernel * in), the kernel outside; some pad time with zeros.
    Source: THNN/generic/TemporalConvolution.c, fbnn/UnfoldedTemporalConvolution.lua.
    """
    cudnn = module.type.startswith("cudnn.")  # which runs it as an image of one channel: time is H
    inputs, outputs = module.integer("inputFrameSize", least=1), module.integer("outputFrameSize", least=1)
    kernel, stride = module.integer("kH" if cudnn else "kW", least=1), module.integer("dH" if cudnn else "dW", 1, least=1)
    pad = module.integer("padH", 0, least=0) if cudnn else module.integer("pad", 0, least=0) if module.type.startswith("nn.Unf") else 0
    weight = module.tensor("weight")
    if weight.shape[:1] != (outputs,) or weight.size != outputs * kernel * inputs:
        raise module.error(f"field 'weight' has shape {weight.shape}, expected {(outputs, kernel * inputs)}")
    weight = weight.reshape(outputs, kernel, inputs).swapaxes(1, 2)
    given, single = _channels_first(g, module, x, inputs)
    parameters = module.param("weight", weight), bias_of(module, outputs)
    out = g.emit("Conv", given, *parameters, kernel_shape=[kernel], strides=[stride], pads=[pad, pad])
    if g.shape(out)[2] == 0:
        raise module.error(f"its input of shape {g.shape(x)} is shorter than its kernel")
    return _back(g, out, single)


@lowers("nn.TemporalRowConvolution")
def temporal_row_convolution(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution over time of each feature by itself. Source: THNN/generic/TemporalRowConvolution.c."""
    inputs, kernel, stride = module.integer("inputFrameSize", least=1), module.integer("kW", least=1), module.integer("dW", 1, least=1)
    weight = module.tensor("weight")
    if weight.shape[:1] != (inputs,) or weight.size != inputs * kernel:
        raise module.error(f"field 'weight' has shape {weight.shape}, expected {(inputs, 1, kernel)}")
    swap = not module.flag("featFirst")
    given, single = _channels_first(g, module, x, inputs, swap=swap)
    parameters = module.param("weight", weight.reshape(inputs, 1, kernel)), bias_of(module, inputs)
    out = g.emit("Conv", given, *parameters, kernel_shape=[kernel], strides=[stride], group=inputs)
    return _back(g, out, single, swap=swap)


@lowers("nn.TemporalMaxPooling")
def temporal_max_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Maximum over kW steps of time. Source: THNN/generic/TemporalMaxPooling.c."""
    return _pooled(g, module, x, None)


@lowers("nn.TemporalSubSampling")
def temporal_sub_sampling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """weight_c times the SUM over kW steps of time, plus bias_c. Source: THNN/generic/TemporalSubSampling.c."""
    inputs = module.integer("inputFrameSize", least=1)
    total = _pooled(g, module, x, inputs)
    weight, bias = module.param("weight", module.tensor("weight", inputs)), module.param("bias", module.tensor("bias", inputs))
    return g.emit("Add", g.emit("Mul", total, weight), bias)


def _pooled(g: GraphBuilder, module: Module, x: ir.Value, channels: int | None) -> ir.Value:
    kernel = module.integer("kW", least=1)
    stride = module.integer("dW", kernel if channels is None else 1, least=1)
    given, single = _channels_first(g, module, x, channels)
    out = output_sizes(g.fixed(given, 2), [kernel], [stride], [0], ceil=False, clip="never")
    mode: Literal["max", "sum"] = "max" if channels is None else "sum"
    return _back(g, pool(g, given, mode, kernel=[kernel], strides=[stride], pads=[0], out=out, ceil=False), single)


@lowers("nn.TemporalDynamicKMaxPooling")
def temporal_dynamic_k_max_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The max(minK, ceil(factor * T)) greatest of each feature over time, in their order. Source: nn/TemporalDynamicKMaxPooling.lua."""
    rank = g.rank(x)
    if rank not in (2, 3):
        raise module.error(f"its input must have 2 or 3 dimensions, but has shape {g.shape(x)}")
    axis = rank - 2
    (steps,) = g.fixed(x, axis, axis + 1)
    least = module.integer("minK", least=1)
    factor = module.number("factor", 0.0)
    count = max(least, math.ceil(factor * steps))
    x = g.pin(x, axis) if factor else x
    if count > steps:
        raise module.error(f"its input of shape {g.shape(x)} is shorter than the {count} steps to keep")
    k = np.array([count], dtype=np.int64)
    _, indices = g.emit_all("TopK", x, k, outputs=2, axis=axis, largest=1, sorted=1)
    indices, _ = g.emit_all("TopK", indices, k, outputs=2, axis=axis, largest=0, sorted=1)
    return g.emit("GatherElements", x, indices, axis=axis)


@lowers("nn.TemporalConvolutionTBC")
def temporal_convolution_tbc(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Convolution over time of (T, N, C), which `pad` zeros surround; weight (kernel, in, out). Source: fbnn/TemporalConvolutionTBC.lua."""
    weight = module.tensor("weight", None, None, None)
    inputs, outputs, pad = weight.shape[1], weight.shape[2], module.integer("pad", 0, least=0)
    if g.rank(x) != 3 or g.fixed(x, 2) != (inputs,):
        raise module.error(f"its input must be (T, N, {inputs}), but has shape {g.shape(x)}")
    kernels = module.param("weight", np.ascontiguousarray(weight.transpose(2, 1, 0)))
    given = g.emit("Transpose", x, perm=[1, 2, 0])
    out = g.emit("Conv", given, kernels, bias_of(module, outputs), kernel_shape=[weight.shape[0]], pads=[pad, pad])
    return g.emit("Transpose", out, perm=[2, 0, 1])
