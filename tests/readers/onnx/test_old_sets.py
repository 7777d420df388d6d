"""Operator sets before the sixth, experiments that ONNX dropped, and files that are put together in other ways than most."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from converters.errors import ConversionError, FormatError
from converters.readers.onnx import load
from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import to_module

X = np.random.default_rng(5).standard_normal((2, 3, 4, 4)).astype(np.float32)
F = torch.nn.functional


def model_of(nodes, opset, constants=(), shape=X.shape, output=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", output, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)


def run(proto, x=X):
    with torch.no_grad():
        return to_module(from_proto(proto))(torch.from_numpy(x)).numpy()


def node(op_type, inputs=("x",), **attributes):
    return helper.make_node(op_type, list(inputs), ["y"], **attributes)


C = np.array([0.5, -1.0, 2.0], np.float32)
CASES = {
    "Add along the channels": (1, [node("Add", ["x", "c"], broadcast=1, axis=1, consumed_inputs=[0, 0])], [("c", C)],
                               lambda x: x + C[:, None, None]),
    "Mul by the last axes": (3, [node("Mul", ["x", "c"], broadcast=1)], [("c", X[0, 0])], lambda x: x * X[0, 0]),
    "Cast by a word": (1, [node("Cast", to="INT32")], [], lambda x: x.astype(np.int32)),
    "Concat of channels": (1, [node("Concat", ["x", "x"])], [], lambda x: np.concatenate([x, x], 1)),
    "Pad": (1, [node("Pad", paddings=[0, 0, 1, 2, 0, 0, 0, 1], value=2.0)], [],
            lambda x: np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 1)), constant_values=2.0)),
    "Reshape by an attribute": (4, [node("Reshape", shape=[0, -1])], [], lambda x: x.reshape(2, -1)),
    "Tile": (5, [node("Tile", ["x", "n", "a"])], [("n", np.float32(3)), ("a", np.float32(1))], lambda x: np.concatenate([x] * 3, 1)),
    "Split": (1, [helper.make_node("Split", ["x", "n"], ["u", "y"], axis=1)], [("n", np.array([1, 2], np.float32))], lambda x: x[:, 1:]),
    "LpPool": (1, [node("GlobalLpPool", p=2.0)], [], lambda x: np.sqrt((x**2).sum((2, 3), keepdims=True))),
    "Upsample": (1, [node("Upsample", height_scale=2.0, width_scale=3.0)], [], lambda x: x.repeat(2, 2).repeat(3, 3)),
    "Gemm": (1, [helper.make_node("Reshape", ["x"], ["f"], shape=[2, 48]), node("Gemm", ["f", "w", "b"], transB=1, broadcast=1)],
             [("w", np.ones((5, 48), np.float32)), ("b", np.arange(5, dtype=np.float32))],
             lambda x: x.reshape(2, 48).sum(1, keepdims=True) + np.arange(5)),
    "Relu": (1, [node("Relu", consumed_inputs=[0])], [], lambda x: np.maximum(x, 0)),
    "Elu": (1, [node("Elu", consumed_inputs=[0], alpha=0.5)], [], lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
    "ImageScaler": (7, [node("ImageScaler", scale=0.25, bias=list(C))], [], lambda x: 0.25 * x + C[:, None, None]),
    "ImageScaler of set 1": (1, [node("ImageScaler", scale=0.25, bias=list(C))], [], lambda x: 0.25 * x + C[:, None, None]),
    "Affine": (6, [node("Affine", alpha=2.0, beta=1.0)], [], lambda x: 2 * x + 1),
    "ScaledTanh": (6, [node("ScaledTanh", alpha=2.0, beta=0.5)], [], lambda x: 2 * np.tanh(0.5 * x)),
    "ParametricSoftplus": (8, [node("ParametricSoftplus", alpha=2.0, beta=0.5)], [], lambda x: 2 * np.log1p(np.exp(0.5 * x))),
    "Crop": (6, [node("Crop", border=[1, 0, 1, 2])], [], lambda x: x[:, :, :2, 1:3]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_operators_of_old_sets(name):
    """By the specification of each: no runtime takes all of them any more."""
    opset, nodes, constants, formula = CASES[name]
    output = TensorProto.INT32 if "Cast" in name else TensorProto.FLOAT
    np.testing.assert_allclose(run(model_of(nodes, opset, constants, output=output)), formula(X), rtol=1e-4, atol=1e-5)


def test_what_an_old_set_leaves_open_is_refused():
    nodes = [node("Cast", to="COLOUR")]
    with pytest.raises(ConversionError, match="no type is called COLOUR"):
        from_proto(model_of(nodes, 1))


def test_nodes_in_any_order():
    nodes = [helper.make_node("Relu", ["b"], ["y"]), helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Abs", ["x"], ["a"])]
    np.testing.assert_array_equal(run(model_of(nodes, 13)), np.maximum(-np.abs(X), 0))


def test_nodes_in_a_circle_are_refused():
    nodes = [helper.make_node("Relu", ["b"], ["y"]), helper.make_node("Neg", ["y"], ["b"])]
    with pytest.raises(FormatError):
        from_proto(model_of(nodes, 13))


def sparse(values, indices, dims):
    return helper.make_sparse_tensor(
        helper.make_tensor("w", TensorProto.FLOAT, [len(values)], values), numpy_helper.from_array(np.array(indices, np.int64), "at"), dims
    )


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_initializers(indices):
    proto = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], 13, shape=[2, 2])
    proto.graph.sparse_initializer.append(sparse([3.0, -2.0], indices, [2, 3]))
    dense = np.array([[0, 3, 0], [0, 0, -2]], np.float32)
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    np.testing.assert_array_equal(run(proto, x), x @ dense)


@pytest.mark.parametrize(("indices", "dims"), [([1, 6], [2, 3]), ([-1, 2], [2, 3]), ([1, 2], [1 << 20, 1 << 20])])
def test_sparse_initializers_that_dont_fit(indices, dims):
    proto = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], 13, shape=[2, 2])
    proto.graph.sparse_initializer.append(sparse([3.0, -2.0], indices, dims))
    with pytest.raises(FormatError, match="sparse tensor 'w'"):
        from_proto(proto)


def test_tensors_of_subgraphs_and_constants_in_another_file(tmp_path):
    weight = np.arange(64, dtype=np.float32)
    (tmp_path / "side.bin").write_bytes(weight.tobytes())
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "side.bin"), ("offset", "0"), ("length", "256")):
        tensor.external_data.add(key=key, value=value)
    info = helper.make_tensor_value_info("b", TensorProto.FLOAT, [64])
    yes = helper.make_graph([helper.make_node("Add", ["x", "w"], ["b"])], "yes", [], [info], [tensor])
    no = helper.make_graph([helper.make_node("Sub", ["x", "k"], ["b"])], "no", [], [info])
    nodes = [helper.make_node("Constant", [], ["k"], value=tensor), helper.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no)]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64])],
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    module, session = to_module(load([path])), onnxruntime.InferenceSession(path)
    for choice in (True, False):
        feed = {"x": np.ones(64, np.float32), "c": np.array(choice)}
        got = module(*map(torch.from_numpy, feed.values())).detach().numpy()
        np.testing.assert_array_equal(got, session.run(None, feed)[0])
