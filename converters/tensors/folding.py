"""Reparametrised weights made plain: spectral_norm, weight_norm (old hooks and new parametrizations), the SpectralNorm wrapper, masks.

The weight is the one that eval mode uses. Sources: torch/nn/utils/spectral_norm.py, weight_norm.py, parametrizations.py, prune.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from converters.errors import UnsupportedError, printable, warn
from converters.tensors.state_dict import StateDict
from converters.tensors.storage import ArrayStorage, Storage
from converters.tensors.tensor import Tensor, Weight

Array = npt.NDArray[Any]
_EXPANDED = 1 << 30  # bytes up to which a tensor that repeats its elements is computed with


class FoldedStorage(Storage):
    """A weight that is computed when it is read."""

    def __init__(self, nbytes: int, compute: Callable[[], Array]) -> None:
        self.nbytes, self.compute = nbytes, compute

    def view(self) -> memoryview:
        return ArrayStorage(np.ascontiguousarray(self.compute())).view()


def fold(state: StateDict) -> list[str]:
    """Replaces reparametrised weights in place; returns the names of the plain weights. Their order is that of the first part.

    Raises UnsupportedError for a parametrization that has no plain form known here.
    """
    folded: list[str] = []
    for name in list(state.tensors):
        tensors = state.tensors
        if name not in tensors:
            continue
        if name.endswith("_orig") and name.removesuffix("_orig") + "_u" in tensors:
            _fold_spectral(state, name.removesuffix("_orig"), folded)
        elif name.endswith("_orig") and name.removesuffix("_orig") + "_mask" in tensors:
            plain = name.removesuffix("_orig")
            _replace(state, plain, {name, plain + "_mask"}, name, _masked(tensors[name], tensors[plain + "_mask"], plain), folded)
        elif name.endswith("_g") and name.removesuffix("_g") + "_v" in tensors:
            plain = name.removesuffix("_g")
            _replace(state, plain, {name, plain + "_v"}, plain + "_v", _normed(tensors[name], tensors[plain + "_v"], plain), folded)
        elif name.endswith("_bar") and name.removesuffix("_bar") + "_u" in tensors and name.removesuffix("_bar") + "_v" in tensors:
            _fold_wrapper(state, name.removesuffix("_bar"), folded)
        elif ".parametrizations." in f".{name}" and name.endswith((".original", ".original0")):
            _fold_parametrization(state, name, folded)
    return folded


def _masked(weight: Weight, mask: Weight, name: str) -> Callable[[], Array]:
    """A pruned weight: what its mask leaves of it."""
    whole, kept = _dense(weight, name), _dense(mask, name)
    if whole.shape != kept.shape:
        raise UnsupportedError(f"{printable(name)}: a weight of {whole.shape} under a mask of {kept.shape}")
    return lambda: whole.numpy() * kept.numpy().astype(whole.numpy().dtype)


def _fold_spectral(state: StateDict, plain: str, folded: list[str]) -> None:
    """weight_orig, weight_u, weight_v: W / (u^T W v). Without weight_v (torch 0.4) the file has eval's weight itself."""
    tensors = state.tensors
    parts = {plain + "_orig", plain + "_u"}
    if plain + "_v" not in tensors:
        if plain not in tensors:
            raise UnsupportedError(
                f"{printable(plain)}: spectral_norm of torch 0.4 without its weight: it has no weight_v to compute it from"
            )
        _replace(state, plain, parts, plain, None, folded)
        return
    axis = _spectral_axis(state, plain, tensors[plain + "_orig"], tensors[plain + "_u"], tensors[plain + "_v"])
    value = _spectral(tensors[plain + "_orig"], tensors[plain + "_u"], tensors[plain + "_v"], axis)
    _replace(state, plain, {*parts, plain + "_v"} | ({plain} & set(tensors)), plain + "_orig", value, folded)


