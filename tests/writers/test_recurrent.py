"""Recurrent layers are written as nn.LSTM, nn.GRU and nn.RNN: onnxruntime's numbers, torch's own weights, one module of several layers."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import state_dict, to_module, write_source

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TORCH_IN_ONNX = {"LSTM": "iofg", "GRU": "zrn", "RNN": "n"}
TORCH = {"LSTM": "ifgo", "GRU": "rzn", "RNN": "n"}
H, C = 4, 6


def floats(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def onnx_form(module, layer):
    """W, R and B of a layer of torch's module, gates put into ONNX's order by their letters."""
    kind = type(module).__name__
    result = []
    for roles in (("weight_ih",), ("weight_hh",), ("bias_ih", "bias_hh")):
        rows = []
        for suffix in ("", "_reverse")[: 1 + module.bidirectional]:
            parts = []
            for role in roles:
                tensor = module.state_dict()[f"{role}_l{layer}{suffix}"].numpy()
                blocks = dict(zip(TORCH[kind], np.split(tensor, GATES[kind]), strict=True))
                parts += [blocks[gate] for gate in TORCH_IN_ONNX[kind]]
            rows.append(np.concatenate(parts))
        result.append(np.stack(rows))
    return result


def stacked(module, *, lengths=False, states=False, ends="cat"):
    """An ONNX net of torch's module, layer upon layer, as exporters write it. ends: how the last states leave the net."""
    kind, layers, both = type(module).__name__, module.num_layers, 1 + module.bidirectional
    nodes, x, last = [], "X", ["H", "C"][: 2 if kind == "LSTM" else 1]
    constants = {"one": np.array([1]), "joined": np.array([0, 0, -1])}
    inputs = {"X": (1, (5, 3, C))}
    if lengths:
        inputs["L"] = (6, (3,))
    if states:
        inputs["first"] = (1, (layers * both, 3, H))
        nodes.append(helper.make_node("Split", ["first"], [f"h{i}" for i in range(layers)], axis=0))
    for i in range(layers):
        constants.update(zip((f"W{i}", f"R{i}", f"B{i}"), onnx_form(module, i), strict=True))
        given = [x, f"W{i}", f"R{i}", f"B{i}", "L" if lengths else "", f"h{i}" if states else ""]
        attributes = {"hidden_size": H, "direction": "bidirectional" if both == 2 else "forward"}
        if kind == "GRU":
            attributes["linear_before_reset"] = 1
        nodes.append(helper.make_node(kind, given, [f"Y{i}", *(f"{name}{i}" for name in last)], **attributes))
        if both == 1:
            nodes.append(helper.make_node("Squeeze", [f"Y{i}", "one"], [f"x{i}"]))
        else:
            nodes.append(helper.make_node("Transpose", [f"Y{i}"], [f"t{i}"], perm=[0, 2, 1, 3]))
            nodes.append(helper.make_node("Reshape", [f"t{i}", "joined"], [f"x{i}"]))
        x = f"x{i}"
    outputs = [x]
    if ends == "cat":
        outputs += last
        nodes += [helper.make_node("Concat", [f"{name}{i}" for i in range(layers)], [name], axis=0) for name in last]
    elif ends != "no":
        outputs.append(f"H{0 if ends == 'first' else layers - 1}")
    return net(nodes, inputs, outputs, constants)


def net(nodes, inputs, outputs, constants):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)


def drawn(proto, lengths=(5, 0, 2)):
    return {
        value.name: np.array(lengths, np.int32)
        if value.type.tensor_type.elem_type == 6
        else floats(number, *(d.dim_value for d in value.type.tensor_type.shape.dim))
        for number, value in enumerate(proto.graph.input)
    }


def written(proto):
    return from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))


def check(proto, feed):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = written(proto)
    with torch.no_grad():
        found = to_module(model)(*(torch.from_numpy(array) for array in feed.values()))
    found = found if isinstance(found, tuple) else (found,)
    for ours, theirs in zip(found, session.run(None, feed), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)
    return model


