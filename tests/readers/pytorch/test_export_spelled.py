"""What torch.onnx has no words for and is said in others: the numbers of eager PyTorch in onnxruntime, at another batch too."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from converters.errors import ConversionError
from converters.tracing.arguments import flat
from converters.tracing.program import export_module
from converters.tracing.spellings import respelled
from converters.writers.onnx.writer import write_onnx
from tests.readers.pytorch.test_export_places import Called, same

EDGES = torch.tensor([-1.0, 0.0, 0.0, 1.0])


def positive(x):
    """Matrices (N, 4, 4) that can be inverted and have a root."""
    rows = x[:, :4, :4]
    return rows @ rows.mT + 3 * torch.eye(4)


def rows_with_gaps(x):
    return x.log().flatten(1)


GROUPS = {
    "order": [
        lambda x: x.kthvalue(2, 1),
        lambda x: torch.kthvalue(x, 3, dim=2, keepdim=True),
        lambda x: torch.median(x, 1),
        lambda x: x.median(-1, keepdim=True),
        lambda x: x[:1].median(),
        lambda x: rows_with_gaps(x).nanmedian(1),
        lambda x: x.round().mode(1),
        lambda x: (x.amax(), x.amin()),
        lambda x: torch.histc(x, 5, -2, 2),
    ],
    "places": [
        lambda x: torch.bucketize(x.round(), EDGES),
        lambda x: torch.bucketize(x.round(), EDGES, right=True, out_int32=True),
        lambda x: torch.searchsorted(EDGES, x.round(), side="right"),
        lambda x: torch.searchsorted(x.sort(-1).values, x[..., :3] + 0.3),
        lambda x: torch.searchsorted(torch.tensor([1.0, 0.0, -1.0]), x, sorter=torch.tensor([2, 1, 0])),
        lambda x: x.cumprod(1),
        lambda x: torch.cumprod((x * 3).long(), -1),
    ],
    "distances": [
        lambda x: torch.cdist(x, x[:, :3]),
        lambda x: torch.cdist(x.repeat(1, 6, 1), x + 1),
        *[lambda x, p=p: torch.cdist(x, x + 1, p) for p in (0.0, 1.0, 3.0, float("inf"))],
        lambda x: F.gaussian_nll_loss(x, x + 1, x.abs(), full=True),
        lambda x: F.gaussian_nll_loss(x, x + 1, x[..., 0].abs(), reduction="none"),
    ],
    "matrices": [
        lambda x: torch.linalg.inv(positive(x)),
        lambda x: torch.inverse(positive(x).flip(1)),  # whose pivots are exchanged
        lambda x: torch.linalg.solve(positive(x), x[:, :4]),
        lambda x: torch.linalg.solve(positive(x), x[:, :4, 0]),
        lambda x: torch.linalg.solve(positive(x), x[:, :3, :4], left=False),
        lambda x: torch.linalg.det(positive(x).flip(1)),
        lambda x: torch.linalg.det(x[:, :4, :4] * torch.tensor([1.0, 0.0, 1.0, 1.0])),
        lambda x: torch.slogdet(positive(x).flip(1)),
        lambda x: torch.logdet(positive(x)),
        lambda x: torch.linalg.cholesky(positive(x)),
        lambda x: torch.linalg.cholesky(positive(x), upper=True),
        lambda x: torch.linalg.solve_triangular(positive(x), x[:, :4], upper=True, unitriangular=True),
        lambda x: torch.cholesky_solve(x[:, :4], torch.linalg.cholesky(positive(x))),
        lambda x: torch.cholesky_inverse(torch.linalg.cholesky(positive(x))),
    ],
}


@pytest.mark.parametrize("group", GROUPS)
def test_other_words(group, tmp_path):
    torch.manual_seed(0)
    net = Called(lambda x: [function(x) for function in GROUPS[group]])
    export_and_compare(net, [(2, 5, 6)], [[torch.randn(n, 5, 6)] for n in (2, 3)], tmp_path)


def export_and_compare(net, shapes, samples, folder):
    model = export_module(net.eval(), dict(zip(("x", "lengths"), shapes, strict=False)), "m")
    assert not isinstance(model.graph.inputs[0].shape[0], int)
    write_onnx(model, folder / "m.onnx")
    session = onnxruntime.InferenceSession(str(folder / "m.onnx"), providers=["CPUExecutionProvider"])
    for tensors in samples:
        given = {port.name: tensor.numpy() for port, tensor in zip(session.get_inputs(), tensors, strict=True)}
        same(session.run(None, given), [value.numpy() for _, value in flat(net(*tensors))])
    return model


class Reads(nn.Module):
    """A recurrent layer that reads sequences of their own lengths."""

    def __init__(self, rnn, total=None):
        super().__init__()
        self.rnn, self.total = rnn, total

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, state = self.rnn(PackedSequence(packed.data * 2 + 1, *packed[1:]))
        padded, lengths = pad_packed_sequence(output, batch_first=True, padding_value=-1.0, total_length=self.total)
        return padded, lengths, state


@pytest.mark.parametrize(
    ("rnn", "total"),
    [
        (nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), None),
        (nn.GRU(3, 4, batch_first=True), 5),
        (nn.RNN(3, 4, nonlinearity="relu", bias=False, batch_first=True, bidirectional=True), 7),
    ],
    ids=["LSTM", "GRU", "RNN"],
)
def test_packed_sequences(rnn, total, tmp_path):
    """The longest of a batch says how long the output is, else what was asked for; no word was said of the lengths' type."""
    torch.manual_seed(0)
    samples = [[torch.randn(len(lengths), 5, 3), torch.tensor(lengths)] for lengths in ([5, 2], [1, 4, 3])]
    model = export_and_compare(Reads(rnn, total), [(2, 5, 3), (2,)], samples, tmp_path)
    assert [node.op_type for node in model.graph].count(rnn.mode.split("_")[0]) == rnn.num_layers
    assert "rnn.weight_hh_l0" in model.graph.initializers


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Called(lambda x: torch.linalg.svdvals(x)), r"operator 'linalg_svd' \(aten\._linalg_svd.*decompositions of matrices"),
        (Called(lambda x: torch.special.bessel_j0(x)), r"operator 'bessel_j0'.*no such special function"),
        (Called(lambda x: x * 2 if x.sum() > 0 else x), r"depends on its input's numbers.*torch\.where"),
    ],
    ids=["svd", "bessel", "if"],
)
def test_refusals_name_the_operator(net, words):
    with pytest.raises(ConversionError, match=words):
        export_module(net.eval(), {"x": (2, 3)}, "m")


