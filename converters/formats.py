"""The table of formats: a row says how a format is called, which files it comes in, and what reads them. The command is made from it."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from converters import packages
from converters.errors import ConversionError, FormatError, printable, warn
from converters.files import StrPath
from converters.graph.outline import Outline
from converters.graph.provenance import SAID, SOURCES
from converters.options import DEFAULTS, LoadOptions
from converters.readers import fitting
from converters.recognition import Kind, RecognizedFile
from converters.trust import run_plugin

if TYPE_CHECKING:
    import onnx_ir

    from converters.tensors.state_dict import StateDict
    from converters.tensors.tensor import Weight


class Reader(Protocol):
    """What reads a format's files into the common graph."""

    def __call__(self, files: Sequence[StrPath], options: LoadOptions, /) -> onnx_ir.Model: ...


class WeightsReader(Protocol):
    """What reads the arrays of one file, by name, in state_dict order, or all that is known of them."""

    def __call__(self, path: StrPath, options: LoadOptions, /) -> Mapping[str, Any] | StateDict: ...


@dataclass(frozen=True)
class FileRole:
    """One of a format's files.

    name, help: the command's argument. kinds: what it may be (recognition.KINDS). tried: kinds that say too little, so that the reader
    finds out; it says best what is wrong with them. is_optional: a model may do without it.
    """

    name: str
    help: str
    kinds: tuple[str, ...]
    tried: tuple[str, ...] = ("unknown",)
    is_optional: bool = False


@dataclass(frozen=True)
class Format:
    """A row of the table.

    word: the command's (`lua2torch`), "" for a format of weights alone. noun: what the framework calls a layer. reader, weights:
    "module:function", imported when used; outline: what reads the layers alone. form: what a file of weights is called in reports.
    registry: "module:name" of the table of layers. options: fields of LoadOptions that mean something to this format alone. needs: packages
    that its weights can't be read without. kinds: kinds of files that recognition doesn't know by itself. weights_only: kinds that hold no
    net and may hold weights. ends_itself: its reader builds only what the outputs asked for need. prepare: "module:function", what
    strip-to-weights lets the format do to its weights; weights_options: its options that no other format has.
    """

    name: str
    title: str
    word: str
    noun: str
    files: tuple[FileRole, ...]
    reader: str = ""
    weights: str = ""
    outline: str = ""
    form: str = ""
    registry: str = ""
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] = field(default=())
    weights_only: tuple[str, ...] = ()
    ends_itself: bool = False
    prepare: str = ""
    weights_options: tuple[str, ...] = ()

    @property
    def known(self) -> frozenset[str]:
        """The kinds of files that are this format's without doubt."""
        return frozenset(kind for role in self.files for kind in role.kinds)

    @property
    def weights_kinds(self) -> frozenset[str]:
        """The kinds of files that may hold this format's weights."""
        return frozenset((*self.files[-1].kinds, *self.files[-1].tried, *self.weights_only)) if self.weights else frozenset()


GRAPH = ("onnx", "onnx_ir", "ml_dtypes", "google.protobuf")
"""Packages that every graph needs; weights alone are read without."""

