"""Rows of the table of MXNet's operators: a numpy formula, or what MXNet itself answered."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import converters
from converters.errors import ConversionWarning
from tests.bench import Shape, draw
from tests.conformance import FIXTURES
from tests.readers.mxnet import wire

ARCHIVE = FIXTURES / "mxnet" / "operators.npz"


@dataclass
class OperatorCase:
    """One operator on inputs and stored arrays: expect(*inputs, *arrays) says what comes out.

    shapes: of the inputs, or arrays. stored: arrays of the .params, or their shapes, by slot. grows: `expect` holds at another image
    size too. fixed: the operator takes the declared batch alone. outputs: how many of the operator's are the net's.
    """

    op: str
    expect: Callable[..., Any]
    attributes: Mapping[str, object] = field(default_factory=dict)
    shapes: Sequence[Shape | np.ndarray] = ((2, 3, 4, 5),)
    stored: Mapping[str, Shape | np.ndarray] = field(default_factory=dict)
    name: str = ""
    outputs: int = 1
    tolerance: float = 1e-5
    span: tuple[float, float] = (-2, 2)
    fixed: bool = False
    grows: bool = True

    @property
    def id(self) -> str:
        return self.name or "-".join([self.op, *(f"{k}={v}" for k, v in self.attributes.items())])[:70]

    def arrays(self) -> list[np.ndarray]:
        return draw(f"parameters of {self.id}", list(self.stored.values()), 0.5, 1.5)

    def expected(self, *inputs: np.ndarray) -> Sequence[Any]:
        found = self.expect(*inputs, *self.arrays())
        return found if isinstance(found, tuple | list) else [found]

    def load(self, folder: Path) -> ir.Model:
        names = [f"x{i}" for i in range(len(self.shapes))]
        slots = [f"op_{slot}" for slot in self.stored]
        nodes = [wire.node("null", name) for name in [*names, *slots]]
        nodes.append(wire.node(self.op, "op", [(i, 0) for i in range(len(nodes))], **self.attributes))
        symbol = wire.symbol(folder / "net-symbol.json", nodes, [(len(nodes) - 1, i) for i in range(self.outputs)])
        params = wire.params(folder / "net-0000.params", dict(zip(slots, self.arrays(), strict=True)))
        shapes = {n: s.shape if isinstance(s, np.ndarray) else s for n, s in zip(names, self.shapes, strict=True)}
        return converters.load(symbol, params, inputs=shapes)


@functools.cache
def archive() -> Mapping[str, np.ndarray]:
    return np.load(ARCHIVE)  # type: ignore[no-any-return]


@functools.cache
def members() -> dict[str, dict[str, list[str]]]:
    """Member names of each case of the archive by kind: json, input, param, output."""
    found: dict[str, dict[str, list[str]]] = {}
    for key in archive():
        case, kind, *rest = key.split("/", 2)
        found.setdefault(case, {}).setdefault(kind, []).extend(rest)
    return found


@dataclass
class ArchivedCase:
    """A net of the archive, with MXNet 1.9.1's own answers; they hold for these inputs alone."""

    id: str
    fixed: bool = True
    grows: bool = False
    span: tuple[float, float] = (0, 0)
    order: Sequence[str] = ()
    """Names of the graph's inputs, once it is loaded."""

    @property
    def tolerance(self) -> float:
        return 1e-3 if "16" in self.id or "amp" in self.id else 1e-4

    def _arrays(self, kind: str) -> dict[str, np.ndarray]:
        return {name: archive()[f"{self.id}/{kind}/{name}"] for name in members()[self.id].get(kind, [])}

    @property
    def shapes(self) -> Sequence[Shape | np.ndarray]:
        return [self._arrays("input")[name] for name in self.order]

    def load(self, folder: Path) -> ir.Model:
        symbol = folder / "net-symbol.json"
        symbol.write_text(str(archive()[f"{self.id}/json"]))
        weights = wire.params(folder / "net-0000.params", self._arrays("param"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConversionWarning)  # some close the batch, which they say
            model = converters.load(symbol, weights, inputs={name: array.shape for name, array in self._arrays("input").items()})
        self.order = [str(value.name) for value in model.graph.inputs]
        return model

    def expected(self, *inputs: np.ndarray) -> Sequence[Any]:
        return list(self._arrays("output").values())
