"""Spatial transformers: matrices, grids and what is sampled at them. Sources: stnbhwd, densecap/modules."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, lowers
from converters.readers.torch7.references import Values


@lowers("nn.AffineTransformMatrixGenerator")
def affine_transform_matrix_generator(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(N, k) -> (N, 2, 3): [s R | s R t] of a rotation, a scale and a translation, those that are used; of none, x as it is.
    Source: stnbhwd/AffineTransformMatrixGenerator.lua.
    """
    single = g.rank(x) == 1
    batch = g.emit("Unsqueeze", x, [0]) if single else x
    rotates, scales, moves = (module.flag(f"use{word}") for word in ("Rotation", "Scale", "Translation"))
    full = not (rotates or scales or moves)
    count = 6 if full else rotates + scales + 2 * moves
    if g.rank(batch) != 2 or g.fixed(batch, 1) != (count,):
        raise module.error(f"it takes {count} numbers for each sample, but its input has shape {g.shape(x)}")
    if full:
        out = g.reshape(batch, [g.shape(batch)[0], 2, 3])
        return g.emit("Squeeze", out, [0]) if single else out
    columns = [g.emit("Slice", batch, [n], [n + 1], [1]) for n in range(count)] if count > 1 else [batch]
    one = g.emit("Add", g.emit("Mul", columns[0], 0.0), 1.0)
    nothing = g.emit("Mul", columns[0], 0.0)
    sine, cosine = (g.emit("Sin", columns[0]), g.emit("Cos", columns[0])) if rotates else (nothing, one)
    scale = columns[int(rotates)] if scales else one
    a, b = g.emit("Mul", scale, cosine), g.emit("Mul", scale, sine)
    minus = g.emit("Neg", b)
    first, second = (columns[-2], columns[-1]) if moves else (nothing, nothing)
    shift = (
        g.emit("Add", g.emit("Mul", a, first), g.emit("Mul", minus, second)),
        g.emit("Add", g.emit("Mul", b, first), g.emit("Mul", a, second)),
    )
    out = g.reshape(g.emit("Concat", a, minus, shift[0], b, a, shift[1], axis=1), [g.shape(batch)[0], 2, 3])
    return g.emit("Squeeze", out, [0]) if single else out


