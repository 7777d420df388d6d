"""The preprocessing that files carry: written by a conversion, found by every command; Caffe's transform_param and mean file."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL")

import converters
from converters.cli import main
from converters.errors import ConversionError
from converters.evaluation.stored import read_mean_file, stored_preprocess
from converters.preprocessing import Preprocess
from tests.conformance import FIXTURES
from tests.readers.caffe.wire import blob, legacy_blob

DIGITS = FIXTURES / "digits"
MXNET = [DIGITS / "mxnet/digits-symbol.json", DIGITS / "mxnet/digits-0010.params"]
FIELDS = {"decode": "pil", "color": "gray", "range": 255, "mean": [0.0], "std": [240.0], "labels": "sorted"}


def digit(folder: Path) -> Path:
    from PIL import Image

    stored = np.load(DIGITS / "digits_test.npz")
    path = folder / "digit.png"
    Image.fromarray((stored["images"][0] * 15).repeat(2, 0).repeat(2, 1)).save(path)
    return path


@pytest.mark.parametrize("suffix", ["onnx", "pth", "safetensors"])
def test_it_is_written_and_found(tmp_path: Path, suffix: str) -> None:
    want = Preprocess.recipe("caffe-resnext-320-12crop")
    model = converters.load(*MXNET, inputs={"data": (1, 1, 16, 16)})
    want.attach(model)
    converters.save(model, tmp_path / f"net.{suffix}")
    assert stored_preprocess(tmp_path / f"net.{suffix}") == want
    if suffix == "onnx":
        again = converters.load(tmp_path / "net.onnx")  # and goes on into what that becomes
        converters.save(again, tmp_path / "again.pth")
        assert stored_preprocess(tmp_path / "again.pth") == want


def test_the_command_writes_and_finds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(file) for file in MXNET]
    (tmp_path / "fields.json").write_text(json.dumps(FIELDS))
    target, image = str(tmp_path / "net.onnx"), str(digit(tmp_path))
    words = ["--input", "data=1x1x16x16", "--preprocess", str(tmp_path / "fields.json"), "--quiet"]
    assert main(["mxnet2onnx", *files, target, *words]) == 0
    assert main(["classify", target, image, "--top", "1"]) == 0
    assert capsys.readouterr().out.endswith("\t2\n")
    assert main(["onnx2torch", target, str(tmp_path / "net.pth"), "--quiet"]) == 0
    assert '"std": [240.0],' in (tmp_path / "net.py").read_text()
    assert main(["classify", str(tmp_path / "net.pth"), image, "--top", "1", "--trust"]) == 0
    assert capsys.readouterr().out.endswith("\t2\n")
    assert main(["extract-features", target, image, "--layer", "fc_output", "--save", str(tmp_path / "f.npz")]) == 0
    capsys.readouterr()
    assert main(["classify", target, image, "--std", "1", "--json"]) == 0  # an option goes first
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"][0]["top"][0]["probability"] > 0
    assert main(["classify", *files, image, "--input", "data=1x1x16x16"]) == 2
    assert "say how images are preprocessed: --recipe NAME" in capsys.readouterr().err


def test_the_library_refuses_to_guess(tmp_path: Path) -> None:
    model = converters.load(*MXNET, inputs={"data": (1, 1, 16, 16)})
    with pytest.raises(ConversionError, match="doesn't say how its images are preprocessed; give preprocess"):
        converters.classify(model, [digit(tmp_path)])
    Preprocess.from_dict(FIELDS).attach(model)
    assert converters.classify(model, [digit(tmp_path)])[0].top[0][0] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PREPROCESS = print('hello')\n", "no literal of preprocessing fields"),
        ("PREPROCESS = {'decode': 'magic', 'color': 'RGB'}\n", "'decode' is 'magic'"),
        ("PREPROCESS = {'decode': __import__('os')}\n", "no literal"),
    ],
)
def test_a_literal_is_read_and_never_run(tmp_path: Path, text: str, message: str) -> None:
    converters.save(converters.load(*MXNET, inputs={"data": (1, 1, 16, 16)}), tmp_path / "net.pth")
    (tmp_path / "net.py").write_text(text)
    with pytest.raises(ConversionError, match=message):
        stored_preprocess(tmp_path / "net.pth")


@pytest.mark.parametrize("stated", ["[1]", "{", '{"decode": "pil"}', '{"decode": "pil", "color": "RGB", "mean": [0, NaN, 0]}'])
def test_metadata_of_others(tmp_path: Path, stated: str) -> None:
    model = converters.load(*MXNET, inputs={"data": (1, 1, 16, 16)})
    model.metadata_props["converters.preprocess"] = stated
    converters.save(model, tmp_path / "net.onnx")
    with pytest.raises(ConversionError):
        stored_preprocess(tmp_path / "net.onnx")
    converters.save(model, tmp_path / "net.pth")  # nothing that isn't plain becomes source
    compile((tmp_path / "net.py").read_text(), "net.py", "exec")


HOSTILE = ['"""\nimport os\n', "x' + __import__('os').system('id') + '", "\\", "\u2028", '\\"']


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_of_a_file_becomes_code(tmp_path: Path, text: str) -> None:
    import ast

    model = converters.load(*MXNET, inputs={"data": (1, 1, 16, 16)})
    model.metadata_props["converters.preprocess"] = json.dumps({"decode": text, "color": text})
    model.metadata_props["converters.notes"] = json.dumps([text, 5])
    converters.save(model, tmp_path / "net.pth")
    tree = ast.parse((tmp_path / "net.py").read_text())
    assert {type(item) for item in tree.body} <= {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.ClassDef, ast.FunctionDef}
    literal = next(item.value for item in tree.body if isinstance(item, ast.Assign))
    assert ast.literal_eval(literal) == {"decode": text, "color": text}


