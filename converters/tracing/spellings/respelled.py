"""Functions of torch that torch.onnx spells wrongly or not at all, in words that it has; in force while a module is exported."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import FunctionType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from converters.tracing.spellings import algebra, arithmetic, ordering, recurrent

_MODE: Any = TorchFunctionMode  # whose methods torch gives no types


class Respelled(TorchFunctionMode):
    """Calls what follows in place of torch's own function of that name, where it can say it, in functions that are made of others too."""

    def __init__(self, more: Mapping[str, Any]) -> None:
        """more: functions by name, besides those of this package."""
        super().__init__()
        self._spellings = {**_SPELLINGS, **more}
        self._entered = False  # a function of torch's in Python is called, and must not call this mode for itself once more
        self._open: set[Any] = set()
        self._checks = [(part, name, vars(part)[name]) for part in _COMPOSED for name in _CHECKS if name in vars(part)]

    def __enter__(self) -> Respelled:
        for part, name, check in self._checks:
            setattr(part, name, self._outside(check))
        _MODE.__enter__(self)
        return self

    def __exit__(self, *problem: Any) -> None:
        _MODE.__exit__(self, *problem)
        for part, name, check in self._checks:
            setattr(part, name, check)

    def _outside(self, check: Any) -> Any:
        def asked(*tensors: Any) -> bool:
            entered, self._entered = self._entered, False
            return not entered and check(*tensors)

        return asked

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        other = self._spellings.get(getattr(function, "__name__", ""))
        if other is not None:
            with torch._C.DisableTorchFunction():
                result = other(*args, **given)
            if result is not NotImplemented:
                return result
        is_composed = isinstance(function, FunctionType) and function.__module__ in _NAMES
        # a pool with indices calls one that has the name of a pool without
        is_composed = is_composed and not function.__name__.endswith("_with_indices")
        if not is_composed or function in self._open:  # one that asks in a way of its own comes here again
            self._entered = False
            return function(*args, **given)
        self._open.add(function)
        try:
            with _Inside(self):
                self._entered = True
                return function(*args, **given)
        finally:
            self._open.discard(function)
            self._entered = False


class _Inside:
    """The mode, in force again for what a function calls."""

    def __init__(self, mode: Respelled) -> None:
        self._mode = mode

    def __enter__(self) -> None:
        _MODE.__enter__(self._mode)

    def __exit__(self, *problem: Any) -> None:
        _MODE.__exit__(self._mode, *problem)


_COMPOSED = (torch.nn.functional, torch.functional, torch._tensor)
"""Where torch has functions in Python, which ask whether somebody else says them."""
_NAMES = frozenset(part.__name__ for part in _COMPOSED)
_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def log_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Not log(sigmoid(x)), which is -inf far below zero."""
    return x.clamp(max=0) - torch.log1p(torch.exp(-x.abs()))


def cross_entropy_with_logits(input: torch.Tensor, target: torch.Tensor, weight: Any = None, size_average: Any = None,
                              reduce: Any = None, reduction: str = "mean", pos_weight: Any = None) -> Any:  # fmt: skip
    """Not by log(sigmoid(x)) either."""
    if size_average is not None or reduce is not None or reduction not in ("none", "mean", "sum"):
        return NotImplemented
    factor = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
    loss = (1 - target) * input + factor * (torch.log1p(torch.exp(-input.abs())) + (-input).clamp(min=0))
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def binary_cross_entropy(input: torch.Tensor, target: torch.Tensor, weight: Any = None, size_average: Any = None,
                         reduce: Any = None, reduction: str = "mean") -> Any:  # fmt: skip
    """Logarithms end at -100, as torch's do. Source: aten/src/ATen/native/Loss.cpp."""
    if size_average is not None or reduce is not None or reduction not in ("none", "mean", "sum"):
        return NotImplemented
    loss = (target - 1) * torch.log1p(-input).clamp(min=-100) - target * torch.log(input).clamp(min=-100)
    loss = loss if weight is None else loss * weight
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def softplus(x: torch.Tensor, beta: float = 1, threshold: float = 20) -> Any:
    """onnxruntime has none of float64."""
    if x.dtype != torch.float64:
        return NotImplemented
    soft = (x.clamp(min=0) * beta + torch.log1p(torch.exp(-(x * beta).abs()))) / beta
    return torch.where(x * beta > threshold, x, soft)


def embedding_bag(input: torch.Tensor, weight: torch.Tensor, offsets: Any = None, *rest: Any, **named: Any) -> Any:
    """torch.onnx's loop over the bags mixes int32 places with int64 ones."""
    if input.dtype != torch.int32:
        return NotImplemented
    return torch.nn.functional.embedding_bag(input.long(), weight, None if offsets is None else offsets.long(), *rest, **named)


def interpolate(input: torch.Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
                recompute_scale_factor: bool | None = None, antialias: bool = False) -> Any:  # fmt: skip
    """Corners that stay corners make the scale a matter of the sizes: the given one says no more than how large the result is."""
    if not align_corners or scale_factor is None or recompute_scale_factor:
        return NotImplemented
    return torch.nn.functional.interpolate(input, None, scale_factor, mode, True, True, antialias)


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_mask: Any = None, *rest: Any, **named: Any) -> Any:
    """torch.onnx has words for four axes alone: with fewer, there is one head."""
    missing = 4 - query.dim()
    if missing <= 0 or not query.dim() == key.dim() == value.dim():
        return NotImplemented
    parts = [query, key, value]
    for _ in range(missing):
        parts = [part.unsqueeze(-3) for part in parts]
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.unsqueeze(-3)
    attend: Any = torch.nn.functional.scaled_dot_product_attention
    answer = attend(*parts, attn_mask, *rest, **named)
    for _ in range(missing):
        answer = answer.squeeze(-3)
    return answer


