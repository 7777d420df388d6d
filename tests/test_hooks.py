"""Lowerings of one's own: typed, and told where they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import converters
from converters.readers.caffe import lowers

NET = """
name: "net"
input: "data"
input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1
layer { name: "mine" type: "Mine" bottom: "data" top: "mine" my_param { alpha: 2.0 } }
"""


@pytest.fixture
def lower(tmp_path):
    """Registers a lowering for the layer `mine` and loads a net that has it."""

    def load(function):
        lowers("Mine")(function)
        (tmp_path / "net.prototxt").write_text(NET)
        return converters.load(tmp_path / "net.prototxt")

    yield load
    if "Mine" in lowers:
        lowers.remove("Mine")


def unknown_operator(g, layer, x):
    "An operator that ONNX doesn't have."
    return g.emit("Reluu", x)


def unknown_attribute(g, layer, x):
    "An attribute that ONNX's operator doesn't have."
    return g.emit("Softmax", x, axes=1)


def unknown_parameter(g, layer, x):
    "A parameter that the file doesn't have."
    return g.emit("Mul", x, layer.extra["my_param"]["beta"])


def own_mistake(g, layer, x):
    "A mistake of the user's."
    return x.nothing


@pytest.mark.parametrize("function", [unknown_operator, unknown_attribute, unknown_parameter, own_mistake])
def test_a_mistake_in_a_hook_says_file_line_and_layer(function, lower):
    with pytest.raises(converters.ConversionError) as caught:
        lower(function)
    problem = caught.value
    assert problem.path.endswith("net.prototxt") and problem.line == 5 and problem.layer == "mine"
    assert str(problem).startswith(f"{problem.path}:5: layer 'mine' (Mine): ")
    words = {"unknown_operator": "'Reluu'", "unknown_attribute": "axes", "unknown_parameter": "beta", "own_mistake": "test_hooks.py:"}
    assert words[function.__name__] in str(problem)


def test_a_mistake_of_this_package_stays_one(lower, monkeypatch):
    import converters.graph.builder as builder

    monkeypatch.setattr(builder, "infer", builder.identifier)
    with pytest.raises(TypeError):
        converters.load(*[str(path) for path in _digits()])


def _digits():
    from tests.conformance import FIXTURES

    return [FIXTURES / "digits" / "caffe" / name for name in ("deploy.prototxt", "digits.caffemodel")]


TYPED = '''
import onnx_ir

from converters.graph.builder import GraphBuilder
from converters.readers import caffe, mxnet, torch7


@caffe.lowers("MyScaledReLU")
def my_scaled_relu(g: GraphBuilder, layer: caffe.Layer, x: onnx_ir.Value) -> onnx_ir.Value:
    """ReLU times two. x: any shape."""
    return g.emit("Mul", g.emit("Relu", x), 2.0)


@torch7.lowers("nn.MyLayer")
def my_module(g: GraphBuilder, module: torch7.Module, x: onnx_ir.Value) -> onnx_ir.Value:
    """Times a number of its own."""
    return g.emit("Mul", x, module.number("scale", 1.0))


@mxnet.lowers("my_op")
def my_operator(g: mxnet.OperatorBuilder, data: onnx_ir.Value, *, scale: float = 1.0) -> onnx_ir.Value:
    """Times an attribute."""
    return g.emit("Mul", data, scale)
'''


LIBRARY = """
import numpy as np
import onnx_ir

import converters

model: onnx_ir.Model = converters.load("deploy.prototxt", "model.caffemodel", inputs={"data": (1, 3, 224, 224)})
report = converters.verify(model)
assert report.ok, report
converters.save(model, "model.onnx")
weights = converters.load_weights("model.t7")
conv1 = np.asarray(weights["0.weight"])
stripped = converters.strip_to_weights("model.pth", dtype="float16")
print(stripped.path.name, stripped.tensors, converters.inspect("model.pth").tensors["0.weight"].shape)
try:
    converters.load("net.prototxt")
except converters.ConversionError as problem:
    print(problem.path, problem.line, problem.layer, problem.hint)
