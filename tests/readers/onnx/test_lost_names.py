"""Weights that exporters left without a name, or kept once for several layers, are their own layer's again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import state_dict, to_module, write_source

RNG = np.random.default_rng(2)


def net(nodes, tensors, *, opset=13, shape=("N", 3, 8, 8)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8))


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_equal_weights_that_stand_once_are_each_layer_s_own():
    """As PyTorch's exporter writes a fresh net: the ones and zeros of its batch norms once, and an Identity at every other place."""
    roles = ("weight", "bias", "running_mean", "running_var")
    second = [f"block.bn2.{role}" for role in ("weight", "bias", "running_var", "running_mean")]
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    nodes = [
        *(helper.make_node("Identity", [source], [name]) for source, name in zip(["bn1.weight", "bn1.bias"] * 2, second, strict=True)),
        helper.make_node("Identity", ["bn1.weight"], ["bn1.running_var"]),
        helper.make_node("Identity", ["bn1.bias"], ["bn1.running_mean"]),
        helper.make_node("BatchNormalization", ["x", *(f"bn1.{role}" for role in roles)], ["a"]),
        helper.make_node("BatchNormalization", ["a", *(f"block.bn2.{role}" for role in roles)], ["y"]),
    ]
    model = net(nodes, {"bn1.weight": ones, "bn1.bias": zeros})
    source = write_source(model)
    assert source.count("nn.BatchNorm2d(3)") == 2 and "F.batch_norm" not in source
    assert list(state_dict(model)) == [f"{path}.{role}" for path in ("bn1", "block.bn2") for role in roles]
    x = torch.from_numpy(floats(2, 3, 8, 8))
    module = to_module(model)
    with torch.no_grad():
        module.block.bn2.bias += 1  # its own: the first layer's stays
        np.testing.assert_allclose(module(x), x + 1, rtol=1e-4, atol=1e-4)


def test_a_weight_that_only_an_identity_takes_keeps_its_name():
    nodes = [helper.make_node("Identity", ["conv.weight"], ["copy"]), helper.make_node("Conv", ["x", "copy"], ["y"])]
    model = net(nodes, {"conv.weight": floats(4, 3, 3, 3)})
    assert list(state_dict(model)) == ["conv.weight"] and "nn.Conv2d(3, 4, 3, bias=False)" in write_source(model)


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (("layer1.0.conv1.weight", "onnx::Conv_7"), ["layer1.0.conv1.weight", "layer1.0.conv1.bias"]),
        (("onnx::Conv_6", "layer1.0.conv1.bias"), ["layer1.0.conv1.weight", "layer1.0.conv1.bias"]),
        (("onnx::Conv_6", "onnx::Conv_7"), ["layer1.0.conv1.weight", "layer1.0.conv1.bias"]),
        (("layer1.0.conv1.weight", "other.offset"), ["layer1.0.conv1.weight", "other.offset"]),
    ],
)
def test_a_lost_name_is_found_beside_the_other_or_at_the_node(names, keys):
    """The exporter's scopes are spelled from the root: /layer1/layer1.0/conv1."""
    node = helper.make_node("Conv", ["x", *names], ["y"], name="/layer1/layer1.0/conv1/Conv")
    model = net([node], dict(zip(names, (floats(4, 3, 3, 3), floats(4)), strict=True)))
    assert list(state_dict(model)) == keys
    assert ("nn.Conv2d(3, 4, 3)" in write_source(model)) is ("conv1.bias" in keys[1])


@pytest.mark.parametrize("turned", [False, True])
def test_matrices_without_a_name_are_turned_to_linear_layers(turned):
    weight, bias = floats(3, 5), floats(5)
    tensors = {"fc/kernel:0": weight.T.copy() if turned else weight, "fc/bias:0": bias}
    model = net([helper.make_node("Gemm", ["x", *tensors], ["y"], transB=int(turned))], tensors, shape=("N", 3))
    assert "nn.Linear(3, 5)" in write_source(model)
    x = floats(2, 3)
    np.testing.assert_array_equal(state_dict(model)["fc.weight"].numpy(), weight.T)
    np.testing.assert_allclose(to_module(model)(torch.from_numpy(x)).detach().numpy(), x @ weight + bias, rtol=1e-5, atol=1e-5)


def test_a_matrix_with_a_name_stays_as_it_is():
    tensors = {"h.attn.weight": floats(3, 5), "h.attn.bias": floats(5)}
    model = net([helper.make_node("Gemm", ["x", *tensors], ["y"])], tensors, shape=("N", 3))
    assert tuple(state_dict(model)["h.attn.weight"].shape) == (3, 5) and "nn.Linear" not in write_source(model)


def test_weights_of_bfloat16_are_turned_bit_by_bit():
    bits = RNG.integers(0, 1 << 15, (3, 5)).astype(np.uint16)
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.BFLOAT16, dims=[3, 5], raw_data=bits.tobytes())
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.BFLOAT16, ("N", 2, 3))],
        [helper.make_tensor_value_info("y", TensorProto.BFLOAT16, None)],
        [tensor],
    )
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8))
    (stored,) = state_dict(model).values()
    np.testing.assert_array_equal(np.asarray(stored.numpy()).view(np.uint16), bits.T)


def test_weights_inside_branches_are_in_the_state_dict():
    """Each branch has its own `conv.weight`; both are learnt, and none of their numbers stands in the source."""

    def branch(name, seed, constant):
        array = np.random.default_rng(seed).standard_normal((3, 3, 3, 3)).astype(np.float32)
        tensor = numpy_helper.from_array(array, "conv.weight")
        nodes = [helper.make_node("Conv", ["x", "conv.weight"], ["out"], pads=[1] * 4)]
        if constant:
            nodes.insert(0, helper.make_node("Constant", [], ["conv.weight"], value=tensor))
        outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
        return array, helper.make_graph(nodes, name, [], outputs, [] if constant else [tensor])

    (first, yes), (second, no) = branch("yes", 1, True), branch("no", 2, False)
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=yes, else_branch=no),
    ]
    model = net(nodes, {"zero": np.float32(0)})
    stored = [tensor.numpy() for tensor in state_dict(model).values()]
    assert len(stored) == 2 and all(any(np.array_equal(array, want) for array in stored) for want in (first, second))
    assert "register_buffer" not in write_source(model)
    module = to_module(model)
    for sign, weight in ((1, first), (-1, second)):
        x = torch.full((2, 3, 8, 8), float(sign))
        np.testing.assert_allclose(module(x).detach(), torch.conv2d(x, torch.from_numpy(weight), padding=1), rtol=1e-5, atol=1e-5)
