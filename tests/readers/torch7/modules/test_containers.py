"""Rows of containers: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.formulas import pooled, pooling
from tests.readers.torch7.lua import Object, Pairs, module, sizes
from tests.readers.torch7.module_case import ModuleCase, rand

X2 = rand(3, 7)

W75 = rand(5, 7)

B5 = rand(5, seed=1)

LAYER_NORM = module(
    "nn.LayerNormalization",
    module(
        "nn.ConcatTable",
        module("nn.Identity"),
        module(
            "nn.Sequential",
            module("nn.Mean", dimension=1, nInputDims=1, sizeAverage=True),
            module("nn.Replicate", nfeatures=7, dim=1, ndim=1),
        ),
    ),
    module("nn.CSubTable"),
    module("nn.Normalize", p=2, eps=1e-10),
    module("nn.MulConstant", constant_scalar=math.sqrt(7)),
    module("nn.CMul", weight=W75[0]),
    module("nn.Add", bias=W75[1], scalar=False),
)


def layer_norm(x: np.ndarray) -> np.ndarray:
    """A batch of N subtracts mean[k % N] from its element k: the subtraction walks both tensors flat."""
    mean = np.atleast_1d(x.mean(-1))
    rest = (x.reshape(-1) - np.tile(mean, 7)).reshape(x.shape)
    return rest / np.sqrt((rest**2).sum(-1, keepdims=True) + 1e-10) * math.sqrt(7) * W75[0] + W75[1]


X = rand(2, 3, 7, 8)

B5 = rand(5, seed=1)

AVERAGE = {"count_include_pad": True, "divide": True, "ceil_mode": False}

LIN = [rand(4, 48), rand(4, 4, seed=1)]


def sharp_mask() -> Object:
    """A trunk of three modules; two refinements, each of what a module of the trunk answered and of the answer so far."""
    trunk = module("nn.Sequential", module("nn.Tanh"), module("nn.View", size=sizes(-1), numInputDims=3), linear(LIN[0]))
    refs = [
        module(
            "nn.Sequential",
            module(
                "nn.ParallelTable",
                module("nn.Sequential", module("nn.View", size=sizes(-1), numInputDims=3), linear(LIN[0])),
                module("nn.Tanh"),
            ),
            module("nn.CAddTable"),
        )
        for _ in range(2)
    ]
    return Object("nn.SharpMask", {"trunk": trunk, "refs": Pairs([(0, linear(LIN[1])), (1, refs[0]), (2, refs[1])]), "skpos": [1, 1]})


def sharp_mask_formula(x: np.ndarray) -> np.ndarray:
    features = np.tanh(x).reshape(len(x), -1) @ LIN[0].T
    out = features @ LIN[1].T
    for _ in range(2):
        out = features + np.tanh(out)
    return out


def linear(weight: np.ndarray) -> Object:
    return module("nn.LinearNoBias", weight=weight)


def split_batch(x: np.ndarray) -> np.ndarray:
    return abs(x) @ LIN[1].T


CASES = [
    ModuleCase(
        "SequentialSplitBatch",
        module("nn.SequentialSplitBatch", module("nn.Abs"), linear(LIN[1]), batch_size=2),
        (3, LIN[1].shape[1]),
        split_batch,
    ),
    ModuleCase(
        "Parallel",
        module("nn.Parallel", module("nn.Abs"), module("nn.Square"), inputDimension=2, outputDimension=1),
        (3, 2),
        lambda x: np.concatenate([abs(x[:, 0]), x[:, 1] ** 2]),
    ),
    ModuleCase(
        "Concat_batch",
        module("nn.Concat", module("nn.Abs"), module("nn.Square"), dimension=1),
        (3, 4),
        lambda x: np.concatenate([abs(x), x * x]),
    ),
    ModuleCase(
        "DepthConcat",
        module(
            "nn.DepthConcat", module("nn.Identity"), module("nn.SpatialZeroPadding", pad_l=-1, pad_r=-2, pad_t=0, pad_b=-1), dimension=2
        ),
        (2, 3, 5, 6),
        lambda x: np.concatenate([x, np.pad(x[:, :, :-1, 1:-2], [(0, 0), (0, 0), (0, 1), (1, 2)])], 1),
        grows=True,
    ),
    ModuleCase(
        "MapTable",
        module("nn.MapTable", module("nn.Linear", weight=W75, bias=B5)),
        [(3, 7), X2 * 2, X2 - 1],
        lambda x: [v @ W75.T + B5 for v in x],
    ),
    ModuleCase(
        "Bottle_out",
        module("nn.Bottle", module("nn.Linear", weight=W75, bias=B5), nInputDim=2, nOutputDim=2),
        (2, 3, 7),
        lambda x: x @ W75.T + B5,
        grows=True,
    ),
    ModuleCase(
        "Bottle_first_changed",
        module("nn.Bottle", module("nn.View", size=[-1, 10], numElements=10), nInputDim=3, nOutputDim=2),
        (2, 3, 4, 5),
        lambda x: x.reshape(2, 6, 10),
        fixed=True,
    ),
    ModuleCase(
        "Bottle_unneeded",
        module("nn.Bottle", module("nn.Linear", weight=W75, bias=B5), nInputDim=2, nOutputDim=2),
        (3, 7),
        lambda x: x @ W75.T + B5,
    ),
    ModuleCase("LayerNormalization_1d", LAYER_NORM, X2[0], layer_norm),
    ModuleCase("LayerNormalization_2d", LAYER_NORM, (3, 7), layer_norm),
    ModuleCase(
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
        tolerance=5e-5,
    ),
    ModuleCase(
        "Maxout",
        module(
            "nn.Maxout",
            module("nn.Linear", weight=W75[:4], bias=B5[:4]),
            module("nn.View", size=sizes(2, 2), numInputDims=1),
            module("nn.Max", dimension=1, nInputDims=2),
        ),
        (3, 7),
        lambda x: (x @ W75[:4].T + B5[:4]).reshape(-1, 2, 2).max(1),
    ),
    *[
        ModuleCase(name, module(f"nn.{name}", module("nn.Square")), (3, 7), np.square)
        for name in ("NoBackprop", "NaN", "Serial", "FireModule", "DataParallel", "Decorator", "DontCast", "DataParallelTable", "Profile")
    ],
    ModuleCase("GPU", module("nn.GPU", module("nn.Square")), (3, 7), np.square),
    ModuleCase("Profile_module", module("nn.Profile", module=module("nn.Square")), (3, 7), np.square),
    ModuleCase(
        "Inception",
        module("nn.Inception", module("nn.DepthConcat", module("nn.Square"), module("nn.Abs"), dimension=2)),
        (2, 3, 5, 6),
        lambda x: np.concatenate([x * x, abs(x)], 1),
        grows=True,
    ),
    ModuleCase("ModeSwitch", module("nn.ModeSwitch", module("nn.Tanh"), module("nn.Square")), (2, 3), lambda x: x * x),
    ModuleCase("SharpMask", sharp_mask(), (2, 3, 4, 4), sharp_mask_formula),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
