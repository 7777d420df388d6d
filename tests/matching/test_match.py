"""Weights onto classes of other names, order and nesting: what matches gives the same outputs, what doesn't is refused by name."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import converters
from converters.errors import ConversionError
from converters.graph.builder import GraphBuilder
from tests.readers.caffe import wire

RNG = np.random.default_rng(3)
NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "left" type: "Convolution" bottom: "data" top: "left" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "right" type: "Convolution" bottom: "data" top: "right" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "both" type: "Concat" bottom: "left" bottom: "right" top: "both" }
layer { name: "act" type: "ReLU" bottom: "both" top: "act" relu_param { negative_slope: 0.1 } }
layer { name: "bn" type: "BatchNorm" bottom: "act" top: "bn" batch_norm_param { eps: 0.001 } }
layer { name: "bn_scale" type: "Scale" bottom: "bn" top: "bn" scale_param { bias_term: true } }
layer { name: "pool" type: "Pooling" bottom: "bn" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


BLOBS = {
    "left": [draw(4, 3, 3, 3), draw(4)],
    "right": [draw(4, 3, 3, 3), draw(4)],
    "bn": [draw(8), np.abs(draw(8)) + 0.5, np.ones(1, np.float32)],
    "bn_scale": [draw(8), draw(8)],
    "fc": [draw(5, 128), draw(5)],
}
KEYS = {
    "head.weight": "fc.weight",
    "head.bias": "fc.bias",
    "norm.weight": "bn.weight",
    "norm.bias": "bn.bias",
    "norm.running_mean": "bn.running_mean",
    "norm.running_var": "bn.running_var",
    "first.weight": "left.weight",
    "first.bias": "left.bias",
    "second.weight": "right.weight",
    "second.bias": "right.bias",
}


class Net(nn.Module):
    """The net of the file in other words; each option makes it another one."""

    def __init__(self, *, swapped: bool = False, slope: float = 0.1, eps: float = 1e-3, classes: int = 5, average: bool = False) -> None:
        super().__init__()
        self.head = nn.Linear(128, classes)  # registered before what runs before it
        self.norm = nn.BatchNorm2d(8, eps=eps)
        self.second, self.first = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.squeeze = nn.AvgPool2d(2) if average else nn.MaxPool2d(2)
        self.leaky = nn.LeakyReLU(slope)
        self.swapped = swapped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.swapped:  # runs its branches the other way round, and joins them as the file does
            right = self.second(x)
            both = torch.cat([self.first(x), right], 1)
        else:
            both = torch.cat([self.first(x), self.second(x)], 1)
        return self.head(torch.flatten(self.squeeze(self.norm(self.leaky(both))), 1))


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma.view(-1, 1, 1) + self.beta.view(-1, 1, 1)


class Apart(Net):
    """Caffe's pair: a BatchNorm without parameters, and a Scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Sequential(nn.BatchNorm2d(8, eps=1e-3, affine=False), Scale(8))


@pytest.fixture
def model(tmp_path: Path) -> ir.Model:
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "net.caffemodel").write_bytes(wire.caffemodel(BLOBS))
    return converters.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel")


def logits(x: np.ndarray) -> np.ndarray:
    """The file's net in plain torch functions, up to the softmax."""
    blobs = {name: [torch.from_numpy(array) for array in arrays] for name, arrays in BLOBS.items()}
    t = torch.from_numpy(x)
    t = torch.cat([F.conv2d(t, *blobs[name], padding=1) for name in ("left", "right")], 1)
    t = F.batch_norm(F.leaky_relu(t, 0.1), *blobs["bn"][:2], *blobs["bn_scale"], eps=1e-3)
    return F.linear(torch.flatten(F.max_pool2d(t, 2), 1), *blobs["fc"]).numpy()


@pytest.mark.parametrize("swapped", [False, True])
def test_other_names_and_order(model: ir.Model, swapped: bool) -> None:
    module = Net(swapped=swapped).eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = converters.match(model, module)
    assert found.proven and found.keys == KEYS
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())  # it is left as it was
    module.load_state_dict(found.apply(), strict=True)
    x = draw(3, 3, 8, 8)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), logits(x), rtol=1e-4, atol=1e-4)


