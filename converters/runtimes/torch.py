"""The generated PyTorch module on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import packages
from converters.runtimes.compare import Array

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
    import torch

    from converters.writers.source.writer import to_module

    module = to_module(model)
    with torch.no_grad():
        result = module(*tensors)
    results: Sequence[Any] = result if isinstance(result, tuple | list) else [result]
    return [r.detach().cpu() for r in results]
