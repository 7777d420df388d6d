"""ReLUs that work in place, as one writes them by hand: no second copy of a value that nobody else reads.

Only behind what makes a tensor of its own that its backward pass doesn't look at again: a convolution, a linear layer, a batch
normalization, a sum, a concatenation. A view, an input of the model and a Dropout, which answers its own input, stay as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from converters.writers.source.code import REF_CLOSE, REF_OPEN, TOKEN, Body, Statement, used
from converters.writers.source.modules import Modules

_RELU = re.compile(rf"F\.relu\({TOKEN.pattern}\)")
_LAYER = re.compile(rf"({REF_OPEN}[0-9]+{REF_CLOSE})\({TOKEN.pattern}\)")
_LAYERS = ("nn.Conv1d(", "nn.Conv2d(", "nn.Conv3d(", "nn.ConvTranspose", "nn.Linear(", "nn.BatchNorm")
_FUNCTIONS = re.compile(
    rf"{TOKEN.pattern} \+ {TOKEN.pattern}|(F\.(conv[123]d|conv_transpose[123]d|linear|batch_norm)|torch\.cat)\(.*\)", re.DOTALL
)


def work_in_place(body: Body, modules: Modules, results: Sequence[str]) -> None:
    """Lets every ReLU work in place that alone reads what such a statement made. results: what the forward answers."""
    uses = Counter(number for statement in body.statements for number in statement.used)
    uses.update(used(" ".join(results)))
    fresh: set[int] = set()
    for statement in body.statements:
        relu = _RELU.fullmatch(statement.text)
        if relu is not None and int(relu[1]) in fresh and uses[int(relu[1])] == 1:
            statement.text = f"{statement.text[:-1]}, inplace=True)"
        elif len(statement.targets) == 1 and statement.targets[0].kind == "tensor" and _is_fresh(statement, modules):
            fresh.add(statement.targets[0].number)


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
