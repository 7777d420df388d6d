"""What verifying takes is worked out before anything runs: a small file can ask for any amount."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import converters
from converters.errors import ConversionError
from converters.graph.builder import GraphBuilder
from converters.verification import limits
from converters.verification.limits import check_limits, needed_bytes
from converters.verification.trials import inputs_to_try


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

    monkeypatch.setattr("converters.verification.compare.run_each", never)
    monkeypatch.setattr("converters.verification.compare.runner", never)
    with pytest.raises(ConversionError, match=r"verifying would take 40.0 GB .* \(.*Tile.* alone 20.0 GB\)"):
        converters.verify(chain(1000, 5_000_000))


def test_one_image_is_run_where_two_are_too_much(monkeypatch):
    model = chain(1000, 100)
    monkeypatch.setattr(limits, "BASE_LIMIT", 2_000_000)
    assert check_limits(model) == 1
    monkeypatch.setattr(limits, "BASE_LIMIT", 4_000_000)
    assert check_limits(model) == 2
    assert converters.verify(model, inputs={"x": np.ones((2, 1, 1000), np.float32)}).ok


def test_weights_allow_for_more(monkeypatch):
    monkeypatch.setattr(limits, "BASE_LIMIT", 0)
    g = GraphBuilder("linear")
    g.output(g.emit("MatMul", g.input("x", (100, 10)), g.param("weight", np.ones((10, 100), np.float32))), "y")
    with pytest.raises(ConversionError):
        check_limits(g.finish())
    g = GraphBuilder("linear")
    g.output(g.emit("MatMul", g.input("x", (10, 100)), g.param("weight", np.ones((100, 100), np.float32))), "y")
    assert check_limits(g.finish()) == 2


def test_what_takes_long_is_refused_before_it_runs(monkeypatch):
    def never(*_, **__):
        raise AssertionError("nothing may run")

    monkeypatch.setattr("converters.verification.compare.run_each", never)
    for name, model in SLOW.items():
        with pytest.raises(ConversionError, match=r"verifying would take too long for a model of this size.*leave --verify out"):
            converters.verify(model())
        assert check_limits(model(), shapes={"x": (1, 8, 8, 8)}), name


def net(op_type: str, *weights: tuple[int, ...], size: int = 1200, **attributes):
    """One operator on x (N, 8, size, size), and the largest number of what it makes."""
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("x", (1, 8, size, size))
    params = [g.param(f"weight{i}", np.full(shape, 0.01, np.float32)) for i, shape in enumerate(weights)]
    g.output(g.emit("ReduceMax", g.emit(op_type, x, *params, **attributes), keepdims=0), "y")
    return g.finish()


def loop(turns: int):
    """x * 1.0 again and again."""
    g = GraphBuilder("loop")
    x = g.input("x", (1, 8, 8, 8))
    i, going, state = (ir.Value(name=name, type=ir.TensorType(t), shape=ir.Shape(s)) for name, t, s in BODY)
    kept = ir.Node("", "Identity", [going], name="kept")
    made = ir.Node("", "Relu", [state], name="made")
    kept.outputs[0].name, made.outputs[0].name = "kept", "made"
    body = ir.Graph([i, going, state], [kept.outputs[0], made.outputs[0]], nodes=[kept, made], name="body")
    g.output(g.emit("Loop", np.array(turns), np.array(True), x, body=body), "y")
    return g.finish()


BODY = (("i", ir.DataType.INT64, ()), ("going", ir.DataType.BOOL, ()), ("state", ir.DataType.FLOAT, (1, 8, 8, 8)))
SLOW = {
    "depthwise": lambda: net("Conv", (8, 1, 31, 31), group=8, pads=[15] * 4),
    "dense": lambda: net("Conv", (8, 8, 61, 61), pads=[30] * 4),
    "pool": lambda: net("MaxPool", kernel_shape=[61, 61], pads=[30] * 4),
}


def test_a_loop_counts_as_often_as_it_turns():
    assert check_limits(loop(1000)) == 2
    with pytest.raises(ConversionError, match=r"too long .* in Loop"):
        check_limits(loop(10_000_000))


def test_what_takes_long_is_tried_once(monkeypatch):
    def trials(model):
        return [name for name, _ in inputs_to_try(model)]

    model = net("MaxPool", kernel_shape=[9, 9], size=100)
    assert trials(model) == ["seed 0, batch 2", "100 times as large", "seed 1, batch 3"]
    monkeypatch.setattr(limits, "STEP_LIMIT", 1.5e9)
    assert trials(model) == ["seed 0, batch 2"]
