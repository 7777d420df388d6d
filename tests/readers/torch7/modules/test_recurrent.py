"""Rows of recurrent layers and steps: formulas in numpy, written from the packages' sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from converters.options import LoadOptions
from converters.readers.torch7 import load
from tests.bench import check
from tests.readers.torch7 import lua
from tests.readers.torch7.lua import Object, module, sizes
from tests.readers.torch7.module_case import ModuleCase, rand
from tests.readers.torch7.recurrent_formulas import (
    fast_lstm,
    fast_lstm_formula,
    gru_of_one_matrix,
    linear,
    lstm_of_one_matrix,
    over_time,
    rnn_of_cudnn,
    sequencer,
    sigmoid,
)

W, B = rand(7, 16), rand(16)
"""Of an LSTM of 3 features and 4 units."""
GW, GB = rand(7, 12, seed=1), rand(12, seed=1)
PW, PO = rand(5, 16, seed=2), rand(4, 2)
"""Of an LSTM whose 4 units are projected to 2."""
FAST = rand(16, 3, seed=3), rand(16, seed=3), rand(16, 4, seed=3)
FLAT = rand(4 * 3 + 4 * 4 + 8, seed=4)
LW, LB = rand(4, 7, seed=5), rand(4, seed=5)
X = (5, 2, 3)

SEQ_LSTM = {"inputsize": 3, "hiddensize": 4, "outputsize": 4, "weight": W, "bias": B, "_remember": "neither", "maskzero": False}
SEQ_GRU = {"inputSize": 3, "outputSize": 4, "weight": GW, "bias": GB, "_remember": "neither", "maskzero": False}
CUDNN = {"inputSize": 3, "hiddenSize": 4, "numLayers": 1, "bidirectional": "CUDNN_UNIDIRECTIONAL", "inputMode": "CUDNN_LINEAR_INPUT"}


def masked(x: np.ndarray) -> np.ndarray:
    """An LSTM whose state is zeroed in rows of zeros."""
    outputs = []
    for row in range(x.shape[1]):
        h = c = np.zeros((1, 4))
        for t in range(len(x)):
            item = x[t, row : row + 1]
            if not item.any():
                h = c = np.zeros((1, 4))
            else:
                i, f, o, g = np.split(np.concatenate([item, h], 1) @ W + B, 4, axis=1)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            outputs.append(h[0])
    return np.stack(outputs).reshape(x.shape[1], len(x), 4).swapaxes(0, 1)


SQUARE = rand(16, 4, seed=8), rand(16, seed=8), rand(16, 4, seed=9)
TWICE = fast_lstm(*SQUARE)


def twice(x: np.ndarray) -> np.ndarray:
    """One LSTM that runs twice in each step, on its own answer: one sequence of twice as many steps."""
    h = c = np.zeros((x.shape[1], 4))
    outputs = []
    for item in x:
        for _ in range(2):
            i, g, f, o = np.split(item @ SQUARE[0].T + SQUARE[1] + h @ SQUARE[2].T, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            item = h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def masked_step(made: Object) -> Object:
    """As LSTM:maskZero(1) leaves it: the step's module inside an nn.MaskZero."""
    made.fields["modules"] = [module("nn.MaskZero", made.fields["modules"][0], nInputDim=1)]
    return made


def masked_fast(x: np.ndarray) -> np.ndarray:
    """Each row by itself, from zeros behind every row of zeros."""
    out = np.zeros((*x.shape[:2], 4))
    for row in range(x.shape[1]):
        start = 0
        for t in range(len(x) + 1):
            if t == len(x) or not x[t, row].any():
                if t > start:
                    out[start:t, row] = fast_lstm_formula(x[start:t, row : row + 1], *FAST)[:, 0]
                start = t + 1
    return out


def holes() -> np.ndarray:
    x = rand(5, 3, 3, seed=7)
    x[0, 0] = x[2, 1] = x[4, 2] = 0
    return x


