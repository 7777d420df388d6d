"""What goes into an exported module and comes out of it: by name, of any type, at any batch, with its weights under their own names."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import converters
from converters.errors import ConversionError
from converters.tracing.program import export_module
from converters.writers.onnx.writer import write_onnx


def answers(model, feed):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feed)


def check(module, shapes, types=None, **more):
    """Exports; onnxruntime gives the module's numbers for other random inputs."""
    torch.manual_seed(1)
    model = export_module(module, shapes, "model.pth", dtypes=types or {}, **more)
    feed = {}
    for value in model.graph.inputs:
        shape = shapes.get(value.name, next(iter(shapes.values())))
        integers = value.dtype in (ir.DataType.INT64, ir.DataType.INT32)
        feed[value.name] = np.ones(shape, value.dtype.numpy()) if integers else np.random.rand(*shape).astype(value.dtype.numpy())
    return model, feed, answers(model, feed)


class Optional(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(5, 4)

    def forward(self, x, a=None, b=None, *, c=None, **others):
        y = self.lin(x) if a is None else self.lin(x) * a
        y = y if b is None else y + b
        y = y if c is None else y - 2 * c
        return y if "d" not in others else y / others["d"]


@pytest.mark.parametrize("names", [["b"], ["a"], ["c"], ["a", "c"], ["d"], ["b", "d"]])
def test_optional_inputs_go_where_their_names_say(names):
    module = Optional().eval()
    shapes = {"x": (2, 5), **dict.fromkeys(names, (2, 4))}
    _, feed, (found,) = check(module, shapes)
    wanted = module(**{name: torch.from_numpy(array) for name, array in feed.items()})
    np.testing.assert_allclose(found, wanted.detach().numpy(), rtol=1e-4, atol=1e-5)


class Parts(nn.Module):
    def forward(self, batch, maps):
        return batch["image"] * batch["weight"] + maps[0] - maps[1]


def test_parts_of_dictionaries_and_lists_are_inputs():
    shapes = {"batch.image": (2, 3), "batch.weight": (2, 1), "maps.0": (2, 3), "maps.1": (2, 3)}
    _, feed, (found,) = check(Parts(), shapes)
    np.testing.assert_allclose(found, feed["batch.image"] * feed["batch.weight"] + feed["maps.0"] - feed["maps.1"], rtol=1e-5)


class Ids(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lin = nn.Embedding(7, 3), nn.Linear(3, 2)

    def forward(self, ids, weight):
        return self.lin(self.embed(ids)) * weight


def test_integers_are_tried_where_the_model_asks_for_them():
    model, _, _ = check(Ids(), {"ids": (2, 5), "weight": (2, 5, 1)})
    assert [value.dtype for value in model.graph.inputs] == [ir.DataType.INT64, ir.DataType.FLOAT]
    assert {"embed.weight", "lin.weight", "lin.bias"} <= set(model.graph.initializers)


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 4)

    def forward(self, x):
        return self.lin(x.mean((2, 3), keepdim=True).squeeze())


def test_a_batch_of_one_that_takes_another_path_is_kept():
    module = Squeezed().eval()
    model, feed, (found,) = check(module, {"x": (1, 3, 2, 2)})
    assert found.shape == (4,) and model.graph.inputs[0].shape[0] == 1
    np.testing.assert_allclose(found, module(torch.from_numpy(feed["x"])).detach().numpy(), rtol=1e-4)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        x.sub_(0.5)
        return x / self.calls


def test_a_model_that_changes_its_input_and_itself_gives_its_first_answer():
    _, feed, (found, *_) = check(Counting(), {"x": (2, 3)})
    np.testing.assert_allclose(found, feed["x"] - 0.5, rtol=1e-5)


class Output(OrderedDict):
    pass


class Named(nn.Module):
    def forward(self, x):
        return Output(logits=x * 2, hidden=(x + 1, {"last": x - 1}))


def test_outputs_have_the_names_of_their_keys_or_those_that_are_given():
    model, _, _ = check(Named(), {"x": (2, 3)})
    assert [value.name for value in model.graph.outputs] == ["logits", "hidden.0", "hidden.1.last"]
    model, _, _ = check(Named(), {"x": (2, 3)}, output_names=["a", "b", "c"])
    assert [value.name for value in model.graph.outputs] == ["a", "b", "c"]
    with pytest.raises(ConversionError, match="2 names are given for 3 outputs"):
        export_module(Named(), {"x": (2, 3)}, "model.pth", output_names=["a", "b"])


def test_names_of_outputs_are_given_to_the_library_and_refused_for_other_formats(tmp_path):
    torch.save(nn.ReLU(), tmp_path / "relu.pth")
    model = converters.load(tmp_path / "relu.pth", inputs={"": (1, 4)}, output_names=["y"])
    assert [value.name for value in model.graph.outputs] == ["y"]
    converters.save(model, tmp_path / "relu.onnx")
    with pytest.raises(ConversionError, match="'output_names' is for PyTorch models"):
        converters.load(tmp_path / "relu.onnx", output_names=["z"])


FAR = {
    "log_sigmoid": F.logsigmoid,
    "cross entropy": lambda x: F.binary_cross_entropy_with_logits(x, torch.ones_like(x) / 2, reduction="none"),
    "softplus": F.softplus,
    "mish": F.mish,
}


@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n in FAR for d in ("float32", "float64") if (n, d) != ("mish", "float64")])
def test_functions_keep_their_tails(name, dtype):
    class Net(nn.Module):
        def forward(self, x):
            return FAR[name](x)

    model = export_module(Net(), {"x": (1, 9)}, "model.pth", dtypes={"x": dtype})
    x = np.array([[-900, -120, -90, -30, 0, 1, 30, 90, 900]], dtype)
    np.testing.assert_allclose(answers(model, {"x": x})[0], FAR[name](torch.from_numpy(x)).numpy(), rtol=1e-4, atol=1e-6)


