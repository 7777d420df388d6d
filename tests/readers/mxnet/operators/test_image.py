"""Preparing images against numpy."""

import numpy as np
import pytest

from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase

ROWS = [
    OperatorCase("_image_flip_top_bottom", lambda x: x[:, ::-1], shapes=[(2, 4, 6, 3)]),
    OperatorCase("_image_flip_left_right", lambda x: x[:, :, ::-1], shapes=[(2, 4, 6, 3)]),
    OperatorCase("_image_crop", lambda x: x[:, 1:3, 2:5], {"x": 2, "y": 1, "width": 3, "height": 2}, [(2, 4, 6, 3)]),
    OperatorCase("_image_to_tensor", lambda x: x.transpose(0, 3, 1, 2) / np.float32(255), shapes=[(2, 4, 6, 3)]),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)
