"""The table of formats: every file that isn't what a command reads is named for what it is, and the command that reads it with it."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest

import converters
from converters import cli, formats
from converters.options import LoadOptions
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
FILES = {
    "caffe": (DIGITS / "caffe" / "deploy.prototxt", DIGITS / "caffe" / "digits.caffemodel"),
    "lua": (DIGITS / "torch7" / "digits.t7",),
    "mxnet": (DIGITS / "mxnet" / "digits-symbol.json", DIGITS / "mxnet" / "digits-0010.params"),
    "torch": (DIGITS / "pytorch" / "digits_whole.pth",),
}


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    assert len(payload) < 128
    return bytes([number << 3 | 2, len(payload)]) + payload


NODE = field(1, b"conv") + field(2, b"Conv2D") + field(3, b"data")
MISTAKEN = {
    "TensorFlow Lite": b"\x1c\0\0\0TFL3" + bytes(40),
    "Keras model": b"\x89HDF\r\n\x1a\n" + bytes(40) + b"keras_version",
    "Core ML": b"\x08\x04" + field(2, b"\x0a\0") + b"\xa2\x1f\x02\x0a\0",
    "GGUF": b"GGUF\x03\0\0\0" + bytes(40),
    "GGML": b"tjgg\x01\0\0\0" + bytes(40),
    "MATLAB": b"MATLAB 5.0 MAT-file, Platform: GLNXA64" + bytes(100),
    "Darknet net": b"# yolo\n[net]\nbatch=64\n\n[convolutional]\nfilters=32\n",
    "Darknet weights": struct.pack("<iiiq", 0, 2, 0, 32013312) + bytes(64),
    "OpenVINO": b'<?xml version="1.0"?>\n<net name="net" version="10">\n</net>\n',
    "ncnn": b"7767517\n3 3\nInput data 0 1 data\n",
    "an XML file": b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>\n',
    "an HTML page": b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
    "error message of a server": b"404: Not Found",
    "git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "an image": b"\x89PNG\r\n\x1a\n" + bytes(40),
    "a PDF": b"%PDF-1.4\n",
    "gunzip": b"\x1f\x8b\x08" + bytes(20),
    "unzstd": b"\x28\xb5\x2f\xfd" + bytes(20),
    "7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(20),
    "RAR archive": b"Rar!\x1a\x07\0" + bytes(20),
    "numpy array": b"\x93NUMPY\x01\0\x38\0{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\n" + bytes(8),
    "mean.binaryproto": b"\x08\x01\x10\x03\x18\x02\x20\x02" + field(5, bytes(48)),
    "solverstate": b"\x08\xe8\x07" + field(2, b"net.caffemodel") + field(3, b"\x3a\x02\x0a\0\x2a\0"),
    "zero bytes": bytes(4096),
}
TENSORFLOW = {
    "TensorFlow graph": field(1, NODE) + field(1, field(1, b"x") + field(2, b"Const")) + field(4, b"\x08\x1b"),
    "TensorFlow SavedModel": b"\x08\x01" + field(2, field(1, b"\x0a\x05serve") + field(2, field(1, NODE))),
    "TensorFlow checkpoint": b'model_checkpoint_path: "model.ckpt-1000"\n',
    "index of a TensorFlow": bytes(60) + b"\x01\x57\xfb\x80\x8b\x24\x75\x47\xdb",
}
COMMANDS = "caffe2torch caffe2onnx lua2torch lua2onnx mxnet2torch mxnet2onnx onnx2torch torch2onnx strip-to-weights".split()


def run(capsys, *words: object) -> tuple[int, str]:
    status = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def words_of(command: str, last: Path, target: Path) -> list[object]:
    """A command's arguments with `last` as the last of its files."""
    row = next((row for row in formats.FORMATS if row.word and row.word == command.partition("2")[0]), None)
    first = FILES[row.word][:-1] if row is not None and row.word in FILES else ()
    end = ".onnx" if command.endswith("2onnx") else ".pth"
    options = ["--input", "1x1x16x16"] if row is not None and row.word not in ("caffe", "onnx") else []
    return [command, *first, last, target.with_suffix(end), *options]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", MISTAKEN)
def test_what_is_mistaken_is_named_by_every_command(what, command, tmp_path, capsys):
    path = tmp_path / "model.bin"
    path.write_bytes(MISTAKEN[what])
    status, said = run(capsys, *words_of(command, path, tmp_path / "out"))
    assert status == 1 and what in said and f"{path}: " in said and "internal" not in said
    assert [file.name for file in tmp_path.iterdir()] == ["model.bin"]


