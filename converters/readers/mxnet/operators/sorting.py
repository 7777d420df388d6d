"""Sorting. Source: mxnet src/operator/tensor/ordering_op-inl.h."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.arithmetic import read_type
from converters.readers.mxnet.signature import lowers


def ranked(g: OperatorBuilder, data: ir.Value, k: int | None, axis: int, ascending: bool) -> tuple[ir.Value, ir.Value]:
    """The first k values of an axis (None: all) in order, and their int64 indices; equal ones keep their order."""
    count = [k] if k is not None else g.sizes([Extent(data, axis)])
    values, indices = g.emit_all("TopK", data, count, outputs=2, axis=axis, largest=int(not ascending), sorted=1)
    values.shape = indices.shape = ir.Shape([k if i == axis and k is not None else d for i, d in enumerate(g.shape(data))])
    return values, indices


def _flat(g: OperatorBuilder, data: ir.Value, axis: int | None) -> tuple[ir.Value, int]:
    if axis is not None:
        return data, g.axis(data, axis)
    return g.reshape(data, [None]), 0


@lowers("sort", "_npi_sort")
def sort(g: OperatorBuilder, data: ir.Value, *, axis: int | None = -1, is_ascend: bool = True) -> list[ir.Value]:
    """Values in order along an axis, or of the whole array. Source: mxnet src/operator/tensor/ordering_op-inl.h."""
    x, where = _flat(g, data, axis)
    return [ranked(g, x, None, where, is_ascend)[0]]


@lowers("argsort", "_npi_argsort")
def argsort(g: OperatorBuilder, data: ir.Value, *, axis: int | None = -1, is_ascend: bool = True, dtype: str = "float32") -> ir.Value:
    """The indices that would sort an axis, as float32 by default. Source: mxnet src/operator/tensor/ordering_op-inl.h."""
    x, where = _flat(g, data, axis)
    return g.cast(ranked(g, x, None, where, is_ascend)[1], read_type(g, dtype))


@lowers("topk", "_npx_topk")
def topk(
    g: OperatorBuilder,
    data: ir.Value,
    *,
    axis: int | None = -1,
    k: int = 1,
    ret_typ: Literal["indices", "value", "both", "mask"] = "indices",
    is_ascend: bool = False,
    dtype: str = "float32",
) -> ir.Value | list[ir.Value]:
    """The k largest (smallest) elements of an axis: their indices, as float32 by default, values, both, or a mask of them.

    Source: mxnet src/operator/tensor/ordering_op-inl.h.
    """
    x, where = _flat(g, data, axis)
    size = g.shape(x)[where]
    if isinstance(size, int) and k > size:
        raise g.error(f"attribute k is {k}, but the axis has {size} elements")
    values, indices = ranked(g, x, k if k > 0 else None, where, is_ascend)
    if ret_typ == "value":
        return [values]
    if ret_typ == "mask":
        zeros = g.emit("Expand", np.zeros((), g.dtype(data)), g.emit("Shape", x), shape=g.shape(x))
        ones = g.emit("Expand", np.ones((), g.dtype(data)), g.emit("Shape", indices), shape=g.shape(indices))
        mask = g.emit("ScatterElements", zeros, indices, ones, axis=where)
        return mask if axis is not None else g.reshape(mask, g.extents(data))
    as_asked = g.cast(indices, read_type(g, dtype))
    return [values, as_asked] if ret_typ == "both" else as_asked
