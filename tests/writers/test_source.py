"""Generated PyTorch source: submodules by key, readable forwards, strict loading, and nothing of a file that becomes code."""

from __future__ import annotations

import ast
import collections
import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest
import torch

import converters
from converters.errors import Source, UnsupportedError
from converters.graph.builder import GraphBuilder
from converters.writers.source.writer import state_dict, to_module, write_source

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def source_of(kind, name="layer"):
    return Source("net.prototxt", "layer", name, kind, 7)


def small_net():
    g = GraphBuilder("small", symbolic_batch=True)
    x = g.input("data", (2, 3, 8, 8))
    with g.at(source_of("Convolution", "conv1"), "conv1"):
        x = g.emit("Conv", x, g.param("weight", floats(4, 3, 3, 3)), g.param("bias", floats(4)), pads=[1, 1, 1, 1])
    with g.at(source_of("BatchNorm", "bn1"), "bn1"):
        roles = {"weight": floats(4), "bias": floats(4), "running_mean": floats(4), "running_var": np.abs(floats(4))}
        x = g.emit("BatchNormalization", x, *(g.param(role, array) for role, array in roles.items()))
    with g.at(source_of("ReLU", "relu1"), "relu1"):
        x = g.emit("Relu", x)
    with g.at(source_of("Scale", "scale"), "scale"):
        y = g.emit("Mul", x, g.param("weight", floats(4, 1, 1)))
    with g.at(source_of("Eltwise", "sum"), "sum"):
        x = g.emit("Add", x, y)
    x = g.emit("Reshape", x, [0, -1])
    with g.at(source_of("InnerProduct", "fc"), "fc"):
        x = g.emit("Gemm", x, g.param("weight", floats(5, 256)), g.param("bias", floats(5)), transB=1)
    g.output(x, "prob")
    return g.finish()


