"""Linear layers whose input is a list of indices and values: nn/SparseLinear.lua, nn/IndexLinear.lua."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.indices import from_one
from converters.readers.torch7.module import Module, Value, lowers


@lowers("nn.SparseLinear")
def sparse_linear(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Linear of pairs {index, value}: (n, 2), (N, n, 2), or a table of (n, 2) for each sample. Source: THNN/generic/SparseLinear.c."""
    weight = module.tensor("weight", None, None)
    rows = g.emit("Transpose", module.param("weight", weight), perm=[1, 0])
    bias = module.param("bias", module.tensor("bias", len(weight)))
    if isinstance(x, list):
        items = [_pairs(g, module, rows, item, (2,)) for item in x]
        if not items:
            raise module.error("its input is an empty table")
        stacked = [g.emit("Unsqueeze", item, [0]) for item in items]
        return g.emit("Add", g.emit("Concat", *stacked, axis=0) if len(stacked) > 1 else stacked[0], bias)
    return g.emit("Add", _pairs(g, module, rows, x, (2, 3)), bias)


def _pairs(g: GraphBuilder, module: Module, rows: Value, x: Any, ranks: tuple[int, ...]) -> Value:
    if isinstance(x, list) or g.rank(x) not in ranks or g.shape(x)[-1] != 2:
        raise module.error("its input must be pairs of an index and a value: (n, 2)")
    axis = g.rank(x) - 1
    indices = from_one(g, g.emit("Gather", x, g.const(np.array(0, dtype=np.int64)), axis=axis))
    values = g.emit("Slice", x, [1], [2], [axis])
    return g.emit("ReduceSum", g.emit("Mul", g.emit("Gather", rows, indices, axis=0), values), [axis - 1], keepdims=0)


@lowers("nn.IndexLinear")
def index_linear(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Linear of {keys, values}, or of {{keys ...}, {values ...}} for a batch, values normalized where the weight tells how.
    Source: THNN/generic/IndexLinear.c.
    """
    weight, bias = module.tensor("weight", None, None), module.tensor("bias", None)
    extra = weight.shape[1] - len(bias)
    if extra not in (0, 4):
        raise module.error(f"field 'weight' has shape {weight.shape} for {len(bias)} outputs")
    if not isinstance(x, list) or len(x) != 2 or isinstance(x[0], list) != isinstance(x[1], list):
        raise module.error(
            "its input must be {keys, values} or {table of keys, table of values}; the sizes of a flat batch aren't known here"
        )
    table = module.param("weight", weight)
    batch = list(zip(x[0], x[1], strict=False)) if isinstance(x[0], list) else [(x[0], x[1])]
    if isinstance(x[0], list) and (len(x[0]) != len(x[1]) or not x[0]):
        raise module.error(f"it is given {len(x[0])} keys and {len(x[1])} values")
    rows = []
    for keys, values in batch:
        if g.rank(keys) != 1 or g.rank(values) != 1:
            raise module.error(f"keys and values must be vectors, but have shapes {g.shape(keys)} and {g.shape(values)}")
        found = from_one(g, keys)
        shift = module.integer("offset", -1) + 1
        found = g.emit("Add", found, shift) if shift else found
        entries = g.emit("Gather", table, found, axis=0)
        column = g.emit("Unsqueeze", values, [1])
        if extra:
            largest, inverse = g.emit("Slice", entries, [0], [1], [1]), g.emit("Slice", entries, [1], [2], [1])
            scaled = g.emit(
                "Where", g.emit("Greater", g.emit("Abs", column), largest), g.emit("Sign", column), g.emit("Mul", column, inverse)
            )
            column = g.emit("Add", scaled, g.emit("Slice", entries, [3], [4], [1]))
            entries = g.emit("Slice", entries, [4], [weight.shape[1]], [1])
        rows.append(g.emit("ReduceSum", g.emit("Mul", entries, column), [0], keepdims=int(isinstance(x[0], list))))
    out = g.emit("Concat", *rows, axis=0) if len(rows) > 1 else rows[0]
    return g.emit("Add", out, module.param("bias", bias))
