"""Up-sampling: nn/SpatialUpSamplingNearest.lua, nn/SpatialUpSamplingBilinear.lua, nn/UpSampling.lua."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, lowers


def _batch(g: GraphBuilder, module: Module, x: ir.Value, ranks: tuple[int, ...]) -> tuple[ir.Value, bool]:
    rank = g.rank(x)
    if rank not in ranks:
        raise module.error(f"its input must have {' or '.join(map(str, ranks))} dimensions, but has shape {g.shape(x)}")
    return (g.emit("Unsqueeze", x, [0]), True) if rank == 3 else (x, False)


def _nearest(g: GraphBuilder, module: Module, batch: ir.Value) -> ir.Value:
    scale = module.integer("scale_factor", least=1)
    shape = [*g.shape(batch)[:2], *(size * scale for size in g.fixed(batch, 2))]
    scales = np.array([1, 1] + [scale] * (g.rank(batch) - 2), dtype=np.float32)
    return g.emit(
        "Resize", batch, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor", shape=shape
    )


def _linear(g: GraphBuilder, module: Module, batch: ir.Value, fields: tuple[str, ...]) -> ir.Value:
    """Interpolation between corners that stay corners. Source: THNN/generic/*UpSampling*linear.c."""
    scale = module.integer("scale_factor", least=1) if "scale_factor" in module else None
    sizes = tuple(size * scale for size in g.fixed(batch, 2)) if scale else tuple(module.integer(field, least=1) for field in fields)
    if max(sizes) > 1 << 20:
        raise module.error(f"its output would have size {sizes}")
    return g.emit(
        "Resize",
        batch,
        None,
        np.array([1, 1] + [scale] * len(sizes), dtype=np.float32) if scale else None,
        None if scale else g.sizes([*g.extents(batch, 0, 2), *sizes]),
        mode="linear",
        coordinate_transformation_mode="align_corners",
        shape=[*g.shape(batch)[:2], *sizes],
    )


@lowers("nn.SpatialUpSamplingNearest")
def spatial_up_sampling_nearest(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Each pixel scale_factor times in both directions. Source: THNN/generic/SpatialUpSamplingNearest.c."""
    batch, single = _batch(g, module, x, (3, 4))
    out = _nearest(g, module, batch)
    return g.emit("Squeeze", out, [0]) if single else out


@lowers("nn.SpatialUpSamplingBilinear")
def spatial_up_sampling_bilinear(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Bilinear, by scale_factor or to oheight by owidth; corners stay corners. Source: THNN/generic/SpatialUpSamplingBilinear.c."""
    batch, single = _batch(g, module, x, (3, 4))
    out = _linear(g, module, batch, ("oheight", "owidth"))
    return g.emit("Squeeze", out, [0]) if single else out


@lowers("nn.UpSampling")
def up_sampling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Nearest or (tri)linear up-sampling of (N, C, H, W) or (N, C, T, H, W). Source: nn/UpSampling.lua."""
    batch, _ = _batch(g, module, x, (4, 5))
    if module.text("mode", "nearest") == "nearest":
        return _nearest(g, module, batch)
    return _linear(g, module, batch, ("oheight", "owidth") if g.rank(batch) == 4 else ("odepth", "oheight", "owidth"))


# -- nnx ---------------------------------------------------------------------------------------------------------------


@lowers("nn.SpatialReSampling")
def spatial_re_sampling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Bilinear, to oheight by owidth or by ratios, which the first forward makes sizes; corners stay corners.
    Source: nnx/SpatialReSampling.lua.
    """
    batch, single = _batch(g, module, x, (3, 4))
    sizes = []
    for axis, (field, ratio) in enumerate((("oheight", "rheight"), ("owidth", "rwidth"))):
        if field not in module:
            batch = g.pin(batch, 2)
        wanted = module.number(field) if field in module else module.number(ratio) * g.fixed(batch, 2)[axis]
        if not 1 <= wanted <= 1 << 20:
            raise module.error(f"its output would have size {wanted:g} where {field} is due")
        sizes.append(int(wanted))  # a first forward by ratios has left what isn't a whole number
    out = _corners(g, module, batch, sizes)
    return g.emit("Squeeze", out, [0]) if single else out


def _corners(g: GraphBuilder, module: Module, x: ir.Value, sizes: list[int]) -> ir.Value:
    """(N, C, H, W) resized to these sizes, corners to corners.

    All four are given, for onnxruntime moves a transposition past a Resize with `axes` of its own as if these were the sizes of all.
    """
    if not all(1 <= size <= 1 << 20 for size in sizes):
        raise module.error(f"its output would have size {tuple(sizes)}")
    every = g.sizes([*g.extents(x, 0, 2), *sizes])
    shape = [*g.shape(x)[:2], *sizes]
    return g.emit("Resize", x, None, None, every, mode="linear", coordinate_transformation_mode="align_corners", shape=shape)


def _two_axes(g: GraphBuilder, module: Module, x: ir.Value) -> tuple[int, int]:
    """The axes of yDim and xDim."""
    rows, columns = module.integer("yDim", 2, least=1) - 1, module.integer("xDim", 3, least=1) - 1
    if columns != rows + 1 or columns >= g.rank(x):
        raise module.error(f"yDim {rows + 1} and xDim {columns + 1} don't fit its input of shape {g.shape(x)}")
    return rows, columns


def _as_images(g: GraphBuilder, x: ir.Value, rows: int) -> tuple[ir.Value, list[int]]:
    """x with the axes rows, rows + 1 at the end and two others before them, and the order of axes that undoes it."""
    rank = g.rank(x)
    order = [axis for axis in range(rank) if axis not in (rows, rows + 1)] + [rows, rows + 1]
    moved = g.emit("Transpose", x, perm=order) if order != list(range(rank)) else x
    return moved, [order.index(axis) for axis in range(rank)]


def _on_images(g: GraphBuilder, x: ir.Value, rows: int, function: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """function((N, C, H, W)) of any tensor whose axes rows and rows + 1 are H and W."""
    moved, back = _as_images(g, x, rows)
    rank = g.rank(x)
    missing = list(range(max(0, 4 - rank)))
    images = g.emit("Unsqueeze", moved, missing) if missing else moved
    if rank > 4:
        images = g.reshape(moved, [*g.extents(moved, 0, 1), None, *g.extents(moved, rank - 2)])
    out = function(images)
    if missing:
        out = g.emit("Squeeze", out, missing)
    elif rank > 4:
        out = g.reshape(out, [*g.extents(moved, 0, rank - 2), *g.shape(out)[2:]])
    return g.emit("Transpose", out, perm=back) if back != list(range(rank)) else out


@lowers("nn.SpatialReSamplingEx")
def spatial_re_sampling_ex(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """To oheight by owidth (or by ratios) along yDim, xDim: bilinear with corners to corners, whole pixels (`simple`) or averages.
    Source: nnx/generic/SpatialReSamplingEx.c.
    """
    rows, columns = _two_axes(g, module, x)
    if "oheight" not in module or "owidth" not in module:
        x = g.pin(x, rows)
    before = g.fixed(x, rows, columns + 1)
    sizes = []
    for axis, (field, ratio) in enumerate((("oheight", "rheight"), ("owidth", "rwidth"))):
        rounded = math.floor(module.number(ratio, 1.0) * before[axis] + 0.5)
        sizes.append(module.integer(field, least=1) if field in module else rounded)
    if not all(1 <= size <= 1 << 20 for size in sizes) or (sizes[0] >= before[0]) != (sizes[1] >= before[1]):
        raise module.error(f"it can't make {tuple(sizes)} of {before}: it grows in both directions, or shrinks in both")
    mode = module.text("mode", "simple")
    if mode == "bilinear":
        return _on_images(g, x, rows, lambda images: _corners(g, module, images, sizes))
    if mode not in ("simple", "average"):
        raise module.error(f"mode {mode!r}; simple, average and bilinear are known")
    x = g.pin(x, rows)
    if sizes[0] < before[0] and mode == "average":
        over = [size // count for size, count in zip(before, sizes, strict=True)]

        def averaged(images: ir.Value) -> ir.Value:
            whole = [count * step for count, step in zip(sizes, over, strict=True)]
            return g.emit("AveragePool", g.emit("Slice", images, [0, 0], whole, [2, 3]), kernel_shape=over, strides=over)

        return _on_images(g, x, rows, averaged)
    for axis, old, count in zip((rows, columns), before, sizes, strict=True):
        grows = sizes[0] >= before[0]
        step = -(-count // old) if grows else old // count
        index = np.arange(count) // step if grows else np.arange(count) * step
        x = g.emit("Gather", x, g.const(index.astype(np.int64), role="pixels"), axis=axis)
    return x


@lowers("nn.SpatialUpSampling", "nn.Upsample")
def spatial_up_sampling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Each pixel dH by dW times along yDim, xDim, or `factor` times along the last two.
    Source: nnx/SpatialUpSampling.lua, fbnn/Upsample.lua.
    """
    if module.type == "nn.Upsample":
        factor = module.integer("factor", least=1)
        rows, over = g.rank(x) - 2, (factor, factor)
    else:
        rows, over = _two_axes(g, module, x)[0], (module.integer("dH", least=1), module.integer("dW", least=1))
    scales = np.array([1, 1, *over], np.float32)

    def grown(images: ir.Value) -> ir.Value:
        shape = [*g.shape(images)[:2], *(size * n for size, n in zip(g.fixed(images, 2), over, strict=True))]
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return g.emit("Resize", images, None, scales, shape=shape, **how)

    if rows < 0:
        raise module.error(f"its input of shape {g.shape(x)} has no rows and columns")
    return _on_images(g, x, rows, grown)


@lowers("nn.SpatialDownSampling")
def spatial_down_sampling(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Averages of rH by rW pixels of (C, H, W); what is left over is dropped. Source: nnx/generic/SpatialDownSampling.c."""
    over = [module.integer("rH", least=1), module.integer("rW", least=1)]
    if g.rank(x) != 3:
        raise module.error(f"its input must be (C, H, W), but has shape {g.shape(x)}")
    if any(size < n for size, n in zip(g.fixed(x, 1), over, strict=True)):
        raise module.error(f"its input of shape {g.shape(x)} is smaller than {over[0]} by {over[1]}")
    return _on_images(g, x, 1, lambda images: g.emit("AveragePool", images, kernel_shape=over, strides=over))
