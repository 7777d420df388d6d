"""Arithmetic whose words in torch.onnx differ from PyTorch at its edges: remainders, signs of zeros, sums of logarithms, infinities."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch


def _of_floats(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[Any, Any], Any]:
    """Is given both as tensors of their common type, where that is a floating one; of others it says nothing."""

    @functools.wraps(function)
    def of_both(x: Any, y: Any) -> Any:
        dtype = torch.result_type(x, y)
        if not dtype.is_floating_point:
            return NotImplemented
        made = (value.to(dtype) if isinstance(value, torch.Tensor) else torch.scalar_tensor(value, dtype=dtype) for value in (x, y))
        return function(*made)

    return of_both


@_of_floats
def remainder(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """By C's fmod, which is exact; x - y * floor(x / y) isn't."""
    rest = torch.fmod(x, y)
    return torch.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


@_of_floats
def floor_divide(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What remains goes off first: 1 // 0.1 is 9. Source: aten/src/ATen/native/BinaryOps.h, div_floor_floating."""
    rest = torch.fmod(x, y)
    quotient = (x - rest) / y
    quotient = torch.where((rest != 0) & ((rest < 0) != (y < 0)), quotient - 1, quotient)
    whole = quotient.floor()
    whole = torch.where(quotient - whole > 0.5, whole + 1, whole)
    return torch.where(y == 0, x / y, whole)


def div(x: Any, y: Any, *, rounding_mode: str | None = None) -> Any:
    """Whole numbers by whole numbers: in floats those above 2**24 lose their last digits."""
    of_floats = torch.result_type(x, y).is_floating_point
    if rounding_mode == "floor":
        return floor_divide(x, y) if of_floats else torch.floor_divide(x, y)
    if rounding_mode != "trunc" or of_floats or not isinstance(x, torch.Tensor) or x.dtype in (torch.bool, torch.uint8):
        return NotImplemented
    y = y if isinstance(y, torch.Tensor) else torch.scalar_tensor(y, dtype=x.dtype)
    return torch.floor_divide(x.abs(), y.abs()) * (x.sign() * y.sign())


def add(x: Any, y: Any, *, alpha: Any = 1) -> Any:
    """Of truths: whether one holds."""
    of_truths = all(isinstance(value, torch.Tensor) and value.dtype == torch.bool for value in (x, y))
    return torch.logical_or(x, y) if of_truths and alpha is not False else NotImplemented


def reversed_sub(x: torch.Tensor, y: Any, *, alpha: Any = 1) -> Any:
    """A number less a tensor of whole numbers: torch.onnx mixes their types up."""
    if x.is_floating_point() or isinstance(y, torch.Tensor) or not isinstance(y, float):
        return NotImplemented
    return y - alpha * x.to(torch.result_type(x, y))


def clamp(x: torch.Tensor, min: Any = None, max: Any = None) -> Any:
    """Bounds of which one is whole: torch.onnx mixes their types up."""
    if not (x.is_floating_point() and isinstance(min, int | float) and isinstance(max, int | float)):
        return NotImplemented
    return x.clamp(float(min), float(max))


def shift_left(x: torch.Tensor, y: Any) -> Any:
    """By products and quotients: ONNX shifts unsigned numbers alone."""
    return x * (torch.pow(2, y) if isinstance(y, torch.Tensor) else 2**y)


def shift_right(x: torch.Tensor, y: Any) -> Any:
    return torch.floor_divide(x, torch.pow(2, y) if isinstance(y, torch.Tensor) else 2**y)


def relu(x: torch.Tensor, inplace: bool = False) -> Any:
    """onnxruntime has none of whole numbers."""
    return NotImplemented if inplace or x.is_floating_point() else x.clamp(min=0)


def rounded(x: torch.Tensor, *rest: Any, **named: Any) -> Any:
    """Whole numbers are; onnxruntime rounds fractions alone."""
    return NotImplemented if x.is_floating_point() or x.dtype == torch.bool or rest or named else x.clone()


def signbit(x: torch.Tensor) -> Any:
    """Of -0.0 too, whose reciprocal is below zero."""
    return (x < 0) | ((x == 0) & (1 / x < 0)) if x.is_floating_point() else NotImplemented


def copysign(x: Any, y: Any) -> Any:
    if not isinstance(y, torch.Tensor):
        return (-x.abs() if math.copysign(1.0, y) < 0 else x.abs()) if x.is_floating_point() else NotImplemented
    return _with_sign(x, y)


