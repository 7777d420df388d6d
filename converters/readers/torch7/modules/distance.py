"""Distances and similarities, to learnt points or between the two tensors of a table."""

from __future__ import annotations

import math

import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, lowers
from converters.readers.torch7.references import Values


def _differences(g: GraphBuilder, module: Module, x: ir.Value) -> tuple[ir.Value, bool]:
    """x - w_j for all the columns of weight (in, out), as (N, in, out); and whether x was a vector."""
    weight = module.tensor("weight", None, None)
    rank = g.rank(x)
    if rank not in (1, 2) or g.fixed(x, rank - 1) != weight.shape[:1]:
        raise module.error(f"it takes {weight.shape[0]} features, but its input has shape {g.shape(x)}")
    rows = g.emit("Unsqueeze", x, [0, 2] if rank == 1 else [2])
    return g.emit("Sub", rows, module.param("weight", weight)), rank == 1


@lowers("nn.Euclidean")
def euclidean(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The distance of x from each column of weight (in, out). Source: nn/Euclidean.lua."""
    differences, vector = _differences(g, module, x)
    return g.emit("ReduceL2", differences, [0, 1] if vector else [1], keepdims=0)


@lowers("nn.WeightedEuclidean")
def weighted_euclidean(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """As nn.Euclidean, differences times diagCov before they are squared. Source: nn/WeightedEuclidean.lua."""
    differences, vector = _differences(g, module, x)
    scale = module.tensor("diagCov", *g.fixed(differences, 1))
    return g.emit("ReduceL2", g.emit("Mul", differences, module.param("diagCov", scale)), [0, 1] if vector else [1], keepdims=0)


@lowers("nn.Cosine")
def cosine(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """w_j . x / ((||w_j|| + 1e-12) (||x|| + 1e-12)) for each row of weight (out, in). Source: nn/Cosine.lua."""
    weight = module.tensor("weight", None, None)
    rank = g.rank(x)
    if rank not in (1, 2) or g.fixed(x, rank - 1) != weight.shape[1:]:
        raise module.error(f"it takes {weight.shape[1]} features, but its input has shape {g.shape(x)}")
    parameter = module.param("weight", weight)
    rows = g.emit("Unsqueeze", x, [0]) if rank == 1 else x
    products = g.emit("Gemm", rows, parameter, transB=1)
    length = g.emit("Add", g.emit("ReduceL2", rows, [1], keepdims=1), 1e-12)
    lengths = g.emit("Add", g.emit("ReduceL2", parameter, [1], keepdims=0), 1e-12)
    out = g.emit("Div", g.emit("Div", products, lengths), length)
    return g.emit("Squeeze", out, [0]) if rank == 1 else out


def _row_pairs(g: GraphBuilder, module: Module, x: Values) -> tuple[ir.Value, ir.Value]:
    """The two tensors as matrices of as many rows."""
    first, second = module.tensors(x, 2)
    rank = g.rank(first)
    if rank not in (1, 2) or g.rank(second) != rank:
        raise module.error(f"its inputs must be two vectors or two matrices, but have shapes {g.shape(first)} and {g.shape(second)}")
    if rank == 1:
        return g.emit("Unsqueeze", first, [0]), g.emit("Unsqueeze", second, [0])
    return first, second


@lowers("nn.DotProduct", tables=True)
def dot_product(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """x . y of each row: (N). Source: nn/DotProduct.lua."""
    first, second = _row_pairs(g, module, x)
    return g.emit("ReduceSum", g.emit("Mul", first, second), [1], keepdims=0)


@lowers("nn.CosineDistance", tables=True)
def cosine_distance(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """x . y / sqrt((x . x + 1e-12) (y . y + 1e-12)) of each row: a similarity (N). Source: nn/CosineDistance.lua."""
    first, second = _row_pairs(g, module, x)
    dot = g.emit("ReduceSum", g.emit("Mul", first, second), [1], keepdims=0)
    lengths = [g.emit("Sqrt", g.emit("Add", g.emit("ReduceSum", g.emit("Mul", v, v), [1], keepdims=0), 1e-12)) for v in (first, second)]
    return g.emit("Div", g.emit("Div", dot, lengths[0]), lengths[1])


@lowers("nn.PairwiseDistance", tables=True)
def pairwise_distance(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """(sum |x - y|^p)^(1/p) of each row: (N). Source: nn/PairwiseDistance.lua."""
    first, second = _row_pairs(g, module, x)
    p = module.number("norm", 2.0)
    difference = g.emit("Sub", first, second)
    if p in (1, 2):
        return g.emit("ReduceL1" if p == 1 else "ReduceL2", difference, [1], keepdims=0)
    if p <= 0 or math.isinf(p):
        raise module.error(f"norm is {p:g}, but must be a number greater than 0")
    total = g.emit("ReduceSum", g.emit("Pow", g.emit("Abs", difference), p), [1], keepdims=0)
    return g.emit("Pow", total, 1 / p)


@lowers("nn.Kmeans")
def kmeans(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The 1-based number of the nearest row of weight, as a float. Source: dpnn/Kmeans.lua."""
    weight = module.tensor("weight", None, None)
    if g.rank(x) != 2 or g.fixed(x, 1) != (weight.shape[1],):
        raise module.error(f"its input must be (N, {weight.shape[1]}), but has shape {g.shape(x)}")
    apart = g.emit("Sub", g.emit("Unsqueeze", x, [1]), g.emit("Unsqueeze", module.param("weight", weight), [0]))
    nearest = g.emit("ArgMin", g.emit("ReduceSum", g.emit("Mul", apart, apart), [2], keepdims=0), axis=1, keepdims=0)
    return g.emit("Cast", g.emit("Add", nearest, 1), to=int(ir.DataType.from_numpy(module.dtype)))


@lowers("fbnn.L2Normalize")
def l2_normalize(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x over its norm, of each row where it is a matrix; 0 / 0 is NaN. Source: fbnn/L2Normalize.lua."""
    if g.rank(x) not in (1, 2):
        raise module.error(f"its input must be a vector or a matrix, but has shape {g.shape(x)}")
    return g.emit("Div", x, g.emit("ReduceL2", x, [g.rank(x) - 1], keepdims=1))
