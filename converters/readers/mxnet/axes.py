"""Which axes of a net's inputs are time and batch, told by the recurrent operators that the inputs reach.

MXNet's RNN, `_foreach` and interleaved attention take (T, N, C): the batch is axis 1, of states too. What lies between an input and
such an operator may move axes; whatever isn't known to keep them ends the search, and the first axis is the batch as everywhere else.
What an operator does to axes stands at its decorator: `sequences`, where it tells them, `axes`, where its inputs have its output's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from converters.readers.mxnet.attributes import Ints, parse
from converters.readers.mxnet.symbol import Node, Symbol

Axes = dict[int, str]
"""What axes are: TIME or BATCH; negative ones are counted from the end."""
TIME, BATCH = "T", "N"
SEQUENCE: Axes = {0: TIME, 1: BATCH}
STATE: Axes = {1: BATCH}
Tells = Callable[[Node], Mapping[int, Axes]]
"""Which axes of its inputs an operator says are time and batch, by position."""
Moves = Callable[[Node, Axes], Mapping[int, Axes]]
"""What an operator's inputs have on the axes that its first output has these on, by position."""


def open_axes(symbol: Symbol, tells: Callable[[str], Tells | None], moves: Callable[[str], Moves | None]) -> dict[str, Axes]:
    """Time and batch of the variables that recurrent operators are reached from, by name. tells, moves: the facts of an operator."""
    wanted: dict[tuple[int, int], Axes] = {}
    found: dict[str, Axes] = {}
    for node in reversed(symbol.order):
        if node.is_variable:
            if (node.index, 0) in wanted:
                found.setdefault(node.name, wanted[node.index, 0])
            continue
        if (told := tells(node.op)) is not None:
            _want(wanted, node, told(node))
        axes = wanted.get((node.index, 0))
        if axes and (move := moves(node.op)) is not None:
            _want(wanted, node, move(node, axes))
    return found


def _want(wanted: dict[tuple[int, int], Axes], node: Node, inputs: Mapping[int, Axes]) -> None:
    for position, axes in inputs.items():
        if position < len(node.inputs) and axes:
            wanted.setdefault(node.inputs[position], {}).update(axes)


# -- what decorators say -------------------------------------------------------------------------------------------------------


def first(node: Node, axes: Axes) -> dict[int, Axes]:
    """The first input has the output's first axes."""
    return {0: axes}


def each(node: Node, axes: Axes) -> dict[int, Axes]:
    """All inputs have the output's axes."""
    return dict.fromkeys(range(len(node.inputs)), axes)


def widened(node: Node, axes: Axes) -> dict[int, Axes]:
    """The output has one more axis than the first input, the last one."""
    return {0: {axis + (axis < 0): label for axis, label in axes.items() if axis != -1}}


def is_set(node: Node, name: str) -> bool:
    """Whether an attribute is there and true."""
    return node.attributes.get(name) in ("True", "1", "true")


def integers(node: Node, name: str) -> Ints:
    """An attribute's integers; none where it has none, or none that can be read, as the lowering will find out."""
    try:
        numbers: Ints = parse(node.attributes.get(name, "()"), Ints)
    except ValueError:
        return ()
    return numbers
