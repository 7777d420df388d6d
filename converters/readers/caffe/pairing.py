"""Whether a weights file is one of a prototxt's net: by the names of layers, their types and the sizes that the text states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from converters.errors import printable
from converters.readers.caffe.caffemodel import Blob, StoredLayer
from converters.readers.caffe.layer import Layer
from converters.readers.caffe.prototxt import Net

_OUTPUTS = {"Convolution": "convolution_param", "Deconvolution": "convolution_param", "InnerProduct": "inner_product_param"}
"""Types that can't be without weights, and the message that says how many outputs they have."""


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
        if layer.type not in _OUTPUTS:
            continue
        found = held.get(layer.name)
        if found is None and any(param.name for param in layer.params.param):
            continue  # another layer's, which a file may hold once
        if found is None and getattr(layer.params, _OUTPUTS[layer.type]).HasField("weight_filler"):
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
    if found.type and found.type != layer.type and found.type in _OUTPUTS:
        return f"layer '{printable(layer.name)}' is {layer.type} here and {found.type} there"
    return _other_size(layer, found.blobs[0])


def is_deployed(net: Net) -> bool:
    """Whether the net takes its data from outside, as deploy.prototxt does, and not from a data layer of its own."""
    return any(layer.type == "Input" for layer in net.layers)


def _other_size(layer: Layer, blob: Blob) -> str:
    """Why the first blob isn't of the size that the layer states."""
    stated = getattr(layer.params, _OUTPUTS[layer.type])
    count = int(stated.num_output)
    shape = [size for size in blob.shape if size != 1] or [1]
    if count != 1 and count not in shape and not (layer.type == "Deconvolution" and stated.group > 1):
        return f"layer '{printable(layer.name)}' has {count} outputs here, and weights of {'x'.join(map(str, blob.shape))} there"
    kernel = [int(size) for size in getattr(stated, "kernel_size", ())]
    if len(kernel) == 1 and len(blob.shape) == 4 and blob.shape[-1] != kernel[0]:
        return f"layer '{printable(layer.name)}' has a kernel of {kernel[0]} here, and weights of {'x'.join(map(str, blob.shape))} there"
    return ""
