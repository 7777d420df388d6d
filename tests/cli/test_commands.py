"""The command line: exit status, what goes where, and that a user's files are safe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import converters
from converters import cli
from tests.conformance import FIXTURES

CAFFE = [str(FIXTURES / "digits" / "caffe" / name) for name in ("deploy.prototxt", "digits.caffemodel")]


@pytest.fixture
def convert(capsys):
    """Runs the command in this process: (status, stdout, stderr)."""

    def run(*words: object) -> tuple[int, str, str]:
        try:
            status = cli.main([str(w) for w in words])
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_a_conversion_says_what_it_wrote(convert, tmp_path):
    status, out, err = convert("caffe2torch", *CAFFE, tmp_path / "net.pth")
    assert (status, err) == (0, "")
    assert "net.pth" in out and "net.py" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.pth", "net.py"]


def test_source_that_python_could_not_import_gets_another_name(convert, tmp_path):
    status, out, err = convert("caffe2torch", *CAFFE, tmp_path / "le-net.v2.pth")
    assert status == 0 and "le_net_v2.py" in out
    assert err.strip() == "note: the source is le_net_v2.py: Python can't import le-net.v2.py, or would find it instead of another"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["le-net.v2.pth", "le_net_v2.py"]


def test_parameters_are_what_is_learnt(convert, tmp_path):
    """As inspect counts them; means and variances are no parameters."""
    _, out, _ = convert("caffe2torch", *CAFFE, tmp_path / "net.pth", "--json")
    module = converters.to_module(converters.load(*CAFFE))
    assert json.loads(out)["parameters"] == sum(value.numel() for value in module.parameters())
    assert json.loads(out)["buffers"] == sum(value.numel() for value in module.buffers() if value.is_floating_point())


def test_json(convert, tmp_path):
    status, out, _ = convert("caffe2onnx", *CAFFE, tmp_path / "net.onnx", "--json", "--verify")
    facts = json.loads(out)
    assert status == 0 and facts["inputs"] == {"data": ["N", 1, 16, 16]} and facts["verified"]["largest_difference"] < 1e-4


def test_quiet(convert, tmp_path):
    assert convert("caffe2onnx", *CAFFE, tmp_path / "net.onnx", "--quiet") == (0, "", "")


@pytest.mark.parametrize("existing", ["net.pth", "net.py"])
def test_what_exists_stays(convert, tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    status, out, err = convert("caffe2torch", *CAFFE, tmp_path / "net.pth")
    assert (status, out) == (1, "") and "exists already" in err and "--force" in err
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(existing, "mine")]
    assert convert("caffe2torch", *CAFFE, tmp_path / "net.pth", "--force")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ["caffe2torch", *CAFFE, "out.txt"],
        ["caffe2onnx", *CAFFE, "out.pth"],
        ["caffe2onnx", *CAFFE],
        ["caffe2onnx", *CAFFE, "out.onnx", "--input", "data=axb"],
        ["nonsense"],
        [],
    ],
    ids=["suffix", "suffix-of-the-other", "too-few", "shape", "command", "nothing"],
)
def test_wrong_usage_is_status_2(convert, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = convert(*words)
    assert (status, out) == (2, "") and err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words, message",
    [
        (["caffe2onnx", "absent.prototxt", CAFFE[1], "out.onnx"], "absent.prototxt: can't be read"),
        (["caffe2onnx", *CAFFE, "absent/out.onnx"], "the folder absent doesn't exist"),
        (["lua2onnx", CAFFE[1], "out.onnx"], "digits.caffemodel"),
        (["mxnet2onnx", CAFFE[0], CAFFE[1], "out.onnx"], "deploy.prototxt"),
        (["inspect", "absent"], "absent: can't be read"),
    ],
    ids=["absent", "folder", "not-a-t7", "not-a-symbol", "inspect"],
)
def test_what_cannot_be_converted_is_status_1(convert, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = convert(*words)
    assert (status, out) == (1, "") and message in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_ours_is_one_line(convert, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("converters.formats.load", broken)
    status, _, err = convert("caffe2onnx", *CAFFE, tmp_path / "out.onnx")
    assert status == 1 and "internal error" in err and "ZeroDivisionError: oh" in err and err.count("\n") == 1


def test_messages_carry_no_control_characters(convert):
    status, _, err = convert("inspect", "a\x1b[31mb")
    assert status == 1 and "\x1b" not in err


def test_a_verification_that_fails_writes_nothing(convert, tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr("converters.verification.compare.runner", lambda model: lambda tensors: [torch.zeros(len(tensors[0]), 10)])
    status, out, err = convert("caffe2onnx", *CAFFE, tmp_path / "out.onnx", "--verify")
    assert (status, out) == (1, "") and "NOT EQUAL" in err
    assert list(tmp_path.iterdir()) == []


def test_inspect_lists_the_tensors(convert):
    status, out, _ = convert("inspect", FIXTURES / "digits" / "pytorch" / "digits_whole.pth", CAFFE[0])
    assert status == 0
    assert "a PyTorch checkpoint (zip)" in out and "float32 " in out and "a Caffe net in text form" in out


def test_verify_compares_weights(convert, tmp_path):
    convert("caffe2torch", *CAFFE, tmp_path / "a.pth")
    convert("caffe2torch", *CAFFE, tmp_path / "b.safetensors")
    assert convert("verify", tmp_path / "a.pth", tmp_path / "b.safetensors")[0] == 0
    status, out, _ = convert("verify", tmp_path / "a.pth", FIXTURES / "digits" / "pytorch" / "digits_whole.pth")
    assert status == 1 and "NOT EQUAL" in out


def test_verify_compares_onnx_models(convert, tmp_path):
    convert("caffe2onnx", *CAFFE, tmp_path / "a.onnx")
    convert("caffe2onnx", *CAFFE, tmp_path / "b.onnx", "--opset", 17)
    status, out, _ = convert("verify", tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert status == 0 and "verified" in out


def test_python_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "converters", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("converters 0.")


@pytest.mark.parametrize("command", ["caffe2torch", "caffe2onnx"])
def test_torch_is_not_imported(command, tmp_path):
    target = tmp_path / ("out.pth" if command == "caffe2torch" else "out.onnx")
    code = f"import sys; from converters.cli import main; main({[command, *CAFFE, str(target)]!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cafe2torch", *CAFFE, "net.pth"], "convert: there is no command cafe2torch, but there is caffe2torch; convert --help lists them"),
        (["net.t7", "net.onnx"], "convert: there is no command net.t7; convert --help lists them"),
        (
            ["caffe2torch", *CAFFE, "net.pth", "--imput=1x1x16x16"],
            "convert caffe2torch: there is no option --imput, but there is --input; convert caffe2torch --help lists them",
        ),
        (["caffe2torch", *CAFFE, "-x", "net.pth"], "convert caffe2torch: there is no option -x; convert caffe2torch --help lists them"),
        (
            ["inspect", CAFFE[1], "--tensor"],
            "convert inspect: there is no option --tensor, but there is --tensors; convert inspect --help lists them",
        ),
    ],
)
def test_what_is_misspelt_is_named_with_the_nearest(convert, words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert convert(*words) == (2, "", f"{said}\n")
    assert not list(tmp_path.iterdir())


def test_files_may_stand_on_both_sides_of_an_option(tmp_path, capsys):
    weights = str(FIXTURES / "digits" / "pytorch" / "digits.pth.tar")
    assert cli.main(["strip-to-weights", weights, "--key", "state_dict", str(tmp_path / "a.pth")]) == 0 and (tmp_path / "a.pth").exists()
    capsys.readouterr()
    lua = str(FIXTURES / "digits" / "torch7" / "digits.t7")
    assert cli.main(["inspect", lua, "--input", "1x1x16x16", weights]) == 0
    said = capsys.readouterr().out
    assert f"{lua}: a Lua Torch file" in said and f"{weights}: a PyTorch checkpoint" in said
    assert cli.main(["inspect", lua, "--input", "1x1x16x16", "--bogus", weights]) == 2 and "--bogus" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system doesn't list a process's threads")
@pytest.mark.parametrize("asked", [None, "2"])
def test_a_short_command_starts_no_threads_and_leaves_the_setting_to_what_comes_after(asked, tmp_path):
    code = (
        "import os, sys; from converters.cli import main; "
        f"assert main({['caffe2onnx', *CAFFE, str(tmp_path / 'out.onnx')]!r}) == 0; "
        "print(len(os.listdir('/proc/self/task')), os.environ.get('OPENBLAS_NUM_THREADS'))"
    )
    kept = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | (
        {} if asked is None else {"OPENBLAS_NUM_THREADS": asked}
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=kept)
    threads, left = done.stdout.split()[-2:]
    assert left == str(asked) and (asked or threads == "1")
