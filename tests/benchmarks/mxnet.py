"""Seconds and memory of `convert mxnet2torch` and `mxnet2onnx`, as ratios to `cp` of the parameters in the same run, beside MXNet itself.

python -m tests.benchmarks.mxnet net-symbol.json net-0000.params data=1x3x224x224 [PYTHON WITH MXNET]

The last argument is a Python of its own that has mxnet 1.9.1 (and onnx, for mx2onnx): it is timed at loading the parameters, and
where it can at exporting the net.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import run, seconds_to_copy

LOADING = "import mxnet as mx, sys; [a.asnumpy() for a in mx.nd.load(sys.argv[1]).values()]"
EXPORTING = (
    "import sys, numpy as np; from mxnet import onnx; "
    "onnx.export_model(sys.argv[1], sys.argv[2], [tuple(map(int, sys.argv[3].split('x')))], np.float32, sys.argv[4])"
)


def main(symbol: str, weights: str, shape: str, peer: str | None = None) -> None:
    path = Path(weights)
    size = path.stat().st_size / 2**20
    copy = seconds_to_copy(path)
    print(f"{path.name}: {size:.0f} MB, cp {copy:.2f} s")
    start, _ = run([sys.executable, "-c", "import onnx_ir, onnx"])
    print(f"importing the graph libraries: {start:.2f} s")
    for command, suffix in (("mxnet2torch", "pth"), ("mxnet2onnx", "onnx")):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            words = [sys.executable, "-m", "converters", command, symbol, weights, f"{folder}/out.{suffix}", "--input", shape, "--force"]
            seconds, peak = run(words)
        print(f"{command}: {seconds:.2f} s = {seconds / copy:.1f} x cp; peak {peak:.0f} MB = {peak / size:.2f} x the file")
    if peer:
        seconds, peak = run([peer, "-c", LOADING, weights])
        print(f"mx.nd.load: {seconds:.2f} s = {seconds / copy:.1f} x cp; peak {peak:.0f} MB")
        with tempfile.TemporaryDirectory() as folder:
            try:
                seconds, peak = run([peer, "-c", EXPORTING, symbol, weights, shape.partition("=")[2], f"{folder}/out.onnx"], repeats=1)
                print(f"mx2onnx: {seconds:.2f} s = {seconds / copy:.1f} x cp; peak {peak:.0f} MB")
            except subprocess.CalledProcessError as problem:
                print("mx2onnx: fails:", (problem.stderr or "").strip().splitlines()[-1:])


if __name__ == "__main__":
    main(*sys.argv[1:])
