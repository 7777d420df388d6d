"""A lowering is a function whose signature is the operator's.

Positional arguments are the inputs (an `ir.Value`, or a `Parameter` where MXNet expects a weight, or a `Label`, which inference has
no use for), keyword arguments are the attributes with MXNet's defaults.

    @lowers("clip")
    def clip(g: Graph, data: ir.Value, *, a_min: float, a_max: float) -> ir.Value:
        "Values held between a_min and a_max."

It returns a Value, a list of them (output0, output1, ...), or a dict that names them as MXNet's list_outputs() does.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from converters.errors import ConversionWarning, printable
from converters.readers.mxnet.attributes import parse
from converters.readers.mxnet.graph import Label, Parameter
from converters.readers.mxnet.symbol import Node
from converters.registry import NoFacts, Registry

Lowering = Callable[..., Any]

lowers: Registry[Lowering, NoFacts] = Registry("MXNet operator", NoFacts, "converters.readers.mxnet.operators")
"""Decorator that registers a lowering under the operator's names; the hook for operators of one's own."""

TRAINING = frozenset(
    "cudnn_tune cudnn_off workspace momentum use_global_stats sparse_grad grad_scale ctx forward_stype num_args "
    "min_calib_range max_calib_range key ndev layer_name name ignore_label use_ignore normalization out_grad smooth_alpha "
    "stype valid_thresh margin regularization_coefficient use_linear sparseness_target penalty".split()
)
"""Attributes that change nothing in the forward pass of any operator."""


@dataclass(frozen=True)
class Slot:
    """An input of an operator: its name, and whether it is a Parameter, a Label or an ordinary value."""

    name: str
    kind: type
    required: bool


@dataclass(frozen=True)
class Signature:
    slots: tuple[Slot, ...]
    variadic: Slot | None
    attributes: Mapping[str, tuple[Any, Any]]
    keeps_all: bool

    def slot(self, position: int) -> Slot | None:
        return self.slots[position] if position < len(self.slots) else self.variadic


_signatures: dict[Any, Signature] = {}


def signature(function: Lowering) -> Signature:
    """What a lowering's own signature says of the operator."""
    if function not in _signatures:
        slots, variadic, attributes, keeps_all = [], None, {}, False
        for position, parameter in enumerate(inspect.signature(function, eval_str=True).parameters.values()):
            if position == 0:
                continue
            if parameter.kind is parameter.KEYWORD_ONLY:
                attributes[parameter.name] = (parameter.annotation, parameter.default)
            elif parameter.kind is parameter.VAR_KEYWORD:
                keeps_all = True
            else:
                text = str(parameter.annotation)
                kind = Parameter if "Parameter" in text else Label if "Label" in text else ir.Value
                slot = Slot(parameter.name, kind, parameter.default is parameter.empty)
                if parameter.kind is parameter.VAR_POSITIONAL:
                    variadic = slot
                else:
                    slots.append(slot)
        _signatures[function] = Signature(tuple(slots), variadic, attributes, keeps_all)
    return _signatures[function]


def read_attributes(node: Node, stated: Signature) -> dict[str, Any]:
    """The node's attributes by the types of the signature. Raises ConversionError for one that is unreadable or missing."""
    result: dict[str, Any] = {}
    for name, (kind, default) in stated.attributes.items():
        if name in node.attributes:
            try:
                result[name] = parse(node.attributes[name], kind)
            except ValueError as problem:
                raise node.source.error(f"attribute {name} {problem}") from problem
        elif default is inspect.Parameter.empty:
            raise node.source.error(f"attribute {name} is missing")
    unknown = [k for k in node.attributes if k not in stated.attributes and k not in TRAINING and not k.startswith("__")]
    if stated.keeps_all:
        result.update((k, node.attributes[k]) for k in unknown)
    elif unknown:
        names = ", ".join(printable(k, 40) for k in unknown[:10])
        warnings.warn(
            node.source.describe(f"attributes that MXNet doesn't know here are ignored: {names}"), ConversionWarning, stacklevel=2
        )
    return result
