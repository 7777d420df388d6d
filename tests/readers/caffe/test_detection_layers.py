"""Layers of detectors against numpy: detections with ties and broken numbers, regions, proposals' options, prior boxes by their fork."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import converters
from tests.readers.caffe.layer_case import LayerCase

P, C = 30, 4


def iou(a, b):
    """Of two boxes; 0 for those without an area."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if not (size > 0).all() or not (a[2:] > a[:2]).all() or not (b[2:] > b[:2]).all():
        return np.float32(0)
    shared = size[0] * size[1]
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def decoded(prior, variance, offsets, code):
    if code == "CORNER":
        return prior + variance * offsets
    size = prior[:, 2:] - prior[:, :2]
    if code == "CORNER_SIZE":
        return prior + variance * offsets * np.tile(size, 2)
    center = (prior[:, :2] + prior[:, 2:]) / np.float32(2) + variance[:, :2] * offsets[:, :2] * size
    half = np.exp(variance[:, 2:] * offsets[:, 2:]) * size / np.float32(2)
    return np.concatenate([center - half, center + half], 1)


def detections(loc, conf, priors, *, code, threshold, overlap, top_k, keep, eta=1.0, background=0):
    """SSD's DetectionOutput, image by image and class by class."""
    prior, variance = priors.reshape(2, -1, 4)
    rows = []
    for image in range(len(loc)):
        boxes = decoded(prior, variance, loc[image].reshape(-1, 4), code)
        found = []
        for label in range(C):
            scores = conf[image].reshape(-1, C)[:, label]
            order = [i for i in np.argsort(-np.nan_to_num(scores, nan=-9), kind="stable") if scores[i] > threshold][:top_k]
            kept, limit = [], np.float32(overlap)
            for i in order if label != background else ():
                if all(not iou(boxes[i], boxes[j]) > limit for j in kept):
                    kept.append(i)
                    limit = limit * np.float32(eta) if eta < 1 and limit > 0.5 else limit
            found += [(scores[i], label, position, boxes[i]) for position, i in enumerate(kept)]
        best = sorted(found, key=lambda row: -row[0])[:keep]  # stable: the first of equals stays
        rows += [[image, label, score, *box] for score, label, _, box in sorted(best, key=lambda row: row[1:3])]
    return np.array(rows or [[i, *[-1] * 6] for i in range(len(loc))], np.float32).reshape(1, 1, -1, 7)


def load(folder: Path, text: str, **options):
    (folder / "net.prototxt").write_text(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = converters.load(folder / "net.prototxt", **options)
    return model, [str(w.message) for w in caught]


def net(folder, options, images=2):
    shapes = {"loc": (images, P * 4), "conf": (images, P * C), "prior": (1, 2, P * 4)}
    text = "".join(
        f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ {" ".join(f"dim: {d}" for d in s)} }} }} }}\n'
        for n, s in shapes.items()
    )
    text += f"""layer {{ name: "out" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "out"
        detection_output_param {{ num_classes: {C} {options} }} }}"""
    (folder / "net.prototxt").write_text(text)
    return converters.load(folder / "net.prototxt")


def drawn(seed, images=2):
    """Offsets, scores and prior boxes with equal scores, numbers that are none, and boxes of no size or turned over."""
    rng = np.random.default_rng(seed)
    loc = rng.normal(0, 1, (images, P * 4)).astype(np.float32)
    conf = np.round(rng.uniform(0, 1, (images, P * C)), 1 if seed % 3 else 7).astype(np.float32)
    low = rng.uniform(0, 0.7, (P, 2))
    size = rng.uniform(0.05, 0.4, (P, 2))
    if seed % 5 == 0:
        conf[rng.integers(images), rng.integers(P * C, size=6)] = np.nan
    if seed % 7 == 0:
        size[rng.integers(P, size=4)] = 0
    if seed % 11 == 0:
        size[rng.integers(P, size=3)] *= -1
    prior = np.stack([np.concatenate([low, low + size], 1).ravel(), np.tile([0.1, 0.1, 0.2, 0.2], P)])[None].astype(np.float32)
    return loc, conf, prior


