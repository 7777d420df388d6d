"""Whatever stops a command leaves nothing half written, and is said in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from converters.writers.pth import write_pth
from tests.conformance import FIXTURES

CAFFE = (FIXTURES / "digits" / "caffe" / "deploy.prototxt", FIXTURES / "digits" / "caffe" / "digits.caffemodel")
LUA = FIXTURES / "digits" / "torch7" / "digits.t7"

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="POSIX signals")

WAITING = """
import os, sys, time
if {named!r} and hasattr(os, "O_TMPFILE"):
    del os.O_TMPFILE
import converters.files as files

class Slow(files._Output):
    def finish(self, *, sync):
        print("writing", flush=True)
        {action}
        super().finish(sync=sync)

files._Output = Slow
from converters.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "big.pth"
    write_pth(path, {"w": np.arange(1 << 18, dtype=np.float32)})
    return path


def default_signals() -> None:
    """In the child: signals do what they do, though whoever runs the tests (nohup, a shell's background) ignores them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


@pytest.mark.parametrize("named", [False, True], ids=["unnamed", "named"])
@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_leaves_nothing(name, status, named, checkpoint, tmp_path):
    code = WAITING.format(named=named, action="time.sleep(60)")
    words = [sys.executable, "-c", code, "strip-to-weights", str(checkpoint), str(tmp_path / "out.pth")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, **pipes, text=True, preexec_fn=default_signals) as child:
        assert child.stdout is not None and child.stdout.readline() == "writing\n"
        assert [path.suffix for path in tmp_path.iterdir()] == ([".part"] if named or not hasattr(os, "O_TMPFILE") else [])
        time.sleep(0.1)
        child.send_signal(getattr(signal, name))
        _, said = child.communicate(timeout=60)
    assert child.returncode == status and said.count("\n") == 1 and "nothing was written" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGBUS"), reason="SIGBUS")
@pytest.mark.parametrize("as_json", [False, True])
def test_a_source_that_is_cut_short_is_one_line(as_json, checkpoint, tmp_path):
    source = tmp_path / "cut.pth"
    source.write_bytes(Path(checkpoint).read_bytes())
    code = """
import os, sys
import converters.files as files
real = files._map
def mapped(path):
    view = real(path)
    os.truncate(path, 100)
    bytes(view[-100:])
    return view
files._map = mapped
from converters.cli import main
sys.exit(main(sys.argv[1:]))
"""
    words = [sys.executable, "-c", code, "strip-to-weights", str(source), str(tmp_path / "out.pth"), *(["--json"] if as_json else [])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    said = done.stdout if as_json else done.stderr
    assert done.returncode == 1 and said.count("\n") == 1 and f"{source}: was cut short by another program" in said
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits of files")
@pytest.mark.parametrize("target", ["out.pth", "out.safetensors"])
def test_a_target_that_may_not_grow_is_one_line(target, checkpoint, tmp_path):
    """A quota, or a full disk."""
    import resource

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    words = [sys.executable, "-m", "converters", "strip-to-weights", str(checkpoint), str(tmp_path / target)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, preexec_fn=limited)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and target in done.stderr and "internal" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space")
def test_a_file_beyond_the_address_space_is_one_line(tmp_path):
    import resource

    source = tmp_path / "big.safetensors"
    header = json.dumps({"w": {"dtype": "U8", "shape": [3 << 30], "data_offsets": [0, 3 << 30]}}).encode()
    source.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(source, 8 + len(header) + (3 << 30))  # takes no room on the disk
    words = [sys.executable, "-m", "converters", "strip-to-weights", str(source), str(tmp_path / "out.pth")]
    limits = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, "OMP_NUM_THREADS": "1"}, **limits)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and str(source) in done.stderr and "internal" not in done.stderr
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("package", ["converters.formats", "numpy", "onnx_ir"])
def test_an_interrupted_import_is_one_line(package, tmp_path):
    """Ctrl-C while a package is imported: what the import makes of it is no fault of the file."""
    code = f"""
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == {package!r}:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from converters.cli import main
sys.exit(main(sys.argv[1:]))
"""
    words = [sys.executable, "-c", code, "caffe2onnx", *map(str, CAFFE), str(tmp_path / "out.onnx")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 130 and done.stderr.count("\n") == 1 and "interrupted" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    "words",
    [["caffe2onnx", *CAFFE, "out.onnx"], ["lua2torch", LUA, "out.pth", "--input", "1x1x16x16"], ["inspect", LUA]],
    ids=lambda w: w[0],
)
def test_a_signal_that_others_code_swallows_stops_the_command(name, words, tmp_path):
    """A destructor or a callback from C takes the exception for itself: what is computed from there on isn't what was asked for."""
    code = f"""
import os, signal, sys, time

class Swallows:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":
            try:
                os.kill(os.getpid(), signal.{name})
                time.sleep(5)
            except BaseException:
                pass

sys.meta_path.insert(0, Swallows())
from converters.cli import main
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 128 + getattr(signal, name) and done.stderr.count("\n") == 1, done.stderr
    assert "interrupted" in done.stderr or "stopped" in done.stderr
    assert list(tmp_path.iterdir()) == []
