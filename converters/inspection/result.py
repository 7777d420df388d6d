"""What `inspect` answers: plain records, as data for JSON, and as text in aligned columns that fit the terminal."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from converters.errors import ConversionError, printable
from converters.graph.outline import Dims
from converters.tensors.state_dict import LeftOut, grouped

NARROWEST = 60
WHOLE = 100_000
"""Columns where nobody says how many there are: what is piped on or kept in a file is searched for whole names."""
_LISTED = 12


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's or an input's type, as torch or numpy name it, and its shape; None for what isn't known."""

    dtype: str | None
    shape: Dims | None

    def __str__(self) -> str:
        return f"{self.dtype or '?'} {shape_words(self.shape)}"


def shape_words(shape: Dims | None) -> str:
    """A shape as text: `1x3x224x224`, `scalar`, `?` for one that isn't known."""
    if shape is None:
        return "?"
    return "x".join("?" if d is None else str(d) for d in shape) or "scalar"


@dataclass(frozen=True)
class Layer:
    """One layer, module or operator in the file's order.

    name, type, line: the source's. path: the prefix of its tensors' keys. outputs: the shapes of what it gives. parameters: numbers
    that were learnt; buffers: others that it keeps. flops: multiply-adds of convolutions and products for one item, a multiply-add
    counted once; other_operations: of all the rest. None stands for what isn't known.
    """

    name: str
    type: str
    line: int | None = None
    path: str = ""
    outputs: tuple[Dims | None, ...] = ()
    parameters: int | None = None
    buffers: int | None = None
    flops: int | None = None
    other_operations: int | None = None


@dataclass(frozen=True)
class Unsupported:
    """A layer that can't be converted as it is: where it stands, why, and what to do."""

    layer: str | None
    type: str | None
    path: str | None
    line: int | None
    message: str
    hint: str | None

    @classmethod
    def of(cls, problem: ConversionError) -> Unsupported:
        """An error of a reader."""
        return cls(problem.layer, None, problem.path, problem.line, str(problem), problem.hint)


@dataclass
class Inspection:
    """What `inspect` found.

    kind: what the file is, in words; format: which format reads it, None for none; framework, version, producer, opset: who wrote it,
    where known. nbytes: its size. inputs, outputs: of the net, with what is known of their shapes. layers: in order. tensors: by name,
    as load_weights names them. dtypes: of how many tensors. unsupported: all that can't be converted. preprocessing: what the file says
    is done to images. classes: of the modules in a checkpoint, how many of each. key: where the weights sit; left_out: what else is in
    the file, its path and type; tied: names of the same elements, overlapping: of partly the same. suspicious: harmful calls that a
    pickle asks for, none of which ran. provenance: what this package wrote of the files that this one was made of. notes: what else the
    user should know; hint: what to do with a file that isn't read.
    """

    path: str
    kind: str
    format: str | None
    nbytes: int
    framework: str | None = None
    version: str = ""
    producer: str = ""
    name: str = ""
    opset: int | None = None
    inputs: dict[str, TensorInfo] = field(default_factory=dict)
    outputs: dict[str, TensorInfo] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    tensors: dict[str, TensorInfo] = field(default_factory=dict)
    elements: int = 0
    dtypes: dict[str, int] = field(default_factory=dict)
    unsupported: list[Unsupported] = field(default_factory=list)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    classes: dict[str, int] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    tied: list[list[str]] = field(default_factory=list)
    overlapping: list[list[str]] = field(default_factory=list)
    suspicious: list[str] = field(default_factory=list)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hint: str | None = None

    @property
    def parameters(self) -> int | None:
        """Numbers that were learnt, those that layers share once; None where the layers don't tell."""
        return _sum([layer.parameters for layer in self.layers])

    @property
    def buffers(self) -> int | None:
        """Numbers that layers keep without having learnt them."""
        return _sum([layer.buffers for layer in self.layers])

    @property
    def flops(self) -> int | None:
        """Multiply-adds of all convolutions and products for one item; None where a shape isn't known."""
        return _sum([layer.flops for layer in self.layers])

    def as_dict(self) -> dict[str, Any]:
        """The answer as plain data, for JSON: snake_case names, numbers as numbers, shapes as lists."""
        plain: dict[str, Any] = {"path": self.path, "kind": self.kind, "format": self.format, "bytes": self.nbytes, "hint": self.hint}
        plain |= {name: getattr(self, name) or None for name in ("framework", "version", "producer", "name", "opset", "key")}
        for name in ("inputs", "outputs", "tensors"):
            values: dict[str, TensorInfo] = getattr(self, name)
            plain[name] = {key: {"dtype": value.dtype, "shape": _listed(value.shape)} for key, value in values.items()}
        plain["layers"] = [vars(layer) | {"outputs": [_listed(shape) for shape in layer.outputs]} for layer in self.layers]
        plain["totals"] = {
            "layers": len(self.layers),
            "parameters": self.parameters,
            "buffers": self.buffers,
            "flops": self.flops,
            "tensors": len(self.tensors),
            "elements": self.elements,
        }
        plain["unsupported"] = [vars(entry) for entry in self.unsupported]
        plain["left_out"] = [asdict(entry) | {"shape": _listed(entry.shape)} for entry in self.left_out]
        rest = ("dtypes", "preprocessing", "classes", "tied", "overlapping", "suspicious", "provenance", "notes")
        return plain | {name: getattr(self, name) for name in rest}

    def __str__(self) -> str:
        return text(self)


