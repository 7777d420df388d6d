"""Indexing against numpy."""

import numpy as np
import pytest
import torch

import converters
from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase


def replaced(x, rows, places):
    result = x.copy()
    result[tuple(places.astype(int))] = rows
    return result


def index_tuples(x):
    return np.stack(np.indices(x.shape), axis=-1)


ROWS = [
    OperatorCase(
        "_scatter_set_nd", replaced, {"shape": (4, 2)}, [(4, 2)], {"rhs": (2, 2), "indices": np.array([[3, 0]])}, name="scatter_set_nd"
    ),
    OperatorCase("_contrib_index_array", index_tuples),
    OperatorCase("_contrib_index_array", lambda x: index_tuples(x)[..., [2, 0]], {"axes": (2, 0)}),
    OperatorCase(
        "take", lambda x, i: x[:, np.clip(i.astype(int), 0, 2)], {"axis": 1}, [(2, 3, 4)], {"indices": np.array([[-1, 1], [2, 5]])}
    ),
    OperatorCase(
        "take",
        lambda x, i: x[..., np.clip(i.astype(int), 0, x.shape[2] - 1)],
        {"axis": 2},
        stored={"indices": np.array([0, 99])},
        shapes=[(2, 3, 4)],
        name="take the last one, whichever it is",
    ),
    OperatorCase(
        "pick", lambda x, i: x[..., -1], shapes=[(2, 3, 4)], stored={"index": np.full((2, 3), 99.0)}, name="pick the last one", fixed=True
    ),
    OperatorCase("take", lambda x, i: x[i.astype(int) % len(x)], {"mode": "wrap"}, [(3, 4)], {"indices": np.array([-1, 7, 3])}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)


def test_rows_of_another_length(tmp_path):
    """An index behind the end means the last element, whatever the length was at conversion."""
    net = converters.to_module(OperatorCase("batch_take", None, shapes=[(3, 4), (3,)]).load(tmp_path))
    x = torch.arange(27.0).reshape(3, 9)
    assert net(x, torch.tensor([8.0, 7.0, 99.0])).tolist() == [8.0, 16.0, 26.0]
