"""Layers with a matrix or a table of weights: nn.Linear and its kin, nn.LookupTable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.errors import of_another_size
from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.module import Array, Module, Net, lowers
from converters.readers.torch7.modules.indexing import from_one
from converters.readers.torch7.references import Reference, Tensors, Values


def _features(module: Module) -> tuple[Dim, ...]:
    """(N, in)."""
    return "N", module.tensor("weight", None, None).shape[1]


def _rows(g: GraphBuilder, module: Module, x: ir.Value, features: int) -> tuple[ir.Value, bool]:
    """The input as (N, features), and whether it was a vector."""
    rank = g.rank(x)
    if rank not in (1, 2):
        raise module.error(f"its input must be a vector or a matrix, but has shape {g.shape(x)}")
    (found,) = g.fixed(x, rank - 1)
    if found != features:
        problem = module.error(f"it takes {features} features, but its input has {found} (shape {g.shape(x)})")
        raise of_another_size(problem, found, features)
    return (g.emit("Unsqueeze", x, [0]), True) if rank == 1 else (x, False)


def _bias(module: Module, count: int) -> ir.Value | None:
    bias = module.optional_tensor("bias")
    if bias is None:
        return None
    if bias.size != count:
        raise module.error(f"field 'bias' has {bias.size} elements for {count} outputs")
    return module.param("bias", bias.reshape(-1))


def affine(g: GraphBuilder, module: Module, x: ir.Value, weight: Array) -> ir.Value:
    """x weight^T + bias for a vector or a matrix; weight: (out, in)."""
    rows, vector = _rows(g, module, x, weight.shape[1])
    out = g.emit("Gemm", rows, module.param("weight", weight), _bias(module, weight.shape[0]), transB=1)
    return g.emit("Squeeze", out, [0]) if vector else out


@lowers("nn.Linear", "nn.LinearNoBias", "nn.LinearNB", "fbnn.LinearNB", input_shape=_features, by_sample=True)
@lowers("nn.LinearNoBackprop", "fbnn.NormalizedLinearNoBias", input_shape=_features)
def linear(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """x W^T + b. x: (N, in) or (in). Source: nn/Linear.lua."""
    return affine(g, module, x, module.tensor("weight", None, None))


@lowers("nn.LinearWeightNorm")
def linear_weight_norm(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Linear with W = g v / ||v|| per row, whatever the stored weight. Source: nn/LinearWeightNorm.lua."""
    v = module.tensor("v", None, None).astype(np.float64)
    gain = module.tensor("g").astype(np.float64)
    if gain.size != len(v):
        raise module.error(f"field 'g' has {gain.size} elements for {len(v)} rows of v")
    eps = module.number("eps", 1e-16)
    norm = np.maximum(np.sqrt((v * v).sum(1, keepdims=True)), eps)
    return affine(g, module, x, (v * (gain.reshape(-1, 1) / norm)).astype(module.dtype))


@lowers("nn.PartialLinear", on_tensors=True)
def partial_linear(net: Net, module: Module, x: Tensors) -> Tensors:
    """Linear of the columns in `partition`, whose rows lie in the nn.LookupTable of its inner network. Source: nn/PartialLinear.lua."""
    g = net.g
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
    given, vector = _rows(g, module, module.one_reference(x).get(), weight.shape[1])
    out = g.emit("Gemm", given, module.param("weight", weight), None if bias is None else module.param("bias", bias.reshape(-1)), transB=1)
    return Reference(g.emit("Squeeze", out, [0]) if vector else out)


def _whole_numbers(module: Module, field: str) -> Array:
    """A vector of whole numbers, in a tensor of whatever type."""
    value = module.get(field)
    array = value.array if isinstance(value, t7.Tensor) else None
    if array is None or array.ndim != 1 or not np.array_equal(array, np.floor(array)):
        raise module.error(f"field '{field}' must be a vector of whole numbers")
    return array.astype(np.int64)


