"""The preprocessing that a model's own files carry: what a conversion wrote into them, or Caffe's transform_param."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from converters import formats
from converters.errors import ConversionError, FormatError, about
from converters.files import StrPath
from converters.graph.names import module_name
from converters.graph.provenance import PREPROCESSING
from converters.preprocessing import Preprocess
from converters.preprocessing.caffe import from_transform_param
from converters.readers.caffe.caffemodel import read_blob

if TYPE_CHECKING:
    import onnx_ir

    from converters.evaluation.model import RunningModel

LITERAL = "PREPROCESS"
"""The name that it has in a written .py."""


def stored_preprocess(
    source: onnx_ir.Model | StrPath | Sequence[StrPath], *, channels: int | None = None, mean_file: StrPath | None = None
) -> Preprocess | None:
    """What the model, or the first of its files, says is done to an image; None where it says nothing. Nothing in a file runs.

    An ONNX file's metadata, a safetensors header, the literal PREPROCESS of the .py beside a .pth, a prototxt's transform_param.
    channels: how many the net takes. mean_file: Caffe's mean.binaryproto, where it isn't where the prototxt says.
    Raises ConversionError for one that makes no sense, or whose mean file isn't found.
    """
    if not isinstance(source, str | os.PathLike | list | tuple):
        stated = source.metadata_props.get(PREPROCESSING)  # type: ignore[union-attr]
        return None if stated is None else _from_json(stated)
    path = Path(source if isinstance(source, str | os.PathLike) else source[0])
    beside = path.with_name(f"{module_name(path.stem)}.py")
    file = formats.recognize(path)
    row = formats.format_of(file)
    with about(path):
        if row is not None and row.name == "pytorch" and beside.is_file():
            return _from_source(beside)
        stated_fields = {} if row is None else formats.outline_of(row, file).preprocessing
        if row is not None and row.name == "caffe" and stated_fields:
            return _from_caffe(path, stated_fields, channels, mean_file)
        stated = stated_fields.get("stated")
        return _from_json(stated) if isinstance(stated, str) else None


def preprocess_for(source: onnx_ir.Model | StrPath | Sequence[StrPath], running: RunningModel) -> Preprocess:
    """What is stored with the model; raises ConversionError where nothing is: there is no default."""
    found = stored_preprocess(source, channels=running.channels)
    if found is None:
        raise ConversionError("the model doesn't say how its images are preprocessed", hint=running.proposal or "give preprocess")
    return found


def read_mean_file(path: StrPath) -> tuple[float, ...]:
    """The mean of each channel, in the file's order (B, G, R), of the image of means that Caffe's compute_image_mean wrote.

    Caffe's own classification programs take these means for every pixel. Raises FormatError for another file.
    Source: caffe/examples/cpp_classification/classification.cpp (SetMean).
    """
    values = read_blob(path).astype(np.float64)
    if values.ndim not in (3, 4) or not values.size or (values.ndim == 4 and len(values) != 1) or not np.isfinite(values).all():
        raise FormatError(f"holds numbers of shape {values.shape}, no image of means (mean.binaryproto)", path=str(path))
    return tuple(float(mean) for mean in values.reshape(values.shape[-3], -1).mean(axis=1))


def _from_json(text: str) -> Preprocess:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise FormatError("the preprocessing that is stored in it is no JSON object")
    return Preprocess.from_dict(fields)


def _from_source(path: Path) -> Preprocess | None:
    """The literal in a written file, read as text."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError):
        return None  # some other file, which fails where it is run
    for item in body:
        if isinstance(item, ast.Assign) and any(isinstance(target, ast.Name) and target.id == LITERAL for target in item.targets):
            try:
                fields = ast.literal_eval(item.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                fields = None
            if not isinstance(fields, dict):
                raise FormatError(f"{LITERAL} in {path.name} is no literal of preprocessing fields")
            return Preprocess.from_dict(fields)
    return None


def _from_caffe(path: Path, stated: Mapping[str, Any], channels: int | None, mean_file: StrPath | None) -> Preprocess:
    named = stated.get("mean_file")
    means = None
    if mean_file is not None:
        means = read_mean_file(mean_file)
    elif named:
        places = [path.parent / str(named), path.parent / Path(str(named)).name]
        place = next((place for place in places if place.is_file()), None)
        if place is None:
            raise ConversionError(f"transform_param names the mean file '{named}', which isn't beside it", hint="give --mean-file FILE")
        means = read_mean_file(place)
    guessed = 1 if stated.get("force_gray") else len(means or stated.get("mean_value", ())) or 3
    return from_transform_param(stated, channels or (3 if guessed != 1 else guessed), means)
