"""What real PyTorch of other versions wrote (tests/old_torch.py), through the converters: a table of version and kind.

    python -m tests.old_torch_table FOLDER/1.5.1 FOLDER/1.8.1 ... [--only lstm] [--weights]

For every kind, four letters: the module's ONNX in onnxruntime, the TorchScript program's, the weights out of the module, those out of its
state_dict. `=` right, `r` refused, `W` wrong, `.` not in that version; exit status 1 where one is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import ConversionError
from converters.options import LoadOptions
from converters.strip import strip_to_weights
from converters.tracing.export import load
from tests.old_torch import KINDS

LIKE, REFUSED, WRONG, ABSENT = "=", "r", "W", "."
NAMES = {"attention": ("query", "key", "value"), "attention_kv": ("query", "key", "value"), "transformer": ("src", "tgt")}
NAMES |= {"lstm_states": ("input", "hx.0", "hx.1"), "cells": ("input", "hx"), "bilinear": ("input1", "input2"), "cosine": ("x1", "x2")}
NAMES |= {"encoder": ("src",), "encoder_gelu": ("src",)}
SLACK = 1e-4


def graph(path: Path, kind: str, arrays: dict[str, np.ndarray], *, trust: bool) -> str:
    """Whether a module's or a program's ONNX gives in onnxruntime what its own torch gave."""
    import onnxruntime

    from converters.writers.onnx.writer import write_onnx

    given = [arrays[f"in_{n}"] for n in range(len([name for name in arrays if name.startswith("in_")]))]
    names = NAMES.get(kind, ("",)) if not trust else None
    try:
        if names is None:
            import torch

            schema: Any = torch.jit.load(str(path)).forward.schema
            names = tuple(argument.name for argument in schema.arguments[1:])
        if len(names) != len(given):
            return REFUSED
        shapes = {name: array.shape for name, array in zip(names, given, strict=True)}
        dtypes = {name: "int64" for name, array in zip(names, given, strict=True) if array.dtype == np.int64}
        inputs: Any = {name: (shape, dtypes[name]) if name in dtypes else shape for name, shape in shapes.items()}
        model = load([path], LoadOptions(inputs=inputs, trust=trust))
    except (ConversionError, RuntimeError):  # RuntimeError: this torch can't read its forebear's program
        return REFUSED
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(model, Path(folder) / "m.onnx")
        session = onnxruntime.InferenceSession(str(Path(folder) / "m.onnx"), providers=["CPUExecutionProvider"])
        got = session.run(None, {port.name: array for port, array in zip(session.get_inputs(), given, strict=True)})
    wanted = [arrays[f"out_{n}"] for n in range(len(got)) if f"out_{n}" in arrays]
    if len(wanted) != len(got) or len([name for name in arrays if name.startswith("out_")]) != len(got):
        return WRONG
    same = all(a.shape == b.shape and np.abs(a - b).max() <= SLACK * max(1, np.abs(b).max()) for a, b in zip(got, wanted, strict=True))
    return LIKE if same else WRONG


def weights(path: Path, arrays: dict[str, np.ndarray], *, more: bool) -> str:
    """Whether the weights are those of state_dict(), bit for bit. more: packed ones may be there too."""
    import torch

    wanted = {name.removeprefix("state_"): array for name, array in arrays.items() if name.startswith("state_")}
    with tempfile.TemporaryDirectory() as folder:
        try:
            strip_to_weights(path, Path(folder) / "w.pth")
        except ConversionError:
            return REFUSED
        got = torch.load(Path(folder) / "w.pth", weights_only=True)
    names = [name for name in got if name in wanted] if more else list(got)
    if names != list(wanted):
        return WRONG
    plain = {name: (got[name].int_repr() if got[name].is_quantized else got[name]).numpy() for name in names}
    return LIKE if all(plain[n].dtype == a.dtype and plain[n].tobytes() == a.tobytes() for n, a in wanted.items()) else WRONG


def cell(folder: Path, kind: str, *, graphs: bool = True) -> str:
    """The four letters of a version and a kind. graphs: convert the models too, which takes seconds each."""
    if not (folder / f"{kind}.npz").exists():
        return ABSENT * 4
    with np.load(folder / f"{kind}.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    letters = ""
    for ending, trust in ((".pth", False), ("_script.pt", True)):
        path = folder / f"{kind}{ending}"
        letters += graph(path, kind, arrays, trust=trust) if graphs and path.exists() and "out_0" in arrays else ABSENT
    for ending in (".pth", "_state.pth"):
        path = folder / f"{kind}{ending}"
        letters += weights(path, arrays, more=kind == "quantized") if path.exists() else ABSENT
    return letters


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--only", default="", help="kinds that have this in their name")
    parser.add_argument("--weights", action="store_true", help="the weights alone")
    given = parser.parse_args()
    print(f"{'':18}" + "".join(f"{folder.name:>10}" for folder in given.folders), flush=True)
    counted: Counter[str] = Counter()
    for kind in KINDS:
        if given.only in kind:
            row = [cell(folder, kind, graphs=not given.weights) for folder in given.folders]
            counted.update("".join(row))
            print(f"{kind:18}" + "".join(f"{letters:>10}" for letters in row), flush=True)
    print(f"right {counted[LIKE]}, refused {counted[REFUSED]}, WRONG {counted[WRONG]}")
    return 1 if counted[WRONG] else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
