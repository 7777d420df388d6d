"""Graphs of other exporters, and of rules, in the plain form that other readers of ONNX expect."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import converters


def model(opset: int, nodes: list[onnx.NodeProto], *weights: onnx.TensorProto) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 5])
    graph = helper.make_graph(nodes, "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.fixture
def written(tmp_path):
    def write(proto: onnx.ModelProto, **options: int) -> list[onnx.NodeProto]:
        onnx.save(proto, tmp_path / "in.onnx")
        converters.save(converters.load(tmp_path / "in.onnx"), tmp_path / "out.onnx", force=True, **options)
        return list(onnx.load(tmp_path / "out.onnx").graph.node)

    return write


def test_empty_inputs_at_the_end_are_left_out(written):
    weight = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w")
    (conv,) = written(model(17, [helper.make_node("Conv", ["x", "w", ""], ["y"])], weight))
    assert list(conv.input)[1:] and len(conv.input) == 2


def test_attributes_of_the_default_are_left_out_by_the_default_of_their_set(written):
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], ceil_mode=0, storage_order=0, auto_pad="NOTSET")
    assert [a.name for a in written(model(17, [pool]))[0].attribute] == ["kernel_shape"]
    for opset, axis, left in ((17, -1, []), (17, 1, ["axis"]), (11, 1, []), (11, -1, ["axis"])):
        softmax = helper.make_node("Softmax", ["x"], ["y"], axis=axis)
        assert [a.name for a in written(model(opset, [softmax]))[0].attribute] == left


@pytest.mark.parametrize("value", [{"value_float": 2.0}, {"value_floats": [2.0]}, {"value": numpy_helper.from_array(np.float32(2), "c")}])
def test_constants_are_whole_tensors(written, value):
    nodes = written(model(17, [helper.make_node("Constant", [], ["c"], **value), helper.make_node("Mul", ["x", "c"], ["y"])]))
    constants = [a for node in nodes if node.op_type == "Constant" for a in node.attribute]
    assert [(a.name, numpy_helper.to_array(a.t).tolist()) for a in constants] in ([("value", 2.0)], [("value", [2.0])])


def test_what_rules_write_is_plain_too(written):
    nodes = written(model(19, [helper.make_node("Mish", ["x"], ["m"]), helper.make_node("Softmax", ["m"], ["y"], axis=1)]), opset=11)
    assert [node.op_type for node in nodes] == ["Softplus", "Tanh", "Mul", "Transpose", "Softmax", "Transpose"]
    assert not any("" in node.input for node in nodes)
    assert [[a.name for a in node.attribute] for node in nodes if node.op_type == "Softmax"] == [["axis"]]