@pytest.mark.parametrize("what", MISTAKEN)
def test_inspect_and_the_library_name_it_too(what, tmp_path, capsys):
    path = tmp_path / "model.bin"
    path.write_bytes(MISTAKEN[what])
    status, said = run(capsys, "inspect", path)
    assert status == int(what in ("numpy array", "gunzip")) and what in said  # these two may hold weights, and are read in vain
    for call in (converters.load, converters.load_weights):
        with pytest.raises(converters.FormatError) as caught:
            call(path)
        assert what in str(caught.value) and caught.value.path == str(path)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "2" in c])
@pytest.mark.parametrize("other", FILES)
def test_the_right_format_in_the_wrong_command(other, command, tmp_path, capsys):
    word, _, kind = command.partition("2")
    if word == other:
        return
    status, said = run(capsys, *words_of(command, FILES[other][-1], tmp_path / "out"))
    right = f"{other}2{kind}" if other != kind else "torch2onnx"
    assert status == 1 and f"convert {right}" in said, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["caffe", "mxnet"])
def test_swapped_files(word, tmp_path, capsys):
    status, said = run(capsys, f"{word}2onnx", *reversed(FILES[word]), tmp_path / "out.onnx")
    assert status == 1 and "the two files are swapped" in said


@pytest.mark.parametrize("make", ["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("command", ["inspect", "lua2onnx", "strip-to-weights"])
def test_what_is_no_file_is_refused_without_opening_it(make, command, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = Path("/dev/zero" if make == "device" else "it")
    with socket.socket(socket.AF_UNIX) as server:
        if make == "pipe":
            os.mkfifo(path)
        elif make == "socket":
            server.bind(str(path))
        elif make == "folder":
            path.mkdir()
        words = [command, path] if command == "inspect" else [command, path, "out.onnx" if "2" in command else "out.pth"]
        status, said = run(capsys, *words)
    assert status == 1 and make in said and not Path("out.onnx").exists()


@pytest.mark.parametrize("command", ["caffe2torch", "lua2onnx", "onnx2torch", "torch2onnx"])
@pytest.mark.parametrize("what", TENSORFLOW)
def test_tensorflow_s_files_name_their_command(what, command, tmp_path, capsys):
    (tmp_path / "it").write_bytes(TENSORFLOW[what])
    status, said = run(capsys, *words_of(command, tmp_path / "it", tmp_path / "out"))
    assert status == 1 and f"convert tf2{command.partition('2')[2]}" in said and "TensorFlow" in said
    status, said = run(capsys, "inspect", tmp_path / "it")
    assert "TensorFlow" in said and "internal" not in said


def test_a_saved_model_s_folder_stands_for_its_file(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(TENSORFLOW["TensorFlow SavedModel"])
    with pytest.raises(converters.ConversionError, match=r"saved_model.pb: a TensorFlow SavedModel with 0 graphs for serving"):
        converters.load(tmp_path)


def test_a_file_is_mapped_once(monkeypatch):
    import converters.files

    mapped = []
    real = converters.files._map
    monkeypatch.setattr(converters.files, "_map", lambda path: mapped.append(path) or real(path))
    for word, paths in FILES.items():
        options = {"code": DIGITS / "pytorch", "trust": True} if word == "torch" else {}
        converters.load(*paths, inputs=None if word == "caffe" else {"": (1, 1, 16, 16)}, **options)
    assert sorted(mapped) == sorted(str(path) for paths in FILES.values() for path in paths)


def test_an_option_of_another_format_is_an_error():
    with pytest.raises(converters.ConversionError, match="'code' is for PyTorch models; this is a Caffe one"):
        converters.load(*FILES["caffe"], code=".")


@pytest.mark.parametrize("word", ["caffe", "mxnet"])
def test_a_key_that_chooses_nothing_is_an_error(word):
    with pytest.raises(converters.ConversionError, match="leave the key out"):
        converters.load(*FILES[word], key="model", inputs={"": (1, 1, 16, 16)} if word == "mxnet" else None)


# -- inner outputs and types of inputs -------------------------------------------------------------------------------------


def small_onnx(path: Path) -> Path:
    nodes = [oh.make_node("Relu", ["x"], ["r"]), oh.make_node("Add", ["r", "y"], ["s"]), oh.make_node("Neg", ["s"], ["out"])]
    values = [oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in ("x", "y", "out")]
    model = oh.make_model(oh.make_graph(nodes, "g", values[:2], values[2:]), opset_imports=[oh.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_a_net_ends_in_an_inner_value(tmp_path):
    model = converters.load(small_onnx(tmp_path / "m.onnx"), outputs=["r"])
    assert [value.name for value in model.graph.inputs] == ["x"]  # what only the other outputs needed is gone
    module = converters.to_module(model)
    import torch

    assert module(torch.tensor([[-1.0, 0.0, 2.0]])).tolist() == [[0.0, 0.0, 2.0]]


def test_an_inner_output_of_the_command(tmp_path, capsys):
    path = small_onnx(tmp_path / "m.onnx")
    status, said = run(capsys, "onnx2torch", path, tmp_path / "out.pth", "--output", "s", "--output", "r", "--verify")
    assert status == 0 and "outputs:     s Nx3, r Nx3" in said


@pytest.mark.parametrize(
    "names, words",
    [(["rr"], "no value 'rr' to end in; it has r"), (["x"], "'x' is an input"), (["r", "r"], "asked for twice")],
)
def test_what_a_net_cannot_end_in(names, words, tmp_path):
    with pytest.raises(converters.ConversionError, match=words):
        converters.load(small_onnx(tmp_path / "m.onnx"), outputs=names)


def test_the_type_of_an_input_is_what_was_said(tmp_path):
    path = small_onnx(tmp_path / "m.onnx")
    shapes = dict.fromkeys(("x", "y"), ((2, 3), "float32"))
    assert formats.load([path], LoadOptions(inputs=shapes)).graph.inputs[0].dtype.name == "FLOAT"
    with pytest.raises(converters.ConversionError, match="input 'x' is float32 in this model, not int64"):
        converters.load(path, inputs={"x": ((2, 3), "int64"), "y": (2, 3)})
    with pytest.raises(converters.ConversionError, match="no type 'floaty'"):
        converters.load(path, inputs={"x": ((2, 3), "floaty"), "y": (2, 3)})


# -- plugins ---------------------------------------------------------------------------------------------------------------

PLUGIN = """
from converters.readers.caffe import lowers

@lowers("Triple")
def triple(g, layer, x):
    "Three times the input."
    return g.emit("Mul", x, 3.0)
"""
NET = """
name: "net"
input: "data"
input_dim: 1 input_dim: 2 input_dim: 1 input_dim: 1
layer { name: "t" type: "Triple" bottom: "data" top: "t" }
"""


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "net.prototxt").write_text(NET)
    yield tmp_path
    from converters.readers.caffe import lowers

    if "Triple" in lowers:
        lowers.remove("Triple")


def test_a_plugin_registers_a_layer_where_it_is_trusted(plugin):
    net, code = plugin / "net.prototxt", plugin / "plugin.py"
    with pytest.raises(converters.UnsupportedError, match=r"plugin\.py: a plugin is Python code.*--trust"):
        converters.load(net, plugin=code)
    said: list[str] = []
    for _ in range(2):  # it runs once
        model = formats.load([net], LoadOptions(plugin=code, trust=True, notify=said.append))
        out = converters.to_module(model)
        import torch

        assert out(torch.ones(1, 2, 1, 1)).flatten().tolist() == [3.0, 3.0]
    assert said == [f"running the plugin {code}"]


def test_a_plugin_that_fails_says_where(plugin):
    (plugin / "plugin.py").write_text("x = 1\nx.nothing\n")
    with pytest.raises(converters.ConversionError, match=r"plugin\.py:2: the plugin fails: AttributeError"):
        converters.load(plugin / "net.prototxt", plugin=plugin / "plugin.py", trust=True)


def test_arrays_of_the_weights_are_views_by_name():
    weights = converters.load_weights(FILES["caffe"][1])
    assert all(np.asarray(weight).flags.writeable is False for weight in weights.values())


# -- axes that stay open ---------------------------------------------------------------------------------------------------

ALONE = """
name: "net"
input: "data"
input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4
layer { name: "r" type: "ReLU" bottom: "data" top: "r" }
"""


def relu_of(framework: str, folder: Path) -> tuple[list[Path], dict[str, object]]:
    """A net without weights in a framework's files, and what loading it takes."""
    import torch

    if framework == "caffe":
        (folder / "net.prototxt").write_text(ALONE)
        return [folder / "net.prototxt"], {}
    if framework == "mxnet":
        nodes = '[{"op": "null", "name": "data", "inputs": []}, {"op": "relu", "name": "r", "inputs": [[0, 0, 0]]}]'
        (folder / "net.json").write_text(f'{{"nodes": {nodes}, "arg_nodes": [0], "heads": [[1, 0, 0]]}}')
        return [folder / "net.json"], {"inputs": {"": (1, 1, 4, 4)}}
    if framework == "torch7":
        (folder / "m.t7").write_bytes(b"4\n1\n3\nV 1\n7\nnn.ReLU\n3\n2\n0\n")
        return [folder / "m.t7"], {"inputs": {"": (1, 1, 4, 4)}}
    if framework == "onnx":
        values = [oh.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 4, 4]) for name in ("data", "out")]
        graph = oh.make_graph([oh.make_node("Relu", ["data"], ["out"])], "g", values[:1], values[1:])
        onnx.save(oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=9), folder / "m.onnx")
        return [folder / "m.onnx"], {}
    torch.save(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.MaxPool2d(2)), folder / "m.pth")
    return [folder / "m.pth"], {"inputs": {"": (2, 1, 4, 4)}}


@pytest.mark.parametrize("framework", ["caffe", "torch7", "mxnet", "onnx", "pytorch"])
def test_an_axis_stays_open(framework, tmp_path):
    import torch

    paths, options = relu_of(framework, tmp_path)
    model = converters.load(*paths, dynamic={("", 2): "height"}, **options)
    assert [str(d) for d in model.graph.inputs[0].shape][2:] == ["height", "4"]
    rows = converters.to_module(model)(torch.ones(1, 1, 10, 4)).shape[2]
    assert rows == (5 if framework == "pytorch" else 10)


def test_an_axis_that_cannot_stay_open_is_an_error(tmp_path, capsys):
    with pytest.raises(converters.ConversionError, match="input 'data' has 4 axes, no axis 7"):
        paths, _ = relu_of("caffe", tmp_path)
        converters.load(*paths, dynamic={("data", 7): "x"})
    with pytest.raises(converters.ConversionError, match="no input 'dta' to leave open; the inputs are data"):
        converters.load(*paths, dynamic={("dta", 2): "x"})
    status, said = run(capsys, "caffe2onnx", *FILES["caffe"], tmp_path / "out.onnx", "--dynamic", "data:2=height")
    assert status == 1 and "layer '" in said and "height" in said
    assert run(capsys, "caffe2onnx", *FILES["caffe"], tmp_path / "out.onnx", "--dynamic", "data=height")[0] == 2


# -- a format of one's own -------------------------------------------------------------------------------------------------


def read_toy(files, options):
    """One number, which the net multiplies by."""
    from converters.files import map_file
    from converters.graph.builder import GraphBuilder

    g = GraphBuilder("toy", symbolic_batch=True)
    x = g.input("x", options.shapes.get("x", (1, 2)))
    g.output(g.emit("Mul", x, float(bytes(map_file(files[0])[4:]))), "y")
    return g.finish()


def test_a_new_format_is_one_row_and_what_reads_it(tmp_path, capsys, monkeypatch):
    from converters.recognition import Kind

    row = formats.Format(
        name="toy",
        title="Toy",
        word="toy",
        noun="step",
        files=(formats.FileRole("toy", "model.toy", ("toy",)),),
        reader="tests.test_formats:read_toy",
        kinds=(Kind("toy", "a toy", starts=(b"TOY1",)),),
    )
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, row))
    path = tmp_path / "model.toy"
    path.write_bytes(b"TOY13.5")
    assert run(capsys, "toy2onnx", path, tmp_path / "out.onnx", "--verify")[0] == 0
    assert run(capsys, "toy2torch", path, tmp_path / "out.pth", "--input", "x=2x3")[0] == 0
    status, said = run(capsys, "lua2torch", path, tmp_path / "other.pth")
    assert status == 1 and "this is a toy, not a Lua Torch model; use convert toy2torch" in said
    assert "Toy: toy2torch, toy2onnx" in run(capsys, "formats")[1]
    import torch

    assert converters.to_module(converters.load(path))(torch.ones(1, 2)).tolist() == [[3.5, 3.5]]


def test_integers_go_into_a_torch_model(tmp_path):
    import torch

    torch.save(torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.ReLU()), tmp_path / "m.pth")
    model = converters.load(tmp_path / "m.pth", inputs={"": ((2, 4), "int64")})
    assert model.graph.inputs[0].dtype.name == "INT64"
    assert converters.to_module(model)(torch.tensor([[0, 4, 1]])).shape == (1, 3, 3)
