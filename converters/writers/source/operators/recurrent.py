"""Source of recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from converters.graph.recurrent.modules import RecurrentModule, directions_of, is_batch_first, is_reverse, joined_states, sequences_of
from converters.writers.source.code import number
from converters.writers.source.node import Node, arguments, writes


def _module(n: Node, module: RecurrentModule) -> list[str]:
    """A call of nn.LSTM, nn.GRU or nn.RNN, and ONNX's outputs of it."""
    nodes = next(nodes for nodes in module.stacks if nodes[-1] is n.ir)
    first, directions, batch_first = nodes[0], directions_of(n.ir), is_batch_first(n.ir)
    build = arguments(
        module.input_size,
        module.hidden_size,
        num_layers=len(nodes) if len(nodes) > 1 else None,
        nonlinearity='"relu"' if module.is_relu else None,
        bias=None if any(role.startswith("bias") for role in module.tensors) else False,
        batch_first=True if batch_first else None,
        bidirectional=True if directions == 2 else None,
    )
    n.once(f"{n.function('follow_recurrent')}()")
    layer = n.module(f"nn.{module.kind}({build}", module.tensors)
    x = n.tensor_of(first, 0)
    lengths = n[4] if n.has(4) else ""
    x = _turned(n, x, lengths, batch_first) if is_reverse(n.ir) else x
    h = _first_states(n, nodes, 5, batch_first)
    c = _first_states(n, nodes, 6, batch_first) if module.kind == "LSTM" else None
    given = [x]
    if lengths:
        total = n.assign(f"{x}.shape[{int(batch_first)}]", hint="steps") if n.wants(0) else ""
        given = [n.assign(f"{n.function('pack')}({x}, {lengths}{', batch_first=True' if batch_first else ''})")]
    if module.kind == "LSTM" and (h or c):
        h, c = h or n.assign(f"torch.zeros_like({c})"), c or n.assign(f"torch.zeros_like({h})")
        given.append(f"({h}, {c})")
    elif h:
        given.append(h)
    y, last = n.unpack(f"{layer}({', '.join(given)})", 2)
    lasts = [n.assign(f"{last}[0]"), n.assign(f"{last}[1]")] if module.kind == "LSTM" else [last]
    if lengths:
        y = n.assign(f"{n.function('unpack')}({y}, {lengths}, {total}{', batch_first=True' if batch_first else ''})") if total else y
        lasts = [n.assign(f"{n.function('last_states')}({v}, {lengths})") for v in lasts]
    y = _turned(n, y, lengths, batch_first) if is_reverse(n.ir) else y
    for value, _ in sequences_of(n.ir):
        n.written(value, y)
    outputs = [_apart(y, directions, batch_first)]
    for index, state in enumerate(lasts, 1):
        if len(nodes) > 1:
            for value in joined_states(nodes, index) or ():
                n.written(value, state)
            state = f"{state}[-{directions}:]"
        outputs.append(f"{state}.transpose(0, 1)" if batch_first else state)
    return outputs[: n.outputs]


def _apart(y: str, directions: int, batch_first: bool) -> str:
    """ONNX's output, whose directions have an axis of their own, of torch's."""
    axis = 2 if batch_first else 1
    if directions == 1:
        return f"{y}.unsqueeze({axis})"
    return f"{y}.unflatten(2, (2, -1))" + ("" if batch_first else ".transpose(1, 2)")


def _turned(n: Node, x: str, lengths: str, batch_first: bool) -> str:
    time = int(batch_first)
    if lengths:
        return n.assign(f"{n.function('reverse_sequence')}({x}, {lengths}, {1 - time}, {time})")
    return n.assign(f"{x}.flip({time})")


def _first_states(n: Node, nodes: tuple[ir.Node, ...], index: int, batch_first: bool) -> str | None:
    """The first states of all layers, (layers directions, N, H); None where all are zeros."""
    given = [n.input_of(node, index) for node in nodes]
    if not any(given):
        return None
    some = next(text for text in given if text)
    states = [text or n.assign(f"torch.zeros_like({some})") for text in given]
    if len(states) > 1:
        return n.assign(f"torch.cat([{', '.join(states)}])")
    return n.assign(f"{some}.transpose(0, 1).contiguous()") if batch_first else some


def _recurrent(n: Node, kind: str, states: int, functions: int, defaults: tuple[str, ...]) -> str | list[str]:
    module = n.recurrent()
    return _module(n, module) if module is not None else _by_steps(n, kind, states, functions, defaults)


def _by_steps(n: Node, kind: str, states: int, functions: int, defaults: tuple[str, ...], more: Sequence[str] = ()) -> list[str]:
    """A call of a function that goes through the steps one by one. more: options that it has beside ONNX's."""
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
    results = n.unpack(f"{n.function(kind)}({', '.join([n[0], n[1], n[2], *options, *more])})", 1 + states)
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
    """nn.LSTM; step by step with peepholes, clip or activations of its own."""
    return _recurrent(n, "lstm", 2, 3, ("Sigmoid", "Tanh", "Tanh"))


@writes("com.microsoft::DynamicQuantizeLSTM")
def dynamic_quantize_lstm(n: Node) -> list[str]:
    """An LSTM of quantised weights, whose inputs and states are quantised by their own range at each step."""
    weights = [
        n.assign(f"{n.function('quantized_weight')}({n[index]}, {n[scale]}, {n.get(scale + 1)})") for index, scale in ((1, 8), (2, 10))
    ]
    return _by_steps(n.instead(1, weights[0]).instead(2, weights[1]), "lstm", 2, 3, ("Sigmoid", "Tanh", "Tanh"), ["quantized=True"])


@writes("GRU")
def gru(n: Node) -> str | list[str]:
    """nn.GRU; step by step where the reset comes first, with clip or activations of its own."""
    return _recurrent(n, "gru", 1, 2, ("Sigmoid", "Tanh"))


@writes("RNN")
def rnn(n: Node) -> str | list[str]:
    """nn.RNN; step by step with clip or activations that torch's hasn't."""
    return _recurrent(n, "rnn", 1, 1, ("Tanh",))


@writes("ReverseSequence")
def reverse_sequence(n: Node) -> str:
    """Each sequence turned round up to its length."""
    return f"{n.function('reverse_sequence')}({n[0]}, {n[1]}, {n.attr('batch_axis', 1)}, {n.attr('time_axis', 0)})"
