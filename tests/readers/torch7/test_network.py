"""Finding the model, naming parameters and inputs, and what is refused or warned of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

import converters
from converters.cli import main
from converters.errors import ConversionError, ConversionWarning, FormatError, UnsupportedError
from converters.options import LoadOptions
from converters.readers.torch7 import load, lowering, lowers, parameters
from tests.readers.torch7.lua import Function, Object, Storage, Tensor, dumps, module, sizes
from tests.readers.torch7.module_case import rand
from tests.readers.torch7.running import check

W, B = rand(4, 4), rand(4)


def linear(**fields: Any) -> Object:
    return module("nn.Linear", **{"weight": W, "bias": B, **fields})


def write(folder: Path, made: Any) -> Path:
    path = folder / "model.t7"
    path.write_bytes(dumps(made))
    return path


def keys(folder: Path, made: Any, **options: Any) -> list[str]:
    return list(load([write(folder, made)], LoadOptions(**{"inputs": {"input": (2, 4)}, **options})).graph.initializers)


def test_keys_are_positions_in_the_containers(tmp_path: Path) -> None:
    made = module("nn.Sequential", module("nn.ReLU"), module("nn.Sequential", linear(bias=rand(4)), linear(weight=rand(4, 4), bias=None)))
    assert keys(tmp_path, made) == ["1.0.weight", "1.0.bias", "1.1.weight"]
    assert list(parameters(tmp_path / "model.t7")) == ["1.0.weight", "1.0.bias", "1.1.weight"]
    assert keys(tmp_path, linear()) == ["weight", "bias"]


def test_shared_storages_are_one_parameter(tmp_path: Path) -> None:
    storage = Storage(W.reshape(-1))
    weights = [Tensor(storage, (4, 4), (4, 1)) for _ in range(2)]
    made = module("nn.Sequential", *(linear(weight=weight, bias=None) for weight in weights))
    assert keys(tmp_path, made) == ["0.weight"]
    assert list(converters.load_weights(tmp_path / "model.t7")) == ["0.weight"]
    transposed = module("nn.Sequential", linear(weight=weights[0], bias=None), linear(weight=Tensor(storage, (4, 4), (1, 4)), bias=None))
    assert keys(tmp_path, transposed) == ["0.weight", "1.weight"]


@pytest.mark.parametrize(
    ("made", "key"),
    [
        ({"model": linear(), "epoch": 3}, None),
        ({"protos": {"rnn": linear(), "criterion": module("nn.ClassNLLCriterion")}}, None),
        ({"a": linear(), "b": module("nn.Tanh")}, "a"),
        ({"nets": [module("nn.Tanh"), linear()]}, "nets[2]"),
        ({"model": module("nn.DataParallelTable", linear())}, "model.modules[1]"),
        ({"protos": {"rnn": linear()}, "other": module("nn.Tanh")}, "protos"),
    ],
)
def test_where_the_model_sits(made: Any, key: str | None, tmp_path: Path) -> None:
    assert keys(tmp_path, made, key=key) == ["weight", "bias"]


@pytest.mark.parametrize(
    ("made", "key", "message"),
    [
        ({"a": linear(), "b": module("nn.Tanh")}, None, "several modules are in this file: 'a' .nn.Linear., 'b' .nn.Tanh.; say which"),
        ({"a": linear()}, "c", "key 'c': a table with 1 entries: a has no entry 'c'"),
        ({"a": linear(), "n": 3}, "n", "no module at key 'n', but a number"),
        ({"losses": [1, 2], "weights": W}, None, "there is no module in this file: it holds a table with 2 entries: losses, weights"),
        (Function(b"x", []), None, "holds a Lua function"),
        (W, None, "holds a torch.FloatTensor of size 4x4"),
    ],
)
def test_where_no_model_sits(made: Any, key: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=message):
        load([write(tmp_path, made)], LoadOptions(inputs={"input": (2, 4)}, key=key))


def test_parameters_of_a_table_of_tensors(tmp_path: Path) -> None:
    found = converters.load_weights(write(tmp_path, {"layers": [{"w": W}, {"w": B}], "n": 3}))
    assert list(found) == ["layers[1].w", "layers[2].w"]
    np.testing.assert_array_equal(np.asarray(found["layers[2].w"]), B)
    with pytest.raises(FormatError, match="no tensors in this file"):
        parameters(write(tmp_path, {"n": 3}))


def test_parameters_of_classes_that_keep_them_elsewhere(tmp_path: Path) -> None:
    affine = Object("inn.ConstAffine", {"a": W, "b": B, "ga": W * 2, "gb": B * 2, "output": rand(9), "_buffer": rand(8)})
    projected = module("nn.SeqLSTMP", weight=rand(6, 8), weightO=rand(2, 3), gradWeightO=rand(2, 3, seed=1), cell=rand(7))
    mask = Object("nn.DeepMask", {"trunk": linear(bias=None), "refs": [linear(weight=rand(4, 4, seed=2), bias=None)]})
    made = module("nn.Sequential", affine, projected, mask)
    expected = ["0.a", "0.b", "1.weight", "1.weightO", "2.trunk.weight", "2.refs.0.weight"]
    found = converters.load_weights(write(tmp_path, made))
    assert list(found) == [key for key in expected if key != "2.trunk.weight"]  # the very tensor that 0.a is
    np.testing.assert_array_equal(np.asarray(found["1.weightO"]), rand(2, 3))


def test_tensors_of_classes_that_nobody_knows(tmp_path: Path) -> None:
    """Every tensor of floating point numbers that isn't left from a run, whatever package the name is of."""
    fields = {
        "alpha": W,
        "beta": B,
        "output": rand(9),
        "buffer": rand(8),
        "_work": rand(7),
        "gradAlpha": rand(4, 4, seed=5),
        "steps": np.arange(3),
    }
    made = module("nn.Sequential", Object("nn.MyLayer", fields), Object("my.Layer", {"inside": {"net": linear(bias=None)}, "a": rand(2)}))
    assert list(converters.load_weights(write(tmp_path, made))) == ["0.alpha", "0.beta", "1.a"]


