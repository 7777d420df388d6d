"""Modules made of modules, run in Torch's order: nn/Sequential.lua, nn/Concat.lua, nn/ConcatTable.lua ..."""

from __future__ import annotations

import math
from typing import Any

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Module, lowers, on_tensors
from converters.readers.torch7.modules.shape import reshaped_view, select, tensor_reference
from converters.readers.torch7.modules.tables import join, table
from converters.readers.torch7.references import Nest, Reference


@lowers("nn.Sequential", "nn.LayerNormalization", "nn.Maxout", "nn.SpatialLPPooling")
@on_tensors
def sequential(net: Any, module: Module, x: Nest) -> Nest:
    """Its modules one after the other. Source: nn/Sequential.lua."""
    for position, made in enumerate(module.modules()):
        x = net.run_inner(module, made, x, position)
    return x


def _branches(net: Any, module: Module, x: Nest) -> list[Nest]:
    """The outputs of all modules for the same input, in their order: one that overwrites it changes what the next ones see."""
    made = module.modules()
    if not made:
        raise module.error("it holds no modules")
    return [net.run_inner(module, inner, x, position) for position, inner in enumerate(made)]


@lowers("nn.ConcatTable")
@on_tensors
def concat_table(net: Any, module: Module, x: Nest) -> Nest:
    """A table of the outputs of its modules for the same input. Source: nn/ConcatTable.lua."""
    return _branches(net, module, x)


@lowers("nn.ParallelTable")
@on_tensors
def parallel_table(net: Any, module: Module, x: Nest) -> Nest:
    """Module i for entry i of a table. Source: nn/ParallelTable.lua."""
    made, items = module.modules(), table(module, x)
    if len(items) < len(made):
        raise module.error(f"it holds {len(made)} modules, but its input is a table of {len(items)}")
    return [net.run_inner(module, inner, item, position) for position, (inner, item) in enumerate(zip(made, items, strict=False))]


@lowers("nn.Concat")
@on_tensors
def concat(net: Any, module: Module, x: Nest) -> Nest:
    """The outputs of its modules joined along `dimension`, which counts the batch. Source: nn/Concat.lua."""
    values = _tensors(module, _branches(net, module, x))
    return Reference(join(net.g, values, _dimension(net.g, module, values[0], "dimension")))


def _tensors(module: Module, branches: list[Nest]) -> list[Any]:
    return [tensor_reference(module, branch).get() for branch in branches]


def _dimension(g: GraphBuilder, module: Module, value: Any, field: str) -> int:
    dimension = module.integer(field, least=1)
    if dimension > g.rank(value):
        raise module.error(f"{field} {dimension} doesn't fit an output of shape {g.shape(value)}")
    return dimension - 1


@lowers("nn.DepthConcat")
@on_tensors
def depth_concat(net: Any, module: Module, x: Nest) -> Nest:
    """As nn.Concat, smaller outputs centred in zeros, an odd rest at the end. Source: nn/DepthConcat.lua."""
    g: GraphBuilder = net.g
    values = _tensors(module, _branches(net, module, x))
    axis = _dimension(g, module, values[0], "dimension")
    rank = g.rank(values[0])
    if any(g.rank(value) != rank for value in values):
        raise module.error(f"its branches have shapes {', '.join(str(g.shape(value)) for value in values)}")
    padded = []
    largest: list[Dim] = [_largest(g, values, other) if other != axis else None for other in range(rank)]
    for value in values:
        before, behind = [0] * rank, [0] * rank
        for other, (size, whole) in enumerate(zip(g.shape(value), largest, strict=True)):
            if isinstance(size, int) and isinstance(whole, int) and other != axis:
                before[other] = (whole - size) // 2
                behind[other] = whole - size - before[other]
        padded.append(g.emit("Pad", value, [*before, *behind], 0.0) if any(before + behind) else value)
    return Reference(join(g, padded, axis))


def _largest(g: GraphBuilder, values: list[Any], axis: int) -> Dim:
    sizes = {g.shape(value)[axis] for value in values}
    if len(sizes) == 1:
        return sizes.pop()
    return max(g.fixed(value, axis, axis + 1)[0] for value in values)