"""


@pytest.mark.parametrize("code", [TYPED, LIBRARY], ids=["hooks", "library"])
def test_code_that_uses_this_passes_mypy_strict(code, tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "mine.py").write_text(code)
    package = Path(converters.__file__).parent
    staged = tmp_path / "stage" / "converters"  # as it is installed: mypy doesn't follow an editable installation
    staged.mkdir(parents=True)
    for entry in [*package.iterdir(), package.parent / "schemas"]:
        (staged / entry.name).symlink_to(entry)
    words = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), "mine.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(tmp_path / "stage")})
    assert done.returncode == 0, done.stdout


PLUGIN = """
from converters.readers.caffe import lowers as caffe
from converters.readers.mxnet import lowers as mxnet
from converters.readers.torch7 import lowers as torch7

@caffe("OfPlugin")
@torch7("own.OfPlugin")
def scaled(g, layer, x):
    "Three times its input."
    return g.emit("Mul", x, 3.0)

@mxnet("of_plugin", replace=True)
def scaled_too(g, data):
    "Three times its input."
    return g.emit("Mul", data, 3.0)
"""


@pytest.fixture
def plugin(tmp_path):
    """A plugin with a layer for each reader; they are taken out again."""
    from converters import trust
    from converters.readers.mxnet import lowers as mxnet
    from converters.readers.torch7 import lowers as torch7

    path = tmp_path / "plugin.py"
    path.write_text(PLUGIN)
    net, weights = _digits()
    last = 'layer { name: "mine" type: "OfPlugin" bottom: "prob" top: "mine" }'
    (tmp_path / "own.prototxt").write_text(net.read_text() + last)
    (tmp_path / "own.caffemodel").write_bytes(weights.read_bytes())
    yield path
    for table, name in ((lowers, "OfPlugin"), (torch7, "own.OfPlugin"), (mxnet, "of_plugin")):
        if name in table:
            table.remove(name)
    trust._run.clear()


def test_a_plugin_from_the_command_line_runs_with_trust_alone(plugin, tmp_path, capsys):
    from converters.cli import main

    words = ["caffe2onnx", *(str(tmp_path / f"own.{suffix}") for suffix in ("prototxt", "caffemodel", "onnx")), "--plugin", str(plugin)]
    assert main(words) == 1 and "--trust" in capsys.readouterr().err and "OfPlugin" not in lowers
    assert main([*words, "--trust"]) == 0, capsys.readouterr().err
    module = converters.to_module(converters.load(tmp_path / "own.onnx"))
    probabilities = module(torch.ones(2, 1, 16, 16)).detach().numpy()
    np.testing.assert_allclose(probabilities.sum(1), [3.0, 3.0], rtol=1e-5)


@pytest.mark.parametrize(("row", "name"), [("caffe", "OfPlugin"), ("torch7", "own.OfPlugin"), ("mxnet", "of_plugin")])
def test_formats_lists_what_a_plugin_adds(row, name, plugin, capsys):
    from converters.cli import main

    assert main(["formats", row]) == 0 and name not in capsys.readouterr().out.split()
    assert main(["formats", row, "--plugin", str(plugin), "--trust"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if name in line.split())
    assert line.split(maxsplit=1)[1] == "Three times its input."


def test_classify_reads_a_net_with_a_plugins_layer(plugin, tmp_path, capsys):
    from PIL import Image

    from converters.cli import main

    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "how.json").write_text('{"decode": "pil", "color": "gray", "mean": [0.0], "std": [240.0], "labels": "sorted"}')
    files = [str(tmp_path / name) for name in ("own.prototxt", "own.caffemodel", "a.png")]
    words = ["classify", *files, "--preprocess", str(tmp_path / "how.json")]
    assert main(words) == 1 and "OfPlugin" in capsys.readouterr().err
    assert main([*words, "--plugin", str(plugin), "--trust"]) == 0, capsys.readouterr().err


def test_the_refusal_of_an_unknown_layer_is_short(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    with pytest.raises(converters.UnsupportedError) as caught:
        converters.load(tmp_path / "net.prototxt")
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path / 'net.prototxt'}:5: layer 'mine' (Mine): no lowering is registered for this type"
    assert len(lines) == 2 and len(lines[1]) < 300 and "--plugin FILE.py --trust" in lines[1] and "convert formats" in lines[1]
