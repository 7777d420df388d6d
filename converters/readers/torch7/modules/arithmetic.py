"""Sums, products and such: with constants, with parameters, and of the tensors in a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import OVERWRITES_REPLICATED, Array, Module, Net, lowers
from converters.readers.torch7.references import Reference, Tensors, Values


@lowers("nn.AddConstant", in_place=True, keeps_channels=True, by_sample=True)
def add_constant(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x + constant_scalar, a number or a vector along the last dimension. Source: nn/AddConstant.lua."""
    return g.emit("Add", x, _constant(module))


@lowers("nn.MulConstant", in_place=True, keeps_channels=True, by_sample=True)
def mul_constant(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x * constant_scalar. Source: nn/MulConstant.lua."""
    return g.emit("Mul", x, _constant(module))


def _constant(module: Module) -> ir.Value | float:
    if isinstance(module.get("constant_scalar"), t7.Tensor):
        vector = module.tensor("constant_scalar", None)
        return module.param("constant", vector, buffer=True)
    return module.number("constant_scalar")


@lowers("nn.Mul")
def mul(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x times the one learnt number. Source: nn/Mul.lua."""
    return g.emit("Mul", x, module.param("weight", module.tensor("weight", 1)))


@lowers("nn.Add")
def add(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x + bias, one number or one for each element of a sample. Source: nn/Add.lua."""
    bias = module.tensor("bias")
    if module.flag("scalar"):
        return g.emit("Add", x, module.param("bias", bias.reshape(-1)[:1]))
    alone = g.rank(x) == bias.ndim and math.prod(g.fixed(x, 1)) != bias.size  # one sample, no batch
    if g.shape(x) == bias.shape or (alone and g.fixed(x) == bias.shape):
        return g.emit("Add", x, module.param("bias", bias))
    return g.emit("Add", x, _per_sample(g, module, x, "bias", bias))


def _per_sample(g: GraphBuilder, module: Module, x: ir.Value, role: str, array: Array) -> ir.Value:
    """The parameter in the shape of one sample of x, dimension 1 being the batch."""
    sample = g.fixed(x, 1)
    if math.prod(sample) != array.size:
        raise module.error(f"field '{role}' has {array.size} elements, but a sample of its input {g.shape(x)} has {math.prod(sample)}")
    made = module.param(role, array)
    return made if array.shape == sample else g.reshape(made, list(sample) or [1])


def _broadcast(g: GraphBuilder, module: Module, x: ir.Value, role: str) -> ir.Value:
    """The parameter as nn.CMul and nn.CAdd spread it over x. Source: nn/CMul.lua."""
    array = module.tensor(role)
    shape = g.shape(x)
    if all(isinstance(d, int) for d in shape):
        elements = math.prod(d for d in shape if isinstance(d, int))
        if elements == array.size:
            made = module.param(role, array)
            return made if array.shape == shape else g.reshape(made, shape)
    if array.ndim == len(shape):
        g_shape = [d if isinstance(d, int) else None for d in shape]
        if any(a not in (1, d) and d is not None for a, d in zip(array.shape, g_shape, strict=True)):
            raise module.error(f"field '{role}' of shape {array.shape} can't be spread over its input of shape {shape}")
        if any(a != 1 and d is None for a, d in zip(array.shape, g_shape, strict=True)):
            g.fixed(x)
        return module.param(role, array)
    if array.size == 1:
        return module.param(role, array.reshape(-1))
    if math.prod(g.fixed(x, 1)) != array.size:
        g.fixed(x)  # a symbolic first dimension may be part of the sample
    return _per_sample(g, module, x, role, array)


@lowers("nn.CMul")
def cmul(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x times weight, spread over the batch and over dimensions of size 1. Source: nn/CMul.lua."""
    return g.emit("Mul", x, _broadcast(g, module, x, "weight"))


@lowers("nn.CAdd")
def cadd(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x plus bias, spread over the batch and over dimensions of size 1. Source: nn/CAdd.lua."""
    return g.emit("Add", x, _broadcast(g, module, x, "bias"))


@lowers("inn.ConstAffine", "nn.SpatialConstDiagonal", in_place=True)
def constant_affine(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x a + b for each channel, which DeepMask keeps as (1, C, 1, 1). x: (N, C), (N, C, H, W) or (C, H, W).
    Source: inn/ConstAffine.lua, deepmask/modelUtils.lua.
    """
    rank = g.rank(x)
    axis = 1 if rank in (2, 4) else 0
    a, b = module.tensor("a"), module.tensor("b")
    for role, numbers in (("a", a), ("b", b)):
        if numbers.ndim != 1 and (numbers.ndim != 4 or numbers.size != numbers.shape[1]):
            raise module.error(f"field '{role}' must have a number for each channel, but has shape {numbers.shape}")
    a, b = a.reshape(-1), b.reshape(-1)
    if a.shape != b.shape:
        raise module.error(f"its a has {len(a)} numbers, but its b {len(b)}")
    if g.fixed(x, axis, axis + 1) != a.shape:
        raise module.error(f"it has {len(a)} channels, but its input has shape {g.shape(x)}")
    spread = (-1, *[1] * (rank - axis - 1))
    scaled = g.emit("Mul", x, module.param("a", a.reshape(spread), buffer=True))
    return g.emit("Add", scaled, module.param("b", b.reshape(spread), buffer=True))


@lowers("inn.MeanSubtraction")
def mean_subtraction(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x minus a mean image (C, H, W), which files may hold expanded to their last batch. Source: inn/MeanSubtraction.lua."""
    mean = module.tensor("mean")
    if mean.ndim == 4 and (mean.strides[0] == 0 or len(mean) == 1):
        mean = mean[0]
    if mean.ndim != 3 or g.rank(x) not in (3, 4) or g.fixed(x, g.rank(x) - 3) != mean.shape:
        raise module.error(f"its mean has shape {mean.shape}, but its input {g.shape(x)}")
    return g.emit("Sub", x, module.param("mean", mean, buffer=True))


# -- tables ------------------------------------------------------------------------------------------------------------


def count_elements(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    """Number of elements: a factor, and symbols."""
    return math.prod(d for d in shape if isinstance(d, int)), sorted(str(d) for d in shape if not isinstance(d, int))


def shaped_like(g: GraphBuilder, module: Module, x: ir.Value, like: ir.Value) -> ir.Value:
    """x in the shape of another tensor of as many elements: Torch7 walks both in row-major order and never broadcasts."""
    shape, wanted = g.shape(x), g.shape(like)
    if shape == wanted and None not in shape:
        return x
    if count_elements(shape) != count_elements(wanted) or None in shape:
        shape, wanted = g.fixed(x), g.fixed(like)
        if math.prod(shape) != math.prod(wanted):
            raise module.error(f"its inputs must have as many elements, but have shapes {wanted} and {shape}")
    return g.reshape(x, [*wanted[:2], *g.extents(like, 2)])


@lowers("nn.CAddTable", on_tensors=True)
def cadd_table(net: Net, module: Module, x: Tensors) -> Tensors:
    """The sum of a table's tensors, with `inplace` into the first one. Source: nn/CAddTable.lua."""
    items = [module.one_reference(item) for item in module.table(x)]
    if not items:
        raise module.error("its input is an empty table")
    if module.flag("inplace") and items[0].replicated:
        raise module.error(OVERWRITES_REPLICATED)
    out = items[0].alias() if module.flag("inplace") else Reference(items[0].get())
    for item in items[1:]:
        total = out.get()
        out.set(net.g.emit("Add", total, shaped_like(net.g, module, item.get(), total)))
    return out


def _fold(g: GraphBuilder, module: Module, op_type: str, items: list[ir.Value]) -> ir.Value:
    out = items[0]
    for item in items[1:]:
        out = g.emit(op_type, out, shaped_like(g, module, item, out))
    return out


@lowers("nn.CMulTable", tables=True)
def cmul_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The product of a table's tensors. Source: nn/CMulTable.lua."""
    return _fold(g, module, "Mul", module.tensors(x))


@lowers("nn.CSubTable", tables=True)
def csub_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The first tensor minus the second. Source: nn/CSubTable.lua."""
    return _fold(g, module, "Sub", module.tensors(x, least=2)[:2])


@lowers("nn.CDivTable", tables=True)
def cdiv_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The first tensor over the second. Source: nn/CDivTable.lua."""
    return _fold(g, module, "Div", module.tensors(x, least=2)[:2])


@lowers("nn.CMaxTable", tables=True)
def cmax_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The greatest of a table's tensors, element by element. Source: nn/CMaxTable.lua."""
    return _fold(g, module, "Max", module.tensors(x))


@lowers("nn.CMinTable", tables=True)
def cmin_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The least of a table's tensors, element by element. Source: nn/CMinTable.lua."""
    return _fold(g, module, "Min", module.tensors(x))


@lowers("nn.CAddTensorTable", tables=True)
def cadd_tensor_table(g: GraphBuilder, module: Module, x: Values) -> list[ir.Value]:
    """{a, {b1, b2 ...}} -> {a + b1, a + b2 ...}. Source: nn/CAddTensorTable.lua."""
    if not isinstance(x, Sequence) or len(x) != 2 or not isinstance(x[1], Sequence) or isinstance(x[0], Sequence):
        raise module.error("its input must be a table of a tensor and a table of tensors")
    first = x[0]
    return [g.emit("Add", shaped_like(g, module, item, first), first) for item in module.tensors(x[1], least=0)]


@lowers("nn.Constant", tables=True)
def constant(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """Its value, whatever the input; repeated over the batch where nInputDim tells of one. Source: nn/Constant.lua."""
    value = module.param("value", module.tensor("value"), buffer=True)
    dims = module.integer("nInputDim", None)
    if dims is None or isinstance(x, Sequence) or g.rank(x) <= dims:
        return g.identity(value)
    return _for_each(g, value, x)


def _for_each(g: GraphBuilder, value: ir.Value, x: ir.Value) -> ir.Value:
    """The value for each sample of x."""
    batch = g.shape(x)[0]
    shape = list(g.fixed(value))
    if isinstance(batch, int):
        return g.emit("Expand", value, [batch, *shape])
    return g.emit("Expand", value, g.sizes([*g.extents(x, 0, 1), *shape]), shape=[batch, *shape])


@lowers("fbnn.Constant")
def constant_of_fbnn(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Its value for each sample of its input. Source: fbnn/Constant.lua."""
    return _for_each(g, module.param("value", module.tensor("value"), buffer=True), x)


@lowers("w2nn.ScaleTable", tables=True)
def scale_table(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{x, scale}: x times a scale of one number per channel. Source: waifu2x/lib/ScaleTable.lua."""
    return g.emit("Mul", *module.tensors(x, 2))
