"""Pooling of regions against numpy: those of no image are zeros."""

import numpy as np
import pytest

from tests.bench import check
from tests.readers.mxnet.operator_case import OperatorCase

ROIS = np.array([[0, 0, 0, 4, 3], [-1, -1, -1, -1, -1], [1, 0, 0, 4, 3], [7, 0, 0, 4, 3]])


def largest(x, rois):
    rows = [x[int(i)].max((1, 2)) if 0 <= i < len(x) else np.zeros(x.shape[1]) for i in rois[:, 0]]
    return np.stack(rows)[:, :, None, None]


def zeros(x, rois):
    return np.zeros((len(rois), x.shape[1], 2, 2))


TURNED = np.array([[[0, 0.9, 4, 4, 0, 0], [0, 0.8, 0, 0, 4, 4], [0, 0.7, 0, 4, 4, 0]]])
"""Best first; boxes that end before they begin are empty, and hide none."""

ROWS = [
    OperatorCase("_contrib_box_nms", lambda x: x, {"force_suppress": True}, [TURNED], fixed=True, grows=False, name="boxes turned round"),
    OperatorCase("ROIPooling", largest, {"pooled_size": (1, 1), "spatial_scale": 1}, stored={"rois": ROIS}, grows=False),
    OperatorCase("_contrib_ROIAlign", zeros, {"pooled_size": (2, 2), "spatial_scale": 1}, stored={"rois": ROIS[1:2]}, grows=False),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row(tmp_path, row):
    check(row, tmp_path)
