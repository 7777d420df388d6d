"""Operators that torch.onnx's walk over TorchScript spells wrongly or not at all, in ONNX's words; in force while a program is exported."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from converters.errors import UnsupportedError

_KINDS = {
    "Float": (torch.float32, 1),
    "Double": (torch.float64, 11),
    "Half": (torch.float16, 10),
    "BFloat16": (torch.bfloat16, 16),
    "Long": (torch.int64, 7),
    "Int": (torch.int32, 6),
    "Short": (torch.int16, 5),
    "Char": (torch.int8, 3),
    "Byte": (torch.uint8, 2),
    "Bool": (torch.bool, 9),
}
"""TorchScript's names of types, and ONNX's numbers for them."""
_NUMBERS = dict(_KINDS.values())
_EXPORTER: Any = torch.onnx  # which doesn't list all that it documents


class Rescripted:
    """Registers what follows with torch.onnx, for the block, in which torch prints no graphs to standard output."""

    def __init__(self, opset: int, *, is_old: bool = False) -> None:
        """is_old: the program is of PyTorch 1.10 or older, whose cosine is the one that torch.onnx has kept."""
        self._opset = opset
        self._spellings = {name: said for name, said in SPELLINGS.items() if not (is_old and name == "cosine_similarity")}
        self._log: Any = getattr(torch._C, "_jit_onnx_log", None)

    def __enter__(self) -> Rescripted:
        self._set_log(lambda *_: None)
        for name, function in self._spellings.items():
            _EXPORTER.register_custom_op_symbolic(f"aten::{name}", function, self._opset)
        return self

    def __exit__(self, *_: object) -> None:
        self._set_log(self._log)
        for name in self._spellings:
            _EXPORTER.unregister_custom_op_symbolic(f"aten::{name}", self._opset)

    def _set_log(self, log: Any) -> None:
        if self._log is not None:
            torch._C._jit_onnx_log = log  # type: ignore[attr-defined, unused-ignore]


def _told(value: Any) -> torch.dtype | None:
    """The type of a value's numbers, where the walk knows it: inside loops it may not."""
    kind = value.type()
    name = {"IntType": "Long", "FloatType": "Double", "BoolType": "Bool"}.get(kind.kind())
    name = name or (kind.scalarType() if kind.kind() == "TensorType" else None)
    return _KINDS[name][0] if name in _KINDS else None


def _dtype(value: Any) -> torch.dtype:
    dtype = _told(value)
    if dtype is None:
        raise UnsupportedError(
            f"a {value.node().kind()} of the program gives numbers of a type that can't be told",
            hint="torch.jit.freeze the program, or trace it",
        )
    return dtype


def _example(value: Any) -> Any:
    """What stands for a value where torch is asked for the common type of several."""
    dtype, dims = _dtype(value), value.type().dim() if hasattr(value.type(), "dim") else 0
    if dims == 0 and value.node().kind() in ("prim::Constant", "onnx::Constant"):
        return 1.0 if dtype.is_floating_point else dtype != torch.bool and 1
    return torch.empty((1,) if dims != 0 else (), dtype=dtype)


def _cast(g: Any, value: Any, dtype: torch.dtype) -> Any:
    return value if _dtype(value) == dtype else g.op("Cast", value, to_i=_NUMBERS[dtype])


def _common(g: Any, x: Any, y: Any) -> tuple[Any, Any, torch.dtype]:
    """Both in the type that PyTorch computes them in, and that type."""
    dtype = torch.result_type(_example(x), _example(y))
    return _cast(g, x, dtype), _cast(g, y, dtype), dtype


def _number(g: Any, number: float, like: Any) -> Any:
    return g.op("Constant", value_t=torch.tensor(number, dtype=_dtype(like)))


def _constant(value: Any) -> Any:
    """The number that a constant is, None where it is none or something else."""
    node = value.node()
    if node.kind() not in ("prim::Constant", "onnx::Constant") or "value" not in node.attributeNames():
        return None
    kind = node.kindOf("value")
    return node.t("value").tolist() if kind == "t" else getattr(node, kind)("value")


def _crosses(g: Any, rest: Any, y: Any) -> Any:
    """Whether C's remainder is on the other side of zero than what was divided by."""
    zero = _number(g, 0, rest)
    apart = g.op("Xor", g.op("Less", rest, zero), g.op("Less", y, zero))
    return g.op("And", apart, g.op("Not", g.op("Equal", rest, zero)))


