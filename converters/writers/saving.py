"""A graph to files, by the target's suffix; a check sees the finished files before they get their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir

from converters.errors import ConversionError, warn
from converters.files import StrPath, check_target, together, writing
from converters.graph.changes.precision import in_precision
from converters.graph.names import keys_beside, module_name
from converters.graph.provenance import NOTES, ORIGIN, PREPROCESSING, SOURCES, origin_of, origin_text
from converters.tensors.placing import Entry, KeyMap
from converters.writers.onnx.writer import write_onnx
from converters.writers.pairs import PAIR
from converters.writers.pth import write_pth
from converters.writers.safetensors import write_safetensors
from converters.writers.source.writer import source_and_state, state_dict

Check = Callable[[list[Path]], None] | None
"""Called with the places of the finished files: the target, and the source of a .pth. Where it raises, nothing is written."""


def save(
    model: ir.Model,
    path: StrPath,
    *,
    opset: int | None = None,
    dtype: str | None = None,
    io_dtype: str | None = None,
    force: bool = False,
    check: Check = None,
    blocks: bool = False,
) -> None:
    """Writes the model by suffix: .pth (a state_dict, and NAME.py beside it), .onnx, or .safetensors (the state_dict alone).

    blocks: of a .pth, what repeats in the source becomes classes; NAME.keys.json says which key was which.
    dtype: the floating-point type to write, io_dtype: that of inputs and outputs, where it is to be another. Raises
    OutputExistsError, or ConversionError for an unknown suffix or a graph that can't be written.
    """
    target = Path(path)
    suffix = target.suffix.lower()
    if opset is not None and suffix != ".onnx":
        raise ConversionError("an opset goes with .onnx only", path=str(path))
    if blocks and suffix not in (".pth", ".pt"):
        raise ConversionError("blocks go with a source, which a .pth has", path=str(path))
    if io_dtype is not None and dtype is None:
        raise ConversionError("a type of inputs and outputs goes with the type that is written (dtype)", path=str(path))
    if dtype is not None:
        model = _narrowed(model, target, dtype, io_dtype)
    if suffix == ".onnx":
        write_onnx(model, path, opset=opset, force=force, check=None if check is None else lambda place: check([place]))
    elif suffix in (".pth", ".pt"):
        _save_pth(model, target, force, check, blocks)
    elif suffix == ".safetensors":
        with together() as place_of:
            kept = {key: model.metadata_props[key] for key in (PREPROCESSING, NOTES) if key in model.metadata_props}
            write_safetensors(path, state_dict(model), metadata={**origin_text(origin_of(model)), **kept}, force=force)
            if check is not None:
                check([place_of(target)])
    else:
        raise ConversionError("the suffix says what to write", path=str(path), hint="use .pth, .onnx or .safetensors")


def _narrowed(model: ir.Model, path: Path, dtype: str, io_dtype: str | None) -> ir.Model:
    made, overflowed = in_precision(model, dtype, io_dtype, onnx=path.suffix.lower() == ".onnx")
    if overflowed:
        warn(f"{path.name}: {overflowed:,} number{'s' if overflowed > 1 else ''} too large for {dtype} became infinite")
    made.meta.update({key: model.meta[key] for key in (SOURCES, ORIGIN) if key in model.meta})
    return made


def _save_pth(model: ir.Model, path: Path, force: bool, check: Check, blocks: bool) -> None:
    source = path.with_name(f"{module_name(path.stem)}.py")
    check_target(path, force=force)
    check_target(source, force=force)
    written = source_and_state(model, path.name, blocks=blocks)
    if blocks:
        check_target(keys_beside(path), force=force)
    with together() as place_of:
        identity = write_pth(path, written.tensors, force=force)
        if blocks:
            entries = {key: Entry((name,), "copy", tuple(written.tensors[key].shape.numpy())) for key, name in written.names.items()}
            KeyMap(entries, proven=True).save(keys_beside(path), force=force)
        with writing(source, force=force) as file:
            file.write(f"{written.text}{PAIR} {identity}\n".encode())
        if check is not None:
            check([place_of(path), place_of(source)])
