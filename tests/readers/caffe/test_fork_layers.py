"""Layers of text recognition, flow and segmentation forks against numpy; sinks, templates and crops by geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import converters
from tests.bench import REFUSALS
from tests.readers.caffe import wire
from tests.readers.caffe.formulas import sigmoid
from tests.readers.caffe.layer_case import LayerCase
from tests.readers.caffe.test_detection_layers import load
from tests.readers.caffe.test_lowering import DATA, conv, one

LABELS = np.array([[2, 0, 2, 2, 1, 0], [1, 1, 0, 0, 3, 3]])
STEPS = np.eye(4, dtype=np.float32)[LABELS].transpose(1, 0, 2)  # (T, N, C)


CONT = np.array([[0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 1, 1]], np.float32).T  # (T, N)
PROB = np.random.default_rng(8).dirichlet([1] * 4, (6, 2)).astype(np.float32)


def greedy(x, blank=0, merge=True, cont=None):
    """The best class of each step, without blanks and repetitions."""
    best = x.argmax(2).T
    out = np.full((*best.shape, 1, 1), -1.0)
    for n, row in enumerate(best):
        kept = []
        for t, k in enumerate(row):
            if t and cont is not None and cont[t, n] == 0:
                break
            if k != blank and not (merge and t and row[t - 1] == k):
                kept.append(k)
        out[n, : len(kept), 0, 0] = kept
    return out


def greedy_with_scores(x, cont):
    """And minus the sum of the best values of the steps before the sequence ends."""
    scores = []
    for n in range(x.shape[1]):
        total = 0.0
        for t in range(len(x)):
            if t and cont[t, n] == 0:
                break
            total -= x[t, n].max()
        scores.append(total)
    return greedy(x, cont=cont), np.reshape(scores, (-1, 1, 1, 1))


def dense(x, *blobs, steps, bottleneck):
    """Tongcheng's DenseBlock."""
    factor = blobs[-1][0]

    def norm(x, index, first):
        scale, bias, mean, var = (blobs[(first + k) * steps + index].reshape(1, -1, 1, 1) for k in range(4))
        return np.maximum((x - mean / factor) / np.sqrt(var / factor + 1e-5) * scale + bias, 0)

    for step in range(steps):
        y = norm(x, step, 1)
        if bottleneck:
            y = np.einsum("nchw,oc->nohw", y, blobs[5 * steps + step][:, :, 0, 0])
            y = norm(y, step, 6)
        kernel, padded = blobs[step], np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)))
        made = 0
        for i in range(3):  # a true convolution: the kernel is turned round
            for j in range(3):
                part = padded[:, :, 2 - i : 2 - i + y.shape[2], 2 - j : 2 - j + y.shape[3]]
                made = made + np.einsum("nchw,oc->nohw", part, kernel[:, :, i, j])
        x = np.concatenate([x, made], 1)
    return x


def dense_blobs(steps, growth, channels, *, bottleneck):
    rng = np.random.default_rng(5)
    taken = [channels + i * growth for i in range(steps)]
    wide = 4 * growth
    blobs = [rng.normal(0, 0.3, (growth, wide if bottleneck else c, 3, 3)) for c in taken]
    for low, high in ((0.5, 1.5), (-1, 1), (-1, 1), (0.5, 2)):
        blobs += [rng.uniform(low, high, (1, c, 1, 1)) for c in taken]
    if bottleneck:
        blobs += [rng.normal(0, 0.3, (wide, c, 1, 1)) for c in taken]
        for low, high in ((0.5, 1.5), (-1, 1), (-1, 1), (0.5, 2)):
            blobs += [rng.uniform(low, high, (1, wide, 1, 1)) for _ in taken]
    return [b.astype(np.float32) for b in [*blobs, np.array([1.5])]]


