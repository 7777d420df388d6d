"""Functions of each element, against their formulas."""

from pathlib import Path

import numpy as np
import pytest

from tests.readers.caffe.layer_case import LayerCase

X = [(2, 3, 4, 5)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


CASES = [
    LayerCase("ReLU", "", X, lambda x: np.maximum(x, 0)),
    LayerCase("ReLU", "relu_param { negative_slope: 0.3 }", X, lambda x: np.maximum(x, 0) + np.float32(0.3) * np.minimum(x, 0)),
    LayerCase("ReLU", "relu_param { negative_slope: -0.5 engine: CUDNN }", X, lambda x: np.maximum(x, 0) - 0.5 * np.minimum(x, 0)),
    LayerCase("ReLU6", "", X, lambda x: np.clip(x, 0, 6), low=-9, high=9),
    LayerCase("PReLU", "", X, lambda x, w: np.where(x > 0, x, x * w[:, None, None]), [(3,)]),
    LayerCase("PReLU", "", [(2, 3)], lambda x, w: np.where(x > 0, x, x * w), [(3,)], name="PReLU-2d"),
    LayerCase("PReLU", "prelu_param { channel_shared: true }", X, lambda x, w: np.where(x > 0, x, x * w), [(1,)]),
    LayerCase(
        "PReLU",
        "prelu_param { filler { value: 0.5 } }",
        X,
        lambda x: np.where(x > 0, x, x * 0.5),
        warns="no weights",
        name="PReLU-filler",
    ),
    LayerCase("ELU", "elu_param { alpha: 0.7 }", X, lambda x: np.where(x > 0, x, np.float32(0.7) * np.expm1(x))),
    LayerCase("Sigmoid", "", X, sigmoid),
    LayerCase("TanH", "", X, np.tanh),
    LayerCase("AbsVal", "", X, np.abs),
    LayerCase("BNLL", "", X, lambda x: np.logaddexp(x, 0), low=-90, high=90),
    LayerCase("Power", "power_param { power: 3 scale: 0.5 shift: 2 }", X, lambda x: (2 + 0.5 * x) ** 3),
    LayerCase("Power", "power_param { power: 0.5 shift: 2 }", X, lambda x: np.sqrt(x + 2)),
    LayerCase("Power", "power_param { power: 2 scale: 0 shift: 3 }", X, lambda x: np.full_like(x, 9)),
    LayerCase("Power", "power_param { power: 0 }", X, np.ones_like),
    LayerCase("Exp", "", X, np.exp),
    LayerCase("Exp", "exp_param { base: 2 scale: 0.5 shift: 3 }", X, lambda x: 2.0 ** (3 + 0.5 * x)),
    LayerCase("Exp", "exp_param { shift: 1 }", X, lambda x: np.exp(1 + x)),
    LayerCase("Log", "", X, np.log, low=0.1),
    LayerCase("Log", "log_param { base: 10 scale: 2 shift: 1 }", X, lambda x: np.log10(2 * x + 1), low=0),
    LayerCase("Threshold", "threshold_param { threshold: 0.5 }", X, lambda x: x > 0.5),
    LayerCase("Clip", "clip_param { min: -1 max: 0.5 }", X, lambda x: np.clip(x, -1, 0.5)),
    LayerCase("Clip", "clip_param { min: 1 max: -0.5 }", X, np.ones_like),
    LayerCase("Swish", "swish_param { beta: 0.7 }", X, lambda x: x * sigmoid(0.7 * x)),
    LayerCase("Swish", "", X, lambda x: x * sigmoid(x)),
    LayerCase("Mish", "", X, lambda x: x * np.tanh(np.logaddexp(x, 0)), low=-30, high=30),
    LayerCase("Dropout", "dropout_param { dropout_ratio: 0.4 }", X, lambda x: x),
    LayerCase("Dropout", "phase: TRAIN", X, lambda x: x, warns="at random"),
    LayerCase("Dropout", "dropout_param { dropout_ratio: 0.4 scale_train: false }", X, lambda x: x * 0.6),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_neuron(case: LayerCase, tmp_path: Path) -> None:
    case.check(tmp_path)
