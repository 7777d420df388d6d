"""Normalizations with statistics of the file or of the sample, and across channels."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim, Extent, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Array, Call, Module, Net, Steps, lowers
from converters.readers.torch7.modules.arithmetic import shaped_like
from converters.readers.torch7.references import Reference, Tensors, Values


def _statistics(module: Module, count: int) -> tuple[Array, Array, float]:
    """Mean, variance and eps; files of version 1 hold the inverse of the standard deviation. Source: nn/BatchNormalization.lua."""
    eps = module.number("eps", 1e-5)
    mean = module.tensor("running_mean", count)
    if module.version < 2 and "running_std" in module:
        inverse = module.tensor("running_std", count).astype(np.float64)
        with np.errstate(divide="ignore"):
            return mean, (inverse**-2 - eps).astype(module.dtype), eps
    return mean, module.tensor("running_var", count), eps


def batch_normalize(g: GraphBuilder, module: Module, x: ir.Value, channels: int) -> ir.Value:
    """(x - running_mean) / sqrt(running_var + eps) * weight + bias, whatever `train` says."""
    mean, variance, eps = _statistics(module, channels)
    weight, bias = module.optional_tensor("weight"), module.optional_tensor("bias")
    for role, array in (("weight", weight), ("bias", bias)):
        if array is not None and array.shape != (channels,):
            raise module.error(f"field '{role}' has shape {array.shape} for {channels} channels")
    one, zero = np.ones(channels, module.dtype), np.zeros(channels, module.dtype)
    operands = [
        g.const(one, role="ones") if weight is None else module.param("weight", weight),
        g.const(zero, role="zeros") if bias is None else module.param("bias", bias),
        module.param("running_mean", mean, buffer=True),
        module.param("running_var", variance, buffer=True),
    ]
    return g.emit("BatchNormalization", x, *operands, epsilon=eps)


def _batch_normalization(g: GraphBuilder, module: Module, x: ir.Value, rank: int) -> ir.Value:
    """Of an input of `rank` dimensions, or of one sample, which becomes a batch of one."""
    if g.rank(x) not in (rank, rank - 1):
        raise module.error(f"its input must have {rank - 1} or {rank} dimensions, but has shape {g.shape(x)}")
    batch = x if g.rank(x) == rank else g.emit("Unsqueeze", x, [0])
    mean = module.get("running_mean")
    channels = mean.size[0] if isinstance(mean, t7.Tensor) and mean.size else 0
    if g.fixed(batch, 1, 2) != (channels,):
        raise module.error(f"it has {channels} channels, but its input has shape {g.shape(x)}")
    return batch_normalize(g, module, batch, channels)


def _features(module: Module) -> tuple[Dim, ...]:
    """(N, C)."""
    return "N", len(module.tensor("running_mean", None))


def _image_of_channels(module: Module) -> tuple[Dim, ...]:
    """(N, C, H, W)."""
    return "N", len(module.tensor("running_mean", None)), "H", "W"


@lowers("nn.BatchNormalization", "cudnn.BatchNormalization", input_shape=_features, by_sample=True)
def batch_normalization(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Normalizes (N, C) with the running statistics; a vector becomes a batch of one. Source: nn/BatchNormalization.lua."""
    return _batch_normalization(g, module, x, 2)


