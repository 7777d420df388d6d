"""A net that its user had changed: the folded one on raw pixels answers what the other does on preprocessed ones; a fresh classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import converters
from converters.errors import ConversionError, Source
from converters.graph.builder import GraphBuilder
from converters.preprocessing import Preprocess
from converters.runtimes.onnxruntime import run_onnx
from tests.conformance import FIXTURES

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
RECIPES = [
    "caffe-resnet-v2-224",
    "caffe-inception-299",
    "caffe-resnext-224",
    "fb-resnet-224",
    "torchvision-224",
    "fb-cifar10",
    "mxnet-inception-v3-299",
]
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 3, 12, 10)).astype(np.float32)


def small_net(pads: int, bias: bool, *, norm: bool = False) -> ir.Model:
    rng = np.random.default_rng(0)
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("data", (2, 3, 12, 10))
    if norm:
        with g.at(Source("net", "layer", "bn_data", "BatchNorm"), "bn_data"):
            roles = ("weight", "bias", "running_mean", "running_var")
            x = g.emit("BatchNormalization", x, *(g.param(role, rng.uniform(0.5, 1, 3).astype(np.float32)) for role in roles))
    with g.at(Source("net", "layer", "conv1", "Convolution"), "conv1"):
        weight = g.param("weight", rng.standard_normal((4, 3, 3, 3)).astype(np.float32))
        more = [g.param("bias", rng.standard_normal(4).astype(np.float32))] if bias else []
        x = g.emit("Conv", x, weight, *more, pads=[pads] * 4, strides=[2, 1])
    with g.at(Source("net", "layer", "fc", "InnerProduct"), "fc"):
        x = g.flatten(g.emit("Relu", x), 1)
        size = g.fixed(x, 1)[0]
        x = g.emit("Gemm", x, g.param("weight", rng.standard_normal((5, size)).astype(np.float32)), transB=1)
    g.output(x, "out")
    return g.finish()


def preprocessed(recipe: Preprocess) -> np.ndarray:
    """By the recipe's own words: the order of channels, the range, mean and std."""
    values = PIXELS[:, ::-1] if recipe.color == "BGR" else PIXELS
    mean, std = (np.array(numbers).reshape(1, 3, 1, 1) for numbers in (recipe.mean, recipe.std))
    return ((values.astype(np.float64) / 255 * int(recipe.range) - mean) / std).astype(np.float32)


def answers(model: ir.Model, items: np.ndarray, folder: Path) -> list[np.ndarray]:
    converters.save(model, folder / "net.onnx", force=True)
    with torch.no_grad():
        return [converters.to_module(model)(torch.from_numpy(items)).numpy(), run_onnx(folder / "net.onnx", {"data": items})[0]]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    ("pads", "bias", "norm"), [(0, True, False), (0, False, False), (1, True, False), (1, False, False), (0, True, True)]
)
def test_folded_preprocessing(tmp_path: Path, recipe: str, pads: int, bias: bool, norm: bool) -> None:
    preprocess = Preprocess.recipe(recipe)
    want = answers(small_net(pads, bias, norm=norm), preprocessed(preprocess), tmp_path)[0]
    model = small_net(pads, bias, norm=norm)
    said = converters.fold_preprocessing(model, preprocess)
    for got in answers(model, PIXELS, tmp_path):
        assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    layers = [node for node in model.graph if node.op_type == "Conv"]
    if pads or norm:
        assert len(layers) == 2 and ("pads the image with zeros" in said) == (pads == 1 and not norm)
    else:
        assert len(layers) == 1 and said.startswith("The preprocessing of its pixels is part of the weights of conv1")
    converters.save(model, tmp_path / "net.pth")
    text = (tmp_path / "net.py").read_text()
    assert "The preprocessing of its pixels" in text.split('"""')[1]
    left = preprocess.raw()
    assert left.std == (1, 1, 1) and left.color == "RGB" and (left.crop, left.resize) == (preprocess.crop, preprocess.resize)
    assert f'"resize_to": {preprocess.resize_to},' in text


def test_who_asks_for_the_image_s_size_sees_no_pixels(tmp_path: Path) -> None:
    """torch's exporter takes the batch from the input itself, which is no second reader of its numbers."""
    model = small_net(0, True)
    first = model.graph[0]
    size = ir.Node("", "Shape", [model.graph.inputs[0]], outputs=[ir.Value(name="size", type=ir.TensorType(ir.DataType.INT64))])
    model.graph.insert_before(first, size)
    model.graph.outputs.append(size.outputs[0])
    said = converters.fold_preprocessing(model, Preprocess.recipe("fb-resnet-224"))
    assert "is part of the weights of conv1" in said


def test_lab_and_strange_inputs_are_refused() -> None:
    with pytest.raises(ConversionError, match="Lab isn't linear"):
        converters.fold_preprocessing(small_net(0, True), Preprocess.recipe("lab-vgg16-224"))
    with pytest.raises(ConversionError, match="takes 3 channels, the preprocessing gives 1"):
        converters.fold_preprocessing(small_net(0, True), Preprocess.recipe("gray-vgg16-224"))
    g = GraphBuilder("net")
    g.output(g.emit("Relu", g.input("data", (2, 3))), "out")
    with pytest.raises(ConversionError, match=r"one input \(N, C, H, W\)"):
        converters.fold_preprocessing(g.finish(), Preprocess.recipe("fb-resnet-224"))


