"""Lowerings of Caffe's layers, by topic; importing this package fills `converters.caffe.table.lowers`."""

from converters.caffe.layers import (
    activation,
    arithmetic,
    convolution,
    detection,
    linear,
    losses,
    normalisation,
    pooling,
    recurrent,
    resampling,
    shape,
    sources,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "detection",
    "linear",
    "losses",
    "normalisation",
    "pooling",
    "recurrent",
    "resampling",
    "shape",
    "sources",
]
