"""Whole recurrent models by their programs' published definitions, with seeded weights, against the same formulas in numpy or torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import converters
from tests.bench import REFUSALS
from tests.readers.torch7 import lua
from tests.readers.torch7.lua import Object, module, sizes
from tests.readers.torch7.recurrent_formulas import fast_lstm, sequencer, sigmoid
from tests.readers.torch7.running import named_inputs
from tests.readers.torch7.test_nngraph import Graph


class Weights:
    """Seeded numbers, small enough for a deep net."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        fan = int(np.prod(shape[1:])) or 1
        return (self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)


def runs(folder: Path, made: Any, x: Any, *feeds: Any, **options: Any) -> Iterator[tuple[Any, list[list[np.ndarray]]]]:
    """For each of other inputs, those of the conversion first: what PyTorch and onnxruntime answer."""
    path = folder / "model.t7"
    path.write_bytes(lua.dumps(made))
    model = converters.load(path, inputs={name: item.shape for name, item in named_inputs(x).items()}, **options)
    converters.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    net = converters.to_module(model)
    kinds = {"tensor(int64)": np.int64}
    for feed in (x, *feeds):
        arrays = list(named_inputs(feed).values())
        given = [a.astype(kinds.get(i.type, np.float32)) for a, i in zip(arrays, session.get_inputs(), strict=True)]
        with torch.no_grad():
            answer = net(*map(torch.from_numpy, given))
        found = [a.numpy() for a in (answer if isinstance(answer, tuple) else (answer,))]
        yield feed, [found, session.run(None, {i.name: a for i, a in zip(session.get_inputs(), given, strict=True)})]


def same(found: list[list[np.ndarray]], wanted: Sequence[np.ndarray], tolerance: float = 1e-4) -> None:
    """Within the tolerance of each number, or of the largest where that is below one hundredth of it."""
    for got in found:
        assert [a.shape for a in got] == [np.shape(w) for w in wanted]
        for a, w in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, w, rtol=tolerance, atol=tolerance * max(1, float(np.abs(w).max()) / 100))


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


# -- char-rnn, neuraltalk2: an LSTM in nngraph -------------------------------------------------------------------------