DIGITS = FIXTURES / "digits"
NETS: dict[str, tuple[list[Path], dict[str, Any]]] = {
    "caffe": ([DIGITS / "caffe/deploy.prototxt", DIGITS / "caffe/digits.caffemodel"], {}),
    "torch7": ([DIGITS / "torch7/digits.t7"], {"inputs": {"": (1, 1, 16, 16)}}),
    "mxnet": ([DIGITS / "mxnet/digits-symbol.json", DIGITS / "mxnet/digits-0010.params"], {"inputs": {"data": (1, 1, 16, 16)}}),
}


@pytest.mark.parametrize("name", NETS)
def test_a_fresh_classifier(tmp_path: Path, name: str) -> None:
    files, options = NETS[name]
    before, model = (converters.load(*files, **options) for _ in range(2))
    said = converters.replace_classifier(model, 4)
    assert "is a fresh layer of 4 classes (it had 10): its weights are random and have to be trained." in said
    module, old = converters.to_module(model), converters.to_module(before)
    x = torch.zeros(3, 1, 16, 16)
    with torch.no_grad():
        assert module(x).shape == (3, 4) and old(x).shape == (3, 10)
    assert list(module.state_dict()) == list(old.state_dict())
    changed = [key for key, value in module.state_dict().items() if not value.equal(old.state_dict()[key])]
    assert len(changed) == 2
    bound = 1 / np.sqrt(module.state_dict()[changed[0]].shape[1])
    assert all(0 < float(module.state_dict()[key].abs().max()) <= bound for key in changed)
    converters.save(model, tmp_path / "net.pth")
    assert "fresh layer of 4 classes" in (tmp_path / "net.py").read_text().split('"""')[1]
    assert [d if isinstance(d, int) else str(d) for d in model.graph.outputs[0].shape or []][1] == 4


def test_nets_without_a_classifier() -> None:
    g = GraphBuilder("net")
    x = g.input("data", (2, 3, 8, 8))
    with g.at(Source("net", "layer", "conv1", "Convolution"), "conv1"):
        x = g.emit("Conv", x, g.param("weight", np.zeros((4, 3, 3, 3), np.float32)))
    g.output(x, "out")
    with pytest.raises(ConversionError, match=r"last layer with weights is conv1 \(Convolution\) \(Conv\), which is no linear layer"):
        converters.replace_classifier(g.finish(), 5)
    with pytest.raises(ConversionError, match="answers nothing"):
        converters.replace_classifier(small_net(0, True), 0)
    g = GraphBuilder("net")
    x = g.input("data", (2, 6))
    with g.at(Source("net", "layer", "fc", "InnerProduct"), "fc"):
        x = g.emit("Gemm", x, g.param("weight", np.zeros((4, 6), np.float32)), transB=1)
    g.output(g.emit("MatMul", x, np.eye(4, dtype=np.float32)), "out")
    with pytest.raises(ConversionError, match="takes its 4 classes"):
        converters.replace_classifier(g.finish(), 5)


def normalized(kind: str, bias: bool, shared: bool = False) -> ir.Model:
    """A layer of a kind, and a batch normalization behind it."""
    rng = np.random.default_rng(3)
    g = GraphBuilder("net", symbolic_batch=True)
    x = g.input("data", (2, 6) if kind == "Gemm" else (2, 6, 7, 7))
    shape = {"Gemm": (8, 6), "Conv": (8, 3, 3, 3), "ConvTranspose": (6, 8, 3, 3)}[kind]
    more = {"Gemm": {"transB": 1}, "Conv": {"group": 2, "pads": [1] * 4}, "ConvTranspose": {"strides": [2, 2]}}[kind]
    with g.at(Source("net", "layer", "one", kind), "one"):
        held = [g.param("weight", rng.standard_normal(shape).astype(np.float32))]
        held += [g.param("bias", rng.standard_normal(8).astype(np.float32))] if bias else []
        y = g.emit(kind, x, *held, **more)
    with g.at(Source("net", "layer", "norm", "BatchNorm"), "norm"):
        ranges = {"weight": (-2, 2), "bias": (-1, 1), "running_mean": (-3, 3), "running_var": (0.01, 4)}
        roles = [g.param(role, rng.uniform(*ends, 8).astype(np.float32)) for role, ends in ranges.items()]
        z = g.emit("BatchNormalization", y, *roles, epsilon=1e-3)
        g.bind(z, "normed")
    g.output(g.emit("Relu", z), "out")
    if shared:
        g.output(g.emit("Neg", y), "other")
    return g.finish()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm"])
def test_a_folded_batch_normalization_answers_the_same(kind, bias, tmp_path):
    model = normalized(kind, bias)
    dims = [d if isinstance(d, int) else 2 for d in model.graph.inputs[0].shape]
    x = np.random.default_rng(4).standard_normal(dims).astype(np.float32)
    (before,) = converters.to_module(model)(torch.from_numpy(x)).detach().numpy()[None]
    assert converters.fold_batchnorm(model) == "1 batch normalizations are part of the weights before them."
    assert sorted(model.graph.initializers) == ["one.bias", "one.weight"]
    assert [n.op_type for n in model.graph] == [kind, "Relu"] and model.graph[0].outputs[0].name == "normed"
    for after in answers(model, x, tmp_path):
        assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


def test_a_batch_normalization_that_others_need_stays():
    with pytest.raises(ConversionError, match="no batch normalization to fold"):
        converters.fold_batchnorm(normalized("Conv", True, shared=True))
    with pytest.raises(ConversionError, match="no batch normalization to fold"):
        converters.fold_batchnorm(small_net(0, True, norm=True))