@_of_floats
def _with_sign(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.where(signbit(y), -x.abs(), x.abs())


def atan2(y: torch.Tensor, x: torch.Tensor) -> Any:
    """Of whole numbers too, which have no zeros below zero."""
    usual = torch.get_default_dtype()
    return _angle(
        *(value if value.is_floating_point() or torch.result_type(x, y).is_floating_point else value.to(usual) for value in (y, x))
    )


@_of_floats
def _angle(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The angle of (|x|, |y|), turned to where x and y are, zeros by their signs."""
    ratio = y.abs() / x.abs()
    ratio = torch.where((x == 0) & (y == 0), 0.0, ratio)
    ratio = torch.where((x.abs() == math.inf) & (y.abs() == math.inf), 1.0, ratio)
    angle = ratio.atan()
    angle = torch.where(signbit(x), math.pi - angle, angle)
    return torch.where(signbit(y), -angle, angle)


@_of_floats
def hypot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The longer side times the root of 1 + the ratio's square, which doesn't overflow."""
    x, y = x.abs(), y.abs()
    longer = torch.maximum(x, y)
    ratio = torch.minimum(x, y) / longer
    return torch.where((longer == 0) | (longer == math.inf), longer, longer * (1 + ratio * ratio).sqrt())


def logaddexp(x: torch.Tensor, y: torch.Tensor) -> Any:
    """The larger of the two and what the other adds: no exponential of a large number."""
    return _log_sum(x, y, 1.0)


def logaddexp2(x: torch.Tensor, y: torch.Tensor) -> Any:
    return _log_sum(x, y, math.log(2))


def _log_sum(x: torch.Tensor, y: torch.Tensor, of_base: float) -> Any:
    if not (x.is_floating_point() and y.is_floating_point()):
        return NotImplemented
    more = torch.log1p(torch.exp((x - y).abs() * -of_base)) / of_base
    return torch.where(x == y, x + math.log(2) / of_base, torch.maximum(x, y) + more)  # two infinities are equal


def fmax(x: torch.Tensor, y: torch.Tensor) -> Any:
    """The larger, or the one that is a number."""
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.maximum(x, y)))


def fmin(x: torch.Tensor, y: torch.Tensor) -> Any:
    return torch.where(x.isnan(), y, torch.where(y.isnan(), x, torch.minimum(x, y)))


def power(x: Any, exponent: Any) -> Any:
    """Roots are roots: of minus infinity, which has none, and of -0.0."""
    is_root = isinstance(x, torch.Tensor) and x.is_floating_point() and isinstance(exponent, float) and abs(exponent) == 0.5
    return NotImplemented if not is_root else x.sqrt() if exponent > 0 else x.rsqrt()


def logit(x: torch.Tensor, eps: float | None = None) -> Any:
    """What is no number stays none."""
    if not x.is_floating_point():
        return NotImplemented
    x = x if eps is None else x.clamp(eps, 1 - eps)
    return torch.log(x / (1 - x))


def heaviside(x: torch.Tensor, values: torch.Tensor) -> Any:
    return torch.where(x == 0, values, (x > 0).to(x.dtype))


@_of_floats
def xlogy(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.where((x == 0) & ~y.isnan(), 0.0, x * y.log())


SPELLINGS: dict[str, Any] = {
    **dict.fromkeys(["remainder", "__mod__"], remainder),
    "__rmod__": lambda y, x: remainder(x, y),
    **dict.fromkeys(["floor_divide", "__floordiv__"], floor_divide),
    "__rfloordiv__": lambda y, x: floor_divide(x, y),
    **dict.fromkeys(["div", "divide"], div),
    "add": add,
    **dict.fromkeys(["rsub", "__rsub__"], reversed_sub),
    **dict.fromkeys(["clamp", "clip"], clamp),
    **dict.fromkeys(["__lshift__", "bitwise_left_shift"], shift_left),
    **dict.fromkeys(["__rshift__", "bitwise_right_shift"], shift_right),
    "relu": relu,
    **dict.fromkeys(["floor", "ceil", "round", "trunc", "fix"], rounded),
    "signbit": signbit,
    "copysign": copysign,
    **dict.fromkeys(["atan2", "arctan2"], atan2),
    "hypot": hypot,
    "logaddexp": logaddexp,
    "logaddexp2": logaddexp2,
    "fmax": fmax,
    "fmin": fmin,
    "pow": power,
    **dict.fromkeys(["logit", "special_logit"], logit),
    "heaviside": heaviside,
    **dict.fromkeys(["xlogy", "special_xlogy"], xlogy),
}
"""What stands for torch's functions of these names while a module is exported."""
