"""Which blob of a weights file belongs to which layer of a net: by name, as Caffe copies them.

Sources: caffe/src/caffe/net.cpp (CopyTrainedLayersFrom, CopyTrainedLayersFromHDF5, AppendParam), caffe/include/caffe/filler.hpp.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from converters.errors import ConversionError, of_another_size, printable
from converters.files import StrPath, map_file
from converters.readers.caffe.caffemodel import Array, Blob, StoredLayer, describe, read_caffemodel
from converters.readers.caffe.layer import Filler, Layer
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


@dataclass
class _Missing:
    """Parameters of a layer that no weights file has. undeclared: those whose filler the prototxt doesn't state."""

    layer: Layer
    roles: list[str] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)


class Weights:
    """The stored blobs of a net's layers; knows which are shared and which are missing.

    fillers: what no weights file has gets its filler's value, where the prototxt states none too. shapes_only: it gets no values, but
    zeros that take no memory, because nothing will run.
    """

    def __init__(self, layers: Sequence[Layer], path: StrPath | None, *, fillers: bool = False, shapes_only: bool = False) -> None:
        self.file = os.fspath(path) if path is not None else ""
        self._fillers = fillers
        self.shapes_only = shapes_only
        self._layers = layers
        self._by_layer: dict[int, list[Blob]] = {}
        self._order: dict[int, int] = {}
        self._sharers: dict[str, list[tuple[int, int]]] = {}
        self._stored: list[StoredLayer] = read_weights(path) if path is not None else []
        self._checked: dict[int, str] = {}
        self.missing: dict[Layer, _Missing] = {}
        self.values: dict[tuple[str, str, tuple[int, ...], bool], ir.Value] = {}
        first: dict[str, int] = {}
        for index, layer in enumerate(layers):
            if layer.type != "Input":  # it has no parameters, and the one that is made of `input:` is called "input"
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

    def note_missing(self, layer: Layer, what: str, *, declared: bool) -> None:
        """Notes a parameter that no weights file has; declared: the prototxt states its filler."""
        entry = self.missing.setdefault(layer, _Missing(layer))
        entry.roles.append(what)
        if not declared:
            entry.undeclared.append(what)

    def notes(self) -> Iterator[str]:
        """What the user should know: which parameters hold NaN or infinity, and which are fillers' values.

        Raises ConversionError where parameters are missing that no filler was allowed to stand for.
        """
        yield from filter(None, self._checked.values())
        if not self.missing:
            return
        missing = list(self.missing.values())
        if not self._fillers:
            if not self.file:
                raise self._refusal(missing, "no weights were given", "give the .caffemodel of this net")
            undeclared = [_Missing(m.layer, m.undeclared) for m in missing if m.undeclared]
            if undeclared:
                what = f"{printable(os.path.basename(self.file))} has no weights"
                raise self._refusal(undeclared, what, "give the weights of this very net", ", and the prototxt states no filler")
        where = f"{printable(self.file, 400)} has no weights" if self.file else "no weights were given"
        yield f"{where} for {_listed(missing)}; they get what their fillers say (as in Caffe, which doesn't mention it)"

    def _refusal(self, missing: Sequence[_Missing], what: str, advice: str, more: str = "") -> ConversionError:
        first = missing[0].layer
        hint = f"{advice}, or let Caffe's fillers stand for them with --allow-fillers (fillers=True)"
        return ConversionError(f"{what} for {_listed(missing)}{more}", path=first.file, line=first.line, layer=first.name, hint=hint)

    def check_match(self, excluded: Sequence[Layer]) -> None:
        """Raises ConversionError where a weights file has nothing for any layer of the net. excluded: layers that phase TEST leaves out."""
        names = {stored.name for stored in self._stored if stored.blobs}
        if self._by_layer or not names:
            return
        out = [layer for layer in excluded if layer.name in names]
        if out:
            what = f"the layers that it has weights for are left out in phase TEST by their rules ({printable(out[0].name)} ...)"
            hint = "a net for phase TEST is needed: take the include and exclude rules out"
        else:
            what = f"none of its layers' names occurs in the prototxt ({describe(self._stored)})"
            hint = "are these two files of the same net?"
        raise ConversionError(what, path=self.file, hint=hint)


