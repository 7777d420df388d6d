"""Modules made of modules, run in Torch's order: nn/Sequential.lua, nn/Concat.lua, nn/ConcatTable.lua ..."""

from __future__ import annotations

import math
from collections.abc import Generator

import onnx_ir as ir

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Call, Module, Net, Steps, lowers
from converters.readers.torch7.modules.shape import reshaped_view, slices
from converters.readers.torch7.modules.tables import join
from converters.readers.torch7.references import Reference, Tensors


@lowers("nn.Sequential", "nn.SequentialSplitBatch", on_tensors=True, enters=True)
@lowers("nn.LayerNormalization", "nn.Maxout", "nn.SpatialLPPooling", "inn.SpatialSameResponseNormalization", on_tensors=True)
def sequential(net: Net, module: Module, x: Tensors) -> Steps:
    """Its modules one after the other. Source: nn/Sequential.lua."""
    for position, made in enumerate(module.modules()):
        x = yield net.call(module, made, x, position)
    return x


def _branches(net: Net, module: Module, x: Tensors) -> Generator[Call, Tensors, list[Tensors]]:
    """The outputs of all modules for the same input, in their order: one that overwrites it changes what the next ones see."""
    made = module.modules()
    if not made:
        raise module.error("it holds no modules")
    branches = []
    for position, inner in enumerate(made):
        branches.append((yield net.call(module, inner, x, position)))
    return branches


@lowers("nn.ConcatTable", on_tensors=True, enters=True)
def concat_table(net: Net, module: Module, x: Tensors) -> Steps:
    """A table of the outputs of its modules for the same input. Source: nn/ConcatTable.lua."""
    return (yield from _branches(net, module, x))


@lowers("nn.ParallelTable", on_tensors=True)
def parallel_table(net: Net, module: Module, x: Tensors) -> Steps:
    """Module i for entry i of a table. Source: nn/ParallelTable.lua."""
    made, items = module.modules(), module.table(x)
    if len(items) < len(made):
        raise module.error(f"it holds {len(made)} modules, but its input is a table of {len(items)}")
    outputs = []
    for position, (inner, item) in enumerate(zip(made, items, strict=False)):
        outputs.append((yield net.call(module, inner, item, position)))
    return outputs


@lowers("nn.Concat", on_tensors=True, enters=True)
def concat(net: Net, module: Module, x: Tensors) -> Steps:
    """The outputs of its modules joined along `dimension`, which counts the batch. Source: nn/Concat.lua."""
    values = _tensors(module, (yield from _branches(net, module, x)))
    return Reference(join(net.g, values, _dimension(net.g, module, values[0], "dimension")))


def _tensors(module: Module, branches: list[Tensors]) -> list[ir.Value]:
    return [module.one_reference(branch).get() for branch in branches]


def _dimension(g: GraphBuilder, module: Module, value: ir.Value, field: str) -> int:
    dimension = module.integer(field, least=1)
    if dimension > g.rank(value):
        raise module.error(f"{field} {dimension} doesn't fit an output of shape {g.shape(value)}")
    return dimension - 1


@lowers("nn.DepthConcat", on_tensors=True, enters=True)
def depth_concat(net: Net, module: Module, x: Tensors) -> Steps:
    """As nn.Concat, smaller outputs centered in zeros, an odd rest at the end. Source: nn/DepthConcat.lua."""
    g = net.g
    values = _tensors(module, (yield from _branches(net, module, x)))
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


def _largest(g: GraphBuilder, values: list[ir.Value], axis: int) -> Dim:
    sizes = {g.shape(value)[axis] for value in values}
    if len(sizes) == 1:
        return sizes.pop()
    return max(g.fixed(value, axis, axis + 1)[0] for value in values)


