"""What each command imports: the packages that its work needs, and none besides."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
CAFFE = [str(DIGITS / "caffe/deploy.prototxt"), str(DIGITS / "caffe/digits.caffemodel")]
GRAPH = {"numpy", "google", "onnx", "onnx_ir", "ml_dtypes", "packaging", "typing_extensions"}
COUNT = """
import sys
before = {name.partition(".")[0] for name in sys.modules}
from converters.cli import main
assert main(sys.argv[1:]) == 0
found = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print("IMPORTED", *sorted(found - {"converters"}), *(["sympy.core"] if "sympy.core" in sys.modules else []))
"""


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["caffe2torch", *CAFFE, "out.pth"], GRAPH),
        (["caffe2onnx", *CAFFE, "out.onnx"], GRAPH),
        (["lua2onnx", str(DIGITS / "torch7/digits.t7"), "out.onnx", "--input", "2x1x16x16"], GRAPH),
        (["tf2torch", str(DIGITS / "tensorflow/digits.pb"), "out.pth"], GRAPH),
        (["strip-to-weights", str(DIGITS / "pytorch/digits_whole.pth"), "out.safetensors"], {"numpy"}),
        (["strip-to-weights", str(DIGITS / "tensorflow/digits.ckpt"), "out.pth"], {"numpy"}),
        (["inspect", str(DIGITS / "mxnet/digits-0010.params")], {"numpy"}),
        (["formats", "caffe"], GRAPH),
    ],
    ids=lambda value: f"{value[0]}-{value[1].rpartition('.')[2]}" if isinstance(value, list) else "",
)
def test_a_command_imports_what_it_needs(words, allowed, tmp_path):
    done = subprocess.run([sys.executable, "-c", COUNT, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.partition("IMPORTED ")[2].split())
    assert {name for name in found if not name.startswith(("_", "sympy"))} <= allowed  # sympy itself is a module that waits
    assert "sympy.core" not in found, "sympy was looked at, though no conversion builds a formula"


def test_sympy_is_the_real_one_for_whoever_uses_it():
    lines = (
        "import converters, onnx_ir, sys",
        "assert 'sympy.core' not in sys.modules",
        "size = onnx_ir.SymbolicDim('N') + 1",
        "import sympy",
        "print(size, sympy.Max(1, 2))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout.split() == ["N", "+", "1", "2"], done.stderr
