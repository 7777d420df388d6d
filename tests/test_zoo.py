"""Published architectures against their own framework's outputs: the folders zoo/FORMAT/NAME of $CONVERTERS_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.conformance import _plain, read_npz

DATA = os.environ.get("CONVERTERS_DATA")
TOLERANCE = {"caffe": 1e-4, "torch7": 1e-4, "mxnet": 1e-3}
PATTERNS = {"caffe": ("*.prototxt", "*.caffemodel"), "torch7": ("*.t7",), "mxnet": ("*-symbol.json", "*.params")}


def nets() -> list[Path]:
    """Folders that hold a checkpoint; those that are still to be made are left out."""
    found = sorted(path.parent for path in Path(DATA or os.devnull).glob("zoo/*/*/input.npz"))
    return [folder for folder in found if all(list(folder.glob(p)) for p in PATTERNS.get(folder.parent.name, ("?",)))]


def largest_differences(folder: Path, target: Path) -> dict[str, float]:
    """{"torch": ..., "onnx": ...}: the largest difference from the framework's output, relative to its largest number."""
    framework = folder.parent.name
    inputs = read_npz((folder / "input.npz").read_bytes())
    expected = read_npz((folder / "expected.npz").read_bytes())
    files = [next(folder.glob(pattern)) for pattern in PATTERNS[framework]]
    if framework == "torch7":
        rounds = [({"input": inputs[f"input{n}"]}, {"output": expected[f"expected{n}"]}) for n in ("", "2") if f"input{n}" in inputs]
    else:
        rounds = [(inputs, expected)]
    model = converters.load(*files, inputs={name: array.shape for name, array in rounds[0][0].items()})
    names = [str(v.name) for v in model.graph.outputs]
    module = converters.to_module(model)
    converters.save(model, target)
    session = onnxruntime.InferenceSession(target)
    worst = {"torch": 0.0, "onnx": 0.0}
    for given, answers in rounds:
        arrays = [given[str(v.name)] for v in model.graph.inputs]
        with torch.no_grad():
            result = module(*map(torch.from_numpy, arrays))
        results = {
            "torch": [r.numpy() for r in (result if isinstance(result, tuple) else [result])],
            "onnx": session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)}),
        }
        for backend, got in results.items():
            for position, (name, value) in enumerate(zip(names, got, strict=True)):
                want = answers.get(f"out{position}") if framework == "mxnet" else None
                if want is None:
                    want = next(answer for key, answer in answers.items() if _plain(key) == _plain(name) or len(answers) == 1)
                worst[backend] = max(worst[backend], float(np.abs(value - want).max() / np.abs(want).max()))
    return worst


@pytest.mark.skipif(not DATA, reason="CONVERTERS_DATA is not set")
@pytest.mark.parametrize("folder", nets(), ids=lambda f: f"{f.parent.name}-{f.name}")
def test_published_architecture(folder, tmp_path):
    worst = largest_differences(folder, tmp_path / "out.onnx")
    assert max(worst.values()) <= TOLERANCE[folder.parent.name], worst
