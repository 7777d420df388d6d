"""Published Caffe nets whose deploy files repeat a pattern, written by that pattern, with drawn weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.readers.caffe import wire


class Prototxt:
    """Layers and their blobs; each method adds one layer (a convolution with what follows it) and answers its top."""

    def __init__(self, size: int) -> None:
        dims = " ".join(f"dim: {n}" for n in (1, 3, size, size))
        self.lines = [f'name: "net" layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}']
        self.blobs: dict[str, list[np.ndarray]] = {}
        self.channels = {"data": 3}
        self._random = np.random.default_rng(9)

    def layer(self, kind: str, name: str, bottoms: str, params: str = "", top: str = "") -> str:
        inputs = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
        self.lines.append(f'layer {{ name: "{name}" type: "{kind}" {inputs} top: "{top or name}" {params} }}')
        self.channels[top or name] = self.channels[bottoms.split()[0]]
        return top or name

    def draw(self, *shape: int) -> np.ndarray:
        fan = int(np.prod(shape[1:])) or 1
        return (self._random.standard_normal(shape) * np.sqrt(2 / fan)).astype(np.float32)

    def conv(
        self, name: str, x: str, outputs: int, size: int = 1, *, stride: int = 1, pad: int = -1, group: int = 1, bias: bool = False
    ) -> str:
        shape = (outputs, self.channels[x] // group, size, size)
        pad = size // 2 if pad < 0 else pad
        options = f"num_output: {outputs} kernel_size: {size} stride: {stride} pad: {pad} group: {group} bias_term: {str(bias).lower()}"
        self.layer("Convolution", name, x, f"convolution_param {{ {options} }}")
        self.blobs[name] = [self.draw(*shape)] + ([self.draw(outputs) * 0.1] if bias else [])
        self.channels[name] = outputs
        return name

    def norm(self, name: str, x: str, *, in_place: bool = True) -> str:
        """BatchNorm and Scale."""
        channels = self.channels[x]
        y = self.layer("BatchNorm", f"{name}/bn", x, "batch_norm_param { eps: 1e-5 }", x if in_place else "")
        self.layer("Scale", f"{name}/scale", y, "scale_param { bias_term: true }", y)
        self.blobs[f"{name}/bn"] = [self.draw(channels) * 0.1, np.abs(self.draw(channels)) * 0.1 + 0.9, np.ones(1, np.float32)]
        self.blobs[f"{name}/scale"] = [np.abs(self.draw(channels)) * 0.1 + 0.9, self.draw(channels) * 0.1]
        return y

    def relu(self, x: str) -> str:
        return self.layer("ReLU", f"{x}/relu", x, top=x)

    def pool(self, name: str, x: str, kind: str, size: int = 0, stride: int = 1, pad: int = 0) -> str:
        window = f"kernel_size: {size} stride: {stride} pad: {pad}" if size else "global_pooling: true"
        return self.layer("Pooling", name, x, f"pooling_param {{ pool: {kind} {window} }}")

    def linear(self, name: str, x: str, outputs: int, inputs: int) -> str:
        self.layer("InnerProduct", name, x, f"inner_product_param {{ num_output: {outputs} }}")
        self.blobs[name] = [self.draw(outputs, inputs), self.draw(outputs) * 0.1]
        self.channels[name] = outputs
        return name

    def write(self, folder: Path) -> list[Path]:
        """The files, as load() takes them."""
        files = [folder / "net.prototxt", folder / "net.caffemodel"]
        files[0].write_text("\n".join(self.lines))
        files[1].write_bytes(wire.caffemodel(self.blobs))
        return files


def resnet(counts: tuple[int, ...], size: int = 224, *, squeezed: bool = False) -> Prototxt:
    """He's ResNet-50, 101, 152: the first 1x1 has the stride; squeezed: Hu's SE-ResNet."""
    net = Prototxt(size)
    x = net.relu(net.norm("conv1", net.conv("conv1", "data", 64, 7, stride=2)))
    x = net.pool("pool1", x, "MAX", 3, 2)
    for stage, count in enumerate(counts):
        width = 64 * 2**stage
        for number in range(count):
            name, stride = f"res{stage + 2}_{number}", 2 if stage and not number else 1
            y = net.relu(net.norm(f"{name}_2a", net.conv(f"{name}_2a", x, width, stride=stride)))
            y = net.relu(net.norm(f"{name}_2b", net.conv(f"{name}_2b", y, width, 3)))
            y = net.norm(f"{name}_2c", net.conv(f"{name}_2c", y, width * 4))
            if squeezed:
                s = net.pool(f"{name}_squeeze", y, "AVE")
                s = net.relu(net.conv(f"{name}_down", s, width // 4, bias=True))
                s = net.layer("Sigmoid", f"{name}_prob", net.conv(f"{name}_up", s, width * 4, bias=True))
            if not number:
                x = net.norm(f"{name}_1", net.conv(f"{name}_1", x, width * 4, stride=stride))
            if squeezed:
                y = net.layer("Axpy", name, f"{s} {y} {x}")
            else:
                y = net.layer("Eltwise", name, f"{x} {y}")
            net.channels[y] = width * 4
            x = net.relu(y)
    x = net.pool("pool5", x, "AVE")
    net.layer("Softmax", "prob", net.linear("fc1000", x, 1000, net.channels[x]))
    return net


def densenet(counts: tuple[int, ...], size: int = 224) -> Prototxt:
    """Shicai's DenseNet-121, 161, 169."""
    net = Prototxt(size)
    x = net.relu(net.norm("conv1", net.conv("conv1", "data", 64, 7, stride=2)))
    x = net.pool("pool1", x, "MAX", 3, 2, 1)
    for block, count in enumerate(counts, 2):
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            y = net.conv(f"{name}/x1", net.relu(net.norm(f"{name}/x1", x, in_place=False)), 128)
            y = net.conv(f"{name}/x2", net.relu(net.norm(f"{name}/x2", y, in_place=False)), 32, 3)
            channels = net.channels[x] + 32
            x = net.layer("Concat", f"concat_{block}_{number}", f"{x} {y}")
            net.channels[x] = channels
        if block <= len(counts):
            x = net.conv(f"conv{block}_blk", net.relu(net.norm(f"conv{block}_blk", x, in_place=False)), channels // 2)
            x = net.pool(f"pool{block}", x, "AVE", 2, 2)
    x = net.pool("pool5", net.relu(net.norm("conv5_blk", x, in_place=False)), "AVE")
    net.conv("fc6", x, 1000, bias=True)
    return net


def mobilenet(size: int = 224) -> Prototxt:
    """Shicai's MobileNet."""
    net = Prototxt(size)
    x = net.relu(net.norm("conv1", net.conv("conv1", "data", 32, 3, stride=2)))
    for outputs, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        name = f"conv{len(net.lines)}"
        x = net.relu(net.norm(f"{name}/dw", net.conv(f"{name}/dw", x, net.channels[x], 3, stride=stride, group=net.channels[x])))
        x = net.relu(net.norm(f"{name}/sep", net.conv(f"{name}/sep", x, outputs)))
    net.layer("Softmax", "prob", net.conv("fc7", net.pool("pool6", x, "AVE"), 1000, bias=True))
    return net


def squeezenet(size: int = 227) -> Prototxt:
    """DeepScale's SqueezeNet 1.1."""
    net = Prototxt(size)
    x = net.pool("pool1", net.relu(net.conv("conv1", "data", 64, 3, stride=2, pad=0, bias=True)), "MAX", 3, 2)
    for number, narrow in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        wide = narrow * 4
        s = net.relu(net.conv(f"fire{number}/squeeze1x1", x, narrow, bias=True))
        one = net.relu(net.conv(f"fire{number}/expand1x1", s, wide, bias=True))
        three = net.relu(net.conv(f"fire{number}/expand3x3", s, wide, 3, bias=True))
        x = net.layer("Concat", f"fire{number}/concat", f"{one} {three}")
        net.channels[x] = 2 * wide
        if number in (3, 5):
            x = net.pool(f"pool{number}", x, "MAX", 3, 2)
    x = net.relu(net.conv("conv10", net.layer("Dropout", "drop9", x, top=x), 1000, bias=True))
    net.layer("Softmax", "prob", net.pool("pool10", x, "AVE"))
    return net


def vgg16(size: int = 224) -> Prototxt:
    """VGG's 16 layers."""
    net = Prototxt(size)
    x = "data"
    for stage, (width, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1):
        for number in range(1, count + 1):
            x = net.relu(net.conv(f"conv{stage}_{number}", x, width, 3, bias=True))
        x = net.pool(f"pool{stage}", x, "MAX", 2, 2)
    inputs = 512 * (size // 32) ** 2
    for name, outputs in [("fc6", 4096), ("fc7", 4096)]:
        x = net.relu(net.linear(name, x, outputs, inputs))
        x = net.layer("Dropout", f"{name}/drop", x, top=x)
        inputs = outputs
    net.layer("Softmax", "prob", net.linear("fc8", x, 1000, inputs))
    return net


def nets(*, small: bool = False) -> dict[str, Callable[[], Prototxt]]:
    """The nets by name; small: fewer blocks, smaller images."""
    size = 64 if small else 224
    counts, dense = ((1, 1), (2, 3)) if small else ((3, 4, 6, 3), (6, 12, 24, 16))
    found: dict[str, Callable[[], Prototxt]] = {
        "ResNet-50": lambda: resnet(counts, size),
        "SE-ResNet-50": lambda: resnet(counts, size, squeezed=True),
        "DenseNet-121": lambda: densenet(dense, size),
        "MobileNet": lambda: mobilenet(size),
        "SqueezeNet 1.1": lambda: squeezenet(size + 3),
    }
    if not small:
        found |= {"ResNet-101": lambda: resnet((3, 4, 23, 3)), "ResNet-152": lambda: resnet((3, 8, 36, 3)), "VGG-16": vgg16}
    return found
