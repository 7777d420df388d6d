"""Arithmetic at its edges: remainders, zeros' signs, infinities, whole numbers above 2**24, as eager PyTorch has it, in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from converters.tracing.arguments import flat
from converters.tracing.program import export_module
from converters.writers.onnx.writer import write_onnx
from tests.readers.pytorch.test_export_places import Called

INF, NAN = float("inf"), float("nan")
NUMBERS = [[0.0, -0.0, 0.5, -0.5, 2.5, -1.5], [1.0, -3.0, 0.3, -7.3, 20.5, 100.0], [1e4, -1e4, 3e9, -3e9, 0.1, 1e-3]]
FAR = [[INF, -INF, 0.0, -0.0, -1.0, INF], [-INF, -INF, 2.0, 1e30, -1e30, 3.0], [NAN, 1.0, 0.0, NAN, -2.0, NAN]]


def beside(function):
    """Of each number and the one before it in its row."""
    return lambda x: function(x, x.roll(1, 1))


FUNCTIONS = {
    "remainder": lambda x: (torch.remainder(x, 0.7), x % -1.5, torch.remainder(x, x.roll(1, 1).clamp(min=0.1)), 5.0 % x.clamp(0.1, 3)),
    "floor_divide": lambda x: (x // 0.3, x // -2, torch.div(x, 0.1, rounding_mode="floor"), 5 // x.clamp(0.1, 3)),
    "signs": lambda x: (x.signbit(), torch.copysign(x, -0.0), torch.copysign(x.abs(), x.roll(1, 1))),
    "atan2": beside(torch.atan2),
    "hypot": lambda x: torch.hypot(x.nan_to_num(), x.nan_to_num().roll(1, 1)),
    "logaddexp": beside(torch.logaddexp),
    "logaddexp2": beside(torch.logaddexp2),
    "larger": beside(lambda x, y: (torch.fmax(x, y), torch.fmin(x, y))),
    "clamp": lambda x: (x.clamp(min=0.5), torch.clip(x, max=2), x.clamp_max(0), x.clamp(-1, 0.5)),
    "roots": lambda x: (x**0.5, x.pow(-0.5)),
    "logit": lambda x: (torch.logit(x), torch.logit(x, 1e-3)),
    "heaviside": lambda x: torch.heaviside(x, torch.tensor(0.3)),
    "xlogy": beside(torch.xlogy),
    "running": lambda x: (*x.cummax(1), *torch.cummin(x, -1)),
    "logcumsumexp": lambda x: x.logcumsumexp(1),
    "median": lambda x: (x.median(1).values, x.median()),
    "stable": lambda x: (*x.nan_to_num().sort(dim=1, stable=True), torch.argsort(x.nan_to_num(), dim=1, descending=True, stable=True)),
    "aminmax": lambda x: torch.aminmax(x.nan_to_num()),
    "within functions": lambda x: (F.multilabel_soft_margin_loss(x, (x > 0).float()), F.normalize(x, p=1.0, dim=1)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_edges(name, tmp_path):
    session, net = opened(FUNCTIONS[name], (2, 6), None, tmp_path)
    for rows in (NUMBERS, FAR):
        x = torch.tensor(rows)
        for ours, theirs in zip(session.run(None, {"x": x.numpy()}), [value.numpy() for _, value in flat(net(x))], strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


WHOLE = {
    "truncated": lambda x: (torch.div(x, 3, rounding_mode="trunc"), torch.div(x, -7, rounding_mode="trunc")),
    "floored": lambda x: (x // 3, x // -3, torch.div(x, 3, rounding_mode="floor"), x % 3, x % -3, torch.fmod(x, 3)),
    "beside fractions": lambda x: ((x % 100) % 2.5, (x % 100) // 0.4, F.relu(x), 1.5 - x % 100),
    "truths": lambda x: ((x > 0) + (x > 1), (x > 0) * (x > 1), (x > 0) * 2.5, 1 - (x > 0).int(), (x > 0).amax(1), (x > 0).amin(1)),
    "rounded": lambda x: (x.floor(), torch.ceil(x), x.round(), torch.trunc(x), torch.atan2(x, x.roll(1, 1))),
    "running": lambda x: (*x.cummax(1), *torch.cummin(x, -1)),
    "indices": lambda x: (
        torch.arange(20.0)[(x % 20).int()],
        torch.stack([x, x.int()], 1),
        torch.arange(40).view(20, 2)[(x % 20).int(), 1],
    ),
    "shifted": lambda x: ((x % 100) << 2, x >> 1, torch.bitwise_right_shift(x, x.abs() % 4), (x % 50) << x.abs() % 3),
}


@pytest.mark.parametrize(("dtype", "large"), [("int64", 2**40), ("int32", 2**30)])
@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers(name, dtype, large, tmp_path):
    session, net = opened(WHOLE[name], (2, 6), dtype, tmp_path)
    x = torch.tensor([[large, -large, 2**24 + 1, -(2**24) - 1, 5, -5], [0, 1, -1, 7, -8, 9]], dtype=getattr(torch, dtype))
    for ours, theirs in zip(session.run(None, {"x": x.numpy()}), [value.numpy() for _, value in flat(net(x))], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-6 if theirs.dtype.kind == "f" else 0)


def opened(function, shape, dtype, folder):
    """The function exported, in onnxruntime, and as a module."""
    net = Called(function).eval()
    model = export_module(net, {"x": shape}, "m", dtypes={"x": dtype} if dtype else {})
    write_onnx(model, folder / "m.onnx")
    return onnxruntime.InferenceSession(str(folder / "m.onnx"), providers=["CPUExecutionProvider"]), net
