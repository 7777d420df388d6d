"""Repeated stretches of a flat net as classes: fewer lines, the same numbers, keys that nest and a map to the names they had."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import converters
from converters.cli import main
from converters.errors import ConversionError
from converters.runtimes.torch import load_written
from converters.tensors.placing import read_map
from converters.writers.source.writer import write_source
from tests.readers.caffe import wire

CONV = 'layer {{ name: "{n}" type: "Convolution" bottom: "{x}" top: "{n}" convolution_param {{ num_output: {c} {more} bias_term: false '
CONV += 'weight_filler {{ type: "constant" value: 0.07 }} }} }}'
RELU = 'layer {{ name: "{n}_relu" type: "ReLU" bottom: "{n}" top: "{n}" }}'


class Prototxt:
    """Layers, one after another."""

    def __init__(self, channels: int, size: int = 12) -> None:
        dims = f"dim: 1 dim: {channels} dim: {size} dim: {size}"
        self.lines = [f'name: "stacked" layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}']

    def conv(self, name: str, x: str, count: int, more: str, *, relu: bool = True) -> str:
        self.lines.append(CONV.format(n=name, x=x, c=count, more=more))
        self.lines += [RELU.format(n=name)] if relu else []
        return name

    def join(self, name: str, kind: str, *bottoms: str) -> str:
        self.lines.append(
            f'layer {{ name: "{name}" type: "{kind}" {" ".join(f"bottom: {b!r}" for b in bottoms)} top: "{name}" }}'.replace("'", '"')
        )
        return name

    def bottleneck(self, name: str, x: str, width: int, *, stride: int = 0) -> str:
        y = self.conv(f"{name}_a", x, width, f"kernel_size: 1 stride: {stride or 1}")
        y = self.conv(f"{name}_b", y, width, "kernel_size: 3 pad: 1")
        y = self.conv(f"{name}_c", y, 4 * width, "kernel_size: 1", relu=False)
        x = self.conv(f"{name}_proj", x, 4 * width, f"kernel_size: 1 stride: {stride}", relu=False) if stride else x
        y = self.join(f"{name}_sum", "Eltwise", y, x)
        self.lines.append(RELU.format(n=y))
        return y

    def load(self, folder: Path) -> converters.onnx_ir.Model:  # type: ignore[name-defined]
        (folder / "net.prototxt").write_text("\n".join(self.lines))
        return converters.load(folder / "net.prototxt", fillers=True)


def resnet(folder: Path) -> object:
    net = Prototxt(3)
    x = net.conv("stem", "data", 8, "kernel_size: 3 pad: 1")
    for stage, (width, count) in enumerate([(4, 3), (8, 4), (16, 5)]):
        for n in range(count):
            x = net.bottleneck(f"s{stage}u{n}", x, width, stride=(1 + (stage > 0)) if n == 0 else 0)
    return net.load(folder)


def densenet(folder: Path) -> object:
    net = Prototxt(4)
    x = "data"
    for n in range(5):
        y = net.conv(f"d{n}_b", net.conv(f"d{n}_a", x, 8, "kernel_size: 1"), 3, "kernel_size: 3 pad: 1")
        x = net.join(f"d{n}_cat", "Concat", x, y)
    net.conv("end", x, 2, "kernel_size: 1")
    return net.load(folder)


def inception(folder: Path) -> object:
    net = Prototxt(6)
    x = "data"
    for n, (a, b, c) in enumerate([(4, 3, 5), (6, 4, 2), (3, 7, 9), (8, 2, 3), (4, 4, 6), (2, 5, 3)]):
        one = net.conv(f"mixed_{n}_1x1", x, a, "kernel_size: 1")
        two = net.conv(f"mixed_{n}_3x3", net.conv(f"mixed_{n}_3x3_reduce", x, b, "kernel_size: 1"), c, "kernel_size: 3 pad: 1")
        x = net.join(f"mixed_{n}_out", "Concat", one, two)
        if n == 1:
            net.lines.append(
                f'layer {{ name: "pool" type: "Pooling" bottom: "{x}" top: "pool" pooling_param {{ kernel_size: 2 stride: 2 }} }}'
            )
            x = "pool"
    net.conv("end", x, 2, "kernel_size: 1")
    return net.load(folder)


def separable(folder: Path) -> object:
    net = Prototxt(8)
    x = "data"
    for n, (before, count, stride) in enumerate([(8, 16, 1), (16, 16, 2), (16, 24, 1), (24, 24, 1), (24, 24, 1), (24, 24, 1)]):
        for name, outputs, more in (
            (f"dw{n}", before, f"kernel_size: 3 pad: 1 group: {before} stride: {stride}"),
            (f"pw{n}", count, "kernel_size: 1"),
        ):
            net.lines.append(CONV.format(n=name, x=x, c=outputs, more=more))
            net.lines += [RELU.format(n=name), f'layer {{ name: "{name}_t" type: "TanH" bottom: "{name}" top: "{name}" }}']
            x = name
    return net.load(folder)


pytestmark = pytest.mark.filterwarnings("ignore:no weights were given")
NETS = {
    "resnet": (
        resnet,
        3,
        [
            "class BottleneckProjection(nn.Module):",
            "def __init__(self, channels: int) -> None:",
            "BottleneckProjection(16, stride=2), *(Bottleneck(32) for _ in range(3))",
            "BottleneckProjection(32, stride=2), *(Bottleneck(64) for _ in range(4))",
            "x = self.layer3(x)",
        ],
        "layer2.3.c.weight",
        "s1u3_c.weight",
    ),
    "densenet": (
        densenet,
        4,
        ["self.layer1 = nn.Sequential(*(DenseLayer(4 + 3 * n) for n in range(5)))"],
        "layer1.4.b.weight",
        "d4_b.weight",
    ),
    "inception": (
        inception,
        6,
        ["class Inception(nn.Module):", "self.branch_3x3_reduce = nn.Conv2d(in_channels, branch_3x3_reduce_channels, 1, bias=False)"],
        "layer2.1.branch_3x3.weight",
        "mixed_3_3x3.weight",
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_what_repeats_becomes_a_class(name: str, tmp_path: Path) -> None:
    make, channels, texts, key, before = NETS[name]
    model = make(tmp_path)
    converters.save(model, tmp_path / "net.pth", blocks=True)
    source = (tmp_path / "net.py").read_text()
    assert all(text in " ".join(source.split()) for text in texts), source
    assert len(source.splitlines()) < len(write_source(model).splitlines())
    known = read_map(tmp_path / "net.keys.json")
    assert known.entries[key].sources == (before,)
    flat, nested = converters.to_module(model), load_written(tmp_path / "net.pth", tmp_path / "net.py")
    placed = known.apply({key: tensor.numpy() for key, tensor in flat.state_dict().items()})
    assert {key: tuple(array.shape) for key, array in placed.items()} == {key: tuple(t.shape) for key, t in nested.state_dict().items()}
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(2, channels, 12, 12)).astype(np.float32))
    with torch.no_grad():
        want = flat(x)
        for made in (nested, torch.fx.symbolic_trace(nested), torch.jit.script(nested), torch.export.export(nested, (x,)).module()):
            assert torch.equal(made(x), want)


def test_a_chain_without_branches(tmp_path: Path) -> None:
    """Depthwise and pointwise convolutions by turns: each block begins with a convolution, and a row of equal ones is a loop."""
    source = " ".join(write_source(separable(tmp_path), blocks=True).split())
    assert "groups=in_channels" in source and "Block(8, 16), Block(16, 16, stride=2)" in source and "for _ in range(3))" in source


def test_nothing_repeats(tmp_path: Path) -> None:
    net = Prototxt(3)
    net.conv("b", net.conv("a", "data", 4, "kernel_size: 3"), 5, "kernel_size: 5")
    model = net.load(tmp_path)
    assert write_source(model, blocks=True) == write_source(model)


def test_names_of_a_file_become_no_code(tmp_path: Path) -> None:
    net = Prototxt(4)
    x = "data"
    for n in range(4):
        y = net.conv(f'b{n}\\"\\"\\"); import os #', x, 4, "kernel_size: 3 pad: 1")
        y = net.conv(f"b{n}_two", y, 4, "kernel_size: 3 pad: 1", relu=False)
        x = net.join(f"b{n}_sum", "Eltwise", y, x)
    converters.save(net.load(tmp_path), tmp_path / "net.pth", blocks=True)
    source = (tmp_path / "net.py").read_text()
    assert "class Residual" in source and not [line for line in source.splitlines() if line.startswith("import os")]
    load_written(tmp_path / "net.pth", tmp_path / "net.py")


def test_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = converters.to_module(resnet(tmp_path)).state_dict()
    blobs = {key.removesuffix(".weight"): [tensor.numpy()] for key, tensor in weights.items()}
    (tmp_path / "net.caffemodel").write_bytes(wire.caffemodel(blobs))
    words = ["caffe2torch", str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"), str(tmp_path / "out.pth"), "--blocks"]
    assert main([*words, "--verify", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [Path(path).name for path in facts["written"]] == ["out.pth", "out.py", "out.keys.json"]
    assert main(words) == 1  # the files are there
    assert main([*words[:3], str(tmp_path / "o.safetensors"), *words[4:]]) == 2
    with pytest.raises(ConversionError, match="blocks go with a source"):
        converters.save(resnet(tmp_path), tmp_path / "out.onnx", blocks=True)
