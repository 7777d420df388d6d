"""Normalization. Sources: mxnet src/operator/nn/batch_norm.cc, layer_norm.cc, group_norm-inl.h, lrn.cc, instance_norm-inl.h,
l2_normalization-inl.h."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.axes import first
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Parameter
from converters.readers.mxnet.signature import lowers

Result = ir.Value | Mapping[str, ir.Value]


@lowers(
    "BatchNorm",
    "BatchNorm_v1",
    "_contrib_SyncBatchNorm",
    "_npx_batch_norm",
    "CuDNNBatchNorm",
    ignores="cudnn_off momentum use_global_stats min_calib_range max_calib_range key ndev",
)
def batch_norm(
    g: OperatorBuilder,
    data: ir.Value,
    gamma: Parameter,
    beta: Parameter,
    moving_mean: Parameter,
    moving_var: Parameter,
    *,
    eps: float = 1e-3,
    fix_gamma: bool = True,
    output_mean_var: bool = False,
    axis: int = 1,
) -> Result:
    """Normalization with the moving statistics, over any axis; fix_gamma, the default, makes gamma 1 whatever is stored.

    Source: mxnet src/operator/nn/batch_norm.cc.
    """
    outputs = _batch_norm(g, data, (gamma, beta, moving_mean, moving_var), eps, fix_gamma, axis)
    return outputs if output_mean_var else outputs["output"]


def _batch_norm(
    g: OperatorBuilder, data: ir.Value, parameters: Sequence[Parameter], eps: float, fix_gamma: bool, axis: int
) -> dict[str, ir.Value]:
    """What BatchNorm answers: the normalized data, the mean, and 1 / sqrt(variance + eps)."""
    gamma, *others = parameters
    axis = g.axis(data, axis)
    size = g.fixed(data, axis, axis + 1)[0]
    given = g.dtype(data)
    dtype = np.dtype(np.float32) if given == np.float16 else given  # the statistics of a net in halves are floats
    scale = gamma.ones(size, dtype) if fix_gamma else gamma.use((size,), dtype)
    shift, mean, variance = (parameter.use((size,), dtype) for parameter in others)
    rank = g.rank(data)
    order = [0, axis, *(i for i in range(1, rank) if i != axis)] if axis else [1, 0, *range(2, rank)]
    x = g.cast(data, dtype)
    if axis != 1:
        x = g.emit("Transpose", x, perm=order)
    y = g.emit("BatchNormalization", x, scale, shift, mean, variance, epsilon=eps)
    if axis != 1:
        y = g.emit("Transpose", y, perm=[order.index(i) for i in range(rank)])
    inverse = g.emit("Reciprocal", g.emit("Sqrt", g.emit("Add", variance, eps)))
    return {"output": g.cast(y, given), "mean": g.identity(mean), "var": inverse}


@lowers("_contrib_BatchNormWithReLU", ignores="cudnn_off momentum use_global_stats min_calib_range max_calib_range")
def batch_norm_with_relu(
    g: OperatorBuilder,
    data: ir.Value,
    gamma: Parameter,
    beta: Parameter,
    moving_mean: Parameter,
    moving_var: Parameter,
    *,
    eps: float = 1e-3,
    fix_gamma: bool = True,
    output_mean_var: bool = False,
    axis: int = 1,
) -> Result:
    """BatchNorm and a ReLU in one operator. Source: mxnet src/operator/contrib/batch_norm_relu.cc."""
    outputs = _batch_norm(g, data, (gamma, beta, moving_mean, moving_var), eps, fix_gamma, axis)
    outputs["output"] = g.emit("Relu", outputs["output"])
    return outputs if output_mean_var else outputs["output"]


@lowers("InstanceNorm")
def instance_norm(g: OperatorBuilder, data: ir.Value, gamma: Parameter, beta: Parameter, *, eps: float = 1e-3) -> ir.Value:
    """Normalization of every channel of every sample, (N, C, *spatial). Source: mxnet src/operator/instance_norm-inl.h."""
    if g.rank(data) < 3:
        raise g.error(f"an input (N, C, ...) is needed, but it has shape {g.shape(data)}")
    size = g.fixed(data, 1, 2)[0]
    kind = g.dtype(data)
    return g.emit("InstanceNormalization", data, gamma.use((size,), kind), beta.use((size,), kind), epsilon=eps)


@lowers("LayerNorm", "_npx_layer_norm", axes=first)
def layer_norm(
    g: OperatorBuilder,
    data: ir.Value,
    gamma: Parameter,
    beta: Parameter,
    *,
    axis: int = -1,
    eps: float = 1e-5,
    output_mean_var: bool = False,
) -> Result:
    """Normalization over one axis. Source: mxnet src/operator/nn/layer_norm-inl.h."""
    axis = g.axis(data, axis)
    size = g.fixed(data, axis, axis + 1)[0]
    rank, kind = g.rank(data), g.dtype(data)
    order = [i for i in range(rank) if i != axis] + [axis]
    x = data if axis == rank - 1 else g.emit("Transpose", data, perm=order)
    y = g.emit("LayerNormalization", x, gamma.use((size,), kind), beta.use((size,), kind), axis=-1, epsilon=eps)
    if axis != rank - 1:
        y = g.emit("Transpose", y, perm=[order.index(i) for i in range(rank)])
    if not output_mean_var:
        result: ir.Value = y
        return result
    mean = g.emit("ReduceMean", data, [axis], keepdims=1)
    return {"output": y, "mean": mean, "std": _deviation(g, data, mean, [axis], eps)}


def _deviation(g: OperatorBuilder, data: ir.Value, mean: ir.Value, axes: list[int], eps: float) -> ir.Value:
    centered = g.emit("Sub", data, mean)
    variance = g.emit("ReduceMean", g.emit("Mul", centered, centered), axes, keepdims=1)
    return g.emit("Sqrt", g.emit("Add", variance, eps))


@lowers("GroupNorm")
def group_norm(
    g: OperatorBuilder,
    data: ir.Value,
    gamma: Parameter,
    beta: Parameter,
    *,
    num_groups: int = 1,
    eps: float = 1e-5,
    output_mean_var: bool = False,
) -> Result:
    """Normalization over groups of channels; gamma and beta have a number per group (1.x) or per channel (2.0).

    Source: mxnet src/operator/nn/group_norm-inl.h.
    """
    if g.rank(data) < 3:
        raise g.error(f"an input (N, C, ...) is needed, but it has shape {g.shape(data)}")
    size = g.fixed(data, 1, 2)[0]
    if num_groups < 1 or size % num_groups:
        raise g.error(f"{size} channels don't divide into num_groups {num_groups}")
    kind = g.dtype(data)
    per_channel = gamma.shape == (size,) and size != num_groups
    grouped = g.reshape(data, [g.shape(data)[0], num_groups, None])
    if per_channel:
        ones, zeros = np.ones(num_groups, kind), np.zeros(num_groups, kind)
        normal = g.emit("InstanceNormalization", grouped, g.const(ones), g.const(zeros), epsilon=eps)
    else:
        normal = g.emit("InstanceNormalization", grouped, gamma.use((num_groups,), kind), beta.use((num_groups,), kind), epsilon=eps)
    y = like(g, normal, data)
    if per_channel:
        shape = [size] + [1] * (g.rank(data) - 2)
        y = g.emit("Mul", y, g.reshape(gamma.use((size,), kind), shape))
        y = g.emit("Add", y, g.reshape(beta.use((size,), kind), shape))
    if not output_mean_var:
        return y
    mean = g.emit("ReduceMean", grouped, [2], keepdims=1)
    deviation = _deviation(g, grouped, mean, [2], eps)
    return {"output": y, "mean": g.emit("Squeeze", mean, [2]), "std": g.emit("Squeeze", deviation, [2])}


def like(g: OperatorBuilder, value: ir.Value, model: ir.Value) -> ir.Value:
    """The value in the shape of another one with as many elements."""
    return g.reshape(value, g.extents(model))


@lowers("L2Normalization", axes=first)
def l2_normalization(
    g: OperatorBuilder, data: ir.Value, *, eps: float = 1e-10, mode: Literal["instance", "channel", "spatial"] = "instance"
) -> ir.Value:
    """x / sqrt(sum(x^2) + eps) over all but N (instance), over C (channel) or over the spatial axes (spatial).

    Source: mxnet src/operator/l2_normalization-inl.h.
    """
    rank = g.rank(data)
    axes = {"instance": list(range(1, rank)), "channel": [1], "spatial": list(range(2, rank))}[mode]
    if not axes or rank < 2:
        raise g.error(f"mode {mode} doesn't fit an input of shape {g.shape(data)}")
    total = g.emit("ReduceSum", g.emit("Mul", data, data), axes, keepdims=1)
    return g.emit("Div", data, g.emit("Sqrt", g.emit("Add", total, eps)))


@lowers("LRN")
def lrn(g: OperatorBuilder, data: ir.Value, *, nsize: int, alpha: float = 1e-4, beta: float = 0.75, knorm: float = 2.0) -> ir.Value:
    """Local response normalization across channels, (N, C, H, W): x / (knorm + alpha / nsize * sum(x^2))^beta.

    Source: mxnet src/operator/nn/lrn-inl.h.
    """
    if g.rank(data) != 4:
        raise g.error(f"an input (N, C, H, W) is needed, but it has shape {g.shape(data)}")
    if nsize < 1 or nsize % 2 == 0:
        raise g.error(f"attribute nsize is {nsize}; an odd number of channels makes a window")
    return g.emit("LRN", data, size=nsize, alpha=alpha, beta=beta, bias=knorm)
