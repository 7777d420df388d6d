"""What the reader has to know of ONNX's operators: which of their inputs were learnt, and under which name torch keeps them.

One table in ONNX's own vocabulary, because the graph is ONNX's already: no function lowers an operator here that could say it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operator:
    """roles: torch's names of the inputs, empty for those that aren't parameters. settings: inputs that set the operator, though they
    may be floating-point numbers. arithmetic: single numbers among its inputs are part of a formula."""

    roles: tuple[str, ...] = ()
    settings: tuple[int, ...] = ()
    arithmetic: bool = False


_AFFINE = ("", "weight", "bias")
_RECURRENT = ("", "weight", "recurrence", "bias")

OPERATORS = {
    "Add": Operator(arithmetic=True),
    "BatchNormalization": Operator(roles=(*_AFFINE, "running_mean", "running_var")),
    "Cast": Operator(arithmetic=True),
    "CastLike": Operator(arithmetic=True),
    "Clip": Operator(settings=(1, 2)),
    "Conv": Operator(roles=_AFFINE),
    "ConvTranspose": Operator(roles=_AFFINE),
    "Div": Operator(arithmetic=True),
    "Dropout": Operator(settings=(1, 2)),
    "Equal": Operator(arithmetic=True),
    "Gather": Operator(roles=("weight",)),
    "Gemm": Operator(roles=_AFFINE),
    "Greater": Operator(arithmetic=True),
    "GreaterOrEqual": Operator(arithmetic=True),
    "GroupNormalization": Operator(roles=_AFFINE),
    "GRU": Operator(roles=_RECURRENT),
    "InstanceNormalization": Operator(roles=_AFFINE),
    "LayerNormalization": Operator(roles=_AFFINE),
    "Less": Operator(arithmetic=True),
    "LessOrEqual": Operator(arithmetic=True),
    "LSTM": Operator(roles=_RECURRENT),
    "MatMul": Operator(roles=("", "weight")),
    "Max": Operator(arithmetic=True),
    "Min": Operator(arithmetic=True),
    "Mod": Operator(arithmetic=True),
    "Mul": Operator(arithmetic=True),
    "NonMaxSuppression": Operator(settings=(2, 3, 4)),
    "OneHot": Operator(settings=(1, 2)),
    "Pad": Operator(settings=(1, 2, 3)),
    "Pow": Operator(settings=(1,), arithmetic=True),
    "PRelu": Operator(roles=("", "weight")),
    "Range": Operator(settings=(0, 1, 2)),
    "Resize": Operator(settings=(1, 2, 3)),
    "RNN": Operator(roles=_RECURRENT),
    "Sub": Operator(arithmetic=True),
    "Upsample": Operator(settings=(1,)),
    "Where": Operator(arithmetic=True),
}
