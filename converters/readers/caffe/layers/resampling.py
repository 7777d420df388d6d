"""Resampling. Sources: interp_layer.cpp (DeepLab, PSPNet), upsample_layer.cpp (SegNet's of pooling indices; YOLO's of pixels)."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.layers.axes import check_same_shape, product, reshape
from converters.readers.caffe.registry import lowers


@lowers("Interp")
def interp(g: GraphBuilder, layer: Layer, x: ir.Value, like: ir.Value | None = None) -> ir.Value:
    """Bilinear interpolation with aligned corners; negative pads crop first. x: (N, C, H, W)."""
    p = layer.params.interp_param
    if g.rank(x) != 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    if p.pad_beg > 0 or p.pad_end > 0:
        raise layer.error("pad_beg and pad_end may only crop: they are at most 0")
    sizes = [size + p.pad_beg + p.pad_end for size in g.fixed(x, 2)]
    if min(sizes) < 1:
        raise layer.error(f"pad_beg {p.pad_beg} and pad_end {p.pad_end} leave nothing of {g.shape(x)}")
    shrink, zoom = (p.HasField(name) for name in ("shrink_factor", "zoom_factor"))
    if (shrink and p.shrink_factor < 1) or (zoom and p.zoom_factor < 1):
        raise layer.error("shrink_factor and zoom_factor must be at least 1")
    if like is not None:
        out = list(g.fixed(like, 2))
    elif p.HasField("height") and p.HasField("width") and shrink == zoom:
        out = [p.height, p.width]
    elif shrink or zoom:
        out = [(size - 1) // p.shrink_factor + 1 for size in sizes] if shrink else sizes
        out = [size + (size - 1) * (p.zoom_factor - 1) for size in out] if zoom else out
    else:
        raise layer.error("needs height and width, zoom_factor or shrink_factor")
    if min(out) < 1:
        raise layer.error(f"the output size {out} must be at least 1")
    if p.pad_beg or p.pad_end:
        x = g.emit("Slice", x, [-p.pad_beg] * 2, [size - p.pad_beg for size in sizes], [2, 3])
    if out == sizes:
        return x
    return _resize(g, x, out, mode="linear", coordinate_transformation_mode="align_corners")


def _resize(g: GraphBuilder, x: ir.Value, out: list[int], **attributes: Any) -> ir.Value:
    """x (N, C, H, W) at another size."""
    dims = [*g.shape(x)[:2], *out]
    sizes: ir.Value | np.ndarray
    if all(isinstance(d, int) for d in dims):
        sizes = np.array(dims, np.int64)
        return g.emit("Resize", x, None, None, sizes, shape=dims, **attributes)
    sizes = g.emit("Concat", g.emit("Shape", x, start=0, end=2), g.const(np.array(out, np.int64)), axis=0)
    return g.emit("Resize", x, None, None, sizes, shape=dims, **attributes)


@lowers("Upsample")
def upsample(g: GraphBuilder, layer: Layer, x: ir.Value, mask: ir.Value | None = None) -> ir.Value:
    """With a second bottom SegNet's unpooling by the indices of a max pooling, else every pixel repeated (YOLO). x: (N, C, H, W)."""
    p = layer.params.upsample_param
    if g.rank(x) != 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    height, width = g.fixed(x, 2)
    if mask is None:
        scale = p.scale if p.HasField("scale") else 1
        if scale < 1:
            raise layer.error("scale 0; it is at least 1")
        if scale == 1:
            return x
        attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return _resize(g, x, [height * scale, width * scale], **attributes)
    check_same_shape(g, layer, [x, mask])
    if p.HasField("upsample_h") and p.HasField("upsample_w"):
        out = [p.upsample_h, p.upsample_w]
    else:
        scale = p.scale if p.HasField("scale") else 2
        scales = [p.scale_h, p.scale_w] if p.HasField("scale_h") else [scale, scale]
        out = [size * s - int(cut) for size, s, cut in zip((height, width), scales, (p.pad_out_h, p.pad_out_w), strict=True)]
    if min(out) < 1:
        raise layer.error(f"the output size {out} must be at least 1")
    dims = list(g.shape(x)[:2])
    flat = reshape(g, x, [*dims, height * width])
    index = g.emit("Cast", reshape(g, mask, [*dims, height * width]), to=ir.DataType.INT64)
    if all(isinstance(d, int) for d in dims):
        empty = g.emit("Expand", np.zeros((), np.float32), [*g.fixed(x, 0, 2), product(out)])
    else:
        shape = g.emit("Concat", g.emit("Shape", x, start=0, end=2), g.const(np.array([product(out)], np.int64)), axis=0)
        empty = g.emit("Expand", np.zeros((), np.float32), shape, shape=[*dims, product(out)])
    return reshape(g, g.emit("ScatterElements", empty, index, flat, axis=2, shape=[*dims, product(out)]), [*dims, *out])