@lowers("nn.SpatialBatchNormalization", "cudnn.SpatialBatchNormalization", "fbnn.SpatialBatchNormalization", input_shape=_image_of_channels)
def spatial_batch_normalization(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Normalizes (N, C, H, W) with the running statistics. Source: nn/SpatialBatchNormalization.lua."""
    return _batch_normalization(g, module, x, 4)


@lowers("nn.VolumetricBatchNormalization", "cudnn.VolumetricBatchNormalization")
def volumetric_batch_normalization(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Normalizes (N, C, T, H, W) with the running statistics. Source: nn/VolumetricBatchNormalization.lua."""
    return _batch_normalization(g, module, x, 5)


@lowers("nn.InstanceNormalization")
def instance_normalization(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Normalizes each channel of each sample by its own mean and biased variance. Source: fast-neural-style/InstanceNormalization.lua."""
    if g.rank(x) != 4:
        raise module.error(f"its input must be (N, C, H, W), but has shape {g.shape(x)}")
    (channels,) = g.fixed(x, 1, 2)
    weight, bias = module.optional_tensor("weight"), module.optional_tensor("bias")
    for role, array in (("weight", weight), ("bias", bias)):
        if array is not None and array.size != channels:
            raise module.error(f"field '{role}' has {array.size} elements for {channels} channels")
    one, zero = np.ones(channels, module.dtype), np.zeros(channels, module.dtype)
    return g.emit(
        "InstanceNormalization",
        x,
        g.const(one, role="ones") if weight is None else module.param("weight", weight.reshape(-1)),
        g.const(zero, role="zeros") if bias is None else module.param("bias", bias.reshape(-1)),
        epsilon=module.number("eps", 1e-5),
    )


@lowers("nn.AdaptiveInstanceNormalization", tables=True)
def adaptive_instance_normalization(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{content, style}: the content's channels with the style's means and deviations; one without a batch gets one.
    Source: AdaIN-style/lib/AdaptiveInstanceNormalization.lua.
    """
    content, style = module.tensors(x, 2)
    if module.flag("disabled"):
        return content
    if g.rank(content) not in (3, 4) or g.rank(style) not in (3, 4):
        raise module.error(f"its inputs must be (N, C, H, W) or (C, H, W), but have shapes {g.shape(content)} and {g.shape(style)}")
    content, style = (v if g.rank(v) == 4 else g.emit("Unsqueeze", v, [0]) for v in (content, style))
    means = [g.emit("ReduceMean", v, [2, 3], keepdims=1) for v in (content, style)]
    centered = [g.emit("Sub", v, mean) for v, mean in zip((content, style), means, strict=True)]
    variances = [g.emit("ReduceMean", g.emit("Mul", v, v), [2, 3], keepdims=1) for v in centered]
    deviation = g.emit("Sqrt", g.emit("Add", variances[0], module.number("eps", 1e-5)))
    scaled = g.emit("Mul", g.emit("Div", centered[0], deviation), g.emit("Sqrt", variances[1]))
    return g.emit("Add", scaled, means[1])


@lowers("nn.SpatialCrossMapLRN", "cudnn.SpatialCrossMapLRN", "inn.SpatialCrossResponseNormalization")
def cross_map_lrn(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x (k + alpha / size * sum of x^2 over `size` channels around)^-beta. Source: nn/SpatialCrossMapLRN.lua."""
    rank = g.rank(x)
    if rank not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {g.shape(x)}")
    size = module.integer("size", 5, least=1)
    if size % 2 == 0 and not module.type.startswith("cudnn."):  # cuDNN's window begins (size - 1) / 2 before, rounded down
        raise module.error(f"size is {size}, but must be odd")
    k = module.number("k", 1.0)
    if module.type.startswith("cudnn."):  # whose old name for it is K, and counts more
        k = module.number("K", k)
    batch = x if rank == 4 else g.emit("Unsqueeze", x, [0])
    alpha, beta = module.number("alpha", 1e-4), module.number("beta", 0.75)
    out = g.emit("LRN", batch, size=size, alpha=alpha, beta=beta, bias=k) if size % 2 else _even_lrn(g, batch, size, alpha, beta, k)
    return out if rank == 4 else g.emit("Squeeze", out, [0])


def _even_lrn(g: GraphBuilder, x: ir.Value, size: int, alpha: float, beta: float, k: float) -> ir.Value:
    """An even window, which onnxruntime's LRN refuses: (size - 1) / 2 channels before, rounded down, and the rest behind."""
    before = (size - 1) // 2
    squares = g.emit("Unsqueeze", g.emit("Mul", x, x), [1])
    pads = [before, 0, 0, size - 1 - before, 0, 0]
    means = g.emit("Squeeze", g.emit("AveragePool", squares, kernel_shape=[size, 1, 1], pads=pads, count_include_pad=1), [1])
    return g.emit("Div", x, g.emit("Pow", g.emit("Add", g.emit("Mul", means, alpha), k), beta))


@lowers("nn.WeightNorm", on_tensors=True)
def weight_norm(net: Net, module: Module, x: Tensors) -> Steps:
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
    array = np.ascontiguousarray(np.moveaxis(weight.reshape(order), 0, dim - 1)).astype(module.dtype)
    inner[0].payload["weight"] = t7.tensor_of(array)
    return (yield net.call(module, inner[0], x, 0))


def _inside(net: Net, module: Module, field: str, x: ir.Value) -> Generator[Call, Tensors, ir.Value]:
    """What the module in a field answers to x."""
    out = yield net.call(module, module.module(field), Reference(x), field)
    if not isinstance(out, Reference):
        raise module.error(f"module '{field}' answers a table where a tensor is due")
    return out.get()


def _corrected(net: Net, module: Module, x: ir.Value, estimate: ir.Value) -> Generator[Call, Tensors, ir.Value]:
    """The estimate over what the mean estimator answers to an image of ones, which makes up for the zeros around the image."""
    g = net.g
    sample = g.extents(x, 1 if g.rank(x) == 4 else 0)
    one_image: list[int | Extent] = [1, *sample] if g.rank(x) == 4 else list(sample)
    shape = [1, *g.shape(x)[1:]] if g.rank(x) == 4 else g.shape(x)
    with net.as_clones():
        ones = g.emit("Expand", np.ones((), module.dtype), g.sizes(one_image), shape=shape)
        answer = yield from _inside(net, module, "meanestimator", ones)
    coefficients = g.reshape(answer, one_image)
    # nn.Replicate puts its dimension in front of the estimate's one channel
    return g.emit("Div", shaped_like(g, module, estimate, x), coefficients, shape=g.shape(x))


def _image(net: Net, module: Module, x: Tensors) -> ir.Value:
    value = module.one_reference(x).get()
    if net.g.rank(value) not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {net.g.shape(value)}")
    return value


@lowers("nn.SpatialSubtractiveNormalization", on_tensors=True)
def spatial_subtractive_normalization(net: Net, module: Module, x: Tensors) -> Steps:
    """x minus the mean of the window around, over all channels. Source: nn/SpatialSubtractiveNormalization.lua."""
    value = _image(net, module, x)
    mean = yield from _inside(net, module, "meanestimator", value)
    return Reference(net.g.emit("Sub", value, (yield from _corrected(net, module, value, mean))))


@lowers("nn.SpatialDivisiveNormalization", on_tensors=True)
def spatial_divisive_normalization(net: Net, module: Module, x: Tensors) -> Steps:
    """x over the deviation in the window around, thresval where that isn't above threshold. Source: nn/SpatialDivisiveNormalization.lua."""
    value = _image(net, module, x)
    deviation = yield from _inside(net, module, "stdestimator", value)
    adjusted = yield from _corrected(net, module, value, deviation)
    return Reference(net.g.emit("Div", value, (yield from _inside(net, module, "thresholder", adjusted))))


@lowers("nn.SpatialContrastiveNormalization", on_tensors=True)
def spatial_contrastive_normalization(net: Net, module: Module, x: Tensors) -> Steps:
    """Subtractive, then divisive normalization. Source: nn/SpatialContrastiveNormalization.lua."""
    return (yield net.call(module, module.module("normalizer"), x, "normalizer"))


@lowers("nn.SpatialFeatNormalization")
def spatial_feat_normalization(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(x - mean) / std of each channel. Source: dpnn/SpatialFeatNormalization.lua."""
    rank = g.rank(x)
    mean = module.tensor("mean", None)
    if rank not in (3, 4) or g.fixed(x, rank - 3, rank - 2) != mean.shape:
        raise module.error(f"it has {len(mean)} channels, but its input has shape {g.shape(x)}")
    std = module.tensor("std", len(mean))
    centered = g.emit("Sub", x, module.param("mean", mean.reshape(-1, 1, 1), buffer=True))
    return g.emit("Div", centered, module.param("std", std.reshape(-1, 1, 1), buffer=True))
