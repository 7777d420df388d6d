"""Layers on maps: convolutions, pools, normalizations and what changes shapes."""

from __future__ import annotations

import itertools
import math

import numpy as np

from tests.readers.caffe import formulas


def _list(p, name, axes, default, letters="hw"):
    if axes == 2 and any(f"{name}_{letter}" in p for letter in letters):
        return [p.get(f"{name}_{letter}", default) for letter in letters]
    key = "kernel_size" if name == "kernel" else name
    values = p.all(key) or [default]
    return [int(v) for v in (values * axes if len(values) == 1 else values)]


def window(layer, axes):
    """Kernel, stride, pad, dilation, group and outputs of a (de)convolution."""
    p = layer.get("convolution_param")
    made = [_list(p, "kernel", axes, 1), _list(p, "stride", axes, 1), _list(p, "pad", axes, 0), _list(p, "dilation", axes, 1)]
    return [*made, p.get("group", 1), p.get("num_output")]


def convolved(x, w, b, stride, pad, dilation, group):
    """Tap by tap: a matrix product for each place of the kernel."""
    axes = x.ndim - 2
    padded = np.pad(x, [(0, 0), (0, 0)] + [(p, p) for p in pad])
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded.shape[2:], w.shape[2:], stride, dilation, strict=True)]
    y = np.zeros((x.shape[0], group, w.shape[0] // group, math.prod(out)), x.dtype)
    for tap in itertools.product(*map(range, w.shape[2:])):
        part = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, out, stride, strict=True))
        seen = padded[(slice(None), slice(None), *part)].reshape(x.shape[0], group, x.shape[1] // group, -1)
        kernel = w[(slice(None), slice(None), *tap)].reshape(group, w.shape[0] // group, -1)
        y += kernel * seen if kernel.shape[1:] == (1, 1) else np.matmul(kernel, seen)
    y = y.reshape(x.shape[0], w.shape[0], *out)
    return y if b is None else y + b.reshape(-1, *[1] * axes)


def spread(x, w, b, stride, pad, dilation, group):
    """A transposed convolution, tap by tap. w: (C, O / group, ...)."""
    axes = x.ndim - 2
    full = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation, strict=True)]
    per = w.shape[1]
    y = np.zeros((x.shape[0], per * group, *full), x.dtype)
    flat = x.reshape(x.shape[0], group, x.shape[1] // group, -1)
    for tap in itertools.product(*map(range, w.shape[2:])):
        kernel = w[(slice(None), slice(None), *tap)].reshape(group, -1, per).transpose(0, 2, 1)
        part = tuple(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilation, x.shape[2:], stride, strict=True))
        y[(slice(None), slice(None), *part)] += np.matmul(kernel, flat).reshape(x.shape[0], per * group, *x.shape[2:])
    y = y[(slice(None), slice(None), *[slice(p, n - p) for p, n in zip(pad, full, strict=True)])]
    return y if b is None else y + b.reshape(-1, *[1] * axes)


