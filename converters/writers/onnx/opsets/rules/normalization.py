"""Normalizations: BatchNormalization's training outputs, and layers that older sets have to be told in parts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.writers.onnx.opsets.site import Answer, Site, newer, older


@older("BatchNormalization", since=14)
@newer("BatchNormalization", since=14)
def batch_normalization_14(g: Site, node: ir.Node) -> Answer:
    """At inference the same on both sides of set 14: one output, no training_mode."""
    if g.attribute("training_mode", 0) or any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise g.refusal("training mode; only inference is written")
    only = g.emit("BatchNormalization", *node.inputs, **{**node.attributes, "training_mode": None})
    return [only, *[None] * (len(node.outputs) - 1)]


@older("LayerNormalization", since=17)
def layer_normalization(g: Site, node: ir.Node) -> Answer:
    """(x - mean) / sqrt(variance + epsilon) * scale + B over the axes from `axis` on, in float32."""
    x, dtype = g.x(), g.dtype(g.x())
    wide = dtype if dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    axes = list(range(g.axis(x, g.attribute("axis", -1)), g.rank(x)))
    given = g.cast(x, wide)
    mean = g.reduce("ReduceMean", given, axes)
    centered = g.emit("Sub", given, mean)
    variance = g.reduce("ReduceMean", g.emit("Mul", centered, centered), axes)
    deviation = g.emit("Sqrt", g.emit("Add", variance, float(np.float32(g.attribute("epsilon", 1e-5)))))
    y = g.emit("Mul", g.cast(g.emit("Div", centered, deviation), dtype), g.x(1))
    bias = g.input(2)
    if bias is not None:
        y = g.emit("Add", y, bias)
    extra = [mean, g.emit("Reciprocal", deviation)] if len(node.outputs) > 1 else []
    return [y, *extra[: len(node.outputs) - 1]]


@older("RMSNormalization", since=23)
def rms_normalization(g: Site, node: ir.Node) -> Answer:
    """x / sqrt(mean of squares + epsilon) * scale over the axes from `axis` on, in float32."""
    x, dtype = g.x(), g.dtype(g.x())
    wide = dtype if dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT
    axes = list(range(g.axis(x, g.attribute("axis", -1)), g.rank(x)))
    given = g.cast(x, wide)
    squares = g.reduce("ReduceMean", g.emit("Mul", given, given), axes)
    root = g.emit("Sqrt", g.emit("Add", squares, float(np.float32(g.attribute("epsilon", 1e-5)))))
    return g.emit("Mul", g.cast(g.emit("Div", given, root), dtype), g.x(1))


@older("GroupNormalization", since=21)
def group_normalization_before_21(g: Site, node: ir.Node) -> Answer:
    """Normal groups, then one scale and bias per channel; before set 21 there was one per group."""
    normal = _normal_groups(g)
    axes = list(range(1, g.rank(g.x()) - 1))
    scale, bias = (g.unsqueeze(g.x(i), axes) if axes else g.x(i) for i in (1, 2))
    return g.emit("Add", g.emit("Mul", normal, scale), bias)


@older("GroupNormalization", since=18)
def group_normalization_before_18(g: Site, node: ir.Node) -> Answer:
    """InstanceNormalization of the groups."""
    return _normal_groups(g, g.x(1), g.x(2))


def _normal_groups(g: Site, scale: ir.Value | None = None, bias: ir.Value | None = None) -> ir.Value:
    x, groups = g.x(), g.attribute("num_groups")
    dtype = g.dtype(x).numpy()
    flat = g.emit("Reshape", x, [0, groups, -1])
    operands = (np.ones(groups, dtype) if scale is None else scale, np.zeros(groups, dtype) if bias is None else bias)
    normal = g.emit("InstanceNormalization", flat, *operands, epsilon=float(g.attribute("epsilon", 1e-5)))
    return g.emit("Reshape", normal, g.emit("Shape", x))


@newer("GroupNormalization", since=21)
def group_normalization_from_21(g: Site, node: ir.Node) -> Answer:
    """Each group's scale and bias for all of its channels."""
    x, groups = g.x(), g.attribute("num_groups")
    channels = g.dims(x)[1]
    if channels is None:
        raise g.refusal("the number of channels isn't known")
    each = np.repeat(np.arange(groups), channels // groups)
    return g.again(x, g.emit("Gather", g.x(1), each), g.emit("Gather", g.x(2), each))


@older("Gemm", since=11)
def gemm_before_11(g: Site, node: ir.Node) -> Answer:
    """A bias of zeros where none is given."""
    if g.input(2) is not None:
        return None
    return g.again(g.x(0), g.x(1), np.zeros(1, g.dtype(g.x()).numpy()))
