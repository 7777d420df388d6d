"""Softmax and the heads of training against numpy."""

import numpy as np
import pytest

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
