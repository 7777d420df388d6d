"""What a file's numbers hide: layers whose answers die out, saturate or drown are told apart all the same, and what differs is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import converters
from converters.errors import ConversionError
from converters.matching.redrawing import redrawn
from tests.readers.caffe import wire

RNG = np.random.default_rng(9)
HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }\n'


def draw(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def conv(name: str, bottom: str = "data") -> str:
    param = "num_output: 4 kernel_size: 3 pad: 1"
    return f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{ {param} }} }}\n'


def act(kind: str, blob: str) -> str:
    return f'layer {{ name: "{blob}_act" type: "{kind}" bottom: "{blob}" top: "{blob}" }}\n'


FC = 'layer { name: "fc" type: "InnerProduct" bottom: "last" top: "fc" inner_product_param { num_output: 5 } }\n'


def load(folder: Path, text: str, blobs: dict[str, list[np.ndarray]]) -> ir.Model:
    (folder / "net.prototxt").write_text(HEAD + text)
    (folder / "net.caffemodel").write_bytes(wire.caffemodel(blobs))
    return converters.load(folder / "net.prototxt", folder / "net.caffemodel")


def branches(folder: Path, kind: str, factor: float, shift: float) -> ir.Model:
    """a - 2 b + skip, of one image."""
    text = conv("a") + act(kind, "a") + conv("b") + act(kind, "b") + conv("skip")
    text += 'layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" bottom: "skip" top: "last" '
    text += "eltwise_param { operation: SUM coeff: 1 coeff: -2 coeff: 1 } }\n" + FC
    blobs = {name: [draw(4, 3, 3, 3) * factor, draw(4) * factor + shift] for name in "ab"}
    return load(folder, text, blobs | {"skip": [draw(4, 3, 3, 3), draw(4)], "fc": [draw(5, 144), draw(5)]})


class Branches(nn.Module):
    """The file's net, under names that say the contrary."""

    def __init__(self, activation: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.skip = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(3))
        self.fc, self.activation = nn.Linear(144, 5), activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        less = self.activation(self.a(x))
        return self.fc(torch.flatten(self.activation(self.b(x)) - 2 * less + self.skip(x), 1))  # type: ignore[no-any-return]


PAIRS = [("a", "b"), ("b", "a"), ("skip", "skip"), ("fc", "fc")]
CROSSED = {f"{ours}.{role}": f"{theirs}.{role}" for ours, theirs in PAIRS for role in ("weight", "bias")}


@pytest.mark.parametrize(
    ("kind", "activation", "factor", "shift"),
    [
        ("ReLU", F.relu, 1.0, -1e4),  # always 0
        ("Sigmoid", torch.sigmoid, 1.0, 4e3),  # always 1
        ("TanH", torch.tanh, 1e-12, 0.0),  # too small to be seen beside the rest
        ("ReLU", F.relu, 1.0, 0.0),  # and where nothing is hidden
    ],
)
def test_branches_that_the_numbers_hide(tmp_path: Path, kind: str, activation: Any, factor: float, shift: float) -> None:
    found = converters.match(branches(tmp_path, kind, factor, shift), Branches(activation))
    assert found.keys == CROSSED


class Line(nn.Module):
    """A convolution, what comes between, and a linear layer."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor], first: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.fc, self.between = first or nn.Conv2d(3, 4, 3, padding=1), nn.Linear(144, 5), between

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.between(self.first(x)), 1))  # type: ignore[no-any-return]


def line(folder: Path, *, weight: np.ndarray | None = None, shift: float = 0.0) -> ir.Model:
    text = conv("last") + act("ReLU", "last") + FC
    blobs = {"last": [draw(4, 3, 3, 3) if weight is None else weight, draw(4) + shift], "fc": [draw(5, 144), draw(5)]}
    return load(folder, text, blobs)


@pytest.mark.parametrize("between", [nn.Identity(), nn.LeakyReLU(0.1), nn.Softplus(), torch.abs])
def test_what_acts_below_zero_alone_is_seen_where_all_is_above(tmp_path: Path, between: Any) -> None:
    with pytest.raises(ConversionError, match=r"with other numbers in the weights.*last_act \(ReLU\)"):
        converters.match(line(tmp_path, shift=1e4), Line(between))


def test_columns_of_a_flattening_that_is_always_zero(tmp_path: Path) -> None:
    """Which columns belong to which channels can't be seen there, and yet they are put in their places."""
    model = line(tmp_path, shift=-1e4)
    module = Line(lambda x: F.relu(x).permute(0, 2, 3, 1))
    found = converters.match(model, module)
    weight = np.asarray(model.graph.initializers["fc.weight"].const_value.numpy())  # type: ignore[union-attr]
    want = weight.reshape(5, 4, 6, 6).transpose(0, 2, 3, 1).reshape(5, 144)
    np.testing.assert_array_equal(found.apply()["fc.weight"].numpy(), want)


