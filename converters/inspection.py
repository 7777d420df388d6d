"""What is in a file: its kind, its format, and the tensors by name, with none of their numbers read."""

from __future__ import annotations

from dataclasses import dataclass, field

from converters.errors import about, printable
from converters.files import StrPath
from converters.formats import format_of, read_weights, recognize
from converters.options import LoadOptions


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's type, as torch names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found.

    kind: what the file is, in words; format: which format reads it, None for none; nbytes: its size; suspicious: harmful calls that
    a pickle asks for, none of which ran.
    """

    path: str
    kind: str
    format: str | None
    nbytes: int
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    hint: str | None = None
    suspicious: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """The answer as plain data, for JSON."""
        tensors = {name: {"dtype": tensor.dtype, "shape": list(tensor.shape)} for name, tensor in self.tensors.items()}
        plain: dict[str, object] = {"path": self.path, "kind": self.kind, "format": self.format, "bytes": self.nbytes, "hint": self.hint}
        return plain | {"tensors": tensors, "suspicious": self.suspicious}

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        lines = [f"{printable(self.path, 400)}: {self.kind}, {self.nbytes:,} bytes{hint}"]
        if self.suspicious:
            lines.append(f"  not run: {', '.join(self.suspicious[:20])}")
        return "\n".join([*lines, *(f"  {printable(name)}: {tensor}" for name, tensor in self.tensors.items())])


def inspect(path: StrPath, key: str | None = None) -> Inspection:
    """What a file is, and which tensors are in it. key: where the weights sit in a checkpoint. Raises ConversionError."""
    file = recognize(path)
    row = format_of(file)
    tensors: dict[str, TensorInfo] = {}
    suspicious: list[str] = []
    if row is not None and file.kind.name in row.weights_kinds:
        with about(path):
            state = read_weights(file, LoadOptions(key=key))
        tensors = {name: TensorInfo(weight.torch_dtype, tuple(weight.shape)) for name, weight in state.tensors.items()}
        suspicious = state.suspicious
    return Inspection(file.path, file.kind.words, row.name if row else None, len(file.view), tensors, file.kind.hint or None, suspicious)