VARIANTS = {
    "center": {"code": "CENTER_SIZE", "threshold": 0.3, "overlap": 0.45, "top_k": 12, "keep": 20},
    "corner": {"code": "CORNER", "threshold": 0.5, "overlap": 0.3, "top_k": 100, "keep": 8},
    "corner size": {"code": "CORNER_SIZE", "threshold": 0.95, "overlap": 0.5, "top_k": 5, "keep": 3},
    "eta": {"code": "CENTER_SIZE", "threshold": 0.2, "overlap": 0.8, "top_k": 20, "keep": 15, "eta": 0.8},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_detections_of_a_thousand_seeds(name, tmp_path):
    given = VARIANTS[name]
    options = f"""nms_param {{ nms_threshold: {given["overlap"]} top_k: {given["top_k"]} eta: {given.get("eta", 1.0)} }}
        code_type: {given["code"]} keep_top_k: {given["keep"]} confidence_threshold: {given["threshold"]}"""
    model = net(tmp_path, options)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    module = converters.to_module(model)
    for seed in range(1000):
        loc, conf, prior = drawn(seed)
        with np.errstate(invalid="ignore"):
            wanted = detections(loc, conf, prior, **given)
        (found,) = session.run(None, {"loc": loc, "conf": conf, "prior": prior})
        assert found.shape == wanted.shape, seed
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=str(seed))
        if seed % 10 == 0:
            with torch.no_grad():
                other = module(*map(torch.from_numpy, (loc, conf, prior))).numpy()
            np.testing.assert_allclose(other, wanted, rtol=1e-5, atol=1e-5, err_msg=f"PyTorch, {seed}")


@pytest.mark.parametrize(("kind", "near"), [(torch.float64, 1e-5), (torch.float16, 0.02)])
def test_detections_in_another_precision(kind, near, tmp_path):
    given = {"code": "CENTER_SIZE", "threshold": 0.3, "overlap": 0.45, "top_k": 12, "keep": 9}
    module = converters.to_module(
        net(tmp_path, "nms_param { nms_threshold: 0.45 top_k: 12 } code_type: CENTER_SIZE keep_top_k: 9 confidence_threshold: 0.3")
    )
    loc, conf, prior = drawn(1)
    conf = (np.random.default_rng(3).permutation(conf.size).reshape(conf.shape) / conf.size).astype(np.float32)  # none alike
    wanted = detections(loc, conf, prior, **given)
    with torch.no_grad():
        found = module.to(kind)(*(torch.from_numpy(v).to(kind) for v in (loc, conf, prior)))
    np.testing.assert_allclose(found.float().numpy(), wanted, atol=near)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("background_label_id: -1", "share_location with background_label_id -1"),
        ("share_location: false", "30 prior boxes need 480 values of each image"),
        ("nms_param { eta: 0 }", "eta above 0"),
        ("use_polygon: true", "use_polygon"),
    ],
)
def test_what_detection_output_refuses(options, words, tmp_path):
    with pytest.raises(converters.ConversionError, match=words):
        net(tmp_path, options)


def test_top_k_0_keeps_nothing(tmp_path):
    model = net(tmp_path, "nms_param { top_k: 0 } keep_top_k: 5")
    answer = converters.to_module(model)(*map(torch.from_numpy, drawn(1)))
    np.testing.assert_array_equal(answer.numpy()[0, 0], [[0, *[-1] * 6], [1, *[-1] * 6]])


# -- prior boxes by their fork -------------------------------------------------------------------------------------------------


def head(channels, prior, output=""):
    """A map, offsets of so many channels, and prior boxes."""
    return f"""
        input: "data" input_shape {{ dim: 1 dim: 3 dim: 32 dim: 32 }}
        layer {{ name: "map" type: "Pooling" bottom: "data" top: "map" pooling_param {{ pool: AVE kernel_size: 8 stride: 8 }} }}
        layer {{ name: "loc" type: "Convolution" bottom: "map" top: "loc"
            convolution_param {{ num_output: {channels} kernel_size: 1 weight_filler {{ type: "constant" value: 0.1 }} }} }}
        layer {{ name: "perm" type: "Permute" bottom: "loc" top: "perm" permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}
        layer {{ name: "flat" type: "Flatten" bottom: "perm" top: "flat" }}
        layer {{ name: "join" type: "Concat" bottom: "flat" top: "mbox_loc" }}
        layer {{ name: "prior" type: "PriorBox" bottom: "map" bottom: "data" top: "prior" prior_box_param {{ {prior} }} }}
        layer {{ name: "priors" type: "Concat" bottom: "prior" top: "mbox_prior" concat_param {{ axis: 2 }} }}
        {output}"""


