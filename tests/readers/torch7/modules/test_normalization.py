"""Rows of normalization: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.formulas import conv, full_conv
from tests.readers.torch7.lua import Object, module, sizes
from tests.readers.torch7.module_case import ModuleCase, rand

X4 = rand(2, 3, 5, 6)

B5 = rand(5, seed=1)

V = rand(5, 7, seed=1)

G = rand(5, 1)


def bn(
    mean: np.ndarray, var: np.ndarray, weight: Any = None, bias: Any = None, name: str = "nn.SpatialBatchNormalization", **more: Any
) -> Object:
    return module(name, running_mean=mean, running_var=var, weight=weight, bias=bias, version=2, **more)


M3 = rand(3)

S3 = abs(rand(3, seed=1)) + 0.1

W3 = rand(3, seed=2)

B3 = rand(3, seed=3)


def channels(a: np.ndarray) -> np.ndarray:
    return a.reshape(-1, 1, 1)


def normed(x: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    return (x - channels(M3)) / np.sqrt(channels(S3) + eps) * channels(W3) + channels(B3)


def lrn(x: np.ndarray, size: int, alpha: float, beta: float, k: float) -> np.ndarray:
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        low, high = max(0, c - (size - 1) // 2), c + (size - 1) // 2 + 1
        out[:, c] = x[:, c] * (k + alpha / size * (x[:, low:high] ** 2).sum(1)) ** -beta
    return out


X = rand(2, 3, 7, 8)

B = rand(4, seed=1)

CONV = {"nInputPlane": 3, "nOutputPlane": 4, "kW": 2, "kH": 3}

FULL = rand(3, 4, 3, 2)

B5 = rand(5, seed=1)


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


def window_sums(x: np.ndarray, size: int) -> np.ndarray:
    """Sums over `size` channels, (size - 1) / 2 of them before, rounded down."""
    before = (size - 1) // 2
    padded = np.pad(x, ((0, 0), (before, size - 1 - before), (0, 0), (0, 0)))
    return sum(padded[:, n : n + x.shape[1]] for n in range(size))


CASES = [
    ModuleCase(
        "WeightNorm_linear",
        module(
            "nn.WeightNorm",
            module("nn.Linear", bias=B5),
            v=V,
            g=G[:, 0],
            outputDim=1,
            viewIn=sizes(5, 7),
            viewOut=sizes(5, 7),
            weightSize=sizes(5, 7),
        ),
        (3, 7),
        lambda x: x @ (V * G / np.sqrt((V * V).sum(1, keepdims=True) + 0.0001)).T + B5,
    ),
    ModuleCase(
        "SpatialBatchNormalization", bn(M3, S3, W3, B3, eps=0.001, train=True), (2, 3, 5, 6), lambda x: normed(x, 0.001), grows=True
    ),
    ModuleCase("SpatialBatchNormalization_3d", bn(M3, S3, W3, B3, eps=0.001), X4[0], lambda x: normed(x[None], 0.001)),
    ModuleCase(
        "SpatialBatchNormalization_v1",
        module("nn.SpatialBatchNormalization", running_mean=M3, running_std=(S3 + 1e-05) ** (-0.5), weight=W3, bias=B3, eps=1e-05),
        (2, 3, 5, 6),
        normed,
        grows=True,
    ),
    ModuleCase(
        "BatchNormalization_no_bias",
        bn(M3, S3, W3, None, "nn.BatchNormalization", eps=0.1),
        (4, 3),
        lambda x: (x - M3) / np.sqrt(S3 + 0.1) * W3,
    ),
    ModuleCase(
        "VolumetricBatchNormalization",
        bn(M3, S3, W3, B3, "nn.VolumetricBatchNormalization", eps=1e-05),
        (2, 3, 2, 3, 2),
        lambda x: normed(x.reshape(-1, 3, 6, 2)).reshape(x.shape),
    ),
    ModuleCase(
        "InstanceNormalization",
        module("nn.InstanceNormalization", weight=W3, bias=B3, eps=1e-05),
        (2, 3, 5, 6),
        lambda x: (x - x.mean((2, 3), keepdims=True)) / np.sqrt(x.var((2, 3), keepdims=True) + 1e-05) * channels(W3) + channels(B3),
        grows=True,
    ),
    ModuleCase(
        "SpatialCrossMapLRN",
        module("nn.SpatialCrossMapLRN", size=5, alpha=0.8, beta=0.6, k=2),
        (2, 7, 2, 3),
        lambda x: lrn(x, 5, 0.8, 0.6, 2),
        grows=True,
    ),
    ModuleCase(
        "SpatialCrossMapLRN_3d",
        module("nn.SpatialCrossMapLRN", size=9, alpha=0.8, beta=0.6, k=1),
        (4, 2, 3),
        lambda x: lrn(x[None], 9, 0.8, 0.6, 1)[0],
        grows=True,
    ),
    ModuleCase(
        "cudnn.LRN_K",
        module("cudnn.SpatialCrossMapLRN", size=3, alpha=0.8, beta=0.6, K=2, k=1),
        (2, 4, 2, 3),
        lambda x: lrn(x, 3, 0.8, 0.6, 2),
        grows=True,
    ),
    ModuleCase(
        "SpatialFeatNormalization",
        module("nn.SpatialFeatNormalization", mean=M3, std=S3),
        (2, 3, 5, 6),
        lambda x: (x - channels(M3)) / channels(S3),
        grows=True,
    ),
    ModuleCase(
        "WeightNorm_full",
        module(
            "nn.WeightNorm",
            module("nn.SpatialFullConvolution", bias=B, dW=1, dH=1, padW=0, padH=0, adjW=0, adjH=0, **CONV),
            v=FULL.swapaxes(0, 1).reshape(4, -1).copy(),
            g=B,
            outputDim=2,
            weightSize=np.int64([3, 4, 3, 2]),
        ),
        (2, 3, 7, 8),
        lambda x: full_conv(x, FULL * (B / np.sqrt((FULL**2).sum((0, 2, 3)) + 0.0001)).reshape(1, 4, 1, 1), B, (1, 1), (0, 0), (0, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase("subtractive", SUBTRACTIVE, (2, 3, 7, 8), subtractive, tolerance=5e-5, grows=True),
    ModuleCase("subtractive_3d", SUBTRACTIVE, X[0], lambda x: subtractive(x[None])[0], tolerance=5e-5),
    ModuleCase("divisive", DIVISIVE, (2, 3, 7, 8), divisive, tolerance=5e-5, grows=True),
    ModuleCase(
        "contrastive",
        module("nn.SpatialContrastiveNormalization", normalizer=module("nn.Sequential", SUBTRACTIVE, DIVISIVE)),
        (2, 3, 7, 8),
        lambda x: divisive(subtractive(x)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "cudnn.BatchNormalization",
        bn(M3, S3, W3, B3, "cudnn.BatchNormalization"),
        (4, 3),
        lambda x: normed(x[:, :, None, None])[:, :, 0, 0],
    ),
    *[
        ModuleCase(name, bn(M3, S3, W3, B3, name), (2, 3, 5, 6), normed, grows=True)
        for name in ("cudnn.SpatialBatchNormalization", "fbnn.SpatialBatchNormalization")
    ],
    ModuleCase(
        "fbnn.SpatialBatchNormalization_old",
        module("fbnn.SpatialBatchNormalization", running_mean=M3, running_std=(S3 + 1e-5) ** -0.5, weight=W3, bias=B3, eps=1e-5),
        (2, 3, 5, 6),
        normed,
        grows=True,
    ),
    ModuleCase(
        "cudnn.VolumetricBatchNormalization",
        bn(M3, S3, W3, B3, "cudnn.VolumetricBatchNormalization"),
        (2, 3, 2, 3, 2),
        lambda x: normed(x.reshape(*x.shape[:3], -1)).reshape(x.shape),
        grows=True,
    ),
    ModuleCase(
        "AdaptiveInstanceNormalization",
        module("nn.AdaptiveInstanceNormalization", eps=0.1, nOutput=3),
        [(2, 3, 5, 6), (2, 3, 4, 3)],
        lambda x: (
            (x[0] - x[0].mean((2, 3), keepdims=True)) / np.sqrt(x[0].var((2, 3), keepdims=True) + 0.1) * x[1].std((2, 3), keepdims=True)
            + x[1].mean((2, 3), keepdims=True)
        ),
        grows=True,
    ),
    *[
        ModuleCase(
            name,
            module(name, size=size, alpha=0.3, beta=0.75, k=1),
            (2, 6, 3, 2),
            lambda x, size=size: x / (1 + 0.3 / size * window_sums(x * x, size)) ** 0.75,
        )
        for name, size in (("inn.SpatialCrossResponseNormalization", 3), ("cudnn.SpatialCrossMapLRN", 4))
    ],
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
