"""Writes a model as .t7, converts it, and runs the result in PyTorch and in onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

import converters
from converters.options import LoadOptions
from converters.readers.torch7 import load
from tests.readers.torch7 import lua


def named_inputs(x: Any, label: str = "input") -> dict[str, np.ndarray]:
    """{"input_2_1": array} of a nest of arrays."""
    if not isinstance(x, list):
        return {label: x}
    return {k: v for position, item in enumerate(x, 1) for k, v in named_inputs(item, f"{label}_{position}").items()}


def convert(path: Path, made: Any, x: Any, **options: Any) -> ir.Model:
    path.write_bytes(lua.dumps(made, **options))
    with warnings.catch_warnings():  # what warns is tested in test_network.py; here the numbers count
        warnings.simplefilter("ignore", converters.ConversionWarning)
        return load([path], LoadOptions(inputs={k: v.shape for k, v in named_inputs(x).items()}))


def run(folder: Path, made: Any, x: Any, feed: Any = None) -> list[list[np.ndarray]]:
    """Outputs in order, of PyTorch and of onnxruntime. feed: other inputs than those whose shapes the conversion is given."""
    model = convert(folder / "model.t7", made, x)
    arrays = list(named_inputs(x if feed is None else feed).values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        answer = converters.to_module(model).eval()(*[torch.from_numpy(np.array(a)) for a in arrays])
    answers = [[a.numpy() for a in (answer if isinstance(answer, tuple | list) else [answer])]]
    converters.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    answers.append(session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)}))
    return answers


def check(folder: Path, made: Any, x: Any, expected: Any, feed: Any = None, tolerance: float = 2e-5) -> None:
    """Both answer the expected arrays, in shape and numbers."""
    wanted = list(named_inputs(expected).values())
    for name, got in zip(("torch", "onnxruntime"), run(folder, made, x, feed), strict=True):
        assert [a.shape for a in got] == [np.shape(w) for w in wanted], name
        for a, w in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, w, rtol=tolerance, atol=tolerance, err_msg=name)
