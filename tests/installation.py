"""What an installation with one extra alone can do, tried in a virtual environment of its own.

python tests/installation.py [base | verify | torch2onnx | images | match | migrate | completion | fast | all | sdist] [--python PYTHON]

Installs the package from this checkout, runs every command that the extra is for with the installed `convert`, and checks that a command
of another extra answers with one line that names it. `base` also measures the size and puts a user's own package `schemas` beside it;
`sdist` builds the source distribution, and runs some of the tests that it holds with what it installs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 220  # MB that the package and what it needs may add to an empty environment
DIGITS = ROOT / "fixtures" / "digits"
CAFFE = f"{DIGITS}/caffe/deploy.prototxt {DIGITS}/caffe/digits.caffemodel"
LUA = f"{DIGITS}/torch7/digits.t7"
MXNET = f"{DIGITS}/mxnet/digits-symbol.json {DIGITS}/mxnet/digits-0010.params"
TENSORFLOW = f"{DIGITS}/tensorflow/digits.ckpt.meta {DIGITS}/tensorflow/digits.ckpt"
WHOLE = f"{DIGITS}/pytorch/digits_whole.pth"

BASE = (
    f"caffe2torch {CAFFE} caffe.pth",
    f"caffe2onnx {CAFFE} caffe.onnx",
    f"lua2torch {LUA} lua.pth --input 2x1x16x16",
    f"lua2onnx {LUA} lua.onnx --input 2x1x16x16",
    f"mxnet2torch {MXNET} mxnet.pth --input data=1x1x16x16",
    f"mxnet2onnx {MXNET} mxnet.onnx --input data=1x1x16x16",
    f"tf2torch {DIGITS}/tensorflow/digits.pb tf.pth",
    f"tf2onnx {TENSORFLOW} tf.onnx --output Logits/BiasAdd",
    "onnx2torch caffe.onnx back.pth",
    f"strip-to-weights {WHOLE} weights.pth",
    f"strip-to-weights {WHOLE} weights.safetensors",
    f"strip-to-weights {TENSORFLOW.split()[1]} tf_weights.pth",
    f"inspect {WHOLE} {LUA} {DIGITS}/mxnet/digits-0010.params {CAFFE.split()[1]}",
    "verify weights.pth weights.safetensors",
    "verify caffe.onnx caffe.onnx",
)
VERIFY = (
    f"caffe2torch {CAFFE} caffe_verified.pth --verify",
    f"lua2onnx {LUA} lua_verified.onnx --input 2x1x16x16 --verify",
    f"mxnet2torch {MXNET} mxnet_verified.pth --input data=1x1x16x16 --verify",
    f"tf2onnx {TENSORFLOW} tf_verified.onnx --output Logits/BiasAdd --verify",
    "benchmark caffe.onnx --runs 1 --warmup 0",
)
TRACE = (f"torch2onnx {WHOLE} traced.onnx --input 1x1x16x16 --code {DIGITS}/pytorch --trust",)
IMAGES = (
    "classify caffe.onnx digit.pgm --channels gray --scale 255 --mean 0 --std 240 --top 2",
    "evaluate caffe.onnx val --channels gray --scale 255 --mean 0 --std 240",
    "extract-features caffe.onnx digit.pgm --layer ip1 --save features_verified.npz --channels gray --scale 255 --mean 0 --std 240",
)
MATCH = (f"strip-to-weights {WHOLE} like_verified.pth --like digits_net:DigitsNet --code {DIGITS}/pytorch --trust",)
MIGRATE = (f"migrate {DIGITS}/caffe migrated_verified --workers 1 --quiet",)
COMPLETION = ("completion bash",)
COMMANDS = {
    "base": BASE,
    "verify": BASE + VERIFY + MATCH,
    "torch2onnx": BASE + VERIFY + MATCH + TRACE,
    "images": BASE + VERIFY + MATCH + IMAGES,
    "match": BASE + VERIFY + MATCH,
    "migrate": BASE + VERIFY + MATCH + MIGRATE,
    "completion": BASE + COMPLETION,
    "fast": BASE,
    "all": BASE + VERIFY + MATCH + TRACE + IMAGES + MIGRATE + COMPLETION,
}
OWNERS = {"verify": VERIFY + MATCH, "torch2onnx": TRACE, "images": IMAGES, "migrate": MIGRATE, "completion": COMPLETION}
"""The extra that a command names where it isn't installed."""


