"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.activation import leaky
from converters.readers.caffe.layers.axes import canonical_axis, product
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT
from converters.schemas import caffe_pb2

Params = caffe_pb2.ConvolutionParameter

OF_CLIPS = ("kernel_depth", "temporal_pad", "temporal_stride", "filter_group")
"""Fields of C3D's Convolution3D and Deconvolution3D, which share convolution_param with the rest in C3D 1.0."""


@dataclass(frozen=True)
class _Geometry:
    """Of a kernel, along each spatial axis."""

    kernel: list[int]
    stride: list[int]
    pad: list[int]
    dilation: list[int]

    def __str__(self) -> str:
        return f"kernel {self.kernel} (dilation {self.dilation}, pad {self.pad})"


def _per_axis(layer: Layer, p: Params, name: str, pair: tuple[str, str], rank: int, default: int | None) -> list[int]:
    """kernel_size, stride, pad or dilation along each spatial axis; `pair` names its 2-D form (kernel_h, kernel_w)."""
    given = list(getattr(p, name))
    if any(p.HasField(part) for part in pair):
        if rank != 2:
            raise layer.error(f"{pair[0]} and {pair[1]} are for 2 spatial axes; the bottom has {rank}")
        if given:
            raise layer.error(f"both {name} and {pair[0]}, {pair[1]}; Caffe allows one of them")
        sizes = [getattr(p, part) if p.HasField(part) else None for part in pair]
        if None in sizes and name not in ("pad", "dilation"):
            raise layer.error(f"{pair[0]} and {pair[1]} must come together")
        return [size if size is not None else int(name == "dilation") for size in sizes]
    if not given:
        if default is None:
            raise layer.error(f"has no {name}")
        given = [default]
    if len(given) not in (1, rank):
        raise layer.error(f"has {len(given)} values of {name} for {rank} spatial axes")
    return given if len(given) == rank else given * rank


def _geometry(layer: Layer, p: Params, rank: int) -> _Geometry:
    """The kernel's geometry. Raises ConversionError for zeros."""
    layer.refuse("convolution_param", OF_CLIPS, "Convolution3D and Deconvolution3D")
    kernel = _per_axis(layer, p, "kernel_size", ("kernel_h", "kernel_w"), rank, None)
    stride = _per_axis(layer, p, "stride", ("stride_h", "stride_w"), rank, 1)
    pad = _per_axis(layer, p, "pad", ("pad_h", "pad_w"), rank, 0)
    dilation = _per_axis(layer, p, "dilation", ("dilation_h", "dilation_w"), rank, 1)
    for name, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) < 1:
            raise layer.error(f"{name} 0; it is at least 1")
    return _Geometry(kernel, stride, pad, dilation)


