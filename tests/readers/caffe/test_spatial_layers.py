"""Pooling, normalization over neighbors, resampling, detection, against numpy."""

from pathlib import Path

import numpy as np
import pytest

from tests.readers.caffe import formulas
from tests.readers.caffe.formulas import bilinear, lrn_across, lrn_within, roi_pool, unpool
from tests.readers.caffe.layer_case import LayerCase

X = [(2, 5, 7, 6)]


def pooled(*args, **kwargs):
    return lambda x: formulas.pool(x, *args, **kwargs)[0]


POOLING = [
    LayerCase("Pooling", "pooling_param { kernel_size: 3 kernel_h: 2 stride: 2 }", X, pooled("max", (3, 3), (2, 2))),
    LayerCase("Pooling", "pooling_param { kernel_size: 3 stride: 2 }", X, pooled("max", (3, 3), (2, 2))),
    LayerCase("Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", X, pooled("max", (3, 3), (2, 2), (1, 1))),
    LayerCase("Pooling", "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }", X, pooled("max", (3, 3), (2, 2), ceil=False)),
    LayerCase("Pooling", "pooling_param { kernel_size: 3 stride: 2 ceil_mode: false }", X, pooled("max", (3, 3), (2, 2), ceil=False)),
    LayerCase("Pooling", "pooling_param { kernel_size: 3 stride: 2 torch_pooling: true }", X, pooled("max", (3, 3), (2, 2), ceil=False)),
    LayerCase(
        "Pooling",
        "pooling_param { kernel_size: 2 stride: 2 pad: 1 torch_pooling: true }",
        X,
        pooled("max", (2, 2), (2, 2), (1, 1), ceil=False),
    ),
    LayerCase(
        "Pooling",
        "pooling_param { pool: AVE kernel_size: 4 stride: 3 torch_pooling: true }",
        X,
        pooled("average", (4, 4), (3, 3), ceil=False),
    ),
    LayerCase(
        "Pooling",
        "pooling_param { kernel_size: 3 stride: 2 ceil_mode: true round_mode: FLOOR }",
        X,
        pooled("max", (3, 3), (2, 2)),
        name="ceil_mode-wins",
    ),
    LayerCase("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", X, pooled("average", (3, 3), (2, 2), (1, 1))),
    LayerCase(
        "Pooling",
        "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 2 pad_w: 1 }",
        X,
        pooled("average", (3, 2), (2, 3), (2, 1)),
    ),
    LayerCase(
        "Pooling", "pooling_param { pool: AVE kernel_size: 3 pad_h: 1 }", X, pooled("average", (3, 3), (1, 1), (1, 0)), name="pad_h-alone"
    ),
    LayerCase(
        "Pooling",
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 avg_include_pad: false }",
        X,
        pooled("average", (3, 3), (2, 2), (1, 1), include_pad=False),
    ),
    LayerCase(
        "Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }", X, pooled("stochastic", (3, 3), (2, 2)), tolerance=1e-3
    ),
    LayerCase("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }", X, pooled("stochastic", (2, 2), (2, 2)), low=0),
    LayerCase(
        "Pooling", "pooling_param { kernel_size: 3 stride: 2 pad: 1 }", X, lambda x: formulas.pool(x, "max", (3, 3), (2, 2), (1, 1)), tops=2
    ),
    LayerCase(
        "Pooling", "pooling_param { kernel_size: 1 stride: 2 }", [(1, 1, 6, 6)], lambda x: formulas.pool(x, "max", (1, 1), (2, 2)), tops=2
    ),
    LayerCase("Pooling", "pooling_param { kernel_size: 3 stride: 3 pad: 2 }", X, pooled("max", (3, 3), (3, 3), (2, 2))),
    LayerCase("Pooling", "pooling_param { pool: AVE global_pooling: true }", X, lambda x: x.mean((2, 3), keepdims=True)),
    LayerCase("Pooling", "pooling_param { global_pooling: true }", X, lambda x: x.max((2, 3), keepdims=True)),
    LayerCase(
        "Pooling",
        "pooling_param { global_pooling: true }",
        X,
        lambda x: formulas.pool(x, "max", x.shape[2:]),
        tops=2,
        name="global-two-tops",
    ),
    LayerCase(
        "Pooling",
        "pooling_param { pool: STOCHASTIC global_pooling: true }",
        X,
        lambda x: formulas.pool(x, "stochastic", x.shape[2:])[0],
        low=0,
    ),
]


