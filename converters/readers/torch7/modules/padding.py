"""Borders around images, volumes and sequences, and their removal: nn/Padding.lua, nn/Spatial*Padding.lua."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.torch7.module import Module, lowers

_END = (1 << 63) - 1
"""Behind the last entry of any axis, for Slice."""


@lowers("nn.Padding")
def padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """|pad| cells of `value` along dim: at the front where pad < 0, at the end where pad > 0. Source: nn/Padding.lua."""
    rank = g.rank(x)
    dims = module.integer("nInputDim", None)
    dim = module.integer("dim", least=1) + (dims is not None and rank != dims)
    if dim > rank:
        raise module.error(f"dim {dim} doesn't fit its input of shape {g.shape(x)}")
    axis = dim - 1
    pad, value, index = module.integer("pad"), module.number("value", 0.0), module.integer("index", 1)
    amounts = [0] * (2 * rank)
    if index == 1:
        amounts[axis if pad < 0 else rank + axis] = abs(pad)
        return g.emit("Pad", x, amounts, value) if pad else x
    (size,) = g.fixed(x, axis, axis + 1)
    at = size - index + 2 if pad > 0 else index
    if not 1 <= at <= size + 1:
        raise module.error(f"index {index} doesn't fit its input of shape {g.shape(x)}")
    amounts[axis if at == 1 else rank + axis] = abs(pad)
    if at in (1, size + 1):
        return g.emit("Pad", g.pin(x, axis), amounts, value)
    place = 1 - index if pad > 0 else index - 1  # counted from the end, or from the start
    first = g.emit("Slice", x, [0], [place], [axis])
    second = g.emit("Slice", x, [place], [_END], [axis])
    return g.emit("Concat", g.emit("Pad", first, amounts, value), second, axis=axis)


@lowers("nn.SpatialZeroPadding", keeps_channels=True)
def spatial_zero_padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Zeros around (or negative: crops of) the last two dimensions. Source: nn/SpatialZeroPadding.lua."""
    return _pad_space(g, module, x, ("pad_t", "pad_l"), ("pad_b", "pad_r"), "constant", (3, 4))


@lowers("nn.SpatialPadding")
def spatial_padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """Cells of `val` around (or negative: crops of) the dimensions y_dim and x_dim, which count a batch. Source: nnx/SpatialPadding.lua."""
    rank = g.rank(x)
    axes = [module.integer("y_dim", 2, least=1) - 1, module.integer("x_dim", 3, least=1) - 1]
    if max(axes) >= rank or axes[0] == axes[1]:
        raise module.error(f"y_dim {axes[0] + 1} and x_dim {axes[1] + 1} don't fit its input of shape {g.shape(x)}")
    first, last = [module.integer(field) for field in ("pad_t", "pad_l")], [module.integer(field) for field in ("pad_b", "pad_r")]
    amounts = [0] * (2 * rank)
    for axis, before, behind in zip(axes, first, last, strict=True):
        (size,) = g.fixed(x, axis, axis + 1)
        if size + min(before, 0) + min(behind, 0) < 1:
            raise module.error(f"pads {before} and {behind} leave nothing of {size} cells")
        if min(before, behind) < 0:
            x = g.emit("Slice", x, [max(0, -before)], [behind if behind < 0 else _END], [axis])
        amounts[axis], amounts[rank + axis] = max(before, 0), max(behind, 0)
    return g.emit("Pad", x, amounts, module.number("val", 0.0)) if any(amounts) else x


@lowers("nn.SpatialReflectionPadding", keeps_channels=True)
def spatial_reflection_padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The image mirrored at its edges, which don't repeat. Source: THNN/generic/SpatialReflectionPadding.c."""
    return _pad_space(g, module, x, ("pad_t", "pad_l"), ("pad_b", "pad_r"), "reflect", (3, 4))


@lowers("nn.SpatialReplicationPadding", keeps_channels=True)
def spatial_replication_padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The image with its edges repeated. Source: THNN/generic/SpatialReplicationPadding.c."""
    return _pad_space(g, module, x, ("pad_t", "pad_l"), ("pad_b", "pad_r"), "edge", (3, 4))


@lowers("nn.VolumetricReplicationPadding")
def volumetric_replication_padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The volume with its faces repeated. Source: THNN/generic/VolumetricReplicationPadding.c."""
    return _pad_space(g, module, x, ("pfront", "ptop", "pleft"), ("pback", "pbottom", "pright"), "edge", (4, 5))


