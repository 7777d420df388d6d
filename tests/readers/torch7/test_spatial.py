"""Convolutions, pooling, resampling and local normalization against naive loops in numpy, written from THNN's sources."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from tests.readers.torch7.lua import Object, Storage, Tensor, module
from tests.readers.torch7.running import check
from tests.readers.torch7.test_modules import Case, rand

FLT_MAX = np.finfo(np.float32).max


def conv(x: np.ndarray, w: np.ndarray, b: Any = None, d: Any = None, p: Any = None, dil: Any = None, groups: int = 1) -> np.ndarray:
    """Correlation over any number of axes. x: (N, C, ...), w: (out, in / groups, ...)."""
    axes = w.ndim - 2
    d, p, dil = d or (1,) * axes, p or (0,) * axes, dil or (1,) * axes
    x = np.pad(x.astype("f8"), [(0, 0), (0, 0), *((n, n) for n in p)])
    sizes = [(n - e * (k - 1) - 1) // s + 1 for n, k, s, e in zip(x.shape[2:], w.shape[2:], d, dil, strict=True)]
    out = np.zeros((len(x), len(w), *sizes))
    per_in, per_out = w.shape[1], len(w) // groups
    for at in itertools.product(*map(range, w.shape[2:])):
        window = x[(..., *(slice(a * e, a * e + (n - 1) * s + 1, s) for a, e, n, s in zip(at, dil, sizes, d, strict=True)))]
        for group in range(groups):
            part = np.einsum(
                "nc...,oc->no...",
                window[:, group * per_in : (group + 1) * per_in],
                w[(slice(group * per_out, (group + 1) * per_out), slice(None), *at)],
            )
            out[:, group * per_out : (group + 1) * per_out] += part
    return out if b is None else out + b.reshape(-1, *[1] * axes)


def full_conv(x: np.ndarray, w: np.ndarray, b: Any, d: Any, p: Any, adj: Any) -> np.ndarray:
    """Each pixel spreads its kernel. w: (in, out, ...); size (in - 1) d - 2 p + k + adj."""
    k = w.shape[2:]
    whole = [(n - 1) * s + size + a for n, s, size, a in zip(x.shape[2:], d, k, adj, strict=True)]
    out = np.zeros((len(x), w.shape[1], *whole))
    for at in itertools.product(*map(range, x.shape[2:])):
        where = tuple(slice(i * s, i * s + size) for i, s, size in zip(at, d, k, strict=True))
        out[(slice(None), slice(None), *where)] += np.einsum("nc,co...->no...", x[(slice(None), slice(None), *at)], w)
    out = out[(slice(None), slice(None), *(slice(n, size - n) for n, size in zip(p, whole, strict=True)))]
    return out + b.reshape(-1, *[1] * len(k))


def pooled(x: np.ndarray, k: Any, d: Any, p: Any, ceil: bool = False, kind: str = "max", dil: Any = None, clip: bool = True) -> np.ndarray:
    """Windows one by one, as THNN's loops go through them."""
    axes = len(k)
    dil = dil or (1,) * axes
    sizes = []
    for n, size, s, pad, e in zip(x.shape[2:], k, d, p, dil, strict=True):
        room = (n - e * (size - 1) - 1 + 2 * pad) / s
        count = (math.ceil(room) if ceil else math.floor(room)) + 1
        if clip and any(p) and (count - 1) * s >= n + pad:
            count -= 1
        sizes.append(count)
    out = np.zeros((*x.shape[:2], *sizes))
    for at in itertools.product(*map(range, sizes)):
        places, padded, real = [], 1, 1
        for i, n, size, s, pad, e in zip(at, x.shape[2:], k, d, p, dil, strict=True):
            start = i * s - pad
            end = min(start + size, n + pad)
            padded *= end - start
            places.append([t for t in range(start, start + e * (size - 1) + 1, e) if 0 <= t < n])
            real *= len(places[-1])
        window = x[np.ix_(range(len(x)), range(x.shape[1]), *places)]
        flat = window.reshape(*x.shape[:2], -1).astype("f8")
        if kind == "max":
            value = flat.max(2) if flat.shape[2] else -FLT_MAX
        else:
            divisor = {"include": padded, "exclude": real, "kernel": math.prod(k), "sum": 1}[kind]
            with np.errstate(invalid="ignore", divide="ignore"):
                value = flat.sum(2) / np.float64(divisor)
        out[(slice(None), slice(None), *at)] = value
    return out


