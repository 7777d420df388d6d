"""What torch.export and torch.onnx say of a model that they can't follow, in words that name the operator and what to do."""

from __future__ import annotations

import re

from converters.errors import ConversionError, UnsupportedError, printable
from converters.tracing.checks import line_of

_ADVICE = {
    "svd": "ONNX has no decompositions of matrices: end the net before it (what it is given becomes an output)",
    "unique": "ONNX's Unique counts numbers, not rows of a given axis: end the net before it",
    "random": "it samples: give what it draws as an input",
    "special": "there is no such special function in ONNX: end the net before it, or write it as a series",
    "complex": "ONNX has no complex numbers: torch.view_as_real of what comes before it",
}
_KINDS = {
    "svd": r"svd|qr|eig|lstsq|lu_|lu\b|pinv|ldl|matrix_rank|geqrf|householder|linalg",
    "unique": r"unique",
    "random": r"rand|bernoulli|multinomial|poisson|normal_|dropout|rrelu",
    "special": r"special_|lgamma|digamma|polygamma|bessel|i0|i1|zeta|erf_?inv|igamma",
    "complex": r"complex|polar|angle|fft",
}
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
    if operator is not None:
        name = operator[2].strip("_")
        hint = next((_ADVICE[kind] for kind, words in _KINDS.items() if re.search(words, name)), None)
        hint = hint or "write it in other operators, or end the net before it"
        return UnsupportedError(f"operator '{name}' ({operator[1]}): torch.onnx has no words for it", hint=hint)
    if _DATA.search(str(cause)):
        return ConversionError(
            f"a step of the model depends on its input's numbers, which torch.export can't follow: {printable(said, 300)}",
            hint="write an if as torch.where or torch.cond, and sizes as those of a tensor",
        )
    return ConversionError(f"torch.export can't follow the model: {printable(said, 400)}")
