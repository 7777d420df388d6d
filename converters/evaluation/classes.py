"""Which class an image is of: probabilities from whatever a net ends in, averaged over crops as the original averaged them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, FormatError
from converters.evaluation.images import decoded, find_images
from converters.evaluation.model import RunningModel
from converters.files import StrPath
from converters.preprocessing import Preprocess

Array = NDArray[Any]
_SYNSET = re.compile(r"(n\d{8})\s+(.*)")
_ROUNDING = 1e-3  # how far from 1 a softmax's float16 sums may be


@dataclass(frozen=True)
class Labels:
    """Names of the classes in order, and the numbers of names that folders may have: ImageNet's ids, or the names themselves."""

    names: tuple[str, ...]
    numbers: dict[str, int]


def read_labels(path: StrPath) -> Labels:
    """A file with a class on each line: its name, or ImageNet's `n01440764 tench, Tinca tinca`. Raises FormatError for an empty one."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file.read().splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise FormatError(f"can't be read as a list of labels ({problem})", path=os.fspath(path)) from problem
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise FormatError("holds no labels", path=os.fspath(path))
    synsets = [_SYNSET.fullmatch(line) for line in lines]
    names = tuple(found[2] if found else line for found, line in zip(synsets, lines, strict=True))
    keys = [found[1] if found else line for found, line in zip(synsets, lines, strict=True)]
    return Labels(names, {key: number for number, key in enumerate(keys)})


@dataclass
class Answer:
    """What a model says of an image: the most likely classes first, as (index, label, probability), or what is wrong with the file."""

    path: str
    top: list[tuple[int, str, float]] = field(default_factory=list)
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        if self.error:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "top": [{"index": i, "label": label, "probability": p} for i, label, p in self.top]}


class Classifier:
    """A model's outputs as probabilities (N, K), one row for each image, whichever of softmax, log-softmax or logits it ends in.

    ending: what it turned out to end in, once it has run.
    """

    def __init__(self, model: RunningModel, preprocess: Preprocess) -> None:
        if len(model.names) != 1:
            raise ConversionError(
                f"the model answers {len(model.names)} outputs ({', '.join(model.names)})", hint="choose one with --output"
            )
        self.model, self.preprocess, self.ending = model, preprocess, ""

    def __call__(self, images: Sequence[Array]) -> NDArray[np.float64]:
        """images: each (crops, C, H, W). Raises ConversionError where the model refuses them, or answers no classes."""
        crops = len(images[0])
        (answer,) = self.model(np.concatenate(images))
        rows = answer.reshape(len(answer), -1).astype(np.float64)
        if len(answer) != crops * len(images) or not rows.shape[1]:
            raise ConversionError(f"the model answers {answer.shape} for {crops * len(images)} images; that is no row of classes for each")
        self.ending = self.ending or _ending(rows)
        logs = self._logarithms(rows).reshape(len(images), crops, -1)
        if crops > 1 and self.preprocess.average == "probabilities":
            averaged: NDArray[np.float64] = np.exp(logs).mean(axis=1)
            return averaged
        return np.exp(_log_softmax(logs.mean(axis=1)))  # log-probabilities are logits but for a constant of each crop

    def _logarithms(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.ending == "probabilities":
            with np.errstate(divide="ignore"):
                logs: NDArray[np.float64] = np.log(rows.clip(min=0))
            return logs
        return rows if self.ending == "log-probabilities" else _log_softmax(rows)


def _ending(rows: NDArray[np.float64]) -> str:
    """What a net ends in, by its numbers: no logits of a trained net happen to sum to 1 for every image."""
    if rows.shape[1] == 1:
        return "logits"
    if (rows >= 0).all() and np.abs(rows.sum(axis=1) - 1).max() < _ROUNDING:
        return "probabilities"
    if (rows <= 0).all() and np.abs(np.exp(rows).sum(axis=1) - 1).max() < _ROUNDING:
        return "log-probabilities"
    return "logits"


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def classify(
    model: RunningModel,
    images: Sequence[StrPath],
    preprocess: Preprocess,
    *,
    labels: Labels | None = None,
    top: int = 5,
    notify: Callable[[str], None] | None = None,
) -> list[Answer]:
    """The `top` most likely classes of each image, in the order of the images; folders stand for the images in them.

    A file that can't be read gets an Answer with its error. notify is told once where a softmax had to be added. Raises ConversionError
    where the model doesn't take the preprocessed images, or has another number of classes than there are labels.
    """
    classifier = Classifier(model, preprocess)
    paths = find_images(images)
    answers = []
    for position, pixels in decoded(preprocess, paths):
        if isinstance(pixels, str):
            answers.append(Answer(paths[position], error=pixels))
            continue
        told = bool(classifier.ending)
        (row,) = classifier([pixels])
        if notify is not None and not told and classifier.ending == "logits":
            notify("the net ends in logits: a softmax is applied to them")
        if labels is not None and len(labels.names) != len(row):
            raise ConversionError(f"the model has {len(row)} classes, the labels file {len(labels.names)}")
        best = np.argsort(-row, kind="stable")[:top]
        answers.append(Answer(paths[position], [(int(i), labels.names[i] if labels else str(i), float(row[i])) for i in best]))
    return answers
