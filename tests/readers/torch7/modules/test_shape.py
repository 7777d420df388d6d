"""Rows of shape: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import Object, module, sizes
from tests.readers.torch7.module_case import ModuleCase, rand

X2 = rand(3, 7)

X3 = rand(3, 4, 5)


def view(size: Any, dims: Any = None) -> Object:
    return module("nn.View", size=sizes(*size), numElements=math.prod(n for n in size if n > 0), numInputDims=dims)


CASES = [
    ModuleCase(
        "SplitTable_batch", module("nn.SplitTable", dimension=1, nInputDims=2), (3, 4, 5), lambda x: [x[:, i] for i in range(4)], grows=True
    ),
    ModuleCase("View", view([20]), (3, 4, 5), lambda x: x.reshape(-1, 20), grows=True),
    ModuleCase("View_one_sample", view([20]), X3[:1], lambda x: x.reshape(20)),
    ModuleCase("View_one_sample_dims", view([20], 2), X3[:1], lambda x: x.reshape(1, 20)),
    ModuleCase("View_all", view([-1]), (3, 4, 5), lambda x: x.reshape(-1), grows=True),
    ModuleCase("View_all_dims", view([-1], 2), (3, 4, 5), lambda x: x.reshape(-1, 20)),
    ModuleCase("View_merge_batch", view([5]), (3, 4, 5), lambda x: x.reshape(-1, 5), grows=True),
    ModuleCase("View_whole", view([3, 20]), (3, 4, 5), lambda x: x.reshape(3, 20), fixed=True),
    ModuleCase("View_infer_dims", view([2, -1], 2), (3, 4, 5), lambda x: x.reshape(-1, 2, 10)),
    ModuleCase("View_sample", view([20], 2), X3[0], lambda x: x.reshape(20)),
    ModuleCase("View_half_sample", view([10], 2), (3, 4, 5), lambda x: x.reshape(-1, 10), grows=True),
    ModuleCase("View_1_n", view([1, 20], 2), (3, 4, 5), lambda x: x.reshape(-1, 1, 20), grows=True),
    ModuleCase("Reshape", module("nn.Reshape", size=sizes(5, 4), nelement=20), (3, 4, 5), lambda x: x.reshape(-1, 5, 4), grows=True),
    ModuleCase("Reshape_whole", module("nn.Reshape", size=sizes(5, 12), nelement=60), (3, 4, 5), lambda x: x.reshape(5, 12), fixed=True),
    ModuleCase("Reshape_batchMode", module("nn.Reshape", size=sizes(20), batchMode=True), X3[:1], lambda x: x.reshape(1, 20)),
    ModuleCase("Reshape_noBatch", module("nn.Reshape", size=sizes(20), batchMode=False), X3[:1], lambda x: x.reshape(20)),
    ModuleCase("Collapse", module("nn.Collapse", nInputDim=2), (3, 4, 5), lambda x: x.reshape(-1, 20)),
    ModuleCase("Collapse_whole", module("nn.Collapse", nInputDim=3), (3, 4, 5), lambda x: x.reshape(60), fixed=True),
    ModuleCase("Squeeze_batch_of_one", module("nn.Squeeze", numInputDims=3), (1, 1, 3, 1), lambda x: x.reshape(1, 3), fixed=True),
    ModuleCase("Squeeze_dim", module("nn.Squeeze", dim=2, numInputDims=3), (2, 3, 1, 4), lambda x: x.reshape(-1, 3, 4)),
    ModuleCase("Squeeze_dim_not_one", module("nn.Squeeze", dim=2), (3, 4, 5), lambda x: x, grows=True),
    ModuleCase("Unsqueeze_dims", module("nn.Unsqueeze", pos=1, numInputDims=2), (3, 4, 5), lambda x: x[:, None], grows=True),
    ModuleCase("Replicate_front", module("nn.Replicate", nfeatures=3, dim=1), (3, 4), lambda x: np.stack([x] * 3)),
    ModuleCase(
        "Transpose_chain", module("nn.Transpose", permutations=[[1, 2], [2, 3]]), (3, 4, 5), lambda x: x.transpose(1, 2, 0), grows=True
    ),
    ModuleCase(
        "Transpose_dims",
        module("nn.Transpose", permutations=[[1, 2]], numInputDims=2),
        (3, 4, 5),
        lambda x: x.transpose(0, 2, 1),
        grows=True,
    ),
    ModuleCase(
        "PixelShuffle",
        module("nn.PixelShuffle", upscaleFactor=2),
        (2, 8, 3, 4),
        lambda x: x.reshape(-1, 2, 2, 2, 3, 4).transpose(0, 1, 4, 2, 5, 3).reshape(-1, 2, 6, 8),
    ),
    ModuleCase(
        "Convert_bwc",
        module("nn.Convert", inputShape="bchw", outputShape="bhwc"),
        (2, 3, 5, 6),
        lambda x: x.transpose(0, 2, 3, 1),
        grows=True,
    ),
    ModuleCase(
        "Convert_chwb",
        module("nn.Convert", inputShape="chwb", outputShape="bf"),
        (2, 3, 5, 6),
        lambda x: x.transpose(3, 1, 2, 0).reshape(6, -1),
        fixed=True,
    ),
    ModuleCase(
        "Convert_rest", module("nn.Convert", inputShape="bf", outputShape="fb"), (2, 3, 5, 6), lambda x: x.swapaxes(0, 1), grows=True
    ),
    ModuleCase("Convert_b", module("nn.Convert", inputShape="bf", outputShape="b"), X2[:, :1], lambda x: x[:, 0]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
