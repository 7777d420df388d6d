"""Transposed convolutions. Sources: TensorFlow's core/kernels/{conv_grad_input_ops,depthwise_conv_grad_op,conv_grad_shape_utils}.cc."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.tensorflow.operators.convolution import check_types
from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.windows import image_order, is_channels_first, paddings, spatial


@lowers("Conv2DBackpropInput", takes_bias=True)
def transposed_conv(g: TensorBuilder, node: Node, wanted: Tensor, filter: Tensor, x: Tensor) -> Tensor:
    """The gradient of a convolution with a filter (h, w, out, in), which gives back images of the size that is stated.

    SAME pads as it would on that size; what the windows don't reach is 0.
    """
    check_types(g, x, filter)
    weight = g.weight(filter, "weight", g.array(filter, "filter").transpose(3, 2, 0, 1))
    return _transposed(g, node, wanted, x, weight, 1)


@lowers("DepthwiseConv2dNativeBackpropInput")
def transposed_depthwise_conv(g: TensorBuilder, node: Node, wanted: Tensor, filter: Tensor, x: Tensor) -> Tensor:
    """The gradient of a depthwise convolution with a filter (h, w, out, multiplier)."""
    check_types(g, x, filter)
    h, w, channels, multiplier = g.array(filter, "filter").shape if filter.rank == 4 else (0, 0, 0, 0)
    weight = g.weight(filter, "weight", g.array(filter).transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, h, w))
    return _transposed(g, node, wanted, x, weight, channels)


def _transposed(g: TensorBuilder, node: Node, wanted: Tensor, x: Tensor, weight: ir.Value, groups: int) -> Tensor:
    order = image_order(g, node, 4)
    strides = spatial(g, node, "strides", 4)
    dilations = spatial(g, node, "dilations", 4, [1] * 4)
    if dilations != [1, 1]:
        raise g.error(f"dilations {dilations}, which TensorFlow's CPU doesn't have either")
    value = g.ordered(x, order)
    kernel = list(g.fixed(weight, 2))
    if g.shape(value)[1] != g.shape(weight)[0]:
        raise g.error(f"filters of shape {g.shape(weight)} for an input of shape {g.dims(x)}")
    entries = g.size_entries(wanted, "input_sizes")
    if entries is not None and len(entries) not in (2, 4):
        raise g.error(f"its input_sizes has {len(entries)} entries")
    axes = [axis for axis in range(4) if axis not in (0, 1 if is_channels_first(g, node) else 3)]
    sizes = [None, None] if entries is None else list(entries) if len(entries) == 2 else [entries[axis] for axis in axes]
    before, behind = [], []
    for axis, size in enumerate(sizes):
        cut = _cut(g, node, value, axis, size, kernel, strides)
        if cut is None:
            return g.result(_cut_later(g, node, value, weight, axes, wanted, kernel, strides, groups), order)
        before.append(cut[0])
        behind.append(cut[1])
    kept = [max(n, 0) for n in behind]
    pads = [*before, *kept] if any(before + kept) else None
    made = g.emit("ConvTranspose", value, weight, kernel_shape=kernel, strides=strides, pads=pads, group=groups)
    longer = [max(-n, 0) for n in behind]
    if any(longer):
        made = g.emit("Pad", made, [0, 0, 0, 0, 0, 0, *longer])
    return g.result(made, order)


def _cut(
    g: TensorBuilder, node: Node, x: ir.Value, axis: int, size: int | Extent | None, kernel: Sequence[int], strides: Sequence[int]
) -> tuple[int, int] | None:
    """What an axis of the full result, (n - 1) * stride + kernel long, loses before and behind (below 0: is filled with zeros).

    None where that depends on sizes that are known only when the net runs.
    """
    k, s, kind = kernel[axis], strides[axis], node.text("padding", "")
    length = g.shape(x)[axis + 2]
    if isinstance(size, int) and isinstance(length, int):
        none = [[0], [0]]
        every = paddings(g, node, [size if i == axis else 1 for i in range(2)], kernel, strides, [1, 1]) or none
        first, last = every[0][axis], every[1][axis]
        count = -(-size // s) if kind == "SAME" else (size + first + last - k) // s + 1
        if count != length:
            raise g.error(f"an axis of {size} has {count} windows, but the input has {length} of them")
        return first, (length - 1) * s + k - first - size
    if not isinstance(size, Extent) or kind not in ("SAME", "VALID"):
        return None
    same = g.shape(size.value)[size.axis] == length and isinstance(length, str)
    if not same or size.times != s or size.before or size.over != 1:
        return None
    first = max(k - s - size.plus, 0) // 2 if kind == "SAME" else 0  # of an image of n * stride + plus
    fits = -s < size.plus <= 0 if kind == "SAME" else k - s <= size.plus < k
    if not fits:
        raise g.error(f"an axis of {s} * n + {size.plus} doesn't have n windows")
    return first, k - s - size.plus - first


def _cut_later(
    g: TensorBuilder,
    node: Node,
    x: ir.Value,
    weight: ir.Value,
    axes: Sequence[int],
    wanted: Tensor,
    kernel: list[int],
    strides: list[int],
    groups: int,
) -> ir.Value:
    """The full result, filled and cut to the size that is stated when the net runs."""
    kind = node.text("padding", "")
    if kind not in ("SAME", "VALID"):
        raise g.error(f"its padding is '{kind}', for a size that is known only when the net runs")
    full = g.emit("ConvTranspose", x, weight, kernel_shape=kernel, strides=strides, group=groups)
    given = g.cast(g.plain(wanted), np.int64)
    goal = given if g.shape(given) == (2,) else g.emit("Gather", given, np.array(axes, np.int64))
    length = g.emit("Shape", full, start=2)
    first = g.const(np.zeros(2, np.int64))
    if kind == "SAME":
        first = g.emit("Div", g.emit("Max", g.emit("Sub", length, goal), np.array(0, np.int64)), np.array(2, np.int64))
    end = g.emit("Add", first, goal)
    short = g.emit("Max", g.emit("Sub", end, length), np.array(0, np.int64))
    pads = g.emit("Concat", g.const(np.zeros(6, np.int64)), short, axis=0)
    filled = g.emit("Pad", full, pads, shape=[*g.shape(full)[:2], None, None])
    return g.emit("Slice", filled, first, end, [2, 3], shape=[*g.shape(full)[:2], None, None])
