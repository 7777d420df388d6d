"""Normalizations with statistics of the file or of the sample, and across channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.graph.builder import GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.activation import tensor_input
from converters.readers.torch7.references import Nest


def _statistics(module: Module, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
    """Mean, variance and eps; files of version 1 hold the inverse of the standard deviation. Source: nn/BatchNormalization.lua."""
    eps = module.number("eps", 1e-5)
    mean = module.tensor("running_mean", count)
    if module.version < 2 and "running_std" in module:
        inverse = module.tensor("running_std", count).astype(np.float64)
        with np.errstate(divide="ignore"):
            return mean, (inverse**-2 - eps).astype(np.float32), eps
    return mean, module.tensor("running_var", count), eps


def batch_normalize(g: GraphBuilder, module: Module, x: Value, channels: int) -> Value:
    """(x - running_mean) / sqrt(running_var + eps) * weight + bias, whatever `train` says."""
    mean, variance, eps = _statistics(module, channels)
    weight, bias = module.optional_tensor("weight"), module.optional_tensor("bias")
    for role, array in (("weight", weight), ("bias", bias)):
        if array is not None and array.shape != (channels,):
            raise module.error(f"field '{role}' has shape {array.shape} for {channels} channels")
    one, zero = np.ones(channels, dtype=np.float32), np.zeros(channels, dtype=np.float32)
    operands = [
        g.const(one, role="ones") if weight is None else module.param("weight", weight),
        g.const(zero, role="zeros") if bias is None else module.param("bias", bias),
        module.param("running_mean", mean, buffer=True),
        module.param("running_var", variance, buffer=True),
    ]
    return g.emit("BatchNormalization", x, *operands, epsilon=eps)


def _register(names: tuple[str, ...], ranks: tuple[int, ...], doc: str) -> None:
    @lowers(*names)
    def batch_normalization(g: GraphBuilder, module: Module, x: Value) -> Value:
        rank = g.rank(tensor_input(module, x))
        full = max(ranks)
        if rank not in (full, full - 1):
            raise module.error(f"its input must have {full - 1} or {full} dimensions, but has shape {g.shape(x)}")
        batch = x if rank == full else g.emit("Unsqueeze", x, [0])
        mean = module.get("running_mean")
        channels = mean.size[0] if isinstance(mean, t7.Tensor) and mean.size else 0
        if g.fixed(batch, 1, 2) != (channels,):
            raise module.error(f"it has {channels} channels, but its input has shape {g.shape(x)}")
        return batch_normalize(g, module, batch, channels)

    batch_normalization.__doc__ = doc
    batch_normalization.__name__ = batch_normalization.__qualname__ = "batch_normalization"


_register(
    ("nn.BatchNormalization", "cudnn.BatchNormalization"),
    (2,),
    "Normalizes (N, C) with the running statistics; a vector becomes a batch of one. Source: nn/BatchNormalization.lua.",
)
_register(
    ("nn.SpatialBatchNormalization", "cudnn.SpatialBatchNormalization"),
    (4,),
    "Normalizes (N, C, H, W) with the running statistics. Source: nn/SpatialBatchNormalization.lua.",
)
_register(
    ("nn.VolumetricBatchNormalization", "cudnn.VolumetricBatchNormalization"),
    (5,),
    "Normalizes (N, C, T, H, W) with the running statistics. Source: nn/VolumetricBatchNormalization.lua.",
)


@lowers("nn.InstanceNormalization")
def instance_normalization(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Normalizes each channel of each sample by its own mean and biased variance. Source: fast-neural-style/InstanceNormalization.lua."""
    if g.rank(tensor_input(module, x)) != 4:
        raise module.error(f"its input must be (N, C, H, W), but has shape {g.shape(x)}")
    (channels,) = g.fixed(x, 1, 2)
    weight, bias = module.optional_tensor("weight"), module.optional_tensor("bias")
    for role, array in (("weight", weight), ("bias", bias)):
        if array is not None and array.size != channels:
            raise module.error(f"field '{role}' has {array.size} elements for {channels} channels")
    one, zero = np.ones(channels, dtype=np.float32), np.zeros(channels, dtype=np.float32)
    return g.emit(
        "InstanceNormalization",
        x,
        g.const(one, role="ones") if weight is None else module.param("weight", weight.reshape(-1)),
        g.const(zero, role="zeros") if bias is None else module.param("bias", bias.reshape(-1)),
        epsilon=module.number("eps", 1e-5),
    )


@lowers("nn.SpatialCrossMapLRN", "cudnn.SpatialCrossMapLRN")
def cross_map_lrn(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x (k + alpha / size * sum of x^2 over `size` channels around)^-beta. Source: nn/SpatialCrossMapLRN.lua."""
    rank = g.rank(tensor_input(module, x))
    if rank not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {g.shape(x)}")
    size = module.integer("size", 5, least=1)
    if size % 2 == 0:
        raise module.error(f"size is {size}, but must be odd")
    k = module.number("k", 1.0)
    if module.type.startswith("cudnn."):  # whose old name for it is K, and counts more
        k = module.number("K", k)
    batch = x if rank == 4 else g.emit("Unsqueeze", x, [0])
    out = g.emit("LRN", batch, size=size, alpha=module.number("alpha", 1e-4), beta=module.number("beta", 0.75), bias=k)
    return out if rank == 4 else g.emit("Squeeze", out, [0])


@lowers("nn.WeightNorm")
@on_tensors
def weight_norm(net: Any, module: Module, x: Nest) -> Nest:
    """Its module with weight = g v / sqrt(||v||^2 + 1e-4) per output. Source: nn/WeightNorm.lua."""
    inner = module.modules()
    if not inner or not isinstance(inner[0].payload, t7.Table):
        raise module.error("it holds no module")
    v = module.tensor("v").astype(np.float64)
    v = v.reshape(len(v), -1) if v.ndim else v
    gain = module.tensor("g").astype(np.float64).reshape(-1, 1)
    dim = module.integer("outputDim", 1, least=1)
    field = "weightSize" if "weightSize" in module else "viewOut"
    size = module.sizes(field) if field in module else (module.tensor("weight").shape if "weight" in module else ())
    if len(gain) != len(v) or dim > len(size) or size[dim - 1] != len(v) or int(np.prod(size)) != v.size:
        raise module.error(f"v of shape {v.shape} and g of {len(gain)} elements don't make a weight of size {size} with outputDim {dim}")
    weight = v * gain / np.sqrt((v * v).sum(1, keepdims=True) + 10e-5)
    order = [size[dim - 1], *(n for axis, n in enumerate(size) if axis != dim - 1)]
    array = np.ascontiguousarray(np.moveaxis(weight.reshape(order), 0, dim - 1)).astype(np.float32)
    inner[0].payload["weight"] = t7.tensor_of(array)
    return net.run_inner(module, inner[0], x, 0)
