"""torch2onnx beside torch.onnx's two exporters on a hundred nets: `python -m tests.exporters [VERSION=PYTHON ...]`.

Each net is exported with an open batch, from a batch of two. A file is right where onnxruntime gives the module's own answers at batches
of two and three, and of inputs twenty times as large; its names are kept where every parameter is an initializer under its key.
VERSION=PYTHON: interpreters with other onnxruntimes, in which the same files have to give the same answers.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from torch.nn import functional as F

import converters
from converters.tracing.program import export_module
from tests.readers.pytorch.test_export import LAYER_CASES, settled

RUNNER = """
import sys, numpy as np, onnxruntime
onnxruntime.set_default_logger_severity(4)
for path in sys.argv[1:]:
    case, result = np.load(path + ".npz"), "right"
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for number in range(len(case.files) // 2):
            got, want = session.run(None, {session.get_inputs()[0].name: case["x%d" % number]})[0], case["y%d" % number]
            far = 1e-4 * max(1.0, float(np.abs(want).max()))
            if got.shape != want.shape or not np.allclose(got, want, rtol=1e-3, atol=far, equal_nan=True):
                result = "wrong"
    except Exception as problem:
        result = "fails"
    print(path + " " + result)
"""


class Called(nn.Module):
    """A function of one input, and layers that it may use."""

    def __init__(self, function: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


def sequence_of(layer: nn.Module) -> nn.Module:
    """The answer of a recurrent layer without its last states."""
    return Called(lambda net, x: net.rnn(x)[0], rnn=layer)


class Residual(nn.Module):
    """Two convolutions and the input, as ResNet has them."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


IMAGE, SEQUENCE = (2, 4, 12, 12), (2, 7, 8)
_CONV, _HEAD = nn.Conv2d(4, 8, 3, padding=1), nn.Linear(8, 5)
NETS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    **{f"nn.{name}": (nn.Sequential(layer), shape) for name, (layer, shape) in LAYER_CASES.items()},
    **{
        f"nn.Linear and nn.{name}": (nn.Sequential(nn.Linear(8, 8), getattr(nn, name)()), SEQUENCE)
        for name in "ELU CELU SELU GELU SiLU Mish Hardswish Hardsigmoid Hardtanh LogSigmoid Softplus Softsign Tanhshrink Softshrink "
        "Hardshrink ReLU6 PReLU Sigmoid Tanh LeakyReLU".split()
    },
    "nn.Linear and nn.GELU by tanh": (nn.Sequential(nn.Linear(8, 8), nn.GELU(approximate="tanh")), SEQUENCE),
    "nn.Linear and nn.Softmax": (nn.Sequential(nn.Linear(8, 8), nn.Softmax(dim=1)), SEQUENCE),
    "nn.LSTM, its sequence": (sequence_of(nn.LSTM(8, 6, batch_first=True)), SEQUENCE),
    "nn.LSTM both ways": (sequence_of(nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)), SEQUENCE),
    "nn.GRU, its sequence": (sequence_of(nn.GRU(8, 6, batch_first=True)), SEQUENCE),
    "nn.GRU both ways": (sequence_of(nn.GRU(8, 6, 2, batch_first=True, bidirectional=True)), SEQUENCE),
    "nn.RNN": (sequence_of(nn.RNN(8, 6, batch_first=True)), SEQUENCE),
    "nn.MultiheadAttention": (
        Called(lambda net, x: net.attention(x, x, x, need_weights=False)[0], attention=nn.MultiheadAttention(8, 2, batch_first=True)),
        SEQUENCE,
    ),
    "nn.TransformerEncoder": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False),
        SEQUENCE,
    ),
    "scaled_dot_product_attention": (Called(lambda net, x: F.scaled_dot_product_attention(x, x, x)), (2, 2, 5, 8)),
    "residual blocks": (
        nn.Sequential(nn.Conv2d(4, 8, 3), Residual(8, 6), Residual(8, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), _HEAD),
        IMAGE,
    ),
    "weight_norm": (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 8, 3)), nn.ReLU()), IMAGE),
    "depthwise": (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1), nn.ReLU6()), IMAGE),
    "squeeze and excite": (
        Called(
            lambda net, x: x * torch.sigmoid(net.up(F.relu(net.down(x.mean((2, 3), keepdim=True))))),
            down=nn.Conv2d(4, 2, 1),
            up=nn.Conv2d(2, 4, 1),
        ),
        IMAGE,
    ),
    "upsampled and joined": (
        Called(lambda net, x: torch.cat([x, F.interpolate(net.conv(x), scale_factor=2)], 1), conv=nn.Conv2d(4, 8, 2, 2)),
        IMAGE,
    ),
    "an embedding's dot": (Called(lambda net, x: x @ net.table.weight.t(), table=nn.Embedding(9, 8)), SEQUENCE),
    "squeezed": (Called(lambda net, x: net.head(x).squeeze(), head=nn.Linear(8, 3)), SEQUENCE),
    "flat by shape": (Called(lambda net, x: net.head(net.conv(x).view(x.shape[0], -1)), conv=_CONV, head=nn.Linear(8 * 144, 5)), IMAGE),
    "channels last": (Called(lambda net, x: net.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(4)), IMAGE),
    "a window's mean": (Called(lambda net, x: x.unfold(1, 3, 2).mean(-1)), SEQUENCE),
    "sorted": (Called(lambda net, x: net.head(x.sort(1).values), head=nn.Linear(8, 3)), SEQUENCE),
    "the largest three": (Called(lambda net, x: x.topk(3, 1).values), SEQUENCE),
    "cumulative": (Called(lambda net, x: net.head(x).cumsum(1), head=nn.Linear(8, 3)), SEQUENCE),
    "shuffled channels": (Called(lambda net, x: net.conv(x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2)), conv=_CONV), IMAGE),
    "a mask": (
        Called(lambda net, x: net.head(x).masked_fill(x.sum(-1, keepdim=True) < 0, -1e4).softmax(1), head=nn.Linear(8, 3)),
        SEQUENCE,
    ),
    "logsumexp": (Called(lambda net, x: net.head(x).logsumexp(1), head=nn.Linear(8, 3)), SEQUENCE),
    "normalized": (Called(lambda net, x: F.normalize(net.head(x), dim=-1), head=nn.Linear(8, 3)), SEQUENCE),
}