def _listed(missing: Sequence[_Missing]) -> str:
    """`conv1 (weight, bias), bn1 (mean)`, at most eight."""
    names = ", ".join(f"{printable(m.layer.name)} ({', '.join(m.roles)})" for m in missing[:8])
    return names + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")


class LayerWeights:
    """The parameters of one layer (layer.Parameters)."""

    def __init__(self, weights: Weights, layer: Layer, index: int) -> None:
        self._weights = weights
        self._layer = layer
        self._index = index
        self._file = printable(os.path.basename(weights.file))

    @property
    def count(self) -> int:
        """How many blobs the weights file holds for this layer."""
        return self._weights.count(self._index)

    @property
    def shared(self) -> bool:
        """Whether any parameter is shared with another layer."""
        return any(self._weights.shared_name(self._index, i) for i in range(len(self._layer.params.param)))

    @property
    def shapes_only(self) -> bool:
        """Whether the net is only looked at: parameters that no file has are zeros that nothing will run with."""
        return self._weights.shapes_only

    def expect(self, *counts: int) -> None:
        """Raises ConversionError where the file holds another number of blobs than the layer has."""
        if self.count and self.count not in counts and not (self.shared and self.count < max(counts)):
            wanted = " or ".join(map(str, counts))
            raise self._layer.error(f"{self._file} holds {self.count} blobs for it, but it needs {wanted}")

    def shape(self, position: int) -> tuple[int, ...] | None:
        """The shape of a stored blob, None where there is none."""
        blob = self._weights.find(self._index, position)
        return blob.shape if blob else None

    def array(self, position: int, what: str, shape: tuple[int, ...], filler: Filler = None) -> Array:
        """A parameter's values in the shape that the layer needs. Raises ConversionError where the stored ones don't fit.

        filler: Caffe's filler for a parameter that no weights file has, or a number that stands for it; None: 0.
        """
        blob = self._weights.find(self._index, position)
        if blob is not None:
            loose = self._weights.is_permissive(self._index, position) and math.prod(blob.shape) == math.prod(shape)
            if not fits(blob, shape) and not loose:
                message = f"its {what} has shape {blob.shape} in {self._file}, but the prototxt asks for {shape}"
                found = _inputs(self._layer, blob, shape)
                raise self._layer.error(message) if found is None else of_another_size(self._layer.error(message), *found)
            array = blob.array().reshape(shape)
            if not self._weights.shapes_only:
                self._weights.check_finite(blob, array, blob.source.describe(what))
            return array
        if self.count:
            raise self._layer.error(f"{self._file} holds {self.count} blobs for it, and no {what}")
        if self._weights.shapes_only:
            return np.broadcast_to(np.float32(0), shape)
        if math.prod(shape) > FILL_LIMIT:
            raise self._layer.error(f"its {what} of shape {shape} is in no weights file")
        declared = isinstance(filler, caffe_pb2.FillerParameter) and bool(filler.ListFields())
        self._weights.note_missing(self._layer, what, declared=declared)
        return fill(filler, shape, self._layer, what)

    def value(
        self,
        g: GraphBuilder,
        position: int,
        role: str,
        shape: tuple[int, ...],
        filler: Filler = None,
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


def _inputs(layer: Layer, blob: Blob, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Of an InnerProduct how many inputs there are and how many its weights are for, which another image size would give."""
    if layer.type == "InnerProduct" and len(shape) == 2 and len(blob.shape) >= 2 and blob.shape[-1] not in shape:
        return shape[0 if layer.params.inner_product_param.transpose else 1], blob.shape[-1]
    return None


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


def fill(filler: Filler, shape: tuple[int, ...], layer: Layer, what: str) -> Array:
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
