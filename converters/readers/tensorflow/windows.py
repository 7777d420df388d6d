"""Where windows lie: TensorFlow's SAME, VALID and EXPLICIT padding. Source: TensorFlow's core/framework/kernel_shape_util.cc."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim
from converters.readers.tensorflow.graph import Node
from converters.readers.tensorflow.registry import TensorBuilder
from converters.readers.tensorflow.values import IMAGE, VOLUME, identity

Pads = tuple[list[int], list[int]]
"""Before and behind each axis."""


def is_channels_first(g: TensorBuilder, node: Node) -> bool:
    """Whether the operator's data_format has channels on axis 1. Raises ConversionError for one that isn't known."""
    layout = node.text("data_format", "NHWC")
    if layout in ("NCHW", "NCDHW"):
        g.is_nchw = True
        return True
    if layout in ("NHWC", "NDHWC"):
        return False
    raise g.error(f"its data_format is {layout}, which isn't known here")


def image_order(g: TensorBuilder, node: Node, rank: int) -> tuple[int, ...]:
    """The order in which a value has channels on axis 1."""
    if rank not in (4, 5):
        raise g.error(f"takes images of 4 axes, or 5, but its input has {rank}")
    return identity(rank) if is_channels_first(g, node) else (IMAGE if rank == 4 else VOLUME)


def spatial(g: TensorBuilder, node: Node, name: str, rank: int, default: Sequence[int] | None = None) -> list[int]:
    """An attribute's numbers for the image's axes. Raises ConversionError where batch or channels have another than 1."""
    numbers = node.ints(name, default)
    if len(numbers) != rank:
        raise g.error(f"its attribute {name} has {len(numbers)} numbers for {rank} axes")
    channels = 1 if is_channels_first(g, node) else rank - 1
    if numbers[0] != 1 or numbers[channels] != 1:
        raise g.error(f"its attribute {name} is {numbers}; over batch and channels it has no form here")
    inner = [n for axis, n in enumerate(numbers) if axis not in (0, channels)]
    if min(inner) < 1:
        raise g.error(f"its attribute {name} is {numbers}; each has to be at least 1")
    return inner


def paddings(
    g: TensorBuilder, node: Node, sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Pads | None:
    """How much is padded; None where that depends on sizes that are known only when the net runs."""
    kind = node.text("padding", "")
    if kind == "VALID":
        return [0] * len(kernel), [0] * len(kernel)
    if kind == "EXPLICIT":
        listed = node.ints("explicit_paddings")
        rank = len(kernel) + 2
        channels = 1 if is_channels_first(g, node) else rank - 1
        if len(listed) != 2 * rank or min(listed) < 0 or any(listed[2 * axis] or listed[2 * axis + 1] for axis in (0, channels)):
            raise g.error(f"its explicit_paddings are {listed}")
        axes = [axis for axis in range(rank) if axis not in (0, channels)]
        return [listed[2 * axis] for axis in axes], [listed[2 * axis + 1] for axis in axes]
    if kind != "SAME":
        raise g.error(f"its padding is '{kind}'; it is SAME, VALID or EXPLICIT")
    before, behind = [], []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        extent = (k - 1) * d + 1
        if s == 1:
            total = extent - 1
        elif isinstance(size, int):
            total = max((-(-size // s) - 1) * s + extent - size, 0)
            g.is_sized |= extent > 1
        elif extent <= s and extent == 1:
            total = 0
        else:
            return None
        before.append(total // 2)
        behind.append(total - total // 2)
    return before, behind


def padded(g: TensorBuilder, x: ir.Value, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], fill: float) -> ir.Value:
    """x (N, C, ...) padded as SAME does for the size that it has when the net runs."""
    extents = np.array([(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)], np.int64)
    steps = np.array(strides, np.int64)
    sizes = g.emit("Shape", x, start=2)
    windows = g.emit("Div", g.emit("Add", sizes, steps - 1), steps)
    needed = g.emit("Add", g.emit("Mul", g.emit("Sub", windows, np.array(1, np.int64)), steps), extents)
    total = g.emit("Max", g.emit("Sub", needed, sizes), np.array(0, np.int64))
    before = g.emit("Div", total, np.array(2, np.int64))
    none = np.zeros(2, np.int64)
    pads = g.emit("Concat", g.const(none), before, g.const(none), g.emit("Sub", total, before), axis=0)
    kind = x.dtype.numpy() if x.dtype is not None else np.float32
    return g.emit("Pad", x, pads, np.asarray(fill, kind), shape=[*g.shape(x)[:2], *[None] * len(kernel)])