FORMATS = (
    Format(
        name="caffe",
        title="Caffe",
        word="caffe",
        noun="layer",
        files=(
            FileRole("prototxt", "deploy.prototxt: the net in text form", ("prototxt",), ("text", "solver", "unknown")),
            FileRole("caffemodel", "model.caffemodel or model.caffemodel.h5: the weights", ("caffemodel", "hdf5")),
        ),
        reader="converters.readers.caffe:load",
        weights="converters.readers.caffe:load_weights",
        outline="converters.readers.caffe.outline:outline",
        form="file of Caffe weights",
        registry="converters.readers.caffe:lowers",
        options=("fillers", "define"),
        needs=("google.protobuf",),
    ),
    Format(
        name="torch7",
        title="Lua Torch",
        word="lua",
        noun="module",
        files=(FileRole("t7", "model.t7: a file that Lua Torch saved", ("t7", "t7-ascii")),),
        reader="converters.readers.torch7:load",
        weights="converters.readers.torch7.weights:read_weights",
        outline="converters.readers.torch7.outline:outline",
        form="Lua Torch file",
        registry="converters.readers.torch7:lowers",
        options=("dtype", "states"),
    ),
    Format(
        name="mxnet",
        title="MXNet",
        word="mxnet",
        noun="operator",
        files=(
            FileRole("symbol", "net-symbol.json: the symbol", ("mxnet-symbol",), ("json", "unknown")),
            FileRole("params", "net-0000.params: the parameters", ("mxnet-params",)),
        ),
        reader="converters.readers.mxnet:load",
        weights="converters.readers.mxnet:load_params",
        outline="converters.readers.mxnet.outline:outline",
        form="file of MXNet parameters",
        registry="converters.readers.mxnet:lowers",
    ),
    Format(
        name="onnx",
        title="ONNX",
        word="onnx",
        noun="operator",
        files=(FileRole("onnx", "model.onnx", ("onnx",)),),
        reader="converters.readers.onnx:load",
        weights="converters.readers.onnx:load_weights",
        outline="converters.readers.onnx.outline:outline",
        form="ONNX model",
        needs=GRAPH,
    ),
    Format(
        name="pytorch",
        title="PyTorch",
        word="torch",
        noun="module",
        files=(
            FileRole(
                "pth",
                "whole_model.pth: a pickled torch.nn.Module, or a TorchScript archive",
                ("torch-zip", "torchscript", "torch-stream", "torch-tar"),
                ("pickle", "zip-of-checkpoint", "tar", "unknown"),
            ),
        ),
        reader="converters.tracing.export:load",
        weights="converters.readers.pytorch:read_weights",
        options=("code", "factory", "output_names"),
        weights_only=("torch-export", "npy", "npz", "msgpack", "gzip"),
    ),
    Format(
        name="tensorflow",
        title="TensorFlow",
        word="tf",
        noun="operator",
        files=(
            FileRole(
                "graph",
                "graph.pb, graph.pbtxt, model.ckpt.meta or a SavedModel's folder: the graph",
                ("tensorflow-graph", "tensorflow-text", "tensorflow-meta", "tensorflow-savedmodel"),
            ),
            FileRole(
                "checkpoint",
                "model.ckpt, the prefix of a checkpoint's files, or the file itself: the variables",
                ("tensorflow-checkpoint", "tensorflow-checkpoint-text", "tensorflow-savedmodel"),
                is_optional=True,
            ),
        ),
        reader="converters.readers.tensorflow:load",
        weights="converters.readers.tensorflow:load_weights",
        outline="converters.readers.tensorflow.outline:outline",
        form="TensorFlow checkpoint",
        registry="converters.readers.tensorflow:lowers",
        options=("constants",),
        ends_itself=True,
        prepare="converters.readers.tensorflow.checkpoints.training:prepare",
        weights_options=("ema", "torch_layout"),
    ),
    Format(
        name="safetensors",
        title="safetensors",
        word="",
        noun="tensor",
        files=(FileRole("safetensors", "model.safetensors: weights", ("safetensors",)),),
        weights="converters.readers.safetensors:load",
        outline="converters.readers.safetensors:outline",
        form="safetensors file",
    ),
)


def recognize(path: StrPath) -> RecognizedFile:
    """The file, mapped and recognized; one that is already is returned as it is. Raises ConversionError where it can't be read."""
    return path if isinstance(path, RecognizedFile) else RecognizedFile(path, [kind for row in FORMATS for kind in row.kinds])


def format_of(file: RecognizedFile) -> Format | None:
    """The format that a file is of: that of its kind, else the one that finds out; None for what none reads."""
    name = file.kind.name
    sure = next((row for row in FORMATS if name in row.known), None)
    if sure is not None or name in ("unknown", "text", "json"):
        return sure
    tried = next((row for row in FORMATS if any(name in role.tried for role in row.files)), None)
    return tried or next((row for row in FORMATS if name in row.weights_only), None)


def load(paths: Sequence[StrPath], options: LoadOptions = DEFAULTS, *, format: Format | None = None, target: str = "") -> onnx_ir.Model:
    """Reads the files with the reader of their format (or of `format`). Raises ConversionError.

    target: "torch" or "onnx" where a command is at work, whose messages name the command that reads a file of another format.
    """
    if not paths:
        raise ConversionError("no file was given")
    files = [recognize(path) for path in paths]
    row = format or next((found for file in files if (found := format_of(file)) is not None and found.reader), None)
    if row is None:
        raise _not_a_model(files[0])
    if len(files) > len(row.files):
        names = " and ".join(role.name for role in row.files)
        raise ConversionError(f"{len(files)} files were given; a {row.title} model is {names}", path=files[0].path)
    _check_roles(row, files, target)
    _check_options(row, options, files[0])
    if options.plugin is not None:
        run_plugin(options.plugin, trust=options.trust, notify=options.notify)
    packages.check(*GRAPH)
    reader = cast("Reader", _imported(row.reader))
    try:
        model = reader(files, options)
    except ConversionError as problem:
        if problem.counts is not None and problem.hint is None:
            problem.hint = fitting.hint(problem, lambda shapes: reader(files, replace(options, inputs=shapes)))
        raise
    model.meta[SOURCES] = (*files[:-1], *files[-1].parts)
    model.meta[SAID] = model.meta.pop("converters.warnings", ())  # graph.builder.WARNINGS; naming it would import onnx_ir here
    for message in model.meta[SAID]:
        warn(message)
    _check_dtypes(model, options, files[0])
    _check_dynamic(model, options, files[0])
    if options.outputs and not row.ends_itself:
        from converters.graph.changes.outputs import cut

        cut(model, options.outputs)
    return model


