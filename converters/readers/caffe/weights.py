"""Which blob of a weights file belongs to which layer of a net: by name, as Caffe copies them.

Sources: caffe/src/caffe/net.cpp (CopyTrainedLayersFrom, CopyTrainedLayersFromHDF5, AppendParam), caffe/include/caffe/filler.hpp.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import ConversionError, ConversionWarning, printable
from converters.files import StrPath, map_file
from converters.readers.caffe.caffemodel import Array, Blob, StoredLayer, describe, read_caffemodel
from converters.readers.caffe.layer import Layer
from converters.schemas import caffe_pb2

if TYPE_CHECKING:
    import onnx_ir as ir

    from converters.graph.builder import GraphBuilder

CHUNK = 1 << 20
FILL_LIMIT = 1 << 27
"""Parameters of more elements than this aren't made from fillers."""


def read_weights(path: StrPath) -> list[StoredLayer]:
    """The layers of a weights file, binary or HDF5, by its content."""
    from converters.readers.caffe.hdf5 import MAGIC, read_hdf5

    if bytes(map_file(path)[:8]) == MAGIC:
        return read_hdf5(path)
    return read_caffemodel(path)


def load_weights(path: StrPath) -> dict[str, Array]:
    """A weights file's arrays, in file order, under the keys of the graph where the file tells the layers' types."""
    from converters.readers.caffe.keys import by_key

    return by_key(read_weights(path))


class Weights:
    """The stored blobs of a net's layers; knows which are shared and which are missing."""

    def __init__(self, layers: Sequence[Layer], path: StrPath | None) -> None:
        self.file = os.path.basename(path) if path else ""
        self._layers = layers
        self._by_layer: dict[int, list[Blob]] = {}
        self._order: dict[int, int] = {}
        self._sharers: dict[str, list[tuple[int, int]]] = {}
        self._stored: list[StoredLayer] = read_weights(path) if path else []
        self._checked: dict[int, str] = {}
        self.missing: dict[str, list[str]] = {}
        self.values: dict[tuple[str, str, tuple[int, ...], bool], ir.Value] = {}
        first: dict[str, int] = {}
        for index, layer in enumerate(layers):
            first.setdefault(layer.name, index)
            for position, spec in enumerate(layer.params.param):
                if spec.name:
                    self._sharers.setdefault(spec.name, []).append((index, position))
        for order, stored in enumerate(self._stored):
            if stored.blobs and stored.name in first:
                target = first[stored.name]
                self._by_layer[target] = stored.blobs
                self._order[target] = order
        self._keyed: Mapping[tuple[int, int], str] = {place: name for name, places in self._sharers.items() for place in places}

    def count(self, layer_index: int) -> int:
        """How many blobs the file holds for a layer."""
        return len(self._by_layer.get(layer_index, ()))

    def shared_name(self, layer_index: int, position: int) -> str | None:
        """The name under which a parameter is shared; None where it is a layer's own."""
        name = self._keyed.get((layer_index, position))
        return name if name is not None and len(self._sharers[name]) > 1 else None

    def is_permissive(self, layer_index: int, position: int) -> bool:
        """Whether a parameter is shared by layers that need agree in its count alone, not in its shape."""
        name = self._keyed.get((layer_index, position))
        return name is not None and any(
            self._layers[index].params.param[at].share_mode == caffe_pb2.ParamSpec.PERMISSIVE for index, at in self._sharers[name]
        )

    def find(self, layer_index: int, position: int) -> Blob | None:
        """A layer's blob. Of a shared parameter the copy that comes last in the file: it overwrites the others in Caffe."""
        name = self._keyed.get((layer_index, position))
        places = self._sharers[name] if name is not None else [(layer_index, position)]
        found: tuple[int, Blob] | None = None
        for place, at in places:
            for blob in self._by_layer.get(place, ()):
                if blob.index == at and (found is None or self._order[place] >= found[0]):
                    found = (self._order[place], blob)
        return found[1] if found else None

    def check_finite(self, blob: Blob, array: Array, what: str) -> None:
        """Notes a blob that holds NaN or infinity; looks at each blob once."""
        if id(blob) not in self._checked:
            strange = not_finite(array)
            self._checked[id(blob)] = f"{what}: {strange}; so will be what depends on them" if strange else ""

    def start(self) -> None:
        """Forgets what an earlier, given up lowering has noted."""
        self.missing.clear()
        self.values.clear()

    def warn(self) -> None:
        """Says which parameters hold NaN or infinity, and which are fillers' values."""
        for strange in filter(None, self._checked.values()):
            warnings.warn(strange, ConversionWarning, stacklevel=3)
        if self.missing:
            names = ", ".join(f"{printable(name)} ({', '.join(roles)})" for name, roles in list(self.missing.items())[:8])
            more = f" and {len(self.missing) - 8} more" if len(self.missing) > 8 else ""
            where = f"{self.file} has no weights" if self.file else "no weights were given"
            message = f"{where} for {names}{more}; they get what their fillers say (as in Caffe, which doesn't mention it)"
            warnings.warn(message, ConversionWarning, stacklevel=3)

    def check_match(self) -> None:
        """Raises ConversionError where a weights file has nothing for any layer of the net."""
        if not self._by_layer and any(stored.blobs for stored in self._stored):
            raise self.no_match()

    def no_match(self) -> ConversionError:
        return ConversionError(
            f"{self.file}: none of its layers' names occurs in the prototxt ({describe(self._stored)}); "
            "are these two files of the same net?"
        )


