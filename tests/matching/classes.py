"""Published architectures as their users write them in PyTorch: classes that know nothing of the files that they get weights from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

EPS = 1e-5


def conv(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class Squeezed(nn.Module):
    """The scales of channels, from 0 to 1."""

    def __init__(self, channels: int, by: int = 16) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(channels // by, channels), nn.Linear(channels, channels // by)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))[:, :, None, None]


class Block(nn.Module):
    """A residual block: two 3x3, or 1x1, 3x3, 1x1; stride_first: the 1x1 has the stride, as in Caffe's."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, options: ResNetOptions) -> None:
        super().__init__()
        self.skip = None
        if stride > 1 or inputs != outputs:
            self.skip = nn.Sequential(conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs, options.eps))
        if options.basic:
            sizes = [(inputs, outputs, 3, stride, 1), (outputs, outputs, 3, 1, 1)]
        else:
            first, second = (stride, 1) if options.stride_first else (1, stride)
            sizes = [(inputs, width, 1, first, 1), (width, width, 3, second, options.groups), (width, outputs, 1, 1, 1)]
        self.bodies = nn.ModuleList(nn.ModuleDict({"n": nn.BatchNorm2d(s[1], options.eps), "c": conv(*s)}) for s in sizes)
        self.scale = Squeezed(outputs) if options.squeezed else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for number, body in enumerate(self.bodies):
            y = body["n"](body["c"](y if number == 0 else F.relu(y)))
        return F.relu(self.scale(y) + (x if self.skip is None else self.skip(x)))


class ResNetOptions:
    """What tells ResNets apart."""

    basic = squeezed = stride_first = ceil = False
    groups, wide, eps, width = 1, 1.0, EPS, 64
    stem_bias = False
    softmax = False

    def __init__(self, **options: object) -> None:
        self.__dict__.update(options)


