"""Convolutions. Sources: caffe/src/caffe/layers/{base_conv,conv,deconv,im2col}_layer.cpp; depthwise layers of forks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.activation import leaky
from converters.readers.caffe.layers.axes import canonical_axis, flat_from, product, reshape
from converters.readers.caffe.registry import lowers
from converters.readers.caffe.weights import FILL_LIMIT


def _per_axis(layer: Layer, p: Any, name: str, pair: tuple[str, str], rank: int, default: int | None) -> list[int]:
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


def _geometry(layer: Layer, p: Any, rank: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """kernel, stride, pad, dilation. Raises ConversionError for zeros."""
    kernel = _per_axis(layer, p, "kernel_size", ("kernel_h", "kernel_w"), rank, None)
    stride = _per_axis(layer, p, "stride", ("stride_h", "stride_w"), rank, 1)
    pad = _per_axis(layer, p, "pad", ("pad_h", "pad_w"), rank, 0)
    dilation = _per_axis(layer, p, "dilation", ("dilation_h", "dilation_w"), rank, 1)
    for name, values in (("kernel_size", kernel), ("stride", stride), ("dilation", dilation)):
        if min(values) < 1:
            raise layer.error(f"{name} 0; it is at least 1")
    return kernel, stride, pad, dilation


def _windows(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], dilation: Sequence[int]
) -> tuple[list[int], list[int]]:
    """How many windows there are along each axis, and the zeros behind it.

    Caffe's division rounds towards 0: a kernel that reaches less than a stride over the end has one window, and sees zeros there.
    """
    room = [n + 2 * q - d * (k - 1) - 1 for n, k, q, d in zip(sizes, kernel, pad, dilation, strict=True)]
    counts = [(r // s if r >= 0 else -(-r // s)) + 1 for r, s in zip(room, stride, strict=True)]
    return counts, [q + max(0, -r) for q, r in zip(pad, room, strict=True)]


def _split_axes(g: GraphBuilder, layer: Layer, x: ir.Value, axis: int) -> tuple[ir.Value, list[Dim], int, list[int]]:
    """x with all axes before `axis` made one: (batch, C, *spatial); those axes; C; the spatial sizes."""
    axis = canonical_axis(g, layer, x, axis)
    rest = g.fixed(x, axis)
    before = list(g.shape(x)[:axis])
    if axis != 1:
        matrix, before, _ = flat_from(g, x, axis)
        x = reshape(g, matrix, [g.shape(matrix)[0], *rest])
    return x, before, rest[0], list(rest[1:])


def _join_axes(g: GraphBuilder, y: ir.Value, before: Sequence[Dim]) -> ir.Value:
    return y if len(before) == 1 else reshape(g, y, [*before, *g.shape(y)[1:]])


def _convolve(
    g: GraphBuilder, layer: Layer, xs: Sequence[ir.Value], *, transposed: bool = False, depthwise: bool = False
) -> list[ir.Value]:
    p = layer.params.convolution_param
    if len(xs) < len(layer.tops):
        raise layer.error(f"has {len(layer.tops)} tops for {len(xs)} bottoms")
    results: list[ir.Value] = []
    weight = bias = None
    shape: tuple[int, ...] = ()
    for x in xs:
        x, before, channels, sizes = _split_axes(g, layer, x, p.axis)
        flat = not sizes  # no spatial axes: a matrix product, as a convolution of one pixel
        if flat:
            x, sizes = reshape(g, x, [*g.shape(x), 1]), [1]
            kernel, stride, pad, dilation = [1], [1], [0], [1]
        else:
            kernel, stride, pad, dilation = _geometry(layer, p, len(sizes))
        outputs = p.num_output or (channels if depthwise else 0)
        group = channels if depthwise else p.group
        if outputs < 1:
            raise layer.error("num_output is 0 or missing")
        if group < 1 or channels % group or outputs % group:
            raise layer.error(f"group {group} doesn't divide {channels} input and {outputs} output channels")
        if transposed:
            sized = [s * (n - 1) + d * (k - 1) + 1 - 2 * q for n, k, s, q, d in zip(sizes, kernel, stride, pad, dilation, strict=True)]
            ends = pad
        else:
            sized, ends = _windows(sizes, kernel, stride, pad, dilation)
        if min(sized) < 1:
            raise layer.error(f"kernel {kernel} (dilation {dilation}, pad {pad}) on {sizes} would give an output of {sized}")
        if weight is None:
            layer.weights.expect(1 + p.bias_term)
            shape = (channels, outputs // group, *kernel) if transposed else (outputs, channels // group, *kernel)
            weight = layer.weights.value(g, 0, "weight", shape[:2] if flat else shape, p.weight_filler, view=shape)
            bias = layer.weights.value(g, 1, "bias", (outputs,), p.bias_filler) if p.bias_term else None
        elif channels != (shape[0] if transposed else shape[1] * group):
            raise layer.error("its bottoms must have the same number of channels")
        y = g.emit(
            "ConvTranspose" if transposed else "Conv",
            x,
            weight,
            *([bias] if bias is not None else []),
            kernel_shape=kernel,
            strides=stride if max(stride) > 1 else None,
            pads=[*pad, *ends] if any(pad) or any(ends) else None,
            dilations=dilation if max(dilation) > 1 else None,
            group=group if group > 1 else None,
            shape=[g.shape(x)[0], outputs, *sized],
        )
        y = leaky(g, y, p.negative_slope) if p.relu else y
        results.append(_join_axes(g, reshape(g, y, g.shape(y)[:-1]) if flat else y, before))
    return results


@lowers("Convolution")
def convolution(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Convolution over any number of spatial axes, grouped and dilated. x: (N, C, *spatial)."""
    return _convolve(g, layer, [x, *more])


@lowers("Deconvolution")
def deconvolution(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Transposed convolution, grouped and dilated. x: (N, C, *spatial)."""
    return _convolve(g, layer, [x, *more], transposed=True)


@lowers("ConvolutionDepthwise", "DepthwiseConvolution")
def depthwise_convolution(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Convolution of each channel by itself (forks): group is the number of channels. x: (N, C, *spatial)."""
    return _convolve(g, layer, [x, *more], depthwise=True)


@lowers("Im2col")
def im2col(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """The patches under a convolution's kernel, as channels. x: (N, C, *spatial) to (N, C * kernel size, *windows)."""
    p = layer.params.convolution_param
    x, before, channels, sizes = _split_axes(g, layer, x, p.axis)
    if not sizes:
        raise layer.error(f"its bottom of shape {g.shape(x)} has no spatial axes behind axis {p.axis}")
    kernel, stride, pad, dilation = _geometry(layer, p, len(sizes))
    taps = product(kernel)
    if channels * taps * taps > FILL_LIMIT:
        raise layer.error(f"kernel {kernel} on {channels} channels is too large")
    # One output channel for each tap of the kernel, which it copies.
    copies = np.tile(np.eye(taps, dtype=np.float32), (channels, 1)).reshape(channels * taps, 1, *kernel)
    sized, ends = _windows(sizes, kernel, stride, pad, dilation)
    if min(sized) < 1:
        raise layer.error(f"kernel {kernel} (dilation {dilation}, pad {pad}) is larger than the bottom's {sizes}")
    y = g.emit(
        "Conv", x, g.const(copies, role="taps"), kernel_shape=kernel, strides=stride, pads=[*pad, *ends], dilations=dilation, group=channels
    )
    return _join_axes(g, y, before)