def darknet_back(x, s):
    """darknet's reorg, forward: channel k of x goes to channel k % few, at offset k / few of each stride x stride square."""
    n, c, h, w = x.shape
    few = c // (s * s)
    out = np.zeros((n, few, h * s, w * s), x.dtype)
    for k in range(c):
        at = k // few
        out[:, k % few, at // s :: s, at % s :: s] = x[:, k]
    return out


def to_batch(x, high, wide, pads):
    """SpaceToBatchND, pixel by pixel: image (row in block, column in block, n)."""
    top, bottom, left, right = pads
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    n, h, w, c = x.shape
    out = np.zeros((n * high * wide, h // high, w // wide, c), x.dtype)
    for k, i, j in np.ndindex(n, h, w):
        out[((i % high) * wide + j % wide) * n + k, i // high, j // wide] = x[k, i, j]
    return out


def from_batch(x, high, wide, crops):
    top, bottom, left, right = crops
    n, h, w, c = x.shape
    n //= high * wide
    out = np.zeros((n, h * high, w * wide, c), x.dtype)
    for k, i, j in np.ndindex(n, h * high, w * wide):
        out[k, i, j] = x[((i % high) * wide + j % wide) * n + k, i // high, j // wide]
    return out[:, top : h * high - bottom, left : w * wide - right]


def restarted(x, cont, w, u, b):
    """Junhyuk's Lstm, whose state is multiplied by cont before each step."""
    size = u.shape[1]
    h, c, made = np.zeros((1, size)), np.zeros((1, size)), []
    for step, goes_on in zip(x, cont.ravel(), strict=True):
        i, f, o, g = np.split(step @ w.T + b + goes_on * (h @ u.T), 4, 1)
        c = goes_on * sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        made.append(h)
    return np.stack(made)


PS = "spatial_scale: 1 output_dim: 3 group_size: 1"
UNKNOWN = ("BoxOutput", "BoxGroupOutput", "ConvLSTM", "MaskPooling", "MultiStageMeanfield", "DetectionOutputExtended", "ROIAlignment")
BLOCKS = "block_shape: 2 block_shape: 3"

ROWS = [
    LayerCase(
        "SpaceToBatchND",
        f"space_to_batch_nd_param {{ {BLOCKS} paddings: 1 paddings: 0 paddings: 2 paddings: 1 }}",
        [(2, 5, 6, 3)],
        lambda x: to_batch(x, 2, 3, (1, 0, 2, 1)),
        grows=False,
    ),
    LayerCase(
        "BatchToSpaceND",
        f"batch_to_space_nd_param {{ {BLOCKS} crops: 0 crops: 1 crops: 2 crops: 0 }}",
        [(12, 3, 2, 4)],
        lambda x: from_batch(x, 2, 3, (0, 1, 2, 0)),
        fixed=True,
        grows=False,
    ),
    LayerCase(
        "Lstm",
        "lstm_param { num_output: 3 }",
        [(6, 1, 4), np.array([0, 1, 1, 0, 1, 1], np.float32)],
        restarted,
        blobs=[(12, 4), (12, 3), (12,)],
        name="Lstm that starts anew",
        fixed=True,
    ),
    LayerCase("CTCGreedyDecoder", "", [STEPS], greedy),
    LayerCase("CTCGreedyDecoder", "ctc_decoder_param { ctc_merge_repeated: false }", [STEPS], lambda x: greedy(x, merge=False)),
    LayerCase("CTCGreedyDecoder", "ctc_decoder_param { blank_index: 3 }", [STEPS], lambda x: greedy(x, 3)),
    LayerCase("CTCGreedyDecoder", "ctc_decoder_param { blank_index: -1 }", [STEPS], lambda x: greedy(x, 3)),
    LayerCase(
        "CTCGreedyDecoder", "", [STEPS, CONT], lambda x, cont: greedy(x, cont=cont), name="CTCGreedyDecoder of sequences", fixed=True
    ),
    LayerCase("CTCGreedyDecoder", "", [PROB, CONT], greedy_with_scores, tops=2, name="CTCGreedyDecoder with scores", fixed=True),
    LayerCase("Reverse", "reverse_param { axis: 2 }", [(2, 3, 4)], lambda x: x[:, :, ::-1]),
    LayerCase("VoxelSoftmax", "", [(2, 3, 2, 4, 5)], lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    LayerCase("NegSquare", "", [(2, 3, 4)], lambda x: -(x**2)),
    LayerCase("SpatialDropout", "spatial_dropout_param { dropout_ratio: 0.3 }", [(2, 3, 4, 5)], lambda x: x),
    LayerCase("NegReLU", "relu_param { negative_slope: 0.2 }", [(2, 3)], lambda x: np.minimum(x, 0) + 0.2 * np.maximum(x, 0)),
    LayerCase("Reorg", "reorg_param { stride: 2 reverse: true }", [(2, 8, 3, 4)], lambda x: darknet_back(x, 2)),
    LayerCase("Eltwise", "eltwise_param { coeff: 2.5 }", [(2, 3)], lambda x: 2.5 * x, name="Eltwise of one"),
    LayerCase("Eltwise", "eltwise_param { operation: MAX }", [(2, 3)], lambda x: x, name="Eltwise MAX of one"),
    LayerCase(
        "DenseBlock",
        "denseblock_param { numTransition: 2 growthRate: 3 }",
        [(2, 4, 5, 6)],
        lambda x, *blobs: dense(x, *blobs, steps=2, bottleneck=False),
        blobs=dense_blobs(2, 3, 4, bottleneck=False),
        tolerance=1e-4,
    ),
    LayerCase(
        "DenseBlock",
        "denseblock_param { numTransition: 2 growthRate: 2 use_BC: true }",
        [(2, 3, 4, 4)],
        lambda x, *blobs: dense(x, *blobs, steps=2, bottleneck=True),
        blobs=dense_blobs(2, 2, 3, bottleneck=True),
        tolerance=1e-4,
    ),
]


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.id)
def test_layers(case, tmp_path):
    case.check(tmp_path)


def outputs(folder, text, **options):
    model, _ = load(folder, text, fillers=True, **options)
    return sorted(str(v.name) for v in model.graph.outputs)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (conv() + one("Silence", "y", "", "s").replace('top: ""', ""), ["y"]),
        (conv() + one("HDF5Output", "y", "", "s").replace('top: ""', ""), ["y"]),
        (conv() + conv("y", "z") + one("FLOWriter", "y", "", "s").replace('top: ""', ""), ["z"]),
        (conv() + conv("data", "z") + one("ImgWriter", "y", "", "s").replace('top: ""', ""), ["y", "z"]),
        (conv() + conv("data", "z") + one("Silence", "y", "", "s").replace('top: ""', ""), ["z"]),
    ],
)
def test_what_only_sinks_take_is_an_output(layers, expected, tmp_path):
    assert outputs(tmp_path, DATA + layers) == expected


def test_a_net_ends_before_an_unknown_layer_where_that_is_asked_for(tmp_path):
    text = DATA + conv() + one("Mystery", "y", "z")
    with pytest.raises(converters.UnsupportedError, match="--output NAME"):
        load(tmp_path, text, fillers=True)
    assert outputs(tmp_path, text, outputs=("y",)) == ["y"]


TEMPLATE = """input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } # not $THIS$
layer { name: "y" type: "Resample" bottom: "data" top: "y" resample_param { width: $TARGET_WIDTH$ height: $TARGET_HEIGHT type: LINEAR } }
"""


def test_a_template_is_named_as_such_and_filled_in(tmp_path, capsys):
    with pytest.raises(converters.FormatError, match=r"template.*\$TARGET_WIDTH\$, \$TARGET_HEIGHT\$; .*--define TARGET_WIDTH=512"):
        load(tmp_path, TEMPLATE)
    model, _ = load(tmp_path, TEMPLATE, define={"TARGET_WIDTH": "16", "TARGET_HEIGHT": "4"})
    assert tuple(model.graph.outputs[0].shape)[1:] == (3, 4, 16)
    from converters.cli import main

    (tmp_path / "net.caffemodel").write_bytes(wire.caffemodel({"none": []}))
    words = ["caffe2onnx", *(str(tmp_path / f"net.{end}") for end in ("prototxt", "caffemodel", "onnx"))]
    assert main([*words, "--define", "TARGET_WIDTH=16", "--define", "TARGET_HEIGHT=4"]) == 0, capsys.readouterr().err
    assert main([*words, "--force", "--define", "TARGET_WIDTH"]) == 2


def fcn(pool_count, kernel, stride):
    """The first FCN, as far as its crop goes: pad 100, pools, a kernel of 7, and a transposed convolution."""

    def layer(name, kind, bottom, more=""):
        bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
        return f'layers {{ name: "{name}" type: {kind} {bottoms} top: "{name}" {more} }}\n'

    text = 'input: "data" input_dim: 1 input_dim: 1 input_dim: 64 input_dim: 48\n'
    text += layer("c1", "CONVOLUTION", "data", "convolution_param { num_output: 1 kernel_size: 3 pad: 100 }")
    last = "c1"
    for index in range(pool_count):
        text += layer(f"p{index}", "POOLING", last, "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
        last = f"p{index}"
    text += layer("fc6", "CONVOLUTION", last, "convolution_param { num_output: 1 kernel_size: 7 }")
    text += layer("up", "DECONVOLUTION", "fc6", f"convolution_param {{ num_output: 1 kernel_size: {kernel} stride: {stride} }}")
    return text + layer("score", "CROP", "up data")


def test_a_crop_of_the_first_fcn_finds_its_offset_by_geometry(tmp_path):
    model, _ = load(tmp_path, fcn(5, 64, 32), fillers=True)
    (cut,) = [node for node in model.graph if node.op_type == "Slice" and node.name.startswith("score")]
    assert list(cut.inputs[1].const_value.numpy()) == [19, 19]
    assert tuple(model.graph.outputs[0].shape)[1:] == (1, 64, 48)


def skip(pools, last):
    """FCN-16s and 8s: scores of earlier pools, cropped, added to what comes up from below. last: the kernel of the last step up."""

    def layer(name, kind, bottom, more=""):
        bottoms = " ".join(f'bottom: "{b}"' for b in bottom.split())
        return f'layers {{ name: "{name}" type: {kind} {bottoms} top: "{name}" {more} }}\n'

    def conv(name, bottom, more):
        return layer(name, "CONVOLUTION", bottom, f"convolution_param {{ num_output: 1 {more} }}")

    text = 'input: "data" input_dim: 1 input_dim: 1 input_dim: 70 input_dim: 52\n' + conv("c1", "data", "kernel_size: 3 pad: 100")
    for index in range(5):
        before = f"p{index}" if index else "c1"
        text += layer(f"p{index + 1}", "POOLING", before, "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
    text += conv("fc6", "p5", "kernel_size: 7")
    below = "fc6"
    for pool in pools:
        text += layer(f"up{pool}", "DECONVOLUTION", below, "convolution_param { num_output: 1 kernel_size: 4 stride: 2 }")
        text += conv(f"s{pool}", pool, "kernel_size: 1") + layer(f"cut{pool}", "CROP", f"s{pool} up{pool}")
        text += layer(f"sum{pool}", "ELTWISE", f"up{pool} cut{pool}")
        below = f"sum{pool}"
    text += layer("up", "DECONVOLUTION", below, f"convolution_param {{ num_output: 1 kernel_size: {last} stride: {last // 2} }}")
    return text + layer("cut", "CROP", "up data")


@pytest.mark.parametrize(("pools", "last", "offsets"), [(["p4"], 32, [5, 27]), (["p4", "p3"], 16, [5, 9, 31])])
def test_crops_of_fcn_with_skips_are_those_of_its_later_release(pools, last, offsets, tmp_path):
    model, _ = load(tmp_path, skip(pools, last), fillers=True)
    cuts = [node for node in model.graph if node.op_type == "Slice" and node.name.startswith("cut")]
    assert [list(cut.inputs[1].const_value.numpy()) for cut in cuts] == [[n, n] for n in offsets]
    assert tuple(model.graph.outputs[0].shape)[1:] == (1, 70, 52)


EDGES = """input: "data" input_shape { dim: 1 dim: 1 dim: 12 dim: 10 }
    layer { name: "c1" type: "Convolution" bottom: "data" top: "c1"
        convolution_param { num_output: 1 kernel_size: 3 pad: 7 weight_filler { type: "constant" value: 0.5 } } }
    layer { name: "p1" type: "Pooling" bottom: "c1" top: "p1" pooling_param { kernel_size: 2 stride: 2 } }
    layer { name: "up" type: "Deconvolution" bottom: "p1" top: "up"
        convolution_param { num_output: 1 kernel_size: 4 stride: 2 bias_term: false weight_filler { type: "constant" value: 1 } } }
    layer { name: "cut" type: "Crop" bottom: "up" bottom: "data" top: "cut" CROP }"""


@pytest.mark.parametrize(
    ("more", "define", "offset", "warned"),
    [
        ("", {}, 0, True),
        ("", {"CROP_BY_GEOMETRY": "1"}, 7, False),  # 7 - 1 by the padding, and 1 by the windows of 2 and of 4
        ("crop_param { axis: 2 }", {}, 0, False),
        ("crop_param { offset: 3 }", {"CROP_BY_GEOMETRY": "1"}, 3, False),
    ],
)
def test_a_crop_without_offset_names_where_its_bottoms_lie_upon_each_other(more, define, offset, warned, tmp_path):
    text = EDGES.replace("CROP", more)
    whole, _ = load(tmp_path, text.replace('layer { name: "cut"', "#"), fillers=True)
    model, notes = load(tmp_path, text, fillers=True, define=define)
    assert any("7 rows and 7 columns further (--define CROP_BY_GEOMETRY=1)" in note for note in notes) == warned
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 1, 12, 10)).astype(np.float32))
    with torch.no_grad():
        uncut, found = (converters.to_module(m)(x) for m in (whole, model))
    np.testing.assert_array_equal(found, uncut[:, :, offset : offset + 12, offset : offset + 10])


def test_a_crop_whose_bottoms_lie_upon_each_other_says_nothing(tmp_path):
    text = EDGES.replace("CROP", "").replace("pad: 7", "pad: 1").replace("kernel_size: 4 stride: 2", "kernel_size: 2 stride: 2")
    _, notes = load(tmp_path, text, fillers=True)
    assert not any("crop_param" in note for note in notes)


def test_a_crop_between_scales_is_refused(tmp_path):
    with pytest.raises(converters.ConversionError, match=r"layer 'score' \(Crop\): its bottoms lie .* apart at scales"):
        load(tmp_path, fcn(4, 64, 32), fillers=True)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (one("SpaceToBatchND", more='space_to_batch_nd_param { data_format: "NCHW" }'), "only NHWC"),
        (one("ROIAlign", "data data", more="roi_align_param { pooled_h: 2 pooled_w: 2 }"), "at least four layers"),
        (one("FrcnnProposal"), "configuration file"),
        *((one(name), f"{name}: what it computes isn't established") for name in UNKNOWN),
        (one("Dropout", more="dropout_param { sample_weights_test: true }"), "random numbers"),
        (
            one("PriorBox", "data data", more="prior_box_param { min_size: 8 denser_prior_boxes: true }"),
            "denser_prior_boxes: no such field",
        ),
        (one("PriorBox", "data data", more="prior_box_param { min_size: 8 step: 4 step_h: 4 }"), "step beside step_h or step_w"),
        (one("PriorBox", "data data", more="prior_box_param { min_size: 8 img_size: 4 img_w: 4 }"), "img_size beside img_h or img_w"),
        (one("ROIAlign", "data data", more="roi_align_param { pooled_h: 2 pooled_w: 2 bi_type: 1 }"), "bi_type: no such field"),
        (one("Proposal", "data data data", more="proposal_param { anchor_scale: 8 max_rois: 5 }"), "anchor_scale: no such field"),
        (one("PSROIPooling", "data data", more="psroi_pooling_param { output_dim: 3 group_size: 1 }"), "needs spatial_scale"),
        (one("PSROIAlign", "data data", more="psroi_align_param { spatial_scale: 1 }"), "needs output_dim, group_size"),
        (one("Insanity", more="insanity_param { lb: -3 ub: 8 }"), "one side of 0"),
        (
            one("Correlation", "data data", more="correlation_param { kernel_size: 1 pad: 3000 max_displacement: 3000 }"),
            "too many displace",
        ),
        (one("YoloDetectionOutput", more="yolo_detection_output_param { num_box: 2000000000 biases: 1 biases: 2 }"), "two for each box"),
        (one("PSROIAlign", "data data", more=f"psroi_align_param {{ {PS} sample_num: 9999 }}"), "too many nodes"),
        (one("ROIAlign", "data data", more="roi_align_param { pooled_h: 999999999 pooled_w: 1 pad_ratio: 0.1 }"), "too many"),
        (one("DenseBlock", more="denseblock_param { numTransition: 2000000000 growthRate: 2 }"), "at most 1000"),
        (one("PriorBox", "data data", more=f"prior_box_param {{ {'min_size: 1 aspect_ratio: 2 ' * 5000} }}"), "too many boxes"),
        (one("Downsample", more="downsample_param { top_height: 90 top_width: 90 }"), "makes maps smaller"),
        (one("Upsample", more="upsample_param { scale_h: 2 scale_w: 3 }"), "scale_h, scale_w go with a second bottom"),
        (one("Upsample", more="upsample_param { scale: 2 pad_out_h: true }"), "pad_out_h go with a second bottom"),
        (one("Lstm", more="lstm_param { num_output: 2 batch_size: 1 }"), "batch_size, isn't known"),
        (one("CTCGreedyDecoder", more=""), "needs a bottom"),
        (one("Yolov3DetectionOutput", more="yolov3_detection_output_param { gaussian_box: true }"), "gaussian_box"),
        (one("Convolution3D"), "needs a bottom"),
        (one("Convolution", more="convolution_param { num_output: 2 kernel_size: 1 kernel_depth: 3 }"), "kernel_depth is read by Conv"),
        (one("Im2col", more="convolution_param { kernel_size: 1 temporal_stride: 2 }"), "temporal_stride is read by Conv"),
        (one("Normalize"), "SSD's layer has a scale"),
        (one("Pooling", more="pooling_param { kernel_size: 1 kernel_depth: 2 }"), "kernel_depth is read by Pooling3D alone"),
        (one("Pooling", more="pooling_param { pool: AVE kernel_size: 3 pad: 1 torch_pooling: true }"), "isn't established"),
        (one("Pooling", more="pooling_param { kernel_size: 3 ceil_mode: true torch_pooling: true }"), "no fork has together"),
        (one("Pooling3D", more="pooling_param { kernel_size: 1 kernel_depth: 2 ceil_mode: false }"), "ceil_mode is read by layers on two"),
        (one("Pooling3D", more="pooling_param { kernel_depth: 2 kernel_h: 1 kernel_w: 1 }"), "kernel_h is read by layers on two"),
        (one("Convolution3D", more="convolution_param { num_output: 2 kernel_size: 1 group: 2 }"), "group is read by layers on two"),
        (one("Deconvolution3D", more="convolution_param { num_output: 2 kernel_size: 1 dilation: 2 }"), "dilation is read by layers"),
        (one("DataAugmentation", more="augmentation_param { augment_during_test: true mirror { prob: 0.5 } }"), "at random"),
        (one("Mean", more='mean_param { operation: SUBTRACT file: "a" }'), "from a file"),
        (one("Correlation", "data data", more="correlation_param { kernel_size: 2 }"), "odd"),
        (one("Resample", more="resample_param { type: AREA width: 2 height: 2 }"), "AREA"),
    ],
)
def test_what_is_not_known_is_refused_by_name(layer, words, tmp_path):
    with pytest.raises(converters.ConversionError, match=words) as caught:
        load(tmp_path, DATA + layer)
    assert "layer 'y' (" in str(caught.value)


