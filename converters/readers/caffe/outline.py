"""What a prototxt or a weights file says of its net, layer by layer, without the packages that a graph needs."""

from __future__ import annotations

import itertools
from typing import Any

from google.protobuf.json_format import MessageToDict

from converters.files import StrPath, map_file
from converters.graph.outline import Outline, Port, Row
from converters.options import DEFAULTS, LoadOptions
from converters.readers.caffe.caffemodel import StoredLayer
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
