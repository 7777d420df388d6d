"""Looks into a file: recognized, its tensors listed, its outline read, and where that makes a graph, shapes and FLOPs worked out."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from converters.errors import ConversionError, Source, UnsupportedError, about
from converters.files import StrPath
from converters.formats import Format, format_of, outline_of, prepare_weights, read_weights, recognize
from converters.graph.outline import Outline, Row
from converters.graph.provenance import origin_said
from converters.inspection.result import Inspection, Layer, TensorInfo, Unsupported
from converters.options import DEFAULTS, LoadOptions
from converters.packages import MissingPackageError
from converters.recognition import RecognizedFile
from converters.tensors.state_dict import StateDict
from converters.tensors.tensor import Tensor, overlaps, ties

if TYPE_CHECKING:
    from converters.inspection.shapes import Shaped

QUICK = 64 << 20
"""Bytes of a file that holds weights up to which its graph is made unasked; beyond them a look has to stay one of a moment."""

DOCSTRING = 1 << 16
"""Bytes in which the docstring of a written module ends."""


def inspect(*paths: StrPath, options: LoadOptions = DEFAULTS) -> Inspection:
    """What the files of one model are, and what is in them. Raises ConversionError for one that can't be read."""
    files = [recognize(path) for path in paths]
    found = [_look(file, options) for file in files]
    first = found[0]
    for other in found[1:]:  # a prototxt and its caffemodel, a symbol and its params: one net
        first.nbytes += other.nbytes
        first.tensors, first.dtypes, first.elements = other.tensors, other.dtypes, other.elements
        first.notes += other.notes
    return first


def _look(file: RecognizedFile, options: LoadOptions) -> Inspection:
    row = format_of(file)
    found = Inspection(file.path, file.kind.words, row.name if row else None, len(file.view), hint=file.kind.hint or None)
    if row is None:
        if file.kind.name == "written-module":
            _note_docstring(found, bytes(file.view[:DOCSTRING]).decode("utf-8", "replace"))
        return found
    found.framework = row.title
    with about(file.path):
        outline = outline_of(row, file, options)
        state = _weights(row, file, options, outline)
        _note(found, outline)
        if state is not None:
            _list_tensors(found, state)
        shaped = _shapes(row, file, options, outline, found)
    if outline.rows or shaped is not None:
        found.layers = _layers(outline.rows, shaped)
    elif state is not None:
        found.layers = _modules(state)
    return found


def _weights(row: Format, file: RecognizedFile, options: LoadOptions, outline: Outline) -> StateDict | None:
    """The tensors of a file that may hold some; a prototxt or a symbol holds none."""
    if file.kind.name not in row.weights_kinds or outline.tensors:
        return None
    try:
        state = read_weights(file, replace(options, inputs={}, problems=None))
        if row.prepare:
            _set_apart(state, file, outline)
        return state
    except MissingPackageError:
        raise
    except UnsupportedError as problem:
        if not outline.rows:
            raise
        outline.notes.append(str(problem))
        return None


def _set_apart(state: StateDict, file: RecognizedFile, outline: Outline) -> None:
    """What an optimizer keeps becomes what is left out, as strip-to-weights has it; where there is nothing else, that is said."""
    try:
        prepare_weights(state, file, frozenset())
    except ConversionError as problem:
        outline.notes.append(problem.what)


def _note(found: Inspection, outline: Outline) -> None:
    """What the outline says of the whole file."""
    found.version, found.producer, found.name, found.opset = outline.version, outline.producer, outline.name, outline.opset
    found.inputs = {name: TensorInfo(port.dtype, port.shape) for name, port in outline.inputs.items()}
    found.outputs = {name: TensorInfo(port.dtype, port.shape) for name, port in outline.outputs.items()}
    for name, port in outline.tensors.items():
        _add_tensor(found, name, TensorInfo(port.dtype, port.shape))
    found.notes = list(outline.notes)
    found.preprocessing = _stated(outline.preprocessing)
    found.provenance = _decoded(outline.provenance)
    found.unsupported = _unsupported(outline.unsupported, outline)


def _note_docstring(found: Inspection, text: str) -> None:
    """What a written module says of itself before its code begins."""
    lines = text.removeprefix('"""').partition('\n"""')[0].strip()
    found.provenance = origin_said(lines)
    found.notes = [" ".join(part.split()) for part in lines.split("\n\n") if not part.startswith((" ", "Made by "))]


def _unsupported(sources: Iterable[Source], outline: Outline) -> list[Unsupported]:
    what, hook = "no lowering is registered for this type", outline.hook or None
    return [Unsupported(source.name, source.type, source.file, source.line, source.describe(what), hook) for source in sources]


def _stated(preprocessing: Mapping[str, Any]) -> Mapping[str, Any]:
    stated = preprocessing.get("stated")
    return _decoded(stated) if isinstance(stated, str) else preprocessing


def _decoded(text: str) -> Mapping[str, Any]:
    """JSON text of this package's as a mapping; anything else under one name."""
    try:
        value = json.loads(text) if text else {}
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"text": text}