def test_all_unknown_classes_at_once(tmp_path: Path) -> None:
    made = module(
        "nn.Sequential", module("nn.Mine"), linear(), module("nn.SpatialFractionalMaxPooling"), module("my.Other"), module("nn.Mine")
    )
    with pytest.raises(UnsupportedError) as caught:
        load([write(tmp_path, made)], LoadOptions(inputs={"input": (2, 4)}))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path / 'model.t7'}: module '0' (nn.Mine): no lowering is registered for this type"
    assert "module '2' (nn.SpatialFractionalMaxPooling)" in lines[1] and "module '3' (my.Other)" in lines[2]
    assert "drawn at random" in lines[3] and "from converters.readers.torch7 import lowers" in lines[-1]


def test_unknown_classes_are_listed_with_their_fields(tmp_path: Path) -> None:
    """Also those that a known class keeps in a field, and reaches when it runs."""
    other = Object("my.Other", {"weight": W, "size": 3, "mode": "up", "inner": linear(), "gradWeight": W})
    made = module("nn.DenseConnectLayerCustom", net1=module("nn.Mine"), net2=other)
    with pytest.raises(UnsupportedError) as caught:
        load([write(tmp_path, made)], LoadOptions(inputs={"input": (2, 4)}))
    text = str(caught.value)
    assert "module 'net1' (nn.Mine)" in text and "module 'net2' (my.Other)" in text
    assert "nn.Mine has no fields of its own" in text
    assert f"my.Other has weight: {W.shape[0]}x{W.shape[1]}, size = 3, mode = up, inner: nn.Linear" in text