def test_batch_norm_and_scale_apart(model: ir.Model) -> None:
    module = Apart().eval()
    found = converters.match(model, module)
    assert found.keys["norm.1.gamma"] == "bn.weight" and found.keys["norm.0.running_var"] == "bn.running_var"
    module.load_state_dict(found.apply(), strict=True)
    x = draw(2, 3, 8, 8)
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)).numpy(), logits(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"slope": 0.01}, ["act (ReLU)", "leaky"]),
        ({"eps": 1e-5}, ["bn", "norm"]),
        ({"classes": 7}, ["fc", "head", "(5, 128)"]),
        ({"average": True}, ["pool (Pooling)", "squeeze"]),
    ],
)
def test_classes_that_compute_something_else(model: ir.Model, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConversionError) as caught:
        converters.match(model, Net(**options))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_class_that_stops_early(model: ir.Model) -> None:
    class Features(Net):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Identity()  # type: ignore[assignment]

    with pytest.raises(ConversionError, match="has no place for fc"):
        converters.match(model, Features())


def branches_net(blocks: int) -> tuple[str, dict[str, list[np.ndarray]]]:
    """Blocks of three branches that begin with equal convolutions of one value, and are joined."""
    lines = ['layer { name: "data" type: "Input" top: "j" input_param { shape { dim: 1 dim: 8 dim: 6 dim: 6 } } }']
    blobs: dict[str, list[np.ndarray]] = {}

    def convolution(name: str, bottom: str, inputs: int, size: int) -> str:
        param = f"num_output: 8 kernel_size: {size} pad: {size // 2}"
        lines.append(f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ {param} }} }}')
        lines.append(f'layer {{ name: "{name}r" type: "ReLU" bottom: "{name}" top: "{name}" }}')
        blobs[name] = [draw(8, inputs, size, size) / size / 3, draw(8)]
        return name

    x = "j"
    for n in range(blocks):
        a = convolution(f"a{n}", x, 8, 1)
        b = convolution(f"bb{n}", convolution(f"b{n}", x, 8, 1), 8, 3)
        c = convolution(f"ccc{n}", convolution(f"cc{n}", convolution(f"c{n}", x, 8, 1), 8, 3), 8, 3)
        d = convolution(f"d{n}", x, 8, 1)
        lines.append(f'layer {{ name: "cat{n}" type: "Concat" bottom: "{a}" bottom: "{b}" bottom: "{c}" bottom: "{d}" top: "cat{n}" }}')
        x = convolution(f"join{n}", f"cat{n}", 32, 1)
    return "\n".join(lines), blobs


class Branches(nn.Module):
    """branches_net in another order, under names that say nothing."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Conv2d(8, 8, k, padding=k // 2) for k in (1, 3, 3, 1, 1, 3, 1)) for _ in range(blocks))
        self.joins = nn.ModuleList(nn.Conv2d(32, 8, 1) for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for convolutions, join in zip(self.blocks, self.joins, strict=True):
            c, cc, ccc, d, b, bb, a = convolutions
            last = F.relu(d(x))
            third = F.relu(ccc(F.relu(cc(F.relu(c(x))))))
            first = F.relu(a(x))
            x = F.relu(join(torch.cat([first, F.relu(bb(F.relu(b(x)))), third, last], 1)))
        return x


def test_equal_branches_are_told_apart_by_what_is_around_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By trying alone, 24 orders of each block would be gone through."""
    monkeypatch.setattr("converters.matching.following.SECONDS", 0.0)  # the first try is right
    text, blobs = branches_net(6)
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "net.caffemodel").write_bytes(wire.caffemodel(blobs))
    found = converters.match(converters.load(tmp_path / "net.prototxt", tmp_path / "net.caffemodel"), Branches(6))
    names = ["c", "cc", "ccc", "d", "b", "bb", "a"]
    assert all(found.keys[f"blocks.{n}.{i}.weight"] == f"{name}{n}.weight" for n in range(6) for i, name in enumerate(names))