X = rand(2, 3, 7, 8)
W = rand(4, 3, 3, 2)
B = rand(4)
CONV = {"nInputPlane": 3, "nOutputPlane": 4, "kW": 2, "kH": 3}
XV = rand(2, 3, 4, 5, 6)
WV = rand(4, 3, 2, 3, 2)
VOLUME = {"nInputPlane": 3, "nOutputPlane": 4, "kT": 2, "kH": 3, "kW": 2}
XT = rand(2, 9, 4)
FULL = rand(3, 4, 3, 2)
FULL_V = rand(3, 4, 2, 3, 2)
DEPTH = rand(2, 3, 3, 2)
DEPTH_B = rand(2, 3)
TEMPORAL = rand(5, 3 * 4)
ROW = rand(4, 1, 3)
LOCAL = rand(3, 4, 2, 3, 3, 2)  # oH, oW, out, in, kH, kW for an image of 7 by 8 with strides 2
LOCAL_B = rand(2, 3, 4)
MAP = np.float32([[1, 2], [3, 1], [2, 2], [1, 1], [1, 2]])
MAP_W, MAP_B = rand(5, 3, 2), rand(2)


def dense(inputs: int = 3, outputs: int = 2) -> np.ndarray:
    w = np.zeros((outputs, inputs, 3, 2))
    for kernel, (i, o) in zip(MAP_W, MAP.astype(int), strict=True):
        w[o - 1, i - 1] += kernel
    return w


def local(x: np.ndarray) -> np.ndarray:
    out = np.zeros((len(x), 2, 3, 4))
    for i, j in itertools.product(range(3), range(4)):
        out[:, :, i, j] = np.einsum("nchw,ochw->no", x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2], LOCAL[i, j])
    return out + LOCAL_B


def depthwise(x: np.ndarray) -> np.ndarray:
    """SpatialDepthWiseConvolution.c reads the height from dimension 4 and the width from 3: rows of as many pixels as the image is high."""
    w = DEPTH.transpose(1, 0, 2, 3).reshape(6, 1, 3, 2)
    return conv(x.reshape(*x.shape[:2], x.shape[3], x.shape[2]), w, DEPTH_B.T.reshape(-1), groups=3)


def temporal(x: np.ndarray, d: int) -> np.ndarray:
    w = TEMPORAL.reshape(5, 3, 4)
    return np.stack([np.einsum("nkc,okc->no", x[:, t : t + 3], w) + B5 for t in range(0, x.shape[1] - 2, d)], 1)


