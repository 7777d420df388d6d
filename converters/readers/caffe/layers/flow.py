"""Layers of optical flow: FlowNet, FlowNet2, PWC-Net, LiteFlowNet."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import check_same_shape
from converters.readers.caffe.layers.filters import filtered
from converters.readers.caffe.registry import lowers

FAR = 2**31 - 1
DISPLACEMENT_LIMIT = 500
"""To each side; published nets have 20 at most."""


@lowers("Correlation")
def correlation(g: GraphBuilder, layer: Layer, a: ir.Value, b: ir.Value) -> ir.Value:
    """How alike the windows of two maps are, for every displacement, rows of them first.

    a, b: (N, C, H, W); to (N, displacements^2, rows, columns). Source: FlowNet2's correlation_layer.cu.
    """
    p = layer.params.correlation_param
    kernel, reach, stride, step = p.kernel_size, p.max_displacement, p.stride_1, p.stride_2
    if kernel % 2 != 1 or min(stride, step) < 1:
        raise layer.error(f"kernel_size {kernel}, stride_1 {stride}, stride_2 {step}: the kernel's size is odd, strides are at least 1")
    check_same_shape(g, layer, [a, b])
    sizes = [n + 2 * p.pad - 2 * (reach + kernel // 2) for n in g.fixed(a, 2)]
    if min(sizes) < 1:
        raise layer.error(f"pad {p.pad} and max_displacement {reach} leave nothing of {g.shape(a)}")
    if reach // step > DISPLACEMENT_LIMIT:
        raise layer.error(f"max_displacement {reach} by {step} is too many displacements")
    pads = [0, 0, p.pad, p.pad] * 2
    a, b = (g.emit("Pad", value, pads) if p.pad else value for value in (a, b))
    steps = reach // step
    a = _cut(g, a, [reach, reach], [reach, reach])
    first = stride if kernel == 1 else 1  # with a larger kernel the windows are averaged before
    a = g.emit("Slice", a, [0, 0], [FAR, FAR], [2, 3], [first, first]) if first > 1 else a
    here = g.emit("Transpose", a, perm=[0, 2, 3, 1])  # (N, H, W, C)
    columns = g.emit("Range", np.array(0, np.int64), g.emit("Squeeze", g.emit("Shape", a, start=3, end=4), [0]), np.array(1, np.int64))
    shifts = g.const(np.arange(2 * steps + 1, dtype=np.int64)[None] * step, role="shifts")
    places = g.emit("Add", g.emit("Mul", g.emit("Unsqueeze", columns, [1]), first), shifts)  # (W, displacements)
    rows = []
    for down in range(-steps, steps + 1):
        start, end = [reach + down * step, reach - steps * step], [reach - down * step, reach - steps * step]
        there = _cut(g, b, start, end)
        there = g.emit("Slice", there, [0], [FAR], [2], [first]) if first > 1 else there
        rows.append(_compared(g, layer, here, there, places))
    many, batch = (2 * steps + 1) ** 2, g.shape(a)[0]
    inner = [-(-n // first) for n in sizes] if kernel == 1 else [n + kernel - 1 for n in sizes]
    y = g.emit("Transpose", g.emit("Concat", *rows, axis=3), perm=[0, 3, 1, 2], shape=[batch, many, *inner])
    if kernel > 1:
        y = g.emit("AveragePool", y, kernel_shape=[kernel, kernel], strides=[stride, stride])
    return y


def _cut(g: GraphBuilder, x: ir.Value, starts: list[int], ends: list[int]) -> ir.Value:
    """x (N, C, H, W) without so many rows and columns at its sides."""
    if not any(starts) and not any(ends):
        return x
    return g.emit("Slice", x, starts, [-end or FAR for end in ends], [2, 3])


def _compared(g: GraphBuilder, layer: Layer, a: ir.Value, b: ir.Value, places: ir.Value) -> ir.Value:
    """For a (N, H, W, C) and b (N, C, H, wide) the mean over channels at each place (W, D), (N, H, W, D)."""
    p = layer.params.correlation_param
    (channels,) = g.fixed(a, 3)
    if p.correlation_type == p.MULTIPLY:
        products = g.emit("MatMul", a, g.emit("Transpose", b, perm=[0, 2, 1, 3]))  # every column with every column
        shape = g.emit("Concat", g.emit("Shape", a, start=0, end=2), g.emit("Shape", places), axis=0)
        sums = g.emit("GatherElements", products, g.emit("Expand", places, shape), axis=3)
        return g.emit("Div", sums, float(channels))
    moved = g.emit("Gather", g.emit("Transpose", b, perm=[0, 2, 3, 1]), places, axis=2)  # (N, H, W, D, C)
    apart = g.emit("Abs", g.emit("Sub", g.emit("Unsqueeze", a, [3]), moved))
    return g.emit("ReduceMean", apart, [4], keepdims=0)


@lowers("Grid")
def grid(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Where each pixel is: column, row. x: (N, C, H, W) to (N, 2, H, W). Source: LiteFlowNet's grid_layer.cpp."""
    places = [_positions(g, x, axis) for axis in (3, 2)]
    sizes = g.sizes([Extent(x, 0), 1, *g.extents(x, 2)])
    shape = [g.shape(x)[0], 1, *g.shape(x)[2:]]
    return g.emit("Concat", *(g.emit("Expand", place, sizes, shape=shape) for place in places), axis=1)


