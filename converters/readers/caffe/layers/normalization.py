"""Normalization: batches, neighbors, positions, softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.builder import Extent, GraphBuilder
from converters.graph.pooling import pool
from converters.graph.windows import output_sizes
from converters.readers.caffe.caffemodel import Array
from converters.readers.caffe.layer import Layer, is_in_training
from converters.readers.caffe.layers.activation import leaky
from converters.readers.caffe.layers.axes import canonical_axis
from converters.readers.caffe.registry import lowers


def can_absorb(layer: Layer, scale: Layer) -> bool:
    """Whether a BatchNorm and the Scale behind it are one BatchNormalization."""
    p, q = layer.params.batch_norm_param, scale.params.scale_param
    own = layer.weights.count > 3 or layer.weights.shared or scale.weights.shared
    fixed = _has_stored_statistics(layer) and not p.relu
    return fixed and not own and q.axis == 1 and q.num_axes == 1 and scale.weights.count in (0, 1 + q.bias_term)


def _has_stored_statistics(layer: Layer) -> bool:
    """use_global_stats; where it isn't given, whether the layer's own phase is TEST, as the net's is."""
    p = layer.params.batch_norm_param
    return bool(p.use_global_stats) if p.HasField("use_global_stats") else not is_in_training(layer)


@lowers("BatchNorm", in_place=True, blobs=("running_mean", "running_var", "factor"), keeps_count=True)
def batch_norm(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Batch normalization with stored statistics; the Scale behind it is taken in; scale and shift of its own in forks.

    x: (N, C, ...). Source: caffe/layers/batch_norm_layer.cpp, those of NVIDIA's and Intel's forks.
    """
    p = layer.params.batch_norm_param
    channels = g.fixed(x, 1, 2)[0] if g.rank(x) > 1 else 1
    if not _has_stored_statistics(layer):
        if not p.HasField("use_global_stats"):
            g.warn("its `phase: TRAIN` means the batch's own statistics, as in Caffe; remove it to use the stored ones")
        return leaky(g, _batch_statistics(g, layer, x, channels), 0.0) if p.relu else _batch_statistics(g, layer, x, channels)
    order = _blob_order(layer, channels)
    mean = layer.weights.array(order["mean"], "mean", (channels,))
    variance = layer.weights.array(order["variance"], "variance", (channels,))
    if "factor" in order:
        factor = layer.weights.array(order["factor"], "scale factor", (1,))[0]
        if factor != 1:
            scale = np.float32(0 if factor == 0 else 1 / factor)
            mean, variance = mean * scale, variance * scale
    named = {"running_mean": mean, "running_var": variance, "weight": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)}
    originals: dict[str, str] = {}
    if "weight" in order:
        named["weight"] = layer.weights.array(order["weight"], "scale", (channels,), 1.0)
        if "bias" in order:
            named["bias"] = layer.weights.array(order["bias"], "bias", (channels,))
    elif layer.scale is not None:
        partner, q = layer.scale, layer.scale.params.scale_param
        partner.weights.expect(1 + q.bias_term)
        named["weight"] = partner.weights.array(0, "scale", (channels,), q.filler if q.HasField("filler") else 1.0)
        if q.bias_term:
            named["bias"] = partner.weights.array(1, "bias", (channels,), q.bias_filler)
        originals = {"weight": f"{partner.name}/0", "bias": f"{partner.name}/1"}
    eps = max(p.eps, 1e-5) if "clamped" in order else p.eps
    y = _normalize(g, layer, x, named, eps, originals)
    return leaky(g, y, 0.0) if p.relu else y


def _normalize(g: GraphBuilder, layer: Layer, x: ir.Value, arrays: dict[str, Array], eps: float, originals: dict[str, str]) -> ir.Value:
    lowest = float(arrays["running_var"].min()) + eps
    if lowest <= 0:
        g.warn(f"its variance plus eps goes down to {lowest:g}, the root of which is {'0' if lowest == 0 else 'NaN'}")
    values = [
        g.param(role, arrays[role], original=originals.get(role), buffer=role.startswith("running"))
        for role in ("weight", "bias", "running_mean", "running_var")
    ]
    if g.rank(x) == 1:
        y = g.emit("BatchNormalization", g.reshape(x, [*g.extents(x), 1]), *values, epsilon=eps)
        return g.reshape(y, g.extents(y, 0, 1))
    return g.emit("BatchNormalization", x, *values, epsilon=eps)


def _blob_order(layer: Layer, channels: int) -> dict[str, int]:
    """Which blob is what: the forks store scale and shift in the same layer, in three orders."""
    p, weights = layer.params.batch_norm_param, layer.weights
    weights.expect(3, 4, 5)
    statistics = {"mean": 0, "variance": 1, "factor": 2}
    if weights.count < 4:
        return statistics
    if weights.count == 4:
        return {**statistics, "weight": 3}
    nvidia = p.scale_bias or p.HasField("scale_filler")
    last = {"mean": 0, "variance": 1, "weight": 3, "bias": 4, "clamped": 1} if nvidia else {**statistics, "weight": 3, "bias": 4}
    v15 = {"weight": 0, "bias": 1, "mean": 2, "variance": 3, "clamped": 1}
    v14 = {"weight": 0, "bias": 1, "mean": 3, "variance": 4, "clamped": 1}
    if channels == 1:
        if p.scale_bias:
            return last
        raise layer.error(
            "its 5 blobs have one value each, so that their order can't be told; say `scale_bias: true` for that of NVIDIA 0.16 on"
        )
    if _size(layer, 4) == 1:
        return v15
    if _size(layer, 2) != 1:
        raise layer.error("none of its 5 blobs is the single value that every known order has third or fifth")
    if p.scale_bias:
        return last
    # NVIDIA 0.14 (scale, shift, -, mean, variance) or Intel and later NVIDIA (mean, variance, -, scale, shift): no variance is negative.
    second, fifth = (bool((weights.array(i, "blob", (channels,)) < 0).any()) for i in (1, 4))
    if second != fifth:
        return v14 if second else last
    raise layer.error(
        "its 5 blobs may be in the order of NVIDIA 0.14 (scale, shift, -, mean, variance) or of later ones (mean, variance, -, scale, "
        "shift); say `scale_bias: true` for the latter"
    )


def _size(layer: Layer, position: int) -> int:
    return int(np.prod(layer.weights.shape(position) or (0,), dtype=object))


def _batch_statistics(g: GraphBuilder, layer: Layer, x: ir.Value, channels: int) -> ir.Value:
    """use_global_stats: false normalizes by the batch's own statistics, in phase TEST too."""
    p = layer.params.batch_norm_param
    if layer.weights.count > 3 or p.stats_batch_size:
        raise layer.error("use_global_stats: false with scale and shift of its own, or with stats_batch_size, isn't supported")
    rank = g.rank(x)
    axes = [0, *range(2, rank)]
    centered = g.emit("Sub", x, g.emit("ReduceMean", x, axes, keepdims=1))
    variance = g.emit("ReduceMean", g.emit("Mul", centered, centered), axes, keepdims=1)
    return g.emit("Div", centered, g.emit("Sqrt", g.emit("Add", variance, p.eps)))


@lowers("BN", in_place=True, blobs=("weight", "bias", "running_mean?", "running_var?"), keeps_count=True)
def bn(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Batch normalization of the forks: yjxiong's and PSPNet's (slope, bias, mean, variance), SegNet's (scale, shift; INFERENCE only).

    x: (N, C, ...). Source: bn_layer.cpp of these forks.
    """
    p = layer.params.bn_param
    channels = g.fixed(x, 1, 2)[0] if g.rank(x) > 1 else 1
    count = layer.weights.count
    layer.weights.expect(2, 4)
    segnet = any(p.HasField(name) for name in ("bn_mode", "scale_filler", "shift_filler"))
    if count == 0 and not segnet and not layer.weights.shapes_only:
        raise layer.error("there are no weights for it, and the forks that have this layer differ in what it does without")
    if count == 4 or (count == 0 and (p.HasField("slope_filler") or p.HasField("frozen"))):
        roles = ("weight", "bias", "running_mean", "running_var")
        arrays = {role: layer.weights.array(i, role, (channels,)) for i, role in enumerate(roles)}
        return _normalize(g, layer, x, arrays, p.eps, {})
    if count == 0 and not segnet:  # a look at the net: the prototxt doesn't say which fork's it is
        return g.emit("Identity", x)
    if p.bn_mode != p.INFERENCE or not p.HasField("bn_mode"):
        raise layer.error(
            "SegNet's BN in mode LEARN normalizes by the batch's own statistics; compute the inference weights "
            "(SegNet's compute_bn_statistics.py) and say `bn_mode: INFERENCE`"
        )
    if g.rank(x) > 4:
        raise layer.error(f"takes at most 4 axes, not {g.rank(x)}")
    x = g.reshape(x, [*g.extents(x), *[1] * (4 - g.rank(x))])  # SegNet's top always has four axes
    y = g.emit("Mul", x, layer.weights.value(g, 0, "weight", (channels,), view=(channels, 1, 1)))
    return g.emit("Add", y, layer.weights.value(g, 1, "bias", (channels,), view=(channels, 1, 1)))


@lowers("LRN")
def lrn(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Local response normalization, across channels or within one. x: (N, C, H, W). Source: caffe/layers/lrn_layer.cpp."""
    p = layer.params.lrn_param
    size = p.local_size
    if size % 2 == 0:
        raise layer.error(f"local_size {size}; it must be odd")
    if g.rank(x) != 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    across = p.norm_region == p.ACROSS_CHANNELS
    if across and p.alpha > 0 and p.beta > 0:  # onnxruntime takes no others
        return g.emit("LRN", x, size=size, alpha=p.alpha, beta=p.beta, bias=p.k)
    squares = g.emit("Mul", x, x)
    if across:
        squares = g.reshape(squares, [Extent(squares, 0), 1, g.fixed(x, 1, 2)[0], None])
    kernel, pads = [size, 1 if across else size], [size // 2, 0 if across else size // 2]
    out = output_sizes(g.fixed(squares, 2), kernel, [1, 1], pads, ceil=False, clip="padded")
    means = pool(g, squares, "average", kernel=kernel, strides=[1, 1], pads=pads, out=out, divisor="kernel", ceil=False)
    means = g.reshape(means, [Extent(means, 0), *g.extents(x, 1)]) if across else means
    base = g.emit("Add", g.emit("Mul", means, p.alpha), p.k if across else 1.0)
    return g.emit("Mul", x, g.emit("Pow", base, -p.beta))


@lowers("MVN", in_place=True)
def mvn(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Mean and variance of each channel, or of all channels together, made 0 and 1.

    x: (N, C, ...) to (N, C, H, W), always. Source: caffe/layers/mvn_layer.cpp.
    """
    p = layer.params.mvn_param
    if g.rank(x) > 4:
        raise layer.error(f"takes at most 4 axes, not {g.rank(x)}")
    x = g.reshape(x, [*g.extents(x), *[1] * (4 - g.rank(x))])
    axes = list(range(1 if p.across_channels else 2, 4))
    centered = g.emit("Sub", x, g.emit("ReduceMean", x, axes, keepdims=1))
    if not p.normalize_variance:
        return centered
    variance = g.emit("ReduceMean", g.emit("Mul", centered, centered), axes, keepdims=1)
    return g.emit("Div", centered, g.emit("Add", g.emit("Sqrt", variance), p.eps))


@lowers("Normalize", in_place=True, keeps_count=True)
def normalize(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """SSD's L2 normalization at each position or over all of them, times a learned scale.

    x: (N, C, H, W) or (N, C). Source: SSD's normalize_layer.cpp.
    """
    p = layer.params.norm_param
    rank = g.rank(x)
    if not 2 <= rank <= 4:
        raise layer.error(f"needs a bottom (N, C, H, W), not {g.shape(x)}")
    axes: Sequence[int] = list(range(1, rank)) if p.across_spatial else [1]
    if layer.weights.count == 0 and not layer.weights.shapes_only and not layer.params.HasField("norm_param"):
        raise layer.error(
            "has no weights and no norm_param: SSD's layer has a scale; one of this name without any (happynear's, at each position) isn't "
            "known, and differs"
        )
    squares = g.emit("ReduceSum", g.emit("Mul", x, x), axes, keepdims=1)
    y = g.emit("Div", x, g.emit("Sqrt", g.emit("Add", squares, p.eps)))
    layer.weights.expect(1)
    filler = p.scale_filler if p.HasField("scale_filler") else 1.0
    shape = () if p.channel_shared else g.fixed(x, 1, 2)
    view = (*shape, *[1] * (rank - 2)) if shape else ()
    return g.emit("Mul", y, layer.weights.value(g, 0, "weight", shape, filler, view=view))


@lowers("Softmax", in_place=True, keeps_count=True)
def softmax(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """Softmax along `axis`. x: any shape. Source: caffe/layers/softmax_layer.cpp."""
    return g.emit("Softmax", x, axis=canonical_axis(g, layer, x, layer.params.softmax_param.axis))


@lowers("GRN", in_place=True)
def global_response_normalization(g: GraphBuilder, layer: Layer, x: ir.Value) -> ir.Value:
    """x over the root of the sum of squares over channels and a bias. x: (N, C, H, W). Source: OpenVINO's toolbox's grn_layer.cpp."""
    total = g.emit("ReduceSum", g.emit("Mul", x, x), [1], keepdims=1)
    return g.emit("Div", x, g.emit("Sqrt", g.emit("Add", total, layer.params.grn_param.bias)))
