"""The floors of the house: a room imports only from floors below its own, rooms of one floor never import each other, no circles.

Every import counts: those inside functions, those under TYPE_CHECKING, and names of modules that stand in a string for importlib.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.registry import stated_facts

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "converters"

READERS = sorted(f"readers.{path.stem}" for path in (PACKAGE / "readers").iterdir() if path.stem not in ("__init__", "__pycache__"))
"""Each format's reader is a room of its own: a new one needs no line here."""
FLOORS = (
    ("errors",),
    ("files", "packages", "registry", "schemas"),
    ("options", "trust"),
    ("graph", "tensors", "recognition"),
    (*READERS, "writers", "preprocessing"),
    ("runtimes",),
    ("tracing",),
    ("formats",),
    ("verification",),
    ("strip", "matching", "evaluation", "inspection"),
    ("migration",),
    ("",),  # the library's face, __init__.py
    ("cli",),
    ("__main__",),
)
"""From the ground up; errors and the like are what everything on the ground speaks. A package named here is one room."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MOST_NAMES = 25
MOST_FILES = 12
TOPIC_FOLDERS = {"layers", "modules", "operators", "prelude", "opsets"}
"""Folders with a file for each topic of their field; they may hold any number."""

VOCABULARIES = {
    ("readers/caffe/upgrade.py", "V1_TYPES"): "the words of the enum that Caffe's files of 2014 have for types",
    ("readers/caffe/upgrade.py", "_FORKS_TYPES"): "the same of files of forks, each with numbers of its own",
    ("readers/caffe/upgrade.py", "V0_TYPES"): "the words of Caffe's files of 2013",
    ("readers/torch7/weights.py", "_KNOWN"): "classes whose parameters are the usual fields; read where numpy alone is installed",
    ("readers/mxnet/builder.py", "_KERNELS"): "onnxruntime's kernels, by ONNX's names, of which MXNet shares some",
    ("readers/mxnet/symbol.py", "DENSE_TWINS"): "which names symbols may spell `_sparse_...`; read where no lowering is imported",
}
"""Tables of a reader that name layers outside their topic's file, and why they may: they are other people's words, no fact of a layer."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without `converters.`; the package itself is the empty name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    for path in (ROOT / "schemas").glob("*.py"):  # installed as converters.schemas
        found["schemas" if path.stem == "__init__" else f"schemas.{path.stem}"] = path
    return found


MODULES = modules()


def room_of(module: str) -> str:
    """The room that a module lies in: the longest name of the table that it begins with."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in FLOOR_OF:
            return name
    return "" if module in ("", "readers") else module


def imported(path: Path) -> Iterator[str]:
    """The package's modules that a file imports, those too whose name stands in a string; without `converters.`."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            names = [name] if name.removeprefix("converters.") in MODULES and name.startswith("converters.") else []
        for name in names:
            if name == "converters" or name.startswith("converters."):
                inner = name.removeprefix("converters").removeprefix(".")
                while inner not in MODULES and inner:
                    inner = inner.rpartition(".")[0]
                yield inner


IMPORTS = {name: set(imported(path)) - {name} for name, path in MODULES.items()}


def test_every_file_lies_in_a_room() -> None:
    assert not {name: path for name, path in MODULES.items() if room_of(name) not in FLOOR_OF}


@pytest.mark.parametrize("name", MODULES)
def test_arrows_point_down(name: str) -> None:
    here = room_of(name)
    wrong = [
        other
        for other in IMPORTS[name]
        if room_of(other) != here and FLOOR_OF[room_of(other)] >= FLOOR_OF[here] and not (other == "" and here == "__main__")
    ]
    assert not wrong, f"{name} (floor {FLOOR_OF[here]}) imports {wrong}"


def test_no_circles() -> None:
    """Depth first over the imports, by name too; what is still open when it is met again closes a circle. An __init__ counts as a file."""
    state: dict[str, int] = {}

    def visit(name: str, chain: tuple[str, ...]) -> None:
        state[name] = 1
        for other in sorted(IMPORTS[name]):
            assert state.get(other) != 1, (
                f"a circle: {' -> '.join((*chain[chain.index(other) :], other) if other in chain else (name, other))}"
            )
            if other not in state:
                visit(other, (*chain, other))
        state[name] = 2

    for name in MODULES:
        if name not in state:
            visit(name, (name,))


def test_the_house_can_be_looked_over() -> None:
    names = [path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(names) <= MOST_NAMES
    for folder in PACKAGE.rglob("*/"):
        if folder.name not in TOPIC_FOLDERS | {"__pycache__"} and folder.is_dir():
            files = [path for path in folder.iterdir() if path.suffix == ".py"]
            assert len(files) <= MOST_FILES + 1, f"{folder.relative_to(ROOT)} holds {len(files)} files"  # __init__.py beside them


def test_functions_can_be_read_at_a_sitting() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > 60
    ]
    assert not long, "\n".join(long)


def tables(path: Path, names: frozenset[str]) -> Iterator[str]:
    """The variables of a module whose value spells three or more of these names."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            words = {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
            if len(names & {word for text in words for word in text.split()}) >= 3:
                yield ast.unparse(node.targets[0] if isinstance(node, ast.Assign) else node.target)


@pytest.mark.parametrize("topics", ["caffe.layers", "torch7.modules", "mxnet.operators", "tensorflow.operators"])
def test_what_is_known_of_a_layer_stands_at_its_decorator(topics: str) -> None:
    """A reader has no table of layers beside its topic files; those of files' own words are few, and each has its reason."""
    room, _, folder = topics.partition(".")
    names = frozenset(stated_facts(f"converters.readers.{topics}"))
    assert len(names) > 50
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for path in (PACKAGE / "readers" / room).rglob("*.py")
        if folder not in path.relative_to(PACKAGE).parts
        for name in tables(path, names)
    }
    assert found == {place for place in VOCABULARIES if place[0].startswith(f"readers/{room}/")}
