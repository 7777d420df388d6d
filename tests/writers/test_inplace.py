"""A ReLU works in place where nobody else reads its input, and only there; gradients are what they are without."""

from __future__ import annotations

import re

import numpy as np
import pytest

import converters
from converters.graph.builder import GraphBuilder
from converters.graph.changes.outputs import ending_in
from converters.runtimes.torch import build_source
from converters.writers.source.writer import write_source

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def net(before, *, also=False):
    """x (N, 4, 6, 6) through a convolution, `before`, a ReLU and a second convolution. also: what the ReLU takes is an output too."""
    rng = np.random.default_rng(0)
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("x", (2, 4, 6, 6))
    y = g.emit("Conv", x, g.param("conv.weight", rng.standard_normal((4, 4, 1, 1)).astype(np.float32)))
    y = before(g, x, y, rng)
    out = g.emit("Conv", g.emit("Relu", y), g.param("last.weight", rng.standard_normal((3, 4, 1, 1)).astype(np.float32)))
    g.output(out, "out")
    if also:
        g.output(y, "inner")
    return g.finish()


def batch_norm(g, x, y, rng):
    roles = [g.param(f"bn.{r}", rng.uniform(0.5, 2, 4).astype(np.float32)) for r in ("weight", "bias", "running_mean", "running_var")]
    return g.emit("BatchNormalization", y, *roles)


KINDS = {
    "convolution": (lambda g, x, y, rng: y, True),
    "batch norm": (batch_norm, True),
    "sum": (lambda g, x, y, rng: g.emit("Add", y, x), True),
    "joined": (lambda g, x, y, rng: g.emit("Slice", g.emit("Concat", y, x, axis=1), [2], [6], [1]), False),
    "sigmoid": (lambda g, x, y, rng: g.emit("Sigmoid", y), False),
    "dropout": (lambda g, x, y, rng: g.emit("Dropout", y), False),
    "input": (lambda g, x, y, rng: x, False),
    "view": (lambda g, x, y, rng: g.emit("Transpose", y, perm=[0, 1, 3, 2]), False),
    "twice": (lambda g, x, y, rng: g.emit("Relu", g.emit("Relu", y)), None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_without(kind, tmp_path):
    before, in_place = KINDS[kind]
    model = net(before)
    text = write_source(model)
    if in_place is not None:
        assert ("inplace=True" in text) == in_place
    converters.save(model, tmp_path / "net.pth")
    plain = re.sub(r",? ?inplace=True", "", text)
    results = []
    for source in (text, plain):
        module = build_source(source, tmp_path / "net.pth").train()
        torch.manual_seed(0)  # of a dropout
        x = torch.linspace(-2, 2, 2 * 4 * 36).reshape(2, 4, 6, 6).requires_grad_()
        given = x * 1  # no leaf
        answer = module(given)
        answer.square().sum().backward()
        assert torch.equal(given, x)
        results.append([answer, x.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_an_output_keeps_its_numbers():
    model = net(KINDS["convolution"][0], also=True)
    assert "inplace" not in write_source(model)
    model = net(KINDS["convolution"][0])
    name = str(model.graph[0].outputs[0].name)
    inner = converters.to_module(ending_in(model, [name, "out"]))(torch.ones(1, 4, 6, 6))[0]
    assert (inner < 0).any()
