"""Reshaping, and what else reads the input's sizes, against numpy: at another batch and image size too."""

import numpy as np
import pytest
import torch

import converters
from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase


def crop(x, height, width):
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]


def like(x, y):
    if y.shape[2] > x.shape[2] or y.shape[3] > x.shape[3]:
        raise ValueError("a window larger than the image")
    return crop(x, *y.shape[2:])


ROWS = [
    OperatorCase("Reshape", lambda x: x.reshape(len(x), -1), {"shape": (0, -1)}),
    OperatorCase("Reshape", lambda x: x.reshape(-1, 60), {"shape": (-1, 60)}),
    OperatorCase("Reshape", lambda x: x.reshape(-1, *x.shape[2:]), {"shape": (-3, -2)}),
    OperatorCase("Reshape", lambda x: x.reshape(-1, 2, *x.shape[1:]), {"shape": (-4, -1, 2, -2)}, [(4, 3, 4, 5)], fixed=True),
    OperatorCase("Reshape", lambda x: x.reshape(len(x) * x.shape[1], -1), {"shape": (-3, -3)}),
    OperatorCase("Reshape", lambda x: x.reshape(*x.shape[:2], -1), {"shape": (0, 0, -1)}),
    OperatorCase("Flatten", lambda x: x.reshape(len(x), -1)),
    OperatorCase("Crop", lambda x: crop(x, 2, 3), {"num_args": 1, "h_w": (2, 3), "center_crop": True}),
    OperatorCase("Crop", like, {"num_args": 2, "center_crop": True}, [(2, 3, 7, 6), (2, 1, 4, 5)]),
    OperatorCase("slice_like", lambda x, y: x[:, :, : y.shape[2]], {"axes": 2}, [(2, 3, 8), (2, 1, 4)]),
    OperatorCase("_contrib_arange_like", lambda x: 1 + np.arange(x.shape[2]) // 2, {"axis": 2, "start": 1, "repeat": 2}),
    OperatorCase("_contrib_arange_like", lambda x: np.arange(x.size).reshape(x.shape)),
    OperatorCase("shape_array", lambda x: np.array(x.shape)),
    OperatorCase("size_array", lambda x: np.array([x.size])),
    OperatorCase("repeat", lambda x: np.repeat(x, 2, 0), {"repeats": 2, "axis": 0}),
    OperatorCase("repeat", lambda x: np.repeat(x, 2), {"repeats": 2}),
    OperatorCase("diag", lambda x: np.diagonal(x, 1, 2, 3), {"k": 1, "axis1": 2, "axis2": 3}),
    OperatorCase("diag", lambda x: np.diag(x, -2), {"k": -2}, [(4,)]),
    OperatorCase("sort", lambda x: np.sort(x, 0)[::-1], {"axis": 0, "is_ascend": False}),
    OperatorCase("argsort", lambda x: np.argsort(x, 2, kind="stable"), {"axis": 2}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)


@pytest.mark.parametrize(
    "codes, reverse, shape",
    [
        ((-3, -3), False, (12, 20)),
        ((-3, -1), False, (12, 20)),
        ((-1, -3), True, (12, 20)),
        ((-3, -3), True, (12, 20)),
        ((-3, -2), False, (12, 5, 4)),
        ((0, -3, -2), False, (2, 30, 4)),
        ((0, -3, 0), False, (2, 30, 4)),
    ],
)
def test_joined_axes_have_the_lengths_that_come(codes, reverse, shape, tmp_path):
    """Converted for three channels, run with six."""
    attributes = {"shape": codes, "reverse": reverse}
    net = converters.to_module(OperatorCase("Reshape", None, attributes, [(2, 3, 5, 4)]).load(tmp_path))
    x = torch.arange(240.0).reshape(2, 6, 5, 4)
    assert torch.equal(net(x), x.reshape(shape))


def test_a_joined_axis_that_is_counted_keeps_its_length(tmp_path):
    """Of two joins one is counted; another number of channels is an error, not another batch."""
    net = converters.to_module(OperatorCase("Reshape", None, {"shape": (-3, -3, 0)}, [(2, 3, 5, 4, 2)]).load(tmp_path))
    assert net(torch.zeros(7, 3, 5, 4, 2)).shape == (21, 20, 2)
    with pytest.raises(RuntimeError, match="split"):
        net(torch.zeros(2, 6, 5, 4, 2))


@pytest.mark.parametrize("codes", [(-3, -3), (-3, -2), (0, -3, -2)])
def test_a_joined_axis_of_one_is_no_other_batch(codes, tmp_path):
    """Converted for one channel, run with six."""
    net = converters.to_module(OperatorCase("Reshape", None, {"shape": codes}, [(2, 1, 5, 4)]).load(tmp_path))
    try:
        shape = net(torch.zeros(2, 6, 5, 4)).shape
    except RuntimeError:
        return
    assert shape == {(-3, -3): (12, 20), (-3, -2): (12, 5, 4), (0, -3, -2): (2, 30, 4)}[codes]
