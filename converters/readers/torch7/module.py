"""A Torch7 module of a file as the lowerings see it: checked fields, parameters of the graph, and where it is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, Source, printable
from converters.readers.torch7 import t7
from converters.registry import Registry

if TYPE_CHECKING:
    import onnx_ir as ir

    from converters.graph.builder import Dim, GraphBuilder
    from converters.readers.torch7.references import Reference, Tensors, Values
    from converters.readers.torch7.steps import Loop, Memory, Shape

Array = NDArray[Any]

OVERWRITES_REPLICATED = "it overwrites a replicated tensor, whose elements would change once for each place where they show"
"""What is wrong with `inplace` behind nn.Replicate, but for functions that are the same when done twice."""

_MISSING: Any = object()
_EXPANDED_LIMIT = 1 << 24
"""Elements that a stride of 0 may make of fewer stored ones."""


@dataclass(frozen=True)
class Call:
    """A module that a container's lowering wants to run: `out = yield net.call(module, inner, x, position)`."""

    made: t7.TorchObject
    x: Tensors
    path: str


Steps = Generator[Call, "Tensors", "Tensors"]
"""A lowering that runs modules inside: it yields each call and is sent its output, so that no depth of containers needs a stack."""


class Net(Protocol):
    """The walk, as lowerings with `on_tensors` see it."""

    g: GraphBuilder
    last_inputs: dict[int, ir.Value]
    """By the id of their object, what modules with the fact `remembered` were given last."""

    memory: Memory
    """The states of recurrent modules in the sequence that is at its next step."""
    states_are_inputs: bool
    """Whether first states are inputs of the graph, and last ones outputs."""

    @property
    def in_sequence(self) -> bool:
        """Whether a module that runs is one step of a sequence."""

    def first_input(self, module: Module, shape: Shape, like: ir.Value, letter: str) -> ir.Value | None:
        """The input that a first state is (states_are_inputs); None where it is zeros."""

    def last_output(self, module: Module, state: ir.Value, letter: str, *, squeeze: bool = False) -> None:
        """Makes a last state an output (squeeze: without its first axis, of size 1), where first states are inputs."""

    def end(self, memory: Memory) -> None:
        """Makes outputs of the last states of a sequence that has ended, where the first ones are inputs."""

    def module(self, made: t7.TorchObject, path: str) -> Module:
        """The checked view of a module object; one that sits in several places keeps the path of the first."""

    def call(self, owner: Module, made: t7.TorchObject, x: Tensors, name: object) -> Call:
        """The request to run a module that belongs to `owner`, under the owner's path and `name`."""

    def as_clones(self) -> AbstractContextManager[None]:
        """Modules that run inside are clones of those outside: they share parameters, but write outputs of their own."""

    def steps(self) -> AbstractContextManager[Memory]:
        """Recurrent modules that run inside start anew, as at the first step of a sequence."""

    def loop(self, x: Tensors, *, backward: bool = False, states: Mapping[int, Tensors] | None = None) -> AbstractContextManager[Loop]:
        """What runs inside is one step of a loop over the first axis of x, whose input is the loop's `items`; `leave` ends it."""


@dataclass(frozen=True)
class ModuleFacts:
    """What is known of a class of modules beside its formula; stated at the decorator.

    on_tensors: the function takes (net, module, x) with References, whose storages it may share or overwrite: containers, views.
    tables: it takes lists of values for Lua tables, not one value alone.
    in_place: where the module says `inplace`, its result is written into its input.
    idempotent: done twice it is as done once, so that it may overwrite a tensor whose elements show in several places.
    remembered: a later module asks for its last input (unpooling).
    keeps_channels: it leaves the number of features or channels as it is, so that a later module can tell it.
    time_first: it takes a sequence, time first, then the batch; where its fields say so the batch first.
    by_sample: it answers each sample of a batch on its own, so that all steps of a sequence of matrices can be one batch.
    first_differs: its first step runs other modules than the later ones.
    any_size: it is of nets that take images of any size, whose axes then stay open where the net allows.
    enters: its first module takes its own input. input_shape: (N, features) or (N, C, H, W) of its input, by its fields.
    newest_version: of the class in files.
    """

    on_tensors: bool = False
    tables: bool = False
    in_place: bool = False
    idempotent: bool = False
    remembered: bool = False
    keeps_channels: bool = False
    by_sample: bool = False
    first_differs: bool = False
    enters: bool = False
    time_first: bool = False
    any_size: bool = False
    input_shape: Callable[[Module], tuple[Dim, ...] | None] | None = None
    newest_version: int = 2


