"""Constants against numpy."""

import numpy as np
import pytest

from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase

ROWS = [
    OperatorCase("_linspace", lambda: np.linspace(-1, 2, 7), {"start": -1, "stop": 2, "num": 7}, []),
    OperatorCase("_linspace", lambda: np.linspace(0, 1, 4, endpoint=False), {"start": 0, "stop": 1, "num": 4, "endpoint": False}, []),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)