def _positions(g: GraphBuilder, x: ir.Value, axis: int) -> ir.Value:
    """0, 1, ... along axis 2 or 3 of (N, C, H, W), as (1, 1, H, 1) or (1, 1, 1, W)."""
    count = g.emit("Squeeze", g.emit("Shape", x, start=axis, end=axis + 1), [0])
    numbers = g.emit("Cast", g.emit("Range", np.array(0, np.int64), count, np.array(1, np.int64)), to=ir.DataType.FLOAT)
    return g.emit("Unsqueeze", numbers, [a for a in range(4) if a != axis])


def _last(g: GraphBuilder, x: ir.Value, axis: int) -> ir.Value:
    """The number of the last row or column."""
    return g.emit("Sub", g.emit("Cast", g.emit("Shape", x, start=axis, end=axis + 1), to=ir.DataType.FLOAT), 1.0)


def _sampled(g: GraphBuilder, image: ir.Value, x: ir.Value, y: ir.Value, padding: str) -> ir.Value:
    """The image (N, C, H, W) at pixels x, y, each (N, 1, h, w), between four of its own."""
    parts = []
    for place, axis in ((x, 3), (y, 2)):
        last = g.emit("Max", _last(g, image, axis), 1.0)
        parts.append(g.emit("Sub", g.emit("Div", g.emit("Mul", place, 2.0), last), 1.0))
    places = g.emit("Transpose", g.emit("Concat", *parts, axis=1), perm=[0, 2, 3, 1])
    shape = [g.shape(image)[0], g.shape(image)[1], *g.shape(x)[2:]]
    return g.emit("GridSample", image, places, align_corners=1, padding_mode=padding, shape=shape)


