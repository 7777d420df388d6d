"""Source of recurrent layers."""

from __future__ import annotations

import numpy as np

from converters.writers.source.code import number
from converters.writers.source.node import Node, writes


def _recurrent(n: Node, kind: str, states: int, functions: int, defaults: tuple[str, ...]) -> str | list[str]:
    hidden = n.attr("hidden_size")
    direction = n.attr("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise n.error(f"direction {direction!r}")
    count = 2 if direction == "bidirectional" else 1
    names = [str(f) for f in n.attr("activations", ())] or list(defaults) * count
    if len(names) != functions * count:
        raise n.error(f"{len(names)} activations; {functions * count} are needed")
    alphas, betas = list(n.attr("activation_alpha", ())), list(n.attr("activation_beta", ()))
    chosen = []
    for name in names:
        chosen.append(_activation(n, name, alphas, betas))
    clip = n.attr("clip")
    options = [f"direction={direction!r}".replace("'", '"')]
    if chosen != [_PLAIN[d.lower()] for d in defaults] * count:
        options.append(f"activations=[{', '.join(chosen)}]")
    if n.has(3):
        options.append(f"bias={n[3]}")
    if n.has(4):
        options.append(f"lengths={n[4]}")
    if n.has(5):
        options.append(f"initial_h={n[5]}")
    if states == 2 and n.has(6):
        options.append(f"initial_c={n[6]}")
    if states == 2 and n.has(7):
        options.append(f"peephole={n[7]}")
    if clip is not None:
        options.append(f"clip={number(np.float32(clip))}")
    if n.attr("layout", 0):
        options.append("batch_first=True")
    if kind == "gru" and n.attr("linear_before_reset", 0):
        options.append("linear_before_reset=True")
    if kind == "lstm" and n.attr("input_forget", 0):
        options.append("input_forget=True")
    if hidden is None and (n.shape(2) or [None])[-1] is None:
        raise n.error("hidden_size is unknown")
    results = n.unpack(f"{n.function(kind)}({', '.join([n[0], n[1], n[2], *options])})", 1 + states)
    return results[: n.outputs]


_PLAIN = {
    "sigmoid": "torch.sigmoid",
    "tanh": "torch.tanh",
    "relu": "torch.relu",
    "softsign": "F.softsign",
    "softplus": "F.softplus",
}
_WITH_NUMBERS = {
    "leakyrelu": ("lambda x: F.leaky_relu(x, {a})", 0.01, 0.0),
    "thresholdedrelu": ("lambda x: F.threshold(x, {a}, 0.0)", 1.0, 0.0),
    "elu": ("lambda x: F.elu(x, {a})", 1.0, 0.0),
    "hardsigmoid": ("lambda x: ({a} * x + {b}).clamp(0, 1)", 0.2, 0.5),
    "scaledtanh": ("lambda x: {a} * torch.tanh({b} * x)", 1.0, 1.0),
    "affine": ("lambda x: {a} * x + {b}", 1.0, 0.0),
}
_TAKES_BETA = ("hardsigmoid", "scaledtanh", "affine")


def _activation(n: Node, name: str, alphas: list[float], betas: list[float]) -> str:
    """An expression of the function; its numbers are taken off the lists, as ONNX hands them out."""
    key = name.lower()
    if key in _PLAIN:
        return _PLAIN[key]
    if key not in _WITH_NUMBERS:
        raise n.error(f"activation {name!r}")
    template, a, b = _WITH_NUMBERS[key]
    a = alphas.pop(0) if alphas else a
    if key in _TAKES_BETA:
        b = betas.pop(0) if betas else b
    return template.format(a=number(np.float32(a)), b=number(np.float32(b)))


@writes("LSTM")
def lstm(n: Node) -> str | list[str]:
    """Long short-term memory, step by step; all directions, peepholes and activations."""
    return _recurrent(n, "lstm", 2, 3, ("Sigmoid", "Tanh", "Tanh"))


@writes("GRU")
def gru(n: Node) -> str | list[str]:
    """Gated recurrent unit, step by step; all directions and activations."""
    return _recurrent(n, "gru", 1, 2, ("Sigmoid", "Tanh"))


@writes("RNN")
def rnn(n: Node) -> str | list[str]:
    """Elman network, step by step; all directions and activations."""
    return _recurrent(n, "rnn", 1, 1, ("Tanh",))


@writes("ReverseSequence")
def reverse_sequence(n: Node) -> str:
    """Each sequence turned round up to its length."""
    return f"{n.function('reverse_sequence')}({n[0]}, {n[1]}, {n.attr('batch_axis', 1)}, {n.attr('time_axis', 0)})"
