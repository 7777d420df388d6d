"""inspect: what a file of each format is, its layers, shapes, parameters and FLOPs, and everything that can't be converted at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import converters
from converters import cli
from converters.inspection.result import NARROWEST, lines, text
from converters.registry import stated_facts
from tests.work import at_most

DIGITS = Path(__file__).parents[2] / "fixtures" / "digits"
NET = """
name: "net"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 10 dim: 3 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
"""
# counted by hand: products of a convolution = outputs x (channels of a group x kernel), of a linear layer = its matrix
SHAPES = {
    "caffe/deploy.prototxt": ({"conv1": [1, 16, 14, 14], "pool1": [1, 16, 7, 7], "drop1": [1, 32], "prob": [1, 10]}, {}),
    "torch7/digits.t7": ({"0": [1, 16, 14, 14], "3": [1, 16, 7, 7], "9": [1, 32], "13": [1, 10]}, {"": (1, 1, 16, 16)}),
    "mxnet/digits-symbol.json": ({"conv1": [1, 16, 14, 14], "pool1": [1, 16, 7, 7], "softmax": [1, 10]}, {"": (1, 1, 16, 16)}),
}
CONVOLUTIONS = 16 * 14 * 14 * 9 + 2 * 16 * 7 * 7 * 16 * 9


@pytest.mark.parametrize("name", SHAPES)
def test_the_layers_of_each_format(name):
    shapes, inputs = SHAPES[name]
    found = converters.inspect(DIGITS / name, inputs=inputs)
    layers = {layer.name: layer for layer in found.layers}
    assert {layer: [list(shape) for shape in layers[layer].outputs] for layer in shapes} == {k: [v] for k, v in shapes.items()}
    more = 2 * 16 * 4 * 4 * 16 * 9 + 160 if "mxnet" in name else 16 * 4 * 4 * 32 + 320
    assert found.flops == CONVOLUTIONS + more
    assert found.parameters == sum(layer.parameters or 0 for layer in found.layers)
    assert not found.unsupported and found.framework in ("Caffe", "Lua Torch", "MXNet")


def test_a_tensorflow_graph():
    """Counted by hand, as above: SAME padding keeps 16 x 16, then a stride of 2; scale is fixed, so a normalization learns its offset."""
    found = converters.inspect(DIGITS / "tensorflow/digits.pb")
    layers = {layer.name: layer for layer in found.layers}
    assert [*found.inputs] == ["images"] and found.outputs["Predictions/Reshape_1"].shape == ("N", 10)
    assert layers["Conv1/Conv2D"].outputs == (("N", 16, 16, 16),) and layers["Conv1/Conv2D"].parameters == 16 * 9
    assert layers["Conv2/Conv2D"].flops == 24 * 4 * 4 * 16 * 9 and layers["Hidden/MatMul"].parameters == 96 * 32 + 32
    assert found.flops == 16 * 16 * 16 * 9 + 24 * 4 * 4 * 16 * 9 + 96 * 32 + 32 * 10
    assert not any(layer.name.endswith("/read") for layer in found.layers)


def test_a_tensorflow_graph_of_training_proposes_outputs():
    found = converters.inspect(DIGITS / "tensorflow/digits.ckpt.meta")
    assert [*found.inputs] == ["images", "labels"] and found.inputs["images"].dtype == "float32"
    assert "Predictions/Reshape_1" in found.outputs and not any("gradients" in name for name in found.outputs)
    assert any("doesn't say what its output is" in note for note in found.notes)


def test_parameters_are_those_of_the_weights():
    """Counted from the tensors, without a graph, and from the graph: the same."""
    for files in (["caffe/digits.caffemodel"], ["torch7/digits.t7"]):
        weights = converters.load_weights(DIGITS / files[0])
        learnt = sum(int(np.prod(tensor.shape)) for name, tensor in weights.items() if "running" not in name)
        assert converters.inspect(DIGITS / files[0]).parameters == learnt
    assert converters.inspect(DIGITS / "caffe/deploy.prototxt").parameters == 13402
    params = converters.inspect(DIGITS / "mxnet/digits-0010.params")
    symbol = converters.inspect(DIGITS / "mxnet/digits-symbol.json", inputs={"data": (1, 1, 16, 16)})
    assert params.parameters == symbol.parameters and params.buffers == symbol.buffers == 160


def test_a_prototxt_s_batch_is_its_own_and_flops_are_one_item_s(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    found = converters.inspect(path)
    conv = found.layers[1]
    assert conv.outputs == ((10, 4, 7, 7),) and conv.flops == 4 * 7 * 7 * 3 * 9 and conv.line == 4
    assert found.tensors["conv.weight"].shape == (4, 3, 3, 3) and found.inputs["data"].shape == (10, 3, 9, 9)
    assert converters.inspect(path, inputs={"data": (2, 3, 11, 11)}).layers[1].outputs == ((2, 4, 9, 9),)


def test_everything_that_is_wrong_at_once(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        NET
        + """
