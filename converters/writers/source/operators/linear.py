"""Source of matrix products."""

from __future__ import annotations

import numpy as np

from converters.writers.source.code import number
from converters.writers.source.node import Node, arguments, writes


@writes("Gemm")
def gemm(n: Node) -> str:
    """nn.Linear; else F.linear or `alpha * a @ b + beta * c`."""
    alpha, beta = n.attr("alpha", 1.0), n.attr("beta", 1.0)
    weight, bias = n.shape(1), n.shape(2) if n.has(2) else None
    plain = alpha == 1 and (beta == 1 or not n.has(2)) and not n.attr("transA", 0) and n.attr("transB", 0)
    if plain and weight is not None and None not in weight and (not n.has(2) or bias == weight[:1]):
        layer = n.layer(
            f"nn.Linear({arguments(weight[1], weight[0], bias=None if n.has(2) else False)}", {"weight": 1, "bias": 2 if n.has(2) else None}
        )
        if layer:
            return f"{layer}({n[0]})"
        return f"F.linear({arguments(n[0], n[1], *([n[2]] if n.has(2) else []))})"
    left = f"{n[0]}.t()" if n.attr("transA", 0) else n[0]
    right = f"{n[1]}.t()" if n.attr("transB", 0) else n[1]
    product = f"{left} @ {right}"
    if alpha != 1:
        product = f"{number(np.float32(alpha))} * ({product})" if n.is_float() else f"{int(alpha)} * ({product})"
    if not n.has(2) or beta == 0:
        return product
    return f"{product} + {n[2]}" if beta == 1 else f"{product} + {number(np.float32(beta)) if n.is_float() else int(beta)} * {n[2]}"


@writes("MatMul")
def matmul(n: Node) -> str:
    """`a @ b`; F.linear for a weight that is transposed."""
    right = n.value(1)
    before = None if right is None else right.producer()
    if before is not None and before.op_type == "Transpose" and n.transposes_parameter(before) and (n.rank(0) or 0) >= 2:
        weight = n.parameter(before.inputs[0])
        return f"F.linear({n[0]}, {weight})"
    return f"{n[0]} @ {n[1]}"


@writes("Einsum")
def einsum(n: Node) -> str:
    """torch.einsum."""
    equation = str(n.attr("equation", ""))
    if not all((c.isalpha() and c.isascii()) or c in " ,.->" for c in equation):
        raise n.error(f"equation {equation!r}")
    return f"torch.einsum({equation.replace(' ', '')!r}, {', '.join(n[i] for i in range(len(n)))})"


@writes("Det")
def det(n: Node) -> str:
    """torch.linalg.det."""
    return f"torch.linalg.det({n[0]})"