RUNS_EMPTY = onnxruntime.__version__.startswith("1.23.")
"""This version's RNN runs a step of a sequence of length 0, which has none."""
SINGLE = [
    (kind, direction, *form)
    for kind, direction in itertools.product(GATES, ("forward", "reverse", "bidirectional"))
    for form in ((0, 0, ""), (1, 0, "h"), (1, 1, ""), (1, 1, "h"), *(((1, 0, "c"), (1, 1, "hc")) if kind == "LSTM" else ()))
]


@pytest.mark.parametrize(("kind", "direction", "bias", "lengths", "states"), SINGLE)
def test_one_layer_gives_the_numbers_of_onnxruntime(kind, direction, bias, lengths, states):
    both = 2 if direction == "bidirectional" else 1
    constants = {"W": floats(1, both, GATES[kind] * H, C), "R": floats(2, both, GATES[kind] * H, H)}
    inputs = {"X": (1, (5, 3, C))}
    if bias:
        constants["B"] = floats(3, both, 2 * GATES[kind] * H)
    if lengths:
        inputs["L"] = (6, (3,))
    inputs.update((name, (1, (both, 3, H))) for name in states)
    given = ["X", "W", "R", "B" if bias else "", "L" if lengths else "", "h" if "h" in states else "", "c" if "c" in states else ""]
    given = given if kind == "LSTM" else given[:6]
    outputs = ["Y", "Yh", "Yc"][: 3 if kind == "LSTM" else 2]
    attributes = {"hidden_size": H, "direction": direction, **({"linear_before_reset": 1} if kind == "GRU" else {})}
    proto = net([helper.make_node(kind, given, outputs, **attributes)], inputs, outputs, constants)
    model = check(proto, drawn(proto, (5, 1, 2) if kind == "RNN" and RUNS_EMPTY else (5, 0, 2)))
    assert f"nn.{kind}({C}, {H}" in write_source(model)


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("ends", ["cat", "last", "no"])
@pytest.mark.parametrize(("both", "lengths", "states"), [(False, False, False), (True, False, True), (True, True, False)])
def test_layers_upon_layers_are_one_module_with_torchs_own_weights(kind, ends, both, lengths, states):
    torch.manual_seed(0)
    original = getattr(nn, kind)(C, H, num_layers=2, bidirectional=both)
    proto = stacked(original, lengths=lengths, states=states, ends=ends)
    model = check(proto, drawn(proto))
    weights = {key.rpartition(".")[2]: tensor.numpy() for key, tensor in state_dict(model).items()}
    assert list(weights) == list(original.state_dict())
    for key, tensor in original.state_dict().items():
        assert np.array_equal(weights[key], tensor.numpy())
    assert write_source(model).count(f"nn.{kind}(") == 1


def test_a_first_layers_state_that_is_used_by_itself_keeps_the_layers_apart():
    proto = stacked(nn.GRU(C, H, num_layers=2), ends="first")
    assert write_source(check(proto, drawn(proto))).count("nn.GRU(") == 2


LEFT_AS_LOOPS = {
    "a reset before the product": ("GRU", {"linear_before_reset": 0}),
    "a clip": ("LSTM", {"clip": 0.5}),
    "another activation": ("LSTM", {"activations": ["Sigmoid", "Tanh", "Relu"]}),
    "coupled gates": ("LSTM", {"input_forget": 1}),
    "an activation of one direction": ("RNN", {"direction": "bidirectional", "activations": ["Tanh", "Relu"]}),
}


@pytest.mark.parametrize("name", LEFT_AS_LOOPS)
def test_what_torch_has_no_module_for_stays_a_loop(name):
    kind, attributes = LEFT_AS_LOOPS[name]
    both = 2 if attributes.get("direction") == "bidirectional" else 1
    constants = {"W": floats(1, both, GATES[kind] * H, C), "R": floats(2, both, GATES[kind] * H, H)}
    node = helper.make_node(kind, ["X", "W", "R"], ["Y"], hidden_size=H, **attributes)
    proto = net([node], {"X": (1, (5, 3, C))}, ["Y"], constants)
    assert f"nn.{kind}(" not in write_source(check(proto, drawn(proto)))


