"""The table of TensorFlow's operators: what lowers them, and what is known of them beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from converters.readers.tensorflow.builder import TensorBuilder
from converters.readers.tensorflow.graph import Node
from converters.readers.tensorflow.values import Tensor
from converters.registry import Registry

Results = Tensor | tuple[Tensor, ...]
Lowering = Callable[..., Results]
"""(g, node, *tensors) -> what the operator gives."""


@dataclass(frozen=True)
class OperatorFacts:
    """fold: what the operator makes of constants, (node, *arrays) -> array or arrays; what isn't here isn't worked out before the net runs.

    structural: fold moves entries without looking at them, or adds and multiplies them, so that it does for sizes what it does for numbers.
    random: draws random numbers. takes_bias: a bias that is added behind it becomes part of it.
    asks_sizes: it looks at a tensor's sizes, not at its numbers.
    """

    fold: Callable[..., Any] | None = None
    structural: bool = False
    random: bool = False
    takes_bias: bool = False
    asks_sizes: bool = False


lowers: Registry[Lowering, OperatorFacts] = Registry("TensorFlow operator", OperatorFacts, "converters.readers.tensorflow.operators")

__all__ = ["Lowering", "Node", "OperatorFacts", "Results", "Tensor", "TensorBuilder", "lowers"]