@pytest.mark.parametrize(
    ("channels", "prior", "boxes"),
    [
        (4, "min_size: 32", 1),
        (16 * 4, "min_size: 32", 16),
        (21 * 4, "min_size: 32 min_size: 64 min_size: 128", 21),
        (12, "min_size: 32 min_size: 64 min_size: 128", 3),
        (24, "min_size: 8 aspect_ratio: 2 aspect_ratio: 3 flip: false", 6),
    ],
)
def test_the_channels_of_the_offsets_tell_whose_prior_boxes_they_are(channels, prior, boxes, tmp_path):
    model, _ = load(tmp_path, head(channels, prior), fillers=True)
    shapes = {str(v.name): tuple(v.shape) for v in model.graph.outputs}
    assert shapes["mbox_prior"] == (1, 2, 16 * boxes * 4)


@pytest.mark.parametrize("count", [1, 2])
def test_offsets_that_are_joined_to_none_tell_it_too(count, tmp_path):
    """FaceBoxes' boxes, 21 of a cell, where neither offsets nor prior boxes come to a Concat."""
    text = 'input: "data" input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }'
    for k in range(count):
        text += f"""
            layer {{ name: "map{k}" type: "Pooling" bottom: "data" top: "map{k}" pooling_param {{ kernel_size: 8 stride: 8 }} }}
            layer {{ name: "c{k}" type: "Convolution" bottom: "map{k}" top: "loc{k}"
                convolution_param {{ num_output: 84 kernel_size: 1 weight_filler {{ value: 0.1 }} }} }}
            layer {{ name: "prior{k}" type: "PriorBox" bottom: "map{k}" bottom: "data" top: "prior{k}"
                prior_box_param {{ min_size: 32 min_size: 64 min_size: 128 }} }}"""
    model, _ = load(tmp_path, text, fillers=True)
    shapes = {str(v.name): tuple(v.shape) for v in model.graph.outputs}
    assert all(shapes[f"prior{k}"] == (1, 2, 16 * 21 * 4) for k in range(count))


def test_reduced_prior_boxes_are_half_as_large(tmp_path):
    """chuanqi305's reduce_boxes halves the first box of a cell."""
    model, _ = load(tmp_path, head(12, "min_size: 8 aspect_ratio: 2 reduce_boxes: true"), fillers=True)
    outputs = converters.to_module(model)(torch.zeros(1, 3, 32, 32))
    found = dict(zip((str(v.name) for v in model.graph.outputs), outputs, strict=True))["mbox_prior"]
    sizes = [[4, 4], [8 * 2**0.5, 8 / 2**0.5], [8 / 2**0.5, 8 * 2**0.5]]
    corners = found[0, 0].reshape(-1, 4)[:3].numpy() * 32
    np.testing.assert_allclose(corners[:, 2:] - corners[:, :2], sizes, rtol=1e-5)


def test_prior_boxes_of_textboxes_have_one_size(tmp_path):
    with pytest.raises(converters.ConversionError, match="have one min_size and max_size"):
        load(tmp_path, head(16, "min_size: 8 min_size: 16"), fillers=True)


def test_prior_boxes_that_fit_no_fork_are_refused(tmp_path):
    with pytest.raises(converters.ConversionError, match=r"layer 'prior' \(PriorBox\): .* fit the prior boxes of no fork"):
        load(tmp_path, head(20, "min_size: 32"), fillers=True)


# -- regions -------------------------------------------------------------------------------------------------------------------


