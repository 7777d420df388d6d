"""Rows of identity: formulas in numpy, written from Torch7's sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase

CASES = [
    ModuleCase("Dropout_v1", module("nn.Dropout", p=0.4), (3, 7), lambda x: x * 0.6),
    ModuleCase("Dropout_v2", module("nn.Dropout", p=0.4, v2=True), (3, 7), lambda x: x),
    ModuleCase("VolumetricDropout", module("nn.VolumetricDropout", p=0.4), (2, 3, 5, 6), lambda x: x * 0.6, grows=True),
    ModuleCase("WhiteNoise", module("nn.WhiteNoise", mean=0.5, std=3), (3, 7), lambda x: x + 0.5),
    *[
        ModuleCase(name, module(f"nn.{name}"), (3, 7), lambda x: x)
        for name in ("L1Penalty", "PrintSize", "ActivityRegularizer", "Contiguous", "GradientReversal", "ZeroGrad", "Copy")
    ],
    *[
        ModuleCase(name, module(f"nn.{name}"), (2, 3, 5, 6), lambda x: x)
        for name in ("TVLoss", "ContentLoss", "StyleLoss", "DeepDreamLoss", "TotalDropout", "TotalVariation")
    ],
    ModuleCase("SpatialDropout", module("nn.SpatialDropout", p=0.4), (2, 3, 5, 6), lambda x: x * 0.6, grows=True),
    *[
        ModuleCase(name, module(f"nn.{name}", p=0.3), (2, 3, 5, 6), lambda x: x, grows=True)
        for name in (
            "SpatialRegionDropout",
            "SimpleColorTransform",
            "PCAColorTransform",
            "CopyGrad",
            "NormStabilizer",
            "CategoricalEntropy",
        )
    ],
    *[ModuleCase(name, module(f"nn.{name}"), (3, 7), lambda x: x) for name in ("ReinforceBernoulli", "ReinforceCategorical")],
    ModuleCase("ReinforceNormal", module("nn.ReinforceNormal"), [(3, 7), (3, 7)], lambda x: x[0]),
    *[
        ModuleCase(name, module(name, p=0.3), (2, 3), lambda x: x)
        for name in ("onmt.VariationalDropout", "fbnn.NestedDropout", "fbnn.IndividualDropout", "nn.RegularizeLayer", "nn.DummyGradOutput")
    ],
    ModuleCase("fbnn_Dropout", module("fbnn.Dropout", p=0.3), (2, 3), lambda x: x * 0.7),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
