"""The cases of fixtures/conformance/tensorflow.zip: what TensorFlow 2.15.1 answered, in its layouts. Only loading needs more than numpy."""

from __future__ import annotations

import functools
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.conformance import FIXTURES, plain, read_npz

if TYPE_CHECKING:  # an environment that only runs files needs neither
    import onnx_ir as ir

Declared = Mapping[str, Iterable[Any]]
"""The inputs of a converted net, in order, with their shapes; what is open is no int."""


@functools.cache
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(FIXTURES / "conformance" / "tensorflow.zip")


@dataclass(frozen=True)
class Case:
    """One case: a folder with a graph, a checkpoint or a broken file."""

    name: str
    framework: str = "tensorflow"
    archive: str = "tensorflow"

    def __str__(self) -> str:
        return self.name

    @property
    def about(self) -> dict:
        return json.loads(archive().read(f"{self.name}/case.json"))

    @property
    def files(self) -> list[str]:
        return [path.partition("/")[2] for path in archive().namelist() if path.startswith(f"{self.name}/")]

    @property
    def is_graph(self) -> bool:
        return self.about["kind"] == "graph"

    def arrays(self, file: str) -> dict[str, np.ndarray]:
        return read_npz(archive().read(f"{self.name}/{file}"))

    def unpack(self, folder: Path) -> Path:
        for file in self.files:
            archive().extract(f"{self.name}/{file}", folder)
        return folder / self.name

    def load(self, folder: Path) -> ir.Model:
        """The graph as the case says; its files are written to a folder within the folder."""
        import converters

        about, home = self.about, self.unpack(folder)
        paths = [home / about["graph"]] + ([home / about["checkpoint"]] if about.get("checkpoint") else [])
        options = {"outputs": about["outputs"]} if about.get("outputs_given", True) else {}
        return converters.load(*paths, **options, inputs=about.get("give_shapes"), constants=about.get("constants"))

    def rounds(self, declared: Declared) -> list[tuple[list[np.ndarray], dict[str, np.ndarray]]]:
        """(inputs in the order of the converted net, expected outputs in TensorFlow's layouts)."""
        found = []
        for word in ("", "alt_"):
            if f"{word}expected.npz" in self.files:
                given = arranged(self.arrays(f"{word}input.npz"), declared, self.about)
                assert given is not None or self.about.get("alt_size_optional"), f"{word}input doesn't fit {dict(declared)}"
                if given is not None:
                    found.append((given, self.arrays(f"{word}expected.npz")))
        return found

    def faults(self, outputs: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
        """What is wrong with the outputs of a converted net, whose images are (N, C, H, W)."""
        found, about = [], self.about
        for name, want in expected.items():
            got = next(array for key, array in outputs.items() if plain(key) == plain(name))
            layout = about["output_layouts"].get(name, "plain")
            choices = [nchw(want)] if layout == "NHWC" and want.ndim == 4 else [want, nchw(want)] if layout == "free" else [want]
            problems = [difference(got, choice, about.get("tolerance", 1e-4)) for choice in choices]
            if all(problems):
                found.append(f"{name}: {problems[0]}")
        return found


def cases() -> list[Case]:
    return [Case(name) for name in sorted({name.partition("/")[0] for name in archive().namelist()})]


def nchw(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2)


def arranged(given: dict[str, np.ndarray], declared: Declared, about: dict) -> list[np.ndarray] | None:
    """The inputs as the converted net declares them: images as (N, C, H, W); None where a fixed size rules them out."""
    found = []
    for wanted, dimensions in declared.items():
        name = next((key for key in given if plain(key) == plain(wanted)), next(iter(given)))
        shape = [d if isinstance(d, int) else None for d in dimensions]
        array, layout = given[name], (about["inputs"][name] or {}).get("layout", "plain")
        if array.ndim == 4 and (layout == "NHWC" or (layout == "free" and not fits(shape, array))):
            array = nchw(array)
        if not fits(shape, array):
            return None
        found.append(array)
    return found


def fits(shape: list[int | None], array: np.ndarray) -> bool:
    return len(shape) == array.ndim and all(size in (None, n) for size, n in zip(shape, array.shape, strict=True))


def difference(got: np.ndarray, want: np.ndarray, tolerance: float) -> str:
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    scale = max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0))) if want.dtype.kind == "f" else 1.0
    close = np.allclose(got.astype("f8"), want.astype("f8"), rtol=tolerance, atol=tolerance / 10 * scale, equal_nan=True)
    return "" if close else f"{got} instead of {want}"
