"""Resizing and sampling images. Sources: mxnet src/operator/nn/upsampling-inl.h, contrib/bilinear_resize-inl.h, grid_generator-inl.h,
bilinear_sampler.cc, spatial_transformer.cc, correlation.cc, deformable_convolution.cc."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from converters.readers.mxnet.attributes import Ints
from converters.readers.mxnet.builder import OperatorBuilder
from converters.readers.mxnet.operators.convolution import spatial, transposed
from converters.readers.mxnet.operators.shape import END
from converters.readers.mxnet.parameter import Parameter
from converters.readers.mxnet.signature import lowers
from converters.readers.mxnet.sizes import as_dim, times


def image_sizes(g: OperatorBuilder, data: ir.Value) -> tuple[int, int]:
    """Height and width of (N, C, H, W). Raises ConversionError for another rank."""
    if g.rank(data) != 4:
        raise g.error(f"an input (N, C, H, W) is needed, but it has shape {g.shape(data)}")
    height, width = g.fixed(data, 2)
    return height, width


@lowers("UpSampling", ignores="workspace")
def upsampling(
    g: OperatorBuilder,
    *data: ir.Value,
    scale: int,
    sample_type: Literal["nearest", "bilinear"],
    num_filter: int = 0,
    multi_input_mode: Literal["concat", "sum"] = "concat",
    num_args: int = 1,
) -> ir.Value:
    """Nearest neighbors, every input to the size of the first one scaled; or bilinear, a depthwise deconvolution by the stored weight.

    Source: mxnet src/operator/nn/upsampling-inl.h.
    """
    if scale < 1 or not data:
        raise g.error(f"attribute scale is {scale}; at least 1 makes sense")
    if sample_type == "bilinear":
        if len(data) != 2:
            raise g.error("the input 'weight' is missing, the kernel of a bilinear upsampling")
        x, weight = data
        count = g.fixed(x, 1, 2)[0]
        kernel = 2 * scale - scale % 2
        if g.shape(weight) != (count, 1, kernel, kernel):
            raise g.error(f"the weight has shape {g.shape(weight)}, but the operator needs {(count, 1, kernel, kernel)}")
        pad = math.ceil((scale - 1) / 2)
        return transposed(g, x, weight, None, [kernel] * 2, [scale] * 2, [1, 1], [pad] * 2, [0, 0], count)
    height, width = image_sizes(g, data[0])
    results = [enlarge(g, data[0], scale, scale)]
    for x in data[1:]:
        tall, wide = image_sizes(g, x)
        if (height * scale) % tall or (width * scale) % wide:
            raise g.error(f"an input of {tall} x {wide} can't be repeated to {height * scale} x {width * scale}")
        results.append(enlarge(g, x, height * scale // tall, width * scale // wide))
    if len(results) == 1:
        return results[0]
    if multi_input_mode == "concat":
        return g.emit("Concat", *results, axis=1)
    total = results[0]
    for other in results[1:]:
        total = g.emit("Add", total, other)
    return total


def enlarge(g: OperatorBuilder, x: ir.Value, tall: int, wide: int) -> ir.Value:
    """Every pixel repeated."""
    if tall == wide == 1:
        return g.identity(x)
    sizes = [as_dim(times([size, (factor, ())])) for size, factor in zip(g.size_list(x), (1, 1, tall, wide), strict=True)]
    return g.emit(
        "Resize",
        x,
        None,
        np.array([1, 1, tall, wide], np.float32),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        shape=sizes,
    )


@lowers("_contrib_BilinearResize2D")
def bilinear_resize(
    g: OperatorBuilder,
    data: ir.Value,
    like: ir.Value | None = None,
    *,
    height: int = 1,
    width: int = 1,
    scale_height: float | None = None,
    scale_width: float | None = None,
    mode: Literal["size", "odd_scale", "like", "to_even_down", "to_even_up", "to_odd_down", "to_odd_up"] = "size",
    align_corners: bool = True,
) -> ir.Value:
    """Bilinear resizing to a size, by factors, to another input's size, or to the nearest odd or even size.

    Source: mxnet src/operator/contrib/bilinear_resize-inl.h.
    """
    if not all(0 <= (scale or 0) <= 1e6 for scale in (scale_height, scale_width)):
        raise g.error(f"scale_height {scale_height} and scale_width {scale_width} make no size")
    if mode == "like" and like is None:
        raise g.error("the input 'like' is missing")
    sizes, scales = image_sizes(g, data), (scale_height, scale_width)
    out = list(image_sizes(g, like)) if mode == "like" and like is not None else _resized(sizes, mode, (height, width), scales)
    if min(out) < 1:
        raise g.error(f"the output would have size {tuple(out)}")
    single = [i + 2 for i, (s, o) in enumerate(zip(sizes, out, strict=True)) if o == 1 and s > 1]
    follows = mode == "size" and not single and scales == (None, None)
    if mode == "size" and not single and None not in scales:
        spatial_sizes = g.cast(g.emit("Mul", g.cast(g.emit("Shape", data, start=2), np.float32), np.array(scales, np.float32)), np.int64)
    elif mode == "like" and like is not None and not single:
        spatial_sizes = g.emit("Shape", like, start=2)
    else:
        data = data if follows else g.pin(data)
        spatial_sizes = g.const(np.array(out, np.int64))
    if out == list(sizes) and not follows and spatial_sizes.const_value is not None:
        return g.identity(data)
    if single:  # MXNet takes the first row or column, even without align_corners
        data = g.emit("Slice", data, [0] * len(single), [1] * len(single), single)
        if g.shape(data)[2:] == tuple(out):
            return data
    return g.emit(
        "Resize",
        data,
        None,
        None,
        g.emit("Concat", g.emit("Shape", data, end=2), spatial_sizes, axis=0),
        mode="linear",
        coordinate_transformation_mode="align_corners" if align_corners else "half_pixel",
        shape=[*g.shape(data)[:2], *out],
    )


def _resized(sizes: Sequence[int], mode: str, wanted: Ints, scales: Sequence[float | None]) -> list[int]:
    """The output's height and width."""
    if mode == "odd_scale":
        factors = [np.float32(s or 0) for s in scales]
        return [int(s * f) if s % 2 == 0 else int((s - 1) * f) + 1 for s, f in zip(sizes, factors, strict=True)]
    if mode == "size":
        return [size if factor is None else int(np.float32(factor) * s) for s, size, factor in zip(sizes, wanted, scales, strict=True)]
    odd, step = mode.startswith("to_odd"), -1 if mode.endswith("down") else 1
    return [s if s % 2 == int(odd) else s + step for s in sizes]


