"""Source of sequences, which are lists of tensors, and of values that may be missing, which are None."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.writers.source.node import Node, writes


@writes("SequenceEmpty", sequences=True)
def sequence_empty(n: Node) -> str:
    """`[]`."""
    return "[]"


@writes("SequenceConstruct", unsigned="moves", sequences=True)
def sequence_construct(n: Node) -> str:
    """`[x, y]`."""
    return f"[{', '.join(n[index] for index in range(len(n)))}]"


@writes("SequenceInsert", unsigned="moves", sequences=True)
def sequence_insert(n: Node) -> str:
    """`[*s, x]`, or at a place of its own."""
    if not n.has(2):
        return f"[*{n[0]}, {n[1]}]"
    place = n.scalar(2)
    return f"[*{n[0]}[:{place}], {n[1]}, *{n[0]}[{place}:]]"


@writes("SequenceErase", unsigned="moves", sequences=True)
def sequence_erase(n: Node) -> str:
    """The list without its last tensor, or another."""
    if not n.has(1):
        return f"{n[0]}[:-1]"
    return f"{n.function('without')}({n[0]}, {n.scalar(1)})"


@writes("SequenceAt", unsigned="moves", sequences=True)
def sequence_at(n: Node) -> str:
    """`s[i]`."""
    return f"{n[0]}[{n.scalar(1)}]"


@writes("SequenceLength", sequences=True)
def sequence_length(n: Node) -> str:
    """`len(s)`, as a tensor."""
    return f"torch.tensor(len({n[0]}), device={n.device})"


@writes("ConcatFromSequence", unsigned="moves", sequences=True)
def concat_from_sequence(n: Node) -> str:
    """torch.cat, or torch.stack along a new axis."""
    return f"torch.{'stack' if n.attr('new_axis', 0) else 'cat'}({n[0]}, {n.attr('axis')})"


@writes("SplitToSequence", unsigned="moves", sequences=True)
def split_to_sequence(n: Node) -> str:
    """x.split, or x.unbind into slices without the axis."""
    axis = n.attr("axis", 0)
    if not n.has(1):
        return f"list({n[0]}.{'split(1, ' if n.attr('keepdims', 1) else 'unbind('}{axis}))"
    if n.known_rank(1) == 0:
        return f"list({n[0]}.split({n.scalar(1)}, {axis}))"
    return f"list({n[0]}.split({n.size_list(1)}, {axis}))"


@writes("Optional", unsigned="moves", sequences=True)
def optional(n: Node) -> str:
    """The value itself, or None."""
    return n.get(0)


@writes("OptionalHasElement", unsigned="moves", sequences=True)
def optional_has_element(n: Node) -> str | NDArray[Any]:
    """`x is not None`, as a tensor; a constant of what can't be missing."""
    if not n.is_optional():
        return np.array(n.has(0))
    return f"torch.tensor({n[0]} is not None, device={n.device})"


@writes("OptionalGetElement", unsigned="moves", sequences=True)
def optional_get_element(n: Node) -> str:
    """The value itself."""
    return n[0]
