"""Names of a weights file's arrays: those that the graph would give them, wherever the file tells the layer's type."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.graph.names import Names, mend_names
from converters.readers.caffe.caffemodel import StoredLayer
from converters.readers.caffe.registry import lowers

Array = NDArray[Any]


def by_key(layers: Sequence[StoredLayer]) -> dict[str, Array]:
    """A file's arrays by key, in file order: `conv1.weight`; `LAYER.INDEX` for types that aren't known and in files that
    say no types.

    A BatchNorm's statistics come divided by its factor, as its running_mean and running_var, and the Scale that follows it alone gives
    it weight and bias, as in the graph. Shapes of files from before 2015, padded to four axes, lose the padding.
    """
    named = [layer for layer in layers if layer.blobs]
    mended = {name: name for name in (layer.name for layer in named if _roles(layer) is None)}
    mended = mend_names(layer.name for layer in layers) | mended
    free = Names(mended.values())
    paths: dict[int, str] = {}
    seen: set[str] = set()
    for layer in named:  # a second layer of one name gets another here: nothing is lost
        path = mended[layer.name]
        paths[id(layer)] = free.free(path) if path in seen else path
        seen.add(path)
    scales = dict(_absorbed(layers))
    taken = {id(scale) for scale in scales.values()}
    found: dict[str, Array] = {}
    for position, layer in enumerate(layers):
        if layer.blobs and id(layer) not in taken:
            path = paths[id(layer)]
            if position in scales:
                found |= {f"{path}.{role}": array for role, array in _named(scales[position], vectors=True).items()}
            found |= {f"{path}.{role}": array for role, array in _named(layer).items()}
    return found


def _named(layer: StoredLayer, vectors: bool = False) -> dict[str, Array]:
    """A layer's arrays by what they are, or by their index. vectors: each of them has one axis, whatever the file pads it to."""
    roles = _roles(layer)
    if roles is None:
        return {str(blob.index): blob.array() for blob in layer.blobs}
    vectors = vectors or "running_mean" in roles
    arrays = {role: _plain(role, layer, blob.array(), vectors) for role, blob in zip(roles, layer.blobs, strict=False)}
    factor = arrays.pop("factor", None)
    if factor is not None and factor.size == 1 and factor.item() != 1:
        scale = np.float32(0 if factor.item() == 0 else 1 / factor.item())
        arrays = {role: array * scale for role, array in arrays.items()}
    return arrays


def _roles(layer: StoredLayer) -> list[str] | None:
    """What each of a layer's blobs is, by its type; None where that can't be told."""
    facts = lowers.built_in(layer.type)
    if facts is None:
        return None
    stated = facts.blobs
    optional = sum(role.endswith("?") for role in stated)
    roles = [role.removesuffix("?") for role in stated if not role.endswith("?") or len(layer.blobs) == len(stated)]
    if len(layer.blobs) > len(roles) or ((optional or "factor" in stated) and len(layer.blobs) < len(roles)):
        return None
    return roles


def _plain(role: str, layer: StoredLayer, array: Array, vectors: bool) -> Array:
    """An array without the axes of 1 in front that files from before 2015 pad every shape with."""
    if layer.type == "InnerProduct" and role == "weight" and array.ndim == 4 and array.shape[:2] == (1, 1):
        return array.reshape(array.shape[2:])
    padded = array.ndim == 4 or (vectors and array.ndim == 2)
    return array.reshape(-1) if padded and (vectors or role != "weight") and array.shape[-1] == array.size else array


def _absorbed(layers: Sequence[StoredLayer]) -> Iterator[tuple[int, StoredLayer]]:
    """Positions of BatchNorms with the Scale that alone takes what they give."""
    consumers: dict[str, list[int]] = {}
    producers: dict[str, list[int]] = {}
    for position, layer in enumerate(layers):
        for places, names in ((consumers, layer.bottoms), (producers, layer.tops)):
            for name in dict.fromkeys(names):
                places.setdefault(name, []).append(position)
    for position, layer in enumerate(layers):
        if layer.type == "BatchNorm" and len(layer.tops) == 1 and layer.blobs and _roles(layer) is not None:
            made, used = producers[layer.tops[0]], consumers.get(layer.tops[0], [])
            again = bisect_right(made, position)  # the blob is another one once it is written again
            until = made[again] if again < len(made) else len(layers)
            first = bisect_right(used, position)
            if bisect_right(used, until) == first + 1 and _follows(layer, layers[used[first]]):
                yield position, layers[used[first]]


def _follows(norm: StoredLayer, scale: StoredLayer) -> bool:
    fits = (
        scale.type == "Scale" and scale.bottoms == norm.tops and all(blob.values.size == norm.blobs[0].values.size for blob in scale.blobs)
    )
    return fits and bool(scale.blobs) and not (norm.tops == norm.bottoms != scale.tops)