def _fold_wrapper(state: StateDict, plain: str, folded: list[str]) -> None:
    """A wrapper module around a layer: module.weight_bar, module.weight_u, module.weight_v; the layer takes the wrapper's place."""
    tensors = state.tensors
    names = {plain + "_bar", plain + "_u", plain + "_v"}
    value = _spectral(tensors[plain + "_bar"], tensors[plain + "_u"], tensors[plain + "_v"], 0)
    _replace(state, plain, names, plain + "_bar", value, folded)
    tensors = state.tensors
    inner = plain.rpartition(".")[0]
    wrapper, _, last = inner.rpartition(".")
    if last != "module":
        return
    renamed = {name: wrapper + name.removeprefix(inner) if name.startswith(inner + ".") else name for name in tensors}
    renamed = {name: new.removeprefix(".") for name, new in renamed.items()}
    if len(set(renamed.values())) == len(renamed):
        state.tensors = {renamed[name]: tensor for name, tensor in tensors.items()}
        moved = {path: wrapper + path.removeprefix(inner) if f"{path}.".startswith(inner + ".") else path for path in state.metadata}
        state.metadata = {moved[path]: entry for path, entry in state.metadata.items() if path != wrapper or inner not in moved}
        state.classes = {moved.get(path, path): name for path, name in state.classes.items() if path != wrapper or inner not in moved}
        folded[-1] = renamed[plain]


def _fold_parametrization(state: StateDict, name: str, folded: list[str]) -> None:
    tensors = state.tensors
    base, _, _ = name.rpartition(".")
    owner, _, role = base.rpartition(".")
    plain = owner.removesuffix("parametrizations") + role
    parts = {other for other in tensors if other.startswith(base + ".")}
    if parts == {f"{base}.original0", f"{base}.original1"}:
        value = _normed(tensors[f"{base}.original0"], tensors[f"{base}.original1"], plain)
        like = f"{base}.original1"
    elif parts == {f"{base}.original", f"{base}.0._u", f"{base}.0._v"}:
        weight, u, v = tensors[f"{base}.original"], tensors[f"{base}.0._u"], tensors[f"{base}.0._v"]
        value, like = _spectral(weight, u, v, _axis_by_size(plain, weight, u, v)), f"{base}.original"
    elif parts == {f"{base}.original"} and state.classes.get(f"{base}.0", "").endswith("._SpectralNorm"):
        weight = _dense(tensors[f"{base}.original"], plain)
        value, like = lambda: _unit(weight.numpy()), f"{base}.original"
    else:
        raise UnsupportedError(f"{printable(plain)}: this parametrization ({len(parts)} tensors) has no plain form here; leave out --fold")
    _replace(state, plain, parts, like, value, folded)
    for path in [path for path in state.metadata if f"{path}.".startswith(owner + ".")]:
        state.metadata.pop(path)
        state.classes.pop(path, None)


def _replace(state: StateDict, plain: str, parts: set[str], like: str, compute: Callable[[], Array] | None, folded: list[str]) -> None:
    """Puts the plain weight where the tensor it was made of stood, and takes the parts away."""
    if plain in state.tensors and plain not in parts and like != plain:
        raise UnsupportedError(f"{printable(plain)}: stands in the file beside its parts; leave out --fold")
    result: dict[str, Weight] = {}
    for name, tensor in state.tensors.items():
        if name == like:
            model = _dense(tensor, plain)
            result[plain] = model if compute is None else Tensor(FoldedStorage(model.nbytes, compute), model.torch_dtype, model.shape)
        elif name not in parts:
            result[name] = tensor
    state.tensors = result
    entry = state.metadata.get(plain.rpartition(".")[0])
    if entry is not None:
        entry.pop("spectral_norm", None)
    folded.append(plain)


def _dense(weight: Weight, name: str) -> Tensor:
    if not isinstance(weight, Tensor) or weight.torch_dtype not in ("float64", "float32", "float16", "bfloat16"):
        raise UnsupportedError(f"{printable(name)}: is no dense floating-point tensor, so that it can't be folded")
    start, stop = weight.span()
    if weight.nbytes > max(_EXPANDED, 4 * (stop - start)):
        raise UnsupportedError(f"{printable(name)}: repeats {stop - start} bytes to {weight.nbytes}, so that it can't be folded")
    return weight


