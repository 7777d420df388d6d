"""A net for each topic of operators, whose written source lies in tests/writers/golden, so that a change of it is seen.

python -m tests.writers.golden_nets        renews them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir

from converters.errors import Source
from converters.graph.builder import GraphBuilder
from converters.readers.onnx.reader import from_proto
from converters.writers.source.writer import write_source

GOLDEN = Path(__file__).parent / "golden"
NETS: dict[str, Callable[[], ir.Model]] = {}


def net(function: Callable[[], ir.Model]) -> Callable[[], ir.Model]:
    NETS[function.__name__] = function
    return function


class Layers(GraphBuilder):
    """A graph whose layers are numbered like lines of a prototxt."""

    def __init__(self, name: str, *shape: int, dtype: type = np.float32) -> None:
        super().__init__(name, symbolic_batch=True)
        self.x = self.input("data", shape, dtype)
        self.line = 0

    def layer(self, name: str, op_type: str, *inputs, parameters: dict[str, Sequence[int]] | None = None, **attributes) -> ir.Value:
        """One operator as a layer of its own, of the last value where no inputs are named."""
        self.line += 10
        with self.at(Source("net.prototxt", "layer", name, op_type, self.line), name):
            held = [self.param(role, np.ones(shape, np.float32)) for role, shape in (parameters or {}).items()]
            values = inputs or (self.x,)
            self.x = self.emit(op_type, *values[:1], *held, *values[1:], **attributes)
            self.bind(self.x, name)
        return self.x

    def result(self) -> ir.Model:
        self.output(self.x, "prob")
        return self.finish()


@net
def activation() -> ir.Model:
    g = Layers("activations", 2, 4, 6, 6)
    g.layer("relu", "Relu")
    g.layer("leaky", "LeakyRelu", alpha=0.1)
    g.layer("elu", "Elu")
    g.layer("prelu", "PRelu", parameters={"weight": (4, 1, 1)})
    g.layer("sigmoid", "Sigmoid")
    g.layer("tanh", "Tanh")
    g.layer("hard", "HardSigmoid", alpha=0.2)
    g.layer("softplus", "Softplus")
    g.layer("softmax", "Softmax", axis=1)
    return g.result()


@net
def containers() -> ir.Model:
    """Paths of numbers, as Lua Torch has them: a chain in a chain, and two branches that are added."""
    g = Layers("containers", 2, 3, 8, 8)
    g.layer("0.0", "Conv", parameters={"weight": (4, 3, 3, 3), "bias": (4,)}, pads=[1, 1, 1, 1])
    g.layer("0.1", "BatchNormalization", parameters={"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,)})
    g.layer("0.2", "Relu")
    shortcut = g.layer("0.4", "MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    g.layer("1.0.0.0", "Conv", parameters={"weight": (4, 4, 1, 1)})
    branch = g.layer("1.0.0.1", "Relu")
    g.layer("1.1", "Add", branch, shortcut)
    g.layer("1.2", "Relu")
    g.layer("2", "Flatten")
    g.layer("3", "Gemm", parameters={"weight": (5, 64), "bias": (5,)}, transB=1)
    return g.result()


@net
def control() -> ir.Model:
    text = """<ir_version: 9, opset_import: ["":19]>
    control (float[N, 3] x, int64 count) => (float[N, 3] y, float[T, N, 3] all) {
        keep = Constant <value = bool {1}> ()
        y, all = Loop (count, keep, x) <body = turn (int64 i, bool before, float[N, 3] state)
                => (bool after, float[N, 3] next, float[N, 3] shown) {
            next = Tanh(state)
            shown = Exp(next)
            after = Identity(before)
        }>
    }"""
    return from_proto(onnx.parser.parse_model(text))


@net
def contributed() -> ir.Model:
    text = """<ir_version: 9, opset_import: ["":17, "com.microsoft":1]>
    contributed (float[N, 3, 4] x) => (float[N, 3, 4] y) <float[4] g = {1, 1, 1, 1}, float[4] b = {1, 1, 1, 1}, float[4] c = {1, 1, 1, 1}> {
        a = com.microsoft.BiasGelu (x, b)
        y, mean, deviation, total = com.microsoft.SkipLayerNormalization <epsilon = 0.00001> (a, x, g, c)
    }"""
    return from_proto(onnx.parser.parse_model(text))


@net
def sequences() -> ir.Model:
    text = """<ir_version: 9, opset_import: ["":17]>
    sequences (float[N, 6] x) => (float[N, 5] y) {
        parts = SplitToSequence <axis = 1> (x)
        one = Constant <value_int = 1> ()
        fewer = SequenceErase (parts, one)
        y = ConcatFromSequence <axis = 1> (fewer)
    }"""
    return from_proto(onnx.parser.parse_model(text))


@net
def convolution() -> ir.Model:
    g = Layers("convolutions", 2, 3, 9, 9)
    g.layer("conv1", "Conv", parameters={"weight": (4, 3, 3, 3), "bias": (4,)}, pads=[1, 1, 1, 1], strides=[2, 2])
    g.layer("conv2/dw", "Conv", parameters={"weight": (4, 1, 3, 3)}, group=4, pads=[2, 2, 2, 2], dilations=[2, 2])
    g.layer("conv3", "Conv", parameters={"weight": (4, 4, 2, 2)}, pads=[0, 0, 1, 1])
    g.layer("up", "ConvTranspose", parameters={"weight": (4, 2, 4, 4), "bias": (2,)}, strides=[2, 2], pads=[1, 1, 1, 1])
    return g.result()


@net
def detection() -> ir.Model:
    g = Layers("detection", 2, 4, 6, 6)
    rois, batch = g.input("rois", (3, 4)), g.input("batch", (3,), np.int64)
    g.layer("align", "RoiAlign", g.x, rois, batch, output_height=2, output_width=2, sampling_ratio=2, spatial_scale=0.5)
    return g.result()


@net
def elementwise() -> ir.Model:
    g = Layers("elementwise", 2, 4, 6, 6)
    first = g.layer("scale", "Mul", parameters={"weight": (4, 1, 1)})
    g.layer("shift", "Add", g.x, 0.5)
    g.layer("power", "Pow", g.x, 2.0)
    second = g.layer("clip", "Clip", g.x, 0.0, 6.0)
    g.layer("less", "Less", first, second)
    g.layer("where", "Where", g.x, first, second)
    g.layer("largest", "Max", g.x, first, second)
    return g.result()


@net
def indexing() -> ir.Model:
    g = Layers("embedding", 2, 5, dtype=np.int64)
    with g.at(Source("net.prototxt", "layer", "embed", "Embed", 10), "embed"):
        g.x = g.emit("Gather", g.param("weight", np.ones((20, 4), np.float32)), g.x)
    g.layer("first", "Gather", g.x, np.array([0, 3], np.int64), axis=1)
    g.x = g.emit_all("TopK", g.x, [2], outputs=2, axis=2)[0]
    return g.result()


@net
def layout() -> ir.Model:
    g = Layers("layout", 2, 4, 6, 6)
    g.layer("permute", "Transpose", perm=[0, 2, 3, 1])
    g.layer("left", "Slice", g.x, [0], [3], [2])
    flat = g.layer("flat", "Reshape", g.x, [0, -1])
    g.layer("fold", "Reshape", g.x, [0, 9, 8])
    g.layer("columns", "Reshape", g.x, [0, 0, 2, 4])
    g.layer("rows", "Reshape", g.x, [0, -1, 4])
    g.layer("flat_again", "Flatten", axis=1)
    g.layer("joined", "Concat", flat, g.x, axis=1)
    g.layer("padded", "Pad", g.x, [0, 1, 0, 2])
    return g.result()


@net
def linear() -> ir.Model:
    g = Layers("3-layer MLP", 2, 8)
    g.layer("fc1", "Gemm", parameters={"weight": (6, 8), "bias": (6,)}, transB=1)
    g.layer("fc2", "Gemm", parameters={"weight": (5, 6)}, transB=1)
    g.layer("project", "MatMul", parameters={"weight": (5, 4)})
    return g.result()


@net
def normalization() -> ir.Model:
    g = Layers("normalization", 2, 4, 6, 6)
    roles = {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,)}
    g.layer("bn", "BatchNormalization", parameters=roles, epsilon=1e-3)
    g.layer("norm", "LRN", size=5, alpha=1e-4, beta=0.75)
    g.layer("instance", "InstanceNormalization", parameters={"weight": (4,), "bias": (4,)})
    g.layer("layer_norm", "LayerNormalization", parameters={"weight": (6,), "bias": (6,)})
    return g.result()


@net
def pooling() -> ir.Model:
    g = Layers("pooling", 2, 4, 15, 15)
    g.layer("pool1", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    g.layer("pool2", "AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    g.layer("pool3", "MaxPool", kernel_shape=[3, 3], pads=[0, 0, 2, 2])
    g.layer("global", "GlobalAveragePool")
    return g.result()


@net
def quantization() -> ir.Model:
    g = Layers("quantization", 2, 4)
    g.layer("quantize", "QuantizeLinear", g.x, np.float32(0.1), np.uint8(128))
    g.layer("dequantize", "DequantizeLinear", g.x, np.float32(0.1), np.uint8(128))
    return g.result()


@net
def recurrent() -> ir.Model:
    g = Layers("recurrent", 2, 5, 3)
    g.layer("time_first", "Transpose", perm=[1, 0, 2])
    g.layer("lstm", "LSTM", parameters={"weight": (1, 16, 3), "recurrence": (1, 16, 4), "bias": (1, 32)}, hidden_size=4)
    return g.result()


@net
def reduction() -> ir.Model:
    g = Layers("reduction", 2, 4, 6, 6)
    g.layer("mean", "ReduceMean", g.x, [2, 3])
    g.layer("norm", "ReduceL2", g.x, [1])
    g.layer("total", "CumSum", g.x, np.int64(1))
    g.layer("best", "ArgMax", axis=1)
    return g.result()


@net
def resampling() -> ir.Model:
    g = Layers("resampling", 2, 4, 6, 6)
    scales = np.array([1, 1, 2, 2], np.float32)
    g.layer("nearest", "Resize", g.x, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    g.layer("bilinear", "Resize", g.x, None, scales, mode="linear")
    return g.result()


@net
def signal() -> ir.Model:
    g = Layers("signal", 2, 16, 1)
    g.layer("spectrum", "DFT", axis=1, onesided=1)
    return g.result()


def text_of(name: str) -> str:
    return write_source(NETS[name](), weights=f"{name}.pth")


if __name__ == "__main__":
    for each in NETS:
        (GOLDEN / f"{each}.py").write_text(text_of(each))
