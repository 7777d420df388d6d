"""The generated PyTorch module on arrays."""

from __future__ import annotations

import linecache
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import packages
from converters.errors import ConversionError, printable
from converters.files import StrPath
from converters.runtimes.compare import Array
from converters.trust import build_written
from converters.writers.pairs import check_pair

if TYPE_CHECKING:
    import onnx_ir
    import torch


def run_torch(model: onnx_ir.Model, arrays: Mapping[str, Array]) -> list[Array]:
    """The outputs of the generated PyTorch module, in output order."""
    packages.require("torch")
    import torch

    return [r.numpy() for r in run_tensors(model, [torch.from_numpy(np.ascontiguousarray(a)) for a in arrays.values()])]


def run_tensors(model: onnx_ir.Model, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The outputs of the generated PyTorch module for tensors in input order."""
    return runner(model)(tensors)


def runner(model: onnx_ir.Model) -> Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]:
    """The generated PyTorch module as a function, to be called as often as one likes."""
    from converters.writers.source.writer import to_module

    module = to_module(model)
    return lambda tensors: [result.detach().cpu() for result in call(module, tensors)]


def call(module: torch.nn.Module, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A module's answers as a flat list."""
    import torch

    with torch.no_grad():
        answer = module(*tensors)
    return list(answer) if isinstance(answer, tuple | list) else [answer]


def run_values(
    model: onnx_ir.Model, inputs: Mapping[str, Array], names: Sequence[str] | None = None, kinds: Sequence[torch.dtype] = ()
) -> dict[str, torch.Tensor]:
    """Inner values of the graph by name (all that have a use, by default), in float64 where the graph allows that, else in float32.

    kinds: the types that are tried instead, the last for any graph.
    """
    packages.require("torch")
    import torch

    from converters.graph.changes.outputs import ending_in
    from converters.writers.source.writer import to_module

    if names is None:
        values = [value for node in model.graph if node.op_type != "Constant" for value in node.outputs]
        names = [str(value.name) for value in values if (value.name and value.uses()) or value.is_graph_output()]
    module = to_module(ending_in(model, names))
    kinds = kinds or (torch.float64, torch.float32)
    for kind in kinds:
        given = {name: tensor_of(array, kind) for name, array in inputs.items()}
        try:
            answers = call(module.to(kind), list(given.values()))
        except (RuntimeError, TypeError):
            if kind is kinds[-1]:
                raise
            continue  # a written constant of float32 met a double
        return given | dict(zip(names, answers, strict=True))
    raise AssertionError("unreachable")


def tensor_of(array: Array, kind: torch.dtype) -> torch.Tensor:
    """An array as a tensor, floating numbers in the type that is given."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.to(kind) if tensor.is_floating_point() else tensor


def load_written(weights: Path, source: Path) -> torch.nn.Module:
    """The module of a .py that was written beside a .pth, with these weights, in eval mode. Only for files that the user trusts.

    Warns where the two aren't of one conversion. Raises ConversionError where they don't fit.
    """
    packages.require("torch")
    import torch

    check_pair(weights, source)
    module: torch.nn.Module = build_written(source)
    try:
        module.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"), strict=True)
    except (RuntimeError, OSError, ValueError) as problem:
        lines = str(problem).splitlines() or [type(problem).__name__]
        raise ConversionError(f"doesn't fit {source.name}: {lines[0]}") from problem
    return module.eval()


def build_source(text: str, weights: StrPath) -> torch.nn.Module:
    """The module that a written file's build() makes with the weights at that path. Only for text of this package's own."""
    packages.require("torch")
    import torch

    from converters.writers.source.writer import uninitialized

    file = f"<written {id(text):x}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)  # torch.jit.script reads it
    namespace: dict[str, Any] = {"__name__": "converters.written"}
    exec(compile(text, file, "exec"), namespace)  # noqa: S102  our own text, in which nothing of a file is code
    try:
        with uninitialized():
            module: torch.nn.Module = namespace["build"]()
        stored = torch.load(os.fspath(weights), weights_only=True, mmap=True)
        made = module.state_dict()
        alike = all(tensor.dtype == made[key].dtype for key, tensor in stored.items() if key in made)
        module.load_state_dict(stored, assign=alike)  # the mapped file itself, where nothing is converted
    except (RuntimeError, ValueError, TypeError, OSError) as problem:
        raise ConversionError(f"the written source doesn't load the written weights: {printable(problem, 300)}") from problem
    return module


def in_type_of(module: torch.nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """A floating tensor in the type of a module's parameters, where its forward doesn't convert by itself."""
    kinds = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    if not tensor.is_floating_point() or len(kinds) != 1:
        return tensor
    return tensor.to(kinds.pop())


def numbers(tensor: torch.Tensor) -> Array:
    """A tensor as an array; bfloat16, which numpy hasn't, as float32."""
    import torch

    whole = tensor.detach().cpu()
    array: Array = (whole.float() if whole.dtype == torch.bfloat16 else whole).numpy()
    return array
