"""Source of reductions, maxima's positions and sums along an axis."""

from __future__ import annotations

import onnx_ir as ir

from converters.writers.source.node import Node, writes

_REDUCTIONS = {
    "ReduceSum": "{x}.sum({axes}, keepdim={keep})",
    "ReduceMean": "{x}.mean({axes}, keepdim={keep})",
    "ReduceMax": "{x}.amax({axes}, keepdim={keep})",
    "ReduceMin": "{x}.amin({axes}, keepdim={keep})",
    "ReduceL1": "{x}.abs().sum({axes}, keepdim={keep})",
    "ReduceL2": "{x}.square().sum({axes}, keepdim={keep}).sqrt()",
    "ReduceSumSquare": "{x}.square().sum({axes}, keepdim={keep})",
    "ReduceLogSum": "{x}.sum({axes}, keepdim={keep}).log()",
    "ReduceLogSumExp": "{x}.logsumexp({axes}, keepdim={keep})",
    "ReduceProd": "",
}
_ELEMENTWISE = {
    "ReduceL1": "{x}.abs()",
    "ReduceL2": "{x}.abs()",
    "ReduceSumSquare": "{x}.square()",
    "ReduceLogSum": "{x}.log()",
}


def _reduction(op_type: str, unsigned: str = "") -> None:
    @writes(op_type, unsigned=unsigned)
    def reduce(n: Node) -> str:
        return write_reduction(n, op_type)

    reduce.__doc__ = f"{op_type} over axes that are an attribute or an input."


def write_reduction(n: Node, op_type: str) -> str:
    keep = bool(n.attr("keepdims", 1))
    x = n[0]
    if n.has(1) and n.static(1) is None:  # axes that are computed
        return (
            f"{n.function('reduce')}({x}, {n.function('integers')}({n[1]}), {op_type!r}, {keep}, {bool(n.attr('noop_with_empty_axes', 0))})"
        )
    axes = n.axes()
    if not axes:
        if n.attr("noop_with_empty_axes", 0):
            return _ELEMENTWISE.get(op_type, "{x}").format(x=x)
        rank = n.rank()
        if rank is None:
            return f"{n.function('reduce')}({x}, [], {op_type!r}, {keep}, False)"
        axes = list(range(rank))
    shape = n.shape(0)
    empty = shape is None or any(shape[axis] == 0 for axis in axes)
    if op_type == "ReduceProd" or (op_type in ("ReduceMax", "ReduceMin") and empty) or not _is_plain(n, op_type) or n.rank() == 0:
        return f"{n.function('reduce')}({x}, {axes}, {op_type!r}, {keep}, False)"
    shown = str(axes[0]) if len(axes) == 1 else str(tuple(axes))
    return _REDUCTIONS[op_type].format(x=x, axes=shown, keep=keep).replace(", keepdim=False", "")


_reduction("ReduceSum", "fits")
_reduction("ReduceMean")
_reduction("ReduceMax", "fits")
_reduction("ReduceMin", "fits")
_reduction("ReduceL1")
_reduction("ReduceL2")
_reduction("ReduceSumSquare")
_reduction("ReduceLogSum")
_reduction("ReduceLogSumExp")
_reduction("ReduceProd", "fits")


def _is_plain(n: Node, op_type: str) -> bool:
    """Whether torch's reduction of this element type answers the same type."""
    return n.is_float() or (op_type == "ReduceSum" and n.dtype() == ir.DataType.INT64) or op_type in ("ReduceMax", "ReduceMin")


@writes("ArgMax", unsigned="fits")
def arg_max(n: Node) -> str:
    """x.argmax; the last of several maxima where that is asked for."""
    return _arg(n, "argmax")


@writes("ArgMin", unsigned="fits")
def arg_min(n: Node) -> str:
    """x.argmin; the last of several minima where that is asked for."""
    return _arg(n, "argmin")


def _arg(n: Node, name: str) -> str:
    axis, keep = n.attr("axis", 0), bool(n.attr("keepdims", 1))
    if n.attr("select_last_index", 0):
        return f"{n[0]}.shape[{axis}] - 1 - {n[0]}.flip({axis}).{name}({axis}, keepdim={keep})"
    return f"{n[0]}.{name}({axis}, keepdim={keep})"


@writes("CumSum")
def cum_sum(n: Node) -> str:
    """x.cumsum, reversed or without the element itself."""
    return _cumulate(n, "cumsum")


@writes("CumProd")
def cum_prod(n: Node) -> str:
    """x.cumprod, reversed or without the element itself."""
    return _cumulate(n, "cumprod")


def _cumulate(n: Node, name: str) -> str:
    axis = n.scalar(1)
    x, options = n[0], f"dtype={n.torch_dtype(n.dtype())}"
    reverse = bool(n.attr("reverse", 0))
    if n.attr("exclusive", 0):
        return f"{n.function('cumulate_before')}({x}, {axis}, {reverse}, {'torch.cumsum' if name == 'cumsum' else 'torch.cumprod'})"
    if reverse:
        return f"{x}.flip({axis}).{name}({axis}, {options}).flip({axis})"
    return f"{x}.{name}({axis}, {options})"


@writes("TopK", unsigned="orders")
def top_k(n: Node) -> str:
    """x.topk."""
    count = n.scalar(1) if n.has(1) else str(n.attr("k"))
    return f"{n.function('top_k')}({n[0]}, {count}, {n.attr('axis', -1)}, {bool(n.attr('largest', 1))})"