POOLS = {
    "uneven mean": lambda x: F.adaptive_avg_pool3d(x.unsqueeze(2), (1, 3, 4)).squeeze(2),
    "kept axis": lambda x: F.adaptive_max_pool2d(x, (None, 3)),
    "places": lambda x: F.adaptive_max_pool2d(x[:, :, :6, :6], (3, 2), True)[1].float(),
    "uneven maximum": lambda x: F.adaptive_max_pool2d(x, (3, 2)),
    "divisor": lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    "divisor, last window over the edge": lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, divisor_override=3),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_that_the_exporter_has_no_words_for(name):
    class Net(nn.Module):
        def forward(self, x):
            return POOLS[name](x)

    _, feed, (found,) = check(Net(), {"x": (2, 3, 7, 9)})
    np.testing.assert_allclose(found, POOLS[name](torch.from_numpy(feed["x"])).numpy(), rtol=1e-5, atol=1e-6)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Sequential(nn.ReLU(), self.a, nn.PReLU(4), nn.GroupNorm(2, 4))
        self.blocks = nn.ModuleDict({"layer-1": nn.Linear(4, 4), "class": nn.Linear(4, 4)})
        self.rnn = nn.LSTM(4, 4)

    def forward(self, x):
        x = self.b(self.a(x))
        return self.rnn(self.blocks["class"](self.blocks["layer-1"](x)).unsqueeze(0))[0]


def test_weights_keep_their_names_and_values():
    module = Tied().eval()
    model, _, _ = check(module, {"x": (2, 4)})
    named = dict(module.named_parameters())
    assert set(named) <= set(model.graph.initializers)
    for name, tensor in named.items():
        assert np.array_equal(model.graph.initializers[name].const_value.numpy(), tensor.detach().numpy())


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, src, tgt):
        return self.net(src, tgt, tgt_mask=self.net.generate_square_subsequent_mask(tgt.shape[1]))


def test_transformers_with_masks():
    module = Masked().eval()
    _, feed, (found,) = check(module, {"src": (2, 6, 8), "tgt": (2, 4, 8)})
    wanted = module(*(torch.from_numpy(array) for array in feed.values())).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_inputs_that_share_a_batch_share_its_name():
    model, _, _ = check(Ids(), {"ids": (2, 5), "weight": (2, 5, 1)})
    assert [value.shape[0].value for value in model.graph.inputs] == ["N", "N"]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_bags_of_integers_of_either_type(dtype):
    module = nn.EmbeddingBag(9, 4, mode="mean").eval()
    _, feed, (found,) = check(module, {"input": (3, 4)}, {"input": dtype})
    assert feed["input"].dtype == dtype
    np.testing.assert_allclose(found, module(torch.from_numpy(feed["input"])).detach().numpy(), rtol=1e-5)


def test_each_name_has_a_value(tmp_path):
    """An input that goes out, and a value that goes out twice."""

    class Net(nn.Module):
        def forward(self, x):
            y = x * 2
            return {"a": y, "b": y, "same": x, "again": x}

    model = export_module(Net(), {"x": (2, 3)}, "m")
    assert [value.name for value in model.graph.outputs] == ["a", "b", "same", "again"]
    write_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    x = torch.randn(3, 3)
    got = dict(zip([value.name for value in session.get_outputs()], session.run(None, {"x": x.numpy()}), strict=True))
    for name, factor in (("a", 2), ("b", 2), ("same", 1), ("again", 1)):
        np.testing.assert_array_equal(got[name], x.numpy() * factor)


def test_lengths_that_are_gathered_are_lengths(tmp_path):
    """No word of lengths in what torch says of a length of 0."""

    class Net(nn.Module):
        def forward(self, x, n):
            return x.cumsum(1).gather(1, (n - 1).view(-1, 1)).squeeze(1)

    model = export_module(Net(), {"x": (3, 6), "n": (3,)}, "m", dtypes={"n": "int64"})
    assert [value.shape[0] for value in model.graph.inputs] == ["N", "N"]


class Remembers(nn.Module):
    """A state whose batch is its second axis, and a mask without one."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 5, 2, batch_first=True)

    def forward(self, x, mask, h=None):
        y, h = self.rnn(x, h)
        return mask @ y, h


def test_a_batch_may_be_a_second_axis_or_none(tmp_path):
    torch.manual_seed(0)
    net = Remembers().eval()
    model = export_module(net, {"x": (2, 6, 4), "mask": (6, 6), "h": (2, 2, 5)}, "m")
    shapes = [tuple(d if isinstance(d, int) else d.value for d in value.shape) for value in model.graph.inputs]
    assert shapes == [("N", 6, 4), (6, 6), (2, "N", 5)]
    write_onnx(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    x, mask, h = torch.randn(3, 6, 4), torch.randn(6, 6), torch.randn(2, 3, 5)
    with torch.no_grad():
        wanted = net(x, mask, h)
    for ours, theirs in zip(session.run(None, {"x": x.numpy(), "mask": mask.numpy(), "h": h.numpy()}), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