def _add_tensor(found: Inspection, name: str, tensor: TensorInfo, *, counts: bool = True) -> None:
    """counts: whether its elements are no other's."""
    dtype = tensor.dtype or "unknown"
    found.tensors[name] = tensor
    found.dtypes[dtype] = found.dtypes.get(dtype, 0) + 1
    if counts:
        found.elements += math.prod(d for d in tensor.shape or () if isinstance(d, int))


def _list_tensors(found: Inspection, state: StateDict) -> None:
    """The tensors and all that is known of them."""
    counted = set()
    for name, weight in state.tensors.items():
        is_new = isinstance(weight, Tensor) and weight.place not in counted
        if isinstance(weight, Tensor):
            counted.add(weight.place)
        _add_tensor(found, name, TensorInfo(weight.torch_dtype, tuple(weight.shape)), counts=is_new)
    for cls in state.classes.values():
        found.classes[cls] = found.classes.get(cls, 0) + 1
    found.key, found.suspicious = state.key, state.suspicious
    found.left_out = state.left_out
    found.tied, found.overlapping = ties(state.tensors), overlaps(state.tensors)
    found.notes += [f"not known: {words}" for words in state.unknown]


# -- layers ----------------------------------------------------------------------------------------------------------------


def _shapes(row: Format, file: RecognizedFile, options: LoadOptions, outline: Outline, found: Inspection) -> Shaped | None:
    """Shapes and FLOPs, where a graph can be made of the file alone and that takes a moment, or shapes were given."""
    can = outline.graph or (row.name == "pytorch" and bool(options.inputs))
    if not can or (len(file.view) > QUICK and not options.inputs):
        if can:
            found.notes.append(f"shapes and FLOPs of files above {QUICK >> 20} MB are worked out where --input gives a shape")
        return None
    try:
        from converters.inspection.shapes import work_out

        shaped = work_out(row, file, options)
    except MissingPackageError as problem:
        found.notes.append(f"no shapes: {problem}")
    except (ConversionError, ImportError) as problem:
        if isinstance(problem, UnsupportedError) and (found.unsupported or problem.sources):
            found.unsupported = found.unsupported or _unsupported(problem.sources, outline)
            return None
        found.notes.append(f"no shapes: {problem}")
    else:
        known = {(entry.layer, entry.line) for entry in found.unsupported}
        found.unsupported += [entry for entry in map(Unsupported.of, shaped.problems) if (entry.layer, entry.line) not in known]
        found.inputs = shaped.inputs or found.inputs
        if shaped.problems and found.outputs:  # what ends where a layer is missing is no output of the net
            found.outputs = {name: shaped.outputs.get(name, port) for name, port in found.outputs.items()}
        else:
            found.outputs = shaped.outputs or found.outputs
        if not found.tensors or outline.tensors:
            found.tensors, found.dtypes, found.elements = {}, {}, 0
            for name, tensor in shaped.tensors.items():
                _add_tensor(found, name, tensor)
            is_alone = file.kind.name not in row.weights_kinds and not row.files[-1].is_optional  # else the graph holds them itself
            if shaped.tensors and is_alone:
                found.notes.append("the tensors are those that the net expects; this file holds none")
        return shaped
    return None


def _layers(rows: Sequence[Row], shaped: Shaped | None) -> list[Layer]:
    if shaped is not None:
        rows = shaped.fill(rows)
    return [
        Layer(row.name, row.type, row.line, row.path, tuple(row.outputs), row.parameters, row.buffers, row.flops, row.other) for row in rows
    ]


def _modules(state: StateDict) -> list[Layer]:
    """The modules that tensors belong to, by their names; their classes where the file says them."""
    layers: dict[str, Layer] = {}
    counted: set[tuple[object, ...]] = set()
    for path in state.classes:
        layers[path] = Layer(path or "(the model)", state.classes[path], None, path, (), 0, 0)
    for name, weight in state.tensors.items():
        path, role = _split(name)
        layer = layers.setdefault(path, Layer(path or "(no module)", "", None, path, (), 0, 0))
        if not isinstance(weight, Tensor) or weight.place in counted:
            continue
        counted.add(weight.place)
        is_kept = role.startswith(_KEPT) or not weight.torch_dtype.startswith(("float", "bfloat", "complex"))
        more = (0, weight.size) if is_kept else (weight.size, 0)
        layers[path] = dataclasses.replace(layer, parameters=(layer.parameters or 0) + more[0], buffers=(layer.buffers or 0) + more[1])
    holders = {path.rpartition(".")[0] for path in layers if path}
    return [layer for path, layer in layers.items() if layer.parameters or layer.buffers or path not in holders]


_KEPT = ("running_", "num_batches", "moving_")
_ROLE = re.compile(r"_((?:moving|running)_(?:mean|var)|weight|bias|gamma|beta|alpha|parameters)\Z")


def _split(name: str) -> tuple[str, str]:
    """A key as its module's path and its role there: `conv1.weight`, MXNet's `conv1_weight`, TensorFlow's `conv1/weights`."""
    whole = name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE")
    path, _, role = whole.rpartition("/" if "/" in whole and "." not in whole else ".")
    if not path and (found := _ROLE.search(name)):
        return name[: found.start()], found[1]
    return path, role