@lowers("nn.Bilinear", tables=True)
def bilinear(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """x1^T W_k x2 + b_k for a table of (N, in1) and (N, in2). Source: nn/Bilinear.lua."""
    first, second = module.tensors(x, 2)
    weight = module.tensor("weight", None, None, None)
    outputs, left, right = weight.shape
    if g.rank(first) != 2 or g.rank(second) != 2 or g.fixed(first, 1) != (left,) or g.fixed(second, 1) != (right,):
        raise module.error(f"it takes (N, {left}) and (N, {right}), but is given {g.shape(first)} and {g.shape(second)}")
    matrix = g.reshape(module.param("weight", weight), [outputs * left, right])
    products = g.emit("MatMul", second, g.emit("Transpose", matrix, perm=[1, 0]))
    products = g.reshape(products, [g.shape(first)[0], outputs, left])
    products = g.emit("MatMul", products, g.emit("Unsqueeze", first, [2]))
    out = g.emit("Squeeze", products, [2], shape=[g.shape(first)[0], outputs])
    bias = _bias(module, outputs)
    return out if bias is None else g.emit("Add", out, bias)


# -- matrices ----------------------------------------------------------------------------------------------------------


@lowers("nn.MM", tables=True)
def mm(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The matrix product of two matrices, or of two batches of them, transposed where transA, transB say. Source: nn/MM.lua."""
    a, b = module.tensors(x, 2)
    if g.rank(a) not in (2, 3) or g.rank(a) != g.rank(b):
        raise module.error(f"its inputs must be two matrices or two batches of matrices, but have shapes {g.shape(a)} and {g.shape(b)}")
    swap = [0, 2, 1] if g.rank(a) == 3 else [1, 0]
    a = g.emit("Transpose", a, perm=swap) if module.flag("transA") else a
    b = g.emit("Transpose", b, perm=swap) if module.flag("transB") else b
    return g.emit("MatMul", a, b)


@lowers("nn.MV", tables=True)
def mv(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """The product of a matrix and a vector, or of batches of them; `trans` transposes the matrix. Source: nn/MV.lua."""
    matrix, vector = module.tensors(x, 2)
    rank = g.rank(matrix)
    if rank not in (2, 3) or g.rank(vector) != rank - 1:
        raise module.error(f"its inputs must be a matrix and a vector, or batches, but have shapes {g.shape(matrix)} and {g.shape(vector)}")
    if module.flag("trans"):
        matrix = g.emit("Transpose", matrix, perm=[0, 2, 1] if rank == 3 else [1, 0])
    # a column in two dimensions as well: onnxruntime fuses the transposition with the product, and gets that of a vector wrong
    column = g.emit("Unsqueeze", vector, [rank - 1])
    return g.emit("Squeeze", g.emit("MatMul", matrix, column), [rank - 1])


@lowers("nn.GramMatrix")
def gram_matrix(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Products of all pairs of channels, over C * H * W where `normalize` says so. Source: fast-neural-style/GramMatrix.lua."""
    rank = g.rank(x)
    if rank not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {g.shape(x)}")
    channels, height, width = g.fixed(x, rank - 3)
    normalizes = module.flag("normalize", True)
    x = g.pin(x, rank - 2) if normalizes else x
    flat = g.reshape(x, [*g.shape(x)[: rank - 3], channels, None])
    out = g.emit("MatMul", flat, g.emit("Transpose", flat, perm=[0, 2, 1] if rank == 4 else [1, 0]))
    return g.emit("Div", out, float(channels * height * width)) if normalizes else out


@lowers("nn.SparseLinear", tables=True)
def sparse_linear(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """Linear of pairs {index, value}: (n, 2), (N, n, 2), or a table of (n, 2) for each sample. Source: THNN/generic/SparseLinear.c."""
    weight = module.tensor("weight", None, None)
    rows = g.emit("Transpose", module.param("weight", weight), perm=[1, 0])
    bias = module.param("bias", module.tensor("bias", len(weight)))
    if not isinstance(x, Sequence):
        return g.emit("Add", _pairs(g, module, rows, x, (2, 3)), bias)
    stacked = [g.emit("Unsqueeze", _pairs(g, module, rows, item, (2,)), [0]) for item in module.tensors(x)]
    return g.emit("Add", g.emit("Concat", *stacked, axis=0) if len(stacked) > 1 else stacked[0], bias)


def _pairs(g: GraphBuilder, module: Module, rows: ir.Value, x: ir.Value, ranks: tuple[int, ...]) -> ir.Value:
    if g.rank(x) not in ranks or g.shape(x)[-1] != 2:
        raise module.error("its input must be pairs of an index and a value: (n, 2)")
    axis = g.rank(x) - 1
    indices = from_one(g, g.emit("Gather", x, g.const(np.array(0, dtype=np.int64)), axis=axis))
    values = g.emit("Slice", x, [1], [2], [axis])
    return g.emit("ReduceSum", g.emit("Mul", g.emit("Gather", rows, indices, axis=0), values), [axis - 1], keepdims=0)


@lowers("nn.IndexLinear", tables=True)
def index_linear(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """Linear of {keys, values}, or of {{keys ...}, {values ...}} for a batch, values normalized where the weight tells how.
    Source: THNN/generic/IndexLinear.c.
    """
    weight, bias = module.tensor("weight", None, None), module.tensor("bias", None)
    extra = weight.shape[1] - len(bias)
    if extra not in (0, 4):
        raise module.error(f"field 'weight' has shape {weight.shape} for {len(bias)} outputs")
    batch, is_table = _keys_and_values(module, x)
    table = module.param("weight", weight)
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
        rows.append(g.emit("ReduceSum", g.emit("Mul", entries, column), [0], keepdims=int(is_table)))
    out = g.emit("Concat", *rows, axis=0) if len(rows) > 1 else rows[0]
    return g.emit("Add", out, module.param("bias", bias))


def _keys_and_values(module: Module, x: Values) -> tuple[list[tuple[ir.Value, ir.Value]], bool]:
    """Keys and values of each sample, and whether they came as tables."""
    if isinstance(x, Sequence) and len(x) == 2:
        keys, values = x
        if not isinstance(keys, Sequence) and not isinstance(values, Sequence):
            return [(keys, values)], False
        if isinstance(keys, Sequence) and isinstance(values, Sequence):
            if len(keys) != len(values) or not keys:
                raise module.error(f"it is given {len(keys)} keys and {len(values)} values")
            return list(zip(module.tensors(keys), module.tensors(values), strict=True)), True
    raise module.error("its input must be {keys, values} or {table of keys, table of values}; the sizes of a flat batch aren't known here")


@lowers("nn.NCEModule", tables=True)
def nce_module(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{x, targets} -> the softmax, or its logarithm, of x W^T + b over all classes (`normalized`); the targets count in training.
    Source: dpnn/NCEModule.lua.
    """
    if not module.flag("normalized"):
        raise module.source.error("it answers for classes that it draws at random", "make it answer for all: its field normalized = true")
    first = x[0] if isinstance(x, Sequence) else x
    if isinstance(first, Sequence):
        raise module.error("its input must be a table of a tensor and its targets")
    out = affine(g, module, first, module.tensor("weight", None, None))
    return g.emit("LogSoftmax" if module.flag("logsoftmax") else "Softmax", out, axis=-1)
