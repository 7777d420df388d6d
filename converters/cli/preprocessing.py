"""The words about preprocessing that commands share: a recipe, a file, single options; and which of them count."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from converters.cli.arguments import UsageError
from converters.errors import ConversionError, warn
from converters.graph.provenance import PREPROCESSING, SOURCES

if TYPE_CHECKING:
    import onnx_ir

    from converters.preprocessing import Preprocess

_NEEDED = "say how images are preprocessed: --recipe NAME, --preprocess FILE.json, or --channels --scale --mean --std and the like"


def add_preprocessing(command: argparse.ArgumentParser) -> None:
    """--recipe, --preprocess, and an option for each step."""
    group = command.add_argument_group("preprocessing", "said here, else what the model's files say; single options change the rest")
    group.add_argument("--recipe", metavar="NAME", help="that of a published model, by name")
    group.add_argument("--preprocess", metavar="FILE.json", help="as JSON fields")
    group.add_argument("--resize", metavar="SIZE", help="256: the short side; 256x256: squashed; none")
    group.add_argument("--interpolation", metavar="NAME", help="opencv-linear, pil-bilinear, pil-lanczos, torch-bicubic or skimage-linear")
    group.add_argument("--crop", type=int, metavar="SIZE", help="side of the square that is kept, 0 for all")
    group.add_argument("--crops", type=int, choices=(1, 10, 12), help="how many squares are looked at")
    group.add_argument("--scale", type=int, choices=(1, 255, 256), help="the largest value before mean and std")
    group.add_argument("--mean", type=_numbers, metavar="A,B,C", help="taken off, for each channel in the net's order; one for all")
    group.add_argument("--std", type=_numbers, metavar="A,B,C", help="divided by, likewise")
    group.add_argument("--channels", choices=("rgb", "bgr", "gray", "lab"), help="the net's channels in order")
    group.add_argument("--mean-file", metavar="FILE", help="Caffe's mean.binaryproto, for the means of the channels")


def add_changes(command: argparse.ArgumentParser, kind: str) -> None:
    """What a conversion to "torch" or "onnx" may do to its model besides."""
    if kind == "torch":
        command.add_argument("--classes", type=int, metavar="N", help="a fresh last linear layer of N classes, to be trained")
    add_preprocessing(command)
    command.add_argument(
        "--fold-batchnorm",
        action="store_true",
        help="make batch normalizations part of the layers before them: faster, the same numbers but for rounding, not to be trained",
    )
    command.add_argument(
        "--fold-preprocessing",
        action="store_true",
        help="put scale, mean, std and the order of channels into the net, which takes pixels then",
    )


def _numbers(word: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in word.split(","))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{word}: write numbers with commas between") from problem


def preprocess_of(asked: argparse.Namespace, stored: Callable[[], Preprocess | None]) -> Preprocess | None:
    """What was asked for, else what is stored, single options on top; None where there is neither. Raises ConversionError."""
    if asked.recipe is not None and asked.preprocess is not None:
        raise UsageError("give --recipe or --preprocess, not both")
    if asked.mean is not None and asked.mean_file is not None:
        raise UsageError("give --mean or --mean-file, not both")
    names = ("resize", "interpolation", "crop", "crops", "scale", "mean", "std", "channels")
    said = {name: getattr(asked, name) for name in names}
    if asked.recipe is asked.preprocess is asked.mean_file is None and not any(value is not None for value in said.values()):
        return stored()
    from converters.evaluation.stored import read_mean_file
    from converters.preprocessing import Preprocess
    from converters.preprocessing.choosing import Choices, chosen

    base: Preprocess | None
    if asked.recipe is not None:
        base = Preprocess.recipe(asked.recipe)
    elif asked.preprocess is not None:
        base = Preprocess.from_json(asked.preprocess)
    else:
        base = stored()
    if asked.mean_file is not None:
        said["mean"] = read_mean_file(asked.mean_file)
    choices = Choices(**said)
    return chosen(choices, base) if choices else base


def needed(asked: argparse.Namespace, stored: Callable[[], Preprocess | None], proposal: str = "") -> Preprocess:
    """As `preprocess_of`; raises UsageError where nothing is said anywhere: there is no default."""
    found = preprocess_of(asked, stored)
    if found is None:
        raise UsageError(f"{_NEEDED}{f'; {proposal}' if proposal else ''}")
    return found


def change_model(asked: argparse.Namespace, model: onnx_ir.Model, files: Sequence[str]) -> list[str]:
    """What a conversion does to its model besides: a preprocessing noted or folded in, a fresh classifier. Says what was done."""
    done = []
    if (classes := getattr(asked, "classes", None)) is not None:
        from converters.graph.changes import replace_classifier

        done.append(replace_classifier(model, classes))
    if asked.fold_batchnorm:
        from converters.graph.changes import fold_batchnorm

        done.append(fold_batchnorm(model))
    dims = next((value.shape for value in model.graph.inputs if value.shape is not None and len(value.shape) == 4), None)
    channels = dims[1] if dims is not None and isinstance(dims[1], int) else None

    def stored() -> Preprocess | None:
        if PREPROCESSING not in model.metadata_props and not _may_state(asked.format.name, model):
            return None  # before anything is imported
        from converters.evaluation.stored import stored_preprocess

        found = stored_preprocess(model)
        if found is not None or asked.format.name not in ("caffe", "pytorch"):
            return found
        try:
            return stored_preprocess(files, channels=channels, mean_file=asked.mean_file)
        except ConversionError as problem:
            if asked.fold_preprocessing:
                raise
            warn(f"the preprocessing that the file states isn't kept: {problem}")
            return None

    if not asked.fold_preprocessing:
        found = preprocess_of(asked, stored)
        if found is not None:
            found.attach(model)
        return done
    from converters.graph.changes import fold_input

    preprocess = needed(asked, stored)
    done.append(fold_input(model, *preprocess.linear()))
    preprocess.raw().attach(model)
    return done


def _may_state(name: str, model: onnx_ir.Model) -> bool:
    """Whether the first of the model's files may say what is done to an image: a prototxt in its own words, a .pth by what lies beside."""
    return name == "pytorch" or (name == "caffe" and any(b"transform_param" in bytes(file.view) for file in model.meta[SOURCES][:1]))
