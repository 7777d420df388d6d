"""The table of formats: which reader reads which kind of file."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from converters import packages
from converters.errors import ConversionError, FormatError, warn
from converters.files import StrPath
from converters.recognition import identify, refuse_mistaken
from converters.tensors.state_dict import StateDict
from converters.tensors.tensor import Weight, as_tensors

if TYPE_CHECKING:
    import onnx_ir


def load_weights(path: StrPath, key: str | None = None) -> dict[str, Weight]:
    """The weights of a file as an ordered mapping of names to lazy tensors, in state_dict order; nothing in it is executed.

    PyTorch checkpoints of any form, safetensors, Lua Torch .t7, Caffe weights, MXNet .params and ONNX, told by content. A tensor has
    shape, dtype, nbytes and torch_dtype without reading its numbers; np.asarray(tensor) looks at them, as a read-only view of the
    mapped file where they lie there as they are. key: where the weights sit in a checkpoint. Raises ConversionError.
    """
    return read_weights(path, key).tensors


def read_weights(path: StrPath, key: str | None = None) -> StateDict:
    """As load_weights, with what is known of the weights: where in the file they sit, their modules' classes, what else is there."""
    kind = identify(path)
    if kind.family in _READERS:
        return StateDict(as_tensors(_READERS[kind.family](path, key)), form=_FORMS[kind.family], key=key or "")
    from converters.readers.pytorch import read_weights as read_checkpoint

    return read_checkpoint(path, key)  # what nobody knows is named by the reader of checkpoints


_FORMS = {
    "weights": "safetensors file",
    "torch7": "Lua Torch file",
    "caffe": "file of Caffe weights",
    "mxnet": "file of MXNet parameters",
    "onnx": "ONNX model",
}


def _read_safetensors(path: StrPath, key: str | None) -> Mapping[str, Any]:
    from converters.readers.safetensors import load

    _no_key(path, key)
    return load(path)


def _read_torch7(path: StrPath, key: str | None) -> Mapping[str, Any]:
    from converters.readers.torch7 import parameters

    found: Mapping[str, Any] = parameters(path, key=key)
    return found


def _read_caffe(path: StrPath, key: str | None) -> Mapping[str, Any]:
    packages.check("google.protobuf")
    from converters.readers.caffe import load_weights as read

    _no_key(path, key)
    return read(path)


def _read_mxnet(path: StrPath, key: str | None) -> Mapping[str, Any]:
    from converters.readers.mxnet import load_params

    _no_key(path, key)
    return load_params(path)


def _read_onnx(path: StrPath, key: str | None) -> Mapping[str, Any]:
    packages.check(*GRAPH)
    from converters.readers.onnx import load

    _no_key(path, key)
    return {str(name): value.const_value for name, value in load([path]).graph.initializers.items()}


def _no_key(path: StrPath, key: str | None) -> None:
    if key is not None:
        raise ConversionError(f"{os.path.basename(path)}: has no parts to choose from; leave the key out")


# Family, as detect.identify tells it, to its reader: (path, key) -> an ordered mapping of names to array-likes.
_READERS: dict[str, Callable[[StrPath, str | None], Mapping[str, Any]]] = {
    "weights": _read_safetensors,
    "torch7": _read_torch7,
    "caffe": _read_caffe,
    "mxnet": _read_mxnet,
    "onnx": _read_onnx,
}


GRAPH = ("onnx", "onnx_ir", "ml_dtypes", "google.protobuf")
"""What every graph needs; weights alone are read without."""

_LOADERS = {
    "caffe": "converters.readers.caffe",
    "torch7": "converters.readers.torch7",
    "mxnet": "converters.readers.mxnet",
    "onnx": "converters.readers.onnx",
    "pytorch": "converters.tracing",
}


def load(
    paths: Sequence[StrPath],
    *,
    inputs: Mapping[str, Sequence[int]] | None = None,
    key: str | None = None,
    family: str | None = None,
) -> onnx_ir.Model:
    """Reads the files with the reader of their family (or of the one that is asked for). Raises ConversionError."""
    if not paths:
        raise ConversionError("no file was given")
    kinds = [identify(path) for path in paths]
    for path, kind in zip(paths, kinds, strict=True):
        refuse_mistaken(path, kind)
    if family is None:
        family = next((kind.family for kind in kinds if kind.family in _LOADERS), None)
    if family is None:
        what = "; ".join(f"{os.path.basename(path)} is {kind.words}" for path, kind in zip(paths, kinds, strict=True))
        raise FormatError(f"{what}; a Caffe, Lua Torch, MXNet, ONNX or PyTorch model is needed")
    packages.check(*GRAPH)
    reader = importlib.import_module(_LOADERS[family])
    model: onnx_ir.Model = reader.load(paths, inputs=inputs, key=key)
    for message in model.meta.pop("converters.warnings", ()):  # graph.builder.WARNINGS; naming it would import onnx_ir here
        warn(message)
    return model
