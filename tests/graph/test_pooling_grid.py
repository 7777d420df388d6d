"""Caffe pooling over the whole ceil_mode grid, read from a prototxt: PyTorch and onnxruntime against the formula."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.graph import pooling_grid


@pytest.mark.parametrize("size", pooling_grid.SIZES)
def test_grid(size, tmp_path):
    model = pooling_grid.load(size, tmp_path)
    expected = pooling_grid.expected(size)
    names = [v.name for v in model.graph.outputs]
    assert names == sorted(expected) and len(names) > 230
    x = pooling_grid.picture(size)
    with torch.no_grad():
        in_torch = [y.numpy() for y in converters.to_module(model)(torch.from_numpy(x))]
    converters.save(model, tmp_path / "grid.onnx")
    in_onnx = onnxruntime.InferenceSession(tmp_path / "grid.onnx").run(None, {"data": x})
    for got in (in_torch, in_onnx):
        for value, name in zip(got, names, strict=True):
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
