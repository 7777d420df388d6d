"""Layers with a matrix or a table of weights: nn.Linear and its kin, nn.LookupTable."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.indices import from_one
from converters.readers.torch7.module import Module, Value, lowers, on_tensors
from converters.readers.torch7.modules.activation import tensor_input
from converters.readers.torch7.references import Nest, Reference


def _rows(g: GraphBuilder, module: Module, x: Value, features: int) -> tuple[Value, bool]:
    """The input as (N, features), and whether it was a vector."""
    rank = g.rank(tensor_input(module, x))
    if rank not in (1, 2):
        raise module.error(f"its input must be a vector or a matrix, but has shape {g.shape(x)}")
    (found,) = g.fixed(x, rank - 1)
    if found != features:
        raise module.error(f"it takes {features} features, but its input has {found} (shape {g.shape(x)})")
    return (g.emit("Unsqueeze", x, [0]), True) if rank == 1 else (x, False)


def _bias(module: Module, count: int) -> Value | None:
    bias = module.optional_tensor("bias")
    if bias is None:
        return None
    if bias.size != count:
        raise module.error(f"field 'bias' has {bias.size} elements for {count} outputs")
    return module.param("bias", bias.reshape(-1))


def affine(g: GraphBuilder, module: Module, x: Value, weight: np.ndarray[Any, Any]) -> Value:
    """x weight^T + bias for a vector or a matrix; weight: (out, in)."""
    rows, vector = _rows(g, module, x, weight.shape[1])
    out = g.emit("Gemm", rows, module.param("weight", weight), _bias(module, weight.shape[0]), transB=1)
    return g.emit("Squeeze", out, [0]) if vector else out


@lowers("nn.Linear")
def linear(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x W^T + b. x: (N, in) or (in). Source: nn/Linear.lua."""
    return affine(g, module, x, module.tensor("weight", None, None))


