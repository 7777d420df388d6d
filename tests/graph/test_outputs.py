"""Nets that end in inner values: by the names that their sources have for them, in every reader."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from converters import ConversionError, load
from converters.cli import main
from tests.conformance import FIXTURES
from tests.readers.mxnet.wire import node, params, symbol

DIGITS = FIXTURES / "digits"
CAFFE = DIGITS / "caffe" / "deploy.prototxt", DIGITS / "caffe" / "digits.caffemodel"
MXNET = DIGITS / "mxnet" / "digits-symbol.json", DIGITS / "mxnet" / "digits-0010.params"
LUA = (DIGITS / "torch7" / "digits.t7",)
IMAGE = np.random.RandomState(5).rand(2, 1, 16, 16).astype(np.float32)


def answers(paths, *outputs):
    """The named values, by onnxruntime."""
    model = load(*paths, inputs={"": IMAGE.shape}, outputs=outputs)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: IMAGE})


def test_caffe_layers_in_place_by_their_own_names():
    """bn1, scale1 and relu1 write over the blob conv1: the blob's name is the last version's, a layer's name that layer's."""
    last, relu, scaled = answers(CAFFE, "norm1", "relu1", "scale1")
    assert last.shape == relu.shape
    np.testing.assert_array_equal(relu, np.maximum(scaled, 0))
    np.testing.assert_array_equal(relu, answers(CAFFE, "conv1")[0])


@pytest.mark.parametrize("name", ["conv1_relu", "conv1_relu_output"])
def test_mxnet_operators_by_name_and_by_output(name):
    relu, normalized = answers(MXNET, name, "conv1_bn")
    np.testing.assert_array_equal(relu, np.maximum(normalized, 0))


def test_lua_modules_by_their_path():
    assert answers(LUA, "1")[0].shape == (2, 16, 14, 14)


@pytest.mark.parametrize("paths", [CAFFE, MXNET, LUA], ids=["caffe", "mxnet", "torch7"])
def test_a_name_that_nothing_has_is_said(paths):
    with pytest.raises(ConversionError, match="no value 'nothing' to end in; it has "):
        load(*paths, inputs={"": IMAGE.shape}, outputs=["nothing"])


def test_the_command_takes_inner_values(tmp_path):
    out = tmp_path / "out.onnx"
    assert main(["mxnet2onnx", *map(str, MXNET), str(out), "--input", "1x1x16x16", "--output", "pool1", "--output", "fc", "--quiet"]) == 0
    assert [value.name for value in onnxruntime.InferenceSession(out).get_outputs()] == ["pool1_output", "fc_output"]


def mxnet(tmp_path, nodes, heads, inputs, outputs=()):
    paths = symbol(tmp_path / "net-symbol.json", nodes, heads), params(tmp_path / "net-0000.params", {})
    return load(*paths, inputs=inputs, outputs=outputs)


DATA = node("null", "data")


def test_what_does_nothing_has_its_name_too(tmp_path):
    nodes = [DATA, node("relu", "r", [(0, 0)]), node("Dropout", "d", [(1, 0)]), node("tanh", "t", [(2, 0)])]
    assert [v.name for v in mxnet(tmp_path, nodes, [(3, 0)], {"data": (2, 3)}, ["d_output"]).graph.outputs] == ["d_output"]


def test_what_comes_behind_the_end_may_be_unknown(tmp_path):
    nodes = [DATA, node("relu", "r", [(0, 0)]), node("NobodyKnows", "n", [(1, 0)])]
    assert [v.name for v in mxnet(tmp_path, nodes, [(2, 0)], {"data": (2, 3)}, ["r"]).graph.outputs] == ["r_output"]


def test_an_output_that_an_operator_lacks_is_said(tmp_path):
    nodes = [DATA, node("relu", "r", [(0, 0)])]
    with pytest.raises(ConversionError, match="it has no output 'r_output1'; it has r_output"):
        mxnet(tmp_path, nodes, [(1, 0)], {"data": (2, 3)}, ["r_output1"])