def affine_grid(g: OperatorBuilder, theta: ir.Value, target_shape: Ints) -> ir.Value:
    """Grid (N, 2, H, W) of x and y in -1..1 from matrices (N, 6)."""
    if len(target_shape) != 2 or min(target_shape) < 1:
        raise g.error(f"attribute target_shape is {target_shape}; a height and a width are needed")
    height, width = target_shape
    g.check_table(height, width, 3)
    y, x = np.meshgrid(_steps(height), _steps(width), indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), np.ones(height * width)]).astype(g.dtype(theta))
    moved = g.emit("MatMul", g.reshape(theta, [g.shape(theta)[0], 2, 3]), g.const(points, role="points"))
    return g.reshape(moved, [g.shape(theta)[0], 2, height, width])


def _steps(size: int) -> np.ndarray:
    return -1 + np.arange(size) * (2.0 / (size - 1)) if size > 1 else -np.ones(1)


@lowers("GridGenerator")
def grid_generator(
    g: OperatorBuilder, data: ir.Value, *, transform_type: Literal["affine", "warp"], target_shape: Ints = (0, 0)
) -> ir.Value:
    """A sampling grid from affine matrices (N, 6), or from a flow in pixels (N, 2, H, W).

    Source: mxnet src/operator/grid_generator-inl.h.
    """
    if transform_type == "affine":
        return affine_grid(g, data, target_shape)
    height, width = image_sizes(g, data)
    g.check_table(height, width, 2)
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    base = np.stack([x, y]).astype(g.dtype(data))
    halves = np.array([(width - 1) / 2, (height - 1) / 2], g.dtype(data)).reshape(2, 1, 1)
    moved = g.emit("Add", data, g.const(base[None], role="pixels"))
    return g.emit("Sub", g.emit("Div", moved, halves), 1.0)


def sample(g: OperatorBuilder, data: ir.Value, grid: ir.Value, padding: str = "zeros") -> ir.Value:
    """Bilinear samples of data at a grid (N, 2, H, W), whose corners are the centers of the outermost pixels."""
    points = g.emit("Transpose", grid, perm=[0, 2, 3, 1])
    return g.emit("GridSample", data, points, align_corners=1, mode="bilinear", padding_mode=padding)


@lowers("BilinearSampler", ignores="cudnn_off")
def bilinear_sampler(g: OperatorBuilder, data: ir.Value, grid: ir.Value) -> ir.Value:
    """Bilinear samples at a grid (N, 2, H, W); 0 outside the image. Source: mxnet src/operator/bilinear_sampler.cc."""
    return sample(g, data, grid)


