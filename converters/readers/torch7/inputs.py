"""The inputs of a Torch7 model: shapes by name as the user gives them, or as the first module tells; and which of them are indices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from converters.errors import ConversionError, printable, warn
from converters.graph.builder import Dim, GraphBuilder
from converters.readers.torch7 import t7
from converters.readers.torch7.checkpoint import child_path, children, inner_modules
from converters.readers.torch7.module import Module, Parameters, lowers
from converters.readers.torch7.references import Nested

_MOVES = frozenset(("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Flatten", "Expand"))
"""ONNX's operators that only move the elements of their first input."""


@dataclass(frozen=True)
class InputShape:
    """A tensor of the model's input: `input`, or `input_2_1` in a Lua table (positions from 1)."""

    name: str
    dims: tuple[Dim, ...]


def is_open(shapes: Nested[InputShape]) -> bool:
    """Whether a size is a symbol, as those of an inferred shape are."""
    if isinstance(shapes, InputShape):
        return any(not isinstance(dim, int) for dim in shapes.dims)
    return any(is_open(item) for item in shapes)


def advice(shapes: Nested[InputShape] | None) -> str:
    """How to give the input's shape, with what is known of it."""
    while isinstance(shapes, Sequence):
        shapes = shapes[0] if shapes else None
    known: tuple[Dim, ...] = shapes.dims if shapes else (None,) * 4
    dims = tuple(d if isinstance(d, int) else s for d, s in zip(known, (2, 3, 224, 224), strict=False))
    return f"give it: inputs={{'input': {dims}}} or --input input={'x'.join(map(str, dims))}, for a table of tensors input_1, input_2 ..."


def given_shapes(inputs: Mapping[str, Sequence[int]]) -> Nested[InputShape]:
    """{"input": s} is one tensor; {"input_1": s, "input_2_1": t} a table {s, {t}}; "" is the only input. Raises ConversionError."""
    if "" in inputs:
        if len(inputs) > 1:
            raise ConversionError("a shape without a name is that of the only input; name all: input_1=..., input_2=...")
        inputs = {"input": inputs[""]}
    entries: list[tuple[list[int], InputShape]] = []
    for name, dims in inputs.items():
        if not dims or any(int(d) != d or d < 1 for d in dims):
            raise ConversionError(f"input {printable(name)!r} has shape {tuple(dims)}; give at least one size, all of at least 1")
        if "input" in inputs and name != "input":
            warn(f"the model's one tensor is 'input'; the shape given for {printable(name)!r} isn't used")
            continue
        if not re.fullmatch(r"input(_[1-9]\d{0,3})*", name):
            message = f"there is no input {printable(name)!r}: a model's one tensor is 'input'"
            raise ConversionError(message, hint="a table's are input_1, input_2, input_2_1 ...")
        entries.append(([int(n) for n in name.split("_")[1:]], InputShape(name, tuple(int(d) for d in dims))))
    return _table(entries, "input")


def _table(entries: list[tuple[list[int], InputShape]], name: str) -> Nested[InputShape]:
    if len(entries) == 1 and not entries[0][0]:
        return entries[0][1]
    if any(not positions for positions, _ in entries):
        raise ConversionError(f"'{name}' is given as a tensor and as a table")
    table = []
    for position in range(1, max(positions[0] for positions, _ in entries) + 1):
        inside = [(rest, shape) for (first, *rest), shape in entries if first == position]
        if not inside:
            raise ConversionError(f"the shape of '{name}_{position}' is missing")
        table.append(_table(inside, f"{name}_{position}"))
    return table


def inferred_shape(root: t7.TorchObject, file: str) -> InputShape:
    """The input's shape as far as the first module with weights tells it: (N, C, H, W) or (N, features). Raises ConversionError."""
    waiting, seen = [(root, "")], set()
    while waiting:
        made, path = waiting.pop()
        facts = lowers.facts(made.typename)
        if facts.keeps_channels:
            continue
        if facts.enters and made.get("nInputs") in (None, 0, 1) and id(made) not in seen:  # a graph of several inputs takes a table
            seen.add(id(made))
            waiting += reversed([(inner, child_path(path, name)) for name, inner in children(made)])
            continue
        if facts.input_shape is None:
            break
        dims = facts.input_shape(Module(made, path, file, Parameters(GraphBuilder("input"))))
        if dims is not None:
            return InputShape("input", dims)
        break
    raise ConversionError("the file doesn't say what shape the model's input has", hint=advice(None))