def pooled(layer, x):
    """Values and indices of Caffe's Pooling, tap by tap."""
    p = layer.get("pooling_param")
    mode, sizes = p.get("pool", "MAX"), x.shape[2:]
    kernel, stride, pad = _list(p, "kernel", 2, 0), _list(p, "stride", 2, 1), _list(p, "pad", 2, 0)
    if p.get("global_pooling", False):
        kernel, stride, pad = sizes, [1, 1], [0, 0]
    rounded = math.ceil if p.get("ceil_mode", p.get("round_mode", "CEIL") == "CEIL") else math.floor
    out = [rounded((n + 2 * e - k) / s) + 1 for n, e, k, s in zip(sizes, pad, kernel, stride, strict=True)]
    if any(pad):
        out = [o - 1 if (o - 1) * s >= n + e else o for o, s, n, e in zip(out, stride, sizes, pad, strict=True)]
    room = [(o - 1) * s + k for o, s, k in zip(out, stride, kernel, strict=True)]
    around = [(0, 0), (0, 0)] + [(e, max(r - n - e, 0)) for e, r, n in zip(pad, room, sizes, strict=True)]
    padded = np.pad(x, around, constant_values=-np.inf if mode == "MAX" else 0)
    values = np.full((*x.shape[:2], *out), -np.inf if mode == "MAX" else 0.0, x.dtype)
    indices = np.zeros(values.shape)
    rows, columns = (np.arange(o) * s - e for o, s, e in zip(out, stride, pad, strict=True))
    for i, j in itertools.product(*map(range, kernel)):
        seen = padded[:, :, i : i + (out[0] - 1) * stride[0] + 1 : stride[0], j : j + (out[1] - 1) * stride[1] + 1 : stride[1]]
        if mode == "MAX":
            better = seen > values
            values = np.where(better, seen, values)
            indices = np.where(better, (rows[:, None] + i) * sizes[1] + columns + j, indices)
        else:
            values += seen
    if mode == "AVE":
        tall, wide = (np.minimum(at + k, n + e) - at for at, k, n, e in zip((rows, columns), kernel, sizes, pad, strict=True))
        values /= tall[:, None] * wide
    return values, indices


def pooled_3d(layer, x):
    p = layer.get("pooling3d_param") if "pooling3d_param" in layer else layer.get("pooling_param")
    kernel = [p.get("kernel_depth", 1), p.get("kernel_size"), p.get("kernel_size")]
    stride, pad = [p.get("temporal_stride", 1), p.get("stride", 1), p.get("stride", 1)], [0, p.get("pad", 0), p.get("pad", 0)]
    out = [math.ceil((n + 2 * e - k) / s) + 1 for n, k, s, e in zip(x.shape[2:], kernel, stride, pad, strict=True)]
    y = np.zeros((*x.shape[:2], *out), x.dtype)
    for at in itertools.product(*map(range, out)):
        low = [i * s - e for i, s, e in zip(at, stride, pad, strict=True)]
        high = [min(a + k, n + e) for a, k, n, e in zip(low, kernel, x.shape[2:], pad, strict=True)]
        size = math.prod(b - a for a, b in zip(low, high, strict=True))
        part = tuple(slice(max(a, 0), min(b, n)) for a, b, n in zip(low, high, x.shape[2:], strict=True))
        seen = x[(slice(None), slice(None), *part)]
        y[(slice(None), slice(None), *at)] = seen.max((2, 3, 4)) if p.get("pool", "MAX") == "MAX" else seen.sum((2, 3, 4)) / size
    return y


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def column(values, x):
    return np.reshape(values, (1, -1, *[1] * (x.ndim - 2)))


def reshaped(layer, x):
    p = layer.get("reshape_param")
    start, count = p.get("axis", 0), p.get("num_axes", -1)
    start = start + x.ndim + 1 if start < 0 else start
    end = x.ndim if count < 0 else start + count
    dims = p.get("shape", p).all("dim")
    middle = [x.shape[start + i] if d == 0 else d for i, d in enumerate(dims)]
    return x.reshape(*x.shape[:start], *middle, *x.shape[end:])


def sliced(layer, x):
    p = layer.get("slice_param")
    axis, points = p.get("axis", p.get("slice_dim", 1)), p.all("slice_point")
    return np.split(x, points or len(layer.all("top")), axis)


def elementwise(layer, *xs):
    p = layer.get("eltwise_param")
    operation, coeff = p.get("operation", "SUM"), p.all("coeff") or [1] * len(xs)
    if operation == "SUM":
        return sum(c * x for c, x in zip(coeff, xs, strict=True))
    return (np.multiply if operation == "PROD" else np.maximum).reduce(np.stack(xs), 0)


