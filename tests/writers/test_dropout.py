"""Dropout layers of the original: nn.Dropout in the written source, the same keys and numbers in eval mode, nothing in ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import converters
from converters.errors import Source
from converters.graph.builder import GraphBuilder
from converters.graph.changes.outputs import cut as end_in
from converters.graph.passes import remove_dropouts
from converters.runtimes.onnxruntime import run_onnx
from converters.writers.source.writer import state_dict, write_source
from tests.readers.caffe import wire as caffemodel
from tests.readers.mxnet import wire as mxnet
from tests.readers.torch7 import lua

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
X = np.random.default_rng(3).standard_normal((2, 6)).astype(np.float32)
W = np.random.default_rng(4).standard_normal((4, 6)).astype(np.float32)
B = np.array([0.5, 1, 2, 3], np.float32)
WANTED = np.maximum(X @ W.T + B, 0)


def caffe(folder: Path, more: str = "") -> ir.Model:
    (folder / "net.prototxt").write_text(
        'name: "net" input: "data" input_shape { dim: 2 dim: 6 }\n'
        'layer { name: "fc6" type: "InnerProduct" bottom: "data" top: "fc6" inner_product_param { num_output: 4 } }\n'
        'layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }\n'
        f'layer {{ name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" dropout_param {{ dropout_ratio: 0.7 {more} }} }}\n'
        'layer { name: "twice" type: "Power" bottom: "fc6" top: "twice" power_param { scale: 2 } }\n'
    )
    (folder / "net.caffemodel").write_bytes(caffemodel.caffemodel({"fc6": [W, B]}))
    return converters.load(folder / "net.prototxt", folder / "net.caffemodel")


def torch7(folder: Path, name: str = "nn.Dropout", **fields: object) -> ir.Model:
    linear = lua.module("nn.Linear", weight=W, bias=B)
    net = lua.module(
        "nn.Sequential", linear, lua.module("nn.ReLU"), lua.module(name, p=0.7, **fields), lua.module("nn.MulConstant", constant_scalar=2.0)
    )
    (folder / "net.t7").write_bytes(lua.dumps(net))
    return converters.load(folder / "net.t7", inputs={"": (2, 6)})


def mxnet_net(folder: Path) -> ir.Model:
    nodes = [
        mxnet.node("null", "data"),
        mxnet.node("null", "fc_weight"),
        mxnet.node("null", "fc_bias"),
        mxnet.node("FullyConnected", "fc", [(0, 0), (1, 0), (2, 0)], num_hidden=4),
        mxnet.node("Activation", "relu", [(3, 0)], act_type="relu"),
        mxnet.node("Dropout", "drop", [(4, 0)], p=0.7),
        mxnet.node("_mul_scalar", "twice", [(5, 0)], scalar=2),
    ]
    files = (
        mxnet.symbol(folder / "net-symbol.json", nodes, [(6, 0)]),
        mxnet.params(folder / "net-0000.params", {"arg:fc_weight": W, "arg:fc_bias": B}),
    )
    return converters.load(*files, inputs={"data": (2, 6)})


def onnx_net(folder: Path) -> ir.Model:
    """With the ratio as an input; and the file keeps it: the graph isn't written by this package."""
    nodes = [
        onnx.helper.make_node("Gemm", ["data", "fc.weight", "fc.bias"], ["fc"], transB=1),
        onnx.helper.make_node("Relu", ["fc"], ["relu"]),
        onnx.helper.make_node("Dropout", ["relu", "ratio"], ["drop"]),
        onnx.helper.make_node("Mul", ["drop", "two"], ["twice"]),
    ]
    arrays = {"fc.weight": W, "fc.bias": B, "ratio": np.float32(0.7), "two": np.float32(2)}
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    values = [onnx.helper.make_tensor_value_info(name, 1, dims) for name, dims in (("data", ["N", 6]), ("twice", ["N", 4]))]
    graph = onnx.helper.make_graph(nodes, "net", values[:1], values[1:], tensors)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    return converters.load(folder / "net.onnx")


READERS = {"caffe": caffe, "torch7": lambda folder: torch7(folder, v2=True), "mxnet": mxnet_net, "onnx": onnx_net}