def pyramid(mode, height):
    def expect(x):
        levels = []
        for level in range(height):
            bins = 2**level
            kernel = [-(-n // bins) for n in x.shape[2:]]
            pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, x.shape[2:], strict=True)]
            levels.append(formulas.pool(x, mode, kernel, kernel, pad)[0])
        return levels[0] if height == 1 else np.concatenate([v.reshape(len(x), -1) for v in levels], 1)

    return expect


SPP = [
    LayerCase("SPP", "spp_param { pyramid_height: 1 }", X, pyramid("max", 1)),
    LayerCase("SPP", "spp_param { pyramid_height: 3 }", [(2, 3, 9, 11)], pyramid("max", 3)),
    LayerCase("SPP", "spp_param { pyramid_height: 2 pool: AVE }", [(2, 3, 9, 10)], pyramid("average", 2)),
]


def normalized(x, scale, across):
    axes = (1, 2, 3) if across else 1
    return x / np.sqrt((x.astype(np.float64) ** 2).sum(axes, keepdims=True) + 1e-10) * scale


def normalized2(x, scale):
    return x / np.linalg.norm(x, axis=1, keepdims=True) * scale


def mvn(x, axes, divide=True, eps=1e-9):
    centered = x - x.mean(axes, keepdims=True)
    return centered / (np.sqrt((centered**2).mean(axes, keepdims=True)) + eps) if divide else centered


NORMS = [
    LayerCase("LRN", "", X, lambda x: lrn_across(x, 5, 1, 0.75, 1)),
    LayerCase("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }", X, lambda x: lrn_across(x, 3, 0.5, 0.6, 2)),
    LayerCase("LRN", "lrn_param { local_size: 9 alpha: 0.5 }", [(2, 3, 4, 4)], lambda x: lrn_across(x, 9, 0.5, 0.75, 1), name="LRN-wide"),
    LayerCase("LRN", "lrn_param { alpha: -0.1 k: 4 }", X, lambda x: lrn_across(x, 5, -0.1, 0.75, 4)),
    LayerCase("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: -1 }", X, lambda x: lrn_across(x, 3, 0.5, -1, 1)),
    LayerCase("LRN", "lrn_param { alpha: 0 k: 2 }", X, lambda x: lrn_across(x, 5, 0, 0.75, 2)),
    LayerCase("LRN", "lrn_param { norm_region: WITHIN_CHANNEL alpha: 0.5 k: 7 }", X, lambda x: lrn_within(x, 5, 0.5, 0.75)),
    LayerCase(
        "LRN",
        "lrn_param { norm_region: WITHIN_CHANNEL local_size: 9 }",
        [(2, 2, 4, 3)],
        lambda x: lrn_within(x, 9, 1, 0.75),
        name="LRN-within-wide",
    ),
    LayerCase("MVN", "", X, lambda x: mvn(x, (2, 3))),
    LayerCase("MVN", "mvn_param { across_channels: true eps: 0.1 }", X, lambda x: mvn(x, (1, 2, 3), eps=0.1)),
    LayerCase("MVN", "mvn_param { normalize_variance: false }", X, lambda x: mvn(x, (2, 3), divide=False)),
    LayerCase("MVN", "mvn_param { across_channels: true }", [(2, 6)], lambda x: mvn(x, (1,))[..., None, None], name="MVN-2d"),
    LayerCase("MVN", "", [(2, 3, 6)], lambda x: mvn(x, (2,))[..., None], name="MVN-3d"),
    LayerCase("MVN", "", [(2, 3)], lambda x: np.zeros((len(x), 3, 1, 1)), name="MVN-of-one"),
    LayerCase(
        "Normalize",
        "norm_param { across_spatial: false channel_shared: false }",
        X,
        lambda x, s: normalized(x, s[:, None, None], False),
        [(5,)],
    ),
    LayerCase("Normalize", "norm_param { channel_shared: false }", [(2, 5)], lambda x, s: normalized2(x, s), [(5,)], name="Normalize-2d"),
    LayerCase("Normalize", "", X, lambda x, s: normalized(x, s, True), [(1,)]),
    LayerCase(
        "Normalize",
        "norm_param { scale_filler { type: 'constant' value: 20 } }",
        X,
        lambda x: normalized(x, 20, True),
        warns="no weights",
        name="Normalize-filler",
    ),
    LayerCase("Softmax", "softmax_param { axis: -1 }", X, lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)),
    LayerCase(
        "Softmax",
        "",
        X,
        lambda x: np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1, keepdims=True),
        high=200,
    ),
]

