"""Source of matrix products."""

from __future__ import annotations

import numpy as np

from converters.writers.source.code import number
from converters.writers.source.node import Node, writes
from converters.writers.source.together import linear, together


@writes("Gemm")
def gemm(n: Node) -> str:
    """nn.Linear; else F.linear or `alpha * a @ b + beta * c`."""
    alpha, beta = n.attr("alpha", 1.0), n.attr("beta", 1.0)
    sizes, weight, bias = n.shape(1), n.value(1), n.value(2)
    plain = alpha == 1 and (beta == 1 or not n.has(2)) and not n.attr("transA", 0) and n.attr("transB", 0)
    if plain and weight is not None and sizes is not None and None not in sizes and (bias is None or n.shape(2) == sizes[:1]):
        return linear(n, n[0], weight, bias)
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
    """`a @ b`; nn.Linear for a weight that is transposed, F.scaled_dot_product_attention where it is the last of its parts."""
    found = n.pattern()
    return together(n, found) if found else f"{n[0]} @ {n[1]}"


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
