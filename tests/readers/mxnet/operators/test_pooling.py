"""Pooling against numpy: windows as MXNet counts them, at other image sizes too."""

import numpy as np
import pytest

from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase


def windows(x, kernel, stride, pad, full, fill):
    """The windows of (N, C, H, W) as (N, C, h, w, kernel, kernel), filled up behind the image's pads."""
    room = [size + 2 * pad - kernel for size in x.shape[2:]]
    if min(room) < 0:
        raise ValueError("a kernel larger than the image")
    out = [(-(-r // stride) if full else r // stride) + 1 for r in room]
    ends = [(o - 1) * stride + kernel - size - pad for o, size in zip(out, x.shape[2:], strict=True)]
    padded = np.pad(x, ((0, 0), (0, 0), *((pad, max(0, end)) for end in ends)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))[:, :, ::stride, ::stride][:, :, : out[0], : out[1]]


def maximum(kernel, stride, pad, full):
    return lambda x: windows(x, kernel, stride, pad, full, np.finfo(np.float32).min).max((4, 5))


def total(kernel, stride, pad, full):
    return lambda x: windows(x, kernel, stride, pad, full, 0).sum((4, 5))


def cube_root_of_cubes(x):
    return np.cbrt((x**3).sum((2, 3), keepdims=True))


def adaptive(x):
    rows = [slice(i * x.shape[2] // 2, -(-(i + 1) * x.shape[2] // 2)) for i in range(2)]
    columns = [slice(i * x.shape[3] // 3, -(-(i + 1) * x.shape[3] // 3)) for i in range(3)]
    return np.stack([np.stack([x[:, :, r, c].mean((2, 3)) for c in columns], -1) for r in rows], -2)


ROWS = [
    OperatorCase("Pooling", maximum(3, 2, 0, True), {"kernel": (3, 3), "stride": (2, 2), "pooling_convention": "full"}, [(2, 3, 8, 7)]),
    OperatorCase(
        "Pooling", maximum(2, 2, 1, True), {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 1), "pooling_convention": "full"}, [(2, 3, 6, 8)]
    ),
    OperatorCase("Pooling", maximum(3, 2, 1, False), {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}, [(2, 3, 7, 8)]),
    OperatorCase("Pooling", total(2, 1, 0, False), {"kernel": (2, 2), "pool_type": "sum"}),
    OperatorCase("Pooling", total(3, 2, 1, False), {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1), "pool_type": "sum"}),
    OperatorCase("Pooling", cube_root_of_cubes, {"pool_type": "lp", "p_value": 3, "global_pool": True}, tolerance=1e-4),
    OperatorCase("_contrib_AdaptiveAvgPooling2D", adaptive, {"output_size": (2, 3)}, [(2, 3, 4, 6)]),
    OperatorCase("_contrib_AdaptiveAvgPooling2D", adaptive, {"output_size": (2, 3)}, [(2, 3, 5, 7)], name="adaptive, windows that overlap"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)
