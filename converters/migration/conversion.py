"""One model, in a process of its own: read once, written as everything that is asked for, proven, by the calls of the single commands."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters import formats
from converters.errors import ConversionError, ConversionWarning, NoNetError, UnsupportedError, printable
from converters.graph.names import module_name
from converters.migration.options import GRAPHS
from converters.migration.trees.models import Found
from converters.options import LoadOptions
from converters.packages import MissingPackageError

if TYPE_CHECKING:
    import onnx_ir

MOST_NOTES = 20
_SUFFIX = {"onnx": ".onnx", "torch": ".pth", "safetensors": ".safetensors"}
_ENDINGS = re.compile(
    r"\.(caffemodel\.h5|caffemodel|pth\.tar|pth|pt|t7|onnx|params|(safetensors|bin)\.index\.json|safetensors|ckpt\.index|index|pbtxt|pb|bin|pkl|tar)\Z"
)


@dataclass(frozen=True)
class Task:
    """A model and what is asked of it. identity: the options as text; load: fields of LoadOptions; before: the key of the same model's row
    whose outputs are all there, so that nothing is to be done where the new one is the same. limit_memory: bytes, 0 for the machine's
    share; limit_time: seconds; threads: of whatever computes."""

    found: Found
    source: str
    target: str
    identity: str
    load: Mapping[str, Any]
    to: tuple[str, ...]
    verify: bool
    opset: int | None = None
    dtype: str | None = None
    before: str = ""
    limit_memory: int = 0
    limit_time: float = 600.0
    threads: int = 1

    @property
    def stem(self) -> str:
        """What the files that are written are called, without their endings."""
        name = self.found.source.rpartition("/")[2].lstrip(".")
        return _ENDINGS.sub("", name) or name

    @property
    def imports(self) -> tuple[str, ...]:
        """Modules that take long to import, and that the model needs: its time begins when they are there."""
        named = ["converters.writers.saving"] if self.graphs else ["converters.strip"]
        named += ["torch", "onnxruntime", "converters.verification.compare"] if self.verify else []
        return (*named, *(["torch", "onnxscript", "converters.tracing.program"] if self.found.format == "pytorch" and self.graphs else []))

    @property
    def graphs(self) -> tuple[str, ...]:
        """What is asked for that is made of the net."""
        return () if self.found.weights_only else tuple(word for word in self.to if word in GRAPHS)

    @property
    def names(self) -> list[str]:
        """All files that may be written for the model."""
        endings = (*_SUFFIX.values(), "_weights.pth")
        return [f"{module_name(self.stem)}.py", *(f"{self.stem}{ending}" for ending in endings)]


@dataclass
class Answer:
    """What became of a model; `same`: nothing had to be done. outputs: names of files in the folder."""

    status: str = "done"
    reason: str = ""
    layers: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    key: str = ""
    verified: bool = False
    difference: float | None = None
    notes: list[str] = field(default_factory=list)

    def fail(self, status: str, reason: str) -> None:
        """Notes what went wrong; the first state stands."""
        self.status = status if self.status == "done" else self.status
        self.reason = f"{self.reason}\n{reason}".strip()


def convert(task: Task, places: Mapping[str, str], folder: str) -> Answer:
    """Converts a model. places: its files on this machine, by path; folder: where the results go. Raises nothing that a file can cause."""
    answer = Answer()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConversionWarning)
        _guarded(answer, task, lambda: _convert(task, places, folder, answer))
    notes = dict.fromkeys(str(warning.message) for warning in said if issubclass(warning.category, ConversionWarning))
    answer.notes = [*answer.notes, *notes][:MOST_NOTES]
    return _without_cache(answer, places, task)


def _guarded(answer: Answer, task: Task, work: Callable[[], None]) -> None:
    """Runs a step; what goes wrong is the answer."""
    try:
        work()
    except MissingPackageError as problem:
        answer.fail("lost", str(problem))
    except UnsupportedError as problem:
        answer.layers = list(dict.fromkeys(source.type for source in problem.sources)) or answer.layers
        answer.fail("unsupported", str(problem))
    except NoNetError as problem:
        answer.fail("listed", str(problem))
    except ConversionError as problem:
        is_pickle = any(file.kind == "pickle" for file in task.found.files)  # of anything at all
        answer.fail("listed" if is_pickle else "failed", str(problem))
    except MemoryError:
        answer.fail("killed", "needs more memory than there is")
    except Exception as problem:  # a mistake of ours, or of a plugin: still a row
        answer.fail("failed", f"internal error, please report it: {printable(f'{type(problem).__name__}: {problem}', 400)}")


def _convert(task: Task, places: Mapping[str, str], folder: str, answer: Answer) -> None:
    answer.digests = {path: _digest(place) for path, place in places.items()}
    inputs = "".join(sorted(answer.digests.values()))
    answer.key = hashlib.sha256(f"{task.identity}\n{inputs}".encode()).hexdigest()
    if answer.key == task.before:
        answer.status = "same"
        return
    files = [places[path] for path in task.found.paths]
    if task.graphs:
        _graphs(task, files, Path(folder), answer)
    if "weights" in task.to and answer.status in ("done", "listed"):
        _weights(task, files[-1], Path(folder), answer, optional=answer.status == "done" and bool(task.graphs))


def _digest(place: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(place, "rb", buffering=0) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as problem:
        raise ConversionError(f"can't be read: {problem.strerror or problem}", path=place) from problem
    return digest.hexdigest()


# -- through the graph -----------------------------------------------------------------------------------------------------


def _graphs(task: Task, files: Sequence[str], folder: Path, answer: Answer) -> None:
    row = next(row for row in formats.FORMATS if row.name == task.found.format)
    model = formats.load(files, LoadOptions(**task.load), format=row)
    os.makedirs(folder, exist_ok=True)
    if task.verify and row.name == "torch7":
        from converters.verification.torchfile import read_again

        again = read_again(files[0])
        if not again.ok:
            answer.fail("different", str(again))
            return
    answer.verified = task.verify
    for word in task.graphs:
        _guarded(answer, task, lambda word=word: _write(task, model, folder / f"{task.stem}{_SUFFIX[word]}", answer))  # type: ignore[misc]


def _write(task: Task, model: onnx_ir.Model, target: Path, answer: Answer) -> None:
    opset = task.opset if target.suffix == ".onnx" else None
    dtype = None if task.load.get("dtype") else task.dtype  # the reader makes the doubles of a .t7
    if task.verify:
        from converters.verification.compare import write_verified

        report = write_verified(model, target, opset=opset, dtype=dtype, force=True)
        answer.difference = max(report.worst, answer.difference or 0.0) if report.outputs else answer.difference
        answer.notes += report.notes
        answer.verified = answer.verified and bool(report.outputs)
        if not report.ok:
            answer.fail("different", f"{target.name}: {report}")
            return
    else:
        from converters.writers.saving import save

        save(model, target, opset=opset, dtype=dtype, force=True)
    source = [f"{module_name(target.stem)}.py"] if target.suffix == ".pth" else []
    answer.outputs += [*source, target.name]


# -- weights alone ---------------------------------------------------------------------------------------------------------


def _weights(task: Task, file: str, folder: Path, answer: Answer, *, optional: bool) -> None:
    """strip-to-weights; optional: a net without any is none the worse for it."""
    from converters.strip import StripOptions, strip_to_weights

    target = folder / f"{task.stem}_weights.pth"
    os.makedirs(folder, exist_ok=True)
    options = StripOptions(key=task.load.get("key"), dtype=task.dtype, force=True)
    try:
        report = strip_to_weights(file, target, options)
        if task.verify and task.dtype is None:
            _compare(file, target, task)
    except ConversionError as problem:
        target.unlink(missing_ok=True)
        if not optional:
            raise
        answer.notes.append(f"no weights: {printable(problem, 300)}")
        return
    answer.outputs.append(target.name)
    answer.verified = task.verify and task.dtype is None
    if answer.status == "listed":  # no net, but its weights are there
        answer.status = "done"
        answer.notes.append(answer.reason)
        answer.reason = ""
    if report.hint:
        answer.notes.append(report.hint)


def _compare(file: str, target: Path, task: Task) -> None:
    """Holds the weights that were written against those of the file, bit by bit. Raises ConversionError."""
    import numpy as np

    wanted = formats.load_weights(file, LoadOptions(key=task.load.get("key")))
    got = formats.load_weights(target)
    wrong = [name for name in {**wanted, **got} if name not in wanted or name not in got]
    for name in wanted.keys() & got.keys():
        a, b = np.asarray(wanted[name]), np.asarray(got[name])
        if a.shape != b.shape or a.dtype != b.dtype or a.tobytes() != b.tobytes():
            wrong.append(name)
    if wrong:
        raise ConversionError(f"the weights that were written differ: {', '.join(map(printable, wrong[:10]))}")


def _without_cache(answer: Answer, places: Mapping[str, str], task: Task) -> Answer:
    """The words of an answer with the tree's paths for the places that files had on this machine."""
    for path, place in places.items():
        answer.reason = answer.reason.replace(place, path)
        answer.notes = [note.replace(place, path) for note in answer.notes]
    return answer
