"""Rows of convolution: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7 import running
from tests.readers.torch7.formulas import MAP, MAP_W, conv, dense, full_conv
from tests.readers.torch7.lua import Storage, Tensor, module
from tests.readers.torch7.module_case import ModuleCase, rand

X = rand(2, 3, 7, 8)

W = rand(4, 3, 3, 2)

B = rand(4, seed=1)

CONV = {"nInputPlane": 3, "nOutputPlane": 4, "kW": 2, "kH": 3}

WV = rand(4, 3, 2, 3, 2)

VOLUME = {"nInputPlane": 3, "nOutputPlane": 4, "kT": 2, "kH": 3, "kW": 2}

FULL = rand(3, 4, 3, 2)

FULL_V = rand(3, 4, 2, 3, 2)

DEPTH = rand(2, 3, 3, 2)

DEPTH_B = rand(2, 3)

LOCAL = rand(3, 4, 2, 3, 3, 2)  # oH, oW, out, in, kH, kW for an image of 7 by 8 with strides 2

LOCAL_B = rand(2, 3, 4)

MAP_B = rand(2)


def local(x: np.ndarray) -> np.ndarray:
    out = np.zeros((len(x), 2, 3, 4))
    for i, j in itertools.product(range(3), range(4)):
        out[:, :, i, j] = np.einsum("nchw,ochw->no", x[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 2], LOCAL[i, j])
    return out + LOCAL_B


def depthwise(x: np.ndarray) -> np.ndarray:
    """SpatialDepthWiseConvolution.c reads the height from dimension 4 and the width from 3: rows of as many pixels as the image is high."""
    w = DEPTH.transpose(1, 0, 2, 3).reshape(6, 1, 3, 2)
    return conv(x.reshape(*x.shape[:2], x.shape[3], x.shape[2]), w, DEPTH_B.T.reshape(-1), groups=3)


CASES = [
    ModuleCase(
        "SpatialConvolution",
        module("nn.SpatialConvolution", weight=W, bias=B, dW=1, dH=2, padW=1, padH=0, **CONV),
        (2, 3, 7, 8),
        lambda x: conv(x, W, B, (2, 1), (0, 1)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialConvolutionMM_2d",
        module("nn.SpatialConvolutionMM", weight=W.reshape(4, -1), bias=B, dW=1, dH=1, padding=2, padW=0, **CONV),
        (2, 3, 7, 8),
        lambda x: conv(x, W, B, p=(2, 2)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialDilatedConvolution",
        module("nn.SpatialDilatedConvolution", weight=W, dilationW=3, dilationH=2, padH=1, **CONV),
        (2, 3, 7, 8),
        lambda x: conv(x, W, dil=(2, 3), p=(1, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialDilatedConvolution_padding",
        module("nn.SpatialDilatedConvolution", weight=W, padding=2, padW=0, padH=1, **CONV),
        (2, 3, 7, 8),
        lambda x: conv(x, W, p=(1, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "cudnn_groups",
        module("cudnn.SpatialConvolution", weight=W[:, :1], groups=1, nInputPlane=1, nOutputPlane=4, kW=2, kH=3),
        X[:, :1],
        lambda x: conv(x, W[:, :1]),
        tolerance=5e-5,
    ),
    ModuleCase(
        "cudnn_two_groups",
        module("cudnn.SpatialConvolution", weight=W[:, :2], groups=2, nInputPlane=4, nOutputPlane=4, kW=2, kH=3, bias=B),
        (2, 4, 5, 5),
        lambda x: conv(x, W[:, :2], B, groups=2),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "VolumetricConvolution",
        module("nn.VolumetricConvolution", weight=WV, bias=B, dT=1, dH=2, dW=1, padT=1, padH=0, padW=2, **VOLUME),
        (2, 3, 4, 5, 6),
        lambda x: conv(x, WV, B, (1, 2, 1), (1, 0, 2)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialFullConvolution",
        module("nn.SpatialFullConvolution", weight=FULL, bias=B, dW=2, dH=3, padW=0, padH=1, adjW=1, adjH=2, **CONV),
        (2, 3, 7, 8),
        lambda x: full_conv(x, FULL, B, (3, 2), (1, 0), (2, 1)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialFullConvolution_table",
        module("nn.SpatialFullConvolution", weight=FULL, bias=B, dW=2, dH=3, padW=0, padH=1, **CONV),
        [(2, 3, 7, 8), (1, 1, 21, 17)],
        lambda x: full_conv(x[0], FULL, B, (3, 2), (1, 0), (2, 1)),
        tolerance=5e-5,
    ),
    ModuleCase(
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
        (2, 3, 4, 5, 6),
        lambda x: full_conv(x, FULL_V, B, (2, 1, 2), (1, 0, 1), (1, 0, 1)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "VolumetricFullConvolution_old",
        module("nn.VolumetricFullConvolution", weight=FULL_V.swapaxes(0, 1).copy(), bias=B, dT=2, dH=1, dW=2, pT=1, pH=0, pW=1, **VOLUME),
        (2, 3, 4, 5, 6),
        lambda x: full_conv(x, FULL_V, B, (2, 1, 2), (1, 0, 1), (0, 0, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
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
        (2, 3, 7, 8),
        depthwise,
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialConvolutionMap",
        module("nn.SpatialConvolutionMap", weight=MAP_W, bias=MAP_B, connTable=MAP, nInputPlane=3, nOutputPlane=2, kW=2, kH=3, dW=2, dH=1),
        (2, 3, 7, 8),
        lambda x: conv(x, dense(), MAP_B, (1, 2)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialFullConvolutionMap",
        module(
            "nn.SpatialFullConvolutionMap", weight=MAP_W, bias=MAP_B, connTable=MAP, nInputPlane=3, nOutputPlane=2, kW=2, kH=3, dW=2, dH=1
        ),
        (2, 3, 7, 8),
        lambda x: full_conv(x, dense().swapaxes(0, 1), MAP_B, (1, 2), (0, 0), (0, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
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
        (2, 3, 7, 8),
        local,
        tolerance=5e-5,
        grows=True,
    ),
    *[
        ModuleCase(name, module(name, weight=W, bias=B, **CONV), (2, 3, 7, 8), lambda x: conv(x, W, B), tolerance=5e-5, grows=True)
        for name in ("w2nn.EdgeFilter", "cudnn.SpatialConvolutionMM")
    ],
    *[
        ModuleCase(name, module(name, weight=WV, bias=B, **VOLUME), (2, 3, 4, 5, 6), lambda x: conv(x, WV, B), tolerance=5e-5, grows=True)
        for name in ("cudnn.VolumetricConvolution", "nn.VolumetricConvolutionMM")
    ],
    ModuleCase(
        "VolumetricDilatedConvolution",
        module("nn.VolumetricDilatedConvolution", weight=WV, dilationT=1, dilationH=2, dilationW=3, **VOLUME),
        (2, 3, 4, 5, 6),
        lambda x: conv(x, WV, dil=(1, 2, 3)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "cudnn.SpatialFullConvolution",
        module("cudnn.SpatialFullConvolution", weight=FULL, bias=B, dW=2, dH=3, padW=0, padH=1, **CONV),
        (2, 3, 7, 8),
        lambda x: full_conv(x, FULL, B, (3, 2), (1, 0), (0, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "cudnn.VolumetricFullConvolution",
        module("cudnn.VolumetricFullConvolution", weight=FULL_V, bias=B, dT=2, dH=1, dW=2, padT=1, padH=0, padW=1, **VOLUME),
        (2, 3, 4, 5, 6),
        lambda x: full_conv(x, FULL_V, B, (2, 1, 2), (1, 0, 1), (0, 0, 0)),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "SpatialBinaryConvolution",
        module("nn.SpatialBinaryConvolution", weight=W, dW=2, dH=1, padW=1, padH=0, **CONV),
        (2, 3, 7, 8),
        lambda x: conv(x, np.sign(W), d=(1, 2), p=(0, 1)) * abs(W).mean((1, 2, 3)).reshape(4, 1, 1),
        tolerance=5e-5,
        grows=True,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_narrowed_weights(tmp_path: Path) -> None:
    """A weight that is a narrow() of a larger storage, as getParameters() leaves it."""
    flat = Storage(rand(200))
    weight = Tensor(flat, (4, 3, 3, 2), (18, 6, 2, 1), 100)
    bias = Tensor(flat, (4,), (2,), 3)
    expected = conv(X, flat.array[100:172].reshape(4, 3, 3, 2), flat.array[3:11:2])
    running.check(tmp_path, module("nn.SpatialConvolution", weight=weight, bias=bias, dW=1, dH=1, padW=0, padH=0, **CONV), X, expected)