def test_rectified_steps_are_torchs_own():
    constants = {"W": floats(1, 1, H, C), "R": floats(2, 1, H, H)}
    node = helper.make_node("RNN", ["X", "W", "R"], ["Y"], hidden_size=H, activations=["Relu"])
    proto = net([node], {"X": (1, (5, 3, C))}, ["Y"], constants)
    assert 'nonlinearity="relu"' in write_source(check(proto, drawn(proto)))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
def test_batch_first_is_time_first_turned_round(direction, lengths):
    """onnxruntime has no layout=1: its answers to the turned input are turned back."""
    both = 2 if direction == "bidirectional" else 1
    constants = {"W": floats(1, both, 4 * H, C), "R": floats(2, both, 4 * H, H), "B": floats(3, both, 8 * H)}
    given, outputs = ["X", "W", "R", "B", "L" if lengths else "", "h"], ["Y", "Yh", "Yc"]

    def made(layout):
        inputs = {"X": (1, (3, 5, C) if layout else (5, 3, C)), "h": (1, (3, both, H) if layout else (both, 3, H))}
        inputs |= {"L": (6, (3,))} if lengths else {}
        node = helper.make_node("LSTM", given, outputs, hidden_size=H, direction=direction, layout=layout)
        return net([node], inputs, outputs, constants)

    feed = drawn(made(0))
    session = onnxruntime.InferenceSession(made(0).SerializeToString(), providers=["CPUExecutionProvider"])
    y, h, c = session.run(None, feed)
    turned = [torch.from_numpy(array.swapaxes(0, 1).copy() if array.ndim == 3 else array) for array in feed.values()]
    with torch.no_grad():
        found = to_module(written(made(1)))(*turned)
    for ours, theirs in zip(found, (y.transpose(2, 0, 1, 3), h.swapaxes(0, 1), c.swapaxes(0, 1)), strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", GATES)
def test_tools_take_recurrent_modules_and_gradients_reach_every_weight(kind):
    proto = stacked(getattr(nn, kind)(C, H, num_layers=2, bidirectional=True), states=True)
    module = to_module(written(proto))
    inputs = tuple(torch.from_numpy(array) for array in drawn(proto).values())
    wanted = module(*inputs)
    sum(part.sum() for part in wanted).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    for tool in (
        torch.jit.script,
        torch.fx.symbolic_trace,
        lambda m: torch.export.export(m, inputs).module(),
        lambda m: torch.compile(m, fullgraph=True, backend="eager"),
    ):
        for ours, theirs in zip(tool(module)(*inputs), wanted, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_net_that_runs_one_set_of_weights_twice_has_one_module():
    constants = dict(zip(("W", "R", "B"), onnx_form(nn.LSTM(C, H), 0), strict=True))
    nodes = [helper.make_node("LSTM", [x, "W", "R", "B"], [y], hidden_size=H) for x, y in (("X", "Y"), ("Z", "V"))]
    proto = net(nodes, {"X": (1, (5, 3, C)), "Z": (1, (2, 3, C))}, ["Y", "V"], constants)
    assert write_source(check(proto, drawn(proto))).count("nn.LSTM(") == 1


def test_weights_that_another_node_reads_stay_where_they_are():
    constants = dict(zip(("W", "R", "B"), onnx_form(nn.LSTM(C, H), 0), strict=True))
    nodes = [helper.make_node("LSTM", ["X", "W", "R", "B"], ["Y"], hidden_size=H), helper.make_node("Abs", ["R"], ["Z"])]
    proto = net(nodes, {"X": (1, (5, 3, C))}, ["Y", "Z"], constants)
    assert "nn.LSTM(" not in write_source(check(proto, drawn(proto)))