class Stack(nn.Module):
    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))


def test_weights_alone_by_their_shapes() -> None:
    weights = {
        f"module.fc{i}.{role}": draw(*shape)
        for i, (a, b) in enumerate([(3, 4), (4, 5)])
        for role, shape in (("weight", (b, a)), ("bias", (b,)))
    }
    found = converters.match(weights, Stack(3, 4, 5))
    assert not found.proven
    assert found.keys == {f"layers.{i}.{role}": f"module.fc{i}.{role}" for i in (0, 1) for role in ("weight", "bias")}
    np.testing.assert_array_equal(found.apply()["layers.1.weight"].numpy(), weights["module.fc1.weight"])


def test_weights_alone_with_the_same_names() -> None:
    module = Stack(4, 4, 4)
    weights = {f"module.{name}": tensor.numpy() for name, tensor in module.state_dict().items()}
    assert converters.match(weights, module).keys == {name: f"module.{name}" for name in module.state_dict()}


def test_weights_alone_that_are_ambiguous() -> None:
    weights = {f"fc{i}.{role}": draw(*shape) for i in (0, 1) for role, shape in (("weight", (4, 4)), ("bias", (4,)))}
    with pytest.raises(ConversionError, match=r"layers\.0, layers\.1 of your class and fc0, fc1 of the file have the same shapes"):
        converters.match(weights, Stack(4, 4, 4))


def test_weights_of_another_class() -> None:
    with pytest.raises(
        ConversionError, match=r"'layers\.0' of your class \(bias 4, weight 4x3\)|'layers\.0' of your class \(weight 4x3, bias 4\)"
    ):
        converters.match({"fc.weight": draw(9, 9)}, Stack(3, 4))


def test_no_compiler_is_imported() -> None:
    """torch imports it, which takes more than a second, for a mode that doesn't say that nothing is compiled."""
    code = """
import sys, torch, converters
model = converters.load("fixtures/digits/caffe/deploy.prototxt", "fixtures/digits/caffe/digits.caffemodel")
try:
    converters.match(model, torch.nn.Conv2d(1, 8, 5))
except converters.ConversionError:
    assert "torch._dynamo" not in sys.modules
else:
    raise SystemExit("matched")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TwoInputs(nn.Module):
    """One layer for each input; the order in which they are given is the author's."""

    def __init__(self, *, swapped: bool, softmax: bool = True) -> None:
        super().__init__()
        self.p, self.q, self.swapped, self.softmax = nn.Linear(6, 4), nn.Linear(6, 4), swapped, softmax

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        x, y = (other, one) if self.swapped else (one, other)
        out = self.p(x) - 2 * self.q(y)
        return torch.softmax(out, 1) if self.softmax else out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"swapped": False}, []),
        ({"swapped": True}, ["your class takes the inputs in this order: b, a"]),
        ({"swapped": False, "softmax": False}, ["your class ends before the file's Softmax: it answers what goes in there"]),
    ],
)
def test_what_a_class_does_otherwise_at_its_ends_is_said(options: dict[str, bool], said: list[str]) -> None:
    """Inputs in another order and answers before the softmax are a match, but no call of the class as it was of the file."""
    g = GraphBuilder("two", symbolic_batch=True)
    a, b = g.input("a", (2, 6)), g.input("b", (2, 6))
    p = g.emit("Gemm", a, g.param("weight", draw(4, 6), path="p"), g.param("bias", draw(4), path="p"), transB=1)
    q = g.emit("Gemm", b, g.param("weight", draw(4, 6), path="q"), g.param("bias", draw(4), path="q"), transB=1)
    two = g.const(np.array(2, np.float32))
    g.output(g.emit("Softmax", g.emit("Sub", p, g.emit("Mul", q, two)), axis=1), "y")
    found = converters.match(g.finish(), TwoInputs(**options))
    assert found.proven and found.notes == said
