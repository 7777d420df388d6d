"""The weights of a .t7 by name, without its graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from converters.errors import FormatError, about
from converters.files import StrPath
from converters.options import DEFAULTS, LoadOptions
from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import at_key, candidates_in, child_key, describe, find_model, inner_modules, is_module
from converters.tensors.dtypes import torch_name
from converters.tensors.state_dict import LeftOut, StateDict
from converters.tensors.tensor import as_tensors

Array = np.ndarray[Any, Any]
_PATH = 1000  # characters of a key

_ROLES = ("weight", "bias", "running_mean", "running_var", "running_std", "v", "g", "diagCov", "value", "mean", "std")
"""Fields that hold what a module has learnt or been given; all other tensors of nn's classes are buffers, gradients and outputs."""
_STATE = (
    *("output", "buffer", "noise", "mask", "indices", "save_mean", "save_std", "centered", "normalized", "cell", "c0", "h0", "gates"),
    *("zero", "input", "hidden", "norm", "gradInput", "finput", "fgradInput", "ones", "boxes", "dt", "next_"),
)
"""How fields begin in which classes of other packages keep what the last run left."""
_KNOWN = frozenset(
    (
        "Abs Add AddConstant AffineGridGeneratorBHWD BatchNormalization Bilinear BilinearSamplerBHWD Bottle CAdd CAddTable "
        "CAddTensorTable CDivTable CMaxTable CMinTable CMul CMulTable CReLU CSubTable CategoricalEntropy Clamp Collapse Concat "
        "ConcatTable Constant Contiguous Convert Copy Cosine CosineDistance Decorator DepthConcat DontCast DotProduct Dropout ELU "
        "Euclidean Exp FastLSTM FeatureLPPooling FlattenTable GPU GRU GatedLinearUnit GradientReversal HardShrink HardTanh Identity "
        "Inception Index IndexLinear InstanceNormalization JoinTable Kmeans L1Cost L1Penalty LSTM LayerNormalization LeakyReLU Linear "
        "LinearNoBias LinearWeightNorm Log LogSigmoid LogSoftMax LookupTable LookupTableMaskZero MM MV MapTable MaskZero MaskedSelect "
        "Max Maxout Mean Min MixtureTable MuFuRu Mul MulConstant NCEModule NaN Narrow NarrowTable Normalize OneHot PReLU Padding "
        "PairwiseDistance Parallel ParallelTable PartialLinear PixelShuffle Power PrintSize Profile RReLU ReLU ReLU6 Recurrence "
        "Recurrent Recursor Repeater Replicate Reshape Select SelectTable SeqGRU Sequencer Sequential Sigmoid SoftMax SoftMin "
        "SoftPlus SoftShrink SoftSign SparseLinear SpatialAdaptiveAveragePooling SpatialAdaptiveMaxPooling SpatialAveragePooling "
        "SpatialBatchNormalization SpatialBinaryConvolution SpatialContrastiveNormalization SpatialConvolution "
        "SpatialConvolutionLocal SpatialConvolutionMM SpatialConvolutionMap SpatialCrossMapLRN SpatialDepthWiseConvolution "
        "SpatialDilatedConvolution SpatialDilatedMaxPooling SpatialDivisiveNormalization SpatialDropout SpatialFractionalMaxPooling "
        "SpatialFullConvolution SpatialFullConvolutionMap SpatialLPPooling SpatialLogSoftMax SpatialMaxPooling SpatialMaxUnpooling "
        "SpatialReflectionPadding SpatialReplicationPadding SpatialSoftMax SpatialSubSampling SpatialSubtractiveNormalization "
        "SpatialUpSamplingBilinear SpatialUpSamplingNearest SpatialZeroPadding SplitTable Sqrt Square Squeeze Sum Tanh TanhShrink "
        "TemporalConvolution TemporalDynamicKMaxPooling TemporalMaxPooling TemporalRowConvolution TemporalSubSampling Threshold "
        "Transpose TrimZero Unsqueeze UpSampling VanillaRNN View VolumetricAveragePooling VolumetricBatchNormalization "
        "VolumetricConvolution VolumetricDilatedConvolution VolumetricDilatedMaxPooling VolumetricDropout "
        "VolumetricFractionalMaxPooling VolumetricFullConvolution VolumetricMaxPooling VolumetricMaxUnpooling "
        "VolumetricReplicationPadding WeightNorm WeightedEuclidean WhiteNoise ZeroGrad ZipTable ZipTableOneToMany gModule "
    ).split()
)
"""Classes of the nn table, nn's own and others, whose parameters are the usual fields and those with a gradient beside them."""


def read_weights(path: StrPath, options: LoadOptions = DEFAULTS) -> StateDict:
    """As parameters, with every other tensor of the file as left out: gradients, outputs and buffers, what stands beside the model."""
    with about(path):
        root = t7.read(path)
        found, written = _weights(root, options)
        return StateDict(as_tensors(found), form="Lua Torch file", key=options.key or "", left_out=list(_left_out(root, written)))