@pytest.mark.parametrize("mask", [None, (6, 6), (2, 6, 6)])
def test_attention_of_one_head(mask, tmp_path):
    """Three axes, which torch.onnx has no words for; the first time is open."""

    class Net(nn.Module):
        def forward(self, x):
            more = {} if mask is None else {"attn_mask": torch.ones(mask).tril().bool()}
            return F.scaled_dot_product_attention(x, x, x + 1, is_causal=mask is None, **more)

    model = export_module(Net(), {"x": (2, 6, 4)}, "m", dynamic={("x", 1): "T"} if mask is None else {})
    write_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    x = torch.randn(*((3, 9) if mask is None else (2, 6)), 4)
    same(session.run(None, {"x": x.numpy()}), [Net()(x).numpy()])


def test_a_difference_is_named(monkeypatch):
    """torch.onnx's own words for an average leave out the divisor."""
    monkeypatch.delitem(respelled._SPELLINGS, "avg_pool2d")
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), nn.AvgPool2d(2, divisor_override=3)), nn.Flatten())
    with pytest.raises(ConversionError, match=r"differs once exported: .*, from operator 'aten\.avg_pool2d\.default' in 1\.1 on; write it"):
        export_module(net.eval(), {"input": (2, 3, 4, 4)}, "m")
