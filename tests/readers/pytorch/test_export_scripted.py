"""TorchScript: its operators at their edges, as PyTorch has them, in onnxruntime; what it takes and doesn't use; refusals."""

from __future__ import annotations

import pickle
import warnings
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch

from converters.errors import ConversionError
from converters.tracing.arguments import flat
from converters.tracing.program import export_module
from converters.tracing.spellings.scripted import SPELLINGS
from converters.trust import run_script
from converters.writers.onnx.writer import write_onnx
from tests.readers.pytorch.test_export_edges import FAR, NUMBERS

WHOLE = [[2**30, -(2**30), 2**24 + 1, -(2**24) - 1, 5, -5], [0, 1, -1, 7, -8, 9], [3, -3, 0, 0, 0, 0]]


def scripted(body, takes="x"):
    module = type("Scripted", (torch.jit.ScriptModule,), {})()
    module.define(f"def forward(self, {takes}):\n    return {body}\n")
    return module.eval()


def session_of(module, dtype, folder):
    model = export_module(module, {"x": (2, 6)}, "m", dtypes={"x": dtype})
    write_onnx(model, folder / "m.onnx")
    assert model.graph.inputs[0].shape[0] == "N"
    return onnxruntime.InferenceSession(str(folder / "m.onnx"), providers=["CPUExecutionProvider"])


def check(body, dtype, samples, folder):
    module = scripted(body)
    session = session_of(module, dtype, folder)
    for x in samples:
        for ours, theirs in zip(session.run(None, {"x": x.numpy()}), [value.numpy() for _, value in flat(module(x))], strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "body",
    [
        "(torch.remainder(x, 0.7), x % -1.5, x % x.roll(1, 1).clamp(min=0.1))",
        "(x // 0.3, x // -2, torch.div(x, 0.1, rounding_mode='floor'), torch.floor_divide(x, 0.3))",
        "(torch.div(x, 0.3, rounding_mode='trunc'), x.trunc(), x.frac())",
        "torch.atan2(x, x.roll(1, 1))",
        "torch.logaddexp(x, x.roll(1, 1))",
        "(torch.fmax(x, x.roll(1, 1)), torch.fmin(x, x.roll(1, 1)), torch.signbit(x))",
        "(torch.nn.functional.logsigmoid(x), torch.nn.functional.softplus(x, 2.0, 5.0), torch.nn.functional.threshold(x, 0.5, -3.0))",
        "(torch.nn.functional.hardshrink(x), torch.nn.functional.softshrink(x, 0.3))",
        "torch.nn.functional.binary_cross_entropy_with_logits(x, x.clamp(0, 1), reduction='none')",
        "torch.nn.functional.binary_cross_entropy_with_logits(x.nan_to_num(), x.gt(0).float(), pos_weight=x.abs().nan_to_num())",
        "(x ** 0.5, x.pow(-0.5), x ** 2, 2.0 ** x.clamp(-3, 3))",
        "torch.nn.functional.pairwise_distance(x.nan_to_num(0.0, 9.0, -9.0), torch.zeros(x.shape), 2.0, 0.1)",
        "(torch.any(x, 1), torch.all(x), torch.any(x > 0, 1, True))",
        "torch.cosine_similarity(x.nan_to_num(0.0, 9.0, -9.0), x.nan_to_num(0.0, 9.0, -9.0).roll(1, 1) * 1e-3, 1, 0.1)",
    ],
)  # fmt: skip
def test_edges(body, tmp_path):
    check(body, "float32", [torch.tensor(NUMBERS), torch.tensor(FAR)], tmp_path)


@pytest.mark.parametrize("dtype", ["int64", "int32"])
@pytest.mark.parametrize(
    "body",
    [
        "(x // 3, x // -3, torch.div(x, 3, rounding_mode='floor'), torch.div(x, 3, rounding_mode='trunc'))",
        "(x // (x.abs() % 4 + 1), x % 3, x % -3, torch.fmod(x, 3), (x % 100) % 2.5)",
        "(x >> 1, x >> (x.abs() % 4), (x % 50) << 2)",
        "(torch.any(x, 1), torch.all(x, 1), x.cumsum(1), torch.relu(x), x / 4)",
    ],
)
def test_whole_numbers(body, dtype, tmp_path):
    check(body, dtype, [torch.tensor(WHOLE, dtype=getattr(torch, dtype))], tmp_path)


