"""Layers that move, join, compare and sum numbers, against numpy."""

from pathlib import Path

import numpy as np
import pytest

from tests.readers.caffe.layer_case import LayerCase

X = [(2, 6, 4, 5)]
TWO = [(2, 3, 4), (2, 3, 4)]


def reshape(*dims: int) -> str:
    return "shape { " + " ".join(f"dim: {d}" for d in dims) + " }"


def cropped(x, y, top, left):
    """x from a corner on, in the height and width of y."""
    return x[:, :, top : top + y.shape[2], left : left + y.shape[3]]


ARITHMETIC = [
    LayerCase("Eltwise", "", TWO, lambda a, b: a + b),
    LayerCase("Eltwise", "eltwise_param { coeff: 0.5 coeff: -2 coeff: 1 }", [*TWO, (2, 3, 4)], lambda a, b, c: 0.5 * a - 2 * b + c),
    LayerCase("Eltwise", "eltwise_param { operation: PROD }", [*TWO, (2, 3, 4)], lambda a, b, c: a * b * c),
    LayerCase("Eltwise", "eltwise_param { operation: MAX }", [*TWO, (2, 3, 4)], lambda *xs: np.max(xs, 0)),
    LayerCase("Eltwise", "eltwise_param { operation: MAX coeff: 2 coeff: 3 }", TWO, np.maximum),
    LayerCase("Axpy", "", [(2, 3, 1, 1), (2, 3, 4, 5), (2, 3, 4, 5)], lambda a, x, y: a * x + y),
    LayerCase("Axpy", "", [(2, 3), (2, 3, 4, 5), (2, 3, 4, 5)], lambda a, x, y: a[:, :, None, None] * x + y, name="Axpy-2d"),
    LayerCase("Reduction", "reduction_param { axis: 1 }", X, lambda x: x.sum((1, 2, 3))),
    LayerCase("Reduction", "reduction_param { axis: -2 operation: ASUM coeff: 0.5 }", X, lambda x: 0.5 * np.abs(x).sum((2, 3))),
    LayerCase("Reduction", "reduction_param { axis: 2 operation: SUMSQ }", X, lambda x: (x**2).sum((2, 3))),
    LayerCase("Reduction", "reduction_param { operation: MEAN coeff: 2 }", X, lambda x: 2 * x.mean()),
]

TIES = np.array([[1, 5, 5, 2], [3, 3, 3, 3]])


def ranked(x, count, axis):
    """Indices of the largest; of equals the last first."""
    behind = np.flip(x, axis)
    order = np.argsort(-behind, axis, kind="stable").take(range(count), axis)
    return x.shape[axis] - 1 - order


def top(x, count, with_values=False):
    flat = x.reshape(len(x), -1)
    order = ranked(flat, count, 1)
    trailing = [1] * (max(x.ndim, 3) - 3)
    if not with_values:
        return order.reshape(len(x), 1, count, *trailing)
    return np.stack([order, np.take_along_axis(flat, order, 1)], 1).reshape(len(x), 2, count, *trailing)


ARGMAX = [
    LayerCase("ArgMax", "", X, lambda x: top(x, 1)),
    LayerCase("ArgMax", "argmax_param { top_k: 3 }", X, lambda x: top(x, 3)),
    LayerCase("ArgMax", "argmax_param { top_k: 3 out_max_val: true }", X, lambda x: top(x, 3, True)),
    LayerCase("ArgMax", "argmax_param { out_max_val: true }", [(2, 7)], lambda x: top(x, 1, True)),
    LayerCase("ArgMax", "argmax_param { top_k: 3 }", [TIES], lambda x: top(x, 3), name="ArgMax-ties"),
    LayerCase("ArgMax", "", [TIES], lambda x: top(x, 1), name="ArgMax-tie"),
    LayerCase("ArgMax", "argmax_param { axis: 1 }", X, lambda x: ranked(x, 1, 1)),
    LayerCase("ArgMax", "argmax_param { axis: -1 top_k: 2 out_max_val: true }", X, lambda x: -np.sort(-x, 3)[..., :2]),
    LayerCase("ArgMax", "argmax_param { axis: 2 top_k: 2 }", X, lambda x: ranked(x, 2, 2)),
]

