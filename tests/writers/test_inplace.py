"""An activation or a sum works in place where nobody else reads its input, and only there; gradients are what they are without."""

from __future__ import annotations

import re
import weakref

import numpy as np
import pytest

import converters
from converters.errors import Source
from converters.graph.builder import GraphBuilder
from converters.graph.changes.outputs import ending_in
from converters.runtimes.torch import build_source
from converters.writers.source.writer import write_source

torch = pytest.importorskip("torch")
torch.set_num_threads(1)


def net(before, *, also=False, activation=("Relu", {})):
    """x (N, 4, 6, 6) through a convolution, `before`, an activation and a second convolution. also: what that takes is an output too."""
    rng = np.random.default_rng(0)
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("x", (2, 4, 6, 6))
    y = g.emit("Conv", x, g.param("conv.weight", rng.standard_normal((4, 4, 1, 1)).astype(np.float32)))
    y = before(g, x, y, rng)
    active = g.emit(activation[0], y, **activation[1])
    out = g.emit("Conv", active, g.param("last.weight", rng.standard_normal((3, 4, 1, 1)).astype(np.float32)))
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


def check_in_place(model, word, in_place, path):
    """Whether the source says this word, unless in_place is None.

    Where it works in place it has the numbers and gradients of the same source without, and leaves its input alone.
    """
    text = write_source(model)
    assert in_place is None or (word in text) == in_place
    converters.save(model, path)
    plain = re.sub(r"(\w+) \+= ", r"\1 = \1 + ", re.sub(r",? ?inplace=True", "", text))
    results = []
    for source in (text, plain):
        module = build_source(source, path).train()
        torch.manual_seed(0)  # of a dropout
        x = torch.linspace(-2, 2, 2 * 4 * 36).reshape(2, 4, 6, 6).requires_grad_()
        given = x * 1  # no leaf
        answer = module(given)
        answer.square().sum().backward()
        assert torch.equal(given, x)
        results.append([answer, x.grad, *(p.grad for p in module.parameters())])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_those_without(kind, tmp_path):
    before, in_place = KINDS[kind]
    check_in_place(net(before), "inplace=True", in_place, tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("op_type", "attributes", "in_place"),
    [
        ("LeakyRelu", {"alpha": 0.1}, True),
        ("LeakyRelu", {"alpha": -0.1}, False),  # its gradient can't be told from its result
        ("Elu", {"alpha": 0.5}, False),  # its gradient from its result is rounded otherwise
        ("HardSwish", {}, True),
        ("Sigmoid", {}, False),
    ],
)
def test_other_activations(op_type, attributes, in_place, tmp_path):
    check_in_place(net(batch_norm, activation=(op_type, attributes)), "inplace=True", in_place, tmp_path / "net.pth")


def test_a_clip_from_0_to_6_is_relu6(tmp_path):
    model = net(lambda g, x, y, rng: g.emit("Clip", y, np.float32(0), np.float32(6)), activation=("Identity", {}))
    check_in_place(model, "F.relu6(x, inplace=True)", True, tmp_path / "net.pth")
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0, float("nan"), float("inf"), -float("inf")])
    assert np.array_equal(torch.nn.functional.relu6(x).numpy(), np.clip(x.numpy(), 0, 6), equal_nan=True)


SUMS = {
    "fresh first": (lambda g, x, y, rng: g.emit("Add", y, x), True),
    "fresh second": (lambda g, x, y, rng: g.emit("Add", x, y), True),
    "broadcast to the other": (lambda g, x, y, rng: g.emit("Add", g.emit("ReduceMax", y, [1], keepdims=1), x), False),
    "itself": (lambda g, x, y, rng: g.emit("Add", y, y), False),
    "a result that is needed": (lambda g, x, y, rng: g.emit("Add", g.emit("Sigmoid", y), x), False),
    "read again": (lambda g, x, y, rng: g.emit("Add", g.emit("Add", y, x), g.emit("Tanh", y)), None),
    "of sums": (lambda g, x, y, rng: g.emit("Add", g.emit("Add", y, x), x), True),
}


@pytest.mark.parametrize("kind", SUMS)
def test_sums(kind, tmp_path):
    before, in_place = SUMS[kind]
    check_in_place(net(before), " += ", in_place, tmp_path / "net.pth")


def test_a_convolution_that_is_broadcast_keeps_its_shape(tmp_path):
    """One channel, plus four: the sum doesn't fit into its first term."""
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("x", (2, 4, 6, 6))
    one = g.emit("Conv", x, g.param("conv.weight", np.ones((1, 4, 1, 1), np.float32)))
    g.output(g.emit("Add", one, x), "out")
    check_in_place(g.finish(), " += ", False, tmp_path / "net.pth")


def test_values_that_nobody_reads_any_more_are_let_go(tmp_path):
    """A shortcut is freed behind its sum, not at the end of the forward."""
    rng = np.random.default_rng(0)
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("x", (2, 4, 6, 6))

    def conv(value, name):
        with g.at(Source("net.prototxt", "layer", name, "Convolution"), name):
            value = g.emit("Conv", value, g.param("weight", rng.standard_normal((4, 4, 1, 1)).astype(np.float32)))
            g.bind(value, name)
        return value

    shortcut = conv(x, "shortcut")
    y = g.emit("Add", conv(conv(shortcut, "a"), "b"), shortcut)
    for name in "cdefg":
        y = conv(y, name)
    g.output(y, "out")
    model = g.finish()
    converters.save(model, tmp_path / "net.pth")
    text = write_source(model)
    assert "del shortcut\n" in text
    module = build_source(text, tmp_path / "net.pth")
    seen = {}
    module.shortcut.register_forward_hook(lambda module, given, answer: seen.update(shortcut=weakref.ref(answer)))
    module.c.register_forward_hook(lambda module, given, answer: seen.update(alive=seen["shortcut"]() is not None))
    with torch.no_grad():
        module(torch.ones(1, 4, 6, 6))
    assert seen["alive"] is False


def test_an_output_keeps_its_numbers():
    model = net(KINDS["convolution"][0], also=True)
    assert "inplace" not in write_source(model)
    model = net(KINDS["convolution"][0])
    name = str(model.graph[0].outputs[0].name)
    inner = converters.to_module(ending_in(model, [name, "out"]))(torch.ones(1, 4, 6, 6))[0]
    assert (inner < 0).any()