class ResNet(nn.Module):
    """ResNet, Wide ResNet, ResNeXt and SE-ResNet."""

    def __init__(self, counts: Sequence[int], classes: int = 1000, **options: object) -> None:
        super().__init__()
        o = ResNetOptions(**options)
        self.fc = nn.Linear(o.width * 2 ** (len(counts) - 1) * (1 if o.basic else 4), classes)
        stages: list[nn.Module] = []
        inputs = o.width
        for stage, count in enumerate(counts):
            outputs = o.width * 2**stage * (1 if o.basic else 4)
            for number in range(count):
                width = int(o.width * 2**stage * o.wide)
                stages.append(Block(inputs, width, outputs, 2 if stage and not number else 1, o))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.pool = nn.MaxPool2d(3, 2, 0 if o.ceil else 1, ceil_mode=o.ceil)
        self.norm = nn.BatchNorm2d(o.width, o.eps)
        self.begin = nn.Conv2d(3, o.width, 7, 2, 3, bias=o.stem_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.pool(F.relu(self.norm(self.begin(x)))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


class PreBlock(nn.Module):
    """A bottleneck with norm and activation in front. kind: before both paths, before the residual one alone, or nowhere."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, kind: str, eps: float) -> None:
        super().__init__()
        self.kind = kind
        self.front = nn.BatchNorm2d(inputs, eps) if kind != "none" else nn.Identity()
        self.c1, self.n1 = conv(inputs, width), nn.BatchNorm2d(width, eps)
        self.c2, self.n2 = conv(width, width, 3, stride), nn.BatchNorm2d(width, eps)
        self.c3 = conv(width, outputs)
        self.skip = conv(inputs, outputs, 1, stride) if kind != "residual" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self.kind == "none" else F.relu(self.front(x))
        z = self.c3(F.relu(self.n2(self.c2(F.relu(self.n1(self.c1(y)))))))
        return z + (x if self.skip is None else self.skip(x if self.kind == "none" else y))  # type: ignore[no-any-return]


class PreResNet(nn.Module):
    """ResNet v2. data: a norm of the image itself; first: the kind of the very first block."""

    def __init__(self, counts: Sequence[int], *, data: bool, first: str, eps: float = EPS, skip_norm: bool = False) -> None:
        super().__init__()
        self.data = nn.BatchNorm2d(3, eps) if data else nn.Identity()
        self.begin, self.norm, self.pool = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64, eps), nn.MaxPool2d(3, 2, 1)
        blocks, inputs = [], 64
        for stage, count in enumerate(counts):
            width = 64 * 2**stage
            for number in range(count):
                kind = "residual" if number else first if stage == 0 else "both"
                blocks.append(PreBlock(inputs, width, width * 4, 2 if stage and not number else 1, kind, eps))
                inputs = width * 4
        self.blocks, self.end, self.fc = nn.Sequential(*blocks), nn.BatchNorm2d(inputs, eps), nn.Linear(inputs, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.norm(self.begin(self.data(x)))))
        x = F.relu(self.end(self.blocks(x)))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class VGG(nn.Module):
    def __init__(self, size: int = 7, dropout: float = 0.5, average: bool = False) -> None:
        super().__init__()
        self.fc8, self.fc7, self.fc6 = nn.Linear(4096, 1000), nn.Linear(4096, 4096), nn.Linear(512 * size**2, 4096)
        widths = [(3, 64, 2), (64, 128, 2), (128, 256, 3), (256, 512, 3), (512, 512, 3)]
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(inputs if i == 0 else width, width, 3, padding=1) for i in range(n)) for inputs, width, n in widths
        )
        self.pool = nn.AvgPool2d(2) if average else nn.MaxPool2d(2, ceil_mode=True)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            for layer in stage:  # type: ignore[attr-defined]
                x = F.relu(layer(x))
            x = self.pool(x)
        x = self.drop(F.relu(self.fc6(torch.flatten(x, 1))))
        return self.fc8(self.drop(F.relu(self.fc7(x))))  # type: ignore[no-any-return]


class AlexNet(nn.Module):
    def __init__(self, normalized: bool = True, groups: int = 2) -> None:
        super().__init__()
        shapes = [(3, 96, 11, 4, 0, 1), (96, 256, 5, 1, 2, groups), (256, 384, 3, 1, 1, 1)]
        shapes += [(384, 384, 3, 1, 1, groups), (384, 256, 3, 1, 1, groups)]
        self.features = nn.ModuleList(nn.Conv2d(i, o, k, s, p, groups=g) for i, o, k, s, p, g in shapes)
        self.classifier = nn.ModuleList([nn.Linear(9216, 4096), nn.Linear(4096, 4096), nn.Linear(4096, 1000)])
        self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0) if normalized else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.features):
            x = F.relu(layer(x))
            x = self.norm(x) if number < 2 else x
            x = F.max_pool2d(x, 3, 2, ceil_mode=True) if number in (0, 1, 4) else x
        x = torch.flatten(x, 1)
        for number, layer in enumerate(self.classifier):
            x = layer(x if number == 0 else F.relu(x))
        return x


class Fours(nn.Module):
    """GoogLeNet's module: four branches, three of which begin with a 1x1."""

    def __init__(self, inputs: int, a: int, b: tuple[int, int], c: tuple[int, int], d: int) -> None:
        super().__init__()
        self.d, self.a = nn.Conv2d(inputs, d, 1), nn.Conv2d(inputs, a, 1)
        self.c = nn.Sequential(nn.Conv2d(inputs, c[0], 1), nn.ReLU(), nn.Conv2d(c[0], c[1], 5, padding=2))
        self.b = nn.Sequential(nn.Conv2d(inputs, b[0], 1), nn.ReLU(), nn.Conv2d(b[0], b[1], 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(torch.cat([self.a(x), self.b(x), self.c(x), self.d(F.max_pool2d(x, 3, 1, 1))], 1))


class GoogLeNet(nn.Module):
    MODULES = (
        (192, 64, (96, 128), (16, 32), 32),
        (256, 128, (128, 192), (32, 96), 64),
        (480, 192, (96, 208), (16, 48), 64),
        (512, 160, (112, 224), (24, 64), 64),
        (512, 128, (128, 256), (24, 64), 64),
        (512, 112, (144, 288), (32, 64), 64),
        (528, 256, (160, 320), (32, 128), 128),
        (832, 256, (160, 320), (32, 128), 128),
        (832, 384, (192, 384), (48, 128), 128),
    )

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1024, 1000)
        self.inception = nn.ModuleList(Fours(*sizes) for sizes in self.MODULES)
        self.c3, self.c2, self.c1 = nn.Conv2d(64, 192, 3, padding=1), nn.Conv2d(64, 64, 1), nn.Conv2d(3, 64, 7, 2, 3)
        self.norm, self.pool = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0), nn.MaxPool2d(3, 2, ceil_mode=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.pool(F.relu(self.c1(x))))
        x = self.pool(self.norm(F.relu(self.c3(F.relu(self.c2(x))))))
        for number, module in enumerate(self.inception):
            x = module(self.pool(x) if number in (2, 7) else x)
        return self.head(torch.flatten(F.avg_pool2d(x, 7), 1))  # type: ignore[no-any-return]


class DenseNet(nn.Module):
    """Layers that are joined to all before; ceil: pools round up, as in Caffe."""

    def __init__(self, counts: Sequence[int], growth: int = 32, begin: int = 64, *, ceil: bool = False, eps: float = EPS) -> None:
        super().__init__()
        self.begin, self.norm = nn.Conv2d(3, begin, 7, 2, 3, bias=False), nn.BatchNorm2d(begin, eps)
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=ceil)
        self.blocks, self.between = nn.ModuleList(), nn.ModuleList()
        channels = begin
        for block, count in enumerate(counts):
            layers = nn.ModuleList()
            for number in range(count):
                inputs = channels + number * growth
                narrow = nn.Sequential(nn.BatchNorm2d(inputs, eps), nn.ReLU(), conv(inputs, 4 * growth))
                layers.append(nn.Sequential(narrow, nn.BatchNorm2d(4 * growth, eps), nn.ReLU(), conv(4 * growth, growth, 3)))
            self.blocks.append(layers)
            channels += count * growth
            if block < len(counts) - 1:
                self.between.append(
                    nn.Sequential(nn.BatchNorm2d(channels, eps), nn.ReLU(), conv(channels, channels // 2), nn.AvgPool2d(2, ceil_mode=ceil))
                )
                channels //= 2
        self.end, self.fc = nn.BatchNorm2d(channels, eps), nn.Linear(channels, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.norm(self.begin(x))))
        for number, block in enumerate(self.blocks):
            for layer in block:  # type: ignore[attr-defined]
                x = torch.cat([x, layer(x)], 1)
            x = self.between[number](x) if number < len(self.between) else x
        return self.fc(F.relu(self.end(x)).mean((2, 3)))  # type: ignore[no-any-return]


class Fire(nn.Module):
    def __init__(self, inputs: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.large, self.small = nn.Conv2d(narrow, wide, 3, padding=1), nn.Conv2d(narrow, wide, 1)
        self.squeeze = nn.Conv2d(inputs, narrow, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.small(x)), F.relu(self.large(x))], 1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1."""

    def __init__(self, ceil: bool = True) -> None:
        super().__init__()
        sizes = [
            (64, 16, 64),
            (128, 16, 64),
            (128, 32, 128),
            (256, 32, 128),
            (256, 48, 192),
            (384, 48, 192),
            (384, 64, 256),
            (512, 64, 256),
        ]
        self.fires = nn.ModuleList(Fire(*size) for size in sizes)
        self.last, self.begin = nn.Conv2d(512, 1000, 1), nn.Conv2d(3, 64, 3, 2)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=ceil)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(F.relu(self.begin(x)))
        for number, fire in enumerate(self.fires):
            x = fire(self.pool(x) if number in (2, 4) else x)
        return F.relu(self.last(x)).mean((2, 3))


class MobileNet(nn.Module):
    """The first MobileNet; the head is a 1x1 convolution or a linear layer."""

    def __init__(self, *, eps: float = EPS, linear: bool = False, slope: float = 0.0) -> None:
        super().__init__()
        self.slope = slope
        self.begin = nn.Sequential(conv(3, 32, 3, 2), nn.BatchNorm2d(32, eps))
        self.pairs = nn.ModuleList()
        inputs = 32
        for outputs, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
            deep = nn.Sequential(conv(inputs, inputs, 3, stride, inputs), nn.BatchNorm2d(inputs, eps))
            self.pairs.append(nn.ModuleList([deep, nn.Sequential(conv(inputs, outputs), nn.BatchNorm2d(outputs, eps))]))
            inputs = outputs
        self.head = nn.Linear(1024, 1000) if linear else nn.Conv2d(1024, 1000, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.begin(x))
        for deep, point in self.pairs:  # type: ignore[misc]
            x = self.act(point(self.act(deep(x))))
        x = x.mean((2, 3), keepdim=True)
        return self.head(torch.flatten(x, 1) if isinstance(self.head, nn.Linear) else x).flatten(1)  # type: ignore[no-any-return]

    def act(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)


class Unit(nn.Module):
    def __init__(self, inputs: int, outputs: int, size: int | tuple[int, int] = 1, stride: int = 1, *, padded: bool = True) -> None:
        super().__init__()
        high, wide = (size, size) if isinstance(size, int) else size
        padding = (high // 2, wide // 2) if padded else (0, 0)
        self.norm = nn.BatchNorm2d(outputs, 1e-3)
        self.layer = nn.Conv2d(inputs, outputs, (high, wide), stride, padding, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.norm(self.layer(x)))


class Mixed(nn.Module):
    """Branches on one input: chains of units; `pool` before the last one, which a grid reduction hasn't."""

    def __init__(
        self, inputs: int, chains: Sequence[Sequence[tuple[object, ...]]], pool: nn.Module, pooled: int = 0, *, wide: bool = False
    ) -> None:
        super().__init__()
        self.pool, self.wide = pool, wide
        self.proj = Unit(inputs, pooled) if pooled else nn.Identity()
        self.chains = nn.ModuleList()
        for chain in reversed(chains):
            units, last = nn.ModuleList(), inputs
            for outputs, *rest in chain:
                reduces = len(rest) > 1
                units.append(Unit(last, outputs, *rest, padded=not reduces))  # type: ignore[arg-type]
                last = outputs  # type: ignore[assignment]
            if wide and len(chain) > 1:
                units[-1] = Unit(chain[-2][0], 384, (3, 1))  # type: ignore[arg-type]
                units.append(Unit(chain[-2][0], 384, (1, 3)))  # type: ignore[arg-type]
            self.chains.append(units)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = []
        for units in reversed(self.chains):  # type: ignore[call-overload]
            y = x
            ends = 2 if self.wide and len(units) > 1 else 0
            for unit in units[: len(units) - ends]:
                y = unit(y)
            found += [units[-1](y), units[-2](y)] if ends else [y]
        return torch.cat([*found, self.proj(self.pool(x))], 1)


class InceptionV3(nn.Module):
    """last: the pool of the very last module, an average in the paper, a maximum in the weights that went from TensorFlow to MXNet."""

    def __init__(self, last: type[nn.Module] = nn.MaxPool2d) -> None:
        super().__init__()
        self.fc = nn.Linear(2048, 1000)
        begin = [(3, 32, 3, 2), (32, 32, 3, 1), (32, 64, 3), (64, 80, 1, 1), (80, 192, 3, 1)]
        self.begin = nn.ModuleList(Unit(*size, padded=len(size) == 3) for size in begin)  # type: ignore[arg-type]
        average, down = nn.AvgPool2d(3, 1, 1), nn.MaxPool2d(3, 2)
        modules: list[nn.Module] = []
        for inputs, pooled in [(192, 32), (256, 64), (288, 64)]:
            modules.append(Mixed(inputs, [[(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)]], average, pooled))
        modules.append(Mixed(288, [[(384, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)]], down))
        for c in (128, 160, 160, 192):
            three = [(c, 1), (c, (1, 7)), (192, (7, 1))]
            five = [(c, 1), (c, (7, 1)), (c, (1, 7)), (c, (7, 1)), (192, (1, 7))]
            modules.append(Mixed(768, [[(192, 1)], three, five], average, 192))
        modules.append(Mixed(768, [[(192, 1), (320, 3, 2)], [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)]], down))
        for inputs, pool in [(1280, average), (2048, last(3, 1, 1))]:
            modules.append(Mixed(inputs, [[(320, 1)], [(384, 1), (384, 1)], [(448, 1), (384, 3), (384, 1)]], pool, 192, wide=True))
        self.modules_ = nn.ModuleList(modules)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number, unit in enumerate(self.begin):
            x = unit(F.max_pool2d(x, 3, 2) if number == 3 else x)
        x = F.max_pool2d(x, 3, 2)
        for module in self.modules_:
            x = module(x)
        return self.fc(torch.flatten(F.avg_pool2d(x, 8), 1))  # type: ignore[no-any-return]
