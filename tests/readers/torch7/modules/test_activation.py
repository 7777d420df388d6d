"""Rows of activation: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

X2 = rand(3, 7)

X4 = rand(2, 3, 5, 6)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def soft(x: np.ndarray, axis: Any) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


CASES = [
    ModuleCase("ReLU", module("nn.ReLU", threshold=0, val=0), (3, 7), lambda x: np.maximum(x, 0)),
    ModuleCase("Threshold", module("nn.Threshold", threshold=0.5, val=-2, inplace=False), (3, 7), lambda x: np.where(x > 0.5, x, -2)),
    ModuleCase("Threshold_equal", module("nn.Threshold", threshold=0.5, val=7), np.float32([[0.5, 0.6]]), lambda x: np.float32([[7, 0.6]])),
    ModuleCase("ReLU6", module("nn.ReLU6"), X2 * 5, lambda x: np.clip(x, 0, 6)),
    ModuleCase("ClippedReLU", module("cudnn.ClippedReLU", ceiling=0.7), (3, 7), lambda x: np.clip(x, 0, 0.7)),
    ModuleCase("Clamp", module("nn.Clamp", min_val=-0.2, max_val=0.9), (3, 7), lambda x: np.clip(x, -0.2, 0.9)),
    ModuleCase("HardTanh", module("nn.HardTanh", min_val=-1, max_val=1), X2 * 2, lambda x: np.clip(x, -1, 1)),
    ModuleCase("LeakyReLU", module("nn.LeakyReLU", negval=0.3), (3, 7), lambda x: np.where(x > 0, x, 0.3 * x)),
    ModuleCase("RReLU", module("nn.RReLU", lower=0.1, upper=0.4, train=True), (3, 7), lambda x: np.where(x >= 0, x, 0.25 * x)),
    ModuleCase("ELU", module("nn.ELU", alpha=0.7), (3, 7), lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1))),
    ModuleCase("Minus", module("nn.Minus"), (3, 7), lambda x: -x),
    ModuleCase(
        "SaturatedLU",
        module("nn.SaturatedLU", threshold=-0.5, val=-2, threshold2=1, val2=3),
        (3, 7),
        lambda x: np.where(x > 1, 3, np.where(x < -0.5, -2, x)),
    ),
    ModuleCase(
        "fbnn.LeakyReLU",
        module("fbnn.LeakyReLU", nOutputPlane=0, weight=np.float32([0.3])),
        (2, 3, 7),
        lambda x: np.where(x > 0, x, x * np.float32(0.3)),
    ),
    ModuleCase(
        "PReLU_one",
        module("nn.PReLU", nOutputPlane=0, weight=np.float32([0.3])),
        (2, 3, 5, 6),
        lambda x: np.where(x > 0, x, 0.3 * x),
        grows=True,
    ),
    ModuleCase(
        "PReLU_4d",
        module("nn.PReLU", nOutputPlane=3, weight=np.float32([0.1, -0.2, 0.3])),
        (2, 3, 5, 6),
        lambda x: np.where(x > 0, x, np.float32([0.1, -0.2, 0.3]).reshape(3, 1, 1) * x),
        grows=True,
    ),
    ModuleCase(
        "PReLU_1d",
        module("nn.PReLU", nOutputPlane=4, weight=np.float32([0.1, -0.2, 0.3, 2])),
        (4,),
        lambda x: np.where(x > 0, x, np.float32([0.1, -0.2, 0.3, 2]) * x),
        fixed=True,
    ),
    ModuleCase("Sigmoid", module("nn.Sigmoid"), (3, 7), sigmoid),
    ModuleCase("Tanh", module("nn.Tanh"), (3, 7), np.tanh),
    ModuleCase("SoftSign", module("nn.SoftSign"), (3, 7), lambda x: x / (1 + abs(x))),
    ModuleCase("Abs", module("nn.Abs"), (3, 7), abs),
    ModuleCase("Exp", module("nn.Exp"), (3, 7), np.exp),
    ModuleCase("Log", module("nn.Log"), abs(X2) + 0.1, np.log),
    ModuleCase("Square", module("nn.Square"), (3, 7), np.square),
    ModuleCase("Sqrt_eps", module("nn.Sqrt", eps=0.3), abs(X2), np.sqrt),
    ModuleCase("Power_cube", module("nn.Power", pow=3), (3, 7), lambda x: x**3),
    ModuleCase("LogSigmoid", module("nn.LogSigmoid"), X2 * 4, lambda x: -np.log(1 + np.exp(-x.astype("f8")))),
    ModuleCase("LogSigmoid_large", module("nn.LogSigmoid"), X2 * 200, lambda x: -np.logaddexp(0, -x.astype("f8"))),
    ModuleCase(
        "SoftPlus_beta",
        module("nn.SoftPlus", beta=3, threshold=20),
        X2 * 8,
        lambda x: np.where(3 * x > 20, x, np.log1p(np.exp(3 * x.astype("f8"))) / 3),
    ),
    ModuleCase("SoftPlus_threshold", module("nn.SoftPlus", beta=1, threshold=1), (3, 7), lambda x: np.where(x > 1, x, np.log1p(np.exp(x)))),
    ModuleCase(
        "SoftShrink",
        module("nn.SoftShrink", **{"lambda": 0.4}),
        (3, 7),
        lambda x: np.where(x > 0.4, x - 0.4, np.where(x < -0.4, x + 0.4, 0)),
    ),
    ModuleCase("SoftShrink_negative", module("nn.SoftShrink", **{"lambda": -0.4}), (3, 7), lambda x: np.where(x > -0.4, x + 0.4, x - 0.4)),
    ModuleCase("HardShrink", module("nn.HardShrink", **{"lambda": 0.4}), (3, 7), lambda x: np.where(abs(x) > 0.4, x, 0)),
    ModuleCase("TanhShrink", module("nn.TanhShrink"), (3, 7), lambda x: x - np.tanh(x)),
    ModuleCase("GatedLinearUnit_4d", module("nn.GatedLinearUnit", dim=4), (2, 3, 5, 6), lambda x: x[..., :3] * sigmoid(x[..., 3:])),
    ModuleCase("GatedLinearUnit_default", module("nn.GatedLinearUnit"), (3, 4), lambda x: x[:, :2] * sigmoid(x[:, 2:])),
    ModuleCase("CReLU_4d", module("nn.CReLU", nInputDims=3), (2, 3, 5, 6), lambda x: np.maximum(np.concatenate([x, -x], 1), 0), grows=True),
    ModuleCase("CReLU_3d", module("nn.CReLU", nInputDims=3), X4[0], lambda x: np.maximum(np.concatenate([x, -x], 0), 0)),
    ModuleCase("SoftMax_1d", module("nn.SoftMax"), X2[0], lambda x: soft(x, 0)),
    ModuleCase("SoftMax_2d", module("nn.SoftMax"), (3, 7), lambda x: soft(x, 1)),
    ModuleCase("SoftMax_3d", module("nn.SoftMax"), (3, 4, 5), lambda x: soft(x, 0), grows=True),
    ModuleCase("SoftMax_4d", module("nn.SoftMax"), (2, 3, 5, 6), lambda x: soft(x, 1), grows=True),
    ModuleCase("LogSoftMax_3d", module("nn.LogSoftMax"), (3, 4, 5), lambda x: np.log(soft(x, 0)), grows=True),
    ModuleCase("SoftMin_3d", module("nn.SoftMin"), (3, 4, 5), lambda x: soft(-x, 0), grows=True),
    ModuleCase("SpatialSoftMax_3d", module("nn.SpatialSoftMax"), (3, 4, 5), lambda x: soft(x, 0), grows=True),
    ModuleCase(
        "cudnn.SoftMax_4d", module("cudnn.SoftMax"), (2, 3, 5, 6), lambda x: soft(x.reshape(len(x), -1), 1).reshape(x.shape), grows=True
    ),
    ModuleCase("cudnn.SoftMax_3d", module("cudnn.SoftMax"), (3, 4, 5), lambda x: soft(x.reshape(1, -1), 1).reshape(x.shape), fixed=True),
    ModuleCase("cudnn.LogSoftMax_2d", module("cudnn.LogSoftMax"), (3, 7), lambda x: np.log(soft(x, 1))),
    ModuleCase(
        "cudnn.SpatialSoftMax_4d",
        module("cudnn.SpatialSoftMax", mode="CUDNN_SOFTMAX_MODE_CHANNEL"),
        (2, 3, 5, 6),
        lambda x: soft(x, 1),
        grows=True,
    ),
    ModuleCase("w2nn.LeakyReLU", module("w2nn.LeakyReLU", negative_scale=0.1), (3, 7), lambda x: np.where(x > 0, x, 0.1 * x)),
    *[
        ModuleCase(f"{name}", module(name), (3, 7), f)
        for name, f in (("cudnn.ReLU", lambda x: np.maximum(x, 0)), ("cudnn.Sigmoid", sigmoid), ("cudnn.Tanh", np.tanh))
    ],
    ModuleCase(
        "cudnn.PReLU", module("cudnn.PReLU", nOutputPlane=0, weight=np.float32([0.3])), (3, 7), lambda x: np.where(x > 0, x, 0.3 * x)
    ),
    ModuleCase("SpatialLogSoftMax", module("nn.SpatialLogSoftMax"), (2, 3, 5, 6), lambda x: np.log(soft(x, 1)), grows=True),
    ModuleCase("cudnn.SpatialLogSoftMax", module("cudnn.SpatialLogSoftMax"), (2, 3, 5, 6), lambda x: np.log(soft(x, 1)), grows=True),
    ModuleCase("cudnn.VolumetricSoftMax", module("cudnn.VolumetricSoftMax"), (2, 3, 2, 5, 6), lambda x: soft(x, 1), grows=True),
    ModuleCase(
        "cudnn.VolumetricLogSoftMax", module("cudnn.VolumetricLogSoftMax"), (2, 3, 2, 5, 6), lambda x: np.log(soft(x, 1)), grows=True
    ),
    ModuleCase("Clip", module("nn.Clip", minval=-0.5, maxval=0.25), (3, 7), lambda x: np.clip(x, -0.5, 0.25)),
    ModuleCase("w2nn.InplaceClip01", module("w2nn.InplaceClip01"), (3, 7), lambda x: np.clip(x, 0, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