def test_sizes_stay_open(tmp_path):
    """A quotient of sizes is one of whole numbers too."""
    check("x.view(x.size(0), x.size(1) // 2, -1).sum(2) / x.size(0)", "float32", [torch.tensor(NUMBERS)], tmp_path)


def test_sizes_that_differ_have_labels_that_differ(tmp_path):
    """With one label for both, onnxruntime computes keys of 6 in the buffer of queries of 5."""
    torch.manual_seed(1)
    arrays = [np.random.default_rng(n).normal(size=(5 + (n > 0), 2, 4)).astype("f4") for n in range(3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch is about to give the tracer up
        module = torch.jit.trace(torch.nn.MultiheadAttention(4, 2).eval(), tuple(map(torch.from_numpy, arrays)))
    model = export_module(module, {name: a.shape for name, a in zip(("query", "key", "value"), arrays, strict=True)}, "m")
    write_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    given = dict(zip(("query", "key", "value"), arrays, strict=True))
    for ours, theirs in zip(session.run(None, given), module(*map(torch.from_numpy, arrays)), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_an_input_that_is_not_used():
    shapes = {"before": (2, 3), "x": (2, 6), "after": (2,)}
    model = export_module(scripted("x * 2", "before, x, after"), shapes, "m", dtypes={"after": "int64"})
    assert [value.name for value in model.graph.inputs] == ["before", "x", "after"]
    assert [value.shape[0] for value in model.graph.inputs] == ["N", "N", "N"]


@pytest.mark.parametrize("scale", [2.0, 2.5])
def test_corners_that_stay(scale, tmp_path):
    """5 rows and 7 columns at 2.5 are 12 and 17: the scale itself plays no part."""
    module = torch.jit.trace(torch.nn.Upsample(None, scale, "bilinear", True), torch.randn(2, 3, 5, 7))
    write_onnx(export_module(module, {"input": (2, 3, 5, 7)}, "m"), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    x = torch.randn(3, 3, 5, 7)
    expected = torch.nn.functional.interpolate(x, (int(5 * scale), int(7 * scale)), mode="bilinear", align_corners=True)
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_a_refusal_names_the_operator_and_prints_nothing(capfd):
    with pytest.raises(ConversionError, match=r"operator 'gcd' \(aten::gcd\): torch\.onnx has no words"):
        export_module(scripted("torch.gcd(x, x)"), {"x": (2, 6)}, "m", dtypes={"x": "int64"})
    assert capfd.readouterr().out == ""


def test_graphs_are_tried_on_numbers_below_zero(monkeypatch):
    """torch.onnx's own quotient is cut off, which zeros and ones don't show."""
    for name in ("floor_divide", "floordiv"):
        monkeypatch.delitem(SPELLINGS, name)
    with pytest.raises(ConversionError, match="differs once exported"):
        export_module(scripted("x // 3"), {"x": (2, 6)}, "m", dtypes={"x": "int64"})


def test_a_program_has_the_cosine_of_its_time(tmp_path):
    """Up to 1.11 the product of the norms was kept above eps, since then each; notes for debugging tell up to 1.10 from later ones."""
    x, y = torch.full((2, 3), 0.01), torch.full((2, 3), 4.0)
    torch.jit.save(scripted("torch.cosine_similarity(x, y, 1, 0.1)", "x, y"), tmp_path / "new.pt")
    with zipfile.ZipFile(tmp_path / "new.pt") as new, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for entry in new.infolist():
            old.writestr(entry, pickle.dumps(((0, "", 0),), 2) if entry.filename.endswith(".debug_pkl") else new.read(entry))
    norms = [float(np.linalg.norm(value[0])) for value in (x, y)]
    expected = {"old": 0.12 / max(norms[0] * norms[1], 0.1), "new": 0.12 / (max(norms[0], 0.1) * norms[1])}
    assert expected["old"] > 5 * expected["new"]
    for name, value in expected.items():
        module = run_script(tmp_path / f"{name}.pt", trust=True)
        write_onnx(export_module(module, {"x": (2, 3), "y": (2, 3)}, "m"), tmp_path / f"{name}.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x.numpy(), "y": y.numpy()})[0], [value, value], rtol=1e-5)