def linear_rnn(x: np.ndarray) -> np.ndarray:
    def step(item: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        h = sigmoid(np.concatenate([item, state[0]], 1) @ LW.T + LB)
        return h, (h,)

    return over_time(step, x, (np.zeros((x.shape[1], 4)),))


def attention(x: np.ndarray) -> list[np.ndarray]:
    """Three steps: the place of the next glance is made of the last answer, of zeros at first. One module runs them all and its output
    isn't copied: the table holds the last answer three times.
    """
    out = np.zeros((len(x), 4))
    for _ in range(3):
        out = np.tanh(np.concatenate([x, out @ FAST[2][:2].T, out], 1) @ rand(4, 9, seed=6).T)
    return [out] * 3


def attention_of_two(x: np.ndarray) -> list[np.ndarray]:
    """nn.Recurrent's first step has modules of its own, and so an output of its own."""

    def shown(last: np.ndarray) -> np.ndarray:
        return np.concatenate([x, last @ FAST[2][:2].T], 1) @ rand(4, 5, seed=6).T

    first = np.tanh(shown(np.zeros((len(x), 4))) + LB)
    second = np.tanh(shown(first) + first @ LW[:, :4].T)
    third = np.tanh(shown(second) + second @ LW[:, :4].T)
    return [first, third, third]


def glance_of_two() -> Object:
    entry = module("nn.Sequential", module("nn.JoinTable", dimension=1, nInputDims=1), linear(rand(4, 5, seed=6)))
    first = module("nn.Sequential", entry, module("nn.Add", bias=LB), module("nn.Tanh"))
    pair = module("nn.ParallelTable", entry, linear(LW[:, :4]))
    later = module("nn.Sequential", pair, module("nn.CAddTable"), module("nn.Tanh"))
    rnn = module("nn.Recurrent", first, later, initialModule=first, recurrentModule=later)
    action = module("nn.Recursor", linear(FAST[2][:2]))
    return module("nn.RecurrentAttention", rnn, action, rnn=rnn, action=action, hiddenSize=[4], nStep=3, forwardActions=False)


def glance() -> Object:
    step = module("nn.Sequential", module("nn.FlattenTable"), module("nn.JoinTable", dimension=1, nInputDims=1), linear(rand(4, 9, seed=6)))
    step.fields["modules"].append(module("nn.Tanh"))
    rnn = module("nn.Recurrence", step, outputSize=[4], nInputDim=1, module=step)
    return module("nn.RecurrentAttention", rnn, rnn=rnn, action=module("nn.Recursor", linear(FAST[2][:2])), hiddenSize=[4], nStep=3)


def two_ways(merge: Object) -> Object:
    ahead, behind = module("nn.SeqGRU", **SEQ_GRU), module("nn.SeqGRU", **{**SEQ_GRU, "weight": GW[:, ::-1].copy()})
    turned = module("nn.ReverseUnreverse", module("nn.Sequential", module("nn.ReverseSequence"), behind, module("nn.ReverseSequence")))
    return module("nn.Sequential", module("nn.ConcatTable", ahead, turned), merge)


def both_ways(x: np.ndarray) -> np.ndarray:
    return gru_of_one_matrix(x, GW, GB) + gru_of_one_matrix(x[::-1], GW[:, ::-1], GB)[::-1]


def step_of(weight: np.ndarray, bias: np.ndarray) -> Object:
    return module("nn.StepLSTM", inputsize=3, hiddensize=4, outputsize=4, weight=weight, bias=bias, maskzero=False, v2=True)


NEST = [[np.float32([[1, 2], [0, 0], [0, 3]]), (3, 4)], (3, 2)]
W4 = rand(8, 16, seed=11) * np.float32(0.5)


def without_row_2(x: Any) -> list[np.ndarray]:
    """The row in which the first tensor of the nest is all zero is zero in all outputs."""
    (a, b), c = x
    return [y * a.any(1, keepdims=True) for y in (a, b, c)]


CASES = [
    ModuleCase("SeqLSTM", module("nn.SeqLSTM", **SEQ_LSTM), X, lambda x: lstm_of_one_matrix(x, W, B)),
    ModuleCase(
        "SeqLSTM_batch_first",
        module("nn.SeqLSTM", **SEQ_LSTM, batchfirst=True),
        X,
        lambda x: lstm_of_one_matrix(x.swapaxes(0, 1), W, B).swapaxes(0, 1),
    ),
    ModuleCase(
        "SeqLSTM_states", module("nn.SeqLSTM", **SEQ_LSTM), [(2, 4), (2, 4), X], lambda x: lstm_of_one_matrix(x[2], W, B, x[1], x[0])
    ),
    ModuleCase("SeqLSTM_holes", module("nn.SeqLSTM", **{**SEQ_LSTM, "maskzero": True}), holes(), masked),
    ModuleCase(
        "SeqLSTM_v2_without_mask",
        module("nn.SeqLSTM", **{**SEQ_LSTM, "maskzero": True}, v2=True, zeroMask=False),
        holes(),
        lambda x: lstm_of_one_matrix(x, W, B),
    ),
    ModuleCase(
        "SeqLSTM_mask_of_a_call",
        module("nn.SeqLSTM", **{**SEQ_LSTM, "maskzero": True}, v2=True, zeroMask=(holes() == 0).all(2).astype(np.uint8)),
        holes(),
        masked,
        fixed=True,
    ),
    ModuleCase("FastLSTM_masked", sequencer(masked_step(fast_lstm(*FAST))), holes(), lambda x: masked_fast(x)),
    ModuleCase("FastLSTM_twice", sequencer(module("nn.Sequential", TWICE, TWICE)), (5, 2, 4), twice),
    ModuleCase("FastLSTM_vectors", sequencer(fast_lstm(*FAST)), (5, 3), lambda x: fast_lstm_formula(x[:, None], *FAST)[:, 0]),
    ModuleCase(
        "FastLSTM_behind_a_linear_of_vectors",
        sequencer(module("nn.Sequential", linear(LW[:3, :3], LB[:3]), fast_lstm(*FAST))),
        (5, 3),
        lambda x: fast_lstm_formula((x @ LW[:3, :3].T + LB[:3])[:, None], *FAST)[:, 0],
    ),
    ModuleCase(
        "SeqLSTMP",
        module("nn.SeqLSTMP", **{**SEQ_LSTM, "outputsize": 2, "weight": PW, "weightO": PO}),
        X,
        lambda x: lstm_of_one_matrix(x, PW, B, project=PO),
    ),
    ModuleCase("SeqGRU", module("nn.SeqGRU", **SEQ_GRU), X, lambda x: gru_of_one_matrix(x, GW, GB)),
    ModuleCase("SeqGRU_state", module("nn.SeqGRU", **SEQ_GRU), [(2, 4), X], lambda x: gru_of_one_matrix(x[1], GW, GB, x[0])),
    ModuleCase(
        "torch_rnn",
        module("nn.LSTM", weight=W, bias=B, input_dim=3, hidden_dim=4, remember_states=True),
        (2, 5, 3),
        lambda x: lstm_of_one_matrix(x.swapaxes(0, 1), W, B).swapaxes(0, 1),
    ),
    ModuleCase("FastLSTM", sequencer(fast_lstm(*FAST)), X, lambda x: fast_lstm_formula(x, *FAST)),
    ModuleCase("FastLSTM_table", sequencer(fast_lstm(*FAST)), [(2, 3)] * 3, lambda x: list(fast_lstm_formula(np.stack(x), *FAST))),
    ModuleCase(
        "FastLSTM_between_linears",
        sequencer(module("nn.Recursor", module("nn.Sequential", linear(LW[:3, :3], LB[:3]), fast_lstm(*FAST), linear(LW[:, :4], LB)))),
        X,
        lambda x: fast_lstm_formula(x @ LW[:3, :3].T + LB[:3], *FAST) @ LW[:, :4].T + LB,
    ),
    ModuleCase(
        "RecLSTM", sequencer(module("nn.RecLSTM", step_of(W, B), inputsize=3, outputsize=4)), X, lambda x: lstm_of_one_matrix(x, W, B)
    ),
    ModuleCase(
        "StepLSTM", step_of(W, B), [(2, 3), (2, 4), (2, 4)], lambda x: [lstm_of_one_matrix(x[0][None], W, B, *x[1:])[0], cell_of(*x)]
    ),
    ModuleCase(
        "LinearRNN",
        sequencer(
            module(
                "nn.LinearRNN",
                module("nn.Sequential", module("nn.JoinTable", dimension=1, nInputDims=1), linear(LW, LB), module("nn.Sigmoid")),
                outputSize=[4],
                nInputDim=1,
            )
        ),
        X,
        linear_rnn,
    ),
    ModuleCase("RecurrentAttention", glance(), (2, 3), attention),
    ModuleCase("RecurrentAttention_of_nn.Recurrent", glance_of_two(), (2, 3), attention_of_two),
    ModuleCase(
        "Repeater_of_rnn_2.7",
        module("nn.Repeater", fast_lstm(*FAST), seqlen=3),
        (2, 3),
        lambda x: list(fast_lstm_formula(np.stack([x] * 3), *FAST)),
    ),
    ModuleCase("ReverseSequence", module("nn.ReverseSequence"), X, lambda x: x[::-1]),
    ModuleCase("MaskZero_of_nested_tables", module("nn.MaskZero", module("nn.FlattenTable"), nInputDim=1), NEST, without_row_2),
    ModuleCase("BiSequencer", module("nn.BiSequencer", two_ways(module("nn.CAddTable"))), X, both_ways),
    ModuleCase("SeqBGRU", module("nn.SeqBGRU", two_ways(module("nn.CAddTable"))), X, both_ways),
    ModuleCase(
        "RNNTanh", module("cudnn.RNNTanh", **CUDNN, mode="CUDNN_RNN_TANH", weight=FLAT), X, lambda x: rnn_of_cudnn(x, FLAT, 4, np.tanh)
    ),
    ModuleCase(
        "RNNReLU",
        module("cudnn.RNNReLU", **CUDNN, mode="CUDNN_RNN_RELU", weight=FLAT, batchFirst=True),
        (2, 4, 3),
        lambda x: rnn_of_cudnn(x.swapaxes(0, 1), FLAT, 4, lambda y: np.maximum(y, 0)).swapaxes(0, 1),
    ),
    ModuleCase(
        "VariableLength",
        module("nn.VariableLength", module("nn.SeqLSTM", **SEQ_LSTM), lastOnly=False),
        [rand(4, 3), rand(2, 3)],
        lambda x: [lstm_of_one_matrix(one[:, None], W, B)[:, 0] for one in x],
    ),
    ModuleCase(
        "VariableLength_of_two",
        module(
            "nn.VariableLength",
            module("nn.Sequential", module("nn.SeqLSTM", **SEQ_LSTM), module("nn.SeqLSTM", **{**SEQ_LSTM, "inputsize": 4, "weight": W4})),
            lastOnly=True,
        ),
        [rand(4, 3), rand(2, 3)],
        lambda x: np.stack([lstm_of_one_matrix(lstm_of_one_matrix(one[:, None], W, B), W4, B)[-1, 0] for one in x]),
    ),
]


def cell_of(x: np.ndarray, h: np.ndarray, c: np.ndarray) -> np.ndarray:
    i, f, _, g = np.split(np.concatenate([x, h], 1) @ W + B, 4, axis=1)
    return sigmoid(f) * c + sigmoid(i) * np.tanh(g)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_module(case: ModuleCase, tmp_path: Path) -> None:
    check(case, tmp_path)


# -- states ------------------------------------------------------------------------------------------------------------


def convert(folder: Path, made: Object, **options: object) -> object:
    path = folder / "model.t7"
    path.write_bytes(lua.dumps(made))
    return load([path], LoadOptions(inputs={"input": (5, 2, 3)}, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("made", "formula"),
    [
        (module("nn.SeqLSTM", **SEQ_LSTM), lambda x, h, c: lstm_of_one_matrix(x, W, B, h, c)),
        (sequencer(fast_lstm(*FAST)), lambda x, h, c: fast_lstm_formula(x, *FAST, h, c)),
        (module("nn.SeqLSTM", **{**SEQ_LSTM, "maskzero": True}), lambda x, h, c: lstm_of_one_matrix(x, W, B, h, c)),
    ],
)
def test_states_as_inputs_and_outputs(made: Object, formula: object, tmp_path: Path) -> None:
    """Two halves of a sequence, the states handed on, are the whole sequence."""
    model = convert(tmp_path, made, states=True)
    assert [len(v.shape) for v in model.graph.inputs] == [3, 2, 2]
    converters.save(model, tmp_path / "out.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    net = converters.to_module(model)
    x, h, c = rand(6, 3, 3), rand(3, 4), rand(3, 4, seed=1)
    wanted = formula(x, h, c)
    for run in (
        lambda *given: session.run(None, dict(zip([i.name for i in session.get_inputs()], given, strict=True))),
        lambda *given: [y.detach().numpy() for y in net(*map(torch.from_numpy, given))],
    ):
        first, *state = run(x[:2], h, c)
        second, *_ = run(x[2:], *state)
        np.testing.assert_allclose(np.concatenate([first, second]), wanted, rtol=1e-5, atol=1e-5)


def test_states_of_a_net_without_any(tmp_path: Path) -> None:
    with pytest.raises(converters.ConversionError, match="carries a state"):
        convert(tmp_path, module("nn.Tanh"), states=True)


KEPT = {
    "remember": sequencer(fast_lstm(*FAST, step=4), _remember="both"),
    "user": module("nn.SeqLSTM", **SEQ_LSTM, userPrevOutput=rand(2, 4)),
    "start": sequencer(module("nn.RecLSTM", step_of(W, B), inputsize=3, outputsize=4, startState=[rand(2, 4), rand(2, 4)])),
    "torch_rnn": module("nn.LSTM", weight=W, bias=B, input_dim=3, hidden_dim=4, remember_states=True, cell=rand(5, 2, 4)),
    "cudnn": module("cudnn.RNNTanh", **CUDNN, mode="CUDNN_RNN_TANH", weight=FLAT, hiddenInput=rand(1, 2, 4)),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept_states_are_never_taken_for_zeros(name: str, tmp_path: Path) -> None:
    """The file holds a state from which Torch7 would go on: refused, or an input of the model."""
    with pytest.raises(converters.ConversionError, match="--states"):
        convert(tmp_path, KEPT[name])
    assert len(convert(tmp_path, KEPT[name], states=True).graph.inputs) > 1


FROM_ZEROS = {
    "remember": lambda x: fast_lstm_formula(x, *FAST),
    "user": lambda x: lstm_of_one_matrix(x, W, B),
    "torch_rnn": lambda x: lstm_of_one_matrix(x.swapaxes(0, 1), W, B).swapaxes(0, 1),
    "cudnn": lambda x: rnn_of_cudnn(x, FLAT, 4, np.tanh),
}


@pytest.mark.parametrize("name", FROM_ZEROS)
def test_kept_states_run_twice_in_a_row(name: str, tmp_path: Path) -> None:
    """The second run goes on where the first ended, as the module that remembers does; the file's own state isn't mixed in."""
    model = convert(tmp_path, KEPT[name], states=True)
    converters.save(model, tmp_path / "out.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "out.onnx"), providers=["CPUExecutionProvider"])
    net, x = converters.to_module(model), rand(5, 2, 3)
    wanted = FROM_ZEROS[name](np.concatenate([x, x], 1 if name == "torch_rnn" else 0))
    states = [value.shape for value in session.get_inputs()[1:]]
    for run in (
        lambda *given: session.run(None, dict(zip([i.name for i in session.get_inputs()], given, strict=True))),
        lambda *given: [y.detach().numpy() for y in net(*map(torch.from_numpy, given))],
    ):
        batch = 5 if name == "torch_rnn" else 2
        zeros = [np.zeros([n if isinstance(n, int) else batch for n in shape], np.float32) for shape in states]
        first, *state = run(x, *zeros)
        second, *_ = run(x, *state)
        whole = np.concatenate([first, second], 1 if name == "torch_rnn" else 0)
        np.testing.assert_allclose(whole, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "fields", [{"_remember": "neither"}, {"_remember": "train"}, {"_remember": "both", "train": True}], ids=["neither", "train", "training"]
)
def test_what_a_forward_left_behind_is_no_state(fields: dict[str, object], tmp_path: Path) -> None:
    made = sequencer(fast_lstm(*FAST, step=4, output=rand(2, 4)), **fields)
    check(ModuleCase("stale", made, X, lambda x: fast_lstm_formula(x, *FAST)), tmp_path)


@pytest.mark.parametrize("field", ["c0", "h0"])
def test_a_state_that_was_forgotten_is_none(field: str, tmp_path: Path) -> None:
    """forget() and resetStates() empty h0 and c0 alone; with one of them left the next forward reads the last one's output."""
    nothing = np.zeros(0, np.float32)
    fields = {"weight": W, "bias": B, "input_dim": 3, "hidden_dim": 4, "remember_states": True, "h0": nothing, "c0": nothing}
    made = module("nn.LSTM", **fields, cell=rand(2, 5, 4), output=rand(2, 5, 4))
    check(ModuleCase("reset", made, (2, 5, 3), lambda x: lstm_of_one_matrix(x.swapaxes(0, 1), W, B).swapaxes(0, 1)), tmp_path)
    made.fields[field] = rand(2, 4)
    with pytest.raises(converters.ConversionError, match="--states"):
        convert(tmp_path, made)


@pytest.mark.parametrize("train", [False, True])
def test_a_step_alone_that_was_saved_with_its_state(train: bool, tmp_path: Path) -> None:
    """evaluate() of a step by itself doesn't forget: the next forward goes on from the one in the file."""
    path = tmp_path / "model.t7"
    path.write_bytes(lua.dumps(fast_lstm(*FAST, step=2, train=train)))
    with pytest.raises(converters.ConversionError, match="at step 2"):
        converters.load(path, inputs={"input": (2, 3)})


def test_one_step_alone_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.t7"
    path.write_bytes(lua.dumps(fast_lstm(*FAST)))
    with pytest.warns(converters.ConversionWarning, match="one step for each forward"):
        converters.load(path, inputs={"input": (2, 3)})


@pytest.mark.parametrize(
    "made",
    [
        sequencer(fast_lstm(*FAST), _remember="both"),
        module("nn.SeqGRU", **{**SEQ_GRU, "_remember": "eval"}),
        module("nn.LSTM", weight=W, bias=B, input_dim=3, hidden_dim=4, remember_states=True),
    ],
    ids=["Sequencer", "SeqGRU", "torch_rnn"],
)
def test_what_remembers_says_that_it_starts_anew(made: Object, tmp_path: Path) -> None:
    path = tmp_path / "model.t7"
    path.write_bytes(lua.dumps(made))
    with pytest.warns(converters.ConversionWarning, match="each sequence starts from zeros"):
        converters.load(path, inputs={"input": (5, 2, 3)})


def test_a_mask_that_no_call_has_set(tmp_path: Path) -> None:
    """rnn 2.7 stops there."""
    with pytest.raises(converters.ConversionError, match="setZeroMask"):
        convert(tmp_path, module("nn.SeqLSTM", **{**SEQ_LSTM, "maskzero": True}, v2=True))


def test_an_action_that_would_take_a_table(tmp_path: Path) -> None:
    made = glance()
    made.fields["forwardActions"] = True
    with pytest.raises(converters.ConversionError, match="forwardActions"):
        convert(tmp_path, made)


def test_variable_lengths_of_a_module_that_turns_round(tmp_path: Path) -> None:
    """Real rnn turns the padded sequences round, zeros and all."""
    with pytest.raises(converters.ConversionError, match="VariableLength"):
        convert(tmp_path, module("nn.VariableLength", module("nn.SeqReverseSequence", dim=1)))


def test_a_first_state_that_the_file_applies_to_a_step(tmp_path: Path) -> None:
    with pytest.raises(converters.ConversionError, match="userPrevOutput"):
        convert(tmp_path, sequencer(fast_lstm(*FAST, userPrevOutput=rand(2, 4))))


def test_time_and_batch_stay_open(tmp_path: Path) -> None:
    for made in (module("nn.SeqGRU", **SEQ_GRU), sequencer(fast_lstm(*FAST))):
        model = convert(tmp_path, made)
        assert list(model.graph.inputs[0].shape)[2] == 3
        assert [str(d) for d in list(model.graph.inputs[0].shape)[:2]] == ["T", "N"]


def test_sequences_behind_a_transposition_or_images(tmp_path: Path) -> None:
    """(N, T, D) that is turned round has the batch first; images have it first, whatever follows."""
    turned = module("nn.Sequential", module("nn.Transpose", permutations=[[1, 2]]), module("nn.SeqGRU", **SEQ_GRU))
    assert [str(d) for d in list(convert(tmp_path, turned).graph.inputs[0].shape)[:2]] == ["N", "T"]
    columns = module(
        "nn.Sequential",
        module("nn.SpatialZeroPadding", pad_l=1, pad_r=0, pad_t=0, pad_b=0),
        module("nn.View", size=sizes(3, -1), numInputDims=3),
        module("nn.Transpose", permutations=[[2, 3], [1, 2]]),
        module("nn.SeqLSTM", **{**SEQ_LSTM, "maskzero": True}),
    )

    path = tmp_path / "model.t7"
    path.write_bytes(lua.dumps(columns))
    model = converters.load(path, inputs={"input": (2, 3, 4, 5)})
    assert [str(d) for d in model.graph.inputs[0].shape] == ["N", "3", "4", "5"]
    assert converters.to_module(model)(torch.ones(4, 3, 4, 5)).shape == (24, 4, 4)


def test_a_step_that_differs_is_no_lstm(tmp_path: Path) -> None:
    """The same class with another structure runs step by step: here the output gate's Sigmoid is a Tanh."""
    made = fast_lstm(*FAST)
    gates = made.fields["modules"][0].fields["modules"][0].fields["modules"][0]
    gates.fields["modules"][5].fields["modules"][3] = module("nn.Tanh")

    def formula(x: np.ndarray) -> np.ndarray:
        def step(item: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
            i, g, f, o = np.split(item @ FAST[0].T + FAST[1] + state[0] @ FAST[2].T, 4, axis=1)
            cell = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
            out = np.tanh(o) * np.tanh(cell)
            return out, (out, cell)

        return over_time(step, x, (np.zeros((x.shape[1], 4)), np.zeros((x.shape[1], 4))))

    check(ModuleCase("another_gate", sequencer(made), X, formula), tmp_path)
