"""The nets that real frameworks trained: the same 360 answers, in PyTorch and in onnxruntime, from every form of the files."""

from __future__ import annotations

import warnings

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
SHAPE = (2, 1, 16, 16)
ROWS = {
    "caffe": (["caffe/deploy.prototxt", "caffe/digits.caffemodel"], "data", "prob", {}),
    "caffe-hdf5": (["caffe/deploy.prototxt", "caffe/digits.caffemodel.h5"], "data", "prob", {}),
    "caffe-train-val": (["caffe/train_val.prototxt", "caffe/digits.caffemodel"], "data", None, {}),
    "torch7": (["torch7/digits.t7"], "input", "output", {}),
    "torch7-checkpoint": (["torch7/digits_checkpoint.t7"], "input", "output", {"key": "model"}),
    "tensorflow": (["tensorflow/digits.pb"], "images", "predictions", {"outputs": ["Predictions/Softmax"]}),
    "tensorflow-training": (["tensorflow/digits.ckpt.meta", "tensorflow/digits.ckpt"], "images", "logits", {"outputs": ["Logits/BiasAdd"]}),
    "tensorflow-v1": (["tensorflow/digits.ckpt.meta", "tensorflow/digits_v1.ckpt"], "images", "logits", {"outputs": ["Logits/BiasAdd"]}),
    "mxnet": (["mxnet/digits-symbol.json", "mxnet/digits-0010.params"], "data", "softmax_output", {}),
}


def images() -> np.ndarray:
    stored = np.load(DIGITS / "digits_test.npz")["images"]
    return (stored.astype(np.float32) / 16).repeat(2, 1).repeat(2, 2)[:, None]


@pytest.mark.parametrize("row", ROWS)
def test_same_predictions(row, tmp_path):
    files, name, output, options = ROWS[row]
    expected = np.load(DIGITS / files[0].partition("/")[0] / "expected.npz")
    want = expected[output or "ip2"]
    with warnings.catch_warnings():  # train_val and .meta: say which losses, dropouts and batch statistics they leave out
        warnings.simplefilter("ignore", converters.ConversionWarning)
        shapes = {} if name == "images" else {"inputs": {name: SHAPE}}  # a TensorFlow graph says its own
        model = converters.load(*(DIGITS / f for f in files), **shapes, **options)
    converters.save(model, tmp_path / "digits.onnx")
    with torch.no_grad():
        in_torch = converters.to_module(model)(torch.from_numpy(images()))
    in_onnx = onnxruntime.InferenceSession(tmp_path / "digits.onnx").run(None, {name: images()})[0]
    in_torch = (in_torch[0] if isinstance(in_torch, tuple) else in_torch).numpy()
    for got in (in_torch, in_onnx):
        assert got.shape == (360, 10)
        np.testing.assert_array_equal(got.argmax(1), want.argmax(1))
        if output:
            np.testing.assert_allclose(got, want, atol=1e-5 * max(1.0, np.abs(want).max()))