def _sum(counts: list[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def _listed(shape: Dims | None) -> list[int | str | None] | None:
    return None if shape is None else list(shape)


# -- as text ---------------------------------------------------------------------------------------------------------------


def text(found: Inspection, *, tensors: bool = False, width: int | None = None) -> str:
    """The whole answer. tensors: list every tensor too. width: columns of the terminal, found out by default."""
    return "\n".join(line for _, line in lines(found, tensors=tensors, width=width))


def lines(found: Inspection, *, tensors: bool = False, width: int | None = None) -> list[tuple[str, str]]:
    """The lines, each with what it is: "title", "head" of a table, "wrong", or "" for all others."""
    broken = width is not None or (sys.stdout is not None and sys.stdout.isatty())  # what is piped on stays one line, whatever COLUMNS says
    width = max(NARROWEST, width or shutil.get_terminal_size((WHOLE, 24)).columns)
    wrapped = functools.partial(_wrapped, width=width if broken else WHOLE)
    hint = f" ({found.hint})" if found.hint else ""
    title = f"{printable(found.path, 400)}: {found.kind}, {found.nbytes:,} bytes{hint}"
    made = [("title", line) for line in wrapped("", title, 2)]
    made += [("", line) for line in _facts(found, wrapped)]
    tables = [_layers(found, width)]
    if tensors:
        names = [[printable(name), tensor.dtype or "?", shape_words(tensor.shape)] for name, tensor in found.tensors.items()]
        tables.append(_columns([["tensor", "dtype", "shape"], *names], "<<<", width))
    for table in tables:
        made += [("" if number else "head", line) for number, line in enumerate(table)]
    for entry in found.unsupported:
        made += [("wrong", line) for line in wrapped("  not supported: ", printable(entry.message, 1000), 4)]
    if found.unsupported and (hook := found.unsupported[0].hint):
        made += [("", line) for line in wrapped("  to add a layer: ", hook, 4)]
    return made


def _wrapped(begin: str, words: str, indent: int, width: int) -> list[str]:
    """Words in lines of the terminal's width, those behind the first moved in; a path is never broken."""
    if len(begin) + len(words) <= width:
        return [begin + words]
    wrapper = textwrap.TextWrapper(width, initial_indent=begin, subsequent_indent=" " * indent, break_long_words=False)
    wrapper.break_on_hyphens = wrapper.replace_whitespace = wrapper.expand_tabs = False
    return wrapper.wrap(words)


def _facts(found: Inspection, wrapped: Callable[[str, str, int], list[str]]) -> list[str]:
    """A line, or several on a narrow terminal, for each thing that is known of the whole file."""
    facts: list[tuple[str, str]] = []
    names = [("name", found.name), ("version", found.version), ("producer", found.producer)]
    facts += [(name, printable(value)) for name, value in names if value]
    if found.opset is not None:
        facts.append(("opset", str(found.opset)))
    facts += [(word, _ports(ports)) for word, ports in (("inputs", found.inputs), ("outputs", found.outputs)) if ports]
    if found.tensors:
        dtypes = ", ".join(f"{name} {total}" for name, total in found.dtypes.items())
        where = f", under '{printable(found.key)}'" if found.key else ""
        facts.append(("tensors", f"{len(found.tensors):,} of {found.elements:,} elements ({dtypes}){where}"))
    totals = [(found.parameters, "parameters"), (found.buffers, "other numbers kept"), (found.flops, "FLOPs for one item")]
    if said := [f"{count:,} {word}" for count, word in totals if count]:
        facts.append(("totals", ", ".join(said)))
    facts += _checkpoint(found)
    if found.preprocessing:
        facts.append(("preprocessing", printable(json.dumps(found.preprocessing), 400)))
    if found.provenance:
        facts.append(("made", printable(_origin(found.provenance), 400)))
    facts += [("note", printable(note, 600)) for note in found.notes]
    longest = max((len(name) for name, _ in facts), default=0)
    return [line for name, value in facts for line in wrapped(f"  {name + ':':<{longest + 1}} ", value, longest + 4)]


def _checkpoint(found: Inspection) -> list[tuple[str, str]]:
    facts = []
    if found.classes:
        facts.append(("classes", _joined([f"{printable(name)} x{total}" for name, total in found.classes.items()])))
    for word, groups in (("tied", found.tied), ("overlapping", found.overlapping)):
        if groups:
            facts.append((word, _joined([" = ".join(printable(name) for name in group[:4]) for group in groups])))
    if found.left_out:
        facts.append(("left out", _joined(grouped(found.left_out))))
    if found.suspicious:
        facts.append(("not run", _joined(found.suspicious)))
    return facts


def _ports(ports: dict[str, TensorInfo]) -> str:
    return _joined([f"{printable(name)} {port}" for name, port in ports.items()])


def _origin(provenance: Any) -> str:
    sources = provenance.get("sources")
    if not isinstance(sources, list):
        return json.dumps(provenance)
    entries = [entry for entry in sources if isinstance(entry, dict)]
    files = [f"{entry.get('name')} ({entry.get('bytes')} bytes, crc32 {entry.get('crc32')})" for entry in entries]
    return f"by {provenance.get('tool')} from {', '.join(files)}"


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def _layers(found: Inspection, width: int) -> list[str]:
    """The table of layers; columns of which nothing is known are left out."""
    if not found.layers:
        return []
    shown = [
        ("line", ">", [_number(layer.line) for layer in found.layers]),
        ("layer", "<", [printable(layer.name) for layer in found.layers]),
        ("type", "<", [printable(layer.type) for layer in found.layers]),
        ("output", "<", [_outputs(layer) for layer in found.layers]),
        ("parameters", ">", [_number(layer.parameters) for layer in found.layers]),
        ("FLOPs", ">", [_number(layer.flops) for layer in found.layers]),
    ]
    kept = [(head, side, cells) for head, side, cells in shown if any(cells)]
    rows = [[head for head, _, _ in kept], *(list(row) for row in zip(*(cells for _, _, cells in kept), strict=True))]
    return _columns(rows, "".join(side for _, side, _ in kept), width)


def _outputs(layer: Layer) -> str:
    known = [shape for shape in layer.outputs if shape is not None]
    if not known:
        return ""
    more = f" +{len(layer.outputs) - 1}" if len(layer.outputs) > 1 else ""
    return shape_words(known[0]) + more


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _columns(rows: list[list[str]], sides: str, width: int) -> list[str]:
    """Rows as aligned columns; the widest column of text gives way where the terminal is too narrow."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    excess = sum(widths) + 2 * len(widths) - width
    for at in sorted((i for i, side in enumerate(sides) if side == "<"), key=lambda i: -widths[i]):
        if excess > 0:
            cut = min(excess, max(0, widths[at] - 12))
            widths[at] -= cut
            excess -= cut
    made = []
    for row in rows:
        cells = [_short(cell, size) for cell, size in zip(row, widths, strict=True)]
        aligned = [f"{cell:{side}{size}}" for cell, side, size in zip(cells, sides, widths, strict=True)]
        made.append(("  " + "  ".join(aligned)).rstrip())
    return made


def _short(cell: str, size: int) -> str:
    """The cell, its middle left out where it is too long: names differ at their ends."""
    if len(cell) <= size:
        return cell
    head = (size - 2) // 2
    return f"{cell[:head]}..{cell[len(cell) - (size - 2 - head) :]}"
