"""Normalization by a window's mean and deviation, run on the small networks that the modules hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.arithmetic import shaped_like
from converters.readers.torch7.modules.shape import tensor_reference
from converters.readers.torch7.references import Nest, Reference


def _corrected(net: Any, module: Module, x: Value, estimate: Value) -> Value:
    """The estimate over what the mean estimator answers to an image of ones, which makes up for the zeros around the image."""
    g: GraphBuilder = net.g
    rank = g.rank(x)
    sample = g.fixed(x, 1 if rank == 4 else 0)
    ones = g.emit("Expand", np.ones((), np.float32), [1, *sample] if rank == 4 else list(sample))
    with net.as_clones():
        coefficients = net.apply(module, module.module("meanestimator"), ones, "meanestimator")
    shape = list(g.shape(x))
    flat = [1, *sample] if rank == 4 else list(sample)
    coefficients = g.emit("Reshape", coefficients, flat)
    return g.emit("Div", _like(g, module, estimate, x), coefficients, shape=shape)


def _like(g: GraphBuilder, module: Module, estimate: Value, x: Value) -> Value:
    # nn.Replicate puts its dimension in front of the estimate's one channel
    return shaped_like(g, module, estimate, x)


def _input(net: Any, module: Module, x: Nest) -> Value:
    value = tensor_reference(module, x).get()
    if net.g.rank(value) not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {net.g.shape(value)}")
    return value


@lowers("nn.SpatialSubtractiveNormalization")
@on_tensors
def spatial_subtractive_normalization(net: Any, module: Module, x: Nest) -> Nest:
    """x minus the mean of the window around, over all channels. Source: nn/SpatialSubtractiveNormalization.lua."""
    value = _input(net, module, x)
    mean = net.apply(module, module.module("meanestimator"), value, "meanestimator")
    return Reference(net.g.emit("Sub", value, _corrected(net, module, value, mean)))


@lowers("nn.SpatialDivisiveNormalization")
@on_tensors
def spatial_divisive_normalization(net: Any, module: Module, x: Nest) -> Nest:
    """x over the deviation in the window around, thresval where that isn't above threshold. Source: nn/SpatialDivisiveNormalization.lua."""
    value = _input(net, module, x)
    deviation = net.apply(module, module.module("stdestimator"), value, "stdestimator")
    adjusted = _corrected(net, module, value, deviation)
    return Reference(net.g.emit("Div", value, net.apply(module, module.module("thresholder"), adjusted, "thresholder")))


@lowers("nn.SpatialContrastiveNormalization")
@on_tensors
def spatial_contrastive_normalization(net: Any, module: Module, x: Nest) -> Nest:
    """Subtractive, then divisive normalization. Source: nn/SpatialContrastiveNormalization.lua."""
    return net.run_inner(module, module.module("normalizer"), x, "normalizer")