def test_reads_as_written_by_hand():
    text = write_source(small_net(), weights="small.pth")
    forward = text[text.index("    def forward") :]
    assert forward == (
        "    def forward(self, data: torch.Tensor) -> torch.Tensor:\n"
        "        x = self.conv1(data)\n"
        "        x = self.bn1(x)\n"
        "        x = F.relu(x, inplace=True)  # net.prototxt:7 relu1 (ReLU)\n"
        "        y = x * self.scale.weight  # net.prototxt:7 scale (Scale)\n"
        "        x = x + y  # net.prototxt:7 sum (Eltwise)\n"
        "        x = torch.flatten(x, 1)\n"
        "        x = self.fc(x)\n"
        "        return x\n\n\n"
        "def build(weights: str | None = None) -> Small:\n"
        '    """The model in eval mode. weights: the file of its state_dict, such as "small.pth"."""\n'
        "    model = Small()\n"
        "    if weights is not None:\n"
        "        model.load_state_dict(torch.load(weights, weights_only=True))\n"
        "    return model.eval()\n"
    )
    for line in ("self.conv1 = nn.Conv2d(3, 4, 3, padding=1)", "self.bn1 = nn.BatchNorm2d(4)", "self.fc = nn.Linear(256, 5)"):
        assert line in text
    imported = [ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported == ["import torch", "import torch.nn.functional as F", "from torch import nn"]


def test_loads_strictly_from_a_plain_dictionary(tmp_path):
    model = small_net()
    weights = {key: torch.from_numpy(tensor.numpy()) for key, tensor in state_dict(model).items()}
    torch.save(weights, tmp_path / "small.pth")
    namespace: dict = {}
    exec(compile(write_source(model), "small.py", "exec"), namespace)
    module = namespace["build"](str(tmp_path / "small.pth"))
    x = torch.from_numpy(floats(3, 3, 8, 8))
    assert torch.equal(module(x), to_module(model)(x))
    assert [key for key in module.state_dict() if not key.endswith("num_batches_tracked")] == list(weights)
    assert not module.training


def one_parameter(key, array=None, buffer=False):
    g = GraphBuilder("one")
    x = g.input("data", (2, 3))
    path, _, role = key.rpartition(".")
    x = g.emit("Add", x, g.param(role, floats(3) if array is None else array, path=path, buffer=buffer))
    g.output(x, "out")
    return g.finish()


@pytest.mark.parametrize(
    "key", ["weight", "4.0.1.weight", "a.b.weight", "a.0.b-c.weight", "a.max.x", "0.0", "00.weight", "train.weight", "a.train"]
)
def test_keys_are_the_state_dicts(key):
    model = one_parameter(key)
    module = to_module(model)
    assert list(module.state_dict()) == [key]
    np.testing.assert_array_equal(module.state_dict()[key].numpy(), state_dict(model)[key].numpy())


def test_a_module_and_its_child_both_hold_weights():
    g = GraphBuilder("nested")
    x = g.input("data", (1, 3, 4, 4))
    x = g.emit("Conv", x, g.param("weight", floats(2, 3, 1, 1), path="a"))
    x = g.emit("Conv", x, g.param("weight", floats(2, 2, 1, 1), path="a.b"))
    g.output(x, "out")
    module = to_module(g.finish())
    assert list(module.state_dict()) == ["a.weight", "a.b.weight"]
    assert module(torch.zeros(1, 3, 4, 4)).shape == (1, 2, 4, 4)


def test_buffers_and_types():
    for array in (np.array([1, 2, 3], np.int64), floats(3).astype(np.float64), np.float32(2.0), np.zeros((0, 3), np.float32)):
        g = GraphBuilder("typed")
        x = g.input("data", (0, 3) if np.size(array) == 0 else (2, 3), np.asarray(array).dtype)
        g.output(g.emit("Mul", x, g.param("weight", np.asarray(array), path="m", buffer=np.asarray(array).dtype.kind == "i")), "out")
        module = to_module(g.finish())
        held = dict(module.named_buffers()) if np.asarray(array).dtype.kind == "i" else dict(module.named_parameters())
        np.testing.assert_array_equal(held["m.weight"].detach().numpy(), array)


def test_shared_weights_are_one_module():
    g = GraphBuilder("shared")
    x = g.input("data", (1, 3, 4, 4))
    with g.at(source_of("Convolution"), "conv"):
        weight = g.param("weight", floats(3, 3, 1, 1))
    for _ in range(2):
        x = g.emit("Conv", x, weight)
    x = g.emit("Conv", x, weight, strides=[2, 2])
    g.output(x, "out")
    text = write_source(g.finish())
    assert text.count("self.conv(") == 2 and "F.conv2d(x, self.conv.weight, stride=2)" in text


def test_shapes_are_computed_where_the_batch_is_free():
    g = GraphBuilder("shapes", symbolic_batch=True)
    x = g.input("data", (2, 6))
    batch = g.emit("Gather", g.emit("Shape", x), np.array([0], np.int64))
    shape = g.emit("Concat", g.emit("Mul", batch, np.array([2], np.int64)), np.array([-1], np.int64), axis=0)
    g.output(g.emit("Reshape", x, shape), "out")
    model = g.finish()
    assert "x = data.reshape(batch * 2, -1)" in write_source(model)
    assert to_module(model)(torch.zeros(5, 6)).shape == (10, 3)


HOSTILE = ['"""', "\n    import os  # ", "'); raise SystemExit('", "\\", "x\u2028y", "\x1b[31m", "{__import__('os')}", '" + exit() + "']


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_a_file_becomes_code(text):
    g = GraphBuilder(text)
    x = g.input(text, (1, 3))
    with g.at(Source(text, "layer", text, text), "a.b"):
        x = g.emit("Add", x, g.param(text.replace(".", "_") or "r", floats(3)))
    x = g.emit("Gather", x, g.const(RNG.integers(0, 3, 100), role="index" + text.replace(".", "")), axis=1)
    g.output(x, "out" + text)
    source = write_source(g.finish())
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) <= 3
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in ("exit", "SystemExit", "os", "__import__")]
    assert all(c.isascii() and (c.isprintable() or c == "\n") for c in source)
    assert to_module_runs(source)


def to_module_runs(source):
    namespace: dict = {}
    exec(compile(source, "generated.py", "exec"), namespace)
    module = namespace["build"]()
    module.load_state_dict({key: torch.zeros_like(tensor) for key, tensor in module.state_dict().items()})
    return module(torch.zeros(1, 3)).shape == (1, 100)


@pytest.mark.parametrize("name", ["class", "a b", "x;y", "", "é"])
def test_class_names_are_checked(name):
    with pytest.raises(ValueError, match="no name for a Python class"):
        write_source(small_net(), class_name=name)


