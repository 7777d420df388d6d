"""What a terminal shows besides results: a line while there is work, colors on results alone, completion of commands."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from converters.cli import main, terminal
from tests.conformance import FIXTURES

CAFFE = [str(FIXTURES / "digits/caffe/deploy.prototxt"), str(FIXTURES / "digits/caffe/digits.caffemodel")]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_work_over_a_second_shows_a_line_and_takes_it_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "AFTER", 0.0)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with terminal.working():
        terminal.doing("reading net\x1b[2J.t7")
        _wait_for("reading")
        terminal.doing("20 of 80 images", 20, 80)
        _wait_for("[######..................] 20 of 80 images, ")
        terminal.clear()
    text = sys.stderr.getvalue()
    assert "\x1b[2J" not in text and text.endswith("\r\x1b[K")


def _wait_for(words: str) -> None:
    end = time.monotonic() + 20
    while words not in sys.stderr.getvalue():  # type: ignore[attr-defined]
        assert time.monotonic() < end, sys.stderr.getvalue()  # type: ignore[attr-defined]
        time.sleep(0.01)


def test_no_line_for_quick_work_and_none_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with terminal.working():
        terminal.doing("reading")
        time.sleep(0.5)
    assert sys.stderr.getvalue() == ""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(terminal, "AFTER", 0.0)
    with terminal.working():
        terminal.doing("reading")
        time.sleep(0.5)
    assert sys.stderr.getvalue() == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals to be had here")
def test_of_the_command_on_a_terminal(tmp_path: Path) -> None:
    """The line is on stderr alone: what is piped on stays as it is."""
    code = "import sys; from converters.cli import main, terminal; terminal.AFTER = 0.0; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "caffe2onnx", *CAFFE, str(tmp_path / "a.onnx"), "--verify"]
    ours, theirs = os.openpty()
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:  # so a terminal ends on Linux
        pass
    out, _ = running.communicate(timeout=120)
    assert running.returncode == 0 and b"\x1b" not in out and b"\r" not in out
    assert b"writing a.onnx and running it ..." in shown


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "caffe2torch" in out and "--fold-preprocessing" in out.replace("\\", "")


def test_bash_completes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("shtab")
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    assert main(["completion", "bash"]) == 0
    (tmp_path / "convert.bash").write_text(capsys.readouterr().out)

    def completed(*words: str) -> set[str]:
        line = " ".join(f"'{word}'" for word in words)
        script = (
            f"source convert.bash; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_convert; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run([bash, "-c", script], cwd=tmp_path, capture_output=True, text=True)
        return set(done.stdout.split())

    assert completed("convert", "caffe2") == {"caffe2torch", "caffe2onnx"}
    assert completed("convert", "lua2torch", "--bl") == {"--blocks"}
    (tmp_path / "net.t7").touch()
    assert "net.t7" in completed("convert", "lua2torch", "net")