def _moved(g: GraphBuilder, layer: Layer, image: ir.Value, flow: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The pixels that a flow (N, 2, H, W) leads to."""
    if g.rank(image) != 4 or g.rank(flow) != 4 or g.shape(flow)[1] != 2 or g.shape(flow)[2:] != g.shape(image)[2:]:
        raise layer.error(f"needs an image (N, C, H, W) and a flow (N, 2, H, W), not {g.shape(image)} and {g.shape(flow)}")
    right, down = g.emit_all("Split", flow, [1, 1], outputs=2, axis=1)
    return g.emit("Add", _positions(g, flow, 3), right), g.emit("Add", _positions(g, flow, 2), down)


def _inside(g: GraphBuilder, image: ir.Value, x: ir.Value, y: ir.Value, beyond: float) -> ir.Value:
    """Whether pixels lie at 0 or above, and below the number behind the last one (beyond 1), or up to the last (beyond 0)."""
    answer = None
    for place, axis in ((x, 3), (y, 2)):
        limit = _last(g, image, axis)
        below = g.emit("Less", place, g.emit("Add", limit, beyond)) if beyond else g.emit("LessOrEqual", place, limit)
        fits = g.emit("And", g.emit("GreaterOrEqual", place, 0.0), below)
        answer = fits if answer is None else g.emit("And", answer, fits)
    assert answer is not None
    return answer


@lowers("FlowWarp")
def flow_warp(g: GraphBuilder, layer: Layer, image: ir.Value, flow: ir.Value) -> ir.Value:
    """The image at the pixels that a flow leads to, between four of them; outside 0 or not a number.

    image: (N, C, H, W), flow: (N, 2, H, W) in pixels. Source: FlowNet2's flow_warp_layer.cpp.
    """
    p = layer.params.flow_warp_param
    x, y = _moved(g, layer, image, flow)
    fill = np.array(np.nan if p.fill_value == p.NOT_A_NUMBER else 0, np.float32)
    return g.emit("Where", _inside(g, image, x, y, 1.0), _sampled(g, image, x, y, "border"), fill)


@lowers("Warp")
def warp(g: GraphBuilder, layer: Layer, image: ir.Value, places: ir.Value) -> ir.Value:
    """The image at other pixels: those that a flow leads to (PWC-Net), or in a net with a Grid these very ones (LiteFlowNet).

    image: (N, C, H, W), places: (N, 2, h, w). Source: PWC-Net's warp_layer.cu, LiteFlowNet's warp_layer.cpp.
    """
    if layer.meaning == "LiteFlowNet":
        x, y = g.emit_all("Split", places, [1, 1], outputs=2, axis=1)
        return _sampled(g, image, x, y, "zeros")
    x, y = _moved(g, layer, image, places)
    return g.emit("Where", _inside(g, image, x, y, 0.0), _sampled(g, image, x, y, "border"), np.zeros((), np.float32))


@lowers("ChannelNorm")
def channel_norm(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """The root of the sum of squares over channels. x: (N, C, H, W) to (N, 1, H, W). Source: FlowNet2's channel_norm_layer.cpp."""
    return g.emit("ReduceL2", x, [1], keepdims=1)


@lowers("Mean")
def mean(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """output_scale * (input_scale * x + or - mean_scale * value), a value for each channel in turn.

    x: (N, C, H, W). Source: FlowNet's mean_layer.cpp.
    """
    p = layer.params.mean_param
    if p.HasField("file") or not p.value:
        raise layer.error("takes its mean from a file; only value is known")
    if not p.HasField("operation"):
        raise layer.error("has no operation (ADD or SUBTRACT)")
    (channels,) = g.fixed(x, 1, 2)
    scaled = np.resize(np.array(p.value, np.float64), channels) * p.mean_scale
    values = scaled.astype(np.float32).reshape(1, -1, *[1] * (g.rank(x) - 2))
    y = g.emit("Mul", x, p.input_scale) if p.input_scale != 1 else x
    y = g.emit("Add" if p.operation == p.ADD else "Sub", y, g.const(values, role="mean"))
    return g.emit("Mul", y, p.output_scale) if p.output_scale != 1 else y


@lowers("DataAugmentation", blobs=("iteration", "mean_image", "mean"))
def data_augmentation(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """In phase TEST: a crop from the center, and the mean taken away.

    x: (N, C, H, W). Source: FlowNet2's data_augmentation_layer.cpp, data_augmentation_layer.cu.
    """
    p = layer.params.augmentation_param
    drawn = [descriptor.name for descriptor, _ in p.ListFields() if descriptor.message_type is not None]
    if p.augment_during_test and drawn:
        raise layer.error(f"augment_during_test with {', '.join(drawn)}: each image would be changed at random")
    (channels,) = g.fixed(x, 1, 2)
    y = x
    if p.crop_width and p.crop_height:
        sizes, out = g.fixed(x, 2), (p.crop_height, p.crop_width)
        if any(o > n for o, n in zip(out, sizes, strict=True)):
            raise layer.error(f"a crop of {out} from {sizes}")
        tables = [_clamped(n, o) for n, o in zip(sizes, out, strict=True)]
        y = filtered(g, x, tables)
    if p.recompute_mean > 0:
        layer.weights.expect(3)
        shape = (1, channels, *g.fixed(y, 2))
        if p.mean_per_pixel:
            stored = layer.weights.shape(1)
            if stored is not None and tuple(stored[-2:]) != shape[2:]:
                area = layer.weights.array(1, "mean_image", tuple(stored)).reshape(channels, -1).mean(1, dtype=np.float64)
                return g.emit("Sub", y, g.param("mean_image", area.astype(np.float32).reshape(1, -1, 1, 1), buffer=True))
            return g.emit("Sub", y, layer.weights.value(g, 1, "mean_image", shape))
        return g.emit("Sub", y, layer.weights.value(g, 2, "mean", (1, channels, 1, 1)))
    if len(p.mean) == 3 and not p.mean_per_pixel:
        if channels != 3:
            raise layer.error(f"three values of mean for {channels} channels")
        return g.emit("Sub", y, g.const(np.array(p.mean, np.float32).reshape(1, 3, 1, 1)))
    return y


def _clamped(size: int, out: int) -> np.ndarray:
    """Weights (out, size) of the pixels of a crop from the center, whose places are held to size - 1.05."""
    f = np.float32
    places = np.minimum(np.maximum(np.arange(out, dtype=f) + f(0.5) * f(size - out), f(0)), f(size) - f(1.05))
    table = np.zeros((out, size), f)
    low = np.maximum(np.floor(places).astype(int), 0)
    part = places - low.astype(f)
    table[np.arange(out), low] += f(1) - part
    table[np.arange(out), np.minimum(low + 1, size - 1)] += part
    return table
