"""Images taken apart into smaller ones and put together again, as around atrous convolutions.

Source: TensorFlow's core/kernels/{spacetobatch,batchtospace}_op.cc.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.readers.tensorflow.operators.shape import padded_by
from converters.readers.tensorflow.registry import Node, Tensor, TensorBuilder, lowers
from converters.readers.tensorflow.values import channels_first


@lowers("SpaceToBatchND")
def space_to_batch(g: TensorBuilder, node: Node, x: Tensor, rates: Tensor, paddings: Tensor) -> Tensor:
    """An image taken apart into rate^2 smaller ones; a convolution of these is a dilated one of the whole, as which it is written."""
    return _taken_apart(g, x, g.integers(rates, "block_shape"), paddings)


@lowers("SpaceToBatch")
def old_space_to_batch(g: TensorBuilder, node: Node, x: Tensor, paddings: Tensor) -> Tensor:
    """As SpaceToBatchND, by one rate."""
    return _taken_apart(g, x, [node.integer("block_size", 0)] * 2, paddings)


@lowers("BatchToSpaceND")
def batch_to_space(g: TensorBuilder, node: Node, x: Tensor, rates: Tensor, crops: Tensor) -> Tensor:
    """The image put together again, and cut."""
    return _whole(g, x, g.integers(rates, "block_shape"), crops)


@lowers("BatchToSpace")
def old_batch_to_space(g: TensorBuilder, node: Node, x: Tensor, crops: Tensor) -> Tensor:
    """As BatchToSpaceND, by one rate."""
    return _whole(g, x, [node.integer("block_size", 0)] * 2, crops)


def _taken_apart(g: TensorBuilder, x: Tensor, blocks: list[int], paddings: Tensor) -> Tensor:
    blocks = _spread(g, x, blocks)
    if paddings.array is None:
        value = _padded(g, g.ordered(x, channels_first(x.rank)), g.plain(paddings), len(blocks))
    else:
        pairs = _pairs(g, paddings, blocks)
        made = padded_by(g, x, Tensor(np.dtype(np.int64), array=np.array([[0, 0], *pairs, [0, 0]])), None, "constant")
        value = g.ordered(made, channels_first(x.rank))
    for size, block in zip(g.shape(value)[2:], blocks, strict=True):
        if isinstance(size, int) and size % block:
            raise g.error(f"{size} pixels, padded, can't be taken apart by {block}")
    return g.result(value, channels_first(x.rank), blocks=tuple(blocks))


def _whole(g: TensorBuilder, x: Tensor, blocks: list[int], crops: Tensor) -> Tensor:
    blocks = _spread(g, x, blocks)
    order = channels_first(x.rank)
    if x.blocks == tuple(blocks) and x.value is not None:
        value = g.ordered(Tensor(x.dtype, value=x.value, order=x.order), order)
    else:
        value = g.ordered(g.whole(g.unblocked(x), blocks), order)
    if crops.array is None:
        return g.result(_cut(g, value, g.plain(crops), len(blocks)), order)
    pairs = _pairs(g, crops, blocks)
    if not any(map(any, pairs)):
        return g.result(value, order)
    ends = [-behind if behind else np.iinfo(np.int64).max for _, behind in pairs]
    return g.result(g.emit("Slice", value, [before for before, _ in pairs], ends, [*range(2, x.rank)]), order)


def _spread(g: TensorBuilder, x: Tensor, blocks: list[int]) -> list[int]:
    """A rate for each axis of the image, 1 for those that stay whole."""
    if not 3 <= x.rank <= 5 or not 1 <= len(blocks) <= x.rank - 2 or min(blocks) < 1:
        raise g.error(f"blocks {blocks} of an input of {x.rank} axes")
    return [*blocks, *[1] * (x.rank - 2 - len(blocks))]


def _pairs(g: TensorBuilder, amounts: Tensor, blocks: list[int]) -> list[list[int]]:
    """Before and behind each axis of the image."""
    pairs = [[int(n) for n in pair] for pair in g.array(amounts, "amounts").reshape(-1, 2)]
    if len(pairs) > len(blocks) or any(n < 0 for pair in pairs for n in pair):
        raise g.error(f"amounts {pairs} for {len(blocks)} axes")
    return [*pairs, *[[0, 0]] * (len(blocks) - len(pairs))]


def _columns(g: TensorBuilder, amounts: ir.Value, count: int) -> tuple[ir.Value, ir.Value]:
    """Before and behind each of `count` axes, of amounts that are known when the net runs."""
    if g.shape(amounts) != (count, 2):
        raise g.error("amounts whose number is known only when the net runs")
    whole = g.cast(amounts, np.int64)
    return g.emit("Gather", whole, np.array(0, np.int64), axis=1), g.emit("Gather", whole, np.array(1, np.int64), axis=1)


def _padded(g: TensorBuilder, x: ir.Value, amounts: ir.Value, count: int) -> ir.Value:
    before, behind = _columns(g, amounts, count)
    none = g.const(np.zeros(2, np.int64))
    return g.emit("Pad", x, g.emit("Concat", none, before, none, behind, axis=0), shape=[*g.shape(x)[:2], *[None] * count])


def _cut(g: TensorBuilder, x: ir.Value, amounts: ir.Value, count: int) -> ir.Value:
    before, behind = _columns(g, amounts, count)
    ends = g.emit("Sub", g.emit("Shape", x, start=2), behind)
    return g.emit("Slice", x, before, ends, [*range(2, 2 + count)], shape=[*g.shape(x)[:2], *[None] * count])
