"""LSTM and RNN, against numpy steps."""

from pathlib import Path

import numpy as np
import pytest

from tests.readers.caffe.formulas import lstm, rnn, sigmoid
from tests.readers.caffe.layer_case import LayerCase

CONT = np.array([[0, 0], [1, 1], [0, 1], [1, 1]])
X = (4, 2, 3)
LSTM = [(20, 3), (20,), (20, 5)]
RNN = [(5, 3), (5,), (5, 5), (5, 5), (5,)]
OPEN = "recurrent_param { num_output: 5 expose_hidden: true }"
SHUT = "recurrent_param { num_output: 5 }"


def static_last(function):
    """Moves the static weights, which Caffe stores third, to where the formulas take them."""
    return lambda x, cont, static, w_x, b, w_static, *rest: function(x, cont, w_x, b, *rest, static=static, w_static=w_static)


def lstm_unit(c, gates, cont):
    i, f, o, new = np.split(gates, 4, 2)
    state = sigmoid(f) * cont[:, :, None] * c + sigmoid(i) * np.tanh(new)
    return state, sigmoid(o) * np.tanh(state)


CASES = [
    LayerCase("LSTM", SHUT, [X, CONT], lambda *a: lstm(*a)[0], LSTM, fixed=True),
    LayerCase("LSTM", SHUT, [(1, 2, 3), CONT[:1]], lambda *a: lstm(*a)[0], LSTM, fixed=True, name="LSTM-one-step"),
    LayerCase("LSTM", SHUT, [(4, 2, 3, 2), CONT], lambda *a: lstm(*a)[0], [(20, 6), *LSTM[1:]], fixed=True, name="LSTM-4d"),
    LayerCase(
        "LSTM",
        SHUT,
        [X, CONT, (2, 4)],
        static_last(lambda *a, **k: lstm(*a, **k)[0]),
        [*LSTM[:2], (20, 4), LSTM[2]],
        fixed=True,
        name="LSTM-static",
    ),
    LayerCase(
        "LSTM",
        OPEN,
        [X, CONT + 0.5, (1, 2, 5), (1, 2, 5)],
        lambda x, cont, h, c, *w: lstm(x, cont, *w, h=h, c=c),
        LSTM,
        tops=3,
        fixed=True,
    ),
    LayerCase(
        "LSTM",
        OPEN,
        [X, CONT, (2, 4), (1, 2, 5), (1, 2, 5)],
        lambda x, cont, s, h, c, w_x, b, w_s, w_h: lstm(x, cont, w_x, b, w_h, s, w_s, h, c),
        [*LSTM[:2], (20, 4), LSTM[2]],
        tops=3,
        fixed=True,
        name="LSTM-static-open",
    ),
    LayerCase("LSTMUnit", "", [(1, 2, 3), (1, 2, 12), CONT[:1] + 0.5], lstm_unit, tops=2, fixed=True),
    LayerCase("RNN", SHUT, [X, CONT], lambda *a: rnn(*a)[0], RNN, fixed=True),
    LayerCase(
        "RNN",
        SHUT,
        [X, CONT, (2, 4)],
        static_last(lambda *a, **k: rnn(*a, **k)[0]),
        [*RNN[:2], (5, 4), *RNN[2:]],
        fixed=True,
        name="RNN-static",
    ),
    LayerCase("RNN", OPEN, [X, CONT, (1, 2, 5)], lambda x, cont, h, *w: rnn(x, cont, *w, h=h), RNN, tops=2, fixed=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_layer(case: LayerCase, tmp_path: Path) -> None:
    case.check(tmp_path)
