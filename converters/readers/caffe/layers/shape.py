"""Layers that move numbers about."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import onnx_ir as ir

from converters.graph.builder import Dim, Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import canonical_axis, check_same_shape, known, product
from converters.readers.caffe.registry import lowers
from converters.schemas import caffe_pb2

FAR = 2**31 - 1


@lowers("Concat", view=True, keeps_count=True)
def concat(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> ir.Value:
    """Bottoms joined along `axis`. x: any shape. Source: caffe/layers/concat_layer.cpp."""
    p = layer.params.concat_param
    if p.HasField("concat_dim") and p.HasField("axis"):
        raise layer.error("both axis and concat_dim; Caffe allows one of them")
    axis = canonical_axis(g, layer, x, p.concat_dim if p.HasField("concat_dim") else p.axis)
    if not more:
        return x
    check_same_shape(g, layer, [x, *more], but=axis)
    return g.emit("Concat", x, *more, axis=axis)


@lowers("Slice", view=True)
def slice_layer(g: GraphBuilder, layer: Layer, x: ir.Value) -> list[ir.Value]:
    """Its bottom cut along `axis`, at slice_point or into equal parts. x: any shape. Source: caffe/layers/slice_layer.cpp."""
    p = layer.params.slice_param
    if p.HasField("slice_dim") and p.HasField("axis"):
        raise layer.error("both axis and slice_dim; Caffe allows one of them")
    axis = canonical_axis(g, layer, x, p.slice_dim if p.HasField("slice_dim") else p.axis)
    count = len(layer.tops)
    if count == 1 and not p.slice_point:
        return [x]
    length = g.fixed(x, axis, axis + 1)[0]
    points = list(p.slice_point)
    if points:
        if len(points) != count - 1:
            raise layer.error(f"has {len(points)} slice_point for {count} tops; it needs {count - 1}")
        edges = [0, *points, length]
        if any(a >= b for a, b in itertools.pairwise(edges)):
            raise layer.error(f"slice_point {points} must rise, and lie within the {length} of axis {axis}")
        lengths = [b - a for a, b in itertools.pairwise(edges)]
        sizes: list[int | Extent] = [*lengths[:-1], Extent(x, axis, plus=-points[-1])]  # of another image, the last part is longer
    else:
        if length % count:
            raise layer.error(f"{length} along axis {axis} can't be cut into {count} equal parts")
        lengths, sizes = [length // count] * count, [Extent(x, axis, over=count)] * count
    parts = g.emit_all("Split", x, g.sizes(sizes) if axis > 1 else lengths, axis=axis, outputs=count)
    for part, size in zip(parts, lengths, strict=True):
        part.shape = ir.Shape([*g.shape(x)[:axis], size, *g.shape(x)[axis + 1 :]])
    return list(parts)


@lowers("Split", in_place=True, view=True, keeps_count=True)
def split(g: GraphBuilder, layer: Layer, x: ir.Value) -> list[ir.Value]:
    """Its bottom, under several names. x: any shape. Source: caffe/layers/split_layer.cpp."""
    return [x] * len(layer.tops)


@lowers("Flatten", in_place=False, view=True, keeps_count=True)
def flatten(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Axes from `axis` to `end_axis` made one. x: any shape. Source: caffe/layers/flatten_layer.cpp."""
    p = layer.params.flatten_param
    start = canonical_axis(g, layer, x, p.axis)
    end = canonical_axis(g, layer, x, p.end_axis, "end_axis")
    if end < start - 1:  # right before it is legal: no axes are made one of length 1
        raise layer.error(f"end_axis {p.end_axis} lies before axis {p.axis}")
    joined: Dim | Extent = 1 if end < start else Extent(x, start) if end == start else None
    return g.reshape(x, [*g.extents(x, 0, start), joined, *g.extents(x, end + 1)])


