"""What flows along the edges of a TensorFlow graph while it is lowered.

A tensor is a constant, a list of sizes some of which are known only when the net runs, or a value of the common graph. That value may
hold the axes in another order than TensorFlow's: images lie as (N, C, H, W) where TensorFlow has (N, H, W, C), so that no Transpose
stands between layers; a Transpose of the file only changes the order that is noted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError
from converters.graph.builder import Extent

IMAGE = (0, 3, 1, 2)
"""The order of an image: axis i of the value is axis IMAGE[i] of TensorFlow's (N, H, W, C)."""
VOLUME = (0, 4, 1, 2, 3)

Array = NDArray[Any]


@dataclass(frozen=True)
class Length:
    """A size that is known when the net runs, in the arithmetic of shapes. Operations that have no form here raise TypeError."""

    extent: Extent

    def __add__(self, other: object) -> Length:
        return Length(replace(self.extent, plus=self.extent.plus + _number(other)))

    __radd__ = __add__

    def __sub__(self, other: object) -> Length:
        return self + -_number(other)

    def __mul__(self, other: object) -> Length:
        factor = _number(other)
        return Length(replace(self.extent, times=self.extent.times * factor, plus=self.extent.plus * factor))

    __rmul__ = __mul__

    def __floordiv__(self, other: object) -> Length:
        e, divisor = self.extent, _number(other)
        if divisor < 1:
            raise TypeError("a size is divided by a number below 1")
        if e.times % divisor == 0 and e.plus % divisor == 0:
            return Length(replace(e, times=e.times // divisor, plus=e.plus // divisor))
        if e.over != 1 or e.times != 1:
            raise TypeError("this division has no form as a size")
        return Length(replace(e, before=e.before + e.plus, over=divisor, plus=0))


def _number(other: object) -> int:
    if isinstance(other, int | np.integer):
        return int(other)
    raise TypeError("only numbers go with a size here")


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of TensorFlow's. Exactly one of array, sizes and value is there.

    array: a constant, in TensorFlow's order of axes. sizes: integers and Lengths. value: in the common graph, its axis i TensorFlow's
    axis order[i]. origin: the name of the constant or variable that it is. rows: the last axis is an image (H, W, C) laid out as
    (C, H, W), for these sizes. blocks: SpaceToBatchND has taken the image apart by these rates; it lies whole in the value, and a
    convolution of it is a dilated one.
    """

    dtype: np.dtype[Any]
    array: Array | None = None
    sizes: Array | None = None
    value: ir.Value | None = None
    order: tuple[int, ...] = ()
    origin: str = ""
    rows: tuple[int, int, int] | None = None
    blocks: tuple[int, ...] | None = None

    @property
    def is_constant(self) -> bool:
        return self.array is not None

    @property
    def rank(self) -> int:
        return self.array.ndim if self.array is not None else self.sizes.ndim if self.sizes is not None else len(self.order)

    def axis(self, axis: int) -> int:
        """Where TensorFlow's axis lies in the value."""
        return self.order.index(axis)


@dataclass(frozen=True)
class Dead:
    """What a branch gives that isn't taken."""


@dataclass(frozen=True)
class Missing:
    """What an operator would give that nobody knows: an error for whoever needs it. random: it draws random numbers."""

    problem: ConversionError
    random: bool = False


Flow = Tensor | Dead | Missing


def constant(array: Array, origin: str = "") -> Tensor:
    return Tensor(array.dtype, array=array, origin=origin)


def sizes(entries: Array, dtype: np.dtype[Any]) -> Tensor:
    """Integers and Lengths; a constant where there are none of these."""
    if all(isinstance(entry, int | np.integer) for entry in entries.flat):
        return constant(np.array(entries.tolist(), dtype).reshape(entries.shape))
    return Tensor(dtype, sizes=entries)


def identity(rank: int) -> tuple[int, ...]:
    return tuple(range(rank))


def channels_first(rank: int) -> tuple[int, ...]:
    """The order of images of any number of axes: channels, which TensorFlow has last, on axis 1."""
    return (0, rank - 1, *range(1, rank - 1))


def moved(order: Sequence[int], removed: Sequence[int]) -> tuple[int, ...]:
    """An order without some of TensorFlow's axes."""
    left = [axis for axis in order if axis not in removed]
    ranks = sorted(left)
    return tuple(ranks.index(axis) for axis in left)
