"""What people do with a written file next: onnxruntime's quantizers, onnxsim and onnx2torch take a net of every format.

onnxsim and onnx2torch are needed nowhere else; without them their tests are skipped.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import converters
from tests.conformance import Case, arrange, faults
from tests.test_digits import DIGITS, SHAPE, images

NETS = {
    "caffe": (["caffe/deploy.prototxt", "caffe/digits.caffemodel"], "data"),
    "torch7": (["torch7/digits.t7"], "input"),
    "mxnet": (["mxnet/digits-symbol.json", "mxnet/digits-0010.params"], "data"),
    "onnx": ([], "data"),
}


SMALLER = {"caffe": "net_caffenet", "torch7": "net_resnet_tiny", "mxnet": "net_resnet_v2"}


def tool(name: str):
    """A package that may be absent, or unfit for the installed torch."""
    try:
        return importlib.import_module(name)
    except Exception as problem:
        return pytest.skip(f"{name}: {problem}")


@pytest.fixture(params=NETS)
def written(request, tmp_path) -> Path:
    """A digits net, written; "onnx": one that was read from ONNX, in operator set 13."""
    files, name = NETS[request.param]
    paths = [DIGITS / file for file in files]
    if request.param == "onnx":
        paths = [tmp_path / "source.onnx"]
        converters.save(converters.load(*(DIGITS / file for file in NETS["caffe"][0]), inputs={name: SHAPE}), paths[0], opset=13)
    converters.save(converters.load(*paths, inputs={name: SHAPE}), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def answers(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images()})[0]


def assert_most_agree(path: Path, than: Path) -> None:
    """Eight bits are coarse: one image in a hundred may be told another way."""
    agree = answers(path).argmax(1) == answers(than).argmax(1)
    assert agree.mean() > 0.98


class Calibration:
    """Forty images, ten at a time."""

    def __init__(self, name: str) -> None:
        self.batches = iter([{name: images()[i : i + 10]} for i in range(0, 40, 10)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def test_quantize_dynamic(written, tmp_path):
    quantization = tool("onnxruntime.quantization")
    quantization.quantize_dynamic(written, tmp_path / "dynamic.onnx", op_types_to_quantize=["Gemm", "MatMul"])
    assert {"MatMulInteger", "DynamicQuantizeLinear"} <= {node.op_type for node in onnx.load(tmp_path / "dynamic.onnx").graph.node}
    assert_most_agree(tmp_path / "dynamic.onnx", written)


def test_quant_pre_process_and_quantize_static(written, tmp_path):
    quantization = tool("onnxruntime.quantization")
    processed, quantized = tmp_path / "processed.onnx", tmp_path / "static.onnx"
    quantization.quant_pre_process(written, processed)
    np.testing.assert_allclose(answers(processed), answers(written), atol=1e-5)
    reader = Calibration(onnx.load(written).graph.input[0].name)
    quantization.quantize_static(processed, quantized, reader)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(quantized).graph.node}
    assert_most_agree(quantized, written)
    read = converters.load(quantized)
    assert converters.verify(read, inputs={str(read.graph.inputs[0].name): images()[:8]}).ok


def test_onnxsim(written, tmp_path):
    simplified, checked = tool("onnxsim").simplify(onnx.load(written))
    assert checked
    onnx.save(simplified, tmp_path / "simple.onnx")
    np.testing.assert_allclose(answers(tmp_path / "simple.onnx"), answers(written), atol=1e-5)


@pytest.mark.parametrize(
    "case",
    [
        Case("caffe", "net_caffenet", "caffe"),
        Case("torch7", "net_resnet_tiny", "torch7"),
        Case("mxnet", "net_resnet_v2", "mxnet"),
    ],
    ids=str,
)
def test_onnx2torch(case, tmp_path):
    """In operator set 13: it knows no AveragePool of set 19, nor one with pads on one side (Caffe's, written out)."""
    convert = tool("onnx2torch").convert
    converters.save(converters.load(*case.write_model(tmp_path), inputs=case.shapes()), tmp_path / "net.onnx", opset=13)
    proto = onnx.load(tmp_path / "net.onnx")
    given, expected = case.pairs()[0]
    arrays = arrange(given, [value.name for value in proto.graph.input])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        got = convert(proto).eval()(*map(torch.from_numpy, arrays))
    assert faults(case, {proto.graph.output[0].name: got.numpy()}, expected) == []
