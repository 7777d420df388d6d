"""For each published recipe: images that no resize changes, a small net of the recipe's format, and its answers by numpy alone.

What the recipes do stands here a second time, as the originals' programs and pages have it; nothing of converters.preprocessing is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.readers.caffe import wire as caffe_wire
from tests.readers.mxnet import wire as mxnet_wire
from tests.readers.torch7.lua import dumps, module, sizes

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Recipe:
    """size: of the images, (height, width). offset: how half an odd excess is rounded. white: the number of white before mean and std."""

    framework: str
    size: tuple[int, int]
    crop: int
    channels: str
    white: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crops: int = 1
    offset: Callable[[float], int] = math.floor
    logits: bool = False
    order: str = "sorted"
    classes: int = 1000


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
V2 = ((102.9801, 115.9465, 122.7717), (1.0,) * 3)
NEXT = ((103.52, 116.28, 123.675), (57.375, 57.12, 58.395))
HALF = ((0.5,) * 3, (0.5,) * 3)
RECIPES = {
    "caffe-resnet-v2-224": Recipe("caffe", (256, 301), 224, "bgr", 255, *V2),
    "caffe-resnet-v2-224-12crop": Recipe("caffe", (256, 256), 224, "bgr", 255, *V2, crops=12),
    "caffe-resnet-v2-320": Recipe("caffe", (331, 320), 320, "bgr", 255, *V2),
    "caffe-inception-299": Recipe("caffe", (320, 333), 299, "bgr", 255, (128,) * 3, (128,) * 3),
    "caffe-inception-299-12crop": Recipe("caffe", (320, 320), 299, "bgr", 255, (128,) * 3, (128,) * 3, crops=12),
    "caffe-inception-395": Recipe("caffe", (395, 400), 395, "bgr", 255, (128,) * 3, (128,) * 3),
    "caffe-resnext-224": Recipe("caffe", (256, 301), 224, "bgr", 255, *NEXT),
    "caffe-resnext-224-12crop": Recipe("caffe", (256, 256), 224, "bgr", 255, *NEXT, crops=12),
    "caffe-resnext-320": Recipe("caffe", (320, 351), 320, "bgr", 255, *NEXT),
    "caffe-resnext-320-12crop": Recipe("caffe", (320, 320), 320, "bgr", 255, *NEXT, crops=12),
    "fb-resnet-224": Recipe("torch7", (256, 301), 224, "rgb", 1, *IMAGENET, offset=math.ceil),
    "fb-resnet-224-10crop": Recipe("torch7", (301, 256), 224, "rgb", 1, *IMAGENET, crops=10, offset=math.ceil, logits=True),
    "fb-resnet-320": Recipe("torch7", (320, 331), 320, "rgb", 1, *IMAGENET, offset=math.ceil),
    "fb-cifar10": Recipe("torch7", (32, 32), 32, "rgb", 255, (125.3, 123.0, 113.9), (63.0, 62.1, 66.7), classes=10),
    "torchvision-224": Recipe("pytorch", (256, 301), 224, "rgb", 1, *IMAGENET, offset=round),
    "torchvision-224-10crop": Recipe("pytorch", (256, 303), 224, "rgb", 1, *IMAGENET, crops=10, offset=round, logits=True),
    "torchvision-299": Recipe("pytorch", (342, 345), 299, "rgb", 1, *IMAGENET, offset=round),
    "inception-v4-pytorch-test": Recipe("pytorch", (342, 345), 299, "rgb", 1, *IMAGENET, offset=round),
    "inception-v4-pytorch-inference": Recipe("pytorch", (299, 299), 299, "rgb", 1, *IMAGENET),
    "cifar10": Recipe("pytorch", (32, 32), 32, "rgb", 1, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), classes=10),
    "cifar100": Recipe("pytorch", (32, 32), 32, "rgb", 1, (0.5071, 0.4865, 0.4409), (0.2009, 0.1984, 0.2023), classes=100),
    "lab-vgg16-224": Recipe("pytorch", (224, 224), 224, "lab", 1, (50, 0, 0), (50, 110, 110), order="devkit"),
    "gray-vgg16-224": Recipe("pytorch", (224, 224), 224, "gray", 1, (0.5,), (0.5,), order="devkit"),
    "gray-vgg16-224-train": Recipe("pytorch", (224, 224), 224, "gray", 1, (0.5,), (0.5,), order="devkit"),
    "rgb-half-224": Recipe("pytorch", (224, 224), 224, "rgb", 1, *HALF, order="devkit"),
    "mxnet-inception-v3-299": Recipe("mxnet", (299, 331), 299, "rgb", 256, (128,) * 3, (128,) * 3, order="devkit"),
    "mxnet-inception-21k-224": Recipe("mxnet", (250, 224), 224, "rgb", 256, (117,) * 3, (1,) * 3, classes=60),
    "mxnet-resnet-224": Recipe("mxnet", (224, 224), 224, "rgb", 255, (0,) * 3, (1,) * 3),
}


def draw_image(recipe: Recipe, number: int) -> Array:
    """Blocks of drawn colors, no two images or halves alike. (H, W, 3), bytes, R, G, B."""
    random = np.random.default_rng(1000 + number)
    step = max(recipe.size[0] // 16, 2)
    colors = random.integers(0, 256, (recipe.size[0] // step + 1, recipe.size[1] // step + 1, 3), dtype=np.uint8)
    image: Array = colors.repeat(step, 0).repeat(step, 1)[: recipe.size[0], : recipe.size[1]]
    return image


def crops_of(recipe: Recipe, image: Array) -> Array:
    """What the net is given, (crops, C, S, S)."""
    planes = _channels(recipe, image.astype(np.float64)).transpose(2, 0, 1)
    shape = (-1, 1, 1)
    planes = (planes - np.reshape(recipe.mean, shape)) / np.reshape(recipe.std, shape)
    size, (high, wide) = recipe.crop, recipe.size
    corners = [(0, 0), (0, wide - size), (high - size, 0), (high - size, wide - size)]
    centre = (recipe.offset((high - size) / 2), recipe.offset((wide - size) / 2))
    cut = lambda x, at: x[:, at[0] : at[0] + size, at[1] : at[1] + size]  # noqa: E731
    if recipe.crops == 1:
        return cut(planes, centre)[None]
    both = (planes, planes[:, :, ::-1])
    found = [cut(x, at) for x in both for at in [*corners, centre]]
    if recipe.crops == 12:
        found += [_linear(x, size) for x in both]
    return np.stack(found)


def _channels(recipe: Recipe, rgb: Array) -> Array:
    if recipe.channels == "gray":  # Pillow's weights in 16 bits
        gray = np.floor((19595 * rgb[..., 0] + 38470 * rgb[..., 1] + 7471 * rgb[..., 2] + 32768) / 65536)
        return gray[..., None] / 255 * recipe.white
    if recipe.channels == "lab":  # sRGB, D65, 2 degrees
        s = rgb / 255
        s = np.where(s > 0.04045, ((s + 0.055) / 1.055) ** 2.4, s / 12.92)
        matrix = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
        xyz = s @ matrix.T / np.array([0.95047, 1.0, 1.08883])
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)
    scaled = rgb / 255 * recipe.white
    return scaled[..., ::-1] if recipe.channels == "bgr" else scaled


def _linear(planes: Array, size: int) -> Array:
    """Bilinear with half-pixel centres, no antialiasing, as OpenCV resizes numbers."""
    count = planes.shape[1]
    at = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    low = np.minimum(at.astype(int), max(count - 2, 0))
    part, high = at - low, np.minimum(low + 1, count - 1)
    rows = planes[:, low] * (1 - part)[:, None] + planes[:, high] * part[:, None]
    return rows[:, :, low] * (1 - part) + rows[:, :, high] * part  # type: ignore[no-any-return]


# -- the nets ------------------------------------------------------------------------------------------------------------


class Net:
    """A convolution whose windows don't overlap, and a linear layer; weights for numbers of the recipe's own size."""

    def __init__(self, recipe: Recipe) -> None:
        random = np.random.default_rng(5)
        self.recipe, self.channels, self.window = recipe, len(recipe.mean), recipe.crop // 4
        large = recipe.white / max(recipe.std) if recipe.channels != "lab" else 1.0
        scale = 1 / (large * self.window)
        self.kernel = (random.standard_normal((6, self.channels, self.window, self.window)) * scale).astype(np.float32)
        self.shift = random.standard_normal(6).astype(np.float32)
        self.weight = (random.standard_normal((recipe.classes, 96)) / 4).astype(np.float32)
        self.bias = random.standard_normal(recipe.classes).astype(np.float32) / 2

    def logits(self, crops: Array) -> Array:
        """(crops, classes), in float64."""
        k = self.window
        used = crops[:, :, : 4 * k, : 4 * k].reshape(len(crops), self.channels, 4, k, 4, k)
        maps = np.einsum("ncykxl,ockl->noyx", used, self.kernel.astype(np.float64)) + self.shift[:, None, None]
        return maps.reshape(len(crops), -1) @ self.weight.T.astype(np.float64) + self.bias  # type: ignore[no-any-return]

    def row(self, image: Array) -> Array:
        """One number a class, larger for what is likelier: crops averaged as the recipe has it."""
        logits = self.logits(crops_of(self.recipe, image))
        if self.recipe.logits:
            return logits.mean(0)  # type: ignore[no-any-return]
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return (powers / powers.sum(1, keepdims=True)).mean(0)  # type: ignore[no-any-return]

    def write(self, folder: Path) -> list[Path]:
        """The net in its framework's files, as load() takes them. Several crops of logits ask for a net that ends in them."""
        return list(getattr(self, f"_{self.recipe.framework}")(folder))

    def _caffe(self, folder: Path) -> Iterator[Path]:
        k, shape = self.window, (1, self.channels, self.recipe.crop, self.recipe.crop)
        dims = " ".join(f"dim: {n}" for n in shape)
        text = f"""name: "net" input: "data" input_shape {{ {dims} }}
            layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
                     convolution_param {{ num_output: 6 kernel_size: {k} stride: {k} }} }}
            layer {{ name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param {{ num_output: {self.recipe.classes} }} }}
            layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}"""
        (folder / "net.prototxt").write_text(text)
        blobs = {"conv": [self.kernel, self.shift], "fc": [self.weight, self.bias]}
        (folder / "net.caffemodel").write_bytes(caffe_wire.caffemodel(blobs))
        yield folder / "net.prototxt"
        yield folder / "net.caffemodel"

    def _torch7(self, folder: Path) -> Iterator[Path]:
        k = self.window
        fields = {"nInputPlane": self.channels, "nOutputPlane": 6, "kW": k, "kH": k, "dW": k, "dH": k, "padW": 0, "padH": 0}
        layers = [
            module("nn.SpatialConvolution", **fields, weight=self.kernel, bias=self.shift),
            module("nn.View", size=sizes(96), numElements=96, numInputDims=3),
            module("nn.Linear", weight=self.weight, bias=self.bias),
        ]
        layers += [] if self.recipe.logits else [module("nn.LogSoftMax")]
        (folder / "net.t7").write_bytes(dumps(module("nn.Sequential", *layers)))
        yield folder / "net.t7"

    def _mxnet(self, folder: Path) -> Iterator[Path]:
        k, node = self.window, mxnet_wire.node
        names = ("data", "conv_weight", "conv_bias", "fc_weight", "fc_bias", "softmax_label")
        nodes = [node("null", name) for name in names]
        nodes += [
            node("Convolution", "conv", [(0, 0), (1, 0), (2, 0)], kernel=(k, k), stride=(k, k), num_filter=6),
            node("FullyConnected", "fc", [(6, 0), (3, 0), (4, 0)], num_hidden=self.recipe.classes),
            node("SoftmaxOutput", "softmax", [(7, 0), (5, 0)]),
        ]
        arrays = {"conv_weight": self.kernel, "conv_bias": self.shift, "fc_weight": self.weight, "fc_bias": self.bias}
        yield mxnet_wire.symbol(folder / "net-symbol.json", nodes, [(8, 0)])
        yield mxnet_wire.params(folder / "net-0000.params", {f"arg:{name}": array for name, array in arrays.items()})

    def _pytorch(self, folder: Path) -> Iterator[Path]:
        import torch
        from torch import nn

        net = nn.Sequential(nn.Conv2d(self.channels, 6, self.window, self.window), nn.Flatten(), nn.Linear(96, self.recipe.classes))
        tensors = zip(net.parameters(), (self.kernel, self.shift, self.weight, self.bias), strict=True)
        for parameter, array in tensors:
            parameter.data = torch.from_numpy(array)
        torch.save(net.eval(), folder / "net.pth")
        yield folder / "net.pth"
