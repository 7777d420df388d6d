"""The parts of the benchmark: start-up, large files beside `cp`, what people used before, and what is written beside torchvision's."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks import inputs
from tests.benchmarks.measure import Measured, copied, load, run
from tests.benchmarks.modules import NETS, WITHIN
from tests.benchmarks.rows import Row
from tests.conformance import FIXTURES

CONVERT = [sys.executable, "-m", "converters"]
DIGITS = FIXTURES / "digits"
MEMORY = 50.0
"""Megabytes that no file backs, of any conversion without --verify, whatever the size."""


def start_up(folder: Path, megabytes: int, repeats: int) -> Iterator[Row]:
    """Files of a few kilobytes: what is left is what a command imports."""
    caffe = [str(DIGITS / "caffe/deploy.prototxt"), str(DIGITS / "caffe/digits.caffemodel")]
    mxnet = [str(DIGITS / "mxnet/digits-symbol.json"), str(DIGITS / "mxnet/digits-0010.params")]
    commands: list[tuple[list[str], float, int]] = [
        (["--help"], 0.06, 0),
        (["no-such-command"], 0.06, 2),
        (["caffe2torch", *caffe, "out.pth"], 0.3, 0),
        (["caffe2onnx", *caffe, "out.onnx"], 0.3, 0),
        (["lua2torch", str(DIGITS / "torch7/digits.t7"), "out.pth", "--input", "1x1x16x16"], 0.3, 0),
        (["lua2onnx", str(DIGITS / "torch7/digits.t7"), "out.onnx", "--input", "1x1x16x16"], 0.3, 0),
        (["mxnet2torch", *mxnet, "out.pth", "--input", "1x1x16x16"], 0.3, 0),
        (["mxnet2onnx", *mxnet, "out.onnx", "--input", "1x1x16x16"], 0.3, 0),
        (["tf2onnx", str(DIGITS / "tensorflow/digits.pb"), "out.onnx"], 0.3, 0),
        (["strip-to-weights", str(DIGITS / "pytorch/digits_whole.pth"), "out.pth"], 0.25, 0),
        (["inspect", str(DIGITS / "pytorch/digits_whole.pth")], 0.25, 0),
    ]
    yield Row("Start-up", "python -c pass, for comparison", run([sys.executable, "-c", "pass"], folder, repeats=repeats))
    yield Row("Start-up", "python -c 'import numpy'", run([sys.executable, "-c", "import numpy"], folder, repeats=repeats))
    for words, goal, status in commands:
        force = ["--force"] if any(word.startswith("out.") for word in words) else []
        found = run([*CONVERT, *words, *force], folder, repeats=repeats + 2, status=status)
        yield Row("Start-up", words[0], found, goal, memory=MEMORY)


def large(folder: Path, megabytes: int, repeats: int) -> Iterator[Row]:
    """Large files: copies of bytes, and nothing else that grows with them."""
    for form in ("zip", "stream"):
        (name,) = _made(folder, f"inputs.checkpoint(Path('.'), {megabytes}, {form!r})")
        copy = copied(folder / name, sync=False, repeats=repeats)
        yield Row("Large files", f"cp {name}, {megabytes} MB", copy)
        for target in ("out.pth", "out.safetensors"):
            found = run([*CONVERT, "strip-to-weights", name, target, "--force"], folder, repeats=repeats)
            yield Row("Large files", f"strip-to-weights {form} to {target[4:]}", found, 2 * copy.cpu + 0.2, "2 cp + 0.20", copy, MEMORY)
        found = run([*CONVERT, "inspect", name], folder, repeats=repeats)
        yield Row("Large files", f"inspect {form}", found, 0.25, memory=MEMORY)
        _clear(folder)
    for word, maker in inputs.LARGE.items():
        words = _made(folder, f"inputs.{maker.__name__}(Path('.'), {megabytes})")
        files = [word for word in words if word.startswith("large")]
        copy = copied(folder / files[-1], sync=True, repeats=repeats)
        yield Row("Large files", f"cp and sync of {files[-1]}, {megabytes} MB", copy)
        for kind, target in (("torch", "out.pth"), ("onnx", "out.onnx")):
            if word == kind:
                continue
            found = run([*CONVERT, f"{word}2{kind}", *files, target, *words[len(files) :], "--force"], folder, repeats=repeats)
            yield Row("Large files", f"{word}2{kind}", found, 2 * copy.cpu + 0.55, "2 cp + 0.55", copy, MEMORY)
        found = run([*CONVERT, "inspect", files[-1]], folder, repeats=repeats)
        yield Row("Large files", f"inspect {files[-1]}", found, 0.25, memory=MEMORY)
        _clear(folder)


def peers(folder: Path, megabytes: int, repeats: int) -> Iterator[Row]:
    """What people used before, where it is installed."""
    programs = [
        ("torch.load and torch.save", "torch", "inputs.checkpoint(Path('.'), {}, 'zip')",
         "import torch; m = torch.load('zip.pth', weights_only=False); torch.save(m.state_dict(), 'peer.pth')",
         ["strip-to-weights", "zip.pth", "out.pth"]),
        ("torchfile.load", "torchfile", "inputs.torch7(Path('.'), {})", "import torchfile; torchfile.load('large.t7')",
         ["strip-to-weights", "large.t7", "out.pth"]),
        ("cv2.dnn.readNetFromCaffe", "cv2", "inputs.caffe(Path('.'), {})",
         "import cv2; cv2.dnn.readNetFromCaffe('large.prototxt', 'large.caffemodel')",
         ["caffe2onnx", "large.prototxt", "large.caffemodel", "out.onnx"]),
        ("onnx.load and onnx.save", "onnx", "inputs.onnx(Path('.'), {})", "import onnx; onnx.save(onnx.load('large.onnx'), 'peer.onnx')",
         ["onnx2torch", "large.onnx", "out.pth"]),
        ("onnx2torch.convert", "onnx2torch", "inputs.onnx(Path('.'), {})", "import onnx2torch; onnx2torch.convert('large.onnx')",
         ["onnx2torch", "large.onnx", "out.pth"]),
        ("mx.nd.load", "mxnet", "inputs.mxnet(Path('.'), {})",
         "import mxnet; [a.asnumpy() for a in mxnet.nd.load('large-0000.params').values()]",
         ["strip-to-weights", "large-0000.params", "out.pth"]),
    ]  # fmt: skip
    for name, package, make, program, ours in programs:
        if importlib.util.find_spec(package) is None:
            continue
        _made(folder, make.format(megabytes))
        theirs = run([sys.executable, "-c", program], folder, repeats=repeats)
        yield Row("Beside others", name, theirs)
        found = run([*CONVERT, *ours, "--force"], folder, repeats=repeats)
        yield Row("Beside others", f"convert {ours[0]}, of the same file", found, theirs.cpu, "theirs")
        _clear(folder)


def zoo(nets: Path, folder: Path, repeats: int) -> Iterator[Row]:
    """Every net below a folder, to PyTorch and ONNX."""
    found: list[tuple[str, list[Path], list[str]]] = []
    for path in sorted(nets.rglob("deploy.prototxt")):
        found.append(("caffe", [path, path.with_name("net.caffemodel")], []))
    for path in sorted(nets.rglob("*.t7")):
        found.append(("lua", [path], ["--input", "1x3x224x224"]))
    for path in sorted(nets.rglob("*-symbol.json")):
        found.append(("mxnet", [path, next(iter(sorted(path.parent.glob("*.params"))))], ["--input", "data=1x3x224x224"]))
    for word, files, more in found:
        try:
            copy = copied(files[-1], sync=True, repeats=repeats)
            for kind, target in (("torch", "out.pth"), ("onnx", "out.onnx")):
                words = [*CONVERT, f"{word}2{kind}", *map(str, files), target, *more, "--force"]
                name = f"{word}2{kind} {files[-1].parent.name}"
                yield Row("Zoo", name, run(words, folder, repeats=repeats), 2 * copy.cpu + 0.55, "2 cp + 0.55", copy, MEMORY)
        except subprocess.CalledProcessError as problem:
            print(f"{files[0]}: {(problem.stderr or '').strip()[-200:]}", file=sys.stderr)


def modules(folder: Path, megabytes: int, repeats: int) -> Iterator[Row]:
    """Written modules and ONNX files beside torchvision's classes and torch.onnx.export, where torchvision is installed."""
    if importlib.util.find_spec("torchvision") is None:
        return
    for name in NETS:
        before = load()
        words = [sys.executable, "-m", "tests.benchmarks.modules", name, "1", "32"]
        said = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2]).stdout
        for line in said.splitlines():
            found = json.loads(line)
            theirs, ours = (Measured(found[key], found[key], 0, 0, before) for key in ("theirs", "ours"))
            yield Row("Written modules", f"{found['name']}: the original", theirs)
            yield Row("Written modules", f"{found['name']}: written", ours, WITHIN * theirs.cpu, f"{WITHIN} of theirs")


PARTS: dict[str, Callable[[Path, int, int], Iterator[Row]]] = {"start-up": start_up, "large": large, "peers": peers, "modules": modules}


def _made(folder: Path, expression: str) -> list[str]:
    """Makes an input in a process of its own, so that its memory isn't ours; answers the words that it is given to a command by."""
    root = str(Path(__file__).resolve().parents[2])
    code = f"import os, sys; sys.path.insert(0, {root!r}); from pathlib import Path; from tests.benchmarks import inputs; "
    code += f"os.chdir({str(folder)!r}); print('\\n'.join({expression}))"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
