"""Medians, places in a sorted row and running products, which torch.onnx doesn't know, in words that it has."""

from __future__ import annotations

from typing import Any

import torch

from converters.tracing.spellings.arithmetic import logaddexp


def _answer(kind: Any, value: torch.Tensor, index: torch.Tensor, dim: int, keepdim: bool) -> Any:
    """A number of each row and its place, with or without the axis that they are of."""
    return kind((value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim)))


def kthvalue(x: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The last of the k smallest."""
    if x.dim() == 0:
        return NotImplemented
    values, indices = x.topk(k, dim, largest=False)
    value, index = values.narrow(dim, k - 1, 1), indices.narrow(dim, k - 1, 1)
    return _answer(torch.return_types.kthvalue, value, index, dim, keepdim)


def median(x: torch.Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower of the two in the middle; of all numbers where no axis is given."""
    if x.dim() == 0:
        return NotImplemented
    x, axis = (x.reshape(-1), 0) if dim is None else (x, dim)
    size = x.shape[axis]
    if not isinstance(size, int):  # the middle of an open axis
        values, indices = x.sort(axis)
        middle = torch.scalar_tensor((size - 1) // 2, dtype=torch.int64).reshape(1)
        value, index = (part.index_select(axis, middle) for part in (values, indices))
    else:
        value, index = kthvalue(x, (size + 1) // 2, axis, keepdim=True)
    if x.is_floating_point():
        value = torch.where(x.isnan().any(axis, keepdim=True), float("nan"), value)
    result = _answer(torch.return_types.median, value, index, axis, keepdim)
    return result[0] if dim is None else result


def nanmedian(x: torch.Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median of what is a number: the others are sorted behind all."""
    if x.dim() == 0 or not x.is_floating_point():
        return NotImplemented
    rows, axis = (x.reshape(-1), 0) if dim is None else (x, dim)
    values, indices = torch.where(rows.isnan(), float("inf"), rows).sort(axis)
    count = rows.isnan().logical_not().sum(axis, keepdim=True)
    middle = ((count - 1).clamp(min=0) / 2).floor().long()
    value, index = values.gather(axis, middle), indices.gather(axis, middle)
    value = torch.where(count > 0, value, float("nan"))
    if dim is None:
        return value.squeeze(0)
    return _answer(torch.return_types.nanmedian, value, index, axis, keepdim)


def mode(x: torch.Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The number that is there most often, the smallest of several, and the last place where it stands."""
    if x.dim() == 0:
        return NotImplemented
    rows = x.movedim(dim, -1).sort(-1)[0]
    counts = (rows.unsqueeze(-1) == rows.unsqueeze(-2)).sum(-1)
    value = rows.gather(-1, counts.argmax(-1, keepdim=True))
    places = torch.arange(1, x.shape[dim] + 1)
    index = ((x.movedim(dim, -1) == value) * places).argmax(-1, keepdim=True)
    value, index = value.movedim(-1, dim), index.movedim(-1, dim)
    return _answer(torch.return_types.mode, value, index, dim, keepdim)


def searchsorted(sorted_sequence: torch.Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
                 sorter: torch.Tensor | None = None) -> Any:  # fmt: skip
    """How many stand before each number: a row for all, or one for each row of numbers."""
    row = sorted_sequence if sorter is None else sorted_sequence.gather(-1, sorter)
    values = input if isinstance(input, torch.Tensor) else torch.scalar_tensor(input, dtype=row.dtype)
    row = row if row.dim() == 1 else row.unsqueeze(-2)
    behind = row > values.unsqueeze(-1) if right or side == "right" else row >= values.unsqueeze(-1)
    count = behind.logical_not().sum(-1)  # no number is behind all
    return count.int() if out_int32 else count


def bucketize(input: Any, boundaries: torch.Tensor, *, out_int32: bool = False, right: bool = False) -> Any:
    return searchsorted(boundaries, input, out_int32=out_int32, right=right)


def cumprod(x: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Any:
    """By steps that double: each number times the one 1, 2, 4 ... before it."""
    x = x if dtype is None else x.to(dtype)
    size = x.shape[dim] if x.dim() else None
    if not isinstance(size, int) or x.dtype == torch.bool:
        return NotImplemented
    x = x if x.is_floating_point() else x.long()
    step = 1
    while step < size:
        head, rest = x.narrow(dim, 0, step), x.narrow(dim, step, size - step) * x.narrow(dim, 0, size - step)
        x, step = torch.cat([head, rest], dim), step * 2
    return x


def logcumsumexp(x: torch.Tensor, dim: int) -> Any:
    """By steps that double too: exponentials of differences to the whole row's largest are 0 for the numbers far below it."""
    size = x.shape[dim] if x.dim() else None
    if not isinstance(size, int) or not x.is_floating_point():
        return NotImplemented
    step = 1
    while step < size:
        rest = logaddexp(x.narrow(dim, step, size - step), x.narrow(dim, 0, size - step))
        x, step = torch.cat([x.narrow(dim, 0, step), rest], dim), step * 2
    return x


def cummax(x: torch.Tensor, dim: int) -> Any:
    """By steps that double: of equal numbers the last, and what is no number stays."""
    return _running(x, dim, torch.ge, torch.return_types.cummax)


def cummin(x: torch.Tensor, dim: int) -> Any:
    return _running(x, dim, torch.le, torch.return_types.cummin)


def _running(x: torch.Tensor, dim: int, beyond: Any, kind: Any) -> Any:
    size = x.shape[dim] if x.dim() else None
    if not isinstance(size, int) or x.dtype == torch.bool:
        return NotImplemented
    values = x
    places = torch.arange(size).reshape([-1 if axis == dim % x.dim() else 1 for axis in range(x.dim())]).expand(x.shape)
    step = 1
    while step < size:
        before, after = values.narrow(dim, 0, size - step), values.narrow(dim, step, size - step)
        is_after = beyond(after, before)
        is_after = is_after | after.isnan() if x.is_floating_point() else is_after
        place = torch.where(is_after, places.narrow(dim, step, size - step), places.narrow(dim, 0, size - step))
        values = torch.cat([values.narrow(dim, 0, step), torch.where(is_after, after, before)], dim)
        places, step = torch.cat([places.narrow(dim, 0, step), place], dim), step * 2
    return kind((values, places))


def sort(x: torch.Tensor, *rest: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """ONNX's TopK keeps the order of equal numbers."""
    if rest or stable is None:
        return NotImplemented
    return torch.sort(x, dim, descending)


def argsort(x: torch.Tensor, *rest: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    return NotImplemented if rest or stable is None else torch.sort(x, dim, descending).indices


def aminmax(x: torch.Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """Of all numbers, where no axis is given."""
    if dim is not None or x.dim() == 0:
        return NotImplemented
    axes = list(range(x.dim()))
    return torch.return_types.aminmax((x.amin(axes, keepdim), x.amax(axes, keepdim)))


def histc(x: torch.Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many numbers are in each of the equal steps from min to max; the last takes its end too."""
    if min == max:
        return NotImplemented
    flat = x.reshape(-1, 1)
    place = ((flat - min) * (bins / (max - min))).floor().clamp(max=bins - 1)
    inside = (flat >= min) & (flat <= max)
    return ((place == torch.arange(bins, dtype=x.dtype)) & inside).sum(0).to(x.dtype)


SPELLINGS: dict[str, Any] = {
    "kthvalue": kthvalue,
    "median": median,
    "nanmedian": nanmedian,
    "mode": mode,
    "searchsorted": searchsorted,
    "bucketize": bucketize,
    "cumprod": cumprod,
    "logcumsumexp": logcumsumexp,
    "cummax": cummax,
    "cummin": cummin,
    "sort": sort,
    "argsort": argsort,
    "aminmax": aminmax,
    "histc": histc,
}
"""What stands for torch's functions of these names while a module is exported."""