def remainder(g: Any, x: Any, y: Any) -> Any:
    """By C's fmod, which is exact; of whole numbers ONNX's own."""
    x, y, dtype = _common(g, x, y)
    if not dtype.is_floating_point:
        return g.op("Mod", x, y)
    rest = g.op("Mod", x, y, fmod_i=1)
    return g.op("Where", _crosses(g, rest, y), g.op("Add", rest, y), rest)


def floor_divide(g: Any, x: Any, y: Any) -> Any:
    """What remains goes off first. Source: aten/src/ATen/native/BinaryOps.h, div_floor_floating."""
    x, y, dtype = _common(g, x, y)
    if not dtype.is_floating_point:
        return g.op("Div", g.op("Sub", x, g.op("Mod", x, y)), y)
    rest, one = g.op("Mod", x, y, fmod_i=1), _number(g, 1, x)
    quotient = g.op("Div", g.op("Sub", x, rest), y)
    quotient = g.op("Where", _crosses(g, rest, y), g.op("Sub", quotient, one), quotient)
    whole = g.op("Floor", quotient)
    is_above = g.op("Greater", g.op("Sub", quotient, whole), _number(g, 0.5, x))
    whole = g.op("Where", is_above, g.op("Add", whole, one), whole)
    return g.op("Where", g.op("Equal", y, _number(g, 0, y)), g.op("Div", x, y), whole)


def div(g: Any, x: Any, y: Any, rounding_mode: Any = None) -> Any:
    mode = None if rounding_mode is None else _constant(rounding_mode)
    if mode == "floor":
        return floor_divide(g, x, y)
    if mode == "trunc":
        x, y, dtype = _common(g, x, y)
        quotient = g.op("Div", x, y)
        return trunc(g, quotient) if dtype.is_floating_point else quotient
    if any(dtype is not None and dtype.is_floating_point for dtype in (_told(x), _told(y))):
        return g.op("Div", x, y)  # the walk brings both to one type
    return g.op("Div", *(g.op("Cast", value, to_i=_NUMBERS[torch.get_default_dtype()]) for value in (x, y)))


def trunc(g: Any, x: Any) -> Any:
    return g.op("Where", g.op("Less", x, _number(g, 0, x)), g.op("Ceil", x), g.op("Floor", x))


def frac(g: Any, x: Any) -> Any:
    return g.op("Sub", x, trunc(g, x))


def shift_right(g: Any, x: Any, y: Any) -> Any:
    """A quotient by a power of two, rounded down: ONNX shifts unsigned numbers alone."""
    return floor_divide(g, x, g.op("Pow", _number(g, 2, x), _cast(g, y, _dtype(x))))


def any_of(g: Any, x: Any, dim: Any = None, keepdim: Any = None) -> Any:
    """The largest of what isn't zero: numbers below zero count too."""
    return _of_truths(g, "ReduceMax", x, dim, keepdim)


def all_of(g: Any, x: Any, dim: Any = None, keepdim: Any = None) -> Any:
    return _of_truths(g, "ReduceMin", x, dim, keepdim)


def _of_truths(g: Any, reduction: str, x: Any, dim: Any, keepdim: Any) -> Any:
    whole = g.op("Cast", g.op("Cast", x, to_i=_NUMBERS[torch.bool]), to_i=_NUMBERS[torch.int32])
    axes = [] if dim is None else [g.op("Constant", value_t=torch.tensor(_constant(dim)).reshape(-1))]
    kept = 0 if keepdim is None else int(bool(_constant(keepdim)))
    return g.op("Cast", g.op(reduction, whole, *axes, keepdims_i=kept), to_i=_NUMBERS[torch.bool])


def cumsum(g: Any, x: Any, dim: Any, dtype: Any = None) -> Any:
    """Of whole numbers and truths in int64, where no type is asked for."""
    asked = None if dtype is None else _constant(dtype)
    told = _told(x) or torch.float32
    usual = told if told.is_floating_point else torch.int64
    to = usual if asked is None else next(kind for number, kind in _JIT_NUMBERS if number == asked)
    return g.op("CumSum", x if to == _told(x) else g.op("Cast", x, to_i=_NUMBERS[to]), dim)


