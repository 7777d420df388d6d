"""Old checkpoints, alive again: Caffe, Lua Torch, MXNet and whole-model PyTorch files to PyTorch and ONNX, with the same numbers.

The public API. Heavy libraries are imported when a call needs them, not before: onnx_ir with a graph, torch only to run one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import ConversionError, ConversionWarning, FormatError, OutputExistsError, UnsupportedError
from converters.packages import MissingPackageError
from converters.version import __version__ as __version__

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    import torch
    from numpy.typing import NDArray

    from converters.files import StrPath
    from converters.inspection import Inspection
    from converters.options import InputSpec
    from converters.strip import StripReport
    from converters.tensors.tensor import Weight
    from converters.verification.compare import Report

__all__ = [
    "__version__",
    # conversion through the graph
    "load",
    "save",
    "to_module",
    "verify",
    # weights only
    "load_weights",
    "strip_to_weights",
    # what is in a file
    "inspect",
    # errors
    "ConversionError",
    "ConversionWarning",
    "FormatError",
    "MissingPackageError",
    "OutputExistsError",
    "UnsupportedError",
]


def load(
    *paths: StrPath,
    inputs: Mapping[str, InputSpec] | None = None,
    key: str | None = None,
    outputs: Sequence[str] = (),
    code: StrPath | None = None,
    factory: str | None = None,
    plugin: StrPath | None = None,
    trust: bool = False,
    dtype: str | None = None,
) -> onnx_ir.Model:
    """Reads a model of any supported format, told by its content, into the common graph.

    paths: Caffe `deploy.prototxt, model.caffemodel`; Lua Torch `model.t7`; MXNet `net-symbol.json, net-0000.params`; `model.onnx`; a
    whole-model `.pth`. inputs: shapes by input name, or (shape, dtype), where the file doesn't have them; the first axis stays
    symbolic ("N") unless the net fixes it. key: where the model sits in a checkpoint ("model", "protos.rnn"). outputs: inner values
    that the graph ends in, instead of its own outputs. code: the folder of a PyTorch model's own classes; factory: "module:function"
    in it, which builds the model for a checkpoint of weights. plugin: a Python file that registers lowerings. trust: let these, and
    TorchScript programs, run; without it nothing does. dtype: "float64" keeps the doubles of a Lua Torch model, which otherwise become
    float32. Raises ConversionError, which says what is wrong, where, and what to do.
    """
    from converters.formats import load as load_files
    from converters.options import LoadOptions

    options = LoadOptions(
        inputs=inputs or {}, key=key, outputs=tuple(outputs), code=code, factory=factory, plugin=plugin, trust=trust, dtype=dtype
    )
    return load_files(paths, options)


def save(model: onnx_ir.Model, path: StrPath, *, opset: int | None = None, force: bool = False) -> None:
    """Writes the model by suffix: .pth (a state_dict, and NAME.py beside it), .onnx, or .safetensors (the state_dict alone).

    opset: for .onnx, another operator set than the graph's own. Raises OutputExistsError for a file that exists (unless `force`),
    ConversionError for an unknown suffix or a graph that can't be written.
    """
    suffix = Path(path).suffix.lower()
    if opset is not None and suffix != ".onnx":
        raise ConversionError("an opset goes with .onnx only", path=str(path))
    if suffix == ".onnx":
        from converters.writers.onnx.writer import write_onnx

        write_onnx(model, path, opset=opset, force=force)
    elif suffix in (".pth", ".pt"):
        _save_pth(model, Path(path), force)
    elif suffix == ".safetensors":
        from converters.writers.safetensors import write_safetensors
        from converters.writers.source.writer import state_dict

        write_safetensors(path, state_dict(model), force=force)
    else:
        raise ConversionError("the suffix says what to write", path=str(path), hint="use .pth, .onnx or .safetensors")


def _save_pth(model: onnx_ir.Model, path: Path, force: bool) -> None:
    from converters.files import check_target, together, writing
    from converters.writers.pth import write_pth
    from converters.writers.source.writer import source_and_state

    source = path.with_suffix(".py")
    check_target(path, force=force)
    text, tensors = source_and_state(model)
    with together():
        with writing(source, force=force) as file:
            file.write(text.encode())
        write_pth(path, tensors, force=force)


def to_module(model: onnx_ir.Model) -> torch.nn.Module:
    """The model as a torch.nn.Module in eval mode: the very class that `save` writes as NAME.py, with the weights loaded.

    Call it with the inputs in graph order; it answers one tensor, or a tuple in output order. Raises UnsupportedError, naming every
    operator that has no PyTorch form.
    """
    from converters.writers.source.writer import to_module as module_of

    return module_of(model)


def verify(
    model: onnx_ir.Model | StrPath,
    other: StrPath | None = None,
    *,
    opset: int | None = None,
    inputs: Mapping[str, NDArray[np.generic]] | None = None,
    key: str | None = None,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Report:
    """Compares two conversions, output by output or tensor by tensor.

    A model runs in PyTorch and in onnxruntime (as the ONNX file `other`, else as one written for the purpose, in operator set `opset`),
    whose optimizer is off, on the same input: `inputs` by name, else random numbers of `seed`. Two paths are compared by running both,
    where they are ONNX, else by their weights (key: where those sit in the first). tolerance: the largest difference allowed, relative
    to the largest number.
    Raises ConversionError.
    """
    from converters.verification.compare import compare_files
    from converters.verification.compare import verify as run_both

    if not isinstance(model, str) and not hasattr(model, "__fspath__"):
        return run_both(model, other, opset=opset, inputs=inputs, seed=seed, tolerance=tolerance)
    if other is None:
        return run_both(load(model, key=key), opset=opset, inputs=inputs, seed=seed, tolerance=tolerance)
    return compare_files(model, other, key=key, seed=seed, tolerance=tolerance)


def load_weights(path: StrPath, key: str | None = None) -> Mapping[str, Weight]:
    """The weights of any supported file as a lazy, ordered mapping: name -> numpy-compatible tensor, in state_dict order.

    Nothing in the file is executed, and a tensor's bytes are read when it is looked at (`np.asarray(weights["conv1.weight"])`).
    key: where the weights sit in a checkpoint. Raises ConversionError.
    """
    from converters.formats import load_weights as read
    from converters.options import LoadOptions

    return read(path, LoadOptions(key=key))


def strip_to_weights(
    source: StrPath,
    target: StrPath | None = None,
    *,
    key: str | None = None,
    unwrap: bool = False,
    strip_prefix: str | None = None,
    dtype: str | None = None,
    fold: bool = False,
    contiguous: bool = False,
    source_dir: StrPath | None = None,
    force: bool = False,
) -> StripReport:
    """Writes the exact weights of any supported file, without running it, and reports what it found; report.path is the target.

    target: .pth or .safetensors, NAME_weights.pth beside the source by default. key: where the weights sit in a checkpoint, a dotted
    path. unwrap: take DataParallel's `module.` away. strip_prefix: take this prefix off the names. dtype: "float16", "bfloat16",
    "float32" or "float64" for floating tensors. fold: spectral_norm, weight_norm and parametrizations become plain weights. contiguous:
    every tensor row-major in a storage of its own. source_dir: a folder for the class source that old files embed.
    Raises ConversionError.
    """
    from converters.strip import StripOptions
    from converters.strip import strip_to_weights as strip

    options = StripOptions(key, unwrap, strip_prefix, dtype, fold, contiguous, source_dir, force)
    return strip(source, target, options)


def inspect(path: StrPath, key: str | None = None) -> Inspection:
    """What a file is, and which tensors are in it, by name. key: where the weights sit in a checkpoint. Raises ConversionError."""
    from converters.inspection import inspect as look

    return look(path, key)