SHAPES = [
    LayerCase("Concat", "", [(2, 3, 4), (2, 1, 4), (2, 2, 4)], lambda *xs: np.concatenate(xs, 1)),
    LayerCase("Concat", "concat_param { axis: -1 }", TWO, lambda *xs: np.concatenate(xs, 2)),
    LayerCase("Concat", "concat_param { concat_dim: 0 }", TWO, lambda *xs: np.concatenate(xs, 0)),
    LayerCase("Concat", "", [(2, 3)], lambda x: x, name="Concat-one"),
    LayerCase("Slice", "slice_param { slice_point: 1 slice_point: 4 }", X, lambda x: np.split(x, [1, 4], 1), tops=3),
    LayerCase("Slice", "slice_param { axis: 2 }", X, lambda x: np.split(x, 2, 2), tops=2),
    LayerCase("Slice", "slice_param { slice_dim: 0 }", X, lambda x: np.split(x, 2, 0), tops=2, fixed=True),
    LayerCase("Split", "", X, lambda x: (x, x), tops=2),
    LayerCase("Flatten", "", X, lambda x: x.reshape(len(x), -1)),
    LayerCase("Flatten", "flatten_param { axis: -2 }", X, lambda x: x.reshape(len(x), 6, -1)),
    LayerCase("Flatten", "flatten_param { axis: 1 end_axis: 2 }", X, lambda x: x.reshape(len(x), -1, x.shape[3])),
    LayerCase("Flatten", "flatten_param { axis: 2 end_axis: 1 }", X, lambda x: x[:, :, None]),
    LayerCase("Flatten", "flatten_param { axis: 0 end_axis: 1 }", X, lambda x: x.reshape(-1, *x.shape[2:])),
    LayerCase("Reshape", f"reshape_param {{ {reshape(0, -1)} }}", X, lambda x: x.reshape(len(x), -1)),
    LayerCase("Reshape", f"reshape_param {{ {reshape(0, 3, -1, 5)} }}", X, lambda x: x.reshape(len(x), 3, -1, 5)),
    LayerCase("Reshape", f"reshape_param {{ {reshape(-1, 5)} }}", X, lambda x: x.reshape(-1, 5)),
    LayerCase("Reshape", f"reshape_param {{ {reshape(4, -1)} }}", X, lambda x: x.reshape(4, -1), fixed=True),
    LayerCase("Reshape", f"reshape_param {{ {reshape(2, 3)} axis: 1 num_axes: 1 }}", X, lambda x: x.reshape(len(x), 2, 3, *x.shape[2:])),
    LayerCase("Reshape", f"reshape_param {{ {reshape(1)} axis: -1 }}", X, lambda x: x[..., None]),
    LayerCase("Reshape", f"reshape_param {{ {reshape(0, -1)} axis: 2 num_axes: 2 }}", X, lambda x: x),
    LayerCase("Reshape", "reshape_param { shape { } axis: 1 num_axes: 0 }", X, lambda x: x, name="Reshape-nothing"),
    LayerCase("Crop", "", [(2, 6, 7, 8), (2, 3, 4, 5)], lambda x, y: cropped(x, y, 0, 0)),
    LayerCase("Crop", "crop_param { offset: 2 }", [(2, 6, 7, 8), (2, 3, 4, 5)], lambda x, y: cropped(x, y, 2, 2)),
    LayerCase(
        "Crop",
        "crop_param { axis: 1 offset: 0 offset: 1 offset: 2 }",
        [(2, 6, 7, 8), (2, 3, 4, 5)],
        lambda x, y: cropped(x[:, :3], y, 1, 2),
    ),
    LayerCase("Tile", "tile_param { tiles: 3 }", X, lambda x: np.tile(x, (1, 3, 1, 1))),
    LayerCase("Tile", "tile_param { axis: -1 tiles: 2 }", X, lambda x: np.tile(x, (1, 1, 1, 2))),
    LayerCase("Tile", "tile_param { axis: 0 tiles: 2 }", X, lambda x: np.tile(x, (2, 1, 1, 1))),
    LayerCase("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", X, lambda x: x.transpose(0, 2, 3, 1)),
    LayerCase("Permute", "permute_param { order: 2 }", X, lambda x: x.transpose(2, 0, 1, 3)),
    LayerCase("Permute", "", X, lambda x: x, name="Permute-nothing"),
    LayerCase(
        "ShuffleChannel",
        "shuffle_channel_param { group: 3 }",
        X,
        lambda x: x.reshape(len(x), 3, 2, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape),
    ),
    LayerCase("BatchReindex", "", [(4, 3), np.array([3, 0, 0, 2, 1])], lambda x, i: x[i.astype(int)]),
    LayerCase("Filter", "", [(4, 3), np.array([[0], [1], [0], [2]])], lambda x, s: x[s[:, 0] != 0]),
    LayerCase("Filter", "", [(4, 3), (4, 2, 2), np.array([1, 0, 0, 1])], lambda x, y, s: (x[s != 0], y[s != 0]), tops=2),
    LayerCase(
        "DummyData",
        "dummy_data_param { data_filler { type: 'constant' value: 0.5 } shape { dim: 2 dim: 3 } }",
        [],
        lambda: np.full((2, 3), 0.5),
        warns="the net takes no input",
    ),
    LayerCase(
        "DummyData",
        "dummy_data_param { num: 2 channels: 1 height: 3 width: 2 num: 1 }",
        [],
        lambda: (np.zeros((2, 1, 3, 2)), np.zeros((1, 1, 3, 2))),
        tops=2,
        warns="the net takes no input",
    ),
]

