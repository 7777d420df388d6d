"""Sums, products and such: with constants, with parameters, and of the tensors in a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.activation import overwrites, tensor_input
from converters.readers.torch7.modules.linear import pair
from converters.readers.torch7.references import Nest, Reference


@lowers("nn.AddConstant")
@overwrites
def add_constant(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x + constant_scalar, a number or a vector along the last dimension. Source: nn/AddConstant.lua."""
    return g.emit("Add", x, _constant(module))


@lowers("nn.MulConstant")
@overwrites
def mul_constant(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x * constant_scalar. Source: nn/MulConstant.lua."""
    return g.emit("Mul", x, _constant(module))


def _constant(module: Module) -> Any:
    if isinstance(module.get("constant_scalar"), t7.Tensor):
        vector = module.tensor("constant_scalar", None)
        return module.param("constant", vector, buffer=True)
    return module.number("constant_scalar")


@lowers("nn.Mul")
def mul(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x times the one learnt number. Source: nn/Mul.lua."""
    return g.emit("Mul", tensor_input(module, x), module.param("weight", module.tensor("weight", 1)))


@lowers("nn.Add")
def add(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x + bias, one number or one for each element of a sample. Source: nn/Add.lua."""
    x = tensor_input(module, x)
    bias = module.tensor("bias")
    if module.flag("scalar"):
        return g.emit("Add", x, module.param("bias", bias.reshape(-1)[:1]))
    shape = g.shape(x)
    if shape == bias.shape:
        return g.emit("Add", x, module.param("bias", bias))
    return g.emit("Add", x, _per_sample(g, module, x, "bias", bias))


def _per_sample(g: GraphBuilder, module: Module, x: Value, role: str, array: np.ndarray[Any, Any]) -> Value:
    """The parameter in the shape of one sample of x, dimension 1 being the batch."""
    sample = g.fixed(x, 1)
    if math.prod(sample) != array.size:
        raise module.error(f"field '{role}' has {array.size} elements, but a sample of its input {g.shape(x)} has {math.prod(sample)}")
    made = module.param(role, array)
    return made if array.shape == sample else g.emit("Reshape", made, list(sample) or [1])


def _broadcast(g: GraphBuilder, module: Module, x: Value, role: str) -> Value:
    """The parameter as nn.CMul and nn.CAdd spread it over x. Source: nn/CMul.lua."""
    array = module.tensor(role)
    shape = g.shape(tensor_input(module, x))
    if all(isinstance(d, int) for d in shape):
        elements = math.prod(d for d in shape if isinstance(d, int))
        if elements == array.size:
            made = module.param(role, array)
            return made if array.shape == shape else g.emit("Reshape", made, [d for d in shape if isinstance(d, int)])
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
def cmul(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x times weight, spread over the batch and over dimensions of size 1. Source: nn/CMul.lua."""
    return g.emit("Mul", x, _broadcast(g, module, x, "weight"))


@lowers("nn.CAdd")
def cadd(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x plus bias, spread over the batch and over dimensions of size 1. Source: nn/CAdd.lua."""
    return g.emit("Add", x, _broadcast(g, module, x, "bias"))


# -- tables ------------------------------------------------------------------------------------------------------------


def count_elements(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    """Number of elements: a factor, and symbols."""
    return math.prod(d for d in shape if isinstance(d, int)), sorted(str(d) for d in shape if not isinstance(d, int))


def shaped_like(g: GraphBuilder, module: Module, x: Value, like: Value) -> Value:
    """x in the shape of another tensor of as many elements: Torch7 walks both in row-major order and never broadcasts."""
    shape, wanted = g.shape(x), g.shape(like)
    if shape == wanted and None not in shape:
        return x
    if count_elements(shape) != count_elements(wanted) or None in shape:
        shape, wanted = g.fixed(x), g.fixed(like)
        if math.prod(shape) != math.prod(wanted):
            raise module.error(f"its inputs must have as many elements, but have shapes {wanted} and {shape}")
        if shape == wanted:
            return x
    if sum(not isinstance(d, int) for d in wanted) > 1:
        wanted = g.fixed(like)
    return g.emit("Reshape", x, [d if isinstance(d, int) else -1 for d in wanted], shape=wanted)


def tensors(module: Module, x: Any, least: int = 1) -> list[Any]:
    """The tensors of a table."""
    if not isinstance(x, list) or len(x) < least or any(isinstance(item, list) for item in x):
        raise module.error(f"its input must be a table of {least} or more tensors")
    return x


@lowers("nn.CAddTable")
@on_tensors
def cadd_table(net: Any, module: Module, x: Nest) -> Nest:
    """The sum of a table's tensors, with `inplace` into the first one. Source: nn/CAddTable.lua."""
    items = tensors(module, x)
    if module.flag("inplace") and items[0].replicated:
        raise module.error("it overwrites a replicated tensor, whose elements would change once for each place where they show")
    out = items[0].alias() if module.flag("inplace") else Reference(items[0].get())
    for item in items[1:]:
        total = out.get()
        out.set(net.g.emit("Add", total, shaped_like(net.g, module, item.get(), total)))
    return out


def _fold(g: GraphBuilder, module: Module, op_type: str, items: list[Any]) -> Value:
    out: Value = items[0]
    for item in items[1:]:
        out = g.emit(op_type, out, shaped_like(g, module, item, out))
    return out


@lowers("nn.CMulTable")
def cmul_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The product of a table's tensors. Source: nn/CMulTable.lua."""
    return _fold(g, module, "Mul", tensors(module, x))


@lowers("nn.CSubTable")
def csub_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The first tensor minus the second. Source: nn/CSubTable.lua."""
    return _fold(g, module, "Sub", tensors(module, x, 2)[:2])


@lowers("nn.CDivTable")
def cdiv_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The first tensor over the second. Source: nn/CDivTable.lua."""
    return _fold(g, module, "Div", tensors(module, x, 2)[:2])


@lowers("nn.CMaxTable")
def cmax_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The greatest of a table's tensors, element by element. Source: nn/CMaxTable.lua."""
    return _fold(g, module, "Max", tensors(module, x))


@lowers("nn.CMinTable")
def cmin_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The least of a table's tensors, element by element. Source: nn/CMinTable.lua."""
    return _fold(g, module, "Min", tensors(module, x))


@lowers("nn.CAddTensorTable")
def cadd_tensor_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """{a, {b1, b2 ...}} -> {a + b1, a + b2 ...}. Source: nn/CAddTensorTable.lua."""
    if not isinstance(x, list) or len(x) != 2 or not isinstance(x[1], list) or isinstance(x[0], list):
        raise module.error("its input must be a table of a tensor and a table of tensors")
    return [g.emit("Add", shaped_like(g, module, item, x[0]), x[0]) for item in tensors(module, x[1], 0)]


# -- matrices ----------------------------------------------------------------------------------------------------------


@lowers("nn.MM")
def mm(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The matrix product of two matrices, or of two batches of them, transposed where transA, transB say. Source: nn/MM.lua."""
    a, b = pair(module, x)
    if g.rank(a) not in (2, 3) or g.rank(a) != g.rank(b):
        raise module.error(f"its inputs must be two matrices or two batches of matrices, but have shapes {g.shape(a)} and {g.shape(b)}")
    swap = [0, 2, 1] if g.rank(a) == 3 else [1, 0]
    a = g.emit("Transpose", a, perm=swap) if module.flag("transA") else a
    b = g.emit("Transpose", b, perm=swap) if module.flag("transB") else b
    return g.emit("MatMul", a, b)


@lowers("nn.MV")
def mv(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The product of a matrix and a vector, or of batches of them; `trans` transposes the matrix. Source: nn/MV.lua."""
    matrix, vector = pair(module, x)
    rank = g.rank(matrix)
    if rank not in (2, 3) or g.rank(vector) != rank - 1:
        raise module.error(f"its inputs must be a matrix and a vector, or batches, but have shapes {g.shape(matrix)} and {g.shape(vector)}")
    if module.flag("trans"):
        matrix = g.emit("Transpose", matrix, perm=[0, 2, 1] if rank == 3 else [1, 0])
    # a column in two dimensions as well: onnxruntime fuses the transposition with the product, and gets that of a vector wrong
    column = g.emit("Unsqueeze", vector, [rank - 1])
    return g.emit("Squeeze", g.emit("MatMul", matrix, column), [rank - 1])


@lowers("nn.Constant")
def constant(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Its value, whatever the input; repeated over the batch where nInputDim tells of one. Source: nn/Constant.lua."""
    value = module.param("value", module.tensor("value"), buffer=True)
    dims = module.integer("nInputDim", None)
    if dims is None or isinstance(x, list) or g.rank(x) <= dims:
        return g.identity(value)
    batch = g.shape(x)[0]
    shape = list(g.fixed(value))
    if isinstance(batch, int):
        return g.emit("Expand", value, [batch, *shape])
    first = g.emit("Shape", x, start=0, end=1)
    target = g.emit("Concat", first, g.const(np.array(shape, dtype=np.int64)), axis=0)
    return g.emit("Expand", value, target, shape=[batch, *shape])
