"""Arrays in, arrays out: random inputs, and how far two results are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError

if TYPE_CHECKING:
    import onnx_ir


Array = NDArray[Any]


HUGE = 1e37
"""Beyond this float32 has few numbers left, and runtimes disagree which of them are infinite."""
TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest finite number of the output."""


@dataclass(frozen=True)
class Difference:
    """How far two results of one name are apart.

    error: max|a - b| / max(1e-6, max|b|); infinite where shapes, NaN or infinities differ. scale: max|b|. absolute: max|a - b|.
    """

    name: str
    error: float
    scale: float
    source: str = ""
    note: str = ""
    absolute: float = 0.0

    def __str__(self) -> str:
        what = self.note or f"largest difference {self.absolute:.2g}, {self.error:.2g} of the largest number {self.scale:.3g}"
        return f"{self.name}: {what}" + (f" (from {self.source})" if self.source else "")


def difference(name: str, got: Array, want: Array, source: str = "") -> Difference:
    """Compares two results. NaN must be NaN, infinity infinity of the same sign, and numbers beyond 1e37 likewise."""
    if got.shape != want.shape:
        return Difference(name, float("inf"), 0.0, source, f"shape {got.shape} against {want.shape}")
    ours, theirs = np.ravel(got), np.ravel(want)
    scale = absolute = 0.0
    for start in range(0, ours.size, _PIECE):
        a, b = (array[start : start + _PIECE] for array in (ours, theirs))
        quick = _quickly(a, b)
        if quick is None:
            a, b = a.astype(np.float64), b.astype(np.float64)
            huge = ~np.isfinite(b) | (np.abs(b) > HUGE)
            same = (np.isnan(a) == np.isnan(b)) & (np.isnan(b) | ((np.sign(a) == np.sign(b)) & (np.abs(a) > HUGE)))
            if not same[huge].all() or not np.isfinite(a[~huge]).all():
                return Difference(name, float("inf"), 0.0, source, "NaN or infinity at other places")
            a, b = a[~huge], b[~huge]
            quick = _largest(b), _largest(a - b)
        scale, absolute = max(scale, quick[0]), max(absolute, quick[1])
    return Difference(name, absolute / max(scale, 1e-6), scale, source, absolute=absolute)


def _quickly(a: Array, b: Array) -> tuple[float, float] | None:
    """The largest number of b, and how far a and b are apart at most; None where not all are numbers that can be taken apart."""
    if a.dtype != b.dtype or a.dtype not in (np.float32, np.float64):
        return None
    is_equal = np.array_equal(a, b)
    scale = _largest(b)
    if not (scale <= HUGE and (is_equal or _largest(a) <= HUGE)):  # nor are NaN
        return None
    return scale, 0.0 if is_equal else _largest(np.subtract(a, b, dtype=np.float64))


def _largest(array: Array) -> float:
    return max(float(array.max(initial=0.0)), -float(array.min(initial=0.0)))


_PIECE = 1 << 20
"""Numbers that are compared at a time, so that comparing takes little memory."""


def random_inputs(model: onnx_ir.Model, *, batch: int = 2, seed: int = 0) -> dict[str, Array]:
    """One seeded random array for each graph input: normal numbers for floats, 1 for integers; symbolic axes get `batch`."""
    generator = np.random.default_rng(seed)
    arrays = {}
    for value in model.graph.inputs:
        if value.shape is None or value.dtype is None or value.name is None:
            raise ConversionError(f"input {value.name!r} has no known shape; give one with inputs={{name: shape}}")
        shape = [d if isinstance(d, int) else batch for d in value.shape]
        dtype = value.dtype.numpy()
        floating = np.issubdtype(dtype, np.floating)
        arrays[value.name] = (generator.standard_normal(shape) if floating else np.ones(shape)).astype(dtype)
    return arrays