class Lstm:
    """char-rnn/model/LSTM.lua and neuraltalk2/misc/LSTM.lua: {x, c1, h1, c2, h2 ...} -> {c1, h1 ..., log probabilities}."""

    def __init__(self, width: int, size: int, layers: int, words: int, *, one_hot: bool) -> None:
        make = Weights(width + size)
        self.width, self.size, self.layers, self.words, self.one_hot = width, size, layers, words, one_hot
        self.inner = [
            (make(4 * size, width if n == 0 else size), make(4 * size), make(4 * size, size), make(4 * size)) for n in range(layers)
        ]
        self.last = make(words, size), make(words)

    def module(self) -> Object:
        graph = Graph(1 + 2 * self.layers)
        outputs: list[Object] = []
        for number, (w, b, u, v) in enumerate(self.inner):
            if number:
                x = graph.call(module("nn.Dropout", p=0.5, v2=True), outputs[-1])
            elif self.one_hot:
                x = graph.call(Object("OneHot", {"outputSize": self.width, "_eye": np.eye(self.width, dtype=np.float32)}), graph.inputs[0])
            else:
                x = graph.call(module("nn.Identity"), graph.inputs[0])
            c, h = graph.inputs[1 + 2 * number : 3 + 2 * number]
            sums = [graph.call(module("nn.Linear", weight=w, bias=b), x), graph.call(module("nn.Linear", weight=u, bias=v), h)]
            gates = graph.call(module("nn.Reshape", size=sizes(4, self.size)), graph.call(module("nn.CAddTable"), *sums))
            i, f, o, g = graph.split(graph.call(module("nn.SplitTable", dimension=2), gates), 4)
            i, f, o = (graph.call(module("nn.Sigmoid"), gate) for gate in (i, f, o))
            kept = graph.call(module("nn.CMulTable"), f, c)
            added = graph.call(module("nn.CMulTable"), i, graph.call(module("nn.Tanh"), g))
            cell = graph.call(module("nn.CAddTable"), kept, added)
            outputs += [cell, graph.call(module("nn.CMulTable"), o, graph.call(module("nn.Tanh"), cell))]
        top = graph.call(module("nn.Dropout", p=0.5, v2=True), outputs[-1])
        scores = graph.call(module("nn.Linear", weight=self.last[0], bias=self.last[1]), top)
        return graph.finish(*outputs, graph.call(module("nn.LogSoftMax"), scores))

    def __call__(self, x: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        answers: list[np.ndarray] = []
        x = np.eye(self.width)[x.astype(int) - 1] if self.one_hot else x
        for number, (w, b, u, v) in enumerate(self.inner):
            c, h = states[2 * number : 2 * number + 2]
            i, f, o, g = np.split(x @ w.T + b + h @ u.T + v, 4, axis=1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            x = sigmoid(o) * np.tanh(c)
            answers += [c, x]
        return [*answers, log_softmax(x @ self.last[0].T + self.last[1])]


def test_char_rnn(tmp_path: Path) -> None:
    """Two layers of 512 units: one step, at two batches."""
    net = Lstm(65, 512, 2, 65, one_hot=True)
    rng = np.random.default_rng(0)

    def given(batch: int) -> list[np.ndarray]:
        return [rng.integers(1, 66, batch), *(rng.standard_normal((4, batch, 512)).astype(np.float32))]

    for feed, found in runs(tmp_path, net.module(), given(2), given(5)):
        same(found, net(*feed))


def test_neuraltalk2(tmp_path: Path) -> None:
    """The language model of 512 units: the image, START, 16 tokens of which 0 is read as 1."""
    core, make = Lstm(512, 512, 1, 301, one_hot=False), Weights(1)
    table = make(301, 512)
    made = Object(
        "nn.LanguageModel",
        {
            "core": core.module(),
            "lookup_table": module("nn.LookupTable", weight=table),
            "num_layers": 1,
            "rnn_size": 512,
            "vocab_size": 300,
            "seq_length": 16,
            "num_state": 2,
            "input_encoding_size": 512,
        },
    )
    rng = np.random.default_rng(2)

    def given(batch: int) -> list[np.ndarray]:
        return [rng.standard_normal((batch, 512)).astype(np.float32), rng.integers(0, 301, (16, batch))]

    for (image, tokens), found in runs(tmp_path, made, given(2), given(3)):
        c = h = np.zeros((len(image), 512))
        answers = []
        rows = [image, np.repeat(table[300][None], len(image), 0), *(table[np.maximum(row, 1) - 1] for row in tokens)]
        for row in rows:
            c, h, answer = core(row, c, h)
            answers.append(answer)
        same(found, [np.stack(answers)])


# -- rnn: a language model of whole sequences --------------------------------------------------------------------------


def test_language_model_of_rnn(tmp_path: Path) -> None:
    """rnn's own example: words to vectors, two FastLSTM, scores; at another length and batch. It is written with nn.LSTM."""
    make = Weights(3)
    table, score = make(200, 64), (make(200, 96), make(200))
    steps = [(make(4 * 96, 64), make(4 * 96), make(4 * 96, 96)), (make(4 * 96, 96), make(4 * 96), make(4 * 96, 96))]
    made = sequencer(
        module(
            "nn.Recursor",
            module(
                "nn.Sequential",
                module("nn.LookupTable", weight=table),
                fast_lstm(*steps[0]),
                module("nn.Dropout", p=0.5, v2=True),
                fast_lstm(*steps[1]),
                module("nn.Linear", weight=score[0], bias=score[1]),
                module("nn.LogSoftMax"),
            ),
        )
    )

    def expected(tokens: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(table[tokens - 1])
        for w, b, u in steps:
            lstm = torch.nn.LSTM(w.shape[1], 96)
            order = [0, 2, 1, 3]  # i, g, f, o as i, f, g, o
            rows = [np.concatenate([np.split(a, 4)[n] for n in order]) for a in (w, u, b)]
            lstm.load_state_dict(
                dict(zip(("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"), map(torch.from_numpy, rows), strict=True))
                | {"bias_hh_l0": torch.zeros(4 * 96)}
            )
            x = lstm(x)[0]
        return F.log_softmax(x @ torch.from_numpy(score[0]).T + torch.from_numpy(score[1]), 2).detach().numpy()

    rng = np.random.default_rng(4)
    for tokens, found in runs(tmp_path, made, rng.integers(1, 201, (7, 2)), rng.integers(1, 201, (12, 5)), rng.integers(1, 201, (1, 1))):
        same(found, [expected(tokens)])
    model = converters.load(tmp_path / "model.t7", inputs={"input": (7, 2)})
    assert str(model.graph.inputs[0].dtype) == "INT64"
    converters.save(model, tmp_path / "model.pth")
    text = (tmp_path / "model.py").read_text()
    assert text.count("nn.LSTM(") == 2 and "for " not in text.split("class ", 1)[1]


# -- CRNN --------------------------------------------------------------------------------------------------------------


CONVOLUTIONS = (
    *((1, 16, 3, 1, False), (16, 32, 3, 1, False), (32, 64, 3, 1, True)),
    *((64, 64, 3, 1, False), (64, 96, 3, 1, True), (96, 96, 2, 0, True)),
)
"""CRNN's: in, out, kernel, pad, whether a batch normalization follows."""
POOLS = {0: (2, 2, 2, 2, 0), 1: (2, 2, 2, 2, 0), 3: (2, 2, 1, 2, 1), 4: (2, 2, 1, 2, 1)}
"""Behind which convolution: kW, kH, dW, dH, padW."""


class Crnn:
    """crnn/model/crnn_demo/config.lua, its convolutions thinner: a column of features for each step, two bidirectional LSTM."""

    def __init__(self) -> None:
        self.make = Weights(5)
        self.convolutions = [(self.make(o, i, k, k), self.make(o)) for i, o, k, _, _ in CONVOLUTIONS]
        self.norms = [tuple(abs(self.make(o)) + 0.5 for _ in range(4)) for _, o, *_ in CONVOLUTIONS]
        self.units = [
            [(self.make(4 * 48, w), self.make(4 * 48), self.make(4 * 48, 48), self.make(4 * 48)) for _ in range(2)] for w in (96, 48)
        ]
        self.joins = [[(self.make(o, 48), self.make(o)) for _ in range(2)] for o in (48, 37)]

    def _weights(self, width: int) -> tuple[np.ndarray, ...]:
        return self.make(4 * 48, width), self.make(4 * 48), self.make(4 * 48, 48), self.make(4 * 48)

    @staticmethod
    def _unit(w: np.ndarray, b: np.ndarray, u: np.ndarray, v: np.ndarray) -> Object:
        """crnn/src/model/LstmLayer.lua: {x, c, h} -> {c, h, y}."""
        graph = Graph(3)
        x, c, h = graph.inputs
        sums = graph.call(
            module("nn.CAddTable"),
            graph.call(module("nn.Linear", weight=w, bias=b), x),
            graph.call(module("nn.Linear", weight=u, bias=v), h),
        )
        parts = [graph.call(module("nn.Narrow", dimension=2, index=1 + 48 * n, length=48), sums) for n in range(4)]
        i, f, o = (graph.call(module("nn.Sigmoid"), part) for part in parts[:3])
        new = graph.call(module("nn.CMulTable"), i, graph.call(module("nn.Tanh"), parts[3]))
        cell = graph.call(module("nn.CAddTable"), graph.call(module("nn.CMulTable"), f, c), new)
        out = graph.call(module("nn.CMulTable"), o, graph.call(module("nn.Tanh"), cell))
        return graph.finish(cell, out, graph.call(module("nn.Identity"), out))

    @staticmethod
    def _join(pair: list[tuple[np.ndarray, np.ndarray]]) -> Object:
        graph = Graph(2)
        parts = [graph.call(module("nn.Linear", weight=w, bias=b), x) for (w, b), x in zip(pair, graph.inputs, strict=True)]
        return module("nn.BiRnnJoin", joinUnit=graph.finish(graph.call(module("nn.CAddTable"), *parts)))

    def module(self) -> Object:
        made = [module("nn.AddConstant", constant_scalar=-128), module("nn.MulConstant", constant_scalar=1 / 128)]
        for number, ((i, o, k, p, normed), (w, b)) in enumerate(zip(CONVOLUTIONS, self.convolutions, strict=True)):
            fields = {"nInputPlane": i, "nOutputPlane": o, "kW": k, "kH": k, "dW": 1, "dH": 1, "padW": p, "padH": p}
            made.append(module("cudnn.SpatialConvolution", weight=w, bias=b, **fields))
            if normed:
                names = ("weight", "bias", "running_mean", "running_var")
                made.append(
                    module("nn.SpatialBatchNormalization", version=2, eps=1e-5, **dict(zip(names, self.norms[number], strict=True)))
                )
            made.append(module("cudnn.ReLU", inplace=True))
            if number in POOLS:
                kw, kh, dw, dh, pw = POOLS[number]
                made.append(module("cudnn.SpatialMaxPooling", kW=kw, kH=kh, dW=dw, dH=dh, padW=pw, padH=0))
        made += [module("nn.View", size=sizes(96, -1), numInputDims=3), module("nn.Transpose", permutations=[[2, 3]])]
        made.append(module("nn.SplitTable", dimension=2, nInputDims=3))
        for pair, join in zip(self.units, self.joins, strict=True):
            layers = [module("nn.LstmLayer", lstmUnit=self._unit(*unit), nHidden=48, reverse=n == 1) for n, unit in enumerate(pair)]
            made += [module("nn.ConcatTable", *layers), self._join(join)]
        made += [module("nn.SharedParallelTable", unit=module("nn.LogSoftMax")), module("nn.JoinTable", dimension=1, nInputDims=1)]
        return module("nn.Sequential", *made, module("nn.View", size=sizes(-1, 37), numInputDims=1))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        y = (torch.from_numpy(x) - 128) / 128
        for number, ((_, _, _, p, normed), (w, b)) in enumerate(zip(CONVOLUTIONS, self.convolutions, strict=True)):
            y = F.conv2d(y, torch.from_numpy(w), torch.from_numpy(b), padding=p)
            if normed:
                weight, bias, mean, variance = map(torch.from_numpy, self.norms[number])
                y = F.batch_norm(y, mean, variance, weight, bias)
            y = F.relu(y)
            if number in POOLS:
                kw, kh, dw, dh, pw = POOLS[number]
                y = F.max_pool2d(y, (kh, kw), (dh, dw), (0, pw))
        steps = list(y.flatten(2).permute(2, 0, 1).numpy())
        for pair, join in zip(self.units, self.joins, strict=True):
            ways = []
            for number, (w, b, u, v) in enumerate(pair):
                c = h = np.zeros((len(x), 48))
                line = []
                for step in steps[::-1] if number else steps:
                    i, f, o, g = np.split(step @ w.T + b + h @ u.T + v, 4, axis=1)
                    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                    h = sigmoid(o) * np.tanh(c)
                    line.append(h)
                ways.append(line[::-1] if number else line)
            steps = [sum(h @ w.T + b for h, (w, b) in zip(both, join, strict=True)) for both in zip(*ways, strict=True)]
        return np.stack([log_softmax(step) for step in steps], 1)


def test_crnn(tmp_path: Path) -> None:
    net, rng = Crnn(), np.random.default_rng(6)
    images = [rng.uniform(0, 255, (batch, 1, 32, 60)).astype(np.float32) for batch in (2, 3)]
    for x, found in runs(tmp_path, net.module(), *images):
        same(found, [net(x)])


# -- what a second length gives ----------------------------------------------------------------------------------------


def refusing(model: ir.Model, folder: Path, x: NDArray[np.float32]) -> onnxruntime.InferenceSession:
    """A session of a model, both of whose forms refuse this input."""
    converters.save(model, folder / "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    with pytest.raises(REFUSALS):
        session.run(None, {"input": x})
    with pytest.raises(REFUSALS):
        converters.to_module(model)(torch.from_numpy(x))
    return session


@pytest.mark.parametrize("length", [3, 6])
def test_a_table_of_steps_takes_no_other_length(tmp_path: Path, length: int) -> None:
    """A net that splits its sequence into a table is unrolled: another length is an error, never an answer cut short."""
    make = Weights(7)
    step = fast_lstm(make(12, 4), make(12), make(12, 3))
    made = module("nn.Sequential", module("nn.SplitTable", dimension=1, nInputDims=3), sequencer(step), module("nn.JoinTable", dimension=1))
    path = tmp_path / "model.t7"
    path.write_bytes(lua.dumps(made))
    with pytest.warns(converters.ConversionWarning, match="sequences of the given length alone"):
        model = converters.load(path, inputs={"input": (5, 2, 4)})
    session = refusing(model, tmp_path, np.ones((length, 2, 4), np.float32))
    assert session.run(None, {"input": np.ones((5, 3, 4), np.float32)})[0].shape == (15, 3)


@pytest.mark.parametrize("length", [2, 3])
def test_one_step_of_a_recurrent_takes_no_other_length(tmp_path: Path, length: int) -> None:
    """nn.Recurrent's first step runs modules of its own: converted for one step, a net doesn't answer a longer sequence's first alone."""
    make = Weights(8)
    first = module("nn.Linear", weight=make(3, 4), bias=make(3))
    later = module("nn.Sequential", module("nn.CAddTable"), module("nn.Tanh"))
    step = module("nn.Recurrent", first, later, initialModule=first, recurrentModule=later, step=1)
    path = tmp_path / "model.t7"
    path.write_bytes(lua.dumps(sequencer(step)))
    with pytest.warns(converters.ConversionWarning, match="sequences of the given length alone"):
        model = converters.load(path, inputs={"input": (1, 2, 4)})
    session = refusing(model, tmp_path, np.ones((length, 2, 4), np.float32))
    assert session.run(None, {"input": np.ones((1, 3, 4), np.float32)})[0].shape == (1, 3, 3)


def test_an_image_of_three_channels_takes_no_other_count(tmp_path: Path) -> None:
    """Four channels were answered with the three that are put in another order."""
    path = tmp_path / "model.t7"
    path.write_bytes(lua.dumps(module("fbcoco.ImageTransformer", swap=[3, 2, 1], scale=2.0)))
    with pytest.warns(converters.ConversionWarning, match="first size \\(3\\) alone"):
        model = converters.load(path, inputs={"input": (3, 4, 5)})
    session = refusing(model, tmp_path, np.ones((4, 4, 5), np.float32))
    x = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    assert np.array_equal(session.run(None, {"input": x})[0], x[::-1] * 2)
