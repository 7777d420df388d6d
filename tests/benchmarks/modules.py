"""What a written module and a written ONNX take to run, beside torchvision's own class and torch.onnx.export's file of the same net.

    python -m tests.benchmarks.modules resnet50 1 32       a net of torchvision, batches; a line of JSON for each figure

One thread, CPU seconds, the two in turns, the least of many runs of each. It runs in a process of its own: torch is large.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

NETS = {"resnet50": 224, "inception_v3": 299, "densenet121": 224, "mobilenet_v2": 224}
"""torchvision's name -> the side of its images."""
WITHIN = 1.02
"""How much of the other's time is allowed."""


def measure(name: str, batches: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yields what was run, theirs and ours in CPU seconds for each run, and the largest difference of the answers."""
    import torch

    import converters

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = importlib.import_module("torchvision.models")
    theirs = getattr(models, name)(weights=None, **({"init_weights": False} if name == "inception_v3" else {})).eval()
    side = NETS[name]
    with tempfile.TemporaryDirectory() as scratch, torch.no_grad():
        folder = Path(scratch)
        torch.save(theirs, folder / "whole.pth")
        code = Path(str(models.__file__)).parents[2]
        model = converters.load(folder / "whole.pth", inputs={"": (1, 3, side, side)}, code=code, trust=True)
        converters.save(model, folder / "ours.onnx")
        ours = converters.to_module(converters.load(folder / "ours.onnx")).eval()
        for batch in batches:
            x = torch.randn(batch, 3, side, side)
            yield _row(f"{name}, batch {batch}", theirs, ours, x, 40 if batch == 1 else 4)
        x = torch.randn(1, 3, side, side)
        yield _row(f"{name}, batch 1, torch.compile", torch.compile(theirs), torch.compile(ours, fullgraph=True), x, 40)
        torch.onnx.export(theirs, (x,), folder / "theirs.onnx", dynamo=True, verbose=False)
        yield _row(f"{name}.onnx, batch 1", _runner(folder / "theirs.onnx"), _runner(folder / "ours.onnx"), x, 40)


def _row(name: str, theirs: Callable[[Any], Any], ours: Callable[[Any], Any], x: Any, runs: int) -> dict[str, Any]:
    difference = float((theirs(x) - ours(x)).abs().max())
    least = [float("inf"), float("inf")]
    for number in range(2 * runs):
        begun = time.process_time()
        (theirs, ours)[number % 2](x)
        least[number % 2] = min(least[number % 2], time.process_time() - begun)
    return {"name": name, "theirs": least[0], "ours": least[1], "difference": difference}


def _runner(path: Path) -> Callable[[Any], Any]:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


if __name__ == "__main__":
    for found in measure(sys.argv[1], [int(word) for word in sys.argv[2:]]):
        print(json.dumps(found), flush=True)
