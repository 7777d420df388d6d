"""Reductions. Sources: TensorFlow's core/ops/math_ops.cc, core/kernels/reduction_ops_common.cc, argmax_op.cc."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.tensors import numpy_type
from converters.readers.tensorflow.values import Array, moved


def _keeps(node: Node) -> bool:
    return node.flag("keep_dims") or node.flag("keepdims")


def reduced(g: TensorBuilder, node: Node, op_type: str, x: Tensor, axes: Tensor) -> Tensor:
    """An ONNX reduction over TensorFlow's axes; over none of them it is x itself."""
    listed = sorted({g.axis_of(axis, x.rank) for axis in g.integers(axes, "axes")})
    keep = _keeps(node)
    if not listed:
        return x
    value, order = g.lying(x)
    places = sorted(order.index(axis) for axis in listed)
    made = g.emit(op_type, value, places, keepdims=int(keep))
    return g.result(made, order if keep else moved(order, listed))


def _reduction(name: str, op_type: str, fold: Callable[..., Any], what: str, structural: bool = False) -> None:
    def lower(g: TensorBuilder, node: Node, x: Tensor, axes: Tensor) -> Tensor:
        return reduced(g, node, op_type, x, axes)

    def folded(g: TensorBuilder, node: Node, x: Array, axes: Array) -> Array:
        listed = tuple(int(axis) for axis in axes.reshape(-1))
        result = np.asarray(fold(x, axis=listed, keepdims=_keeps(node)))
        return result if x.dtype == object else result.astype(x.dtype)

    lower.__doc__ = what
    lower.__name__ = lower.__qualname__ = name.lower()
    lowers(name, fold=folded, structural=structural)(lower)


_reduction("Mean", "ReduceMean", np.mean, "The average over some axes.")
_reduction("Sum", "ReduceSum", np.sum, "The sum over some axes.", structural=True)
_reduction("Prod", "ReduceProd", np.prod, "The product over some axes.", structural=True)
_reduction("Max", "ReduceMax", np.max, "The largest over some axes.")
_reduction("Min", "ReduceMin", np.min, "The smallest over some axes.")


_reduction(
    "EuclideanNorm",
    "ReduceL2",
    lambda x, axis, keepdims: np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims)),
    "The root of the sum of squares over some axes.",
)


@lowers("All", fold=lambda g, node, x, axes: np.all(x, axis=tuple(axes.reshape(-1)), keepdims=_keeps(node)))
def all_of(g: TensorBuilder, node: Node, x: Tensor, axes: Tensor) -> Tensor:
    """Whether all are true, over some axes."""
    return _logical(g, node, "ReduceMin", x, axes)


@lowers("Any", fold=lambda g, node, x, axes: np.any(x, axis=tuple(axes.reshape(-1)), keepdims=_keeps(node)))
def any_of(g: TensorBuilder, node: Node, x: Tensor, axes: Tensor) -> Tensor:
    """Whether one is true, over some axes."""
    return _logical(g, node, "ReduceMax", x, axes)


def _logical(g: TensorBuilder, node: Node, op_type: str, x: Tensor, axes: Tensor) -> Tensor:
    value, order = g.lying(x)
    numbers = g.result(g.cast(value, np.int32), order)
    made = reduced(g, node, op_type, numbers, axes)
    assert made.value is not None
    return g.result(g.cast(made.value, np.bool_), made.order)


@lowers("ArgMax")
def arg_max(g: TensorBuilder, node: Node, x: Tensor, axis: Tensor) -> Tensor:
    """The place of the first largest number along an axis; int64 unless stated."""
    return _place(g, node, "ArgMax", x, axis)


@lowers("ArgMin")
def arg_min(g: TensorBuilder, node: Node, x: Tensor, axis: Tensor) -> Tensor:
    """The place of the first smallest number along an axis; int64 unless stated."""
    return _place(g, node, "ArgMin", x, axis)


def _place(g: TensorBuilder, node: Node, op_type: str, x: Tensor, axis: Tensor) -> Tensor:
    value, order = g.lying(x)
    chosen = g.axis_of(int(g.array(axis, "axis").reshape(())), x.rank)
    made = g.emit(op_type, value, axis=order.index(chosen), keepdims=0)
    return g.result(g.cast(made, numpy_type(node.type_number("output_type", 9), "its output")), moved(order, [chosen]))


@lowers("TopKV2", "TopK")
def top_k(g: TensorBuilder, node: Node, x: Tensor, *k: Tensor) -> tuple[Tensor, Tensor]:
    """The k largest along the last axis, sorted, and their places (int32); of equals the first comes first."""
    count = int(g.array(k[0], "k").reshape(())) if k else node.integer("k", 1)
    values, indices = g.emit_all("TopK", g.plain(x), [count], outputs=2, axis=-1)
    return g.result(values), g.result(g.cast(indices, np.int32))


@lowers("Cumsum")
def cumsum(g: TensorBuilder, node: Node, x: Tensor, axis: Tensor) -> Tensor:
    """Sums of all up to each place along an axis."""
    chosen = g.axis_of(int(g.array(axis, "axis").reshape(())), x.rank)
    exclusive, reverse = int(node.flag("exclusive")), int(node.flag("reverse"))
    return g.result(g.emit("CumSum", g.plain(x), np.array(chosen, np.int64), exclusive=exclusive, reverse=reverse))
