"""How often a model is right: top-1 and top-5 over a folder in ImageNet's layout, or over a list of images."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from converters.errors import ConversionError, FormatError
from converters.evaluation.classes import Classifier
from converters.evaluation.images import Labeled, decoded
from converters.evaluation.model import RunningModel
from converters.files import StrPath
from converters.preprocessing import Preprocess


@dataclass
class Accuracy:
    """images: answered ones. top1, top5: how many of them were right. broken: files that can't be read, and why; not among the images."""

    images: int = 0
    top1: int = 0
    top5: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, place: int) -> None:
        """Counts an image whose own class came at that place, from 0."""
        self.images += 1
        self.top1 += place < 1
        self.top5 += place < 5

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        share = {f"top{n}_accuracy": round(getattr(self, f"top{n}") / self.images, 6) if self.images else None for n in (1, 5)}
        counts = {"images": self.images, "broken": len(self.broken), "top1": self.top1, "top5": self.top5, **share}
        return {**counts, "broken_files": self.broken, "seconds": round(self.seconds, 2)}

    def __str__(self) -> str:
        if not self.images:
            return "no image could be answered"
        parts = (self.top1 / self.images, self.top5 / self.images)
        lines = ["| images | broken | top-1 | top-5 | top-1 error | top-5 error |", "|---|---|---|---|---|---|"]
        cells = [f"{self.images:,}", f"{len(self.broken):,}", *(f"{p:.2%}" for p in parts), *(f"{1 - p:.2%}" for p in parts)]
        return "\n".join([*lines, f"| {' | '.join(cells)} |"])


def evaluate(
    model: RunningModel,
    images: Sequence[Labeled],
    preprocess: Preprocess,
    *,
    batch: int = 32,
    workers: int = 0,
    resume: StrPath | None = None,
    progress: Callable[[Accuracy], None] | None = None,
) -> Accuracy:
    """The accuracy over labeled images. A file that can't be read is named, skipped and counted.

    batch: images that the model gets at once. workers: threads that decode. resume: a file that takes each answer as it comes; a run
    that finds it goes on where the other stopped. progress is told the state after each batch. Raises ConversionError where the model
    doesn't take the images, for a label that it has no class for, and for a resume file of another evaluation.
    """
    begun = time.perf_counter()
    state, classifier = Accuracy(), Classifier(model, preprocess)
    with _Answers(resume, images, preprocess) as answers:
        for path, place in answers.before.items():
            _count(state, path, place)
        left = [image for image in images if image.path not in answers.before]
        pending: list[tuple[Labeled, NDArray[Any]]] = []
        for position, pixels in decoded(preprocess, [image.path for image in left], workers=workers, ahead=4 * batch):
            if isinstance(pixels, str):
                answers.note(state, left[position].path, pixels)
                continue
            pending.append((left[position], pixels))
            if len(pending) == batch:
                _answer(classifier, pending, answers, state)
                pending.clear()
                if progress is not None:
                    progress(state)
        if pending:
            _answer(classifier, pending, answers, state)
    state.seconds = time.perf_counter() - begun
    if progress is not None:
        progress(state)
    return state


def _answer(classifier: Classifier, pending: Sequence[tuple[Labeled, NDArray[Any]]], answers: _Answers, state: Accuracy) -> None:
    rows = classifier([pixels for _, pixels in pending])
    for (image, _), row in zip(pending, rows, strict=True):
        if image.label >= len(row):
            raise ConversionError(
                f"is of class {image.label}, but the model has {len(row)} classes", path=image.path, hint="they count from 0"
            )
        place = int(np.flatnonzero(np.argsort(-row, kind="stable") == image.label)[0])
        answers.note(state, image.path, place)


def _count(state: Accuracy, path: str, place: int | str) -> None:
    if isinstance(place, str):
        state.broken[path] = place
    else:
        state.add(place)


class _Answers:
    """The file that remembers each answer: a line of JSON with the path, and the place of the image's own class or what was wrong."""

    def __init__(self, path: StrPath | None, images: Sequence[Labeled], preprocess: Preprocess) -> None:
        self.path = None if path is None else Path(path)
        self.before: dict[str, int | str] = {}
        asked = json.dumps([preprocess.to_dict(), [[image.path, image.label] for image in images]])
        self._digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
        self._file: TextIO | None = None

    def __enter__(self) -> _Answers:
        if self.path is None:
            return self
        if self.path.exists():
            self._read(self.path)
            self._file = self.path.open("a", encoding="utf-8")
        else:
            self._file = self.path.open("w", encoding="utf-8")
            print(json.dumps({"evaluation": self._digest}), file=self._file, flush=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def note(self, state: Accuracy, path: str, place: int | str) -> None:
        """Counts an answer, and writes it down."""
        _count(state, path, place)
        if self._file is not None:
            print(json.dumps([path, place]), file=self._file, flush=True)

    def _read(self, path: Path) -> None:
        """The answers of an earlier run; a last line that was cut short is taken off."""
        whole = path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        if len(kept) < len(whole):
            os.truncate(path, len(kept))
        try:
            head, *lines = [json.loads(line) for line in kept.decode().splitlines()]
            digest = head["evaluation"]
            self.before = dict(lines)
        except (ValueError, KeyError, TypeError) as problem:
            raise FormatError("is no record of an evaluation", path=str(path)) from problem
        if digest != self._digest:
            raise ConversionError("is the record of another evaluation (other images, labels or preprocessing)", path=str(path))
