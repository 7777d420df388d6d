"""benchmark: what is run how often, what is measured, and what the layers cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import converters
from converters.cli import main
from converters.errors import ConversionError
from converters.evaluation.timing import Benchmark, Timing, names_of
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
CAFFE = [DIGITS / "caffe/deploy.prototxt", DIGITS / "caffe/digits.caffemodel"]
MXNET = [DIGITS / "mxnet/digits-symbol.json", DIGITS / "mxnet/digits-0010.params"]


def test_the_figures_of_a_timing() -> None:
    timing = Timing("net", "torch", "cpu", "forward", 4, [0.4, 0.1, 0.2, 0.3, 4.0])
    assert timing.median == pytest.approx(0.3) and timing.spread == pytest.approx((0.2, 0.4))
    assert timing.as_dict()["seconds_per_item"] == pytest.approx({"median": 0.075, "low": 0.05, "high": 0.1})
    assert "| net | torch | forward | 75.00 | 50.00-100.00 | 13.3 |  |  |" in str(Benchmark([timing]))


def test_artefacts_and_engines_side_by_side(tmp_path: Path) -> None:
    model = converters.load(*CAFFE)
    converters.save(model, tmp_path / "net.onnx")
    found = converters.benchmark(CAFFE, tmp_path / "net.onnx", model, runs=3, warmup=1, batch=2, backward=True, threads=1)
    rows = [(timing.model, timing.engine, timing.step, len(timing.seconds)) for timing in found.timings]
    names = ["digits.caffemodel", "net.onnx", str(model.graph.name)]
    assert rows == [
        (name, *what, 3) for name in names for what in (("onnxruntime", "forward"), ("torch", "forward"), ("torch", "backward"))
    ]
    assert all(seconds > 0 for timing in found.timings for seconds in timing.seconds)
    assert {found.costs[name].multiply_adds for name in names} == {9 * 16 * 14 * 14 + 2 * 9 * 16 * 16 * 7 * 7 + 256 * 32 + 32 * 10}


def test_a_module_with_its_source(tmp_path: Path) -> None:
    converters.save(converters.load(*CAFFE), tmp_path / "net.pth")
    with pytest.raises(ConversionError, match=r"net\.py beside it is Python code"):
        converters.benchmark(tmp_path / "net.pth", inputs={"": (1, 1, 16, 16)}, runs=1)
    with pytest.raises(ConversionError, match="a module doesn't say what it takes"):
        converters.benchmark(tmp_path / "net.pth", runs=1, trust=True)
    found = converters.benchmark(tmp_path / "net.pth", inputs={"": (1, 1, 16, 16)}, runs=2, warmup=0, trust=True)
    assert [(timing.engine, len(timing.seconds)) for timing in found.timings] == [("torch", 2)] and not found.costs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"runs": 0}, "at least one run"),
        ({"batch": 0}, "at least one run of one item"),
        ({"engines": ("tensorrt",)}, "no engine is called 'tensorrt'"),
        ({"device": "cuda", "engines": ("onnxruntime",)}, "has no CUDAExecutionProvider; use the device cpu"),
    ],
)
def test_what_can_t_be_timed(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        converters.benchmark(CAFFE, **settings)


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["benchmark", *map(str, [*CAFFE, *MXNET]), "--input", "1x1x16x16", "--runs", "2", "--warmup", "0", "--threads", "1"]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(t["model"], t["engine"], t["runs"]) for t in answer["timings"]] == [
        (name, engine, 2) for name in ("digits.caffemodel", "digits-0010.params") for engine in ("onnxruntime", "torch")
    ]
    assert answer["costs"]["digits.caffemodel"]["layers"][0]["multiply_adds"] == 9 * 16 * 14 * 14
    assert main([*words, "--engine", "onnxruntime", "--layers"]) == 0
    text = capsys.readouterr().out
    assert "| digits.caffemodel | onnxruntime | forward | " in text and "| conv1 | Conv | 1x16x14x14 | 144 | 28,224 | 0 |" in text


def test_names_in_the_table() -> None:
    assert names_of([["a/net.prototxt", "a/net.caffemodel"], "b/net.onnx", Path("c/net.onnx")]) == [
        "net.caffemodel",
        "net.onnx",
        "net.onnx_1",
    ]
    assert np.isfinite(converters.benchmark(CAFFE, runs=1, engines=("torch",), threads=1).timings[0].median)
