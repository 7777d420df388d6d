"""Modules that leave the numbers alone, or nearly so, when a net is evaluated: dropouts, decorators of the gradient, debugging aids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, Net, lowers
from converters.readers.torch7.references import Reference, Tensors, Values, mapped


@lowers("nn.Identity", on_tensors=True, keeps_channels=True, by_sample=True)
@lowers("nn.L1Penalty", "nn.PrintSize", "nn.ActivityRegularizer", on_tensors=True)
def identity(net: Net, module: Module, x: Tensors) -> Tensors:
    """Its input, the same tensor. Source: nn/Identity.lua, nn/L1Penalty.lua, nn/PrintSize.lua."""
    return x


@lowers("nn.Contiguous", on_tensors=True, keeps_channels=True)
def contiguous(net: Net, module: Module, x: Tensors) -> Tensors:
    """Its input, or a copy of one whose elements don't lie in order. Source: nn/Contiguous.lua."""
    given = module.one_reference(x)
    return given.alias() if given.contiguous else Reference(given.get())


@lowers("nn.GradientReversal", "nn.ZeroGrad", on_tensors=True)
def same_storage(net: Net, module: Module, x: Tensors) -> Tensors:
    """Its input's elements. Source: nn/GradientReversal.lua, nn/ZeroGrad.lua."""
    return module.one_reference(x).alias()


@lowers("nn.WhiteNoise", keeps_channels=True)
def white_noise(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x plus the mean of the noise, without the noise of training. Source: nn/WhiteNoise.lua."""
    mean = module.number("mean", 0.0)
    return g.emit("Add", x, mean) if mean else x


@lowers("onmt.VariationalDropout", "fbnn.NestedDropout", "fbnn.IndividualDropout", keeps_channels=True)
def other_dropout(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x: masks, and what makes up for them, are of training alone. Source: onmt/modules/VariationalDropout.lua, fbnn/NestedDropout.lua."""
    return x


@lowers("nn.Copy", on_tensors=True, keeps_channels=True)
def copy(net: Net, module: Module, x: Tensors) -> Tensors:
    """A copy of its input, or the input itself where both types are one: the graph has its own. Source: nn/Copy.lua."""
    return x if "updateOutput" in module else _copy(x)


def _copy(x: Tensors) -> Tensors:
    return mapped(x, lambda tensor: Reference(tensor.get()))


@lowers("nn.Dropout", in_place=True, keeps_channels=True, by_sample=True)
def dropout(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x, or x * (1 - p) where the file is of the first version (no v2). Source: nn/Dropout.lua."""
    _refuse_random(module)
    p = module.number("p", 0.5)
    return g.dropout(x if module.flag("v2") or p == 0 else g.emit("Mul", x, 1.0 - p), p)


@lowers("fbnn.Dropout", keeps_channels=True)
def dropout_of_fbnn(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x * (1 - p). Source: fbnn/Dropout.lua."""
    return g.emit("Mul", x, 1.0 - module.number("p", 0.5))


@lowers("nn.SpatialDropout", "nn.VolumetricDropout", keeps_channels=True)
def spatial_dropout(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x * (1 - p), always. Source: nn/SpatialDropout.lua, nn/VolumetricDropout.lua."""
    _refuse_random(module)
    p = module.number("p", 0.5)
    return g.dropout(g.emit("Mul", x, 1.0 - p), p, channels=True)


def _refuse_random(module: Module) -> None:
    if module.flag("stochastic_inference"):
        raise module.error("stochastic_inference makes its output random; set it to false to convert the module")


@lowers("nn.TotalVariation", on_tensors=True, keeps_channels=True)
@lowers("nn.TVLoss", "nn.ContentLoss", "nn.StyleLoss", "nn.DeepDreamLoss", "nn.TotalDropout", on_tensors=True, keeps_channels=True)
def identity_loss(net: Net, module: Module, x: Tensors) -> Tensors:
    """Its input: a loss that only adds to the gradient. Source: fast-neural-style/TotalVariation.lua, neural-style/neural_style.lua."""
    return x


@lowers("nn.SpatialRegionDropout", "nn.SimpleColorTransform", "nn.PCAColorTransform", on_tensors=True, keeps_channels=True)
@lowers("nn.CopyGrad", "nn.NormStabilizer", "nn.CategoricalEntropy", on_tensors=True, keeps_channels=True, by_sample=True)
@lowers("nn.RegularizeLayer", "nn.DummyGradOutput", on_tensors=True, keeps_channels=True)
def training_aid(net: Net, module: Module, x: Tensors) -> Tensors:
    """Its input: what it does, it does in training. Source: dpnn/SpatialRegionDropout.lua, dpnn/CategoricalEntropy.lua."""
    return x


@lowers("nn.ReinforceNormal", "nn.ReinforceBernoulli", "nn.ReinforceCategorical", on_tensors=True)
def reinforce(net: Net, module: Module, x: Tensors) -> Tensors:
    """The mean or the probabilities that it is given, of which training draws. Source: dpnn/ReinforceNormal.lua, dpnn/Reinforce.lua."""
    if module.flag("stochastic"):
        raise module.error("stochastic makes its output random; set it to false to convert the module")
    return x if isinstance(x, Reference) else module.table(x)[0]


@lowers("nn.ReinforceGamma", tables=True)
def reinforce_gamma(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{shape, scale} or shape -> shape times scale, the mean of what training draws. Source: dpnn/ReinforceGamma.lua."""
    if module.flag("stochastic"):
        raise module.error("stochastic makes its output random; set it to false to convert the module")
    if not isinstance(x, Sequence):
        scale = module.get("scale")
        return g.emit("Mul", x, scale if isinstance(scale, float) else np.array(module.tensor("scale")))
    return g.emit("Mul", *module.tensors(x, 2))