# -- Caffe's own ------------------------------------------------------------------------------------------------------------

TRAIN_VAL = """
name: "net"
layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
  transform_param {{ {stated} }} data_param {{ source: "lmdb" batch_size: 1 }} }}
layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param {{ num_output: 2 kernel_size: 1 }} }}
"""


def prototxt(folder: Path, stated: str) -> Path:
    path = folder / "train_val.prototxt"
    path.write_text(TRAIN_VAL.format(stated=stated))
    return path


def test_transform_param(tmp_path: Path) -> None:
    """(value - mean) * scale of B, G, R, cropped in the center: data_transformer.cpp."""
    path = prototxt(tmp_path, "mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.017 crop_size: 224 mirror: false")
    found = stored_preprocess(path, channels=3)
    assert found is not None
    assert (found.decode, found.color, found.mean, found.crop, found.crop_offset) == ("opencv", "BGR", (104, 117, 123), 224, "floor")
    np.testing.assert_allclose(found.std, [1 / 0.017] * 3, rtol=1e-6)
    gray = stored_preprocess(prototxt(tmp_path, "scale: 0.00390625"), channels=1)
    assert gray is not None and (gray.color, gray.mean, gray.std) == ("gray", (0.0,), (256.0,))
    one = stored_preprocess(prototxt(tmp_path, "mean_value: 127.5 force_color: true"), channels=3)
    assert one is not None and one.mean == (127.5,) * 3
    with pytest.raises(ConversionError, match="transform_param speaks of 1 channels, the net takes 3"):
        stored_preprocess(prototxt(tmp_path, "force_gray: true"), channels=3)


@pytest.mark.parametrize("form", ["legacy", "shape"])
def test_mean_file(tmp_path: Path, form: str) -> None:
    image = np.random.default_rng(0).uniform(90, 130, (1, 3, 5, 4)).astype(np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(legacy_blob(image, image.shape) if form == "legacy" else blob(image))
    want = image.astype(np.float64).mean((0, 2, 3))
    np.testing.assert_allclose(read_mean_file(tmp_path / "mean.binaryproto"), want)
    path = prototxt(tmp_path, 'mean_file: "data/ilsvrc12/mean.binaryproto" crop_size: 3')
    found = stored_preprocess(path, channels=3)
    assert found is not None
    np.testing.assert_allclose(found.mean, want)
    (tmp_path / "mean.binaryproto").rename(tmp_path / "other")
    with pytest.raises(ConversionError, match=r"'data/ilsvrc12/mean\.binaryproto', which isn't beside it; give --mean-file FILE"):
        stored_preprocess(path, channels=3)
    found = stored_preprocess(path, channels=3, mean_file=tmp_path / "other")
    assert found is not None and found.crop == 3


@pytest.mark.parametrize(
    "data", [b"", b"\x08", struct.pack("<q", 5), b"<html>", legacy_blob(np.zeros((2, 3, 2, 2), np.float32), (2, 3, 2, 2))]
)
def test_what_is_no_mean_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "mean.binaryproto").write_bytes(data)
    with pytest.raises(ConversionError, match=r"mean\.binaryproto"):
        read_mean_file(tmp_path / "mean.binaryproto")
