"""What weights look like: their range and histogram, and what is odd about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir

BINS = 24
SAMPLE = 1 << 18
"""Numbers of one weight that its histogram looks at, evenly picked; its range and remarks look at all."""
LARGE = 1e4
"""Beyond this a weight's numbers are called very large."""


@dataclass
class Looked:
    """One weight: shape in words, range, mean, counts of the histogram's bins, and what is odd."""

    shape: str
    least: float
    mean: float
    largest: float
    counts: list[int]
    remarks: list[str] = field(default_factory=list)

    @property
    def is_odd(self) -> bool:
        """Whether a reader should look at it: scales of 1 and shifts of 0 are said, but every second normalization has them."""
        return bool(self.remarks) and ("x" in self.shape or self.remarks not in (["constant 1"], ["constant 0"]))


def look_at(model: onnx_ir.Model) -> Mapping[str, Looked]:
    """Every floating-point initializer of a graph, by name."""
    found = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype.is_floating_point() and tensor.size:
            found[str(name)] = _look(np.asarray(tensor.numpy()))
    return found


def _look(array: np.ndarray) -> Looked:
    shape = "x".join(map(str, array.shape)) or "scalar"
    whole = array.astype(np.float32, copy=False)
    flat = whole.reshape(-1)
    picked = flat[:: max(1, flat.size // SAMPLE)]
    finite = picked[np.isfinite(picked)]
    least, largest = float(np.nanmin(flat)) if finite.size else float("nan"), float(np.nanmax(flat)) if finite.size else float("nan")
    counts = np.histogram(finite, BINS)[0].tolist() if finite.size else []
    remarks = []
    if not np.isfinite(flat).all():
        remarks.append(f"{int(np.isnan(flat).sum()):,} NaN, {int(np.isinf(flat).sum()):,} infinite")
    elif flat.size > 1 and least == largest:
        remarks.append(f"constant {least:g}")
    elif array.ndim > 1 and (dead := int((~whole.reshape(len(whole), -1).any(axis=1)).sum())):
        remarks.append(f"{dead:,} of {len(whole):,} channels dead")
    if max(abs(least), abs(largest)) > LARGE:
        remarks.append("very large numbers")
    elif array.ndim > 1 and finite.size > 100 and (np.abs(finite) > 0.99 * np.abs(finite).max()).mean() > 0.2 and least != largest:
        remarks.append("saturated at its largest number")
    return Looked(shape, least, float(finite.mean()) if finite.size else float("nan"), largest, counts, remarks)
