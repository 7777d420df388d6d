"""A model that answers arrays: any artefact, a legacy file as well as what it was converted to, in onnxruntime or PyTorch."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from converters import formats, packages
from converters.errors import ConversionError, UnsupportedError, about
from converters.evaluation.published import proposal
from converters.files import StrPath
from converters.graph.changes.outputs import cut
from converters.graph.names import module_name
from converters.options import DEFAULTS, LoadOptions
from converters.runtimes.torch import load_written

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]
ENGINES = ("onnxruntime", "torch")


def check_engine(name: str) -> None:
    """Raises ConversionError for an engine that there isn't."""
    if name not in ENGINES:
        raise ConversionError(f"no engine is called '{name}'", hint=f"use {' or '.join(ENGINES)}")


class RunningModel:
    """Takes batches of one input and answers them; `names` are the outputs' names, in the order of the answers.

    batch: the only number of items that a net of a fixed batch takes, None for any; fewer are filled up, more are cut into pieces.
    channels: how many an image has, None where that isn't known. proposal: whose recipe is worth a try, where the layers are known.
    """

    def __init__(self, run: Callable[[Array], list[Array]], names: Sequence[str], batch: int | None, channels: int | None = None) -> None:
        self._run, self.names, self.batch, self.channels = run, tuple(names), batch, channels
        self.proposal = ""

    def __call__(self, items: Array) -> list[Array]:
        """items: (N, C, H, W). Answers an array (N, ...) for each output. Raises ConversionError where the model refuses them."""
        if self.batch is None:
            return self._run(items)
        pieces = []
        for start in range(0, len(items), self.batch):
            piece = items[start : start + self.batch]
            missing = self.batch - len(piece)
            filled = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)]) if missing else piece
            pieces.append([answer[: len(piece)] for answer in self._run(filled)])
        return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


Source = onnx_ir.Model | StrPath | Sequence[StrPath]
"""A model that was loaded, or its one or two files."""


def open_model(
    source: Source,
    options: LoadOptions = DEFAULTS,
    *,
    engine: str = "onnxruntime",
    threads: int | None = None,
    layers: Sequence[str] = (),
) -> RunningModel:
    """Opens a model for running.

    source: a loaded model, or its one or two files: legacy files, an .onnx, or a .pth with the .py that was written beside it (code,
    which runs with options.trust alone). engine: "onnxruntime" or "torch"; such a .pth runs in torch. layers: inner values to answer,
    by their source's names, instead of the outputs. Raises ConversionError.
    """
    check_engine(engine)
    if isinstance(source, onnx_ir.Model):
        return _running(source.clone() if layers else source, engine, threads, layers)
    loaded = load_source(source, _by_shape(options))
    with about(_first(source)):
        if isinstance(loaded, onnx_ir.Model):
            return _running(loaded, engine, threads, layers)
        if layers:
            words = "a PyTorch module answers its outputs alone"
            raise ConversionError(words, hint="give the .onnx, or the original files, for inner layers")
        return RunningModel(_in_torch(loaded, threads), ["output"], None)


def load_source(source: Source, options: LoadOptions = DEFAULTS) -> onnx_ir.Model | torch.nn.Module:
    """The graph of a model, loaded or in one or two files; of a .pth with the .py that was written beside it, the module.

    That .py is code, which runs with options.trust alone. Raises ConversionError.
    """
    if isinstance(source, onnx_ir.Model):
        return source
    paths = [source] if isinstance(source, str | os.PathLike) else list(source)
    first = formats.recognize(paths[0])
    row = formats.format_of(first)
    beside = Path(first.path).with_name(f"{module_name(Path(first.path).stem)}.py")
    with about(first.path):
        if row is not None and row.name == "pytorch" and options.code is None and beside.is_file():
            return _written_module(Path(first.path), beside, options)
        return formats.load([first, *paths[1:]], options)


def _by_shape(options: LoadOptions) -> LoadOptions:
    """Images go into a model of one input, which its class may call what it likes: the shape is that of the only input."""
    name, spec = next(iter(options.inputs.items()), ("", ()))
    return replace(options, inputs={"": spec}) if len(options.inputs) == 1 and "." not in name else options


def _first(source: StrPath | Sequence[StrPath]) -> StrPath:
    return source if isinstance(source, str | os.PathLike) else source[0]


def _running(model: onnx_ir.Model, engine: str, threads: int | None, layers: Sequence[str]) -> RunningModel:
    told = proposal(model)
    if layers:
        cut(model, layers)
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    if len(inputs) != 1:
        names = ", ".join(str(value.name) for value in inputs)
        raise ConversionError(f"takes {len(inputs)} inputs ({names}); images go into models of one")
    dims = [] if inputs[0].shape is None else [size if isinstance(size, int) else None for size in inputs[0].shape]
    run = _in_onnxruntime(model, threads) if engine == "onnxruntime" else _in_torch(_module(model), threads)
    running = RunningModel(
        run, [str(value.name) for value in model.graph.outputs], dims[0] if dims else None, dims[1] if len(dims) == 4 else None
    )
    running.proposal = told
    return running


def _in_onnxruntime(model: onnx_ir.Model, threads: int | None) -> Callable[[Array], list[Array]]:
    from converters.runtimes.onnxruntime import open_session
    from converters.writers.onnx.writer import write_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_onnx(model, path)
        return open_session(path, threads=threads)


def _module(model: onnx_ir.Model) -> torch.nn.Module:
    packages.require("torch")
    from converters.writers.source.writer import to_module

    return to_module(model)


def _in_torch(module: torch.nn.Module, threads: int | None) -> Callable[[Array], list[Array]]:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)

    def run(items: Array) -> list[Array]:
        with torch.inference_mode():
            try:
                answer = module(torch.from_numpy(np.ascontiguousarray(items)))
            except (RuntimeError, ValueError, TypeError) as problem:
                lines = str(problem).splitlines() or [type(problem).__name__]
                raise ConversionError(f"the model refuses an input of shape {items.shape}: {lines[0]}") from problem
        return [part.numpy() for part in (answer if isinstance(answer, tuple | list) else (answer,))]

    return run


def _written_module(path: Path, source: Path, options: LoadOptions) -> torch.nn.Module:
    """The class in the .py beside a .pth, with its weights."""
    if not options.trust:
        raise UnsupportedError(
            f"{source.name} beside it is Python code, which has to run", hint="read it, then say that you trust it: --trust"
        )
    packages.require("torch")
    if options.notify is not None:
        options.notify(f"running {source}")
    return load_written(path, source)
