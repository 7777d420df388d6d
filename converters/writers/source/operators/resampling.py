"""Source of resizing and sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.writers.source.code import Size, number
from converters.writers.source.node import Node, writes
from converters.writers.source.operators.layout import text_of


def _floats(values: Any) -> str:
    return "[" + ", ".join(number(np.float32(v)) for v in values) + "]"


@writes("Resize")
def resize(n: Node) -> str:
    """F.interpolate where it computes the same; else the formula with weights per axis."""
    mode = n.attr("mode", "nearest")
    if n.opset < 11:
        return _resize(n, mode, 1, None, "asymmetric", "floor")
    transform = n.attr("coordinate_transformation_mode", "half_pixel")
    return _resize(n, mode, 2, 3, transform, n.attr("nearest_mode", "round_prefer_floor"))


@writes("Upsample")
def upsample(n: Node) -> str:
    """F.interpolate by factors."""
    height, width = n.attr("height_scale"), n.attr("width_scale")
    if n.opset < 7 and height is not None and width is not None:
        return _resize(n, n.attr("mode", "nearest"), 1, None, "asymmetric", "floor", np.array([1, 1, height, width], np.float32))
    return _resize(n, n.attr("mode", "nearest"), 1, None, "asymmetric", "floor")


_TRANSFORMS = frozenset(
    "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric tf_crop_and_resize tf_half_pixel_for_nn".split()
)


def _resize(
    n: Node, mode: str, scales_at: int, sizes_at: int | None, transform: str, nearest_mode: str, own: NDArray[Any] | None = None
) -> str:
    """own: the scales of all axes, where the operator has them as attributes of its own."""
    if mode not in ("nearest", "linear", "bilinear", "cubic"):
        raise n.error(f"mode {mode!r}")
    mode = "linear" if mode == "bilinear" else mode
    if transform not in _TRANSFORMS:
        raise n.error(f"coordinate_transformation_mode {transform!r}")
    rank = n.known_rank()
    given = n.attr("axes")
    axes = list(range(rank)) if given is None else [int(a) % rank for a in given]
    sizes = n.sizes(sizes_at) if sizes_at is not None and n.has(sizes_at) else None
    has_sizes = sizes_at is not None and n.has(sizes_at)
    scales = own if own is not None else None if has_sizes else n.static(scales_at, "scales")
    if not has_sizes and scales is None and not n.has(scales_at):
        raise n.error("neither scales nor sizes")
    if scales is not None and scales.size == 0:
        raise n.error("neither scales nor sizes")
    if transform == "align_corners" and not has_sizes and scales is None:
        raise n.error("align_corners needs scales that are constants, or sizes")
    if transform == "align_corners" and scales is not None:
        lengths = [(n.shape(0) or [None] * rank)[axis] for axis in axes]
        if any(d is not None and d * float(s) % 1 for d, s in zip(lengths, scales.reshape(-1), strict=True)):
            raise n.error("align_corners with scales that give no whole size, where ONNX and its runtimes disagree; give sizes")
    policy = n.attr("keep_aspect_ratio_policy", "stretch")
    plain = policy == "stretch" and not n.attr("antialias", 0) and not n.attr("exclude_outside", 0) and n.is_float()
    call = _interpolate(n, mode, transform, nearest_mode, axes, sizes, scales) if plain else None
    if call:
        return call
    if scales is not None:
        how = f"scales={_floats(scales.reshape(-1))}"
    elif has_sizes and sizes_at is not None:
        how = f"sizes={n.size_list(sizes_at)}"
    else:
        how = f"scales={n[scales_at]}.tolist()"
    options = [how, f"mode={mode!r}", f"transform={transform!r}"]
    if mode == "nearest":
        options.append(f"nearest_mode={nearest_mode!r}")
    if given is not None:
        options.append(f"axes={axes}")
    if mode == "cubic":
        options.append(f"cubic={number(np.float32(n.attr('cubic_coeff_a', -0.75)))}")
    if n.attr("antialias", 0):
        options.append("antialias=True")
    if n.attr("exclude_outside", 0):
        options.append("exclude_outside=True")
    if policy != "stretch":
        options.append(f"policy={policy!r}")
    if transform == "tf_crop_and_resize":
        roi = n.static(1)
        options.append(f"roi={_floats(roi.reshape(-1))}" if roi is not None else f"roi={n[1]}.tolist()")
        options.append(f"outside={number(np.float32(n.attr('extrapolation_value', 0.0)))}")
    return f"{n.function('resize')}({n[0]}, {', '.join(options)})"


def _interpolate(n: Node, mode: str, transform: str, nearest_mode: str, axes: list[int], sizes: Any, scales: Any) -> str | None:
    """F.interpolate's call, if its definition is this one."""
    rank = n.known_rank()
    spatial = list(range(2, rank))
    if rank not in (3, 4, 5) or (mode == "cubic" and rank != 4):
        return None
    shape = n.shape(0) or [None] * rank
    if scales is not None:
        factors = dict(zip(axes, (float(s) for s in scales.reshape(-1)), strict=True))
        if any(factors.get(axis, 1.0) != 1.0 for axis in (0, 1)):
            return None
        kept = [factors.get(axis, 1.0) for axis in spatial]
        if not all(f == int(f) and f >= 1 for f in kept):
            return None
        by = f"scale_factor={kept[0] if len(set(kept)) == 1 else tuple(kept)}"
        enlarges = True
    elif sizes is not None:
        wanted = dict(zip(axes, sizes, strict=True))
        for axis in (0, 1):
            if axis in wanted and (isinstance(wanted[axis], Size) or wanted[axis] != shape[axis]):
                return None
        if any(axis not in wanted and shape[axis] is None for axis in spatial):
            return None
        outs = [wanted.get(axis, shape[axis]) for axis in spatial]
        by = f"({', '.join(text_of(o) for o in outs)}{',' if len(outs) == 1 else ''})"
        whole = [
            isinstance(o, int) and isinstance(shape[a], int) and o % int(shape[a] or 1) == 0 for o, a in zip(outs, spatial, strict=True)
        ]
        enlarges = all(whole)
    else:
        return None
    names = {3: "linear", 4: "bilinear", 5: "trilinear"}
    if mode == "nearest":
        floors = transform == "asymmetric" and nearest_mode == "floor"
        rounds = transform.startswith("half_pixel") and "round" in nearest_mode
        if enlarges and (floors or rounds):
            return f'F.interpolate({n[0]}, {by}, mode="nearest")'
        return None
    if mode == "cubic" and abs(n.attr("cubic_coeff_a", -0.75) + 0.75) > 1e-7:
        return None
    torch_mode = "bicubic" if mode == "cubic" else names[rank]
    if transform == "align_corners":
        return f'F.interpolate({n[0]}, {by}, mode="{torch_mode}", align_corners=True)'
    if transform == "half_pixel" or (transform == "half_pixel_symmetric" and enlarges):
        return f'F.interpolate({n[0]}, {by}, mode="{torch_mode}", align_corners=False)'
    return None


@writes("GridSample")
def grid_sample(n: Node) -> str:
    """F.grid_sample."""
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(n.attr("mode", "linear"), n.attr("mode", "linear"))
    padding, align = n.attr("padding_mode", "zeros"), bool(n.attr("align_corners", 0))
    if n.rank() not in (4, 5) or (mode == "bicubic" and n.rank() == 5):
        raise n.error("only images and volumes are sampled here, cubic ones only images")
    options = [f"mode={mode!r}"] if mode != "bilinear" else []
    options += [f"padding_mode={padding!r}"] if padding != "zeros" else []
    return f"F.grid_sample({', '.join([n[0], n[1], *options, f'align_corners={align}'])})".replace("'", '"')


@writes("AffineGrid")
def affine_grid(n: Node) -> str:
    """F.affine_grid."""
    return f"F.affine_grid({n[0]}, {n.size_list(1)}, align_corners={bool(n.attr('align_corners', 0))})"
