"""Resize and its predecessor Upsample: what older sets can't say is written as indices, or as a matrix per axis."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.writers.onnx.opsets.site import Answer, Site, newer, older


@older("Resize", since=19)
def resize_before_19(g: Site, node: ir.Node) -> Answer:
    """All coordinates but half_pixel_symmetric."""
    if g.attribute("coordinate_transformation_mode") == "half_pixel_symmetric":
        raise g.refusal("coordinate_transformation_mode half_pixel_symmetric isn't there")
    return None


@older("Resize", since=18)
def resize_before_18(g: Site, node: ir.Node) -> Answer:
    """Every axis, each with its own factor."""
    if g.attribute("antialias", 0) and _shrinks(g):
        raise g.refusal("antialias isn't there")
    if g.attribute("keep_aspect_ratio_policy", "stretch") != "stretch" and g.input(3) is not None:
        raise g.refusal("keep_aspect_ratio_policy isn't there")
    changes = {"antialias": None, "keep_aspect_ratio_policy": None, "axes": None}
    axes = g.attribute("axes")
    if axes is None:
        return g.again(*node.inputs, **changes)
    x, rank = g.x(), g.rank(g.x())
    places = np.array([axis % rank for axis in axes])
    scales, sizes, roi = g.number(g.input(2)), g.number(g.input(3)), g.number(g.input(1))
    if scales is not None and scales.size:
        every = np.full(rank, 1, np.float32)
        every[places] = scales
        regions = np.repeat(np.array([0, 1], np.float32), rank)
        if roi is not None and roi.size:
            regions[places], regions[places + rank] = roi[: len(places)], roi[len(places) :]
        return g.again(x, None if roi is None or not roi.size else regions, every, **changes)
    if sizes is None or g.number(g.input(1)) is not None:
        raise g.refusal("its sizes are computed when the net runs, and axes of its own aren't there")
    shape = g.emit("Shape", x)
    parts = [g.constant(sizes[places == i], np.int64) if i in places else g.part(shape, i, i + 1) for i in range(rank)]
    return g.again(x, None, None, g.emit("Concat", *parts, axis=0), **changes)


def _shrinks(g: Site) -> bool:
    before, after = g.dims(g.x()), g.dims(g.node.outputs[0])
    return any(a is None or b is None or b < a for a, b in zip(before, after, strict=True) if a is None or a != b)


@older("Resize", since=13)
def resize_before_13(g: Site, node: ir.Node) -> Answer:
    """Region and factors are always there, without elements where they aren't used."""
    nothing = np.zeros(0, np.float32)
    roi, scales, sizes = (g.input(i) for i in (1, 2, 3))
    return g.again(g.x(), nothing if roi is None else roi, nothing if scales is None else scales, sizes)


@older("Resize", since=11)
def resize_before_11(g: Site, node: ir.Node) -> Answer:
    """Factors of 1 and more with plain coordinates as they were; anything else by indices or matrices, where the sizes are known."""
    x = g.x()
    before, after = g.dims(x), g.dims(node.outputs[0])
    scales = g.number(g.input(2))
    if scales is None and g.input(3) is None:
        raise g.refusal("its factors are computed when the net runs, and its coordinates aren't there")
    plain = _plain_scales(g, before, after, None if scales is None or not scales.size else scales)
    if plain is not None:
        return g.emit("Resize", x, np.array(plain, np.float32), mode=g.attribute("mode", "nearest"))
    if any(b is None or a is None for a, b in zip(before, after, strict=True) if a is None or a != b):
        raise g.refusal("its coordinates aren't there; they have another form only where the sizes are known")
    y = x
    for axis, (size, target) in enumerate(zip(before, after, strict=True)):
        scale = float(scales[axis]) if scales is not None and scales.size else (target or 1) / (size or 1)
        if size is None or target is None or (size == target and scale == 1):
            continue
        at = _coordinates(g, size, target, scale)
        if g.attribute("mode", "nearest") == "nearest":
            y = g.emit("Gather", y, np.clip(_nearest(at, g.attribute("nearest_mode", "round_prefer_floor")), 0, size - 1), axis=axis)
        else:
            y = _by_matrix(g, y, axis, _weights(g, at, size))
    return y


