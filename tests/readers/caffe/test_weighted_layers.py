"""Layers with weights, against numpy."""

from pathlib import Path

import numpy as np
import pytest

from tests.readers.caffe.formulas import batch_norm, convolve, deconvolve
from tests.readers.caffe.layer_case import LayerCase

X = [(2, 4, 7, 6)]


def conv(params: str) -> str:
    return f"convolution_param {{ {params} }}"


def positive(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(0.5, 2, shape)


CONVOLUTIONS = [
    LayerCase("Convolution", conv("num_output: 3 kernel_size: 3"), X, convolve, [(3, 4, 3, 3), (3,)]),
    LayerCase(
        "Convolution", conv("num_output: 3 kernel_size: 3 relu: true"), X, lambda *a: np.maximum(convolve(*a), 0), [(3, 4, 3, 3), (3,)]
    ),
    LayerCase(
        "Convolution",
        conv("num_output: 6 kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 1 group: 2 bias_term: false"),
        X,
        lambda x, w: convolve(x, w, stride=[2, 1], pad=[1, 0], group=2),
        [(6, 2, 2, 3)],
    ),
    LayerCase(
        "Convolution",
        conv("num_output: 2 kernel_size: 3 kernel_size: 2 dilation: 2 pad: 1 pad: 2 stride: 1"),
        X,
        lambda x, w, b: convolve(x, w, b, pad=[1, 2], dilation=[2, 2]),
        [(2, 4, 3, 2), (2,)],
    ),
    LayerCase("Convolution", conv("num_output: 2 kernel_size: 3"), [(2, 3, 9)], convolve, [(2, 3, 3), (2,)], name="conv-1d"),
    LayerCase("Convolution", conv("num_output: 2 kernel_size: 2"), [(1, 3, 4, 5, 3)], convolve, [(2, 3, 2, 2, 2), (2,)], name="conv-3d"),
    LayerCase(
        "Convolution",
        conv("num_output: 2 kernel_size: 2 axis: 2"),
        [(2, 3, 4, 5)],
        lambda x, w, b: convolve(x.reshape(-1, 4, 5), w, b).reshape(x.shape[0], 3, 2, 4),
        [(2, 4, 2), (2,)],
        name="conv-axis2",
    ),
    LayerCase(
        "Convolution",
        conv("num_output: 2 kernel_size: 3"),
        [(2, 4, 7, 6), (2, 4, 5, 5)],
        lambda x, y, w, b: (convolve(x, w, b), convolve(y, w, b)),
        [(2, 4, 3, 3), (2,)],
        tops=2,
        name="conv-two-bottoms",
    ),
    LayerCase(
        "Convolution",
        conv("num_output: 2 kernel_size: 3 dilation: 2 stride: 2"),
        [(2, 3, 4, 6)],
        lambda x, w, b: convolve(np.pad(x, [(0, 0), (0, 0), (0, 1), (0, 0)]), w, b, stride=[2, 2], dilation=[2, 2]),
        [(2, 3, 3, 3), (2,)],
        name="conv-kernel-reaches-over-the-end",
    ),
    LayerCase("Convolution", conv("num_output: 2 kernel_size: 1"), [(2, 3)], lambda x, w, b: x @ w.T + b, [(2, 3), (2,)], name="conv-0d"),
    LayerCase("Deconvolution", conv("num_output: 3 kernel_size: 3"), X, deconvolve, [(4, 3, 3, 3), (3,)]),
    LayerCase(
        "Deconvolution",
        conv("num_output: 6 kernel_size: 3 stride: 2 pad: 1 dilation: 2 group: 2 bias_term: false"),
        X,
        lambda x, w: deconvolve(x, w, stride=[2, 2], pad=[1, 1], dilation=[2, 2], group=2),
        [(4, 3, 3, 3)],
    ),
    LayerCase(
        "Deconvolution",
        conv("num_output: 2 kernel_size: 3 stride: 2"),
        [(2, 3, 4)],
        lambda *a: deconvolve(*a, stride=[2]),
        [(3, 2, 3), (2,)],
    ),
    LayerCase(
        "ConvolutionDepthwise",
        conv("num_output: 4 kernel_size: 3 pad: 1"),
        X,
        lambda x, w, b: convolve(x, w, b, pad=[1, 1], group=4),
        [(4, 1, 3, 3), (4,)],
    ),
    LayerCase(
        "DepthwiseConvolution", conv("num_output: 8 kernel_size: 3 group: 4"), X, lambda *a: convolve(*a, group=4), [(8, 1, 3, 3), (8,)]
    ),
    LayerCase("Im2col", conv("kernel_size: 2 stride: 2 pad: 1 dilation: 2"), X, lambda x: im2col(x, 2, 2, 1, 2)),
    LayerCase(
        "Im2col",
        conv("kernel_size: 4 stride: 2"),
        [(2, 3, 3, 3)],
        lambda x: im2col(np.pad(x, [(0, 0), (0, 0), (0, 1), (0, 1)]), 4, 2, 0, 1),
        name="Im2col-over-the-end",
    ),
]


def im2col(x, kernel, stride, pad, dilation):
    """im2col.cpp: channel, row and column of the kernel become the channel."""
    x = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    out = [(n - dilation * (kernel - 1) - 1) // stride + 1 for n in x.shape[2:]]
    y = np.empty((x.shape[0], x.shape[1], kernel, kernel, *out))
    for i in range(kernel):
        for j in range(kernel):
            rows, columns = i * dilation, j * dilation
            y[:, :, i, j] = x[:, :, rows : rows + out[0] * stride : stride, columns : columns + out[1] * stride : stride]
    return y.reshape(x.shape[0], -1, *out)


LINEAR = [
    LayerCase(
        "InnerProduct", "inner_product_param { num_output: 3 }", X, lambda x, w, b: x.reshape(len(x), -1) @ w.T + b, [(3, 168), (3,)]
    ),
    LayerCase(
        "InnerProduct",
        "inner_product_param { num_output: 3 axis: 2 bias_term: false }",
        X,
        lambda x, w: x.reshape(len(x), 4, 42) @ w.T,
        [(3, 42)],
    ),
    LayerCase(
        "InnerProduct", "inner_product_param { num_output: 3 axis: -1 transpose: true }", X, lambda x, w, b: x @ w + b, [(6, 3), (3,)]
    ),
    LayerCase(
        "InnerProduct",
        "inner_product_param { num_output: 3 transpose: true }",
        [(2, 3)],
        lambda x, w, b: x @ w + b,
        [(3, 3), (3,)],
        name="ip-square",
    ),
    LayerCase(
        "Embed",
        "embed_param { num_output: 3 input_dim: 5 }",
        [np.array([[0, 4, 2], [1, 1, 3]])],
        lambda x, w, b: w[x.astype(int)] + b,
        [(5, 3), (3,)],
    ),
    LayerCase(
        "Embed", "embed_param { num_output: 3 input_dim: 5 bias_term: false }", [np.array([4, 2])], lambda x, w: w[x.astype(int)], [(5, 3)]
    ),
    LayerCase("Scale", "", X, lambda x, w: x * w[:, None, None], [(4,)]),
    LayerCase("Scale", "scale_param { bias_term: true }", X, lambda x, w, b: x * w[:, None, None] + b[:, None, None], [(4,), (4,)]),
    LayerCase("Scale", "scale_param { axis: 1 num_axes: -1 }", X, lambda x, w: x * w, [(4, 7, 6)]),
    LayerCase("Scale", "scale_param { axis: -2 num_axes: 2 }", X, lambda x, w: x * w, [(7, 6)]),
    LayerCase("Scale", "scale_param { num_axes: 0 bias_term: true }", X, lambda x, w, b: x * w + b, [(), ()]),
    LayerCase("Scale", "scale_param { axis: 0 }", X, lambda x, w: x * w[:, None, None, None], [(2,)], fixed=True),
    LayerCase("Scale", "scale_param { filler { value: 2 } }", X, lambda x: 2 * x, warns="no weights", name="Scale-filler"),
    LayerCase("Scale", "scale_param { axis: 0 }", [(2, 4, 3), (2, 4)], lambda x, y: x * y[:, :, None], name="Scale-two"),
    LayerCase(
        "Scale",
        "scale_param { axis: 1 bias_term: true }",
        [(2, 4, 3), (4,)],
        lambda x, y, b: x * y[:, None] + b[:, None],
        [(4,)],
        fixed=True,
    ),
    LayerCase("Bias", "", X, lambda x, b: x + b[:, None, None], [(4,)]),
    LayerCase("Bias", "bias_param { axis: 2 num_axes: 1 }", X, lambda x, b: x + b[:, None], [(7,)]),
    LayerCase("Bias", "bias_param { axis: 0 }", [(2, 4, 3), (2, 4)], lambda x, y: x + y[:, :, None], name="Bias-two"),
    LayerCase("Parameter", "parameter_param { shape { dim: 2 dim: 3 } }", [], lambda w: w, [(2, 3)]),
]

MEAN, VAR, SCALE, SHIFT = np.linspace(-1, 1, 4), positive(4), np.array([1, -2, 0.5, 3]), np.array([-1, 2, 0.1, 0])


def forked(x, *_):
    return batch_norm(x, MEAN, VAR, 1e-5, SCALE, SHIFT)


def by_batch(x, *_, eps=1e-5):
    axes = (0, *range(2, x.ndim))
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


ONE = np.ones(1)
NORMS = [
    LayerCase("BatchNorm", "", X, lambda x, m, v, f: batch_norm(x, m / f, v / f), [(4,), positive(4), np.array([2.5])]),
    LayerCase(
        "BatchNorm", "batch_norm_param { eps: 0.1 }", [(2, 4)], lambda x, m, v, f: batch_norm(x, m, v, 0.1), [(4,), positive(4), ONE]
    ),
    LayerCase(
        "BatchNorm",
        "",
        X,
        lambda x, m, v, f: batch_norm(x, 0 * m, 0 * v),
        [(4,), positive(4), np.zeros(1)],
        tolerance=1e-4,
        name="factor-0",
    ),
    LayerCase("BatchNorm", "", [(6,)], lambda x, m, v, f: (x - m) / np.sqrt(v + 1e-5), [(1,), positive(1), ONE], name="BatchNorm-1d"),
    LayerCase("BatchNorm", "batch_norm_param { use_global_stats: false }", X, by_batch, [(4,), positive(4), ONE]),
    LayerCase("BatchNorm", "phase: TRAIN", X, by_batch, [(4,), positive(4), ONE], warns="batch's own statistics"),
    LayerCase(
        "BatchNorm", "batch_norm_param { relu: true }", X, lambda x, m, v, f: np.maximum(batch_norm(x, m, v), 0), [(4,), positive(4), ONE]
    ),
    LayerCase(
        "BatchNorm",
        "",
        X,
        lambda x, *_: batch_norm(x, MEAN / 2, VAR / 2, 1e-5, SCALE, SHIFT),
        [MEAN, VAR, 2 * ONE, SCALE, SHIFT],
        name="Intel",
    ),
    LayerCase(
        "BatchNorm",
        "batch_norm_param { bias_term: false }",
        X,
        lambda x, *_: batch_norm(x, MEAN, VAR, 1e-5, SCALE),
        [MEAN, VAR, ONE, SCALE],
        name="Intel-4",
    ),
    LayerCase("BatchNorm", "batch_norm_param { scale_bias: true }", X, forked, [MEAN, VAR, 3 * ONE, SCALE, SHIFT], name="NVIDIA-0.16"),
    LayerCase(
        "BatchNorm",
        "batch_norm_param { eps: 0.001 }",
        X,
        lambda x, *_: batch_norm(x, MEAN, VAR, 1e-3, SCALE, SHIFT),
        [SCALE, SHIFT, MEAN, VAR, ONE],
        name="NVIDIA-0.15",
    ),
    LayerCase("BatchNorm", "", X, forked, [SCALE, SHIFT, 0 * ONE, MEAN, VAR], name="NVIDIA-0.14"),
    LayerCase("BN", "", X, forked, [SCALE.reshape(1, 4, 1, 1), SHIFT, MEAN, VAR.reshape(1, 4, 1, 1)], name="yjxiong-PSPNet"),
    LayerCase(
        "BN",
        "bn_param { eps: 0.01 frozen: true }",
        [(2, 4)],
        lambda x, *_: batch_norm(x, MEAN, VAR, 0.01, SCALE, SHIFT),
        [SCALE, SHIFT, MEAN, VAR],
    ),
    LayerCase(
        "BN", "bn_param { bn_mode: INFERENCE }", X, lambda x, a, b: x * a[:, None, None] + b[:, None, None], [(4,), (4,)], name="SegNet"
    ),
]


@pytest.mark.parametrize("case", CONVOLUTIONS + LINEAR + NORMS, ids=lambda case: case.id)
def test_layer(case: LayerCase, tmp_path: Path) -> None:
    case.check(tmp_path)