def test_all_unknown_operators_are_named_at_once():
    x = ir.Value(name="x", shape=ir.Shape([1]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes = []
    for number in range(3):
        value = nodes[-1].outputs[0] if nodes else x
        nodes.append(ir.Node("my.domain", f"Strange{number}", [value], outputs=[ir.Value(name=f"y{number}")], name=f"node{number}"))
    model = ir.Model(ir.Graph([x], [nodes[-1].outputs[0]], nodes=nodes, opset_imports={"": 19, "my.domain": 1}), ir_version=9)
    with pytest.raises(UnsupportedError) as caught:
        to_module(model)
    assert [f"'node{n}' (Strange{n})" in str(caught.value) for n in range(3)] == [True] * 3


def test_constants_are_exact():
    for value in (0.1, 1e-7, np.float32(3.4028235e38), -0.0, float("inf"), float("-inf"), 1 / 3):
        g = GraphBuilder("constant")
        x = g.input("data", (1,))
        g.output(g.emit("Mul", x, np.float32(value)), "out")
        got = to_module(g.finish())(torch.ones(1)).numpy()
        np.testing.assert_array_equal(got.view(np.int32), np.array([value], np.float32).view(np.int32))


def test_names_are_let_go_when_their_value_is_dead():
    g = GraphBuilder("branches")
    x = g.input("data", (1, 4, 4, 4))
    for _ in range(10):
        branches = [g.emit("Relu", x), g.emit("Sigmoid", x), g.emit("Tanh", x)]
        x = g.emit("Concat", *branches, axis=1)
        x = g.emit("Slice", x, [0], [4], [1])
    g.output(x, "out")
    tree = ast.parse(write_source(g.finish()))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    assert len(names) <= 5


INJECTION = 'x" + str(exit()) + "'


def with_attribute(op_type, attribute, shape=(1, 2, 4, 4), inputs=1, opset=19):
    values = [ir.Value(name=f"x{i}", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT)) for i in range(inputs)]
    out = ir.Value(name="y", shape=ir.Shape(shape), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.Node("", op_type, values, [attribute], outputs=[out], name="node")
    return ir.Model(ir.Graph(values, [out], nodes=[node], opset_imports={"": opset}, name="g"), ir_version=9)


@pytest.mark.parametrize(
    ("op_type", "attribute", "inputs"),
    [
        ("GridSample", ir.AttrString("mode", INJECTION), 2),
        ("GridSample", ir.AttrString("padding_mode", "it's"), 2),
        ("Softmax", ir.AttrString("axis", "exit()"), 1),
        ("Concat", ir.AttrStrings("axis", ["exit()"]), 2),
        ("LeakyRelu", ir.AttrString("alpha", "exit()"), 1),
        ("Einsum", ir.AttrString("equation", "ij'+exit()+'"), 1),
        ("Pad", ir.AttrString("mode", INJECTION), 2),
        ("Transpose", ir.AttrString("perm", "exit()"), 1),
        ("Relu", ir.AttrInt64("surprise", 1), 1),
        ("Upsample", ir.AttrString("mode", INJECTION), 2),
        ("TopK", ir.AttrString("axis", INJECTION), 2),
    ],
)
def test_attributes_never_become_code(op_type, attribute, inputs):
    for opset in (9, 19):
        with pytest.raises(UnsupportedError):
            write_source(with_attribute(op_type, attribute, inputs=inputs, opset=opset))


def test_a_state_dict_of_version_1_has_no_counter_of_batches(tmp_path):
    """torch.nn.BatchNorm2d takes it from version 1, or from a state_dict without versions, and loads strictly."""
    weights = collections.OrderedDict((key, torch.from_numpy(tensor.numpy())) for key, tensor in state_dict(small_net()).items())
    weights._metadata = {"bn1": {"version": 1}}
    namespace: dict = {}
    exec(compile(write_source(small_net()), "small.py", "exec"), namespace)
    module = namespace["build"]()
    module.load_state_dict(weights, strict=True)
    assert type(module.bn1) is torch.nn.BatchNorm2d and int(module.bn1.num_batches_tracked) == 0
    np.testing.assert_array_equal(module.bn1.running_mean.numpy(), weights["bn1.running_mean"].numpy())


@pytest.mark.parametrize(("stem", "module"), [("resnet-50.v2", "resnet_50_v2"), ("torch", "torch_"), ("lenet", "lenet")])
def test_what_is_written_can_be_imported(stem, module, tmp_path, monkeypatch):
    converters.save(small_net(), tmp_path / f"{stem}.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"{stem}.pth", f"{module}.py"])
    script = f"import {module}; print(type({module}.build({str(tmp_path / f'{stem}.pth')!r})).__name__)"
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "Small"


def deep_net(depth):
    g = GraphBuilder("deep", symbolic_batch=True)
    x = g.input("data", (1, 3))
    for number in range(3):
        path = ".".join(["0"] * depth + [str(number)])
        with g.at(source_of("nn.Linear", path), path):
            x = g.emit("Relu", x) if number == 1 else g.emit("Gemm", x, g.param("weight", 2 * np.eye(3, dtype=np.float32)), transB=1)
    g.output(x, "out")
    return g.finish()


@pytest.mark.parametrize("depth", [1, 5, 29, 31, 150])
def test_containers_in_containers(depth):
    """Python's parser and its stack take no chain of any depth: deeper ones are called from the outside."""
    module = to_module(deep_net(depth))
    assert list(module.state_dict()) == [f"{'0.' * depth}{number}.weight" for number in (0, 2)]
    assert module(torch.ones(2, 3)).tolist() == [[4.0] * 3] * 2
