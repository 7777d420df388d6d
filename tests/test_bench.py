"""The bench finds what it is there to find."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from converters.graph.builder import GraphBuilder
from tests.bench import check, draw


@dataclass
class Toy:
    """A graph of one input x (2, 3, 4, 5), built by a function."""

    build: Callable[[GraphBuilder, ir.Value], ir.Value]
    expect: Callable[[np.ndarray], Any]
    id: str = "toy"
    shapes: Sequence[tuple[int, ...]] = ((2, 3, 4, 5),)
    span: tuple[float, float] = (-1, 1)
    tolerance: float = 1e-6
    fixed: bool = False
    grows: bool = True

    def load(self, folder: Path) -> ir.Model:
        g = GraphBuilder("toy", symbolic_batch=True)
        g.output(self.build(g, g.input("x", self.shapes[0])), "y")
        return g.finish()

    def expected(self, *inputs: np.ndarray) -> Sequence[Any]:
        return [self.expect(*inputs)]


def first_two(g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.emit("Slice", x, [0], [2], [0])


def pixels(g: GraphBuilder, x: ir.Value) -> ir.Value:
    return g.emit("Reshape", x, [-1, 60])


def test_what_is_right_passes(tmp_path: Path) -> None:
    check(Toy(lambda g, x: g.emit("Relu", x), lambda x: np.maximum(x, 0)), tmp_path)


@pytest.mark.parametrize(
    ("toy", "words"),
    [
        (Toy(lambda g, x: g.emit("Relu", x), lambda x: np.maximum(x, 0.1)), "PyTorch, as declared"),
        (Toy(first_two, lambda x: x), "another batch"),
        (Toy(lambda g, x: g.emit("ReduceSum", x, [2, 3]), lambda x: x[:, :, :4, :5].sum((2, 3), keepdims=True)), "another size"),
        (Toy(pixels, lambda x: x.reshape(len(x), 60)), "another size"),
    ],
)
def test_what_is_wrong_is_found(toy: Toy, words: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=words):
        check(toy, tmp_path)


def test_a_row_has_random_numbers_of_its_own() -> None:
    (one,), (other,), (again,) = draw("ReLU", [(2, 3)]), draw("ELU", [(2, 3)]), draw("ReLU", [(2, 3)])
    assert (one == again).all() and (one != other).all()
