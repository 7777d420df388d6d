"""What each command imports: the packages that its work needs, and the rooms of this one, and none besides."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
CAFFE = [str(DIGITS / "caffe/deploy.prototxt"), str(DIGITS / "caffe/digits.caffemodel")]
MXNET = [str(DIGITS / "mxnet/digits-symbol.json"), str(DIGITS / "mxnet/digits-0010.params")]
GRAPH = {"numpy", "google", "onnx", "onnx_ir", "ml_dtypes", "packaging", "typing_extensions"}
ROOMS = "cli errors files formats graph options packages readers recognition schemas trust".split()
WEIGHTS = [*ROOMS, "tensors"]
STRIP = [*WEIGHTS, "strip", "writers"]
CONVERSION = [*WEIGHTS, "registry", "writers"]
COUNT = """
import sys
before = {name.partition(".")[0] for name in sys.modules}
from converters.cli import main
assert main(sys.argv[1:]) == STATUS
found = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print("IMPORTED", *sorted(found - {"converters"}), *(["sympy.core"] if "sympy.core" in sys.modules else []))
ours = [name.split(".") for name in sys.modules if name.startswith("converters.")]
print("ROOMS", *sorted({parts[1] for parts in ours}))
print("READERS", *sorted({parts[2] for parts in ours if parts[1] == "readers" and len(parts) > 2} - {"fitting"}))
"""


@pytest.mark.parametrize(
    ("words", "allowed", "rooms", "reader"),
    [
        (["--help"], set(), ROOMS, ""),
        (["no-such-command"], set(), ROOMS, ""),
        (["caffe2torch", *CAFFE, "out.pth"], GRAPH, [*CONVERSION, "schemas"], "caffe"),
        (["caffe2onnx", *CAFFE, "out.onnx"], GRAPH, [*CONVERSION, "schemas"], "caffe"),
        (["lua2onnx", str(DIGITS / "torch7/digits.t7"), "out.onnx", "--input", "2x1x16x16"], GRAPH, CONVERSION, "torch7"),
        (["mxnet2torch", *MXNET, "out.pth", "--input", "1x1x16x16"], GRAPH, CONVERSION, "mxnet"),
        (["tf2torch", str(DIGITS / "tensorflow/digits.pb"), "out.pth"], GRAPH, [*CONVERSION, "schemas"], "tensorflow"),
        (["strip-to-weights", str(DIGITS / "pytorch/digits_whole.pth"), "out.safetensors"], {"numpy"}, STRIP, "pytorch"),
        (["strip-to-weights", str(DIGITS / "tensorflow/digits.ckpt"), "out.pth"], {"numpy", "google_crc32c"}, STRIP, "tensorflow"),
        (["inspect", str(DIGITS / "mxnet/digits-0010.params")], {"numpy"}, [*WEIGHTS, "inspection"], "mxnet"),
        (["inspect", str(DIGITS / "pytorch/digits_whole.pth")], {"numpy"}, [*WEIGHTS, "inspection"], "pytorch"),
        (["formats", "caffe"], GRAPH, [*WEIGHTS, "registry", "schemas"], "caffe"),
    ],
    ids=lambda value: f"{value[0]}-{value[-1].rpartition('.')[2]}" if isinstance(value, list) and len(value) < 6 else "",
)
def test_a_command_imports_what_it_needs(words, allowed, rooms, reader, tmp_path):
    code = COUNT.replace("STATUS", "2" if words[0].startswith("no") else "0")
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, ours, readers = (
        set(done.stdout.partition(f"{word} ")[2].partition("\n")[0].split()) for word in ("IMPORTED", "ROOMS", "READERS")
    )
    assert ours <= set(rooms)
    assert readers <= {reader}
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
