"""Arithmetic and functions of one number against numpy."""

import numpy as np
import pytest

from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase

ROWS = [
    OperatorCase("_contrib_div_sqrt_dim", lambda x: x / np.sqrt(x.shape[-1])),
    OperatorCase("amp_multicast", lambda a, b: (a, b), {"num_outputs": 2}, [(2, 3), (2, 4)], outputs=2),
    OperatorCase("_mod_scalar", lambda x: np.mod(x, -1.5), {"scalar": -1.5}),
    OperatorCase("_hypot", np.hypot, shapes=[(2, 3), (2, 3)]),
    OperatorCase("cbrt", np.cbrt),
    OperatorCase("expm1", np.expm1, span=(-1e-3, 1e-3), tolerance=1e-6),
    OperatorCase("clip", lambda x: np.clip(x, -0.5, 1), {"a_min": -0.5, "a_max": 1}),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)
