"""What torch.export and torch.onnx say of a model that they can't follow, in words that name the operator and what to do."""

from __future__ import annotations

import re

from converters.errors import ConversionError, UnsupportedError, printable
from converters.tracing.checks import line_of

_ADVICE = (
    (r"svd|qr|eig|lstsq|lu_|lu\b|pinv|ldl|matrix_rank|geqrf|householder|linalg",
     "ONNX has no decompositions of matrices: end the net before it (what it is given becomes an output)"),
    (r"unique", "ONNX's Unique counts numbers, not rows of a given axis: end the net before it"),
    (r"rand|bernoulli|multinomial|poisson|normal_|dropout|rrelu", "it samples: give what it draws as an input"),
    (r"special_|lgamma|digamma|polygamma|bessel|i0|i1|zeta|erf_?inv|igamma",
     "there is no such special function in ONNX: end the net before it, or write it as a series"),
    (r"complex|polar|angle|fft", "ONNX has no complex numbers: torch.view_as_real of what comes before it"),
    (r"", "write it in other operators, or end the net before it"),
)  # fmt: skip
"""What the name of an operator has in it, and what to do."""
_DATA = re.compile(r"data-dependent|GuardOnDataDependent|dynamic control flow|Tensor-likes are not|unbacked")


def refusal(problem: BaseException) -> ConversionError:
    """The error that stands for one of torch.export's or torch.onnx's."""
    seen: BaseException | None = problem
    while seen is not None:
        if isinstance(seen, ConversionError):
            return seen
        seen = seen.__cause__
    cause = problem.__cause__ or problem
    said = line_of(cause)
    operator = re.search(r"target=torch\.ops\.(\w+\.(\w+)(?:\.\w+)?)", said)
    operator = operator or re.search(r"Exporting the operator '(\w+::(\w+))' to ONNX", said)  # of TorchScript
    if operator is not None:
        name = operator[2].strip("_")
        hint = next(advice for words, advice in _ADVICE if re.search(words, name))
        return UnsupportedError(f"operator '{name}' ({operator[1]}): torch.onnx has no words for it", hint=hint)
    if _DATA.search(str(cause)):
        return ConversionError(
            f"a step of the model depends on its input's numbers, which torch.export can't follow: {printable(said, 300)}",
            hint="write an if as torch.where or torch.cond, and sizes as those of a tensor",
        )
    return ConversionError(f"torch.export can't follow the model: {printable(said, 400)}")