def ps_align(x, rois, scale, outputs, group, count):
    """makefile/frcnn's PSROIAlign."""
    out = np.zeros((len(rois), outputs, group, group))
    height, width = x.shape[2:]
    for r, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = corners[0] * scale, corners[1] * scale, (corners[2] + 1) * scale, (corners[3] + 1) * scale
        tall, wide = max(y2 - y1, 0.1) / group, max(x2 - x1, 0.1) / group
        for c in range(outputs):
            for i in range(group):
                for j in range(group):
                    top, end = (min(max(y1 + k * tall, 0), height - 1) for k in (i, i + 1))
                    left, right = (min(max(x1 + k * wide, 0), width - 1) for k in (j, j + 1))
                    plane, total = x[int(image), (c * group + i) * group + j], 0.0
                    for a in range(1, count + 1):
                        for b in range(1, count + 1):
                            v, u = top + a * tall / (count + 1), left + b * wide / (count + 1)
                            if v < end and u < right:
                                p, q = int(v), int(u)
                                f, g, down, across = v - p, u - q, min(p + 1, height - 1), min(q + 1, width - 1)
                                total += (1 - f) * ((1 - g) * plane[p, q] + g * plane[p, across])
                                total += f * ((1 - g) * plane[down, q] + g * plane[down, across])
                    out[r, c, i, j] = total / count**2
    return out


def moved_boxes(offsets, rois, mean, deviation):
    """cascade-rcnn's DecodeBBox."""
    d = offsets[:, 4:] * np.array(deviation) + np.array(mean)
    size = rois[:, 3:] - rois[:, 1:3] + 1
    center = (rois[:, 1:3] + rois[:, 3:]) / 2 + d[:, :2] * size
    half = (np.exp(d[:, 2:]) * size - 1) / 2
    return np.concatenate([rois[:, :1], center - half, center + half], 1)[:, :, None, None]


ROIS = np.array([[0, 3, 5, 40, 60], [1, -20, 2, 130, 90], [0, 17.5, 8.5, 17.5, 8.5], [1, 60, 60, 30, 20]], np.float32)
MAPS = np.random.default_rng(0).uniform(-1, 1, (2, 18, 9, 11)).astype(np.float32)

ROWS = [
    LayerCase(
        "PSROIAlign",
        "psroi_align_param { spatial_scale: 0.0625 output_dim: 2 group_size: 3 }",
        [MAPS, ROIS],
        lambda x, rois: ps_align(x, rois, 0.0625, 2, 3, 2),
    ),
    LayerCase(
        "PSROIAlign",
        "psroi_align_param { spatial_scale: 0.0625 output_dim: 2 group_size: 3 sample_num: 3 }",
        [MAPS, ROIS],
        lambda x, rois: ps_align(x, rois, 0.0625, 2, 3, 3),
    ),
    LayerCase("DecodeBBox", "", [(4, 8), ROIS], lambda d, rois: moved_boxes(d, rois, [0.0] * 4, [1.0] * 4), fixed=True),
    LayerCase(
        "DecodeBBox",
        "bbox_reg_param { " + "bbox_mean: 0.1 bbox_std: 0.2 " * 4 + "}",
        [(4, 8), ROIS],
        lambda d, rois: moved_boxes(d, rois, [0.1] * 4, [0.2] * 4),
        fixed=True,
    ),
]


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.id)
def test_layers(case, tmp_path):
    case.check(tmp_path)


@pytest.mark.parametrize("kind", ["PSROIPooling", "PSROIAlign", "ROIPooling", "ROIAlign"])
@pytest.mark.parametrize("image", [-1, 2])
def test_a_region_of_an_image_that_is_not_there_is_refused_at_run_time(kind, image, tmp_path):
    """Caffe stops there on the CPU, and reads what lies beside the images on the GPU."""
    options = {
        "ROIPooling": "roi_pooling_param { pooled_h: 3 pooled_w: 3 }",
        "ROIAlign": "roi_align_param { pooled_h: 2 pooled_w: 2 pad_ratio: 0.1 }",
        "PSROIPooling": "psroi_pooling_param { output_dim: 2 group_size: 3 spatial_scale: 1 }",
        "PSROIAlign": "psroi_align_param { output_dim: 2 group_size: 3 spatial_scale: 1 }",
    }
    model = LayerCase(kind, options[kind], [MAPS, ROIS[:1]], lambda x, rois: x, fixed=True).load(tmp_path)
    regions = np.array([[image, 1, 1, 5, 5]], np.float32)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="status code returned while running"):
        session.run(None, {"x0": MAPS, "x1": regions})
    with pytest.raises(IndexError), torch.no_grad():
        converters.to_module(model)(torch.from_numpy(MAPS), torch.from_numpy(regions))