def indexed(x: torch.Tensor, index: Any) -> Any:
    """ONNX's places of several axes are int64 alone."""
    parts = index if isinstance(index, tuple) else (index,)
    whole = [isinstance(part, torch.Tensor) and part.dtype == torch.int32 for part in parts]
    if not any(whole):
        return NotImplemented
    made = tuple(part.long() if is_whole else part for part, is_whole in zip(parts, whole, strict=True))
    return x[made]


def stack(tensors: Any, dim: int = 0) -> Any:
    """Of tensors of several types: in the one that holds them all."""
    kinds = [tensor.dtype for tensor in tensors]
    if len(set(kinds)) < 2:
        return NotImplemented
    return torch.stack([tensor.to(functools.reduce(torch.promote_types, kinds)) for tensor in tensors], dim)


def avg_pool(x: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> Any:  # fmt: skip
    """A divisor of one's own: the mean times the window's size, by the divisor."""
    dims = 3 if x.dim() == 5 else 2
    if divisor_override is None or x.dim() not in (4, 5):
        return NotImplemented
    kernel = [kernel_size] * dims if isinstance(kernel_size, int) else list(kernel_size)
    pads = [padding] * dims if isinstance(padding, int) else list(padding)
    weight = torch.ones([x.shape[1], 1, *kernel], dtype=x.dtype)
    steps = [stride or kernel_size] * dims if isinstance(stride or kernel_size, int) else list(stride or kernel_size)
    if ceil_mode:
        sizes = list(x.shape[2:])
        more = [_ceil_rest(int(size), k, s, p) for size, k, s, p in zip(sizes, kernel, steps, pads, strict=True)]
        x = torch.nn.functional.pad(x, [n for extra in reversed(more) for n in (0, extra)])
    convolve: Any = torch.nn.functional.conv3d if dims == 3 else torch.nn.functional.conv2d
    return convolve(x, weight, stride=steps, padding=pads, groups=x.shape[1]) / divisor_override


def _ceil_rest(size: int, kernel: int, stride: int, pad: int) -> int:
    """Zeros behind an axis that ceil_mode's last window reads."""
    windows = -(-(size + 2 * pad - kernel) // stride) + 1
    if (windows - 1) * stride >= size + pad:
        windows -= 1
    return max(0, (windows - 1) * stride + kernel - size - 2 * pad)


def adaptive_avg(x: torch.Tensor, output_size: Any) -> Any:
    """Axis by axis: a mean of rectangles is a mean of means."""
    return _adaptive(x, output_size, lambda part, axis: part.mean(axis, keepdim=True))


def adaptive_max(x: torch.Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Axis by axis; without the indices."""
    return NotImplemented if return_indices else _adaptive(x, output_size, lambda part, axis: part.amax(axis, keepdim=True))


def _adaptive(x: torch.Tensor, output_size: Any, reduce: Any) -> Any:
    dims = x.dim() - 2 if isinstance(output_size, int) or len(output_size) != 1 else 1
    wanted = [output_size] * dims if isinstance(output_size, int) or output_size is None else list(output_size)
    if dims < 1 or len(wanted) > x.dim() - 1:
        return NotImplemented
    for number, size in enumerate(wanted):
        axis = x.dim() - len(wanted) + number
        if size is None or x.shape[axis] == size:
            continue
        if size == 1:
            x = reduce(x, axis)
            continue
        extent = int(x.shape[axis])
        edges = [(i * extent // size, -((i + 1) * extent // -size)) for i in range(size)]
        x = torch.cat([reduce(x.narrow(axis, start, end - start), axis) for start, end in edges], axis)
    return x


def amax(x: torch.Tensor, dim: Any = (), keepdim: bool = False) -> Any:
    """Of all numbers, where no axis is given; of truths, whether one holds."""
    if x.dtype == torch.bool and isinstance(dim, int):
        return x.any(dim, keepdim)
    return NotImplemented if dim not in ((), [], None) else x.amax(list(range(x.dim())), keepdim)


def amin(x: torch.Tensor, dim: Any = (), keepdim: bool = False) -> Any:
    if x.dtype == torch.bool and isinstance(dim, int):
        return x.all(dim, keepdim)
    return NotImplemented if dim not in ((), [], None) else x.amin(list(range(x.dim())), keepdim)


_SPELLINGS: dict[str, Any] = {
    "amax": amax,
    "amin": amin,
    "logsigmoid": log_sigmoid,
    "log_sigmoid": log_sigmoid,
    "binary_cross_entropy": binary_cross_entropy,
    "binary_cross_entropy_with_logits": cross_entropy_with_logits,
    "softplus": softplus,
    "interpolate": interpolate,
    "scaled_dot_product_attention": attention,
    "__getitem__": indexed,
    "stack": stack,
    "embedding_bag": embedding_bag,
    **recurrent.SPELLINGS,
    **ordering.SPELLINGS,
    **algebra.SPELLINGS,
    **arithmetic.SPELLINGS,
    "avg_pool2d": avg_pool,
    "avg_pool3d": avg_pool,
    "adaptive_avg_pool3d": adaptive_avg,
    **dict.fromkeys(["adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"], adaptive_max),
    **dict.fromkeys(["_adaptive_max_pool1d", "_adaptive_max_pool2d", "_adaptive_max_pool3d"], adaptive_max),
}
