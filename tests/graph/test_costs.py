"""Parameters and multiply-adds of each layer, against published counts and against formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from converters.errors import ConversionError, Source
from converters.graph.builder import GraphBuilder
from converters.graph.costs import costs


class Net:
    """Layers of convolutional nets by name, all weights zero."""

    def __init__(self, *shape: int, symbolic_batch: bool = True) -> None:
        self.g = GraphBuilder("net", symbolic_batch=symbolic_batch)
        self.x = self.g.input("data", shape)

    def layer(self, name: str) -> Any:
        return self.g.at(Source("net.prototxt", "layer", name, "Layer"), name)

    def conv(self, name: str, x: ir.Value, filters: int, kernel: int, stride: int = 1) -> ir.Value:
        channels = self.g.fixed(x, 1, 2)[0]
        with self.layer(name):
            weight = self.g.param("weight", np.zeros((filters, channels, kernel, kernel), np.float32))
            return self.g.emit("Conv", x, weight, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def norm(self, name: str, x: ir.Value) -> ir.Value:
        channels = self.g.fixed(x, 1, 2)[0]
        with self.layer(name):
            roles = ("weight", "bias", "running_mean", "running_var")
            return self.g.emit("BatchNormalization", x, *(self.g.param(role, np.zeros(channels, np.float32)) for role in roles))

    def linear(self, name: str, x: ir.Value, classes: int) -> ir.Value:
        with self.layer(name):
            weight = self.g.param("weight", np.zeros((classes, self.g.fixed(x, 1, 2)[0]), np.float32))
            return self.g.emit("Gemm", x, weight, self.g.param("bias", np.zeros(classes, np.float32)), transB=1)

    def finish(self, y: ir.Value) -> ir.Model:
        self.g.output(y, "output")
        return self.g.finish()


def cifar_resnet(depth: int) -> ir.Model:
    """He et al. 2016, section 4.2, with a 1x1 convolution where a block changes the size; as CIFAR-pretrained-models builds it."""
    net = Net(2, 3, 32, 32)
    x = net.g.emit("Relu", net.norm("bn1", net.conv("conv1", net.x, 16, 3)))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range((depth - 2) // 6):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = net.g.emit("Relu", net.norm(f"{name}.bn1", net.conv(f"{name}.conv1", x, filters, 3, stride)))
            y = net.norm(f"{name}.bn2", net.conv(f"{name}.conv2", y, filters, 3))
            if stride > 1:
                x = net.norm(f"{name}.downsample.1", net.conv(f"{name}.downsample.0", x, filters, 1, stride))
            x = net.g.emit("Relu", net.g.emit("Add", y, x))
    return net.finish(net.linear("fc", net.g.flatten(net.g.emit("GlobalAveragePool", x), 1), 10))


@pytest.mark.parametrize(
    ("depth", "parameters", "multiply_adds"), [(20, "0.27", "40.81"), (32, "0.46", "69.12"), (44, "0.66", "97.44"), (56, "0.85", "125.75")]
)
def test_published_counts(depth: int, parameters: str, multiply_adds: str) -> None:
    """The table of CIFAR-pretrained-models, in millions: convolutions and the linear layer alone."""
    found = costs(cifar_resnet(depth))
    assert f"{found.weights / 1e6:.2f}" == parameters
    assert found.parameters - found.weights == 2 * sum(f * (2 * ((depth - 2) // 6) + (f > 16)) for f in (16, 32, 64)) + 32  # batch norms
    assert found.multiply_adds is not None and f"{found.multiply_adds / 1e6:.2f}" == multiply_adds
    assert found.inputs == {"data": [1, 3, 32, 32]}


def test_each_layer_has_its_own() -> None:
    net = Net(4, 3, 16, 12)
    y = net.norm("bn", net.conv("conv", net.x, 8, 3, 2))
    with net.layer("pool"):
        y = net.g.emit("MaxPool", y, kernel_shape=[2, 3], strides=[2, 3])
    with net.layer("prob"):
        y = net.g.emit("Softmax", net.linear("fc", net.g.flatten(y, 1), 5), axis=1)
    rows = {layer.name: layer for layer in costs(net.finish(y)).layers}
    conv, norm, pool, linear, prob = (rows[name] for name in ("conv", "bn", "pool", "fc", "prob"))
    assert (conv.parameters, conv.multiply_adds, conv.shape) == (8 * 3 * 9, 8 * 8 * 6 * 3 * 9, [1, 8, 8, 6])
    assert (norm.parameters, norm.buffers, norm.multiply_adds, norm.other) == (16, 16, 0, 8 * 8 * 6)
    assert (pool.parameters, pool.other) == (0, 8 * 4 * 2 * 6)
    assert (linear.parameters, linear.multiply_adds, linear.other) == (64 * 5 + 5, 64 * 5, 0)
    assert (prob.multiply_adds, prob.other) == (0, 15)
    assert conv.source == "net.prototxt conv (Layer)" and conv.operators == ["Conv"]


def test_other_sizes_than_the_graph_s() -> None:
    model = cifar_resnet(20)
    small, large = costs(model), costs(model, {"": (3, 3, 64, 64)})
    assert small.multiply_adds is not None and large.multiply_adds is not None
    assert large.multiply_adds - 3 * 640 == 12 * (small.multiply_adds - 640)  # but for the linear layer behind the average
    with pytest.raises(ConversionError, match="no input is called 'image'"):
        costs(model, {"image": (1, 3, 32, 32)})
    with pytest.raises(ConversionError, match="has 4 axes, the shape given 3"):
        costs(model, {"data": (3, 32, 32)})


def _one(op_type: str, shapes: list[tuple[int, ...]], weights: list[tuple[int, ...]], outputs: int = 1, **attributes: Any) -> Any:
    g = GraphBuilder("net")
    values = [g.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
    values += [g.param(f"w{i}", np.zeros(shape, np.float32)) for i, shape in enumerate(weights)]
    g.output(g.emit_all(op_type, *values, outputs=outputs, **attributes)[0], "y")
    return costs(g.finish())


@pytest.mark.parametrize(
    ("op_type", "shapes", "weights", "attributes", "want"),
    [
        ("Conv", [(2, 8, 9, 9)], [(4, 2, 3, 3)], {"group": 4}, 2 * 4 * 7 * 7 * 2 * 9),
        ("ConvTranspose", [(1, 6, 5, 5)], [(6, 2, 4, 4)], {"strides": [2, 2]}, 6 * 25 * 2 * 16),
        ("MatMul", [(2, 7, 3)], [(3, 5)], {}, 2 * 7 * 3 * 5),
        ("MatMul", [(4, 2, 7, 3), (4, 2, 3, 7)], [], {}, 4 * 2 * 7 * 3 * 7),
        ("Gemm", [(3, 2)], [(5, 3)], {"transA": 1, "transB": 1}, 2 * 3 * 5),
        ("LSTM", [(9, 2, 4)], [(1, 4 * 6, 4), (1, 4 * 6, 6)], {"hidden_size": 6}, 9 * 2 * 4 * 6 * (4 + 6)),
        ("GRU", [(9, 2, 4)], [(2, 3 * 6, 4), (2, 3 * 6, 6)], {"hidden_size": 6, "direction": "bidirectional"}, 9 * 2 * 2 * 3 * 6 * (4 + 6)),
        ("Einsum", [(2, 3, 4), (2, 4, 5)], [], {"equation": "bij,bjk->bik"}, 2 * 3 * 4 * 5),
    ],
)
def test_products(op_type: str, shapes: Any, weights: Any, attributes: dict[str, Any], want: int) -> None:
    found = _one(op_type, shapes, weights, **attributes)
    assert (found.multiply_adds, found.other) == (want, 0)
    assert found.parameters == found.weights == sum(math.prod(shape) for shape in weights)


@pytest.mark.parametrize(
    ("op_type", "attributes", "want"),
    [
        ("Relu", {}, 192),
        ("ReduceMean", {"keepdims": 0}, 192),
        ("GlobalAveragePool", {}, 192),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, 192),
        ("LRN", {"size": 3}, 3 * 192),
        ("Softmax", {"axis": 1}, 3 * 192),
        ("Transpose", {}, 0),
        ("Identity", {}, 0),
    ],
)
def test_the_rest(op_type: str, attributes: dict[str, Any], want: int) -> None:
    found = _one(op_type, [(2, 3, 8, 4)], [], **attributes)
    assert (found.multiply_adds, found.other) == (0, want)


def test_shared_weights_count_once_and_open_axes_are_unknown() -> None:
    g = GraphBuilder("net", dynamic={("data", 2): "height"})
    x = g.input("data", (1, 4, 8, 8))
    weight = g.param("weight", np.zeros((4, 4, 1, 1), np.float32), path="shared")
    for name in ("first", "second"):
        with g.at(Source("net", "layer", name, "Convolution"), name):
            x = g.emit("Conv", x, weight)
    g.output(x, "y")
    model = g.finish()
    found = costs(model)
    assert [layer.parameters for layer in found.layers] == [16, 0] and found.multiply_adds is None
    assert "| all |  |  | 16 | ? | 0 |" in str(found)
    assert costs(model, {"data": (1, 4, 8, 8)}).multiply_adds == 2 * 4 * 64 * 4
    assert costs(model, {"data": (1, 4, 8, 8)}).as_dict()["layers"][0]["multiply_adds"] == 4 * 64 * 4
