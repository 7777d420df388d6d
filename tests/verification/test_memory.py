"""What verifying takes is worked out before anything runs: a small file can ask for any amount."""

from __future__ import annotations

import numpy as np
import pytest

import converters
from converters.errors import ConversionError
from converters.graph.builder import GraphBuilder
from converters.verification import memory
from converters.verification.memory import check_memory, needed_bytes


def chain(size: int, repeats: int, *, open_batch: bool = True):
    """x (N, 1, size): tiled `repeats` times, and its largest number."""
    g = GraphBuilder("chain", symbolic_batch=open_batch)
    wide = g.emit("Tile", g.input("x", (1, 1, size)), [1, repeats, 1])
    g.output(g.emit("ReduceMax", g.emit("Relu", wide), keepdims=0), "y")
    return g.finish()


def test_the_values_that_are_alive_together_are_counted():
    """Input, tiled and rectified once, at batch 2; then the tiled alone with its successor."""
    peak, largest, value = needed_bytes(chain(10, 50), 2, {})
    assert (peak, largest, value.shape) == (2 * 2 * 10 * 50 * 4, 2 * 10 * 50 * 4, (2, 50, 10))
    assert needed_bytes(chain(10, 50), 2, {"x": (7, 1, 10)})[1] == 7 * 10 * 50 * 4


def test_what_is_too_much_is_refused_by_the_layer_that_asks_for_it(monkeypatch):
    def never(*_, **__):
        raise AssertionError("nothing may run")

    monkeypatch.setattr("converters.verification.compare.run_onnx", never)
    monkeypatch.setattr("converters.verification.compare.run_torch", never)
    with pytest.raises(ConversionError, match=r"verifying would take 40.0 GB .* \(.*Tile.* alone 20.0 GB\)"):
        converters.verify(chain(1000, 5_000_000))


def test_one_image_is_run_where_two_are_too_much(monkeypatch):
    model = chain(1000, 100)
    monkeypatch.setattr(memory, "BASE_LIMIT", 1_000_000)
    assert check_memory(model) == 1
    monkeypatch.setattr(memory, "BASE_LIMIT", 2_000_000)
    assert check_memory(model) == 2
    assert converters.verify(model, inputs={"x": np.ones((2, 1, 1000), np.float32)}).ok


def test_weights_allow_for_more(monkeypatch):
    monkeypatch.setattr(memory, "BASE_LIMIT", 0)
    g = GraphBuilder("linear")
    g.output(g.emit("MatMul", g.input("x", (100, 10)), g.param("weight", np.ones((10, 100), np.float32))), "y")
    with pytest.raises(ConversionError):
        check_memory(g.finish())
    g = GraphBuilder("linear")
    g.output(g.emit("MatMul", g.input("x", (10, 100)), g.param("weight", np.ones((100, 100), np.float32))), "y")
    assert check_memory(g.finish()) == 2
