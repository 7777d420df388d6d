"""OperatorBuilder: the common graph builder with what MXNet's lowerings ask for besides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from converters.graph.builder import GraphBuilder, SymbolicDimensionError

LARGEST_CONSTANT = 1 << 26
"""Elements of the largest constant that a lowering makes."""


class OperatorBuilder(GraphBuilder):
    """The graph being built, and the release that wrote the symbol."""

    def __init__(
        self,
        name: str,
        *,
        version: int,
        closed: SymbolicDimensionError | None = None,
        dynamic: Mapping[tuple[str, int], str] | None = None,
    ) -> None:
        super().__init__(name, symbolic_batch=True, closed=closed, dynamic=dynamic)
        self.version = version
        """The release that wrote the symbol: 10000 major + 100 minor + patch."""
        self.open_values: set[ir.Value] = set()
        """Values whose axes of size 1 stand for sizes that the file leaves open (a begin state of shape (0, 20))."""

    def dtype(self, value: ir.Value) -> np.dtype[Any]:
        """numpy's type of a value."""
        if value.dtype is None:
            raise self.error(f"the type of {value.name} is unknown")
        return np.dtype(value.dtype.numpy())

    def axis(self, value: ir.Value, axis: int, *, extra: int = 0, attribute: str = "axis") -> int:
        """The axis counted from the front; raises ConversionError where the value has no such axis."""
        rank = self.rank(value) + extra
        if not -rank <= axis < rank:
            raise self.error(f"attribute {attribute} is {axis}, but the input has shape {self.shape(value)}")
        return axis % rank

    def check_table(self, *sizes: int) -> None:
        """Raises ConversionError where a constant of these sizes would be larger than any net's: the file decides them."""
        if math.prod(sizes) > LARGEST_CONSTANT:
            raise self.error(f"a table of {' x '.join(map(str, sizes))} numbers would be needed; at most {LARGEST_CONSTANT} are made")

    def cast(self, value: ir.Value, dtype: Any) -> ir.Value:
        """The value in another type; itself where it has that type."""
        wanted = ir.DataType.from_numpy(np.dtype(dtype))
        if value.dtype == wanted:
            return value
        return self.emit("Cast", value, to=wanted.value)