def megabytes(folder: Path) -> float:
    """What the files in a folder take, in MB, as `du --apparent-size` counts them."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


class Environment:
    """A virtual environment in a folder, and the commands in it."""

    def __init__(self, folder: Path, python: str) -> None:
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        self.folder = folder
        self.programs = folder / ("Scripts" if os.name == "nt" else "bin")

    def pip(self, *words: str) -> None:
        quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        subprocess.run([self.programs / "python", "-m", "pip", "install", "--quiet", *words], check=True, env=quiet)

    def convert(self, line: str, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.programs / "convert", *line.split()], cwd=folder, capture_output=True, text=True)

    def python(self, code: str, folder: Path) -> str:
        done = subprocess.run([self.programs / "python", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()


def try_extra(extra: str, python: str, folder: Path) -> None:
    """Installs with the extra alone, and runs its commands and those that it must refuse."""
    environment = Environment(folder / "venv", python)
    empty = megabytes(environment.folder)
    environment.pip("-c", str(ROOT / "constraints.txt"), str(ROOT) if extra == "base" else f"{ROOT}[{extra}]")
    print(f"{extra}: {megabytes(environment.folder) - empty:.0f} MB in an environment of {empty:.0f} MB")
    if extra == "base":
        assert megabytes(environment.folder) - empty < LIMIT
        assert (
            environment.python("import importlib.util as u; print(u.find_spec('torch'), u.find_spec('onnxruntime'))", folder) == "None None"
        )
    (folder / "val" / "0").mkdir(parents=True)
    for image in ("digit.pgm", "val/0/digit.pgm"):
        (folder / image).write_bytes(b"P5 16 16 255\n" + bytes(range(256)))
    for line in COMMANDS[extra]:
        done = environment.convert(line, folder)
        assert done.returncode == 0, f"convert {line}\n{done.stderr}"
        print(f"  convert {line.split()[0]} {'--verify' if '--verify' in line else ''}")
    for owner, lines in OWNERS.items():
        if any(line not in COMMANDS[extra] for line in lines):
            for line in lines:
                refused = environment.convert(line.replace("verified", "again").replace("traced", "traced_again"), folder)
                assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 1, refused.stderr
                assert refused.stderr.rstrip().endswith(f'pip install "checkpoint-converters[{owner}]"'), refused.stderr
    second = subprocess.run([environment.programs / "converters", "--version"], capture_output=True, text=True, check=True)
    assert second.stdout.startswith("converters "), second.stdout
    from_checkout = f"import converters; converters.load({str(DIGITS / 'caffe/deploy.prototxt')!r}, {CAFFE.split()[1]!r}); print('read')"
    assert environment.python(from_checkout, ROOT) == "read"
    try_schemas(environment, folder / "mine")


def try_schemas(environment: Environment, folder: Path) -> None:
    """A user's own package called schemas stays the user's."""
    (folder / "schemas").mkdir(parents=True)
    (folder / "schemas" / "__init__.py").write_text("MINE = True\n")
    words = "import schemas, converters.schemas.caffe_pb2 as p; print(schemas.MINE, p.NetParameter(name='x').name)"
    assert environment.python(words, folder) == "True x"


def try_sdist(python: str, folder: Path) -> None:
    """Builds the sdist, unpacks it, installs it with its tests' extra, and runs some of its tests there."""
    environment = Environment(folder / "venv", python)
    environment.pip("-c", str(ROOT / "constraints.txt"), "build")
    build = [environment.programs / "python", "-m", "build", "--sdist", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    environment.pip("-c", str(unpacked / "constraints.txt"), "--editable", f"{unpacked}[test]")
    tests = [
        "tests/test_digits.py",
        "tests/test_packages.py",
        "tests/schemas",
        "tests/readers/torch7/test_t7.py",
        "tests/readers/mxnet/test_params.py",
    ]
    subprocess.run([environment.programs / "python", "-m", "pytest", *tests], cwd=unpacked, check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extras", nargs="*", default=["base"], choices=[*COMMANDS, "sdist"])
    parser.add_argument("--python", default=sys.executable, help="the interpreter to make environments with")
    asked = parser.parse_args()
    for extra in asked.extras:
        with tempfile.TemporaryDirectory() as folder:
            if extra == "sdist":
                try_sdist(asked.python, Path(folder))
            else:
                try_extra(extra, asked.python, Path(folder))
