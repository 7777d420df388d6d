"""Layers of forks with parameters off the beaten track, against numpy's walk through the same prototxt (tests/readers/caffe/whole)."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from tests.readers.caffe.whole.net import Net
from tests.readers.caffe.whole.runtimes import answers

RNG = np.random.default_rng(7)
FLOW = RNG.choice([0, 1, 2, -1, -0.0, 3, -3, 10, -10, 0.5], (2, 2, 5, 7))
ROIS = np.concatenate([RNG.integers(0, 3, (24, 1)), np.round(RNG.uniform(-40, 160, (24, 4)) * 2) / 2], 1)
BOXES = 24
PRIORS = np.stack([np.sort(RNG.uniform(-0.2, 1.2, (BOXES, 2, 2)), 1).ravel(), np.tile([0.1, 0.1, 0.2, 0.2], BOXES)])[None]
DETECTOR = [(3, BOXES * 4), (3, BOXES * 3), PRIORS]
ARM = RNG.uniform(0, 1, (3, BOXES * 2))


def proposals(anchors, info):
    """Scores, offsets and the image's size."""
    return [RNG.uniform(0.1, 1, (1, 2 * anchors, 5, 7)), RNG.normal(0, 0.3, (1, 4 * anchors, 5, 7)), np.array([info])]


def detector(options):
    return f"detection_output_param {{ num_classes: 3 confidence_threshold: 0.4 nms_param {{ nms_threshold: 0.4 }} {options} }}"


def yolo3(options, groups=1):
    biases = " ".join(f"biases: {v}" for v in (10, 14, 23, 27, 37, 58))
    return f"yolov3_detection_output_param {{ num_classes: 2 mask_group_num: {groups} {biases} {options} }}"


PYTHON = 'python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "{}" }}'
CLIP, MAP = [(3, 2, 5, 9, 6)], [(3, 2, 9, 13)]

