"""Published architectures against their own framework's outputs: the folders zoo/FORMAT/NAME of $CONVERTERS_DATA."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import converters
from tests.conformance import plain, read_npz

DATA = os.environ.get("CONVERTERS_DATA")
TOLERANCE = {"caffe": 1e-4, "torch7": 1e-4, "mxnet": 1e-3}
PATTERNS = {"caffe": ("*.prototxt", "*.caffemodel"), "torch7": ("*.t7",), "mxnet": ("*-symbol.json", "*.params")}


def nets() -> list[Path]:
    """Folders that hold a checkpoint; those that are still to be made are left out."""
    found = sorted(path.parent for path in Path(DATA or os.devnull).glob("zoo/*/*/input.npz"))
    return [folder for folder in found if all(list(folder.glob(p)) for p in PATTERNS.get(folder.parent.name, ("?",)))]


def made(name: str, folder: Path) -> Path:
    """The folder of the net FORMAT/NAME, which materialize.py makes in `folder` where it isn't there yet."""
    home = Path(DATA or os.devnull, "zoo", name)
    if home in nets():
        return home
    materialize = Path(DATA or os.devnull, "zoo", "materialize.py")
    subprocess.run([sys.executable, materialize, name, folder], check=True, stdout=subprocess.DEVNULL)
    return folder / name


def model_of(folder: Path, batch: int = 1) -> tuple[ir.Model, list[np.ndarray]]:
    """The net for images of the size that its folder has, and the first `batch` of these."""
    given = {name: array[:batch] for name, array in rounds(folder)[0][0].items()}
    files = [next(folder.glob(pattern)) for pattern in PATTERNS[folder.parent.name]]
    return converters.load(*files, inputs={name: array.shape for name, array in given.items()}), list(given.values())


def rounds(folder: Path) -> list[tuple[dict[str, np.ndarray], Callable[[list[str]], list[np.ndarray]]]]:
    """(inputs by name, answers for the output names of the converted model) of each input that a folder holds."""
    framework = folder.parent.name
    inputs = read_npz((folder / "input.npz").read_bytes())
    expected = read_npz((folder / "expected.npz").read_bytes())

    def answers(names: list[str]) -> list[np.ndarray]:
        if framework == "mxnet":
            return [expected[f"out{i}"] for i in range(len(names))]
        return [next(array for key, array in expected.items() if plain(key) == plain(name)) for name in names]

    if framework == "torch7":
        pairs = [(inputs[f"input{n}"], expected[f"expected{n}"]) for n in ("", "2") if f"input{n}" in inputs]
        return [({"input": given}, lambda _, answer=answer: [answer]) for given, answer in pairs]
    return [(inputs, answers)]


def largest_differences(folder: Path, target: Path) -> dict[str, float]:
    """{"torch": ..., "onnx": ...}: the largest difference from the framework's output, relative to its largest number."""
    pairs = rounds(folder)
    files = [next(folder.glob(pattern)) for pattern in PATTERNS[folder.parent.name]]
    model = converters.load(*files, inputs={name: array.shape for name, array in pairs[0][0].items()})
    names = [str(v.name) for v in model.graph.outputs]
    module = converters.to_module(model)
    converters.save(model, target)
    session = onnxruntime.InferenceSession(target)
    worst = {"torch": 0.0, "onnx": 0.0}
    for given, answers in pairs:
        arrays = [given[str(v.name)] for v in model.graph.inputs]
        with torch.no_grad():
            result = module(*map(torch.from_numpy, arrays))
        results = {
            "torch": [r.numpy() for r in (result if isinstance(result, tuple) else [result])],
            "onnx": session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays, strict=True)}),
        }
        for backend, got in results.items():
            for value, want in zip(got, answers(names), strict=True):
                worst[backend] = max(worst[backend], float(np.abs(value - want).max() / np.abs(want).max()))
    return worst


@pytest.mark.skipif(not DATA, reason="CONVERTERS_DATA is not set")
@pytest.mark.parametrize("folder", nets(), ids=lambda f: f"{f.parent.name}-{f.name}")
def test_published_architecture(folder, tmp_path):
    worst = largest_differences(folder, tmp_path / "out.onnx")
    assert max(worst.values()) <= TOLERANCE[folder.parent.name], worst
