"""What goes into a module's forward: tensors by the names of its parameters, and by the names of their parts (`batch.image`, `maps.0`)."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import ConversionError, printable

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Argument:
    """A tensor that goes in. dtype: what was said of it, or nothing."""

    name: str
    shape: tuple[int, ...]
    dtype: str | None = None

    @property
    def parts(self) -> list[str]:
        """The parameter of forward, and the way into it."""
        return self.name.split(".")


class Signature:
    """The parameters of a module's forward, in order. needed: those without a default. open: it takes any keyword."""

    def __init__(self, module: torch.nn.Module) -> None:
        import torch

        self.positional: list[str] = []
        self.is_script = isinstance(module, torch.jit.ScriptModule)
        self.open = False
        if self.is_script:
            schema: Any = getattr(module.forward, "schema")  # noqa: B009
            self.known = [argument.name for argument in schema.arguments[1:]]
            self.needed = [argument.name for argument in schema.arguments[1:] if not argument.has_default_value()]
            self.positional = list(self.known)
            return
        parameters = list(inspect.signature(module.forward).parameters.values())
        named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        self.open = any(p.kind == p.VAR_KEYWORD for p in parameters)
        self.known = [p.name for p in named]
        self.needed = [p.name for p in named if p.default is p.empty]
        self.positional = [p.name for p in named if p.kind == p.POSITIONAL_ONLY]
        if not named:  # forward(*inputs)
            self.known = self.needed = self.positional = ["input"]
        self.needed = self.needed or self.known[:1]

    def arguments(self, shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, str]) -> list[Argument]:
        """What was given, in forward's order. Raises ConversionError for what is missing or strange."""
        if not shapes:
            raise ConversionError(
                f"a PyTorch file doesn't say what its inputs are; give the shape of {', '.join(self.needed)}: "
                + " ".join(f"--input {name}=1x3x224x224" for name in self.needed)
            )
        given = dict(shapes)
        types = dict(dtypes)
        if "" in given and len(given) == 1:
            given = {self.needed[0]: given[""]}
            types = {self.needed[0]: types[""]} if "" in types else {}
        elif len(given) == 1 and len(self.needed) == 1 and not self.open and next(iter(given)).split(".")[0] not in self.known:
            raise ConversionError(f"the model's input is named {self.needed[0]}, not {printable(next(iter(given)))}")
        heads = {name.split(".")[0] for name in given}
        missing = [name for name in self.needed if name not in heads]
        strange = [name for name in given if name.split(".")[0] not in self.known and not (self.open and name.split(".")[0].isidentifier())]
        if missing or strange:
            words = [f"the shape of {', '.join(missing)} is missing"] if missing else []
            words += [f"{', '.join(map(printable, strange))} isn't one of its inputs"] if strange else []
            raise ConversionError(f"{'; '.join(words)}; the model takes {', '.join(self.known)}")
        place = {name: number for number, name in enumerate(self.known)}
        ordered = sorted(given, key=lambda name: place.get(name.split(".")[0], len(place)))
        return [Argument(name, tuple(int(d) for d in given[name]), types.get(name)) for name in ordered]

    def call(self, module: Any, arguments: Sequence[Argument], tensors: Sequence[Any]) -> Any:
        """forward with these tensors: by keyword, so that each gets where its name says."""
        values: dict[str, Any] = {}
        for argument, tensor in zip(arguments, tensors, strict=True):
            head, *way = argument.parts
            _put(values, [head, *way], tensor)
        made = {name: _as_list(value) for name, value in values.items()}
        first = [made.pop(name) for name in self.positional if name in made]
        if self.is_script and any(name not in values for name in self.known[: len(values)]):
            made = {name: _as_list(value) for name, value in values.items()}
            first = []
        return module(*first, **made)


def _put(values: dict[str, Any], way: Sequence[str], tensor: Any) -> None:
    for part in way[:-1]:
        inside = values.setdefault(part, {})
        if not isinstance(inside, dict):
            raise ConversionError(f"the input {printable(part)} is given as a whole and in parts")
        values = inside
    values[way[-1]] = tensor