B5 = rand(5)
CONVOLUTIONS = [
    Case(
        "SpatialConvolution",
        module("nn.SpatialConvolution", weight=W, bias=B, dW=1, dH=2, padW=1, padH=0, **CONV),
        X,
        lambda x: conv(x, W, B, (2, 1), (0, 1)),
    ),
    Case(
        "SpatialConvolutionMM_2d",
        module("nn.SpatialConvolutionMM", weight=W.reshape(4, -1), bias=B, dW=1, dH=1, padding=2, padW=0, **CONV),
        X,
        lambda x: conv(x, W, B, p=(2, 2)),
    ),
    Case(
        "SpatialDilatedConvolution",
        module("nn.SpatialDilatedConvolution", weight=W, dilationW=3, dilationH=2, padH=1, **CONV),
        X,
        lambda x: conv(x, W, dil=(2, 3), p=(1, 0)),
    ),
    Case(
        "SpatialDilatedConvolution_padding",
        module("nn.SpatialDilatedConvolution", weight=W, padding=2, padW=0, padH=1, **CONV),
        X,
        lambda x: conv(x, W, p=(1, 0)),
    ),
    Case(
        "cudnn_groups",
        module("cudnn.SpatialConvolution", weight=W[:, :1], groups=1, nInputPlane=1, nOutputPlane=4, kW=2, kH=3),
        X[:, :1],
        lambda x: conv(x, W[:, :1]),
    ),
    Case(
        "cudnn_two_groups",
        module("cudnn.SpatialConvolution", weight=W[:, :2], groups=2, nInputPlane=4, nOutputPlane=4, kW=2, kH=3, bias=B),
        rand(2, 4, 5, 5),
        lambda x: conv(x, W[:, :2], B, groups=2),
    ),
    Case(
        "VolumetricConvolution",
        module("nn.VolumetricConvolution", weight=WV, bias=B, dT=1, dH=2, dW=1, padT=1, padH=0, padW=2, **VOLUME),
        XV,
        lambda x: conv(x, WV, B, (1, 2, 1), (1, 0, 2)),
    ),
    Case(
        "SpatialFullConvolution",
        module("nn.SpatialFullConvolution", weight=FULL, bias=B, dW=2, dH=3, padW=0, padH=1, adjW=1, adjH=2, **CONV),
        X,
        lambda x: full_conv(x, FULL, B, (3, 2), (1, 0), (2, 1)),
    ),
    Case(
        "SpatialFullConvolution_table",
        module("nn.SpatialFullConvolution", weight=FULL, bias=B, dW=2, dH=3, padW=0, padH=1, **CONV),
        [X, rand(1, 1, 21, 17)],
        lambda x: full_conv(x[0], FULL, B, (3, 2), (1, 0), (2, 1)),
    ),
    Case(
        "VolumetricFullConvolution",
        module(
            "nn.VolumetricFullConvolution",
            weight=FULL_V,
            bias=B,
            dT=2,
            dH=1,
            dW=2,
            padT=1,
            padH=0,
            padW=1,
            adjT=1,
            adjH=0,
            adjW=1,
            **VOLUME,
        ),
        XV,
        lambda x: full_conv(x, FULL_V, B, (2, 1, 2), (1, 0, 1), (1, 0, 1)),
    ),
    Case(
        "VolumetricFullConvolution_old",
        module("nn.VolumetricFullConvolution", weight=FULL_V.swapaxes(0, 1).copy(), bias=B, dT=2, dH=1, dW=2, pT=1, pH=0, pW=1, **VOLUME),
        XV,
        lambda x: full_conv(x, FULL_V, B, (2, 1, 2), (1, 0, 1), (0, 0, 0)),
    ),
    Case(
        "SpatialDepthWiseConvolution",
        module(
            "nn.SpatialDepthWiseConvolution",
            weight=DEPTH.reshape(2, -1),
            bias=DEPTH_B,
            nInputPlane=3,
            nOutputPlane=2,
            kW=2,
            kH=3,
            dW=1,
            dH=1,
            padW=0,
            padH=0,
        ),
        X,
        depthwise,
    ),
    Case(
        "SpatialConvolutionMap",
        module("nn.SpatialConvolutionMap", weight=MAP_W, bias=MAP_B, connTable=MAP, nInputPlane=3, nOutputPlane=2, kW=2, kH=3, dW=2, dH=1),
        X,
        lambda x: conv(x, dense(), MAP_B, (1, 2)),
    ),
    Case(
        "SpatialFullConvolutionMap",
        module(
            "nn.SpatialFullConvolutionMap", weight=MAP_W, bias=MAP_B, connTable=MAP, nInputPlane=3, nOutputPlane=2, kW=2, kH=3, dW=2, dH=1
        ),
        X,
        lambda x: full_conv(x, dense().swapaxes(0, 1), MAP_B, (1, 2), (0, 0), (0, 0)),
    ),
    Case(
        "SpatialConvolutionLocal",
        module(
            "nn.SpatialConvolutionLocal",
            weight=LOCAL,
            bias=LOCAL_B,
            nInputPlane=3,
            nOutputPlane=2,
            iW=8,
            iH=7,
            oW=4,
            oH=3,
            kW=2,
            kH=3,
            dW=2,
            dH=2,
            padW=0,
            padH=0,
        ),
        X,
        local,
    ),
    Case(
        "TemporalConvolution",
        module("nn.TemporalConvolution", weight=TEMPORAL, bias=B5, inputFrameSize=4, outputFrameSize=5, kW=3, dW=2),
        XT,
        lambda x: temporal(x, 2),
    ),
    Case(
        "cudnn.TemporalConvolution",
        module(
            "cudnn.TemporalConvolution",
            weight=TEMPORAL,
            bias=B5,
            inputFrameSize=4,
            outputFrameSize=5,
            kW=4,
            kH=3,
            dW=1,
            dH=2,
            padW=0,
            padH=0,
        ),
        XT,
        lambda x: temporal(x, 2),
    ),
    Case(
        "TemporalRowConvolution",
        module("nn.TemporalRowConvolution", weight=ROW, inputFrameSize=4, kW=3, dW=2, featFirst=False),
        XT,
        lambda x: conv(x.swapaxes(1, 2), ROW, d=(2,), groups=4).swapaxes(1, 2),
    ),
    Case(
        "TemporalRowConvolution_featFirst",
        module("nn.TemporalRowConvolution", weight=ROW, inputFrameSize=4, kW=3, dW=1, featFirst=True),
        XT.swapaxes(1, 2).copy(),
        lambda x: conv(x, ROW, groups=4),
    ),
    Case(
        "WeightNorm_full",
        module(
            "nn.WeightNorm",
            module("nn.SpatialFullConvolution", bias=B, dW=1, dH=1, padW=0, padH=0, adjW=0, adjH=0, **CONV),
            v=FULL.swapaxes(0, 1).reshape(4, -1).copy(),
            g=B,
            outputDim=2,
            weightSize=np.int64([3, 4, 3, 2]),
        ),
        X,
        lambda x: full_conv(x, FULL * (B / np.sqrt((FULL**2).sum((0, 2, 3)) + 1e-4)).reshape(1, 4, 1, 1), B, (1, 1), (0, 0), (0, 0)),
    ),
]