@pytest.mark.parametrize("reader", READERS)
def test_dropout_of_the_original(tmp_path: Path, reader: str) -> None:
    model = READERS[reader](tmp_path)
    module = converters.to_module(model)
    (layer,) = [part for part in module.modules() if isinstance(part, torch.nn.Dropout)]
    assert layer.p == pytest.approx(0.7)
    assert [key.rpartition(".")[2] for key in state_dict(model)] == ["weight", "bias"]
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(X)).numpy(), 2 * WANTED, rtol=1e-5, atol=1e-6)
        torch.manual_seed(0)
        trained = module.train()(torch.from_numpy(X)).numpy()
    kept = trained != 0
    assert 0 < kept.sum() < (WANTED > 0).sum()
    np.testing.assert_allclose(trained[kept], (2 * WANTED / 0.3)[kept], rtol=1e-5)
    converters.save(model, tmp_path / "out.onnx")
    proto = onnx.load(tmp_path / "out.onnx")
    assert "Dropout" not in {node.op_type for node in proto.graph.node}
    (answer,) = run_onnx(tmp_path / "out.onnx", {proto.graph.input[0].name: X})
    np.testing.assert_allclose(answer, 2 * WANTED, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("reader", "name", "want"),
    [("caffe", "fc6", WANTED), ("torch7", "2", WANTED), ("torch7", "1", WANTED), ("mxnet", "drop_output", WANTED)],
)
def test_the_name_of_a_dropout_is_found(tmp_path: Path, reader: str, name: str, want: np.ndarray) -> None:
    """In the original's files, and in the ONNX file that has no such node."""
    model = READERS[reader](tmp_path)
    converters.save(model, tmp_path / "out.onnx")
    for number, source in enumerate((model, converters.load(tmp_path / "out.onnx"))):
        cut = source.clone()
        end_in(cut, [name])
        converters.save(cut, tmp_path / f"cut{number}.onnx")
        (answer,) = run_onnx(tmp_path / f"cut{number}.onnx", {str(cut.graph.inputs[0].name): X})
        np.testing.assert_allclose(answer, want, rtol=1e-5, atol=1e-6)


def test_the_first_version_scales_in_evaluation(tmp_path: Path) -> None:
    """x * (1 - p) in evaluation, x * mask in training: nn.Dropout's own mask / (1 - p) makes the two one."""
    module = converters.to_module(torch7(tmp_path))
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(X)).numpy(), 2 * WANTED * np.float32(0.3), rtol=1e-5, atol=1e-6)
        torch.manual_seed(0)
        trained = module.train()(torch.from_numpy(X)).numpy()
    kept = trained != 0
    np.testing.assert_allclose(trained[kept], (2 * WANTED)[kept], rtol=1e-5)


def test_whole_channels(tmp_path: Path) -> None:
    net = lua.module("nn.Sequential", lua.module("nn.SpatialDropout", p=0.5), lua.module("nn.ReLU"))
    (tmp_path / "net.t7").write_bytes(lua.dumps(net))
    model = converters.load(tmp_path / "net.t7", inputs={"": (2, 8, 3, 3)})
    assert "nn.Dropout2d(p=0.5)" in write_source(model)
    with torch.no_grad():
        trained = converters.to_module(model).train()(torch.ones(2, 8, 3, 3)).numpy()
    assert set(trained.reshape(16, 9).min(1)) == set(trained.reshape(16, 9).max(1)) == {0.0, 1.0}


def test_it_looks_as_one_would_write_it(tmp_path: Path) -> None:
    assert "        self.drop6 = nn.Dropout(p=0.7)\n" in write_source(caffe(tmp_path))
    assert "nn.ReLU(inplace=True), nn.Dropout(p=0.7)" in write_source(torch7(tmp_path, v2=True))


def test_a_dropout_between_an_input_and_an_output() -> None:
    g = GraphBuilder("net")
    x = g.input("data", (2, 3))
    g.output(g.dropout(x, 0.5), "y")
    g.output(g.dropout(g.emit("Relu", x), 0.5), "z")
    model = g.finish()
    remove_dropouts(model)
    assert [str(value.name) for value in model.graph.outputs] == ["y", "z"]
    assert [node.op_type for node in model.graph if node.op_type != "Constant"] == ["Identity", "Relu"]


@pytest.mark.parametrize("taken", ["drop", "drop.inner", "dropper"])
def test_a_path_that_is_taken(taken: str) -> None:
    g = GraphBuilder("net")
    x = g.input("data", (2, 3))
    with g.at(Source("net", "layer", "drop", "Dropout"), "drop"):
        x = g.dropout(x, 0.5)
    with g.at(Source("net", "layer", "fc", "Linear"), taken):
        x = g.emit("MatMul", x, g.param("weight", np.eye(3, dtype=np.float32)))
    g.output(x, "y")
    model = g.finish()
    text = write_source(model)
    assert ("self.dropout = nn.Dropout" if taken != "dropper" else "self.drop = nn.Dropout") in text
    assert list(converters.to_module(model).state_dict()) == [f"{taken}.weight"]
