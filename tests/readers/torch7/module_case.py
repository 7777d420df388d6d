"""A row of a table of Torch7 modules: the module as Lua writes it, what goes in, and an independent formula that says what comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

import converters
from tests.bench import Shape, stream
from tests.readers.torch7 import lua


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers of a stream of their own: the same for the same shape and seed, whatever rows stand before."""
    return stream(f"{shape} {seed}").standard_normal(shape).astype(np.float32)


def leaves(x: Any, label: str = "input") -> Iterator[tuple[str, Any]]:
    """("input_2_1", item) of a table of tables as lists."""
    if not isinstance(x, list):
        yield label, x
        return
    for position, item in enumerate(x, 1):
        yield from leaves(item, f"{label}_{position}")


@dataclass
class ModuleCase:
    """made: the module. x: a shape (random numbers go in), an array, or for a Lua table a list of such. expect(x): a formula in numpy.

    low, high: between which numbers the random ones lie. grows: `expect` holds at another image size too. fixed: the model takes the
    declared batch alone.
    """

    name: str
    made: Any
    x: Any
    expect: Callable[..., Any]
    tolerance: float = 2e-5
    low: float = -2
    high: float = 2
    fixed: bool = False
    grows: bool = False

    @property
    def id(self) -> str:
        return self.name

    @property
    def shapes(self) -> Sequence[Shape | np.ndarray]:
        return [item for _, item in leaves(self.x)]

    @property
    def span(self) -> tuple[float, float]:
        return self.low, self.high

    def load(self, folder: Path) -> ir.Model:
        path = folder / "model.t7"
        path.write_bytes(lua.dumps(self.made))
        inputs = {name: item.shape if isinstance(item, np.ndarray) else item for name, item in leaves(self.x)}
        with warnings.catch_warnings():  # what warns is tested in test_network.py; here the numbers count
            warnings.simplefilter("ignore", converters.ConversionWarning)
            return converters.load(path, inputs=inputs)

    def expected(self, *inputs: np.ndarray) -> Sequence[Any]:
        flat = iter(inputs)

        def filled(x: Any) -> Any:
            return [filled(item) for item in x] if isinstance(x, list) else next(flat)

        return [item for _, item in leaves(self.expect(filled(self.x)))]
