"""Resampling."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import check_same_shape
from converters.readers.caffe.registry import lowers


@lowers("Interp")
def interp(g: GraphBuilder, layer: Layer, x: ir.Value, like: ir.Value | None = None) -> ir.Value:
    """Bilinear interpolation with aligned corners; negative pads crop first.

    x: (N, C, H, W) to height and width, to a factor of its size, or to the size of a second bottom.
    Source: interp_layer.cpp of DeepLab and PSPNet.
    """
    p = layer.params.interp_param
    if g.rank(x) != 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    if p.pad_beg > 0 or p.pad_end > 0:
        raise layer.error("pad_beg and pad_end may only crop: they are at most 0")
    cut = p.pad_beg + p.pad_end
    if min(g.fixed(x, 2)) + cut < 1:
        raise layer.error(f"pad_beg {p.pad_beg} and pad_end {p.pad_end} leave nothing of {g.shape(x)}")
    shrink, zoom = (p.HasField(name) for name in ("shrink_factor", "zoom_factor"))
    if (shrink and p.shrink_factor < 1) or (zoom and p.zoom_factor < 1):
        raise layer.error("shrink_factor and zoom_factor must be at least 1")
    out: list[int | Extent]
    if like is not None:
        out = [*g.extents(like, 2, 4)]
    elif p.HasField("height") and p.HasField("width") and shrink == zoom:
        out = [p.height, p.width]
    elif shrink or zoom:  # ((n - 1) / shrink) * zoom + 1
        out = [Extent(x, axis, cut - 1, p.shrink_factor if shrink else 1, p.zoom_factor if zoom else 1, 1) for axis in (2, 3)]
    else:
        raise layer.error("needs height and width, zoom_factor or shrink_factor")
    if p.pad_beg or p.pad_end:
        ends = [p.pad_end or np.iinfo(np.int64).max] * 2
        x = g.emit("Slice", x, [-p.pad_beg] * 2, ends, [2, 3], shape=[*g.shape(x)[:2], *(size + cut for size in g.fixed(x, 2))])
    return _resize(g, layer, x, out, mode="linear", coordinate_transformation_mode="align_corners")


@lowers("ResizeBilinear")
def resize_bilinear(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Bilinear interpolation as in TensorFlow 1: from corner to corner, or by the ratio of the sizes.

    x: (N, H, W, C), or (N, C, H, W) with data_format NCHW. Source: synopsys-caffe's resize_bilinear_layer.cpp.
    """
    p = layer.params.resize_bilinear_param
    if p.data_format not in ("NHWC", "NCHW") or g.rank(x) != 4:
        raise layer.error(f"needs four axes and data_format NHWC or NCHW, not {g.shape(x)} and {p.data_format}")
    last = p.data_format == "NHWC"
    y = g.emit("Transpose", x, perm=[0, 3, 1, 2]) if last else x
    mode = "align_corners" if p.align_corners else "asymmetric"
    y = _resize(g, layer, y, [p.output_height, p.output_width], mode="linear", coordinate_transformation_mode=mode)
    return g.emit("Transpose", y, perm=[0, 2, 3, 1]) if last else y


def _resize(g: GraphBuilder, layer: Layer, x: ir.Value, out: list[int | Extent], **attributes: str) -> ir.Value:
    """x (N, C, H, W) at another size."""
    numbers = _numbers(g, out)
    if min(numbers) < 1:
        raise layer.error(f"the output size {numbers} must be at least 1")
    sizes = g.sizes([*g.extents(x, 0, 2), *out])
    return g.emit("Resize", x, None, None, sizes, shape=[*g.shape(x)[:2], *numbers], **attributes)


def _numbers(g: GraphBuilder, sizes: list[int | Extent]) -> list[int]:
    """What the sizes are here."""
    return [s if isinstance(s, int) else s.of(g.fixed(s.value, s.axis, s.axis + 1)[0]) for s in sizes]


@lowers("Upsample")
def upsample(g: GraphBuilder, layer: Layer, x: ir.Value, mask: ir.Value | None = None) -> ir.Value:
    """With a second bottom SegNet's unpooling by the indices of a max pooling, else every pixel repeated (YOLO).

    x, mask: (N, C, H, W). Source: upsample_layer.cpp of SegNet and of YOLO's forks.
    """
    p = layer.params.upsample_param
    if g.rank(x) != 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    if mask is not None:
        return _unpool(g, layer, x, mask)
    stray = [name for name in ("scale_h", "scale_w", "pad_out_h", "pad_out_w", "upsample_h", "upsample_w") if p.HasField(name)]
    if stray:
        raise layer.error(f"{', '.join(stray)} go with a second bottom, a mask of places; with one bottom scale alone is known")
    scale = p.scale if p.HasField("scale") else 1
    if scale < 1:
        raise layer.error("scale 0; it is at least 1")
    if scale == 1:
        return x
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return _resize(g, layer, x, [Extent(x, axis, times=scale) for axis in (2, 3)], **attributes)


def _unpool(g: GraphBuilder, layer: Layer, x: ir.Value, mask: ir.Value) -> ir.Value:
    """Every value at the place in its plane that the mask names, zeros elsewhere."""
    p = layer.params.upsample_param
    check_same_shape(g, layer, [x, mask])
    out: list[int | Extent]
    if p.HasField("upsample_h") and p.HasField("upsample_w"):
        out = [p.upsample_h, p.upsample_w]
    else:
        scale = p.scale if p.HasField("scale") else 2
        scales = [p.scale_h, p.scale_w] if p.HasField("scale_h") else [scale, scale]
        cuts = (p.pad_out_h, p.pad_out_w)
        out = [Extent(x, axis, times=s, plus=-int(cut)) for axis, s, cut in zip((2, 3), scales, cuts, strict=True)]
    numbers = _numbers(g, out)
    if min(numbers) < 1:
        raise layer.error(f"the output size {numbers} must be at least 1")
    dims, size = g.shape(x)[:2], numbers[0] * numbers[1]
    flat = g.reshape(x, [*g.extents(x, 0, 2), None])
    index = g.emit("Cast", g.reshape(mask, [*g.extents(mask, 0, 2), None]), to=ir.DataType.INT64)
    plane = g.sizes(out)
    plane = [size] if isinstance(plane, list) else g.emit("ReduceProd", plane, keepdims=1)
    plane = g.const(np.array(plane, np.int64)) if isinstance(plane, list) else plane
    shape = g.emit("Concat", g.emit("Shape", x, start=0, end=2), plane, axis=0)
    empty = g.emit("Expand", np.zeros((), np.float32), shape, shape=[*dims, size])
    filled = g.emit("ScatterElements", empty, index, flat, axis=2, shape=[*dims, size])
    return g.reshape(filled, [*g.extents(filled, 0, 2), *out])