class Flipped(nn.Conv2d):
    """A convolution as in mathematics."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight.flip(2, 3), self.bias, padding=1)


class Standardized(nn.Conv2d):
    """A convolution whose weights have mean 0 and variance 1 in each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        var, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        return F.conv2d(x, (self.weight - mean) / torch.sqrt(var), self.bias, padding=1)


def test_weights_that_a_class_computes_something_of(tmp_path: Path) -> None:
    """With symmetric kernels it is the same net, whatever comes in; with others it isn't."""
    kernels = draw(4, 3, 3, 3)
    with pytest.raises(ConversionError, match="no weights were placed"):
        converters.match(line(tmp_path, weight=kernels), Line(F.relu, Flipped(3, 4, 3)))
    kernels = kernels + kernels[:, :, ::-1, ::-1]
    model = line(tmp_path, weight=kernels)
    found = converters.match(model, Line(F.relu, Flipped(3, 4, 3)))
    np.testing.assert_array_equal(found.apply()["first.weight"].numpy(), kernels)


def test_weights_that_are_normalized_in_the_file_and_in_the_class(tmp_path: Path) -> None:
    kernels = draw(4, 3, 3, 3).astype(np.float64)
    with pytest.raises(ConversionError, match="no weights were placed"):
        converters.match(line(tmp_path, weight=kernels), Line(F.relu, Standardized(3, 4, 3)))
    kernels -= kernels.mean((1, 2, 3), keepdims=True)
    kernels /= kernels.std((1, 2, 3), keepdims=True)
    found = converters.match(line(tmp_path, weight=kernels), Line(F.relu, Standardized(3, 4, 3)))
    assert found.keys["first.weight"] == "last.weight"


class Twice(nn.Module):
    """Modules and weights that are registered under two names, which a state_dict has both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.layers = nn.ModuleList([self.first, nn.Linear(144, 5)])
        self.shift = self.layers[1].bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers[1](torch.flatten(F.relu(self.layers[0](x)), 1))  # type: ignore[no-any-return]


def test_what_is_registered_twice_gets_its_weights_under_both_names(tmp_path: Path) -> None:
    model, module = line(tmp_path), Twice()
    found = converters.match(model, module)
    state = found.apply()
    assert found.keys["layers.0.weight"] == found.keys["first.weight"] == "last.weight"
    assert found.keys["shift"] == found.keys["layers.1.bias"] == "fc.bias"
    module.load_state_dict(state, strict=True)
    np.testing.assert_array_equal(module.first.weight.detach().numpy(), model.graph.initializers["last.weight"].const_value.numpy())  # type: ignore[union-attr]


class Called(nn.Module):
    """One module that runs twice, or two."""

    def __init__(self, *, twice: bool) -> None:
        super().__init__()
        self.m = nn.Conv2d(3, 3, 3, padding=1)
        self.n = self.m if twice else nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.n(torch.relu(self.m(x)))  # type: ignore[no-any-return]


def test_a_module_that_runs_twice(tmp_path: Path) -> None:
    text = (conv("one") + act("ReLU", "one") + conv("two", "one")).replace("num_output: 4", "num_output: 3")
    same = [draw(3, 3, 3, 3), draw(3)]
    tied = load(tmp_path, text, {"one": same, "two": same})
    keys = converters.match(tied, Called(twice=True)).keys
    assert keys["m.weight"] == keys["n.weight"] and converters.match(tied, Called(twice=False)).proven
    apart = load(tmp_path, text, {"one": same, "two": [same[0], draw(3)]})
    with pytest.raises(ConversionError, match="runs again"):
        converters.match(apart, Called(twice=True))


class Deciding(Line):
    """Goes another way for large numbers than the inputs that are drawn have; answers in a dict, and keeps more than tensors."""

    def __init__(self) -> None:
        super().__init__(F.relu)

    def forward(self, x: torch.Tensor) -> Any:
        if x.max() > 1e9:
            x = x * 0
        return {"answer": super().forward(x)}

    def get_extra_state(self) -> Any:
        return {"version": 3}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"version": 3}


def test_a_class_that_decides_by_its_numbers_is_said_to(tmp_path: Path) -> None:
    module = Deciding()
    found = converters.match(line(tmp_path), module)
    assert any("decides by the numbers" in note for note in found.notes)
    module.load_state_dict(found.apply(), strict=True)
    assert not converters.match(line(tmp_path), Line(F.relu)).notes


class Writing(Line):
    """Writes into what it is given."""

    def __init__(self, by: float) -> None:
        super().__init__(F.relu)
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.sub_(self.by).add_(self.by / 2).add_(self.by / 2) if self.by < 1 else x.mul_(self.by))


def test_a_class_that_writes_into_its_input(tmp_path: Path) -> None:
    assert converters.match(line(tmp_path), Writing(0.5)).proven
    with pytest.raises(ConversionError, match="first"):
        converters.match(line(tmp_path), Writing(2.0))


def test_a_class_with_a_tensor_that_it_computed_is_copied(tmp_path: Path) -> None:
    """torch's old weight_norm keeps the weight that it computes, which torch copies not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = Line(F.relu, nn.utils.weight_norm(nn.Conv2d(3, 4, 3, padding=1)))
    with pytest.raises(ConversionError, match="no weights were placed"):  # the file doesn't say length and direction
        converters.match(line(tmp_path), module)