@lowers("SpatialTransformer", ignores="cudnn_off")
def spatial_transformer(
    g: OperatorBuilder,
    data: ir.Value,
    loc: ir.Value,
    *,
    target_shape: Ints = (0, 0),
    transform_type: Literal["affine"],
    sampler_type: Literal["bilinear"],
) -> ir.Value:
    """Bilinear samples at an affine grid. Source: mxnet src/operator/spatial_transformer-inl.h."""
    return sample(g, data, affine_grid(g, loc, target_shape))


@lowers("Correlation")
def correlation(
    g: OperatorBuilder,
    data1: ir.Value,
    data2: ir.Value,
    *,
    kernel_size: int = 1,
    max_displacement: int = 1,
    stride1: int = 1,
    stride2: int = 1,
    pad_size: int = 0,
    is_multiply: bool = True,
) -> ir.Value:
    """Mean product (or absolute difference) of patches of two images, a channel for each displacement.

    Source: mxnet src/operator/correlation.cc.
    """
    if kernel_size % 2 == 0 or min(kernel_size, stride1, stride2) < 1 or min(max_displacement, pad_size) < 0:
        raise g.error(f"kernel_size {kernel_size} must be odd, strides at least 1, displacement and pad at least 0")
    height, width = image_sizes(g, data1)
    border = max_displacement + (kernel_size - 1) // 2
    tall, wide = (math.ceil((size + 2 * pad_size - 2 * border) / stride1) for size in (height, width))
    radius = max_displacement // stride2
    if min(tall, wide) < 1 or (2 * radius + 1) ** 2 > 4096:
        raise g.error(f"the output would have size ({(2 * radius + 1) ** 2}, {tall}, {wide})")
    pads = [0, 0, pad_size, pad_size] * 2
    a, b = (g.emit("Pad", x, pads, np.zeros((), g.dtype(x))) if pad_size else x for x in (data1, data2))

    def window(x: ir.Value, down: int, right: int) -> ir.Value:
        begins = [max_displacement + down, max_displacement + right]
        ends = [begin - 2 * max_displacement or END for begin in begins]  # from the end, whatever the image's size
        return g.emit("Slice", x, begins, ends, [2, 3])

    fixed = window(a, 0, 0)
    maps = []
    for down in range(-radius, radius + 1):
        for right in range(-radius, radius + 1):
            other = window(b, down * stride2, right * stride2)
            product = g.emit("Mul", fixed, other) if is_multiply else g.emit("Abs", g.emit("Sub", fixed, other))
            mean = g.emit("ReduceMean", product, [1], keepdims=1)
            if kernel_size > 1 or stride1 > 1:
                mean = g.emit("AveragePool", mean, kernel_shape=[kernel_size] * 2, strides=[stride1] * 2)
            maps.append(mean)
    joined: ir.Value = maps[0] if len(maps) == 1 else g.emit("Concat", *maps, axis=1)
    return joined


@lowers("_contrib_DeformableConvolution", ignores="workspace")
def deformable_convolution(
    g: OperatorBuilder,
    data: ir.Value,
    offset: ir.Value,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    kernel: Ints,
    num_filter: int,
    stride: Ints = (),
    dilate: Ints = (),
    pad: Ints = (),
    num_group: int = 1,
    num_deformable_group: int = 1,
    no_bias: bool = False,
    layout: str | None = None,
) -> ir.Value:
    """Convolution whose taps are moved by offsets; a tap outside the image is 0, one inside is held at the edge.

    Source: mxnet src/operator/contrib/nn/deformable_im2col.h.
    """
    return _deformable(
        g, data, offset, None, weight, bias, kernel, num_filter, stride, dilate, pad, num_group, num_deformable_group, no_bias
    )


@lowers("_contrib_ModulatedDeformableConvolution", ignores="workspace")
def modulated_deformable_convolution(
    g: OperatorBuilder,
    data: ir.Value,
    offset: ir.Value,
    mask: ir.Value,
    weight: Parameter,
    bias: Parameter | None = None,
    *,
    kernel: Ints,
    num_filter: int,
    stride: Ints = (),
    dilate: Ints = (),
    pad: Ints = (),
    num_group: int = 1,
    num_deformable_group: int = 1,
    no_bias: bool = False,
    im2col_step: int = 64,
    layout: str | None = None,
) -> ir.Value:
    """Convolution whose taps are moved by offsets and weighted by a mask; pixels outside the image are 0.

    Source: mxnet src/operator/contrib/nn/modulated_deformable_im2col.h.
    """
    return _deformable(
        g, data, offset, mask, weight, bias, kernel, num_filter, stride, dilate, pad, num_group, num_deformable_group, no_bias
    )


