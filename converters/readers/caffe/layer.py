"""A layer as the prototxt says it, upgraded to Caffe's newest form."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from converters.errors import ConversionError, Source
from converters.readers.caffe.textformat import Field, Unknown
from converters.schemas import caffe_pb2

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

    from converters.graph.builder import GraphBuilder

    Array = NDArray[Any]

Filler = caffe_pb2.FillerParameter | float | None
"""How a parameter is filled that no weights file has: Caffe's message, or a number that the layer itself says."""
Wanted = TypeVar("Wanted")


class Parameters(Protocol):
    """The parameters of a layer while it is lowered: stored ones as views, missing ones as their fillers say."""

    @property
    def count(self) -> int:
        """How many blobs the weights file holds for this layer."""

    @property
    def shared(self) -> bool:
        """Whether any parameter is shared with another layer."""

    @property
    def shapes_only(self) -> bool:
        """Whether the net is only looked at: parameters that no file has are zeros that nothing will run with."""

    def expect(self, *counts: int) -> None:
        """Raises ConversionError where the file holds another number of blobs than the layer has."""

    def shape(self, position: int) -> tuple[int, ...] | None:
        """The shape of a stored blob, None where there is none."""

    def array(self, position: int, what: str, shape: tuple[int, ...], filler: Filler = None) -> Array:
        """A parameter's values in the shape that the layer needs. Raises ConversionError where the stored ones don't fit."""

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


@dataclass(eq=False)
class Layer:
    """One `layer { ... }`: what a lowering is given beside its inputs.

    params: the LayerParameter message, every field of which has Caffe's default (`layer.params.lrn_param.local_size`).
    unknown: fields that no known Caffe has; a user's lowering finds them in `extra`. weights: the parameters, while the layer
    is lowered: `layer.weights.value(g, 0, "weight", shape, filler)`. scale: the Scale layer that a BatchNorm takes in.
    meaning: which of several layers that forks gave this type's name to it is, where the rest of the net says so (layers/meanings.py).
    apart: rows and columns between the bottoms of a Crop, where it says no offset and they aren't 0.
    defines: what --define says.
    """

    file: str
    line: int | None
    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    params: caffe_pb2.LayerParameter
    unknown: list[Unknown] = field(default_factory=list)
    weights: Parameters = field(init=False, repr=False)
    scale: Layer | None = field(default=None, repr=False)
    meaning: str = ""
    apart: tuple[int, ...] = ()
    defines: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def source(self) -> Source:
        return Source(self.file, "layer", self.name, self.type, self.line)

    @property
    def extra(self) -> Fields:
        """Fields that the schema doesn't know, for a user's own lowering.

        `my_param { alpha: 0.5 }` -> `extra.number("my_param.alpha")` or `extra["my_param"]["alpha"]`.
        """
        found = Fields(self)
        for unknown in self.unknown:
            found.add(unknown.path, unknown.field)
        return found

    def define(self, name: str, default: float) -> float:
        """A number that --define gives, else the default. Raises ConversionError for what is no number."""
        try:
            return float(self.defines.get(name, default))
        except ValueError:
            raise self.error(f"--define {name} must be a number") from None

    def refuse(self, part: str, names: Collection[str], owner: str) -> None:
        """Raises ConversionError where a message such as convolution_param gives one of these fields, which another type reads, a value."""
        for given, value in getattr(self.params, part).ListFields():
            if given.name in names and value != given.default_value:
                raise self.error(f"{part}.{given.name} is read by {owner} alone, so that it would change nothing here")

    def error(self, message: str, hint: str | None = None) -> ConversionError:
        """A ConversionError that names the file, the line and the layer."""
        return self.source.error(message, hint)


class Fields(Mapping[str, Any]):
    """Fields of a message as Python values: a message is again Fields, a field given twice a list; names of enums stay strings.

    Reading one that isn't there is a ConversionError that names the layer.
    """

    def __init__(self, layer: Layer, path: str = "") -> None:
        self._layer, self._path = layer, path
        self._values: dict[str, Any] = {}

    def add(self, name: str, given: Field) -> None:
        """Takes in a field under this name."""
        value: Any = Fields(self._layer, f"{self._path}{name}.") if given.kind == "message" else _plain(given)
        if isinstance(value, Fields):  # no deeper than textformat.DEPTH_LIMIT
            for part in given.value:
                value.add(part.name, part)
        if name not in self._values:
            self._values[name] = value
        elif isinstance(self._values[name], list):
            self._values[name].append(value)
        else:
            self._values[name] = [self._values[name], value]

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise self._layer.error(f"has no field {self._path}{name}")
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def number(self, path: str, default: float | None = None) -> float:
        """The number at a path such as "my_param.alpha". Raises ConversionError where it is missing and has no default, or is no number."""
        return float(self._read(path, default, (int, float), "a number"))

    def integer(self, path: str, default: int | None = None) -> int:
        """As `number`, for an integer."""
        return self._read(path, default, (int,), "an integer")

    def flag(self, path: str, default: bool | None = None) -> bool:
        """As `number`, for true or false."""
        return self._read(path, default, (bool,), "true or false")

    def text(self, path: str, default: str | None = None) -> str:
        """As `number`, for a string or the name of an enum's value."""
        return self._read(path, default, (str,), "a string")

    def _read(self, path: str, default: Wanted | None, types: tuple[type, ...], what: str) -> Wanted:
        holder, _, name = path.rpartition(".")
        fields: Any = self
        for part in holder.split(".") if holder else ():
            if part not in fields and default is not None:
                return default
            fields = fields[part]
            if not isinstance(fields, Fields):
                raise self._layer.error(f"{self._path}{holder} must be one message")
        if name not in fields and default is not None:
            return default
        value: Wanted = fields[name]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise self._layer.error(f"{self._path}{path} must be {what}")
        return value


def is_in_training(layer: Layer) -> bool:
    """Whether the layer itself says `phase: TRAIN`, which holds in a net of phase TEST too (Net::Init)."""
    return bool(layer.params.HasField("phase")) and layer.params.phase == caffe_pb2.TRAIN


def _plain(given: Field) -> bool | int | float | str:
    if given.kind == "name":
        return given.value == "true" if given.value in ("true", "false") else str(given.value)
    if given.kind == "string":
        return str(given.value)
    text = "".join(given.value.split())
    try:
        return int(text, 0)
    except ValueError:
        return float(text.rstrip("fF") if text[-1:] in "fF" and "inf" not in text.lower() else text)
