"""Every conformance case, in PyTorch, in onnxruntime, and as written source with written weights: the real framework's numbers."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from tests.conformance import TYPES, Case, all_cases, arrange, faults


def run_module(module: torch.nn.Module, arrays: list[np.ndarray]) -> list[np.ndarray]:
    with torch.no_grad():
        result = module(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays))
    return [r.numpy() for r in (result if isinstance(result, tuple) else [result])]


def run_onnx(path: Path, arrays: list[np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()
    return session.run(None, {i.name: np.asarray(a).astype(TYPES.get(i.type, a.dtype)) for i, a in zip(wanted, arrays, strict=True)})


def written_module(path: Path) -> torch.nn.Module:
    """NAME.py run on its own, with NAME.pth loaded strictly."""
    spec = importlib.util.spec_from_file_location("written", path.with_suffix(".py"))
    written = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(written)
    module = written.build()
    module.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return module.eval()


def check(case: Case, folder: Path) -> None:
    pairs = case.pairs()
    paths = case.write_model(folder)
    expect = case.about.get("expect", "convert")
    key = case.about.get("model_at") or None
    with warnings.catch_warnings():  # what warns is tested where the warning is; here the numbers count
        warnings.simplefilter("ignore", converters.ConversionWarning)
        try:
            model = converters.load(*paths, inputs=case.shapes(), key=key)
            converters.save(model, folder / "out.onnx")
            converters.save(model, folder / "out.pth")
            module = converters.to_module(model)
        except converters.ConversionError as problem:
            if expect == "convert":
                raise
            assert str(problem)
            return
    assert expect != "refuse", "converted, but no right answer exists"
    inputs = [str(v.name) for v in model.graph.inputs]
    outputs = [str(v.name) for v in model.graph.outputs]
    runs = {
        "torch": lambda arrays: run_module(module, arrays),
        "onnx": lambda arrays: run_onnx(folder / "out.onnx", arrays),
        "source": lambda arrays: run_module(written_module(folder / "out.pth"), arrays),
    }
    for given, expected in pairs:
        for backend, run in runs.items():
            got = dict(zip(outputs, run(arrange(given, inputs)), strict=True))
            assert not faults(case, got, expected), backend


@pytest.mark.parametrize("case", all_cases("caffe"), ids=str)
def test_caffe(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize("case", all_cases("torch7"), ids=str)
def test_torch7(case, tmp_path):
    check(case, tmp_path)


@pytest.mark.parametrize("case", all_cases("mxnet"), ids=str)
def test_mxnet(case, tmp_path):
    check(case, tmp_path)
