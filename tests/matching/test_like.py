"""--like, --map and --rename: the weights under the keys of a class of one's own, from the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import converters
from converters.cli import main
from converters.tensors.placing import read_map, renamed

torch = pytest.importorskip("torch")
DIGITS = Path(__file__).parents[2] / "fixtures" / "digits"
LUA = str(DIGITS / "torch7" / "digits.t7")
OWN = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, pool=nn.MaxPool2d):
        super().__init__()
        self.head = nn.Linear(32, 10)
        self.squeeze = nn.Linear(256, 32)
        self.inner2 = nn.Conv2d(16, 16, 3, padding=1)
        self.inner1 = nn.Conv2d(16, 16, 3, padding=1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(16), nn.BatchNorm2d(16), nn.BatchNorm2d(16)])
        self.first = nn.Conv2d(1, 16, 3)
        self.pool1, self.pool2 = pool(3, 2, ceil_mode=True), pool(2, 2, ceil_mode=True)

    def forward(self, x):
        x = self.pool1(torch.relu(self.norms[0](self.first(x))))
        y = torch.relu(self.norms[1](self.inner1(x)))
        x = torch.relu(x + self.norms[2](self.inner2(y)))
        x = torch.relu(self.squeeze(torch.flatten(self.pool2(x), 1)))
        return torch.log_softmax(self.head(x), 1)


def right():
    return Own()


def wrong():
    return Own(nn.AvgPool2d)
"""


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "own_net.py").write_text(OWN)
    sys.modules.pop("own_net", None)
    yield folder
    sys.modules.pop("own_net", None)


def test_a_class_of_ones_own_and_the_map_of_it(code, tmp_path, capsys):
    target, keys = tmp_path / "own.pth", tmp_path / "keys.json"
    words = ["lua2torch", LUA, str(target), "--input", "1x1x16x16", "--like", "own_net:right", "--code", str(code), "--map", str(keys)]
    assert main(words) == 1 and "--trust" in capsys.readouterr().err and not target.exists() and not keys.exists()
    assert main([*words, "--trust", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["matched"]["proven"] is True and told["written"] == [str(target)] and not (tmp_path / "own.py").exists()
    sys.path.insert(0, str(code))
    try:
        import own_net
    finally:
        sys.path.remove(str(code))
    module = own_net.right().eval()
    module.load_state_dict(torch.load(target, weights_only=True), strict=True)
    model = converters.load(LUA, inputs={"input": (1, 1, 16, 16)})
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 1, 16, 16)).astype(np.float32))
    assert torch.allclose(module(x), converters.to_module(model)(x), atol=1e-5)
    found = read_map(keys)
    assert found.proven and found.entries["first.weight"].sources == ("0.weight",) and found.entries["first.weight"].how == "copy"
    again = tmp_path / "again.pth"
    assert main(["lua2torch", LUA, str(again), "--input", "1x1x16x16", "--map", str(keys)]) == 0
    one, two = torch.load(target, weights_only=True), torch.load(again, weights_only=True)
    assert set(one) - set(two) == {f"norms.{i}.num_batches_tracked" for i in range(3)} and all(
        torch.equal(one[key], two[key]) for key in two
    )


