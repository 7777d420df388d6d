"""LSTMs with a projection, and sums, means and products of numbers that go to one place: the numbers of eager PyTorch in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from converters.errors import ConversionError
from converters.tracing.arguments import flat
from converters.tracing.program import export_module
from converters.writers.onnx.writer import write_onnx
from tests.readers.pytorch.test_strip import save


class Called(nn.Module):
    """A module whose forward is a function of one tensor."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def answers(module: nn.Module, folder: Any, *inputs: torch.Tensor, names: tuple[str, ...] = ("x",)) -> tuple[list[Any], list[Any], Any]:
    """What onnxruntime and PyTorch say, and the graph."""
    model = export_module(module.eval(), {name: tuple(value.shape) for name, value in zip(names, inputs, strict=True)}, "m")
    write_onnx(model, folder / "m.onnx")
    session = onnxruntime.InferenceSession(str(folder / "m.onnx"), providers=["CPUExecutionProvider"])
    got = session.run(None, {port.name: value.numpy() for port, value in zip(session.get_inputs(), inputs, strict=True)})
    with torch.no_grad():
        wanted = [value.numpy() for _, value in flat(module(*(value.clone() for value in inputs)))]
    return got, wanted, model


def same(got: list[Any], wanted: list[Any]) -> None:
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_projections_of_all_kinds(tmp_path):
    """Two layers, both directions, without bias, batch first, with given states: one scan for each layer and direction."""
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, 2, proj_size=2, bidirectional=True, batch_first=True, bias=False)

        def forward(self, x, h, c):
            return self.rnn(x, (h, c))

    got, wanted, model = answers(Net(), tmp_path, torch.randn(2, 5, 3), torch.randn(4, 2, 2), torch.randn(4, 2, 4), names=("x", "h", "c"))
    same(got, wanted)
    assert [node.op_type for node in model.graph].count("Scan") == 4
    assert {"rnn.weight_hr_l0", "rnn.weight_hr_l1_reverse"} <= set(model.graph.initializers)


def test_a_pickled_projection_needs_no_code(tmp_path):
    from converters.options import LoadOptions
    from converters.tracing.export import load

    model = load([save(nn.LSTM(3, 4, proj_size=2), tmp_path / "m.pth")], LoadOptions(inputs={"": (5, 2, 3)}))
    assert [tuple(value.shape or ())[-1] for value in model.graph.outputs] == [2, 2, 4]


def places(x: torch.Tensor) -> torch.Tensor:
    return (x.abs() * 10).long() % 3


def in_place(x: torch.Tensor) -> torch.Tensor:
    target = torch.zeros(3, 4)
    return target.scatter_reduce_(0, places(x), x, "mean", include_self=False)


ROWS = torch.tensor([0, 2, 0, 1, 2])
EVERYDAY: dict[str, Callable[[torch.Tensor], Any]] = {
    "scatter_reduce": lambda x: [
        torch.ones(3, 4).scatter_reduce(1, places(x), x, kind, include_self=kept)
        for kind in ("sum", "prod", "mean", "amax", "amin")
        for kept in (True, False)
    ],
    "of integers": lambda x: [
        torch.ones(5, 4, dtype=torch.long).scatter_reduce(1, places(x), (x * 10).long(), kind, include_self=False)
        for kind in ("mean", "amax", "amin")
    ],
    "in place": in_place,
    "fewer places than numbers": lambda x: [
        torch.full((3, 4), 0.5).scatter_reduce(0, places(x)[:, :2], x, "amin"),
        torch.zeros(3, 4).scatter_add(0, places(x)[:2], x),
        torch.zeros(5, 4).scatter(1, places(x)[:, :3], x * 0 + 1),
    ],
    "scatter of old": lambda x: [
        torch.ones(5, 4).scatter(1, places(x), x, reduce="add"),
        torch.ones(5, 4).scatter(1, places(x), x, reduce="multiply"),
        torch.ones(5, 4).scatter(1, places(x), 2.0, reduce="add"),
    ],
    "index_add": lambda x: [torch.ones(3, 4).index_add(0, ROWS, x, alpha=2), torch.ones(5, 2).index_add(1, torch.tensor([1, 0, 1, 1]), x)],
    "index_reduce": lambda x: [
        torch.ones(3, 4).index_reduce(0, ROWS, x, kind, include_self=kept) for kind in ("prod", "mean", "amax") for kept in (True, False)
    ],
    "segment_reduce": lambda x: [
        torch.segment_reduce(x, kind, lengths=torch.tensor([2, 0, 3])) for kind in ("sum", "max", "min", "prod")
    ] + [torch.segment_reduce(x, "mean", lengths=torch.tensor([2, 3]))],
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EVERYDAY)
def test_numbers_that_go_to_one_place(name, tmp_path):
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 4)).astype("f4"))
    if name == "in place" or name == "scatter_reduce":
        x = x[:3]
    got, wanted, _ = answers(Called(EVERYDAY[name]), tmp_path, x)
    same(got, wanted)


def test_packed_sequences_with_a_projection_are_refused(tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, proj_size=2, batch_first=True)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]

    with pytest.raises(ConversionError, match=r"LSTM with a projection.*sequences of one length"):
        export_module(Net().eval(), {"x": (2, 5, 3)}, "m")