lowers: Registry[Callable[..., Any], ModuleFacts] = Registry("Torch7 module", ModuleFacts, "converters.readers.torch7.modules")
"""Class name -> function. A plain one takes (g, module, x), x a value of the graph or (`tables`, and for a user's own) a list of them, and
answers such."""


class Parameters:
    """Parameters of one graph: the same elements of the file are one initializer, whichever modules share them."""

    def __init__(self, g: GraphBuilder, dtype: str | None = None) -> None:
        self.g = g
        self.dtype = np.dtype(dtype or np.float32)
        """Of all parameters, and so of the whole net."""
        self._made: dict[tuple[int, str], ir.Value] = {}
        self._shared: dict[tuple[Any, ...], ir.Value] = {}

    def add(self, owner: t7.TorchObject, role: str, array: Array, buffer: bool) -> ir.Value:
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
    def dtype(self) -> np.dtype[Any]:
        """The type that the model's numbers are converted to."""
        return self._parameters.dtype

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

    def optional_tensor(self, field: str) -> Array | None:
        """The elements of a tensor field; None where it is nil or an empty tensor."""
        value = self.get(field)
        return None if value is None or (isinstance(value, t7.Tensor) and not value.elements) else self.tensor(field)

    def tensor(self, field: str, *shape: int | None) -> Array:
        """The elements of a tensor of floating point numbers, in the model's type: a view of the file where they have it.

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
        if array.dtype == self.dtype and array.dtype.isnative:
            return array
        with np.errstate(over="ignore"):
            converted = array.astype(self.dtype)
        if array.dtype.itemsize > self.dtype.itemsize:
            if not np.array_equal(np.isinf(converted), np.isinf(array)):
                raise self.source.error(f"field '{field}' holds doubles beyond the range of float32", "keep them: --dtype float64")
            self._parameters.g.warnings.setdefault(f"{self.source.file}: its doubles become float32; --dtype float64 keeps them")
        return converted

    def param(self, role: str, array: Array | None = None, *, buffer: bool = False) -> ir.Value:
        """The initializer `path.role` of the graph, once, however often this module runs; by default of the field of that name."""
        try:
            return self._parameters.add(self.object, role, self.tensor(role) if array is None else array, buffer)
        except ValueError as problem:  # a name that is taken
            raise self.error(str(problem)) from problem

    # -- inputs ------------------------------------------------------------------------------------------------------

    def tensors(self, x: Values, count: int | None = None, least: int = 1) -> list[ir.Value]:
        """The tensors of a table of `count`, or of `least` or more."""
        items = list(x) if isinstance(x, Sequence) else []
        tensors = [item for item in items if not isinstance(item, Sequence)]
        if not isinstance(x, Sequence) or len(tensors) != len(items) or (len(items) < least if count is None else len(items) != count):
            wanted = f"{least} or more" if count is None else "two" if count == 2 else str(count)
            raise self.error(f"its input must be a table of {wanted} tensors")
        return tensors

    def one_reference(self, x: Tensors) -> Reference:
        """The one tensor that a module takes."""
        if isinstance(x, Sequence):
            raise self.error(f"its input must be a tensor, but it is a table of {len(x)}")
        return x

    def table(self, x: Tensors) -> list[Tensors]:
        """The entries of a table."""
        if not isinstance(x, Sequence):
            raise self.error("its input must be a table, but it is a tensor")
        return list(x)

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
        return [self.module_of(item, f"{field}[{position}]") for position, item in enumerate(found, 1)]

    def module(self, field: str) -> t7.TorchObject:
        return self.module_of(self.get(field), field)

    def module_of(self, value: Any, where: str) -> t7.TorchObject:
        """The module that a value must be. where: what holds it."""
        if not isinstance(value, t7.TorchObject):
            raise self.error(f"{where} must be a module, but it is {'missing' if value is None else printable(value, 60)}")
        return value
