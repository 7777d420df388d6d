"""The table of layers: which function lowers which type. Its entries are in layers/."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from converters.registry import NoFacts, Registry

Lowering = Callable[..., Any]
"""(g, layer, *bottoms) -> a Value, or a sequence of them, one for each top (more are ignored)."""

lowers: Registry[Lowering, NoFacts] = Registry("Caffe layer", NoFacts, "converters.readers.caffe.layers")