@lowers("nn.Parallel", on_tensors=True)
def parallel(net: Net, module: Module, x: Tensors) -> Steps:
    """Module i for slice i along inputDimension, the outputs joined along outputDimension. Source: nn/Parallel.lua."""
    given = module.one_reference(x)
    axis = _dimension(net.g, module, given.get(), "inputDimension")
    made = module.modules()
    (count,) = net.g.fixed(given.get(), axis, axis + 1)
    if count > len(made) or not made:
        raise module.error(f"it holds {len(made)} modules for {count} slices")
    outputs = []
    for position, part in enumerate(slices(net.g, given, axis, range(count))):
        outputs.append((yield net.call(module, made[position], part, position)))
    values = _tensors(module, outputs)
    return Reference(join(net.g, values, _dimension(net.g, module, values[0], "outputDimension")))


@lowers("nn.MapTable", on_tensors=True)
def map_table(net: Net, module: Module, x: Tensors) -> Steps:
    """One module for each entry of a table, as clones that share their parameters. Source: nn/MapTable.lua."""
    made, items = module.modules(), module.table(x)
    if not made:
        raise module.error("it holds no module")
    outputs = []
    for position, item in enumerate(items):
        at = position if position < len(made) else 0
        with net.as_clones():
            outputs.append((yield net.call(module, made[at], item, at)))
    return outputs


