"""Preparing images against numpy."""

import numpy as np
import pytest
import torch

import converters
from tests.bench import check
from tests.conformance import cases
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


@pytest.mark.parametrize(
    "row, other",
    [
        (OperatorCase("_image_crop", None, {"x": 2, "y": 1, "width": 3, "height": 2}, [(2, 4, 6, 3)]), (2, 2, 6, 3)),
        (OperatorCase("_contrib_box_nms", None, {"in_format": "corner", "out_format": "center"}, [(2, 9, 6)]), (2, 9, 7)),
        (OperatorCase("_contrib_interleaved_matmul_selfatt_qk", None, {"heads": 2}, [(5, 2, 12)]), (5, 2, 24)),
        (OperatorCase("im2col", None, {"kernel": "(2, 2)"}, [(2, 3, 4, 5)]), (2, 3, 6, 5)),
        (OperatorCase("col2im", None, {"output_size": (4, 5), "kernel": (2, 2)}, [(2, 12, 12)]), (2, 12, 20)),
        (OperatorCase("_contrib_box_iou", None, shapes=[(3, 4)], stored={"rhs": (2, 4)}), (3, 8)),
        (OperatorCase("_np_squeeze", None, {"axis": 1}, [(3, 1, 4)]), (3, 2, 4)),
        (OperatorCase("_linalg_potrf", None, {}, [(2, 1, 1)]), (2, 4, 4)),
        (OperatorCase("_linalg_inverse", None, {}, [(2, 1, 1)]), (2, 4, 4)),
        (OperatorCase("_linalg_makediag", None, {}, [(2, 3)]), (2, 5)),
        (OperatorCase("_linalg_maketrian", None, {}, [(2, 6)]), (2, 10)),
        (OperatorCase("_slice_assign_scalar", None, {"begin": "(None, 1)", "end": "(None, None)", "scalar": 7.0}, [(2, 4)]), (2, 9)),
    ],
    ids=lambda value: value.op if isinstance(value, OperatorCase) else "x".join(map(str, value)),
)
def test_an_image_of_a_size_that_was_not_meant_is_an_error(row, other, tmp_path):
    """Places that were worked out for one size are no places in another."""
    net = converters.to_module(row.load(tmp_path))
    net(torch.zeros(row.shapes[0]))
    with pytest.raises(RuntimeError, match=r"split|shape"):
        net(torch.zeros(other))


@pytest.mark.parametrize("other", [(2, 12, 7, 3), (2, 10, 8, 3)])
def test_bytes_of_an_image_of_another_size_are_an_error(other, tmp_path):
    """OpenCV's resizing of bytes, by weights of the size that was given."""
    (case,) = (case for case in cases("mxnet", "mxnet-operators") if case.name == "img_resize_u8r_1")
    net = converters.to_module(case.load(tmp_path))
    assert net(torch.zeros(3, 10, 7, 3, dtype=torch.uint8)).shape == (3, 23, 5, 3)
    with pytest.raises(RuntimeError, match="split"):
        net(torch.zeros(other, dtype=torch.uint8))