def _deformable(
    g: OperatorBuilder,
    data: ir.Value,
    offset: ir.Value,
    mask: ir.Value | None,
    weight: Parameter,
    bias: Parameter | None,
    kernel: Ints,
    num_filter: int,
    stride: Ints,
    dilate: Ints,
    pad: Ints,
    groups: int,
    deformable_groups: int,
    no_bias: bool,
) -> ir.Value:
    if len(kernel) != 2:
        raise g.error(f"attribute kernel is {kernel}; a height and a width are needed")
    size = image_sizes(g, data)
    data = g.pin(data)  # the places of the taps are parts of its size
    count, kind = g.fixed(data, 1, 2)[0], g.dtype(data)
    if count % groups or count % deformable_groups or num_filter % groups:
        raise g.error(f"{count} channels don't divide into num_group {groups} and num_deformable_group {deformable_groups}")
    strides, dilations = spatial(g, "stride", stride, kernel, 1, 1), spatial(g, "dilate", dilate, kernel, 1, 1)
    pads = spatial(g, "pad", pad, kernel, 0, 0)
    out = [(s + 2 * p - d * (k - 1) - 1) // st + 1 for s, p, d, k, st in zip(size, pads, dilations, kernel, strides, strict=True)]
    taps = kernel[0] * kernel[1]
    if g.shape(offset)[1:] != (2 * taps * deformable_groups, *out):
        raise g.error(
            f"the offset has shape {g.shape(offset)}, but the operator needs (N, {2 * taps * deformable_groups}, {out[0]}, {out[1]})"
        )
    g.check_table(*out, taps)
    offsets = g.reshape(offset, [g.shape(offset)[0], deformable_groups, taps, 2, *out])
    images = (
        [data]
        if deformable_groups == 1
        else g.emit_all("Split", data, [count // deformable_groups] * deformable_groups, outputs=deformable_groups, axis=1)
    )
    columns: list[ir.Value] = []
    for group, image in enumerate(images):
        samples = []
        for tap in range(taps):
            i, j = divmod(tap, kernel[1])
            moved = g.emit("Squeeze", g.emit("Slice", offsets, [group, tap], [group + 1, tap + 1], [1, 2]), [1, 2])
            rows = np.arange(out[0]) * strides[0] - pads[0] + i * dilations[0]
            cols = np.arange(out[1]) * strides[1] - pads[1] + j * dilations[1]
            base = np.stack(np.broadcast_arrays(rows[:, None], cols[None, :])).astype(kind)[None]
            place = g.emit("Add", moved, g.const(base, role="taps"))  # (N, 2, H', W'): y, x
            samples.append(_tap(g, image, place, size, mask, group, tap, taps))
        columns += [g.emit("Unsqueeze", s, [2]) for s in samples] if taps > 1 else samples
        if taps > 1:
            stacked = g.emit("Concat", *columns[-taps:], axis=2)
            columns[-taps:] = [g.reshape(stacked, [g.shape(stacked)[0], count // deformable_groups * taps, *out])]
    x = columns[0] if len(columns) == 1 else g.emit("Concat", *columns, axis=1)
    w = weight.use((num_filter, count // groups, *kernel), kind)
    w = g.reshape(w, [num_filter, count // groups * taps, 1, 1])
    if not no_bias and bias is None:
        raise g.error("the input 'bias' is missing, and no_bias isn't set")
    b = bias.use((num_filter,), kind) if bias is not None and not no_bias else None
    return g.emit("Conv", x, w, b, kernel_shape=[1, 1], group=groups if groups > 1 else None)


def _tap(
    g: OperatorBuilder, image: ir.Value, place: ir.Value, size: Sequence[int], mask: ir.Value | None, group: int, tap: int, taps: int
) -> ir.Value:
    """Samples of an image at places (N, 2, H, W) given as y and x in pixels."""
    kind = g.dtype(place)
    y, x = g.emit_all("Split", place, [1, 1], outputs=2, axis=1)
    halves = np.array([max(s - 1, 1) / 2 for s in size[::-1]], kind).reshape(1, 2, 1, 1)
    grid = g.emit("Sub", g.emit("Div", g.emit("Concat", x, y, axis=1), halves), 1.0)
    if mask is not None:
        weights = g.emit("Slice", mask, [group * taps + tap], [group * taps + tap + 1], [1])
        return g.emit("Mul", sample(g, image, grid), weights)
    inside = None
    for values, length in ((y, size[0]), (x, size[1])):
        here = g.emit("And", g.emit("GreaterOrEqual", values, 0.0), g.emit("Less", values, float(length)))
        inside = here if inside is None else g.emit("And", inside, here)
    return g.emit("Where", inside, sample(g, image, grid, "border"), np.zeros((), kind))