@lowers("nn.AffineGridGeneratorBHWD")
def affine_grid_generator(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(N, 2, 3) matrices -> (N, H, W, 2): M (y, x, 1) at each place, from -1 to 1, y first. Source: stnbhwd/AffineGridGeneratorBHWD.lua."""
    height, width = module.integer("height", least=2), module.integer("width", least=2)
    single = g.rank(x) == 2
    batch = g.emit("Unsqueeze", x, [0]) if single else x
    if g.rank(batch) != 3 or g.fixed(batch, 1) != (2, 3):
        raise module.error(f"its input must be (N, 2, 3), but has shape {g.shape(x)}")
    rows, columns = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    places = np.stack([rows, columns, np.ones_like(rows)], -1).reshape(-1, 3).astype(module.dtype)
    grid = g.emit("MatMul", g.const(places, role="grid"), g.emit("Transpose", batch, perm=[0, 2, 1]))
    out = g.reshape(grid, [g.shape(batch)[0], height, width, 2])
    return g.emit("Squeeze", out, [0]) if single else out


def _sampled(g: GraphBuilder, images: ir.Value, grids: ir.Value) -> ir.Value:
    """(N, H, W, C) at (N, h, w, 2) places (y, x): bilinear, corners are corners, zeros outside."""
    planes = g.emit("Transpose", images, perm=[0, 3, 1, 2])
    rows, columns = g.emit_all("Split", grids, [1, 1], outputs=2, axis=3)  # of any other number than two it is an error
    swapped = g.emit("Concat", columns, rows, axis=3)
    return g.emit("Transpose", g.emit("GridSample", planes, swapped, mode="bilinear", align_corners=1), perm=[0, 2, 3, 1])


@lowers("nn.BilinearSamplerBHWD", tables=True)
def bilinear_sampler(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{images (N, H, W, C), grids (N, h, w, 2)} -> (N, h, w, C); each tap outside is zero.
    Source: stnbhwd/generic/BilinearSamplerBHWD.c.
    """
    images, grids = module.tensors(x, 2)
    single = g.rank(images) == 3
    if single and g.rank(grids) == 3:
        images, grids = g.emit("Unsqueeze", images, [0]), g.emit("Unsqueeze", grids, [0])
    if g.rank(images) != 4 or g.rank(grids) != 4 or g.shape(grids)[3] != 2:
        raise module.error(f"its input must be (N, H, W, C) and (N, h, w, 2), but has shapes {g.shape(images)} and {g.shape(grids)}")
    out = _sampled(g, images, grids)
    return g.emit("Squeeze", out, [0]) if single else out


@lowers("nn.BatchBilinearSamplerBHWD", tables=True)
def batch_bilinear_sampler(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{image (H, W, C), grids (B, h, w, 2)} -> (B, h, w, C). Source: densecap/modules/BatchBilinearSamplerBHWD.lua."""
    image, grids = module.tensors(x, 2)
    if g.rank(image) != 3 or g.rank(grids) != 4 or g.shape(grids)[3] != 2:
        raise module.error(f"its input must be (H, W, C) and (B, h, w, 2), but has shapes {g.shape(image)} and {g.shape(grids)}")
    width, channels = g.fixed(grids, 2, 3)[0], g.fixed(image, 2)[0]
    tall = g.reshape(grids, [1, None, width, 2])  # all grids of the one image, below one another
    out = _sampled(g, g.emit("Unsqueeze", image, [0]), tall)
    return g.reshape(out, [*g.extents(grids, 0, 3), channels])


@lowers("nn.BoxToAffine")
def box_to_affine(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Boxes (B, 4), center x, y, width and height in an image of H by W -> (B, 2, 3), rows y, x.
    Source: densecap/modules/BoxToAffine.lua.
    """
    height, width = module.number("H"), module.number("W")
    if g.rank(x) != 2 or g.fixed(x, 1) != (4,) or min(height, width) <= 1:
        raise module.error(f"its input must be (B, 4) in an image of more than one pixel, but has shape {g.shape(x)}")
    xc, yc, w, h = g.emit_all("Split", x, [1, 1, 1, 1], outputs=4, axis=1)
    nothing = g.emit("Mul", xc, 0.0)
    cells = [
        g.emit("Div", h, height),
        nothing,
        g.emit("Div", g.emit("Sub", g.emit("Mul", yc, 2.0), height + 1.0), height - 1.0),
        nothing,
        g.emit("Div", w, width),
        g.emit("Div", g.emit("Sub", g.emit("Mul", xc, 2.0), width + 1.0), width - 1.0),
    ]
    return g.reshape(g.emit("Concat", *cells, axis=1), [g.shape(x)[0], 2, 3])


@lowers("nn.SpatialGlimpse", tables=True)
def spatial_glimpse(g: GraphBuilder, module: Module, x: Values) -> ir.Value:
    """{images, (y, x)}: crops of growing size around a place, zeros outside, each averaged down to height by width (interpolated, where
    scale isn't 2), depths before channels. Source: dpnn/SpatialGlimpse.lua.
    """
    images, places = module.tensors(x, 2)
    single = g.rank(images) == 3
    if single:
        images, places = g.emit("Unsqueeze", images, [0]), g.emit("Unsqueeze", places, [0])
    height, width = module.integer("height", least=1), module.integer("width", least=1)
    scale, depth = module.number("scale", 2.0), module.integer("depth", 3, least=1)
    if g.rank(images) != 4 or g.rank(places) != 2 or g.fixed(places, 1) != (2,):
        raise module.error(f"its input must be (N, C, H, W) and (N, 2), but has shapes {g.shape(images)} and {g.shape(places)}")
    channels = g.fixed(images, 1)[0]
    half = g.emit("Mul", g.emit("Add", places, 1.0), 0.5)
    made: list[ir.Value] = []
    tall, wide = height, width
    for _ in range(depth):
        if not 1 <= min(tall, wide) <= max(tall, wide) <= 1 << 16:
            raise module.error(f"scale {scale:g} makes crops of {tall} by {wide}")
        crop = _glimpse(g, images, half, tall, wide)
        made.append(_shrunk(g, crop, height, width, average=scale == 2) if made else crop)
        tall, wide = math.floor(tall * scale), math.floor(wide * scale)
    out = g.emit("Concat", *made, axis=1) if depth > 1 else made[0]
    out = g.reshape(out, [g.shape(images)[0], depth * channels, height, width])
    return g.emit("Squeeze", out, [0]) if single else out


def _shrunk(g: GraphBuilder, crop: ir.Value, height: int, width: int, *, average: bool) -> ir.Value:
    """(N, C, height n, width n) averaged over squares of n pixels, or any crop interpolated, corners to corners."""
    if not average:
        every = g.sizes([*g.extents(crop, 0, 2), height, width])
        shape = [*g.shape(crop)[:2], height, width]
        return g.emit("Resize", crop, None, None, every, mode="linear", coordinate_transformation_mode="align_corners", shape=shape)
    over = [size // count for size, count in zip(g.fixed(crop, 2), (height, width), strict=True)]
    return g.emit("AveragePool", crop, kernel_shape=over, strides=over)


def _glimpse(g: GraphBuilder, images: ir.Value, half: ir.Value, height: int, width: int) -> ir.Value:
    """One crop of each image. half: (N, 2), y and x from 0 to 1."""
    rows, columns = (height - 1) // 2, (width - 1) // 2
    padded = g.emit("Pad", images, [0, 0, rows, columns, 0, 0, rows, columns], 0.0)
    sizes = [size + 2 * pad for size, pad in zip(g.fixed(g.pin(images, 2), 2), (rows, columns), strict=True)]
    starts = []
    for axis, (size, cut) in enumerate(zip(sizes, (height, width), strict=True)):
        at = g.emit("Mul", g.emit("Slice", half, [axis], [axis + 1], [1]), float(size - cut))
        at = g.emit("Floor", g.emit("Min", g.emit("Max", at, 0.0), float(size - cut)))
        starts.append(g.emit("Cast", at, to=int(ir.DataType.INT64)))
    y = g.emit("Add", starts[0], np.arange(height, dtype=np.int64)[None])
    cropped = _taken(g, padded, g.emit("Unsqueeze", y, [1, 3]), 2, g.shape(padded)[3])
    x = g.emit("Add", starts[1], np.arange(width, dtype=np.int64)[None])
    return _taken(g, cropped, g.emit("Unsqueeze", x, [1, 2]), 3, height)


def _taken(g: GraphBuilder, images: ir.Value, indices: ir.Value, axis: int, other: object) -> ir.Value:
    """Rows (axis 2) or columns (axis 3) of each image by indices (N, 1, h, 1) or (N, 1, 1, w)."""
    dims = [*g.extents(images)[:2], *(g.extents(indices)[n] if n == axis else g.extents(images)[n] for n in (2, 3))]
    shape = [*g.shape(images)[:2], *(g.shape(indices)[n] if n == axis else g.shape(images)[n] for n in (2, 3))]
    return g.emit("GatherElements", images, g.emit("Expand", indices, g.sizes(dims), shape=shape), axis=axis)