class LayerWeights:
    """A layer's parameters, as a lowering asks for them: stored ones as views, missing ones as their fillers say."""

    def __init__(self, weights: Weights, layer: Layer, index: int) -> None:
        self._weights = weights
        self._layer = layer
        self._index = index

    @property
    def count(self) -> int:
        """How many blobs the weights file holds for this layer."""
        return self._weights.count(self._index)

    @property
    def shared(self) -> bool:
        """Whether any parameter is shared with another layer."""
        return any(self._weights.shared_name(self._index, i) for i in range(len(self._layer.params.param)))

    def expect(self, *counts: int) -> None:
        """Raises ConversionError where the file holds another number of blobs than the layer has."""
        if self.count and self.count not in counts and not (self.shared and self.count < max(counts)):
            wanted = " or ".join(map(str, counts))
            raise self._layer.error(f"{self._weights.file} holds {self.count} blobs for it, but it needs {wanted}")

    def shape(self, position: int) -> tuple[int, ...] | None:
        """The shape of a stored blob, None where there is none."""
        blob = self._weights.find(self._index, position)
        return blob.shape if blob else None

    def array(self, position: int, what: str, shape: tuple[int, ...], filler: Any = None) -> Array:
        """A parameter's values in the shape that the layer needs. Raises ConversionError where the stored ones don't fit.

        filler: Caffe's filler for a parameter that no weights file has, or a number; None: 0.
        """
        blob = self._weights.find(self._index, position)
        if blob is not None:
            loose = self._weights.is_permissive(self._index, position) and math.prod(blob.shape) == math.prod(shape)
            if not fits(blob, shape) and not loose:
                raise self._layer.error(f"its {what} has shape {blob.shape} in {self._weights.file}, but the prototxt asks for {shape}")
            array = blob.array().reshape(shape)
            self._weights.check_finite(blob, array, f"{blob.whence.describe('')}{what}")
            return array
        if self.count:
            raise self._layer.error(f"{self._weights.file} holds {self.count} blobs for it, and no {what}")
        if math.prod(shape) > FILL_LIMIT:
            raise self._layer.error(f"its {what} of shape {shape} is in no weights file")
        self._weights.missing.setdefault(str(self._layer.source).rpartition(" (")[0], []).append(what)
        return fill(filler, shape, self._layer, what)

    def value(
        self,
        g: GraphBuilder,
        position: int,
        role: str,
        shape: tuple[int, ...],
        filler: Any = None,
        *,
        view: tuple[int, ...] | None = None,
        transposed: bool = False,
    ) -> ir.Value:
        """A parameter as a graph value `PATH.role`; one value for all layers that share it.

        view: the shape that the graph sees. transposed: the stored matrix has its axes the other way round than `shape`.
        """
        name = self._weights.shared_name(self._index, position)
        key = (name or "", role, view or shape, transposed)
        if name is not None and key in self._weights.values:
            return self._weights.values[key]
        array = self.array(position, role.replace("_", " "), shape[::-1] if transposed else shape, filler)
        array = array.T if transposed else array.reshape(shape if view is None else view)
        value = g.param(role, array, original=f"{self._layer.name}/{position}")
        if name is not None:
            self._weights.values[key] = value
        return value


def fits(blob: Blob, shape: tuple[int, ...]) -> bool:
    """Whether a stored blob has the shape of a layer's: exactly, aligned from the right as legacy blobs of four axes are, or as
    a vector along another axis, (1, C, 1, 1) for (C)."""

    def bare(dims: tuple[int, ...]) -> tuple[int, ...]:
        start = next((i for i, d in enumerate(dims) if d != 1), len(dims))
        return dims[start:]

    if bare(blob.shape) == bare(shape):
        return True
    return len(shape) == 1 and math.prod(blob.shape) == shape[0] and shape[0] in blob.shape


def not_finite(array: Array) -> str:
    """'3 of 10 values are NaN' or infinite, '' where all are finite; reads each page once."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHUNK):
        piece = flat[start : start + CHUNK]
        if not piece.flags.aligned or not piece.flags.c_contiguous:
            piece = piece.copy()
        with np.errstate(all="ignore"):
            total = float(np.dot(piece, piece))  # finite only if all are; quicker than isfinite
        if not np.isfinite(total) and not np.isfinite(piece).all():
            bad = sum(int((~np.isfinite(flat[at : at + CHUNK])).sum()) for at in range(0, flat.size, CHUNK))
            return f"{bad} of {flat.size} values are {'NaN' if np.isnan(flat).any() else 'infinite'}"
    return ""


def fill(filler: Any, shape: tuple[int, ...], layer: Layer, what: str) -> Array:
    """What Caffe's filler puts into a blob that the file has no values for; constant and bilinear only.

    filler: the message, or a number. Raises ConversionError for random fillers: the numbers would be others than Caffe's.
    """
    if filler is None or isinstance(filler, float):
        return np.full(shape, filler or 0.0, np.float32)
    kind = filler.type
    if kind == "constant":
        return np.full(shape, filler.value, np.float32)
    if kind == "bilinear":
        if len(shape) != 4 or shape[2] != shape[3]:
            raise layer.error(f"{what}: the bilinear filler needs a square 4-D blob, not {shape}")
        size = shape[3]
        f = -(-size // 2)
        c = np.float32((size - 1) / (2.0 * f))
        line = 1 - np.abs(np.arange(size, dtype=np.float32) / np.float32(f) - c)
        return np.broadcast_to(np.outer(line, line).astype(np.float32), shape).copy()
    raise layer.error(
        f"{what}: no weights file gives its values, and its filler '{printable(kind)}' is random; give the weights of this very net"
    )