# -- proposals -----------------------------------------------------------------------------------------------------------------

PROPOSAL = """
    layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 18 dim: 5 dim: 6 } } }
    layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 1 dim: 36 dim: 5 dim: 6 } } }
    layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 1 dim: 3 } } }
    layer { name: "it" type: "Python" bottom: "a" bottom: "b" bottom: "c" top: "rois"
        python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" } }
"""


def test_the_numbers_of_proposals_are_said_and_can_be_given(tmp_path):
    _, notes = load(tmp_path, PROPOSAL)
    assert any("RPN_PRE_NMS_TOP_N=6000 RPN_POST_NMS_TOP_N=300 RPN_NMS_THRESH=0.7 RPN_MIN_SIZE=16" in note for note in notes)
    model, notes = load(tmp_path, PROPOSAL, define={"RPN_POST_NMS_TOP_N": "7"})
    assert any("RPN_POST_NMS_TOP_N=7 " in note for note in notes)
    rng = np.random.default_rng(3)
    arrays = [rng.uniform(0, 1, (1, 18, 5, 6)), rng.normal(0, 0.3, (1, 36, 5, 6)), np.array([[80, 96, 1.0]])]
    rois = converters.to_module(model)(*(torch.from_numpy(a.astype(np.float32)) for a in arrays))
    assert rois.shape == (7, 5)


def test_proposals_of_two_images_at_once_are_refused_at_run_time(tmp_path):
    """As in Caffe; also where so few boxes are left that each of their places is an image's."""
    model, _ = load(tmp_path, PROPOSAL, define={"RPN_POST_NMS_TOP_N": "1", "RPN_PRE_NMS_TOP_N": "1"})
    rng = np.random.default_rng(3)
    arrays = [rng.uniform(0, 1, (2, 18, 5, 6)), rng.normal(0, 0.3, (2, 36, 5, 6)), np.array([[80, 96, 1.0]] * 2)]
    inputs = {name: a.astype(np.float32) for name, a in zip("abc", arrays, strict=True)}
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="status code returned while running"):
        session.run(None, inputs)
    with pytest.raises(RuntimeError), torch.no_grad():
        converters.to_module(model)(*map(torch.from_numpy, inputs.values()))


def test_a_python_layer_is_named_by_module_and_class(tmp_path):
    with pytest.raises(converters.ConversionError, match=r"layer 'it' \(Python:my\.things\.Odd\): no lowering is registered"):
        load(tmp_path, PROPOSAL.replace("rpn.proposal_layer", "my.things").replace('"ProposalLayer"', '"Odd"'))


