"""An ONNX file in onnxruntime on arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from converters import packages
from converters.errors import ConversionError, printable
from converters.files import StrPath
from converters.runtimes.compare import Array


def run_onnx(path: StrPath, arrays: Mapping[str, Array], *, optimize: bool = False, cast: bool = False) -> list[Array]:
    """The outputs of an ONNX file in onnxruntime on the CPU, in output order. Raises ConversionError where it refuses the file.

    optimize: let onnxruntime rewrite the graph first, as it does unless told not to; without it the very nodes of the file run. cast:
    floating arrays become what the file's inputs are.
    """
    session = _session(path, optimize=optimize)
    feed = {given.name: arrays[given.name] for given in session.get_inputs()}
    if cast:
        feed = {given.name: _typed(feed[given.name], given.type, path) for given in session.get_inputs()}
    return _run(session, path, feed)


def run_each(path: StrPath, tried: Sequence[Mapping[str, Array]]) -> list[list[Array]]:
    """As `run_onnx`, of several inputs one after the other: the file is opened once, and closed in the end."""
    session = _session(path, optimize=False)
    names = [given.name for given in session.get_inputs()]
    return [_run(session, path, {name: arrays[name] for name in names}) for arrays in tried]


def _typed(array: Array, kind: str, path: StrPath) -> Array:
    """kind: onnxruntime's word, "tensor(float16)"."""
    if array.dtype.kind != "f":
        return array
    name = {"tensor(float16)": "float16", "tensor(float)": "float32", "tensor(double)": "float64"}.get(kind)
    if name is None:
        raise ConversionError(f"onnxruntime refuses it: no array can be given for an input of {kind}", path=os.fspath(path))
    return array.astype(name)


def open_session(path: StrPath, *, threads: int | None = None) -> Callable[[Array], list[Array]]:
    """A function that runs a model of one input, as often as it is called. threads: processor threads of one call, None for all."""
    session = _session(path, optimize=True, threads=threads)
    name = session.get_inputs()[0].name
    return lambda array: _run(session, path, {name: array})


def open_feed(path: StrPath, *, threads: int | None = None, cuda: bool = False) -> Callable[[Mapping[str, Array]], list[Array]]:
    """As `open_session`, for any inputs by name. cuda: on the graphics card. Raises ConversionError where there is none."""
    session = _session(path, optimize=True, threads=threads, provider="CUDA" if cuda else "CPU")
    return lambda arrays: _run(session, path, arrays)


def opened(path: StrPath) -> Callable[[Sequence[Array]], list[Array]]:
    """The file as a function of arrays in input order, to be called as often as one likes; its very nodes run."""
    session = _session(path, optimize=False)
    names = [given.name for given in session.get_inputs()]
    return lambda arrays: _run(session, path, dict(zip(names, arrays, strict=True)))


def _session(path: StrPath, *, optimize: bool, threads: int | None = None, provider: str = "CPU") -> Any:
    packages.require("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, not printed
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")  # a second copy of the weights, for a run or two
        options.enable_cpu_mem_arena = False
    if threads is not None:
        options.intra_op_num_threads = threads
    chosen = f"{provider}ExecutionProvider"
    if chosen not in onnxruntime.get_available_providers():
        raise ConversionError(f"this onnxruntime has no {chosen}", hint="use the device cpu")
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=[chosen])
    except Exception as problem:
        raise _refusal(problem, path) from problem


def _run(session: Any, path: StrPath, feed: Mapping[str, Array]) -> list[Array]:
    try:
        return [np.asarray(result) for result in session.run(None, dict(feed))]
    except Exception as problem:
        raise _refusal(problem, path) from problem


def _refusal(problem: Exception, path: StrPath) -> Exception:
    """onnxruntime's errors, whose classes have no base of their own, as ours; any other as it is."""
    if not type(problem).__module__.startswith("onnxruntime"):
        return problem
    return ConversionError(f"onnxruntime refuses it: {printable(problem, 400)}", path=os.fspath(path))