def test_a_wrong_class_is_refused_with_the_layer(code, tmp_path, capsys):
    target = tmp_path / "own.pth"
    words = ["lua2torch", LUA, str(target), "--input", "1x1x16x16", "--like", "own_net:wrong", "--code", str(code), "--trust"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "pool1" in said and "SpatialMaxPooling" in said and not target.exists()


def test_weights_alone_by_names_order_and_shapes(tmp_path, capsys):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "small_net.py").write_text(
        "from torch import nn\n\n\ndef make():\n    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))\n    return net\n"
    )
    torch.save(
        {"a.weight": torch.ones(3, 4), "a.bias": torch.ones(3), "b.weight": torch.ones(2, 3), "b.bias": torch.zeros(2)}, tmp_path / "w.pth"
    )
    words = ["strip-to-weights", str(tmp_path / "w.pth"), str(tmp_path / "out.pth"), "--like", "small_net:make", "--code", str(folder)]
    assert main([*words, "--trust", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["matched"] == {"keys": 4, "proven": False}
    assert list(torch.load(tmp_path / "out.pth", weights_only=True)) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_the_current_folder_is_not_looked_in(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(code)
    monkeypatch.syspath_prepend("")
    words = ["lua2torch", LUA, str(tmp_path / "o.pth"), "--input", "1x1x16x16", "--like", "own_net:right", "--trust"]
    assert main(words) == 1 and "can't be imported from the installed packages" in capsys.readouterr().err


INSTALLED = """
import torch
from torch import nn


def small():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
"""


@pytest.fixture
def environment(tmp_path):
    """What a shell has where a package `netshop` is installed, and the current folder holds another of that name."""
    site, here = tmp_path / "site-packages", tmp_path / "here"
    for folder in (site / "netshop", here / "netshop"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("" if folder.parent == site else "raise SystemExit('the current folder was looked in')")
    (site / "netshop" / "nets.py").write_text(INSTALLED)
    (here / "hereonly.py").write_text(INSTALLED)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    torch.save(net, here / "whole.pth")
    torch.save(net.state_dict(), here / "weights.pth")
    root = Path(__file__).parents[2]

    def convert(*words):
        settings = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{site}"}
        return subprocess.run([sys.executable, "-m", "converters", *words], cwd=here, env=settings, capture_output=True, text=True)

    return convert, here


def test_an_installed_class_is_found_without_code_and_the_current_folder_is_none(environment):
    convert, here = environment
    done = convert("torch2onnx", "weights.pth", "a.onnx", "--input", "1x4", "--model", "netshop.nets:small")
    assert done.returncode == 1 and "--code DIR --trust" in done.stderr, "no code runs untrusted"
    done = convert("torch2onnx", "weights.pth", "a.onnx", "--input", "1x4", "--model", "netshop.nets:small", "--trust")
    assert done.returncode == 0 and "the installed packages" in done.stderr and (here / "a.onnx").exists(), done.stderr
    done = convert("onnx2torch", "a.onnx", "like.pth", "--like", "netshop.nets:small", "--trust", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["matched"] == {"keys": 4, "proven": True}, done.stderr
    for words in (["torch2onnx", "weights.pth", "b.onnx", "--input", "1x4", "--model"], ["onnx2torch", "a.onnx", "b.pth", "--like"]):
        done = convert(*words, "hereonly:small", "--trust")
        assert done.returncode == 1 and not (here / words[2]).exists(), done.stderr
        assert convert(*words, "hereonly:small", "--trust", "--code", ".").returncode == 0


def test_patterns():
    names = ["features.0.weight", "features.3.bias", "fc.weight"]
    assert renamed(names, [("features.*", "backbone.block*")]) == {
        "features.0.weight": "backbone.block0.weight",
        "features.3.bias": "backbone.block3.bias",
        "fc.weight": "fc.weight",
    }
    assert renamed(names, [("features", ""), ("fc.weight", "head")])["fc.weight"] == "head"
    with pytest.raises(converters.ConversionError, match="no name is like 'conv'"):
        renamed(names, [("conv", "x")])
    with pytest.raises(converters.ConversionError, match="would both be called"):
        renamed(["a.w", "b.w"], [("a", "b")])
    with pytest.raises(converters.ConversionError, match="more"):
        renamed(names, [("fc", "*")])


def test_rename_from_the_command(tmp_path):
    assert main(["strip-to-weights", LUA, str(tmp_path / "w.safetensors"), "--rename", "4.0=block", "--rename", "0=stem"]) == 0
    keys = list(converters.load_weights(tmp_path / "w.safetensors"))
    assert "stem.weight" in keys and "block.0.weight" in keys and "9.weight" in keys
    report = converters.strip_to_weights(LUA, tmp_path / "again.safetensors", rename=[("4.0", "block"), ("0", "stem")])
    assert list(converters.load_weights(report.path)) == keys


@pytest.mark.parametrize(
    "text", ["", "[]", '{"keys": {"a": {"how": "run", "from": ["b"]}}}', '{"keys": {"a": {"how": "copy", "from": []}}}']
)
def test_what_is_no_map(text, tmp_path):
    (tmp_path / "keys.json").write_text(text or "nonsense")
    with pytest.raises(converters.FormatError, match="is no map of keys"):
        read_map(tmp_path / "keys.json")