_JIT_NUMBERS = (
    (0, torch.uint8),
    (1, torch.int8),
    (2, torch.int16),
    (3, torch.int32),
    (4, torch.int64),
    (5, torch.float16),
    (6, torch.float32),
    (7, torch.float64),
    (15, torch.bfloat16),
)
"""TorchScript's numbers of types. Source: c10/core/ScalarType.h."""


def relu(g: Any, x: Any) -> Any:
    """onnxruntime has none of whole numbers."""
    dtype = _told(x)
    return g.op("Relu", x) if dtype is None or dtype.is_floating_point else g.op("Max", x, _number(g, 0, x))


def log_sigmoid(g: Any, x: Any) -> Any:
    """Not log(sigmoid(x)), which is -inf far below zero."""
    return g.op("Neg", g.op("Softplus", g.op("Neg", x)))


def cross_entropy_with_logits(g: Any, x: Any, target: Any, weight: Any, pos_weight: Any, reduction: Any) -> Any:
    """Not by log(sigmoid(x)) either. Source: aten/src/ATen/native/Loss.cpp."""
    one = _number(g, 1, x)
    below = g.op("Softplus", g.op("Neg", x))
    if not pos_weight.node().mustBeNone():
        below = g.op("Mul", below, g.op("Add", one, g.op("Mul", g.op("Sub", pos_weight, one), target)))
    loss = g.op("Add", g.op("Mul", g.op("Sub", one, target), x), below)
    loss = loss if weight.node().mustBeNone() else g.op("Mul", loss, weight)
    how = _constant(reduction)
    return loss if how == 0 else g.op("ReduceMean" if how == 1 else "ReduceSum", loss, keepdims_i=0)


def softplus(g: Any, x: Any, beta: Any, threshold: Any) -> Any:
    """Above the threshold a number itself."""
    if (_constant(beta), _constant(threshold)) == (1, 20):
        return g.op("Softplus", x)
    by = _cast(g, beta, _dtype(x))
    scaled = g.op("Mul", x, by)
    soft = g.op("Div", g.op("Softplus", scaled), by)
    return g.op("Where", g.op("Greater", scaled, _cast(g, threshold, _dtype(x))), x, soft)


def threshold(g: Any, x: Any, limit: Any, other: Any) -> Any:
    low = g.op("LessOrEqual", x, _cast(g, limit, _dtype(x)))
    return g.op("Where", low, _cast(g, other, _dtype(x)), x)


def hardshrink(g: Any, x: Any, limit: Any) -> Any:
    low = g.op("LessOrEqual", g.op("Abs", x), _cast(g, limit, _dtype(x)))
    return g.op("Where", low, _number(g, 0, x), x)


def softshrink(g: Any, x: Any, limit: Any) -> Any:
    limit = _cast(g, limit, _dtype(x))
    low = g.op("LessOrEqual", g.op("Abs", x), limit)
    return g.op("Where", low, _number(g, 0, x), g.op("Sub", x, g.op("Mul", g.op("Sign", x), limit)))


def signbit(g: Any, x: Any) -> Any:
    """Of -0.0 too, whose reciprocal is below zero."""
    zero = _number(g, 0, x)
    below = g.op("Less", x, zero)
    if not _dtype(x).is_floating_point:
        return below
    of_zero = g.op("And", g.op("Equal", x, zero), g.op("Less", g.op("Reciprocal", x), zero))
    return g.op("Or", below, of_zero)


def atan2(g: Any, y: Any, x: Any) -> Any:
    """The angle of (|x|, |y|), turned to where x and y are, zeros by their signs."""
    y, x, _ = _common(g, y, x)
    beside, up, half = g.op("Abs", x), g.op("Abs", y), _number(g, math.pi, x)
    zero, far = _number(g, 0, x), _number(g, math.inf, x)
    ratio = g.op("Div", up, beside)
    ratio = g.op("Where", g.op("And", g.op("Equal", x, zero), g.op("Equal", y, zero)), zero, ratio)
    ratio = g.op("Where", g.op("And", g.op("Equal", beside, far), g.op("Equal", up, far)), _number(g, 1, x), ratio)
    angle = g.op("Atan", ratio)
    angle = g.op("Where", signbit(g, x), g.op("Sub", half, angle), angle)
    return g.op("Where", signbit(g, y), g.op("Neg", angle), angle)