def _as_list(value: Any) -> Any:
    """Parts 0, 1, 2 ... are a list's; others a dictionary's."""
    if not isinstance(value, dict):
        return value
    made = {name: _as_list(part) for name, part in value.items()}
    return list(made.values()) if list(made) == [str(n) for n in range(len(made))] else made


def type_choices(arguments: Sequence[Argument], usual: torch.dtype) -> Iterator[list[torch.dtype]]:
    """The types to try: what was said, else the weights' own; then int64 for those of which nothing was said."""
    import torch

    free = [number for number, argument in enumerate(arguments) if argument.dtype is None]
    said = [usual if argument.dtype is None else getattr(torch, argument.dtype) for argument in arguments]
    yield said
    if len(free) > 4:
        return
    for count in range(1, len(free) + 1):
        for chosen in itertools.combinations(free, count):
            yield [torch.int64 if number in chosen else dtype for number, dtype in enumerate(said)]


def batch_axes(shapes: Sequence[Sequence[int]]) -> list[list[int | None]]:
    """Where each input may have its batch, the likeliest first, none of them last.

    The first axis of all; that of those that have the first input's size, recurrent states (layers, N, C) their second.
    """
    none: list[int | None] = [None] * len(shapes)
    if not shapes[0]:
        return [none]
    batch = shapes[0][0]
    states = [number > 0 and len(shape) == 3 and shape[1] == batch for number, shape in enumerate(shapes)]
    some = [1 if is_state else 0 if shape and shape[0] == batch else None for is_state, shape in zip(states, shapes, strict=True)]
    every: list[int | None] = [0] * len(shapes)
    return [*([every] if all(shapes) else []), *([some] if some != every else []), none]


def of_batch(shape: Sequence[int], axis: int | None, batch: int) -> tuple[int, ...]:
    """A shape with another size of that axis."""
    return tuple(batch if number == axis else int(size) for number, size in enumerate(shape))


def sample(
    shape: Sequence[int], dtype: torch.dtype, seed: int = 0, scale: float = 1.0, longest: int = 0, signed: bool = False
) -> torch.Tensor:
    """Random numbers of an input: normal ones, or 0 and 1, which are indices of any table.

    longest: above 0, integers of one axis are lengths of sequences, the longest first. signed: integers are from -9 to 9, without 0.
    """
    import torch

    generator = np.random.default_rng(seed)
    if longest and len(shape) == 1 and not dtype.is_floating_point:
        lengths = np.sort(generator.integers(1, longest + 1, tuple(shape)))[::-1]
        return torch.from_numpy(lengths.copy()).to(dtype)
    if signed and dtype.is_signed and not dtype.is_floating_point:
        whole = generator.integers(1, 10, tuple(shape)) * generator.choice([-1, 1], tuple(shape))
        return torch.from_numpy(np.asarray(whole)).to(dtype)
    if not dtype.is_floating_point:
        return torch.from_numpy(generator.integers(0, 2, tuple(shape))).to(dtype)
    return torch.from_numpy((scale * generator.standard_normal(tuple(shape))).astype(np.float32)).to(dtype)


def flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Tensors of nested tuples, lists, dictionaries and dataclasses, in order, with the names that their keys give them."""
    import dataclasses

    if isinstance(value, Mapping):
        parts: Any = value.items()
        return [leaf for key, part in parts for leaf in flat(part, f"{name}.{key}" if name else str(key))]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return [leaf for key, part in fields if part is not None for leaf in flat(part, f"{name}.{key}" if name else key)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [leaf for key, part in zip(value._fields, value, strict=True) for leaf in flat(part, f"{name}.{key}" if name else key)]
    if isinstance(value, list | tuple):
        return [leaf for number, part in enumerate(value) for leaf in flat(part, f"{name}.{number}" if name else "")]
    return [(name, value)]
