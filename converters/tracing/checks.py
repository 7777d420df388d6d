"""What a graph says beside the module that it was made of: in PyTorch, and in onnxruntime where that is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError, printable
from converters.runtimes.compare import difference

if TYPE_CHECKING:
    import onnx_ir
    import torch

COARSE = 2e-2
"""What numbers of 16 bits may differ by, and those of inputs far from zero."""
FAR = 30.0
"""What a second sample is multiplied by: where logarithms, powers and exponents leave their range."""


class DifferentError(ConversionError):
    """The graph gives other numbers than the module."""


Runner = Callable[[list[Any]], Sequence[Any]]
"""The graph in one of the runtimes: tensors in, tensors out."""


@contextlib.contextmanager
def runners_of(model: onnx_ir.Model, types: Sequence[torch.dtype]) -> Iterator[list[Runner]]:
    """The graph as PyTorch source, and in onnxruntime, where that is installed and has the types."""
    import torch

    from converters.runtimes.onnxruntime import opened
    from converters.runtimes.torch import runner
    from converters.writers.onnx.writer import write_onnx

    runs: list[Runner] = [runner(model)]
    if importlib.util.find_spec("onnxruntime") is None or torch.bfloat16 in types:
        yield runs
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path)
        try:
            session = opened(path)
        except ConversionError as problem:
            raise ConversionError(str(problem).replace(f"{path}: ", "").replace(str(path), "it")) from problem
        runs.append(lambda tensors: [torch.from_numpy(array) for array in session([t.numpy() for t in tensors])])
        yield runs


def compare(run: Runner, arrays: list[torch.Tensor], expected: Sequence[tuple[str, Any]], tolerance: float) -> None:
    """Raises ConversionError where the graph doesn't give the module's numbers."""
    import torch

    try:
        got = run(arrays)
    except ConversionError:
        raise
    except Exception as problem:  # the exporter's graph may not fit together
        raise ConversionError(f"the exported graph doesn't run: {printable(line_of(problem), 300)}") from problem
    wanted = [value for _, value in expected]
    if len(wanted) != len(got):
        raise ConversionError(f"the exported graph has {len(got)} outputs, the model {len(wanted)}")
    for number, (ours, theirs) in enumerate(zip(got, wanted, strict=True)):
        if ours.shape != theirs.shape:
            raise DifferentError(f"output {number} has shape {tuple(ours.shape)} once exported, {tuple(theirs.shape)} in PyTorch")
        coarse = theirs.dtype in (torch.float16, torch.bfloat16)
        if theirs.is_complex():
            raise ConversionError(f"output {number} is complex, which ONNX has no numbers for")
        compared = difference(f"output {number}", ours.double().numpy(), theirs.double().numpy())
        if compared.error > (max(COARSE, tolerance) if coarse else tolerance):
            how = compared.note or f"by {compared.error:.2g} of its largest number"
            raise DifferentError(f"output {number} differs once exported: {how}")


def line_of(problem: BaseException | None) -> str:
    """The first line of an error that says something."""
    lines = [line for line in str(problem).splitlines() if line.strip()]
    return re.sub(r"\x1b\[[0-9;]*m", "", lines[0]) if lines else type(problem).__name__
