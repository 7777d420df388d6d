"""Weights: what they look like and what is odd about them, and how two sets differ, by name and by what they hold where names differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import ConversionError, printable
from converters.runtimes.compare import TOLERANCE, Difference, difference
from converters.verification.report import Report

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


# -- two sets of them ------------------------------------------------------------------------------------------------------

FEW = 3
"""As many weights that differ within the tolerance are a change that somebody made, and are looked for in the layers; more are rounding."""
COUNTER = "num_batches_tracked"
"""What PyTorch's batch norms count in training, which no other format keeps and no answer depends on."""


def compare_weights(
    first: Mapping[str, Any], second: Mapping[str, Any], *, tolerance: float = TOLERANCE, notes: Sequence[str] = ()
) -> Report:
    """Compares two sets of weights name by name; one that only one of them has, by name and by its numbers, is a difference.

    notes: what is said already, why a side wasn't run among it. Raises ConversionError where it looks like one net under
    other names whose numbers aren't all the same, and running would tell.
    """
    said = list(notes)
    left = [name for name in first if name not in second], [name for name in second if name not in first]
    same = _equal_elsewhere(first, second, *left)
    paired = {*same, *same.values()}
    counters = [name for names in left for name in names if name.endswith(COUNTER) and name not in paired]
    skipped = {*paired, *counters}
    is_rest = any(name not in skipped for names in left for name in names)
    found = [_apart(name, first[name], second[name]) for name in first if name in second]
    if same and not found and is_rest and (why := next((note for note in notes if " wasn't run: " in note), None)):
        raise ConversionError(f"{len(same)} tensors hold the same numbers under other names, the others don't, and {why}")
    for names, which in zip(left, ("first", "second"), strict=True):
        found += [Difference(name, float("inf"), 0.0, note=f"only in the {which} file") for name in names if name not in skipped]
    if same:
        pairs = ", ".join(f"{printable(one)} = {printable(other)}" for one, other in list(same.items())[:FEW])
        said.append(f"{len(same)} tensors hold the same numbers under other names: {pairs}" + (" ..." if len(same) > FEW else ""))
    if counters:
        said.append(f"{len(counters)} counters of training ({COUNTER}) are in one file alone; no answer depends on them")
    if len(left[0]) == len(first) and is_rest:
        said.append(
            "no name is in both files: where they are of other formats, give each side's graph too (a prototxt, a symbol), to run them"
        )
    found += [_apart(one, first[one], second[other]) for one, other in same.items()]
    wrong = [d for d in found if d.error > tolerance]
    worst = max(found, key=lambda d: d.error, default=None)
    shown = wrong or ([worst] if worst else [])
    return Report(shown, tolerance=tolerance, what=f"{len(found)} tensors of both files", notes=said)


def _equal_elsewhere(first: Mapping[str, Any], second: Mapping[str, Any], *left: Sequence[str]) -> dict[str, str]:
    """Of the names that one side alone has, those whose shape and bytes another name of the other side has, each taken once."""
    shapes = [{tuple(weights[name].shape) for name in names} for weights, names in zip((first, second), left, strict=True)]
    both = shapes[0] & shapes[1]
    free: dict[tuple[Any, ...], list[str]] = {}
    for name in left[1]:
        if tuple(second[name].shape) in both:
            free.setdefault(_digest(second[name]), []).append(name)
    found = {}
    for name in left[0]:
        if tuple(first[name].shape) in both and (names := free.get(_digest(first[name]))):
            found[name] = names.pop(0)
    return found


def _digest(weight: Any) -> tuple[Any, ...]:
    array = np.ascontiguousarray(np.asarray(weight))
    return array.shape, array.dtype.name, hashlib.sha256(array.reshape(-1).view(np.uint8).data).digest()


def weights_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[list[Difference], int]:
    """Of the weights that both hold under one name and in one shape, those that differ at all, and how many there are."""
    both = [name for name in first if name in second and tuple(first[name].shape) == tuple(second[name].shape)]
    found = [_apart(name, first[name], second[name]) for name in both]
    return [d for d in found if d.error > 0], len(both)


def slightly(found: Sequence[Difference]) -> str:
    """What is said of weights that differ by no more than the tolerance."""
    shown = sorted(found, key=lambda d: -d.absolute)[:FEW]
    more = f" and {len(found) - len(shown)} more" if len(found) > len(shown) else ""
    return f"weights differ within the tolerance: {', '.join(map(str, shown))}{more}"


def _apart(name: str, one: Any, other: Any) -> Difference:
    """How far two tensors are apart, and in how many of their numbers."""
    a, b = np.asarray(one), np.asarray(other)
    found = difference(name, a, b)
    if not found.error or a.shape != b.shape or not np.isfinite(found.error):
        return found
    changed = int((a != b).sum())
    return replace(
        found, note=f"largest difference {found.absolute:.2g} in {changed:,} of {a.size:,} numbers, the largest {found.scale:.3g}"
    )
