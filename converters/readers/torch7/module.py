"""A Torch7 module of a file as the lowerings see it: checked fields, parameters of the graph, and where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, Source, printable
from converters.readers.torch7 import t7
from converters.registry import NoFacts, Registry

if TYPE_CHECKING:
    import onnx_ir as ir

    from converters.graph.builder import GraphBuilder

Value: TypeAlias = "ir.Value"

lowers: Registry[Callable[..., Any], NoFacts] = Registry("Torch7 module", NoFacts, "converters.readers.torch7.modules")
"""Class name -> function. A plain one takes (g, module, x) with values of the graph, lists of them for Lua tables; one marked
`on_tensors` takes (net, module, x) with References, whose storages it may share or overwrite."""

_MISSING: Any = object()
_EXPANDED_LIMIT = 1 << 24
"""Elements that a stride of 0 may make of fewer stored ones."""


def on_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a lowering of a container, a view or another module that is told by which tensor it is given, not by its values."""
    function.on_tensors = True  # type: ignore[attr-defined]
    return function


class Parameters:
    """Parameters of one graph: the same elements of the file are one initializer, whichever modules share them."""

    def __init__(self, g: GraphBuilder) -> None:
        self.g = g
        self._made: dict[tuple[int, str], ir.Value] = {}
        self._shared: dict[tuple[Any, ...], ir.Value] = {}

    def add(self, owner: t7.TorchObject, role: str, array: NDArray[Any], buffer: bool) -> ir.Value:
        made = self._made.get((id(owner), role))
        if made is not None:
            return made
        # arrays in the graph stay alive, so that no other elements can lie where theirs do
        place = (array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str) if array.size else (id(owner), role)
        value = self._shared.get(place)
        if value is None:
            value = self.g.param(role, array, buffer=buffer)
            self._shared[place] = value
        self._made[id(owner), role] = value
        return value


