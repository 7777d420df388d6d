"""Classes from outside nn that published models need: dpnn, fast-neural-style, neural-style, waifu2x."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.activation import tensor_input
from converters.readers.torch7.modules.linear import pair
from converters.readers.torch7.modules.shape import tensor_reference
from converters.readers.torch7.modules.tables import table
from converters.readers.torch7.references import Nest, Reference


@lowers("nn.TotalVariation", "nn.TVLoss", "nn.ContentLoss", "nn.StyleLoss", "nn.DeepDreamLoss", "nn.TotalDropout")
@on_tensors
def identity_loss(net: Any, module: Module, x: Nest) -> Nest:
    """Its input: a loss that only adds to the gradient. Source: fast-neural-style/TotalVariation.lua, neural-style/neural_style.lua."""
    return x


@lowers("nn.ShaveImage")
def shave_image(g: GraphBuilder, module: Module, x: Value) -> Value:
    """(N, C, H, W) without `size` pixels at each edge. Source: fast-neural-style/ShaveImage.lua."""
    size = module.integer("size", least=0)
    if g.rank(tensor_input(module, x)) != 4:
        raise module.error(f"its input must be (N, C, H, W), but has shape {g.shape(x)}")
    height, width = g.fixed(x, 2)
    if min(height, width) <= 2 * size:
        raise module.error(f"{size} pixels at each edge leave nothing of {g.shape(x)}")
    return g.emit("Slice", x, [size, size], [height - size, width - size], [2, 3])


@lowers("nn.GramMatrix")
def gram_matrix(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Products of all pairs of channels, over C * H * W where `normalize` says so. Source: fast-neural-style/GramMatrix.lua."""
    rank = g.rank(tensor_input(module, x))
    if rank not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {g.shape(x)}")
    channels, height, width = g.fixed(x, rank - 3)
    flat = g.emit("Reshape", x, [-1, channels, height * width] if rank == 4 else [channels, height * width])
    out = g.emit("MatMul", flat, g.emit("Transpose", flat, perm=[0, 2, 1] if rank == 4 else [1, 0]))
    return g.emit("Div", out, float(channels * height * width)) if module.flag("normalize", True) else out


@lowers("nn.Clip")
def clip(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x limited to minval .. maxval. Source: dpnn/Clip.lua."""
    return g.emit("Clip", tensor_input(module, x), module.number("minval"), module.number("maxval"))


@lowers("w2nn.InplaceClip01")
@on_tensors
def inplace_clip(net: Any, module: Module, x: Nest) -> Nest:
    """x limited to 0 .. 1, written into its input. Source: waifu2x/lib/InplaceClip01.lua."""
    given = tensor_reference(module, x)
    given.set(net.g.emit("Clip", given.get(), 0.0, 1.0))
    return given.alias()


@lowers("w2nn.LeakyReLU")
def leaky_relu(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x where x > 0, else negative_scale * x. Source: waifu2x/lib/LeakyReLU.lua."""
    return g.emit("LeakyRelu", tensor_input(module, x), alpha=module.number("negative_scale", 0.333))


@lowers("w2nn.ScaleTable")
def scale_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """{x, scale}: x times a scale of one number per channel. Source: waifu2x/lib/ScaleTable.lua."""
    return g.emit("Mul", *pair(module, x))


@lowers("w2nn.AuxiliaryLossTable")
@on_tensors
def auxiliary_loss_table(net: Any, module: Module, x: Nest) -> Nest:
    """A copy of entry i of a table. Source: waifu2x/lib/AuxiliaryLossTable.lua."""
    items, index = table(module, x), module.integer("i", 1, least=1)
    if index > len(items):
        raise module.error(f"i is {index}, but its input is a table of {len(items)}")
    return Reference(tensor_reference(module, items[index - 1]).get())


@lowers("nn.ArgMax")
def arg_max(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The 1-based index of the greatest along dim, as int64. Source: dpnn/ArgMax.lua."""
    rank = g.rank(tensor_input(module, x))
    dim = module.integer("dim", 1, least=1) + (rank > module.integer("nInputDim", 9999))
    if dim > rank:
        raise module.error(f"dim {dim} doesn't fit its input of shape {g.shape(x)}")
    found = g.emit("Add", g.emit("ArgMax", x, axis=dim - 1, keepdims=int(rank == 1)), np.array(1, dtype=np.int64))
    return found if module.flag("asLong", True) else g.emit("Cast", found, to=int(ir.DataType.FLOAT))


@lowers("nn.SpatialFeatNormalization")
def spatial_feat_normalization(g: GraphBuilder, module: Module, x: Value) -> Value:
    """(x - mean) / std of each channel. Source: dpnn/SpatialFeatNormalization.lua."""
    rank = g.rank(tensor_input(module, x))
    mean = module.tensor("mean", None)
    if rank not in (3, 4) or g.fixed(x, rank - 3, rank - 2) != mean.shape:
        raise module.error(f"it has {len(mean)} channels, but its input has shape {g.shape(x)}")
    std = module.tensor("std", len(mean))
    centred = g.emit("Sub", x, module.param("mean", mean.reshape(-1, 1, 1), buffer=True))
    return g.emit("Div", centred, module.param("std", std.reshape(-1, 1, 1), buffer=True))


@lowers("nn.Convert")
@on_tensors
def convert(net: Any, module: Module, x: Nest) -> Nest:
    """From inputShape to outputShape (letters b, c, h, w, f): a transposition, or b... to bf, bf to b. Source: nn/Convert.lua."""
    given = tensor_reference(module, x)
    source = module.text("inputShape")
    if source == module.text("outputShape") and (source == "b*" or net.g.rank(given.get()) >= len(source)):
        return given  # through nn.Identity: the same tensor
    return Reference(_converted(net.g, module, given.get()))


def _converted(g: GraphBuilder, module: Module, x: Value) -> Value:
    source, target = module.text("inputShape"), module.text("outputShape")
    rank = g.rank(tensor_input(module, x))
    single = rank == len(source) - 1
    at = source.find("b")
    if rank < len(source) - 1 or at < 0 or len(set(source)) != len(source):
        raise module.error(f"its input of shape {g.shape(x)} isn't a {source!r}")
    batch = g.emit("Unsqueeze", x, [at]) if single else x
    behind = range(len(source), rank)  # dimensions that the letters don't name stay where they are
    if sorted(source) == sorted(target):
        out = g.emit("Transpose", batch, perm=[*(source.index(letter) for letter in target), *behind]) if source != target else batch
        return g.emit("Squeeze", out, [target.index("b")]) if single else out
    if target == "b" and sorted(source) in (["b", "f"], ["b", "t"]):
        if "f" in source and g.fixed(batch, 1 - at, 2 - at) != (1,):
            raise module.error(f"its input of shape {g.shape(x)} has more than one feature")
        return g.emit("Gather", batch, g.const(np.array(0, dtype=np.int64)), axis=1 - at)
    if target == "bf":
        swapped = list(range(g.rank(batch)))
        swapped[0], swapped[at] = swapped[at], swapped[0]
        first = g.emit("Transpose", batch, perm=swapped) if at else batch
        features = math.prod(g.fixed(first, 1))
        out = g.emit("Flatten", first, axis=1, shape=[g.shape(first)[0], features])
        return g.emit("Squeeze", out, [0]) if single else out
    raise module.error(f"the conversion of {source!r} to {target!r} isn't known; transpositions, those to 'bf' and from it to 'b' are")