SCORES = [(4, 5)]
LABELS = np.array([0, 3, 2, 2])


def log_softmax(x):
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def cross_entropy(x, t):
    return np.logaddexp(x, 0) - x * t


LOSSES = [
    LayerCase("SoftmaxWithLoss", "", [*SCORES, LABELS], lambda x, t: -log_softmax(x)[range(4), t.astype(int)].mean()),
    LayerCase(
        "SoftmaxWithLoss",
        "loss_param { ignore_label: 2 }",
        [*SCORES, LABELS],
        lambda x, t: (-log_softmax(x)[[0, 1], [0, 3]].mean(), np.exp(log_softmax(x))),
        tops=2,
    ),
    LayerCase(
        "SoftmaxWithLoss",
        "loss_param { normalization: NONE }",
        [*SCORES, LABELS],
        lambda x, t: -log_softmax(x)[range(4), t.astype(int)].sum(),
    ),
    LayerCase("EuclideanLoss", "", TWO, lambda a, b: ((a - b) ** 2).sum() / len(a) / 2),
    LayerCase(
        "EuclideanLoss",
        "",
        [(2, 3, 4), (2, 12)],
        lambda a, b: ((a.reshape(-1, 12) - b) ** 2).sum() / len(a) / 2,
        name="EuclideanLoss-of-other-shape",
    ),
    LayerCase(
        "InfogainLoss",
        "loss_param { ignore_label: 3 }",
        [*SCORES, LABELS, (5, 5)],
        lambda x, t, h: -(h[[0, 2, 2]] * log_softmax(x)[[0, 2, 3]]).sum() / 3,
        fixed=True,
    ),
    LayerCase("SigmoidCrossEntropyLoss", "", [(2, 3), np.array([[0, 1, 1], [1, 0, 0]])], lambda x, t: cross_entropy(x, t).sum() / 2),
    LayerCase(
        "SigmoidCrossEntropyLoss",
        "loss_param { normalization: VALID ignore_label: -1 }",
        [(2, 3), np.array([[0, 1, -1], [1, -1, 0]])],
        lambda x, t: cross_entropy(x, t)[t >= 0].mean(),
    ),
    LayerCase(
        "HingeLoss",
        "hinge_loss_param { norm: L2 }",
        [*SCORES, LABELS],
        lambda x, t: (np.maximum(1 + np.where(np.arange(5) == t[:, None], -x, x), 0) ** 2).sum() / 4,
    ),
    LayerCase("MultinomialLogisticLoss", "", [*SCORES, LABELS], lambda x, t: -np.log(x[range(4), t.astype(int)]).mean(), low=0.1),
    LayerCase(
        "ContrastiveLoss",
        "contrastive_loss_param { margin: 3 }",
        [(4, 2), (4, 2), np.array([1, 0, 0, 1])],
        lambda a, b, s: np.where(s > 0, ((a - b) ** 2).sum(1), np.maximum(3 - np.sqrt(((a - b) ** 2).sum(1)), 0) ** 2).mean() / 2,
    ),
    LayerCase(
        "Accuracy",
        "accuracy_param { top_k: 2 }",
        [*SCORES, LABELS],
        lambda x, t: np.mean((x >= x[range(4), t.astype(int)][:, None]).sum(1) <= 2),
    ),
    LayerCase("Accuracy", "", [np.eye(5)[[0, 3, 1, 2]], LABELS], lambda x, t: (0.75, [1, 0, 0.5, 1, 0]), tops=2, name="Accuracy-by-class"),
]


@pytest.mark.parametrize("case", ARITHMETIC + ARGMAX + SHAPES + LOSSES, ids=lambda case: case.id)
def test_layer(case: LayerCase, tmp_path: Path) -> None:
    case.check(tmp_path)
