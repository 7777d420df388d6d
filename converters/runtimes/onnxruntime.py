"""An ONNX file in onnxruntime on arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from converters import packages
from converters.errors import ConversionError, printable
from converters.files import StrPath
from converters.runtimes.compare import Array


def run_onnx(path: StrPath, arrays: Mapping[str, Array], *, optimize: bool = False) -> list[Array]:
    """The outputs of an ONNX file in onnxruntime on the CPU, in output order.

    optimize: let onnxruntime rewrite the graph first, as it does unless told not to; without it the very nodes of the file run.
    """
    packages.require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        return [np.asarray(r) for r in session.run(None, {name: arrays[name] for name in names})]
    except Exception as problem:
        if not type(problem).__module__.startswith("onnxruntime"):  # whose classes of errors have no base of their own
            raise
        raise ConversionError(f"onnxruntime refuses it: {printable(problem, 400)}", path=os.fspath(path)) from problem
