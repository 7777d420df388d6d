"""The checkpoints that this project began with: their structure at full width, and their weights bit for bit at a small one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.readers.pytorch import founding
from tests.readers.pytorch.test_strip import compare, save, strip, with_statistics

# A model by its divisor of widths, with the keys and elements that the published one's state_dict has.
MODELS: dict[str, tuple[Callable[[int], nn.Module], int, int]] = {
    "Gray VGG-16": (founding.GrayVGG16, 32, 138_356_392),
    "Lab VGG-16": (lambda thin: founding.LabVGG16(3, thin), 32, 138_357_544),
    "fully convolutional Gray VGG-16 with spectral norm": (lambda thin: founding.ConvolutionalVGG16(1, thin), 122, 140_775_613),
    "fully convolutional Lab VGG-16 with spectral norm": (lambda thin: founding.ConvolutionalVGG16(3, thin), 122, 140_776_783),
    "ResNet-50 IN": (founding.ResNet50, 58, 33_536_168),
    "CIFAR ResNet-20": (lambda thin: founding.CifarResNet(3, thin), 128, 274_063),
    "CIFAR ResNet-32": (lambda thin: founding.CifarResNet(5, thin), 200, 0),
    "CIFAR ResNet-44": (lambda thin: founding.CifarResNet(7, thin), 272, 0),
    "CIFAR ResNet-56": (lambda thin: founding.CifarResNet(9, thin), 344, 860_083),
}


@pytest.mark.parametrize("name", MODELS)
def test_structure_at_full_width(name: str) -> None:
    make, keys, elements = MODELS[name]
    with torch.device("meta"):
        state = make(1).state_dict()
    assert len(state) == keys
    assert sum(tensor.numel() for tensor in state.values()) == elements or not elements


@pytest.mark.parametrize("form", ["zip", "stream"])
@pytest.mark.parametrize("name", MODELS)
def test_whole_model(name: str, form: str, tmp_path: Path) -> None:
    model = with_statistics(MODELS[name][0](16))
    compare(strip(save(model, tmp_path / "m.pth", form)), model.state_dict())
    parallel = nn.DataParallel(model)
    compare(strip(save(parallel, tmp_path / "p.pth", form)), parallel.state_dict())
    compare(strip(tmp_path / "p.pth", unwrap=True), model.state_dict())
    compare(strip(save(model.state_dict(), tmp_path / "s.pth", form)), model.state_dict())


@pytest.mark.parametrize("channels", [1, 3])
def test_spectral_norm_after_training(channels: int, tmp_path: Path) -> None:
    """A forward pass leaves a plain tensor `weight` beside weight_bar, which is no key; folded, the weights give the same numbers."""
    torch.manual_seed(0)
    model = founding.ConvolutionalVGG16(channels, 32).eval()
    x = torch.randn(1, channels, 224, 224)
    with torch.no_grad():
        expected = model(x)
    path = save(model, tmp_path / "m.pth", "stream")
    compare(strip(path), model.state_dict())
    folded = strip(path, fold=True)
    assert "conv1.0.weight" in folded and len(folded) == 122 - 3 * 14 + 14
    plain = founding.ConvolutionalVGG16(channels, 32).eval()
    for stage in range(1, 7):
        stages = getattr(plain, f"conv{stage}")
        for i, layer in enumerate(stages):
            if isinstance(layer, founding.SpectralNorm):
                inner: nn.Conv2d = layer.module  # type: ignore[assignment]
                stages[i] = nn.Conv2d(inner.in_channels, inner.out_channels, 3, inner.stride, 1)  # type: ignore[arg-type]
    plain.load_state_dict(folded)
    with torch.no_grad():
        assert torch.allclose(plain(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["zip", "stream"])
@pytest.mark.parametrize("make", [founding.InceptionV3, founding.InceptionV4], ids=["inception_v3", "inception_v4"])
def test_training_checkpoint(make: Callable[[], nn.Module], form: str, tmp_path: Path) -> None:
    checkpoint = founding.training_checkpoint(with_statistics(make()))
    path = save(checkpoint, tmp_path / "best.pth.tar", form)
    compare(strip(path), checkpoint["state_dict"])
    compare(strip(path, key="ema_state_dict"), checkpoint["ema_state_dict"])
