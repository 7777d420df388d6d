"""strip-to-weights of every family, to .pth and .safetensors, against the framework's numbers as each reader gives them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import converters
from converters.errors import ConversionError
from tests.conformance import FIXTURES
from tests.readers.torch7.lua import dumps, module

DIGITS = FIXTURES / "digits"
FILES = {
    "Caffe": (DIGITS / "caffe" / "digits.caffemodel", "file of Caffe weights"),
    "Caffe, HDF5": (DIGITS / "caffe" / "digits.caffemodel.h5", "file of Caffe weights"),
    "Lua Torch": (DIGITS / "torch7" / "digits.t7", "Lua Torch file"),
    "MXNet": (DIGITS / "mxnet" / "digits-0010.params", "file of MXNet parameters"),
    "PyTorch": (DIGITS / "pytorch" / "digits_whole.pth", "zip checkpoint"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_family(name: str, tmp_path: Path) -> None:
    path, form = FILES[name]
    want = {name: np.asarray(weight) for name, weight in converters.load_weights(path).items()}
    for target in ("out.pth", "out.safetensors"):
        report = converters.strip_to_weights(path, tmp_path / target)
        assert report.path == tmp_path / target and report.form == form and form in str(report)
        again = report.path.suffix == ".safetensors"
        got = safetensors.torch.load_file(report.path) if again else torch.load(report.path, weights_only=True)
        assert sorted(got) == sorted(want)
        for key, array in want.items():
            np.testing.assert_array_equal(got[key].numpy(), array)
    back = converters.strip_to_weights(tmp_path / "out.safetensors", tmp_path / "back.pth")
    assert back.form == "safetensors file" and sorted(torch.load(back.path, weights_only=True)) == sorted(want)


def without_weights(folder: Path) -> dict[str, Path]:
    """A caffemodel that was cut behind its first layer's name, no tensors in a safetensors file, an ONNX net of a ReLU, no parameters."""
    import onnx

    files = {kind: folder / kind for kind in ("net.caffemodel", "net.safetensors", "net.onnx", "net.params")}
    files["net.caffemodel"].write_bytes(b"\n\x03net\xa2\x06\x07\n\x05conv1")
    files["net.safetensors"].write_bytes(struct.pack("<Q", 2) + b"{}")
    files["net.params"].write_bytes(struct.pack("<4Q", 0x112, 0, 0, 0))
    kind = onnx.helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, [2])
    ends = [onnx.helper.make_value_info(name, kind) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "net", ends[:1], ends[1:])
    files["net.onnx"].write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return files


@pytest.mark.parametrize("kind", ["net.caffemodel", "net.safetensors", "net.onnx", "net.params"])
def test_a_file_without_weights_is_refused(kind: str, tmp_path: Path) -> None:
    """It was written as a file of nothing, and the command said that it was done."""
    with pytest.raises(converters.ConversionError, match=rf"{kind}: there are no weights in it"):
        converters.strip_to_weights(without_weights(tmp_path)[kind], tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_onnx_gives_the_keys_of_its_graph(tmp_path: Path) -> None:
    model = converters.load(DIGITS / "caffe" / "deploy.prototxt", DIGITS / "caffe" / "digits.caffemodel")
    converters.save(model, tmp_path / "net.onnx")
    report = converters.strip_to_weights(tmp_path / "net.onnx")
    assert report.path == tmp_path / "net_weights.pth" and report.form == "ONNX model"
    got = torch.load(report.path, weights_only=True)
    want = converters.load_weights(DIGITS / "caffe" / "digits.caffemodel")
    assert sorted(got) == sorted(want)
    for key, weight in want.items():
        np.testing.assert_array_equal(got[key].numpy(), np.asarray(weight).reshape(got[key].shape))


def test_a_frozen_graph_is_refused_by_name(tmp_path: Path) -> None:
    node = b"\x0a\x01w\x12\x05Const"  # GraphDef: node { name: "w" op: "Const" }
    (tmp_path / "frozen.pb").write_bytes(b"\x0a" + bytes([len(node)]) + node + b"\x22\x02\x08\x1b")
    with pytest.raises(
        ConversionError, match=r"frozen\.pb: this is a TensorFlow graph.*give the checkpoint; convert tf2torch reads the graph"
    ):
        converters.strip_to_weights(tmp_path / "frozen.pb", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


def test_what_a_t7_holds_beside_its_weights_is_named(tmp_path: Path) -> None:
    def tensor(*values: float) -> Any:
        return np.array(values, np.float32)

    linear = module("nn.Linear", weight=tensor(1, 2), gradWeight=tensor(3, 4), output=tensor(5), gradInput=tensor())
    model = module("nn.Sequential", linear, output=tensor(6))
    path = tmp_path / "m.t7"
    path.write_bytes(dumps({"model": model, "optimState": {"dfdx": tensor(7, 8), "step": 3}}))
    report = converters.strip_to_weights(path)
    assert list(torch.load(report.path, weights_only=True)) == ["0.weight"]
    assert {(entry.path, entry.type, entry.shape) for entry in report.left_out} == {
        ("model.modules[1].gradWeight", "gradient", (2,)),
        ("model.modules[1].output", "buffer", (1,)),
        ("model.output", "buffer", (1,)),
        ("optimState.dfdx", "tensor", (2,)),
    }
    assert "model.modules[1].gradWeight" in str(report) and "model: 2 buffers" in str(report) and "optimState.dfdx" in str(report)
