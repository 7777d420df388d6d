"""A graph with other numbers in its weights, so that what the real ones hide is seen.

A ReLU whose inputs are all below 0, a gate that is always open or two weights of tiny numbers let two classes, or two orders of equal
layers, answer alike that aren't alike.
"""

from __future__ import annotations

import math
from collections.abc import Set

import numpy as np
import onnx_ir as ir

from converters.matching.layers import Array


def redrawn(model: ir.Model, kept: Set[str] = frozenset()) -> ir.Model:
    """A copy whose weights are drawn; those of one number, the zeros in all others, and those that are kept by name stay what they are.

    Equal weights are equal there too, also where one is the other's transpose, since a class may have one for both.
    """
    made = model.clone()
    numbers = np.random.default_rng(13)
    known: dict[int, list[tuple[Array, Array]]] = {}
    for name, value in made.graph.initializers.items():
        array = np.asarray(value.const_value.numpy()) if value.const_value is not None else np.zeros(())
        if name in kept or array.dtype.kind != "f" or (array == array.flat[:1]).all() or not np.isfinite(array).all():
            continue
        single = array.squeeze()
        alike = known.setdefault(single.size, [])
        other = next((found for pair in alike if (found := _as_before(single, *pair)) is not None), None)
        if other is None:
            other = _drawn(single, numbers)
            alike.append((single, other))
        value.const_value = ir.tensor(np.ascontiguousarray(other.reshape(array.shape)), name=name)
    return made


def _as_before(array: Array, known: Array, drawn: Array) -> Array | None:
    """What was drawn for the same numbers, either way round."""
    if array.flat[0] != known.flat[0]:
        return None
    if np.array_equal(array, known):
        return drawn
    return drawn.T if array.ndim == 2 and np.array_equal(array, known.T) else None


def _drawn(array: Array, numbers: np.random.Generator) -> Array:
    """Numbers that neither die out nor grow from layer to layer: variances, scales and slopes stay positive."""
    if array.ndim >= 2:
        inputs = max(array.shape) if array.ndim == 2 else math.prod(array.shape[1:])
        made = numbers.standard_normal(array.shape, np.float32) * math.sqrt(2 / inputs)
    elif array.min() >= 0:
        made = numbers.uniform(0.5, 1.5, array.shape)
    else:
        made = numbers.standard_normal(array.shape) * 0.3
    return np.where(array == 0, 0, made).astype(array.dtype)
