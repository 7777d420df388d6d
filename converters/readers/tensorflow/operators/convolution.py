"""Convolutions. Sources: TensorFlow's core/kernels/{conv_ops,depthwise_conv_op,conv_grad_input_ops,conv_grad_shape_utils}.cc."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim
from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.windows import Pads, image_order, is_channels_first, padded, paddings, spatial


@lowers("Conv2D", "Conv3D", takes_bias=True)
def conv(g: TensorBuilder, node: Node, x: Tensor, filter: Tensor) -> Tensor:
    """Cross-correlation of images with a filter (h, w, in, out); fewer filter channels than the image has: grouped."""
    check_types(g, x, filter)
    rank = x.rank
    order = image_order(g, node, rank)
    channels, axis = g.dims(filter)[-2:], 1 if is_channels_first(g, node) else rank - 1
    given = g.dims(x)[axis]
    if filter.rank != rank or not isinstance(channels[0], int) or not isinstance(given, int) or not channels[0] or given % channels[0]:
        raise g.error(f"a filter of shape {g.dims(filter)} for an input of shape {g.dims(x)}")
    if filter.array is not None:
        weight = g.weight(filter, "weight", np.moveaxis(filter.array, (-1, -2), (0, 1)))
    else:
        weight = g.emit("Transpose", g.plain(filter), perm=[rank - 1, rank - 2, *range(rank - 2)])
    return _convolved(g, node, x, order, weight, given // channels[0])


@lowers("DepthwiseConv2dNative", takes_bias=True)
def depthwise_conv(g: TensorBuilder, node: Node, x: Tensor, filter: Tensor) -> Tensor:
    """Each channel with filters of its own (h, w, in, multiplier): channel c gives the channels c * multiplier + m."""
    check_types(g, x, filter)
    order = image_order(g, node, x.rank)
    given = g.dims(x)[1 if is_channels_first(g, node) else 3]
    h, w, channels, multiplier = g.array(filter, "filter").shape if filter.rank == 4 else (0, 0, 0, 0)
    if given != channels or not channels:
        raise g.error(f"a filter of shape {g.dims(filter)} for an input of shape {g.dims(x)}")
    weight = g.weight(filter, "weight", g.array(filter).transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, h, w))
    return _convolved(g, node, x, order, weight, channels)


def check_types(g: TensorBuilder, x: Tensor, filter: Tensor) -> None:
    if x.dtype != filter.dtype:
        raise g.error(f"an input of {x.dtype.name} with a filter of {filter.dtype.name}; the two have to be of one type")


def _convolved(g: TensorBuilder, node: Node, x: Tensor, order: tuple[int, ...], weight: ir.Value, groups: int) -> Tensor:
    rank = x.rank
    kernel = list(g.fixed(weight, 2))
    strides = spatial(g, node, "strides", rank)
    dilations = spatial(g, node, "dilations", rank, [1] * rank)
    if x.blocks is not None:
        if strides != [1] * len(strides) or node.text("padding", "") != "VALID":
            x = g.unblocked(x)
        else:
            dilations = [d * r for d, r in zip(dilations, x.blocks or [], strict=True)]
    value = g.ordered(x, order, keep_blocks=True)
    if x.dtype == np.float64:
        g.warn("double numbers, which onnxruntime has no convolution for: it is computed in float32")
        value, weight = g.cast(value, np.float32), g.cast(weight, np.float32)
    pads = paddings(g, node, g.shape(value)[2:], kernel, strides, dilations)
    if pads is None:
        value, pads = padded(g, value, kernel, strides, dilations, 0.0), ([0] * len(kernel), [0] * len(kernel))
    made = g.emit(
        "Conv",
        value,
        weight,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=[*pads[0], *pads[1]] if any(pads[0] + pads[1]) else None,
        group=groups,
        shape=[g.shape(value)[0], g.shape(weight)[0], *_windows(g, node, value, kernel, strides, dilations, pads)],
    )
    return g.result(g.cast(made, x.dtype), order, blocks=x.blocks)


def _windows(
    g: TensorBuilder,
    node: Node,
    x: ir.Value,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Pads,
) -> list[Dim]:
    """The sizes of what comes out; a symbol stays where every place has its window."""
    out: list[Dim] = []
    for size, k, s, d, before, behind in zip(g.shape(x)[2:], kernel, strides, dilations, *pads, strict=True):
        extent = (k - 1) * d + 1
        if isinstance(size, int):
            count = (size + before + behind - extent) // s + 1
            if count < 1:
                raise g.error(f"a window of {extent} on {size} pixels with {before + behind} of padding")
            g.is_covered |= count == 1 < size
            out.append(count)
        else:
            out.append(size if s == 1 and before + behind == extent - 1 else None)
    return out