@lowers("nn.LinearWeightNorm")
def linear_weight_norm(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Linear with W = g v / ||v|| per row, whatever the stored weight. Source: nn/LinearWeightNorm.lua."""
    v = module.tensor("v", None, None).astype(np.float64)
    gain = module.tensor("g").astype(np.float64)
    if gain.size != len(v):
        raise module.error(f"field 'g' has {gain.size} elements for {len(v)} rows of v")
    eps = module.number("eps", 1e-16)
    norm = np.maximum(np.sqrt((v * v).sum(1, keepdims=True)), eps)
    return affine(g, module, x, (v * (gain.reshape(-1, 1) / norm)).astype(np.float32))


@lowers("nn.PartialLinear")
@on_tensors
def partial_linear(net: Any, module: Module, x: Nest) -> Nest:
    """Linear of the columns in `partition`, whose rows lie in the nn.LookupTable of its inner network. Source: nn/PartialLinear.lua."""
    g: GraphBuilder = net.g
    network = net.module(module.module("network"), f"{module.path}.network" if module.path else "network")
    inner = [net.module(item, network.path) for item in network.modules()]
    pairs = [net.module(item, network.path) for item in inner[0].modules()] if inner else []
    if len(pairs) != 2 or pairs[1].type != "nn.LookupTable":
        raise module.error("its network isn't the nn.ParallelTable and nn.MM that Torch7 makes")
    weight = pairs[1].tensor("weight", None, None)
    bias = module.optional_tensor("bias")
    rows = np.arange(len(weight))
    if "partition" in module:
        rows = _whole_numbers(module, "partition") - 1
        if rows.size and not 0 <= rows.min() <= rows.max() < len(weight):
            raise module.error(f"field 'partition' names rows outside 1 to {len(weight)}")
    if not np.array_equal(rows, np.arange(len(weight))):
        weight = np.ascontiguousarray(weight[rows])
        bias = bias if bias is None else bias.reshape(-1)[rows]
    given, vector = _rows(g, module, x.get() if isinstance(x, Reference) else x, weight.shape[1])
    out = g.emit("Gemm", given, module.param("weight", weight), None if bias is None else module.param("bias", bias.reshape(-1)), transB=1)
    return Reference(g.emit("Squeeze", out, [0]) if vector else out)


def _whole_numbers(module: Module, field: str) -> np.ndarray[Any, Any]:
    """A vector of whole numbers, in a tensor of whatever type."""
    value = module.get(field)
    array = value.array if isinstance(value, t7.Tensor) else None
    if array is None or array.ndim != 1 or not np.array_equal(array, np.floor(array)):
        raise module.error(f"field '{field}' must be a vector of whole numbers")
    return array.astype(np.int64)


@lowers("nn.Bilinear")
def bilinear(g: GraphBuilder, module: Module, x: Value) -> Value:
    """x1^T W_k x2 + b_k for a table of (N, in1) and (N, in2). Source: nn/Bilinear.lua."""
    first, second = pair(module, x)
    weight = module.tensor("weight", None, None, None)
    outputs, left, right = weight.shape
    if g.rank(first) != 2 or g.rank(second) != 2 or g.fixed(first, 1) != (left,) or g.fixed(second, 1) != (right,):
        raise module.error(f"it takes (N, {left}) and (N, {right}), but is given {g.shape(first)} and {g.shape(second)}")
    matrix = g.emit("Reshape", module.param("weight", weight), [outputs * left, right])
    products = g.emit("MatMul", second, g.emit("Transpose", matrix, perm=[1, 0]))
    products = g.emit("Reshape", products, [-1, outputs, left], shape=[g.shape(first)[0], outputs, left])
    products = g.emit("MatMul", products, g.emit("Unsqueeze", first, [2]))
    out = g.emit("Squeeze", products, [2], shape=[g.shape(first)[0], outputs])
    bias = _bias(module, outputs)
    return out if bias is None else g.emit("Add", out, bias)


def pair(module: Module, x: Any) -> tuple[Value, Value]:
    """The two tensors of a table."""
    if not isinstance(x, list) or len(x) != 2 or any(isinstance(item, list) for item in x):
        raise module.error("its input must be a table of two tensors")
    return x[0], x[1]


@lowers("nn.LookupTable")
def lookup_table(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Rows of weight by 1-based indices (n) or (N, n); rows longer than maxNorm are shortened to it. Source: THNN/generic/LookupTable.c."""
    weight = module.tensor("weight", None, None)
    indices = from_one(g, tensor_input(module, x))
    if g.rank(indices) not in (1, 2):
        raise module.error(f"its input must be a vector or a matrix of indices, but has shape {g.shape(x)}")
    limit = module.number("maxNorm", math.inf)
    if math.isfinite(limit):
        p = module.number("normType", 2.0)
        if p <= 0:
            raise module.error(f"normType is {p:g}, but must be greater than 0")
        norms = (np.abs(weight.astype(np.float64)) ** p).sum(1, keepdims=True) ** (1 / p)
        if (norms > limit).any():
            weight = np.where(norms > limit, weight * (limit / (norms + 1e-7)), weight).astype(np.float32)
    return g.emit("Gather", module.param("weight", weight), indices, axis=0)


@lowers("nn.OneHot")
def one_hot(g: GraphBuilder, module: Module, x: Value) -> Value:
    """1 at the 1-based index, 0 elsewhere, in a new last dimension of outputSize. Source: dpnn/OneHot.lua."""
    size = module.integer("outputSize", least=1)
    values = np.array([0, 1], dtype=np.float32)
    return g.emit("OneHot", from_one(g, tensor_input(module, x)), np.array([size], dtype=np.int64), values, axis=-1)


@lowers("nn.Index")
def index(g: GraphBuilder, module: Module, x: Value) -> Value:
    """Entries of the first tensor along `dimension`, at the 1-based indices in the second. Source: nn/Index.lua."""
    data, indices = pair(module, x)
    rank = g.rank(data)
    dimension = module.integer("dimension", least=1)
    if dimension > rank or g.rank(indices) != 1:
        raise module.error(f"it can't take dimension {dimension} of {g.shape(data)} at indices of shape {g.shape(indices)}")
    return g.emit("Gather", data, from_one(g, indices), axis=dimension - 1)


@lowers("nn.MaskedSelect")
def masked_select(g: GraphBuilder, module: Module, x: Value) -> Value:
    """The elements of the first tensor where the second isn't 0, as a vector. Source: nn/MaskedSelect.lua."""
    data, mask = pair(module, x)
    chosen = g.emit("Cast", g.emit("Reshape", mask, [-1]), to=int(ir.DataType.BOOL))
    return g.emit("Compress", g.emit("Reshape", data, [-1]), chosen, axis=0)