def load_weights(path: StrPath, options: LoadOptions = DEFAULTS) -> dict[str, Weight]:
    """The weights of a file as an ordered mapping of names to lazy tensors, in state_dict order; nothing in it is executed.

    PyTorch checkpoints of any form, safetensors, Lua Torch .t7, Caffe weights, MXNet .params and ONNX, told by content. A tensor has
    shape, dtype, nbytes and torch_dtype without reading its numbers; np.asarray(tensor) looks at them, as a read-only view of the
    mapped file where they lie there as they are. Raises ConversionError.
    """
    return read_weights(path, options).tensors


def read_weights(path: StrPath, options: LoadOptions = DEFAULTS) -> StateDict:
    """As load_weights, with what is known of the weights: where in the file they sit, their modules' classes, what else is there."""
    from converters.tensors.state_dict import StateDict  # with numpy, which the command's own words don't need
    from converters.tensors.tensor import as_tensors

    file = recognize(path)
    if file.kind.name == "shards":
        return _joined(file, options)
    row = format_of(file)
    if row is None:
        raise file.refusal()
    if file.kind.name not in row.weights_kinds:
        reads = f"; convert {row.word}2torch reads the {row.files[0].name}" if row.word else ""
        raise FormatError(
            f"this is {file.kind.words}, which holds no weights", path=file.path, hint=f"give the {row.files[-1].name}{reads}"
        )
    packages.check(*row.needs)
    weights = cast("WeightsReader", _imported(row.weights))(file, options)
    return weights if isinstance(weights, StateDict) else StateDict(as_tensors(weights), form=row.form, key=options.key or "")


def places_of(index: RecognizedFile) -> dict[str, str]:
    """Which file beside an index of several has which tensor, as Hugging Face writes it. Raises FormatError."""
    try:
        places = json.loads(bytes(index.view)).get("weight_map")
    except (ValueError, RecursionError, AttributeError) as problem:
        raise FormatError(f"no index of weights: {printable(problem)}", path=index.path) from problem
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise FormatError("its weight_map doesn't say which tensor is in which file", path=index.path)
    for name in places.values():
        if name != os.path.basename(name) or name in ("", ".", ".."):
            raise FormatError(f"{printable(name)!r} is no file beside the index", path=index.path)
    return places


def _joined(index: RecognizedFile, options: LoadOptions) -> StateDict:
    """The weights of the files that an index names; each file is read once. Raises ConversionError."""
    from converters.tensors.state_dict import LeftOut, StateDict

    options.no_key(index.path, "an index of several files")
    places = places_of(index)
    state = StateDict(form="checkpoint in several files")
    for name in sorted(set(places.values())):
        where = os.path.join(os.path.dirname(index.path), name)
        if not os.path.isfile(where):
            raise FormatError(f"{printable(name)} isn't beside the index; put the file there", path=index.path)
        part = read_weights(where, options)
        missing = [key for key, file in places.items() if file == name and key not in part.tensors]
        if missing:
            raise FormatError(f"{printable(name)} has no {printable(missing[0])!r}, which the index says is in it", path=index.path)
        for key, weight in part.tensors.items():
            if places.get(key) == name:
                state.tensors[key] = weight
            else:
                state.left_out.append(LeftOut(f"{name}: {key}", "tensor", weight.torch_dtype, weight.shape))
        state.suspicious += part.suspicious
    return state


def prepare_weights(state: StateDict, file: RecognizedFile, asked: frozenset[str]) -> frozenset[str]:
    """Does to weights what their format alone knows of these options (ema, torch_layout, torch_names), and answers which it did.

    Raises ConversionError for an option of another format.
    """
    row = format_of(file)
    for other in FORMATS:
        for name in other.weights_options:
            if name in asked and other is not row:
                raise ConversionError(f"'{name}' is for {other.title} checkpoints; this is {file.kind.words}")
    done: frozenset[str] = _imported(row.prepare)(state, asked) if row is not None and row.prepare else frozenset()
    return done


