"""Sums, means and extremes along a dimension: nn/Sum.lua, nn/Mean.lua, nn/Max.lua, nn/Min.lua; nn/Normalize.lua."""

from __future__ import annotations

import math

import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, lowers
from converters.readers.torch7.modules.shape import positive_dimension


@lowers("nn.Sum", "nn.Mean")
def reduce_sum(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The sum, or with sizeAverage the mean, along `dimension`. Source: nn/Sum.lua, nn/Mean.lua."""
    if module.type == "nn.Mean" and "sizeAverage" not in module:
        g.warn("its file is older than the field 'sizeAverage', without which nn sums and takes no mean; so does the result")
    axis = positive_dimension(g, module, x)
    squeeze = module.flag("squeeze", True) and g.rank(x) > 1
    return g.emit("ReduceMean" if module.flag("sizeAverage") else "ReduceSum", x, [axis], keepdims=int(not squeeze))


@lowers("nn.Max")
def reduce_max(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The greatest along `dimension`; of a vector, a vector of one. Source: nn/Max.lua."""
    return _extreme(g, module, x, "ReduceMax")


@lowers("nn.Min")
def reduce_min(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The least along `dimension`; of a vector, a vector of one. Source: nn/Min.lua."""
    return _extreme(g, module, x, "ReduceMin")


def _extreme(g: GraphBuilder, module: Module, x: ir.Value, op_type: str) -> ir.Value:
    axis = positive_dimension(g, module, x)
    return g.emit(op_type, x, [axis], keepdims=int(g.rank(x) == 1))


@lowers("nn.Normalize")
def normalize(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x / (sum |x|^p + eps)^(1/p) of each row; for p = inf x / (max |x| + eps). Source: nn/Normalize.lua."""
    rank = g.rank(x)
    if rank not in (1, 2):
        raise module.error(f"its input must be a vector or a matrix, but has shape {g.shape(x)}")
    p, eps = module.number("p", 2.0), module.number("eps", 1e-10)
    if p <= 0:
        raise module.error(f"p is {p:g}, but must be greater than 0")
    if math.isinf(p):
        norm = g.emit("Add", g.emit("ReduceMax", g.emit("Abs", x), [rank - 1], keepdims=1), eps)
        return g.emit("Div", x, norm)
    if p == 2:
        total = g.emit("ReduceSum", g.emit("Mul", x, x), [rank - 1], keepdims=1)
        return g.emit("Div", x, g.emit("Sqrt", g.emit("Add", total, eps)))
    base = x if p % 2 == 0 else g.emit("Abs", x)
    powers = base if p == 1 else g.emit("Pow", base, p)
    total = g.emit("Add", g.emit("ReduceSum", powers, [rank - 1], keepdims=1), eps)
    return g.emit("Div", x, total if p == 1 else g.emit("Pow", total, 1 / p))
