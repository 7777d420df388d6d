"""The cases of fixtures/conformance: real frameworks' models with their answers, and the rule by which an answer is right."""

from __future__ import annotations

import functools
import io
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # an environment that only runs files needs neither
    import onnx_ir as ir

FIXTURES = Path(__file__).parent.parent / "fixtures"
TOLERANCE = {"caffe": 1e-4, "torch7": 1e-4, "mxnet": 1e-3}
FILES = {
    "caffe": (("net.prototxt",), ("net.caffemodel", "net.caffemodel.h5")),
    "torch7": (("model.t7",),),
    "mxnet": (("net-symbol.json",), ("net-0000.params",)),
}
ARCHIVES = {
    "caffe": "caffe",
    "caffe-forks": "caffe",
    "torch7": "torch7",
    "torch7-community": "torch7",
    "mxnet": "mxnet",
    "mxnet-nets": "mxnet",
    "mxnet-operators": "mxnet",
}
"""The archives of fixtures/conformance with the framework that answered; TensorFlow's is read by tests/readers/tensorflow/archive.py."""
TYPES = {"tensor(float)": "f4", "tensor(double)": "f8", "tensor(int64)": "i8", "tensor(int32)": "i4", "tensor(float16)": "f2"}
"""numpy's names of onnxruntime's types."""


def read_npz(data: bytes) -> dict[str, np.ndarray]:
    """Arrays by name; names may hold slashes, which numpy.load would mend on some systems."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }


@functools.cache
def _archive(name: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(FIXTURES / "conformance" / f"{name}.zip")


@functools.cache
def _files(archive: str) -> dict[str, list[str]]:
    cases: dict[str, list[str]] = {}
    for path in _archive(archive).namelist():
        name, _, file = path.partition("/")
        cases.setdefault(name, []).append(file)
    return cases


@dataclass(frozen=True)
class Case:
    """One case: a model in `framework`'s files, with inputs and the framework's answers. archive: the file that it is in."""

    framework: str
    name: str
    archive: str

    def __str__(self) -> str:
        return f"{self.archive}-{self.name}"

    def read(self, file: str) -> bytes:
        return _archive(self.archive).read(f"{self.name}/{file}")

    @property
    def files(self) -> list[str]:
        return _files(self.archive)[self.name]

    @property
    def about(self) -> dict:
        return json.loads(self.read("case.json"))

    def write_model(self, folder: Path) -> list[Path]:
        """The model files, in the order that load() takes."""
        paths = []
        for choices in FILES[self.framework]:
            name = next(n for n in choices if n in self.files)
            paths.append(folder / name)
            paths[-1].write_bytes(self.read(name))
        return paths

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The inputs' shapes that the model is loaded at."""
        return {name: array.shape for name, array in read_npz(self.read("input.npz")).items()}

    def load(self, folder: Path) -> ir.Model:
        """The model, at the shapes of its inputs; its files are written to the folder."""
        import converters

        return converters.load(*self.write_model(folder), inputs=self.shapes(), key=self.about.get("model_at") or None)

    def pairs(self) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
        """(inputs, expected outputs); none where no right answer exists."""
        found = []
        for file in ("input.npz", "alt_input.npz", "input_batch3.npz"):
            answer = file.replace("input", "expected")
            if file in self.files and answer in self.files:
                found.append((read_npz(self.read(file)), read_npz(self.read(answer))))
        return found

    def rounds(self, declared: Mapping[str, object]) -> list[tuple[list[np.ndarray], dict[str, np.ndarray]]]:
        """(inputs in the order of the converted net, whose inputs are `declared`; expected outputs)."""
        return [(arrange(given, list(declared)), expected) for given, expected in self.pairs()]

    def faults(self, outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
        """What is wrong with the outputs."""
        return faults(self, outputs, expected)


def cases(framework: str, archive: str = "") -> list[Case]:
    """The cases of an archive of fixtures/conformance, by default the one that is called as the framework."""
    return [Case(framework, name, archive or framework) for name in sorted(_files(archive or framework))]


def all_cases(framework: str) -> list[Case]:
    """The cases of all archives that a framework answered."""
    return [case for archive, answered in ARCHIVES.items() if answered == framework for case in cases(framework, archive)]


def plain(name: str) -> str:
    """A name without the characters that mending changes, to compare by."""
    return re.sub(r"[^0-9A-Za-z]", "_", name).strip("_").lower()


def arrange(inputs: dict[str, np.ndarray], names: list[str]) -> list[np.ndarray]:
    """The case's inputs in the order of the graph's input names."""
    byplain = {plain(k): v for k, v in inputs.items()}
    if {plain(n) for n in names} <= set(byplain):
        return [byplain[plain(n)] for n in names]
    return list(inputs.values())


def faults(case: Case, outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    """What is wrong with the outputs: |got - want| <= t * |want| + t/10 * max(1, max|want|), NaN and infinities in the same places."""
    if case.framework == "mxnet":  # out0, out1 ... in the symbol's order
        expected = dict(sorted(expected.items(), key=lambda item: int(re.sub(r"\D", "", item[0]) or 0)))
        if len(outputs) != len(expected):
            return [f"{len(outputs)} outputs, expected {len(expected)}"]
        outputs = dict(zip(expected, outputs.values(), strict=True))
    found = []
    for position, (name, want) in enumerate(expected.items()):
        close = [k for k in outputs if k == name] or [k for k in outputs if plain(k) == plain(name)]
        if len(close) == 1:
            got = outputs[close[0]]
        elif len(outputs) == len(expected):
            got = list(outputs.values())[position]
        else:
            found.append(f"output {name!r} is missing; there are {list(outputs)}")
            continue
        fault = _difference(got, want, TOLERANCE[case.framework])
        if fault:
            found.append(f"output {name!r}: {fault}")
    return found


def _difference(got: np.ndarray, want: np.ndarray, tolerance: float) -> str:
    if got.shape != want.shape and not got.size == want.size == 1:
        return f"shape {got.shape}, expected {want.shape}"
    got, want = got.astype("f8").reshape(want.shape), want.astype("f8")
    special = ~np.isfinite(want) | (np.abs(want) > 1e37)
    a, b = got[special], want[special]
    if not ((np.isnan(a) & np.isnan(b)) | ((np.sign(a) == np.sign(b)) & (np.abs(a) > 1e37))).all():
        return "NaN, infinity or an empty window's number at other places"
    a, b = got[~special], want[~special]
    error = np.abs(a - b)
    scale = np.abs(b).max(initial=0.0)
    if not (error <= tolerance * np.abs(b) + tolerance / 10 * max(1.0, scale)).all():
        return f"largest difference {error.max():.3g} at scale {scale:.3g}"
    return ""
