"""Products of matrices. Sources: TensorFlow's core/ops/math_ops.cc (MatMul, BatchMatMul), special_math (Einsum)."""

from __future__ import annotations

import math

import numpy as np

from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers


@lowers(
    "MatMul",
    fold=lambda g, node, a, b: np.matmul(a.T if node.flag("transpose_a") else a, b.T if node.flag("transpose_b") else b),
    takes_bias=True,
)
def matmul(g: TensorBuilder, node: Node, a: Tensor, b: Tensor) -> Tensor:
    """a (N, in) times b (in, out); with constant weights a dense layer, whose rows follow where a is a flattened image."""
    if a.dtype != b.dtype:
        raise g.error(f"its inputs have the types {a.dtype.name} and {b.dtype.name}, which have to be one")
    if a.rank != 2 or b.rank != 2:
        raise g.error(f"multiplies matrices, but its inputs have {a.rank} and {b.rank} axes")
    if b.array is None or a.value is None or node.flag("transpose_a"):
        left = g.emit("Transpose", g.plain(a), perm=[1, 0]) if node.flag("transpose_a") else g.plain(a)
        right = g.emit("Transpose", g.plain(b), perm=[1, 0]) if node.flag("transpose_b") else g.plain(b)
        return g.result(g.emit("MatMul", left, right))
    weights = b.array.T if node.flag("transpose_b") else b.array
    if g.dims(a)[1] not in (None, weights.shape[0]) and isinstance(g.dims(a)[1], int):
        raise g.error(f"multiplies {g.dims(a)[1]} features with weights of shape {weights.shape}")
    x = a.value if a.rows is not None and math.prod(a.rows) == weights.shape[0] else g.plain(a)
    if a.rows is not None and x is a.value:
        h, w, c = a.rows
        weights = weights.reshape(h, w, c, -1).transpose(2, 0, 1, 3).reshape(weights.shape)
    if weights.dtype.kind != "f":
        return g.result(g.emit("MatMul", x, weights))
    return g.result(g.emit("Gemm", x, g.weight(b, "weight", weights.T), transB=1))


@lowers("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
def batch_matmul(g: TensorBuilder, node: Node, a: Tensor, b: Tensor) -> Tensor:
    """a (..., n, k) times b (..., k, m), broadcast over the leading axes."""
    if a.rank < 2 or b.rank < 2:
        raise g.error("multiplies matrices, but an input has fewer than 2 axes")

    def turned(x: Tensor, name: str) -> Tensor:
        if not node.flag(name):
            return x
        perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
        return (
            Tensor(x.dtype, array=np.transpose(x.array, perm), origin=x.origin)
            if x.array is not None
            else g.result(g.emit("Transpose", g.plain(x), perm=perm))
        )

    return g.result(g.emit("MatMul", g.plain(turned(a, "adj_x")), g.plain(turned(b, "adj_y"))))


@lowers("Einsum")
def einsum(g: TensorBuilder, node: Node, *tensors: Tensor) -> Tensor:
    """The sum of products that an equation states."""
    return g.result(g.emit("Einsum", *(g.plain(x) for x in tensors), equation=node.text("equation", "")))
