"""A tree of models of all formats, broken ones, and files that are no models: the same one every time.

    python -m tests.migration.tree FOLDER [--models 2000] [--broken 200] [--others 300] [--large 10]

The models are the conformance cases, over and over, and small ONNX and PyTorch files made from some; shapes.toml of their inputs is written
beside the folder, tree.json says of each model which files load() takes.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from pathlib import Path

import numpy as np

import converters
from tests.conformance import Case, cases
from tests.readers.caffe.wire import caffemodel

MEGABYTES = (100, 140, 200, 260, 300, 340, 400)


def main() -> None:
    """Makes what the arguments ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, count in (("models", 2000), ("broken", 200), ("others", 300), ("large", 10)):
        parser.add_argument(f"--{name}", type=int, default=count)
    asked = parser.parse_args()
    make(asked.folder, asked.models, asked.broken, asked.others, asked.large)


def make(folder: Path, models: int, broken: int, others: int, large: int) -> dict[str, list[str]]:
    """Writes the tree; the files of each model, by the one that names it."""
    folder.mkdir(parents=True)
    known: dict[str, list[str]] = {}
    shapes: dict[str, dict[str, str]] = {}
    good = [case for framework in ("caffe", "torch7", "mxnet") for case in cases(framework) if _converts(case)]
    for number in range(models):
        case = good[number % len(good)]
        _write_case(case, folder / case.framework / f"{number:05d}_{case.name}", folder, known, shapes)
    for number in range(broken):
        _break(folder, number, random.Random(number))
    for number in range(others):
        _other(folder, number)
    for number in range(large):
        _large(folder / "large" / f"{number:02d}", MEGABYTES[number % len(MEGABYTES)], number, folder, known)
    lines = []
    for path, inputs in shapes.items():
        lines.append(f'"{path}" = {{{", ".join(f"{json.dumps(name)} = {json.dumps(shape)}" for name, shape in inputs.items())}}}')
    folder.with_name("shapes.toml").write_text("\n".join(lines) + "\n")
    folder.with_name("tree.json").write_text(json.dumps(known, indent=1))
    return known


def _converts(case: Case) -> bool:
    """Whether the case needs no option of its own."""
    return case.name != "weights_missing_defaults" and (case.framework != "mxnet" or "net-0000.params" in case.files)


def _write_case(case: Case, place: Path, root: Path, known: dict[str, list[str]], shapes: dict[str, dict[str, str]]) -> None:
    place.mkdir(parents=True)
    paths = case.write_model(place)
    source = str(paths[-1].relative_to(root))
    known[source] = [str(path.relative_to(root)) for path in paths]
    if case.framework == "caffe":
        return
    given = {name: "x".join(map(str, shape)) for name, shape in case.shapes().items() if shape}
    shapes[source] = {"": next(iter(given.values()))} if case.framework == "torch7" and len(given) == 1 else given


def _break(root: Path, number: int, chance: random.Random) -> None:
    """A file that claims to be a model and is cut off, changed, or something else."""
    place = root / "broken" / f"{number:04d}"
    place.mkdir(parents=True)
    framework = ("caffe", "torch7", "mxnet")[number % 3]
    case = cases(framework)[number % len(cases(framework))]
    paths = case.write_model(place)
    data = paths[-1].read_bytes()
    way = number % 4
    if way == 0:
        data = data[: max(1, len(data) // 2)]
    elif way == 1:
        data = b""
    elif way == 2:
        data = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    else:
        data = data[:8] + chance.randbytes(max(8, len(data) - 8))
    paths[-1].write_bytes(data)


def _other(root: Path, number: int) -> None:
    place = root / "others" / f"{number % 30:02d}"
    place.mkdir(parents=True, exist_ok=True)
    kinds = {
        "notes.txt": b"Some words about the models.\n",
        "labels.json": b'{"classes": ["cat", "dog"]}',
        "image.png": b"\x89PNG\r\n\x1a\n" + bytes(40),
        "mean.npy": b"\x93NUMPY\x01\0" + bytes(100),
        "train.py": b"import os\nprint(os.getcwd())\n",
        "paper.pdf": b"%PDF-1.4\n" + bytes(50),
    }
    name = list(kinds)[number % len(kinds)]
    (place / f"{number:04d}_{name}").write_bytes(kinds[name])


def _large(place: Path, megabytes: int, number: int, root: Path, known: dict[str, list[str]]) -> None:
    """A net of few large layers: Caffe, and every second one ONNX made of it."""
    place.mkdir(parents=True)
    net, weights = place / "deploy.prototxt", place / "large.caffemodel"
    wide = 4096
    layers = max(1, megabytes * 1_000_000 // (wide * wide * 4))
    text = [f'name: "large" input: "data" input_dim: 1 input_dim: {wide} input_dim: 1 input_dim: 1']
    stored: dict[str, list[np.ndarray]] = {}
    rest = megabytes * 1_000_000 // 4 - layers * wide * wide
    sizes = [wide] * layers + ([max(1, rest // wide)] if rest > wide else [])
    bottom = "data"
    for index, outputs in enumerate(sizes):
        text.append(
            f'layer {{ name: "fc{index}" type: "InnerProduct" bottom: "{bottom}" top: "fc{index}" '
            f"inner_product_param {{ num_output: {outputs} bias_term: false }} }}"
        )
        numbers = np.random.default_rng([number, index]).standard_normal((outputs, wide), dtype=np.float32)
        stored[f"fc{index}"] = [numbers * np.float32(0.02)]
        bottom = f"fc{index}"
    net.write_text("\n".join(text))
    weights.write_bytes(caffemodel(stored))
    source = weights
    if number % 2:
        source = place / "large.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converters.save(converters.load(net, weights), source)
        net.unlink()
        weights.unlink()
    known[str(source.relative_to(root))] = [str(path.relative_to(root)) for path in ((source,) if number % 2 else (net, weights))]


if __name__ == "__main__":
    main()
