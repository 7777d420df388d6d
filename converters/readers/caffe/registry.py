"""The table of layers: which function lowers which type. Its entries are in layers/."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.registry import Registry

Lowering = Callable[..., Any]
"""(g, layer, *bottoms) -> a Value, or a sequence of them, one for each top (more are ignored)."""


@dataclass(frozen=True)
class LayerFacts:
    """What is known of a type of layer beside how it is computed.

    blobs: what its stored blobs are, in order; "?": only there where the others are all there too; "factor": what the others are to be
    divided by.
    """

    blobs: tuple[str, ...] = ("weight", "bias")


lowers: Registry[Lowering, LayerFacts] = Registry("Caffe layer", LayerFacts, "converters.readers.caffe.layers")
