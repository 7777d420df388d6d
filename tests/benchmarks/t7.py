"""Seconds and memory of reading a .t7 and of looking at all of its tensors, beside torchfile and `cp` of the file in the same run.

python -m tests.benchmarks.t7 [model.t7]      without a file: 600 MB of 40 linear layers, written for the run
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.measure import run, seconds_to_copy
from tests.readers.torch7.lua import dumps, module

START = "import converters.readers.torch7.t7"
READERS = {
    "converters.readers.torch7.t7.read": "from converters.readers.torch7 import t7; t7.read(PATH)",
    "converters.readers.torch7.parameters, summed": (
        "from converters.readers.torch7 import parameters; print(sum(float(v.sum()) for v in parameters(PATH).values()))"
    ),
    "torchfile.load": "import torchfile; torchfile.load(PATH)",
}


def large(folder: str) -> Path:
    """A file of 600 MB."""
    layers = (module("nn.Linear", weight=np.full((2000, 1920), n, dtype=np.float32), bias=np.zeros(2000, np.float32)) for n in range(40))
    path = Path(folder, "large.t7")
    path.write_bytes(dumps(module("nn.Sequential", *layers)))
    return path


def main(path: Path) -> None:
    size = path.stat().st_size / 2**20
    copy = seconds_to_copy(path)
    start, least = run([sys.executable, "-c", START])
    print(f"{path.name}: {size:.0f} MB, cp {copy:.2f} s, start-up {start:.2f} s and {least:.0f} MB")
    for name, program in READERS.items():
        seconds, peak = run([sys.executable, "-c", program.replace("PATH", repr(str(path)))])
        ratio, memory = (seconds - start) / copy, (peak - least) / size
        print(f"{name}: {seconds:.2f} s, {ratio:.2f} x cp without the start-up; {memory:.2f} x the file in memory")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            # in a process of its own: what a child may be said to have used starts with what its parent has
            subprocess.run([sys.executable, "-c", f"from tests.benchmarks.t7 import large; large({scratch!r})"], check=True)
            main(Path(scratch, "large.t7"))