def logaddexp(g: Any, x: Any, y: Any) -> Any:
    """The larger of the two and what the other adds: no exponential of a large number."""
    x, y, _ = _common(g, x, y)
    apart = g.op("Neg", g.op("Abs", g.op("Sub", x, y)))
    sum_of_two = g.op("Add", g.op("Max", x, y), g.op("Softplus", apart))
    return g.op("Where", g.op("Equal", x, y), g.op("Add", x, _number(g, math.log(2), x)), sum_of_two)


def fmax(g: Any, x: Any, y: Any) -> Any:
    """The larger, or the one that is a number."""
    return _of_numbers(g, "Max", x, y)


def fmin(g: Any, x: Any, y: Any) -> Any:
    return _of_numbers(g, "Min", x, y)


def _of_numbers(g: Any, word: str, x: Any, y: Any) -> Any:
    x, y, dtype = _common(g, x, y)
    found = g.op(word, x, y)
    if not dtype.is_floating_point:
        return found
    return g.op("Where", g.op("IsNaN", x), y, g.op("Where", g.op("IsNaN", y), x, found))


def power(g: Any, x: Any, exponent: Any) -> Any:
    """Roots are roots: of minus infinity, which has none, and of -0.0."""
    number, dtype = _constant(exponent), _told(x)
    if number in (0.5, -0.5) and (dtype is None or dtype.is_floating_point):
        root = g.op("Sqrt", x)
        return root if number > 0 else g.op("Reciprocal", root)
    if dtype is not None and _told(exponent) is not None:
        x, exponent, _ = _common(g, x, exponent)
    return g.op("Pow", x, exponent)


def pairwise_distance(g: Any, x: Any, y: Any, p: Any, eps: Any, keepdim: Any) -> Any:
    """The norm of what lies between, and eps in each number."""
    x, y, dtype = _common(g, x, y)
    apart = g.op("Abs", g.op("Add", g.op("Sub", x, y), _cast(g, eps, dtype)))
    norm, axes, kept = _constant(p), g.op("Constant", value_t=torch.tensor([-1])), int(bool(_constant(keepdim)))
    if norm in (1, 2):
        return g.op(f"ReduceL{int(norm)}", apart, axes, keepdims_i=kept)
    if norm in (math.inf, 0):
        raise UnsupportedError(f"pairwise_distance with p={norm} has no words in ONNX", hint="write it as a difference and amax or sum")
    total = g.op("ReduceSum", g.op("Pow", apart, _number(g, norm, x)), axes, keepdims_i=kept)
    return g.op("Pow", total, _number(g, 1 / norm, x))


def cosine_similarity(g: Any, x: Any, y: Any, dim: Any, eps: Any) -> Any:
    """Each norm is kept above eps, and both divide before the product. Source: aten/src/ATen/native/Distance.cpp."""
    x, y, dtype = _common(g, x, y)
    x, y = g.op("Expand", x, g.op("Shape", y)), g.op("Expand", y, g.op("Shape", x))
    axis, least = g.op("Constant", value_t=torch.tensor([_constant(dim)])), _cast(g, eps, dtype)
    x, y = (g.op("Div", value, g.op("Max", g.op("ReduceL2", value, axis, keepdims_i=1), least)) for value in (x, y))
    return g.op("ReduceSum", g.op("Mul", x, y), axis, keepdims_i=0)


SPELLINGS: dict[str, Callable[..., Any]] = {
    "remainder": remainder,
    **dict.fromkeys(["floor_divide", "floordiv"], floor_divide),
    "div": div,
    **dict.fromkeys(["trunc", "fix"], trunc),
    "frac": frac,
    **dict.fromkeys(["__rshift_", "bitwise_right_shift"], shift_right),
    "any": any_of,
    "all": all_of,
    "cumsum": cumsum,
    "relu": relu,
    "log_sigmoid": log_sigmoid,
    "binary_cross_entropy_with_logits": cross_entropy_with_logits,
    "softplus": softplus,
    "threshold": threshold,
    "hardshrink": hardshrink,
    "softshrink": softshrink,
    "signbit": signbit,
    "atan2": atan2,
    "logaddexp": logaddexp,
    "fmax": fmax,
    "fmin": fmin,
    "pow": power,
    "pairwise_distance": pairwise_distance,
    "cosine_similarity": cosine_similarity,
}
"""What stands for torch.onnx's own words for these operators."""
