"""Layers that exporters took apart are put together again where the pattern is exact: onnxruntime's numbers, and near misses stay."""

from __future__ import annotations

import re

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import state_dict, to_module, write_source

HEAD = '<ir_version: 8, opset_import: ["" : {opset}]> net (float[N,5,8] x) => (float[N,5,{width}] y) {{ {body} }}'
ROOT, SLOPE = 1.4142135, 0.79788456


def proto_of(body, weights=(), *, opset=14, width=8):
    """A net of x (N, 5, 8). weights: shapes of initializers, by name; drawn from a fixed seed."""
    proto = onnx.parser.parse_model(HEAD.format(opset=opset, body=body, width=width))
    generator = np.random.default_rng(3)
    for name, shape in dict(weights).items():
        proto.graph.initializer.append(numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name))
    return proto


def model_of(proto):
    return from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))


def check(proto, *, scale=3.0):
    """The written source gives onnxruntime's numbers, and torch.export and torch.compile take it. Answers the source."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(5)
    feed = {
        value.name: (generator.standard_normal([d.dim_value or 3 for d in value.type.tensor_type.shape.dim]) * scale).astype(np.float32)
        for value in proto.graph.input
    }
    model = model_of(proto)
    module = to_module(model)
    arguments = tuple(map(torch.from_numpy, feed.values()))
    with torch.no_grad():
        got = module(*arguments)
        exported = torch.export.export(module, arguments).module()(*arguments)
        compiled = torch.compile(module, fullgraph=True, backend="eager")(*arguments)
    np.testing.assert_allclose(got.numpy(), session.run(None, feed)[0], rtol=1e-4, atol=1e-5)
    for other in (exported, compiled):
        np.testing.assert_allclose(other.numpy(), got.numpy(), rtol=1e-6, atol=1e-6)
    return write_source(model)


def constants(**numbers):
    return " ".join(f"{name} = Constant<value = float {{{number}}}>()" for name, number in numbers.items())


def gelu(body, **numbers):
    usual = {"one": "1.0", "half": "0.5", "root": str(ROOT), "cube": "0.044715", "slope": str(SLOPE), "three": "3.0", "two": "2.0"}
    return constants(**{**usual, **numbers}) + body


ERF = "a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"
TANH = "a = Pow(x, three) b = Mul(cube, a) c = Add(x, b) d = Mul(slope, c) e = Tanh(d) f = Add(one, e) g = Mul(x, f) y = Mul(half, g)"
INNER = (
    "a = Mul(x, x) b = Mul(a, cube) c = Add(b, one) d = Mul(c, x) e = Mul(d, slope) f = Tanh(e) g = Add(f, one) "
    "h = Mul(half, x) y = Mul(g, h)"
)
ACTIVATIONS = {
    "gelu": (gelu(ERF), "F.gelu(x)"),
    "gelu, half of x first": (
        gelu("h = Mul(half, x) a = Mul(x, root) b = Erf(a) c = Add(one, b) y = Mul(h, c)", root="0.70710677"),
        "F.gelu(x)",
    ),
    "gelu by tanh": (gelu(TANH), 'F.gelu(x, approximate="tanh")'),
    "gelu by tanh, x taken out": (gelu(INNER), 'F.gelu(x, approximate="tanh")'),
    "hardswish": ("a = HardSigmoid<alpha = 0.16666667, beta = 0.5>(x) y = Mul(x, a)", "F.hardswish(x)"),
    "hardswish of a clip": (
        constants(three="3.0", low="0.0", six="6.0") + "a = Add(x, three) b = Clip(a, low, six) c = Mul(x, b) y = Div(c, six)",
        "F.hardswish(x)",
    ),
    "hardswish of a clip that is divided": (
        constants(three="3.0", low="0.0", six="6.0") + "a = Add(three, x) b = Clip(a, low, six) c = Div(b, six) y = Mul(c, x)",
        "F.hardswish(x)",
    ),
    "mish": ("a = Softplus(x) b = Tanh(a) y = Mul(x, b)", "F.mish(x)"),
    "silu": ("a = Sigmoid(x) y = Mul(a, x)", "F.silu(x)"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    body, written = ACTIVATIONS[name]
    assert f"x = {written}" in check(proto_of(body))


NEAR = {
    "another root": gelu(ERF, root="1.4142"),
    "another half": gelu(ERF, half="0.51"),
    "erf of something else": gelu("s = Sin(x) a = Div(s, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)"),
    "another slope": gelu(TANH, slope="0.8"),
    "another cube": gelu(TANH, cube="0.0447"),
    "a square for a cube": gelu(TANH, three="2.0"),
    "another HardSigmoid": "a = HardSigmoid<alpha = 0.2, beta = 0.5>(x) y = Mul(x, a)",
    "another limit": constants(three="3.0", low="0.0", six="6.5") + "a = Add(x, three) b = Clip(a, low, six) c = Mul(x, b) y = Div(c, six)",
    "another offset": constants(three="2.0", low="0.0", six="6.0")
    + "a = Add(x, three) b = Clip(a, low, six) c = Mul(x, b) y = Div(c, six)",
    "a softplus of something else": "s = Sin(x) a = Softplus(s) b = Tanh(a) y = Mul(x, b)",
    "a sigmoid of something else": "s = Sin(x) a = Sigmoid(s) y = Mul(a, x)",
    "a gate that others take": "a = Sigmoid(x) b = Mul(a, x) y = Add(a, b)",
}


@pytest.mark.parametrize("name", NEAR)
def test_near_misses_of_activations_stay(name):
    assert not re.search(r"F\.(gelu|silu|hardswish|mish)", check(proto_of(NEAR[name])))


AXES = "axes = Constant<value_ints = [-1]>() "
CENTERED = "m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) "
SQUARED = "s = Pow(d, two) v = ReduceMean<axes = [-1]>(s) e = Add(v, eps) r = Sqrt(e) "
NORM = constants(two="2.0", eps="0.00001") + CENTERED + SQUARED
LEARNT = {"norm.weight": (8,), "norm.bias": (8,)}
AFFINE = 'n = Div(d, r) w = Mul(n, "norm.weight") y = Add(w, "norm.bias")'.replace('"', "")
FOLDED = (
    constants(eps="0.001")
    + "m = ReduceMean<axes = [2]>(x) d = Sub(x, m) s = Mul(d, d) v = ReduceMean<axes = [2]>(s) e = Add(v, eps) r = Sqrt(e) "
    "i = Reciprocal(r) g = Mul(i, gamma) p = Mul(x, g) q = Mul(m, g) b = Sub(beta, q) y = Add(p, b)"
)


def dotted(proto):
    """norm_weight as norm.weight: the text form has no dots in names."""
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if name.startswith(("norm_", "fc_")):
                node.input[place] = name.replace("_", ".", 1)
    for tensor in proto.graph.initializer:
        if tensor.name.startswith(("norm_", "fc_")):
            tensor.name = tensor.name.replace("_", ".", 1)
    return proto


def normed(body, **shapes):
    return dotted(proto_of(body.replace("norm.", "norm_"), {name.replace(".", "_"): shape for name, shape in (shapes or LEARNT).items()}))


def test_layer_norm():
    proto = normed(NORM + AFFINE)
    assert "nn.LayerNorm(8)" in check(proto) and list(state_dict(model_of(proto))) == ["norm.weight", "norm.bias"]


@pytest.mark.parametrize(
    ("body", "written"),
    [
        (NORM + "n = Div(d, r) y = Mul(n, norm.weight)", "nn.LayerNorm(8, bias=False)"),
        (NORM + "y = Div(d, r)", "F.layer_norm(x, x.shape[-1:])"),
        (NORM + "i = Reciprocal(r) n = Mul(d, i) w = Mul(norm.weight, n) y = Add(norm.bias, w)", "nn.LayerNorm(8)"),
        (
            NORM.replace("s = Pow(d, two)", "d2 = Sub(x, m) s = Mul(d2, d2)") + AFFINE,
            "nn.LayerNorm(8)",
        ),
    ],
)
def test_forms_of_layer_norm(body, written):
    assert written in check(normed(body, **{name: shape for name, shape in LEARNT.items() if name in body}))


def test_layer_norm_as_tensorflow_writes_it():
    assert "nn.LayerNorm(8, eps=0.001)" in check(proto_of(FOLDED, {"gamma": (8,), "beta": (8,)}))


@pytest.mark.parametrize(
    "body",
    [
        NORM.replace("[-1]", "[1]") + AFFINE,
        constants(two="2.0", eps="0.00001") + CENTERED + SQUARED.replace("axes = [-1]", "axes = [1]") + AFFINE,
        NORM.replace("e = Add(v, eps) r = Sqrt(e)", "e = Sqrt(v) r = Add(e, eps)") + AFFINE,
        NORM.replace("s = Pow(d, two)", "s = Pow(x, two)") + AFFINE,
        NORM.replace("two = Constant<value = float {2.0}>()", "two = Constant<value = float {4.0}>()") + AFFINE,
        NORM + "n = Div(x, r) w = Mul(n, norm.weight) y = Add(w, norm.bias)",
        NORM + "n = Div(d, r) w = Mul(n, norm.weight) b = Add(w, norm.bias) y = Add(b, r)",
    ],
    ids=["another axis", "two axes", "eps outside", "not centered", "a fourth power", "x divided", "a part that others take"],
)
def test_near_misses_of_layer_norm_stay(body):
    assert not re.search("layer_norm|LayerNorm", check(normed(body)))


@pytest.mark.parametrize(
    ("weights", "keys"),
    [
        ({"fc_weight_t": (8, 6), "fc_bias": (6,)}, ["fc.weight", "fc.bias"]),
        ({"onnx__MatMul_12": (8, 6), "fc_bias": (6,)}, ["fc.weight", "fc.bias"]),
        ({"w": (8, 6), "b": (6,)}, ["w_layer.weight", "w_layer.bias"]),
        ({"kernel": (8, 6), "offset": (6,)}, ["kernel_layer.weight", "kernel_layer.bias"]),
    ],
)
def test_products_of_three_axes_are_linear_layers(weights, keys):
    weight, bias = weights
    proto = dotted(proto_of(f"h = MatMul(x, {weight}) y = Add({bias}, h)", weights, width=6))
    assert "nn.Linear(8, 6)" in check(proto)
    tensors = state_dict(model_of(proto))
    assert list(tensors) == keys
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    np.testing.assert_array_equal(tensors[keys[0]].numpy(), next(iter(stored.values())).T)


def test_a_linear_layer_without_bias_and_one_that_runs_twice():
    assert "nn.Linear(8, 8, bias=False)" in check(proto_of("y = MatMul(x, w)", {"w": (8, 8)}))
    a_bias_for_each_step = proto_of("h = MatMul(x, w) y = Add(h, b)", {"w": (8, 8), "b": (5, 8)})
    assert "nn.Linear(8, 8, bias=False)" in check(a_bias_for_each_step)
    twice = proto_of("a = MatMul(x, w) b = Add(a, c) d = MatMul(b, w) y = Add(d, c)", {"w": (8, 8), "c": (8,)})
    source = check(twice)
    assert source.count("nn.Linear(8, 8)") == 1 and source.count("= self.w_layer(x)") == 2


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("h = MatMul(x, fc_weight) y = Add(h, fc_bias)", {"fc_weight": (8, 8), "fc_bias": (8,)}),
        ("h = MatMul(x, w) y = Add(h, b)", {"w": (1, 8, 8), "b": (8,)}),
        ("h = MatMul(x, w) g = Add(h, b) f = Transpose<perm = [1, 0]>(w) y = MatMul(g, f)", {"w": (8, 8), "b": (8,)}),
    ],
    ids=["a name of its own", "a batch of matrices", "a matrix that is used both ways"],
)
def test_near_misses_of_linear_layers_stay(body, weights):
    assert "nn.Linear" not in check(dotted(proto_of(body, weights)))


def attention(scores, *, more="", opset=14):
    """Queries, keys and values of x, two heads of four."""
    numbers = constants(scale="0.5", other="0.7", half="0.70710677")
    heads = "".join(
        f"{name}0 = MatMul(x, {name}w) {name}1 = Reshape({name}0, split) {name} = Transpose<perm = [0, 2, 1, 3]>({name}1) "
        for name in "qkv"
    )
    shapes = "split = Constant<value_ints = [0, 0, 2, 4]>() join = Constant<value_ints = [0, 0, -1]>() "
    turned = "kt = Transpose<perm = [0, 1, 3, 2]>(k) "
    ending = "o = MatMul(p, v) o1 = Transpose<perm = [0, 2, 1, 3]>(o) y = Reshape(o1, join)"
    proto = proto_of(numbers + shapes + heads + turned + scores + ending, {f"{name}w": (8, 8) for name in "qkv"}, opset=opset)
    for name, shape in dict(more or {}).items():
        proto.graph.input.append(onnx.helper.make_tensor_value_info(name, 1, shape))
    return proto


@pytest.mark.parametrize(
    ("scores", "masks", "written"),
    [
        ("s = MatMul(q, kt) t = Mul(s, scale) p = Softmax<axis = -1>(t)", {}, r"F.scaled_dot_product_attention\(\w+, \w+, \w+\)"),
        ("s = MatMul(q, kt) t = Mul(s, other) p = Softmax<axis = -1>(t)", {}, r"scale=0.7\)"),
        ("s = MatMul(q, kt) p = Softmax<axis = 3>(s)", {}, r"scale=1.0\)"),
        (
            "a = Mul(q, half) b = Mul(kt, half) s = MatMul(a, b) p = Softmax<axis = -1>(s)",
            {},
            r"F.scaled_dot_product_attention\(\w+, \w+, \w+\)",
        ),
        ("s = MatMul(q, kt) t = Mul(s, scale) u = Add(t, mask) p = Softmax<axis = -1>(u)", {"mask": [5, 5]}, r"attn_mask=mask\)"),
        ("s = MatMul(q, kt) t = Mul(s, scale) u = Add(mask, t) p = Softmax<axis = -1>(u)", {"mask": [3, 1, 1, 5]}, r"attn_mask=mask\)"),
    ],
)
def test_attention(scores, masks, written):
    text = check(attention(scores + " ", more=masks))
    assert re.search(written, " ".join(text.split()).replace("( ", "(").replace(" )", ")"))
    assert "softmax" not in text


@pytest.mark.parametrize(
    ("scores", "masks"),
    [
        ("s = MatMul(q, kt) t = Mul(s, scale) p = Softmax<axis = 2>(t)", {}),
        ("s = MatMul(q, kt) t = Mul(s, factors) p = Softmax<axis = -1>(t)", {"factors": [5, 5]}),
        ("s = MatMul(q, kt) u = Add(s, mask) t = Mul(u, scale) p = Softmax<axis = -1>(t)", {"mask": [5, 5]}),
        ("s = MatMul(q, kt) u = Add(s, mask) p = Softmax<axis = -1>(u)", {"mask": [5]}),
        ("s = MatMul(q, kt) t = Mul(s, scale) r = Softmax<axis = -1>(t) p = Mul(r, scale)", {}),
    ],
    ids=["over the queries", "a table for a number", "scaled behind the mask", "a mask of one axis", "scaled behind the softmax"],
)
def test_near_misses_of_attention_stay(scores, masks):
    assert "scaled_dot_product_attention" not in check(attention(scores + " ", more=masks))


def test_attention_before_operator_set_13_is_over_the_last_axis():
    scores = "s = MatMul(q, kt) t = Mul(s, scale) p = Softmax<axis = 3>(t) "
    assert "scaled_dot_product_attention" in check(attention(scores, opset=12))
    assert "scaled_dot_product_attention" not in check(attention(scores.replace("<axis = 3>", ""), opset=12))
