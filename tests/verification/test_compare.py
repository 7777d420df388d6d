"""verify: the file as it is written, in its operator set, without onnxruntime's optimizer; and what the optimizer changes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import converters
from converters.cli import main
from converters.graph.builder import GraphBuilder
from converters.runtimes.compare import difference
from converters.runtimes.onnxruntime import run_each
from converters.verification import compare
from converters.verification.compare import write_verified
from converters.writers.onnx import writer

DIGITS = Path(__file__).parent.parent.parent / "fixtures" / "digits" / "caffe"


def quantized(path):
    """A convolution between quantizers: onnxruntime's optimizer makes one integer operator of it."""
    random = np.random.default_rng(3)
    arrays = {
        "scale": np.float32(0.04), "zero": np.uint8(120), "weight_scale": np.float32(0.03), "weight_zero": np.int8(0),
        "weight": random.integers(-9, 9, (4, 3, 3, 3)).astype(np.int8), "out_scale": np.float32(0.04 * 0.03 * 64),
        "out_zero": np.uint8(128),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "out_scale", "out_zero"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "out_scale", "out_zero"], ["y"]),
    ]
    shapes = {"x": (1, 3, 16, 16), "y": (1, 4, 14, 14)}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph(nodes, "quantized", [x], [y], [numpy_helper.from_array(np.array(v), k) for k, v in arrays.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def test_a_quantized_net_is_compared_as_it_is_written(tmp_path):
    quantized(tmp_path / "q.onnx")
    model = converters.load(tmp_path / "q.onnx")
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32) * 3
    report = converters.verify(model, inputs={"x": x})
    assert report.worst < 1e-6 < 1e-3 < report.optimizer[0].error < 0.1, "ties, which one rounding and two take apart"
    assert "onnxruntime's optimizer: changes the answers by at most" in str(report)


def softmax(axis):
    g = GraphBuilder("softmax", symbolic_batch=True)
    g.output(g.emit("Softmax", g.input("x", (2, 3, 4, 5)), axis=axis), "y")
    return g.finish()


def test_the_very_file_is_run(tmp_path, monkeypatch):
    """With a rule that loses the axis, as a version converter of others' does, the file of the older set isn't written."""
    translate = writer.to_opset

    def losing(model: ir.Model, opset: int) -> None:
        translate(model, opset)
        for node in model.graph:
            if node.op_type == "Transpose":
                node.attributes["perm"] = ir.AttrInt64s("perm", [0, 1, 2, 3])

    assert write_verified(softmax(1), tmp_path / "right.onnx", opset=11).ok
    assert onnx.load(tmp_path / "right.onnx").opset_import[0].version == 11
    monkeypatch.setattr(writer, "to_opset", losing)
    report = write_verified(softmax(1), tmp_path / "wrong.onnx", opset=11)
    assert not report.ok and report.layers
    assert write_verified(softmax(1), tmp_path / "same.onnx").ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["right.onnx", "same.onnx"]


def test_external_data_is_verified_before_it_is_there(tmp_path, monkeypatch):
    model = softmax(2)
    seen = []
    monkeypatch.setattr(writer, "PROTOBUF_LIMIT", 0)
    writer.write_onnx(model, tmp_path / "m.onnx", limit=0, check=lambda path: seen.append((path.exists(), (tmp_path / "m.onnx").exists())))
    assert seen == [(True, False)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    with pytest.raises(ZeroDivisionError):
        writer.write_onnx(model, tmp_path / "n.onnx", limit=0, check=lambda path: 1 / 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]


def test_the_command_says_what_the_optimizer_changes(tmp_path, capsys):
    """And checks the set that is asked for."""
    source = [str(DIGITS / name) for name in ("deploy.prototxt", "digits.caffemodel")]
    assert main(["caffe2onnx", *source, str(tmp_path / "out.onnx"), "--opset", "11", "--verify", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["optimizer"].startswith("onnxruntime's changes the answers by at most") and told["verified"]["largest_difference"] < 1e-4
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version == 11


def large():
    g = GraphBuilder("large", symbolic_batch=True)
    weight = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
    g.output(g.emit("MatMul", g.input("x", (1, 16)), g.param("fc.weight", weight)), "y")
    return g.finish()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system doesn't list what a process maps")
def test_a_written_module_runs_on_the_file_itself(tmp_path):
    """Neither the random numbers of constructors nor a copy of the weights take memory."""
    from converters.runtimes.torch import build_source

    converters.save(large(), tmp_path / "net.pth")
    module = build_source((tmp_path / "net.py").read_text(), tmp_path / "net.pth")
    (weight,) = module.parameters()
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith("net.pth")]
    ranges = [[int(end, 16) for end in words[0].split("-")] for words in mapped]
    assert any(start <= weight.data_ptr() < end for start, end in ranges)


@pytest.mark.parametrize("limit", [0, 1 << 20])
@pytest.mark.parametrize("level", ["quick", "full"])
def test_weights_that_are_many_are_mapped_and_spare_the_optimizer(monkeypatch, limit, level):
    monkeypatch.setattr(compare, "_MAPPED", limit)
    beside = []

    def seen(path, tried):
        beside.extend(path.parent.glob("*.data"))
        return run_each(path, tried)

    monkeypatch.setattr(compare, "run_each", seen)
    report = converters.verify(large(), level=level)
    assert report.ok and bool(beside) == (not limit)
    assert bool(report.optimizer) == (limit > 0 or level == "full") and bool(report.notes) != bool(report.optimizer)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_difference_is_the_formula_s(dtype):
    """Number by number in Python, on arrays with NaN, infinities and huge numbers among the others."""
    rng = np.random.default_rng(0)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 2e37, 1.0])
    seen = set()
    for _ in range(600):
        a = rng.standard_normal(4)
        a = np.where(rng.random(4) < 0.1, rng.choice(special, 4), a).astype(dtype)
        b = a.copy()
        if rng.random() < 0.7:
            b[rng.integers(4)] = rng.choice(special) if rng.random() < 0.3 else rng.standard_normal()
        pairs = [(float(p), float(q)) for p, q in zip(a, b, strict=True)]
        plain = [(p, q) for p, q in pairs if abs(q) <= 1e37]
        others = [(p, q) for p, q in pairs if not abs(q) <= 1e37]
        fits = all(math.isnan(p) if math.isnan(q) else abs(p) > 1e37 and (p > 0) == (q > 0) for p, q in others)
        found = difference("x", a, b)
        if not fits or not all(math.isfinite(p) for p, _ in plain):
            assert found.error == math.inf
        else:
            assert found.absolute == max((abs(p - q) for p, q in plain), default=0.0)
            assert found.scale == max((abs(q) for _, q in plain), default=0.0)
        seen.add((found.error == math.inf, found.error == 0))
    assert len(seen) == 3