def outline_of(row: Format, file: RecognizedFile, options: LoadOptions = DEFAULTS) -> Outline:
    """What a file of this format says of its net: layers, inputs, outputs; no tensors. Raises ConversionError."""
    packages.check(*row.needs[:1])  # protobuf, or onnx; a look needs no graph
    found: Outline = _imported(row.outline)(file, options) if row.outline else Outline()
    return found


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


# -- what is given, against the row ------------------------------------------------------------------------------------


def _not_a_model(file: RecognizedFile) -> FormatError:
    weights = next((row for row in FORMATS if file.kind.name in row.known), None)
    if weights is not None:
        return file.refusal("these are weights alone: load_weights reads them; a graph needs the model")
    return file.refusal(file.kind.hint or f"a {', '.join(row.title for row in FORMATS if row.reader)} model is needed")


def _check_roles(row: Format, files: Sequence[RecognizedFile], target: str) -> None:
    """Raises FormatError where a file isn't what its place asks for: says what it is, and who reads it."""
    for position, (role, file) in enumerate(zip(row.files, files, strict=False)):
        name = file.kind.name
        if name in role.kinds or name in role.tried:
            continue
        if name in row.known:
            raise FormatError(
                f"this is {file.kind.words}, where the {role.name} is due", path=file.path, hint=_other_place(row, position, files)
            )
        other = next((found for found in FORMATS if name in found.known), None)
        if other is None:
            raise file.refusal()
        raise FormatError(f"this is {file.kind.words}, not {_article(row.title)} model", path=file.path, hint=_command(other, target))


def _other_place(row: Format, position: int, files: Sequence[RecognizedFile]) -> str:
    order = " ".join(role.name.upper() for role in row.files)
    if len(files) < len(row.files):
        return f"give {order}"
    swapped = files[1 - position].kind.name in row.files[position].kinds
    return f"the two files are swapped: {order}" if swapped else f"the order is {order}"


def _command(row: Format, target: str) -> str:
    if not row.word:
        return "strip-to-weights and load_weights read it; a graph needs the model" if not target else "it holds weights alone"
    if not target:
        return f"the files of {_article(row.title)} model are {' and '.join(role.name for role in row.files)}"
    if row.word == target:
        return f"it is {row.title} already" + ("; use convert onnx2torch" if target == "onnx" else "; use convert torch2onnx")
    return f"use convert {row.word}2{target}"


def _article(title: str) -> str:
    return f"an {title}" if title[0] in "AEIO" or title == "MXNet" else f"a {title}"


def _check_options(row: Format, options: LoadOptions, file: RecognizedFile) -> None:
    """Raises ConversionError for an option that means nothing to the format."""
    for other in FORMATS:
        for name in other.options:
            if name not in row.options and getattr(options, name):
                raise ConversionError(f"'{name}' is for {other.title} models; this is {_article(row.title)} one", path=file.path)


def _check_dtypes(model: onnx_ir.Model, options: LoadOptions, file: RecognizedFile) -> None:
    """Raises ConversionError where an input was said to be of another type than it has become."""
    dtypes = options.dtypes
    values = {str(value.name): value for value in model.graph.inputs}
    for name, dtype in dtypes.items():
        value = values.get(name) if name or len(values) != 1 else next(iter(values.values()))
        got = "unknown" if value is None or value.dtype is None else value.dtype.numpy().name
        if got != dtype:
            raise ConversionError(f"input '{printable(name)}' is {got} in this model, not {dtype}", path=file.path)


def _check_dynamic(model: onnx_ir.Model, options: LoadOptions, file: RecognizedFile) -> None:
    """Raises ConversionError where an axis that was to stay open isn't: a wrong name or axis, or a model that fixes it."""
    values = {str(value.name): value for value in model.graph.inputs}
    for (name, axis), label in options.dynamic.items():
        value = values.get(name) if name or len(values) != 1 else next(iter(values.values()))
        shown = printable(name or "the input")
        if value is None or value.shape is None:
            raise ConversionError(f"there is no input '{shown}' to leave open", path=file.path, hint=f"the inputs are {', '.join(values)}")
        if not 0 <= axis < len(value.shape):
            raise ConversionError(f"input '{shown}' has {len(value.shape)} axes, no axis {axis}", path=file.path)
        if isinstance(value.shape[axis], int):
            raise ConversionError(f"axis {axis} of '{shown}' can't be left open as '{printable(label)}'", path=file.path)
