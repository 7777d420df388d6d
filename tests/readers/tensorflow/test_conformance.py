"""Graphs, checkpoints and broken files of TensorFlow 2.15.1 with its answers: numbers in PyTorch, onnxruntime and written source."""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import converters
from tests.conformance import FIXTURES, plain, read_npz
from tests.test_conformance import run_onnx, written_module


@functools.cache
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(FIXTURES / "conformance" / "tensorflow.zip")


def names() -> list[str]:
    return sorted({name.partition("/")[0] for name in archive().namelist()})


def unpacked(name: str, folder: Path) -> tuple[dict, Path]:
    for entry in archive().namelist():
        if entry.startswith(f"{name}/"):
            archive().extract(entry, folder)
    return json.loads((folder / name / "case.json").read_text()), folder / name


def arrays(path: Path) -> dict[str, np.ndarray]:
    return read_npz(path.read_bytes())


def nchw(array: np.ndarray) -> np.ndarray:
    return array.transpose(0, 3, 1, 2)


def arranged(given: dict[str, np.ndarray], model, about: dict) -> list[np.ndarray] | None:
    """The inputs as the converted net declares them: images as (N, C, H, W); None where a fixed size rules them out."""
    found = []
    for value in model.graph.inputs:
        name = next((key for key in given if plain(key) == plain(value.name)), next(iter(given)))
        shape = [d if isinstance(d, int) else None for d in value.shape]
        array, layout = given[name], (about["inputs"][name] or {}).get("layout", "plain")
        if array.ndim == 4 and (layout == "NHWC" or (layout == "free" and not fits(shape, array))):
            array = nchw(array)
        if not fits(shape, array):
            return None
        found.append(array)
    return found


def fits(shape: list[int | None], array: np.ndarray) -> bool:
    return len(shape) == array.ndim and all(size in (None, n) for size, n in zip(shape, array.shape, strict=True))


def compare(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], about: dict, where: str) -> None:
    for name, want in wanted.items():
        got = next(array for key, array in found.items() if plain(key) == plain(name))
        layout = about["output_layouts"].get(name, "plain")
        choices = [nchw(want)] if layout == "NHWC" and want.ndim == 4 else [want, nchw(want)] if layout == "free" else [want]
        problems = [difference(got, choice, about.get("tolerance", 1e-4)) for choice in choices]
        assert not all(problems), f"{where}: {name}: {problems[0]}"


def difference(got: np.ndarray, want: np.ndarray, tolerance: float) -> str:
    if got.shape != want.shape:
        return f"shape {got.shape}, expected {want.shape}"
    scale = max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0))) if want.dtype.kind == "f" else 1.0
    close = np.allclose(got.astype("f8"), want.astype("f8"), rtol=tolerance, atol=tolerance / 10 * scale, equal_nan=True)
    return "" if close else f"{got} instead of {want}"


def run_module(module: torch.nn.Module, given: list[np.ndarray]) -> list[np.ndarray]:
    answer = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in given))
    return [tensor.detach().numpy() for tensor in (answer if isinstance(answer, tuple) else (answer,))]


def check_graph(about: dict, case: Path, folder: Path) -> None:
    paths = [case / about["graph"]] + ([case / about["checkpoint"]] if about.get("checkpoint") else [])
    options = {"outputs": about["outputs"]} if about.get("outputs_given", True) else {}
    model = converters.load(*paths, **options, inputs=about.get("give_shapes"), constants=about.get("constants"))
    converters.save(model, folder / "out.onnx")
    converters.save(model, folder / "out.pth")
    module, outputs = converters.to_module(model), [str(value.name) for value in model.graph.outputs]
    runs = {
        "PyTorch": lambda given: run_module(module, given),
        "onnxruntime": lambda given: run_onnx(folder / "out.onnx", given),
        "source": lambda given: run_module(written_module(folder / "out.pth"), given),
    }
    for word in ("", "alt_"):
        if (case / f"{word}expected.npz").exists():
            given = arranged(arrays(case / f"{word}input.npz"), model, about)
            assert given is not None or about.get("alt_size_optional"), word
            for where, run in runs.items() if given is not None else ():
                compare(dict(zip(outputs, run(given), strict=True)), arrays(case / f"{word}expected.npz"), about, where)


def check_weights(about: dict, case: Path) -> None:
    weights = converters.load_weights(case / about["checkpoint"])
    found = {name: np.asarray(tensor.numpy()) for name, tensor in weights.items()}
    if (case / "expected.npz").exists():
        wanted, sums = arrays(case / "expected.npz"), about.get("sha256", {})
        assert set(wanted) | set(sums) >= set(found) >= (set(wanted) | set(sums)) - set(about.get("optional", ()))
        for name, got in found.items():
            got = got.astype("f4") if got.dtype.name == "bfloat16" else got
            if name in sums:
                assert hashlib.sha256(np.ascontiguousarray(got).tobytes()).hexdigest() == sums[name]
            else:
                assert (got.dtype, got.shape) == (wanted[name].dtype, wanted[name].shape)
                assert np.ascontiguousarray(got).tobytes() == np.ascontiguousarray(wanted[name]).tobytes(), name


@pytest.mark.filterwarnings("ignore::converters.ConversionWarning")
@pytest.mark.parametrize("name", names())
def test_case(name, tmp_path):
    about, case = unpacked(name, tmp_path)
    is_weights = about["kind"] == "weights" or about.get("call") == "load_weights"
    before = set(tmp_path.rglob("*"))
    try:
        check_weights(about, case) if is_weights else check_graph(about, case, tmp_path)
    except converters.ConversionError:
        assert about["expect"] != "convert"
    else:
        assert about["expect"] != "refuse", "accepted, though no right answer exists"
    written = {path.name for path in set(tmp_path.rglob("*")) - before}
    assert written <= {"out.onnx", "out.pth", "out.py", "__pycache__"} | {name for name in written if name.endswith(".pyc")}
