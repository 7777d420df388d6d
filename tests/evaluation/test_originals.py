"""What layers answer against the original framework's own blobs; an evaluation that is killed and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

import converters
from converters.cli import main
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
FIELDS = {"decode": "pil", "color": "gray", "range": 255, "mean": [0.0], "std": [240.0]}
BLOBS: dict[str, tuple[list[str], dict[str, Any], str, str]] = {
    "caffe": (["caffe/deploy.prototxt", "caffe/digits.caffemodel"], {}, "ip2", "ip2"),
    "mxnet": (["mxnet/digits-symbol.json", "mxnet/digits-0010.params"], {"inputs": {"data": (1, 1, 16, 16)}}, "fc", "fc_output"),
    "torch7": (["torch7/digits.t7"], {"inputs": {"": (1, 1, 16, 16)}}, "output", "output"),
}


def digits(folder: Path, count: int) -> list[Path]:
    stored = np.load(DIGITS / "digits_test.npz")
    paths = []
    for number, (image, label) in enumerate(zip(stored["images"][:count], stored["labels"][:count], strict=True)):
        path = folder / str(label) / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).repeat(2, 0).repeat(2, 1)).save(path)
        paths.append(path)
    return paths


@pytest.mark.parametrize("name", BLOBS)
@pytest.mark.parametrize("written", [False, True])
def test_a_layer_is_the_original_s_blob(tmp_path: Path, name: str, written: bool) -> None:
    """By the layer's name (MXNet's operator fc answers fc_output), of the legacy files and of the ONNX file made of them."""
    files, options, layer, blob = BLOBS[name]
    model: Any = converters.load(*[DIGITS / file for file in files], **options)
    if written:
        converters.save(model, tmp_path / "net.onnx")
        model = tmp_path / "net.onnx"
    images = digits(tmp_path / "val", 30)
    got = converters.extract_features(model, [layer], images, converters.Preprocess.from_dict(FIELDS)).arrays[layer]
    want = np.load(DIGITS / name / "expected.npz")[blob][:30]
    assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()


def test_a_pickled_class_s_input_has_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its forward calls the input x; an image goes into the only one there is."""
    image = digits(tmp_path, 1)[0]
    (tmp_path / "fields.json").write_text(json.dumps(FIELDS))
    words = ["classify", str(DIGITS / "pytorch/digits_whole.pth"), str(image), "--preprocess", str(tmp_path / "fields.json"), "--json"]
    words += ["--code", str(DIGITS / "pytorch"), "--trust", "--input", "input=1x1x16x16"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["images"][0]["top"][0]["index"] == int(image.parent.name)


def test_killed_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits(tmp_path / "val", 120)
    (tmp_path / "fields.json").write_text(json.dumps(FIELDS))
    (tmp_path / "val" / "0" / "broken.png").write_bytes(b"no image")
    words = ["evaluate", *(str(DIGITS / file) for file in BLOBS["caffe"][0]), str(tmp_path / "val")]
    words += ["--preprocess", str(tmp_path / "fields.json"), "--batch", "1", "--threads", "1"]
    record = tmp_path / "record.jsonl"
    running = subprocess.Popen([sys.executable, "-m", "converters", *words, "--resume", str(record)], stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while time.monotonic() < end and (not record.exists() or record.read_bytes().count(b"\n") < 20):
        time.sleep(0.002)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = record.read_bytes().count(b"\n")
    assert before >= 20
    tables = []
    for more in (["--resume", str(record)], []):
        assert main([*words, *more]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] and "| 120 | 1 |" in tables[0]
