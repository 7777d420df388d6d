"""torch.nn pooling, exported: the same numbers in PyTorch, in its written source, and in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.readers.pytorch import pooling_modules


@pytest.mark.parametrize("size", [3, 6, 11])
def test_grid(size, tmp_path):
    model, x, expected = pooling_modules.case(size)
    assert len(expected) > 100
    converters.save(model, tmp_path / "grid.onnx")
    in_onnx = onnxruntime.InferenceSession(tmp_path / "grid.onnx").run(None, {"picture": x})
    with torch.no_grad():
        in_torch = [y.numpy() for y in converters.to_module(model)(torch.from_numpy(x))]
    for got in (in_onnx, in_torch):
        for value, (name, want) in zip(got, expected.items(), strict=True):
            np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-6, err_msg=name)