def test_a_plugin_of_the_command_lowers_classes_by_name(tmp_path: Path) -> None:
    """--plugin: a class of one's own, at the top and inside a container."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "from converters.readers.torch7 import lowers\n\n\n"
        "@lowers('my.Plugged')\n"
        "def plugged(g, module, x):\n"
        '    "x * factor + weight. Source: nobody."\n'
        "    return g.emit('Add', g.emit('Mul', x, module.number('factor')), module.param('weight'))\n"
    )
    source = write(tmp_path, module("nn.Sequential", linear(), module("my.Plugged", factor=2, weight=B)))
    target = tmp_path / "out.onnx"
    try:
        arguments = ["lua2onnx", str(source), str(target), "--input", "2x4", "--plugin", str(plugin)]
        assert main([*arguments, "--quiet"]) == 1
        assert main([*arguments, "--quiet", "--trust"]) == 0
    finally:
        if "my.Plugged" in lowers:
            lowers.remove("my.Plugged")
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    x = rand(3, 4, seed=9)
    (found,) = session.run(None, {"input": x})
    np.testing.assert_allclose(found, (x @ W.T + B) * 2 + B, rtol=1e-5, atol=1e-5)


def test_a_lowering_of_the_user(tmp_path: Path) -> None:
    @lowers("my.Scale")
    def scale(g: Any, module: Any, x: Any) -> Any:
        """x * factor * weight."""
        return g.emit("Mul", g.emit("Mul", x, module.number("factor")), module.param("weight"))

    try:
        check(tmp_path, module("nn.Sequential", module("my.Scale", factor=3, weight=B)), W, W * 3 * B)
        with pytest.raises(ValueError, match="registered already"):
            lowers("my.Scale")(scale)
    finally:
        lowers.remove("my.Scale")


FAULTS = {
    "bias": (linear(bias=rand(5)), "module '(the model)' (nn.Linear): field 'bias' has 5 elements for 4 outputs"),
    "integers": (linear(weight=np.zeros((4, 4), "i8")), "field 'weight' is a torch.LongTensor, not a tensor of floating point numbers"),
    "rank": (linear(weight=rand(16)), "field 'weight' has shape 16, expected ?x?"),
    "empty": (linear(weight=np.zeros(0, "f4")), "field 'weight' is an empty tensor"),
    "features": (linear(weight=rand(4, 5)), "it takes 5 features, but its input has 4"),
    "no_weight": (linear(weight=None), "field 'weight' must be a tensor, but it is missing"),
    "nan": (module("nn.MulConstant", constant_scalar=float("nan")), "field 'constant_scalar' must be a number, but it is nan"),
    "fraction": (module("nn.Max", dimension=1.5), "field 'dimension' must be a whole number, but it is 1.5"),
    "type": (linear(_type="torch.Fl0atTensor"), "field '_type' says 'torch.Fl0atTensor', which is no tensor class of Torch7"),
    "hole": (
        Object("nn.Sequential", {"modules": {1: linear(), 3: linear()}}),
        "table 'modules' has a hole behind entry 1: it holds 2 modules",
    ),
    "not_a_module": (Object("nn.Sequential", {"modules": [3]}), "modules[1] must be a module, but it is 3"),
    "own_function": (linear(updateOutput=Function(b"code", [])), "it has an updateOutput function of its own"),
    "random": (module("nn.Dropout", p=0.5, stochastic_inference=True), "stochastic_inference makes its output random"),
    "table_input": (module("nn.CAddTable"), "its input must be a table, but it is a tensor"),
    "replicated": (
        module("nn.Sequential", module("nn.Replicate", nfeatures=2), module("nn.MulConstant", constant_scalar=2, inplace=True)),
        "it overwrites a replicated tensor",
    ),
    "payload": (Object("nn.Linear", 3), "no module in this file"),
}


@pytest.mark.parametrize(("made", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(made: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        load([write(tmp_path, made)], LoadOptions(inputs={"input": (2, 4)}))
    assert str(caught.value).startswith(f"{tmp_path / 'model.t7'}: ") and message in str(caught.value)


def test_a_module_in_itself(tmp_path: Path) -> None:
    made = module("nn.Sequential", module("nn.ReLU"))
    made.fields["modules"].append(made)
    with pytest.raises(ConversionError, match="it contains itself"):
        load([write(tmp_path, made)], LoadOptions(inputs={"input": (2, 4)}))


def test_modules_that_multiply_end_in_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lowering, "MAX_AGAIN", 2000)
    twice = module("nn.Identity")
    for _ in range(40):
        twice = module("nn.Sequential", twice, twice)
    with pytest.raises(ConversionError, match="modules would run more than 2000 times again"):
        load([write(tmp_path, twice)], LoadOptions(inputs={"input": (2, 4)}))
    pair = module("nn.ConcatTable", module("nn.Identity"), module("nn.Identity"))
    for tail, message in ((module("nn.Identity"), "more than 10000 tensors"), (module("nn.FlattenTable"), "more than 100000 tensors")):
        with pytest.raises(ConversionError, match=message):
            load([write(tmp_path, module("nn.Sequential", *[pair] * 60, module("nn.Copy"), tail))], LoadOptions(inputs={"input": (2, 4)}))


# -- shapes of inputs --------------------------------------------------------------------------------------------------


def shapes(model: Any) -> list[tuple[Any, ...]]:
    return [tuple(d if isinstance(d, int) else d.value for d in value.shape) for value in model.graph.inputs]


def test_the_batch_stays_symbolic(tmp_path: Path) -> None:
    model = load([write(tmp_path, linear())], LoadOptions(inputs={"input": (2, 4)}))
    assert shapes(model) == [("N", 4)]
    assert shapes(load([tmp_path / "model.t7"], LoadOptions(inputs={"input": (4,)}))) == [(4,)]
    assert shapes(load([tmp_path / "model.t7"])) == [("N", 4)]
    unnamed = load([tmp_path / "model.t7"], LoadOptions(inputs={"": (2, 4)}))
    assert [value.name for value in unnamed.graph.inputs] == ["input"]


def test_a_batch_of_one_that_is_dropped_is_told(tmp_path: Path) -> None:
    made = module("nn.Sequential", module("nn.View", size=sizes(4)), linear())
    path = write(tmp_path, made)
    with pytest.warns(ConversionWarning, match="drops the dimension of a batch of one sample"):
        model = converters.load(path, inputs={"input": (1, 2, 2)})
    assert shapes(model) == [(1, 2, 2)] and tuple(model.graph.outputs[0].shape) == (4,)
    assert shapes(load([path], LoadOptions(inputs={"input": (2, 2, 2)}))) == [("N", 2, 2)]
    feed = rand(5, 2, 2)
    check(tmp_path, made, rand(2, 2, 2), feed.reshape(5, 4) @ W.T + B, feed=feed)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input": (2, 0)}, "all of at least 1"),
        ({"": (2, 4), "input_2": (2, 4)}, "a shape without a name"),
        ({"imput": (2, 4)}, "there is no input 'imput': a model's one tensor is 'input'"),
        ({"input_1": (2, 4), "input_3": (2, 4)}, "the shape of 'input_2' is missing"),
        ({"input_1": (2, 4), "input_1_1": (2, 4)}, "'input_1' is given as a tensor and as a table"),
        (None, "the file doesn't say what shape the model's input has; give it"),
    ],
)
def test_wrong_shapes(inputs: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=message):
        load([write(tmp_path, module("nn.CAddTable"))], LoadOptions(inputs=inputs))


def test_a_shape_beside_that_of_the_one_tensor_is_said_to_be_unused(tmp_path: Path) -> None:
    path = write(tmp_path, module("nn.Linear", weight=W, bias=B))
    with pytest.warns(ConversionWarning, match="the shape given for 'input2' isn't used"):
        model = load([path], LoadOptions(inputs={"input": (2, W.shape[1]), "input2": (3, W.shape[1])}))
    assert shapes(model) == [("N", W.shape[1])]


def test_known_channels_are_in_the_advice(tmp_path: Path) -> None:
    conv = module("nn.SpatialConvolution", weight=rand(2, 7, 1, 1), nInputPlane=7, nOutputPlane=2, kW=1, kH=1)
    made = module("nn.Sequential", conv, module("nn.SpatialMaxPooling", kW=2, kH=2, dW=2, dH=2))
    with pytest.raises(ConversionError, match="--input input=2x7x224x224"):
        load([write(tmp_path, made)])
    assert shapes(load([write(tmp_path, conv)])) == [("N", 7, "H", "W")]


def test_indices_make_an_input_of_integers(tmp_path: Path) -> None:
    table = module("nn.LookupTable", weight=rand(9, 4))
    model = load(
        [write(tmp_path, module("nn.Sequential", table, module("nn.Mean", dimension=2, sizeAverage=True)))],
        LoadOptions(inputs={"input": (2, 3)}),
    )
    assert model.graph.inputs[0].dtype.name == "INT64"
    both = module("nn.ConcatTable", module("nn.Sequential", module("nn.Select", dimension=2, index=1), table), linear())
    x = np.float32([[1, 2, 3, 4], [9, 8, 7, 6]])
    check(tmp_path, both, x, [table.fields["weight"][[0, 8]], x @ W.T + B])


# -- warnings ----------------------------------------------------------------------------------------------------------

WARNED = {
    "divide": (module("nn.SpatialAveragePooling", kW=2, kH=2, dW=2, dH=2), {"input": (2, 3, 4, 4)}, "older than the field 'divide'"),
    "sizeAverage": (module("nn.Mean", dimension=2), {"input": (2, 3)}, "older than the field 'sizeAverage'"),
    "doubles": (linear(weight=np.eye(4)), {"input": (2, 4)}, "its doubles become float32; --dtype float64 keeps them"),
    "subsampling": (
        module("nn.SpatialSubSampling", weight=rand(3, 2, 2), bias=rand(3), nInputPlane=3, kW=2, kH=2, dW=2, dH=2),
        {"input": (2, 3, 4, 4)},
        "of which nn reads the first 3 numbers",
    ),
    "future": (module("nn.ReLU", version=7), {"input": (2, 3)}, "nn.ReLU has version 7, newer than any"),
}


@pytest.mark.parametrize(("made", "inputs", "message"), WARNED.values(), ids=WARNED.keys())
def test_warnings(made: Any, inputs: Any, message: str, tmp_path: Path) -> None:
    with pytest.warns(ConversionWarning, match=message):
        converters.load(write(tmp_path, made), inputs=inputs)


def test_doubles_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    weight = np.eye(4) / 3
    path = write(tmp_path, linear(weight=weight, bias=np.zeros(4)))
    model = converters.load(path, inputs={"input": (2, 4)}, dtype="float64")
    np.testing.assert_array_equal(np.asarray(model.graph.initializers["weight"].const_value), weight)
    x = np.random.default_rng(3).standard_normal((3, 4))
    converters.save(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    by_torch = converters.to_module(model)(torch.from_numpy(x)).detach().numpy()
    for answer in (by_torch, session.run(None, {"input": x})[0]):
        assert answer.dtype == np.float64
        np.testing.assert_allclose(answer, x / 3, rtol=1e-14)
    with pytest.raises(ConversionError, match="float32 or float64, not float16"):
        converters.load(path, inputs={"input": (2, 4)}, dtype="float16")


def test_doubles_beyond_float32_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, linear(weight=np.eye(4) * 1e39, bias=None))
    with pytest.raises(ConversionError, match="holds doubles beyond the range of float32; keep them: --dtype float64"):
        converters.load(path, inputs={"input": (2, 4)})
    model = converters.load(path, inputs={"input": (2, 4)}, dtype="float64")
    assert np.asarray(model.graph.initializers["weight"].const_value).max() == 1e39