def pooling(name: str, k: Any, d: Any = None, p: Any = None, version: int = 2, **more: Any) -> Object:
    axes = "THW"[-len(k) :]
    fields: dict[str, Any] = {f"k{a}": n for a, n in zip(axes, k, strict=True)}
    fields |= {f"d{a}": n for a, n in zip(axes, d or k, strict=True)}
    if p is not None:
        fields |= {f"pad{a}": n for a, n in zip(axes, p, strict=True)}
    return module(name, version=version, **fields, **more)


AVERAGE = {"count_include_pad": True, "divide": True, "ceil_mode": False}
POOLS = [
    Case(
        "max_ceil",
        pooling("nn.SpatialMaxPooling", (3, 2), (2, 3), (1, 0), ceil_mode=True),
        X,
        lambda x: pooled(x, (3, 2), (2, 3), (1, 0), True),
    ),
    Case(
        "max_window_outside",
        pooling("nn.SpatialMaxPooling", (1, 2), (3, 3), (0, 0), ceil_mode=True),
        rand(2, 3, 5, 6),
        lambda x: pooled(x, (1, 2), (3, 3), (0, 0), True),
    ),
    Case("max_unpadded_3d", pooling("nn.SpatialMaxPooling", (2, 2)), X[0], lambda x: pooled(x[None], (2, 2), (2, 2), (0, 0))[0]),
    Case(
        "max_dilated",
        pooling("nn.SpatialDilatedMaxPooling", (2, 3), (2, 1), (1, 1), dilationW=2, dilationH=3, ceil_mode=True),
        X,
        lambda x: pooled(x, (2, 3), (2, 1), (1, 1), True, dil=(3, 2)),
    ),
    Case(
        "cudnn_max_ceil",
        pooling("cudnn.SpatialMaxPooling", (3, 3), (2, 2), (1, 1), ceil_mode=True),
        rand(2, 3, 6, 8),
        lambda x: pooled(x, (3, 3), (2, 2), (1, 1), True, clip=False),
    ),
    Case(
        "volumetric_max",
        pooling("nn.VolumetricMaxPooling", (2, 3, 2), (1, 2, 2), (1, 0, 1), ceil_mode=True),
        XV,
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (1, 0, 1), True),
    ),
    Case(
        "volumetric_max_v1",
        pooling("nn.VolumetricMaxPooling", (2, 3, 2), (1, 2, 2), None, version=1, ceil_mode=True),
        XV,
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (0, 0, 0)),
    ),
    Case(
        "average",
        pooling("nn.SpatialAveragePooling", (3, 2), (2, 2), (1, 1), **AVERAGE),
        X,
        lambda x: pooled(x, (3, 2), (2, 2), (1, 1), kind="include"),
    ),
    Case(
        "average_ceil",
        pooling("nn.SpatialAveragePooling", (3, 3), (2, 3), (1, 1), **AVERAGE | {"ceil_mode": True}),
        X,
        lambda x: pooled(x, (3, 3), (2, 3), (1, 1), True, "include"),
    ),
    Case(
        "average_ceil_exclude",
        pooling("nn.SpatialAveragePooling", (3, 3), (2, 3), (1, 1), ceil_mode=True, count_include_pad=False, divide=True),
        X,
        lambda x: pooled(x, (3, 3), (2, 3), (1, 1), True, "exclude"),
    ),
    Case(
        "average_window_outside",
        pooling("nn.SpatialAveragePooling", (1, 2), (3, 3), (0, 0), ceil_mode=True, count_include_pad=True, divide=True),
        rand(2, 3, 5, 6),
        lambda x: pooled(x, (1, 2), (3, 3), (0, 0), True, "include"),
    ),
    Case(
        "average_no_divide_field",
        pooling("nn.SpatialAveragePooling", (2, 2), (1, 2), (1, 1)),
        X,
        lambda x: pooled(x, (2, 2), (1, 2), (0, 0), kind="sum"),
    ),
    Case(
        "average_no_ceil_field",
        pooling("nn.SpatialAveragePooling", (2, 2), (2, 2), (1, 1), divide=True),
        X,
        lambda x: pooled(x, (2, 2), (2, 2), (0, 0), kind="include"),
    ),
    Case(
        "average_undivided_clipped",
        pooling("nn.SpatialAveragePooling", (3, 3), (2, 2), (0, 0), ceil_mode=True, count_include_pad=True, divide=False),
        X,
        lambda x: pooled(x, (3, 3), (2, 2), (0, 0), True, "include") * 9,
    ),
    Case(
        "cudnn_average_no_ceil_field",
        pooling("cudnn.SpatialAveragePooling", (2, 2), (2, 2), (1, 1)),
        X,
        lambda x: pooled(x, (2, 2), (2, 2), (0, 0), kind="include"),
    ),
    Case(
        "cudnn_average_ceil",
        pooling("cudnn.SpatialAveragePooling", (3, 3), (2, 2), (1, 1), ceil_mode=True, count_include_pad=False),
        rand(2, 3, 7, 8),
        lambda x: pooled(x, (3, 3), (2, 2), (1, 1), True, "kernel", clip=False),
    ),
    Case(
        "volumetric_average",
        pooling("nn.VolumetricAveragePooling", (2, 3, 2), (1, 2, 2)),
        XV,
        lambda x: pooled(x, (2, 3, 2), (1, 2, 2), (0, 0, 0), kind="include"),
    ),
    Case(
        "sub_sampling",
        module("nn.SpatialSubSampling", nInputPlane=3, kW=2, kH=3, dW=2, dH=1, weight=B[:3].copy(), bias=B[1:].copy()),
        X,
        lambda x: pooled(x, (3, 2), (1, 2), (0, 0), kind="sum") * B[:3].reshape(3, 1, 1) + B[1:].reshape(3, 1, 1),
    ),
    Case(
        "temporal_max",
        module("nn.TemporalMaxPooling", kW=3, dW=2),
        XT,
        lambda x: np.stack([x[:, t : t + 3].max(1) for t in range(0, 7, 2)], 1),
    ),
    Case(
        "temporal_sub_sampling",
        module("nn.TemporalSubSampling", inputFrameSize=4, kW=3, dW=2, weight=B, bias=B5[:4].copy()),
        XT,
        lambda x: np.stack([x[:, t : t + 3].sum(1) for t in range(0, 7, 2)], 1) * B + B5[:4],
    ),
    Case(
        "dynamic_k_max",
        module("nn.TemporalDynamicKMaxPooling", minK=2, factor=0.5),
        XT,
        lambda x: np.take_along_axis(x, np.sort(np.argsort(-x, axis=1)[:, :5], axis=1), 1),
    ),
]


