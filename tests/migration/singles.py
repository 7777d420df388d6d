"""Holds what a migration wrote against what the single commands write of the same models, bit by bit.

    python -m tests.migration.singles SOURCE TARGET SHAPES.toml

SOURCE is a tree (tests.migration.tree), TARGET what `convert migrate` made of it. Says how many files are the same; returns 1 where
one isn't.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import converters
from converters.cli import main as convert
from converters.migration.options import read_shapes

COMMANDS = {"caffe": "caffe", "torch7": "lua", "mxnet": "mxnet", "tensorflow": "tf", "onnx": "onnx"}


def main() -> int:
    """Compares; the exit status."""
    parser = argparse.ArgumentParser()
    for name in ("source", "target", "shapes"):
        parser.add_argument(name, type=Path)
    asked = parser.parse_args()
    compared = list(compare(asked.source, asked.target, asked.shapes))
    unequal = [path for path, is_same in compared if not is_same]
    print(f"{len(compared) - len(unequal)} of {len(compared)} files are what the single commands write; others: {unequal[:10]}")
    return int(bool(unequal) or not compared)


def compare(source: Path, target: Path, shapes: Path) -> Iterator[tuple[str, bool]]:
    """Each file that was written of the tree, and whether the single command writes the same bytes."""
    import pyarrow.parquet as pq

    given = read_shapes(shapes)
    with tempfile.TemporaryDirectory() as folder:
        for row in pq.read_table(target / "manifest.parquet").to_pylist():
            if row["status"] != "done":
                continue
            inputs = next((inputs for glob, inputs in given.items() if fnmatch.fnmatchcase(row["source"], glob)), {})
            words = [
                word
                for name, shape in inputs.items()
                for word in ("--input", f"{name}={'x'.join(map(str, shape))}" if name else "x".join(map(str, shape)))
            ]
            paths = [str(source / path) for path in row["paths"]]
            names = [Path(output["path"]).name for output in row["outputs"]]
            for name in names:
                if name.endswith(".py"):  # which is written with its .pth
                    continue
                if row["format"] == "onnx" and name.endswith(".onnx"):  # no command makes ONNX of ONNX
                    converters.save(converters.load(*paths), Path(folder, name), force=True)
                    continue
                if "_weights." in name:
                    converters.strip_to_weights(paths[-1], Path(folder, name), force=True)
                    continue
                kind = "onnx" if name.endswith(".onnx") else "torch"
                command = [f"{COMMANDS[row['format']]}2{kind}", *paths, str(Path(folder, name)), *words, "--quiet", "--force"]
                assert convert(command) == 0, command
            for output, name in zip(row["outputs"], names, strict=True):
                yield output["path"], Path(folder, name).read_bytes() == (target / output["path"]).read_bytes()


if __name__ == "__main__":
    sys.exit(main())
