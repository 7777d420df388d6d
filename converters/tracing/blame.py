"""Which step of an exported model is the first to give other numbers than PyTorch: torch.export's graph beside the ONNX one."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir
import torch

from converters.errors import ConversionError, printable
from converters.graph.changes.outputs import ending_in
from converters.runtimes.compare import difference
from converters.runtimes.onnxruntime import opened
from converters.writers.onnx.writer import write_onnx


def first_step(exported: Any, model: onnx_ir.Model, tensors: Sequence[torch.Tensor], tolerance: float) -> str | None:
    """The operator that the differences begin with and its module's path, in words; None where no value of the graph's top level shows it.

    exported: torch.export's program, whose nodes have the names of the graph's values.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    recorder = _Recorder(exported.module())
    try:
        with torch.no_grad():
            recorder.run(*[tensor.clone() for tensor in tensors])
        ours = _inner(model, set(recorder.values), tensors)
    except Exception:  # an explanation that fails is none
        return None
    for name, (node, theirs) in recorder.values.items():
        got = ours.get(name)
        if got is None or theirs.is_complex():
            continue
        differs = got.shape != tuple(theirs.shape)
        if differs or difference(name, got.astype("float64"), theirs.double().numpy()).error > tolerance:
            return _named(node)
    return None


class _Recorder(torch.fx.Interpreter):
    """Runs the graph and keeps each step's tensor."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.values: dict[str, tuple[Any, torch.Tensor]] = {}

    def run_node(self, n: Any) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, torch.Tensor):
            self.values[n.name] = (n, result.detach().clone())
        return result


def _inner(model: onnx_ir.Model, names: set[str], tensors: Sequence[torch.Tensor]) -> dict[str, Any]:
    """The graph's own values of these names, in onnxruntime."""
    inner = [str(value.name) for node in model.graph for value in node.outputs if value.name in names]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(ending_in(model, inner), path)
        return dict(zip(inner, opened(path)([tensor.numpy() for tensor in tensors]), strict=True))


def _named(node: Any) -> str:
    """An operator by its own name and the path of the module that calls it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]).removeprefix("L['self'].").removeprefix("inner").removeprefix(".") if stack else ""
    operator = printable(str(node.target))
    return f"operator '{operator}'" + (f" in {printable(path)}" if path else "")


def explained(problem: ConversionError, step: str | None) -> ConversionError:
    """The same, with the step's name and what to do."""
    if step is None:
        return problem
    return ConversionError(f"{problem.what}, from {step} on", hint="write it in other operators, or end the net before it")