ROWS: list[tuple[str, list[tuple[int, ...] | np.ndarray], str]] = [
    # flow
    *(
        ("Correlation", [(3, 4, 9, 13)] * 2, f"correlation_param {{ {p} }}")
        for p in (
            "kernel_size: 1 max_displacement: 0",
            "pad: 2 kernel_size: 1 max_displacement: 2 stride_2: 2",
            "pad: 6 kernel_size: 3 max_displacement: 4 stride_1: 3 stride_2: 2 correlation_type: SUBTRACT",
            "pad: 4 kernel_size: 1 max_displacement: 4 stride_1: 2 stride_2: 3 correlation_type: SUBTRACT",
            "pad: 8 kernel_size: 5 max_displacement: 3 do_abs: true single_direction: 1",
            "kernel_size: 3 max_displacement: 1",
        )
    ),
    *(
        ("Resample", [(2, 2, 5, 9)], f"resample_param {{ type: {kind} height: {height} width: {width} {more} }}")
        for kind in ("LINEAR", "CUBIC", "NEAREST")
        for height, width in ((10, 18), (3, 20), (2, 2), (5, 4))
        for more in ("", "antialias: false factor: 3")
    ),
    ("Resample", [(2, 2, 16, 12), (1, 1, 9, 31)], "resample_param { type: LINEAR }"),
    ("Downsample", MAP, "downsample_param { top_height: 5 top_width: 7 }"),
    ("Downsample", MAP, "downsample_param { top_height: 2 top_width: 13 }"),
    ("Downsample", MAP, "downsample_param { top_height: 9 top_width: 13 }"),
    ("Downsample", [*MAP, (1, 1, 4, 6)], ""),
    *(
        ("Accum", [(2, 2, 8, 12), (2, 1, 4, 20), (2, 3, 1, 1)], f"accum_param {{ {p} }}")
        for p in (
            "",
            "have_reference: true",
            "size_divisible_by: 7",
            "top_height: 9 top_width: 30",
            "top_height: 9 top_width: 20",
            "top_height: 30 top_width: 30 size_divisible_by: 16",
        )
    ),
    ("FlowWarp", [(2, 3, 5, 7), FLOW], ""),
    ("FlowWarp", [(2, 3, 5, 7), FLOW], "flow_warp_param { fill_value: NOT_A_NUMBER }"),
    ("FlowWarp", [(2, 3, 1, 7), FLOW[:, :, :1]], ""),
    ("Warp", [(2, 3, 5, 7), FLOW], ""),
    ("ChannelNorm", [(3, 1, 3, 2)], ""),
    *(
        ("DataAugmentation", [(3, 3, 9, 13)], f"augmentation_param {{ {p} }}")
        for p in (
            "crop_width: 5 crop_height: 7",
            "crop_width: 13 crop_height: 9 recompute_mean: 3",
            "crop_width: 6 crop_height: 9 recompute_mean: 3 mean_per_pixel: false",
            "mean: 1 mean: 2 mean: 3",
            "mean: 1 mean: 2 mean: 3 mean_per_pixel: false",
            "mean: 1 mean_per_pixel: false",
            "crop_height: 3 max_multiplier: 2",
            'max_multiplier: 1 mirror { rand_type: "bernoulli" prob: 0.5 }',
        )
    ),
    ("Mean", [(2, 5, 3, 4)], "mean_param { operation: ADD value: 1 value: 2 }"),
    (
        "Mean",
        [(2, 5, 3, 4)],
        "mean_param { operation: SUBTRACT value: 1 value: 2 value: 3 input_scale: 0.5 output_scale: -3 mean_scale: 0.1 }",
    ),
    ("ExpMax", [(3, 4, 5, 2)], "exp_param { base: 2 scale: -0.5 shift: 1 }"),
    ("ExpMax", [(1, 4, 5, 2)], "exp_param { scale: 3 }"),
    # boxes
    *(
        ("PriorBox", [(1, 4, 5, 7), (1, 3, 40, 56)], f"prior_box_param {{ {p} }}")
        for p in (
            "min_size: 30.6 max_size: 60.9 aspect_ratio: 2",
            "min_size: 10 min_size: 20 max_size: 15 max_size: 33 aspect_ratio: 2 aspect_ratio: 3 flip: false",
            "min_size: 16 aspect_ratio: 1 aspect_ratio: 2 aspect_ratio: 2 aspect_ratio: 0.5",
            "min_size: 16 step: 8 offset: 0.3 clip: true",
            "min_size: 16 step_h: 8 step_w: 4 img_size: 100",
            "min_size: 16 img_h: 100 img_w: 50 variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4",
        )
    ),
    *(("DetectionOutput", DETECTOR, detector(f"code_type: {code} clip: true")) for code in ("CORNER", "CENTER_SIZE", "CORNER_SIZE")),
    ("DetectionOutput", DETECTOR, detector("background_label_id: 2 keep_top_k: 4")),
    ("DetectionOutput", DETECTOR, detector("background_label_id: 9 keep_top_k: 0")),
    ("DetectionOutput", DETECTOR, detector("variance_encoded_in_target: true visualize: true")),
    ("DetectionOutput", [*DETECTOR, ARM], detector("code_type: CENTER_SIZE objectness_score: 0.4")),
    ("DetectionOutput", [*DETECTOR, ARM, (3, BOXES * 4)], detector("code_type: CENTER_SIZE objectness_score: 0.3")),
    ("Python", proposals(6, [80, 112, 0.7]), PYTHON.format("{'feat_stride': 16, 'scales': (4, 8)}")),
    ("Python", proposals(3, [20, 28, 1]), PYTHON.format("{'feat_stride': 4, 'scales': [2]}")),
    (
        "Proposal",
        proposals(6, [60, 84, 1.3, 0.8, 50, 60]),
        "proposal_param { ratio: 0.25 ratio: 3.7 scale: 1.5 scale: 2.25 scale: 9 base_size: 12 feat_stride: 12 min_size: 2 "
        "pre_nms_topn: 30 post_nms_topn: 7 nms_thresh: 0.3 }",
    ),
    ("Proposal", proposals(1, [40, 56, 1, 1]), "proposal_param { ratio: 1 scale: 2 feat_stride: 8 min_size: 4 }"),
    ("ROIPooling", [(3, 2, 7, 10), ROIS], "roi_pooling_param { pooled_h: 2 pooled_w: 5 spatial_scale: 0.0625 }"),
    ("ROIPooling", [(3, 2, 7, 10), ROIS], "roi_pooling_param { pooled_h: 6 pooled_w: 6 spatial_scale: 0.1 }"),
    ("PSROIPooling", [(3, 12, 7, 10), ROIS], "psroi_pooling_param { group_size: 2 output_dim: 3 spatial_scale: 0.25 }"),
    ("PSROIPooling", [(3, 25, 7, 10), ROIS], "psroi_pooling_param { group_size: 5 output_dim: 1 spatial_scale: 0.1 }"),
    ("Yolov3DetectionOutput", [(3, 21, 3, 5)], yolo3("mask: 2 mask: 0 mask: 1 anchors_scale: 16 confidence_threshold: 0.3")),
    (
        "Yolov3DetectionOutput",
        [(2, 7, 2, 3), (2, 7, 4, 6), (2, 7, 8, 12)],
        yolo3("num_box: 1 mask: 2 mask: 1 mask: 0 anchors_scale: 32 anchors_scale: 16 anchors_scale: 8 nms_threshold: 0.3", 3),
    ),
    ("Yolov3DetectionOutput", [(2, 21, 3, 4)], yolo3("mask: 0 mask: 1 mask: 2 anchors_scale: 32 confidence_threshold: 0.999")),
    # clips
    *(
        ("Pooling3D", CLIP, f"pooling3d_param {{ {p} }}")
        for p in (
            "kernel_size: 3 kernel_depth: 3 pad: 2 pool: AVE",
            "kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 3 pad: 1 pool: AVE",
            "kernel_size: 5 kernel_depth: 4 stride: 3 temporal_stride: 2",
            "kernel_size: 7 kernel_depth: 3 pad: 3 stride: 4 pool: AVE",
        )
    ),
    *(
        (kind, CLIP, f"convolution3d_param {{ num_output: 4 {p} }}")
        for kind in ("Convolution3D", "Deconvolution3D")
        for p in (
            "kernel_size: 1 kernel_depth: 1",
            "kernel_size: 3 kernel_depth: 2 stride: 3 temporal_stride: 2 pad: 2 temporal_pad: 1",
            "kernel_size: 2 kernel_depth: 3 stride: 2 temporal_pad: 2 bias_term: false",
        )
    ),
    ("Convolution3D", CLIP, "convolution3d_param { num_output: 4 kernel_size: 3 kernel_depth: 3 filter_group: 2 }"),
    # text and the rest
    ("Lstm", [(1, 1, 3)], "lstm_param { num_output: 2 }"),
    ("Lstm", [(6, 3, 2, 2)], "lstm_param { num_output: 5 clipping_threshold: 0.1 }"),
    ("Transpose", [(2, 3, 4, 5, 2)], "transpose_param { dim: 4 dim: 0 dim: 2 dim: 1 dim: 3 }"),
    ("Reverse", [(3, 4, 5)], "reverse_param { axis: -1 }"),
    ("Reorg", [(2, 9, 6, 9)], "reorg_param { stride: 3 }"),
    ("GRN", [(3, 5, 4, 6)], ""),
    ("Upsample", [(2, 3, 4, 5)], "upsample_param { scale: 3 }"),
    ("Upsample", [(2, 3, 4, 5)], ""),
    *(
        ("Interp", [(2, 2, 9, 11)], f"interp_param {{ {p} }}")
        for p in (
            "height: 1 width: 1",
            "zoom_factor: 4 pad_beg: -1",
            "shrink_factor: 4 pad_end: -2",
            "shrink_factor: 3 zoom_factor: 5 pad_beg: -1 pad_end: -1",
        )
    ),
    ("Interp", [(2, 3, 1, 1)], "interp_param { height: 4 width: 5 }"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[2]}"[:90])
def test_layers(row, tmp_path):
    kind, bottoms, params = row
    rng = np.random.default_rng(zlib.crc32(repr((kind, params)).encode()))
    span = (0, 1) if kind == "DetectionOutput" else (-2, 2)
    arrays = [b if isinstance(b, np.ndarray) else rng.uniform(*span, b) for b in bottoms]
    inputs = {f"x{i}": a.astype(np.float32) for i, a in enumerate(arrays)}
    text = "".join(
        f'layer {{ name: "i{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {" ".join(f"dim: {d}" for d in a.shape)} }} }} }}\n'
        for i, a in enumerate(arrays)
    )
    text += f'layer {{ name: "it" type: "{kind}" {" ".join(f"""bottom: "{name}" """ for name in inputs)} top: "y" {params} }}\n'
    reference = Net(text, inputs)
    wanted = reference.run()["y"]
    for found in answers(tmp_path, text, reference, inputs):
        got = found["y"]
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * max(1.0, float(np.nanmax(np.abs(wanted)))))