@lowers("nn.Bottle", on_tensors=True)
def bottle(net: Net, module: Module, x: Tensors) -> Steps:
    """Its module for an input whose leading dimensions are joined to nInputDim ones. Source: nn/Bottle.lua."""
    g = net.g
    given = module.one_reference(x)
    inner = _only(module)
    dims, dims_out = module.integer("nInputDim", 2, least=1), module.integer("nOutputDim", None, least=1)
    shape = g.shape(given.get())
    lead = len(shape) - dims + 1
    if lead <= 1:
        return (yield net.call(module, inner, given, 0))
    first = math.prod(d for d in shape[:lead] if isinstance(d, int))
    symbols = [d for d in shape[:lead] if not isinstance(d, int)]
    joined: Dim = first if not symbols else symbols[0] if first == 1 and len(symbols) == 1 else "*".join([str(first), *map(str, symbols)])
    bottled = reshaped_view(g, given, [joined, *g.extents(given.get(), lead)])
    out = module.one_reference((yield net.call(module, inner, bottled, 0)))
    after = g.shape(out.get())
    dims_out = dims if dims_out is None else dims_out
    if len(after) != dims_out:
        raise module.error(f"its module answers {len(after)} dimensions, but nOutputDim is {dims_out}")
    if after[0] == joined:
        return reshaped_view(g, out, [*g.extents(given.get(), 0, lead), *after[1:]])
    outer = math.prod(g.fixed(given.get(), 0, lead - 1))  # of another size, its first dimension takes the place of the last joined one
    return reshaped_view(g, out, [*shape[: lead - 1], g.fixed(out.get(), 0, 1)[0] // outer, *after[1:]])


def _only(module: Module) -> t7.TorchObject:
    made = module.modules()
    if not made:
        raise module.error("it holds no module")
    return made[0]


@lowers("nn.Decorator", "nn.DontCast", "nn.DataParallelTable", on_tensors=True, enters=True)
@lowers(
    "onmt.Network",
    "onmt.LSTM",
    "onmt.GRU",
    "onmt.GlobalAttention",
    "onmt.NoAttention",
    "onmt.MaskedSoftmax",
    "onmt.WordEmbedding",
    "onmt.FeaturesEmbedding",
    "onmt.Generator",
    "onmt.FeaturesGenerator",
    "onmt.Bridge",
    on_tensors=True,
    enters=True,
)
@lowers("nn.NoBackprop", "nn.NaN", "nn.GPU", "nn.Serial", "nn.FireModule", "nn.DataParallel", on_tensors=True)
def decorator(net: Net, module: Module, x: Tensors) -> Steps:
    """The first of its modules. Source: nn/Decorator.lua, nn/GPU.lua, cunn/DataParallelTable.lua, OpenNMT/onmt/modules."""
    return (yield net.call(module, _only(module), x, 0))


@lowers("nn.Profile", on_tensors=True)
def profile(net: Net, module: Module, x: Tensors) -> Steps:
    """The module that it measures. Source: nn/Profile.lua."""
    held = module.modules()
    if held:
        return (yield net.call(module, held[0], x, 0))
    return (yield net.call(module, module.module("module"), x, "module"))


@lowers("nn.Inception", on_tensors=True, enters=True)
def inception(net: Net, module: Module, x: Tensors) -> Steps:
    """Its nn.DepthConcat of convolutions, for one image or a batch. Source: dpnn/Inception.lua."""
    g = net.g
    given = module.one_reference(x)
    made = _only(module)
    if g.rank(given.get()) != 3:
        return (yield net.call(module, made, given, 0))
    batch = given.view(lambda base: g.emit("Unsqueeze", base, [0]), lambda base, new: g.emit("Squeeze", new, [0]))
    out = module.one_reference((yield net.call(module, made, batch, 0)))
    return reshaped_view(g, out, g.shape(out.get())[1:])


@lowers("inn.SpatialPyramidPooling", on_tensors=True)
def spatial_pyramid_pooling(net: Net, module: Module, x: Tensors) -> Steps:
    """The outputs of its poolings, each flattened, side by side behind the batch. Source: imagine-nn/SpatialPyramidPooling.lua."""
    values = _tensors(module, (yield from _branches(net, module, x)))
    return Reference(join(net.g, values, net.g.rank(values[0]) - 1))


@lowers("nn.ModeSwitch", on_tensors=True)
def mode_switch(net: Net, module: Module, x: Tensors) -> Steps:
    """The second of its modules, which is that of evaluate(). Source: multipathnet/modules/ModeSwitch.lua."""
    held = module.modules()
    if len(held) != 2:
        raise module.error(f"it holds {len(held)} modules, expected two")
    return (yield net.call(module, held[1], x, 1))


@lowers("nn.DenseConnectLayerCustom", on_tensors=True)
def dense_connect_layer_custom(net: Net, module: Module, x: Tensors) -> Steps:
    """{x ..., net2(net1(all of them joined))}, of a tensor {x, net2(net1(x))}. Source: DenseNet/models/DenseConnectLayer.lua."""
    items: list[Tensors] = [x] if isinstance(x, Reference) else module.table(x)
    values = _tensors(module, items)
    joined = items[0] if isinstance(x, Reference) else Reference(join(net.g, values, 1))
    inner = yield net.call(module, module.module("net1"), joined, "net1")
    return [*items, (yield net.call(module, module.module("net2"), inner, "net2"))]


@lowers("nn.SharedParallelTable", on_tensors=True)
def shared_parallel_table(net: Net, module: Module, x: Tensors) -> Steps:
    """Its unit for each entry of a table. Source: crnn/src/model/SharedParallelTable.lua."""
    unit = module.module("unit") if "unit" in module else _only(module)
    outputs = []
    for item in module.table(x):
        with net.as_clones():
            outputs.append((yield net.call(module, unit, item, "unit")))
    return outputs


@lowers("nn.SharpMask", on_tensors=True)
def sharp_mask(net: Net, module: Module, x: Tensors) -> Steps:
    """The trunk's answer refined by refs[k]{what module skpos[k] of the trunk answered, the answer so far}.
    Source: deepmask/SharpMask.lua.
    """
    trunk = net.module(module.module("trunk"), "trunk")
    refs, inner = module.get("refs"), trunk.modules()
    places = module.sizes("skpos")
    if not isinstance(refs, t7.Table) or len(refs.array()) != len(places) or not all(1 <= n <= len(inner) for n in places):
        raise module.error("fields 'refs' and 'skpos' don't fit each other and the trunk")
    features: list[Tensors] = []
    for position, made in enumerate(inner):
        x = yield net.call(trunk, made, x, position)
        features.append(x)
    x = yield net.call(module, module.module_of(refs.get(0), "refs[0]"), x, "refs.0")
    for number, place in enumerate(places, 1):
        x = yield net.call(module, module.module_of(refs.get(number), f"refs[{number}]"), [features[place - 1], x], f"refs.{number}")
    return x
