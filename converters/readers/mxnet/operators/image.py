"""Preparing images. Sources: mxnet src/operator/image/image_random.cc, crop.cc; src/operator/nn/im2col.h."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Floats, Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.convolution import spatial
from converters.readers.mxnet.operators.resampling import image_sizes
from converters.readers.mxnet.signature import lowers


def _pixels(g: OperatorBuilder, data: ir.Value) -> int:
    """The rank of an image (H, W, C) or a batch of them."""
    rank = g.rank(data)
    if rank not in (3, 4):
        raise g.error(f"an image or a batch of images is needed, but the input has shape {g.shape(data)}")
    return rank


@lowers("_image_to_tensor", "_npx__image_to_tensor")
def to_tensor(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """(H, W, C) of 0..255 to (C, H, W) of 0..1, or a batch of them. Source: mxnet src/operator/image/image_random-inl.h."""
    rank = _pixels(g, data)
    moved = g.emit("Transpose", data, perm=[2, 0, 1] if rank == 3 else [0, 3, 1, 2])
    return g.emit("Div", g.cast(moved, np.float32), 255.0)


@lowers("_image_normalize", "_npx__image_normalize")
def normalize(g: OperatorBuilder, data: ir.Value, *, mean: Floats = (0.0, 0.0, 0.0, 0.0), std: Floats = (1.0, 1.0, 1.0, 1.0)) -> ir.Value:
    """(x - mean) / std for each channel of (C, H, W), or a batch of them. Source: mxnet src/operator/image/image_random-inl.h."""
    rank = _pixels(g, data)
    count = g.fixed(data, rank - 3, rank - 2)[0]
    means, stds = (list(v) * count if len(v) == 1 else list(v)[:count] for v in (mean, std))
    if len(means) != count or len(stds) != count:
        raise g.error(f"mean {mean} and std {std} don't fit {count} channels")
    a, b = (g.const(np.array(v, g.dtype(data)).reshape(count, 1, 1)) for v in (means, stds))
    return g.emit("Div", g.emit("Sub", data, a), b)


@lowers("_image_crop", "_npx__image_crop")
def crop(g: OperatorBuilder, data: ir.Value, *, x: int, y: int, width: int, height: int) -> ir.Value:
    """A window of (H, W, C), or of a batch of them. Source: mxnet src/operator/image/crop-inl.h."""
    rank = _pixels(g, data)
    sizes = g.fixed(data, rank - 3, rank - 1)
    if min(x, y) < 0 or min(width, height) < 1 or y + height > sizes[0] or x + width > sizes[1]:
        raise g.error(f"a window of {height} x {width} at ({y}, {x}) doesn't lie in the image of {sizes[0]} x {sizes[1]}")
    window = g.emit("Slice", data, [y, x], [y + height, x + width], [rank - 3, rank - 2])
    whole = [*g.shape(data)[: rank - 3], height, width, *g.extents(data, rank - 1)]
    return g.reshape(window, whole, absolute=True)  # of an image that is too small it is an error


def _flipped(g: OperatorBuilder, data: ir.Value, axis: int) -> ir.Value:
    return g.emit("Slice", data, [2**63 - 1], [-(2**63 - 1)], [axis], [-1])


@lowers("_image_flip_left_right", "_npx__image_flip_left_right")
def flip_left_right(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """(H, W, C) mirrored left to right. Source: mxnet src/operator/image/image_random-inl.h."""
    return _flipped(g, data, _pixels(g, data) - 2)


@lowers("_image_flip_top_bottom", "_npx__image_flip_top_bottom")
def flip_top_bottom(g: OperatorBuilder, data: ir.Value) -> ir.Value:
    """(H, W, C) turned upside down. Source: mxnet src/operator/image/image_random-inl.h."""
    return _flipped(g, data, _pixels(g, data) - 3)


@lowers("_image_resize", "_npx__image_resize")
def resize(g: OperatorBuilder, data: ir.Value, *, size: Ints = (), keep_ratio: bool = False, interp: int = 1) -> ir.Value:
    """(H, W, C) in another size (width, height), or a batch of them; keep_ratio: of one number, the short edge gets it.

    Source: mxnet src/operator/image/resize-inl.h.
    """
    rank = _pixels(g, data)
    if interp not in (0, 1) or not 1 <= len(size) <= 2 or min(size) < 1:
        raise g.error(f"size {size} and interp {interp}; one or two numbers, and interp 0 (nearest) or 1 (bilinear) are known")
    wide, tall = size if len(size) == 2 else (size[0], size[0])
    if len(size) == 1 and keep_ratio:
        height, width = g.fixed(data, rank - 3, rank - 1)
        tall, wide = (int(size[0] * height / width), size[0]) if height > width else (size[0], int(size[0] * width / height))
    kind = g.dtype(data)
    x = g.emit("Unsqueeze", data, [0]) if rank == 3 else data
    if interp == 1 and kind == np.uint8:
        result = _in_fixed_point(g, _in_fixed_point(g, g.pin(x, 1), 2, wide), 1, tall)
        return g.emit("Squeeze", result, [0]) if rank == 3 else result
    x = g.cast(g.emit("Transpose", x, perm=[0, 3, 1, 2]), np.float32)
    x = g.pin(x) if len(size) == 1 and keep_ratio else x
    sizes = g.sizes([*g.extents(x, 0, 2), tall, wide])
    shape = [*g.shape(x)[:2], tall, wide]
    if interp == 0:
        result = g.emit(
            "Resize", x, None, None, sizes, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor", shape=shape
        )
    else:
        result = g.emit("Resize", x, None, None, sizes, mode="linear", coordinate_transformation_mode="half_pixel", shape=shape)
        result = g.emit("Round", result) if kind.kind in "iu" else result
    result = g.emit("Transpose", g.cast(result, kind), perm=[0, 2, 3, 1])
    return g.emit("Squeeze", result, [0]) if rank == 3 else result


def _in_fixed_point(g: OperatorBuilder, x: ir.Value, axis: int, length: int) -> ir.Value:
    """One axis of bytes (N, H, W, C) in another length as OpenCV resizes them, with weights of 11 bits: first W (2), then H (1)."""
    before = g.fixed(x, axis, axis + 1)[0]
    place = ((np.arange(length) + 0.5) * (before / length) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    share = place - first.astype(np.float32)
    if axis == 2:  # in W what lies behind the edge has no weight; in H it is the edge's row once more
        share = np.where((first < 0) | (first >= before - 1), np.float32(0), share)
    weights = [np.rint(part.astype(np.float32) * 2048).astype(np.int32) for part in (1 - share, share)]
    parts = []
    for at, weight in zip((first, first + 1), weights, strict=True):
        row = g.cast(g.emit("Gather", x, g.const(at.clip(0, before - 1), role="positions"), axis=axis), np.int32)
        row = g.emit("Div", row, 16) if axis == 1 else row
        row = g.emit("Mul", row, g.const(weight.reshape([-1 if i == axis else 1 for i in range(4)])))
        parts.append(g.emit("Div", row, 65536) if axis == 1 else row)
    total = g.emit("Add", *parts)
    return g.cast(g.emit("Div", g.emit("Add", total, 2), 4), np.uint8) if axis == 1 else total


@lowers("col2im")
def col2im(
    g: OperatorBuilder, data: ir.Value, *, output_size: Ints, kernel: Ints, stride: Ints = (), dilate: Ints = (), pad: Ints = ()
) -> ir.Value:
    """Columns (N, C taps, windows) summed where their windows lie in (N, C, H, W). Source: mxnet src/operator/nn/im2col.h."""
    if len(kernel) != 2 or len(output_size) != 2 or min(*kernel, *output_size) < 1:
        raise g.error(f"kernel {kernel} and output_size {output_size}; a height and a width each are needed")
    strides, dilations = spatial(g, "stride", stride, kernel, 1, 1), spatial(g, "dilate", dilate, kernel, 1, 1)
    pads = spatial(g, "pad", pad, kernel, 0, 0)
    g.check_table(*output_size)
    columns, taps = g.fixed(data, 1, 2)[0], kernel[0] * kernel[1]
    shape = [g.shape(data)[0], columns // taps, *output_size]
    data = g.pin(data) if isinstance(g.shape(data)[2], int) else data
    return g.emit("Col2Im", data, list(output_size), list(kernel), strides=strides, dilations=dilations, pads=[*pads, *pads], shape=shape)


@lowers("im2col")
def im2col(g: OperatorBuilder, data: ir.Value, *, kernel: Ints, stride: Ints = (), dilate: Ints = (), pad: Ints = ()) -> ir.Value:
    """The patches under a kernel as columns, (N, C taps, windows). Source: mxnet src/operator/nn/im2col.h."""
    if len(kernel) != 2:
        raise g.error(f"attribute kernel is {kernel}; a height and a width are needed")
    sizes, count = image_sizes(g, data), g.fixed(data, 1, 2)[0]
    strides, dilations = spatial(g, "stride", stride, kernel, 1, 1), spatial(g, "dilate", dilate, kernel, 1, 1)
    pads = spatial(g, "pad", pad, kernel, 0, 0)
    out = [(s + 2 * p - d * (k - 1) - 1) // st + 1 for s, p, d, k, st in zip(sizes, pads, dilations, kernel, strides, strict=True)]
    if min(out) < 1:
        raise g.error(f"kernel {kernel} is larger than the input of shape {g.shape(data)}")
    x = g.pin(data)
    x = g.emit("Pad", x, [0, 0, *pads] * 2, np.zeros((), g.dtype(data))) if any(pads) else x
    if kernel[0] * kernel[1] > 4096:
        raise g.error(f"attribute kernel is {kernel}; at most 4096 taps are laid out")
    taps = []
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            begins = [i * dilations[0], j * dilations[1]]
            ends = [b + (o - 1) * s + 1 for b, o, s in zip(begins, out, strides, strict=True)]
            taps.append(g.emit("Unsqueeze", g.emit("Slice", x, begins, ends, [2, 3], strides), [2]))
    stacked = taps[0] if len(taps) == 1 else g.emit("Concat", *taps, axis=2)
    return g.reshape(stacked, [g.shape(data)[0], count * len(taps), out[0] * out[1]])
