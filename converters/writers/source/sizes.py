"""Shape arithmetic that needs no tensors: constants and `x.shape[0]`, as arrays of Python ints and Sizes while they only move about.

A graph says Shape, Gather, Concat, Reshape; by hand one writes `x.reshape(x.shape[0], -1)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.registry import NoFacts, Registry
from converters.writers.source.code import Size

Array = NDArray[Any]
Known = Callable[[ir.Value], Array | None]

folds: Registry[Callable[..., Any], NoFacts] = Registry("folded ONNX operator", NoFacts)
_LIMIT = 256


def fold(node: ir.Node, known: Known, opset: int) -> list[Array] | None:
    """The outputs as arrays of ints and Sizes where all inputs are; None where the operator has to run on tensors."""
    if node.op_type not in folds or not node.inputs:
        return None
    arrays = []
    for value in node.inputs:
        array = None if value is None else known(value)
        if value is not None and (array is None or array.dtype.kind not in "iuO" or array.size > _LIMIT):
            return None
        arrays.append(array)
    attributes = {name: a.value for name, a in node.attributes.items() if not a.is_ref()}
    try:
        result = folds[node.op_type](*arrays, **attributes)
        outputs = result if isinstance(result, list) else [result]
        if len(outputs) != len(node.outputs) or any(o.size > _LIMIT for o in outputs):
            return None
        return [_as_numbers(output, value.dtype) for output, value in zip(outputs, node.outputs, strict=True)]
    except (NotImplementedError, TypeError, ValueError, IndexError, ZeroDivisionError, OverflowError):
        return None


def _as_numbers(array: Array, dtype: ir.DataType | None) -> Array:
    """Object arrays without a Size become numbers again."""
    array = np.asarray(array)
    if array.dtype != object:
        return array
    if any(isinstance(part, Size) for part in array.reshape(-1)):
        if dtype not in (None, ir.DataType.INT64):
            raise NotImplementedError
        return array
    return array.astype(np.int64 if dtype is None else dtype.numpy())


def _list(array: Array) -> list[int]:
    return [int(part) for part in array.reshape(-1)]


@folds("Identity")
def identity(x: Array) -> Array:
    return x


@folds("Gather")
def gather(x: Array, indices: Array, axis: int = 0) -> Array:
    return np.asarray(np.take(x, indices.astype(np.int64), axis=axis))


@folds("Slice")
def slices(
    x: Array,
    starts: Array | None = None,
    ends: Array | None = None,
    axes: Any = None,
    steps: Array | None = None,
) -> Array:
    if not isinstance(starts, np.ndarray) or not isinstance(ends, np.ndarray):
        raise NotImplementedError
    begin, stop = _list(starts), _list(ends)
    where = list(range(len(begin))) if axes is None else _list(np.asarray(axes))
    by = [1] * len(begin) if steps is None else _list(steps)
    for start, end, axis, step in zip(begin, stop, where, by, strict=True):
        size = x.shape[axis]
        first, last = (v + size if v < 0 else v for v in (start, end))
        lowest, highest = (0, size) if step > 0 else (-1, size - 1)
        x = np.take(x, range(min(max(first, 0), highest), min(max(last, lowest), highest), step), axis)
    return x


@folds("Concat")
def concat(*parts: Array, axis: int = 0) -> Array:
    return np.concatenate(parts, axis)


@folds("Unsqueeze")
def unsqueeze(x: Array, axes: Any = None) -> Array:
    return np.expand_dims(x, tuple(_list(np.asarray(axes))))


@folds("Squeeze")
def squeeze(x: Array, axes: Any = None) -> Array:
    return np.asarray(np.squeeze(x, None if axes is None else tuple(_list(np.asarray(axes)))))


@folds("Reshape")
def reshape(x: Array, shape: Array, allowzero: int = 0) -> Array:
    dims = _list(shape)
    if not allowzero:
        dims = [x.shape[i] if d == 0 else d for i, d in enumerate(dims)]
    return x.reshape(dims)


@folds("Add")
def add(a: Array, b: Array) -> Array:
    return np.asarray(a + b)


@folds("Sub")
def sub(a: Array, b: Array) -> Array:
    if a.dtype == object or b.dtype == object:
        raise NotImplementedError
    return np.asarray(a - b)


@folds("Mul")
def mul(a: Array, b: Array) -> Array:
    return np.asarray(a * b)


@folds("Div")
def div(a: Array, b: Array) -> Array:
    if a.dtype != object and b.dtype != object:
        if (a < 0).any() or (b <= 0).any():
            raise NotImplementedError
        return np.asarray(a // b)
    if b.dtype == object or a.size == 0:
        raise NotImplementedError
    return np.asarray(a // b)


@folds("Mod")
def mod(a: Array, b: Array, fmod: int = 0) -> Array:
    if a.dtype == object or b.dtype == object or (a < 0).any() or (b <= 0).any():
        raise NotImplementedError
    return np.asarray(a % b)


@folds("Cast")
def cast(x: Array, to: int = 0, saturate: int = 1) -> Array:
    dtype = ir.DataType(to)
    if dtype == ir.DataType.INT64:
        return x if x.dtype == object else x.astype(np.int64)
    if dtype != ir.DataType.INT32 or x.dtype == object:
        raise NotImplementedError
    return x.astype(np.int32)


@folds("ReduceProd")
def reduce_prod(x: Array, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    if x.ndim != 1 or (axes is not None and _list(np.asarray(axes)) not in ([0], [-1])):
        raise NotImplementedError
    product: Any = 1
    for part in x:
        product = part * product if isinstance(part, Size) else product * part
    result = np.empty((1,) if keepdims else (), object)
    result[...] = product
    return result


@folds("Range")
def ranges(start: Array, limit: Array, delta: Array) -> Array:
    if object in (start.dtype, limit.dtype, delta.dtype):
        raise NotImplementedError
    return np.arange(int(start), int(limit), int(delta), dtype=start.dtype)
