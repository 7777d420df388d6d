"""com.microsoft's operators, and lists of tensors: onnxruntime's numbers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper

from converters.errors import ConversionError
from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import to_module, write_source

RNG = np.random.default_rng(3)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def small(*shape, dtype=np.uint8):
    return RNG.integers(0, 200, shape).astype(dtype)


def net(nodes, inputs, constants, outputs=("y",), opset=17):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), ["N", *a.shape[1:]]) for name, a in inputs.items()],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def check(proto, feed, slack=0):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    wanted = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feed)
    model = from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    with torch.no_grad():
        found = to_module(model)(*map(torch.from_numpy, feed.values()))
    for got, want in zip(found if isinstance(found, tuple) else (found,), wanted, strict=True):
        if np.asarray(want).dtype.kind in "iub":
            assert np.abs(got.numpy().astype(int) - want.astype(int)).max() <= slack
        else:
            np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=2e-5)
    return write_source(model)


def ms(op_type, inputs, outputs=("y",), **attributes):
    return helper.make_node(op_type, inputs, list(outputs), domain="com.microsoft", **attributes)


FLOATS = {
    "Gelu": (ms("Gelu", ["x"]), {"x": floats(3, 4)}, {}),
    "BiasGelu": (ms("BiasGelu", ["x", "b"]), {"x": floats(3, 4)}, {"b": floats(4)}),
    "FastGelu": (ms("FastGelu", ["x"]), {"x": floats(3, 4)}, {}),
    "FastGelu_bias": (ms("FastGelu", ["x", "b"]), {"x": floats(3, 4)}, {"b": floats(4)}),
    "QuickGelu": (ms("QuickGelu", ["x"], alpha=1.7), {"x": floats(3, 4)}, {}),
    "FusedMatMul": (ms("FusedMatMul", ["x", "w"], alpha=0.25, transA=1, transB=1), {"x": floats(2, 5, 3)}, {"w": floats(2, 4, 5)}),
    "FusedGemm": (ms("FusedGemm", ["x", "w", "b"], activation="LeakyRelu", activation_alpha=0.3, transB=1),
                  {"x": floats(3, 4)}, {"w": floats(5, 4), "b": floats(5)}),
    "FusedConv": (ms("FusedConv", ["x", "w", "b"], activation="HardSigmoid", activation_params=[0.3, 0.4], pads=[1, 1, 1, 1]),
                  {"x": floats(2, 3, 5, 5)}, {"w": floats(4, 3, 3, 3), "b": floats(4)}),
    "SkipLayerNormalization": (ms("SkipLayerNormalization", ["x", "s", "g", "b", "c"], ["y", "", "", "sum"], epsilon=1e-5),
                               {"x": floats(2, 3, 4), "s": floats(2, 3, 4)}, {"g": floats(4), "b": floats(4), "c": floats(4)}),
    "SkipSimplifiedLayerNormalization": (ms("SkipSimplifiedLayerNormalization", ["x", "s", "g"], epsilon=1e-5),
                                         {"x": floats(2, 3, 4), "s": floats(2, 3, 4)}, {"g": floats(4)}),
    "SimplifiedLayerNormalization": (helper.make_node("SimplifiedLayerNormalization", ["x", "g"], ["y"], epsilon=1e-5, axis=-1),
                                     {"x": floats(2, 3, 4)}, {"g": floats(4)}),
    "Attention": (ms("Attention", ["x", "w", "b"], num_heads=2), {"x": floats(2, 3, 4)}, {"w": floats(4, 12), "b": floats(12)}),
    "Attention_mask": (ms("Attention", ["x", "w", "b", "m"], num_heads=2),
                       {"x": floats(2, 3, 4), "m": np.array([[1, 1, 0], [1, 1, 1]], np.int32)}, {"w": floats(4, 12), "b": floats(12)}),
    "Attention_causal": (ms("Attention", ["x", "w", "b"], num_heads=2, unidirectional=1),
                         {"x": floats(2, 3, 4)}, {"w": floats(4, 12), "b": floats(12)}),
    "MultiHeadAttention": (ms("MultiHeadAttention", ["x", "k", "v", "b"], num_heads=2),
                           {"x": floats(2, 3, 4), "k": floats(2, 5, 4), "v": floats(2, 5, 4)}, {"b": floats(12)}),
    "DynamicQuantizeMatMul": (ms("DynamicQuantizeMatMul", ["x", "w", "s", "z", "b"]), {"x": floats(3, 4)},
                              {"w": small(4, 5), "s": np.float32(0.02), "z": np.uint8(100), "b": floats(5)}),
    "MatMulIntegerToFloat": (ms("MatMulIntegerToFloat", ["x", "w", "s", "t", "z", "u"]), {"x": small(3, 4)},
                             {"w": small(4, 5), "s": np.float32(0.02), "t": np.float32(0.1), "z": np.uint8(90), "u": np.uint8(100)}),
    "Trilu": (ms("Trilu", ["x"], upper=0), {"x": floats(3, 3)}, {}),
    "Inverse": (ms("Inverse", ["x"]), {"x": floats(2, 3, 3)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOATS)
def test_operators_of_com_microsoft(name):
    node, inputs, constants = FLOATS[name]
    outputs = [output for output in node.output if output]
    source = check(net([node, helper.make_node("Neg", [outputs[0]], ["out"])], inputs, constants, ["out", *outputs[1:]]), inputs)
    if "Gelu" in name and name != "QuickGelu":
        assert "F.gelu(" in source


SCALES = {"s": np.float32(0.03), "z": np.uint8(110), "t": np.float32(0.05), "u": np.uint8(120)}
QUANTIZED = {
    "QLinearAdd": ["x", "s", "z", "k", "s", "z", "t", "u"],
    "QLinearMul": ["x", "s", "z", "k", "s", "z", "t", "u"],
    "QLinearSigmoid": ["x", "s", "z", "t", "u"],
    "QLinearLeakyRelu": ["x", "s", "z", "t", "u"],
    "QLinearGlobalAveragePool": ["x", "s", "z", "t", "u"],
    "QLinearAveragePool": ["x", "s", "z", "t", "u"],
    "QLinearConcat": ["t", "u", "x", "s", "z", "k", "s", "z"],
}
SETTINGS = {"QLinearConcat": {"axis": 1}, "QLinearAveragePool": {"kernel_shape": [2, 2]}}


@pytest.mark.parametrize("op_type", QUANTIZED)
def test_quantised_operators_of_com_microsoft(op_type):
    """The last bit may be rounded the other way: onnxruntime looks some of them up in tables."""
    feed = {"x": small(2, 3, 4, 4), "k": small(2, 3, 4, 4)}
    used = {name: array for name, array in feed.items() if name in QUANTIZED[op_type]}
    check(net([ms(op_type, QUANTIZED[op_type], **SETTINGS.get(op_type, {}))], used, SCALES), used, slack=1)


def test_what_isnt_known_of_com_microsoft_is_refused_by_name():
    node = ms("NGramRepeatBlock", ["i", "x"], ngram_size=2)
    feed = {"i": np.zeros((2, 3), np.int64), "x": floats(2, 3)}
    with pytest.raises(ConversionError, match="NGramRepeatBlock"):
        to_module(from_proto(net([node], feed, {})))


def lists(body, opset=13):
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {body}')


LISTS = {
    "pieces of one": "(float[N, 6] x) => (float[N, 3] y) { s = SplitToSequence<axis = 1>(x) i = Constant<value_int = -2>() "
    "a = SequenceAt(s, i) n = SequenceLength(s) f = Cast<to = 1>(n) b = Mul(a, f) y = Concat<axis = 1>(a, b, a) }",
    "without the axis": "(float[N, 3] x) => (float[N] y) { s = SplitToSequence<axis = 1, keepdims = 0>(x) "
    "i = Constant<value_int = 1>() y = SequenceAt(s, i) }",
    "equal pieces": "(float[N, 6] x) => (float[N, 2] y) { two = Constant<value = int64 {2}>() s = SplitToSequence<axis = 1>(x, two) "
    "i = Constant<value_int = 2>() y = SequenceAt(s, i) }",
    "put in and taken out": "(float[N, 3] x) => (float[M, 3] y) { e = SequenceEmpty() a = Neg(x) b = Abs(x) s = SequenceInsert(e, x) "
    "t = SequenceInsert(s, a) zero = Constant<value_int = 0>() u = SequenceInsert(t, b, zero) one = Constant<value_int = 1>() "
    "v = SequenceErase(u, one) w = SequenceConstruct(x) y = ConcatFromSequence<axis = 0>(v) }",
    "stacked": "(float[N, 3] x) => (float[2, N, 3] y) { a = Neg(x) s = SequenceConstruct(x, a) "
    "y = ConcatFromSequence<axis = 0, new_axis = 1>(s) }",
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_tensors(name):
    check(lists(LISTS[name]), {"x": floats(2, 3 if "N, 3] x" in LISTS[name] else 6)})


def test_a_loop_of_no_turn_stacks_nothing():
    body = """(float[N, 3] x, int64 count) => (float[N, 3] y, float[T, N, 3] all) {
        keep = Constant <value = bool {1}> ()
        y, all = Loop (count, keep, x) <body = turn (int64 i, bool before, float[N, 3] state)
                => (bool after, float[N, 3] next, float[N, 3] shown) {
            next = Tanh(state) shown = Exp(next) after = Identity(before) }> }"""
    module = to_module(from_proto(lists(body)))
    y, everything = module(torch.ones(2, 3), torch.tensor(0))
    assert torch.equal(y, torch.ones(2, 3)) and everything.shape[0] == 0 and everything.dim() == 3 and everything.dtype == torch.float32
    assert module(torch.ones(2, 3), torch.tensor(2))[1].shape == (2, 2, 3)


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_branches_in_branches(depth):
    inner = "a = Exp(x)"
    for level in range(depth):
        no = f"else_branch = no{level} () => (float[2] b) {{ b = Neg(x) }}"
        inner = f"a = If (c) <then_branch = yes{level} () => (float[2] a) {{ {inner} }}, {no}>"
    start = "s = ReduceSum<keepdims = 0>(x) zero = Constant<value = float {0.0}>() c = Greater(s, zero)"
    text = f"(float[2] x) => (float[2] a) {{ {start} {inner} }}"
    for sign in (1, -1):
        check(lists(text), {"x": sign * np.array([1, 2], np.float32)})


@pytest.mark.parametrize(
    ("directions", "per_gate", "kind"), [(1, False, np.int8), (2, False, np.uint8), (2, True, np.int8)], ids=["one", "two", "per gate"]
)
def test_an_lstm_of_quantised_weights(directions, per_gate, kind):
    """Its inputs and states are quantised at each step by their own range; of several sequences onnxruntime's depend on its threads."""
    size, width, zero = 4, 5, 128 if kind is np.uint8 else 0
    scales = (directions, 4 * size) if per_gate else (directions,)
    feed = {"x": floats(6, 1, width)}
    constants = {
        "w": (RNG.integers(-90, 90, (directions, width, 4 * size)) + zero).astype(kind),
        "r": (RNG.integers(-90, 90, (directions, size, 4 * size)) + zero).astype(kind),
        "b": floats(directions, 8 * size),
        "ws": RNG.uniform(0.005, 0.015, scales).astype(np.float32),
        "wz": np.full(scales, zero, kind),
        "rs": RNG.uniform(0.005, 0.015, scales).astype(np.float32),
    }
    node = ms(
        "DynamicQuantizeLSTM",
        ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "wz"],
        ["y", "h", "c"],
        hidden_size=size,
        direction="bidirectional" if directions == 2 else "forward",
    )
    assert "requantized" in check(net([node], feed, constants, ["y", "h", "c"]), feed)
