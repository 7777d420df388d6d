"""What a prototxt or a weights file says of its net, layer by layer, and whether they are of one net; no graph is made."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from converters.errors import printable
from converters.files import StrPath, map_file
from converters.graph.outline import Outline, Port, Row
from converters.options import DEFAULTS, LoadOptions
from converters.readers.caffe.caffemodel import Blob, StoredLayer
from converters.readers.caffe.hdf5 import MAGIC
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.prototxt import Net, read_net
from converters.readers.caffe.registry import REASONS, lowers
from converters.readers.caffe.weights import read_weights
from converters.registry import stated_facts

_HOOK = "@lowers(TYPE), from converters.readers.caffe import lowers, in a file that --plugin FILE.py --trust names"
_DATA = ("Input", "MemoryData", "Data", "ImageData", "WindowData", "HDF5Data", "AnnotatedData", "VideoData", "DenseImageData")


def outline(path: StrPath, options: LoadOptions = DEFAULTS) -> Outline:
    """The layers of a prototxt, or those that a weights file holds. Raises ConversionError."""
    head = bytes(map_file(path)[: 1 << 16])
    if head.startswith(MAGIC) or b"\0" in head:
        return Outline(rows=[_stored(layer) for layer in read_weights(path)])
    net = read_net(path)
    return _of_net(net)


def _of_net(net: Net) -> Outline:
    rows = [_row(layer) for layer in net.layers]
    found = Outline(name=net.name, rows=rows, hook=_HOOK, graph=True)
    for layer in net.layers:
        if not layer.bottoms and (layer.type in _DATA or lowers.built_in(layer.type) is None):
            shapes = layer.params.input_param.shape
            for position, top in enumerate(layer.tops):
                dims = tuple(shapes[min(position, len(shapes) - 1)].dim) if shapes else None
                found.inputs[top] = Port(dims, "float32")
        elif not _is_known(layer):
            found.unsupported.append(layer.source)
    kinds = dict.fromkeys(source.type for source in found.unsupported)
    found.notes += [f"{kind}: {REASONS[kind]}" for kind in kinds if kind in REASONS]
    used = {name for layer in net.layers for name in layer.bottoms}
    made = itertools.chain.from_iterable(layer.tops for layer in net.layers if layer.bottoms)
    found.outputs = {name: Port(None, "float32") for name in dict.fromkeys(made) if name not in used}
    found.preprocessing = _preprocessing([*net.layers, *net.excluded])
    return found


def _is_known(layer: Layer) -> bool:
    return layer.type in (lowers if lowers.is_filled else stated_facts(lowers.topics)) or layer.type in _DATA


def _row(layer: Layer) -> Row:
    return Row(layer.name, layer.type, layer.line, source=str(layer.source), takes=list(layer.bottoms), gives=list(layer.tops))


def _stored(layer: StoredLayer) -> Row:
    held = sum(blob.values.size for blob in layer.blobs)
    is_statistic = (facts := lowers.built_in(layer.type)) is not None and "factor" in facts.blobs
    counts = (0, held) if is_statistic else (held, 0)
    return Row(layer.name, layer.type, takes=list(layer.bottoms), gives=list(layer.tops), parameters=counts[0], buffers=counts[1])


def _preprocessing(layers: list[Layer]) -> dict[str, Any]:
    """The transform_param of the data layers, TEST's before TRAIN's, in Caffe's own words."""
    for layer in layers:
        if layer.params.HasField("transform_param"):
            stated: dict[str, Any] = MessageToDict(layer.params.transform_param, preserving_proto_field_name=True)
            return stated
    return {}


# -- which weights are a net's own --------------------------------------------------------------------------------------


def _outputs(kind: str) -> str:
    """The message that says how many outputs a type of layers has that can't be without weights; empty for the others."""
    facts = lowers.built_in(kind)
    return "" if facts is None else facts.outputs


@dataclass(frozen=True)
class Fit:
    """How stored layers fit a net. reason: why they can't be its own; empty where they can. filled: layers that its fillers would fill."""

    reason: str = ""
    filled: int = 0


def fit(net: Net, stored: Sequence[StoredLayer]) -> Fit:
    """Whether the stored layers can be those of the net."""
    held = {layer.name: layer for layer in stored if layer.blobs}
    filled = 0
    for layer in net.layers:
        if not (outputs := _outputs(layer.type)):
            continue
        found = held.get(layer.name)
        if found is None and any(param.name for param in layer.params.param):
            continue  # another layer's, which a file may hold once
        if found is None and getattr(layer.params, outputs).HasField("weight_filler"):
            filled += 1
        elif found is None:
            return Fit(f"it has no weights for layer '{printable(layer.name)}' ({layer.type})")
        elif reason := _other(layer, found):
            return Fit(reason)
    if held and not held.keys() & {layer.name for layer in net.layers}:
        return Fit("it has weights for none of the net's layers")
    return Fit(filled=filled)


def _other(layer: Layer, found: StoredLayer) -> str:
    """Why a stored layer isn't the net's layer of its name."""
    if found.type and found.type != layer.type and _outputs(found.type):
        return f"layer '{printable(layer.name)}' is {layer.type} here and {found.type} there"
    return _other_size(layer, found.blobs[0])


def is_deployed(net: Net) -> bool:
    """Whether the net takes its data from outside, as deploy.prototxt does, and not from a data layer of its own."""
    return any(layer.type == "Input" for layer in net.layers)


def _other_size(layer: Layer, blob: Blob) -> str:
    """Why the first blob isn't of the size that the layer states."""
    stated = getattr(layer.params, _outputs(layer.type))
    count = int(stated.num_output)
    shape = [size for size in blob.shape if size != 1] or [1]
    if count != 1 and count not in shape and not (layer.type == "Deconvolution" and stated.group > 1):
        return f"layer '{printable(layer.name)}' has {count} outputs here, and weights of {'x'.join(map(str, blob.shape))} there"
    kernel = [int(size) for size in getattr(stated, "kernel_size", ())]
    if len(kernel) == 1 and len(blob.shape) == 4 and blob.shape[-1] != kernel[0]:
        return f"layer '{printable(layer.name)}' has a kernel of {kernel[0]} here, and weights of {'x'.join(map(str, blob.shape))} there"
    return ""
