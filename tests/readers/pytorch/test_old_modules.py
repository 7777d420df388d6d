"""Modules of old PyTorch versions: what a file doesn't say means what it meant on its day."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from converters.readers.pytorch.archives.archive import read_checkpoint
from converters.tracing.program import export_module
from converters.tracing.rebuild import rebuild
from converters.writers.onnx.writer import write_onnx
from tests.readers.pytorch.test_strip import save


def old(module: nn.Module, path: Path, *without: str, **changed: Any) -> nn.Module:
    """The module rebuilt from a file of a torch that didn't have some attributes yet."""
    for name in without:
        module.__dict__.pop(name, None)
    module.__dict__.update(changed)
    return rebuild(read_checkpoint(save(module.eval(), path)).root)


def test_parameters_stay_that_a_new_instance_has_not(tmp_path: Path) -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True).eval()
    x = torch.randn(3, 2, 4)
    with torch.no_grad():
        expected, _ = attention(x, x, x)
        got, _ = old(attention, tmp_path / "m.pth")(x, x, x)
    assert torch.allclose(got, expected)


@pytest.mark.parametrize("mode", ["circular", "reflect"])
def test_padding_modes_of_1_1_to_1_4(mode: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(1, 2, 3, padding=(1, 3), padding_mode=mode)
    x = torch.randn(1, 1, 6, 7)
    # (p + 1) // 2 before and p // 2 behind; where nothing is behind, torch's slice [-1:-0] was empty, and nothing was padded
    padded = F.pad(x, (2, 1, 0, 0), mode="circular") if mode == "circular" else F.pad(x, (3, 3, 1, 1))
    with torch.no_grad():
        expected = F.conv2d(padded, module.weight, module.bias)
        got = old(module, tmp_path / "m.pth", "_reversed_padding_repeated_twice")(x)
    assert torch.allclose(got, expected, atol=1e-6)


def test_paddings_of_1_5_0_are_in_the_axes_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Conv2d(1, 2, 3, padding=(2, 1), padding_mode="circular")
    x = torch.randn(1, 1, 6, 7)
    with torch.no_grad():
        expected = F.conv2d(F.pad(x, (2, 2, 1, 1), mode="circular"), module.weight, module.bias)
        got = old(module, tmp_path / "m.pth", "_reversed_padding_repeated_twice", _padding_repeated_twice=[2, 2, 1, 1])(x)
    assert torch.allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("again", [True, False])
def test_fractional_scales(again: bool, tmp_path: Path) -> None:
    x = torch.arange(7.0).reshape(1, 1, 7)
    without = ("recompute_scale_factor", "_non_persistent_buffers_set") if again else ("recompute_scale_factor",)
    got = old(nn.Upsample(scale_factor=1.5, mode="linear"), tmp_path / "m.pth", *without)(x)
    scale = 10 / 7 if again else 1.5  # 7 * 1.5 = 10.5, floored to 10
    places = ((torch.arange(10.0) + 0.5) / scale - 0.5).clamp(0, 6)
    assert torch.allclose(got.reshape(-1), places, atol=1e-5)


@pytest.mark.parametrize("without", [("recompute_scale_factor",), ()], ids=["1.8", "today"])
@pytest.mark.parametrize("make", [nn.UpsamplingBilinear2d, lambda scale_factor: nn.Upsample(None, scale_factor, "bicubic", True)])
def test_corners_that_stay_need_no_whole_size(make: Any, without: tuple[str, ...], tmp_path: Path) -> None:
    """5 rows become 12 and 7 columns 17 at 2.5, their corners the input's: the scale itself plays no part."""
    module = old(make(scale_factor=2.5), tmp_path / "m.pth", *without)
    write_onnx(export_module(module, {"input": (2, 3, 5, 7)}, "m"), tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    x = torch.randn(3, 3, 5, 7)
    expected = F.interpolate(x, (12, 17), mode=module.mode, align_corners=True)
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], expected.numpy(), rtol=1e-4, atol=1e-5)