MASK = np.array([[[[0, 9], [20, 35]], [[7, 8], [30, 29]]]], np.float32)
RESAMPLING = [
    LayerCase("Interp", "interp_param { height: 13 width: 9 }", X, lambda x: bilinear(x, 13, 9)),
    LayerCase("Interp", "interp_param { height: 1 width: 3 }", X, lambda x: bilinear(x, 1, 3)),
    LayerCase("Interp", "interp_param { zoom_factor: 3 }", X, lambda x: bilinear(x, 3 * x.shape[2] - 2, 3 * x.shape[3] - 2)),
    LayerCase(
        "Interp", "interp_param { shrink_factor: 2 }", X, lambda x: bilinear(x, (x.shape[2] - 1) // 2 + 1, (x.shape[3] - 1) // 2 + 1)
    ),
    LayerCase(
        "Interp",
        "interp_param { shrink_factor: 2 zoom_factor: 3 }",
        X,
        lambda x: bilinear(x, (x.shape[2] - 1) // 2 * 3 + 1, (x.shape[3] - 1) // 2 * 3 + 1),
    ),
    LayerCase("Interp", "interp_param { height: 8 width: 8 pad_beg: -1 pad_end: -2 }", X, lambda x: bilinear(x[:, :, 1:-2, 1:-2], 8, 8)),
    LayerCase("Upsample", "upsample_param { scale: 3 }", X, lambda x: x.repeat(3, 2).repeat(3, 3), name="Upsample-YOLO"),
    LayerCase(
        "Upsample",
        "upsample_param { scale: 3 }",
        [(1, 2, 2, 2), MASK],
        lambda x, m: unpool(x, m, 6, 6),
        name="Upsample-SegNet",
        grows=False,
    ),
    LayerCase(
        "Upsample", "upsample_param { upsample_h: 7 upsample_w: 6 }", [(1, 2, 2, 2), MASK], lambda x, m: unpool(x, m, 7, 6), grows=False
    ),
    LayerCase(
        "Upsample", "upsample_param { scale: 2 pad_out_h: true }", [(1, 2, 2, 2), MASK % 12], lambda x, m: unpool(x, m, 3, 4), grows=False
    ),
]

ROIS = np.array([[0, 0, 0, 12, 12], [1, 3.5, 2.5, 9, 20], [0, 40, 40, 60, 60], [1, 8, 8, 2, 2], [0, -5, 1, 3, 5]])


def priors(x, image):
    """prior_box_layer.cpp, box by box."""
    height, width, image_h, image_w = *x.shape[2:], *image.shape[2:]
    boxes = []
    for i in range(height):
        for j in range(width):
            cx, cy = (j + 0.5) * image_w / width, (i + 0.5) * image_h / height
            for small, large in ((4, 9), (10, 20)):
                sizes = [(small, small), ((small * large) ** 0.5,) * 2]
                sizes += [(small * r**0.5, small / r**0.5) for r in (2, 0.5, 3, 1 / 3)]
                for w, h in sizes:
                    boxes += [(cx - w / 2) / image_w, (cy - h / 2) / image_h, (cx + w / 2) / image_w, (cy + h / 2) / image_h]
    return np.array([[np.clip(boxes, 0, 1), [0.1, 0.1, 0.2, 0.2] * (len(boxes) // 4)]])


DETECTION = [
    LayerCase(
        "ROIPooling",
        "roi_pooling_param { pooled_h: 3 pooled_w: 2 spatial_scale: 0.5 }",
        [(2, 3, 8, 10), ROIS],
        lambda x, r: roi_pool(x, r, 3, 2, 0.5),
    ),
    LayerCase(
        "PriorBox",
        "prior_box_param { min_size: 4 min_size: 10 max_size: 9 max_size: 20 aspect_ratio: 2 aspect_ratio: 3 clip: true "
        "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 }",
        [(1, 2, 3, 4), (1, 3, 24, 30)],
        priors,
    ),
]


@pytest.mark.parametrize("case", POOLING + SPP + NORMS + RESAMPLING + DETECTION, ids=lambda case: case.id)
def test_layer(case: LayerCase, tmp_path: Path) -> None:
    case.check(tmp_path)
