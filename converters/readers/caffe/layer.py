"""A layer as the prototxt says it, upgraded to Caffe's newest form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError, Source
from converters.readers.caffe.textformat import Field, Unknown
from converters.schemas import caffe_pb2

if TYPE_CHECKING:
    from converters.readers.caffe.weights import LayerWeights


@dataclass(eq=False)
class Layer:
    """One `layer { ... }`: what a lowering is given beside its inputs.

    params: the LayerParameter message, every field of which has Caffe's default (`layer.params.lrn_param.local_size`).
    unknown: fields that no known Caffe has; a user's lowering finds them in `extra`. weights: the parameters, while the layer
    is lowered: `layer.weights.value(g, 0, "weight", shape, filler)`. scale: the Scale layer that a BatchNorm takes in.
    """

    file: str
    line: int | None
    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    params: Any
    unknown: list[Unknown] = field(default_factory=list)
    weights: LayerWeights = field(init=False, repr=False)
    scale: Layer | None = field(default=None, repr=False)

    @property
    def source(self) -> Source:
        return Source(self.file, "layer", self.name, self.type, self.line)

    @property
    def extra(self) -> dict[str, Any]:
        """Fields that the schema doesn't know, as Python values: a message is a dict, a field given twice a list.

        `my_param { alpha: 0.5 }` -> {"my_param": {"alpha": 0.5}}. Names of enums stay strings.
        """
        found: dict[str, Any] = {}
        for unknown in self.unknown:
            _add(found, unknown.path, _plain(unknown.field))
        return found

    def error(self, message: str) -> ConversionError:
        """A ConversionError that names the file, the line and the layer."""
        return self.source.error(message)


def is_in_training(layer: Layer) -> bool:
    """Whether the layer itself says `phase: TRAIN`, which holds in a net of phase TEST too (Net::Init)."""
    return bool(layer.params.HasField("phase")) and layer.params.phase == caffe_pb2.TRAIN


def _add(found: dict[str, Any], name: str, value: Any) -> None:
    if name not in found:
        found[name] = value
    elif isinstance(found[name], list):
        found[name].append(value)
    else:
        found[name] = [found[name], value]


def _plain(field: Field) -> Any:
    if field.kind == "message":  # no deeper than textformat.DEPTH_LIMIT
        inner: dict[str, Any] = {}
        for part in field.value:
            _add(inner, part.name, _plain(part))
        return inner
    if field.kind == "name":
        return {"true": True, "false": False}.get(field.value, field.value)
    if field.kind == "string":
        return field.value
    text = "".join(field.value.split())
    try:
        return int(text, 0)
    except ValueError:
        return float(text.rstrip("fF") if text[-1:] in "fF" and "inf" not in text.lower() else text)
