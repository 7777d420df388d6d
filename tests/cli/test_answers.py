"""What a command says and how it ends: JSON, exit statuses, characters that act on a terminal, streams that can't be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters import cli
from converters.cli import terminal
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
CAFFE = [str(DIGITS / "caffe" / name) for name in ("deploy.prototxt", "digits.caffemodel")]
PTH = str(DIGITS / "pytorch" / "digits_whole.pth")


def strict(text: str) -> object:
    def refuse(word: str) -> object:
        raise ValueError(word)

    return json.loads(text, parse_constant=refuse)


def run(capsys, *words: object) -> tuple[int, str, str]:
    status = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


KEYS = ["error", "path", "line", "layer", "hint"]


def broken(folder: Path) -> Path:
    path = folder / "net.prototxt"
    text = Path(CAFFE[0]).read_text().replace('type: "ReLU"', 'type: "ReLUU"', 1)
    path.write_text(text)
    return path


def test_an_error_is_one_object(capsys, tmp_path):
    path = broken(tmp_path)
    status, out, err = run(capsys, "caffe2onnx", path, CAFFE[1], tmp_path / "out.onnx", "--json")
    found = strict(out)
    assert status == 1 and err == "" and list(found) == KEYS
    assert found["path"].endswith(path.name) and found["line"] > 1 and found["layer"] and "ReLUU" in found["error"]


@pytest.mark.parametrize(
    "words, status",
    [
        (["inspect", "absent", "--json"], 1),
        (["verify", PTH, "absent", "--json"], 1),
        (["strip-to-weights", "absent", "--json"], 1),
        (["torch2onnx", "absent", "out.onnx", "--json"], 1),
        (["caffe2onnx", "--json"], 2),
        (["caffe2onnx", *CAFFE, "out.onnx", "--input", "data=axb", "--json"], 2),
        (["caffe2onnx", *CAFFE, "out.pth", "--json"], 2),
        (["nonsense", "--json"], 2),
    ],
)
def test_every_error_has_the_same_keys(words, status, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got, out, _ = run(capsys, *words)
    found = strict(out)
    entry = found[0] if isinstance(found, list) else found
    assert got == status and list(entry) == KEYS and entry["error"]
    assert list(tmp_path.iterdir()) == []


def test_inspect_answers_for_every_file(capsys):
    status, out, err = run(capsys, "inspect", CAFFE[1], "absent", PTH)
    assert status == 1 and "Caffe weights" in out and "PyTorch checkpoint" in out and "absent: can't be read" in err
    status, out, _ = run(capsys, "inspect", CAFFE[1], "absent", PTH, "--json")
    answers = strict(out)
    assert status == 1 and [answer["path"] for answer in answers] == [CAFFE[1], "absent", PTH]
    assert [sorted(answer) == sorted(KEYS) for answer in answers] == [False, True, False]
    (shape,) = {tuple(tensor["shape"]) for name, tensor in answers[0]["tensors"].items() if name == "conv1.0"} or {()}
    assert all(isinstance(size, int) for size in shape)


def test_numbers_that_json_has_no_form_for(capsys, tmp_path):
    for name, value in (("a", 1.0), ("b", np.inf)):
        _save(tmp_path / f"{name}.safetensors", np.full(3, value, np.float32))
    status, out, _ = run(capsys, "verify", tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--json")
    assert status == 1 and strict(out)["largest_difference"] is None


def _save(path: Path, array: np.ndarray) -> None:
    from converters.writers.safetensors import write_safetensors

    write_safetensors(path, {"w": array})


def test_json_of_every_command_is_strict_and_snake_case(capsys, tmp_path):
    commands = [
        ["caffe2onnx", *CAFFE, tmp_path / "a.onnx", "--verify"],
        ["caffe2torch", *CAFFE, tmp_path / "a.pth"],
        ["strip-to-weights", PTH, tmp_path / "w.pth"],
        ["inspect", PTH],
        ["verify", tmp_path / "a.onnx", tmp_path / "a.onnx"],
        ["formats"],
    ]

    def check(value: object, at: str) -> None:
        for key, inner in value.items() if isinstance(value, dict) else ():
            assert at.endswith((".tensors", ".inputs", ".outputs", ".files", ".classes", ".dtypes")) or key == key.lower().replace(
                " ", "_"
            ), key
            check(inner, f"{at}.{key}")
        for inner in value if isinstance(value, list) else ():
            check(inner, at)

    for words in commands:
        status, out, _ = run(capsys, *words, "--json")
        assert status == 0, out
        check(strict(out), words[0])


# -- what reaches the terminal ---------------------------------------------------------------------------------------------

EVIL = ["\x1b[31mred", "\u202eevil", "\u2066a\u2069", "a\x07b", "\x9b31m", "\u200fright"]


@pytest.mark.parametrize("name", EVIL)
def test_names_of_files_do_not_act_on_the_terminal(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["inspect", name], ["strip-to-weights", name], ["caffe2onnx", name, name, "out.onnx"], [name], ["verify", name, name]):
        _, out, err = run(capsys, *words)
        assert not set(out + err) & set("\x1b\x07\x9b\u202e\u2066\u2069\u200f"), (words, out + err)
    Path(name).write_bytes(Path(PTH).read_bytes())
    for words in (["inspect", name], ["strip-to-weights", name, "--force"]):
        status, out, err = run(capsys, *words)
        assert status == 0 and not set(out + err) & set("\x1b\x07\x9b\u202e\u2066\u2069\u200f")


@pytest.mark.parametrize("name", EVIL)
def test_names_in_files_do_not_act_on_the_terminal(name, capsys, tmp_path):
    from converters.writers.safetensors import write_safetensors

    write_safetensors(tmp_path / "w.safetensors", {name: np.ones(2, np.float32)})
    for words in (["inspect"], ["strip-to-weights"]):
        status, out, err = run(capsys, *words, tmp_path / "w.safetensors")
        assert status == 0 and not set(out + err) & set("\x1b\x07\x9b\u202e\u2066\u2069\u200f")
    _, out, _ = run(capsys, "inspect", tmp_path / "w.safetensors", "--json")
    assert list(strict(out)[0]["tensors"]) == [name]


def test_any_text_in_any_locale(tmp_path):
    path = tmp_path / "größe_名.pth"
    path.write_bytes(Path(PTH).read_bytes())
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-m", "converters", "inspect", str(path)], env=environment, capture_output=True)
    assert done.returncode == 0 and b"internal" not in done.stderr


# -- streams ---------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("words", [["inspect", PTH], ["formats"], ["verify", CAFFE[1], CAFFE[1]], ["inspect", "absent", "--json"]])
def test_a_full_stdout_is_one_line(words):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "converters", *words], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr


def test_a_closed_stdout(tmp_path):
    command = f"exec '{sys.executable}' -m converters"
    done = subprocess.run(["sh", "-c", f"{command} inspect '{PTH}' >&-"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr == "error: standard output is closed\n"
    target = tmp_path / "out.onnx"
    done = subprocess.run(["sh", "-c", f"{command} caffe2onnx {' '.join(CAFFE)} '{target}' --quiet >&-"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0 and done.stderr == "" and target.stat().st_size > 1000


def test_a_reader_that_goes_away(tmp_path):
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m converters inspect {' '.join([PTH] * 200)} | head -n 1"], capture_output=True, text=True
    )
    assert done.stderr == "" and done.stdout.count("\n") == 1


def test_safe_text_keeps_what_is_harmless():
    assert terminal.safe("größe 名 \U0001f600\n") == "größe 名 \U0001f600\n" and terminal.safe("\x1b\u202e\ud800") == "\\x1b\\u202e\\ud800"
