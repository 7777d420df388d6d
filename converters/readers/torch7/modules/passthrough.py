"""Modules that leave the numbers alone, or nearly so, when a net is evaluated: dropouts, decorators of the gradient, debugging aids."""

from __future__ import annotations

from typing import Any

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.activation import overwrites, tensor_input
from converters.readers.torch7.modules.shape import tensor_reference
from converters.readers.torch7.references import Nest, Reference, mapped


@lowers(
    "nn.Identity",
    "nn.L1Penalty",
    "nn.PrintSize",
    "nn.ActivityRegularizer",
)
@on_tensors
def identity(net: Any, module: Module, x: Nest) -> Nest:
    """Its input, the same tensor. Source: nn/Identity.lua, nn/L1Penalty.lua, nn/PrintSize.lua."""
    return x


@lowers("nn.Contiguous")
@on_tensors
def contiguous(net: Any, module: Module, x: Nest) -> Nest:
    """Its input, or a copy of one whose elements don't lie in order. Source: nn/Contiguous.lua."""
    given = tensor_reference(module, x)
    return given.alias() if given.contiguous else Reference(given.get())


@lowers("nn.GradientReversal", "nn.ZeroGrad")
@on_tensors
def same_storage(net: Any, module: Module, x: Nest) -> Nest:
    """Its input's elements. Source: nn/GradientReversal.lua, nn/ZeroGrad.lua."""
    return tensor_reference(module, x).alias()


@lowers("nn.WhiteNoise")
def white_noise(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x plus the mean of the noise, without the noise of training. Source: nn/WhiteNoise.lua."""
    mean = module.number("mean", 0.0)
    return g.emit("Add", tensor_input(module, x), mean) if mean else x


@lowers("nn.Copy")
@on_tensors
def copy(net: Any, module: Module, x: Nest) -> Nest:
    """A copy of its input, or the input itself where both types are one: the graph has its own. Source: nn/Copy.lua."""
    return x if "updateOutput" in module else _copy(x)


def _copy(x: Nest) -> Nest:
    return mapped(x, lambda tensor: Reference(tensor.get()))


@lowers("nn.Dropout")
@overwrites
def dropout(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x, or x * (1 - p) where the file is of the first version (no v2). Source: nn/Dropout.lua."""
    _refuse_random(module)
    p = module.number("p", 0.5)
    if module.flag("v2") or p == 0:
        return x
    return g.emit("Mul", x, 1.0 - p)


@lowers("nn.SpatialDropout", "nn.VolumetricDropout")
def spatial_dropout(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x * (1 - p), always. Source: nn/SpatialDropout.lua, nn/VolumetricDropout.lua."""
    _refuse_random(module)
    return g.emit("Mul", tensor_input(module, x), 1.0 - module.number("p", 0.5))


def _refuse_random(module: Module) -> None:
    if module.flag("stochastic_inference"):
        raise module.error("stochastic_inference makes its output random; set it to false to convert the module")