def test_maps_of_yolo_2_stay_square(tmp_path):
    """The layer checks that its map's height is its width."""
    options = "num_box: 1 num_classes: 2 biases: 1 biases: 2 confidence_threshold: 0.1 nms_threshold: 0.4"
    text = DATA.replace("dim: 3", "dim: 7", 1) + one("YoloDetectionOutput", more=f"yolo_detection_output_param {{ {options} }}")
    model, _ = load(tmp_path, text, inputs={"data": (1, 7, 4, 4)})
    net = converters.to_module(model)
    assert net(torch.zeros(1, 7, 6, 6)).shape[-1] == 7
    for shape in ((1, 7, 4, 5), (1, 7, 6, 4)):
        with pytest.raises(REFUSALS):
            net(torch.zeros(shape))


def test_a_continuation_indicator_marks_the_first_step(tmp_path):
    text = 'layer { name: "cont" type: "ContinuationIndicator" top: "cont" continuation_indicator_param { time_step: 3 batch_size: 2 } }\n'
    model, _ = load(tmp_path, DATA + text + one("ReLU"))
    shape = [size if isinstance(size, int) else 1 for size in model.graph.inputs[0].shape]
    with torch.no_grad():
        found = dict(zip((v.name for v in model.graph.outputs), converters.to_module(model)(torch.zeros(shape)), strict=True))
    assert found["cont"].tolist() == [[0, 0], [1, 1], [1, 1]]


def test_data_that_stand_in_are_an_input_where_that_is_asked_for(tmp_path):
    text = """layer { name: "d" type: "DummyData" top: "data" top: "more"
        dummy_data_param { shape { dim: 4 dim: 3 } data_filler { value: 0.5 } } }\n""" + one("ReLU")
    model, notes = load(tmp_path, text)
    assert not model.graph.inputs
    assert any("the net takes no input" in note and "--input data=" in note for note in notes)
    for name in ("data", ""):
        model, notes = load(tmp_path, text, inputs={name: (2, 3)})
        assert [str(v.name) for v in model.graph.inputs] == ["data"] and not notes
    x = torch.tensor([[-1.0, 2, 3], [4, -5, 6]])
    found = dict(zip((str(v.name) for v in model.graph.outputs), converters.to_module(model)(x), strict=True))
    assert found["y"].tolist() == [[0, 2, 3], [4, 0, 6]] and found["more"].tolist() == [[0.5] * 3] * 4
