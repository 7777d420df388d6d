"""Layers on three spatial axes: C3D's, on clips (N, C, L, H, W)."""

from __future__ import annotations

from typing import Literal

import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.graph.pooling import pool
from converters.graph.windows import output_sizes
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.registry import lowers
from converters.schemas import caffe_pb2

Convolution = caffe_pb2.Convolution3DParameter | caffe_pb2.ConvolutionParameter

READ = frozenset(
    (
        "num_output bias_term weight_filler bias_filler filter_group pool kernel_size stride pad kernel_depth temporal_stride temporal_pad"
    ).split()
)
"""What the layers read of convolution_param and pooling_param, which C3D 1.0 has for those of two axes as well."""


def _refuse_flat(layer: Layer, part: str) -> None:
    """Raises ConversionError for fields of layers on two axes."""
    others = {field.name for field in getattr(layer.params, part).DESCRIPTOR.fields} - READ
    layer.refuse(part, others, "layers on two axes")


def _single(layer: Layer, value: object, default: int = 0) -> int:
    """A number, which version 1.0 states in a field that may be repeated."""
    if isinstance(value, int):
        return value
    found = list(value)  # type: ignore[call-overload]
    if len(found) > 1:
        raise layer.error(f"has {len(found)} values of kernel_size, stride or pad; C3D has one, for rows and columns")
    return int(found[0]) if found else default


def _convolved(g: GraphBuilder, layer: Layer, x: ir.Value, *, transposed: bool) -> ir.Value:
    """A convolution with a cubic stride: depth by square."""
    p: Convolution = layer.params.convolution3d_param
    if not layer.params.HasField("convolution3d_param"):
        p = layer.params.convolution_param
        _refuse_flat(layer, "convolution_param")
    if g.rank(x) != 5:
        raise layer.error(f"needs a bottom (N, C, L, H, W), not {g.shape(x)}")
    (channels,) = g.fixed(x, 1, 2)
    side, stride, pad = _single(layer, p.kernel_size), _single(layer, p.stride, 1), _single(layer, p.pad)
    kernel, strides, pads = [p.kernel_depth, side, side], [p.temporal_stride, stride, stride], [p.temporal_pad, pad, pad]
    if min(kernel) < 1 or min(strides) < 1 or p.num_output < 1:
        raise layer.error(f"num_output {p.num_output}, kernel {kernel} and stride {strides} must be at least 1")
    layer.weights.expect(1 + p.bias_term)
    shape = (channels, p.num_output, *kernel) if transposed else (p.num_output, channels, *kernel)
    weights = [layer.weights.value(g, 0, "weight", shape, p.weight_filler)]
    if p.bias_term:
        weights.append(layer.weights.value(g, 1, "bias", (p.num_output,), p.bias_filler))
    operator = "ConvTranspose" if transposed else "Conv"
    return g.emit(operator, x, *weights, kernel_shape=kernel, strides=strides, pads=pads * 2 if any(pads) else None)


@lowers("Convolution3D")
def convolution_3d(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Convolution of clips, kernel_depth by kernel_size squared.

    x: (N, C, L, H, W) to (N, num_output, windows). Source: C3D's convolution3d_layer.cpp.
    """
    return _convolved(g, layer, x, transposed=False)


@lowers("Deconvolution3D")
def deconvolution_3d(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Transposed convolution of clips. x: (N, C, L, H, W) to (N, num_output, larger). Source: C3D's deconvolution3d_layer.cpp."""
    return _convolved(g, layer, x, transposed=True)


@lowers("Pooling3D")
def pooling_3d(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Max and average pooling of clips, sizes rounded up on all three axes.

    x: (N, C, L, H, W) to (N, C, windows). Source: C3D's pooling3d_layer.cpp.
    """
    p = layer.params.pooling3d_param if layer.params.HasField("pooling3d_param") else layer.params.pooling_param
    _refuse_flat(layer, "pooling_param")
    if g.rank(x) != 5:
        raise layer.error(f"needs a bottom (N, C, L, H, W), not {g.shape(x)}")
    if p.pool == p.STOCHASTIC:
        raise layer.error("STOCHASTIC pooling draws random numbers; use MAX or AVE")
    if p.pad and p.pool != p.AVE:
        raise layer.error("pad goes with AVE alone")
    kernel, strides = [p.kernel_depth, p.kernel_size, p.kernel_size], [p.temporal_stride, p.stride, p.stride]
    pads = [0, p.pad, p.pad]
    if min(kernel) < 1 or min(strides) < 1 or p.pad >= p.kernel_size:
        raise layer.error(f"kernel {kernel}, stride {strides}, pad {pads}: kernel and stride are at least 1, a pad is below its kernel")
    out = output_sizes(g.fixed(x, 2), kernel, strides, pads, ceil=True, clip="never")
    if min(out) < 1:
        raise layer.error(f"kernel {kernel} on {list(g.fixed(x, 2))} would give an output of {out}")
    mode: Literal["max", "average"] = "max" if p.pool == p.MAX else "average"
    y: ir.Value = pool(
        g, x if not p.pad else g.pin(x), mode, kernel=kernel, strides=strides, pads=pads, out=out, ceil=None if p.pad else True
    )
    return y


@lowers("VoxelSoftmax")
def voxel_softmax(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Softmax over the channels of each voxel. x: (N, C, L, H, W). Source: C3D 1.0's voxel_wise_softmax_layer.cpp."""
    return g.emit("Softmax", x, axis=1)
