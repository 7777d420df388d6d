"""Seconds and memory of `convert caffe2torch` and `caffe2onnx`, as ratios to `cp` of the weights in the same run.

python -m tests.benchmarks.caffe deploy.prototxt net.caffemodel
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measure import run, seconds_to_copy


def main(prototxt: str, weights: str) -> None:
    path = Path(weights)
    size = path.stat().st_size / 2**20
    copy = seconds_to_copy(path)
    print(f"{path.name}: {size:.0f} MB, cp {copy:.2f} s")
    for command, suffix in (("caffe2torch", "pth"), ("caffe2onnx", "onnx")):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            seconds, peak = run([sys.executable, "-m", "converters", command, prototxt, weights, f"{folder}/out.{suffix}", "--force"])
        print(f"{command}: {seconds:.2f} s = {seconds / copy:.1f} x cp; peak {peak:.0f} MB = {peak / size:.2f} x the file")


if __name__ == "__main__":
    main(*sys.argv[1:])