@pytest.mark.parametrize("least", ["0", "40", "1000"])
def test_the_boxes_of_a_module_of_ssh(least, tmp_path):
    """SSH's layer, box by box: no suppression, the best ones, those large enough; a box of 16 where there is none."""
    text = PROPOSAL.replace("dim: 18", "dim: 8").replace("dim: 36", "dim: 16").replace("rpn.proposal_layer", "SSH.layers.proposal_layer")
    text = text.replace("'feat_stride': 16", "{'feat_stride': 8,'scales': [1,2], 'ratios':[1,2]}")
    text = text.replace('top: "rois"', 'top: "boxes" top: "scores"')
    model, notes = load(tmp_path, text, define={"ANCHOR_MIN_SIZE": least, "N_DETS_PER_MODULE": "50"})
    assert any("N_DETS_PER_MODULE=50 ANCHOR_MIN_SIZE=" in note for note in notes)
    assert [tuple(value.shape)[1:] for value in model.graph.outputs] == [(5,), (1,)]  # which are joined with other modules'
    rng = np.random.default_rng(3)
    prob, moves = rng.uniform(0, 1, (1, 8, 5, 6)).astype(np.float32), rng.normal(0, 0.3, (1, 16, 5, 6)).astype(np.float32)
    rows = []
    for y, x in np.ndindex(5, 6):
        for k, (ratio, scale) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
            wide, tall = (16 * scale, 16 * scale) if ratio == 1 else (11 * scale, 22 * scale)
            dx, dy, dw, dh = moves[0, 4 * k : 4 * k + 4, y, x]
            center_x, center_y = 7.5 + 8 * x + 0.5 + dx * wide, 7.5 + 8 * y + 0.5 + dy * tall
            half_x, half_y = np.exp(dw) * wide / 2, np.exp(dh) * tall / 2
            box = np.clip([center_x - half_x, center_y - half_y, center_x + half_x, center_y + half_y], 0, [95, 79, 95, 79])
            if box[2] - box[0] + 1 >= float(least) and box[3] - box[1] + 1 >= float(least):
                rows.append([prob[0, 4 + k, y, x], 0, *box])
    best = np.array(sorted(rows, key=lambda row: -row[0])[:50]).reshape(-1, 6)
    found, scores = converters.to_module(model)(*(torch.from_numpy(a) for a in (prob, moves, np.array([[80, 96, 1]], np.float32))))
    np.testing.assert_allclose(found.numpy(), best[:, 1:] if len(best) else [[0, 0, 0, 16, 16]], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(scores.numpy(), best[:, :1], rtol=1e-6)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("{'feat_stride': 16, 'ratios': [1, 2, 4]}", "ratios in its param_str"),
        ("{'feat_stride': 16, 'base_size': 8}", "its param_str says base_size, which the layer doesn't read"),
        ("{'feat_stride': [16, 8]}", "one whole number"),
        ("{'feat_stride': 16.5}", "one whole number"),
        ("{'feat_stride': 1e999}", "one whole number"),
        ("{'feat_stride': nan}", "one whole number"),
        (f"{{'feat_stride': 16, 'scales': [{','.join('8' * 2000)}]}}", "too many boxes"),
        ("'scales': [8]", "doesn't say feat_stride"),
    ],
)
def test_parameters_that_py_faster_rcnn_does_not_read_are_refused(said, words, tmp_path):
    with pytest.raises(converters.ConversionError, match=words):
        load(tmp_path, PROPOSAL.replace("'feat_stride': 16", said))


TEXT = """
    layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 1 dim: 20 dim: 3 dim: 4 } } }
    layer { name: "b" type: "Input" top: "b" input_param { shape { dim: 1 dim: 20 dim: 3 dim: 4 } } }
    layer { name: "c" type: "Input" top: "c" input_param { shape { dim: 1 dim: 3 } } }
    layer { name: "it" type: "Python" bottom: "a" bottom: "b" bottom: "c" top: "boxes" top: "scores"
        python_param { module: "layers.text_proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" } }
"""


def test_boxes_of_text_lines(tmp_path):
    """Cell by cell: anchors 16 wide and of ten heights, shifted and stretched along y alone, held to the image."""
    model, _ = load(tmp_path, TEXT)
    rng = np.random.default_rng(3)
    prob, moves = rng.uniform(0, 1, (1, 20, 3, 4)).astype(np.float32), rng.normal(0, 0.3, (1, 20, 3, 4)).astype(np.float32)
    boxes, scores = [], []
    for y in range(3):
        for x in range(4):
            for i, height in enumerate((11, 16, 23, 33, 48, 68, 97, 139, 198, 283)):
                left, right = 16 * x + int(7.5 - 8), 16 * x + int(7.5 + 8)
                top, bottom = 16 * y + int(7.5 - height // 2), 16 * y + int(7.5 + height // 2)
                tall = bottom - top + 1
                middle = moves[0, 2 * i, y, x] * tall + (top + bottom) / 2
                grown = np.exp(moves[0, 2 * i + 1, y, x]) * tall
                box = [left, middle - grown / 2, right, middle + grown / 2]
                boxes.append(np.clip(box, 0, [49, 39, 49, 39]))
                scores.append([prob[0, 10 + i, y, x]])
    inputs = (prob, moves, np.array([[40, 50, 1]], np.float32))
    found = converters.to_module(model)(*(torch.from_numpy(a) for a in inputs))
    np.testing.assert_allclose(found[0].numpy(), boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found[1].numpy(), np.array(scores, np.float32))
