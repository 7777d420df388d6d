"""Activations and sums that work in place, as one writes them by hand: no second copy of a value that nobody else reads.

Only behind what makes a tensor of its own that its backward pass doesn't look at again: a convolution, a linear layer, a batch
normalization, a sum, a concatenation. A view, an input of the model and a Dropout, which answers its own input, stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from converters.writers.source.code import REF_CLOSE, REF_OPEN, TOKEN, Body, Statement, Variable, used
from converters.writers.source.modules import Modules

_ACTIVATION = re.compile(rf"F\.(?:relu6?|leaky_relu|hardswish|silu)\({TOKEN.pattern}(?:, [0-9][0-9.e-]*)?\)")
"""Leaky ReLU only with slopes above 0: from the result of others PyTorch can't tell the gradient. ELU's would be rounded otherwise."""
_LAYER = re.compile(rf"({REF_OPEN}[0-9]+{REF_CLOSE})\({TOKEN.pattern}\)")
_SUM = re.compile(rf"({TOKEN.pattern}) \+ ({TOKEN.pattern})")
_LAYERS = ("nn.Conv1d(", "nn.Conv2d(", "nn.Conv3d(", "nn.ConvTranspose", "nn.Linear(", "nn.BatchNorm")
_FUNCTIONS = re.compile(
    rf"{TOKEN.pattern} \+=? {TOKEN.pattern}|(F\.(conv[123]d|conv_transpose[123]d|linear|batch_norm)|torch\.cat)\(.*\)", re.DOTALL
)


def work_in_place(body: Body, modules: Modules, results: Sequence[str]) -> None:
    """Lets every activation and every sum work in place that alone reads what such a statement made. results: what the forward answers."""
    uses = Counter(number for statement in body.statements for number in statement.used)
    uses.update(used(" ".join(results)))
    fresh: set[int] = set()
    for statement in body.statements:
        activation = _ACTIVATION.fullmatch(statement.text)
        if activation is not None and int(activation[1]) in fresh and uses[int(activation[1])] == 1:
            statement.text = f"{statement.text[:-1]}, inplace=True)"
            continue
        terms = _SUM.fullmatch(statement.text)
        if terms is not None:
            over = [n for n in (int(terms[4]), int(terms[2])) if n in fresh and uses[n] == 1 and _is_whole(statement, body.variables[n])]
            if over:
                first, second = (terms[1], terms[3]) if over[0] == int(terms[2]) else (terms[3], terms[1])
                statement.text = f"{first} += {second}"
        if len(statement.targets) == 1 and statement.targets[0].kind == "tensor" and _is_fresh(statement, modules):
            fresh.add(statement.targets[0].number)


def _is_whole(statement: Statement, term: Variable) -> bool:
    """Whether a sum has the shape of one of its terms, so that nothing is broadcast to it."""
    return term.shape is not None and term.shape == statement.targets[0].shape


def _is_fresh(statement: Statement, modules: Modules) -> bool:
    """Whether a statement makes a tensor of its own, which its backward pass doesn't need."""
    layer = _LAYER.fullmatch(statement.text)
    if layer is not None:
        return modules.layer_of(layer[1])[1].startswith(_LAYERS)
    call = _FUNCTIONS.fullmatch(statement.text)
    return call is not None and _closes_at_end(statement.text)


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that opens first is closed by the last character: the text is one call."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if character in ")]" and depth == 0:
            return at == len(text) - 1
    return "(" not in text
