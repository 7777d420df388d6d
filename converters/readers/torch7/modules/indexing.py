"""Parts and entries by number, which Lua counts from 1: nn.LookupTable, nn.Select, nn.Narrow, nn.Index ..."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, lowers
from converters.readers.torch7.references import Values


def from_one(g: GraphBuilder, x: ir.Value) -> ir.Value:
    """Indices that count from 1, of whatever dtype, as int64 that count from 0."""
    if x.dtype != ir.DataType.INT64:
        x = g.emit("Cast", x, to=int(ir.DataType.INT64))
    return g.emit("Sub", x, 1)


@lowers("nn.LookupTable", newest_version=4, by_sample=True)
def lookup_table(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Rows of weight by 1-based indices (n) or (N, n); rows longer than maxNorm are shortened to it. Source: THNN/generic/LookupTable.c."""
    weight = module.tensor("weight", None, None)
    indices = from_one(g, x)
    if g.rank(indices) not in (1, 2):
        raise module.error(f"its input must be a vector or a matrix of indices, but has shape {g.shape(x)}")
    limit = module.number("maxNorm", math.inf)
    if math.isfinite(limit):
        p = module.number("normType", 2.0)
        if p <= 0:
            raise module.error(f"normType is {p:g}, but must be greater than 0")
        norms = (np.abs(weight.astype(np.float64)) ** p).sum(1, keepdims=True) ** (1 / p)
        if (norms > limit).any():
            weight = np.where(norms > limit, weight * (limit / (norms + 1e-7)), weight).astype(module.dtype)
    return g.emit("Gather", module.param("weight", weight), indices, axis=0)


@lowers("nn.OneHot", "OneHot")
def one_hot(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """1 at the 1-based index, 0 elsewhere, in a new last dimension of outputSize. Source: dpnn/OneHot.lua, char-rnn/util/OneHot.lua."""
    size = module.integer("outputSize", least=1)
    values = np.array([0, 1], dtype=module.dtype)
    return g.emit("OneHot", from_one(g, x), np.array([size], dtype=np.int64), values, axis=-1)


@lowers("nn.Index", tables=True)
def index(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """Entries of the first tensor along `dimension`, at the 1-based indices in the second. Source: nn/Index.lua."""
    data, indices = module.tensors(x, 2)
    rank = g.rank(data)
    dimension = module.integer("dimension", least=1)
    if dimension > rank or g.rank(indices) != 1:
        raise module.error(f"it can't take dimension {dimension} of {g.shape(data)} at indices of shape {g.shape(indices)}")
    return g.emit("Gather", data, from_one(g, indices), axis=dimension - 1)


@lowers("nn.MaskedSelect", tables=True)
def masked_select(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The elements of the first tensor where the second isn't 0, as a vector. Source: nn/MaskedSelect.lua."""
    data, mask = module.tensors(x, 2)
    chosen = g.emit("Cast", g.reshape(mask, [None]), to=int(ir.DataType.BOOL))
    return g.emit("Compress", g.reshape(data, [None]), chosen, axis=0)


def _axis(module: Module, field: str, rank: int) -> int:
    dimension = module.integer(field)
    dimension += rank + 1 if dimension < 0 else 0
    if not 1 <= dimension <= rank:
        raise module.error(f"{field} {module.integer(field)} doesn't fit an input of {rank} dimensions")
    return dimension - 1


@lowers("nn.Narrow")
def narrow(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """`length` entries from the 1-based `index` on; negative ones count from the end. Source: nn/Narrow.lua."""
    axis = _axis(module, "dimension", g.rank(x))
    (size,) = g.fixed(x, axis, axis + 1)
    index, length = module.integer("index"), module.integer("length", 1)
    end = None  # counted from the end
    if length < 0:
        end, length = length + 1, size - index + length + 2
    if index < 0:
        end, index, length = -length, 1, size - length
    if index < 1 or length < 1 or index + length - 1 > size:
        raise module.error(
            f"index {module.integer('index')} and length {module.integer('length', 1)} don't fit its input of shape {g.shape(x)}"
        )
    return g.emit("Slice", x, [index - 1], [index - 1 + length if end is None else end or (1 << 63) - 1], [axis])


@lowers("nn.Select")
def select_module(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The slice at a 1-based index, without its dimension; negative ones count from the end. Source: nn/Select.lua."""
    axis = _axis(module, "dimension", g.rank(x))
    index = module.integer("index")
    size = g.shape(x)[axis]
    if index == 0 or (isinstance(size, int) and abs(index) > size):
        raise module.error(f"index {index} doesn't fit its input of shape {g.shape(x)}")
    if not isinstance(size, int) and index not in (1, -1):
        g.fixed(x)
    if g.rank(x) == 1:
        raise module.error("it can't select a number of a vector: the result would be no tensor")
    return g.emit("Gather", x, g.const(np.array(index - 1 if index > 0 else index, dtype=np.int64)), axis=axis)


@lowers("nn.ArgMax")
def arg_max(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The 1-based index of the greatest along dim, as int64. Source: dpnn/ArgMax.lua."""
    rank = g.rank(x)
    dim = module.integer("dim", 1, least=1) + (rank > module.integer("nInputDim", 9999))
    if dim > rank:
        raise module.error(f"dim {dim} doesn't fit its input of shape {g.shape(x)}")
    found = g.emit("Add", g.emit("ArgMax", x, axis=dim - 1, keepdims=int(rank == 1)), np.array(1, dtype=np.int64))
    return found if module.flag("asLong", True) else g.emit("Cast", found, to=int(ir.DataType.FLOAT))
