"""Pooling over images, volumes and time, window by window as Torch7 counts them."""

from __future__ import annotations

import math
from typing import Any, Literal, TypedDict

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.graph.pooling import adaptive_pool, max_pool_with_indices, pool
from converters.graph.windows import output_sizes
from converters.readers.torch7.module import Module, Net, lowers
from converters.readers.torch7.references import Reference, Tensors


def _fields(module: Module, axes: str) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and pads; a missing stride is the kernel's size."""
    kernel = [module.integer(f"k{axis}", least=1) for axis in axes]
    strides = [module.integer(f"d{axis}", k, least=1) for axis, k in zip(axes, kernel, strict=True)]
    return kernel, strides, [module.integer(f"pad{axis}", 0, least=0) for axis in axes]


def _batch(g: GraphBuilder, module: Module, x: ir.Value, rank: int) -> tuple[ir.Value, bool]:
    found = g.rank(x)
    if found not in (rank - 1, rank):
        raise module.error(f"its input must have {rank - 1} or {rank} dimensions, but has shape {g.shape(x)}")
    return (x, False) if found == rank else (g.emit("Unsqueeze", x, [0]), True)


def _unbatch(g: GraphBuilder, x: ir.Value, single: bool) -> ir.Value:
    return g.emit("Squeeze", x, [0]) if single else x


class _Geometry(TypedDict):
    kernel: list[int]
    strides: list[int]
    pads: list[int]
    out: list[int]
    dilations: list[int]
    ceil: bool