def by_us(module: nn.Module, x: torch.Tensor, path: Path) -> None:
    """torch2onnx."""
    converters.save(export_module(module, {"": tuple(x.shape)}, path.name), path)


def by_dynamo(module: nn.Module, x: torch.Tensor, path: Path) -> None:
    """torch.onnx.export by torch.export."""
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False)


def by_trace(module: nn.Module, x: torch.Tensor, path: Path) -> None:
    """torch.onnx.export by TorchScript."""
    torch.onnx.export(module, (x,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}})


EXPORTERS = {"torch2onnx": by_us, "torch.onnx, dynamo": by_dynamo, "torch.onnx, TorchScript": by_trace}


def write_case(module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Inputs and the module's own answers beside a file."""
    torch.manual_seed(1)
    inputs = [torch.randn(shape), torch.randn(3, *shape[1:]), 20 * torch.randn(shape)]
    with torch.no_grad():
        answers = [module(x.clone()) for x in inputs]
    first = [answer[0] if isinstance(answer, tuple) else answer for answer in answers]
    pairs = {f"{role}{number}": array.numpy() for role, arrays in (("x", inputs), ("y", first)) for number, array in enumerate(arrays)}
    np.savez(f"{path}.npz", **pairs)


def keeps_names(module: nn.Module, path: Path) -> bool:
    """Whether every parameter is an initializer under its key, with its numbers."""
    stored = {tensor.name: tensor for tensor in onnx.load(path).graph.initializer}
    return all(
        key in stored and np.array_equal(numpy_helper.to_array(stored[key]), value.detach().numpy())
        for key, value in module.named_parameters()
    )


def run(python: str, paths: list[Path]) -> dict[str, str]:
    """What each file comes to in the onnxruntime of an interpreter."""
    done = subprocess.run([python, "-c", RUNNER, *map(str, paths)], capture_output=True, text=True, check=False)
    return dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())  # type: ignore[misc]


def main(arguments: list[str]) -> None:
    """Prints a line for each net that isn't right and named everywhere, and the table."""
    warnings.simplefilter("ignore")
    versions = {"newest": sys.executable, **dict(argument.split("=", 1) for argument in arguments)}
    written: dict[str, dict[str, Path]] = {exporter: {} for exporter in EXPORTERS}
    lost = set()
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, (module, shape)) in enumerate(NETS.items()):
            torch.manual_seed(number)
            settled(module)
            for place, (exporter, export) in enumerate(EXPORTERS.items()):
                path = Path(folder) / f"{number}_{place}.onnx"
                try:
                    export(module, torch.randn(shape), path)
                    write_case(module, shape, path)
                except Exception as problem:
                    print(f"{name}: no file of {exporter}: {str(problem).splitlines()[0][:100]}", flush=True)
                    continue
                written[exporter][name] = path
                lost |= set() if keeps_names(module, path) else {path}
        found = {exporter: {v: run(python, list(paths.values())) for v, python in versions.items()} for exporter, paths in written.items()}
        columns = ["right, names kept", "right, names lost", "wrong", "no file", *(f"right on {version}" for version in versions)]
        print(f"| {len(NETS)} nets | {' | '.join(columns)} |")
        for exporter, paths in written.items():
            newest = found[exporter]["newest"]
            right = [path for path in paths.values() if newest.get(str(path)) == "right"]
            named = [path for path in right if path not in lost]
            there = [sum(result == "right" for result in results.values()) for results in found[exporter].values()]
            row = [len(named), len(right) - len(named), len(paths) - len(right), len(NETS) - len(paths), *there]
            print(f"| {exporter} | {' | '.join(map(str, row))} |")
            print(f"  not right: {', '.join(name for name, path in paths.items() if path not in right)}")


if __name__ == "__main__":
    main(sys.argv[1:])
