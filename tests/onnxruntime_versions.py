"""Runs the written pooling grids on the onnxruntimes that people have: 1.16.3, 1.20.1 and the newest.

    python -m tests.onnxruntime_versions [FOLDER]

Makes a virtual environment for each in FOLDER (default: a temporary one), writes the ceil_mode grid of Caffe pooling layers and that
of torch.nn pooling modules as ONNX, runs every file in every environment, and compares with the formulas. Exit status 0 if all agree.
The newest version is also part of the test suite (test_pooling_grid.py, pytorch/test_pooling_export.py).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

import converters
from tests.graph import pooling_grid
from tests.readers.pytorch import pooling_modules

VERSIONS = {"1.16.3": ["onnxruntime==1.16.3", "numpy<2"], "1.20.1": ["onnxruntime==1.20.1", "numpy<2"], "newest": ["onnxruntime"]}

RUNNER = """
import sys, zipfile
import numpy as np, onnxruntime
onnxruntime.set_default_logger_severity(4)
wrong = rows = 0
for path in sys.argv[1:]:
    case = np.load(path)
    session = onnxruntime.InferenceSession(path[:-4] + ".onnx", providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: case["input"]})
    for value, output in zip(outputs, session.get_outputs()):
        rows += 1
        want = case["expected/" + output.name]
        if value.shape != want.shape or not np.allclose(value, want, rtol=1e-5, atol=1e-6, equal_nan=True):
            wrong += 1
            if wrong <= 10:
                print("  wrong:", path, output.name, value.shape, want.shape)
print("onnxruntime", onnxruntime.__version__ + ":", rows - wrong, "of", rows, "pooling layers right")
sys.exit(wrong != 0)
"""


def write_cases(folder: Path) -> list[Path]:
    """grid.onnx with grid.npz (input, expected/NAME) for every size, and the same for torch.nn modules."""
    found = []
    for size in pooling_grid.SIZES:
        model = pooling_grid.load(size, folder)
        converters.save(model, folder / f"caffe_{size}.onnx")
        found.append(folder / f"caffe_{size}.npz")
        answers = {f"expected/{name}": value for name, value in pooling_grid.expected(size).items()}
        np.savez(found[-1], input=pooling_grid.picture(size), **answers)
        model, x, answers = pooling_modules.case(size)
        converters.save(model, folder / f"torch_{size}.onnx")
        found.append(folder / f"torch_{size}.npz")
        np.savez(found[-1], input=x, **{f"expected/{name}": value for name, value in answers.items()})
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        cases = write_cases(Path(temporary))
        failed = 0
        for name, requirements in VERSIONS.items():
            home = folder / f"onnxruntime-{name}"
            python = home / "bin" / "python"
            if not python.exists():
                venv.create(home, with_pip=True)
                subprocess.run([python, "-m", "pip", "install", "--quiet", "--quiet", *requirements], check=True)
            failed += subprocess.run([python, "-c", RUNNER, *map(str, cases)], check=False).returncode != 0
        return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
