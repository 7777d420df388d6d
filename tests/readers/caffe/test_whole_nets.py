"""Whole nets against numpy that reads the prototxt itself: small ones here, published ones where CONVERTERS_DATA has deploys/.

The folder holds NAME.prototxt, and inputs.json where a file doesn't say its inputs' shapes: {"NAME": {"data": [1, 3, 300, 300]}}.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.readers.caffe.whole.net import Net
from tests.readers.caffe.whole.runtimes import answers
from tests.readers.caffe.whole.text import parse

DEPLOYS = Path(os.environ.get("CONVERTERS_DATA", "absent")) / "deploys"
PUBLISHED = sorted(DEPLOYS.glob("*.prototxt"))


def layer(kind, bottom, top, more=""):
    bottoms = " ".join(f'bottom: "{name}"' for name in bottom.split())
    tops = " ".join(f'top: "{name}"' for name in top.split())
    return f'layer {{ name: "{top.split()[0]}_{kind}" type: "{kind}" {bottoms} {tops} {more} }}\n'


def data(**shapes):
    return "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {" ".join(f"dim: {d}" for d in dims)} }} }} }}\n'
        for name, dims in shapes.items()
    )


def conv(bottom, top, outputs, kernel=3, stride=1, *, relu=True, kind="Convolution"):
    pad = f"pad: {kernel // 2}" if kind == "Convolution" else "pad: 1"
    made = layer(kind, bottom, top, f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} stride: {stride} {pad} }}")
    return made + (layer("ReLU", top, top) if relu else "")


def single_shot():
    """SSD in small: two maps, offsets and scores of each, prior boxes, detections."""
    text = data(data=(1, 3, 48, 64)) + conv("data", "c1", 8, stride=2) + layer("BatchNorm", "c1", "c1")
    text += layer("Scale", "c1", "c1", "scale_param { bias_term: true }") + conv("c1", "c2", 8, stride=4) + conv("c2", "c3", 8, stride=2)
    text += layer("Normalize", "c2", "n2", "norm_param { across_spatial: false channel_shared: false }")
    for x in ("n2", "c3"):
        for what, count in (("loc", 16), ("conf", 20)):
            text += conv(x, f"{x}_{what}", count, relu=False)
            text += layer("Permute", f"{x}_{what}", f"{x}_{what}_p", "permute_param { order: 0 order: 2 order: 3 order: 1 }")
            text += layer("Flatten", f"{x}_{what}_p", f"{x}_{what}_f")
        sizes = "min_size: 12 max_size: 20" if x == "n2" else "min_size: 24 max_size: 40"
        text += layer("PriorBox", f"{x} data", f"{x}_prior", f"prior_box_param {{ {sizes} aspect_ratio: 2 variance: 0.1 }}")
    text += layer("Concat", "n2_loc_f c3_loc_f", "loc") + layer("Concat", "n2_conf_f c3_conf_f", "conf")
    text += layer("Concat", "n2_prior c3_prior", "prior", "concat_param { axis: 2 }")
    text += layer("Reshape", "conf", "conf_r", "reshape_param { shape { dim: 0 dim: -1 dim: 5 } }")
    text += layer("Softmax", "conf_r", "prob", "softmax_param { axis: 2 }") + layer("Flatten", "prob", "prob_f")
    return text + layer(
        "DetectionOutput",
        "loc prob_f prior",
        "detection_out",
        "detection_output_param { num_classes: 5 nms_param { nms_threshold: 0.45 top_k: 60 } keep_top_k: 40 "
        "code_type: CENTER_SIZE confidence_threshold: 0.15 }",
    )


def two_stage(pool):
    """Faster R-CNN or R-FCN in small: proposals, pooled regions, scores of each."""
    text = data(data=(1, 3, 96, 128), im_info=(1, 3)) + conv("data", "c1", 8, 5, 4) + conv("c1", "c2", 8, 5, 4)
    text += conv("c2", "rpn", 8) + conv("rpn", "rpn_score", 18, 1, relu=False) + conv("rpn", "rpn_box", 36, 1, relu=False)
    text += layer("Reshape", "rpn_score", "rpn_two", "reshape_param { shape { dim: 0 dim: 2 dim: -1 dim: 0 } }")
    text += layer("Softmax", "rpn_two", "rpn_prob") + layer(
        "Reshape", "rpn_prob", "rpn_prob_r", "reshape_param { shape { dim: 0 dim: 18 dim: -1 dim: 0 } }"
    )
    text += layer(
        "Python",
        "rpn_prob_r rpn_box im_info",
        "rois",
        "python_param { module: 'rpn.proposal_layer' layer: 'ProposalLayer' param_str: \"'feat_stride': 16\" }",
    )
    if pool == "ROIPooling":
        text += layer("ROIPooling", "c2 rois", "pool", "roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.0625 }")
        text += layer("InnerProduct", "pool", "fc", "inner_product_param { num_output: 16 }") + layer("ReLU", "fc", "fc")
        return text + layer("InnerProduct", "fc", "score", "inner_product_param { num_output: 4 }") + layer("Softmax", "score", "prob")
    text += conv("c2", "ps", 36, 1, relu=False)
    text += layer("PSROIPooling", "ps rois", "pool", "psroi_pooling_param { spatial_scale: 0.0625 output_dim: 4 group_size: 3 }")
    text += layer("Pooling", "pool", "mean", "pooling_param { pool: AVE kernel_size: 3 stride: 3 }")
    return text + layer("Softmax", "mean", "prob")


def flow():
    """FlowNet-S in small: two images, down and up again, resampled to their size."""
    text = data(img0=(1, 3, 32, 48), img1=(1, 3, 32, 48))
    for k in "01":
        text += layer("Mean", f"img{k}", f"m{k}", "mean_param { operation: SUBTRACT input_scale: 0.004 value: 0.4 value: 0.5 value: 0.6 }")
    text += layer("Concat", "m0 m1", "both") + conv("both", "c1", 8, 5, 2) + conv("c1", "c2", 16, 3, 2)
    text += conv("c2", "low", 2, relu=False) + conv("low", "up", 2, 4, 2, relu=False, kind="Deconvolution")
    text += conv("c2", "d1", 8, 4, 2, kind="Deconvolution") + layer("Concat", "c1 d1 up", "joined") + conv("joined", "flow", 2, relu=False)
    text += layer("Resample", "flow", "wide", "resample_param { width: 48 height: 32 type: LINEAR }")
    text += layer("FlowWarp", "m1 wide", "warped") + layer("Eltwise", "m0 warped", "error", "eltwise_param { coeff: 1 coeff: -1 }")
    return text + layer("ChannelNorm", "error", "norm")


def text_line():
    """CRNN in small: a line as a sequence, read forwards and backwards."""
    text = data(data=(1, 3, 16, 40)) + conv("data", "c1", 8, 3, 2) + conv("c1", "c2", 8, 3, 2)
    text += layer("Permute", "c2", "p", "permute_param { order: 3 order: 0 order: 1 order: 2 }")
    text += layer("Flatten", "p", "steps", "flatten_param { axis: 2 }") + layer("Lstm", "steps", "there", "lstm_param { num_output: 6 }")
    text += layer("Reverse", "steps", "back") + layer("Lstm", "back", "again", "lstm_param { num_output: 6 }")
    text += layer("Reverse", "again", "turned") + layer("Concat", "there turned", "wide", "concat_param { axis: 2 }")
    text += layer("InnerProduct", "wide", "score", "inner_product_param { num_output: 5 axis: 2 }")
    return text + layer("Softmax", "score", "prob", "softmax_param { axis: 2 }")


SMALL = {
    "single shot": single_shot(),
    "faster rcnn": two_stage("ROIPooling"),
    "rfcn": two_stage("PSROIPooling"),
    "flow": flow(),
    "text line": text_line(),
}


def inputs_of(name, text):
    """Seeded numbers in the shapes that the file, or inputs.json, says."""
    top = parse(text)
    shapes = json.loads((DEPLOYS / "inputs.json").read_text()).get(name, {}) if name not in SMALL else {}
    if not shapes:
        dims, given = top.all("input_dim"), [shape.all("dim") for shape in top.all("input_shape")]
        given = given or [dims[4 * i : 4 * i + 4] for i in range(len(dims) // 4)]
        shapes = {n: given[min(i, len(given) - 1)] for i, n in enumerate(top.all("input"))}
        for found in [found for found in top.all("layer") if found.get("type") == "Input"]:
            shapes[found.all("top")[0]] = found.get("input_param").get("shape").all("dim")
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    arrays = {n: rng.uniform(-100, 100, shape).astype(np.float32) for n, shape in shapes.items()}
    image = next(shape for shape in shapes.values() if len(shape) == 4)
    if "im_info" in arrays:
        arrays["im_info"][:] = np.array([*image[2:], 1, 1, *image[2:]])[: arrays["im_info"].size]
    return arrays


def agree(found, wanted):
    """Arrays by their numbers; detections as sets of rows, equal scores being in any order."""
    if found.shape[-1] == 7 and found.shape[:2] == (1, 1):
        assert found.shape == wanted.shape
        left = list(wanted.reshape(-1, 7))
        for row in found.reshape(-1, 7):
            place = int(np.argmin([np.abs(row - other).max() for other in left]))
            np.testing.assert_allclose(row, left.pop(place), rtol=1e-3, atol=1e-3)
        return
    scale = max(1.0, float(np.nanmax(np.abs(wanted))))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * scale, equal_nan=True)


@pytest.mark.parametrize("name", [*SMALL, *(path.stem for path in PUBLISHED)])
def test_whole_nets(name, tmp_path):
    text = SMALL.get(name) or (DEPLOYS / f"{name}.prototxt").read_text(errors="replace")
    inputs = inputs_of(name, text)
    reference = Net(text, inputs, dtype=np.float64 if name in SMALL else np.float32)
    wanted = reference.run()
    for found in answers(tmp_path, text, reference, inputs):
        for output, array in found.items():
            agree(array, wanted[output])