def parameters(path: StrPath, options: LoadOptions = DEFAULTS) -> dict[str, Array]:
    """The parameters of a .t7 by name, as views of the mapped file in its own types: `4.0.1.weight` for a module in containers.

    Names are the graph's: a tensor that modules share has the first one's. A file without a module gives all tensors in its tables, by
    their keys. A BatchNormalization of version 1 gives the running_var that its running_std stands for. Raises ConversionError.
    """
    with about(path):
        return _weights(t7.read(path), options)[0]


def _weights(root: Any, options: LoadOptions) -> tuple[dict[str, Array], list[t7.Tensor]]:
    """The arrays by name, and the file's tensors that they are."""
    at = at_key(root, options.key) if options.key else root
    if not is_module(at):
        if not candidates_in(at):
            tensors = _tensors(at)
            return {name: tensor.array for name, tensor in tensors.items()}, list(tensors.values())
        at = find_model(at, None)
    found: dict[str, Array] = {}
    written: list[t7.Tensor] = []
    seen: set[tuple[Any, ...]] = set()
    for made, where in inner_modules(at):
        for role, value in _fields(made).items():
            written.append(value)
            if place(value) in seen:
                continue
            seen.add(place(value))
            name = f"{where}.{role}" if where else role
            if role == "running_std" and made.version < 2:
                found[name.removesuffix("std") + "var"] = _variance(made, value)
            else:
                found[name] = value.array
    return found, written


def _fields(made: t7.TorchObject) -> dict[str, t7.Tensor]:
    """A module's parameters: the usual fields, those with a gradient beside them, and of other packages' classes all that is no state."""
    fields = made.payload.items() if isinstance(made.payload, t7.Table) else ()
    tensors = {name: value for name, value in fields if isinstance(name, str) and isinstance(value, t7.Tensor) and value.elements}
    found = {role: tensors[role] for role in _ROLES if role in tensors}
    package, _, name = made.typename.rpartition(".")
    is_foreign = package not in ("cudnn", "nngraph") and not (package == "nn" and name in _KNOWN)
    for name, value in tensors.items():  # in the order of the file
        left = name.startswith(("_", "grad", *_STATE)) or name.endswith("Buffer")
        is_state = left or (name[:1] == "g" and name[1:] in tensors) or value.dtype.kind != "f"
        if f"grad{name[:1].upper()}{name[1:]}" in tensors or (is_foreign and not is_state):
            found.setdefault(name, value)
    return found


def _left_out(root: Any, written: list[t7.Tensor]) -> Iterator[LeftOut]:
    """Every tensor with elements that isn't written, by its path in the file's tables and modules."""
    places = {place(tensor) for tensor in written}
    seen: set[int] = set()
    waiting: list[tuple[str, Any, str]] = [("", root, "tensor")]
    while waiting:
        where, value, kind = waiting.pop()
        if isinstance(value, t7.TorchObject):
            inside = value.payload
        elif isinstance(value, t7.Table):
            inside = value
        elif isinstance(value, t7.Tensor) and value.elements and place(value) not in places:
            yield LeftOut(where or "tensor", kind, torch_name(value.dtype), value.size)
            continue
        else:
            continue
        if id(value) in seen or len(where) > _PATH or not isinstance(inside, t7.Table):
            continue
        seen.add(id(value))
        module = isinstance(value, t7.TorchObject)
        items = [(name, item) for name, item in inside.items() if isinstance(item, t7.TorchObject | t7.Table | t7.Tensor)]
        entries = [(child_key(where, name), name, item) for name, item in items]
        waiting += reversed([(label, item, _kind(name, module)) for label, name, item in entries if label is not None])


def _kind(name: Any, module: bool) -> str:
    if not module or not isinstance(name, str) or name in _ROLES:
        return "tensor"
    return "gradient" if name.startswith("grad") else "buffer"


def place(tensor: t7.Tensor) -> tuple[object, ...]:
    """What tells two tensors of one file apart: equal where they look at the same elements in the same way."""
    return id(tensor.storage), tensor.offset, tensor.size, tensor.stride


def _variance(made: t7.TorchObject, inverse: t7.Tensor) -> Array:
    """running_var of the inverse deviation that version 1 stores. Source: nn/BatchNormalization.lua."""
    eps = made.get("eps")
    with np.errstate(divide="ignore"):
        variance: Array = inverse.array.astype(np.float64) ** -2 - (eps if isinstance(eps, float) else 1e-5)
    return variance.astype(inverse.dtype)


def _tensors(root: Any) -> dict[str, t7.Tensor]:
    """All tensors in a table and the tables within it, by their keys."""
    found: dict[str, t7.Tensor] = {}
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        where, value = waiting.pop()
        if isinstance(value, t7.Tensor):
            found[where or "tensor"] = value
        elif isinstance(value, t7.Table) and id(value) not in seen and len(where) < _PATH:
            seen.add(id(value))
            inside = [(label, item) for name, item in value.items() if (label := child_key(where, name)) is not None]
            waiting += reversed(inside)
    if not found:
        raise FormatError(f"there are no tensors in this file: it holds {describe(root)}")
    return found