@lowers("Reshape", in_place=False, view=True, keeps_count=True)
def reshape_layer(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Axes from `axis` on (num_axes of them) in another shape: 0 keeps a dimension, -1 takes what is left.

    x: any shape. Source: caffe/layers/reshape_layer.cpp.
    """
    p = layer.params.reshape_param
    rank = g.rank(x)
    start = p.axis if p.axis >= 0 else rank + p.axis + 1
    if not 0 <= start <= rank:
        raise layer.error(f"axis {p.axis} doesn't exist: its bottom has {rank} axes")
    if p.num_axes < -1:
        raise layer.error(f"num_axes {p.num_axes}; it is at least -1")
    end = rank if p.num_axes == -1 else start + p.num_axes
    if end > rank:
        raise layer.error(f"num_axes {p.num_axes} from axis {p.axis} on reach behind the {rank} axes of its bottom")
    wanted = list(p.shape.dim)
    if wanted.count(-1) > 1 or any(d < -1 for d in wanted):
        raise layer.error(f"the shape {wanted} may hold one -1, and nothing below")
    dims: list[Dim | Extent] = []
    for position, dim in enumerate(wanted):
        if dim == 0 and start + position >= rank:
            raise layer.error(f"dim 0 in place {position} keeps a dimension that its bottom of shape {g.shape(x)} doesn't have")
        dims.append(Extent(x, start + position) if dim == 0 else None if dim == -1 else dim)
    _check_count(g, layer, x, start, end, wanted)
    return g.reshape(x, [*g.extents(x, 0, start), *dims, *g.extents(x, end)], absolute=any(dim > 0 for dim in wanted))


def _check_count(g: GraphBuilder, layer: Layer, x: ir.Value, start: int, end: int, wanted: list[int]) -> None:
    """Raises ConversionError where axes start to end of x don't have as many elements as the wanted shape."""
    shape = g.shape(x)
    replaced = list(shape[start:end])
    made: list[Dim] = [shape[start + position] if dim == 0 else dim for position, dim in enumerate(wanted)]
    symbols = [d for d in replaced if not isinstance(d, int)]
    kept = [d for d in made if not isinstance(d, int)]
    if symbols and symbols != kept and not (wanted[:1] == [-1] and not kept):
        g.fixed(x)  # the number behind the batch decides
    total, part = product(known(replaced)), product([d for d in known(made) if d != -1])
    whole = (*shape[:start], *made, *shape[end:])
    if -1 not in wanted:
        if total != part:
            raise layer.error(f"{shape} can't become {whole}: {total} elements are not {part}")
    elif (part < 1 or total % part) and not (symbols and not kept):
        raise layer.error(f"{shape} can't become {whole}: {total} isn't a multiple of {part}")


@lowers("Crop")
def crop(g: GraphBuilder, layer: Layer, x: ir.Value, like: ir.Value) -> ir.Value:
    """x cut to the size of its second bottom, from `axis` on, at offsets. x: any shape. Source: caffe/layers/crop_layer.cpp."""
    p = layer.params.crop_param
    if layer.apart:
        g.warn(
            "has no crop_param, so that it cuts from the first row and column, as in BVLC's Caffe; the forks of the first FCN and of HED "
            f"cut where its bottoms lie upon each other, {layer.apart[0]} rows and {layer.apart[1]} columns further "
            "(--define CROP_BY_GEOMETRY=1)"
        )
    axis = canonical_axis(g, layer, x, p.axis)
    if g.rank(like) != g.rank(x):
        raise layer.error(f"its bottoms must have as many axes, but they are {g.shape(x)} and {g.shape(like)}")
    sizes, wanted = g.fixed(x, axis), g.fixed(like, axis)
    offsets = list(p.offset) or [0]
    if len(offsets) not in (1, len(sizes)):
        raise layer.error(f"has {len(offsets)} offsets for {len(sizes)} axes")
    offsets = offsets if len(offsets) == len(sizes) else offsets * len(sizes)
    if any(offset + length > size for offset, length, size in zip(offsets, wanted, sizes, strict=True)):
        raise layer.error(f"offset {offsets} plus size {list(wanted)} reach behind {list(sizes)}")
    ends = g.sizes([Extent(like, at, plus=offset) for at, offset in enumerate(offsets, axis)])
    y = g.emit("Slice", x, offsets, ends, list(range(axis, g.rank(x))), shape=[*g.shape(x)[:axis], *wanted])
    # A slice that reaches behind x is shorter than asked for: the sizes say so.
    return g.reshape(y, [*g.extents(y, 0, axis), *g.extents(like, axis)], absolute=True)


@lowers("Tile")
def tile(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Copies side by side along `axis`. x: any shape. Source: caffe/layers/tile_layer.cpp."""
    p = layer.params.tile_param
    axis = canonical_axis(g, layer, x, p.axis)
    if p.tiles < 1:
        raise layer.error(f"tiles {p.tiles}; it is at least 1")
    repeats = [1] * g.rank(x)
    repeats[axis] = p.tiles
    return g.emit("Tile", x, repeats) if p.tiles > 1 else x


@lowers("Permute", keeps_count=True)
def permute(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Axes in another order; those that aren't named follow. x: any shape. Source: SSD's permute_layer.cpp."""
    order = list(layer.params.permute_param.order)
    rank = g.rank(x)
    if len(set(order)) < len(order) or any(axis >= rank for axis in order):
        raise layer.error(f"order {order} must name different axes of its bottom, which has {rank}")
    order += [axis for axis in range(rank) if axis not in order]
    return g.emit("Transpose", x, perm=order) if order != sorted(order) else x


@lowers("ShuffleChannel")
def shuffle_channel(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Channels of `group` groups dealt out in turn. x: (N, C, ...). Source: ShuffleNet's shuffle_channel_layer.cpp."""
    group = layer.params.shuffle_channel_param.group
    (channels,) = g.fixed(x, 1, 2)
    if group < 1 or channels % group:
        raise layer.error(f"group {group} doesn't divide {channels} channels")
    apart = g.reshape(x, [Extent(x, 0), group, channels // group, None])
    mixed = g.emit("Transpose", apart, perm=[0, 2, 1, 3])
    return g.reshape(mixed, [Extent(mixed, 0), channels, *g.extents(x, 2)])


@lowers("Reorg")
def reorg(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Pixels dealt out to channels in darknet's order, or back (reverse).

    x: (N, C, H, W) to (N, C * stride^2, H / stride, W / stride), or (N, C / stride^2, H * stride, W * stride).
    Source: caffe-yolov2's reorg_layer.cpp.
    """
    p = layer.params.reorg_param
    s = p.stride
    channels, height, width = g.fixed(x, 1) if g.rank(x) == 4 else (0, 0, 0)
    if s < 1 or channels < 1 or channels % (s * s) or (not p.reverse and (height % s or width % s)):
        raise layer.error(f"stride {s} doesn't fit a bottom of shape {g.shape(x)}")
    few = channels // (s * s)
    if p.reverse:
        apart = g.reshape(x, [Extent(x, 0), s, s, few, Extent(x, 2), Extent(x, 3)])
        moved = g.emit("Transpose", apart, perm=[0, 3, 4, 1, 5, 2])
        return g.reshape(moved, [Extent(x, 0), few, Extent(x, 2, times=s), Extent(x, 3, times=s)])
    apart = g.reshape(x, [Extent(x, 0), few, Extent(x, 2), s, Extent(x, 3), s])  # another view of the same memory
    moved = g.emit("Transpose", apart, perm=[0, 3, 5, 1, 2, 4])
    return g.reshape(moved, [Extent(x, 0), channels * s * s, Extent(x, 2, over=s), Extent(x, 3, over=s)])


@lowers("BatchReindex")
def batch_reindex(g: GraphBuilder, layer: Layer, x: ir.Value, index: ir.Value) -> ir.Value:
    """Items of the batch picked by index. x: (N, ...), index: (M). Source: caffe/layers/batch_reindex_layer.cpp."""
    if g.rank(index) != 1:
        raise layer.error(f"its second bottom must have one axis, not {g.rank(index)}")
    return g.emit("Gather", x, g.emit("Cast", index, to=ir.DataType.INT64), axis=0)


@lowers("Filter")
def filter_layer(g: GraphBuilder, layer: Layer, x: ir.Value, *more: ir.Value) -> list[ir.Value]:
    """Items of the batch whose selector, the last bottom, isn't 0. x: (N, ...), selector: (N, 1 ...).

    Source: caffe/layers/filter_layer.cpp.
    """
    if not more:
        raise layer.error("has 1 bottom; it takes at least 2")
    *rest, selector = more
    if any(d != 1 for d in g.shape(selector)[1:]):
        raise layer.error(f"its selector must have one value for each item, but has shape {g.shape(selector)}")
    chosen = g.emit("Cast", g.reshape(selector, [Extent(selector, 0)]), to=ir.DataType.BOOL)
    return [g.emit("Compress", value, chosen, axis=0) for value in (x, *rest)]


def _blocks(g: GraphBuilder, layer: Layer, x: ir.Value, p: caffe_pb2.BatchSpaceParameter, around: Sequence[int]) -> tuple[int, int]:
    """The block's height and width. around: pads or crops. Raises ConversionError for what the layer has no meaning for."""
    if p.data_format != "NHWC":
        raise layer.error(f"data_format {p.data_format}; the layer reads (N, H, W, C) whatever it says, so that only NHWC is taken")
    blocks = list(p.block_shape)
    if len(blocks) != 2 or g.rank(x) != 4 or min(blocks) < 1:
        raise layer.error(f"block_shape {blocks} on {g.shape(x)}; known are two sizes above 0 and four axes")
    if len(around) != 4:
        raise layer.error(f"has {len(around)} crops or paddings; two blocks take 4")
    return blocks[0], blocks[1]


@lowers("SpaceToBatchND")
def space_to_batch(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Pixels of each block dealt out to images of their own, after padding with zeros.

    x: (N, H, W, C) to (N * blocks, H / block, W / block, C), all images of the first pixel first.
    Source: synopsys-caffe's space_to_batch_nd_layer.cpp.
    """
    p = layer.params.space_to_batch_nd_param
    high, wide = _blocks(g, layer, x, p, p.paddings)
    top, bottom, left, right = p.paddings
    x = g.emit("Pad", x, [0, top, left, 0, 0, bottom, right, 0]) if any(p.paddings) else x
    height, width, channels = g.fixed(x, 1)
    if height % high or width % wide:
        raise layer.error(f"blocks of {high} x {wide} don't divide {height} x {width}")
    apart = g.reshape(x, [Extent(x, 0), Extent(x, 1, over=high), high, Extent(x, 2, over=wide), wide, channels])
    moved = g.emit("Transpose", apart, perm=[2, 4, 0, 1, 3, 5])
    return g.reshape(moved, [Extent(x, 0, times=high * wide), Extent(x, 1, over=high), Extent(x, 2, over=wide), channels])


@lowers("BatchToSpaceND")
def batch_to_space(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Images put together, one for each pixel of a block, and cropped: SpaceToBatchND's inverse.

    x: (N * blocks, H, W, C) to (N, H * block, W * block, C). Source: synopsys-caffe's batch_to_space_nd_layer.cpp.
    """
    p = layer.params.batch_to_space_nd_param
    high, wide = _blocks(g, layer, x, p, p.crops)
    top, bottom, left, right = p.crops
    height, width, channels = g.fixed(x, 1)
    images = g.shape(x)[0]
    if isinstance(images, int) and images % (high * wide):
        raise layer.error(f"{images} images aren't a multiple of {high} x {wide}")
    if top + bottom >= height * high or left + right >= width * wide:
        raise layer.error(f"crops {list(p.crops)} leave nothing of {height * high} x {width * wide}")
    apart = g.reshape(x, [high, wide, Extent(x, 0, over=high * wide), Extent(x, 1), Extent(x, 2), channels])
    moved = g.emit("Transpose", apart, perm=[2, 3, 0, 4, 1, 5])
    y = g.reshape(moved, [Extent(x, 0, over=high * wide), Extent(x, 1, times=high), Extent(x, 2, times=wide), channels])
    if not any(p.crops):
        return y
    return g.emit("Slice", y, [top, left], [-bottom or FAR, -right or FAR], [1, 2])