class Module:
    """One module object: `number`, `integer`, `flag`, `text`, `sizes` and `tensor` read fields, and refuse what they don't fit.

    path: its place in the containers, counted from 0 ("4.0.1"), the prefix of its parameters' keys.
    """

    def __init__(self, made: t7.TorchObject, path: str, file: str, parameters: Parameters) -> None:
        self.object = made
        self.path = path
        self.type = made.typename
        self.source = Source(file, "module", path or "(the model)", made.typename)
        self._parameters = parameters
        if not isinstance(made.payload, t7.Table):
            raise self.error("its fields aren't a table")
        kind = made.get("_type")
        if kind is not None and not (isinstance(kind, str) and kind.endswith("Tensor") and kind.removesuffix("Tensor") in t7.DTYPES):
            raise self.error(f"field '_type' says {printable(kind, 60)!r}, which is no tensor class of Torch7")

    def error(self, message: str) -> ConversionError:
        """A ConversionError that says where we are."""
        return self.source.error(message)

    def get(self, field: str, default: Any = None) -> Any:
        """A field as the reader made it."""
        return self.object.get(field, default)

    def __contains__(self, field: str) -> bool:
        return self.object.get(field) is not None

    @property
    def version(self) -> float:
        return self.object.version

    # -- plain fields ------------------------------------------------------------------------------------------------

    def _missing(self, field: str, default: Any, what: str) -> Any:
        if default is _MISSING:
            raise self.error(f"field '{field}' ({what}) is missing")
        return default

    def number(self, field: str, default: Any = _MISSING) -> float:
        """A number; infinity is one, NaN isn't."""
        value = self.get(field)
        if value is None:
            return self._missing(field, default, "a number")  # type: ignore[no-any-return]
        if not isinstance(value, float) or value != value:
            raise self.error(f"field '{field}' must be a number, but it is {printable(value, 60)}")
        return value

    @overload
    def integer(self, field: str) -> int: ...
    @overload
    def integer(self, field: str, default: int, *, least: int | None = None) -> int: ...
    @overload
    def integer(self, field: str, default: None, *, least: int | None = None) -> int | None: ...
    @overload
    def integer(self, field: str, *, least: int | None = None) -> int: ...
    def integer(self, field: str, default: Any = _MISSING, *, least: int | None = None) -> Any:
        """A whole number of at most 2^31, at least `least`."""
        value = self.get(field)
        if value is None:
            return self._missing(field, default, "a whole number")
        if not isinstance(value, float) or not abs(value) <= 2**31 or value != int(value):
            raise self.error(f"field '{field}' must be a whole number, but it is {printable(value, 60)}")
        if least is not None and value < least:
            raise self.error(f"field '{field}' is {int(value)}, but must be at least {least}")
        return int(value)

    def flag(self, field: str, default: bool = False) -> bool:
        """Truth as Lua has it: everything but nil and false."""
        value = self.get(field)
        return default if value is None else value is not False

    def text(self, field: str, default: Any = _MISSING) -> str:
        value = self.get(field)
        if value is None:
            return self._missing(field, default, "a string")  # type: ignore[no-any-return]
        if not isinstance(value, str):
            raise self.error(f"field '{field}' must be a string, but it is {printable(value, 60)}")
        return value

    def sizes(self, field: str) -> tuple[int, ...]:
        """A LongStorage, LongTensor or list of whole numbers."""
        value = self.get(field)
        if isinstance(value, t7.Storage | t7.Tensor):
            if value.array.dtype.kind not in "iu" or value.array.ndim != 1 or value.array.size > 64:
                raise self.error(f"field '{field}' must be a short list of whole numbers, but it is {printable(value, 60)}")
            return tuple(int(n) for n in value.array)
        if isinstance(value, t7.Table) and len(value) <= 64 and all(isinstance(n, float) and n == n // 1 for n in value.array()):
            return tuple(int(n) for n in value.array())
        raise self.error(f"field '{field}' must be a list of sizes, but it is {printable(value, 60)}")

    # -- tensors -----------------------------------------------------------------------------------------------------

    def optional_tensor(self, field: str) -> NDArray[Any] | None:
        """The elements of a tensor field; None where it is nil or an empty tensor."""
        value = self.get(field)
        return None if value is None or (isinstance(value, t7.Tensor) and not value.elements) else self.tensor(field)

    def tensor(self, field: str, *shape: int | None) -> NDArray[Any]:
        """The elements of a tensor of floating point numbers, float32 as a view of the file, others as float32.

        shape: what it must have, None for any size. Raises ConversionError where it doesn't, or where it holds integers.
        """
        value = self.get(field)
        if not isinstance(value, t7.Tensor):
            what = "missing" if value is None else printable(value, 60)
            raise self.error(f"field '{field}' must be a tensor, but it is {what}")
        if not value.elements:
            raise self.error(f"field '{field}' is an empty tensor")
        if value.dtype.kind != "f":
            raise self.error(f"field '{field}' is a {value.typename}, not a tensor of floating point numbers")
        if shape and (len(shape) != len(value.size) or any(a is not None and a != b for a, b in zip(shape, value.size, strict=True))):
            wanted = "x".join("?" if n is None else str(n) for n in shape)
            raise self.error(f"field '{field}' has shape {'x'.join(map(str, value.size)) or 'empty'}, expected {wanted}")
        if value.elements > _EXPANDED_LIMIT and value.storage is not None and value.elements > len(value.storage.array):
            raise self.error(f"field '{field}' has {value.elements} elements over a storage of {len(value.storage.array)}")
        array = value.array
        return array if array.dtype == np.float32 and array.dtype.isnative else array.astype(np.float32)

    def param(self, role: str, array: NDArray[Any] | None = None, *, buffer: bool = False) -> ir.Value:
        """The initializer `path.role` of the graph, once, however often this module runs; by default of the field of that name."""
        try:
            return self._parameters.add(self.object, role, self.tensor(role) if array is None else array, buffer)
        except ValueError as problem:  # a name that is taken
            raise self.error(str(problem)) from problem

    # -- modules inside ----------------------------------------------------------------------------------------------

    def modules(self, field: str = "modules") -> list[t7.TorchObject]:
        """The modules in a table of them; a hole is refused, since Torch7 would stop or fail there."""
        value = self.get(field)
        if value is None and field == "modules":
            return []
        if not isinstance(value, t7.Table):
            raise self.error(f"field '{field}' must be a table of modules, but it is {printable(value, 60)}")
        found = value.array()
        numbered = sum(isinstance(key, float) for key, _ in value.items())
        if numbered != len(found):
            raise self.error(f"table '{field}' has a hole behind entry {len(found)}: it holds {numbered} modules")
        return [self._module(item, f"{field}[{position}]") for position, item in enumerate(found, 1)]

    def module(self, field: str) -> t7.TorchObject:
        return self._module(self.get(field), field)

    def _module(self, value: Any, where: str) -> t7.TorchObject:
        if not isinstance(value, t7.TorchObject):
            raise self.error(f"{where} must be a module, but it is {'missing' if value is None else printable(value, 60)}")
        return value
