"""What an operator's inputs can be besides values of the graph: stored parameters, indices, labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from converters.errors import ConversionError, of_another_size, printable
from converters.graph.builder import Dim
from converters.readers.mxnet.builder import OperatorBuilder
from converters.tensors.state_dict import TORCH_WORDS

# The words that names of parameters end in (`conv0_weight`), in symbols and in gluon (running_*), and torch's words for them. It is the
# vocabulary of files: a variable's name says it, whatever operator uses the variable.
ROLES = {**TORCH_WORDS, "alpha": "weight", "parameters": "parameters"}


_TWINS = {"moving_mean": "running_mean", "moving_var": "running_var", "running_mean": "moving_mean", "running_var": "moving_var"}
"""Two words for one thing: the symbols' and gluon's."""


def module_of(name: str) -> str:
    """`conv0` of `conv0_weight`; empty where the name ends in no parameter's word."""
    return next((name[: -len(word) - 1] for word in ROLES if name.endswith(f"_{word}")), "")


def spellings(name: str) -> list[str]:
    """The other name that files may have for a variable: `bn0_running_mean` for `bn0_moving_mean`, and the other way round."""
    return [name[: -len(word)] + twin for word, twin in _TWINS.items() if name.endswith(word)]


@dataclass(frozen=True)
class Place:
    """Where a parameter comes from and goes to: its name in the file, the file, the module, and the role there ("": the slot's)."""

    name: str
    file: str = ""
    module: str = ""
    role: str = ""


class Parameter:
    """An input where MXNet expects a stored parameter: an array of the file, or a value that the net computes."""

    def __init__(
        self, g: OperatorBuilder, place: Place, slot: str, source: ir.Value | NDArray[Any] | None, used: dict[str, ir.Value]
    ) -> None:
        """source: None where no file has it and only its shape counts: that which the operator asks for first."""
        self.g, self.place, self.name, self.slot, self._source, self._used = g, place, place.name, slot, source, used

    @property
    def array(self) -> NDArray[Any] | None:
        """The stored array, where there is one."""
        return self._source if isinstance(self._source, np.ndarray) else None

    def under(self, slot: str) -> Parameter:
        """The same parameter as another operator's input."""
        return Parameter(self.g, self.place, slot, self._source, self._used)

    @property
    def shape(self) -> tuple[Dim, ...]:
        if self._source is None:
            raise self._unknown()
        return tuple(self._source.shape) if isinstance(self._source, np.ndarray) else self.g.shape(self._source)

    def _unknown(self) -> ConversionError:
        return self.g.error(f"the shape of '{printable(self.name)}' is known only from the .params file")

    def ones(self, size: int, dtype: Any) -> ir.Value:
        """Ones in the place of the parameter, whatever is stored (fix_gamma)."""
        self.check((size,))
        array = self.array
        if array is None or self.name in self._used or (array == 1).all():
            return self.use(dtype=dtype) if array is not None and (array == 1).all() else self.g.const(np.ones(size, dtype), role="ones")
        fixed = f"{self.name}|ones"
        if fixed not in self._used:
            role = self.g.free_role(self.place.role or ROLES[self.slot], self.place.module)
            self._used[fixed] = self.g.param(role, np.ones(size, dtype), path=self.place.module, original=self.name)
        return self.g.cast(self._used[fixed], dtype)

    def check(self, shape: Sequence[Dim]) -> None:
        """Raises ConversionError where the parameter's shape isn't the one that MXNet infers (-1, text or None: any size)."""
        if self._source is None and all(isinstance(size, int) and size >= 0 for size in shape):
            self._source = np.broadcast_to(np.float32(0), tuple(size for size in shape if isinstance(size, int)))
        stored = self.shape
        fits = len(stored) == len(shape) and all(
            a == b or not isinstance(a, int) or not isinstance(b, int) or b == -1 for a, b in zip(stored, shape, strict=True)
        )
        if not fits:
            where = f"'{printable(self.name)}' in {self.place.file}" if self.array is not None else f"the input '{self.slot}'"
            problem = self.g.error(f"{where} has shape {_dims(stored)}, but the operator needs {_dims(shape)}")
            last = stored[-1:], tuple(shape[-1:])
            if len(stored) == len(shape) == 2 and isinstance(last[0][0], int) and isinstance(last[1][0], int):  # a FullyConnected's
                raise of_another_size(problem, last[1][0], last[0][0])
            raise problem

    def use(self, shape: Sequence[Dim] | None = None, dtype: Any = None) -> ir.Value:
        """The parameter in the graph, its shape checked first. dtype: that of the data it meets."""
        if shape is not None:
            self.check(shape)
        if isinstance(self._source, ir.Value):
            return self._source if dtype is None else self.g.cast(self._source, dtype)
        if self.name not in self._used:
            if self._source is None:
                raise self._unknown()
            array = self._source
            wanted = np.dtype(dtype if dtype is not None else np.float32)
            _warn_unless_finite(self.g, array, self.name, self.place.file)
            array = array if array.dtype.newbyteorder("=") == wanted else array.astype(wanted)
            role = self.g.free_role(self.place.role or ROLES.get(self.slot, self.slot), self.place.module)
            self._used[self.name] = self.g.param(role, array, path=self.place.module, original=self.name)
        value = self._used[self.name]
        return value if dtype is None else self.g.cast(value, dtype)


class Label:
    """The annotation of an input that training alone needs; it is no input of the deployed net."""


@dataclass(frozen=True)
class OwnType:
    """Marks an input whose stored integers stay integers, whatever the type of the data beside it. floats: other numbers stay too."""

    floats: bool = False


Index = Annotated[ir.Value, OwnType()]
"""The annotation of an input that holds positions or lengths."""
Exact = Annotated[ir.Value, OwnType(floats=True)]
"""The annotation of an input that stays in the type that it is stored in."""


def _warn_unless_finite(g: OperatorBuilder, array: NDArray[Any], name: str, file: str) -> None:
    if array.dtype.kind != "f":
        return
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum(dtype=np.float64 if array.itemsize > 4 else np.float32)
    if not math.isfinite(total) and not np.isfinite(array).all():
        count = array.size - int(np.isfinite(array).sum())
        g.warn(f"'{printable(name)}' in {file} holds {count} values that are NaN or infinite")


def _dims(shape: Sequence[Dim]) -> str:
    inside = ", ".join("?" if d is None or d == -1 else str(d) for d in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"
