"""Graphs, checkpoints and broken files of TensorFlow 2.15.1 with its answers: numbers in PyTorch, onnxruntime and written source."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

import converters
from tests.readers.tensorflow.archive import Case, cases
from tests.test_conformance import run_onnx, written_module


def run_module(module: torch.nn.Module, given: list[np.ndarray]) -> list[np.ndarray]:
    answer = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in given))
    return [tensor.detach().numpy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]


def check_graph(case: Case, folder: Path) -> None:
    model = case.load(folder)
    converters.save(model, folder / "out.onnx")
    converters.save(model, folder / "out.pth")
    module, outputs = converters.to_module(model), [str(value.name) for value in model.graph.outputs]
    runs = {
        "PyTorch": lambda given: run_module(module, given),
        "onnxruntime": lambda given: run_onnx(folder / "out.onnx", given),
        "source": lambda given: run_module(written_module(folder / "out.pth"), given),
    }
    for given, expected in case.rounds({str(value.name): value.shape for value in model.graph.inputs}):
        for where, run in runs.items():
            assert case.faults(dict(zip(outputs, run(given), strict=True)), expected) == [], where


def check_weights(case: Case, folder: Path) -> None:
    about = case.about
    weights = converters.load_weights(case.unpack(folder) / about["checkpoint"])
    found = {name: np.asarray(tensor.numpy()) for name, tensor in weights.items()}
    if "expected.npz" in case.files:
        wanted, sums = case.arrays("expected.npz"), about.get("sha256", {})
        assert set(wanted) | set(sums) >= set(found) >= (set(wanted) | set(sums)) - set(about.get("optional", ()))
        for name, got in found.items():
            got = got.astype("f4") if got.dtype.name == "bfloat16" else got
            if name in sums:
                assert hashlib.sha256(np.ascontiguousarray(got).tobytes()).hexdigest() == sums[name]
            else:
                assert (got.dtype, got.shape) == (wanted[name].dtype, wanted[name].shape)
                assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(wanted[name]).tobytes(), name


@pytest.mark.filterwarnings("ignore::converters.ConversionWarning")
@pytest.mark.parametrize("case", cases(), ids=str)
def test_case(case, tmp_path):
    about = case.about
    is_weights = about["kind"] == "weights" or about.get("call") == "load_weights"
    given = {tmp_path / case.name / file for file in case.files}
    try:
        check_weights(case, tmp_path) if is_weights else check_graph(case, tmp_path)
    except converters.ConversionError:
        assert about["expect"] != "convert"
    else:
        assert about["expect"] != "refuse", "accepted, though no right answer exists"
    written = {path.name for path in set(tmp_path.rglob("*")) - given if path.is_file()}
    assert written <= {"out.onnx", "out.pth", "out.py"} | {name for name in written if name.endswith(".pyc")}
