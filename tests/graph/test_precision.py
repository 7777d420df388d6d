"""A net written in another floating-point type, against the same net in float32 and float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import converters
from converters.cli import main
from converters.graph.builder import GraphBuilder
from converters.verification.compare import write_verified

DIGITS = Path(__file__).parents[2] / "fixtures" / "digits"
MXNET = [DIGITS / "mxnet" / "digits-symbol.json", DIGITS / "mxnet" / "digits-0010.params"]
CAFFE = [DIGITS / "caffe" / "deploy.prototxt", DIGITS / "caffe" / "digits.caffemodel"]


@pytest.fixture(scope="module")
def model():
    return converters.load(*MXNET, inputs={"data": (1, 1, 16, 16)})


@pytest.mark.parametrize("io_dtype", [None, "float32"])
@pytest.mark.parametrize(
    "dtype, element", [("float16", TensorProto.FLOAT16), ("bfloat16", TensorProto.BFLOAT16), ("float64", TensorProto.DOUBLE)]
)
def test_an_onnx_file_in_each_type(model, dtype, element, io_dtype, tmp_path):
    report = write_verified(model, tmp_path / "net.onnx", dtype=dtype, io_dtype=io_dtype)
    assert report.ok and (report.trials or "kernel" in report.notes[0])
    proto = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert {tensor.data_type for tensor in proto.graph.initializer} == {element}
    ends = {value.type.tensor_type.elem_type for value in [*proto.graph.input, *proto.graph.output]}
    assert ends == {TensorProto.FLOAT if io_dtype else element}
    if dtype == "float16":
        assert report.trials and 1e-6 < report.worst < 2e-2


@pytest.mark.parametrize("io_dtype", [None, "float32"])
@pytest.mark.parametrize("dtype, least, most", [("float16", 1e-6, 2e-2), ("bfloat16", 1e-5, 1e-1), ("float64", 0, 1e-5)])
def test_written_source_in_each_type(model, dtype, least, most, io_dtype, tmp_path):
    torch = pytest.importorskip("torch")
    report = write_verified(model, tmp_path / "net.pth", dtype=dtype, io_dtype=io_dtype)
    assert report.trials and least <= report.worst < most, report
    state = torch.load(tmp_path / "net.pth", weights_only=True)
    assert {str(tensor.dtype) for tensor in state.values() if tensor.is_floating_point()} == {f"torch.{dtype}"}


def test_what_onnx_does_not_define_in_the_type_is_computed_in_float32(tmp_path):
    g = GraphBuilder("resize", symbolic_batch=True)
    x = g.input("x", (2, 3, 4, 4))
    g.output(g.emit("Resize", x, None, np.array([1, 1, 2, 2], np.float32), mode="nearest"), "y")
    converters.save(g.finish(), tmp_path / "r.onnx", dtype="float16")
    onnx.checker.check_model(onnx.load(tmp_path / "r.onnx"), full_check=True)
    session = pytest.importorskip("onnxruntime").InferenceSession(tmp_path / "r.onnx")
    array = np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float16)
    assert (session.run(None, {"x": array})[0] == array.repeat(2, 2).repeat(2, 3)).all()


def test_numbers_that_are_too_large_are_counted(tmp_path):
    g = GraphBuilder("scale", symbolic_batch=True)
    g.output(g.emit("Mul", g.input("x", (2, 3)), g.param("weight", np.array([1, 1e6, -1e5], np.float32), path="m")), "y")
    with pytest.warns(converters.ConversionWarning, match="2 numbers too large for float16 became infinite"):
        converters.save(g.finish(), tmp_path / "s.onnx", dtype="float16")


def test_the_command(tmp_path, capsys):
    words = ["caffe2onnx", *map(str, CAFFE), str(tmp_path / "half.onnx"), "--dtype", "float16", "--io-dtype", "float32", "--verify"]
    assert main(words) == 0, capsys.readouterr().err
    assert onnx.load(tmp_path / "half.onnx").graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert main(["caffe2onnx", *map(str, CAFFE), str(tmp_path / "b.onnx"), "--io-dtype", "float32"]) == 1
    assert "goes with the type that is written" in capsys.readouterr().err