def feature_lp(x: np.ndarray, width: int, stride: int, power: float, axis: int) -> np.ndarray:
    starts = range(0, x.shape[axis] - width + 1, stride)
    windows = [(np.take(x.astype("f8"), range(i, i + width), axis) ** power).sum(axis) ** (1 / power) for i in starts]
    return np.stack(windows, axis)


POOLS += [
    Case(
        "feature_lp",
        module("nn.FeatureLPPooling", width=3, stride=2, power=2, batch_mode=True),
        rand(2, 8, 3),
        lambda x: feature_lp(x, 3, 2, 2, 1),
    ),
    Case(
        "feature_lp_3",
        module("nn.FeatureLPPooling", width=4, stride=1, power=3, batch_mode=False),
        abs(rand(6, 3)),
        lambda x: feature_lp(x, 4, 1, 3, 0),
    ),
]


def adaptive(x: np.ndarray, rows: int, columns: int, reduce: Any) -> np.ndarray:
    h, w = x.shape[-2:]
    out = np.zeros((*x.shape[:-2], rows, columns))
    for i, j in itertools.product(range(rows), range(columns)):
        window = x[..., i * h // rows : math.ceil((i + 1) * h / rows), j * w // columns : math.ceil((j + 1) * w / columns)]
        out[..., i, j] = reduce(window, axis=(-2, -1))
    return out


def corners(x: np.ndarray, sizes: Any) -> np.ndarray:
    """(Tri)linear interpolation with aligned corners, axis by axis."""
    for axis, size in enumerate(sizes, x.ndim - len(sizes)):
        n = x.shape[axis]
        place = np.arange(size) * ((n - 1) / (size - 1) if size > 1 else 0)
        low = np.minimum(place.astype(int), n - 1)
        rest = (place - low).reshape(-1, *[1] * (x.ndim - axis - 1))
        x = np.take(x, low, axis) * (1 - rest) + np.take(x, np.minimum(low + 1, n - 1), axis) * rest
    return x


def smoothing(kernel: np.ndarray, planes: int, square: bool) -> Object:
    """The estimator that nn builds for a 2-D kernel: pad, convolve all planes to one, replicate."""
    h, w = kernel.shape
    weight = np.ascontiguousarray(np.broadcast_to(kernel / (kernel.sum() * planes), (1, planes, h, w)), dtype=np.float32)
    inner = [
        module("nn.SpatialZeroPadding", pad_l=w // 2, pad_r=w // 2, pad_t=h // 2, pad_b=h // 2),
        module(
            "nn.SpatialConvolution",
            weight=weight,
            bias=np.zeros(1, "f4"),
            nInputPlane=planes,
            nOutputPlane=1,
            kW=w,
            kH=h,
            dW=1,
            dH=1,
            padW=0,
            padH=0,
        ),
        module("nn.Replicate", nfeatures=planes, dim=1, ndim=3),
    ]
    return module("nn.Sequential", *([module("nn.Square"), *inner, module("nn.Sqrt", eps=0)] if square else inner))


KERNEL = abs(rand(3, 5)) + 0.1


def smooth(x: np.ndarray) -> np.ndarray:
    w = np.broadcast_to(KERNEL / (KERNEL.sum() * x.shape[1]), (1, x.shape[1], 3, 5))
    return conv(x, w, p=(1, 2))


def divisive(x: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(smooth(x**2)) / smooth(np.ones_like(x))
    return x / np.where(deviation > 0.9, deviation, 0.4)


def subtractive(x: np.ndarray) -> np.ndarray:
    return x - smooth(x) / smooth(np.ones_like(x))


SUBTRACTIVE = module("nn.SpatialSubtractiveNormalization", nInputPlane=3, kernel=KERNEL, meanestimator=smoothing(KERNEL, 3, False))
DIVISIVE = module(
    "nn.SpatialDivisiveNormalization",
    nInputPlane=3,
    kernel=KERNEL,
    meanestimator=smoothing(KERNEL, 3, False),
    stdestimator=smoothing(KERNEL, 3, True),
    thresholder=module("nn.Threshold", threshold=0.9, val=0.4),
)

OTHERS = [
    Case("adaptive_max", module("nn.SpatialAdaptiveMaxPooling", W=3, H=4), X, lambda x: adaptive(x, 4, 3, np.max)),
    Case("adaptive_average_3d", module("nn.SpatialAdaptiveAveragePooling", W=5, H=2), X[0], lambda x: adaptive(x, 2, 5, np.mean)),
    Case("adaptive_divisible", module("nn.SpatialAdaptiveAveragePooling", W=4, H=1), X, lambda x: adaptive(x, 1, 4, np.mean)),
    Case("nearest_3d", module("nn.SpatialUpSamplingNearest", scale_factor=3), X[0], lambda x: x.repeat(3, 1).repeat(3, 2)),
    Case("bilinear", module("nn.SpatialUpSamplingBilinear", scale_factor=3), X, lambda x: corners(x, (21, 24))),
    Case("bilinear_size", module("nn.SpatialUpSamplingBilinear", oheight=5, owidth=13), X, lambda x: corners(x, (5, 13))),
    Case("bilinear_one", module("nn.SpatialUpSamplingBilinear", oheight=1, owidth=3), X, lambda x: corners(x, (1, 3))),
    Case(
        "UpSampling_nearest_5d",
        module("nn.UpSampling", scale_factor=2, mode="nearest"),
        XV,
        lambda x: x.repeat(2, 2).repeat(2, 3).repeat(2, 4),
    ),
    Case("UpSampling_linear_4d", module("nn.UpSampling", scale_factor=2, mode="linear"), X, lambda x: corners(x, (14, 16))),
    Case(
        "UpSampling_linear_5d", module("nn.UpSampling", odepth=7, oheight=5, owidth=8, mode="linear"), XV, lambda x: corners(x, (7, 5, 8))
    ),
    Case("subtractive", SUBTRACTIVE, X, subtractive),
    Case("subtractive_3d", SUBTRACTIVE, X[0], lambda x: subtractive(x[None])[0]),
    Case("divisive", DIVISIVE, X, divisive),
    Case(
        "contrastive",
        module("nn.SpatialContrastiveNormalization", normalizer=module("nn.Sequential", SUBTRACTIVE, DIVISIVE)),
        X,
        lambda x: divisive(subtractive(x)),
    ),
    Case(
        "lp_pooling",
        module(
            "nn.SpatialLPPooling",
            module("nn.Power", pow=3),
            pooling("nn.SpatialAveragePooling", (2, 3), (1, 2), (0, 0), **AVERAGE),
            module("nn.MulConstant", constant_scalar=6),
            module("nn.Power", pow=1 / 3),
        ),
        abs(X),
        lambda x: (pooled(x**3, (2, 3), (1, 2), (0, 0), kind="include") * 6) ** (1 / 3),
    ),
]


@pytest.mark.parametrize("case", CONVOLUTIONS + POOLS + OTHERS, ids=lambda case: case.name)
def test_module(case: Case, tmp_path: Any) -> None:
    check(tmp_path, case.made, case.x, case.expected(), tolerance=5e-5)


@pytest.mark.parametrize("ceil", [False, True])
def test_max_unpooling_takes_the_indices_of_its_pooling(ceil: bool, tmp_path: Any) -> None:
    x = np.round(rand(2, 3, 6, 7))  # with ties: the first in row-major order wins
    pool = pooling("nn.SpatialMaxPooling", (2, 3), (2, 3), (0, 1), ceil_mode=ceil)
    values = pooled(x, (2, 3), (2, 3), (0, 1), ceil)
    expected = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*values.shape):
        left, right = max(0, j * 3 - 1), min(7, j * 3 + 2)
        window = x[n, c, 2 * i : 2 * i + 2, left:right]
        row, column = np.unravel_index(window.argmax(), window.shape)
        expected[n, c, 2 * i + row, left + column] = values[n, c, i, j] * 2
    made = module("nn.Sequential", pool, module("nn.MulConstant", constant_scalar=2), module("nn.SpatialMaxUnpooling", pooling=pool))
    check(tmp_path, made, x, expected)


def test_narrowed_weights(tmp_path: Any) -> None:
    """A weight that is a narrow() of a larger storage, as getParameters() leaves it."""
    flat = Storage(rand(200))
    weight = Tensor(flat, (4, 3, 3, 2), (18, 6, 2, 1), 100)
    bias = Tensor(flat, (4,), (2,), 3)
    expected = conv(X, flat.array[100:172].reshape(4, 3, 3, 2), flat.array[3:11:2])
    check(tmp_path, module("nn.SpatialConvolution", weight=weight, bias=bias, dW=1, dH=1, padW=0, padH=0, **CONV), X, expected)
