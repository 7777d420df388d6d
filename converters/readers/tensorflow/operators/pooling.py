"""Pooling. Sources: TensorFlow's core/kernels/{maxpooling_op,avgpooling_op,pooling_ops_common,pooling_ops_3d}.cc."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.values import IMAGE
from converters.readers.tensorflow.windows import Pads, image_order, is_channels_first, padded, paddings, spatial


@lowers("MaxPool", "MaxPool3D")
def max_pool(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """The largest pixel of each window; padding never wins. A window over channels takes the largest of as many, one behind the other."""
    if x.rank == 4 and not is_channels_first(g, node):
        over = _over_channels(g, node, x, node.ints("ksize"), node.ints("strides"))
        if over is not None:
            return over
    return _pooled(g, node, x, "MaxPool", spatial(g, node, "ksize", x.rank), spatial(g, node, "strides", x.rank))


@lowers("MaxPoolV2")
def max_pool_v2(g: TensorBuilder, node: Node, x: Tensor, ksize: Tensor, strides: Tensor) -> Tensor:
    """As MaxPool; window and strides are inputs."""
    windows, steps = g.integers(ksize, "ksize"), g.integers(strides, "strides")
    over = _over_channels(g, node, x, windows, steps)
    if over is not None:
        return over
    if is_channels_first(g, node):
        raise g.error("channels on axis 1, which TensorFlow's CPU doesn't have either")
    if len(windows) != 4 or len(steps) != 4 or windows[0] != 1 or windows[3] != 1 or steps[0] != 1 or steps[3] != 1:
        raise g.error(f"windows {windows}, strides {steps}: over batch and channels they have no form here")
    return _pooled(g, node, x, "MaxPool", windows[1:3], steps[1:3])


@lowers("MaxPoolWithArgmax")
def max_pool_with_places(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """As MaxPool; the places of the largest have no form here, and whoever needs them is refused."""
    return _pooled(g, node, x, "MaxPool", spatial(g, node, "ksize", x.rank), spatial(g, node, "strides", x.rank))


def _over_channels(g: TensorBuilder, node: Node, x: Tensor, windows: list[int], steps: list[int]) -> Tensor | None:
    """Groups of channels, each by its largest; None for other windows."""
    if x.rank != 4 or len(windows) != 4 or windows[:3] != [1, 1, 1] or windows[3] < 2:
        return None
    value, count = g.ordered(x, IMAGE), windows[3]
    c = g.shape(value)[1]
    if steps != windows or not isinstance(c, int) or c % count:
        raise g.error(f"windows {windows}, strides {steps} over {c} channels")
    extents = g.extents(value)
    groups = g.reshape(value, [extents[0], c // count, count, *extents[2:]])
    return g.result(g.emit("ReduceMax", groups, [2], keepdims=0), IMAGE)


@lowers("AvgPool", "AvgPool3D")
def average_pool(g: TensorBuilder, node: Node, x: Tensor) -> Tensor:
    """The average of each window's pixels; SAME padding doesn't count."""
    return _pooled(g, node, x, "AveragePool", spatial(g, node, "ksize", x.rank), spatial(g, node, "strides", x.rank))


def _pooled(g: TensorBuilder, node: Node, x: Tensor, op_type: str, kernel: list[int], strides: list[int]) -> Tensor:
    order = image_order(g, node, x.rank)
    ones = [1] * len(kernel)
    if x.blocks is not None and op_type == "MaxPool" and strides == ones and node.text("padding", "") == "VALID":
        value = g.ordered(x, order, keep_blocks=True)  # a window of each piece is one of the whole with gaps
        return g.result(g.emit(op_type, value, kernel_shape=kernel, strides=strides, dilations=list(x.blocks)), order, blocks=x.blocks)
    value = g.ordered(x, order)
    pads = paddings(g, node, g.shape(value)[2:], kernel, strides, ones)
    shape = [*g.shape(value)[:2], *_counts(g, value, kernel, strides, pads)]
    if pads is not None:
        both = [*pads[0], *pads[1]]
        if any(p >= k for p, k in zip(both, [*kernel, *kernel], strict=True)):
            raise g.error(f"pads {both} reach the window's size {kernel}")
        made = g.emit(op_type, value, kernel_shape=kernel, strides=strides, pads=both if any(both) else None, shape=shape)
        return g.result(made, order)
    if op_type == "MaxPool":
        lowest = -math.inf if x.dtype.kind == "f" else float(np.iinfo(x.dtype).min)
        return g.result(g.emit(op_type, padded(g, value, kernel, strides, ones, lowest), kernel_shape=kernel, strides=strides), order)
    total = g.emit(op_type, padded(g, value, kernel, strides, ones, 0.0), kernel_shape=kernel, strides=strides)
    plane = g.emit("Add", g.emit("Mul", g.emit("Slice", value, [0], [1], [1]), 0.0), 1.0)
    share = g.emit(op_type, padded(g, plane, kernel, strides, ones, 0.0), kernel_shape=kernel, strides=strides)
    return g.result(g.emit("Div", total, share), order)


def _counts(g: TensorBuilder, x: ir.Value, kernel: list[int], strides: list[int], pads: Pads | None) -> list[int | None]:
    """How many windows there are along each axis; None where that isn't known."""
    found: list[int | None] = []
    for axis, (k, s) in enumerate(zip(kernel, strides, strict=True)):
        size = g.shape(x)[axis + 2]
        if not isinstance(size, int) or pads is None:
            found.append(None)
            continue
        count = (size + pads[0][axis] + pads[1][axis] - k) // s + 1
        if count < 1:
            raise g.error(f"a window of {k} on {size} pixels")
        g.is_covered |= count == 1 < size
        found.append(count)
    return found
