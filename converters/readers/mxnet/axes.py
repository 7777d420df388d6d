"""Which axes of a net's inputs are time and batch, told by the recurrent operators that the inputs reach.

MXNet's RNN, `_foreach` and interleaved attention take (T, N, C): the batch is axis 1, of states too. What lies between an input and
such an operator may move axes; whatever isn't known to keep them ends the search, and the first axis is the batch as everywhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from converters.readers.mxnet.attributes import Ints, parse
from converters.readers.mxnet.symbol import Node, Symbol

Axes = dict[int, str]
"""What axes are: TIME or BATCH; negative ones are counted from the end."""
TIME, BATCH = "T", "N"


def open_axes(symbol: Symbol) -> dict[str, Axes]:
    """Time and batch of the variables that recurrent operators are reached from, by name."""
    wanted: dict[tuple[int, int], Axes] = {}
    found: dict[str, Axes] = {}
    for node in reversed(symbol.order):
        if node.is_variable:
            if (node.index, 0) in wanted:
                found.setdefault(node.name, wanted[node.index, 0])
            continue
        for position, axes in _SEEDS.get(node.op, {}).items():
            _want(wanted, node, position, axes)
        if node.op == "_foreach":
            _foreach(wanted, node)
        if node.op in _SEQUENCES and (node.op != "SequenceMask" or node.attributes.get("use_sequence_length") in ("True", "1", "true")):
            first, second = (BATCH, TIME) if node.attributes.get("axis", "0") == "1" else (TIME, BATCH)
            _want(wanted, node, 0, {0: first, 1: second})
        if (
            node.op in _SPLITS
            and node.attributes.get("axis") == "0"
            and node.attributes.get("squeeze_axis", "False") in ("True", "1", "true")
        ):
            _want(wanted, node, 0, {1: BATCH})
        axes = wanted.get((node.index, 0), {})
        if axes and node.inputs:
            for position, moved in _through(node, axes).items():
                _want(wanted, node, position, moved)
    return found


_DATA: Axes = {0: TIME, 1: BATCH}
_STATE: Axes = {1: BATCH}
_SEQUENCES = frozenset(("SequenceMask", "SequenceLast", "SequenceReverse", "_npx_sequence_mask"))
"""Operators that cut sequences at lengths of their own; `axis` says which one is time."""
_SPLITS = frozenset(("SliceChannel", "split"))
"""Operators that take a sequence apart into its steps, as cells that are unrolled over (T, N, C) do."""
_SEEDS: Mapping[str, Mapping[int, Axes]] = {
    "RNN": {0: _DATA, 2: _STATE, 3: _STATE},
    "_npx_rnn": {0: _DATA, 2: _STATE, 3: _STATE},
    "_contrib_interleaved_matmul_selfatt_qk": {0: _DATA},
    "_contrib_interleaved_matmul_selfatt_valatt": {0: _DATA},
    "_contrib_interleaved_matmul_encdec_qk": {0: _DATA, 1: _DATA},
    "_contrib_interleaved_matmul_encdec_valatt": {0: _DATA},
    "_sg_mkldnn_selfatt_qk": {0: _DATA},
    "_sg_mkldnn_selfatt_valatt": {0: _DATA},
}


def _want(wanted: dict[tuple[int, int], Axes], node: Node, position: int, axes: Axes) -> None:
    if position < len(node.inputs) and axes:
        wanted.setdefault(node.inputs[position], {}).update(axes)


def _foreach(wanted: dict[tuple[int, int], Axes], node: Node) -> None:
    """Data are (T, N, ...), states (N, ...); a state's batch is its first axis, as everywhere."""
    data = _ints(node, "in_data_locs")
    for position in range(len(data)):
        _want(wanted, node, position, _DATA)


def _ints(node: Node, name: str) -> Ints:
    try:
        numbers: Ints = parse(node.attributes.get(name, "()"), Ints)
    except ValueError:
        return ()
    return numbers


# -- from an operator's output to its inputs -----------------------------------------------------------------------------------

_FIRST = frozenset(
    "Dropout _copy identity BlockGrad Cast cast amp_cast Activation LeakyReLU LayerNorm Embedding softmax log_softmax relu sigmoid tanh "
    "_npx_embedding _npx_relu _npx_sigmoid _npx_dropout _npx_layer_norm _npx_activation _npx_leaky_relu _contrib_SparseEmbedding "
    "_contrib_div_sqrt_dim erf _npx_erf square sqrt exp one_hot _npx_one_hot clip L2Normalization SequenceMask "
    "SequenceReverse _npx_sequence_mask reverse flip _npi_flip slice_axis slice abs negative log".split()
)
"""Operators whose first input has the output's first axes."""
_WIDENING = frozenset("Embedding _npx_embedding _contrib_SparseEmbedding one_hot _npx_one_hot".split())
"""Operators whose output has one more axis, the last one, than their first input."""
_ALL = frozenset(
    "elemwise_add elemwise_sub elemwise_mul elemwise_div broadcast_add broadcast_sub broadcast_mul broadcast_div _npi_add _npi_subtract "
    "_npi_multiply _npi_true_divide add_n _plus _minus _mul _div where".split()
)
"""Operators whose inputs of that many axes have the output's."""


def _through(node: Node, axes: Axes) -> dict[int, Axes]:
    """What an operator's inputs have on the axes that its output has them on."""
    if node.op in _WIDENING:
        return {0: {axis + (axis < 0): label for axis, label in axes.items() if axis != -1}}
    if node.op in _FIRST or node.op.endswith("_scalar"):
        return {0: axes}
    if node.op in _ALL:
        return dict.fromkeys(range(len(node.inputs)), axes)
    move = _MOVES.get(node.op)
    return {} if move is None else move(node, axes)


def _transposed(node: Node, axes: Axes) -> dict[int, Axes]:
    order = _ints(node, "axes")
    if not order:  # all axes in reverse order, of which there are as many as the input will have
        return {0: {-axis - 1: label for axis, label in axes.items()}}
    if any(not -len(order) <= axis < len(order) for axis in axes):
        return {}
    return {0: {order[axis]: label for axis, label in axes.items()}}


def _swapped(node: Node, axes: Axes) -> dict[int, Axes]:
    try:
        first, second = (int(node.attributes.get(name, "0")) for name in ("dim1", "dim2"))
    except ValueError:
        return {}
    if min(first, second, *axes) < 0:
        return {}
    there = {first: second, second: first}
    return {0: {there.get(axis, axis): label for axis, label in axes.items()}}


def _joined(node: Node, axes: Axes) -> dict[int, Axes]:
    """Along the last axis alone: none of these."""
    at = node.attributes.get("dim", node.attributes.get("axis", "1"))
    if min(axes) < 0:
        return {}
    return {} if at in {str(axis) for axis in axes} else dict.fromkeys(range(len(node.inputs)), axes)


def _kept_unless_flat(node: Node, axes: Axes) -> dict[int, Axes]:
    return {0: axes} if node.attributes.get("flatten", "True") in ("False", "0", "false") else {}


_MOVES: Mapping[str, Callable[[Node, Axes], dict[int, Axes]]] = {
    "transpose": _transposed,
    "_np_transpose": _transposed,
    "SwapAxis": _swapped,
    "swapaxes": _swapped,
    "Concat": _joined,
    "concat": _joined,
    "FullyConnected": _kept_unless_flat,
    "_npx_fully_connected": _kept_unless_flat,
}
