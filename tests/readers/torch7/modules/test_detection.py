"""Rows of boxes and regions: formulas in numpy, written from the packages' sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import check
from tests.readers.torch7.lua import module
from tests.readers.torch7.module_case import ModuleCase, rand

BOXES = np.float32([[4, 5, 6, 3], [10, 2, 1, 2]])
MEAN, STD = rand(1, 4), abs(rand(1, 4, seed=1)) + 0.5
ROIS = np.float32([[2, 1, 1, 8, 6], [1, 3, 2, 3, 2], [1, 2.6, 1, 11, 9], [2, 9, 4, 10, 4]])


def applied(boxes: np.ndarray, trans: np.ndarray) -> np.ndarray:
    return np.concatenate([trans[..., :2] * boxes[..., 2:] + boxes[..., :2], boxes[..., 2:] * np.exp(trans[..., 2:])], -1)


def converted(boxes: np.ndarray, trans: np.ndarray) -> np.ndarray:
    """multipathnet's: corners to corners by way of center and size."""
    center, size = (boxes[:, 1:3] + boxes[:, 3:]) / 2, boxes[:, 3:] - boxes[:, 1:3]
    center, size = center + trans[:, :2] * size, np.exp(trans[:, 2:]) * size
    return np.concatenate([boxes[:, :1], center - size / 2, center + size / 2], 1)


def context(boxes: np.ndarray, scale: float) -> np.ndarray:
    center, half = (boxes[:, 1:3] + boxes[:, 3:]) / 2, (boxes[:, 3:] - boxes[:, 1:3]) / 2 * scale
    return np.concatenate([boxes[:, :1], center - half, center + half], 1)


def matrix(scale: float) -> np.ndarray:
    a, b = (1 + scale) / 2, (1 - scale) / 2
    return np.float32([[a, 0, b, 0], [0, a, 0, b], [b, 0, a, 0], [0, b, 0, a]])


def rounded(x: float) -> int:
    return int(np.sign(x) * np.floor(abs(x) + 0.5))


def roi_pooling_v2(x: np.ndarray, rois: np.ndarray, scale: float) -> np.ndarray:
    """imagine-nn's second version, 2 by 3 bins: ends are one less, edges of bins are rounded; an empty bin is 0."""
    out = np.zeros((len(rois), x.shape[1], 2, 3))
    for number, roi in enumerate(rois - 1):
        x1, y1, x2, y2 = (rounded(v * scale) for v in roi[1:])
        wide, high = max(x2 - x1, 1) / 3, max(y2 - y1, 1) / 2
        for row in range(2):
            for column in range(3):
                ys = np.clip([rounded(row * high) + y1, rounded((row + 1) * high) + y1], 0, x.shape[2])
                xs = np.clip([rounded(column * wide) + x1, rounded((column + 1) * wide) + x1], 0, x.shape[3])
                window = x[int(roi[0]), :, ys[0] : ys[1], xs[0] : xs[1]]
                out[number, :, row, column] = window.max((1, 2)) if window.size else 0
    return out


ROI_BOXES = module("nn.BoxToAffine", H=5, W=7)
"""As a forward on an image of another size has left it."""

CASES = [
    ModuleCase("ApplyBoxTransform", module("nn.ApplyBoxTransform"), [(3, 4), (3, 4)], lambda x: applied(*x)),
    ModuleCase("ApplyBoxTransform_3d", module("nn.ApplyBoxTransform"), [(2, 3, 4), (2, 3, 4)], lambda x: applied(*x)),
    ModuleCase(
        "InvertBoxTransform",
        module("nn.InvertBoxTransform"),
        [(3, 4), (3, 4)],
        lambda x: np.concatenate([(x[1][:, :2] - x[0][:, :2]) / x[0][:, 2:], np.log(x[1][:, 2:] / x[0][:, 2:])], 1),
        low=0.5,
        high=4,
    ),
    ModuleCase(
        "ReshapeBoxFeatures",
        module("nn.ReshapeBoxFeatures", k=2),
        (2, 6, 4, 5),
        lambda x: x.reshape(len(x), 2, 3, *x.shape[2:]).transpose(0, 1, 3, 4, 2).reshape(len(x), -1, 3),
    ),
    ModuleCase("ContextRegion", module("nn.ContextRegion", tr=matrix(1.75)), (3, 5), lambda x: context(x, 1.75)),
    ModuleCase("ConvertFrom", module("nn.ConvertFrom"), [(3, 5), (3, 4)], lambda x: converted(*x), low=-1, high=1),
    ModuleCase("BBoxNorm", module("nn.BBoxNorm", mean=MEAN, std=STD), (3, 8), lambda x: x * np.tile(STD, 2) + np.tile(MEAN, 2)),
    ModuleCase(
        "BilinearRoiPooling_of_another_image",
        module("nn.BilinearRoiPooling", net=ROI_BOXES, box_to_affine=ROI_BOXES, image_height=21, image_width=11),
        rand(3, 4, seed=5),
        lambda x: np.stack([[[h / 21, 0, (2 * y - 22) / 20], [0, w / 11, (2 * x - 12) / 10]] for x, y, w, h in x.astype("f8")]),
    ),
    ModuleCase(
        "BilinearRoiPooling",
        module("nn.BilinearRoiPooling", net=module("nn.ParallelTable", module("nn.Identity"), module("nn.Tanh")), height=2, width=2),
        [(2, 3), (4, 4)],
        lambda x: [x[0], np.tanh(x[1])],
    ),
    *[
        ModuleCase(
            f"ROIPooling_v2_{scale}",
            module("inn.ROIPooling", W=3, H=2, spatial_scale=scale, v2=True),
            [rand(2, 2, 9, 11), ROIS],
            lambda x, scale=scale: roi_pooling_v2(*x, scale),
        )
        for scale in (1, 0.5)
    ],
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)
