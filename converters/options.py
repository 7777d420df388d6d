"""What one may ask of a conversion: plain records that are carried all the way to the readers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from converters.errors import ConversionError, printable
from converters.files import StrPath

InputSpec = Sequence[int] | tuple[Sequence[int], str]
"""An input's shape, or its shape and type: (1, 3, 224, 224), or ((1, 12), "int64")."""

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
"""The types that an input may be said to have."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is read.

    inputs: shapes by input name ("" for the only one), or (shape, dtype), where the file doesn't have them. key: where the model sits
    in a checkpoint. dynamic: labels of axes that stay open besides the first, by input name ("" for the only one) and axis. outputs:
    inner values that the graph shall end in, instead of its own outputs. output_names: what the outputs of a PyTorch model are called.
    constants: inputs that are numbers from now on, by name (TensorFlow's is_training). code: the folder of a PyTorch model's own
    classes; factory: "module:function" in it, which builds the model. plugin: a Python file that registers lowerings. trust: let code,
    factory, plugin and TorchScript programs run; without it nothing does. fillers: layers without stored weights get what their fillers
    say. dtype: of a Lua Torch model: "float64" keeps its doubles, which otherwise become float32. states: of a recurrent Lua Torch
    model, whose first states become inputs, and the last ones outputs. define: what stands for `$NAME$` in a Caffe template, and
    numbers that its layers take from elsewhere. notify: called with a line that says what is about to run. problems: where a list is
    given, a look at the net is all that is wanted: parameters that no file has count by their shapes alone, and what keeps a layer from
    being lowered is added to the list, while the rest goes on.
    """

    inputs: Mapping[str, InputSpec] = field(default_factory=lambda: MappingProxyType({}))
    key: str | None = None
    dynamic: Mapping[tuple[str, int], str] = field(default_factory=lambda: MappingProxyType({}))
    outputs: Sequence[str] = ()
    output_names: Sequence[str] = ()
    constants: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    code: StrPath | None = None
    factory: str | None = None
    plugin: StrPath | None = None
    trust: bool = False
    fillers: bool = False
    dtype: str | None = None
    states: bool = False
    define: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    notify: Callable[[str], None] | None = None
    problems: list[ConversionError] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The given shapes by input name."""
        return {name: tuple(spec[0] if _is_typed(spec) else spec) for name, spec in self.inputs.items()}  # type: ignore[arg-type]

    @property
    def dtypes(self) -> dict[str, str]:
        """The given types by input name. Raises ConversionError for a word that names none."""
        found = {name: str(spec[1]) for name, spec in self.inputs.items() if _is_typed(spec)}
        for name, dtype in found.items():
            if dtype not in DTYPES:
                raise ConversionError(f"input '{printable(name)}': there is no type '{printable(dtype)}'", hint=f"use {', '.join(DTYPES)}")
        return found

    def no_key(self, path: StrPath, what: str) -> None:
        """Raises ConversionError where a key is given for a file that holds one model."""
        if self.key is not None:
            words = f"{what} holds one model, so that the key '{printable(self.key)}' chooses nothing"
            raise ConversionError(words, path=str(path if isinstance(path, str) else path.__fspath__()), hint="leave the key out")


DEFAULTS = LoadOptions()
"""Nothing is asked for."""


def _is_typed(spec: InputSpec) -> bool:
    return len(spec) == 2 and isinstance(spec[1], str)


def read_spec(word: str) -> InputSpec:
    """`1x3x224x224`, or `1x12:int64` -> shape, or (shape, dtype). Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:[x,][0-9]+)*)(?::(\w+))?", word)
    if match is None:
        raise ValueError("write NAME=1x3x224x224")
    if any(len(number) > 18 for number in re.split("[x,]", match[1])):
        raise ValueError("no size is that large")
    shape = tuple(int(number) for number in re.split("[x,]", match[1]))
    if match[2] is None:
        return shape
    if match[2] not in DTYPES:
        raise ValueError(f"there is no type {match[2]}; use {', '.join(DTYPES)}")
    return shape, match[2]