def test_weights_alone_of_what_is_one_tensor_in_the_class() -> None:
    module = Twice()
    weights = {name: np.asarray(tensor.detach()) for name, tensor in module.state_dict().items()}
    found = converters.match(weights, module)
    assert not found.proven and found.keys["shift"] == "shift"
    with pytest.raises(ConversionError, match=r"(shift|layers.1.bias) and (shift|layers.1.bias) are one tensor in your class"):
        converters.match(weights | {"shift": weights["shift"] + 1}, module)
    assert converters.match({name: np.asarray(t) for name, t in Line(F.relu).state_dict().items()}, Deciding()).keys


class Shifted(Line):
    """Takes something off that no state_dict has."""

    def __init__(self, mean: float) -> None:
        super().__init__(F.relu)
        self.register_buffer("mean", torch.full((3, 1, 1), mean), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - self.mean)


def test_buffers_that_no_state_dict_has(tmp_path: Path) -> None:
    assert converters.match(line(tmp_path), Shifted(0.0)).proven
    with pytest.raises(ConversionError, match="first"):
        converters.match(line(tmp_path), Shifted(1e-3))


def test_statistics_that_a_class_doesnt_use(tmp_path: Path) -> None:
    """A norm of the batch's own statistics is another layer than one of stored ones, though all that it has fits."""
    text = conv("last") + 'layer { name: "bn" type: "BatchNorm" bottom: "last" top: "last" }\n'
    text += 'layer { name: "bns" type: "Scale" bottom: "last" top: "last" scale_param { bias_term: true } }\n' + FC
    blobs = {"last": [draw(4, 3, 3, 3), draw(4)], "bn": [draw(4), np.abs(draw(4)) + 0.5, np.ones(1, np.float32)]}
    model = load(tmp_path, text, blobs | {"bns": [draw(4), draw(4)], "fc": [draw(5, 144), draw(5)]})
    assert converters.match(model, Line(nn.BatchNorm2d(4))).proven
    with pytest.raises(ConversionError, match="no weights were placed"):
        converters.match(model, Line(nn.BatchNorm2d(4, track_running_stats=False)))


def test_other_numbers_keep_what_is_equal_equal(tmp_path: Path) -> None:
    matrix = draw(4, 6)
    names = {"a.weight": matrix, "b.weight": matrix.T.copy(), "c.weight": matrix.reshape(4, 6, 1, 1), "d.weight": draw(4, 6)}
    names |= {"zeros": np.zeros(5, np.float32), "half": np.float32([0, 0, 1, 2]), "var": np.float32([1, 2, 3]), "places": np.arange(4)}
    values = [ir.Value(name=name, const_value=ir.tensor(array)) for name, array in names.items()]
    model = ir.Model(ir.Graph([], [], nodes=[], initializers=values), ir_version=9)
    made = {name: value.const_value.numpy() for name, value in redrawn(model, {"d.weight"}).graph.initializers.items()}  # type: ignore[union-attr]
    np.testing.assert_array_equal(made["a.weight"], made["b.weight"].T)
    np.testing.assert_array_equal(made["a.weight"], made["c.weight"].reshape(4, 6))
    assert not np.isclose(made["a.weight"], matrix).any() and (made["var"] > 0).all()
    for name in ("zeros", "d.weight", "places"):
        np.testing.assert_array_equal(made[name], names[name])
    assert (made["half"][:2] == 0).all() and (made["half"][2:] != [1, 2]).all()
    assert model.graph.initializers["a.weight"].const_value.numpy() is not made["a.weight"]  # type: ignore[union-attr]
