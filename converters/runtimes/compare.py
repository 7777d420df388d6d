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
        a, b = (array[start : start + _PIECE].astype(np.float64) for array in (ours, theirs))
        huge = ~np.isfinite(b) | (np.abs(b) > 1e37)
        same = (np.isnan(a) == np.isnan(b)) & (np.isnan(b) | ((np.sign(a) == np.sign(b)) & (np.abs(a) > 1e37)))
        if not same[huge].all() or not np.isfinite(a[~huge]).all():
            return Difference(name, float("inf"), 0.0, source, "NaN or infinity at other places")
        a, b = a[~huge], b[~huge]
        scale = max(scale, float(np.abs(b).max(initial=0.0)))
        absolute = max(absolute, float(np.abs(a - b).max(initial=0.0)))
    return Difference(name, absolute / max(scale, 1e-6), scale, source, absolute=absolute)


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
