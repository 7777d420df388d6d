"""converters.tensors.storage: elements converted as they are read."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from converters.tensors.dtypes import DTYPES
from converters.tensors.storage import ConvertedStorage, Storage


@pytest.mark.parametrize("target", ["float32", "float64", "float16"])
def test_bfloat16_is_read_with_numpy_alone(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    numbers = torch.tensor([0.0, -0.0, 1.0, -2.5, 3.389e38, 1e-40, float("inf"), float("nan"), 0.1]).bfloat16()
    stored = Storage(memoryview(numbers.view(torch.int16).numpy().tobytes()))
    converted = ConvertedStorage(stored, DTYPES["bfloat16"], DTYPES[target])
    got = np.frombuffer(b"".join(converted.chunks(0, converted.nbytes)), target)
    np.testing.assert_array_equal(got, numbers.to(getattr(torch, target)).numpy())
