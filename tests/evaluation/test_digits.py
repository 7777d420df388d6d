"""The digits nets over PNG files: the accuracy, classes and features that their own frameworks gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PIL")

from PIL import Image

import converters
from converters.cli import main
from converters.errors import ConversionError
from converters.evaluation import classify, evaluate, extract_features, open_model, read_labels
from converters.evaluation.images import read_folder, read_list
from converters.options import LoadOptions
from converters.preprocessing import Preprocess
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
FIELDS = {"decode": "pil", "color": "gray", "range": 255, "mean": [0.0], "std": [240.0], "labels": "sorted"}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MODELS: dict[str, tuple[list[Path], dict[str, Any]]] = {
    "caffe": ([DIGITS / "caffe/deploy.prototxt", DIGITS / "caffe/digits.caffemodel"], {}),
    "torch7": ([DIGITS / "torch7/digits.t7"], {"inputs": {"input": (1, 1, 16, 16)}}),
    "mxnet": ([DIGITS / "mxnet/digits-symbol.json", DIGITS / "mxnet/digits-0010.params"], {"inputs": {"data": (1, 1, 16, 16)}}),
}
RIGHT = {"caffe": 349, "torch7": 349, "mxnet": 349}
"""Right answers of 360, as each framework scored itself (fixtures/digits/README.md)."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """val/CLASS/IMAGE of the 360 test digits, class names whose order is that of the digits, broken files among them."""
    stored = np.load(DIGITS / "digits_test.npz")
    root = tmp_path_factory.mktemp("digits")
    for number, (image, label) in enumerate(zip(stored["images"], stored["labels"], strict=True)):
        place = root / "val" / f"{label}_{WORDS[label]}" / f"{number:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).repeat(2, 0).repeat(2, 1)).save(place)
    (root / "val" / "0_zero" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "val" / "3_three" / "page.jpg").write_text("<html>404</html>")
    (root / "val" / "3_three" / "notes.txt").write_text("no image")
    (root / "fields.json").write_text(json.dumps(FIELDS))
    return root


@pytest.mark.parametrize("name", MODELS)
def test_accuracy(folder: Path, name: str) -> None:
    files, options = MODELS[name]
    model = open_model(files, LoadOptions(**options))
    state = evaluate(model, read_folder(folder / "val"), Preprocess.from_dict(FIELDS), batch=50)
    assert (state.images, state.top1, len(state.broken)) == (360, RIGHT[name], 2)


@pytest.mark.parametrize("suffix", ["onnx", "pth"])
def test_accuracy_of_what_was_written(folder: Path, tmp_path: Path, suffix: str) -> None:
    files, options = MODELS["mxnet"]
    target = tmp_path / f"net.{suffix}"
    converters.save(converters.load(*files, **options), target)
    if suffix == "pth":
        with pytest.raises(ConversionError, match=r"net\.py beside it is Python code, which has to run; .*--trust"):
            open_model([target], LoadOptions())
    state = evaluate(open_model([target], LoadOptions(trust=True)), read_folder(folder / "val"), Preprocess.from_dict(FIELDS))
    assert (state.images, state.top1) == (360, RIGHT["mxnet"])


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(file) for file in MODELS["caffe"][0]]
    words = ["evaluate", *files, str(folder / "val"), "--preprocess", str(folder / "fields.json"), "--json", "--workers", "2"]
    assert main(words) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {key: answer[key] for key in ("images", "broken", "top1")} == {"images": 360, "broken": 2, "top1": 349}


def test_a_run_that_was_stopped_goes_on(folder: Path, tmp_path: Path) -> None:
    files, options = MODELS["caffe"]
    images, preprocess = read_folder(folder / "val"), Preprocess.from_dict(FIELDS)
    model, record = open_model(files, LoadOptions(**options)), tmp_path / "record.jsonl"
    whole = evaluate(model, images, preprocess, resume=record)
    lines = record.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + len(images)
    record.write_text("".join(lines[:100]) + lines[100][:5])  # killed in the middle of a line
    seen: list[int] = []

    def counting(items: Any) -> Any:
        seen.append(len(items))
        return run(items)

    run, model._run = model._run, counting
    again = evaluate(model, images, preprocess, resume=record)
    assert (again.images, again.top1, again.top5, again.broken) == (whole.images, whole.top1, whole.top5, whole.broken)
    assert sum(seen) < 300
    with pytest.raises(ConversionError, match="record of another evaluation"):
        evaluate(model, images[:10], preprocess, resume=record)


def test_classes_and_labels(folder: Path, tmp_path: Path) -> None:
    files, options = MODELS["torch7"]
    (tmp_path / "labels.txt").write_text("\n".join(f"n{number:08d} {word}" for number, word in enumerate(WORDS)))
    expected = np.load(DIGITS / "torch7/expected.npz")["output"]
    images = sorted((folder / "val").rglob("*.png"))[:6]
    answers = classify(
        open_model(files, LoadOptions(**options)), images, Preprocess.from_dict(FIELDS), labels=read_labels(tmp_path / "labels.txt"), top=3
    )
    for image, answer in zip(images, answers, strict=True):
        if image.name == "broken.png":
            assert "is no image" in answer.error
            continue
        want = np.exp(expected[int(image.stem)])  # the net ends in LogSoftMax
        assert [i for i, _, _ in answer.top] == list(np.argsort(-want)[:3])
        assert [label for _, label, _ in answer.top] == [WORDS[i] for i, _, _ in answer.top]
        np.testing.assert_allclose([p for _, _, p in answer.top], np.sort(want)[::-1][:3], atol=2e-5)


def test_a_list_file(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("flat/a b.png 3 \n/slash/c.png 10\r\n\n")
    first, second = read_list(tmp_path / "val.txt")
    assert (Path(first.path), first.label) == (tmp_path / "flat" / "a b.png", 3)
    assert (Path(second.path), second.label) == (tmp_path / "slash" / "c.png", 10)
    (tmp_path / "val.txt").write_text("a.png three\n")
    with pytest.raises(ConversionError, match=r"val\.txt:1: isn't `path label`"):
        read_list(tmp_path / "val.txt")


@pytest.mark.parametrize("suffix", ["npz", "t7", "safetensors"])
def test_features(folder: Path, tmp_path: Path, suffix: str) -> None:
    files, options = MODELS["mxnet"]
    images = [folder / "val" / "0_zero", folder / "val" / "1_one"]
    model = open_model(files, LoadOptions(**options), layers=["fc_output"])
    found = extract_features(model, ["fc_output"], images, Preprocess.from_dict(FIELDS))
    want = np.load(DIGITS / "mxnet/expected.npz")
    logits = np.log(want["softmax_output"])  # but for a constant of each image
    rows = [int(Path(path).stem) for path in found.paths]
    got = found.arrays["fc_output"]
    assert got.shape == (len(rows), 10) and len(found.broken) == 1
    np.testing.assert_allclose(got - got.max(1, keepdims=True), (logits - logits.max(1, keepdims=True))[rows], atol=2e-3)
    found.save(tmp_path / f"out.{suffix}")
    if suffix == "npz":
        stored = np.load(tmp_path / "out.npz")
        np.testing.assert_array_equal(stored["fc_output"], got)
        assert list(stored["paths"]) == found.paths
    elif suffix == "t7":
        torchfile = pytest.importorskip("torchfile")
        table = torchfile.load(str(tmp_path / "out.t7"))
        np.testing.assert_array_equal(table[b"fc_output"], got)
        assert [path.decode() for path in table[b"paths"]] == found.paths
    else:
        np.testing.assert_array_equal(np.asarray(converters.load_weights(tmp_path / "out.safetensors")["fc_output"]), got)


def test_the_library_s_verbs(folder: Path) -> None:
    files, options = MODELS["torch7"]
    loaded, preprocess = converters.load(*files, **options), converters.Preprocess.from_dict(FIELDS)
    images = sorted((folder / "val" / "7_seven").iterdir())[:4]
    best = [answer.top[0][0] for answer in converters.classify(loaded, images, preprocess, engine="torch")]
    assert best == list(np.load(DIGITS / "torch7/expected.npz")["output"][[int(image.stem) for image in images]].argmax(1))
    assert converters.evaluate(MODELS["caffe"][0], folder / "val", preprocess).top1 == RIGHT["caffe"]
    features = converters.extract_features(loaded, ["1", "4.0.3"], images, preprocess)
    assert {name: array.shape for name, array in features.arrays.items()} == {"1": (4, 16, 14, 14), "4.0.3": (4, 16, 7, 7)}


def test_a_layer_that_is_none(folder: Path) -> None:
    files, options = MODELS["mxnet"]
    with pytest.raises(ConversionError, match="no value 'fc9' to end in; it has"):
        open_model(files, LoadOptions(**options), layers=["fc9"])
