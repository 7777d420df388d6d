"""Rows of temporal: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.formulas import conv
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

B5 = rand(5, seed=1)

B = rand(4, seed=1)

XT = rand(2, 9, 4)

TEMPORAL = rand(5, 3 * 4)

ROW = rand(4, 1, 3)


def temporal(x: np.ndarray, d: int) -> np.ndarray:
    w = TEMPORAL.reshape(5, 3, 4)
    return np.stack([np.einsum("nkc,okc->no", x[:, t : t + 3], w) + B5 for t in range(0, x.shape[1] - 2, d)], 1)


B5 = rand(5, seed=1)

CASES = [
    ModuleCase(
        "TemporalConvolution",
        module("nn.TemporalConvolution", weight=TEMPORAL, bias=B5, inputFrameSize=4, outputFrameSize=5, kW=3, dW=2),
        (2, 9, 4),
        lambda x: temporal(x, 2),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
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
        (2, 9, 4),
        lambda x: temporal(x, 2),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "TemporalRowConvolution",
        module("nn.TemporalRowConvolution", weight=ROW, inputFrameSize=4, kW=3, dW=2, featFirst=False),
        (2, 9, 4),
        lambda x: conv(x.swapaxes(1, 2), ROW, d=(2,), groups=4).swapaxes(1, 2),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "TemporalRowConvolution_featFirst",
        module("nn.TemporalRowConvolution", weight=ROW, inputFrameSize=4, kW=3, dW=1, featFirst=True),
        XT.swapaxes(1, 2).copy(),
        lambda x: conv(x, ROW, groups=4),
        tolerance=5e-5,
    ),
    ModuleCase(
        "temporal_max",
        module("nn.TemporalMaxPooling", kW=3, dW=2),
        (2, 9, 4),
        lambda x: np.stack([x[:, t : t + 3].max(1) for t in range(0, 7, 2)], 1),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "temporal_sub_sampling",
        module("nn.TemporalSubSampling", inputFrameSize=4, kW=3, dW=2, weight=B, bias=B5[:4].copy()),
        (2, 9, 4),
        lambda x: np.stack([x[:, t : t + 3].sum(1) for t in range(0, 7, 2)], 1) * B + B5[:4],
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "dynamic_k_max",
        module("nn.TemporalDynamicKMaxPooling", minK=2, factor=0.5),
        (2, 9, 4),
        lambda x: np.take_along_axis(x, np.sort(np.argsort(-x, axis=1)[:, :5], axis=1), 1),
        tolerance=5e-5,
        grows=True,
    ),
    ModuleCase(
        "TemporalConvolutionTBC",
        module("nn.TemporalConvolutionTBC", weight=rand(3, 4, 5), bias=rand(5), pad=1, kw=3),
        (6, 2, 4),
        lambda x: sum(np.pad(x, ((1, 1), (0, 0), (0, 0)))[n : n + len(x)] @ rand(3, 4, 5)[n] for n in range(3)) + rand(5),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
