"""Recurrent layers in numpy, written from the packages' sources, and the modules of rnn as Lua makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.readers.torch7.lua import Object, module, sizes

State = tuple[np.ndarray, ...]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def over_time(step: Callable[[np.ndarray, State], tuple[np.ndarray, State]], x: np.ndarray, state: State) -> np.ndarray:
    """Outputs of all steps of (T, N, D)."""
    outputs = []
    for item in x:
        y, state = step(item, state)
        outputs.append(y)
    return np.stack(outputs)


def lstm_of_one_matrix(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, h: Any = 0, c: Any = 0, project: Any = None) -> np.ndarray:
    """(T, N, D); weight (D + H, 4H), gates i, f, o, g."""
    size = weight.shape[1] // 4
    width = weight.shape[0] - x.shape[2]
    zeros = np.zeros((x.shape[1], 1))

    def step(item: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        i, f, o, g = np.split(np.concatenate([item, state[0]], 1) @ weight + bias, 4, axis=1)
        cell = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        out = sigmoid(o) * np.tanh(cell)
        out = out if project is None else out @ project
        return out, (out, cell)

    return over_time(step, x, (zeros * np.ones(width) + h, zeros * np.ones(size) + c))


def gru_of_one_matrix(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, h: Any = 0) -> np.ndarray:
    """(T, N, D); weight (D + H, 3H), gates r, u, n; the reset comes before the matrix."""
    size = weight.shape[1] // 3
    width = x.shape[2]

    def step(item: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        (before,) = state
        r, u = np.split(sigmoid(np.concatenate([item, before], 1) @ weight[:, : 2 * size] + bias[: 2 * size]), 2, axis=1)
        n = np.tanh(item @ weight[:width, 2 * size :] + bias[2 * size :] + (r * before) @ weight[width:, 2 * size :])
        after = (1 - u) * n + u * before
        return after, (after,)

    return over_time(step, x, (np.zeros((x.shape[1], size)) + h,))


def rnn_of_cudnn(x: np.ndarray, flat: np.ndarray, size: int, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(T, N, D) of one layer in one direction, the flat weight W, R, bW, bR."""
    width = x.shape[2]
    w, r = flat[: size * width].reshape(size, width), flat[size * width : size * (width + size)].reshape(size, size)
    bias = flat[size * (width + size) :].reshape(2, size).sum(0)

    def step(item: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        h = function(item @ w.T + state[0] @ r.T + bias)
        return h, (h,)

    return over_time(step, x, (np.zeros((x.shape[1], size)),))


# -- modules of rnn ----------------------------------------------------------------------------------------------------


def linear(weight: np.ndarray, bias: np.ndarray | None = None) -> Object:
    return module("nn.Linear" if bias is not None else "nn.LinearNoBias", weight=weight, bias=bias)


def fast_lstm(x2g: np.ndarray, bias: np.ndarray, h2g: np.ndarray, **fields: Any) -> Object:
    """As rnn/FastLSTM.lua builds it: gates i, g, f, o of one matrix."""
    size = len(bias) // 4
    gates = module(
        "nn.Sequential",
        module("nn.NarrowTable", offset=1, length=2),
        module("nn.ParallelTable", linear(x2g, bias), linear(h2g)),
        module("nn.CAddTable"),
        module("nn.Reshape", size=sizes(4, size)),
        module("nn.SplitTable", dimension=1, nInputDims=2),
        module("nn.ParallelTable", *[module(f"nn.{name}") for name in ("Sigmoid", "Tanh", "Sigmoid", "Sigmoid")]),
    )
    new = _product(module("nn.NarrowTable", offset=1, length=2))
    kept = _product(module("nn.ConcatTable", module("nn.SelectTable", index=3), module("nn.SelectTable", index=5)))
    cells = module("nn.Sequential", module("nn.ConcatTable", new, kept), module("nn.CAddTable"))
    squashed = module("nn.Sequential", module("nn.SelectTable", index=1), module("nn.Tanh"))
    out = _product(module("nn.ConcatTable", squashed, module("nn.SelectTable", index=2)))
    step = module(
        "nn.Sequential",
        module("nn.ConcatTable", gates, module("nn.SelectTable", index=3)),
        module("nn.FlattenTable"),
        module("nn.ConcatTable", cells, module("nn.SelectTable", index=4)),
        module("nn.FlattenTable"),
        module("nn.ConcatTable", out, module("nn.SelectTable", index=1)),
    )
    return module("nn.FastLSTM", step, inputSize=x2g.shape[1], outputSize=size, recurrentModule=step, **{"step": 1, **fields})


def fast_lstm_formula(x: np.ndarray, x2g: np.ndarray, bias: np.ndarray, h2g: np.ndarray, h: Any = 0, c: Any = 0) -> np.ndarray:
    size = len(bias) // 4

    def step(item: np.ndarray, state: State) -> tuple[np.ndarray, State]:
        i, g, f, o = np.split(item @ x2g.T + bias + state[0] @ h2g.T, 4, axis=1)
        cell = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        out = sigmoid(o) * np.tanh(cell)
        return out, (out, cell)

    zeros = np.zeros((x.shape[1], size))
    return over_time(step, x, (zeros + h, zeros + c))


def _product(inner: Object) -> Object:
    return module("nn.Sequential", inner, module("nn.CMulTable"))


def sequencer(inner: Object, **fields: Any) -> Object:
    return module("nn.Sequencer", inner, module=inner, **{"_remember": "neither", **fields})
