"""Sequences (T, N, ...) with a length per sample. Sources: mxnet src/operator/sequence_mask-inl.h, sequence_last-inl.h,
sequence_reverse-inl.h."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.axes import BATCH, TIME, Axes, first, is_set
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.parameter import Index
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.symbol import Node


def _check_axis(g: OperatorBuilder, data: ir.Value, axis: int) -> None:
    if axis not in (0, 1) or g.rank(data) < 2:
        raise g.error(f"attribute axis is {axis} for an input of shape {g.shape(data)}; time is axis 0 or 1, samples the other")


def _lengths(g: OperatorBuilder, sequence_length: ir.Value | None, axis: int, rank: int) -> ir.Value:
    """Lengths (N,) as int64, laid along the samples' axis."""
    if sequence_length is None:
        raise g.error("the input 'sequence_length' is missing, and use_sequence_length is set")
    others = [i for i in range(rank) if i != 1 - axis]
    return g.emit("Unsqueeze", g.cast(sequence_length, np.int64), others)


def _steps(g: OperatorBuilder, data: ir.Value, axis: int) -> ir.Value:
    """0, 1, ... along the time axis, however long the sequence is when the net runs."""
    _check_axis(g, data, axis)
    return g.along(g.positions(data, axis), axis, g.rank(data))


def _sequences(node: Node) -> dict[int, Axes]:
    """`axis` says which one is time."""
    return {0: {0: BATCH, 1: TIME} if node.attributes.get("axis", "0") == "1" else {0: TIME, 1: BATCH}}


def _masked(node: Node) -> dict[int, Axes]:
    return _sequences(node) if is_set(node, "use_sequence_length") else {}  # the identity without lengths, whatever the axes are


@lowers("SequenceMask", "_npx_sequence_mask", sequences=_masked, axes=first)
def sequence_mask(
    g: OperatorBuilder,
    data: ir.Value,
    sequence_length: Index | None = None,
    *,
    use_sequence_length: bool = False,
    value: float = 0.0,
    axis: int = 0,
) -> ir.Value:
    """Steps behind each sample's length replaced by a value. Source: mxnet src/operator/sequence_mask-inl.h."""
    if not use_sequence_length:
        return g.identity(data)
    inside = g.emit("Less", _steps(g, data, axis), _lengths(g, sequence_length, axis, g.rank(data)))
    return g.emit("Where", inside, data, np.array(value, g.dtype(data)))


@lowers("SequenceLast", sequences=_sequences)
def sequence_last(
    g: OperatorBuilder, data: ir.Value, sequence_length: Index | None = None, *, use_sequence_length: bool = False, axis: int = 0
) -> ir.Value:
    """The last step of each sample. Source: mxnet src/operator/sequence_last-inl.h."""
    if not use_sequence_length:
        _check_axis(g, data, axis)
        return g.emit("Gather", data, np.array(-1, np.int64), axis=axis)
    rank, steps = g.rank(data), _steps(g, data, axis)
    last = g.emit("Sub", _lengths(g, sequence_length, axis, rank), 1)
    here = g.emit("Equal", steps, last)
    return g.emit("ReduceSum", g.emit("Where", here, data, np.zeros((), g.dtype(data))), [axis], keepdims=0)


@lowers("SequenceReverse", sequences=_sequences, axes=first)
def sequence_reverse(
    g: OperatorBuilder, data: ir.Value, sequence_length: Index | None = None, *, use_sequence_length: bool = False, axis: int = 0
) -> ir.Value:
    """Each sample's steps backwards, those behind its length left where they are. Source: mxnet src/operator/sequence_reverse-inl.h."""
    _check_axis(g, data, axis)
    if not use_sequence_length:
        return g.emit("Slice", data, [2**63 - 1], [-(2**63 - 1)], [axis], [-1])
    lengths, steps = _lengths(g, sequence_length, axis, g.rank(data)), _steps(g, data, axis)
    mirrored = g.emit("Sub", g.emit("Sub", lengths, 1), steps)
    order = g.emit("Where", g.emit("Less", steps, lengths), mirrored, steps)
    return g.emit("GatherElements", data, g.emit("Expand", order, g.emit("Shape", data)), axis=axis, shape=g.shape(data))