layer { name: "odd" type: "Odd" bottom: "conv" top: "odd" }
layer { name: "after" type: "ReLU" bottom: "odd" top: "after" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 2 pad: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "relu" relu_param { slope: 1 } }
layer { name: "good" type: "ReLU" bottom: "conv" top: "good" }
layer { name: "odd2" type: "Odder" bottom: "good" top: "odd2" }
"""
    )
    found = converters.inspect(path)
    assert {(entry.layer, entry.line) for entry in found.unsupported} == {("odd", 6), ("pool", 8), ("relu", 9), ("odd2", 11)}
    assert "--plugin" in (found.unsupported[0].hint or "") and len(found.unsupported) == 4
    assert {layer.name: layer.outputs for layer in found.layers}["good"] == ((10, 4, 7, 7),)


def test_unknown_operators_and_modules_by_name(tmp_path):
    symbol = json.loads((DIGITS / "mxnet/digits-symbol.json").read_text())
    for node in symbol["nodes"]:
        node["op"] = {"Pooling": "Pooring", "Flatten": "Fratten"}.get(node["op"], node["op"])
    path = tmp_path / "net-symbol.json"
    path.write_text(json.dumps(symbol))
    found = converters.inspect(path, inputs={"data": (1, 1, 16, 16)})
    assert [entry.layer for entry in found.unsupported] == ["pool1", "pool2", "pool3", "flatten0"]
    lua = tmp_path / "net.t7"
    lua.write_bytes((DIGITS / "torch7/digits.t7").read_bytes().replace(b"nn.LogSoftMax", b"nn.LagSoftMax"))
    assert [(entry.layer, entry.type) for entry in converters.inspect(lua).unsupported] == [("13", "nn.LagSoftMax")]


def test_an_onnx_file(tmp_path):
    model = converters.load(DIGITS / "caffe/deploy.prototxt", DIGITS / "caffe/digits.caffemodel")
    converters.save(model, tmp_path / "net.onnx")
    found = converters.inspect(tmp_path / "net.onnx")
    assert found.opset == 19 and found.producer.startswith("converters ") and found.format == "onnx"
    assert found.inputs["data"].shape == ("N", 1, 16, 16) and found.inputs["data"].dtype == "float32"
    assert found.layers[0].outputs == (("N", 16, 14, 14),) and found.parameters == 13402
    assert found.flops == CONVOLUTIONS + 16 * 4 * 4 * 32 + 320


def test_a_checkpoint(tmp_path):
    found = converters.inspect(DIGITS / "pytorch/digits.pth.tar")
    assert found.key == "state_dict" and {entry.path.partition(".")[0] for entry in found.left_out} >= {"optimizer", "scheduler"}
    whole = converters.inspect(DIGITS / "pytorch/digits_whole.pth")
    assert whole.classes["torch.nn.modules.conv.Conv2d"] == 3 and whole.layers[0].type == "torch.nn.modules.conv.Conv2d"


def test_tied_and_overlapping_tensors(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.arange(12.0)
    torch.save({"a": base[:8], "b": base[4:], "c": base[:8], "d": torch.ones(3)}, tmp_path / "w.pth")
    found = converters.inspect(tmp_path / "w.pth")
    assert found.tied == [["a", "c"]] and found.overlapping == [["a", "c", "b"]]


def test_what_a_train_val_says_of_images():
    found = converters.inspect(DIGITS / "caffe/train_val.prototxt")
    assert found.inputs or found.notes
    text(found)


def test_json_has_numbers_as_numbers(capsys):
    assert cli.main(["inspect", str(DIGITS / "caffe/deploy.prototxt"), "absent", "--json"]) == 1
    found, absent = json.loads(capsys.readouterr().out)
    assert list(absent) == ["error", "path", "line", "layer", "hint"]
    conv = next(layer for layer in found["layers"] if layer["name"] == "conv1")
    assert conv["outputs"] == [[1, 16, 14, 14]] and conv["parameters"] == 144 and conv["line"] == 15
    assert found["totals"]["flops"] == CONVOLUTIONS + 16 * 4 * 4 * 32 + 320
    assert found["tensors"]["conv1.weight"] == {"dtype": "float32", "shape": [16, 1, 3, 3]}
    assert found["inputs"] == {"data": {"dtype": "float32", "shape": [1, 1, 16, 16]}}


@pytest.mark.parametrize("width", [20, 60, 72, 200])
def test_the_table_fits_the_terminal(width):
    found = converters.inspect(DIGITS / "pytorch/digits_whole.pth")
    lines = text(found, tensors=True, width=width).splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:2] == ["layer", "type"])
    assert max(map(len, lines[start:])) <= max(width, NARROWEST)
    heads = [line.index("parameters") + len("parameters") for line in lines if "parameters" in line.split()]
    assert heads and len(lines[start + 1]) == heads[-1], "numbers are right-aligned under their head"


def test_what_is_piped_on_has_whole_names(tmp_path, capsys, monkeypatch):
    name = f"{'branch' * 13}.weight"
    torch.save({name: torch.ones(2)}, tmp_path / "net.pth")
    monkeypatch.delenv("COLUMNS", raising=False)
    assert cli.main(["inspect", str(tmp_path / "net.pth"), "--tensors"]) == 0
    assert name in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "72")
    assert cli.main(["inspect", str(tmp_path / "net.pth"), "--tensors"]) == 0
    out = capsys.readouterr().out
    assert name not in out
    assert out.splitlines()[0].endswith("bytes"), "a sentence isn't broken but on a terminal"


def test_no_graph_is_made_of_a_large_file(monkeypatch):
    """A look at weights imports nothing that a graph needs, and takes a moment."""
    code = (
        "import sys, converters; import converters.inspection.look as i; i.QUICK = 0; "
        f"found = [converters.inspect(p) for p in {[str(DIGITS / p) for p in ('torch7/digits.t7', 'caffe/digits.caffemodel')]!r}]; "
        "assert all(f.layers and f.tensors for f in found); assert not {'onnx', 'onnx_ir', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_of_hundreds_of_megabytes_takes_a_moment(tmp_path):
    from converters.writers.safetensors import write_safetensors

    array = np.zeros((1024, 1024), np.float32)
    for suffix, write in ((".safetensors", write_safetensors), (".pth", _write_pth)):
        path = tmp_path / f"big{suffix}"
        write(path, {f"layer{i}.weight": array.copy() for i in range(100)})
        with at_most(0.3, "inspect of 400 MB"):
            assert len(converters.inspect(path).layers) == 100


def _write_pth(path: Path, tensors: dict[str, np.ndarray]) -> None:
    from converters.writers.pth import write_pth

    write_pth(path, tensors)


def test_facts_are_read_from_the_text_as_they_are_when_it_runs():
    from converters.readers.caffe.registry import lowers as layers
    from converters.readers.torch7.module import lowers as modules

    stated = stated_facts("converters.readers.caffe.layers")
    own = {name for name in layers if layers.is_built_in(name)}
    assert set(stated) == own
    assert {name: layers._facts_class(**facts) for name, facts in stated.items()} == {name: layers.facts(name) for name in own}
    assert {name for name in modules if modules.is_built_in(name)} <= set(stated_facts("converters.readers.torch7.modules"))


def test_behind_a_layer_that_cannot_be_converted_no_shape_is_claimed(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("""input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
        layer { name: "odd" type: "BoxOutput" bottom: "data" top: "odd" }
        layer { name: "relu" type: "ReLU" bottom: "odd" top: "odd" }
        layer { name: "fc" type: "InnerProduct" bottom: "odd" top: "fc" inner_product_param { num_output: 2 } }
        layer { name: "side" type: "ReLU" bottom: "data" top: "side" }""")
    found = converters.inspect(path)
    assert {layer.name: [*layer.outputs] for layer in found.layers} == {
        "input": [(1, 3, 8, 8)], "odd": [], "relu": [], "fc": [], "side": [(1, 3, 8, 8)]
    }  # fmt: skip
    assert set(found.outputs) == {"fc", "side"}
    assert [entry.layer for entry in found.unsupported] == ["odd"]
    assert "BoxOutput: what it computes isn't established" in found.notes


def test_why_there_are_no_shapes_is_said(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text("""layer { name: "data" type: "AnnotatedData" top: "data" top: "label" }
        layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }""")
    assert any("depends on the data; give it with --input data=1x3x224x224" in note for note in converters.inspect(path).notes)
    found = converters.inspect(path, inputs={"data": (2, 3, 5, 5)})
    assert found.outputs["relu"].shape == (2, 3, 5, 5)


@pytest.mark.parametrize(("more", "parameters"), [("frozen: true", 12), ("bn_mode: INFERENCE", 6), ("", 0)])
def test_a_normalization_of_forks_has_its_shape_before_its_weights_are_there(more, parameters, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(f"""input: "data" input_shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }}
        layer {{ name: "bn" type: "BN" bottom: "data" top: "bn" bn_param {{ {more} }} }}""")
    found = converters.inspect(path)
    assert not found.unsupported and found.outputs["bn"].shape == (1, 3, 8, 8)
    assert sum((layer.parameters or 0) + (layer.buffers or 0) for layer in found.layers) == parameters
    with pytest.raises(converters.ConversionError):  # without a look, the weights are needed
        converters.load(path)


TENSORFLOW = DIGITS / "tensorflow"


def test_tensorflow_files():
    """Modules by their scopes; an optimizer's numbers are left out; a graph with its numbers holds them; the version where one is said."""
    found = converters.inspect(TENSORFLOW / "digits_v1.ckpt")
    assert {layer.name: layer.parameters for layer in found.layers} == {
        "Conv1/BatchNorm": 16,
        "Conv1": 144,
        "Conv2/BatchNorm": 24,
        "Conv2": 3456,
        "Hidden": 3104,
        "Logits": 330,
    }
    assert "left out: */ExponentialMovingAverage: 8 tensors, */Momentum: 8 tensors, global_step" in str(found)
    assert found.tensors.keys() == converters.inspect(TENSORFLOW / "digits.ckpt").tensors.keys()
    assert not any("holds none" in note for note in converters.inspect(TENSORFLOW / "digits.pb").notes)
    assert converters.inspect(TENSORFLOW / "digits.ckpt.meta").version == "2.15.1"


@pytest.mark.parametrize(
    "name", ["caffe/train_val.prototxt", "torch7/digits.t7", "tensorflow/digits.ckpt.meta", "pytorch/digits_whole.pth"]
)
def test_nothing_is_wider_than_the_terminal(name):
    """Only a path, which is to be copied, is never broken."""
    found = converters.inspect(DIGITS / name)
    shown = [line for _, line in lines(found, tensors=True, width=80)]
    assert [line for line in shown if len(line) > 80 and not any(len(word) > 60 for word in line.split())] == []
    whole = " ".join(" ".join(text(found, tensors=True, width=100_000).split()).split())
    assert " ".join(" ".join(shown).split())[:200] == whole[:200], "what is broken into lines is the same text"