def _spectral_axis(state: StateDict, plain: str, weight: Weight, u: Weight, v: Weight) -> int:
    """The hook's own `dim` where the file has the hook; else by the sizes."""
    dim = state.spectral_dims.get(plain)
    if dim is not None and -len(weight.shape) <= dim < len(weight.shape):
        return dim % len(weight.shape)
    return _axis_by_size(plain, weight, u, v)


def _axis_by_size(plain: str, weight: Weight, u: Weight, v: Weight) -> int:
    rows, total = _dense(u, plain).size, _dense(weight, plain).size
    fitting = [axis for axis, extent in enumerate(weight.shape) if extent == rows and _dense(v, plain).size * rows == total]
    if not fitting:
        raise UnsupportedError(f"{printable(plain)}: u and v don't fit the weight of {weight.shape}")
    if len(fitting) == 1:
        return fitting[0]
    # Both axes of a square weight fit. After power iterations u is the direction of W v, for the right axis alone.
    agreement = [_agreement(_dense(weight, plain), _dense(u, plain), _dense(v, plain), axis) for axis in fitting]
    best = max(range(len(fitting)), key=lambda i: agreement[i])
    if agreement[best] - max(value for i, value in enumerate(agreement) if i != best) < 0.01:
        words = f"{printable(plain)}: spectral_norm along axis 0 or {fitting[1]} (transposed convolution) both fit; 0 is taken"
        warn(words)
        return fitting[0]
    return fitting[best]


def _agreement(weight: Tensor, u: Tensor, v: Tensor, axis: int) -> float:
    """The cosine between u and W v, with W's rows along axis."""
    matrix = np.moveaxis(weight.numpy(), axis, 0).reshape(u.size, -1).astype(np.float64)
    product = matrix @ v.numpy().astype(np.float64).reshape(-1)
    length = float(np.linalg.norm(product) * np.linalg.norm(u.numpy().astype(np.float64)))
    return float(product @ u.numpy().astype(np.float64).reshape(-1)) / length if length else 0.0


def _spectral(weight: Weight, u: Weight, v: Weight, axis: int) -> Callable[[], Array]:
    """W / (u^T W v), W as a matrix whose rows lie along axis."""
    full, left, right = _dense(weight, "weight"), _dense(u, "u"), _dense(v, "v")
    if not full.shape or left.size != full.shape[axis] or left.size * right.size != full.size:
        raise UnsupportedError(f"u of {left.shape} and v of {right.shape} don't fit a weight of {full.shape}")

    def compute() -> Array:
        array = full.numpy()
        matrix = np.moveaxis(array, axis, 0).reshape(left.size, -1)
        rows = np.array([np.dot(row.astype(np.float64), right.numpy().astype(np.float64).reshape(-1)) for row in matrix])
        sigma = np.dot(left.numpy().astype(np.float64).reshape(-1), rows)
        result: Array = (array / sigma.astype(array.dtype)).astype(array.dtype)
        return result

    return compute


def _normed(g: Weight, v: Weight, name: str) -> Callable[[], Array]:
    """g * v / |v|, the norm taken over all axes but g's own."""
    scale, direction = _dense(g, name), _dense(v, name)
    whole = scale.size == 1 and (not scale.shape or direction.size != scale.size)
    kept = [axis for axis, extent in enumerate(scale.shape) if extent != 1]
    if not whole and (len(scale.shape) != len(direction.shape) or any(scale.shape[i] != direction.shape[i] for i in kept) or len(kept) > 1):
        raise UnsupportedError(f"{printable(name)}: a g of {scale.shape} doesn't fit a v of {direction.shape}")
    axes = tuple(axis for axis in range(len(direction.shape)) if whole or axis not in kept)

    def compute() -> Array:
        array = direction.numpy()
        norm = np.sqrt(np.sum(np.square(array.astype(np.float64)), axis=axes, keepdims=True))
        factor = (scale.numpy().astype(np.float64).reshape(norm.shape) / norm).astype(np.float64)
        result: Array = (array * factor).astype(array.dtype)
        return result

    return compute


def _unit(array: Array) -> Array:
    """A one-dimensional weight under spectral_norm is divided by its length."""
    length = max(float(np.sqrt(np.sum(np.square(array.astype(np.float64))))), 1e-12)
    result: Array = (array / np.asarray(length, array.dtype)).astype(array.dtype)
    return result
