"""A package that isn't installed is one line that names what installs it; what doesn't need the package goes on without it."""

from __future__ import annotations

import configparser
import subprocess
import sys

import pytest

from converters import packages
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
CAFFE = [str(DIGITS / "caffe/deploy.prototxt"), str(DIGITS / "caffe/digits.caffemodel")]
LUA = [str(DIGITS / "torch7/digits.t7")]
PTH = [str(DIGITS / "pytorch/digits_whole.pth")]
CHECKPOINT = [str(DIGITS / "tensorflow/digits.ckpt")]
PARAMS = [str(DIGITS / "mxnet/digits-0010.params")]
BEYOND_NUMPY = "onnx onnx_ir ml_dtypes h5py google.protobuf torch onnxruntime torchfile onnxscript safetensors PIL dask"
BEYOND_BASE = "torch onnxruntime torchfile onnxscript safetensors PIL dask"

RUN = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split()))  # importing them fails, as if they weren't installed
from converters.cli import main
sys.exit(main(sys.argv[2:]))
"""


def run(missing: str, words: list[str], folder) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RUN, missing, *words], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        (BEYOND_NUMPY, ["strip-to-weights", *PTH, "out.pth"]),
        (BEYOND_NUMPY, ["strip-to-weights", *PTH, "out.safetensors"]),
        (BEYOND_NUMPY, ["strip-to-weights", *LUA, "out.pth"]),
        (BEYOND_NUMPY, ["strip-to-weights", *PARAMS, "out.safetensors"]),
        (BEYOND_NUMPY, ["inspect", *PTH]),
        (BEYOND_NUMPY, ["inspect", *LUA]),
        (BEYOND_NUMPY, ["inspect", *PARAMS]),
        (BEYOND_NUMPY, ["inspect", *CHECKPOINT]),
        (BEYOND_NUMPY, ["strip-to-weights", *CHECKPOINT, "out.pth"]),
        (BEYOND_NUMPY, ["verify", *LUA, *LUA]),
        (BEYOND_BASE, ["caffe2torch", *CAFFE, "out.pth"]),
        (BEYOND_BASE, ["caffe2onnx", *CAFFE, "out.onnx"]),
        (BEYOND_BASE, ["lua2torch", *LUA, "out.pth", "--input", "2x1x16x16"]),
        (
            BEYOND_BASE,
            ["mxnet2onnx", str(DIGITS / "mxnet/digits-symbol.json"), *PARAMS, "out.onnx", "--input", "data=1x1x16x16"],
        ),
        (BEYOND_BASE, ["inspect", CAFFE[1]]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value.split()[0],
)
def test_the_rest_is_not_needed(missing, words, tmp_path):
    done = run(missing, words, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("missing", "words", "line"),
    [
        ("torch", ["caffe2torch", *CAFFE, "out.pth", "--verify"], 'torch isn\'t installed, and needed here: pip install "{}[verify]"'),
        ("torch onnxruntime", ["caffe2onnx", *CAFFE, "out.onnx", "--verify"], "torch and onnxruntime aren't installed, {}[verify]\""),
        ("onnxruntime", ["lua2onnx", *LUA, "out.onnx", "--input", "2x1x16x16", "--verify"], "onnxruntime isn't installed, {}[verify]\""),
        ("torch onnxscript", ["torch2onnx", *PTH, "out.onnx", "--input", "1x1x16x16"], "torch and onnxscript aren't {}[torch2onnx]\""),
        ("onnxscript", ["torch2onnx", *PTH, "out.onnx", "--input", "1x1x16x16"], "onnxscript isn't installed, {}[torch2onnx]\""),
        ("google.protobuf", ["inspect", CAFFE[1]], "protobuf isn't installed, {}"),
        ("google google.protobuf", ["inspect", str(DIGITS / "tensorflow/digits.pb")], "protobuf isn't installed, {}"),
        ("h5py", ["inspect", str(DIGITS / "caffe/digits.caffemodel.h5")], "h5py isn't installed, {}"),
        ("onnx onnx_ir", ["lua2onnx", *LUA, "out.onnx", "--input", "2x1x16x16"], "onnx and onnx-ir aren't installed, {}"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_one_line_names_the_extra(missing, words, line, tmp_path):
    done = run(missing, words, tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    start, end = line.split("{}")
    assert done.stderr.startswith(f"error: {start.rstrip()}"), done.stderr
    assert done.stderr.rstrip().endswith(packages.DISTRIBUTION + end), done.stderr
    assert not list(tmp_path.iterdir())


def test_an_import_at_the_head_of_a_file_is_explained():
    absent = packages.explain(ModuleNotFoundError("No module named 'tor'", name="tor"))
    assert absent is None  # not one of these packages: a fault of ours
    assert packages.explain(ModuleNotFoundError("No module named 'numpy.nothing'", name="numpy.nothing")) is None  # numpy is there
    code = "import sys; sys.modules['onnx_ir'] = None; from converters import packages\ntry:\n import onnx_ir\n"
    code += "except ImportError as problem: print(packages.explain(problem))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "onnx-ir isn't installed, and needed here: pip install checkpoint-converters\n"


def test_a_checkout_needs_no_installation_to_find_its_schemas(tmp_path):
    code = (
        "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; sys.path.insert(0, sys.argv[1])\n"
    )
    code += "import converters.schemas.caffe_pb2 as p; print(p.__file__)"
    done = subprocess.run([sys.executable, "-c", code, str(FIXTURES.parent)], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == str(FIXTURES.parent / "schemas/caffe_pb2.py"), done.stderr


def test_a_broken_package_says_why(tmp_path, monkeypatch):
    (tmp_path / "torchfile.py").write_text("raise OSError('libfoo.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchfile", raising=False)
    with pytest.raises(packages.MissingPackageError, match=r"^torchfile is installed but can't be imported: libfoo.so: cannot open"):
        packages.require("torchfile")


def test_the_extras_bring_what_they_are_named_for():
    settings = configparser.ConfigParser()
    settings.read(FIXTURES.parent / "setup.cfg")
    extras = settings["options.extras_require"]
    assert settings["metadata"]["name"] == packages.DISTRIBUTION
    for package, extra in packages.EXTRAS.items():
        brought = extras[extra].replace("checkpoint-converters[verify]", extras["verify"])
        assert packages.DISTRIBUTIONS.get(package, package) in brought, (package, extra)
    needed = settings["options"]["install_requires"]
    assert [name for name in packages.BASE if packages.DISTRIBUTIONS.get(name, name) not in needed] == []
