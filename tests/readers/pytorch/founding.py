"""The models that this project began with, by classes of the same structure: widths are divided by `thin`, so that files stay small."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def vgg_classifier(features: int, thin: int) -> nn.Sequential:
    wide = 4096 // thin
    return nn.Sequential(
        nn.Linear(features, wide),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(wide, wide),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(wide, 1000 // thin),
    )


class VGG16(nn.Module):
    """VGG-16 in five named stages, each followed by a pool, with a classifier of three linear layers."""

    def __init__(self, channels: int = 3, thin: int = 1) -> None:
        super().__init__()
        before = channels
        for stage, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
            layers: list[nn.Module] = []
            for i in range(depth):
                layers += [nn.Conv2d(before, width // thin, 3, padding=1)] + ([nn.ReLU(True)] if i < depth - 1 else [])
                before = width // thin
            setattr(self, f"conv{stage}", nn.Sequential(*layers))
            pool: nn.Module = nn.MaxPool2d(2) if stage < 5 else nn.AdaptiveAvgPool2d(7)
            setattr(self, f"pool{stage}", nn.Sequential(nn.ReLU(), pool))
        self.classifier = vgg_classifier(before * 49, thin)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in range(1, 6):
            x = getattr(self, f"pool{stage}")(getattr(self, f"conv{stage}")(x))
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


class GrayVGG16(VGG16):
    """Of one channel of grey."""

    def __init__(self, thin: int = 1) -> None:
        super().__init__(1, thin)


class LabVGG16(VGG16):
    """Of the three channels of CIE Lab."""


class SpectralNorm(nn.Module):
    """A wrapper that keeps its layer's weight as weight_bar, with the two vectors of the power iteration, all three as parameters."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        weight = module._parameters.pop("weight")
        assert weight is not None
        rows = weight.shape[0]
        module.register_parameter("weight_u", nn.Parameter(weight.new_empty(rows).normal_(), requires_grad=False))
        module.register_parameter("weight_v", nn.Parameter(weight.new_empty(weight.numel() // rows).normal_(), requires_grad=False))
        module.register_parameter("weight_bar", nn.Parameter(weight.data))

    def forward(self, x: torch.Tensor) -> Any:
        inner: Any = self.module
        inner.weight = inner.weight_bar / inner.weight_u.dot(inner.weight_bar.reshape(len(inner.weight_u), -1).mv(inner.weight_v))
        return inner(x)


class ConvolutionalVGG16(nn.Module):
    """Strided convolutions in place of the pools, each under SpectralNorm, with batch norm."""

    def __init__(self, channels: int = 1, thin: int = 1) -> None:
        super().__init__()
        before = channels
        for stage, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
            layers: list[nn.Module] = []
            for i in range(depth):
                layers.append(SpectralNorm(nn.Conv2d(before, width // thin, 3, stride=2 if stage > 1 and i == 0 else 1, padding=1)))
                before = width // thin
                layers += ([nn.BatchNorm2d(before)] if stage > 1 or i else []) + [nn.LeakyReLU(0.2, True)]
            setattr(self, f"conv{stage}", nn.Sequential(*layers))
        self.conv6 = nn.Sequential(SpectralNorm(nn.Conv2d(before, before, 3, stride=2, padding=1)), nn.LeakyReLU(0.2, True))
        self.classifier = vgg_classifier(before * 49, thin)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in range(1, 7):
            x = getattr(self, f"conv{stage}")(x)
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions without bias, instance norms without parameters."""

    def __init__(self, before: int, width: int, stride: int, norm: type[nn.Module]) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), norm(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), norm(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), norm(4 * width)
        self.lrelu, self.norm = nn.LeakyReLU(0.2, True), norm
        self.downsample = None
        if stride > 1 or before != 4 * width:
            self.downsample = nn.Sequential(nn.Conv2d(before, 4 * width, 1, stride, bias=False), norm(4 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.lrelu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.lrelu(self.bn2(self.conv2(y)))))
        return self.lrelu(y + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class ResNet50(nn.Module):
    """Fully convolutional ResNet-50 with instance norm; the class of the norm is an attribute."""

    def __init__(self, thin: int = 1) -> None:
        super().__init__()
        norm, width = nn.InstanceNorm2d, 64 // thin
        self.begin = nn.Sequential(
            nn.Conv2d(3, width, 7, padding=3, bias=False),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, width, 4, 2, 1, bias=False),
            norm(width),
            nn.LeakyReLU(0.2, True),
            nn.Conv2d(width, width, 4, 2, 1, bias=False),
            norm(width),
            nn.LeakyReLU(0.2, True),
        )
        before = width
        for stage, depth in enumerate((3, 4, 6, 3)):
            blocks = []
            for i in range(depth):
                blocks.append(Bottleneck(before, width << stage, 2 if stage and not i else 1, norm))
                before = 4 * (width << stage)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.last = nn.Sequential(nn.Conv2d(before, before // 4, 3, padding=1, bias=False), nn.LeakyReLU(0.2, True))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(before // 4, 1000 // thin)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.begin(x)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.classifier(self.avgpool(self.last(x)).flatten(1))  # type: ignore[no-any-return]


class BasicBlock(nn.Module):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(True)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))  # type: ignore[no-any-return]


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44 and 56 of three stages, for images of 32 x 32."""

    def __init__(self, blocks: int, thin: int = 1) -> None:
        super().__init__()
        before = 16 // thin
        self.conv1, self.bn1 = nn.Conv2d(3, before, 3, padding=1, bias=False), nn.BatchNorm2d(before)
        self.relu = nn.ReLU(True)
        for stage in range(3):
            width, layers = (16 << stage) // thin, []
            for i in range(blocks):
                layers.append(BasicBlock(before, width, 2 if stage and not i else 1))
                before = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(before, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for stage in range(1, 4):
            x = getattr(self, f"layer{stage}")(x)
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]


class ConvNorm(nn.Module):
    def __init__(self, before: int, width: int, kernel: int | tuple[int, int], **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, kernel, bias=False, **options)
        self.bn = nn.BatchNorm2d(width, eps=0.001)
        self.relu = nn.ReLU(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class Mixed(nn.Module):
    """Four branches, as the Inception nets have them."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.branch_0 = ConvNorm(before, width, 1)
        self.branch_1 = nn.Sequential(ConvNorm(before, width, 1), ConvNorm(width, width, (1, 7), padding=(0, 3)))
        self.branch_2 = nn.Sequential(ConvNorm(before, width, 1), ConvNorm(width, width, 3, padding=1))
        self.branch_3 = nn.Sequential(nn.AvgPool2d(3, 1, 1), ConvNorm(before, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([getattr(self, f"branch_{i}")(x) for i in range(4)], 1)


class InceptionV3(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNorm(3, width, 3, stride=2)
        self.Mixed_5b, self.Mixed_5c = Mixed(width, width), Mixed(4 * width, width)
        self.AuxLogits = nn.Sequential(ConvNorm(4 * width, width, 1), nn.Linear(width, 10))
        self.fc = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The auxiliary classifier is for training alone."""
        return self.fc(self.Mixed_5c(self.Mixed_5b(self.Conv2d_1a_3x3(x))).mean((2, 3)))  # type: ignore[no-any-return]


class InceptionV4(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        mixed = [Mixed(width if i == 0 else 4 * width, width) for i in range(3)]
        self.features = nn.Sequential(ConvNorm(3, width, 3, stride=2), *mixed)
        self.linear = nn.Linear(4 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.features(x).mean((2, 3)))  # type: ignore[no-any-return]


def training_checkpoint(model: nn.Module) -> dict[str, Any]:
    """What a trainer saves as `.pth.tar`: weights in channels-last order, their moving average, optimizer and scheduler."""
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = torch.optim.swa_utils.AveragedModel(model)
    average.update_parameters(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    return {
        "epoch": 3,
        "best_acc1": 71.5,
        "state_dict": model.state_dict(),
        "ema_state_dict": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
