"""Axes and shapes as Caffe counts them; the batch may be symbolic."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Dim, GraphBuilder
from converters.readers.caffe.layer import Layer


def canonical_axis(g: GraphBuilder, layer: Layer, x: ir.Value, axis: int, what: str = "axis") -> int:
    """An axis from 0, where negative ones count from the last. Raises ConversionError for an axis that x doesn't have."""
    rank = g.rank(x)
    if not -rank <= axis < rank:
        raise layer.error(f"{what} {axis} doesn't exist: its bottom has {rank} axes")
    return axis % rank


def known(dims: Sequence[Dim]) -> list[int]:
    """Those dimensions that are numbers."""
    return [d for d in dims if isinstance(d, int)]


def check_same_shape(g: GraphBuilder, layer: Layer, values: Sequence[ir.Value], but: int | None = None) -> None:
    """Raises ConversionError where shapes differ (but for one axis); Caffe doesn't broadcast."""
    first = g.shape(values[0])
    for other in values[1:]:
        shape = g.shape(other)
        if len(shape) != len(first):
            raise layer.error(f"its bottoms must agree in shape, but they are {first} and {shape}")
        for axis, (a, b) in enumerate(zip(first, shape, strict=True)):
            if axis == but or (a == b and a is not None):
                continue
            if isinstance(a, int) and isinstance(b, int):
                more = "" if but is None else f" outside axis {but}"
                raise layer.error(f"its bottoms must agree in shape{more}, but they are {first} and {shape}")
            g.fixed(values[0])  # the number behind a symbol decides: the batch gets fixed
            g.fixed(other)


def product(dims: Sequence[int]) -> int:
    return math.prod(dims)


def flat_from(g: GraphBuilder, x: ir.Value, axis: int) -> tuple[ir.Value, int]:
    """x as a matrix (what stands before `axis`, what follows), and the length of the rest."""
    return g.flatten(x, axis), product(g.fixed(x, axis))


def spread(g: GraphBuilder, value: float, like: ir.Value) -> ir.Value:
    """A constant in the shape of another value."""
    return g.emit("Expand", np.full((), value, np.float32), g.sizes(g.extents(like)), shape=g.shape(like))
