"""What a file says of its net before anything is computed: layers in order, inputs, outputs, what nobody can lower yet.

Readers make it (formats.Format.outline) without the packages that a graph needs, so that a look into a file takes a moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from converters.errors import Source

Dims = tuple[int | str | None, ...]
"""A shape: numbers, names of open axes, None for what isn't known."""


@dataclass(frozen=True)
class Port:
    """An input or output of a net. dtype: as numpy names it, None where the file doesn't say."""

    shape: Dims | None = None
    dtype: str | None = None


@dataclass
class Row:
    """One layer, module or operator.

    name, type: the source's. line: of the file. path: the prefix of its tensors' keys. source: as graph nodes name it (errors.Source).
    takes, gives: names of values, where the file has them. outputs: shapes of what it gives. parameters, buffers: numbers that were
    learnt, and others. flops: multiply-adds of convolutions and products for one item; other: operations of all the rest.
    """

    name: str
    type: str
    line: int | None = None
    path: str = ""
    source: str = ""
    takes: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    outputs: list[Dims | None] = field(default_factory=list)
    parameters: int | None = None
    buffers: int | None = None
    flops: int | None = None
    other: int | None = None


@dataclass
class Outline:
    """What a reader finds in a file besides its tensors.

    version: of the framework that wrote it; producer: the program. tensors: where the file's own reader of weights needs a graph.
    unsupported: layers that no lowering is registered for, hook: what registers one. preprocessing: what the file says is done to
    images, in its own words. provenance: what this package wrote of where the file comes from. notes: what else the user should know.
    graph: whether the file alone makes a graph, whose shapes follow.
    """

    name: str = ""
    version: str = ""
    producer: str = ""
    opset: int | None = None
    inputs: dict[str, Port] = field(default_factory=dict)
    outputs: dict[str, Port] = field(default_factory=dict)
    tensors: dict[str, Port] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    unsupported: list[Source] = field(default_factory=list)
    hook: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    provenance: str = ""
    notes: list[str] = field(default_factory=list)
    graph: bool = False
