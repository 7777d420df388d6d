"""Softmax and the heads of training against numpy."""

import numpy as np
import pytest
import torch

import converters
from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def over_all(x):
    return softmax(x.reshape(len(x), -1), 1).reshape(x.shape)


ROWS = [
    OperatorCase("WarpCTC", lambda x: softmax(x, 1), {"label_length": 4, "input_length": 3}, [(6, 5)]),
    OperatorCase("SoftmaxOutput", over_all, {"grad_scale": 0.5, "normalization": "batch"}),
    OperatorCase("SoftmaxOutput", lambda x: softmax(x, 1), {"multi_output": True, "use_ignore": True}),
    OperatorCase("softmax", lambda x: softmax(x / 2.0, 1), {"axis": 1, "temperature": 2.0}),
    OperatorCase("LogisticRegressionOutput", lambda x: 1 / (1 + np.exp(-x)), {"grad_scale": 2.0}),
    OperatorCase("SVMOutput", lambda x: x, {"margin": 2.0, "use_linear": True}, [(3, 4)]),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)


def test_a_softmax_of_so_many_takes_any_length(tmp_path):
    """Converted at one step, run at four."""
    net = converters.to_module(OperatorCase("softmax", None, {"axis": 1, "use_length": True}, [(2, 1), (2,)]).load(tmp_path))
    x = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2)
    expected = torch.zeros(2, 4)
    expected[0, :3], expected[1, :1] = torch.softmax(x[0, :3], 0), 1
    torch.testing.assert_close(net(x, torch.tensor([3.0, 1.0])), expected)
