"""All built-in lowerings: importing this module fills the registry."""

from converters.torch7 import (
    activations,
    arithmetic,
    community,
    containers,
    convolution,
    distances,
    linear,
    local_normalisation,
    nngraph,
    normalisation,
    passthrough,
    pooling,
    reduction,
    resampling,
    shapes,
    tables,
    temporal,
)
from converters.torch7.module import lowers

__all__ = [
    "activations",
    "arithmetic",
    "community",
    "containers",
    "convolution",
    "distances",
    "linear",
    "local_normalisation",
    "lowers",
    "nngraph",
    "normalisation",
    "passthrough",
    "pooling",
    "reduction",
    "resampling",
    "shapes",
    "tables",
    "temporal",
]