def open_axes(root: t7.TorchObject, shapes: Nested[InputShape]) -> list[dict[tuple[str, int], str]]:
    """Which axes to try to leave open besides the batch, or in its place, by label, the most first: those of sequences, and of images in
    models that are of any size.
    """
    kinds = [made for made, _ in inner_modules(root)]
    if root.typename == "nn.LanguageModel" and root.get("core") is not None:
        return [{("input_1", 0): "N", ("input_2", 1): "N"}]
    if isinstance(shapes, InputShape) and len(shapes.dims) == 4 and any(lowers.facts(made.typename).any_size for made in kinds):
        return [{(shapes.name, 0): "N", (shapes.name, 2): "H", (shapes.name, 3): "W"}]
    sequences = [made for made in kinds if lowers.facts(made.typename).time_first or _is_batch_first(made)]
    first = _first_leaf(root)
    if not sequences or first is None or _takes_images(first):
        return []  # a net of images is one of sequences only behind them: its first axis is the batch
    time_first = not _is_batch_first(sequences[0]) and not _swaps_time(first)
    flat = list(_leaves(shapes))
    batch = {n.name: 1 if time_first and (len(n.dims) > 2 or len(flat) == 1) and len(n.dims) > 1 else 0 for n in flat}
    sizes = {n.dims[batch[n.name]] for n in flat}
    if len(sizes) > 1:  # which of them is the batch isn't known
        return []
    named = dict.fromkeys(batch.items(), "N")
    longest = [n for n in flat if (len(n.dims) > 2 or len(flat) == 1) and len(n.dims) > 1]
    lengths = {n.dims[1 - batch[n.name]] for n in longest}
    times = {(n.name, 1 - batch[n.name]): "T" for n in longest} if len(lengths) == 1 else {}
    if not times:
        return [named] if time_first else []
    return [{**times, **named}, named] if time_first else [{**named, **times}]


def _first_leaf(root: t7.TorchObject) -> t7.TorchObject | None:
    """The first module that takes the input and isn't a container, or that takes sequences."""
    waiting, seen = [root], set()
    while waiting:
        made = waiting.pop()
        facts = lowers.facts(made.typename)
        inner = [value for _, value in children(made, fields=False)]
        if facts.time_first or _takes_images(made) or not (inner or facts.keeps_channels):
            return made
        if id(made) not in seen:
            seen.add(id(made))
            waiting += reversed(inner)
    return None


def _takes_images(made: t7.TorchObject) -> bool:
    return made.typename.rpartition(".")[2].startswith(("Spatial", "Volumetric"))


def _swaps_time(made: t7.TorchObject) -> bool:
    """Whether it is a transposition of the first two axes, behind which time is first."""
    swaps = made.get("permutations") if made.typename == "nn.Transpose" else None
    pairs = [sorted(swap.array()) for swap in swaps.array() if isinstance(swap, t7.Table)] if isinstance(swaps, t7.Table) else []
    return pairs == [[1.0, 2.0]]


def _is_batch_first(made: t7.TorchObject) -> bool:
    if made.typename == "nn.LanguageModel":
        return made.get("net") is not None
    if made.typename == "nn.LSTM":
        return made.get("weight") is not None
    if made.typename == "nn.SeqReverseSequence":
        return bool(made.get("dim") == 2.0)
    first = made.get("batchfirst") or made.get("batchFirst")
    return made.typename in ("nn.VanillaRNN", "nn.TemporalAdapter") or (lowers.facts(made.typename).time_first and first is True)


def _leaves(shapes: Nested[InputShape]) -> Iterator[InputShape]:
    if isinstance(shapes, InputShape):
        yield shapes
        return
    for item in shapes:
        yield from _leaves(item)


def indices_as_integers(model: ir.Model) -> None:
    """Makes int64 of the inputs that only serve as indices: those that reach nothing but casts to int64, which go."""
    for value in model.graph.inputs:
        if value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            continue
        moved, casts = _only_cast(value)
        if casts:
            for inner in moved:
                inner.type = ir.TensorType(ir.DataType.INT64)
        for cast in casts:
            ir.convenience.replace_all_uses_with(cast.outputs, [given for given in cast.inputs if given is not None])
            model.graph.remove(cast, safe=True)


def _only_cast(value: ir.Value) -> tuple[list[ir.Value], list[ir.Node]]:
    """What an input becomes by being moved, and the casts to int64 that end it; none where it ends in something else too."""
    moved, casts = [value], []
    for inner in moved:
        for node, index in inner.uses():
            if node.op_type == "Cast" and node.attributes.get_int("to") == ir.DataType.INT64:
                casts.append(node)
            elif node.op_type in _MOVES and index == 0:
                moved += node.outputs
            elif node.op_type == "Shape":
                continue
            else:
                return [], []
        if inner.is_graph_output():
            return [], []
    return moved, casts
