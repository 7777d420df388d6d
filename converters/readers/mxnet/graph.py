"""What an operator's lowering works with: the graph at hand, its stored parameters, and labels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionWarning, printable
from converters.graph.builder import Dim, GraphBuilder, SymbolicDimensionError

ROLES = {
    "weight": "weight",
    "bias": "bias",
    "gamma": "weight",
    "alpha": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
"""torch's words for MXNet's parameter slots."""
LARGEST_CONSTANT = 1 << 26
"""Elements of the largest constant that a lowering makes."""


class Graph(GraphBuilder):
    """The graph being built, and the operator at hand."""

    version: int
    """The release that wrote the symbol: 10000 major + 100 minor + patch."""
    open_values: set[ir.Value]
    """Values whose axes of size 1 stand for sizes that the file leaves open (a begin state of shape (0, 20))."""

    def __init__(self, name: str, *, closed: SymbolicDimensionError | None = None) -> None:
        super().__init__(name, symbolic_batch=True, closed=closed)
        self.open_values = set()

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

    def room(self, *sizes: int) -> None:
        """Raises ConversionError where a constant of these sizes would be larger than any net's: the file decides them."""
        if math.prod(sizes) > LARGEST_CONSTANT:
            raise self.error(f"a table of {' x '.join(map(str, sizes))} numbers would be needed; at most {LARGEST_CONSTANT} are made")

    def cast(self, value: ir.Value, dtype: Any) -> ir.Value:
        """The value in another type; itself where it has that type."""
        wanted = ir.DataType.from_numpy(np.dtype(dtype))
        if value.dtype == wanted:
            return value
        return self.emit("Cast", value, to=wanted.value)


class Parameter:
    """An input where MXNet expects a stored parameter: an array of the file, or a value that the net computes."""

    def __init__(
        self, g: Graph, name: str, slot: str, source: ir.Value | NDArray[Any], made: dict[str, ir.Value], path: str, params: str
    ) -> None:
        self.g, self.name, self.slot, self._source, self._made, self._path, self._params = g, name, slot, source, made, path, params

    @property
    def array(self) -> NDArray[Any] | None:
        """The stored array, where there is one."""
        return self._source if isinstance(self._source, np.ndarray) else None

    @property
    def shape(self) -> tuple[Dim, ...]:
        return tuple(self._source.shape) if isinstance(self._source, np.ndarray) else self.g.shape(self._source)

    def ones(self, size: int, dtype: Any) -> ir.Value:
        """Ones in the place of the parameter, whatever is stored (fix_gamma)."""
        self.check((size,))
        array = self.array
        if array is None or self.name in self._made or (array == 1).all():
            return self.use(dtype=dtype) if array is not None and (array == 1).all() else self.g.const(np.ones(size, dtype), role="ones")
        fixed = f"{self.name}|ones"
        if fixed not in self._made:
            path, _, own = self._path.rpartition("|")
            final = self.g.free_role(own or ROLES[self.slot], path)
            self._made[fixed] = self.g.param(final, np.ones(size, dtype), path=path, original=self.name)
        return self.g.cast(self._made[fixed], dtype)

    def check(self, shape: Sequence[Dim]) -> None:
        """Raises ConversionError where the parameter's shape isn't the one that MXNet infers (-1, text or None: any size)."""
        stored = self.shape
        fits = len(stored) == len(shape) and all(
            a == b or not isinstance(a, int) or not isinstance(b, int) or b == -1 for a, b in zip(stored, shape, strict=True)
        )
        if not fits:
            where = f"'{printable(self.name)}' in {self._params}" if self.array is not None else f"the input '{self.slot}'"
            raise self.g.error(f"{where} has shape {_dims(stored)}, but the operator needs {_dims(shape)}")

    def use(self, shape: Sequence[Dim] | None = None, dtype: Any = None, *, role: str | None = None) -> ir.Value:
        """The parameter in the graph, its shape checked first. dtype: that of the data it meets."""
        if shape is not None:
            self.check(shape)
        if isinstance(self._source, ir.Value):
            return self._source if dtype is None else self.g.cast(self._source, dtype)
        if self.name not in self._made:
            array = self._source
            wanted = np.dtype(dtype if dtype is not None else np.float32)
            _warn_unless_finite(array, self.name, self._params)
            path, _, own = self._path.rpartition("|")
            array = array if array.dtype.newbyteorder("=") == wanted else array.astype(wanted)
            final = self.g.free_role(own or role or ROLES.get(self.slot, self.slot), path)
            self._made[self.name] = self.g.param(final, array, path=path, original=self.name)
        value = self._made[self.name]
        return value if dtype is None else self.g.cast(value, dtype)


class Label:
    """The annotation of an input that training alone needs; it is no input of the deployed net."""


def _warn_unless_finite(array: NDArray[Any], name: str, file: str) -> None:
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum(dtype=np.float64 if array.itemsize > 4 else np.float32)
    if not math.isfinite(total) and not np.isfinite(array).all():
        count = array.size - int(np.isfinite(array).sum())
        warnings.warn(f"{file}: '{printable(name)}' holds {count} values that are NaN or infinite", ConversionWarning, stacklevel=2)


def _dims(shape: Sequence[Dim]) -> str:
    inside = ", ".join("?" if d is None or d == -1 else str(d) for d in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"
