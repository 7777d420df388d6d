"""Products of numpy mode.

Sources: mxnet src/operator/numpy/np_dot.cc, np_matmul_op.cc, np_tensordot_op.cc, np_einsum_op.cc, np_polynomial_op.cc.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim
from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.numpy_arithmetic import alike
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import Size, as_dim, times


@lowers("_npi_matmul")
def matmul(g: OperatorBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """Matrix products, the leading axes broadcast. Source: mxnet src/operator/numpy/np_matmul_op-inl.h."""
    return g.emit("MatMul", *alike(g, a, b))


@lowers("_np_dot")
def dot(g: OperatorBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The last axis of a contracted with the last but one of b; numbers multiply. Source: mxnet src/operator/numpy/np_dot-inl.h."""
    a, b = alike(g, a, b)
    if 0 in (g.rank(a), g.rank(b)):
        return g.emit("Mul", a, b)
    if g.rank(b) <= 2:
        return g.emit("MatMul", a, b)
    return contracted(g, a, b, [g.rank(a) - 1], [g.rank(b) - 2])


def contracted(g: OperatorBuilder, a: ir.Value, b: ir.Value, of_a: Sequence[int], of_b: Sequence[int]) -> ir.Value:
    """Axes of two arrays multiplied and summed in pairs; the others of a, then those of b, are left."""
    for i, j in zip(of_a, of_b, strict=True):
        first, second = g.size(a, i), g.size(b, j)
        if first != second:
            if first[1] or second[1]:
                raise g.needs_number(f"needs {as_dim(first)} to be {as_dim(second)}", first[1] + second[1])
            raise g.error(f"the inputs have shapes {g.shape(a)} and {g.shape(b)}, whose contracted axes {i} and {j} differ")
    left_a = [i for i in range(g.rank(a)) if i not in of_a]
    left_b = [i for i in range(g.rank(b)) if i not in of_b]
    sizes_a, sizes_b = [g.size(a, i) for i in left_a], [g.size(b, i) for i in left_b]
    inner: Size = times(g.size(a, i) for i in of_a)
    x = _matrix(g, a, [*left_a, *of_a], [times(sizes_a), inner], len(of_a) == 1 and len(left_a) == 1)
    y = _matrix(g, b, [*of_b, *left_b], [inner, times(sizes_b)], len(of_b) == 1 and len(left_b) == 1)
    product = g.emit("MatMul", x, y)
    if len(left_a) == 1 and len(left_b) == 1:
        return product
    of_each = [*(g.extents(a)[i] for i in left_a), *(g.extents(b)[j] for j in left_b)]  # as they are then, whatever they are here
    return g.reshape(product, of_each)


def _matrix(g: OperatorBuilder, x: ir.Value, order: list[int], sizes: list[Size], is_matrix: bool) -> ir.Value:
    moved = g.emit("Transpose", x, perm=order) if order != sorted(order) else x
    return moved if is_matrix else g.reshape_to(moved, sizes)


@lowers("_npi_tensordot")
def tensordot(g: OperatorBuilder, a: ir.Value, b: ir.Value, *, a_axes_summed: Ints, b_axes_summed: Ints) -> ir.Value:
    """Products summed over pairs of axes. Source: mxnet src/operator/numpy/np_tensordot_op-inl.h."""
    if len(a_axes_summed) != len(b_axes_summed):
        raise g.error(f"a_axes_summed {a_axes_summed} and b_axes_summed {b_axes_summed} must have as many entries")
    a, b = alike(g, a, b)
    return contracted(g, a, b, [g.axis(a, i) for i in a_axes_summed], [g.axis(b, i) for i in b_axes_summed])


@lowers("_npi_tensordot_int_axes")
def tensordot_by_count(g: OperatorBuilder, a: ir.Value, b: ir.Value, *, axes: int) -> ir.Value:
    """Products summed over the last axes of a and the first of b. Source: mxnet src/operator/numpy/np_tensordot_op-inl.h."""
    if not 0 <= axes <= min(g.rank(a), g.rank(b)):
        raise g.error(f"attribute axes is {axes}, but the inputs have shapes {g.shape(a)} and {g.shape(b)}")
    a, b = alike(g, a, b)
    return contracted(g, a, b, list(range(g.rank(a) - axes, g.rank(a))), list(range(axes)))