def _pad_space(
    g: GraphBuilder, module: Module, x: ir.Value, before: Sequence[str], behind: Sequence[str], mode: str, ranks: tuple[int, int]
) -> ir.Value:
    rank = g.rank(x)
    if rank not in ranks:
        raise module.error(f"its input must have {ranks[0]} or {ranks[1]} dimensions, but has shape {g.shape(x)}")
    first, last = [module.integer(field, 0) for field in before], [module.integer(field, 0) for field in behind]
    axes = list(range(rank - len(first), rank))
    # crops first: a mirrored or repeated edge is that of the cropped image, and so it is for every runtime
    if min(first + last) < 0:
        sizes = g.fixed(x, axes[0])
        starts = [max(0, -n) for n in first]
        ends = [size + min(0, n) for size, n in zip(sizes, last, strict=True)]
        if any(end <= start for start, end in zip(starts, ends, strict=True)):
            raise module.error(f"pads {first} and {last} leave nothing of its input of shape {g.shape(x)}")
        x = g.emit("Slice", x, starts, [n if n < 0 else _END for n in last], axes)
    first, last = [max(0, n) for n in first], [max(0, n) for n in last]
    if mode == "reflect":
        sizes = g.fixed(x, axes[0])
        if any(max(a, b) >= size for a, b, size in zip(first, last, sizes, strict=True)):
            raise module.error(f"pads {first} and {last} are too large to mirror an image of {sizes}")
    if not any(first + last):
        return x
    still = [0] * (rank - len(first))
    return g.emit("Pad", x, [*still, *first, *still, *last], mode=None if mode == "constant" else mode)


@lowers("nn.ShaveImage")
def shave_image(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """(N, C, H, W) without `size` pixels at each edge. Source: fast-neural-style/ShaveImage.lua."""
    size = module.integer("size", least=0)
    if g.rank(x) != 4:
        raise module.error(f"its input must be (N, C, H, W), but has shape {g.shape(x)}")
    if min(g.fixed(x, 2)) <= 2 * size:
        raise module.error(f"{size} pixels at each edge leave nothing of {g.shape(x)}")
    return g.emit("Slice", x, [size, size], [-size, -size], [2, 3]) if size else x


@lowers("nn.SpatialSymmetricPadding", keeps_channels=True)
def spatial_symmetric_padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The image mirrored at its edges, which repeat (cba|abcd); negative pads crop first. Source: deepmask/SpatialSymmetricPadding.lua."""
    rank = g.rank(x)
    if rank not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {g.shape(x)}")
    for axis, fields in ((rank - 2, ("pad_t", "pad_b")), (rank - 1, ("pad_l", "pad_r"))):
        before, behind = (module.integer(field, 0) for field in fields)
        if min(before, behind) < 0:
            x = g.emit("Slice", x, [max(0, -before)], [behind if behind < 0 else _END], [axis])
        (size,) = g.fixed(x, axis, axis + 1)
        if max(before, behind) > size:
            raise module.error(f"pads {before} and {behind} are too large to mirror {size} pixels")
        parts = [g.emit("Slice", x, [before - 1], [-_END], [axis], [-1])] if before > 0 else []
        parts.append(x)
        parts += [g.emit("Slice", x, [-1], [-behind - 1], [axis], [-1])] if behind > 0 else []
        x = g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else x
    return x


@lowers("nn.SpatialUniformCrop")
def spatial_uniform_crop(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """oheight by owidth pixels from pixel ceil((size - crop) / 2), counted from 1, on. Source: dpnn/SpatialUniformCrop.lua."""
    rank = g.rank(x)
    crop = [module.integer("oheight", least=1), module.integer("owidth", least=1)]
    starts = [-(-(size - n) // 2) - 1 for size, n in zip(g.fixed(x, rank - 2), crop, strict=True)]
    if rank not in (3, 4) or min(starts) < 0:
        raise module.error(f"a crop to {tuple(crop)} doesn't fit its input of shape {g.shape(x)}, which must be larger")
    return g.emit("Slice", g.pin(x, rank - 2), starts, [s + n for s, n in zip(starts, crop, strict=True)], [rank - 2, rank - 1])


@lowers("nn.SpatialCircularPadding", keeps_channels=True, any_size=True)
def spatial_circular_padding(g: GraphBuilder, module: Module, x: ir.Value) -> ir.Value:
    """The image wrapped around at its edges. Source: texture_nets/src/SpatialCircularPadding.lua."""
    rank = g.rank(x)
    if rank not in (3, 4):
        raise module.error(f"its input must be (N, C, H, W) or (C, H, W), but has shape {g.shape(x)}")
    for axis, fields in ((rank - 2, ("pad_t", "pad_b")), (rank - 1, ("pad_l", "pad_r"))):
        before, behind = (module.integer(field, 0, least=0) for field in fields)
        size = g.shape(x)[axis]
        if isinstance(size, int) and max(before, behind) > size:
            raise module.error(f"pads {before} and {behind} are too large to wrap {size} pixels")
        parts = [g.emit("Slice", x, [-before], [_END], [axis])] if before else []
        parts.append(x)
        parts += [g.emit("Slice", x, [0], [behind], [axis])] if behind else []
        x = g.emit("Concat", *parts, axis=axis) if len(parts) > 1 else x
    return x