@lowers("nn.Parallel")
@on_tensors
def parallel(net: Any, module: Module, x: Nest) -> Nest:
    """Module i for slice i along inputDimension, the outputs joined along outputDimension. Source: nn/Parallel.lua."""
    given = tensor_reference(module, x)
    axis = _dimension(net.g, module, given.get(), "inputDimension")
    made = module.modules()
    (count,) = net.g.fixed(given.get(), axis, axis + 1)
    if count > len(made) or not made:
        raise module.error(f"it holds {len(made)} modules for {count} slices")
    outputs = [net.run_inner(module, made[position], select(net, given, axis, position), position) for position in range(count)]
    values = _tensors(module, outputs)
    return Reference(join(net.g, values, _dimension(net.g, module, values[0], "outputDimension")))


@lowers("nn.MapTable")
@on_tensors
def map_table(net: Any, module: Module, x: Nest) -> Nest:
    """One module for each entry of a table, as clones that share their parameters. Source: nn/MapTable.lua."""
    made, items = module.modules(), table(module, x)
    if not made:
        raise module.error("it holds no module")
    outputs = []
    for position, item in enumerate(items):
        at = position if position < len(made) else 0
        with net.as_clones():
            outputs.append(net.run_inner(module, made[at], item, at))
    return outputs


@lowers("nn.Bottle")
@on_tensors
def bottle(net: Any, module: Module, x: Nest) -> Nest:
    """Its module for an input whose leading dimensions are joined to nInputDim ones. Source: nn/Bottle.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    inner = _only(module)
    dims, dims_out = module.integer("nInputDim", 2, least=1), module.integer("nOutputDim", None, least=1)
    shape = g.shape(given.get())
    lead = len(shape) - dims + 1
    if lead <= 1:
        return net.run_inner(module, inner, given, 0)
    first = math.prod(d for d in shape[:lead] if isinstance(d, int))
    symbols = [d for d in shape[:lead] if not isinstance(d, int)]
    joined: Dim = first if not symbols else symbols[0] if first == 1 and len(symbols) == 1 else "*".join([str(first), *map(str, symbols)])
    bottled = reshaped_view(g, given, [joined, *shape[lead:]])
    out = tensor_reference(module, net.run_inner(module, inner, bottled, 0))
    after = g.shape(out.get())
    dims_out = dims if dims_out is None else dims_out
    if len(after) != dims_out:
        raise module.error(f"its module answers {len(after)} dimensions, but nOutputDim is {dims_out}")
    if after[0] == joined:
        return reshaped_view(g, out, [*shape[:lead], *after[1:]])
    outer = math.prod(g.fixed(given.get(), 0, lead - 1))  # of another size, its first dimension takes the place of the last joined one
    return reshaped_view(g, out, [*shape[: lead - 1], g.fixed(out.get(), 0, 1)[0] // outer, *after[1:]])


def _only(module: Module) -> t7.TorchObject:
    made = module.modules()
    if not made:
        raise module.error("it holds no module")
    return made[0]


@lowers(
    "nn.Decorator",
    "nn.DontCast",
    "nn.NaN",
    "nn.GPU",
    "nn.Serial",
    "nn.FireModule",
    "nn.DataParallelTable",
    "nn.DataParallel",
)
@on_tensors
def decorator(net: Any, module: Module, x: Nest) -> Nest:
    """The first of its modules. Source: nn/Decorator.lua, nn/GPU.lua, cunn/DataParallelTable.lua."""
    return net.run_inner(module, _only(module), x, 0)


@lowers("nn.Profile")
@on_tensors
def profile(net: Any, module: Module, x: Nest) -> Nest:
    """The module that it measures. Source: nn/Profile.lua."""
    held = module.modules()
    return net.run_inner(module, held[0], x, 0) if held else net.run_inner(module, module.module("module"), x, "module")


@lowers("nn.Inception")
@on_tensors
def inception(net: Any, module: Module, x: Nest) -> Nest:
    """Its nn.DepthConcat of convolutions, for one image or a batch. Source: dpnn/Inception.lua."""
    g: GraphBuilder = net.g
    given = tensor_reference(module, x)
    made = _only(module)
    if g.rank(given.get()) != 3:
        return net.run_inner(module, made, given, 0)
    batch = given.view(lambda base: g.emit("Unsqueeze", base, [0]), lambda base, new: g.emit("Squeeze", new, [0]))
    out = tensor_reference(module, net.run_inner(module, made, batch, 0))
    return reshaped_view(g, out, g.shape(out.get())[1:])