@lowers("_npi_einsum", ignores="optimize")
def einsum(g: OperatorBuilder, *data: ir.Value, subscripts: str) -> ir.Value:
    """Einstein's summation, with ellipses, repeated letters and an output that may be left out: letters that occur once, in order.

    Source: mxnet src/operator/numpy/np_einsum_op-inl.h.
    """
    equation = subscripts.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(data) or not data:
        raise g.error(f"attribute subscripts is '{subscripts[:80]}', but there are {len(data)} inputs")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        right = ("..." if "..." in left else "") + "".join(c for c in sorted(set(letters)) if letters.count(c) == 1)
    terms, right = _spelled_out(g, terms, right, data)
    left = ",".join(terms)
    values = list(data)
    for value in values[1:]:
        values[0], _ = alike(g, values[0], value)
    values = [g.cast(value, g.dtype(values[0])) for value in values]
    dims: dict[str, Dim] = {}
    broadcast: list[Dim] = []
    for term, value in zip(terms, values, strict=True):
        _read_term(g, term, value, dims, broadcast)
    shape = []
    for part in right.replace("...", "."):
        shape += broadcast if part == "." else [dims.get(part)]
    return g.emit("Einsum", *values, equation=f"{left}->{right}", shape=shape)


def _spelled_out(g: OperatorBuilder, terms: list[str], right: str, data: Sequence[ir.Value]) -> tuple[list[str], str]:
    """Letters in the place of ellipses that stand for different numbers of axes, which numpy broadcasts from the right and ONNX doesn't."""
    counts = [g.rank(value) - len(term.replace(".", "")) for term, value in zip(terms, data, strict=True) if "..." in term]
    if len(set(counts)) < 2:
        return terms, right
    free = [letter for letter in "zyxwvutsrqponmlkjihgfedcba" if letter not in "".join(terms)][: max(counts)]
    whole = "".join(free)
    spelled = [term.replace("...", whole[len(whole) - count :]) for term, count in zip(_with_ellipsis(terms), counts, strict=True)]
    later = iter(spelled)
    return [next(later) if "..." in term else term for term in terms], right.replace("...", whole)


def _with_ellipsis(terms: Sequence[str]) -> list[str]:
    return [term for term in terms if "..." in term]


def _read_term(g: OperatorBuilder, term: str, value: ir.Value, dims: dict[str, Dim], broadcast: list[Dim]) -> None:
    """The sizes of a term's letters, and of what its ellipsis stands for."""
    shape = list(g.shape(value))
    letters = term.replace("...", ".")
    count = len(shape) - len(letters.replace(".", ""))
    if count < 0 or ("." not in letters and count):
        raise g.error(f"attribute subscripts has '{term[:40]}' for an input of shape {tuple(shape)}")
    for letter in letters:
        if letter == ".":
            own = [shape.pop(0) for _ in range(count)]
            broadcast[:0] = [None] * (len(own) - len(broadcast))
            for i, size in enumerate(own, len(broadcast) - len(own)):
                broadcast[i] = size if broadcast[i] in (None, 1) else broadcast[i]
        else:
            size = shape.pop(0)
            known = dims.setdefault(letter, size)
            if isinstance(known, int) and isinstance(size, int) and known != size:
                raise g.error(f"attribute subscripts gives '{letter}' to axes of {known} and {size}")
            dims[letter] = known if isinstance(known, int) else size


@lowers("_npi_polyval")
def polyval(g: OperatorBuilder, p: ir.Value, x: ir.Value) -> ir.Value:
    """A polynomial, whose highest power comes first, at each element. Source: mxnet src/operator/numpy/np_polynomial_op-inl.h."""
    p, x = alike(g, p, x)
    count = g.fixed(p)[0]
    p = g.pin(p, 0)
    factors = [g.emit("Gather", p, np.array(i, np.int64), axis=0) for i in range(count)]
    result = g.emit("Expand", factors[0], g.emit("Shape", x), shape=g.shape(x))
    for factor in factors[1:]:
        result = g.emit("Add", g.emit("Mul", result, x), factor)
    return result
