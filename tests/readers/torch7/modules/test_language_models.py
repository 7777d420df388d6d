"""Rows of the programs for text and images: formulas in numpy, written from the programs' sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module, sizes
from tests.readers.torch7.module_case import ModuleCase, rand

W64, B6 = rand(6, 4), rand(6)
W46 = rand(4, 6, seed=1)
FLAT = rand(2 * (4 * 4) + 2 * 2 * 4, seed=2)
SCALE = 0.7


def both_ways(x: np.ndarray) -> np.ndarray:
    """An RNN without input matrix in both directions, ReLU and clamp, the directions added."""
    r = FLAT[:32].reshape(2, 4, 4)
    bias = FLAT[32:].reshape(2, 2, 4).sum(1)
    total = 0
    given = x @ W46.T
    for direction in range(2):
        line, h = [], np.zeros((x.shape[1], 4))
        for item in given[:: -1 if direction else 1]:
            h = np.maximum(item + h @ r[direction].T + bias[direction], 0)
            line.append(np.clip(h, 0, 20))
        total = total + np.stack(line[:: -1 if direction else 1])
    return total


VIEW_IN, VIEW_OUT = module("nn.View", size=sizes(6, -1), numInputDims=3), module("nn.View", size=sizes(3, 2, -1), numInputDims=2)
RNN = module(
    "cudnn.RNN",
    hiddenSize=4,
    numLayers=1,
    bidirectional="CUDNN_BIDIRECTIONAL",
    inputMode="CUDNN_SKIP_INPUT",
    mode="CUDNN_RNN_RELU",
    weight=FLAT,
)

FLAT_VIEW, BACK_VIEW = module("nn.View", size=sizes(35, -1), numInputDims=3), module("nn.View", size=sizes(5, 7, -1), numInputDims=2)
ADAPTED = module("nn.Sequential", FLAT_VIEW, module("nn.Linear", weight=W64, bias=B6), BACK_VIEW, module("nn.Tanh"))

CASES = [
    ModuleCase("FeatExpander", module("nn.FeatExpander", n=3), (2, 4), lambda x: np.repeat(x, 3, 0)),
    *[
        ModuleCase(name, module(name, module("nn.Linear", weight=W64, bias=B6)), (3, 4), lambda x: x @ W64.T + B6)
        for name in (
            "onmt.Network",
            "onmt.Generator",
            "onmt.NoAttention",
            "onmt.FeaturesEmbedding",
            "onmt.FeaturesGenerator",
            "onmt.Bridge",
        )
    ],
    *[
        ModuleCase(
            f"JoinReplicateTable_{along}_{join}",
            module("onmt.JoinReplicateTable", dimensionReplicate=along, dimensionJoin=join, nInputDims=dims),
            [(2, 1, 3), (2, 4, 2)],
            lambda x: np.concatenate([x[0].repeat(4, 1), x[1]], 2),
        )
        for along, join, dims in ((-2, -1, None), (1, 2, 2), (2, 3, 3))
    ],
    ModuleCase(
        "JoinReplicateTable_rows",
        module("onmt.JoinReplicateTable", dimensionReplicate=1, dimensionJoin=2),
        [(1, 3), (4, 2)],
        lambda x: np.concatenate([x[0].repeat(4, 0), x[1]], 1),
        fixed=True,
    ),
    ModuleCase(
        "WordEmbedding",
        module("onmt.WordEmbedding", module("nn.LookupTable", weight=W64)),
        np.array([2, 6, 1]),
        lambda x: W64[x.astype(int) - 1],
    ),
    ModuleCase(
        "TemporalAdapter",
        module("nn.TemporalAdapter", view_in=FLAT_VIEW, view_out=BACK_VIEW, net=ADAPTED),
        (2, 3, 4),
        lambda x: np.tanh(x @ W64.T + B6),
    ),
    ModuleCase(
        "BatchBRNNReLU",
        module(
            "cudnn.BatchBRNNReLU",
            VIEW_IN,
            module("nn.LinearNoBias", weight=W46),
            VIEW_OUT,
            RNN,
            module("nn.Clamp", min_val=0, max_val=20),
            module("nn.View", size=sizes(-1, 2, 4), numInputDims=2),
            module("nn.Sum", dimension=3),
            view_in=VIEW_IN,
            view_out=VIEW_OUT,
            rnn=RNN,
        ),
        (5, 3, 6),
        both_ways,
    ),
    ModuleCase(
        "BatchBRNN",
        module("cudnn.BatchBRNN", VIEW_IN, VIEW_OUT, view_in=VIEW_IN, view_out=VIEW_OUT),
        (5, 3, 6),
        lambda x: x,
    ),
    ModuleCase("ReinforceGamma", module("nn.ReinforceGamma"), [(2, 3), (2, 3)], lambda x: x[0] * x[1]),
    ModuleCase("ReinforceGamma_scale", module("nn.ReinforceGamma", scale=SCALE), (2, 3), lambda x: x * SCALE),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