def _max_geometry(g: GraphBuilder, module: Module, x: ir.Value, axes: str) -> _Geometry:
    """What a max pooling asks of converters.graph.pooling. x: (N, C, *axes)."""
    kernel, strides, pads = _fields(module, axes)
    cudnn = module.type.startswith("cudnn.")
    dilations = [1 if cudnn else module.integer(f"dilation{axis}", 1, least=1) for axis in axes]
    ceil = module.flag("ceil_mode") or module.type.startswith("inn.")  # which always ceils
    if module.type.startswith("nn.Volumetric") and module.version < 2:
        ceil = False
    if not cudnn and any(p > k // 2 for p, k in zip(pads, kernel, strict=True)):
        raise module.error(f"a pad must be at most half the kernel, but they are {tuple(pads)} and {tuple(kernel)}")
    out = output_sizes(g.fixed(x, 2), kernel, strides, pads, ceil=ceil, clip=_clip(module), dilations=dilations)
    out = _checked(module, g.shape(x), out)
    return {"kernel": kernel, "strides": strides, "pads": pads, "out": out, "dilations": dilations, "ceil": ceil}


def _clip(module: Module) -> Literal["never", "padded"]:
    """cudnn counts windows behind the image too."""
    return "never" if module.type.startswith("cudnn.") else "padded"


def _checked(module: Module, x_shape: object, out: list[int]) -> list[int]:
    if math.prod(max(0, n) for n in out) > 1 << 26:
        raise module.error(f"its output would have size {tuple(out)} for an input of shape {x_shape}")
    return out


def _max_pool(g: GraphBuilder, module: Module, x: ir.Value, axes: str) -> ir.Value:
    batch, single = _batch(g, module, x, len(axes) + 2)
    geometry = _max_geometry(g, module, batch, axes)
    return _unbatch(g, pool(g, batch, "max", **geometry, clip=_clip(module)), single)


@lowers("nn.SpatialMaxPooling", "cudnn.SpatialMaxPooling", remembered=True, keeps_channels=True)
@lowers("nn.SpatialDilatedMaxPooling", "inn.SpatialMaxPooling", remembered=True)
def spatial_max_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Maximum of each window of (N, C, H, W). Source: THNN/generic/SpatialDilatedMaxPooling.c, cudnn.torch/Pooling.lua."""
    return _max_pool(g, module, x, "HW")


@lowers("nn.VolumetricMaxPooling", "nn.VolumetricDilatedMaxPooling", "cudnn.VolumetricMaxPooling", remembered=True)
def volumetric_max_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Maximum of each window of (N, C, T, H, W). Source: THNN/generic/VolumetricDilatedMaxPooling.c."""
    return _max_pool(g, module, x, "THW")


def _average_pool(g: GraphBuilder, module: Module, x: ir.Value, axes: str) -> ir.Value:
    kernel, strides, pads = _fields(module, axes)
    if module.type == "nn.SpatialAveragePooling":
        strides = [module.integer(f"d{axis}", 1, least=1) for axis in axes]
    batch, single = _batch(g, module, x, len(axes) + 2)
    sizes = g.fixed(batch, 2)
    if module.type.startswith("cudnn."):
        if module.type == "cudnn.SpatialAveragePooling":
            if module.get("divide") is False:
                raise module.error("divide is false, which cudnn.torch refuses too; set it to true, or make it an nn.SpatialAveragePooling")
            pads = pads if module.get("ceil_mode") is not None else [0, 0]  # a file of before padding
        ceil = module.flag("ceil_mode")
        out = _checked(module, g.shape(x), output_sizes(sizes, kernel, strides, pads, ceil=ceil, clip="never"))
        result = pool(g, batch, "average", kernel=kernel, strides=strides, pads=pads, out=out, divisor="kernel", ceil=ceil, clip="never")
        return _unbatch(g, result, single)
    if module.get("ceil_mode") is None:  # a file of before padding: nn/SpatialAveragePooling.lua, backward compatibility
        ceil, include, pads = False, True, [0] * len(axes)
    else:
        ceil, include = module.flag("ceil_mode") or module.type.startswith("inn."), module.flag("count_include_pad")
    if any(p > k // 2 for p, k in zip(pads, kernel, strict=True)):
        raise module.error(f"a pad must be at most half the kernel, but they are {tuple(pads)} and {tuple(kernel)}")
    out = output_sizes(sizes, kernel, strides, pads, ceil=ceil, clip="padded")
    _checked(module, g.shape(x), out)
    result = pool(
        g, batch, "average", kernel=kernel, strides=strides, pads=pads, out=out, divisor="padded" if include else "real", ceil=ceil
    )
    if len(axes) == 2 and module.get("divide") is None:
        message = "its file is older than the field 'divide', without which nn multiplies by the kernel's size; so does the result"
        g.warn(message)
    if len(axes) == 2 and not module.flag("divide"):
        result = g.emit("Mul", result, float(math.prod(kernel)))
    return _unbatch(g, result, single)


@lowers("nn.SpatialAveragePooling", "cudnn.SpatialAveragePooling", "inn.SpatialAveragePooling", keeps_channels=True)
def spatial_average_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Average of each window, over its part of the padded image or of the image alone; without `divide` times kW * kH.
    Source: THNN/generic/SpatialAveragePooling.c, nn/SpatialAveragePooling.lua.
    """
    return _average_pool(g, module, x, "HW")


@lowers("nn.VolumetricAveragePooling", "cudnn.VolumetricAveragePooling")
def volumetric_average_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Average of each window of (N, C, T, H, W). Source: THNN/generic/VolumetricAveragePooling.c."""
    return _average_pool(g, module, x, "THW")


# -- sub-sampling ------------------------------------------------------------------------------------------------------


@lowers("nn.SpatialSubSampling")
def spatial_sub_sampling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """weight_c times the SUM of each window, plus bias_c. Source: THNN/generic/SpatialSubSampling.c."""
    kernel, strides, _ = _fields(module, "HW")
    if "dW" not in module:
        strides = [1, 1]
    batch, single = _batch(g, module, x, 4)
    planes = module.integer("nInputPlane", least=1)
    if g.fixed(batch, 1, 2) != (planes,):
        raise module.error(f"it takes {planes} channels, but its input has shape {g.shape(x)}")
    out = output_sizes(g.fixed(batch, 2), kernel, strides, [0, 0], ceil=False, clip="never")
    total = pool(g, batch, "sum", kernel=kernel, strides=strides, pads=[0, 0], out=out, ceil=False)
    stored = module.tensor("weight")
    if stored.shape[0] != planes:
        raise module.error(f"field 'weight' has shape {stored.shape}, expected {planes}")
    if stored.ndim > 1:
        g.warn(f"its weight has shape {stored.shape}, of which nn reads the first {planes} numbers, one a channel; so does the result")
    weight = g.reshape(module.param("weight", stored.reshape(-1)[:planes]), [planes, 1, 1])
    bias = g.reshape(module.param("bias", module.tensor("bias", planes)), [planes, 1, 1])
    return _unbatch(g, g.emit("Add", g.emit("Mul", total, weight), bias), single)


@lowers("nn.FeatureLPPooling")
def feature_lp_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(sum x^power)^(1 / power) of `width` features (dimension 2 in batch_mode). Source: THNN/generic/FeatureLPPooling.c."""
    axis = int(module.flag("batch_mode"))
    rank = g.rank(x)
    width, stride, power = module.integer("width", least=2), module.integer("stride", least=1), module.number("power")
    if not axis < rank <= axis + 3 or width > 16 or power == 0:
        raise module.error(f"width {width} and power {power:g} don't fit its input of shape {g.shape(x)}")
    (size,) = g.fixed(x, axis, axis + 1)
    count = (size - width) // stride + 1
    if size < width:
        raise module.error(f"its input of shape {g.shape(x)} has fewer than {width} features")
    powers = g.emit("Mul", x, x) if power == 2 else g.emit("Pow", x, power)
    parts = [g.emit("Slice", powers, [i], [i + (count - 1) * stride + 1], [axis], [stride]) for i in range(width)]
    total = g.emit("Sum", *parts)
    return g.emit("Sqrt", total) if power == 2 else g.emit("Pow", total, 1 / power)


# -- adaptive pooling --------------------------------------------------------------------------------------------------


def _adaptive(g: GraphBuilder, module: Module, x: ir.Value, mode: Literal["max", "average"]) -> ir.Value:
    """Window i of an axis covers floor(i * in / out) to ceil((i + 1) * in / out). Source: THNN/generic/SpatialAdaptive*Pooling.c."""
    batch, single = _batch(g, module, x, 4)
    out = [module.integer("H", least=1), module.integer("W", least=1)]
    if out == [1, 1]:
        return _unbatch(g, g.emit("GlobalMaxPool" if mode == "max" else "GlobalAveragePool", batch), single)
    return _unbatch(g, adaptive_pool(g, batch, mode, out), single)


@lowers("nn.SpatialAdaptiveMaxPooling")
def spatial_adaptive_max_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Maxima of H by W windows that cover the image. Source: THNN/generic/SpatialAdaptiveMaxPooling.c."""
    return _adaptive(g, module, x, "max")


@lowers("nn.SpatialAdaptiveAveragePooling")
def spatial_adaptive_average_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Averages of H by W windows that cover the image. Source: THNN/generic/SpatialAdaptiveAveragePooling.c."""
    return _adaptive(g, module, x, "average")


# -- unpooling ---------------------------------------------------------------------------------------------------------


@lowers("nn.SpatialMaxUnpooling", "nn.VolumetricMaxUnpooling", on_tensors=True)
def max_unpooling(net: Net, module: Module, x: Tensors) -> Tensors:
    """Each number at the place of its maximum in the input of the pooling module that it holds, zeros elsewhere.
    Source: THNN/generic/SpatialMaxUnpooling.c, VolumetricMaxUnpooling.c.
    """
    g = net.g
    pooling = net.module(module.module("pooling"), f"{module.path}.pooling")
    axes = "HW" if module.type == "nn.SpatialMaxUnpooling" else "THW"
    pooled = net.last_inputs.get(id(pooling.object))
    if pooled is None:
        raise module.error("the pooling module that it holds doesn't run before it in this model, so its indices aren't known")
    source, _ = _batch(g, pooling, pooled, len(axes) + 2)
    source = g.pin(source)
    _, indices = max_pool_with_indices(g, source, **_max_geometry(g, pooling, source, axes))
    batch, single = _batch(g, module, module.one_reference(x).get(), len(axes) + 2)
    if g.shape(indices)[2:] != g.shape(batch)[2:]:
        raise module.error(f"its input has shape {g.shape(batch)}, but the pooling module answered {g.shape(indices)}")
    first, channels = g.shape(batch)[0], g.fixed(batch, 1, 2)[0]
    sizes, count = g.fixed(source, 2), math.prod(g.fixed(batch, 2))
    flat = g.reshape(batch, [first, channels, count])
    places = g.reshape(indices, [first, channels, count])
    zeros = _zeros(g, flat, channels, math.prod(sizes), module.dtype)
    out = g.emit("ScatterElements", zeros, places, flat, axis=2)
    return Reference(_unbatch(g, g.reshape(out, [first, channels, *sizes]), single))


def _zeros(g: GraphBuilder, flat: ir.Value, channels: int, plane: int, dtype: np.dtype[Any]) -> ir.Value:
    batch = g.shape(flat)[0]
    if isinstance(batch, int):
        return g.emit("Expand", np.zeros((), dtype), [batch, channels, plane])
    target = g.emit("Concat", g.emit("Shape", flat, start=0, end=1), g.const(np.array([channels, plane], dtype=np.int64)), axis=0)
    return g.emit("Expand", np.zeros((), dtype), target, shape=[batch, channels, plane])


@lowers("inn.SpatialStochasticPooling")
def spatial_stochastic_pooling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Each window's mean weighted by its own numbers: sum of x^2 over sum of x. Source: imagine-nn/src/SpatialStochasticPooling.cu."""
    kernel, strides, _ = _fields(module, "HW")
    batch, single = _batch(g, module, x, 4)
    out = _checked(module, g.shape(x), output_sizes(g.fixed(batch, 2), kernel, strides, [0, 0], ceil=True, clip="padded"))

    def averages(value: ir.Value) -> ir.Value:
        return pool(g, value, "average", kernel=kernel, strides=strides, pads=[0, 0], out=out, divisor="real", ceil=True)

    tiny = float(np.finfo(np.float32).tiny)
    ratio = g.emit("Div", averages(g.emit("Mul", batch, batch)), g.emit("Add", averages(batch), tiny))
    return _unbatch(g, ratio, single)
