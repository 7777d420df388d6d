"""The inputs that both sides are run on: ordinary and large numbers, other batches, zeros and negatives; or the user's own."""

from __future__ import annotations

import os
import sys
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from converters.errors import ConversionError, FormatError, printable
from converters.files import StrPath
from converters.formats import load_weights, recognize
from converters.runtimes.compare import HUGE, Array, Difference, difference, random_inputs
from converters.verification.limits import check_limits, has_many_weights, is_quick

if TYPE_CHECKING:
    import onnx_ir

Level = Literal["quick", "full"]
SMALL = 64 << 20
"""Bytes of values up to which a net counts as small, so that another batch is tried too."""
LARGE = 100.0
"""What ordinary numbers are multiplied with for the large-valued input."""
SATURATED = 1e-6
"""Nearer than this to 0 or 1, an answer of a softmax or a sigmoid says little of what went in."""
UNREADABLE = (
    *(ValueError, OSError, EOFError, KeyError, NotImplementedError, RuntimeError, MemoryError, OverflowError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What numpy raises for a damaged .npy or .npz."""


def inputs_to_try(model: onnx_ir.Model, level: Level = "quick", seed: int = 0) -> Iterator[tuple[str, dict[str, Array]]]:
    """What is tried, each with its name. quick: ordinary and large numbers, and another batch of a small net; full: more of each.

    What takes long is run on ordinary numbers alone, unless it is to be full. Raises ConversionError where a run would take more memory or
    time than a model of its size is allowed.
    """
    batch = check_limits(model)
    is_open = any(value.shape is not None and len(value.shape) and not isinstance(value.shape[0], int) for value in model.graph.inputs)
    counts = [batch]
    if is_open:
        counts += [count for count in ((3,) if level == "quick" else (1, 3, 5)) if count != batch and is_quick(model, count, SMALL)]
    ordinary = random_inputs(model, batch=batch, seed=seed)
    yield f"seed {seed}" + (f", batch {batch}" if is_open else ""), ordinary
    if level == "quick" and not is_quick(model, batch, sys.maxsize) and not has_many_weights(model):
        return
    yield f"{LARGE:g} times as large", _changed(ordinary, lambda array: array * array.dtype.type(LARGE))
    for count in counts[1:]:
        yield f"seed {seed + 1}, batch {count}", random_inputs(model, batch=count, seed=seed + 1)
    if level == "full":
        for other in range(seed + 2, seed + 5):
            yield f"seed {other}", random_inputs(model, batch=batch, seed=other)
        yield "zeros", _changed(ordinary, np.zeros_like)
        yield "negative numbers", _changed(ordinary, lambda array: -np.abs(array))


def inputs_of_shapes(
    shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, str], seed: int = 0
) -> Iterator[tuple[str, dict[str, Array]]]:
    """What is tried where no graph says more: ordinary and large numbers, zeros and negatives of these shapes; 1 for whole numbers."""
    generator = np.random.default_rng(seed)
    ordinary = {}
    for name, shape in shapes.items():
        dtype = np.dtype(dtypes.get(name, "float32"))
        ordinary[name] = (generator.standard_normal(shape) if dtype.kind == "f" else np.ones(shape)).astype(dtype)
    yield f"seed {seed}", ordinary
    yield f"{LARGE:g} times as large", _changed(ordinary, lambda array: array * array.dtype.type(LARGE))
    yield "zeros", _changed(ordinary, np.zeros_like)
    yield "negative numbers", _changed(ordinary, lambda array: -np.abs(array))


def slack_of(name: str) -> float:
    """How many times the tolerance an input of this name may be off: rounding grows with the numbers, and a softmax multiplies it."""
    return 10.0 if "large" in name else 1.0


def _changed(arrays: Mapping[str, Array], change: object) -> dict[str, Array]:
    """Floating arrays changed, others as they are: an index or a length has its own range."""
    assert callable(change)
    return {name: change(array) if array.dtype.kind == "f" else array for name, array in arrays.items()}


def compare_outputs(names: Sequence[str], got: Sequence[Array], want: Sequence[Array], *, large: bool = False) -> list[Difference]:
    """One Difference for each output. large: where both overflow, what is finite in both is compared."""
    found = []
    for name, a, b in zip(names, got, want, strict=True):
        if large and a.shape == b.shape and a.dtype.kind == b.dtype.kind == "f":
            finite = np.isfinite(a) & np.isfinite(b) & (np.abs(b) < HUGE)
            if not np.isfinite(a).all() and not np.isfinite(b).all():
                a, b = np.where(finite, a, 0), np.where(finite, b, 0)
        found.append(difference(name, a, b))
    return found


def saturated(names: Sequence[str], trials: Sequence[Sequence[Array]]) -> list[str]:
    """A note for each output that every trial answered with zeros and ones alone: what is wrong before such a softmax doesn't show."""
    found = []
    for place, name in enumerate(names):
        arrays = [answers[place] for answers in trials]
        if arrays and all(array.dtype.kind == "f" and array.size and _is_zero_or_one(array) for array in arrays):
            advice = "run it on real inputs (--feed)"
            found.append(
                f"every number of {printable(name)} is 0 or 1 (a softmax of large numbers?), which shows few differences: {advice}"
            )
    return found


def _is_zero_or_one(array: Array) -> bool:
    with np.errstate(all="ignore"):
        return bool((np.minimum(np.abs(array), np.abs(array - 1)) < SATURATED).all())


# -- the user's own arrays -------------------------------------------------------------------------------------------------


def read_arrays(path: StrPath) -> dict[str, Array]:
    """Arrays by name, of an .npz or a .t7 (a tensor, or a table of tensors by name). Raises ConversionError."""
    file = recognize(path)
    if file.kind.name in ("t7", "t7-ascii"):
        return {name: np.asarray(tensor) for name, tensor in load_weights(path).items()}
    if file.kind.name not in ("npz", "npy"):
        raise file.refusal("give an .npz, an .npy or a .t7 of arrays by the names of inputs or outputs")
    try:
        with open(path, "rb") as opened:
            found = np.load(opened, allow_pickle=False)
            arrays = {"": found} if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
    except UNREADABLE as problem:
        raise FormatError(f"can't be read as arrays: {printable(problem, 200)}", path=os.fspath(path)) from problem
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy answers the bytes of what has not the first bytes of an array
            raise FormatError(f"can't be read as arrays: '{printable(name)}' in it is none", path=os.fspath(path))
    return arrays


def by_names(arrays: Mapping[str, Array], names: Sequence[str], what: str, notes: list[str]) -> dict[str, Array]:
    """The arrays under these names: their own where they have them, the others in order, which is noted. Raises ConversionError."""
    if set(names) <= set(arrays):
        return {name: arrays[name] for name in names}
    if len(arrays) != len(names):
        shown = ", ".join(map(printable, arrays)) or "none"
        raise ConversionError(
            f"the {what}s are {', '.join(map(printable, names))}, the arrays given {shown}: they can't be paired",
            hint=f"give the arrays by the names of the {what}s, or as many of them in their order",
        )
    free = [other for other in arrays if other not in names]
    paired = {name: name if name in arrays else free.pop(0) for name in names}
    pairs = ", ".join(f"{printable(name)} = {printable(other or 'the array')}" for name, other in paired.items() if name != other)
    note = f"{what}s are paired in order: {pairs}"
    if note not in notes:
        notes.append(note)
    return {name: arrays[other] for name, other in paired.items()}


def in_types(arrays: Mapping[str, Array], model: onnx_ir.Model, notes: list[str]) -> dict[str, Array]:
    """The arrays, in the model's order, as numbers of its inputs' types, which is noted. Raises ConversionError where these hold less."""
    values = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    found = {}
    for (name, array), value in zip(arrays.items(), values, strict=True):
        dtype = None if value.dtype is None else value.dtype.numpy()
        if dtype is None or array.dtype == dtype:
            found[name] = array
            continue
        if not np.can_cast(array.dtype, dtype, "same_kind"):
            raise ConversionError(f"input '{printable(name)}' is {dtype.name} in this model, the array given {array.dtype.name}")
        found[name] = array.astype(dtype)
        notes.append(f"the {array.dtype.name} numbers given for {printable(name)} became {dtype.name}, which the model takes")
    return found
