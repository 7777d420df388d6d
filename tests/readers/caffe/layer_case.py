"""A row of the table of Caffe's layers: what the prototxt says, what goes in, and an independent function that says what comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import converters
from converters.errors import ConversionWarning
from tests.bench import Shape, check, draw
from tests.readers.caffe import wire


@dataclass
class LayerCase:
    """type and params as in the prototxt; shapes (random inputs) or arrays; expect(*inputs, *blobs); blobs as shapes or arrays.

    grows: `expect` holds at another image size too. fixed: the net takes the declared batch alone.
    """

    type: str
    params: str
    shapes: Sequence[Shape | np.ndarray]
    expect: Callable[..., Any]
    blobs: Sequence[Shape | np.ndarray] = ()
    tops: int = 1
    name: str = ""
    warns: str = ""
    tolerance: float = 1e-5
    low: float = -2
    high: float = 2
    fixed: bool = False
    grows: bool = True

    @property
    def id(self) -> str:
        return self.name or f"{self.type}-{self.params}"[:60]

    @property
    def span(self) -> tuple[float, float]:
        return self.low, self.high

    def arrays(self) -> list[np.ndarray]:
        return draw(f"weights of {self.id}", self.blobs, -1, 1)

    def expected(self, *inputs: np.ndarray) -> Sequence[Any]:
        found = self.expect(*inputs, *self.arrays())
        return found if isinstance(found, tuple | list) else [found]

    def prototxt(self) -> str:
        lines = []
        for i, shape in enumerate(self.shapes):
            dims = " ".join(f"dim: {d}" for d in (shape.shape if isinstance(shape, np.ndarray) else shape))
            lines.append(f'layer {{ name: "in{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {dims} }} }} }}')
        bottoms = " ".join(f'bottom: "x{i}"' for i in range(len(self.shapes)))
        tops = " ".join(f'top: "y{i}"' for i in range(self.tops))
        lines.append(f'layer {{ name: "it" type: "{self.type}" {bottoms} {tops} {self.params} }}')
        return "\n".join(lines)

    def load(self, folder: Path) -> ir.Model:
        net, weights = folder / "net.prototxt", folder / "net.caffemodel"
        net.write_text(self.prototxt())
        weights.write_bytes(wire.caffemodel({"it": self.arrays()} if self.blobs else {"none": []}))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = converters.load(net, weights)
        notes = [str(w.message) for w in caught if issubclass(w.category, ConversionWarning)]
        if self.fixed:  # the net may close the batch, which it says
            notes = [note for note in notes if "takes inputs of the given first size" not in note]
        assert bool(notes) == bool(self.warns) and all(self.warns in note for note in notes), notes
        assert sorted(str(v.name) for v in model.graph.outputs) == [f"y{i}" for i in range(self.tops)]
        return model

    def check(self, folder: Path) -> None:
        check(self, folder)
