"""What a conversion does grows as the net does: counted in calls of functions, so that no clock and no other process matters."""

from __future__ import annotations

import cProfile
import math
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from converters.cli import main
from tests.benchmarks.nets import CELLS, SHAPES, measured

SIZES = (50, 200)
EXPONENT = 1.08


def calls(words: list[str], folder: Path, monkeypatch) -> int:
    """How many functions, of Python and of C, the command calls; steps of generators count too."""
    monkeypatch.chdir(folder)
    profile = cProfile.Profile()
    profile.enable()
    try:
        assert main([*words, "--quiet", "--force"]) == 0
    finally:
        profile.disable()
    return sum(entry.callcount for entry in profile.getstats())


def check_growth(write, target: str, command: str, folder: Path, monkeypatch) -> None:
    """write: makes the net of so many layers in a folder, and answers the command's words for it."""
    counts = []
    for size in (1, 1, *SIZES):  # the first run imports and compiles
        words = write(folder, size)
        at = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
        counts.append(calls([command, *words[:at], target, *words[at:]], folder, monkeypatch))
    _, start, few, many = counts
    exponent = math.log((many - start) / (few - start)) / math.log(SIZES[1] / SIZES[0])
    assert exponent < EXPONENT, f"{counts[1:]} calls for 1, {SIZES[0]} and {SIZES[1]} layers: exponent {exponent:.2f}"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("command", CELLS)
def test_work_follows_the_number_of_layers(command, shape, tmp_path, monkeypatch):
    maker, target = CELLS[command]
    if not measured(command, shape):
        pytest.skip("the format has no such thing")
    check_growth(lambda folder, size: maker(folder, shape, size), target, command, tmp_path, monkeypatch)


def in_onnx(made, tensors=()):
    """Writes an ONNX file of so many pieces, each a function of its number and the value before it that answers nodes."""

    def write(folder: Path, size: int) -> list[str]:
        nodes, last = [], "data"
        for number in range(size):
            nodes += made(number, last)
            last = nodes[-1].output[0]
        dims = ["T", "N", 4]
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("data", last)]
        held = [numpy_helper.from_array(array, name) for name, array in dict(tensors(size) if tensors else {}).items()]
        graph = helper.make_graph(nodes, "net", values[:1], values[1:], held)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), folder / "model.onnx")
        return ["model.onnx"]

    return write


def constant(number, before):
    array = numpy_helper.from_array(np.float32([number, 1, 2, 3]), "c")
    return [helper.make_node("Constant", [], [f"c{number}"], value=array), helper.make_node("Add", [before, f"c{number}"], [f"y{number}"])]


def dropout(number, before):
    return [helper.make_node("Dropout", [before], [f"d{number}"]), helper.make_node("Relu", [f"d{number}"], [f"y{number}"])]


def size_of(number, before):
    return [helper.make_node("Shape", [before], [f"s{number}"]), helper.make_node("Reshape", [before, f"s{number}"], [f"y{number}"])]


def by_definition(number, before):
    return [helper.make_node("MeanVarianceNormalization", [before], [f"y{number}"], axes=[2])]


def recurrent(number, before):
    lstm = helper.make_node("LSTM", [before, f"w{number}", f"r{number}"], [f"l{number}"], hidden_size=4)
    return [lstm, helper.make_node("Squeeze", [f"l{number}", "one"], [f"y{number}"])]


def recurrent_weights(size):
    arrays = {f"{role}{number}": np.full((1, 16, 4), 0.1, np.float32) for number in range(size) for role in "wr"}
    return {**arrays, "one": np.array([1])}


def product(number, before):
    return [helper.make_node("MatMul", [before, f"a/{'*' * (number % 7)}/{number}"], [f"y{number}"])]


def product_weights(size):
    return {f"a/{'*' * (number % 7)}/{number}": np.eye(4, dtype=np.float32) for number in range(size)}


@pytest.mark.parametrize(
    ("made", "tensors"),
    [
        (constant, ()),
        (dropout, ()),
        (size_of, ()),
        (by_definition, ()),
        (recurrent, recurrent_weights),
        (product, product_weights),
    ],
)
def test_work_follows_the_number_of_operators(made, tensors, tmp_path, monkeypatch):
    check_growth(in_onnx(made, tensors), "out.pth", "onnx2torch", tmp_path, monkeypatch)


def test_a_name_of_thousands_of_parts_is_no_path(tmp_path, monkeypatch):
    name = "a." * 4000 + "weight"
    write = in_onnx(lambda number, before: [helper.make_node("MatMul", [before, name], ["y"])], lambda size: {name: np.eye(4, dtype="f4")})
    write(tmp_path, 1)
    assert calls(["onnx2torch", "model.onnx", "out.pth"], tmp_path, monkeypatch) < 1_000_000
    assert (tmp_path / "out.pth").exists()