def scaled(layer, x, by, bias=None):
    axis = layer.get("scale_param").get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    shape = (*[1] * axis, *by.shape, *[1] * (x.ndim - axis - by.ndim))
    return x * by.reshape(shape) + (0 if bias is None else bias.reshape(shape))


def cropped(layer, x, like):
    p = layer.get("crop_param")
    axis, offsets = p.get("axis", 2), p.all("offset")
    for position, n in enumerate(range(axis, x.ndim)):
        start = (offsets * x.ndim)[position] if len(offsets) == 1 else offsets[position] if offsets else 0
        x = np.take(x, range(start, start + like.shape[n]), n)
    return x


def interpolated(layer, x, like=None):
    p = layer.get("interp_param")
    cut = x[:, :, -p.get("pad_beg", 0) or None : p.get("pad_end", 0) or None, -p.get("pad_beg", 0) or None : p.get("pad_end", 0) or None]
    sizes = list(cut.shape[2:])
    if like is not None:
        sizes = list(like.shape[2:])
    elif "height" in p:
        sizes = [p.get("height"), p.get("width")]
    else:
        shrink, zoom = p.get("shrink_factor", 1), p.get("zoom_factor", 1)
        sizes = [(n - 1) // shrink + 1 for n in sizes]
        sizes = [n + (n - 1) * (zoom - 1) for n in sizes]
    return formulas.bilinear(cut, *sizes)


def upsampled(layer, x, mask=None):
    p = layer.get("upsample_param")
    if mask is None:
        return x.repeat(p.get("scale", 1), 2).repeat(p.get("scale", 1), 3)
    scale = p.get("scale", 2)
    height, width = p.get("upsample_h", x.shape[2] * scale), p.get("upsample_w", x.shape[3] * scale)
    y = np.zeros((*x.shape[:2], height * width), x.dtype)
    np.put_along_axis(y, mask.reshape(*x.shape[:2], -1).astype(int), x.reshape(*x.shape[:2], -1), 2)
    return y.reshape(*x.shape[:2], height, width)


def normalized(layer, x, scale):
    p = layer.get("norm_param")
    axes = (1, 2, 3) if p.get("across_spatial", True) else 1
    return x / np.sqrt((x**2).sum(axes, keepdims=True) + p.get("eps", 1e-10)) * column(scale, x)


def shuffled(layer, x):
    groups = layer.get("shuffle_channel_param").get("group", 1)
    return x.reshape(x.shape[0], groups, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)


def reorganized(layer, x):
    """eric612's Reorg, number by number of darknet's loop."""
    s = layer.get("reorg_param").get("stride")
    n, c, h, w = x.shape
    few = c // (s * s)
    out = np.zeros(x.size)
    flat = x.reshape(n, few, h * s, w * s)
    index = np.arange(x.size).reshape(n, c, h, w)
    b, k, i, j = np.indices(x.shape)
    out[index] = flat[b, k % few, i * s + k // few // s, j * s + (k // few) % s]
    return out.reshape(n, c * s * s, h // s, w // s)


def columns(layer, x):
    """Im2col."""
    kernel, stride, pad, dilation, *_ = window(layer, 2)
    padded = np.pad(x, [(0, 0), (0, 0)] + [(p, p) for p in pad])
    out = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)]
    parts = []
    for tap in itertools.product(*map(range, kernel)):
        part = tuple(slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilation, out, stride, strict=True))
        parts.append(padded[(slice(None), slice(None), *part)])
    return np.stack(parts, 2).reshape(x.shape[0], -1, *out)


def reduced(layer, x):
    p = layer.get("reduction_param")
    axis = p.get("axis", 0)
    axes = tuple(range(axis % x.ndim if axis < 0 else axis, x.ndim))
    made = {"SUM": x.sum, "MEAN": x.mean, "ASUM": np.abs(x).sum, "SUMSQ": (x**2).sum}[p.get("operation", "SUM")]
    return made(axes) * p.get("coeff", 1.0)
