"""Whole-model PyTorch files to the common graph: rebuilt (or built by trusted code), exported by torch.onnx, checked against the module.

What runs, and when: a model made of classes of torch.nn alone is rebuilt from a closed list, and nothing of the file runs. A model with
classes of its own needs its code, which runs only where it is trusted. A TorchScript archive is a program too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from converters import packages
from converters.errors import ConversionError, NoNetError, UnsupportedError, about, printable
from converters.files import StrPath
from converters.options import LoadOptions
from converters.readers.pytorch.archives.archive import Checkpoint, read_checkpoint
from converters.readers.pytorch.choose import resolve, select
from converters.readers.pytorch.modules import is_module
from converters.readers.pytorch.pickles.stubs import Stub
from converters.tensors.tensor import RebuiltTensor
from converters.tracing.rebuild import own_classes, rebuild, to_torch
from converters.trust import Code, run_script

if TYPE_CHECKING:
    import onnx_ir


def load(files: Sequence[StrPath], options: LoadOptions) -> onnx_ir.Model:
    """The graph of a whole-model file, or of a checkpoint whose model `options.factory` builds.

    inputs: shapes by the forward's argument names ("" for the only one). key: where the model, or with a factory its weights, sit in
    the file. code: the folder of the model's own Python code, for a factory else an installed package's; it runs only with trust.
    Raises ConversionError.
    """
    path = files[0]
    if len(files) != 1:
        raise ConversionError(f"a PyTorch model is one file, {len(files)} are given", path=os.fspath(path))
    file = os.fspath(path)
    folder = None if options.code is None else Path(options.code)
    if folder is not None and not folder.is_dir():
        raise ConversionError(f"{folder}: --code must be a folder with the model's Python files")
    checkpoint = read_checkpoint(path)
    packages.check("torch", "onnxscript", extra="torch2onnx")
    from converters.tracing.program import export_module  # which imports torch

    code = Code(folder) if options.trust else None
    with code.importing() if code is not None else contextlib.nullcontext(), about(path):
        if options.factory is not None:
            module = _build(checkpoint, file, options, code)
        elif checkpoint.form == "TorchScript":
            module = run_script(path, trust=options.trust, notify=options.notify)
        else:
            module = _whole(checkpoint, file, options, code)
        return export_module(module, options.shapes, file, options.dynamic, options.dtypes, options.output_names)


def _tell(options: LoadOptions, line: str) -> None:
    if options.notify is not None:
        options.notify(line)


def _whole(checkpoint: Checkpoint, file: str, options: LoadOptions, code: Code | None) -> Any:
    """The module that the file holds."""
    root = _module_in(checkpoint.root) if options.key is None else resolve(checkpoint.root, options.key)[0]
    if not is_module(root):
        raise ConversionError(f"'{printable(options.key)}' is no model; for weights give what builds the model: --model")
    own = own_classes(root)
    if not own:
        return rebuild(root)
    shown = ", ".join(printable(name) for name in own[:20])
    source = " (their source is in the file: strip-to-weights --source DIR writes it out)" if checkpoint.sources else ""
    if code is None or code.folder is None:  # a file's own words choose no package to run
        raise UnsupportedError(
            f"the model is made of classes of its own: {shown}; their code has to run to know what they compute{source}. "
            "Read it, then give its folder and say that you trust it: --code DIR --trust"
        )
    _tell(options, f"{file}: running the code of {code.shown}: importing {shown}; nothing that is pickled in the file itself runs")
    return rebuild(root, code)


def _module_in(root: Any) -> Stub:
    """The only module of a file, or of the dictionary in it."""
    if is_module(root):
        return cast("Stub", root)
    if isinstance(root, dict):
        found = {str(name): value for name, value in root.items() if is_module(value)}
        if len(found) == 1:
            return cast("Stub", next(iter(found.values())))
        if found:
            raise ConversionError(f"holds several models: {', '.join(map(printable, found))}; choose one with --key")
    raise NoNetError("holds weights but no model; give the code that builds it: --code DIR --trust --model module:function")


def _build(checkpoint: Checkpoint, file: str, options: LoadOptions, code: Code | None) -> Any:
    """What the factory builds, with the file's weights loaded strictly."""
    import torch

    factory = options.factory or ""
    if code is None or not code.has(factory):
        raise UnsupportedError(
            f"{printable(factory)} has to run to build the model; give its folder and say that you trust it: --code DIR --trust"
        )
    state = select(checkpoint, options.key)
    _tell(options, f"{file}: running {factory} from {code.shown}; nothing that is pickled in the file itself runs")
    module = code.build(factory)
    if not isinstance(module, torch.nn.Module):
        raise ConversionError(f"{factory} in {code.shown}: gave a {type(module).__name__}, not a torch.nn.Module")
    weights = {}
    for name, weight in state.tensors.items():
        if isinstance(weight, RebuiltTensor):
            raise UnsupportedError(f"'{printable(name)}' is no plain tensor")
        weights[name] = to_torch(weight)
    expected = module.state_dict()
    for prefix in ("module.", "_orig_mod."):
        if weights and all(name.startswith(prefix) for name in weights) and not any(name.startswith(prefix) for name in expected):
            weights = {name[len(prefix) :]: weight for name, weight in weights.items()}
    for name, tensor in expected.items():  # files of torch 0.3 and before have no such counters, and inference needs none
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, tensor)
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as problem:
        raise ConversionError(f"the weights don't fit {factory}: {printable(' '.join(str(problem).split()), 600)}") from problem
    return module.eval()