def _windows(sizes: Sequence[int], at: _Geometry) -> tuple[list[int], list[int]]:
    """How many windows there are along each axis, and the zeros behind it.

    Caffe's division rounds towards 0: a kernel that reaches less than a stride over the end has one window, and sees zeros there.
    """
    room = [n + 2 * q - d * (k - 1) - 1 for n, k, q, d in zip(sizes, at.kernel, at.pad, at.dilation, strict=True)]
    counts = [(r // s if r >= 0 else -(-r // s)) + 1 for r, s in zip(room, at.stride, strict=True)]
    return counts, [q + max(0, -r) for q, r in zip(at.pad, room, strict=True)]


def _transposed_sizes(sizes: Sequence[int], at: _Geometry) -> list[int]:
    """The output's sizes of a transposed convolution."""
    return [s * (n - 1) + d * (k - 1) + 1 - 2 * q for n, k, s, q, d in zip(sizes, at.kernel, at.stride, at.pad, at.dilation, strict=True)]


def _split_axes(g: GraphBuilder, x: ir.Value, axis: int) -> tuple[ir.Value, int, list[int]]:
    """x with all axes before `axis` made one: (batch, C, *spatial); C; the spatial sizes."""
    channels, *sizes = g.fixed(x, axis)
    return g.reshape(x, [None, channels, *g.extents(x, axis + 1)]) if axis != 1 else x, channels, sizes


def _join_axes(g: GraphBuilder, y: ir.Value, x: ir.Value, axis: int) -> ir.Value:
    """y (batch, C, *spatial) with x's axes before `axis` again."""
    return y if axis == 1 else g.reshape(y, [*g.extents(x, 0, axis), g.fixed(y, 1, 2)[0], *g.extents(y, 2)])


class _Convolution:
    """A convolution of each of a layer's bottoms with the same weights."""

    def __init__(self, g: GraphBuilder, layer: Layer, *, transposed: bool = False, depthwise: bool = False) -> None:
        self.g, self.layer, self.p = g, layer, layer.params.convolution_param
        self.transposed, self.depthwise = transposed, depthwise
        self.weights: list[ir.Value] = []
        self.channels = 0  # that the weights take

    def of(self, xs: Sequence[ir.Value]) -> list[ir.Value]:
        if len(xs) < len(self.layer.tops):
            raise self.layer.error(f"has {len(self.layer.tops)} tops for {len(xs)} bottoms")
        return [self._one(x) for x in xs]

    def _one(self, bottom: ir.Value) -> ir.Value:
        g, layer = self.g, self.layer
        axis = canonical_axis(g, layer, bottom, self.p.axis)
        x, channels, sizes = _split_axes(g, bottom, axis)
        flat = not sizes  # no spatial axes: a matrix product, as a convolution of one pixel
        if flat:
            x, sizes = g.reshape(x, [*g.extents(x), 1]), [1]
        at = _Geometry([1], [1], [0], [1]) if flat else _geometry(layer, self.p, len(sizes))
        outputs, group = self._groups(channels)
        sized, ends = (_transposed_sizes(sizes, at), at.pad) if self.transposed else _windows(sizes, at)
        if min(sized) < 1:
            raise layer.error(f"{at} on {sizes} would give an output of {sized}")
        weights = self._weights(channels, outputs, group, at.kernel, flat)
        y = g.emit(
            "ConvTranspose" if self.transposed else "Conv",
            g.pin(x) if ends != at.pad else x,  # zeros behind this size alone
            *weights,
            kernel_shape=at.kernel,
            strides=at.stride if max(at.stride) > 1 else None,
            pads=[*at.pad, *ends] if any(at.pad) or any(ends) else None,
            dilations=at.dilation if max(at.dilation) > 1 else None,
            group=group if group > 1 else None,
            shape=[g.shape(x)[0], outputs, *sized],
        )
        y = leaky(g, y, self.p.negative_slope) if self.p.relu else y
        y = g.reshape(y, g.extents(y, 0, 2)) if flat else y
        return _join_axes(g, y, bottom, axis)

    def _groups(self, channels: int) -> tuple[int, int]:
        """num_output and group. Raises ConversionError where they don't fit the channels."""
        outputs = self.p.num_output or (channels if self.depthwise else 0)
        group = channels if self.depthwise else self.p.group
        if outputs < 1:
            raise self.layer.error("num_output is 0 or missing")
        if group < 1 or channels % group or outputs % group:
            raise self.layer.error(f"group {group} doesn't divide {channels} input and {outputs} output channels")
        return outputs, group

    def _weights(self, channels: int, outputs: int, group: int, kernel: Sequence[int], flat: bool) -> list[ir.Value]:
        """Weight and bias, taken once."""
        if self.weights:
            if channels != self.channels:
                raise self.layer.error("its bottoms must have the same number of channels")
            return self.weights
        p, parameters = self.p, self.layer.weights
        self.channels = channels
        parameters.expect(1 + p.bias_term)
        shape = (channels, outputs // group, *kernel) if self.transposed else (outputs, channels // group, *kernel)
        self.weights = [parameters.value(self.g, 0, "weight", shape[:2] if flat else shape, p.weight_filler, view=shape)]
        if p.bias_term:
            self.weights.append(parameters.value(self.g, 1, "bias", (outputs,), p.bias_filler))
        return self.weights


@lowers("Convolution", outputs="convolution_param")
def convolution(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Convolution over any number of spatial axes, grouped and dilated.

    x: (N, C, *spatial) to (N, num_output, *windows). Source: caffe/layers/base_conv_layer.cpp, conv_layer.cpp.
    """
    return _Convolution(g, layer).of([x, *more])


@lowers("Deconvolution", outputs="convolution_param")
def deconvolution(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Transposed convolution, grouped and dilated.

    x: (N, C, *spatial) to (N, num_output, *larger). Source: caffe/layers/base_conv_layer.cpp, deconv_layer.cpp.
    """
    return _Convolution(g, layer, transposed=True).of([x, *more])


@lowers("ConvolutionDepthwise", "DepthwiseConvolution")
def depthwise_convolution(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Convolution of each channel by itself (forks): group is the number of channels.

    x: (N, C, *spatial). Source: depthwise_conv_layer.cpp of MobileNet's forks.
    """
    return _Convolution(g, layer, depthwise=True).of([x, *more])


@lowers("Im2col")
def im2col(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """The patches under a convolution's kernel, as channels.

    x: (N, C, *spatial) to (N, C * kernel size, *windows). Source: caffe/layers/im2col_layer.cpp, caffe/util/im2col.cpp.
    """
    p = layer.params.convolution_param
    axis = canonical_axis(g, layer, x, p.axis)
    whole, channels, sizes = _split_axes(g, x, axis)
    if not sizes:
        raise layer.error(f"its bottom of shape {g.shape(x)} has no spatial axes behind axis {p.axis}")
    at = _geometry(layer, p, len(sizes))
    taps = product(at.kernel)
    if channels * taps * taps > FILL_LIMIT:
        raise layer.error(f"kernel {at.kernel} on {channels} channels is too large")
    # One output channel for each tap of the kernel, which it copies.
    copies = np.tile(np.eye(taps, dtype=np.float32), (channels, 1)).reshape(channels * taps, 1, *at.kernel)
    sized, ends = _windows(sizes, at)
    if min(sized) < 1:
        raise layer.error(f"{at} is larger than the bottom's {sizes}")
    y = g.emit(
        "Conv",
        g.pin(whole) if ends != at.pad else whole,
        g.const(copies, role="taps"),
        kernel_shape=at.kernel,
        strides=at.stride,
        pads=[*at.pad, *ends],
        dilations=at.dilation,
        group=channels,
    )
    return _join_axes(g, y, x, axis)
