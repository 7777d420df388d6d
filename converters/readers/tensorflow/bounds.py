"""Where something begins and ends, in numbers or in what is known only when the net runs: bounds of slices, amounts of padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.tensorflow.builder import TensorBuilder
from converters.readers.tensorflow.values import Tensor

Bound = int | Extent | ir.Value
"""A number; a length when the net runs; or what is computed then, (1,)."""


def bounds(g: TensorBuilder, x: Tensor, what: str) -> list[Bound]:
    """The entries of a list. Raises ConversionError where even their number is known only when the net runs."""
    if x.array is not None:
        return list(g.integers(x, what))
    entries = g.size_entries(x, what)
    if entries is not None:
        return list(entries)
    value = g.cast(g.plain(x), np.int64)
    (count,) = g.shape(value) if x.rank == 1 else (None,)
    if not isinstance(count, int) or count > 64:
        raise g.error(f"its {what} is computed when the net runs; it has to be a constant here, or a list of known length")
    return [g.emit("Slice", value, [i], [i + 1], [0]) for i in range(count)]


def operand(g: TensorBuilder, listed: Sequence[Bound]) -> list[int] | ir.Value:
    """Bounds as one int64 operand."""
    numbers = [bound for bound in listed if isinstance(bound, int)]
    if len(numbers) == len(listed):
        return numbers
    parts = [bound if isinstance(bound, ir.Value) else _one(g, bound) for bound in listed]
    return parts[0] if len(parts) == 1 else g.emit("Concat", *parts, axis=0)


def _one(g: TensorBuilder, bound: int | Extent) -> ir.Value:
    joined = g.sizes([bound])
    return joined if isinstance(joined, ir.Value) else g.const(np.array(joined, np.int64))


def plus(g: TensorBuilder, a: Bound, b: Bound) -> Bound:
    """The sum of two bounds."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    for one, other in ((a, b), (b, a)):
        if isinstance(one, Extent) and isinstance(other, int):
            return replace(one, plus=one.plus + other)
    values = [bound if isinstance(bound, ir.Value) else _one(g, bound) for bound in (a, b)]
    return g.emit("Add", *values)
