"""Stops commands at random moments, by every signal: nothing half written is left, no pair of an old and a new file goes unnoticed.

    python -m tests.kills [--rounds 100] [--only lua2torch] [--signal SIGHUP]

Each round writes over files that are there already (`--force`), and is stopped at a moment within the time that the command takes. The
commands run in a process that was forked from this one, so that starting Python takes none of that time. After each round: no temporary
file (but after SIGKILL where the system has no O_TMPFILE), every target is an old or the new file as a whole, and where a .pth and its
.py are of two conversions, `check_pair` says so. Prints a table: rounds, stopped before the end, mixed pairs that were noticed, faults.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import converters
from converters.cli import main as command
from converters.writers.pairs import check_pair
from tests.conformance import FIXTURES

DIGITS = FIXTURES / "digits"
CAFFE = [str(DIGITS / "caffe" / "deploy.prototxt"), str(DIGITS / "caffe" / "digits.caffemodel")]
LUA = [str(DIGITS / "torch7" / "digits.t7")]
MXNET = [str(DIGITS / "mxnet" / "digits-symbol.json"), str(DIGITS / "mxnet" / "digits-0010.params")]
TENSORFLOW = [str(DIGITS / "tensorflow" / "digits.pb")]
ONNX = ["../digits.onnx"]
"""Written from Caffe's net before the first round."""
TORCH = [str(DIGITS / "pytorch" / "digits_whole.pth")]
CODE = ["--code", str(DIGITS / "pytorch"), "--trust"]
SHAPE = ["--input", "1x1x16x16"]
COMMANDS: dict[str, tuple[list[str], str]] = {
    "caffe2torch": ([*CAFFE, "out.pth"], "torch"),
    "caffe2onnx": ([*CAFFE, "out.onnx"], "onnx"),
    "lua2torch": ([*LUA, "out.pth", *SHAPE], "torch"),
    "lua2onnx": ([*LUA, "out.onnx", *SHAPE], "onnx"),
    "mxnet2torch": ([*MXNET, "out.pth", *SHAPE], "torch"),
    "mxnet2onnx": ([*MXNET, "out.onnx", *SHAPE], "onnx"),
    "tf2torch": ([*TENSORFLOW, "out.pth"], "torch"),
    "tf2onnx": ([*TENSORFLOW, "out.onnx"], "onnx"),
    "onnx2torch": ([*ONNX, "out.pth"], "torch"),
    "torch2onnx": ([*TORCH, "out.onnx", *SHAPE, *CODE], "onnx"),
    "strip-to-weights": ([*TORCH, "out.safetensors"], "weights"),
}
SIGNALS = ("SIGKILL", "SIGINT", "SIGTERM", "SIGHUP")


def run(words: Sequence[str], folder: Path) -> int:
    """Forks; the child runs the command in the folder. The child's id."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        os.chdir(folder)
        silent = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silent, stream)
        for name in SIGNALS[1:]:
            signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
        status = command([*words, "--force", "--quiet"])
    finally:
        os._exit(status)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def versions(words: Sequence[str], kind: str, folder: Path) -> list[dict[str, str]]:
    """What the folder holds before and after the command; the folder is left as it is before."""
    older = {"torch": ("lua2torch", "mxnet2torch"), "onnx": ("lua2onnx", "mxnet2onnx")}.get(kind, ())
    name = next((other for other in older if other != words[0]), None)
    before = [name, *COMMANDS[name][0]] if name else ["strip-to-weights", str(DIGITS / "pytorch" / "digits.pth.tar"), "out.safetensors"]
    found = []
    for round_ in (before, words):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        assert os.waitstatus_to_exitcode(os.waitpid(run(round_, folder), 0)[1]) == 0, round_
        found.append(contents(folder))
        if round_ is before:
            shutil.copytree(folder, f"{folder}.before", dirs_exist_ok=True)
    return found


@contextlib.contextmanager
def restored(folder: Path) -> Iterator[None]:
    shutil.rmtree(folder)
    shutil.copytree(f"{folder}.before", folder)
    yield


def faults(folder: Path, name: str, known: Sequence[dict[str, str]]) -> tuple[list[str], bool]:
    """What is wrong after a round, and whether a mixed pair was noticed."""
    found = contents(folder)
    left = [file for file in found if file not in known[0]]
    if name == "SIGKILL" and not hasattr(os, "O_TMPFILE"):
        left = [file for file in left if not file.endswith(".part")]
    wrong = [f"{file} is left" for file in left]
    wrong += [f"{file} is gone" for file in known[0] if file not in found]
    wrong += [f"{file} is neither the old nor the new one" for file in known[0] if found.get(file) not in {k.get(file) for k in known}]
    if not wrong and found not in known:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            check_pair(folder / "out.pth", folder / "out.py")
        return ([] if said else ["a mixed pair went unnoticed"]), bool(said)
    return wrong, False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--only", default="", help="commands whose name holds this")
    parser.add_argument("--signal", choices=SIGNALS, action="append", help="not all of them; repeat it for more")
    asked = parser.parse_args()
    dice, total = random.Random(1), Counter[str]()
    with tempfile.TemporaryDirectory() as temporary:
        converters.save(converters.load(*CAFFE), Path(temporary, Path(*ONNX).name))  # imports what most commands need, too
        for name, (arguments, kind) in COMMANDS.items():
            if asked.only not in name:
                continue
            folder = Path(temporary, name)
            known = versions([name, *arguments], kind, folder)
            start = time.monotonic()
            os.waitpid(run([name, *arguments], folder), 0)
            duration = time.monotonic() - start
            for word in asked.signal or SIGNALS:
                counts = Counter[str]()
                for _ in range(asked.rounds):
                    with restored(folder):
                        child = run([name, *arguments], folder)
                        moments = (0, 1.1) if dice.random() < 0.5 else (0.8, 1.05)  # half of them while files are written
                        time.sleep(dice.uniform(*moments) * duration)
                        os.kill(child, getattr(signal, word))
                        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
                        wrong, noticed = faults(folder, word, known)
                    counts.update(rounds=1, stopped=int(status != 0), mixed=int(noticed), faults=len(wrong))
                    for words in wrong[:3]:
                        print(f"{name} {word}: {words}")
                print(f"{name:18} {word:8}", *(f"{key} {counts[key]:4}" for key in ("rounds", "stopped", "mixed", "faults")), flush=True)
                total += counts
    print("in all", dict(total))
    return int(total["faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())
