"""Old checkpoints, alive again: Caffe, Lua Torch, MXNet, TensorFlow 1 and PyTorch files to PyTorch and ONNX, with the same numbers.

The public API. Heavy libraries are imported when a call needs them, not before: onnx_ir with a graph, torch only to run one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from converters import packages
from converters.errors import ConversionError, ConversionWarning, FormatError, OutputExistsError, UnsupportedError
from converters.packages import MissingPackageError
from converters.packages import __version__ as __version__

if not os.path.isdir(os.path.join(__path__[0], "schemas")):  # in a checkout schemas/ lies beside this folder, not in it
    __path__.append(os.path.dirname(__path__[0]))

packages.import_lazily()

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir
    import torch
    from numpy.typing import NDArray

    from converters.evaluation.accuracy import Accuracy
    from converters.evaluation.classes import Answer
    from converters.evaluation.features import Features
    from converters.evaluation.model import Source
    from converters.evaluation.timing import Benchmark
    from converters.files import StrPath
    from converters.inspection import Inspection
    from converters.matching import Match
    from converters.migration.progress import Progress
    from converters.migration.report import MigrationReport
    from converters.options import InputSpec
    from converters.preprocessing import Preprocess as Preprocess
    from converters.strip import StripReport
    from converters.tensors.tensor import Weight
    from converters.verification.report import Report

__all__ = [
    "__version__",
    # conversion through the graph
    "load",
    "save",
    "to_module",
    "fold_batchnorm",
    "fold_preprocessing",
    "replace_classifier",
    "verify",
    # weights only
    "load_weights",
    "strip_to_weights",
    # what is in a file
    "inspect",
    # what the model says of images
    "Preprocess",
    "classify",
    "evaluate",
    "extract_features",
    "benchmark",
    # the weights in a class of one's own
    "match",
    # a whole archive
    "migrate",
    # errors
    "ConversionError",
    "ConversionWarning",
    "FormatError",
    "MissingPackageError",
    "OutputExistsError",
    "UnsupportedError",
]


def load(
    *paths: StrPath,
    inputs: Mapping[str, InputSpec] | None = None,
    key: str | None = None,
    dynamic: Mapping[tuple[str, int], str] | None = None,
    outputs: Sequence[str] = (),
    output_names: Sequence[str] = (),
    constants: Mapping[str, object] | None = None,
    code: StrPath | None = None,
    factory: str | None = None,
    plugin: StrPath | None = None,
    trust: bool = False,
    fillers: bool = False,
    dtype: str | None = None,
    states: bool = False,
    define: Mapping[str, str] | None = None,
) -> onnx_ir.Model:
    """Reads a model of any supported format, told by its content, into the common graph.

    paths: Caffe `deploy.prototxt, model.caffemodel`; Lua Torch `model.t7`; MXNet `net-symbol.json, net-0000.params`; `model.onnx`; a
    whole-model `.pth`; TensorFlow `graph.pb`, a SavedModel's folder, or `graph.pbtxt` or `model.meta`, and a checkpoint's prefix.
    inputs: shapes by input name, or (shape, dtype), where the file doesn't have them; the first axis stays symbolic ("N") unless the
    net fixes it. key: where the model sits in a checkpoint ("model", "protos.rnn"). dynamic: labels of axes that stay open besides the
    first, {("data", 2): "height"}. outputs: inner values that the graph ends in, instead of its own outputs. output_names: what the
    outputs of a PyTorch model are called, in order. constants: inputs of a TensorFlow graph that are numbers from now on,
    {"is_training": False}. code: the folder of a PyTorch model's own classes; factory: "module:function" in it, which builds the model for
    a checkpoint of weights. plugin: a Python file that registers lowerings. trust:
    let these, and TorchScript programs, run; without it nothing does. fillers: parameters of a Caffe net that no file has get what
    their fillers say. dtype: "float64" keeps the doubles of a Lua Torch model, which otherwise become float32. states: first states of a
    recurrent Lua Torch model become inputs, the last ones outputs. define: what stands for `$NAME$` in a Caffe template, and numbers
    that Caffe's layers take from elsewhere, by name. Raises ConversionError, which says what is wrong, where, and what to do.
    """
    from converters.formats import load as load_files
    from converters.options import LoadOptions

    options = LoadOptions(
        inputs=inputs or {},
        key=key,
        dynamic=dynamic or {},
        outputs=tuple(outputs),
        output_names=tuple(output_names),
        constants=constants or {},
        code=code,
        factory=factory,
        plugin=plugin,
        trust=trust,
        fillers=fillers,
        dtype=dtype,
        states=states,
        define=define or {},
    )
    return load_files(paths, options)


def save(
    model: onnx_ir.Model,
    path: StrPath,
    *,
    opset: int | None = None,
    dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = None,
    io_dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = None,
    force: bool = False,
    blocks: bool = False,
) -> None:
    """Writes the model by suffix: .pth (a state_dict, and NAME.py beside it), .onnx, or .safetensors (the state_dict alone).

    opset: for .onnx, another operator set than the graph's own. dtype: the floating-point type that the net is written in and computes
    in; io_dtype: that of its inputs and outputs, where it is to be another. What ONNX doesn't define in that type is computed in float32
    between casts. blocks: of a .pth, what repeats in the source (bottlenecks, inception modules) becomes classes with arguments, and
    NAME.keys.json says which key was which. Raises OutputExistsError for a file that exists (unless `force`),
    ConversionError for an unknown suffix or a graph that can't be written.
    """
    from converters.writers.saving import save as write

    write(model, path, opset=opset, dtype=dtype, io_dtype=io_dtype, force=force, blocks=blocks)


def to_module(model: onnx_ir.Model) -> torch.nn.Module:
    """The model as a torch.nn.Module in eval mode: the very class that `save` writes as NAME.py, with the weights loaded.

    Call it with the inputs in graph order; it answers one tensor, or a tuple in output order. Raises UnsupportedError, naming every
    operator that has no PyTorch form.
    """
    from converters.writers.source.writer import to_module as module_of

    return module_of(model)


def fold_preprocessing(model: onnx_ir.Model, preprocess: Preprocess) -> str:
    """Puts scale, mean, std and the order of channels into the model, in place: it takes pixels from 0 to 255 then. Says what was done.

    Into the weights of a first convolution that sees no padding, which is exact; else it becomes a layer before it. What is left of the
    preprocessing (size, crop) is noted in the model. Raises ConversionError for Lab, and for a model that doesn't take its channels.
    """
    from converters.graph.changes import fold_input

    sentence = fold_input(model, *preprocess.linear())
    preprocess.raw().attach(model)
    return sentence


def fold_batchnorm(model: onnx_ir.Model) -> str:
    """Makes batch normalizations part of the convolutions and linear layers before them, in place; returns what was done, in words.

    For a net that only answers: it runs faster, its numbers move by rounding alone (1e-5 of the largest), and it can't be trained as
    the original was. Raises ConversionError where there is none behind such a layer.
    """
    from converters.graph.changes import fold_batchnorm as fold

    return fold(model)


def replace_classifier(model: onnx_ir.Model, classes: int) -> str:
    """Gives the last linear layer fresh weights of so many classes, in place, for fine-tuning. Says what was done.

    The keys stay. Raises ConversionError where the last layer with weights is no linear one.
    """
    from converters.graph.changes import replace_classifier as replace

    return replace(model, classes)


def verify(
    model: onnx_ir.Model | StrPath | Sequence[StrPath],
    other: StrPath | Sequence[StrPath] | None = None,
    *,
    opset: int | None = None,
    inputs: Mapping[str, NDArray[np.generic]] | None = None,
    feed: StrPath | None = None,
    expect: StrPath | None = None,
    shapes: Mapping[str, InputSpec] | None = None,
    key: str | None = None,
    seed: int = 0,
    tolerance: float = 1e-4,
    level: Literal["quick", "full"] = "quick",
    trust: bool = False,
) -> Report:
    """Compares two conversions, output by output and weight by weight, and names the first layer where they part.

    A model runs in PyTorch and in onnxruntime (as the ONNX file `other`, else as one written for the purpose, in operator set `opset`),
    whose optimizer is off, on the same inputs: `inputs` by name, else ordinary and large random numbers of `seed`, and another batch
    where the net is small. Paths stand for any two artefacts, legacy files (one or two of a model) as well as what they were converted
    to; weights alone are compared name by name. shapes: of inputs, where a file doesn't have them. key: where the weights sit in the
    first. level: "full" tries several seeds, batches, zeros and negative numbers. feed, expect: files (.npz, .t7) of inputs and of the
    original's own answers, by name. tolerance: the largest difference allowed, relative to the largest number. trust: let the .py beside
    a .pth run. Raises ConversionError.
    """
    if expect is not None and feed is None and inputs is None:
        raise ConversionError("nothing says which inputs the expected answers belong to", hint="give feed or inputs with expect")
    if not isinstance(model, str | os.PathLike | Sequence):
        from converters.verification.compare import verify as run_both
        from converters.verification.trials import read_arrays

        given = inputs if feed is None else read_arrays(feed)
        wanted = None if expect is None else read_arrays(expect)
        if other is not None and not isinstance(other, str | os.PathLike):
            raise ConversionError("a loaded model is compared with one ONNX file")
        return run_both(model, other, opset=opset, inputs=given, seed=seed, tolerance=tolerance, level=level, expect=wanted)
    from converters.options import LoadOptions
    from converters.verification.artefacts import compare_artefacts

    sides = [[side] if isinstance(side, str | os.PathLike) else list(side) for side in (model, other) if side is not None]
    if len(sides) == 1 and expect is None:
        loaded = load(*sides[0], key=key, inputs=shapes, trust=trust)
        return verify(loaded, opset=opset, inputs=inputs, feed=feed, seed=seed, tolerance=tolerance, level=level)
    options = LoadOptions(key=key, inputs=shapes or {}, trust=trust)
    second = sides[1] if len(sides) == 2 else None
    settings: dict[str, Any] = {"level": level, "seed": seed, "tolerance": tolerance, "expect": expect}
    return compare_artefacts(sides[0], second, options=options, feed=inputs if feed is None else feed, **settings)


def load_weights(path: StrPath, key: str | None = None) -> Mapping[str, Weight]:
    """The weights of any supported file as a lazy, ordered mapping: name -> numpy-compatible tensor, in state_dict order.

    Nothing in the file is executed, and a tensor's bytes are read when it is looked at (`np.asarray(weights["conv1.weight"])`).
    key: where the weights sit in a checkpoint. Raises ConversionError.
    """
    from converters.formats import load_weights as read
    from converters.options import LoadOptions

    return read(path, LoadOptions(key=key))


def strip_to_weights(
    source: StrPath,
    target: StrPath | None = None,
    *,
    key: str | None = None,
    unwrap: bool = False,
    strip_prefix: str | None = None,
    torch_names: bool = False,
    dtype: str | None = None,
    fold: bool = False,
    contiguous: bool = False,
    source_dir: StrPath | None = None,
    force: bool = False,
    ema: bool = False,
    torch_layout: bool = False,
    rename: Sequence[tuple[str, str]] = (),
) -> StripReport:
    """Writes the exact weights of any supported file, without running it, and reports what it found; report.path is the target.

    target: .pth or .safetensors, NAME_weights.pth beside the source by default. key: where the weights sit in a checkpoint, a dotted
    path. unwrap: take DataParallel's `module.` away. strip_prefix: take this prefix off the names. torch_names: MXNet's and TensorFlow's
    gamma, beta and moving_mean become weight, bias and running_mean. dtype: "float16", "bfloat16", "float32" or "float64" for floating
    tensors. fold: spectral_norm, weight_norm and parametrizations become plain weights. contiguous: every tensor row-major in a storage
    of its own. source_dir: a folder for the class source that old files embed. Of a TensorFlow checkpoint, from which an optimizer's
    memory is left out: ema takes each variable's moving average for it, torch_layout turns weights as torch has them. rename: old names and
    new ones, whole ones or modules; * stands for anything. Raises ConversionError.
    """
    from converters.strip import StripOptions
    from converters.strip import strip_to_weights as strip

    options = StripOptions(
        key, unwrap, strip_prefix, torch_names, dtype, fold, contiguous, source_dir, force, rename, ema=ema, torch_layout=torch_layout
    )
    return strip(source, target, options)


def inspect(
    *paths: StrPath,
    inputs: Mapping[str, InputSpec] | None = None,
    key: str | None = None,
    code: StrPath | None = None,
    factory: str | None = None,
    plugin: StrPath | None = None,
    trust: bool = False,
) -> Inspection:
    """What a file is, and what is in it: layers with output shapes, parameters and FLOPs, tensors, what can't be converted.

    paths: the one or two files of one model; a prototxt or a symbol alone is enough for the layers. inputs: shapes by input name, where
    the file doesn't have them. key: where the model or the weights sit in a checkpoint. code, factory, plugin, trust: as for `load`.
    Nothing in a file runs without `trust`. Raises ConversionError for a file that can't be read.
    """
    from converters.inspection import inspect as look
    from converters.options import LoadOptions

    options = LoadOptions(inputs=inputs or {}, key=key, code=code, factory=factory, plugin=plugin, trust=trust)
    return look(*paths, options=options)


def classify(
    model: Source,
    images: Sequence[StrPath],
    preprocess: Preprocess | None = None,
    *,
    labels: StrPath | None = None,
    top: int = 5,
    engine: Literal["onnxruntime", "torch"] = "onnxruntime",
    threads: int | None = None,
    trust: bool = False,
) -> list[Answer]:
    """The `top` most likely classes of each image file, in their order; folders stand for the images in them.

    model: what `load` answered, or the model's one or two files, legacy or converted. preprocess: `Preprocess.recipe("fb-resnet-224")`,
    or one's own fields; what the model's files say without one. labels: a file with a class on each line. threads: of the engine.
    trust: let the .py beside a .pth run. An image that can't be read gets an Answer with its error. Raises ConversionError, also where
    no preprocessing is said anywhere.
    """
    from converters.evaluation import classify as answer
    from converters.evaluation import open_model, read_labels
    from converters.evaluation.stored import preprocess_for
    from converters.options import LoadOptions

    running = open_model(model, LoadOptions(trust=trust), engine=engine, threads=threads)
    given = preprocess or preprocess_for(model, running)
    return answer(running, images, given, labels=None if labels is None else read_labels(labels), top=top)


def evaluate(
    model: Source,
    images: StrPath,
    preprocess: Preprocess | None = None,
    *,
    labels: StrPath | None = None,
    root: StrPath | None = None,
    order: Literal["sorted", "devkit"] | None = None,
    list_order: Literal["sorted", "devkit"] | None = None,
    first_label: int = 0,
    batch: int = 32,
    workers: int = 0,
    resume: StrPath | None = None,
    engine: Literal["onnxruntime", "torch"] = "onnxruntime",
    threads: int | None = None,
    trust: bool = False,
) -> Accuracy:
    """Top-1 and top-5 of a model over a folder FOLDER/CLASS/IMAGE, or over a list file of lines `path label`.

    model, preprocess, engine, threads, trust: as for `classify`. labels: a file of class names that the folders have; root: where a
    list's paths lie; first_label: what it counts from. order: which of ImageNet's two orders the model's classes have, where its
    preprocessing doesn't say it right; list_order: that of the list, where it is the other. batch: images at once; workers: threads
    that decode; resume: a file that takes the answers, from which a stopped run goes on. Raises ConversionError.
    """
    from converters.evaluation import evaluate as measure
    from converters.evaluation import open_model, read_labels
    from converters.evaluation.images import find_labeled
    from converters.evaluation.stored import preprocess_for
    from converters.options import LoadOptions

    running = open_model(model, LoadOptions(trust=trust), engine=engine, threads=threads)
    given = preprocess or preprocess_for(model, running)
    numbers = None if labels is None else read_labels(labels).numbers
    orders = (order or given.labels or "", list_order)
    found = find_labeled(images, classes=numbers, root=root, orders=orders, first=first_label)
    return measure(running, found, given, batch=batch, workers=workers, resume=resume)


def extract_features(
    model: Source,
    layers: Sequence[str],
    images: Sequence[StrPath],
    preprocess: Preprocess | None = None,
    *,
    batch: int = 32,
    engine: Literal["onnxruntime", "torch"] = "onnxruntime",
    threads: int | None = None,
) -> Features:
    """What layers, by their source's names, answer for each image: `.arrays[name]` of shape (images, ...), `.paths`, `.save("out.npz")`.

    model, preprocess, engine, threads: as for `classify`. Raises ConversionError, which lists the names there are.
    """
    from converters.evaluation import extract_features as extract
    from converters.evaluation import open_model
    from converters.evaluation.stored import preprocess_for

    running = open_model(model, engine=engine, threads=threads, layers=layers)
    return extract(running, layers, images, preprocess or preprocess_for(model, running), batch=batch)


def benchmark(
    *models: Source,
    inputs: Mapping[str, InputSpec] | None = None,
    engines: Sequence[Literal["onnxruntime", "torch"]] = ("onnxruntime", "torch"),
    batch: int = 1,
    runs: int = 20,
    warmup: int = 3,
    backward: bool = False,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    trust: bool = False,
) -> Benchmark:
    """How fast models are, side by side: `.timings` with the median and the middle half of many runs, `.costs` of each layer.

    models: what `load` answered, or a model's one or two files. inputs: shapes where the files have none. engines: what runs them; a .pth
    with its .py runs in torch, with `trust`. batch: items at once. warmup: runs that aren't timed. backward: time the gradient too, in
    torch. The models take turns. Raises ConversionError.
    """
    from converters.evaluation import benchmark as measure
    from converters.evaluation.timing import names_of
    from converters.options import LoadOptions

    options = LoadOptions(inputs=inputs or {}, trust=trust)
    settings: dict[str, Any] = {"batch": batch, "runs": runs, "warmup": warmup, "backward": backward, "threads": threads, "device": device}
    return measure(dict(zip(names_of(models), models, strict=True)), options, engines=engines, **settings)


def match(source: onnx_ir.Model | Mapping[str, Any], module: torch.nn.Module) -> Match:
    """Finds where each weight of a model belongs in a module of one's own, whatever its names, order and nesting are.

    source: what `load` answered, whose values are followed through both, so that the match is proven; or `load_weights`' mapping, by
    names, order and shapes. The Match's `.keys` maps the module's keys to the source's, `.apply()` is the state_dict that loads strictly.
    Raises ConversionError, which names the first layer where the two part, or what is ambiguous.
    """
    packages.require("torch")
    from converters.matching import match as find

    return find(source, module)


def migrate(
    source: StrPath,
    target: StrPath,
    *,
    to: Sequence[Literal["onnx", "torch", "safetensors", "weights"]] = ("onnx", "torch"),
    workers: int | None = None,
    scheduler: str | None = None,
    verify: bool = True,
    shapes: StrPath | Mapping[str, Mapping[str, InputSpec]] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    limit_memory: int | None = None,
    limit_time: float = 600,
    archives: bool = False,
    epochs: Literal["newest", "all"] = "newest",
    retry: Sequence[Literal["unsupported", "failed", "different", "killed"]] = (),
    opset: int | None = None,
    dtype: Literal["float16", "bfloat16", "float32", "float64"] | None = None,
    dynamic: Mapping[tuple[str, int], str] | None = None,
    key: str | None = None,
    code: StrPath | None = None,
    plugin: StrPath | None = None,
    trust: bool = False,
    force: bool = False,
    dry_run: bool = False,
    watch: Callable[[Progress], None] | None = None,
) -> MigrationReport:
    """Finds every model below `source`, converts and proves each, and leaves manifest.parquet and report.html in `target`.

    source, target: folders, or URLs of fsspec (s3://bucket/prefix). to: what each becomes: "weights" is what `strip_to_weights` writes. A
    target with a manifest is continued; `force` takes one that holds other things. workers: processes here, as many as cores by default;
    scheduler: "tcp://host:8786", Dask's, whose workers do it instead. shapes: of inputs by patterns of paths, or a TOML file of them:
    {"*.t7": {"": (1, 3, 224, 224)}}. include, exclude: patterns. limit_memory: bytes, limit_time: seconds for one model. archives: look
    into .zip and .tar. epochs: MXNet's. retry: states of rows. dry_run: only look. watch: told how far it is. Scripts call this under
    `if __name__ == "__main__":`, for workers start anew. `.ok` and `.rows` say what became of each. Raises ConversionError.
    """
    from converters.migration.options import MigrationOptions, read_shapes
    from converters.migration.run import migrate as run

    options = MigrationOptions(
        to=tuple(to),
        verify=verify,
        shapes=shapes if isinstance(shapes, Mapping) else read_shapes(shapes),
        include=tuple(include),
        exclude=tuple(exclude),
        limit_memory=limit_memory,
        limit_time=limit_time,
        archives=archives,
        epochs=epochs,
        retry=tuple(retry),
        force=force,
        opset=opset,
        dtype=dtype,
        dynamic=dynamic or {},
        key=key,
        code=code,
        plugin=plugin,
        trust=trust,
    )
    return run(source, target, options, workers=workers, scheduler=scheduler, dry_run=dry_run, watch=watch or (lambda progress: None))


def __getattr__(name: str) -> Any:
    if name == "Preprocess":  # needs numpy, which an import of this package alone doesn't take
        from converters.preprocessing import Preprocess

        return Preprocess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