def _plain_scales(g: Site, before: list[int | None], after: list[int | None], scales: NDArray[np.float32] | None) -> list[float] | None:
    """The factors, where Resize of set 10 means this one: asymmetric, floor, nothing smaller."""
    mode = g.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = g.attribute("nearest_mode", "round_prefer_floor")
    if scales is not None:
        factors = [float(scale) for scale in scales]
    elif any(a is None or b is None for a, b in zip(before, after, strict=True) if a is None or a != b):
        return None
    else:
        factors = [(b or 1) / (a or 1) for a, b in zip(before, after, strict=True)]
    if min(factors) < 1 or g.attribute("mode", "nearest") == "cubic":
        return None
    if g.attribute("mode", "nearest") == "linear":
        return factors if mode == "asymmetric" else None
    whole = all(factor == int(factor) for factor in factors)
    if mode == "asymmetric" and rounding == "floor" and (whole or scales is not None):
        return factors
    # repeated whole: the nearest pixel by half_pixel coordinates is the one by floor
    return factors if whole and mode in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round_prefer") else None


def _coordinates(g: Site, size: int, target: int, scale: float) -> NDArray[np.float64]:
    """Where each element of the result lies in the input. Formulas: ONNX, Resize, coordinate_transformation_mode."""
    mode = g.attribute("coordinate_transformation_mode", "half_pixel")
    i = np.arange(target, dtype=np.float64)
    if mode == "align_corners":
        return i * (size - 1) / (target - 1) if target > 1 else i * 0
    if mode == "asymmetric":
        return i / scale
    if mode == "tf_half_pixel_for_nn":
        return (i + 0.5) / scale
    if mode == "pytorch_half_pixel" and target == 1:
        return i * 0
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (i + 0.5) / scale - 0.5
    raise g.refusal(f"coordinate_transformation_mode {mode} isn't there")


def _nearest(at: NDArray[np.float64], mode: str) -> NDArray[np.int64]:
    at = np.round(at, 6)  # the factors are float32: what is a half by them is one
    rounded = {
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
        "floor": np.floor(at),
        "ceil": np.ceil(at),
    }[mode]
    return rounded.astype(np.int64)


def _weights(g: Site, at: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The matrix (target, size) of a linear or cubic interpolation along one axis."""
    matrix = np.zeros((len(at), size))
    a = float(g.attribute("cubic_coeff_a", -0.75))
    for row, position in enumerate(at):
        if g.attribute("mode") == "linear":
            position = min(max(position, 0), size - 1)
            floor = math.floor(position)
            taps = {floor: 1 - (position - floor), floor + 1: position - floor}
        else:
            floor = math.floor(position)
            taps = {floor + k: _cubic(abs(position - floor - k), a) for k in (-1, 0, 1, 2)}
            if g.attribute("exclude_outside", 0):
                inside = {k: w for k, w in taps.items() if 0 <= k < size}
                taps = {k: w / sum(inside.values()) for k, w in inside.items()}
        for tap, weight in taps.items():
            matrix[row, min(max(tap, 0), size - 1)] += weight
    return matrix


def _cubic(distance: float, a: float) -> float:
    """Keys' kernel."""
    if distance <= 1:
        return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    return a * distance**3 - 5 * a * distance**2 + 8 * a * distance - 4 * a if distance < 2 else 0.0


def _by_matrix(g: Site, x: ir.Value, axis: int, matrix: NDArray[np.float64]) -> ir.Value:
    """x times the matrix along an axis."""
    rank = g.rank(x)
    order = [i for i in range(rank) if i != axis] + [axis]
    product = g.emit("MatMul", g.emit("Transpose", x, perm=order), matrix.T.astype(g.dtype(x).numpy()))
    return g.emit("Transpose", product, perm=np.argsort(order).tolist())


@older("Resize", since=10)
def resize_before_10(g: Site, node: ir.Node) -> Answer:
    """Upsample, its name before set 10."""
    scales = g.number(g.input(1))
    if scales is None or scales.min() < 1:
        raise g.refusal("ONNX has Resize from set 10 on; Upsample only enlarges, by constant factors")
    return g.emit("Upsample", g.x(), g.x(1), mode=g.attribute("mode", "nearest"))


@newer("Upsample", since=9)
def upsample_from_9(g: Site, node: ir.Node) -> Answer:
    """The factors as an input."""
    return g.again(g.x(), np.array(g.attribute("scales"), np.float32), scales=None)


@newer("Upsample", since=10)
def upsample_from_10(g: Site, node: ir.Node) -> Answer:
    """Resize, its name from set 10 on."""
    return g.emit("Resize", g.x(), g.x(1), mode=g.attribute("mode", "nearest"))


@newer("Resize", since=11)
def resize_from_11(g: Site, node: ir.Node) -> Answer:
    """Coordinates that set 10 had without a name."""
    scales = g.number(g.input(1))
    mode = g.attribute("mode", "nearest")
    if mode == "nearest" and (scales is None or scales.min() < 1):
        raise g.refusal("set 10 doesn't say which pixel is the nearest when an image shrinks")
    rounding = "floor" if mode == "nearest" else None
    operands = (g.x(), np.zeros(0, np.float32), g.x(1))
    return g.emit("Resize", *operands, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode=rounding)
